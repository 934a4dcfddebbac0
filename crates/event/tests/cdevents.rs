//! CDEvents in and out: the specification's own examples, and its SDK as the judge of what is written.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use cdevents_sdk::CDEvent;
use counterfoil_event::{
    Event, EventParts, adapter, cdevents,
    normal::{Artifact, Integer, NormalEvent, Outcome, Text, Word},
};
use serde_json::{Value, json};

const SOURCE: &str = "https://ci.example/acme";
const TIME: &str = "2026-11-22T09:30:00Z";

/// The conformance examples, by file name; none, said aloud, where they are not at hand. Under CI they have to be.
fn examples() -> Vec<(String, Value)> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = env::var_os("COUNTERFOIL_TEST_DATA").map_or(beside, PathBuf::from);
    let folder = data.join("cdevents");
    if !folder.is_dir() {
        assert!(env::var_os("CI").is_none(), "there is no {}", folder.display());
        eprintln!("skipped: there is no {}", folder.display());
        return Vec::new();
    }
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut examples: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    examples.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(!examples.is_empty());
    examples
}

/// As it is on record.
fn record(cdevent: &Value) -> Event {
    let context = &cdevent["context"];
    let event = Event::try_from(EventParts {
        id: context["id"].as_str().unwrap().to_owned(),
        source: SOURCE.to_owned(),
        event_type: context["type"].as_str().unwrap().to_owned(),
        data_content_type: "application/json".to_owned(),
        data: cdevent.to_string().into(),
        ..EventParts::default()
    })
    .unwrap();
    adapter::submitted(event).unwrap()
}

fn form(cdevent: &Value) -> Option<Value> {
    let event = record(cdevent);
    let (adapter, form) = event.normal_form()?;
    assert_eq!(adapter, "cdevents/3");
    Some(serde_json::from_slice(form).unwrap())
}

#[test]
fn each_example_has_its_type_and_says_what_it_says() {
    let types = [
        ("artifact_deleted", "artifact.deleted"),
        ("artifact_downloaded", "cdevents.artifact.downloaded"),
        ("artifact_packaged", "artifact.built"),
        ("artifact_signed", "artifact.signed"),
        ("build_finished", "ci.job.finished"),
        ("change_abandoned", "scm.change.closed"),
        ("change_created", "scm.change.opened"),
        ("environment_deleted", "cdevents.environment.deleted"),
        ("environment_modified", "cdevents.environment.modified"),
        ("incident_detected", "cdevents.incident.detected"),
        ("incident_reported", "cdevents.incident.reported"),
        ("incident_resolved", "cdevents.incident.resolved"),
        ("pipelinerun_finished", "ci.run.finished"),
        ("pipelinerun_started", "ci.run.started"),
        ("repository_modified", "config.repository.edited"),
        ("service_removed", "cdevents.service.removed"),
        ("service_rolledback", "deploy.rolledback"),
        ("testcaserun_finished", "ci.check.finished"),
        ("testcaserun_skipped", "ci.check.finished"),
        ("testcaserun_started", "ci.check.started"),
        ("testsuiterun_finished", "ci.check.finished"),
        ("testsuiterun_queued", "ci.check.queued"),
        ("ticket_closed", "cdevents.ticket.closed"),
        ("ticket_created", "cdevents.ticket.created"),
        ("ticket_updated", "cdevents.ticket.updated"),
    ];
    for (name, example) in examples() {
        let form = form(&example).unwrap_or_else(|| panic!("{name} has no form"));
        let expected = types.iter().find(|(of, _)| *of == name);
        let (_, expected) = expected.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(form["type"], *expected, "{name}");
        assert_eq!(
            form["source"]["native_event"], example["context"]["type"],
            "{name}"
        );
        assert!(form["occurred_at"].is_string(), "{name}");
        let content = &example["subject"]["content"];
        if let Some(stated) = content["outcome"].as_str() {
            assert_eq!(form["outcome"], stated, "{name}");
        }
        // Whatever names something stands somewhere in the form.
        let text = form.to_string();
        for path in [
            "/user",
            "/pipelineName",
            "/environment/id",
            "/testCase/name",
            "/testSuite/name",
        ] {
            if let Some(value) = content.pointer(path).and_then(Value::as_str) {
                assert!(text.contains(value), "{name} lost {path}");
            }
        }
        if let Some(digest) = content["artifactId"]
            .as_str()
            .and_then(|id| id.split_once("sha256%3A"))
        {
            assert_eq!(
                form["artifacts"][0]["digest"],
                format!("sha256:{}", digest.1),
                "{name}"
            );
        }
    }
}

