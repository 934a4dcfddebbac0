//! Normalised events, and the CDEvents that are made of them.

use counterfoil_event::{
    adapter::{Adapter, submitted},
    cdevents,
    cloudevents::from_json,
    limits::{MAX_ID_BYTES, MAX_NORMALISED_BYTES},
    normal::{EventType, NormalEvent, Outcome},
};
use serde_json::{Value, json};

use super::event::check_event;
use crate::Target;

pub(super) const NORMAL: Target = Target {
    name: "normal",
    about: "normalised events in JSON",
    seeds,
    words: WORDS,
    max_bytes: 66 << 10,
    run: normal,
};

const WORDS: &[&str] = &[
    "\"id\":\"1\"",
    "\"type\":\"deploy.succeeded\"",
    "\"type\":\"github.fork\"",
    "\"outcome\":\"denied\"",
    "\"occurred_at\":\"2026-11-22T09:30:00Z\"",
    "\"source\":{",
    "\"actor\":{\"kind\":\"bot\"",
    "\"repo\":{\"full_name\":\"acme/widgets\"}",
    "\"ref\":{",
    "\"commit\":\"",
    "\"commits\":[\"",
    "\"change\":{\"number\":17",
    "\"run\":{\"id\":\"42\"",
    "\"job\":{",
    "\"process\":{",
    "\"artifacts\":[{\"purl\":\"pkg:npm/widgets@1\"",
    "\"deployment\":{\"environment\":\"production\"",
    "\"config_change\":[{\"path\":\"a\",\"from\":",
    "\"decision\":{\"reviewers\":[",
    "\"links\":[{\"entry\":",
    "\"omitted\":[{\"path\":\"commits\",\"count\":",
    "9007199254740992",
    "-9007199254740993",
    "null",
    "{}",
    "[]",
    "\\u0000",
    "\\ufffe",
    "\"mine\":{\"a\":[1]}",
];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let whole = json!({
        "id": "run-42", "type": "ci.run.finished", "outcome": "failure", "occurred_at": "2026-11-22T09:30:00.25+01:00",
        "source": {"id": "ci", "provider": "github", "host": "github.com", "native_event": "workflow_run", "native_action": "completed", "delivery_id": "d", "hook_id": "12"},
        "actor": {"kind": "user", "id": "7", "login": "octo"}, "triggering_actor": {"login": "other"}, "org": {"id": "2", "login": "acme"},
        "repo": {"id": "1", "full_name": "acme/widgets"}, "ref": {"name": "refs/heads/main", "before": commit, "after": commit, "forced": false, "protected": true},
        "commit": commit, "commits": [commit, "x"],
        "change": {"number": 17, "author_id": "7", "author": "octo", "head_sha": commit, "base_ref": "main", "merge_sha": commit},
        "review": {"id": "8", "state": "approved", "commit": commit, "association": "MEMBER"},
        "run": {"id": "42", "number": 2, "attempt": 1, "workflow_id": "3", "path": "ci.yml", "trigger": "push"},
        "job": {"id": "4", "name": "test", "runner": "r1"}, "process": {"id": "p", "name": "make", "duration_ms": 250, "exit_code": 2, "signal": 9, "started": true},
        "artifacts": [{"name": "a.tgz", "digest": "sha256:5a", "purl": "pkg:npm/widgets@1.2.3", "tag": "v1", "mine": 1}],
        "deployment": {"id": "6", "environment": "production", "status": "success"},
        "config_change": [{"path": "a", "from": true, "to": -5}, {"path": "b", "to": "c"}],
        "decision": {"state": "approved", "reason": "ok", "callback_url": "https://git.example", "reviewers": [{"login": "octo"}]},
        "links": [{"rel": "of", "entry": 9}], "omitted": [{"path": "commits", "count": 3}], "mine": {"a": [1, null, {"b": false}]},
    });
    let of_type = |event_type: &str| {
        let mut event = whole.clone();
        event["type"] = event_type.into();
        event
    };
    let types = [
        "ci.run.queued",
        "ci.run.started",
        "ci.job.started",
        "ci.job.finished",
        "scm.change.opened",
        "scm.change.updated",
        "scm.change.merged",
        "scm.change.closed",
        "scm.review.submitted",
        "artifact.published",
        "deploy.succeeded",
        "deploy.rolledback",
        "deploy.failed",
        "github.fork",
    ];
    let long = json!({"id": "1", "type": "scm.push", "commits": vec![commit; 300], "config_change": vec![json!({"path": "p", "to": "t".repeat(100)}); 256]});
    let wrong = json!({"id": 1, "type": "ci.run.finised", "outcome": "ok", "actor": {"login": 7}, "artifacts": [1], "omitted": [{}], "run": []});
    let least = json!({"id": "1", "type": "x"});
    types
        .map(of_type)
        .into_iter()
        .chain([whole, long, wrong, least])
        .map(|event| event.to_string().into_bytes())
        .collect()
}

