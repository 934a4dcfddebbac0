//! JSON Web Tokens (RFC 7519), from text to claims that hold. Pure: keys and time are given.

use std::collections::BTreeMap;

use jsonwebtoken::{
    Algorithm, Validation, dangerous::insecure_decode_claims, decode, decode_header, errors::ErrorKind,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{super::config::Reuse, keys::Key};

/// The longest token. GitHub's have some 2 KiB.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest `kid` and `jti`.
const MAX_ID_BYTES: usize = 256;
/// How far an issuer's clock may be from ours, in seconds.
pub(super) const LEEWAY_S: i64 = 60;
/// The longest life of a token that submits once.
const MAX_LIFE_ONCE_S: i64 = 60 * 60;
/// The longest life of a token that serves for a job's.
const MAX_LIFE_REUSED_S: i64 = 24 * 60 * 60;

/// What is wrong with a token, to be told to whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error("this is neither a token of Counterfoil's nor a JSON Web Token")]
    Malformed,
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("the token is not signed with RS256 or ES256, or not with the algorithm of its key")]
    Algorithm,
    #[error("the token does not name the key that signed it")]
    NoKeyId,
    #[error("the token has critical extensions, which are not understood here")]
    Critical,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token lacks a claim, or has it in another form: {0}")]
    Claim(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token lives for too long")]
    LivesTooLong,
}

/// A token that nobody has vouched for yet.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    text: &'a str,
    /// Whom it claims to come from: good for finding the key, and for nothing else.
    pub(super) issuer: String,
    pub(super) key_id: String,
    algorithm: Algorithm,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, BadToken> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(BadToken::TooLong);
        }
        if text.split('.').count() != 3 {
            return Err(BadToken::Malformed);
        }
        // Unknown algorithms, `none` among them, do not parse.
        let header = decode_header(text).map_err(|_| BadToken::Algorithm)?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(BadToken::Algorithm);
        }
        if header.crit.is_some() {
            return Err(BadToken::Critical);
        }
        let key_id = header.kid.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
        let claims: IssuerClaim = insecure_decode_claims(text).map_err(|_| BadToken::Claim("iss"))?;
        Ok(Self {
            text,
            issuer: claims.iss,
            key_id: key_id.ok_or(BadToken::NoKeyId)?,
            algorithm: header.alg,
        })
    }

    /// Checks the signature.
    pub(super) fn verify(&self, key: &Key) -> Result<Claims, BadToken> {
        if self.algorithm != key.algorithm {
            return Err(BadToken::Algorithm);
        }
        let mut validation = Validation::new(key.algorithm);
        // What follows is checked by `Claims`, against a clock that is given.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = decode(self.text, &key.decoding, &validation).map_err(|error| match error.kind() {
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => BadToken::Algorithm,
            _ => BadToken::Signature,
        })?;
        Claims::new(decoded.claims)
    }
}

/// The claims of a token whose signature is right.
#[derive(Debug)]
pub(super) struct Claims {
    all: Map<String, Value>,
    audience: String,
    issued: i64,
    /// Seconds since 1970.
    pub(super) expires: i64,
    not_before: Option<i64>,
    pub(super) id: Option<String>,
}

