//! Who signed a DSSE envelope: <https://github.com/secure-systems-lab/dsse>, protocol 1.0.
//!
//! Keys are public keys in PEM, as `openssl`, `cosign` and others write them: Ed25519, ECDSA on P-256 (with SHA-256) and P-384
//! (with SHA-384), and RSA of 2,048 bits or more (with SHA-256, PSS or PKCS #1). A key decides the algorithm, never the
//! envelope. It knows no certificates, no key servers and no transparency log: whose a key is, somebody else says.

use std::{fmt, ops::RangeInclusive};

use aws_lc_rs::{
    digest::{Digest, SHA256, SHA384, digest},
    encoding::AsDer as _,
    signature::{
        self, ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use counterfoil_event::dsse::Envelope;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    pem::Pem, prelude::FromDer as _, public_key::PublicKey as ParsedKey, x509::SubjectPublicKeyInfo,
};

/// Longest PEM of a key: RSA of 8,192 bits takes a quarter of it.
pub const MAX_PEM_BYTES: usize = 8 * 1024;

const LABEL: &str = "PUBLIC KEY";
/// RFC 8410, RFC 5480, RFC 8017.
const ED25519: &str = "1.3.101.112";
const EC: &str = "1.2.840.10045.2.1";
const RSA: &str = "1.2.840.113549.1.1.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Names a key: the SHA-256 of its SubjectPublicKeyInfo in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    /// `sha256:` and hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// A public key that signs envelopes.
#[derive(Clone)]
pub struct PublicKey {
    kind: Kind,
    pem: String,
    fingerprint: Fingerprint,
}

#[derive(Clone)]
enum Kind {
    Ed25519(VerifyingKey),
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    /// The same key for both paddings: nothing in it says which one its holder uses.
    Rsa {
        pss: ParsedPublicKey,
        pkcs1: ParsedPublicKey,
    },
}

/// Why text is no key that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("a public key in PEM has at most {MAX_PEM_BYTES} bytes")]
    TooLong,
    /// Not PEM, or more than one block of it.
    #[error("this is not one block of PEM, -----BEGIN PUBLIC KEY-----")]
    NotPem,
    /// PEM of something else: a private key, say.
    #[error("this is PEM of {0:?}, and not of a public key")]
    Label(String),
    /// Not a SubjectPublicKeyInfo, or not in the one encoding that its [`Fingerprint`] is of.
    #[error("the PEM holds no public key as X.509 writes them: in DER, the points of curves uncompressed")]
    Malformed,
    /// An algorithm, curve or size that is not known here.
    #[error("keys are Ed25519, ECDSA on P-256 or P-384, or RSA of 2,048 to 8,192 bits; this one is not")]
    Algorithm,
    /// A key for which anyone can make signatures.
    #[error("this key is weak: anyone can sign for it")]
    Weak,
}

impl PublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// If it is none, or one that must not be believed.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_PEM_BYTES {
            return Err(KeyError::TooLong);
        }
        let mut blocks = Pem::iter_from_buffer(text.as_bytes());
        let (Some(Ok(pem)), None) = (blocks.next(), blocks.next()) else {
            return Err(KeyError::NotPem);
        };
        if pem.label != LABEL {
            return Err(KeyError::Label(pem.label));
        }
        let (rest, info) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| KeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyError::Malformed);
        }
        let kind = kind(&info)?;
        if kind.der()? != pem.contents {
            return Err(KeyError::Malformed);
        }
        Ok(Self {
            kind,
            pem: to_pem(&pem.contents),
            fingerprint: Fingerprint(Sha256::digest(&pem.contents).into()),
        })
    }

    /// The key in PEM, the same however it was written.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What names it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its algorithm, for people.
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Ed25519(_) => "Ed25519",
            Kind::P256(_) => "ECDSA P-256",
            Kind::P384(_) => "ECDSA P-384",
            Kind::Rsa { .. } => "RSA",
        }
    }
}

/// RFC 7468, section 13.
fn to_pem(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {LABEL}-----\n");
    for line in base64.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + &format!("-----END {LABEL}-----\n")
}

