//! What a submitter may send: each rule at its limit and past it.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use counterfoil_event::{
    DEFAULT_MEDIA_TYPE, Event, EventParts, FieldViolation, Problem, Protocol, cloudevents, limits::*,
};
use proptest::prelude::*;

fn least() -> EventParts {
    EventParts {
        id: "1".into(),
        source: "s".into(),
        event_type: "t".into(),
        ..EventParts::default()
    }
}

/// The violations of the least event after a change.
fn violations(change: impl FnOnce(&mut EventParts)) -> Vec<(String, Problem)> {
    let mut parts = least();
    change(&mut parts);
    match Event::try_from(parts) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid
            .violations
            .into_iter()
            .map(|v| (v.field, v.problem))
            .collect(),
    }
}

fn one(field: &str, problem: Problem) -> Vec<(String, Problem)> {
    vec![(field.to_owned(), problem)]
}

type Set = fn(&mut EventParts, String);

/// Each field of text with how to set it.
const TEXT_FIELDS: [(&str, Set); 7] = [
    ("id", |parts, value| parts.id = value),
    ("source", |parts, value| parts.source = value),
    ("type", |parts, value| parts.event_type = value),
    ("subject", |parts, value| parts.subject = value),
    ("time", |parts, value| parts.time = value),
    ("data_content_type", |parts, value| {
        parts.data_content_type = value
    }),
    ("extensions[0].value", |parts, value| {
        parts.extensions = vec![("x".into(), value)]
    }),
];

#[test]
fn the_least_event_is_valid_and_says_what_it_lacks() {
    let event = Event::try_from(least()).unwrap();
    assert_eq!((event.id(), event.source(), event.event_type()), ("1", "s", "t"));
    assert_eq!((event.subject(), event.time()), (None, None));
    assert_eq!(event.data_content_type(), DEFAULT_MEDIA_TYPE);
    assert!(event.extensions().is_empty() && event.data().is_empty());
}

#[test]
fn text_may_be_as_long_as_its_limit_and_no_longer() {
    let limits = [
        ("id", MAX_ID_BYTES),
        ("source", MAX_SOURCE_BYTES),
        ("type", MAX_TYPE_BYTES),
        ("subject", MAX_SUBJECT_BYTES),
        ("extensions[0].value", MAX_EXTENSION_VALUE_BYTES),
    ];
    for (field, limit_bytes) in limits {
        let set = TEXT_FIELDS.iter().find(|(name, _)| *name == field).unwrap().1;
        assert_eq!(
            violations(|parts| set(parts, "a".repeat(limit_bytes))),
            [],
            "{field}"
        );
        let actual_bytes = limit_bytes + 1;
        let too_long = one(
            field,
            Problem::TooLong {
                limit_bytes,
                actual_bytes,
            },
        );
        assert_eq!(
            violations(|parts| set(parts, "a".repeat(actual_bytes))),
            too_long,
            "{field}"
        );
    }

    // Bytes count, not characters.
    let id = "é".repeat(MAX_ID_BYTES / 2 + 1);
    let too_long = Problem::TooLong {
        limit_bytes: MAX_ID_BYTES,
        actual_bytes: MAX_ID_BYTES + 2,
    };
    assert_eq!(violations(|parts| parts.id = id), one("id", too_long));
}

#[test]
fn a_media_type_may_be_as_long_as_its_limit_and_no_longer() {
    let of_length = |bytes: usize| format!("a/{}", "b".repeat(bytes - 2));
    assert_eq!(
        violations(|parts| parts.data_content_type = of_length(MAX_MEDIA_TYPE_BYTES)),
        []
    );
    let actual_bytes = MAX_MEDIA_TYPE_BYTES + 1;
    let too_long = Problem::TooLong {
        limit_bytes: MAX_MEDIA_TYPE_BYTES,
        actual_bytes,
    };
    let found = violations(|parts| parts.data_content_type = of_length(actual_bytes));
    assert_eq!(found, one("data_content_type", too_long));
}

