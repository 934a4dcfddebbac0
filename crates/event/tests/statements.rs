//! in-toto statements in DSSE envelopes, and what is found by them.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use counterfoil_event::{
    Event, EventParts, IndexAttribute, IndexKey, adapter,
    dsse::{self, Envelope},
};
use serde_json::{Value, json};

fn envelope(payload_type: &str, payload: &str) -> String {
    json!({
        "payloadType": payload_type,
        "payload": BASE64_STANDARD.encode(payload),
        "signatures": [{ "sig": "AA==" }],
    })
    .to_string()
}

fn submitted(event_type: &str, data: String) -> Event {
    submitted_as(dsse::MEDIA_TYPE, event_type, data)
}

fn submitted_as(media_type: &str, event_type: &str, data: String) -> Event {
    let event = Event::try_from(EventParts {
        id: "1".into(),
        source: "https://ci.example/acme".into(),
        event_type: event_type.into(),
        data_content_type: media_type.into(),
        data: data.into(),
        ..EventParts::default()
    });
    adapter::submitted(event.unwrap()).unwrap()
}

fn form(statement: &Value) -> Value {
    let event = submitted(
        "artifact.built",
        envelope(dsse::STATEMENT_TYPE, &statement.to_string()),
    );
    let (adapter, form) = event.normal_form().unwrap();
    assert_eq!(adapter, "in-toto/4");
    serde_json::from_slice(form).unwrap()
}

fn provenance() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            { "name": "widgets.tar.gz", "digest": { "sha256": "5a".repeat(32), "sha512": "6b".repeat(64) } },
            { "name": "pkg:npm/widgets@1.2.3", "digest": { "sha256": "7c".repeat(32) } },
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": { "resolvedDependencies": [
                { "uri": "https://elsewhere.example/tool.tgz", "digest": { "sha256": "00" } },
                { "uri": "git+https://git.example/acme/widgets.git@refs/heads/main", "digest": { "gitCommit": "ab".repeat(20) } },
            ] },
            "runDetails": {
                "builder": { "id": "https://ci.example/builder" },
                "metadata": { "invocationId": "run-42", "finishedOn": "2026-11-22T09:30:00Z" },
            },
        },
    })
}

#[test]
fn provenance_says_what_was_built_from_what_by_whom() {
    let expected = json!({
        "id": "1",
        "type": "artifact.built",
        "outcome": "success",
        "occurred_at": "2026-11-22T09:30:00Z",
        "source": { "provider": "in-toto", "host": "git.example", "native_event": "https://slsa.dev/provenance/v1" },
        "actor": { "kind": "system", "login": "https://ci.example/builder" },
        "repo": { "full_name": "acme/widgets" },
        "commit": "ab".repeat(20),
        "run": { "id": "run-42" },
        "artifacts": [
            { "name": "widgets.tar.gz", "digest": format!("sha256:{}", "5a".repeat(32)) },
            { "name": "widgets.tar.gz", "digest": format!("sha512:{}", "6b".repeat(64)) },
            { "name": "pkg:npm/widgets@1.2.3", "digest": format!("sha256:{}", "7c".repeat(32)), "purl": "pkg:npm/widgets@1.2.3" },
        ],
    });
    assert_eq!(form(&provenance()), expected);
}

#[test]
fn older_provenance_and_verdicts_are_read_too() {
    let old = form(&json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{ "name": "w", "digest": { "sha256": "aa" } }],
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "predicate": {
            "builder": { "id": "b" },
            "metadata": { "buildInvocationID": "7", "buildFinishedOn": "2026-11-22T09:30:00Z" },
            "materials": [{ "uri": "git+https://git.example/acme/widgets", "digest": { "sha1": "cd".repeat(20) } }],
        },
    }));
    assert_eq!(
        (&old["run"]["id"], &old["actor"]["login"]),
        (&"7".into(), &"b".into())
    );
    assert_eq!(
        (&old["commit"], &old["occurred_at"]),
        (&"cd".repeat(20).into(), &"2026-11-22T09:30:00Z".into())
    );
    for (result, outcome) in [("PASSED", "success"), ("FAILED", "failure"), ("?", "success")] {
        let mut verdict = provenance();
        verdict["predicateType"] = "https://slsa.dev/verification_summary/v1".into();
        verdict["predicate"] = json!({ "verificationResult": result });
        assert_eq!(form(&verdict)["outcome"], outcome);
    }
}

