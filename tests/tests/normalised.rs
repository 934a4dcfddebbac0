//! Normal forms from end to end: made by the server, found by the index, made again by whoever reads.
#![allow(clippy::unwrap_used)]

use std::process::Output;

use counterfoil_event::{Annotations, Attributes, EventKey};
use counterfoil_merkle::{LeafIndex, Suite};
use counterfoil_proto::v1;
use counterfoil_store::{Store, StoreOptions};
use counterfoil_tests::{
    Data, Hook, Refusal, Server, TestLog, counterfoil, counterfoild, entry_at, head, http_post, recorded,
    submission,
};
use serde_json::{Value, json};
use tonic::Code;

/// A log, and whoever reads it.
struct Reader<'a> {
    data: &'a Data,
    log: &'a TestLog,
    server: &'a Server,
}

impl Reader<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        counterfoil()
            .args(arguments)
            .env("COUNTERFOIL_SERVER", format!("http://{}", self.server.address()))
            .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
            .env("XDG_STATE_HOME", self.data.beside("state"))
            .output()
            .unwrap()
    }

    /// The indices of what is found.
    fn find(&self, attribute: &str, value: &str) -> Vec<u64> {
        let found = self.run(&["find", "--json", attribute, value]);
        if found.status.code() == Some(5) {
            return vec![];
        }
        assert!(found.status.success(), "{found:?}");
        let found: Value = serde_json::from_slice(&found.stdout).unwrap();
        let entries = found["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["leaf_index"].as_u64().unwrap())
            .collect()
    }

    /// Asserts that the form of an entry is what its adapter makes.
    fn assert_renormalises(&self, index: u64, adapter: &str) {
        let got = self.run(&["get", &index.to_string(), "--renormalise", "--json"]);
        assert!(got.status.success(), "{got:?}");
        let got: Value = serde_json::from_slice(&got.stdout).unwrap();
        assert_eq!(got["renormalised"], json!({"adapter": adapter, "same": true}));
    }
}

