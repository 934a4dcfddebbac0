//! Golden vectors, made by a second implementation in another language. `vectors/*.json` are for anyone's use.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::{
    CosignedHeadError, CosignerKey, CosignerSigner, HeadError, KeyError, KeyKind, LogSigner, Policy,
    SignerKey, UnixMillis, VerifierKey,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    keys: Vec<Key>,
    bad_vkeys: Vec<BadVkey>,
    signing: Vec<Signing>,
    heads: Vec<Head>,
    bad_heads: Vec<BadHead>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
    kind: String,
    seed: String,
    key_id: String,
    vkey: String,
    secret_text: String,
}

#[derive(Deserialize)]
struct BadVkey {
    why: String,
    vkey: String,
    error: String,
}

#[derive(Deserialize)]
struct Signing {
    why: String,
    keys: Vec<String>,
    size: String,
    root: String,
    time: String,
    note: String,
}

#[derive(Deserialize)]
struct Head {
    why: String,
    vkey: String,
    suite: String,
    size: String,
    root: String,
    time: Option<String>,
    note: String,
}

#[derive(Deserialize)]
struct BadHead {
    why: String,
    vkey: String,
    note: String,
    error: String,
}

#[derive(Deserialize)]
struct WitnessVectors {
    keys: Vec<WitnessKey>,
    heads: Vec<CosignedHead>,
    bad_policies: Vec<BadPolicy>,
}

#[derive(Deserialize)]
struct WitnessKey {
    name: String,
    seed: String,
    key_id: String,
    vkey: String,
    secret_text: String,
}

