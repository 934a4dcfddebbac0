//! Payloads that submitters send themselves: normalised events, git objects, documents of an audit log; and running adapters
//! again.

use counterfoil_event::{
    Annotations, Event, EventParts, IndexAttribute, IndexKey, Protocol, SourceId, Submitter,
    adapter::{Adapter, differences, named_by, submitted},
    hec::{self, Metadata},
    normal::{self, NormalEvent},
};
use serde_json::{Value, json};

fn event(event_type: &str, media_type: &str, data: impl Into<Vec<u8>>) -> Event {
    Event::try_from(EventParts {
        id: "1".into(),
        source: "https://ci.example/acme".into(),
        event_type: event_type.into(),
        subject: "mine".into(),
        time: "2026-11-22T09:30:00Z".into(),
        data_content_type: media_type.into(),
        data: data.into().into(),
        ..EventParts::default()
    })
    .unwrap()
}

fn form_of(event: &Event) -> (String, Value) {
    let (adapter, json) = event.normal_form().unwrap();
    (adapter.to_owned(), serde_json::from_slice(json).unwrap())
}

fn annotations(event: &Event) -> Annotations {
    Annotations::new(event, &Submitter::anonymous())
}

/// Where an event differs from what its adapter makes, as paths.
fn differing(event: &Event, annotations: &Annotations) -> Vec<String> {
    let found = differences(annotations, event.attributes(), event.data()).unwrap();
    found.into_iter().map(|difference| difference.path).collect()
}

#[test]
fn a_normalised_event_is_its_own_form() {
    let payload = json!({
        "repo": {"full_name": "acme/widgets"}, "commit": "c".repeat(40), "mine": [1], "outcome": "success",
    });
    let sent = event("ci.run.finished", normal::MEDIA_TYPE, payload.to_string());
    let event = submitted(sent.clone()).unwrap();
    assert_eq!(
        event.attributes(),
        sent.attributes(),
        "what was submitted stays as it was"
    );
    let (adapter, form) = form_of(&event);
    assert_eq!(adapter, "event/1");
    let mut expected = payload;
    expected["id"] = "1".into();
    expected["type"] = "ci.run.finished".into();
    expected["occurred_at"] = "2026-11-22T09:30:00Z".into();
    assert_eq!(form, expected);
    assert!(differing(&event, &annotations(&event)).is_empty());
    let keys = IndexKey::of_normal_form(&annotations(&event).normalised);
    assert!(keys.contains(&IndexKey::new(IndexAttribute::Repository, "acme/widgets")));
}

#[test]
fn the_form_of_the_longest_payload_is_longer_and_can_be_read() {
    let around = json!({"mine": ""}).to_string().len();
    let payload = json!({"mine": "m".repeat(normal::MAX_INPUT_BYTES - around)}).to_string();
    assert_eq!(payload.len(), normal::MAX_INPUT_BYTES);
    let event = submitted(event("ci.run.finished", normal::MEDIA_TYPE, payload)).unwrap();
    let (_, form) = event.normal_form().unwrap();
    assert!(form.len() > normal::MAX_INPUT_BYTES);
    let read = NormalEvent::parse_written(form).unwrap();
    assert!(read.other.contains_key("mine"));
    assert_eq!(read.into_json(), form);
}