#[test]
fn data_may_be_as_long_as_its_limit_and_no_longer() {
    let zeros = Bytes::from(vec![0; MAX_DATA_BYTES + 1]);
    assert_eq!(violations(|parts| parts.data = zeros.slice(1..)), []);
    let too_long = Problem::TooLong {
        limit_bytes: MAX_DATA_BYTES,
        actual_bytes: MAX_DATA_BYTES + 1,
    };
    assert_eq!(violations(|parts| parts.data = zeros), one("data", too_long));
}

#[test]
fn three_fields_are_required() {
    for (field, set) in &TEXT_FIELDS[..3] {
        assert_eq!(
            violations(|parts| set(parts, String::new())),
            one(field, Problem::Missing)
        );
    }
    for (field, set) in &TEXT_FIELDS[3..] {
        assert_eq!(violations(|parts| set(parts, String::new())), [], "{field}");
    }
}

#[test]
fn no_text_holds_a_control_character_or_a_noncharacter() {
    let forbidden = [
        '\0',
        '\n',
        '\r',
        '\t',
        '\x1b',
        '\x7f',
        '\u{85}',
        '\u{9f}',
        '\u{fdd0}',
        '\u{fffe}',
        '\u{10ffff}',
    ];
    for (field, set) in TEXT_FIELDS {
        for c in forbidden {
            let found = violations(|parts| set(parts, format!("a/é{c}")));
            let at_byte = if matches!(field, "type" | "data_content_type") {
                2
            } else {
                "a/é".len()
            };
            let problem = if field == "time" {
                Problem::NotATime
            } else {
                Problem::ForbiddenCharacter { at_byte }
            };
            assert_eq!(found, one(field, problem), "{field} {c:?}");
        }
    }
    for c in ['\u{a0}', '\u{fffd}', '📦', '\u{fdcf}', '\u{fdf0}'] {
        assert_eq!(violations(|parts| parts.subject = c.to_string()), [], "{c:?}");
    }
}

#[test]
fn a_type_is_printable_ascii() {
    assert_eq!(
        violations(|parts| parts.event_type = "!com.GitHub/push~".into()),
        []
    );
    for (value, at_byte) in [("scm push", 3), ("push ", 4), ("é", 0)] {
        let found = violations(|parts| parts.event_type = value.into());
        assert_eq!(
            found,
            one("type", Problem::ForbiddenCharacter { at_byte }),
            "{value}"
        );
    }
}

#[test]
fn what_is_the_logs_own_is_refused() {
    for value in ["log.", "log.created"] {
        let found = violations(|parts| parts.event_type = value.into());
        assert_eq!(found, one("type", Problem::Reserved), "{value}");
    }
    assert_eq!(
        violations(|parts| parts.source = "log".into()),
        one("source", Problem::Reserved)
    );
    for value in ["log", "logs.rotated", "Log.created", "x.log.created"] {
        assert_eq!(violations(|parts| parts.event_type = value.into()), [], "{value}");
    }
    assert_eq!(violations(|parts| parts.source = "log/x".into()), []);
}

