//! Secrets shared with a provider, and what is signed with them.

use std::{fmt, slice, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::Provider;

/// The shortest secret: fewer characters could be found by trying.
const MIN_BYTES: usize = 16;
/// The longest secret. No provider's form takes a longer one.
const MAX_BYTES: usize = 255;
/// New secrets have so much randomness.
const NEW_BYTES: usize = 32;
/// How a signing key of Standard Webhooks begins.
const SIGNING_PREFIX: &str = "whsec_";
/// How long such a key is, by the specification.
const SIGNING_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const FINGERPRINT_CONTEXT: &str = "counterfoil 2026-11-23 webhook secret fingerprint";

/// A secret shared with a provider, as its form takes it. Wiped from memory when dropped, and not shown by `Debug`.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    /// The key that `whsec_…` stands for.
    signing_key: Option<Zeroizing<Vec<u8>>>,
}

/// Why a text can't be a secret. It is not repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short to be safe, or longer than forms take.
    #[error("a secret has {MIN_BYTES} to {MAX_BYTES} characters")]
    Length,
    /// A character that forms and headers do not carry unchanged.
    #[error("a secret has printable ASCII characters, and no space at its ends")]
    Character,
    /// `whsec_` and no key behind it.
    #[error("after `whsec_` comes the base64 of 24 to 64 random bytes")]
    SigningKey,
}

impl Secret {
    /// A new one, of 256 random bits, in the form that the provider takes: for GitLab a signing token.
    ///
    /// # Errors
    /// If the system has no random bytes to give.
    pub fn generate(provider: Provider) -> Result<Self, getrandom::Error> {
        match provider {
            Provider::GitHub | Provider::Gitea => Self::generate_token(),
            Provider::GitLab => {
                let key = BASE64_STANDARD.encode(random()?);
                Ok(Self::made(format!("{SIGNING_PREFIX}{key}")))
            }
        }
    }

    /// A new one, of 256 random bits, that is no signing key: for a GitLab that has no signing tokens yet.
    ///
    /// # Errors
    /// If the system has no random bytes to give.
    pub fn generate_token() -> Result<Self, getrandom::Error> {
        Ok(Self::made(hex::encode(random()?)))
    }

    fn made(text: String) -> Self {
        let text = Zeroizing::new(text);
        text.parse().expect("what is made here has the right form")
    }

    /// The secret itself, for the provider's form or the source's file.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether GitLab signs with it. It sends any other secret as it is.
    pub fn is_signing_key(&self) -> bool {
        self.signing_key.is_some()
    }

    /// Names the secret without giving it away.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = blake3::derive_key(FINGERPRINT_CONTEXT, self.text.as_bytes());
        Fingerprint([hash[0], hash[1], hash[2], hash[3]])
    }

    /// The HMAC-SHA256 of a body under this secret: what GitHub and Gitea sign with.
    pub fn sign(&self, body: &[u8]) -> [u8; 32] {
        mac(self.text.as_bytes(), &[body])
    }

    /// Whether `tag` is the HMAC-SHA256 of a body under this secret: GitHub's and Gitea's signature. In constant time.
    pub fn signed(&self, body: &[u8], tag: &[u8; 32]) -> bool {
        is_one_of(&self.sign(body), slice::from_ref(tag))
    }

    /// The signature of Standard Webhooks: HMAC-SHA256 over id, timestamp and body. None for a secret that is no signing key.
    pub fn sign_standard(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<[u8; 32]> {
        let key = self.signing_key.as_ref()?;
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        Some(mac(key, &parts))
    }

    /// Whether one of the tags is the signature of Standard Webhooks over id, timestamp and body, which is made once. In constant
    /// time. Never for a secret that is no signing key.
    pub fn signed_standard(&self, id: &str, timestamp: &str, body: &[u8], tags: &[[u8; 32]]) -> bool {
        self.sign_standard(id, timestamp, body)
            .is_some_and(|made| is_one_of(&made, tags))
    }

    /// Whether the text is this secret, sent as it is: GitLab's token. In constant time, whatever its length. Never for a
    /// signing key, which nobody is to send.
    pub fn is(&self, text: &[u8]) -> bool {
        let digest = |text: &[u8]| *blake3::hash(text).as_bytes();
        self.signing_key.is_none() && bool::from(digest(self.text.as_bytes()).ct_eq(&digest(text)))
    }
}

fn random() -> Result<Zeroizing<[u8; NEW_BYTES]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; NEW_BYTES]);
    getrandom::fill(bytes.as_mut())?;
    Ok(bytes)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// In constant time, wherever it stands.
