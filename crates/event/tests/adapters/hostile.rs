//! Bodies that no provider sends.

use counterfoil_event::{
    adapter::{Adapter, UnknownAdapter},
    limits::{MAX_DATA_BYTES, MAX_NORMALISED_BYTES, MAX_TYPE_BYTES},
    normal::{MAX_LIST_ITEMS, NormalEvent},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{form, read, recorded};

const EVENTS: [(Adapter, &str); 6] = [
    (Adapter::GitHub, "pull_request"),
    (Adapter::GitHub, "push"),
    (Adapter::GitHub, "repository_ruleset"),
    (Adapter::GitLab, "Push Hook"),
    (Adapter::GitLab, "Merge Request Hook"),
    (Adapter::Gitea, "pull_request"),
];

#[test]
fn what_is_no_json_object_has_no_form() {
    for (adapter, event) in EVENTS {
        for bad in [
            "",
            "null",
            "[]",
            "7",
            "payload=%7B%7D",
            "{",
            "{}{}",
            "\u{feff}{}",
            r#"{"a":}"#,
        ] {
            assert!(read(adapter, event, bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(read(adapter, event, b"{\"a\":\"\xff\"}").is_none());
        assert!(read(adapter, event, b" {} \n").is_some());
    }
}

/// All places in a body: a path of names and numbers to each.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            places(
                value,
                &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                all,
            )
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(number, value)| places(value, &format!("{at}/{number}"), all)),
        _ => {}
    }
}

/// What stands in for any number that no double holds, which `Value` can't hold either.
const TOO_LARGE: &str = "\"1e999\"";

#[test]
fn a_wrong_type_in_any_place_costs_that_place_and_no_other() {
    let wrong = [
        json!(null),
        json!(true),
        json!(-1.5),
        json!(u64::MAX),
        json!("1e999"),
        json!("\u{0}"),
        json!([]),
        json!([[{"id": []}]]),
        json!({}),
        json!({"id": {"id": 1}, "from": [{}], "name": {"from": 1}}),
    ];
    for recorded in recorded::all() {
        let whole = read(recorded.adapter, &recorded.event, &recorded.body).unwrap();
        let mut all = Vec::new();
        places(&recorded.json, "", &mut all);
        for (number, place) in all.iter().enumerate().skip(1) {
            let mut body = recorded.json.clone();
            let wrong = &wrong[number % wrong.len()];
            *body.pointer_mut(place).unwrap() = wrong.clone();
            let text = body.to_string().replace(TOO_LARGE, "1e999");
            let Some(form) = read(recorded.adapter, &recorded.event, text.as_bytes()) else {
                panic!("{}: {wrong} at {place} costs the form", recorded.name());
            };
            // What is read from elsewhere is still there.
            if !place.starts_with("/repository") && !place.starts_with("/project") {
                assert_eq!(form.repo, whole.repo, "{}: {wrong} at {place}", recorded.name());
            }
            if !place.starts_with("/sender")
                && !place.starts_with("/user")
                && !place.starts_with("/workflow_run")
            {
                assert_eq!(form.actor, whole.actor, "{}: {wrong} at {place}", recorded.name());
            }
            assert!(form.event_type.as_str().len() <= MAX_TYPE_BYTES);
            let json = form.clone().into_json();
            assert_eq!(
                NormalEvent::parse(&json).unwrap(),
                form,
                "{}: {wrong} at {place}",
                recorded.name()
            );
        }
    }
}

