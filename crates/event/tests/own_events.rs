//! The events that a log writes itself.
#![allow(clippy::unwrap_used)]

use counterfoil_event::{Event, EventParts, Genesis, GenesisError, conflict_event};
use counterfoil_merkle::{LeafIndex, Suite};

fn genesis() -> Genesis {
    Genesis {
        origin: "log.example/main".into(),
        suite: Suite::Blake3,
        keys: vec!["log.example/main+00000000+AQ==".into()],
        created_unix_ms: 1_795_340_000_000,
    }
}

#[test]
fn a_genesis_comes_back_from_its_payload() {
    let event = genesis().to_event();
    assert_eq!(
        (event.id(), event.source(), event.event_type()),
        ("genesis", "log", "log.created")
    );
    assert_eq!(
        event.data_content_type(),
        "application/vnd.counterfoil.genesis+json"
    );
    assert_eq!(
        event.data(),
        r#"{"origin":"log.example/main","suite":"blake3","keys":["log.example/main+00000000+AQ=="],"created_unix_ms":1795340000000}"#
    );
    assert_eq!(Genesis::parse(event.data()).unwrap(), genesis());
}

#[test]
fn a_genesis_is_complete_and_says_nothing_else() {
    let json = String::from_utf8(genesis().to_event().data().to_vec()).unwrap();
    let malformed = [
        json.replace(r#""suite":"blake3","#, ""),
        json.replace('{', r#"{"more":1,"#),
        json.replace('{', r#"{"origin":"other","#),
        json.replace("1795340000000", "-1"),
        format!("{json}{json}"),
        r#"["log.example/main","blake3",[],1]"#.to_owned(),
        String::new(),
    ];
    for json in malformed {
        assert!(
            matches!(Genesis::parse(json.as_bytes()), Err(GenesisError::Malformed(_))),
            "{json}"
        );
    }
    let error = Genesis::parse(json.replace("blake3", "md5").as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the genesis names the unknown hash suite \"md5\""
    );
}

#[test]
fn the_same_conflict_again_is_the_same_event() {
    let refused = |id: &str, data: &str| {
        let parts = EventParts {
            id: id.to_owned(),
            source: "s".into(),
            event_type: "t".into(),
            data: data.to_owned().into(),
            ..EventParts::default()
        };
        Event::try_from(parts).unwrap()
    };
    let at = |index| LeafIndex::new(index).unwrap();

    let event = conflict_event(at(7), &refused("1", "a"));
    assert_eq!((event.source(), event.event_type()), ("log", "log.conflict"));
    assert_eq!(
        event.data_content_type(),
        "application/vnd.counterfoil.conflict+json"
    );
    let digest = event.id().strip_prefix("conflict-7-").unwrap();
    assert_eq!(digest.len(), 64);
    assert_eq!(
        event.data(),
        &format!(r#"{{"existing_leaf_index":7,"refused_digest":"{digest}"}}"#)
    );

    assert_eq!(conflict_event(at(7), &refused("1", "a")), event);
    for other in [
        conflict_event(at(8), &refused("1", "a")),
        conflict_event(at(7), &refused("1", "b")),
        conflict_event(at(7), &refused("2", "a")),
    ] {
        assert_ne!(other.key(), event.key());
    }
}
