//! An issuer's public keys (RFC 7517), as it served them.

use std::collections::BTreeMap;

use bytes::Bytes;
use counterfoil_event::{Event, oidc_keys_event};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of an issuer.
const MAX_KEYS: usize = 64;

/// Keys by their id, and the record of them.
pub(super) struct KeySet {
    keys: BTreeMap<String, Key>,
    /// What a log records before it believes a token that one of them signed.
    pub(super) event: Event,
}

/// A public key, good for one algorithm.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Why bytes are no key set that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("the issuer's keys are malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the issuer has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    #[error("the issuer has two keys with the id {0:?}")]
    Ambiguous(String),
    #[error("the issuer has no key for RS256 or ES256")]
    NoKey,
}

#[derive(Deserialize)]
struct KeySetJson {
    keys: Vec<Value>,
}

impl KeySet {
    /// Understands what can be used, and passes over other keys: a set may hold those of algorithms to come.
    pub(super) fn parse(issuer: &str, json: Bytes) -> Result<Self, KeySetError> {
        let KeySetJson { keys: values } = serde_json::from_slice(&json)?;
        if values.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(values.len()));
        }
        let mut keys = BTreeMap::new();
        for value in values {
            let Some((id, key)) = serde_json::from_value::<Jwk>(value)
                .ok()
                .and_then(|jwk| usable(&jwk))
            else {
                continue;
            };
            if keys.insert(id.clone(), key).is_some() {
                return Err(KeySetError::Ambiguous(id));
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(Self {
            keys,
            event: oidc_keys_event(issuer, json),
        })
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }
}

/// The key's kind decides on the algorithm, never a token: a public key must not become the secret of an HMAC.
fn usable(jwk: &Jwk) -> Option<(String, Key)> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let said = match jwk.common.key_algorithm {
        None => algorithm,
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => Algorithm::ES256,
        Some(_) => return None,
    };
    let signs = jwk
        .common
        .public_key_use
        .as_ref()
        .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let id = jwk.common.key_id.clone()?;
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    (said == algorithm && signs).then_some((id, Key { algorithm, decoding }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: &str = "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u";
    const X: &str = "EVs_o5-uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf84";

    fn parse(keys: &str) -> Result<KeySet, KeySetError> {
        KeySet::parse(
            "https://issuer.example.org",
            Bytes::from(format!(r#"{{"keys":[{keys}]}}"#)),
        )
    }

    #[test]
    fn the_kind_of_a_key_decides_on_its_algorithm() {
        let set = parse(&format!(
            r#"{{"kty":"RSA","kid":"rsa","n":"{N}","e":"AQAB"}},
               {{"kty":"EC","kid":"ec","crv":"P-256","x":"{X}","y":"{X}","alg":"ES256","use":"sig"}},
               {{"kty":"oct","kid":"secret","k":"AAAA","alg":"HS256"}},
               {{"kty":"RSA","kid":"for encryption","n":"{N}","e":"AQAB","use":"enc"}},
               {{"kty":"RSA","kid":"ps","n":"{N}","e":"AQAB","alg":"PS256"}},
               {{"kty":"RSA","kid":"posing","n":"{N}","e":"AQAB","alg":"HS256"}},
               {{"kty":"RSA","n":"{N}","e":"AQAB"}},
               {{"kty":"from the future","kid":"new"}}"#
        ))
        .unwrap();
        let usable: Vec<_> = set
            .keys
            .iter()
            .map(|(id, key)| (id.as_str(), key.algorithm))
            .collect();
        assert_eq!(usable, [("ec", Algorithm::ES256), ("rsa", Algorithm::RS256)]);
    }

    #[test]
    fn sets_that_leave_a_doubt_are_refused() {
        let key = format!(r#"{{"kty":"RSA","kid":"a","n":"{N}","e":"AQAB"}}"#);
        assert!(matches!(
            parse(&format!("{key},{key}")),
            Err(KeySetError::Ambiguous(_))
        ));
        assert!(matches!(parse(""), Err(KeySetError::NoKey)));
        let many = vec![key; MAX_KEYS + 1].join(",");
        assert!(matches!(parse(&many), Err(KeySetError::TooMany(_))));
        assert!(matches!(parse("{"), Err(KeySetError::Malformed(_))));
    }
}
