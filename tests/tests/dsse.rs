//! DSSE envelopes and CDEvents end to end: enrolled keys, what entries say of who signed, and what is found by a digest.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use counterfoil_proto::v1::{self, submit_result::Outcome};
use counterfoil_tests::{Data, Server, TestLog, counterfoil, counterfoild, event};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Envelopes that OpenSSL signed, each with its key.
const VECTORS: &str = include_str!("../../crates/dsse/tests/signed/envelopes.json");
const PATIENCE: Duration = Duration::from_secs(20);

struct Signed {
    /// The key's file.
    key: PathBuf,
    /// The envelope's file.
    envelope: PathBuf,
}

struct Setting {
    data: Data,
    log: TestLog,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let (data, log) = Data::with_main_log();
        let server = Server::start(&data, &[]);
        Self { data, log, server }
    }

    /// The vector of a kind of key, as files.
    fn signed(&self, kind: &str) -> Signed {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = vectors["envelopes"].as_array().unwrap();
        let vector = vectors.iter().find(|vector| vector["kind"] == kind).unwrap();
        let write = |name: &str| {
            let path = self.data.beside(&format!("{kind}.{name}"));
            fs::write(&path, vector[name].as_str().unwrap()).unwrap();
            path
        };
        Signed {
            key: write("key"),
            envelope: write("envelope"),
        }
    }

    fn keys(&self, arguments: &[&str]) -> Output {
        let mut command = counterfoild();
        command
            .arg("dsse-key")
            .args(arguments)
            .arg("--data")
            .arg(self.data.path());
        command.output().unwrap()
    }

    fn enrol(&self, name: &str, key: &Path) {
        let added = self.keys(&["add", name, "--key", key.to_str().unwrap()]);
        assert!(added.status.success(), "{added:?}");
    }

    fn counterfoil(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil();
        command
            .arg("--json")
            .args(arguments)
            .env("COUNTERFOIL_SERVER", format!("http://{}", self.server.address()))
            .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
            .env("XDG_STATE_HOME", self.data.beside("state"))
            .env_remove("COUNTERFOIL_TOKEN")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let output = self.counterfoil(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn submit(&self, envelope: &Path, source: &str) -> u64 {
        let submitted = self.run(&["submit", "--dsse", envelope.to_str().unwrap(), "--source", source]);
        submitted["leaf_index"].as_u64().unwrap()
    }

    fn entry(&self, index: u64) -> Value {
        self.run(&["get", &index.to_string()])
    }

    /// How the submitter of an envelope is authenticated now; each try is an event of its own.
    fn authentication_until(&self, envelope: &Path, wanted: &str) -> u64 {
        let begun = Instant::now();
        for attempt in 0.. {
            let index = self.submit(envelope, &format!("{wanted}-{attempt}"));
            if self.entry(index)["entry_fields"]["authentication"] == wanted {
                return index;
            }
            assert!(begun.elapsed() < PATIENCE, "never {wanted}");
            sleep(Duration::from_millis(200));
        }
        unreachable!("the loop has no end")
    }
}

fn evidence(entry: &Value) -> Value {
    serde_json::from_str(entry["payload"]["annotations"]["evidence"].as_str().unwrap()).unwrap()
}

#[test]
fn an_envelope_is_its_signer_s_once_the_key_is_enrolled_and_on_record() {
    let setting = Setting::new();
    let signed = setting.signed("p256");
    // Nobody knows the key: what is recorded is that somebody sent it.
    let before = setting.submit(&signed.envelope, "before");
    assert_eq!(setting.entry(before)["entry_fields"]["authentication"], "none");

    setting.enrol("release", &signed.key);
    let index = setting.authentication_until(&signed.envelope, "dsse");
    let entry = setting.entry(index);
    let evidence = evidence(&entry);
    let keys = evidence["dsse_keys"].as_object().unwrap();
    let (fingerprint, name) = keys.iter().next().unwrap();
    assert_eq!((keys.len(), name), (1, &json!("release")));
    assert_eq!(evidence["sent_by"], "none");
    assert_eq!(entry["entry_fields"]["event_type"], "artifact.built");

    // The key itself is an entry, found by its fingerprint.
    let recorded = setting.run(&[
        "get",
        "--source",
        "log",
        "--id",
        &format!("dsse-key-{fingerprint}"),
    ]);
    assert_eq!(recorded["entry_fields"]["event_type"], "log.dsse_key");
    assert!(
        recorded["leaf_index"].as_u64().unwrap() < index,
        "before anything rests on it"
    );

    // What it says is indexed by digest and commit.
    for (attribute, value) in [
        ("artifact", "sha256:".to_owned() + &"5a".repeat(32)),
        ("run", "run-42".to_owned()),
    ] {
        let found = setting.run(&["find", &format!("--{attribute}"), &value]);
        let text = found.to_string();
        assert!(
            text.contains(&format!("\"leaf_index\":{index}")),
            "{attribute}: {text}"
        );
    }

    // Believed no more, the same envelope is somebody's again. What is on record stays.
    assert!(setting.keys(&["remove", "release"]).status.success());
    setting.authentication_until(&signed.envelope, "none");
    assert_eq!(setting.entry(index)["entry_fields"]["authentication"], "dsse");
    drop(setting.server);
    setting.data.assert_sound();
}

/// The search for who signed what arrives together in a stream may be longer than that of a call. Each envelope is accepted, as
/// it would be alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes_of_a_stream_do_not_suffer_from_their_neighbours() {
    const ENVELOPES: u64 = 2_000;
    let (data, _log) = Data::with_main_log();
    // As many keys as there may be: 128 of the envelopes would be too many for one call.
    for number in 0..64 {
        let key = data.beside(&format!("{number}.pem"));
        fs::write(&key, KeyPair::generate().unwrap().public_key_pem()).unwrap();
        let mut add = counterfoild();
        add.args(["dsse-key", "add", &format!("key-{number}"), "--data"])
            .arg(data.path())
            .arg("--key")
            .arg(key);
        let added = add.output().unwrap();
        assert!(added.status.success(), "{added:?}");
    }
    let server = Server::start(&data, &[]);
    let signatures = [r#"{"sig":"AA=="}"#; 8].join(",");
    let envelope = format!(r#"{{"payloadType":"x","payload":"","signatures":[{signatures}]}}"#);
    let requests = (0..ENVELOPES).map(move |sequence| v1::SubmitStreamRequest {
        log: String::new(),
        sequence,
        event: Some(v1::Event {
            data_content_type: "application/vnd.dsse.envelope.v1+json".to_owned(),
            ..event(sequence.to_string(), envelope.clone())
        }),
    });
    let mut submitter = server.submitter();
    let answers = submitter.submit_stream(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        for result in answer.results {
            assert!(matches!(result.outcome, Some(Outcome::Accepted(_))), "{result:?}");
            accepted += 1;
        }
    }
    assert_eq!(accepted, ENVELOPES);
    server.stop();
    data.assert_sound();
}

#[test]
fn keys_that_can_not_be_listed_are_an_error() {
    let setting = Setting::new();
    setting.enrol("release", &setting.signed("p256").key);
    let output = counterfoild()
        .args(["dsse-key", "list", "--data"])
        .arg(setting.data.path())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("the keys can't be printed"), "{errors}");
}

#[test]
fn anyone_checks_the_signature_again_offline() {
    let setting = Setting::new();
    let signed = setting.signed("ed25519");
    let other = setting.signed("p384");
    let receipt = setting.data.beside("built.tlog-proof");
    let (envelope, receipt) = (signed.envelope.to_str().unwrap(), receipt.to_str().unwrap());
    setting.run(&[
        "submit",
        "--dsse",
        envelope,
        "--source",
        "ci",
        "--receipt",
        receipt,
    ]);
    let verify = |key: &Path| {
        let mut command = setting.counterfoil(&["verify", receipt, "--payload", envelope, "--dsse-key"]);
        command
            .arg(key)
            .env_remove("COUNTERFOIL_SERVER")
            .output()
            .unwrap()
    };
    let holds = verify(&signed.key);
    assert_eq!(holds.status.code(), Some(0), "{holds:?}");
    let verdict: Value = serde_json::from_slice(&holds.stdout).unwrap();
    assert!(verdict["dsse_key"].as_str().unwrap().starts_with("sha256:"));
    let not_by_it = verify(&other.key);
    assert_eq!(not_by_it.status.code(), Some(1), "{not_by_it:?}");
    let no_key = verify(Path::new(envelope));
    assert_eq!(no_key.status.code(), Some(2), "{no_key:?}");
}

#[test]
fn what_says_that_it_is_an_envelope_has_to_be_one() {
    let setting = Setting::new();
    for payload in [
        "{}",
        "not json",
        r#"{"payloadType":"x","payload":"","signatures":[]}"#,
        // Two readers could take two things for what was signed.
        r#"{"payloadType":"x","payload":"","Payload":"AA==","signatures":[{"sig":"AA=="}]}"#,
        // A statement that has its subject twice.
        r#"{"payloadType":"application/vnd.in-toto+json","payload":"eyJzdWJqZWN0IjpbXSwic3ViamVjdCI6W119","signatures":[{"sig":"AA=="}]}"#,
    ] {
        let refused = setting
            .counterfoil(&[
                "submit",
                "--type",
                "artifact.signed",
                "--source",
                "s",
                "--content-type",
                "application/vnd.dsse.envelope.v1+json",
                "--data",
                payload,
            ])
            .output()
            .unwrap();
        let error: Value = serde_json::from_slice(&refused.stderr).unwrap_or_else(|_| panic!("{refused:?}"));
        assert_eq!(error["error"]["reason"], "INVALID_EVENT", "{payload}");
    }
}

#[test]
fn keys_are_listed_and_bad_ones_are_refused() {
    let setting = Setting::new();
    let signed = setting.signed("rsa-pss");
    setting.enrol("builder", &signed.key);
    let list = String::from_utf8(setting.keys(&["list"]).stdout).unwrap();
    assert!(
        list.starts_with("builder  sha256:") && list.contains("RSA in all logs"),
        "{list}"
    );
    let again = setting.keys(&["add", "other", "--key", signed.key.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("enrolled already, as `builder`"));
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for (kind, pem) in vectors["refused_keys"].as_object().unwrap() {
        let path = setting.data.beside(kind);
        fs::write(&path, pem.as_str().unwrap()).unwrap();
        let refused = setting.keys(&["add", "weak", "--key", path.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(3), "{kind}: {refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("keys are Ed25519"),
            "{refused:?}"
        );
    }
    let unknown_log = setting.keys(&[
        "add",
        "x",
        "--key",
        signed.key.to_str().unwrap(),
        "--log",
        "nowhere",
    ]);
    assert!(String::from_utf8_lossy(&unknown_log.stderr).contains("no log `nowhere`"));
    assert!(!setting.keys(&["remove", "nobody"]).status.success());
}

#[test]
fn a_cdevent_goes_in_and_another_comes_out() {
    let setting = Setting::new();
    let cdevent = json!({
        "context": { "version": "0.4.1", "id": "e-1", "source": "https://ci.example/acme",
            "type": "dev.cdevents.pipelinerun.finished.0.2.0", "timestamp": "2026-11-22T09:30:00Z" },
        "subject": { "id": "run-42", "type": "pipelineRun", "content": { "pipelineName": "deploy", "outcome": "failure" } },
    });
    let cloudevent = json!({
        "specversion": "1.0", "id": "e-1", "source": "https://ci.example/acme",
        "type": "dev.cdevents.pipelinerun.finished.0.2.0", "datacontenttype": "application/json", "data": cdevent,
    });
    let file = setting.data.beside("event.json");
    fs::write(&file, cloudevent.to_string()).unwrap();
    let submitted = setting.run(&["submit", "--cloudevent", file.to_str().unwrap()]);
    let index = submitted["leaf_index"].to_string();
    let out = setting.run(&["get", &index, "--cdevent"]);
    assert_eq!(out["data"], cdevent, "what came as a CDEvent goes out as it came");

    // What came as something else.
    let event = json!({ "id": "e-2", "type": "ci.run.finished", "outcome": "success", "run": { "id": "43", "path": "release" } });
    let submitted = setting.run(&[
        "submit",
        "--type",
        "ci.run.finished",
        "--source",
        "https://ci.example/acme",
        "--id",
        "e-2",
        "--time",
        "2026-11-22T10:00:00Z",
        "--content-type",
        "application/vnd.counterfoil.event+json",
        "--data",
        &event.to_string(),
    ]);
    let out = setting.run(&["get", &submitted["leaf_index"].to_string(), "--cdevent"]);
    assert_eq!(out["type"], "dev.cdevents.pipelinerun.finished.0.2.0");
    assert_eq!(out["data"]["subject"]["id"], "43");
    assert_eq!(out["data"]["subject"]["content"]["outcome"], "success");
    assert_eq!(out["data"]["context"]["timestamp"], "2026-11-22T10:00:00Z");

    let none = setting.counterfoil(&["get", "0", "--cdevent"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}
