//! Receipts and evidence.

use counterfoil_event::Event;
use counterfoil_note::VerifierKey;
use counterfoil_verify::{Evidence, Fact, Inconsistency, LeafProof, Receipt};

use super::text;
use crate::{
    Target,
    sample::{self, HONEST, LEAVES, Sample},
    vectors::Vectors,
};

pub(super) const RECEIPT: Target = Target {
    name: "receipt",
    about: "receipts as text (.tlog-proof)",
    seeds: receipt_seeds,
    words: &[
        "counterfoil/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v1\n",
        "extra ",
        "index ",
        "\n\n",
        "— ",
    ],
    max_bytes: 32 << 10,
    run: receipt,
};

fn receipt_seeds() -> Vec<Vec<u8>> {
    let ours = HONEST.iter().flat_map(|log| {
        let receipt = |(leaf, size)| log.receipt(leaf, size).to_text(log.suite()).unwrap();
        [(0, 1), (0, 8), (6, 7), (10, 11)]
            .map(receipt)
            .map(String::into_bytes)
    });
    ours.chain(Vectors::Receipts.all("receipt")).collect()
}

/// A receipt has one text. Whatever verifies says what the log has: no leaf elsewhere, no other leaf, no other event.
fn receipt(input: &[u8]) {
    let Some(text) = text(input) else { return };
    for log in HONEST.iter() {
        let suite = log.suite();
        let Ok(receipt) = Receipt::from_text(text, suite) else {
            continue;
        };
        assert_eq!(receipt.to_text(suite).unwrap(), text);
        if let Ok(verified) = receipt.verify(&log.keys[0]) {
            let place = sample::at(verified.index().get());
            assert_eq!(receipt.entry, log.entries[place]);
            assert_eq!(
                receipt.inclusion_proof,
                log.inclusion(place as u64, verified.head().size().get())
            );
            let others = [event_of(place + 1), event_of(0)];
            for (event, is_it) in others.iter().zip([false, place == 0]) {
                assert!(is_it || verified.commits_to(event).is_err());
            }
        }
        if let Ok(witnessed) = receipt.verify_by(&log.policy) {
            assert!(receipt.verify(&log.keys[0]).is_ok());
            assert_eq!(witnessed.cosignatures().len(), 1);
        }
        let by_policy = Receipt::from_text_by(text, &log.policy);
        assert!(by_policy.is_err() || by_policy == Ok(receipt));
    }
}

fn event_of(place: usize) -> Event {
    sample::event(place as u64, &format!("{{\"number\":{place},\"differs\":false}}"))
}

pub(super) const EVIDENCE: Target = Target {
    name: "evidence",
    about: "evidence against a log as text (.evidence)",
    seeds: evidence_seeds,
    words: &[
        "counterfoil/evidence@v1\n",
        "fact fork\n",
        "fact inconsistency\n",
        "fact rollback\n",
        "fact rewritten_entry\n",
        "fact invalid_entry\n",
        "fact decreasing_time\n",
        "fact entry_mismatch\n",
        "head ",
        "index ",
        "entry ",
        "hash ",
        "leaf ",
        "seed ",
        "observed ",
    ],
    max_bytes: 64 << 10,
    run: evidence,
};

fn leaf_proof(log: &Sample, leaf: u64, size: u64) -> LeafProof {
    LeafProof {
        head: log.note(size),
        leaf_hash: log.leaf_hash(leaf),
        inclusion_proof: log.inclusion(leaf, size),
    }
}

/// Against the logs that lied, and what does not hold against those that did not.
fn evidence_seeds() -> Vec<Vec<u8>> {
    let facts = |one: &Sample, other: &Sample| {
        let index = counterfoil_merkle::LeafIndex::new(6).unwrap();
        let (older, newer) = (one.head(6), other.head(LEAVES));
        let proof = other.consistency(6, LEAVES);
        // Whoever is honest signs no smaller head later.
        let smaller = if std::ptr::eq(one, other) {
            other.note(7)
        } else {
            other.note_at(7, sample::END_MS)
        };
        [
            Fact::Fork {
                heads: [one.note(7), other.note(7)],
            },
            Fact::Inconsistency(Inconsistency::from_consistency(&older, &newer, &proof).unwrap()),
            Fact::Rollback {
                larger: one.note(8),
                smaller,
            },
            Fact::RewrittenEntry {
                index,
                leaves: [leaf_proof(one, 6, 8), leaf_proof(other, 6, 9)],
            },
            Fact::EntryMismatch {
                index,
                served: other.entries[6].clone(),
                leaf: leaf_proof(one, 6, 8),
            },
        ]
    };
    let made = sample::liars()
        .map(|(one, other)| facts(one, other))
        .chain(HONEST.iter().map(|log| facts(log, log)))
        .flatten()
        .map(|fact| {
            let observed = counterfoil_note::UnixMillis::new(1);
            Evidence { observed, fact }.to_text().unwrap().into_bytes()
        });
    made.chain(Vectors::Evidence.all("evidence")).collect()
}

/// Evidence has one text. Nothing convicts a log that did not lie, unless it rests on an observer's word.
fn evidence(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(evidence) = Evidence::from_text(text) else {
        return;
    };
    assert_eq!(evidence.to_text().unwrap(), text);
    for log in HONEST.iter() {
        if evidence.check(&log.keys).is_ok() {
            assert!(matches!(evidence.fact, Fact::EntryMismatch { .. }), "{text}");
        }
    }
    for (liar, _) in sample::liars() {
        if let Ok(verdict) = evidence.check(&liar.keys) {
            assert_eq!(verdict.origin(), liar.keys[0].name());
            assert!(!verdict.proved().is_empty() && !verdict.heads().is_empty());
        }
    }
    let nobody: [VerifierKey; 0] = [];
    assert!(evidence.check(&nobody).is_err());
}
