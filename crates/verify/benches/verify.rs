//! What it costs to verify a receipt offline, from its text and under a policy of one log and three witnesses.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, hint::black_box, num::NonZeroU64, time::Duration};

use counterfoil_event::{Event, EventParts, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::{Frontier, LeafIndex, Suite, TileId, inclusion_proof};
use counterfoil_note::{CosignerSigner, KeyKind, LogSigner, Policy, SignerKey, UnixMillis, UnixSeconds};
use counterfoil_verify::Receipt;
use criterion::{Criterion, criterion_group, criterion_main};

const LEAVES: u64 = 100_000;
const MIDDLE: u64 = LEAVES / 2;

/// A receipt from the middle of a log, its head cosigned by all three witnesses; the policy; the payload.
fn receipt(suite: Suite) -> (String, String, Vec<u8>) {
    let payload = vec![b'p'; 1024];
    let event = Event::try_from(EventParts {
        id: "run-42".into(),
        source: "https://ci.example/acme/widgets".into(),
        event_type: "ci.run.finished".into(),
        data: payload.clone().into(),
        ..EventParts::default()
    })
    .unwrap();
    let salt = Salt::from([3; 32]);
    let entry = UnstampedEntry::new(suite, &event, &salt, &Submitter::anonymous(), &[], "default").unwrap();
    let entry = entry.stamp(NonZeroU64::MIN);
    let mut frontier = Frontier::new(suite);
    let mut tiles = HashMap::new();
    for number in 0..LEAVES {
        let leaf = if number == MIDDLE {
            suite.leaf_hash(&entry)
        } else {
            suite.leaf_hash(&number.to_le_bytes())
        };
        frontier.append(leaf, &mut |id, tile| {
            tiles.insert(id, tile);
        });
    }
    let origin = || "log.example/main".parse().unwrap();
    let keys = KeyKind::of_log(suite).iter().zip(1..);
    let keys = keys.map(|(&kind, seed): (_, u8)| SignerKey::generate(origin(), kind, [seed; 32]));
    let signer = LogSigner::new(keys.collect()).unwrap();
    let key = signer.keys()[0].verifier_key();
    let note = signer.sign_head(
        frontier.size(),
        frontier.root(),
        UnixMillis::new(1_795_340_000_000),
    );
    let head = key.verify_head(&note).unwrap();
    let witnesses = [4_u8, 5, 6].map(|seed| {
        CosignerSigner::generate(format!("witness.example/w{seed}").parse().unwrap(), [seed; 32])
    });
    let time = UnixSeconds::new(1_795_340_001).unwrap();
    let head = head
        .with_signatures(witnesses.iter().map(|witness| witness.cosign(&head, time)))
        .unwrap();

    let index = LeafIndex::new(MIDDLE).unwrap();
    let filled = |node| tiles.get(&TileId::containing(node))?.lookup(node);
    let read = |node| {
        frontier
            .node(node)
            .or_else(|| filled(node))
            .ok_or("a node that is not held")
    };
    let receipt = Receipt {
        index,
        entry,
        salt,
        inclusion_proof: inclusion_proof(suite, index, frontier.size(), read).unwrap(),
        checkpoint: head.note_bytes().to_vec(),
    };
    let [a, b, c] = witnesses.each_ref().map(CosignerSigner::verifier_key);
    let policy =
        format!("log {key}\nwitness a {a}\nwitness b {b}\nwitness c {c}\ngroup most 2 a b c\nquorum most\n");
    (receipt.to_text(suite).unwrap(), policy, payload)
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify_receipt");
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    for suite in Suite::ALL {
        let (receipt, policy, payload) = receipt(suite);
        group.bench_function(format!("{suite}/one log, three witnesses"), |b| {
            b.iter(|| {
                let policy = Policy::parse(black_box(policy.as_bytes())).unwrap();
                let receipt = Receipt::from_text_by(black_box(&receipt), &policy).unwrap();
                let witnessed = receipt.verify_by(&policy).unwrap();
                witnessed
                    .receipt()
                    .commits_to_payload(black_box(&payload))
                    .unwrap();
                assert_eq!(witnessed.cosignatures().len(), 3);
            });
        });
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
