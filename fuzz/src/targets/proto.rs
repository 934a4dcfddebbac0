//! Messages of the gRPC interface, both ways.

use std::fmt::Debug;

use bytes::Bytes;
use counterfoil_event::Event;
use counterfoil_proto::{
    fuzzing::{self, BoundedMessage},
    index_attribute, v1,
};
use counterfoil_verify::Receipt;
use prost::Message;

use super::event::check_event;
use crate::{
    Target,
    sample::{self, HONEST, Sample},
};

pub(super) const MESSAGES: Target = Target {
    name: "messages",
    about: "gRPC requests and answers",
    seeds,
    words: &[
        "\x0a\x04main",
        "\x12\x00",
        "\x1a\x20",
        "scm.push",
        "application/json",
    ],
    max_bytes: 64 << 10,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let event = v1::Event::from(&sample::event(7, "{}"));
    let events = vec![event.clone(), v1::Event::default(), event.clone()];
    let log = "main".to_owned();
    let receipts = HONEST.iter().map(|log| receipt(log).encode_to_vec());
    let requests = [
        event.encode_to_vec(),
        v1::SubmitRequest {
            log: log.clone(),
            event: Some(event),
        }
        .encode_to_vec(),
        v1::SubmitBatchRequest { log, events }.encode_to_vec(),
    ];
    requests.into_iter().chain(receipts).collect()
}

fn receipt(log: &Sample) -> v1::Receipt {
    let receipt = log.receipt(3, 8);
    v1::Receipt {
        leaf_index: 3,
        entry: receipt.entry.into(),
        salt: receipt.salt.as_bytes().to_vec().into(),
        inclusion_proof: counterfoil_proto::proof_field(&receipt.inclusion_proof),
        tree_head: Some(v1::TreeHead::from(&log.head(8))),
    }
}

/// Events come back from their message as they were; a receipt is what the message says, or is refused.
fn run(input: &[u8]) {
    if let Ok(message) = v1::Event::decode(input) {
        event(message);
    }
    if let Ok(message) = v1::SubmitRequest::decode(input) {
        message.event.into_iter().for_each(event);
    }
    if let Ok(message) = v1::SubmitBatchRequest::decode(input) {
        message.events.into_iter().take(64).for_each(event);
    }
    if let Ok(message) = v1::Receipt::decode(input)
        && let Ok(receipt) = Receipt::try_from(message.clone())
    {
        assert_eq!(receipt.index.get(), message.leaf_index);
        assert_eq!(receipt.inclusion_proof.len(), message.inclusion_proof.len());
        assert_eq!(message.salt.len(), 32);
        for log in HONEST.iter() {
            if let Ok(verified) = receipt.verify(&log.keys[0]) {
                let place = sample::at(verified.index().get());
                assert_eq!(receipt.entry, log.entries[place]);
            }
        }
    }
    let _attribute = index_attribute("attribute", input.first().copied().unwrap_or(0).into());
}

fn event(message: v1::Event) {
    let Ok(event) = Event::try_from(message) else {
        return;
    };
    check_event(&event);
    let again = v1::Event::from(&event).encode_to_vec();
    let again = v1::Event::decode(&again[..]).unwrap();
    assert_eq!(Event::try_from(again).unwrap(), event);
}

pub(super) const PARTS: Target = Target {
    name: "message_parts",
    about: "gRPC messages, as both ends of a call count their parts and decode them",
    seeds: parts_seeds,
    words: &[
        "\x0a\x00",
        "\x12\x00",
        "\x1a\x00",
        "\x22\x00",
        "\x2a\x00",
        "\x42\x00",
        "\x12\x02\x12\x00",
        "\x12\x04\x12\x02\x22\x00",
        "\x7b\x7c",
    ],
    // Twice decoded, as many parts as there is room for take no more memory than they may.
    max_bytes: 16 << 10,
    run: parts,
};

fn parts_seeds() -> Vec<Vec<u8>> {
    let event = v1::Event::from(&sample::event(7, "{}"));
    let stream = |extensions| {
        v1::SubmitStreamRequest {
            sequence: 7,
            event: Some(v1::Event {
                extensions: vec![v1::Extension::default(); extensions],
                ..event.clone()
            }),
            ..v1::SubmitStreamRequest::default()
        }
        .encode_to_vec()
    };
    let batch = v1::SubmitBatchRequest {
        log: "main".to_owned(),
        events: vec![event.clone(), v1::Event::default(), event.clone()],
    };
    let receipt = receipt(&HONEST[0]);
    let with_hashes = |hashes| {
        let mut receipt = receipt.clone();
        receipt.inclusion_proof.resize(hashes, Bytes::new());
        receipt.encode_to_vec()
    };
    // A group that nobody knows, and a part that says that it is longer than the one that it is in.
    let unknown = [&[0x7b_u8, 0x08, 0x01, 0x7c][..], &batch.encode_to_vec()].concat();
    let over_the_end = [&[0x12_u8, 6, 0x12, 80][..], &[0x22_u8, 0].repeat(40)].concat();
    vec![
        batch.encode_to_vec(),
        stream(2),
        stream(65),
        stream(66),
        batch_response(&receipt).encode_to_vec(),
        entries_response(&receipt).encode_to_vec(),
        receipt.encode_to_vec(),
        with_hashes(65),
        with_hashes(66),
        unknown,
        over_the_end,
    ]
}

