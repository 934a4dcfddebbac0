//! The events that a log writes itself: types beginning `log.`, source `log`. Their payloads are JSON.

use bytes::Bytes;
use counterfoil_merkle::{LeafIndex, Suite};
use serde::{Deserialize, Serialize};

use crate::{Event, json_object::JsonObject};

const GENESIS_MEDIA_TYPE: &str = "application/vnd.counterfoil.genesis+json";
/// RFC 7468.
const PEM_MEDIA_TYPE: &str = "application/x-pem-file";
/// RFC 7517, section 8.5.2.
const KEYS_MEDIA_TYPE: &str = "application/jwk-set+json";
const CONFLICT_MEDIA_TYPE: &str = "application/vnd.counterfoil.conflict+json";

/// What a log says of itself in entry 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The log's name in every checkpoint.
    pub origin: String,
    /// The hashes of its tree and commitments, for ever.
    pub suite: Suite,
    /// The keys that sign its heads, each as a vkey of the signed-note format.
    pub keys: Vec<String>,
    /// When it was created, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: u64,
}

/// Why a payload is not a genesis.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// Not JSON, or a member is missing, unknown, repeated or of another type.
    #[error("the genesis is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A suite that is not known here.
    #[error("the genesis names the unknown hash suite {0:?}")]
    UnknownSuite(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    origin: String,
    suite: String,
    keys: Vec<String>,
    created_unix_ms: u64,
}

impl Genesis {
    /// The event of entry 0: type `log.created`, id `genesis`.
    pub fn to_event(&self) -> Event {
        let json = GenesisJson {
            origin: self.origin.clone(),
            suite: self.suite.as_str().to_owned(),
            keys: self.keys.clone(),
            created_unix_ms: self.created_unix_ms,
        };
        let payload = serde_json::to_vec(&json).expect("strings and numbers serialise");
        Event::own("log.created", "genesis".to_owned(), GENESIS_MEDIA_TYPE, payload)
    }

    /// Reads the payload of entry 0.
    pub fn parse(payload: &[u8]) -> Result<Self, GenesisError> {
        let JsonObject(json): JsonObject<GenesisJson> = serde_json::from_slice(payload)?;
        let suite = json
            .suite
            .parse()
            .map_err(|_| GenesisError::UnknownSuite(json.suite))?;
        Ok(Self {
            origin: json.origin,
            suite,
            keys: json.keys,
            created_unix_ms: json.created_unix_ms,
        })
    }
}

#[derive(Serialize)]
struct ConflictJson {
    existing_leaf_index: u64,
    refused_digest: String,
}

/// The record of an event that was refused because entry `existing` has its source and id but other bytes.
///
/// Type `log.conflict`, id `conflict-<existing>-<digest>`: the same attempt again is the same record. The digest is
/// BLAKE3 in derive-key mode with the context `counterfoil 2026-11-22 refused event`, over the length of the encoded
/// attributes as little-endian u64, those attributes, and the payload. It has no salt, so it stands in the erasable
/// parts of the record only, never in a leaf.
pub fn conflict_event(existing: LeafIndex, refused: &Event) -> Event {
    let attributes = refused.attributes().encode();
    let digest = blake3::Hasher::new_derive_key("counterfoil 2026-11-22 refused event")
        .update(&(attributes.len() as u64).to_le_bytes())
        .update(&attributes)
        .update(refused.data())
        .finalize();
    let json = ConflictJson {
        existing_leaf_index: existing.get(),
        refused_digest: digest.to_string(),
    };
    let payload = serde_json::to_vec(&json).expect("strings and numbers serialise");
    Event::own(
        "log.conflict",
        format!("conflict-{existing}-{digest}"),
        CONFLICT_MEDIA_TYPE,
        payload,
    )
}

/// The record of the keys of an OpenID Connect issuer, as it served them: tokens in the evidence of later entries can be
/// checked with it for ever.
///
/// Type `log.oidc_keys`, id `oidc-keys-<digest>`: the same keys again are the same record. The digest is BLAKE3 in derive-key
/// mode with the context `counterfoil 2026-11-23 oidc keys`, over the issuer's length as little-endian u64, the issuer, and
/// the keys. The subject is the issuer, at most [`MAX_SUBJECT_BYTES`](crate::limits::MAX_SUBJECT_BYTES) of it without control
/// characters; the payload is the JWK Set, byte for byte.
pub fn oidc_keys_event(issuer: &str, jwk_set: Bytes) -> Event {
    let digest = blake3::Hasher::new_derive_key("counterfoil 2026-11-23 oidc keys")
        .update(&(issuer.len() as u64).to_le_bytes())
        .update(issuer.as_bytes())
        .update(&jwk_set)
        .finalize();
    let id = format!("oidc-keys-{digest}");
    Event::own_about("log.oidc_keys", id, issuer.to_owned(), KEYS_MEDIA_TYPE, jwk_set)
}

/// The record of a public key whose signatures on DSSE envelopes the log believes from then on.
///
/// Type `log.dsse_key`, id `dsse-key-` and the fingerprint, which is also the subject: the same key again is the same record.
/// The fingerprint is `sha256:` and the digest of the key's SubjectPublicKeyInfo in DER; the payload is the key in PEM.
pub fn dsse_key_event(fingerprint: &str, pem: &str) -> Event {
    let id = format!("dsse-key-{fingerprint}");
    let payload = Bytes::copy_from_slice(pem.as_bytes());
    Event::own_about(
        "log.dsse_key",
        id,
        fingerprint.to_owned(),
        PEM_MEDIA_TYPE,
        payload,
    )
}
