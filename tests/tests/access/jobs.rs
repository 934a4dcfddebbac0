//! Tokens of CI jobs (OpenID Connect), by an issuer of our own.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use counterfoil_event::Authentication;
use counterfoil_proto::v1::{self, leaf_selector::Leaf};
use counterfoil_tests::{
    Data, Issuer, JwtKey, Server, TestLog, event, hs256_token, now_unix_s, signed, submission,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    assert_denied, on_record, reader, set_access, shown, streams::SubmitStream, submit_as, submitter,
};

/// The log's origin: what tokens are for, if nothing else was agreed on.
const AUDIENCE: &str = "test.example/main";

/// A server that believes one issuer, and a token for looking at what is recorded.
struct Guarded {
    data: Data,
    log: TestLog,
    server: Server,
    auditor: String,
}

fn access(issuer: &Issuer, more: &str) -> String {
    format!(
        r#"
        [[oidc]]
        issuer = "{}"
        {more}
        [[oidc.rule]]
        match = {{ repository_id = "482139077", environment = "production" }}
        roles = ["submit", "read"]
        source = "deployments"
        "#,
        issuer.url()
    )
}

impl Guarded {
    fn new(access: &str) -> Self {
        let (data, log) = Data::with_main_log();
        set_access(&data, access);
        let auditor = data.token(&["--role", "audit"]);
        let server = Server::start(&data, &[]);
        Self {
            data,
            log,
            server,
            auditor,
        }
    }

    async fn submit(&self, token: &str, id: &str) -> Result<u64, tonic::Status> {
        submit_as(&self.server, Some(token), id).await
    }

    async fn size(&self) -> u64 {
        let mut stream = reader(&self.server, Some(&self.auditor))
            .read_entries(v1::ReadEntriesRequest::default())
            .await
            .unwrap()
            .into_inner();
        let mut size = 0;
        while let Some(message) = stream.message().await.unwrap() {
            size += message.entries.len() as u64;
        }
        size
    }

    /// The payload of one of the log's own entries.
    async fn own(&self, id: &str) -> (u64, v1::Payload) {
        let request = v1::GetEntryRequest {
            log: String::new(),
            leaf: Some(v1::LeafSelector {
                leaf: Some(Leaf::Event(v1::EventName {
                    source: "log".to_owned(),
                    id: id.to_owned(),
                })),
            }),
            with_payload: true,
        };
        let answer = reader(&self.server, Some(&self.auditor))
            .get_entry(request)
            .await
            .unwrap();
        let answer = answer.into_inner();
        (answer.leaf_index, answer.payload.unwrap())
    }
}

