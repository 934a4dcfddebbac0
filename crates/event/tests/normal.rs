//! The normalised event: what it may hold, how it is read, and that it always fits.
#![allow(clippy::unwrap_used)]

use counterfoil_event::{
    limits::MAX_NORMALISED_BYTES,
    normal::{
        Actor, ActorKind, Artifact, CUT_MARK, ConfigChange, DerivedType, Integer, MAX_INPUT_BYTES,
        MAX_INTEGER, MAX_LIST_ITEMS, MAX_TEXT_BYTES, NormalEvent, Outcome, Setting, SignedInteger, Text,
        Time, Word,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn event() -> NormalEvent {
    NormalEvent::new(Text::try_from("1").unwrap(), Word::ScmPush)
}

fn parse(json: &Value) -> Result<NormalEvent, Vec<(String, String)>> {
    NormalEvent::parse(json.to_string().as_bytes()).map_err(|invalid| {
        let violations = invalid.violations.into_iter();
        violations
            .map(|violation| (violation.path, violation.problem))
            .collect()
    })
}

/// The paths of all that is wrong.
fn wrong(json: &Value) -> Vec<String> {
    let violations = parse(json).unwrap_err();
    violations.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn each_member_that_is_wrong_is_named_by_its_path() {
    let bad = json!({
        "id": "1",
        "type": "ci.run.finised",
        "outcome": "succes",
        "occurred_at": "yesterday",
        "actor": { "login": 5, "kind": "robot", "id": "" },
        "ref": { "name": "refs/heads/ma\u{7}in", "forced": "yes" },
        "commits": ["a", 7, "b"],
        "run": { "number": -1 },
        "job": "build",
        "artifacts": [{ "name": "a" }, { "digest": "x".repeat(MAX_TEXT_BYTES + 1) }],
        "config_change": [{ "path": "x", "to": [] }],
    });
    let expected = [
        "actor.id",
        "actor.kind",
        "actor.login",
        "artifacts[1].digest",
        "commits[1]",
        "config_change[0].to",
        "job",
        "occurred_at",
        "outcome",
        "ref.forced",
        "ref.name",
        "run.number",
        "type",
    ];
    let mut paths = wrong(&bad);
    paths.sort();
    assert_eq!(paths, expected);

    let problems = parse(&json!({ "actor": { "login": 5 } })).unwrap_err();
    let problem = |path: &str| &problems.iter().find(|(at, _)| at == path).unwrap().1;
    assert_eq!(problem("id"), "is missing");
    assert_eq!(problem("type"), "is missing");
    assert_eq!(
        problem("actor.login"),
        "invalid type: integer `5`, expected a string"
    );
    let long = parse(&json!({ "id": "1", "type": "x", "commit": "c".repeat(513) })).unwrap_err();
    assert_eq!(
        long,
        [("commit".to_owned(), "is 513 bytes long, more than 512".to_owned())]
    );
    let word = parse(&json!({ "id": "1", "type": "ci.x" })).unwrap_err();
    assert_eq!(
        word[0].1,
        "begins like the vocabulary's words and is none of them"
    );
}

/// serde_json would quote it, a byte as six.
#[test]
fn what_is_wrong_is_not_repeated() {
    let long = "\u{7f}".repeat(10_000);
    for bad in [
        json!({ "id": "1", "type": "x", "actor": long }),
        json!({ "id": "1", "type": "x", "more": { &long: 1.5 } }),
    ] {
        let violations = parse(&bad).unwrap_err();
        let [(path, problem)] = violations.as_slice() else {
            panic!("{violations:?}")
        };
        assert!(
            path.len() <= MAX_TEXT_BYTES && problem.len() <= MAX_TEXT_BYTES,
            "{path}: {problem}"
        );
    }
}

#[test]
fn what_would_not_survive_being_written_again_is_not_read() {
    let paths = |json: &str| {
        let invalid = NormalEvent::parse(json.as_bytes()).unwrap_err();
        invalid.violations[0].path.clone()
    };
    assert_eq!(
        paths(r#"{"id":"1","type":"x","more":{"deep":[0,1.5]}}"#),
        "more.deep[1]"
    );
    assert_eq!(paths(r#"{"id":"1","type":"x","more":9007199254740993}"#), "more");
    assert_eq!(paths(r#"{"id":"1","type":"x","more":-9007199254740993}"#), "more");
    for (json, problem) in [
        (r#"{"id":"1","type":"x","id":"2"}"#, "the member \"id\" twice"),
        (
            r#"{"id":"1","type":"x","more":{"a":1,"a":1}}"#,
            "the member \"a\" twice",
        ),
        ("[]", "no JSON object"),
        ("7", "no JSON object"),
        ("", "EOF"),
        (r#"{"id":"1","type":"x"} x"#, "trailing"),
    ] {
        let invalid = NormalEvent::parse(json.as_bytes()).unwrap_err();
        assert!(invalid.to_string().contains(problem), "{json}: {invalid}");
    }
    let long = format!(
        r#"{{"id":"1","type":"x","more":"{}"}}"#,
        "a".repeat(MAX_INPUT_BYTES)
    );
    assert!(
        NormalEvent::parse(long.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("more than")
    );
    let deep = format!(
        r#"{{"id":"1","type":"x","more":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert!(NormalEvent::parse(deep.as_bytes()).is_err());
    // The limits themselves.
    let most = format!(r#"{{"id":"1","type":"x","more":{MAX_INTEGER},"less":-{MAX_INTEGER}}}"#);
    NormalEvent::parse(most.as_bytes()).unwrap();
    assert_eq!(Integer::new(MAX_INTEGER).unwrap().get(), MAX_INTEGER);
    assert_eq!(Integer::new(MAX_INTEGER + 1), None);
    assert_eq!(SignedInteger::new(i64::MIN), None);
}

#[test]
fn members_that_are_not_known_are_kept_at_every_level() {
    let json = json!({
        "id": "1", "type": "github.fork", "outcome": "success", "later": { "b": [null, true], "a": -1 },
        "actor": { "login": "octocat", "age": 7 },
        "artifacts": [{ "name": "a", "size": 5 }],
        "decision": { "state": "approved", "votes": 2, "reviewers": [{ "login": "a", "team": "b" }] },
        "omitted": [{ "path": "commits", "count": 3, "why": "size" }],
    });
    let event = parse(&json).unwrap();
    assert_eq!(event.actor.other["age"], 7);
    let written: Value = serde_json::from_slice(&event.clone().into_json()).unwrap();
    assert_eq!(written, json);
    assert_eq!(NormalEvent::parse(&event.clone().into_json()).unwrap(), event);
}

#[test]
fn null_is_nothing() {
    let nulls = json!({
        "id": "1", "type": "x", "commit": null, "actor": null, "commits": null, "repo": { "id": null }, "later": null,
    });
    let written: Value = serde_json::from_slice(&parse(&nulls).unwrap().into_json()).unwrap();
    assert_eq!(
        written,
        json!({ "id": "1", "type": "x", "outcome": "unknown", "later": null })
    );
}

#[test]
fn texts_of_others_are_cut_where_that_can_be_seen() {
    assert_eq!(Text::cut(""), None);
    assert_eq!(Text::cut("a").unwrap().as_str(), "a");
    assert_eq!(Text::cut("a\n\u{ffff}b").unwrap().as_str(), "a\u{fffd}\u{fffd}b");
    let most = "é".repeat(MAX_TEXT_BYTES / 2);
    assert_eq!(Text::cut(&most).unwrap().as_str(), most);
    let cut = Text::cut(&(most + "x")).unwrap();
    assert!(cut.len() <= MAX_TEXT_BYTES && cut.ends_with(CUT_MARK), "{cut}");
    assert_eq!(
        cut.chars().filter(|c| *c == 'é').count(),
        (MAX_TEXT_BYTES - 3) / 2
    );
}

#[test]
fn times_are_written_as_events_have_them() {
    assert_eq!(Time::from_unix_s(0).unwrap().as_str(), "1970-01-01T00:00:00Z");
    assert_eq!(
        Time::from_unix_ms(1_500).unwrap().as_str(),
        "1970-01-01T00:00:01.5Z"
    );
    assert_eq!(Time::from_unix_s(i64::MAX), None);
    assert_eq!(Time::from_unix_s(-100_000_000_000), None, "a year before Christ");
    assert!(Time::try_from("2026-11-22T09:30:00+01:00").is_ok());
    assert!(Time::try_from("2026-11-22 09:30:00").is_err());
}

/// An event in which every text, number and flag is there and as long as can be, in JSON too.
fn largest() -> Value {
    let text = Value::from("\"".repeat(MAX_TEXT_BYTES));
    let number = Value::from(MAX_INTEGER);
    let texts = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| ((*name).to_owned(), text.clone()))
            .collect()
    };
    let mut json = texts(&["id", "commit"]);
    json["type"] = "t".repeat(128).into();
    json["outcome"] = "cancelled".into();
    for time in ["occurred_at", "received_at"] {
        json[time] = "2026-11-22T09:30:00.123456789+01:00".into();
    }
    let source = [
        "id",
        "provider",
        "host",
        "native_event",
        "native_action",
        "delivery_id",
        "hook_id",
    ];
    json["source"] = texts(&source);
    for name in ["actor", "triggering_actor", "org"] {
        json[name] = texts(&["id", "login"]);
    }
    json["repo"] = texts(&["id", "full_name"]);
    json["ref"] = texts(&["name", "before", "after"]);
    json["change"] = texts(&["author_id", "author", "head_sha", "base_ref", "merge_sha"]);
    json["review"] = texts(&["id", "state", "commit", "association"]);
    json["run"] = texts(&["id", "workflow_id", "path", "trigger"]);
    json["job"] = texts(&["id", "name", "runner"]);
    json["process"] = texts(&["id", "name"]);
    json["deployment"] = texts(&["id", "environment", "status"]);
    json["decision"] = texts(&["state", "reason", "callback_url"]);
    for (part, name) in [
        ("change", "number"),
        ("run", "number"),
        ("run", "attempt"),
        ("process", "duration_ms"),
        ("process", "exit_code"),
        ("process", "signal"),
    ] {
        json[part][name] = number.clone();
    }
    for name in ["actor", "triggering_actor"] {
        json[name]["kind"] = "organization".into();
    }
    for (part, name) in [("ref", "forced"), ("ref", "protected"), ("process", "started")] {
        json[part][name] = false.into();
    }
    json
}

#[test]
fn the_largest_event_fits_and_says_what_it_lost() {
    let mut event: NormalEvent = serde_json::from_value(largest()).unwrap();
    assert!(event.other.is_empty());
    let alone = event.clone().into_json().len();
    assert!(alone < MAX_NORMALISED_BYTES - 4096, "{alone}");

    let text = Text::cut(&"\"".repeat(MAX_TEXT_BYTES)).unwrap();
    let change = ConfigChange {
        path: Some(text.clone()),
        from: Some(Setting::Text(text.clone())),
        to: Some(Setting::Flag(true)),
        ..ConfigChange::default()
    };
    let artifact = Artifact {
        name: Some(text.clone()),
        ..Artifact::default()
    };
    let actor = Actor {
        kind: Some(ActorKind::User),
        login: Some(text.clone()),
        ..Actor::default()
    };
    event.config_change = vec![change; 1000];
    event.artifacts = vec![artifact; 100];
    event.decision.reviewers = vec![actor; 3];
    event.commits = (0..300)
        .map(|number| Text::cut(&format!("{number:040}")).unwrap())
        .collect();
    let json = event.clone().into_json();
    assert!(json.len() <= MAX_INPUT_BYTES && MAX_INPUT_BYTES < MAX_NORMALISED_BYTES);
    assert_eq!(json, event.clone().into_json());
    NormalEvent::parse(&json).unwrap();
    let written: Value = serde_json::from_slice(&json).unwrap();
    let omitted = written["omitted"].as_array().unwrap();
    for (list, before) in [("config_change", 1000), ("artifacts", 100), ("commits", 300)] {
        let kept = written[list].as_array().map_or(0, Vec::len);
        let lost = omitted.iter().find(|omitted| omitted["path"] == list).unwrap();
        assert_eq!(lost["count"], before - kept, "{list}");
        assert!(kept <= MAX_LIST_ITEMS);
    }
    assert_eq!(written["commits"][5], format!("{:040}", 5));
}

#[test]
fn a_list_has_lost_no_more_than_a_number_can_say() {
    let json = json!({
        "id": "1", "type": "x", "commits": vec!["a"; MAX_LIST_ITEMS + 1],
        "omitted": [{ "path": "commits", "count": MAX_INTEGER }],
    });
    let written: Value = serde_json::from_slice(&parse(&json).unwrap().into_json()).unwrap();
    assert_eq!(written["commits"].as_array().unwrap().len(), MAX_LIST_ITEMS);
    assert_eq!(written["omitted"], json["omitted"]);
}

#[test]
fn a_list_of_usual_length_is_whole() {
    let mut event = event();
    event.commits = (0..MAX_LIST_ITEMS)
        .map(|_| Text::cut(&"c".repeat(40)).unwrap())
        .collect();
    let written: Value = serde_json::from_slice(&event.into_json()).unwrap();
    assert_eq!(written["commits"].as_array().unwrap().len(), MAX_LIST_ITEMS);
    assert_eq!(written.get("omitted"), None);
}

#[test]
fn an_event_says_what_it_is_about() {
    let mut event = event();
    assert_eq!(event.subject(), "");
    event.org.login = Text::cut("acme");
    assert_eq!(event.subject(), "acme");
    event.repo.full_name = Text::cut("acme/widgets");
    assert_eq!(event.subject(), "acme/widgets");
    event.event_type = DerivedType::new("github", "fork", "").into();
    event.outcome = Outcome::Success;
    let json: Value = serde_json::from_slice(&event.into_json()).unwrap();
    assert_eq!(
        (&json["type"], &json["outcome"]),
        (&json!("github.fork"), &json!("success"))
    );
}

/// JSON as anybody might write it, under names that the event has and others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c\"\u{1}é]{0,4}".prop_map(Value::from),
        Just("ci.run.started".into()),
    ];
    let name = prop_oneof![
        Just("id"),
        Just("type"),
        Just("actor"),
        Just("login"),
        Just("kind"),
        Just("artifacts"),
        Just("commits"),
        Just("omitted"),
        Just("path"),
        Just("count"),
        Just("config_change"),
        Just("to"),
        Just("outcome"),
        Just("x"),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn reading_says_what_is_wrong_or_loses_nothing(mut json in any_json()) {
        if let Value::Object(members) = &mut json {
            members.entry("id").or_insert("1".into());
            members.entry("type").or_insert("x".into());
        }
        match NormalEvent::parse(json.to_string().as_bytes()) {
            Err(invalid) => prop_assert!(!invalid.violations.is_empty()),
            Ok(event) => {
                let again = event.clone().into_json();
                prop_assert_eq!(NormalEvent::parse(&again).unwrap(), event);
                let written: Value = serde_json::from_slice(&again).unwrap();
                prop_assert!(contains(&written, &json), "{} lost of {}", written, json);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_a_list_lost_before_and_loses_now_is_one_number(
        length in 0..3 * MAX_LIST_ITEMS,
        before in prop_oneof![0..1_000_u64, (MAX_INTEGER - 1_000)..=MAX_INTEGER],
    ) {
        let json = json!({
            "id": "1", "type": "x", "commits": vec!["a"; length], "omitted": [{ "path": "commits", "count": before }],
        });
        let written: Value = serde_json::from_slice(&parse(&json).unwrap().into_json()).unwrap();
        let kept = written["commits"].as_array().map_or(0, Vec::len);
        prop_assert_eq!(kept, length.min(MAX_LIST_ITEMS));
        let lost = before + (length - kept) as u64;
        prop_assert_eq!(written["omitted"][0]["count"].as_u64(), Some(lost.min(MAX_INTEGER)));
    }
}

/// Whether all that `kept` says stands in `written` too, but for empty objects and lists, and nulls.
fn contains(written: &Value, kept: &Value) -> bool {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            kept.iter().all(|(name, value)| match written.get(name) {
                Some(there) => contains(there, value),
                None => says_nothing(value),
            })
        }
        (Value::Array(written), Value::Array(kept)) => {
            written.len() == kept.len() && written.iter().zip(kept).all(|(a, b)| contains(a, b))
        }
        (written, kept) => written == kept,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
        _ => false,
    }
}
