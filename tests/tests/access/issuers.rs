//! Issuers that are away, slow, or hostile. Whatever they do, no token gets in that should not, nobody else waits, and the server
//! asks nobody that its file does not name.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use counterfoil_tests::{Data, Document, Issuer, JwtKey, Refusal, Server};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{assert_denied, set_access, submit_as};

const AUDIENCE: &str = "test.example/main";

fn believe(issuers: &[&Issuer]) -> String {
    let one = |issuer: &&Issuer| {
        format!(
            "[[oidc]]\nissuer = \"{}\"\n[[oidc.rule]]\nmatch = {{ repository_id = \"482139077\" }}\nroles = [\"submit\"]\nsource = \"jobs\"\n",
            issuer.url()
        )
    };
    issuers.iter().map(one).collect()
}

#[track_caller]
fn assert_undecided(answer: Result<u64, Status>, what: &str) {
    let status = answer.unwrap_err();
    assert_eq!(
        Refusal::from(&status),
        Refusal::new(Code::Unavailable, "IDENTITY_UNAVAILABLE", ""),
        "{what}: {status:?}"
    );
}

/// Somebody whom the server has no business with. Counts who connects.
fn bystander() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    thread::spawn(move || {
        for _ in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (url, visits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_issuer_should_not_answer_lets_nobody_in() {
    let key = JwtKey::p256("k1");
    let (elsewhere, visits) = bystander();
    let many: Vec<_> = (0..100_000).map(|_| json!({})).collect();
    let few = vec![key.jwk(); 65];
    let twice = vec![key.jwk(); 2];
    let mut padded = key.jwk();
    padded["padding"] = "x".repeat(64 << 10).into();
    let keys = |keys: serde_json::Value| Document::Text(json!({ "keys": keys }).to_string());
    let lies: Vec<(&str, Document)> = vec![
        ("an error", Document::Failure),
        ("no JSON", Document::Text("keys".to_owned())),
        ("nothing", Document::Text(String::new())),
        ("no keys", keys(json!([]))),
        (
            "keys that are no list",
            Document::Text(json!({ "keys": key.jwk() }).to_string()),
        ),
        ("keys nested deep", Document::Text("[".repeat(60_000))),
        ("100,000 keys", keys(json!(many))),
        ("65 keys", keys(json!(few))),
        ("two keys of one name", keys(json!(twice))),
        ("a long key", keys(json!([padded]))),
        ("keys without end", Document::Endless),
        ("a redirect", Document::Redirect(format!("{elsewhere}/keys"))),
        (
            "a symmetric key",
            keys(json!([{ "kty": "oct", "kid": "k1", "k": "AAAA", "alg": "HS256" }])),
        ),
    ];
    let discoveries = |issuer: &Issuer| {
        let with = |name: &str, value: &str| {
            let mut discovery = issuer.discovery();
            discovery[name] = value.into();
            Document::Text(discovery.to_string())
        };
        vec![
            ("an error", Document::Failure),
            ("a redirect", Document::Redirect(format!("{elsewhere}/"))),
            ("documents without end", Document::Endless),
            (
                "the name of another",
                with("issuer", "https://token.actions.githubusercontent.com"),
            ),
            (
                "keys at another port",
                with("jwks_uri", &format!("{elsewhere}/keys")),
            ),
            (
                "keys at a private address",
                with("jwks_uri", "http://10.0.0.1/keys"),
            ),
            (
                "keys of the machine's host",
                with("jwks_uri", "http://169.254.169.254/latest/meta-data/"),
            ),
            ("keys in a file", with("jwks_uri", "file:///etc/passwd")),
            ("keys nowhere", with("jwks_uri", "")),
        ]
    };
    // Each has an issuer of its own, as an issuer is asked a few times a minute only.
    let mut issuers = Vec::new();
    for (what, document) in lies {
        let issuer = Issuer::start(&[]);
        issuer.set_key_document(document);
        issuers.push((format!("keys: {what}"), issuer));
    }
    for number in 0..discoveries(&Issuer::start(&[])).len() {
        let issuer = Issuer::start(&[&key]);
        let (what, document) = discoveries(&issuer).swap_remove(number);
        issuer.set_discovery(document);
        issuers.push((format!("discovery: {what}"), issuer));
    }
    let (data, _log) = Data::with_main_log();
    let all: Vec<_> = issuers.iter().map(|(_, issuer)| issuer).collect();
    set_access(&data, &believe(&all));
    let server = Server::start(&data, &[]);
    for (what, issuer) in &issuers {
        let token = key.token(&issuer.claims(AUDIENCE));
        assert_undecided(submit_as(&server, Some(&token), "x").await, what);
        // Mended, it serves: no lie is remembered.
        issuer.set_discovery(Document::Text(issuer.discovery().to_string()));
        issuer.set_keys(&[&key]);
        submit_as(&server, Some(&token), what).await.unwrap();
    }
    assert_eq!(visits.load(Ordering::Relaxed), 0, "the server asked a bystander");
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_issuer_holds_up_its_own_tokens_only() {
    let key = JwtKey::p256("k1");
    let (slow, quick) = (Issuer::start(&[&key]), Issuer::start(&[&key]));
    slow.set_key_document(Document::Stalled);
    let (data, _log) = Data::with_main_log();
    set_access(&data, &believe(&[&slow, &quick]));
    let farm = data.token(&["--role", "submit", "--source", "farm"]);
    let server = Server::start(&data, &[]);
    let held_up = AtomicBool::new(true);
    // As many as there are threads, and more.
    let waiting = async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..32 {
            let token = key.token(&slow.claims(AUDIENCE));
            let mut submitter = super::submitter(&server, Some(&token));
            let event = counterfoil_tests::event(format!("slow-{number}"), "");
            all.spawn(async move {
                let answer = submitter.submit(counterfoil_tests::submission(event)).await;
                answer.unwrap_err().code()
            });
        }
        let codes = all.join_all().await;
        held_up.store(false, Ordering::Relaxed);
        codes
    };
    let others = async {
        let mut served = 0;
        // Others are served while the slow one is waited for.
        while served < 20 {
            submit_as(&server, Some(&farm), &format!("farm-{served}"))
                .await
                .unwrap();
            let token = key.token(&quick.claims(AUDIENCE));
            submit_as(&server, Some(&token), &format!("quick-{served}"))
                .await
                .unwrap();
            served += 1;
        }
        held_up.load(Ordering::Relaxed)
    };
    let (codes, meanwhile) = tokio::join!(waiting, others);
    assert!(codes.iter().all(|code| *code == Code::Unavailable), "{codes:?}");
    assert!(meanwhile, "others waited too");
    // Nobody asked it once for each token.
    assert!(slow.asked().len() <= 8, "{:?}", slow.asked());
}

/// Anyone can make calls and take them back, and an issuer is asked a few times a minute only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_taken_back_do_not_use_up_the_attempts() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[]);
    issuer.set_key_document(Document::Stalled);
    let (data, _log) = Data::with_main_log();
    set_access(&data, &believe(&[&issuer]));
    let server = Server::start(&data, &[]);
    let token = || key.token(&issuer.claims(AUDIENCE));
    for _ in 0..4 {
        let (token, patience) = (token(), Duration::from_millis(500));
        let call = submit_as(&server, Some(&token), "taken back");
        assert!(timeout(patience, call).await.is_err(), "the issuer answered");
    }
    issuer.set_keys(&[&key]);
    submit_as(&server, Some(&token()), "good").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_keys_do_not_make_the_server_ask_and_ask() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let (data, _log) = Data::with_main_log();
    set_access(&data, &believe(&[&issuer]));
    let server = Server::start(&data, &[]);
    submit_as(&server, Some(&key.token(&issuer.claims(AUDIENCE))), "a")
        .await
        .unwrap();
    for number in 0..100 {
        let mut header = key.header();
        header["kid"] = format!("unknown-{number}").into();
        let token = key.token_with(&header, &issuer.claims(AUDIENCE));
        let answer = submit_as(&server, Some(&token), "x").await;
        match number {
            0..3 => assert_denied(answer, Code::Unauthenticated, "has no key"),
            // Nobody asked whether it has this one.
            _ => assert_undecided(answer, "a key after many others"),
        }
    }
    assert_eq!(issuer.asked().len(), 8, "four times two documents");
    // Meanwhile, and when the issuer is away, the known keys are as good as before.
    issuer.set_discovery(Document::Failure);
    for id in ["b", "c"] {
        submit_as(&server, Some(&key.token(&issuer.claims(AUDIENCE))), id)
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let errors = server.errors();
    assert!(
        errors.matches("fetched the issuer's keys").count() <= 4,
        "{errors}"
    );
}