#[test]
fn a_body_of_the_largest_size_takes_bounded_memory_and_makes_a_form_that_fits() {
    let long = "\\\"".repeat(MAX_DATA_BYTES / 4 - 50);
    let commits = format!(r#"{{"id":"{}"}},"#, "a".repeat(40)).repeat(MAX_DATA_BYTES / 60);
    let bodies = [
        format!(r#"{{"action":"{long}","sender":{{"login":"{long}"}}}}"#),
        format!(r#"{{"commits":[{commits}{{}}]}}"#),
        format!(
            r#"{{"changes":{{{}"x":1}},"rule":{{}}}}"#,
            r#""a":{"from":1},"#.repeat(MAX_DATA_BYTES / 20)
        ),
        format!(
            "{{{}\"x\":1}}",
            r#""sender":{"login":"a"},"#.repeat(MAX_DATA_BYTES / 30)
        ),
        format!(
            r#"{{"sender":{}{}}}"#,
            "[".repeat(MAX_DATA_BYTES / 2 - 10),
            "]".repeat(MAX_DATA_BYTES / 2 - 10)
        ),
        format!(
            r#"{{"sender":{}1{}}}"#,
            r#"{"a":"#.repeat(MAX_DATA_BYTES / 8),
            "}".repeat(MAX_DATA_BYTES / 8)
        ),
    ];
    for (number, body) in bodies.iter().enumerate() {
        assert!(body.len() <= MAX_DATA_BYTES);
        for (adapter, event) in EVENTS {
            let form = read(adapter, event, body.as_bytes()).unwrap();
            let lost = form
                .omitted
                .iter()
                .map(|omitted| omitted.count.get())
                .sum::<u64>();
            if number == 1 && event != "Merge Request Hook" {
                let sent = (MAX_DATA_BYTES / 60) as u64 + 1;
                assert_eq!(form.commits.len() as u64 + lost, sent, "{adapter} {event}");
            }
            assert!(form.into_json().len() <= MAX_NORMALISED_BYTES);
        }
    }
}

#[test]
fn rules_beyond_what_a_form_keeps_are_counted_and_not_built() {
    let items = format!("[{}0]", "0,".repeat(299));
    let rules = format!(r#""rules":{{"added":{items},"deleted":{items},"updated":{items}}},"#);
    let rules = rules.repeat(MAX_LIST_ITEMS - 1);
    let body = format!(r#"{{"action":"edited","repository_ruleset":{{}},"changes":{{{rules}"x":1}}}}"#);
    assert!(body.len() <= MAX_DATA_BYTES);
    let form = read(Adapter::GitHub, "repository_ruleset", body.as_bytes()).unwrap();
    assert_eq!(form.config_change.len(), MAX_LIST_ITEMS);
    let sent = (MAX_LIST_ITEMS - 1) * 900 + 1;
    let lost: Vec<_> = form
        .omitted
        .iter()
        .map(|omitted| (&*omitted.path, omitted.count.get()))
        .collect();
    assert_eq!(lost, [("config_change", (sent - MAX_LIST_ITEMS) as u64)]);
}

#[test]
fn texts_that_are_too_long_are_cut_and_say_so() {
    let long = "x".repeat(5_000);
    let body =
        json!({"action": long, "sender": {"login": long, "id": 1}, "repository": {"full_name": "a\u{7}b"}});
    let form = form(Adapter::GitHub, "issues", &body);
    assert!(form["actor"]["login"].as_str().unwrap().ends_with('\u{2026}'));
    assert_eq!(form["repo"]["full_name"], "a\u{fffd}b");
    assert_eq!(form["type"], "github.issues", "no type is made of such an action");
}

#[test]
fn nothing_of_a_body_gets_into_a_type_but_a_plain_action() {
    for action in ["a b", "\u{e9}", "a/b", "<script>", "x@y.z"] {
        let form = form(Adapter::GitHub, "custom", &json!({ "action": action }));
        assert_eq!(form["type"], "github.custom", "{action}");
    }
    let form = form(
        Adapter::GitLab,
        "x",
        &json!({"object_kind": "se cret\n/../\u{e9}", "action": "go"}),
    );
    assert_eq!(form["type"], "gitlab.se_cret__..__.go");
}

#[test]
fn adapters_are_known_by_name_and_version() {
    for adapter in Adapter::ALL {
        assert_eq!(adapter.name().parse(), Ok(adapter));
    }
    for unknown in ["github", "github/1", "github/3", "github/04", "GitHub/4", ""] {
        let error: UnknownAdapter = unknown.parse::<Adapter>().unwrap_err();
        assert!(error.to_string().contains("github/4, gitlab/4"), "{error}");
    }
}

/// What providers send: as it was recorded, where that is at hand, and one body of ours under each name.
fn bodies() -> Vec<(Adapter, String, Vec<u8>)> {
    let ours = json!({
        "action": "opened",
        "object_kind": "push",
        "ref": "refs/heads/main",
        "after": "5f0a62d1c4e0c0b5b4d1a5e1b1f4bb6e5a0f9d4c",
        "sender": {"login": "ada", "id": 7},
        "repository": {"full_name": "ada/engine", "html_url": "https://git.example/ada/engine"},
        "pull_request": {"number": 4, "head": {"ref": "cards", "sha": "0c"}, "merged": false},
        "object_attributes": {"iid": 4, "state": "opened", "source_branch": "cards"},
        "commits": [{"id": "5f0a62d1", "message": "Punch \"cards\" \u{2014} caf\u{e9}"}],
    });
    let ours = EVENTS.map(|(adapter, event)| (adapter, event.to_owned(), ours.to_string().into_bytes()));
    let recorded = recorded::all()
        .into_iter()
        .map(|recorded| (recorded.adapter, recorded.event, recorded.body));
    recorded.chain(ours).collect()
}

proptest! {
    #[test]
    fn any_bytes_make_a_form_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (adapter, event) in EVENTS {
            let _ = read(adapter, event, &bytes);
        }
    }

    #[test]
    fn any_cut_or_changed_byte_of_a_body_makes_a_form_or_none(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let all = bodies();
        let (adapter, event, body) = which.get(&all);
        let mut body = body.clone();
        let place = at.index(body.len());
        if cut {
            body.truncate(place);
        } else {
            body[place] = byte;
        }
        if let Some(form) = read(*adapter, event, &body) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok());
            let json = form.clone().into_json();
            prop_assert_eq!(NormalEvent::parse(&json).unwrap(), form);
        }
    }

    #[test]
    fn any_event_name_makes_a_type(event in ".{0,80}", action in ".{0,60}") {
        for adapter in Adapter::ALL.into_iter().filter(|adapter| adapter.names_events()) {
            let form = read(adapter, &event, json!({"action": action}).to_string().as_bytes()).unwrap();
            prop_assert!(form.event_type.as_str().parse::<counterfoil_event::normal::EventType>().is_ok());
        }
    }
}
