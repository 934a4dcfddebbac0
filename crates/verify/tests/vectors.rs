//! Golden receipts, made by a second implementation in another language, and what is left of them after a change.
//! `vectors/receipts.json` is for anyone's use.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, ops::Range};

use base64::{Engine, prelude::BASE64_STANDARD};
use counterfoil_event::{CommitmentError, Event, EventParts, Salt};
use counterfoil_merkle::Suite;
use counterfoil_note::VerifierKey;
use counterfoil_verify::{Receipt, ReceiptTextError, ReceiptVerifier};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    suite: String,
    vkeys: Vec<String>,
    event: VectorEvent,
    tree_size: u64,
    leaf_index: u64,
    root_hash_hex: String,
    time_unix_ms: u64,
    leaf_hash_hex: String,
    entry_hex: String,
    salt_hex: String,
    receipt: String,
}

#[derive(Deserialize)]
struct VectorEvent {
    id: String,
    source: String,
    r#type: String,
    subject: String,
    time: String,
    data_content_type: String,
    data_hex: String,
    extensions: BTreeMap<String, String>,
}

impl Vector {
    fn suite(&self) -> Suite {
        self.suite.parse().unwrap()
    }

    fn keys(&self) -> Vec<VerifierKey> {
        self.vkeys.iter().map(|vkey| vkey.parse().unwrap()).collect()
    }

    fn event(&self) -> Event {
        let event = &self.event;
        Event::try_from(EventParts {
            id: event.id.clone(),
            source: event.source.clone(),
            event_type: event.r#type.clone(),
            subject: event.subject.clone(),
            time: event.time.clone(),
            data_content_type: event.data_content_type.clone(),
            data: hex::decode(&event.data_hex).unwrap().into(),
            extensions: event.extensions.clone().into_iter().collect(),
        })
        .unwrap()
    }

    fn named(name: &str) -> Self {
        vectors().into_iter().find(|vector| vector.name == name).unwrap()
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors/receipts.json")).unwrap();
    assert_eq!(vectors.len(), 10);
    vectors
}

/// Whether a receipt in these bytes proves to the holder of `key` that the log recorded `event`.
fn proves(text: &[u8], key: &VerifierKey, event: &Event) -> bool {
    let receipt = std::str::from_utf8(text)
        .ok()
        .and_then(|text| Receipt::from_text(text, key.suite()).ok());
    let verified = receipt.and_then(|receipt| receipt.verify(key).ok());
    verified.is_some_and(|verified| verified.commits_to(event).is_ok())
}

#[test]
fn receipts_agree_with_the_vectors() {
    for vector in vectors() {
        let (name, event) = (&vector.name, vector.event());
        let receipt = Receipt::from_text(&vector.receipt, vector.suite()).unwrap();
        assert_eq!(receipt.to_text(vector.suite()).unwrap(), vector.receipt, "{name}");
        assert_eq!(receipt.index.get(), vector.leaf_index, "{name}");
        assert_eq!(hex::encode(&receipt.entry), vector.entry_hex, "{name}");

        for key in vector.keys() {
            let verified = receipt.verify(&key).unwrap();
            let head = verified.head();
            assert_eq!(head.origin(), key.name(), "{name}");
            assert_eq!(head.size().get(), vector.tree_size, "{name}");
            assert_eq!(head.root().to_string(), vector.root_hash_hex, "{name}");
            assert!(
                head.time().is_none_or(|time| time.get() == vector.time_unix_ms),
                "{name}"
            );
            assert_eq!(verified.index(), receipt.index, "{name}");
            assert_eq!(verified.leaf_hash().to_string(), vector.leaf_hash_hex, "{name}");
            assert_eq!(verified.entry().encode(), receipt.entry, "{name}");
            assert_eq!(hex::encode(verified.salt().as_bytes()), vector.salt_hex, "{name}");
            assert_eq!(verified.commits_to(&event), Ok(()), "{name}");
            assert_eq!(verified.commits_to_payload(event.data()), Ok(()), "{name}");
            let mut under_head = ReceiptVerifier::new(head.clone().into());
            assert_eq!(under_head.verify(&receipt), Ok(verified.clone()), "{name}");
        }
    }
}

#[test]
fn a_key_of_another_log_or_suite_accepts_nothing() {
    let vectors = vectors();
    for vector in &vectors {
        for other in vectors.iter().filter(|other| other.suite != vector.suite) {
            let error = Receipt::from_text(&vector.receipt, other.suite()).unwrap_err();
            let (expected, found) = (other.suite(), vector.suite());
            assert_eq!(error, ReceiptTextError::OtherSuite { expected, found });

            let receipt = Receipt::from_text(&vector.receipt, vector.suite()).unwrap();
            for key in other.keys() {
                assert!(receipt.verify(&key).is_err());
                // Not even under the other header.
                let relabelled = receipt.to_text(other.suite()).unwrap();
                assert!(!proves(relabelled.as_bytes(), &key, &vector.event()));
            }
        }
    }
}

/// The bytes of `text` that are a signature by another key than `key`. Nobody without that key can check them.
fn signatures_of_others(text: &str, key: &VerifierKey) -> Vec<Range<usize>> {
    let id = u32::from_str_radix(&key.id().to_string(), 16)
        .unwrap()
        .to_be_bytes();
    let mut start = 0;
    let mut ranges = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(signature) = line.strip_prefix("— ") {
            let data = signature.trim_end().split_once(' ').unwrap().1;
            let data = BASE64_STANDARD.decode(data).unwrap();
            if data[..4] != id {
                ranges.push(start..start + line.len());
            }
        }
        start += line.len();
    }
    ranges
}

