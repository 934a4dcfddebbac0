//! Golden vectors, made by a second implementation in another language. `vectors/entries.json` is for anyone's use.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, num::NonZeroU64};

use counterfoil_event::{
    Annotations, Attributes, Authentication, CommitmentError, Entry, Event, EventParts, Salt, Submitter,
    UnstampedEntry,
};
use counterfoil_merkle::Suite;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    suite: String,
    event: VectorEvent,
    salt_hex: String,
    annotations: VectorAnnotations,
    annotations_hex: String,
    annotations_commitment_hex: String,
    source_id: String,
    authentication: String,
    retention_class: String,
    time_unix_ns: String,
    event_key_hex: String,
    attributes_hex: String,
    payload_commitment_hex: String,
    attributes_commitment_hex: String,
    entry_hex: String,
    leaf_hash_hex: String,
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

#[derive(Deserialize)]
struct VectorAnnotations {
    adapter: String,
    normalised: String,
    evidence: String,
}

impl VectorEvent {
    fn into_event(self) -> Event {
        Event::try_from(EventParts {
            id: self.id,
            source: self.source,
            event_type: self.r#type,
            subject: self.subject,
            time: self.time,
            data_content_type: self.data_content_type,
            data: hex::decode(self.data_hex).unwrap().into(),
            extensions: self.extensions.into_iter().rev().collect(),
        })
        .unwrap()
    }
}

#[test]
fn entries_agree_with_the_vectors() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors/entries.json")).unwrap();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let name = format!("{} {}", vector.suite, vector.name);
        let suite: Suite = vector.suite.parse().unwrap();
        let VectorAnnotations {
            adapter,
            normalised,
            evidence,
        } = vector.annotations;
        let mut event = vector.event.into_event();
        if !adapter.is_empty() {
            event = event.with_normal_form(&adapter, normalised.into_bytes()).unwrap();
        }
        let salt = Salt::from(<[u8; 32]>::try_from(hex::decode(vector.salt_hex).unwrap()).unwrap());
        let time: NonZeroU64 = vector.time_unix_ns.parse().unwrap();
        let submitter = match vector.authentication.as_str() {
            "log" => Submitter::log(),
            "none" => {
                Submitter::new(vector.source_id.parse().unwrap(), Authentication::None, evidence).unwrap()
            }
            "hmac" => {
                Submitter::new(vector.source_id.parse().unwrap(), Authentication::Hmac, evidence).unwrap()
            }
            other => panic!("{other}"),
        };
        let annotations = Annotations::new(&event, &submitter);
        assert_eq!(
            hex::encode(annotations.encode()),
            vector.annotations_hex,
            "{name}"
        );
        assert_eq!(
            Annotations::decode_canonical(&annotations.encode()).unwrap(),
            annotations,
            "{name}"
        );

        assert_eq!(
            hex::encode(event.key().as_bytes()),
            vector.event_key_hex,
            "{name}"
        );
        let attributes = event.attributes().encode();
        assert_eq!(hex::encode(&attributes), vector.attributes_hex, "{name}");
        assert_eq!(
            Attributes::decode_canonical(&attributes).unwrap(),
            *event.attributes(),
            "{name}"
        );

        let unstamped = UnstampedEntry::new(
            suite,
            &event,
            &salt,
            &submitter,
            &annotations.encode(),
            &vector.retention_class,
        );
        let leaf = unstamped.unwrap().stamp(time);
        assert_eq!(hex::encode(&leaf), vector.entry_hex, "{name}");
        assert_eq!(suite.leaf_hash(&leaf).to_string(), vector.leaf_hash_hex, "{name}");

        let entry = Entry::decode(&leaf).unwrap();
        assert_eq!(entry.time_unix_ns(), time, "{name}");
        assert_eq!(entry.source_id(), vector.source_id, "{name}");
        assert_eq!(entry.event_type(), event.event_type(), "{name}");
        assert_eq!(entry.media_type(), event.data_content_type(), "{name}");
        assert_eq!(entry.payload_length(), event.data().len() as u64, "{name}");
        assert_eq!(
            entry.payload_commitment().to_string(),
            vector.payload_commitment_hex,
            "{name}"
        );
        assert_eq!(
            entry.attributes_commitment().to_string(),
            vector.attributes_commitment_hex,
            "{name}"
        );
        assert_eq!(entry.authentication(), submitter.authentication(), "{name}");
        assert_eq!(entry.retention_class(), vector.retention_class, "{name}");
        assert_eq!(entry.encode(), leaf, "{name}");
        assert_eq!(
            entry
                .annotations_commitment()
                .map_or(String::new(), |it| it.to_string()),
            vector.annotations_commitment_hex,
            "{name}"
        );
        entry.commits_to(suite, &salt, &event).unwrap();
        entry
            .commits_to_annotations(suite, &salt, &annotations.encode())
            .unwrap();
        assert_eq!(
            entry.commits_to_annotations(suite, &salt, b"others"),
            Err(CommitmentError::Annotations),
            "{name}"
        );
    }
}
