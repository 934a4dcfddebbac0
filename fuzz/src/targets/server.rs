//! What the server reads of those who want in: deliveries of webhooks, tokens, certificates, and who may do what.

use std::sync::LazyLock;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use counterfoil_event::SourceId;
use counterfoil_hooks::{Provider, Source};
use counterfoil_server::fuzzing;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::{event::check_event, head_and_body, text};
use crate::Target;

pub(super) const DELIVERY: Target = Target {
    name: "delivery",
    about: "webhooks: lines of `name: value`, an empty line, the body",
    seeds: delivery_seeds,
    words: &[
        "content-type: application/json\n",
        "x-github-event: push\n",
        "x-github-delivery: ",
        "x-github-hook-id: ",
        "x-hub-signature-256: sha256=",
        "x-gitea-event: push\n",
        "x-gitea-signature: ",
        "x-gitlab-event: Push Hook\n",
        "x-gitlab-token: ",
        "webhook-signature: v1,",
        "webhook-id: ",
        "webhook-timestamp: ",
    ],
    max_bytes: 16 << 10,
    run: delivery,
};

const SECRET: &str = "0123456789abcdef";
const TOKEN: &str = "a-token-of-some-length";
/// The example of Standard Webhooks' reference libraries: this secret, id, time and body have the signature below.
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SIGNED_AT_S: u64 = 1_614_265_330;
const SIGNED: &str = "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\nwebhook-timestamp: 1614265330\nwebhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\n";
const SIGNED_BODY: &str = r#"{"test": 2432232314}"#;
const BODY: &str = r#"{"ref":"refs/heads/main","repository":{"id":1}}"#;

static SOURCES: LazyLock<Vec<(SourceId, Source)>> = LazyLock::new(|| {
    let source = |provider: Provider, secrets: &[&str]| {
        let mut secrets = secrets.iter().map(|secret| secret.parse().unwrap());
        let first = secrets.next().unwrap();
        let mut source = Source::new(provider, "main".to_owned(), None, first).unwrap();
        secrets.for_each(|secret| source.add_secret(secret).unwrap());
        (provider.as_str().parse().unwrap(), source)
    };
    vec![
        source(Provider::GitHub, &[SECRET]),
        source(Provider::Gitea, &[SECRET]),
        source(Provider::GitLab, &[SIGNING_KEY, TOKEN]),
    ]
});

