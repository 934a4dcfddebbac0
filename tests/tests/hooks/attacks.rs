//! What nobody who lacks the secret gets recorded.

use counterfoil_proto::v1;
use counterfoil_tests::{Answer, Connection, Data, Hook, Refusal, Server, entry_at, event, submission};
use serde_json::json;
use tonic::Code;

use crate::{assert_refused, assert_taken, on_record};

const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

type Headers = Vec<(String, String)>;

fn without(headers: &Headers, name: &str) -> Headers {
    headers
        .iter()
        .filter(|header| header.0 != name)
        .cloned()
        .collect()
}

fn with(headers: &Headers, name: &str, value: &str) -> Headers {
    let mut headers = without(headers, name);
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

fn post(server: &Server, path: &str, headers: &Headers, body: &[u8]) -> Answer {
    Connection::to(server.address()).post(path, headers, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_body_that_was_signed_with_the_secret_is_taken() {
    let (data, log) = Data::with_main_log();
    let hooks = [
        Hook::add(&data, "github", "github", &[]),
        Hook::add(&data, "gitlab", "gitlab", &[]),
        Hook::add(&data, "gitea", "gitea", &[]),
    ];
    let server = Server::start(&data, &[]);
    for hook in &hooks {
        let signature = match hook.provider.as_str() {
            "github" => "x-hub-signature-256",
            "gitlab" => "webhook-signature",
            _ => "x-gitea-signature",
        };
        let path = hook.path();
        let honest = hook.headers("push", "d1", BODY);
        let other_secret = Hook::add(&data, &format!("other-{}", hook.id), &hook.provider, &[]);
        let forged = hook.with_secret(&other_secret.secret).headers("push", "d1", BODY);
        assert_refused(&post(&server, &path, &forged, BODY), 401, "WRONG_SIGNATURE");
        let tampered = br#"{"ref":"refs/heads/evil"}"#;
        assert_refused(&post(&server, &path, &honest, tampered), 401, "WRONG_SIGNATURE");
        assert_refused(
            &post(&server, &path, &honest, &BODY[..BODY.len() - 1]),
            401,
            "WRONG_SIGNATURE",
        );
        for nonsense in ["sha256=", "sha256=zz", "v1,", "x", "sha1=00"] {
            let nonsense = with(&honest, signature, nonsense);
            assert_refused(&post(&server, &path, &nonsense, BODY), 401, "WRONG_SIGNATURE");
        }
        let unsigned = without(&honest, signature);
        assert_refused(&post(&server, &path, &unsigned, BODY), 401, "MISSING_SIGNATURE");
        let mut twice = honest.clone();
        twice.push((signature.to_owned(), "x".to_owned()));
        assert_refused(&post(&server, &path, &twice, BODY), 400, "BAD_HEADER");
    }
    // Nothing of all that is on record: the next entry is the first.
    assert!(entry_at(&mut server.reader(), &log, 1).await.is_err());
    assert_eq!(
        assert_taken(&hooks[0].deliver(server.address(), "push", "d1", BODY), false),
        1
    );
}

/// Gitea and Forgejo send the header, empty, where the webhook has no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_signature_is_none() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "forge", "forgejo", &[]);
    let server = Server::start(&data, &[]);
    let headers = without(&hook.headers("push", "d1", BODY), "x-gitea-signature");
    for signature in ["x-gitea-signature", "x-forgejo-signature"] {
        let unsigned = with(&headers, signature, "");
        let answer = post(&server, &hook.path(), &unsigned, BODY);
        let refused = assert_refused(&answer, 401, "MISSING_SIGNATURE");
        assert!(
            refused["message"].as_str().unwrap().contains(signature),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_takes_what_is_meant_for_it_alone() {
    let (data, _log) = Data::with_main_log();
    let one = Hook::add(&data, "one", "github", &[]);
    let two = Hook::add(&data, "two", "github", &[]);
    let gitea = Hook::add(&data, "forge", "forgejo", &[]);
    let server = Server::start(&data, &[]);
    let headers = one.headers("push", "d1", BODY);
    assert_refused(
        &post(&server, &two.path(), &headers, BODY),
        401,
        "WRONG_SIGNATURE",
    );

    // Even if somebody gave both the same secret: the provider is the path's, and not what headers claim.
    let headers = gitea.with_secret(&one.secret).headers("push", "d1", BODY);
    assert!(headers.iter().any(|(name, _)| name == "x-hub-signature-256"));
    assert_refused(&post(&server, &one.path(), &headers, BODY), 400, "WRONG_PROVIDER");
    let headers = one.with_secret(&gitea.secret).headers("push", "d1", BODY);
    assert_refused(
        &post(&server, &gitea.path(), &headers, BODY),
        401,
        "MISSING_SIGNATURE",
    );

    // The same delivery to two sources is two events.
    assert_eq!(
        assert_taken(&one.deliver(server.address(), "push", "d1", BODY), false),
        1
    );
    assert_eq!(
        assert_taken(&two.deliver(server.address(), "push", "d1", BODY), false),
        2
    );
    assert_eq!(
        assert_taken(&gitea.deliver(server.address(), "push", "d1", BODY), false),
        3
    );
}

/// Whoever could submit under a webhook's source would have their own event in the place of a delivery to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_the_name_of_a_delivery_to_come() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let (source, id) = ("hooks/github", "292430182/d1");
    let forged = v1::Event {
        source: source.to_owned(),
        ..event(id, BODY)
    };
    let status = server.submitter().submit(submission(forged)).await.unwrap_err();
    assert_eq!(
        Refusal::from(&status),
        Refusal::new(Code::InvalidArgument, "INVALID_EVENT", "event.source"),
        "{status:?}"
    );
    let forged = json!({"specversion": "1.0", "id": id, "source": source, "type": "scm.push", "data": {}});
    let headers = vec![(
        "content-type".to_owned(),
        "application/cloudevents+json".to_owned(),
    )];
    let answer = post(
        &server,
        "/logs/main/events",
        &headers,
        forged.to_string().as_bytes(),
    );
    assert_refused(&answer, 400, "INVALID_EVENT");

    let leaf = assert_taken(&hook.deliver(server.address(), "push", "d1", BODY), false);
    let record = on_record(&server, &log, leaf).await;
    assert_eq!(
        (leaf, &*record.attributes.source, &*record.attributes.id),
        (1, source, id)
    );
    assert_eq!(
        (&record.form["type"], &record.form["source"]["id"]),
        (&json!("scm.push"), &json!("github"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_signature_is_refused_where_time_is_signed() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "gitlab", "gitlab", &[]);
    let server = Server::start(&data, &[]);
    let headers = hook.headers_at(1_700_000_000, "Push Hook", "d1", BODY);
    assert_refused(
        &post(&server, &hook.path(), &headers, BODY),
        401,
        "STALE_SIGNATURE",
    );
    // A fresh time over the old signature is no signature.
    let fresh = hook.headers("Push Hook", "d1", BODY);
    let time = &fresh
        .iter()
        .find(|(name, _)| name == "webhook-timestamp")
        .unwrap()
        .1;
    let forged = with(&headers, "webhook-timestamp", time);
    assert_refused(
        &post(&server, &hook.path(), &forged, BODY),
        401,
        "WRONG_SIGNATURE",
    );
    assert_taken(&post(&server, &hook.path(), &fresh, BODY), false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_delivery_is_told_so() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let headers = hook.headers("push", "d1", BODY);
    for path in [
        "/hooks/other",
        "/hooks/log",
        "/hooks/..",
        "/hooks/Github",
        "/hooks/github.toml",
    ] {
        assert_refused(&post(&server, path, &headers, BODY), 404, "UNKNOWN_SOURCE");
    }
    let get = Connection::to(server.address()).send("GET", &hook.path(), "");
    assert_refused(&get, 405, "WRONG_METHOD");
    assert_eq!(get.header("allow"), Some("POST"));
    for media_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/jsonp",
        "",
    ] {
        let headers = with(&headers, "content-type", media_type);
        assert_refused(
            &post(&server, &hook.path(), &headers, BODY),
            415,
            "WRONG_MEDIA_TYPE",
        );
    }
    let encoded = with(&headers, "content-encoding", "gzip");
    assert_refused(
        &post(&server, &hook.path(), &encoded, BODY),
        415,
        "WRONG_ENCODING",
    );
    let long = "x".repeat(200);
    for (name, value) in [
        ("x-github-event", ""),
        ("x-github-delivery", ""),
        ("x-github-event", long.as_str()),
        ("x-github-delivery", &long),
        ("x-github-hook-id", &long),
    ] {
        let headers = if value.is_empty() {
            without(&headers, name)
        } else {
            with(&headers, name, value)
        };
        let refused = assert_refused(&post(&server, &hook.path(), &headers, BODY), 400, "BAD_HEADER");
        assert!(refused["message"].as_str().unwrap().contains(name), "{refused}");
    }
    let charset = with(&headers, "content-type", "Application/JSON; charset=utf-8");
    assert_taken(&post(&server, &hook.path(), &charset, BODY), false);
}