fn batch_response(receipt: &v1::Receipt) -> v1::SubmitBatchResponse {
    let accepted = v1::Accepted {
        leaf_index: receipt.leaf_index,
        entry: receipt.entry.clone(),
        salt: receipt.salt.clone(),
        inclusion_proof: receipt.inclusion_proof.clone(),
        ..v1::Accepted::default()
    };
    let refused = v1::Refused {
        reason: v1::Reason::InvalidEvent.into(),
        field: "event.id".to_owned(),
        ..v1::Refused::default()
    };
    let outcomes = [
        v1::submit_result::Outcome::Accepted(accepted),
        v1::submit_result::Outcome::Refused(refused),
    ];
    let results = (0..).zip(outcomes).map(|(sequence, outcome)| v1::SubmitResult {
        sequence,
        outcome: Some(outcome),
    });
    v1::SubmitBatchResponse {
        tree_heads: receipt.tree_head.iter().cloned().collect(),
        results: results.collect(),
    }
}

fn entries_response(receipt: &v1::Receipt) -> v1::ReadEntriesResponse {
    let payload = v1::Payload {
        salt: receipt.salt.clone(),
        data: Bytes::from_static(b"{}"),
        ..v1::Payload::default()
    };
    let entry = v1::GetEntryResponse {
        leaf_index: receipt.leaf_index,
        entry: receipt.entry.clone(),
        payload: Some(payload),
    };
    let erased = v1::GetEntryResponse {
        payload: None,
        ..entry.clone()
    };
    v1::ReadEntriesResponse {
        entries: vec![entry, erased],
    }
}

/// Messages of events, of results, of entries, and receipts, each as if the input were one.
fn parts(input: &[u8]) {
    let message = Bytes::copy_from_slice(input);
    let of_event = |event: &v1::Event| 1 + event.extensions.len();
    bounded(&message, |request: &v1::SubmitBatchRequest| {
        request.events.iter().map(of_event).sum()
    });
    bounded(&message, |request: &v1::SubmitStreamRequest| {
        request.event.iter().map(of_event).sum()
    });
    bounded(&message, |response: &v1::SubmitBatchResponse| {
        let of_outcome = |outcome: &v1::submit_result::Outcome| match outcome {
            v1::submit_result::Outcome::Accepted(accepted) => 1 + accepted.inclusion_proof.len(),
            v1::submit_result::Outcome::Refused(_) => 1,
        };
        let of_result = |result: &v1::SubmitResult| 1 + result.outcome.as_ref().map_or(0, of_outcome);
        response.tree_heads.len() + response.results.iter().map(of_result).sum::<usize>()
    });
    bounded(&message, |response: &v1::ReadEntriesResponse| {
        let of_entry = |entry: &v1::GetEntryResponse| 1 + usize::from(entry.payload.is_some());
        response.entries.iter().map(of_entry).sum()
    });
    bounded(&message, |receipt: &v1::Receipt| {
        receipt.inclusion_proof.len() + usize::from(receipt.tree_head.is_some())
    });
}

/// What is made of a message was counted before, and is what the decoder alone makes of it. Whatever is refused has too many parts,
/// or the decoder alone refuses it too: a part that runs over its end, it finds out later.
fn bounded<U: BoundedMessage + Debug + PartialEq>(message: &Bytes, made_of: impl Fn(&U) -> usize) {
    let (counted, decoded) = fuzzing::decode::<U>(message.clone());
    // Each has a number and a length.
    assert!(2 * counted <= message.len());
    let expected = U::decode(message.clone()).ok();
    if let Some(decoded) = &decoded {
        let made = made_of(decoded);
        assert!(made <= counted && counted <= U::MAX_PARTS);
        // Parts that are given again, one in the place of the other, are counted each time.
        if decoded.encode_to_vec() == message[..] {
            assert_eq!(made, counted);
        }
    }
    if decoded.is_some() || counted <= U::MAX_PARTS {
        assert_eq!(decoded, expected);
    }
}
