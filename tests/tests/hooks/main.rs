//! Webhooks: deliveries of providers to a running server, honest and otherwise.
#![allow(clippy::unwrap_used, missing_docs)]

mod attacks;
mod limits;
mod recording;
mod sources;

use counterfoil_event::{Annotations, Attributes, Authentication, Entry};
use counterfoil_tests::{Answer, Server, TestLog, entry_at};
use serde_json::Value;

/// The body of an answer.
fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

/// Asserts that a delivery was refused for `reason`, and returns what the answer says about it.
fn assert_refused(answer: &Answer, status: u16, reason: &str) -> Value {
    let error = json(answer)["error"].take();
    assert_eq!(
        (answer.status, error["reason"].as_str()),
        (status, Some(reason)),
        "{answer:?}"
    );
    error
}

/// Asserts that a delivery is on record, and returns its leaf.
fn assert_taken(answer: &Answer, duplicate: bool) -> u64 {
    let json = json(answer);
    let status = if duplicate { 200 } else { 201 };
    assert_eq!(
        (answer.status, json["duplicate"].as_bool()),
        (status, Some(duplicate)),
        "{answer:?}"
    );
    json["leaf_index"].as_u64().unwrap()
}

/// What is on record of a delivery.
struct OnRecord {
    entry: Entry,
    attributes: Attributes,
    evidence: Value,
    /// Null if there is none.
    form: Value,
    body: Vec<u8>,
}

async fn on_record(server: &Server, log: &TestLog, leaf: u64) -> OnRecord {
    let answer = entry_at(&mut server.reader(), log, leaf).await.unwrap();
    let entry = Entry::decode(&answer.entry).unwrap();
    let payload = answer.payload.unwrap();
    let annotations = Annotations::decode_canonical(&payload.annotations).unwrap();
    assert_eq!(entry.authentication(), Authentication::Hmac);
    OnRecord {
        attributes: Attributes::decode_canonical(&payload.attributes).unwrap(),
        evidence: serde_json::from_str(&annotations.evidence).unwrap(),
        form: serde_json::from_slice(&annotations.normalised).unwrap_or_default(),
        body: payload.data.to_vec(),
        entry,
    }
}