fn tag(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn delivery_seeds() -> Vec<Vec<u8>> {
    let tag = tag(BODY.as_bytes());
    let json = "content-type: application/json\n";
    [
        format!("{json}x-github-event: push\nx-github-delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\nx-github-hook-id: 12\nx-hub-signature-256: sha256={tag}\n\n{BODY}"),
        format!("{json}x-gitea-event: push\nx-gitea-delivery: 72d3162e\nx-gitea-signature: {tag}\n\n{BODY}"),
        format!("{json}x-forgejo-event: push\nx-forgejo-delivery: 72d3162e\nx-forgejo-signature: {tag}\n\n{BODY}"),
        format!("{json}x-gitlab-event: Push Hook\nx-gitlab-event-uuid: 1-2-3\nx-gitlab-token: {TOKEN}\n\n{BODY}"),
        format!("{json}x-gitlab-event: Push Hook\n{SIGNED}\n{SIGNED_BODY}"),
        format!("content-type: text/plain\nx-github-event: push\n\n{BODY}"),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

/// Only what a secret signed is taken, as it was sent, and no secret is kept with it.
fn delivery(input: &[u8]) {
    let (head, body) = head_and_body(input);
    let headers: Vec<(&[u8], &[u8])> = head
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.windows(2).position(|pair| pair == b": ")?;
            Some((&line[..colon], &line[colon + 2..]))
        })
        .collect();
    for (id, source) in SOURCES.iter() {
        let sent = Bytes::copy_from_slice(body);
        let Some((event, submitter)) = fuzzing::delivered(id, source, &headers, sent, SIGNED_AT_S) else {
            continue;
        };
        let evidence = submitter.evidence();
        check_event(&event);
        assert_eq!(&event.data()[..], body);
        assert_eq!(event.source(), format!("hooks/{id}"));
        serde_json::from_str::<Value>(evidence).unwrap();
        let head = String::from_utf8_lossy(head);
        match source.provider {
            Provider::GitHub | Provider::Gitea => {
                assert!(head.to_ascii_lowercase().contains(&tag(body)), "{head}");
                assert!(!evidence.contains(SECRET) || head.contains(SECRET));
            }
            Provider::GitLab => {
                assert!(head.contains(TOKEN) || body == SIGNED_BODY.as_bytes(), "{head}");
                assert!(!evidence.contains(TOKEN) || head.matches(TOKEN).count() > 1);
            }
        }
    }
}

pub(super) const BEARER: Target = Target {
    name: "bearer",
    about: "API tokens; tokens of jobs, an empty line, and the issuer's keys; the claims of such a token",
    seeds: bearer_seeds,
    words: &[
        "cft_",
        "_",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.",
        "\"kty\":\"RSA\"",
        "\"kid\":\"a\"",
        "\"alg\":\"none\"",
        "\"crv\":\"P-256\"",
        "{\"keys\":[",
        "\"aud\":\"log.example\"",
        "\"nbf\":1795340000",
    ],
    max_bytes: 12 << 10,
    run: bearer,
};

/// RFC 7515, appendix A.2: a token and the key that signed it. It names no key, so the set gives its own a name.
const JWS: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const JWKS: &str = r#"{"keys":[{"kty":"RSA","kid":"a","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},{"kty":"EC","kid":"b","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","use":"sig","alg":"ES256"}]}"#;

/// Of the example in appendix A.3, which the second of these keys signed.
const ES256_SIGNATURE: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
/// Good at [`NOW`].
const CLAIMS: &str =
    r#"{"iss":"https://issuer.example","aud":"log.example","iat":1795339990,"exp":1795340290,"jti":"x"}"#;
const NOW: i64 = 1_795_340_000;
/// How far an issuer's clock may be from ours.
const LEEWAY_S: i64 = 60;
/// The longest life of a token that serves once, and of one that serves until it expires.
const MAX_LIVES_S: [(bool, i64); 2] = [(false, 60 * 60), (true, 24 * 60 * 60)];

fn bearer_seeds() -> Vec<Vec<u8>> {
    let with_id = JWS.replacen("eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ", 1);
    let none = JWS.replacen("eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJub25lIn0", 1);
    // All of it is good but the signature, which the key made for something else.
    let signed_elsewhere = |algorithm: &str, key: &str, signature: &str| {
        let header = format!("{{\"alg\":\"{algorithm}\",\"kid\":\"{key}\"}}");
        let [header, claims] = [header.as_str(), CLAIMS].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{claims}.{signature}\n\n{JWKS}")
    };
    let (_, rs256_signature) = JWS.rsplit_once('.').unwrap();
    [
        format!("cft_0123456789abcdef_{}", "0".repeat(64)),
        format!("{JWS}\n\n{JWKS}"),
        format!("{with_id}\n\n{JWKS}"),
        format!("{none}\n\n{{\"keys\":[]}}"),
        signed_elsewhere("RS256", "a", rs256_signature),
        signed_elsewhere("ES256", "b", ES256_SIGNATURE),
        CLAIMS.to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

/// An API token has one spelling. Nobody here has a key, so no token of a job is believed, however good its claims are. Claims are
/// good for the one that they are for, in their time, and for no longer than a token may live.
fn bearer(input: &[u8]) {
    let (token, keys) = head_and_body(input);
    let Some(token) = text(token) else { return };
    if let Some(written) = fuzzing::rewrite_token(token) {
        assert_eq!(written, token);
    }
    assert_eq!(fuzzing::verified_audience(token, keys, NOW), None);
    for (is_reused, max_life_s) in MAX_LIVES_S {
        let Some(audience) = fuzzing::believed_audience(token.as_bytes(), is_reused, NOW) else {
            continue;
        };
        let claims: Value = serde_json::from_str(token).unwrap();
        let asked_for = match &claims["aud"] {
            Value::Array(several) if several.len() == 1 => &several[0],
            one => one,
        };
        assert_eq!(asked_for, &Value::String(audience));
        let [issued, expires] = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
        assert!(issued - LEEWAY_S <= NOW && NOW <= expires + LEEWAY_S, "{token}");
        assert!(expires - issued <= max_life_s, "{token}");
        if let Some(not_before) = claims.get("nbf") {
            assert!(not_before.as_i64().unwrap() - LEEWAY_S <= NOW, "{token}");
        }
    }
}

pub(super) const ACCESS: Target = Target {
    name: "access",
    about: "access.toml, and what the server keeps of tokens",
    seeds: access_seeds,
    words: &[
        "[[oidc]]\n",
        "[[oidc.rule]]\n",
        "[mtls]\n",
        "[[mtls.rule]]\n",
        "match = {",
        "roles = [",
        "\"submit\"",
        "\"admin\"",
        "source = ",
        "logs = [",
        "hash = \"blake3:",
    ],
    max_bytes: 8 << 10,
    run: access,
};

fn access_seeds() -> Vec<Vec<u8>> {
    let config = r#"
anonymous = ["read"]
[[oidc]]
issuer = "https://token.actions.githubusercontent.com"
[[oidc.rule]]
match = { repository_id = "12", environment = "production" }
roles = ["submit", "read"]
source = "github-production"
logs = ["main"]
[[oidc]]
issuer = "http://127.0.0.1:1"
audience = "https://log.example.org"
reuse = "until-expiry"
[[oidc.rule]]
match = { project_id = "34" }
roles = ["submit"]
source = "gitlab"
[mtls]
ca = "client-ca.pem"
[[mtls.rule]]
match = { spiffe = "spiffe://example.org/runner" }
roles = ["submit"]
source = "runners"
[[mtls.rule]]
match = { dns = "Audit.Example.org" }
roles = ["audit"]
"#;
    let record = format!(
        "hash = \"blake3:{}\"\nroles = [\"submit\"]\nsource = \"ci\"\nlogs = [\"main\"]\ncreated = \"2026-11-23T01:02:03Z\"\nexpires = \"2026-12-23T00:00:00Z\"\nnote = \"the \\\"build\\\" farm\"\n",
        "0".repeat(64)
    );
    [config, "anonymous = []\n", &record]
        .map(|seed| seed.as_bytes().to_vec())
        .to_vec()
}

/// A token's file says the same when it is written again; nothing makes everyone an administrator.
fn access(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Some(written) = fuzzing::rewrite_token_record(text) {
        assert_eq!(fuzzing::rewrite_token_record(&written), Some(written));
    }
    if fuzzing::is_access_config(text) {
        let everyone = format!("anonymous = [\"admin\"]\n{}", text.replacen("anonymous", "#", 1));
        assert!(!fuzzing::is_access_config(&everyone));
    }
}

pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    about: "client certificates in DER",
    seeds: certificate_seeds,
    words: &["spiffe://", "\x06\x03\x55\x1d\x11", "\x17\x0d", "\x18\x0f"],
    max_bytes: 9 << 10,
    run: certificate,
};

fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![hex::decode(include_str!("client-certificate.hex").trim()).unwrap()]
}

/// It is read or refused. That it is strictly DER, TLS has checked before, with another parser.
fn certificate(input: &[u8]) {
    if fuzzing::is_certificate(input) {
        assert!(input.len() <= 8 * 1024);
    }
}

pub(super) const DISCOVERY: Target = Target {
    name: "oidc_discovery",
    about: "discovery documents of issuers",
    seeds: discovery_seeds,
    words: &[
        "{\"issuer\":\"https://issuer.example/tenant\"",
        "\"jwks_uri\":\"https://issuer.example/keys\"",
        "@",
        "\\\\",
        ":443",
        "https:",
        "\\u002f",
        "%2f",
    ],
    max_bytes: 4 << 10,
    run: discovery,
};

const ISSUER: &str = "https://issuer.example/tenant";

fn discovery_seeds() -> Vec<Vec<u8>> {
    [
        "https://issuer.example/keys",
        "https://issuer.example:443/tenant/keys?v=1#a",
        "https://issuer.example@other.example/keys",
        "https://issuer.example.other.example/",
        "http://issuer.example/keys",
        "/keys",
    ]
    .map(|keys| format!("{{\"issuer\":\"{ISSUER}\",\"jwks_uri\":\"{keys}\",\"more\":[1]}}").into_bytes())
    .to_vec()
}

/// Keys are asked for where the issuer is, and nowhere else.
fn discovery(input: &[u8]) {
    let Some(url) = fuzzing::keys_url(ISSUER, input) else {
        return;
    };
    let rest = url.strip_prefix("https://").unwrap();
    let authority = rest.split('/').next().unwrap();
    let host = authority.rsplit('@').next().unwrap();
    assert_eq!(host, "issuer.example", "{url}");
}

pub(super) const SPENT: Target = Target {
    name: "spent_tokens",
    about: "the file of the job tokens that were used",
    seeds: spent_seeds,
    words: &["\n", " ", "1795340000 ", "-1 ", "00", "\0\0\0\0"],
    max_bytes: 8 << 10,
    run: spent,
};

fn spent_seeds() -> Vec<Vec<u8>> {
    let line = |until: i64, digits: &str| format!("{until} {}\n", digits.repeat(32));
    let two = line(1_795_340_000, "0a") + &line(1_795_340_001, "ff");
    let torn = two.clone() + &"\0".repeat(20) + &line(1_795_340_002, "0b")[20..];
    [two.clone(), two + "17953", torn, String::new(), line(-1, "AB")]
        .map(String::into_bytes)
        .to_vec()
}

/// What is read says the same when it is written again, and every whole line was read.
fn spent(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Some(written) = fuzzing::rewrite_spent_tokens(text) else {
        return;
    };
    assert!(written.lines().count() <= text.lines().count());
    assert_eq!(fuzzing::rewrite_spent_tokens(&written), Some(written));
}

pub(super) const ARRIVING: Target = Target {
    name: "arriving",
    about: "bodies of gRPC calls: a byte for the length of the pieces that they come in, then the messages",
    seeds: arriving_seeds,
    words: &["\0\0\0\0\0", "\0\0\0\0\x01", "\x01\0\0\x01\0"],
    max_bytes: 2 << 10,
    run: arriving,
};

fn arriving_seeds() -> Vec<Vec<u8>> {
    let message = |bytes: u8| [vec![0, 0, 0, 0, bytes], vec![7; usize::from(bytes)]].concat();
    let body = [message(3), message(0), message(200)].concat();
    let in_pieces = |length: u8, body: &[u8]| [&[length][..], body].concat();
    let lengths = [0, 3, 4, 100].map(|length| in_pieces(length, &body));
    let cut = [0, 255].map(|length| in_pieces(length, &body[..body.len() - 1]));
    [&lengths[..], &cut].concat()
}

/// Of a message that is not complete as much is held as has come of it, however the body is cut, and nothing else.
fn arriving(input: &[u8]) {
    let Some((length, body)) = input.split_first() else {
        return;
    };
    let length = usize::from(*length) + 1;
    let pieces: Vec<&[u8]> = body.chunks(length).collect();
    let held = fuzzing::held_after(&pieces);
    assert_eq!(held.len(), pieces.len());
    for (number, held) in (1..).zip(held) {
        let arrived = &body[..body.len().min(number * length)];
        assert_eq!(held, incomplete(arrived));
    }
}

/// How much there is of the message at the end.
fn incomplete(mut body: &[u8]) -> usize {
    while let Some((&[_, length @ ..], rest)) = body.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        match rest.split_at_checked(length) {
            Some((_, next)) => body = next,
            None => return rest.len(),
        }
    }
    0
}