#[test]
fn a_payload_that_says_that_it_is_one_has_to_be_one() {
    let bad = json!({"id": "2", "type": "x", "received_at": "2026-11-22T09:30:00Z", "actor": {"login": "a"}});
    let refused = submitted(event("ci.run.finished", normal::MEDIA_TYPE, bad.to_string())).unwrap_err();
    let violations: Vec<_> = refused
        .violations
        .iter()
        .map(|it| (&*it.path, &*it.problem))
        .collect();
    let expected = [
        ("id", "is not the event's id"),
        ("type", "is not the event's type"),
        ("received_at", "is reserved"),
    ];
    assert_eq!(violations, expected);
    let refused = submitted(event("x", normal::MEDIA_TYPE, r#"{"actor":{"login":7}}"#)).unwrap_err();
    assert_eq!(refused.violations[0].path, "actor.login");
    assert!(submitted(event("x", normal::MEDIA_TYPE, "no JSON")).is_err());
    // Any other payload says nothing of the kind.
    for media_type in [
        "application/json",
        "text/plain",
        "application/vnd.counterfoil.event+jsonl",
        "application/json; application/vnd.counterfoil.event+json",
    ] {
        let plain = submitted(event("ci.run.finished", media_type, r#"{"actor":{"login":7}}"#)).unwrap();
        assert_eq!(plain.normal_form(), None, "{media_type}");
    }
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_matter() {
    for media_type in [
        "application/vnd.counterfoil.event+json; charset=utf-8",
        "application/vnd.counterfoil.event+json ;v=2",
        "Application/VND.counterfoil.event+JSON",
    ] {
        let good = submitted(event("ci.run.finished", media_type, r#"{"commit":"c0ffee"}"#)).unwrap();
        assert_eq!(form_of(&good).1["commit"], "c0ffee", "{media_type}");
        let bad = event("ci.run.finished", media_type, r#"{"actor":{"login":7}}"#);
        assert!(submitted(bad).is_err(), "{media_type}");
    }

    let git = |media_type: &str, id: &str, event_type: &str, data: &str| {
        let parts = EventParts {
            id: id.into(),
            source: "git:x".into(),
            event_type: event_type.into(),
            data_content_type: media_type.into(),
            data: data.to_owned().into(),
            ..EventParts::default()
        };
        submitted(Event::try_from(parts).unwrap()).unwrap()
    };
    for media_type in ["application/x-git-object; v=1", "Application/X-Git-Object"] {
        let commit = git(media_type, COMMIT_ID, "scm.commit", COMMIT);
        assert_eq!(form_of(&commit).1["actor"]["login"], "Ann", "{media_type}");
    }
    let line = format!("{COMMIT_ID} refs/tags/light\n");
    let tag = git("Text/Plain; charset=utf-8", "tag-1", "scm.tag", &line);
    assert_eq!(form_of(&tag).1["ref"]["name"], "refs/tags/light");
}

/// Made with `git`, whose object ids these are.
const COMMIT: &str = "commit 196\0tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor Ann <ann@acme.example> 1700000000 +0130\n\
    committer Bob <bob@acme.example> 1700000001 -0800\n\nMake widgets\n\nauthor Eve <eve@acme.example> 1 +0000\n";
const COMMIT_ID: &str = "809ff3fb0c6269567ce1933023253919b780fe5e";

fn git_event(id: &str, event_type: &str, data: &str) -> Event {
    let mut parts = EventParts {
        id: id.into(),
        source: "git:x".into(),
        event_type: event_type.into(),
        data_content_type: "application/x-git-object".into(),
        data: data.to_owned().into(),
        ..EventParts::default()
    };
    if !data.contains('\0') {
        parts.data_content_type = "text/plain".into();
    }
    submitted(Event::try_from(parts).unwrap()).unwrap()
}

#[test]
fn a_git_object_is_known_by_its_hash() {
    let id = COMMIT_ID;
    let event = git_event(id, "scm.commit", COMMIT);
    let (adapter, form) = form_of(&event);
    assert_eq!(adapter, "git/1");
    let expected = json!({
        "id": id, "type": "scm.commit", "outcome": "success", "occurred_at": "2023-11-14T14:13:21-08:00",
        "source": {"provider": "git"}, "actor": {"login": "Ann"}, "triggering_actor": {"login": "Bob"}, "commit": id,
    });
    assert_eq!(form, expected);
    assert!(differing(&event, &annotations(&event)).is_empty());

    let tag = format!(
        "tag 121\0object {id}\ntype commit\ntag v1\ntagger Ann <ann@acme.example> 1700000000 +0000\n\nFirst\n"
    );
    let tag_id = "559b442e888a49091854c450d9096a3ec75ea73e";
    let (_, form) = form_of(&git_event(tag_id, "scm.tag", &tag));
    assert_eq!(form["ref"], json!({"name": "refs/tags/v1", "after": tag_id}));
    assert_eq!(
        (&form["commit"], &form["actor"]["login"]),
        (&json!(id), &json!("Ann"))
    );

    let (_, form) = form_of(&git_event("tag-1", "scm.tag", &format!("{id} refs/tags/light\n")));
    assert_eq!(form["ref"], json!({"name": "refs/tags/light", "after": id}));

    // Another id, another type, another object: the payload does not say what the event does.
    for (id, event_type, data) in [
        (&*"a".repeat(40), "scm.commit", COMMIT),
        (id, "scm.merge", COMMIT),
        (id, "scm.commit", "blob 3\0abc"),
        ("1", "scm.commit", COMMIT),
        (&*"\u{e9}".repeat(20), "scm.commit", COMMIT),
        ("tag-1", "scm.tag", "no target"),
        ("tag-1", "scm.tag", "abc refs/tags/x\n"),
    ] {
        assert_eq!(
            git_event(id, event_type, data).normal_form(),
            None,
            "{id} {event_type} {data}"
        );
    }
}

#[test]
fn a_document_of_the_audit_log_says_who_did_what() {
    let document = json!({
        "@timestamp": 1_770_000_000_000_u64, "_document_id": "Xy-1", "action": "org.add_member", "actor": "boss", "actor_id": 1,
        "actor_is_bot": false, "user": "newcomer", "user_id": 2, "org": "acme", "org_id": 9, "business": "acme-inc",
        "permission": "read",
    });
    let events = hec::parse_raw(document.to_string().as_bytes(), &Metadata::default()).unwrap();
    let source: SourceId = "github".parse().unwrap();
    let event = events[0]
        .clone()
        .into_event(&source, || panic!("it has an id"))
        .unwrap();
    let (adapter, form) = form_of(&event);
    assert_eq!(adapter, "github-audit/2");
    let expected = json!({
        "id": "Xy-1", "type": "config.member.added", "outcome": "success", "occurred_at": "2026-02-02T02:40:00Z",
        "source": {"id": "github", "provider": "github", "native_event": "org.add_member"},
        "actor": {"kind": "user", "id": "1", "login": "boss"}, "org": {"id": "9", "login": "acme"},
        "config_change": [
            {"path": "member.login", "to": "newcomer"}, {"path": "member.id", "to": 2}, {"path": "permission", "to": "read"},
        ],
    });
    assert_eq!(form, expected);
    assert_eq!(
        (event.event_type(), event.subject()),
        ("config.member.added", Some("acme"))
    );
    assert_eq!(event.time(), Some("2026-02-02T02:40:00Z"));
    assert!(differing(&event, &annotations(&event)).is_empty());

    let run = json!({
        "_document_id": "Xy-2", "action": "workflows.completed_workflow_run", "conclusion": "failure", "repo": "acme/widgets",
        "workflow_run_id": 7, "run_number": 3, "run_attempt": 2, "head_sha": "c".repeat(40), "created_at": 1_770_000_000_000_u64,
    });
    let events = hec::parse_raw(run.to_string().as_bytes(), &Metadata::default()).unwrap();
    let event = events[0]
        .clone()
        .into_event(&source, || panic!("it has an id"))
        .unwrap();
    let (_, form) = form_of(&event);
    assert_eq!(
        (&form["type"], &form["outcome"]),
        (&json!("ci.run.finished"), &json!("failure"))
    );
    assert_eq!(form["run"], json!({"id": "7", "number": 3, "attempt": 2}));
    assert_eq!(event.subject(), Some("acme/widgets"));
}

fn delivery() -> Event {
    let body = json!({
        "ref": "refs/heads/main", "after": "c".repeat(40), "repository": {"full_name": "acme/widgets", "pushed_at": 1_770_000_000},
        "commits": [{"id": "c".repeat(40)}],
    });
    let parts = EventParts {
        id: "1/d1".into(),
        event_type: "github.push".into(),
        data_content_type: "application/json".into(),
        data: body.to_string().into(),
        extensions: vec![("nativeevent".into(), "push".into())],
        ..EventParts::default()
    };
    let event = Event::received(Protocol::Webhook, &"github".parse().unwrap(), parts);
    named_by(Adapter::GitHub, event.unwrap())
}

#[test]
fn a_delivery_is_named_by_its_form() {
    let event = delivery();
    assert_eq!(
        (event.event_type(), event.subject()),
        ("scm.push", Some("acme/widgets"))
    );
    let (_, form) = form_of(&event);
    assert_eq!(
        (event.source(), &form["source"]["id"]),
        ("hooks/github", &json!("github"))
    );
    assert_eq!(event.time(), Some("2026-02-02T02:40:00Z"));
    assert!(differing(&event, &annotations(&event)).is_empty());
}

#[test]
fn whatever_a_log_changes_in_a_form_is_found() {
    let event = delivery();
    let honest = annotations(&event);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut form: Value = serde_json::from_slice(&honest.normalised).unwrap();
        change(&mut form);
        let normalised = form.to_string().into_bytes();
        differing(
            &event,
            &Annotations {
                normalised,
                ..honest.clone()
            },
        )
    };
    assert_eq!(
        with(&|form| form["repo"]["full_name"] = "acme/gadgets".into()),
        ["repo.full_name"]
    );
    assert_eq!(with(&|form| form["actor"]["login"] = "mallory".into()), ["actor"]);
    assert_eq!(
        with(&|form| form["commits"].as_array_mut().unwrap().push("x".into())),
        ["commits[1]"]
    );
    assert_eq!(with(&|form| form["outcome"] = "failure".into()), ["outcome"]);
    let no_commit = with(&|form| drop(form.as_object_mut().unwrap().remove("commit")));
    assert_eq!(no_commit, ["commit"]);
    // The same members in another order, or twice, are other bytes.
    assert_eq!(with(&|_| {}), [""]);
    let text = String::from_utf8(honest.normalised.clone()).unwrap();
    for other in [text.replace('{', "{ "), format!("{}x", text), String::new()] {
        let normalised = other.into_bytes();
        assert_eq!(
            differing(
                &event,
                &Annotations {
                    normalised,
                    ..honest.clone()
                }
            ),
            [""]
        );
    }

    // So is an attribute that the adapter gave the event.
    let mut attributes = event.attributes().clone();
    attributes.event_type = "scm.tag".into();
    attributes.subject = "acme/gadgets".into();
    attributes.time = String::new();
    let found = differences(&honest, &attributes, event.data()).unwrap();
    let paths: Vec<_> = found.iter().map(|difference| &*difference.path).collect();
    assert_eq!(
        paths,
        ["attributes.type", "attributes.subject", "attributes.time"]
    );
    // A payload that there can be no form of.
    let found = differences(&honest, event.attributes(), b"no JSON").unwrap();
    assert_eq!((found.len(), &found[0].made), (1, &None));
}

#[test]
fn an_adapter_of_another_version_is_not_run() {
    let event = delivery();
    for adapter in ["github/1", "github/3", "bitbucket/1", ""] {
        let annotations = Annotations {
            adapter: adapter.into(),
            ..annotations(&event)
        };
        let unknown = differences(&annotations, event.attributes(), event.data()).unwrap_err();
        assert!(unknown.to_string().contains(&format!("{adapter:?}")), "{unknown}");
    }
}
