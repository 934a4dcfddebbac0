//! Signatures of deliveries, as they stand in headers.
//!
//! GitHub: `X-Hub-Signature-256`. Gitea and Forgejo: `X-Gitea-Signature`. GitLab: `webhook-signature` (Standard Webhooks), or
//! the secret itself in `X-Gitlab-Token`.

use axum::http::HeaderMap;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use counterfoil_hooks::{Fingerprint, Provider, Secret, Source};
use zeroize::Zeroizing;

use super::{delivery, invalid::InvalidDelivery};

/// How far a signed time may be from ours: what Standard Webhooks advises.
const TOLERANCE_S: u64 = 5 * 60;
/// The most signatures of one delivery: a provider that rotates its keys sends two.
const MAX_SIGNATURES: usize = 8;
/// The longest signature header.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Headers that only one provider sends, with its name. GitHub's are not among them: Gitea and Forgejo send those too.
const TELL_TALES: [(&str, Provider, &str); 5] = [
    ("x-gitlab-event", Provider::GitLab, "GitLab"),
    ("x-gitea-event", Provider::Gitea, "Gitea"),
    ("x-gitea-delivery", Provider::Gitea, "Gitea"),
    ("x-forgejo-event", Provider::Gitea, "Forgejo"),
    ("x-forgejo-delivery", Provider::Gitea, "Forgejo"),
];

/// What a delivery is signed with, not checked yet.
#[derive(Debug)]
pub(super) struct Signatures(Vec<Signature>);

enum Signature {
    /// The HMAC-SHA256 of the body.
    Hmac { header: &'static str, tag: [u8; 32] },
    /// The HMAC-SHA256 of id, time and body.
    Standard {
        id: String,
        timestamp: String,
        tags: Vec<[u8; 32]>,
    },
    /// The secret itself.
    Token(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Signature {
    /// Without the token, which is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hmac { .. } => "Hmac",
            Self::Standard { .. } => "Standard",
            Self::Token(_) => "Token",
        })
    }
}

/// What was verified. Nothing of it is of use to anyone who wants to sign, or to send again what was signed: the signature itself is
/// not kept, since with a body that is on record it is as good as the secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// How, such as `hmac-sha256`.
    pub(super) scheme: &'static str,
    /// The header that had it.
    pub(super) header: &'static str,
    /// Id and time, where the signature is over them too.
    pub(super) signed: Option<(String, String)>,
    /// The secret that made it.
    pub(super) secret: Fingerprint,
}

impl Signatures {
    /// Finds what the source's provider signs with. Reads no body.
    pub(super) fn find(source: &Source, headers: &HeaderMap) -> Result<Self, InvalidDelivery> {
        for (header, provider, name) in TELL_TALES {
            if provider != source.provider && headers.contains_key(header) {
                return Err(InvalidDelivery::WrongProvider(name));
            }
        }
        match source.provider {
            Provider::GitHub => hmac(headers, &["x-hub-signature-256"], "sha256="),
            Provider::Gitea => hmac(headers, &["x-gitea-signature", "x-forgejo-signature"], ""),
            Provider::GitLab => gitlab(source, headers),
        }
    }

    /// Which of the source's secrets made one of them, over exactly this body. Where one of them is of another time, none is looked
    /// at: each secret takes as long as the body.
    pub(super) fn verify(
        &self,
        source: &Source,
        body: &[u8],
        now_unix_s: u64,
    ) -> Result<Proof, InvalidDelivery> {
        if self.0.iter().any(|signature| signature.is_stale(now_unix_s)) {
            return Err(InvalidDelivery::StaleSignature);
        }
        let proof = self.0.iter().find_map(|signature| {
            let mut secrets = source.secrets().iter();
            let secret = secrets.find(|secret| signature.is_of(secret, body))?;
            Some(signature.proof(secret.fingerprint()))
        });
        proof.ok_or(InvalidDelivery::WrongSignature)
    }
}