fn changed(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_submits_as_its_rule_says_and_anyone_can_check_that_later() {
    let keys = [JwtKey::rsa("rsa-1"), JwtKey::p256("p256-1")];
    let issuer = Issuer::start(&[&keys[0], &keys[1]]);
    let guarded = Guarded::new(&access(&issuer, ""));
    for (key, id) in keys.iter().zip(["a", "b"]) {
        let token = key.token(&issuer.claims(AUDIENCE));
        let leaf = guarded.submit(&token, id).await.unwrap();
        let (entry, evidence) = on_record(&guarded.server, &guarded.log, &guarded.auditor, leaf).await;
        assert_eq!(
            (entry.source_id(), entry.authentication()),
            ("deployments", Authentication::Oidc)
        );
        assert_eq!(evidence["jwt"], token.as_str());
        assert_eq!(evidence["kid"], key.id.as_str());

        // The keys are on record, as the issuer served them, before the event that rests on them.
        let (place, payload) = guarded.own(evidence["keys"].as_str().unwrap()).await;
        assert!(place < leaf);
        let served = json!({ "keys": keys.iter().map(JwtKey::jwk).collect::<Vec<_>>() });
        assert_eq!(payload.data, served.to_string());
        let attributes = counterfoil_event::Attributes::decode_canonical(&payload.attributes).unwrap();
        assert_eq!(
            (attributes.event_type.as_str(), attributes.subject.as_str()),
            ("log.oidc_keys", issuer.url().as_str())
        );
        let shown = shown(&guarded.server, &guarded.log, &guarded.auditor, leaf);
        for (name, value) in [
            ("channel", "deployments"),
            ("submitter", "oidc"),
            ("evidence", token.as_str()),
        ] {
            assert!(
                shown
                    .lines()
                    .any(|line| line.starts_with(name) && line.contains(value)),
                "{shown}"
            );
        }
    }
    // Genesis, the keys once, two events.
    assert_eq!(guarded.size().await, 4);
    assert_eq!(
        issuer.asked(),
        ["/.well-known/openid-configuration", "/keys"],
        "keys are kept"
    );
    // Reading spends nothing: rights that are not to submit can be used until the token expires.
    let token = keys[0].token(&issuer.claims(AUDIENCE));
    for _ in 0..2 {
        let mut reader = reader(&guarded.server, Some(&token));
        reader
            .get_tree_head(v1::GetTreeHeadRequest::default())
            .await
            .unwrap();
    }
    guarded.submit(&token, "c").await.unwrap();
}

/// Header, claims, how it is signed; and what the server says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_what_they_claim_are_refused() {
    let (key, other, p256) = (JwtKey::rsa("k1"), JwtKey::rsa("k1"), JwtKey::p256("k2"));
    let issuer = Issuer::start(&[&key, &p256]);
    let elsewhere = Issuer::start(&[&other]);
    let guarded = Guarded::new(&access(&issuer, ""));
    let claims = || issuer.claims(AUDIENCE);
    let with = |changes: Value| key.token(&changed(&claims(), &changes));
    let header = |changes: Value| key.token_with(&changed(&key.header(), &changes), &claims());
    let now = now_unix_s();
    let good = key.token(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let text = format!("{}.{}", parts[0], parts[1]);
    let evil =
        BASE64_URL_SAFE_NO_PAD.encode(changed(&claims(), &json!({"environment": "staging"})).to_string());
    let hs256 = json!({ "alg": "HS256", "typ": "JWT", "kid": "k1" });
    let jwk_text = key.jwk().to_string();
    let refused = [
        // Time.
        (
            "expired",
            with(json!({"iat": now - 400, "exp": now - 61})),
            "has expired",
        ),
        ("not valid yet", with(json!({"nbf": now + 290})), "not valid yet"),
        (
            "issued in the future",
            with(json!({"iat": now + 290})),
            "not valid yet",
        ),
        (
            "lives too long",
            with(json!({"exp": now + 3_700})),
            "lives for too long",
        ),
        ("never expires", with(json!({"exp": null})), "lacks a claim"),
        ("has no age", with(json!({"iat": null})), "lacks a claim"),
        // Audience.
        (
            "for another",
            with(json!({"aud": "https://other.example"})),
            "has to be for",
        ),
        (
            "for a prefix",
            with(json!({"aud": "test.example/mai"})),
            "has to be for",
        ),
        ("for nobody", with(json!({"aud": null})), "lacks a claim"),
        (
            "for several",
            with(json!({"aud": [AUDIENCE, "https://other.example"]})),
            "lacks a claim",
        ),
        // Who signed it, and how.
        ("unsigned", format!("{text}."), "signature"),
        (
            "alg none",
            signed(&json!({"alg": "none", "kid": "k1"}), &claims(), |_| Vec::new()),
            "RS256 or ES256",
        ),
        (
            "alg None",
            signed(&json!({"alg": "None", "kid": "k1"}), &claims(), |_| Vec::new()),
            "RS256 or ES256",
        ),
        (
            "HMAC under the public key",
            hs256_token(key.public(), &hs256, &claims()),
            "RS256 or ES256",
        ),
        (
            "HMAC under the public key as JSON",
            hs256_token(jwk_text.as_bytes(), &hs256, &claims()),
            "RS256 or ES256",
        ),
        (
            "HMAC under nothing",
            hs256_token(b"", &hs256, &claims()),
            "RS256 or ES256",
        ),
        ("RS384", header(json!({"alg": "RS384"})), "RS256 or ES256"),
        ("PS256", header(json!({"alg": "PS256"})), "RS256 or ES256"),
        (
            "another algorithm than its key's",
            p256.token_with(&json!({"alg": "RS256", "kid": "k2"}), &claims()),
            "algorithm of its key",
        ),
        (
            "another key of the same name",
            other.token(&claims()),
            "signature is wrong",
        ),
        (
            "a key that there is not",
            header(json!({"kid": "k9"})),
            "has no key",
        ),
        ("no key", header(json!({"kid": null})), "does not name the key"),
        (
            "a key of its own",
            other.token_with(&changed(&other.header(), &json!({"jwk": other.jwk()})), &claims()),
            "signature is wrong",
        ),
        (
            "keys elsewhere",
            other.token_with(
                &changed(
                    &other.header(),
                    &json!({"jku": format!("{}/keys", elsewhere.url())}),
                ),
                &claims(),
            ),
            "signature is wrong",
        ),
        (
            "critical extensions",
            header(json!({"crit": ["x"], "x": 1})),
            "critical",
        ),
        (
            "changed",
            format!("{}.{evil}.{}", parts[0], parts[2]),
            "signature is wrong",
        ),
        ("cut", good[..good.len() - 4].to_owned(), "signature is wrong"),
        // Who issued it.
        (
            "another issuer",
            other.token(&elsewhere.claims(AUDIENCE)),
            "no tokens of this issuer",
        ),
        (
            "nearly the issuer",
            with(json!({"iss": format!("{}/", issuer.url())})),
            "no tokens of this issuer",
        ),
        ("no issuer", with(json!({"iss": null})), "iss"),
        // Once.
        ("without a name", with(json!({"jti": null})), "jti"),
        (
            "too long",
            with(json!({"padding": "x".repeat(9_000)})),
            "longer than",
        ),
    ];
    for (what, token, says) in refused {
        let answer = guarded.submit(&token, "x").await;
        let status = answer.map_err(Box::new).expect_err(what);
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        assert!(status.message().contains(says), "{what}: {status:?}");
        let http = format!("Bearer {token}");
        let headers = [("authorization", http.as_str())];
        let answer = counterfoil_tests::http_post(
            guarded.server.address(),
            "/services/collector",
            &headers,
            br#"{"event": "x"}"#,
        );
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
    }
    assert_eq!(guarded.size().await, 1, "something was recorded");
    assert_eq!(elsewhere.asked(), [""; 0]);
    // A token of 60 s ago is still good: clocks differ.
    for (id, changes) in [
        ("late", json!({"iat": now - 300, "exp": now - 50})),
        ("early", json!({"nbf": now + 50, "iat": now + 50})),
        ("one", json!({"aud": [AUDIENCE]})),
    ] {
        guarded.submit(&with(changes), id).await.unwrap();
    }
    guarded.submit(&good, "good").await.unwrap();
    let errors = guarded.server.errors();
    assert!(!errors.contains(parts[2]), "a token is in the server's log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_submits_once_over_restarts_and_in_a_crowd() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let guarded = Guarded::new(&access(&issuer, ""));
    let token = || key.token(&issuer.claims(AUDIENCE));
    let (used, unused) = (token(), token());
    guarded.submit(&used, "a").await.unwrap();
    assert_denied(
        guarded.submit(&used, "b").await,
        Code::Unauthenticated,
        "has submitted before",
    );
    // Another signature over other words with the same name is the same token.
    let again = key.token(&changed(
        &issuer.claims(AUDIENCE),
        &json!({"jti": claim(&used, "jti"), "run_id": "18"}),
    ));
    assert_denied(
        guarded.submit(&again, "c").await,
        Code::Unauthenticated,
        "has submitted before",
    );

    let crowded = token();
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..16 {
        let mut submitter = submitter(&guarded.server, Some(&crowded));
        crowd.spawn(async move {
            let event = event(format!("crowd-{number}"), "");
            submitter.submit(submission(event)).await.is_ok()
        });
    }
    let served = crowd
        .join_all()
        .await
        .into_iter()
        .filter(|served| *served)
        .count();
    assert_eq!(served, 1);

    // One call may have many events.
    let batch = v1::SubmitBatchRequest {
        log: String::new(),
        events: vec![event("batch-1", ""), event("batch-2", "")],
    };
    let batched = submitter(&guarded.server, Some(&token()))
        .submit_batch(batch)
        .await
        .unwrap();
    assert_eq!(batched.into_inner().results.len(), 2);

    // Killed, not stopped: what was spent is on disk. What was not is as good as before.
    let Guarded { data, server, .. } = guarded;
    server.kill();
    let server = Server::start(&data, &[]);
    for token in [&used, &crowded] {
        assert_denied(
            submit_as(&server, Some(token), "d").await,
            Code::Unauthenticated,
            "has submitted before",
        );
    }
    submit_as(&server, Some(&unused), "e").await.unwrap();
    server.stop();
    std::fs::write(data.path().join("spent-tokens"), "nonsense\n").unwrap();
    let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
    assert!(refused.errors.contains("spent-tokens"), "{}", refused.errors);
}

fn claim(token: &str, name: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()[name].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_replaced_signs_no_more() {
    let (old, new) = (JwtKey::p256("2026-10"), JwtKey::p256("2026-11"));
    let issuer = Issuer::start(&[&old]);
    let guarded = Guarded::new(&access(&issuer, ""));
    let leaf = guarded
        .submit(&old.token(&issuer.claims(AUDIENCE)), "a")
        .await
        .unwrap();
    let token = old.token(&issuer.claims(AUDIENCE));
    let (mut stream, _) = SubmitStream::start(submitter(&guarded.server, Some(&token)), "stream").await;
    issuer.set_keys(&[&new]);
    // Known keys are believed for an hour, so that a job does not wait for its issuer.
    guarded
        .submit(&old.token(&issuer.claims(AUDIENCE)), "b")
        .await
        .unwrap();
    // A new one shows that they are not what they were.
    guarded
        .submit(&new.token(&issuer.claims(AUDIENCE)), "c")
        .await
        .unwrap();
    assert_denied(
        guarded.submit(&old.token(&issuer.claims(AUDIENCE)), "d").await,
        Code::Unauthenticated,
        "has no key \"2026-10\"",
    );
    assert_denied(
        stream.submit().await,
        Code::Unauthenticated,
        "has no key \"2026-10\"",
    );
    // Nothing is lost of what was checked with the old one.
    let (_, evidence) = on_record(&guarded.server, &guarded.log, &guarded.auditor, leaf).await;
    let (_, payload) = guarded.own(evidence["keys"].as_str().unwrap()).await;
    assert_eq!(payload.data, json!({ "keys": [old.jwk()] }).to_string());
    // Genesis, four events, two sets of keys.
    assert_eq!(guarded.size().await, 7);
}

/// Names can be had by others once a repository is renamed or deleted, and look like each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_takes_the_name_of_another_gets_nothing() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let guarded = Guarded::new(&access(&issuer, ""));
    for changes in [
        // acme/widgets was deleted, and somebody made another.
        json!({"repository_id": "999"}),
        json!({"repository_id": "482139077 "}),
        json!({"repository_id": "0482139077"}),
        json!({"repository_id": ["482139077"]}),
        json!({"repository_id": {"482139077": true}}),
        json!({"repository_id": null}),
        json!({"environment": "production2"}),
        json!({"environment": "Production"}),
        json!({"environment": "production\u{200b}"}),
        json!({"environment": "prοduction"}),
        json!({"environment": null}),
    ] {
        let token = key.token(&changed(&issuer.claims(AUDIENCE), &changes));
        let answer = guarded.submit(&token, "x").await;
        assert_denied(
            answer,
            Code::PermissionDenied,
            "no rule of this server is for its claims",
        );
    }
    assert_eq!(guarded.size().await, 1);
    // A number is as good as its digits.
    let number = changed(&issuer.claims(AUDIENCE), &json!({"repository_id": 482_139_077}));
    guarded.submit(&key.token(&number), "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audience_binds_a_token_to_a_log() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let (data, _main) = Data::with_main_log();
    data.init("other", "blake3");
    set_access(&data, &access(&issuer, ""));
    let server = Server::start(&data, &[]);
    let submit = async |audience: &str, log: &str| {
        let token = key.token(&issuer.claims(audience));
        let request = v1::SubmitRequest {
            log: log.to_owned(),
            event: Some(event(format!("{audience}-{log}"), "")),
        };
        let answer = submitter(&server, Some(&token)).submit(request).await;
        answer.map(drop).map_err(|status| status.code())
    };
    assert_eq!(submit(AUDIENCE, "main").await, Ok(()));
    assert_eq!(submit("test.example/other", "other").await, Ok(()));
    assert_eq!(submit(AUDIENCE, "other").await, Err(Code::PermissionDenied));
    assert_eq!(
        submit("test.example/third", "main").await,
        Err(Code::Unauthenticated)
    );

    // What the file agrees on instead is for all logs of the server.
    set_access(&data, &access(&issuer, "audience = \"https://log.example\""));
    super::eventually(async || submit("https://log.example", "main").await.ok()).await;
    assert_eq!(submit("https://log.example", "other").await, Ok(()));
    assert_eq!(submit(AUDIENCE, "main").await, Err(Code::Unauthenticated));
}

/// Entries of one log show it whole to whoever may audit that log alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_submitted_reads_nothing() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let (data, main) = Data::with_main_log();
    let other = data.init("other", "blake3");
    let agreed = "https://log.example";
    let audits = access(&issuer, &format!("audience = \"{agreed}\"")).replace("\"read\"", "\"audit\"");
    set_access(&data, &audits);
    let auditor = data.token(&["--role", "audit", "--log", "main"]);
    let server = Server::start(&data, &[]);
    let read = async |token: &str, with_payload: bool| {
        let request = v1::GetEntryRequest {
            log: other.name.clone(),
            leaf: Some(v1::LeafSelector {
                leaf: Some(Leaf::LeafIndex(0)),
            }),
            with_payload,
        };
        reader(&server, Some(token)).get_entry(request).await
    };
    let token = key.token(&issuer.claims(agreed));
    read(&token, true).await.unwrap();
    let leaf = submit_as(&server, Some(&token), "a").await.unwrap();
    let (_, evidence) = on_record(&server, &main, &auditor, leaf).await;
    let shown = evidence["jwt"].as_str().unwrap();
    for with_payload in [false, true] {
        assert_denied(
            read(shown, with_payload).await,
            Code::Unauthenticated,
            "has submitted before",
        );
    }
    // Its job verifies the receipt.
    let head = v1::GetTreeHeadRequest::default();
    reader(&server, Some(&token)).get_tree_head(head).await.unwrap();
}

/// GitLab gives a job one token for all its life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_be_used_again_where_the_file_says_so() {
    let key = JwtKey::rsa("k1");
    let issuer = Issuer::start(&[&key]);
    let guarded = Guarded::new(&access(&issuer, "reuse = \"until-expiry\""));
    let now = now_unix_s();
    let token = key.token(&changed(
        &issuer.claims(AUDIENCE),
        // Good for half a minute more.
        &json!({"iat": now - 7_000, "exp": now - 30, "jti": null}),
    ));
    let mut leaf = 0;
    for id in ["a", "b", "c"] {
        leaf = guarded.submit(&token, id).await.unwrap();
    }
    let (entry, evidence) = on_record(&guarded.server, &guarded.log, &guarded.auditor, leaf).await;
    assert_eq!(entry.authentication(), Authentication::Oidc);
    // Whoever reads the evidence could submit with it: the signature is not there.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(evidence["jwt_without_signature"], signed);
    assert!(!evidence.to_string().contains(signature));

    let long = json!({"iat": now - 10, "exp": now + 86_400});
    let long = key.token(&changed(&issuer.claims(AUDIENCE), &long));
    assert_denied(
        guarded.submit(&long, "d").await,
        Code::Unauthenticated,
        "lives for too long",
    );
    // A stream that goes on is asked again.
    let (mut stream, _) = SubmitStream::start(submitter(&guarded.server, Some(&token)), "stream").await;
    tokio::time::sleep(Duration::from_secs((now + 32).saturating_sub(now_unix_s()))).await;
    assert_denied(stream.submit().await, Code::Unauthenticated, "has expired");
}