/// What is read is written with every member that it had, and reads back as it was. What is wrong is named.
fn normal(input: &[u8]) {
    let event = match NormalEvent::parse(input) {
        Ok(event) => event,
        Err(invalid) => {
            assert!((1..=64).contains(&invalid.violations.len()));
            assert!(
                invalid
                    .violations
                    .iter()
                    .all(|violation| !violation.problem.is_empty())
            );
            assert!(!invalid.to_string().is_empty());
            return;
        }
    };
    let sent: Value = serde_json::from_slice(input).unwrap();
    check_kept(&sent, &event);
    assert_eq!(
        event.subject().is_empty(),
        event.repo.full_name.is_none() && event.org.login.is_none()
    );
    let json = event.clone().into_json();
    assert!(json.len() <= MAX_NORMALISED_BYTES);
    let again = NormalEvent::parse_written(&json).unwrap();
    if again.omitted == event.omitted {
        assert_eq!(again, event);
    }
    assert_eq!(again.into_json(), json);
}

/// Each member that was sent is in the event, known or not, but for those that say nothing and for what lists lost.
pub(super) fn check_kept(sent: &Value, event: &NormalEvent) {
    let json = event.clone().into_json();
    let written: Value = serde_json::from_slice(&json).unwrap();
    if written["omitted"] == sent["omitted"] {
        check_member(sent, &written, "");
    }
}

fn check_member(sent: &Value, written: &Value, path: &str) {
    match (sent, written) {
        (Value::Object(sent), Value::Object(written)) => {
            for (name, sent) in sent {
                match written.get(name) {
                    Some(written) => check_member(sent, written, &format!("{path}/{name}")),
                    None => assert!(says_nothing(sent), "{path}/{name} is lost"),
                }
            }
        }
        (Value::Array(sent), Value::Array(written)) => {
            assert_eq!(sent.len(), written.len(), "{path}");
            for (sent, written) in sent.iter().zip(written) {
                check_member(sent, written, path);
            }
        }
        (sent, written) => assert_eq!(sent, written, "{path}"),
    }
}

/// Null, or nothing but parts that say nothing.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
        _ => false,
    }
}

pub(super) const CDEVENTS_OUT: Target = Target {
    name: "cdevents_out",
    about: "normalised events in JSON, which CDEvents are made of",
    seeds,
    words: WORDS,
    max_bytes: 32 << 10,
    run: cdevents_out,
};

fn cdevents_out(input: &[u8]) {
    if let Ok(form) = NormalEvent::parse(input) {
        check_cdevent(&form, "https://ci.example/acme");
    }
}

/// The CDEvent of a form, if it has one, can be recorded, says the same to whoever reads it, and carries the form whole.
pub(super) fn check_cdevent(form: &NormalEvent, source: &str) {
    let time = form
        .occurred_at
        .as_ref()
        .map_or("2026-11-22T09:30:00Z", |time| time.as_str());
    let Some(cloudevent) = cdevents::from_normal(form, source, time) else {
        return;
    };
    if form.id.len() > MAX_ID_BYTES {
        return;
    }
    let event = submitted(from_json(cloudevent.to_string().as_bytes()).unwrap()).unwrap();
    check_event(&event);
    assert_eq!(
        (event.id(), event.source(), event.time()),
        (&*form.id, source, Some(time))
    );
    let (adapter, json) = event.normal_form().unwrap();
    assert_eq!(adapter, Adapter::CdEvents.name());
    let read = NormalEvent::parse_written(json).unwrap();
    assert_eq!(read.event_type, form.event_type);
    let EventType::Word(word) = form.event_type else {
        panic!("only words have CDEvents");
    };
    let ends = word.as_str().ends_with(".finished");
    match form.outcome {
        Outcome::Success | Outcome::Failure | Outcome::Error if ends => {
            assert_eq!(read.outcome, form.outcome)
        }
        Outcome::Cancelled if ends => assert_eq!(read.outcome, Outcome::Error),
        _ if ends => assert_eq!(read.outcome, Outcome::Unknown),
        _ => {}
    }
    let data: Value = serde_json::from_slice(event.data()).unwrap();
    let beside = data["customData"].to_string();
    assert_eq!(NormalEvent::parse_written(beside.as_bytes()).unwrap(), *form);
}
