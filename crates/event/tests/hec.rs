//! What senders of Splunk's HTTP Event Collector protocol send, and what comes of it.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_event::{
    Event,
    hec::{HecError, HecEvent, MAX_EVENTS, MAX_METADATA_BYTES, Metadata, parse_events, parse_raw},
};

fn events(body: &str) -> Result<Vec<Event>, HecError> {
    Ok(named(parse_events(body.as_bytes(), &Metadata::default())?))
}

fn named(events: Vec<HecEvent>) -> Vec<Event> {
    let source = "audit-stream".parse().unwrap();
    let events = events.into_iter();
    events
        .map(|event| event.into_event(&source, || "new".to_owned()).unwrap())
        .collect()
}

const DOCUMENT: &str = r#"{"@timestamp": 1615077308538, "_document_id": "beeZ-YapI", "action": "protected_branch.create",
    "actor": "octo", "org": "acme", "repo": "acme/widgets"}"#;

#[test]
fn an_audit_log_document_is_named_by_its_id() {
    let body = format!(r#"{{"time":1.5,"host":"h","event":{DOCUMENT}}}"#);
    let event = events(&body).unwrap().remove(0);
    assert_eq!((event.id(), event.source()), ("beeZ-YapI", "hec/audit-stream"));
    assert_eq!(event.event_type(), "config.protection.created");
    assert_eq!(event.subject(), Some("acme/widgets"));
    assert_eq!(event.time(), Some("2021-03-07T00:35:08.538Z"));
    assert_eq!(event.data(), DOCUMENT.as_bytes());
    assert_eq!(event.extensions()["nativeevent"], "protected_branch.create");

    // On a line of its own it is the same event, whatever else is said beside it.
    let metadata = Metadata {
        host: Some("other".to_owned()),
        ..Metadata::default()
    };
    let raw = named(parse_raw(DOCUMENT.replace('\n', "").as_bytes(), &metadata).unwrap());
    assert_eq!(raw[0].attributes(), event.attributes());
}

/// serde takes an array for a struct. Whoever sends two of the same beginning would lose the second.
#[test]
fn an_array_is_no_document() {
    let array = events(r#"{"event":["deploy","start"]}"#).unwrap().remove(0);
    assert_eq!((array.id(), array.event_type()), ("new", "hec.event"));
    assert_eq!(array.data(), r#"["deploy","start"]"#);
    let line = named(parse_raw(br#"["deploy","start"]"#, &Metadata::default()).unwrap()).remove(0);
    assert_eq!((line.id(), line.event_type()), ("new", "hec.raw"));
    let around = events(r#"["deploy",null,null,null,null,null,null]"#);
    assert!(
        matches!(around, Err(HecError::Malformed { event: 0, .. })),
        "{around:?}"
    );
}

#[test]
fn objects_follow_each_other_with_or_without_space() {
    let body = "{\"event\":\"one\"}{\"event\":{\"b\" : 2}}\n\n {\"event\":3,\"time\":\"1426279439.123\",\"sourcetype\":\"x\"} ";
    let events = events(body).unwrap();
    let data: Vec<_> = events
        .iter()
        .map(|event| (event.data().as_ref(), event.data_content_type()))
        .collect();
    assert_eq!(
        data,
        [
            (&b"one"[..], "text/plain; charset=utf-8"),
            (b"{\"b\" : 2}", "application/json"),
            (b"3", "application/json")
        ]
    );
    assert_eq!(events[2].time(), Some("2015-03-13T20:43:59.123Z"));
    assert_eq!(events[2].extensions()["hecsourcetype"], "x");
    assert!(
        events
            .iter()
            .all(|event| event.id() == "new" && event.event_type() == "hec.event")
    );
}

#[test]
fn an_event_s_own_metadata_counts_for_more_than_the_request_s() {
    let defaults = Metadata {
        host: Some("request".to_owned()),
        index: Some("main".to_owned()),
        ..Metadata::default()
    };
    let body = br#"{"event":1,"host":"event","fields":{"a":
    "b"}}{"event":2}"#;
    let events = named(parse_events(body, &defaults).unwrap());
    assert_eq!(events[0].extensions()["hechost"], "event");
    assert_eq!(events[0].extensions()["hecindex"], "main");
    assert_eq!(events[0].extensions()["hecfields"], r#"{"a":     "b"}"#);
    assert_eq!(events[1].extensions()["hechost"], "request");
}

/// Each event gets a copy: without a limit, a few KiB of query and of events would become gigabytes.
#[test]
fn what_stands_beside_the_events_is_short() {
    let metadata = |bytes| Metadata {
        host: Some("h".repeat(bytes - 3)),
        sourcetype: Some("abc".to_owned()),
        ..Metadata::default()
    };
    let most = metadata(MAX_METADATA_BYTES);
    assert!(parse_events(br#"{"event":1}"#, &most).is_ok() && parse_raw(b"1", &most).is_ok());
    let longer = metadata(MAX_METADATA_BYTES + 1);
    assert_eq!(
        parse_events(br#"{"event":1}"#, &longer),
        Err(HecError::MetadataTooLong)
    );
    assert_eq!(parse_raw(b"1", &longer), Err(HecError::MetadataTooLong));
}

#[test]
fn lines_are_events() {
    let metadata = Metadata::default();
    let lines = named(parse_raw(b"one\r\n\n  two  \n\t\n{}", &metadata).unwrap());
    let data: Vec<_> = lines.iter().map(|event| event.data().as_ref()).collect();
    assert_eq!(data, [&b"one"[..], b"  two", b"{}"]);
    assert!(lines.iter().all(|event| event.event_type() == "hec.raw"));
    assert_eq!(parse_raw(b" \n\n", &metadata), Err(HecError::NoData));
    assert!(matches!(
        parse_raw(b"a\n\xff", &metadata),
        Err(HecError::Malformed { event: 1, .. })
    ));
}

#[test]
fn what_is_wrong_is_said_with_the_number_of_the_event() {
    assert_eq!(events(""), Err(HecError::NoData));
    assert_eq!(events("  \n"), Err(HecError::NoData));
    let good = r#"{"event":1}"#;
    assert_eq!(
        events(&format!("{good}{{}}")),
        Err(HecError::MissingEvent { event: 1 })
    );
    assert_eq!(
        events(&format!(r#"{good}{{"event":null}}"#)),
        Err(HecError::MissingEvent { event: 1 })
    );
    assert_eq!(events(r#"{"event":" "}"#), Err(HecError::BlankEvent { event: 0 }));
    assert_eq!(
        events(r#"{"event":1,"fields":[]}"#),
        Err(HecError::Fields { event: 0 })
    );
    for malformed in [
        "[1]",
        "7",
        r#"{"event":1"#,
        r#"{"event":1,"event":2}"#,
        r#"{"event":1,"time":"now"}"#,
        r#"{"event":1,"time":-1}"#,
        r#"{"event":1,"time":1e9}"#,
        r#"{"event":1,"time":99999999999999}"#,
        r#"{"event":1,"host":7}"#,
    ] {
        let wrong = events(&format!("{good}{malformed}"));
        assert!(
            matches!(wrong, Err(HecError::Malformed { event: 1, .. })),
            "{malformed}: {wrong:?}"
        );
    }
    // It is not repeated: serde_json would quote a string there, a byte as six.
    let Err(HecError::Malformed { event: 0, problem }) = events(&format!(r#""{}""#, "\u{7f}".repeat(10_000)))
    else {
        panic!("a string is no event");
    };
    assert!(problem.len() < 100, "{problem}");
    assert_eq!(events(&good.repeat(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
    assert_eq!(events(&good.repeat(MAX_EVENTS + 1)), Err(HecError::TooManyEvents));
}