/// The rows of the table in `docs/EVENTS.md`: subject and predicate, and the type.
fn documented() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../../../docs/EVENTS.md");
    let (_, section) = text.split_once("\n### CDEvents\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let mut words = row.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        let event_type = words.pop().unwrap();
        words.into_iter().map(move |kind| (kind, event_type))
    })
    .collect()
}

#[test]
fn each_subject_and_predicate_has_the_documented_type() {
    let rows = documented();
    let names = rows.iter().map(|(kind, _)| kind.split_once('.').unwrap());
    let (subjects, predicates): (BTreeSet<_>, BTreeSet<_>) = names.unzip();
    for subject in subjects {
        for predicate in &predicates {
            let kind = format!("{subject}.{predicate}");
            let cdevent = json!({
                "context": { "id": "1", "source": "/s", "type": format!("dev.cdevents.{kind}.0.3.0"), "timestamp": TIME },
                "subject": { "id": "17", "content": {} },
            });
            let derived = format!("cdevents.{kind}");
            let row = rows.iter().find(|(known, _)| *known == kind);
            let expected = row.map_or(derived.as_str(), |(_, event_type)| *event_type);
            assert_eq!(form(&cdevent).unwrap()["type"], expected, "{kind}");
        }
    }
}

#[test]
fn the_host_is_that_of_a_source_that_has_one() {
    for (source, host) in [
        ("https://ci.example/acme/widgets", Some("ci.example")),
        ("https://ci.example", Some("ci.example")),
        ("http://me:pw@ci.example:80/acme?a=b", Some("ci.example:80")),
        ("git+ssh://git@[::1]/acme", Some("[::1]")),
        ("https:///acme", None),
        ("/event/source/123", None),
        ("/proxy/https://ci.example", None),
        ("urn:acme:ci", None),
        ("ci.example", None),
        ("://ci.example", None),
        ("", None),
    ] {
        let cdevent = json!({
            "context": { "id": "1", "source": source, "type": "dev.cdevents.pipelinerun.finished.0.3.0", "timestamp": TIME },
            "subject": { "id": "run-42", "content": {} },
        });
        let form = form(&cdevent).unwrap();
        assert_eq!(form["source"]["host"].as_str(), host, "{source}");
    }
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_matter() {
    let event_type = "dev.cdevents.pipelinerun.finished.0.3.0";
    let cdevent = json!({
        "context": { "id": "1", "source": "/s", "type": event_type, "timestamp": TIME },
        "subject": { "id": "run-42", "content": { "outcome": "success" } },
    });
    for (media_type, has_form) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("application/json;charset=UTF-8", true),
        ("Application/JSON", true),
        ("application/cdevents+json; charset=utf-8", true),
        ("application/jsonl", false),
        ("text/plain", false),
        ("text/plain; application/json", false),
    ] {
        let event = Event::try_from(EventParts {
            id: "1".into(),
            source: SOURCE.into(),
            event_type: event_type.into(),
            data_content_type: media_type.into(),
            data: cdevent.to_string().into(),
            ..EventParts::default()
        });
        let event = adapter::submitted(event.unwrap()).unwrap();
        assert_eq!(event.normal_form().is_some(), has_form, "{media_type}");
    }
}