impl Signature {
    /// Whether it names a time that is too far from ours, or none. Those over the body alone name no time.
    fn is_stale(&self, now_unix_s: u64) -> bool {
        match self {
            Self::Standard { timestamp, .. } => !timestamp
                .parse::<u64>()
                .is_ok_and(|time| time.abs_diff(now_unix_s) <= TOLERANCE_S),
            Self::Hmac { .. } | Self::Token(_) => false,
        }
    }

    fn is_of(&self, secret: &Secret, body: &[u8]) -> bool {
        match self {
            Self::Hmac { tag, .. } => secret.signed(body, tag),
            Self::Standard {
                id, timestamp, tags, ..
            } => secret.signed_standard(id, timestamp, body, tags),
            Self::Token(token) => secret.is(token),
        }
    }

    fn proof(&self, secret: Fingerprint) -> Proof {
        match self {
            Self::Hmac { header, .. } => Proof {
                scheme: "hmac-sha256",
                header,
                signed: None,
                secret,
            },
            Self::Standard { id, timestamp, .. } => Proof {
                scheme: "standard-webhooks",
                header: "webhook-signature",
                signed: Some((id.clone(), timestamp.clone())),
                secret,
            },
            Self::Token(_) => Proof {
                scheme: "token",
                header: "x-gitlab-token",
                signed: None,
                secret,
            },
        }
    }
}