fn kind(info: &SubjectPublicKeyInfo<'_>) -> Result<Kind, KeyError> {
    let algorithm = info.algorithm.algorithm.to_id_string();
    let key: &[u8] = &info.subject_public_key.data;
    let parse = |algorithm: &'static dyn VerificationAlgorithm| {
        ParsedPublicKey::new(algorithm, key).map_err(|_| KeyError::Algorithm)
    };
    match algorithm.as_str() {
        ED25519 => {
            let bytes = key.try_into().map_err(|_| KeyError::Malformed)?;
            let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Malformed)?;
            if key.is_weak() {
                return Err(KeyError::Weak);
            }
            Ok(Kind::Ed25519(key))
        }
        EC => {
            let curve = info
                .algorithm
                .parameters
                .as_ref()
                .and_then(|curve| curve.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some(P256) => Ok(Kind::P256(parse(&ECDSA_P256_SHA256_ASN1)?)),
                Some(P384) => Ok(Kind::P384(parse(&ECDSA_P384_SHA384_ASN1)?)),
                _ => Err(KeyError::Algorithm),
            }
        }
        RSA => {
            check_rsa(info)?;
            Ok(Kind::Rsa {
                pss: parse(&RSA_PSS_2048_8192_SHA256)?,
                pkcs1: parse(&RSA_PKCS1_2048_8192_SHA256)?,
            })
        }
        _ => Err(KeyError::Algorithm),
    }
}

impl Kind {
    /// The SubjectPublicKeyInfo, as it is written and not as it was read: a key that could be written in two ways would have two
    /// names.
    fn der(&self) -> Result<Vec<u8>, KeyError> {
        let ed25519;
        let key = match self {
            Self::Ed25519(key) => {
                ed25519 = ParsedPublicKey::new(&signature::ED25519, key.as_bytes())
                    .map_err(|_| KeyError::Malformed)?;
                &ed25519
            }
            Self::P256(key) | Self::P384(key) | Self::Rsa { pss: key, .. } => key,
        };
        let der = key.as_der().map_err(|_| KeyError::Malformed)?;
        Ok(der.as_ref().to_vec())
    }
}

/// What the library looks at only when it verifies.
fn check_rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<(), KeyError> {
    let Ok(ParsedKey::RSA(key)) = info.parsed() else {
        return Err(KeyError::Malformed);
    };
    if !RSA_BITS.contains(&key.key_size()) {
        return Err(KeyError::Algorithm);
    }
    // With 1, a signature is the padded message itself.
    match key.try_exponent() {
        Ok(exponent) if exponent >= 3 && exponent % 2 == 1 => Ok(()),
        _ => Err(KeyError::Weak),
    }
}

/// The bytes that an envelope's signatures are over, hashed once for however many keys are tried. Ed25519 alone hashes them for each
/// signature and key, after what is in the signature.
pub struct Signed<'a> {
    /// Each once.
    signatures: Vec<&'a [u8]>,
    bytes: Vec<u8>,
    sha256: Digest,
    sha384: Digest,
}

impl<'a> Signed<'a> {
    /// Prepares an envelope for the search of its signers.
    pub fn new(envelope: &'a Envelope) -> Self {
        let mut signatures: Vec<_> = envelope.signatures().iter().map(Vec::as_slice).collect();
        signatures.sort_unstable();
        signatures.dedup();
        let bytes = envelope.signed_bytes();
        Self {
            signatures,
            sha256: digest(&SHA256, &bytes),
            sha384: digest(&SHA384, &bytes),
            bytes,
        }
    }

    /// Whether one of the envelope's signatures is by this key.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        let mut signatures = self.signatures.iter();
        signatures.any(|signature| self.verify(key, signature))
    }

    /// One that has not the length or the form of the key's is refused by each algorithm before it computes anything.
    fn verify(&self, key: &PublicKey, signature: &[u8]) -> bool {
        match &key.kind {
            Kind::Ed25519(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(&self.bytes, &signature).is_ok()),
            Kind::P256(key) => key.verify_digest_sig(&self.sha256, signature).is_ok(),
            Kind::P384(key) => key.verify_digest_sig(&self.sha384, signature).is_ok(),
            Kind::Rsa { pss, pkcs1 } => {
                pss.verify_digest_sig(&self.sha256, signature).is_ok()
                    || pkcs1.verify_digest_sig(&self.sha256, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.algorithm(), self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_stands_there_again_is_not_tried_again() {
        let envelope = br#"{"payloadType":"x","payload":"","signatures":[{"sig":"AQ=="},{"sig":"AA=="},{"sig":"AQ=="}]}"#;
        let envelope = Envelope::parse(envelope).expect("an envelope");
        assert_eq!(Signed::new(&envelope).signatures, [b"\x00".as_slice(), b"\x01"]);
    }
}