fn is_one_of(made: &[u8; 32], tags: &[[u8; 32]]) -> bool {
    let found = tags
        .iter()
        .fold(Choice::from(0), |found, tag| found | made.ct_eq(tag));
    found.into()
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        if !(MIN_BYTES..=MAX_BYTES).contains(&text.len()) {
            return Err(SecretError::Length);
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.trim() != text {
            return Err(SecretError::Character);
        }
        let signing_key = text
            .strip_prefix(SIGNING_PREFIX)
            .map(|key| {
                let key = BASE64_STANDARD.decode(key).map(Zeroizing::new);
                key.ok()
                    .filter(|key| SIGNING_KEY_BYTES.contains(&key.len()))
                    .ok_or(SecretError::SigningKey)
            })
            .transpose()?;
        Ok(Self {
            text: Zeroizing::new(text.to_owned()),
            signing_key,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.fingerprint())
    }
}

/// A public name of a secret: eight hex digits. So short that it fits many texts, and confirms no guess at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 4]);

/// Text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is eight hex digits")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let mut bytes = [0; 4];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidFingerprint)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(hex: &str) -> [u8; 32] {
        let mut tag = [0; 32];
        hex::decode_to_slice(hex, &mut tag).unwrap();
        tag
    }

    /// The example of GitHub's documentation.
    #[test]
    fn verifies_what_github_documents() {
        let secret: Secret = "It's a Secret to Everybody".parse().unwrap();
        let documented = tag("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
        assert!(secret.signed(b"Hello, World!", &documented));
        assert_eq!(secret.sign(b"Hello, World!"), documented);
        assert!(!secret.signed(b"Hello, World?", &documented));
        assert!(!secret.signed(b"Hello, World!", &[0; 32]));
        let other: Secret = "It's a Secret to Nobody".parse().unwrap();
        assert!(!other.signed(b"Hello, World!", &documented));
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn verifies_standard_webhooks() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let decoded = BASE64_STANDARD
            .decode("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
            .unwrap();
        let tag: [u8; 32] = decoded.try_into().unwrap();
        let (id, timestamp, body) = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(secret.sign_standard(id, timestamp, body), Some(tag));
        for tags in [&[tag][..], &[tag, [0; 32]], &[[0; 32], tag]] {
            assert!(secret.signed_standard(id, timestamp, body, tags));
        }
        assert!(!secret.signed_standard(id, timestamp, body, &[]));
        assert!(!secret.signed_standard(id, timestamp, body, &[[0; 32]; 2]));
        assert!(!secret.signed_standard(id, "1614265331", body, &[tag]));
        assert!(!secret.signed_standard("msg_other", timestamp, body, &[tag]));
        assert!(!secret.signed_standard(id, timestamp, b"{}", &[tag]));
        let other: Secret = "a-secret-that-is-no-signing-key".parse().unwrap();
        assert!(!other.signed_standard(id, timestamp, body, &[tag]));
        assert_eq!(other.sign_standard(id, timestamp, body), None);
    }

    #[test]
    fn a_token_is_the_secret_and_a_signing_key_never_is() {
        let secret: Secret = "0123456789abcdef".parse().unwrap();
        assert!(secret.is(b"0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong}");
        }
        let signing = Secret::generate(Provider::GitLab).unwrap();
        assert!(signing.is_signing_key());
        assert!(!signing.is(signing.reveal().as_bytes()));
    }

    #[test]
    fn new_secrets_differ_and_are_not_shown() {
        for provider in [Provider::GitHub, Provider::GitLab, Provider::Gitea] {
            let secret = Secret::generate(provider).unwrap();
            assert_ne!(secret.reveal(), Secret::generate(provider).unwrap().reveal());
            assert!(!format!("{secret:?}").contains(secret.reveal()));
            assert_eq!(secret.fingerprint().to_string().parse(), Ok(secret.fingerprint()));
        }
    }

    #[test]
    fn a_secret_has_length_characters_and_form() {
        let long = "a".repeat(256);
        for (bad, error) in [
            ("", SecretError::Length),
            ("fifteen-chars-a", SecretError::Length),
            (long.as_str(), SecretError::Length),
            ("sixteen characters ", SecretError::Character),
            ("sixteen\ncharacters", SecretError::Character),
            ("sixteen-characters-é", SecretError::Character),
            ("whsec_AAAAAAAAAAAA", SecretError::SigningKey),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", SecretError::SigningKey),
        ] {
            assert_eq!(bad.parse::<Secret>().unwrap_err(), error, "{bad}");
        }
    }
}