fn hmac(headers: &HeaderMap, names: &[&'static str], prefix: &str) -> Result<Signatures, InvalidDelivery> {
    let header = names.iter().find(|name| headers.contains_key(**name)).copied();
    let header = header.ok_or(InvalidDelivery::MissingSignature(names[0]))?;
    let text = delivery::once(headers, header, MAX_SIGNATURE_BYTES)?;
    // Gitea and Forgejo send the header, empty, where the webhook has no secret.
    if text.is_empty() {
        return Err(InvalidDelivery::MissingSignature(header));
    }
    let mut tag = [0; 32];
    text.strip_prefix(prefix)
        .and_then(|digits| hex::decode_to_slice(digits, &mut tag).ok())
        .ok_or(InvalidDelivery::WrongSignature)?;
    Ok(Signatures(vec![Signature::Hmac { header, tag }]))
}

/// A signature counts if the source has a key to check it with, and so does a token.
fn gitlab(source: &Source, headers: &HeaderMap) -> Result<Signatures, InvalidDelivery> {
    let (signing, tokens): (Vec<&Secret>, Vec<_>) = source
        .secrets()
        .iter()
        .partition(|secret| secret.is_signing_key());
    let mut signatures = Vec::new();
    if !signing.is_empty() && headers.contains_key("webhook-signature") {
        signatures.push(standard(headers)?);
    }
    if !tokens.is_empty() && headers.contains_key("x-gitlab-token") {
        let token = delivery::text(headers, "x-gitlab-token", MAX_SIGNATURE_BYTES)?;
        signatures.push(Signature::Token(Zeroizing::new(token.as_bytes().to_vec())));
    }
    if signatures.is_empty() {
        let wanted = if signing.is_empty() {
            "x-gitlab-token"
        } else {
            "webhook-signature"
        };
        return Err(InvalidDelivery::MissingSignature(wanted));
    }
    Ok(Signatures(signatures))
}

fn standard(headers: &HeaderMap) -> Result<Signature, InvalidDelivery> {
    let text = delivery::text(headers, "webhook-signature", MAX_SIGNATURE_BYTES)?;
    // Others may stand beside version 1: asymmetric ones, or later ones.
    let tags: Vec<[u8; 32]> = text
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|tag| BASE64_STANDARD.decode(tag).ok()?.try_into().ok())
        .take(MAX_SIGNATURES)
        .collect();
    if tags.is_empty() {
        return Err(InvalidDelivery::WrongSignature);
    }
    Ok(Signature::Standard {
        id: delivery::text(headers, "webhook-id", delivery::MAX_ID_BYTES)?.to_owned(),
        timestamp: delivery::text(headers, "webhook-timestamp", delivery::MAX_ID_BYTES)?.to_owned(),
        tags,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";
    /// The example of GitHub's documentation.
    const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const BODY: &[u8] = b"Hello, World!";
    /// The example of the Standard Webhooks specification's reference libraries.
    const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED_AT: u64 = 1_614_265_330;
    const STANDARD: [(&str, &str); 3] = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ];
    const STANDARD_BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn source(provider: Provider, secrets: &[&str]) -> Source {
        let mut secrets = secrets.iter().map(|secret| secret.parse().unwrap());
        let first = secrets.next().unwrap();
        let mut source = Source::new(provider, "main".to_owned(), None, first).unwrap();
        secrets.for_each(|secret| source.add_secret(secret).unwrap());
        source
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(
        source: &Source,
        pairs: &[(&str, &str)],
        body: &[u8],
        now: u64,
    ) -> Result<Proof, InvalidDelivery> {
        Signatures::find(source, &headers(pairs))?.verify(source, body, now)
    }

    #[test]
    fn github_signs_the_body() {
        let source = source(Provider::GitHub, &["another-secret-of-some-length", SECRET]);
        let value = format!("sha256={SIGNATURE}");
        let proof = check(&source, &[("x-hub-signature-256", &value)], BODY, 0).unwrap();
        assert_eq!(
            (proof.scheme, proof.header),
            ("hmac-sha256", "x-hub-signature-256")
        );
        assert_eq!(proof.secret, source.secrets()[1].fingerprint());

        let wrong = |value: &str, body: &[u8]| {
            check(&source, &[("x-hub-signature-256", value)], body, 0).unwrap_err()
        };
        assert_eq!(wrong(&value, b"Hello, World?"), InvalidDelivery::WrongSignature);
        assert_eq!(
            wrong(&value.replace("sha256", "sha1"), BODY),
            InvalidDelivery::WrongSignature
        );
        assert_eq!(wrong(SIGNATURE, BODY), InvalidDelivery::WrongSignature);
        assert_eq!(wrong("sha256=", BODY), InvalidDelivery::WrongSignature);
        assert_eq!(
            wrong(&value[..value.len() - 2], BODY),
            InvalidDelivery::WrongSignature
        );
    }

    #[test]
    fn a_signature_is_there_once_and_under_its_provider_s_name() {
        let github = source(Provider::GitHub, &[SECRET]);
        let value = format!("sha256={SIGNATURE}");
        let missing = InvalidDelivery::MissingSignature("x-hub-signature-256");
        assert_eq!(
            check(&github, &[("x-hub-signature", &value)], BODY, 0),
            Err(missing.clone())
        );
        assert_eq!(check(&github, &[], BODY, 0), Err(missing));
        let twice = [
            ("x-hub-signature-256", value.as_str()),
            ("x-hub-signature-256", &value),
        ];
        assert_eq!(
            check(&github, &twice, BODY, 0),
            Err(InvalidDelivery::BadHeader("x-hub-signature-256"))
        );

        // Gitea signs in GitHub's way too; the source says whose deliveries it takes.
        let gitea = [
            ("x-hub-signature-256", value.as_str()),
            ("x-gitea-signature", SIGNATURE),
            ("x-gitea-event", "push"),
        ];
        assert_eq!(
            check(&github, &gitea, BODY, 0),
            Err(InvalidDelivery::WrongProvider("Gitea"))
        );
        let source = source(Provider::Gitea, &[SECRET]);
        assert_eq!(
            check(&source, &gitea, BODY, 0).unwrap().header,
            "x-gitea-signature"
        );
        let forgejo = [("x-forgejo-signature", SIGNATURE)];
        assert_eq!(
            check(&source, &forgejo, BODY, 0).unwrap().header,
            "x-forgejo-signature"
        );
        let wanted = InvalidDelivery::MissingSignature("x-gitea-signature");
        assert_eq!(
            check(&source, &[("x-hub-signature-256", &value)], BODY, 0),
            Err(wanted)
        );
    }

    #[test]
    fn gitlab_signs_id_and_time_too() {
        let source = source(Provider::GitLab, &[SIGNING]);
        let at = |now| check(&source, &STANDARD, STANDARD_BODY, now);
        let proof = at(SIGNED_AT).unwrap();
        assert_eq!(proof.scheme, "standard-webhooks");
        assert_eq!(
            proof.signed,
            Some((STANDARD[0].1.to_owned(), STANDARD[1].1.to_owned()))
        );
        assert!(at(SIGNED_AT + TOLERANCE_S).is_ok() && at(SIGNED_AT - TOLERANCE_S).is_ok());
        assert_eq!(
            at(SIGNED_AT + TOLERANCE_S + 1),
            Err(InvalidDelivery::StaleSignature)
        );
        assert_eq!(
            at(SIGNED_AT - TOLERANCE_S - 1),
            Err(InvalidDelivery::StaleSignature)
        );

        // No secret is tried on a body where it would not count.
        let no_time = [STANDARD[0], ("webhook-timestamp", "now"), STANDARD[2]];
        for (pairs, now) in [(STANDARD, 0), (no_time, SIGNED_AT)] {
            let refused = check(&source, &pairs, b"{}", now);
            assert_eq!(refused, Err(InvalidDelivery::StaleSignature));
        }

        let other_id = [("webhook-id", "msg_other"), STANDARD[1], STANDARD[2]];
        assert_eq!(
            check(&source, &other_id, STANDARD_BODY, SIGNED_AT),
            Err(InvalidDelivery::WrongSignature)
        );
        let later = [STANDARD[0], ("webhook-timestamp", "1614265331"), STANDARD[2]];
        assert_eq!(
            check(&source, &later, STANDARD_BODY, SIGNED_AT),
            Err(InvalidDelivery::WrongSignature)
        );
        assert_eq!(
            check(&source, &STANDARD, b"{}", SIGNED_AT),
            Err(InvalidDelivery::WrongSignature)
        );
        // A provider that rotates sends several.
        let several = format!("v1a,AAAA v1,AAAA {}", STANDARD[2].1);
        let several = [STANDARD[0], STANDARD[1], ("webhook-signature", several.as_str())];
        assert!(check(&source, &several, STANDARD_BODY, SIGNED_AT).is_ok());
    }

    #[test]
    fn a_gitlab_token_counts_where_the_source_has_one() {
        let token = "a-token-of-some-length";
        let header = [("x-gitlab-token", token)];
        let with_token = source(Provider::GitLab, &[token]);
        let proof = check(&with_token, &header, BODY, 0).unwrap();
        assert_eq!((proof.scheme, proof.header), ("token", "x-gitlab-token"));
        let wrong = [("x-gitlab-token", "a-token-of-some-lengtH")];
        assert_eq!(
            check(&with_token, &wrong, BODY, 0),
            Err(InvalidDelivery::WrongSignature)
        );

        // Whoever set signing up is not open to tokens, and a signing key sent as a token is none.
        let signing = source(Provider::GitLab, &[SIGNING]);
        let missing = InvalidDelivery::MissingSignature("webhook-signature");
        assert_eq!(check(&signing, &header, BODY, 0), Err(missing.clone()));
        assert_eq!(
            check(&signing, &[("x-gitlab-token", SIGNING)], BODY, 0),
            Err(missing)
        );
        let both = source(Provider::GitLab, &[SIGNING, token]);
        assert!(check(&both, &header, BODY, 0).is_ok());
        assert!(check(&both, &STANDARD, STANDARD_BODY, SIGNED_AT).is_ok());
    }
}