impl Claims {
    pub(super) fn new(all: Map<String, Value>) -> Result<Self, BadToken> {
        // Whoever else a token is for could use it here.
        let audience = match all.get("aud") {
            Some(Value::String(one)) => Some(one.clone()),
            Some(Value::Array(several)) => match several.as_slice() {
                [Value::String(one)] => Some(one.clone()),
                _ => None,
            },
            _ => None,
        };
        let seconds = |name: &'static str| match all.get(name) {
            None => Ok(None),
            // No time that a calendar has overflows when seconds are added to it.
            Some(value) => value
                .as_i64()
                .filter(|seconds| (0..=i64::from(u32::MAX)).contains(seconds))
                .map(Some)
                .ok_or(BadToken::Claim(name)),
        };
        let id = match all.get("jti") {
            None => None,
            Some(Value::String(id)) if (1..=MAX_ID_BYTES).contains(&id.len()) => Some(id.clone()),
            Some(_) => return Err(BadToken::Claim("jti")),
        };
        Ok(Self {
            audience: audience.ok_or(BadToken::Claim("aud, which has to be one"))?,
            issued: seconds("iat")?.ok_or(BadToken::Claim("iat"))?,
            expires: seconds("exp")?.ok_or(BadToken::Claim("exp"))?,
            not_before: seconds("nbf")?,
            id,
            all,
        })
    }

    /// The one that the token is for.
    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    /// Checks the token's life, all in seconds since 1970.
    pub(super) fn check_times(&self, reuse: Reuse, now: i64) -> Result<(), BadToken> {
        let max_life = match reuse {
            Reuse::Never => MAX_LIFE_ONCE_S,
            Reuse::UntilExpiry => MAX_LIFE_REUSED_S,
        };
        if now > self.expires + LEEWAY_S {
            return Err(BadToken::Expired);
        }
        if self.issued > now + LEEWAY_S || self.not_before.is_some_and(|time| time > now + LEEWAY_S) {
            return Err(BadToken::NotYetValid);
        }
        if self.expires - self.issued > max_life {
            return Err(BadToken::LivesTooLong);
        }
        Ok(())
    }

    /// Whether the token has all of these claims, each as text.
    pub(super) fn have(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(name, wanted)| match self.all.get(name) {
            Some(Value::String(text)) => text == wanted,
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string().as_str() == wanted,
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn claims(changes: &Value) -> Result<Claims, BadToken> {
        let mut claims = json!({
            "aud": "log.example.org/main", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300, "jti": "one",
            "repository_id": "12", "run_attempt": 3, "protected": true, "list": ["x"],
        });
        let all = claims.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            all.insert(name.clone(), value.clone());
        }
        all.retain(|_, value| !value.is_null());
        Claims::new(all.clone())
    }

    #[test]
    fn a_token_is_good_for_its_time_and_a_minute_more() {
        let check = |changes: Value| claims(&changes).unwrap().check_times(Reuse::Never, NOW);
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"nbf": null})), Ok(()));
        assert_eq!(check(json!({"exp": NOW - 60})), Ok(()));
        assert_eq!(check(json!({"exp": NOW - 61})), Err(BadToken::Expired));
        for name in ["nbf", "iat"] {
            assert_eq!(check(json!({name: NOW + 60})), Ok(()), "{name}");
            assert_eq!(
                check(json!({name: NOW + 61})),
                Err(BadToken::NotYetValid),
                "{name}"
            );
        }
        assert_eq!(check(json!({"exp": NOW - 10 + 3_600})), Ok(()));
        assert_eq!(
            check(json!({"exp": NOW - 10 + 3_601})),
            Err(BadToken::LivesTooLong)
        );
    }

    #[test]
    fn a_token_that_serves_for_a_job_may_be_older() {
        let check = |changes: Value| claims(&changes).unwrap().check_times(Reuse::UntilExpiry, NOW);
        assert_eq!(check(json!({"iat": NOW - 80_000})), Ok(()));
        assert_eq!(check(json!({"exp": NOW + 86_400})), Err(BadToken::LivesTooLong));
    }

    #[test]
    fn claims_have_to_be_there_and_in_their_form() {
        for (changes, problem) in [
            (json!({"aud": null}), "aud, which has to be one"),
            (json!({"aud": ["a", "b"]}), "aud, which has to be one"),
            (json!({"aud": []}), "aud, which has to be one"),
            (json!({"aud": 5}), "aud, which has to be one"),
            (json!({"exp": null}), "exp"),
            (json!({"exp": "1800000000"}), "exp"),
            (json!({"exp": i64::MAX}), "exp"),
            (json!({"iat": null}), "iat"),
            (json!({"iat": -1}), "iat"),
            (json!({"nbf": 1.5}), "nbf"),
            (json!({"jti": ""}), "jti"),
            (json!({"jti": "x".repeat(257)}), "jti"),
            (json!({"jti": 5}), "jti"),
        ] {
            assert_eq!(
                claims(&changes).unwrap_err(),
                BadToken::Claim(problem),
                "{changes}"
            );
        }
        assert_eq!(claims(&json!({"aud": ["only"]})).unwrap().audience(), "only");
        assert_eq!(claims(&json!({"jti": null})).unwrap().id, None);
    }

    #[test]
    fn rules_match_whole_claims_as_text() {
        let claims = claims(&json!({})).unwrap();
        let have = |wanted: &[(&str, &str)]| {
            claims.have(
                &wanted
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            )
        };
        assert!(have(&[
            ("repository_id", "12"),
            ("run_attempt", "3"),
            ("protected", "true")
        ]));
        for wrong in [
            ("repository_id", "1"),
            ("repository_id", "123"),
            ("repository_id", ""),
            ("list", "x"),
            ("list", "[\"x\"]"),
            ("missing", ""),
        ] {
            assert!(!have(&[wrong]), "{wrong:?}");
            assert!(!have(&[("run_attempt", "3"), wrong]), "{wrong:?}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_told_apart() {
        assert_eq!(UnverifiedToken::parse("").unwrap_err(), BadToken::Malformed);
        assert_eq!(UnverifiedToken::parse("a.b").unwrap_err(), BadToken::Malformed);
        assert_eq!(
            UnverifiedToken::parse("a.b.c.d.e").unwrap_err(),
            BadToken::Malformed
        );
        assert_eq!(UnverifiedToken::parse("a.b.c").unwrap_err(), BadToken::Algorithm);
        let long = format!("{}..", "a".repeat(MAX_TOKEN_BYTES));
        assert_eq!(UnverifiedToken::parse(&long).unwrap_err(), BadToken::TooLong);
    }
}