#[test]
fn a_receipt_with_any_bit_changed_proves_nothing() {
    for (name, keys) in [("blake3_7_6", 1), ("sha256_7_6", 2)] {
        let vector = Vector::named(name);
        let event = vector.event();
        assert_eq!(vector.keys().len(), keys);
        for key in vector.keys() {
            let others = signatures_of_others(&vector.receipt, &key);
            assert_eq!(others.len(), keys - 1);
            assert!(proves(vector.receipt.as_bytes(), &key, &event));
            for at in 0..vector.receipt.len() {
                for bit in 0..8 {
                    let mut text = vector.receipt.clone().into_bytes();
                    text[at] ^= 1 << bit;
                    if proves(&text, &key, &event) {
                        assert!(
                            others.iter().any(|range| range.contains(&at)),
                            "{name}: bit {bit} of byte {at}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_receipt_with_a_byte_more_or_less_proves_nothing() {
    let vector = Vector::named("blake3_300_299");
    let (key, event, text) = (&vector.keys()[0], vector.event(), vector.receipt.as_bytes());
    for at in 0..text.len() {
        assert!(!proves(&text[..at], key, &event), "cut at {at}");
        let without = [&text[..at], &text[at + 1..]].concat();
        assert!(!proves(&without, key, &event), "without {at}");
        for byte in [b'A', b'\n', b' ', b'=', b'\r'] {
            assert!(
                !proves(&[&text[..at], &[byte], &text[at..]].concat(), key, &event),
                "{byte} at {at}"
            );
        }
    }
}

#[test]
fn a_receipt_with_lines_missing_repeated_or_swapped_proves_nothing() {
    let vector = Vector::named("blake3_300_100");
    let (key, event) = (&vector.keys()[0], vector.event());
    let lines: Vec<&str> = vector.receipt.split_inclusive('\n').collect();
    let proves = |lines: &[&str]| proves(lines.concat().as_bytes(), key, &event);
    assert!(proves(&lines));
    for at in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        assert!(!proves(&without), "without line {at}");

        // A signature line said twice is one signature; a note may hold it so.
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert_eq!(proves(&twice), at + 1 == lines.len(), "line {at} twice");

        for other in (at + 1..lines.len()).filter(|&other| lines[other] != lines[at]) {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            assert!(!proves(&swapped), "lines {at} and {other} swapped");
        }
    }
}

/// The one part that no signature reaches: only what was committed to can tell.
#[test]
fn a_wrong_salt_is_found_by_the_commitments_alone() {
    let vector = Vector::named("blake3_7_0");
    let mut receipt = Receipt::from_text(&vector.receipt, vector.suite()).unwrap();
    let mut salt = *receipt.salt.as_bytes();
    salt[31] ^= 1;
    receipt.salt = Salt::from(salt);

    let verified = receipt.verify(&vector.keys()[0]).unwrap();
    let event = vector.event();
    assert_eq!(verified.commits_to(&event), Err(CommitmentError::Payload));
    assert_eq!(
        verified.commits_to_payload(event.data()),
        Err(CommitmentError::Payload)
    );
}