/// Whoever could submit it would take the name of a delivery to come.
#[test]
fn a_source_of_another_protocol_is_the_logs_to_give() {
    for value in ["hooks/github", "hooks/", "hooks/a/b", "hec/audit", "hec/"] {
        let found = violations(|parts| parts.source = value.into());
        assert_eq!(found, one("source", Problem::Reserved), "{value}");
        let json = format!(r#"{{"specversion":"1.0","id":"1","source":"{value}","type":"t"}}"#);
        let refused = cloudevents::from_json(json.as_bytes()).unwrap_err();
        assert!(
            refused.to_string().contains("source is reserved"),
            "{value}: {refused}"
        );
    }
    for value in [
        "hooks",
        "hooks:x",
        "Hooks/x",
        "/hooks/x",
        "hec",
        "hecx/y",
        "https://x/hooks/y",
    ] {
        assert_eq!(violations(|parts| parts.source = value.into()), [], "{value}");
    }

    let sender = "github".parse().unwrap();
    for (protocol, source) in [(Protocol::Webhook, "hooks/github"), (Protocol::Hec, "hec/github")] {
        let event = Event::received(protocol, &sender, least()).unwrap();
        assert_eq!((event.id(), event.source()), ("1", source));
    }
    // All else is as it is for everybody.
    let parts = EventParts {
        id: String::new(),
        event_type: "log.created".into(),
        ..least()
    };
    let refused = Event::received(Protocol::Webhook, &sender, parts).unwrap_err();
    let fields: Vec<_> = refused
        .violations
        .iter()
        .map(|violation| &*violation.field)
        .collect();
    assert_eq!(fields, ["id", "type"]);
}

#[test]
fn times_are_rfc_3339() {
    let good = [
        "2026-11-22T09:30:00Z",
        "2026-11-22t09:30:00z",
        "2026-11-22T09:30:00.1Z",
        "2026-11-22T09:30:00.123456789+05:30",
        "2026-11-22T09:30:00-00:00",
        "2026-11-22T09:30:00+23:59",
        "2024-02-29T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "9999-12-30T22:00:00.999999999Z",
    ];
    for value in good {
        assert_eq!(violations(|parts| parts.time = value.into()), [], "{value}");
    }
    let bad = [
        " ",
        "2026-11-22",
        "2026-11-22T09:30:00",
        "2026-11-22 09:30:00Z",
        "2026-11-22T09:30Z",
        "20261122T093000Z",
        "2026-11-22T09:30:00,5Z",
        "2026-11-22T09:30:00.Z",
        "2026-11-22T09:30:00.1234567890Z",
        "2026-11-22T09:30:00+0530",
        "2026-11-22T09:30:00+05",
        "2026-11-22T09:30:00+24:00",
        "2026-11-22T09:30:00+05:60",
        "2026-11-22T09:30:00+05:30:00",
        "2026-11-22T09:30:00\u{2212}05:30",
        "2026-11-22T09:30:00Z[UTC]",
        "2026-11-22T09:30:00Zz",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T09:60:00Z",
        "2026-11-22T09:30:61Z",
        "9999-12-30T22:00:01Z",
        "9999-12-31T23:59:59Z",
        "+2026-11-22T09:30:00Z",
        "-002026-11-22T09:30:00Z",
    ];
    for value in bad {
        let found = violations(|parts| parts.time = value.into());
        assert_eq!(found, one("time", Problem::NotATime), "{value}");
    }
    let too_long = Problem::TooLong {
        limit_bytes: MAX_TIME_BYTES,
        actual_bytes: MAX_TIME_BYTES + 1,
    };
    assert_eq!(
        violations(|parts| parts.time = "1".repeat(MAX_TIME_BYTES + 1)),
        one("time", too_long)
    );
}

#[test]
fn media_types_have_a_type_and_a_subtype() {
    let good = [
        "application/json",
        "text/plain; charset=utf-8",
        "application/vnd.in-toto+json",
        "a/b;c=\"d e\"",
        "a/b ;c=d",
        "application/json;",
    ];
    for value in good {
        assert_eq!(
            violations(|parts| parts.data_content_type = value.into()),
            [],
            "{value}"
        );
    }
    for value in [
        "json", "/", "a/", "/b", "a/b/c", "a b/c", " a/b", "a/b c", "a/b ", ";a/b", "a/(b)", "a,b/c",
    ] {
        let found = violations(|parts| parts.data_content_type = value.into());
        assert_eq!(found, one("data_content_type", Problem::NotAMediaType), "{value}");
    }
}

fn with_extension(name: &str) -> Vec<(String, Problem)> {
    violations(|parts| parts.extensions = vec![("ok".into(), "v".into()), (name.into(), "v".into())])
}

#[test]
fn extension_names_are_short_lower_case_and_nobody_elses() {
    for name in [
        "a",
        "0",
        "traceparent",
        "dataschema",
        &"z".repeat(MAX_EXTENSION_NAME_BYTES),
    ] {
        assert_eq!(with_extension(name), [], "{name}");
    }
    let field = "extensions[1].name";
    let actual_bytes = MAX_EXTENSION_NAME_BYTES + 1;
    let too_long = Problem::TooLong {
        limit_bytes: MAX_EXTENSION_NAME_BYTES,
        actual_bytes,
    };
    assert_eq!(with_extension(&"z".repeat(actual_bytes)), one(field, too_long));
    assert_eq!(with_extension(""), one(field, Problem::Missing));
    for name in ["aB", "a_", "a-", "a.", "a ", "aé", "a\n"] {
        assert_eq!(
            with_extension(name),
            one(field, Problem::ForbiddenCharacter { at_byte: 1 }),
            "{name:?}"
        );
    }
    for name in [
        "id",
        "source",
        "specversion",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
    ] {
        assert_eq!(with_extension(name), one(field, Problem::Reserved), "{name}");
    }
    assert_eq!(with_extension("ok"), one(field, Problem::Repeated));
}

#[test]
fn extensions_may_be_as_many_as_their_limit_and_no_more() {
    let extensions = |count: usize| (0..count).map(|n| (format!("x{n}"), String::new())).collect();
    assert_eq!(
        violations(|parts| parts.extensions = extensions(MAX_EXTENSIONS)),
        []
    );
    let too_many = Problem::TooMany {
        limit: MAX_EXTENSIONS,
        actual: MAX_EXTENSIONS + 1,
    };
    let found = violations(|parts| parts.extensions = extensions(MAX_EXTENSIONS + 1));
    assert_eq!(found, one("extensions", too_many));
}

#[test]
fn all_violations_are_told_at_once_and_read_well() {
    let invalid = Event::try_from(EventParts {
        source: "a\nb".into(),
        event_type: "log.created".into(),
        time: "yesterday".into(),
        data_content_type: "json".into(),
        extensions: vec![("Run".into(), "\0".into())],
        ..EventParts::default()
    })
    .unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "invalid event: id is missing; source has a character that is not allowed, at byte 1; time is not a time in \
         RFC 3339, such as 2026-11-22T09:30:00Z; data_content_type is not a media type, such as application/json; \
         extensions[0].name has a character that is not allowed, at byte 0; extensions[0].value has a character that \
         is not allowed, at byte 0; type is reserved"
    );
    let violation = FieldViolation {
        field: "data".into(),
        problem: Problem::TooLong {
            limit_bytes: 1,
            actual_bytes: 2,
        },
    };
    assert_eq!(violation.to_string(), "data is 2 bytes long, more than 1");
}