/// What is on record: attributes, and what the log added.
async fn on_record(server: &Server, log: &TestLog, index: u64) -> (Attributes, Annotations) {
    let answer = entry_at(&mut server.reader(), log, index).await.unwrap();
    let payload = answer.payload.unwrap();
    (
        Attributes::decode_canonical(&payload.attributes).unwrap(),
        Annotations::decode_canonical(&payload.annotations).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_found_by_all_that_it_says() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &["--host", "github.example"]);
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let (sha, digest) = ("c".repeat(40), format!("sha256:{}", "d".repeat(64)));
    let deployment = json!({
        "action": "created",
        "deployment_status": {"id": 1, "state": "success", "created_at": "2026-11-22T09:30:00Z"},
        "deployment": {"id": 2, "sha": sha, "environment": "production", "ref": "main"},
        "workflow_run": {"id": 3_141_592, "run_number": 4, "triggering_actor": {"id": 6, "login": "trigger"}},
        "repository": {"id": 5, "full_name": "Acme/Widgets"},
        "sender": {"id": 7, "login": "octocat", "type": "User"},
    });
    let release = json!({
        "action": "published", "release": {"tag_name": "v1", "assets": [{"name": "a", "digest": digest}]},
        "repository": {"id": 5, "full_name": "Acme/Widgets"},
    });
    for (number, (event, body)) in [("deployment_status", deployment), ("release", release)]
        .iter()
        .enumerate()
    {
        let answer = hook.deliver(
            server.address(),
            event,
            &format!("d{number}"),
            body.to_string().as_bytes(),
        );
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    head(&mut server.reader(), &log, 3).await;

    let (attributes, annotations) = on_record(&server, &log, 1).await;
    assert_eq!(attributes.event_type, "deploy.succeeded");
    assert_eq!(
        (&*attributes.subject, &*attributes.time),
        ("Acme/Widgets", "2026-11-22T09:30:00Z")
    );
    let form: Value = serde_json::from_slice(&annotations.normalised).unwrap();
    assert_eq!(annotations.adapter, "github/4");
    assert_eq!(
        (&form["outcome"], &form["source"]["host"]),
        (&json!("success"), &json!("github.example"))
    );
    assert_eq!(form["id"], "292430182/d0");

    let reader = Reader {
        data: &data,
        log: &log,
        server: &server,
    };
    for (attribute, value, expected) in [
        ("--commit", sha.as_str(), &[1][..]),
        ("--repository", "acme/widgets", &[1, 2]),
        ("--repository", "5", &[1, 2]),
        ("--run", "3141592", &[1]),
        ("--actor", "octocat", &[1]),
        ("--actor", "7", &[1]),
        ("--actor", "trigger", &[1]),
        ("--environment", "production", &[1]),
        ("--artifact", &digest, &[2]),
        ("--artifact", "sha256:00", &[]),
    ] {
        assert_eq!(reader.find(attribute, value), expected, "{attribute} {value}");
    }
    reader.assert_renormalises(1, "github/4");
    reader.assert_renormalises(2, "github/4");
    let shown = reader.run(&["get", "1"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for fact in [
        "outcome      success",
        "actor        octocat",
        "environment  production",
    ] {
        assert!(shown.contains(fact), "{shown}");
    }

    // What the index says is what the entries say: thrown away and made again, it is the same.
    server.stop();
    data.assert_sound();
    let rebuilt = counterfoild()
        .args(["fsck", "--rebuild-index", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    data.assert_sound();

    // The check says what mends it, and does not call that a mend which is none.
    let check = |options: &[&str]| {
        let mut command = counterfoild();
        command.arg("fsck").args(options).arg("--data").arg(data.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let database = data.path().join("logs/main/db");
    let open = || Store::open(&database, &StoreOptions::default()).unwrap();
    let store = open();
    let rows = store.index_rows().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(!rows.is_empty());
    store.remove_index_rows(&rows).unwrap();
    drop(store);
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("  searches may miss entries, and nothing worse") && !said.contains("evidence"),
        "{said}"
    );
    assert_eq!(check(&["--rebuild-index"]).0, Some(0));

    let store = open();
    let mut batch = store.batch();
    let (index, other) = (LeafIndex::new(1).unwrap(), Suite::Blake3.leaf_hash(b""));
    batch.put_leaf(index, b"changed", b"", &other, &EventKey::new("", ""));
    batch.write().unwrap();
    store.remove_index_rows(&rows).unwrap();
    drop(store);
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("  keep this directory as evidence") && !said.contains("searches may miss entries"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_delivery_renormalises_and_is_found_by_its_repository() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let Some(bodies) = recorded("github-webhooks") else {
        return;
    };
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    for (number, (_, event, body)) in bodies.iter().enumerate() {
        let answer = hook.deliver(server.address(), event, &format!("d{number}"), body);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let size = bodies.len() as u64 + 1;
    head(&mut server.reader(), &log, size).await;
    let reader = Reader {
        data: &data,
        log: &log,
        server: &server,
    };
    let mut expected = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for (index, (path, _, body)) in (1..).zip(&bodies) {
        let body: Value = serde_json::from_slice(body).unwrap();
        if let Some(name) = body["repository"]["full_name"].as_str() {
            expected.entry(name.to_ascii_lowercase()).or_default().push(index);
        }
        let (attributes, annotations) = on_record(&server, &log, index).await;
        assert!(!annotations.normalised.is_empty(), "{path:?}");
        let found = counterfoil_event::adapter::differences(
            &annotations,
            &attributes,
            bodies[usize::try_from(index).unwrap() - 1].2.as_slice(),
        );
        assert_eq!(found, Ok(vec![]), "{path:?}");
    }
    assert!(!expected.is_empty());
    for (name, indices) in &expected {
        assert_eq!(&reader.find("--repository", name), indices, "{name}");
    }
    reader.assert_renormalises(1, "github/4");
    reader.assert_renormalises(size - 1, "github/4");
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_json_is_on_record_all_the_same() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let answer = hook.deliver(server.address(), "push", "d1", b"no JSON at all");
    assert_eq!(answer.status, 201, "{answer:?}");
    head(&mut server.reader(), &log, 2).await;
    let (attributes, annotations) = on_record(&server, &log, 1).await;
    assert_eq!(attributes.event_type, "github.push");
    assert_eq!((&*annotations.adapter, &*annotations.normalised), ("", &b""[..]));
}

const NORMALISED: &str = "application/vnd.counterfoil.event+json";

fn normalised(id: &str, data: &Value) -> v1::Event {
    v1::Event {
        id: id.to_owned(),
        source: "https://ci.example/acme".to_owned(),
        r#type: "ci.run.finished".to_owned(),
        data_content_type: NORMALISED.to_owned(),
        data: data.to_string().into(),
        ..v1::Event::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_normalised_event_is_found_however_it_was_submitted() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let form = json!({"repo": {"full_name": "acme/widgets"}, "commit": "c".repeat(40), "mine": true});
    server
        .submitter()
        .submit(submission(normalised("1", &form)))
        .await
        .unwrap();
    let cloud_event = json!({
        "specversion": "1.0", "id": "2", "source": "https://ci.example/acme", "type": "deploy.succeeded",
        "datacontenttype": NORMALISED, "data": form,
    });
    let structured = ("content-type", "application/cloudevents+json");
    let post = |event: &Value| {
        http_post(
            server.address(),
            "/logs/main/events",
            &[structured],
            event.to_string().as_bytes(),
        )
    };
    assert_eq!(post(&cloud_event).status, 201);
    head(&mut server.reader(), &log, 3).await;

    let reader = Reader {
        data: &data,
        log: &log,
        server: &server,
    };
    assert_eq!(reader.find("--repository", "acme/widgets"), [1, 2]);
    assert_eq!(reader.find("--commit", &"c".repeat(40)), [1, 2]);
    for index in [1, 2] {
        reader.assert_renormalises(index, "event/1");
        let (_, annotations) = on_record(&server, &log, index).await;
        let form: Value = serde_json::from_slice(&annotations.normalised).unwrap();
        assert_eq!(
            (&form["id"], &form["mine"]),
            (&json!(index.to_string()), &json!(true))
        );
    }

    // One that is none is refused, with the path of what is wrong.
    let wrong = json!({"actor": {"login": 7}});
    let status = server
        .submitter()
        .submit(submission(normalised("3", &wrong)))
        .await
        .unwrap_err();
    let refusal = Refusal::new(Code::InvalidArgument, "INVALID_EVENT", "event.data.actor.login");
    assert_eq!(Refusal::from(&status), refusal);
    let mut bad = cloud_event.clone();
    (bad["id"], bad["data"]) = (json!("3"), wrong);
    let answer = post(&bad);
    let answer_json: Value = serde_json::from_str(&String::from_utf8_lossy(&answer.body)).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer_json["error"]["fields"][0]["field"], "data.actor.login");
    let submitted = reader.run(&[
        "submit",
        "--type",
        "x",
        "--source",
        "s",
        "--content-type",
        NORMALISED,
        "--data",
        r#"{"outcome":"good"}"#,
    ]);
    assert_eq!(submitted.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&submitted.stderr).contains("outcome: is none of success"),
        "{submitted:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapped_command_and_an_imported_commit_are_found() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let reader = Reader {
        data: &data,
        log: &log,
        server: &server,
    };
    let made = data.beside("made");
    std::fs::write(&made, "abc").unwrap();
    let ran = reader.run(&[
        "run",
        "--type",
        "deploy",
        "--source",
        "s",
        "--environment",
        "staging-7",
        "--artifact",
        made.to_str().unwrap(),
        "--",
        "true",
    ]);
    assert!(ran.status.success(), "{ran:?}");
    head(&mut server.reader(), &log, 3).await;
    assert_eq!(reader.find("--environment", "staging-7"), [1, 2]);
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(reader.find("--artifact", digest), [2]);
    reader.assert_renormalises(2, "event/1");

    // As `counterfoil import git` submits it.
    let commit = "809ff3fb0c6269567ce1933023253919b780fe5e";
    let object = "commit 196\0tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor Ann <ann@acme.example> 1700000000 +0130\n\
        committer Bob <bob@acme.example> 1700000001 -0800\n\nMake widgets\n\nauthor Eve <eve@acme.example> 1 +0000\n";
    let imported = v1::Event {
        id: commit.to_owned(),
        source: "git:x".to_owned(),
        r#type: "scm.commit".to_owned(),
        data_content_type: "application/x-git-object".to_owned(),
        data: object.into(),
        ..v1::Event::default()
    };
    server.submitter().submit(submission(imported)).await.unwrap();
    head(&mut server.reader(), &log, 4).await;
    assert_eq!(reader.find("--commit", commit), [3]);
    assert_eq!(reader.find("--actor", "Ann"), [3]);
    reader.assert_renormalises(3, "git/1");
    server.stop();
    data.assert_sound();
}
