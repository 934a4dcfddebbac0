//! Messages of the gRPC interface, both ways.

use counterfoil_event::Event;
use counterfoil_proto::{index_attribute, v1};
use counterfoil_verify::Receipt;
use prost::Message;

use super::event::check_event;
use crate::{
    Target,
    sample::{self, HONEST},
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
    let receipts = HONEST.iter().map(|log| {
        let receipt = log.receipt(3, 8);
        v1::Receipt {
            leaf_index: 3,
            entry: receipt.entry.clone().into(),
            salt: receipt.salt.as_bytes().to_vec().into(),
            inclusion_proof: counterfoil_proto::proof_field(&receipt.inclusion_proof),
            tree_head: Some(v1::TreeHead::from(&log.head(8))),
        }
        .encode_to_vec()
    });
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
