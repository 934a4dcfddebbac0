//! Entries and what they commit to; the log's own events.

use std::num::NonZeroU64;

use counterfoil_event::{
    Annotations, Attributes, Entry, Event, Genesis, Submitter, UnstampedEntry,
    limits::{MAX_ATTRIBUTES_BYTES, MAX_ENTRY_BYTES},
};
use counterfoil_merkle::Suite;

use super::text;
use crate::{
    Target,
    sample::{HONEST, salt},
    vectors::Vectors,
};

pub(super) const ENTRY: Target = Target {
    name: "entry",
    about: "entries, attributes and annotations, as leaves and logs have them",
    seeds: entry_seeds,
    words: &["\x08\x01\x11", "api", "default", "application/json", "scm.push"],
    max_bytes: 96 << 10,
    run: entry,
};

fn entry_seeds() -> Vec<Vec<u8>> {
    ["entry_hex", "attributes_hex", "annotations_hex"]
        .into_iter()
        .flat_map(|name| Vectors::Entries.all(name))
        .chain(HONEST.iter().flat_map(|log| log.entries.clone()))
        .collect()
}

/// What is read is written as the same bytes.
fn entry(input: &[u8]) {
    if let Ok(entry) = Entry::decode(input) {
        assert_eq!(entry.encode(), input);
        assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
    }
    if let Ok(attributes) = Attributes::decode_canonical(input) {
        assert_eq!(attributes.encode(), input);
    }
    if let Ok(annotations) = Annotations::decode_canonical(input) {
        assert_eq!(annotations.encode(), input);
    }
}

pub(super) const GENESIS: Target = Target {
    name: "genesis",
    about: "the payload of entry 0",
    seeds: genesis_seeds,
    words: &[
        "\"origin\":",
        "\"suite\":",
        "\"keys\":[",
        "\"created_unix_ms\":",
        "\"blake3\"",
        "\"sha256\"",
    ],
    max_bytes: 8 << 10,
    run: genesis,
};

fn genesis_seeds() -> Vec<Vec<u8>> {
    let genesis = |suite| Genesis {
        origin: "log.example/main".to_owned(),
        suite,
        keys: vec!["log.example/main+01020304+AQ==".to_owned()],
        created_unix_ms: 1_795_340_000_000,
    };
    let payload = |suite| genesis(suite).to_event().data().to_vec();
    Suite::ALL.into_iter().map(payload).collect()
}

/// What is read says the same when it is written again.
fn genesis(input: &[u8]) {
    let Ok(genesis) = Genesis::parse(input) else {
        return;
    };
    assert!(text(input).is_some());
    assert_eq!(Genesis::parse(genesis.to_event().data()).unwrap(), genesis);
}

/// Whatever is accepted as an event can be recorded, and the record holds for exactly that event.
pub(super) fn check_event(event: &Event) {
    let attributes = event.attributes().encode();
    assert!(attributes.len() <= MAX_ATTRIBUTES_BYTES);
    let read = Attributes::decode_canonical(&attributes).unwrap();
    assert_eq!(read, *event.attributes());
    for suite in Suite::ALL {
        let unstamped =
            UnstampedEntry::new(suite, event, &salt(), &Submitter::anonymous(), b"", "default").unwrap();
        let leaf = unstamped.stamp(NonZeroU64::MIN);
        assert!(leaf.len() <= MAX_ENTRY_BYTES);
        let entry = Entry::decode(&leaf).unwrap();
        entry.commits_to(suite, &salt(), event).unwrap();
    }
    for part in [
        event.id(),
        event.source(),
        event.event_type(),
        event.data_content_type(),
    ] {
        assert!(!part.is_empty());
        assert!(!part.chars().any(char::is_control), "{part:?}");
    }
    assert!(event.source() != "log" && !event.event_type().starts_with("log."));
}
