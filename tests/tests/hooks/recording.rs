//! What is accepted is on record, once.

use std::{fs, process::Command};

use counterfoil_tests::{Connection, Data, Hook, Server, counterfoil, head, recorded};
use serde_json::{Value, json};

use crate::{assert_refused, assert_taken, json, on_record};

/// What GitLab calls the event of a body.
fn gitlab_event(body: &[u8]) -> &'static str {
    let body: Value = serde_json::from_slice(body).unwrap();
    match body["object_kind"].as_str().unwrap() {
        "push" => "Push Hook",
        "tag_push" => "Tag Push Hook",
        "merge_request" => "Merge Request Hook",
        "issue" => "Issue Hook",
        "note" => "Note Hook",
        kind => panic!("what does GitLab call {kind}?"),
    }
}

/// What Gitea calls the event of a recorded file.
fn gitea_event(file: &str) -> &'static str {
    for (prefix, event) in [
        ("issue_comment", "issue_comment"),
        ("issues", "issues"),
        ("pull_request_comment", "pull_request_comment"),
        ("pull_request", "pull_request"),
    ] {
        if file.starts_with(prefix) {
            return event;
        }
    }
    "create"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recorded_delivery_is_accepted_and_on_record() {
    let (data, log) = Data::with_main_log();
    let hooks = ["github", "gitlab", "gitea"].map(|provider| Hook::add(&data, provider, provider, &[]));
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let mut taken = Vec::new();
    for hook in &hooks {
        let Some(bodies) = recorded(&format!("{}-webhooks", hook.provider)) else {
            return;
        };
        // As providers do: many deliveries on one connection.
        let mut connection = Connection::to(server.address());
        for (number, (path, folder, body)) in bodies.into_iter().enumerate() {
            let event = match hook.provider.as_str() {
                "github" => folder,
                "gitlab" => gitlab_event(&body).to_owned(),
                _ => gitea_event(path.file_name().unwrap().to_str().unwrap()).to_owned(),
            };
            let headers = hook.headers(&event, &format!("delivery-{number}"), &body);
            let leaf = assert_taken(&connection.post(&hook.path(), &headers, &body), false);
            assert_eq!(leaf, taken.len() as u64 + 1, "{path:?}");
            taken.push((leaf, hook, event, number, body, path));
        }
    }
    for (leaf, hook, event, number, body, path) in &taken {
        let record = on_record(&server, &log, *leaf).await;
        assert_eq!(record.body, *body, "{path:?}");
        assert_eq!(record.entry.source_id(), hook.id);
        assert_eq!(record.attributes.source, format!("hooks/{}", hook.id));
        assert_eq!(record.attributes.data_content_type, "application/json");
        assert!(
            record.attributes.id.ends_with(&format!("delivery-{number}")),
            "{:?}",
            record.attributes.id
        );
        assert_eq!(record.evidence["event"], json!(event));
        assert_eq!(
            record.evidence["delivery_id"],
            json!(format!("delivery-{number}"))
        );
    }
    let published = head(&mut server.reader(), &log, taken.len() as u64 + 1).await;
    assert_eq!(published.size().get(), taken.len() as u64 + 1);
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_says_who_signed_and_lets_nobody_sign() {
    let (data, log) = Data::with_main_log();
    let github = Hook::add(&data, "github", "github", &[]);
    let signing = Hook::add(&data, "gitlab", "gitlab", &[]);
    let file = data.beside("secret");
    std::fs::write(&file, "a-token-of-some-length\n").unwrap();
    let token = Hook::add(
        &data,
        "token",
        "gitlab",
        &["--secret-file", file.to_str().unwrap()],
    );
    let token = token.with_secret("a-token-of-some-length");
    let gitea = Hook::add(&data, "gitea", "gitea", &[]);
    let server = Server::start(&data, &[]);

    let mut evidence = Vec::new();
    for (hook, event, header) in [
        (&github, "ping", "x-hub-signature-256"),
        (&gitea, "push", "x-gitea-signature"),
        (&signing, "Push Hook", "webhook-signature"),
        (&token, "Push Hook", "x-gitlab-token"),
    ] {
        let body = br#"{"zen":"Keep it simple."}"#;
        let headers = hook.headers(event, "d1", body);
        let (signed, mut others): (Vec<_>, Vec<_>) =
            headers.iter().cloned().partition(|(name, _)| name == header);
        let post = |headers: &[(String, String)], body: &[u8]| {
            Connection::to(server.address()).post(&hook.path(), headers, body)
        };
        let leaf = assert_taken(&post(&headers, body), false);
        let record = on_record(&server, &log, leaf).await;
        assert_eq!(record.evidence["header"], header);
        let text = record.evidence.to_string();
        let tag = signed[0]
            .1
            .trim_start_matches("sha256=")
            .trim_start_matches("v1,");
        for secret in [tag, hook.secret.trim_start_matches("whsec_")] {
            assert!(!text.contains(secret), "{text}");
        }

        // Nothing that it says lets the body that is on record in again, under another id.
        for (name, value) in &mut others {
            if name.ends_with("-delivery") || ["idempotency-key", "webhook-id"].contains(&name.as_str()) {
                "d2".clone_into(value);
            }
        }
        let said = record.evidence.as_object().unwrap().values();
        for said in said.filter_map(Value::as_str) {
            for value in [said.to_owned(), format!("sha256={said}"), format!("v1,{said}")] {
                others.push((header.to_owned(), value));
                assert_refused(&post(&others, &record.body), 401, "WRONG_SIGNATURE");
                others.pop();
            }
        }
        evidence.push(record.evidence);
    }
    assert_eq!(evidence[0]["scheme"], "hmac-sha256");
    assert_eq!(evidence[0]["hook_id"], "292430182");
    assert_eq!(evidence[1]["scheme"], "hmac-sha256");
    assert_eq!(evidence[2]["scheme"], "standard-webhooks");
    assert_eq!(evidence[2]["signed_id"], "d1");
    assert_eq!(evidence[3]["scheme"], "token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_comes_again_is_the_same_entry() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let deliver =
        |server: &Server, id: &str, body: &str| hook.deliver(server.address(), "push", id, body.as_bytes());
    let first = assert_taken(&deliver(&server, "d1", r#"{"ref":"refs/heads/main"}"#), false);
    let answer = deliver(&server, "d1", r#"{"ref":"refs/heads/main"}"#);
    assert_eq!(assert_taken(&answer, true), first);
    // Answered means durable: nothing is flushed on the way out.
    server.kill();

    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    assert_eq!(
        assert_taken(&deliver(&server, "d1", r#"{"ref":"refs/heads/main"}"#), true),
        first
    );
    let second = assert_taken(&deliver(&server, "d2", r#"{"ref":"refs/heads/main"}"#), false);
    assert_eq!(second, first + 1);

    // The same id with other bytes is a finding, which is on record, once.
    for _ in 0..2 {
        let refused = deliver(&server, "d1", r#"{"ref":"refs/heads/evil"}"#);
        assert_eq!(
            assert_refused(&refused, 409, "EVENT_CONFLICT")["existing_leaf_index"],
            json!(first)
        );
    }
    head(&mut server.reader(), &log, second + 2).await;
    let answer = counterfoil_tests::entry_at(&mut server.reader(), &log, second + 1)
        .await
        .unwrap();
    let entry = counterfoil_event::Entry::decode(&answer.entry).unwrap();
    assert_eq!(entry.event_type(), "log.conflict");
    let third = assert_taken(&deliver(&server, "d3", "{}"), false);
    assert_eq!(third, second + 2);
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_body_is_recorded_whatever_it_says() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let bodies: [&[u8]; 6] = [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"{\"a\":1,\"a\":2}",
        b"[[[[[[[[[[",
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        let answer = hook.deliver(server.address(), "invented_event", &format!("d{number}"), body);
        let leaf = assert_taken(&answer, false);
        assert_eq!(on_record(&server, &log, leaf).await.body, body);
    }
}

/// Forgejo has no name for some events, and sends an empty one beside their type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_without_a_name_is_called_by_its_type() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "forge", "forgejo", &[]);
    let server = Server::start(&data, &[]);
    let body = br#"{"action":"created","package":{"name":"widgets","type":"npm","version":"1.0.0"}}"#;
    let deliver = |event: &str, delivery: &str, more: &[(&str, &str)]| {
        let mut headers = hook.headers(event, delivery, body);
        headers.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Connection::to(server.address()).post(&hook.path(), &headers, body)
    };
    for (number, name) in ["x-gitea-event-type", "x-forgejo-event-type"]
        .into_iter()
        .enumerate()
    {
        let answer = deliver("", &format!("d{number}"), &[(name, "package")]);
        let record = on_record(&server, &log, assert_taken(&answer, false)).await;
        assert_eq!(
            (&record.evidence["event"], &record.form["type"]),
            (&json!("package"), &json!("artifact.published"))
        );
    }
    // A name counts for more, and there has to be one or the other, once.
    let answer = deliver("push", "d2", &[("x-gitea-event-type", "package")]);
    let record = on_record(&server, &log, assert_taken(&answer, false)).await;
    assert_eq!(record.evidence["event"], "push");
    let none: &[(&str, &str)] = &[];
    let twice = [("x-gitea-event", ""), ("x-gitea-event-type", "package")];
    for (more, header) in [
        (none, "x-gitea-event-type"),
        (&[("x-gitea-event-type", "")][..], "x-gitea-event-type"),
        (&twice[..], "x-gitea-event"),
    ] {
        let refused = assert_refused(&deliver("", "d3", more), 400, "BAD_HEADER");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(&format!("header {header} is")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_says_where_it_is_and_what_fetches_the_receipt() {
    let (data, log) = Data::with_main_log();
    data.init("builds", "sha256");
    let hook = Hook::add(&data, "github", "github", &["--log", "builds"]);
    let server = Server::start(&data, &[]);
    let answer = hook.deliver(server.address(), "ping", "d1", b"{}");
    let taken = json(&answer);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        (&taken["log"], &taken["leaf_index"]),
        (&json!("builds"), &json!(1))
    );
    assert_eq!(taken["origin"], "test.example/builds");
    assert_eq!(taken["receipt"], "counterfoil receipt 1 --log builds");
    assert_eq!(taken["leaf_hash"].as_str().unwrap().len(), 64);
    // The other log has its first entry, and no more.
    assert!(
        counterfoil_tests::entry_at(&mut server.reader(), &log, 1)
            .await
            .is_err()
    );
}

/// `counterfoil bench webhooks` is what measures them: what it says is acknowledged is on record, signed as GitHub signs.
#[test]
fn a_bench_delivers_what_it_says() {
    let (data, _) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let bodies = data.beside("bodies");
    for (event, body) in [
        ("ping", r#"{"zen":"Keep it logically awesome."}"#),
        (
            "push",
            r#"{"ref":"refs/heads/main","after":"5f0a62d1c4e0c0b5b4d1a5e1b1f4bb6e5a0f9d4c"}"#,
        ),
    ] {
        fs::create_dir_all(bodies.join(event)).unwrap();
        fs::write(bodies.join(event).join("one.json"), body).unwrap();
    }
    fs::write(bodies.join("notes.txt"), "no body").unwrap();
    fs::write(data.beside("secret"), format!("{}\n", hook.secret)).unwrap();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let bench = |secret: &str, bodies: &str| -> Command {
        let mut command = counterfoil();
        command
            .args([
                "bench",
                "webhooks",
                "--source",
                "github",
                "--duration",
                "1",
                "--rate",
                "50",
            ])
            // One for each delivery, so that none waits for another's answer.
            .args([
                "--connections",
                "50",
                "--json",
                "--server",
                &format!("http://{}", server.address()),
            ])
            .arg("--secret-file")
            .arg(data.beside(secret))
            .arg("--bodies")
            .arg(data.beside(bodies));
        command
    };
    let output = bench("secret", "bodies").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts =
        ["acknowledged", "duplicates", "refused", "failed", "not_started"].map(|name| report[name].as_u64());
    assert_eq!(counts, [50, 0, 0, 0, 0].map(Some), "{report}");
    assert_eq!(report["body_bytes"], 25 * (36 + 76));

    // Another secret signs nothing that counts, and says why.
    fs::write(data.beside("other"), "another secret than that").unwrap();
    let output = bench("other", "bodies").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["refused"], 50);
    assert!(
        report["first_problem"].as_str().unwrap().starts_with("401"),
        "{report}"
    );

    fs::create_dir(data.beside("empty")).unwrap();
    let output = bench("secret", "empty").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // All of the first run, and nothing of the others.
    let next = hook.deliver(server.address(), "ping", "the next", b"{}");
    assert_eq!(assert_taken(&next, false), 51);
}