#[derive(Deserialize)]
struct CosignedHead {
    why: String,
    policy: String,
    note: String,
    cosignatures: Option<Vec<Cosignature>>,
    error: Option<String>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Cosignature {
    name: String,
    time: String,
}

#[derive(Deserialize)]
struct BadPolicy {
    why: String,
    policy: String,
    line: usize,
}

fn witness_vectors() -> WitnessVectors {
    serde_json::from_str(include_str!("vectors/cosignatures.json")).unwrap()
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/note.json")).unwrap()
}

#[test]
fn seeds_give_the_keys_of_the_vectors_and_texts_read_back() {
    for vector in vectors().keys {
        let kind = match vector.kind.split_once('/') {
            None => KeyKind::Ed25519,
            Some((_, suite)) => KeyKind::TimestampedHead(suite.parse().unwrap()),
        };
        let seed = hex::decode(&vector.seed).unwrap().try_into().unwrap();
        let key = SignerKey::generate(vector.name.parse().unwrap(), kind, seed);
        assert_eq!(key.verifier_key().id().to_string(), vector.key_id);
        assert_eq!(key.verifier_key().to_string(), vector.vkey);
        assert_eq!(*key.to_secret_text(), vector.secret_text);

        assert_eq!(vector.vkey.parse::<VerifierKey>().unwrap(), *key.verifier_key());
        let read = vector.secret_text.parse::<SignerKey>().unwrap();
        assert_eq!(
            (read.verifier_key(), read.to_secret_text()),
            (key.verifier_key(), key.to_secret_text())
        );
    }
}

#[test]
fn bad_vkeys_are_refused_for_the_reason_given() {
    for vector in vectors().bad_vkeys {
        let reason = match vector.vkey.parse::<VerifierKey>() {
            Ok(_) => "none",
            Err(KeyError::TooLong { .. }) => "too_long",
            Err(KeyError::Format) => "format",
            Err(KeyError::Secret) => "secret",
            Err(KeyError::Name(_)) => "name",
            Err(KeyError::UnknownKind) => "unknown_kind",
            Err(KeyError::WitnessKey) => "witness_key",
            Err(KeyError::LogKey | KeyError::MlDsa44) => "of a witness",
            Err(KeyError::Length { .. }) => "length",
            Err(KeyError::NotAPoint) => "not_a_point",
            Err(KeyError::Weak) => "weak",
            Err(KeyError::Id { .. }) => "id",
        };
        assert_eq!(reason, vector.error, "{}: {:?}", vector.why, vector.vkey);
    }
}

#[test]
fn heads_are_signed_to_the_bytes_of_the_vectors() {
    for vector in vectors().signing {
        let keys = vector.keys.iter().map(|text| text.parse().unwrap()).collect();
        let note = LogSigner::new(keys).unwrap().sign_head(
            size(&vector.size),
            root(&vector.root),
            time(&vector.time),
        );
        assert_eq!(String::from_utf8(note).unwrap(), vector.note, "{}", vector.why);
    }
}

#[test]
fn good_heads_verify_and_say_what_was_signed() {
    for vector in vectors().heads {
        let key: VerifierKey = vector.vkey.parse().unwrap();
        let head = key.verify_head(vector.note.as_bytes()).expect(&vector.why);
        assert_eq!(head.origin(), key.name(), "{}", vector.why);
        assert_eq!(head.suite().as_str(), vector.suite, "{}", vector.why);
        assert_eq!(head.size(), size(&vector.size), "{}", vector.why);
        assert_eq!(head.root(), root(&vector.root), "{}", vector.why);
        assert_eq!(head.time(), vector.time.as_deref().map(time), "{}", vector.why);
        assert_eq!(head.note_bytes(), vector.note.as_bytes(), "{}", vector.why);
    }
}

#[test]
fn bad_heads_are_refused_for_the_reason_given() {
    for vector in vectors().bad_heads {
        let key: VerifierKey = vector.vkey.parse().unwrap();
        let reason = match key.verify_head(vector.note.as_bytes()) {
            Ok(_) => "none",
            Err(HeadError::Note(_)) => "note",
            Err(HeadError::Checkpoint(_)) => "checkpoint",
            Err(HeadError::OtherOrigin { .. }) => "other_origin",
            Err(HeadError::UnlistedLog { .. } | HeadError::Cosignature(_)) => "of a policy",
            Err(HeadError::NotSignedByKey { .. }) => "not_signed_by_key",
            Err(HeadError::BadSignature { .. }) => "bad_signature",
            Err(HeadError::EmptyTreeRoot) => "empty_tree_root",
        };
        assert_eq!(reason, vector.error, "{}: {:?}", vector.why, vector.note);
    }
}

#[test]
fn seeds_give_the_witness_keys_of_the_vectors_and_texts_read_back() {
    for vector in witness_vectors().keys {
        let seed = hex::decode(&vector.seed).unwrap().try_into().unwrap();
        let key = CosignerSigner::generate(vector.name.parse().unwrap(), seed);
        assert_eq!(key.verifier_key().id().to_string(), vector.key_id);
        assert_eq!(key.verifier_key().to_string(), vector.vkey);
        assert_eq!(*key.to_secret_text(), vector.secret_text);
        assert_eq!(vector.vkey.parse::<CosignerKey>().unwrap(), *key.verifier_key());
    }
}

#[test]
fn policies_judge_the_heads_of_the_vectors_alike() {
    for vector in witness_vectors().heads {
        let policy = Policy::parse(vector.policy.as_bytes()).unwrap();
        let (found, error) = match policy.verify_cosigned(vector.note.as_bytes()) {
            Ok(cosigned) => (Some(cosigned), None),
            Err(CosignedHeadError::Head(_)) => (None, Some("head")),
            Err(CosignedHeadError::NoQuorum(_)) => (None, Some("no_quorum")),
        };
        assert_eq!(error, vector.error.as_deref(), "{}", vector.why);
        let found = found.map(|cosigned| {
            let each = cosigned.cosignatures().iter();
            each.map(|by| Cosignature {
                name: by.name().to_string(),
                time: by.time().to_string(),
            })
            .collect::<Vec<_>>()
        });
        assert_eq!(found, vector.cosignatures, "{}", vector.why);
    }
}

#[test]
fn bad_policies_are_refused_at_the_line_given() {
    for vector in witness_vectors().bad_policies {
        let error = Policy::parse(vector.policy.as_bytes()).expect_err(&vector.why);
        assert_eq!(error.line, vector.line, "{}: {error}", vector.why);
    }
}

fn size(text: &str) -> TreeSize {
    TreeSize::new(text.parse().unwrap()).unwrap()
}

fn root(text: &str) -> Digest {
    text.parse().unwrap()
}

fn time(text: &str) -> UnixMillis {
    UnixMillis::new(text.parse().unwrap())
}