#[test]
fn debug_output_leaves_the_payload_out() {
    let event = Event::try_from(EventParts {
        data: "hunter2".into(),
        ..least()
    })
    .unwrap();
    let shown = format!("{event:?}");
    assert!(
        shown.contains("data_bytes: 7") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn events_of_one_name_have_one_key_and_others_have_others() {
    let key = |source: &str, id: &str| {
        Event::try_from(EventParts {
            id: id.into(),
            source: source.into(),
            ..least()
        })
        .unwrap()
        .key()
    };
    let other_bytes = EventParts {
        data: "other".into(),
        subject: "other".into(),
        ..least()
    };
    assert_eq!(Event::try_from(other_bytes).unwrap().key(), key("s", "1"));
    assert_ne!(key("ab", "c"), key("a", "bc"));
    assert_ne!(key("a", "b"), key("b", "a"));
}

proptest! {
    /// Whatever arrives, an event that comes out is safe to print on one line and within its limits.
    #[test]
    fn a_valid_event_keeps_the_rules(
        id in "\\PC{0,8}|.{0,8}",
        event_type in "[ -~]{0,6}|.{0,6}",
        subject in any::<String>(),
        names in proptest::collection::vec("[a-zA-Z0-9_]{0,3}", 0..5),
    ) {
        let extensions: Vec<_> = names.into_iter().map(|name| (name, subject.clone())).collect();
        let parts = EventParts { id, event_type, subject, extensions, ..least() };
        if let Ok(event) = Event::try_from(parts.clone()) {
            prop_assert_eq!(event.id(), parts.id);
            prop_assert_eq!(event.extensions().len(), parts.extensions.len());
            let texts = [event.id(), event.event_type(), event.subject().unwrap_or_default()];
            prop_assert!(texts.iter().all(|text| !text.contains(char::is_control)));
            prop_assert!(!event.id().is_empty() && !event.event_type().is_empty());
        }
    }
}