#[test]
fn a_cdevent_of_another_type_than_its_envelope_has_no_form() {
    let good = json!({
        "context": { "id": "1", "source": "/s", "type": "dev.cdevents.pipelinerun.finished.0.3.0", "timestamp": TIME },
        "subject": { "id": "run-42", "content": { "outcome": "failure", "pipelineName": "deploy" } },
    });
    let read = form(&good).unwrap();
    assert_eq!(
        (&read["run"]["id"], &read["outcome"]),
        (&"run-42".into(), &"failure".into())
    );
    let lying = Event::try_from(EventParts {
        id: "1".into(),
        source: SOURCE.into(),
        event_type: "dev.cdevents.pipelinerun.started.0.3.0".into(),
        data_content_type: "application/json".into(),
        data: good.to_string().into(),
        ..EventParts::default()
    });
    assert_eq!(adapter::submitted(lying.unwrap()).unwrap().normal_form(), None);
    for hostile in [
        json!({}),
        json!([]),
        json!({"context": {"type": "dev.cdevents."}}),
        json!({"context": 5, "subject": null}),
    ] {
        let event = Event::try_from(EventParts {
            id: "1".into(),
            source: SOURCE.into(),
            event_type: "dev.cdevents.x".into(),
            data_content_type: "application/json".into(),
            data: hostile.to_string().into(),
            ..EventParts::default()
        });
        assert_eq!(
            adapter::submitted(event.unwrap()).unwrap().normal_form(),
            None,
            "{hostile}"
        );
    }
}

#[test]
fn a_change_ends_well_when_it_is_merged_and_not_before() {
    for (predicate, event_type, outcome) in [
        ("created", "scm.change.opened", "unknown"),
        ("updated", "scm.change.updated", "unknown"),
        ("reviewed", "scm.review.submitted", "unknown"),
        ("merged", "scm.change.merged", "success"),
        ("abandoned", "scm.change.closed", "cancelled"),
    ] {
        let cdevent = json!({
            "context": { "id": "1", "source": "/s", "type": format!("dev.cdevents.change.{predicate}.0.3.0"), "timestamp": TIME },
            "subject": { "id": "17", "content": { "repository": { "id": "acme/widgets" } } },
        });
        let form = form(&cdevent).unwrap();
        assert_eq!(
            (&form["type"], &form["outcome"]),
            (&event_type.into(), &outcome.into()),
            "{predicate}"
        );
    }
}

/// A form that has all that any CDEvent asks for.
fn full(word: Word) -> NormalEvent {
    let text = |text: &str| Text::try_from(text).ok();
    let mut form = NormalEvent::new(Text::try_from("e-1").unwrap(), word);
    form.outcome = Outcome::Success;
    form.repo.full_name = text("acme/widgets");
    form.commit = text("0123456789abcdef0123456789abcdef01234567");
    form.change.number = Integer::new(17);
    form.run.id = text("42");
    form.run.path = text(".ci/build.yaml");
    form.job.id = text("4242");
    form.job.name = text("build");
    form.deployment.environment = text("production");
    form.artifacts.push(Artifact {
        purl: text("pkg:npm/widgets@1.2.3"),
        ..Artifact::default()
    });
    form
}

/// Their SDK reads what is written, and finds in it what was to be said.
#[test]
fn what_is_written_is_a_cdevent_to_the_sdk_and_reads_back_as_the_same_type() {
    let mut written = 0;
    for word in Word::ALL {
        let form = full(*word);
        let Some(cloudevent) = cdevents::from_normal(&form, SOURCE, TIME) else {
            continue;
        };
        written += 1;
        assert_eq!(cloudevent["specversion"], "1.0");
        assert_eq!(cloudevent["type"], cloudevent["data"]["context"]["type"]);
        let read: CDEvent = serde_json::from_value(cloudevent["data"].clone())
            .unwrap_or_else(|error| panic!("{word}: {error}: {}", cloudevent["data"]));
        assert_eq!(
            (read.id().as_str(), read.ty()),
            ("e-1", cloudevent["type"].as_str().unwrap())
        );
        let again = self::form(&cloudevent["data"]).unwrap();
        assert_eq!(again["type"], word.as_str());
        // What CDEvents have no place for travels beside.
        let beside = &cloudevent["data"]["customData"];
        assert_eq!(NormalEvent::parse(beside.to_string().as_bytes()).unwrap(), form);
    }
    assert_eq!(written, 13);
}

#[test]
fn nothing_is_made_to_look_like_something_else() {
    for word in [
        Word::ScmPush,
        Word::DeployFailed,
        Word::MemberAdded,
        Word::KeyCreated,
    ] {
        assert_eq!(cdevents::from_normal(&full(word), SOURCE, TIME), None, "{word}");
    }
    let nameless = NormalEvent::new(Text::try_from("e-1").unwrap(), Word::RunFinished);
    assert_eq!(
        cdevents::from_normal(&nameless, SOURCE, TIME),
        None,
        "a run without an id"
    );
}