/// Two hosts may each have an `acme/widgets`, and whoever sends a statement has no say in which it is.
#[test]
fn the_host_is_that_of_the_source_as_it_is_signed() {
    for (uri, expected) in [
        ("git+https://evil.example/acme/widgets.git", json!("evil.example")),
        (
            "git+ssh://git@git.example:2222/acme/widgets",
            json!("git.example:2222"),
        ),
        ("git+file:///acme/widgets", Value::Null),
    ] {
        let mut statement = provenance();
        statement["predicate"]["buildDefinition"]["resolvedDependencies"][1]["uri"] = uri.into();
        let event = Event::try_from(EventParts {
            id: "1".into(),
            source: "https://ci.example/acme".into(),
            event_type: "artifact.built".into(),
            data_content_type: dsse::MEDIA_TYPE.into(),
            data: envelope(dsse::STATEMENT_TYPE, &statement.to_string()).into(),
            extensions: vec![("host".into(), "git.example".into())],
            ..EventParts::default()
        });
        let event = adapter::submitted(event.unwrap()).unwrap();
        let form: Value = serde_json::from_slice(event.normal_form().unwrap().1).unwrap();
        assert_eq!(form["source"]["host"], expected, "{uri}");
        assert_eq!(form["repo"]["full_name"], "acme/widgets", "{uri}");
    }
}

/// Tekton Chains has the pipeline's definition among the dependencies, and leaves out a source that is the same.
#[test]
fn what_tekton_ran_is_not_what_it_built() {
    let definition = |name: &str| {
        json!({
            "name": name, "uri": "git+https://git.example/tektoncd/catalog.git", "digest": { "sha1": "11".repeat(20) },
        })
    };
    let input = json!({
        "name": "inputs/result", "uri": "git+https://git.example/acme/widgets.git", "digest": { "sha1": "ab".repeat(20) },
    });
    let source = |dependencies: &[&Value]| {
        let mut statement = provenance();
        statement["predicate"]["buildDefinition"]["resolvedDependencies"] = json!(dependencies);
        let form = form(&statement);
        (form["repo"]["full_name"].clone(), form["commit"].clone())
    };
    let (built, ran) = (
        (json!("acme/widgets"), json!("ab".repeat(20))),
        (json!("tektoncd/catalog"), json!("11".repeat(20))),
    );
    for name in ["pipeline", "task", "pipelineTask"] {
        let definition = definition(name);
        assert_eq!(source(&[&definition, &input]), built, "{name}");
        assert_eq!(source(&[&input, &definition]), built, "{name}");
        assert_eq!(source(&[&definition]), ran, "{name}");
    }
}

#[test]
fn a_statement_is_found_by_each_of_its_digests_and_by_commit() {
    let event = submitted(
        "artifact.built",
        envelope(dsse::STATEMENT_TYPE, &provenance().to_string()),
    );
    let keys = IndexKey::of_normal_form(event.normal_form().unwrap().1);
    for (attribute, value) in [
        (IndexAttribute::Artifact, format!("sha256:{}", "5a".repeat(32))),
        (IndexAttribute::Artifact, format!("SHA512:{}", "6B".repeat(64))),
        (IndexAttribute::Artifact, format!("sha256:{}", "7c".repeat(32))),
        (IndexAttribute::Commit, "ab".repeat(20)),
        (IndexAttribute::Run, "run-42".to_owned()),
    ] {
        assert!(keys.contains(&IndexKey::new(attribute, &value)), "{value}");
    }
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_matter() {
    let envelope = envelope(dsse::STATEMENT_TYPE, &provenance().to_string());
    for (media_type, has_form) in [
        ("application/vnd.dsse.envelope.v1+json; charset=utf-8", true),
        ("application/vnd.dsse.envelope.v1+json ;x", true),
        ("Application/vnd.DSSE.envelope.v1+JSON", true),
        ("application/vnd.dsse.envelope.v1+jsonl", false),
        ("application/json; application/vnd.dsse.envelope.v1+json", false),
    ] {
        let event = submitted_as(media_type, "artifact.built", envelope.clone());
        assert_eq!(event.normal_form().is_some(), has_form, "{media_type}");
    }
}

#[test]
fn what_is_no_statement_has_no_form() {
    let good = provenance().to_string();
    for (payload_type, payload) in [
        ("text/plain", good.clone()),
        (dsse::STATEMENT_TYPE, good.replace("Statement/v1", "Statement/v2")),
        (dsse::STATEMENT_TYPE, "{}".to_owned()),
        (dsse::STATEMENT_TYPE, "\u{0}".to_owned()),
        (dsse::STATEMENT_TYPE, String::new()),
        (dsse::STATEMENT_TYPE, "5".to_owned()),
        // Members by their places, which serde would take.
        (
            dsse::STATEMENT_TYPE,
            r#"["https://in-toto.io/Statement/v1",[],"https://slsa.dev/provenance/v1",{}]"#.to_owned(),
        ),
        (
            dsse::STATEMENT_TYPE,
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[["n",null,{}]],"predicateType":"p"}"#
                .to_owned(),
        ),
    ] {
        let event = submitted("artifact.built", envelope(payload_type, &payload));
        assert_eq!(event.normal_form(), None, "{payload}");
    }
    for data in ["", "{}", "no envelope"] {
        assert_eq!(submitted("artifact.built", data.to_owned()).normal_form(), None);
    }
}

/// Two readers could take different ones of two members, and what they take then is not what was signed to either.
#[test]
fn a_statement_with_a_member_twice_is_refused_wherever_it_stands() {
    let good = provenance().to_string();
    let twice = |before: &str, member: &str| {
        assert!(good.contains(before), "{before}");
        good.replacen(before, &format!("{before}{member},"), 1)
    };
    let digest = format!("\"sha256\":\"{}\"", "7c".repeat(32));
    for statement in [
        twice("{", "\"subject\":[]"),
        twice("{", "\"Subject\":[]"),
        twice("{", "\"predicateType\":\"x\""),
        twice("\"digest\":{", &digest),
        twice("\"predicate\":{", "\"runDetails\":{}"),
        twice("\"runDetails\":{", "\"builder\":{}"),
        twice("\"metadata\":{", "\"invocationId\":\"run-43\""),
    ] {
        let refused = Envelope::parse(envelope(dsse::STATEMENT_TYPE, &statement).as_bytes());
        let problem = refused.unwrap_err().to_string();
        assert!(
            problem.contains(" twice at line 1 column ")
                || problem.contains(" differ in case alone at line "),
            "{statement}: {problem}"
        );
    }
}

#[test]
fn a_hundred_thousand_subjects_are_counted_and_not_kept() {
    let mut statement = provenance();
    let subject = json!({ "name": "n", "digest": { "sha256": "ab" } });
    statement["subject"] = vec![subject; 70_000].into();
    let payload = statement.to_string();
    assert!(
        payload.len() * 4 / 3 < dsse::MAX_ENVELOPE_BYTES,
        "it is within the limit"
    );
    let form = form(&statement);
    let kept = form["artifacts"].as_array().unwrap().len() as u64;
    let omitted = form["omitted"]
        .as_array()
        .unwrap()
        .iter()
        .find(|omitted| omitted["path"] == "artifacts");
    assert_eq!(kept + omitted.unwrap()["count"].as_u64().unwrap(), 70_000);
}

#[test]
fn the_type_follows_from_the_predicate_where_nobody_says_one() {
    let of = |statement: &Value| {
        let envelope = envelope(dsse::STATEMENT_TYPE, &statement.to_string());
        adapter::statement_type(&Envelope::parse(envelope.as_bytes()).unwrap()).map(|of| of.to_string())
    };
    assert_eq!(of(&provenance()).as_deref(), Some("artifact.built"));
    let mut other = provenance();
    other["predicateType"] = "https://spdx.dev/Document".into();
    assert_eq!(of(&other).as_deref(), Some("artifact.signed"));
    assert_eq!(of(&json!({})), None);
}
