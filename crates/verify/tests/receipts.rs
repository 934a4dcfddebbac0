//! Receipts that a log might hand out wrongly, and the rules of their text.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use base64::{Engine, prelude::BASE64_STANDARD};
use counterfoil_event::{
    EntryError, Event, EventParts, Salt, Submitter, UnstampedEntry, limits::MAX_ENTRY_BYTES,
};
use counterfoil_merkle::{Digest, Frontier, LeafIndex, ProofError, Suite, TreeSize, inclusion_proof};
use counterfoil_note::{
    CosignerSigner, HeadError, KeyKind, LogSigner, Policy, SignerKey, UnixMillis, UnixSeconds, VerifierKey,
};
use counterfoil_verify::{
    MAX_PROOF_HASHES, MAX_RECEIPT_TEXT_BYTES, Receipt, ReceiptError, ReceiptTextError, ReceiptVerifier,
};
use proptest::prelude::*;

/// A log of a few leaves in memory.
struct Log {
    signer: LogSigner,
    frontier: Frontier,
    leaves: Vec<Vec<u8>>,
}

const SALT: [u8; 32] = [3; 32];

impl Log {
    fn new(suite: Suite, leaves: Vec<Vec<u8>>) -> Self {
        let kinds = KeyKind::of_log(suite).iter().zip(1..);
        let key = |(&kind, seed): (&KeyKind, u8)| {
            SignerKey::generate("log.example/main".parse().unwrap(), kind, [seed; 32])
        };
        let signer = LogSigner::new(kinds.map(key).collect()).unwrap();
        let mut frontier = Frontier::new(suite);
        for leaf in &leaves {
            frontier.append(suite.leaf_hash(leaf), &mut |_, _| {});
        }
        Self {
            signer,
            frontier,
            leaves,
        }
    }

    fn of_entries(suite: Suite, count: u64) -> Self {
        Self::new(suite, (0..count).map(|n| leaf(suite, n)).collect())
    }

    fn key(&self) -> &VerifierKey {
        self.signer.keys()[0].verifier_key()
    }

    fn receipt(&self, index: usize) -> Receipt {
        let place = LeafIndex::new(index as u64).unwrap();
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let read = |node| self.frontier.node(node).ok_or("a node that is not held");
        Receipt {
            index: place,
            entry: self.leaves[index].clone(),
            salt: Salt::from(SALT),
            inclusion_proof: inclusion_proof(self.frontier.suite(), place, size, read).unwrap(),
            checkpoint: self
                .signer
                .sign_head(size, root, UnixMillis::new(1_795_340_000_000)),
        }
    }
}

fn event(number: u64) -> Event {
    let parts = EventParts {
        id: number.to_string(),
        source: "s".into(),
        event_type: "t".into(),
        data: format!("payload {number}").into(),
        ..EventParts::default()
    };
    Event::try_from(parts).unwrap()
}

fn leaf(suite: Suite, number: u64) -> Vec<u8> {
    let salt = Salt::from(SALT);
    let entry = UnstampedEntry::new(
        suite,
        &event(number),
        &salt,
        &Submitter::anonymous(),
        &[],
        "default",
    )
    .unwrap();
    entry.stamp(NonZeroU64::new(number + 1).unwrap())
}

#[test]
fn a_receipt_of_our_own_making_holds_and_is_refused_out_of_place() {
    for suite in [Suite::Blake3, Suite::Sha256] {
        let log = Log::of_entries(suite, 11);
        let head = log.receipt(0).verify(log.key()).unwrap().head().clone();
        let mut under_head = ReceiptVerifier::new(head.into());
        for index in 0..11 {
            let receipt = log.receipt(index);
            let verified = receipt.verify(log.key()).unwrap();
            assert_eq!(verified.commits_to(&event(index as u64)), Ok(()));
            assert_eq!(under_head.verify(&receipt), Ok(verified));
            for other in (0..11).filter(|&other| other != index) {
                let place = LeafIndex::new(other as u64).unwrap();
                let moved = Receipt {
                    index: place,
                    ..receipt.clone()
                };
                assert!(matches!(moved.verify(log.key()), Err(ReceiptError::Inclusion(_))));
                let swapped = Receipt {
                    entry: log.leaves[other].clone(),
                    ..receipt.clone()
                };
                let error = ReceiptError::Inclusion(ProofError::RootMismatch);
                assert_eq!(swapped.verify(log.key()), Err(error));
            }
        }
    }
}

#[test]
fn a_proof_has_exactly_the_hashes_it_needs() {
    let log = Log::of_entries(Suite::Blake3, 8);
    let receipt = log.receipt(5);
    assert_eq!(receipt.inclusion_proof.len(), 3);
    for count in [0, 2, 4, 64] {
        let mut other = receipt.clone();
        other.inclusion_proof.resize(count, Digest::from([0; 32]));
        assert!(
            matches!(other.verify(log.key()), Err(ReceiptError::Inclusion(_))),
            "{count}"
        );
    }
    let beyond = Receipt {
        index: LeafIndex::new(8).unwrap(),
        ..receipt
    };
    assert!(matches!(
        beyond.verify(log.key()),
        Err(ReceiptError::Inclusion(_))
    ));
}

#[test]
fn a_head_checked_before_must_be_the_receipts_own() {
    let log = Log::of_entries(Suite::Blake3, 3);
    let head = log.receipt(0).verify(log.key()).unwrap().head().clone();
    let mut receipt = log.receipt(1);
    // The same tree, signed at another time.
    receipt.checkpoint = log.signer.sign_head(head.size(), head.root(), UnixMillis::new(1));
    assert!(receipt.verify(log.key()).is_ok());
    let mut under_head = ReceiptVerifier::new(head.into());
    assert_eq!(under_head.verify(&receipt), Err(ReceiptError::OtherHead));
}

#[test]
fn a_head_of_the_other_suite_is_not_signed_by_the_key() {
    let (blake3, sha256) = (
        Log::of_entries(Suite::Blake3, 3),
        Log::of_entries(Suite::Sha256, 3),
    );
    for (log, other) in [(&blake3, &sha256), (&sha256, &blake3)] {
        let error = log.receipt(1).verify(other.key()).unwrap_err();
        assert!(
            matches!(error, ReceiptError::Head(HeadError::NotSignedByKey { .. })),
            "{error}"
        );
    }
}

fn witness(number: u8) -> CosignerSigner {
    let name = format!("witness.example/w{number}").parse().unwrap();
    CosignerSigner::generate(name, [100 + number; 32])
}

/// Lists the log and two witnesses, one of which has to cosign.
fn policy(log: &Log) -> Policy {
    let vkeys = [1, 2].map(|number| witness(number).verifier_key().to_string());
    let text = format!(
        "log {}\nwitness a {}\nwitness b {}\ngroup any-of-them any a b\nquorum any-of-them\n",
        log.key(),
        vkeys[0],
        vkeys[1]
    );
    Policy::parse(text.as_bytes()).unwrap()
}

fn cosigned(log: &Log, receipt: &Receipt, by: &[u8]) -> Receipt {
    let head = log.key().verify_head(&receipt.checkpoint).unwrap();
    let time = |number: u8| UnixSeconds::new(1_795_340_000 + u64::from(number)).unwrap();
    let lines = by
        .iter()
        .map(|&number| witness(number).cosign(&head, time(number)));
    Receipt {
        checkpoint: head.with_signatures(lines).unwrap().note_bytes().to_vec(),
        ..receipt.clone()
    }
}

#[test]
fn under_a_policy_a_receipt_needs_its_witnesses() {
    for suite in Suite::ALL {
        let log = Log::of_entries(suite, 11);
        let policy = policy(&log);
        let fresh = log.receipt(7);
        for by in [&[][..], &[3], &[3, 4, 5]] {
            let refused = cosigned(&log, &fresh, by).verify_by(&policy);
            let Err(ReceiptError::NoQuorum(missing)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((missing.cosigned.len(), missing.missing.len()), (0, 2));
        }
        for (by, times) in [
            (&[2][..], &[1_795_340_002][..]),
            (&[3, 2, 1], &[1_795_340_001, 1_795_340_002]),
        ] {
            let witnessed = cosigned(&log, &fresh, by).verify_by(&policy).unwrap();
            let found: Vec<_> = witnessed
                .cosignatures()
                .iter()
                .map(|by| by.time().get())
                .collect();
            assert_eq!(found, times);
            assert_eq!(witnessed.receipt().commits_to(&event(7)), Ok(()));
        }

        // Witnesses vouch for the head, not for what is put beside it.
        let good = cosigned(&log, &fresh, &[1]);
        let moved = Receipt {
            index: LeafIndex::new(6).unwrap(),
            ..good.clone()
        };
        assert!(matches!(
            moved.verify_by(&policy),
            Err(ReceiptError::Inclusion(_))
        ));
        // Nor does a cosignature stand in for the log's own signature.
        let other = Log::of_entries(suite, 12);
        let mut unsigned = good.clone();
        unsigned.checkpoint = other.receipt(0).checkpoint;
        unsigned.checkpoint.truncate(unsigned.checkpoint.len() - 8);
        unsigned.checkpoint.extend(b"AAAAAA==\n");
        assert!(matches!(unsigned.verify_by(&policy), Err(ReceiptError::Head(_))));
        assert!(fresh.verify_by(&Policy::for_log(log.key().clone())).is_ok());
    }
}

#[test]
fn the_text_of_a_receipt_is_read_by_the_listed_logs_suite() {
    let (blake3, sha256) = (
        Log::of_entries(Suite::Blake3, 3),
        Log::of_entries(Suite::Sha256, 3),
    );
    for (log, other) in [(&blake3, &sha256), (&sha256, &blake3)] {
        let suite = log.frontier.suite();
        let receipt = cosigned(log, &log.receipt(1), &[1, 2]);
        let text = receipt.to_text(suite).unwrap();
        assert_eq!(Receipt::from_text_by(&text, &policy(log)).unwrap(), receipt);

        let relabelled = receipt.to_text(other.frontier.suite()).unwrap();
        let error = Receipt::from_text_by(&relabelled, &policy(log)).unwrap_err();
        assert!(matches!(error, ReceiptTextError::OtherSuite { .. }), "{error}");
        let error = Receipt::from_text_by("hello\n\n", &policy(log)).unwrap_err();
        assert_eq!(error, ReceiptTextError::NotAReceipt);

        // Of a log that is not listed: it is read, and refused where heads are.
        let key = SignerKey::generate(
            "log.example/other".parse().unwrap(),
            KeyKind::of_log(suite)[0],
            [9; 32],
        );
        let stranger = Policy::for_log(key.verifier_key().clone());
        let error = Receipt::from_text_by(&text, &stranger)
            .unwrap()
            .verify_by(&stranger)
            .unwrap_err();
        assert!(
            matches!(error, ReceiptError::Head(HeadError::OtherOrigin { .. })),
            "{error}"
        );
    }
}

#[test]
fn no_receipt_is_under_an_empty_tree() {
    let log = Log::of_entries(Suite::Blake3, 1);
    let mut receipt = log.receipt(0);
    let (size, root) = (TreeSize::ZERO, Suite::Blake3.empty_root());
    receipt.checkpoint = log.signer.sign_head(size, root, UnixMillis::new(1));
    assert!(matches!(
        receipt.verify(log.key()),
        Err(ReceiptError::Inclusion(_))
    ));
}

/// The log signed these leaves, and still they are no entries: nothing hides in a leaf, not even with the log's help.
#[test]
fn a_leaf_must_be_an_entry_in_its_one_encoding() {
    let suite = Suite::Blake3;
    let sound = leaf(suite, 0);
    let unknown_field = [&sound[..], b"\x7a\x06hidden"].concat();
    let mut version_2 = sound.clone();
    version_2[1] = 2;
    let refused = [
        (unknown_field, EntryError::NotCanonical),
        (version_2, EntryError::UnknownVersion { found: 2 }),
        (b"hello".to_vec(), EntryError::Malformed),
        (Vec::new(), EntryError::UnknownVersion { found: 0 }),
        (
            vec![0; MAX_ENTRY_BYTES + 1],
            EntryError::TooLong {
                actual_bytes: MAX_ENTRY_BYTES + 1,
            },
        ),
    ];
    for (leaf, error) in refused {
        let log = Log::new(suite, vec![leaf, sound.clone()]);
        assert_eq!(log.receipt(0).verify(log.key()), Err(ReceiptError::Entry(error)));
        assert!(log.receipt(1).verify(log.key()).is_ok());
    }
}

/// A receipt that is well-formed as text and proves nothing.
fn plain() -> Receipt {
    Receipt {
        index: LeafIndex::new(7).unwrap(),
        entry: b"entry".to_vec(),
        salt: Salt::from(SALT),
        inclusion_proof: vec![Digest::from([1; 32]), Digest::from([2; 32])],
        checkpoint: b"note\n".to_vec(),
    }
}

fn read(text: &str) -> Result<Receipt, ReceiptTextError> {
    Receipt::from_text(text, Suite::Blake3)
}

#[test]
fn the_text_is_as_documented() {
    let text = "counterfoil/tlog-proof@v1\n\
        extra AQMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDZW50cnk=\n\
        index 7\n\
        AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
        AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
        \n\
        note\n";
    assert_eq!(plain().to_text(Suite::Blake3).unwrap(), text);
    assert_eq!(read(text).unwrap(), plain());
    let sha256 = text.replace("counterfoil/", "c2sp.org/");
    assert_eq!(plain().to_text(Suite::Sha256).unwrap(), sha256);
    assert_eq!(Receipt::from_text(&sha256, Suite::Sha256).unwrap(), plain());
}

#[test]
fn text_of_another_form_is_refused_by_line() {
    let text = plain().to_text(Suite::Blake3).unwrap();
    let extra = |bytes: &[u8]| format!("extra {}", BASE64_STANDARD.encode(bytes));
    let extra_line = text.lines().nth(1).unwrap();
    let hash_line = text.lines().nth(3).unwrap();
    let line = |line| ReceiptTextError::Malformed { line };
    let other_suite = ReceiptTextError::OtherSuite {
        expected: Suite::Blake3,
        found: Suite::Sha256,
    };
    let cases = [
        (String::new(), ReceiptTextError::NotAReceipt),
        ("counterfoil/tlog-proof@v1".into(), ReceiptTextError::NotAReceipt),
        (text.replace("@v1", "@v2"), ReceiptTextError::NotAReceipt),
        (format!("\u{feff}{text}"), ReceiptTextError::NotAReceipt),
        (format!("\n{text}"), ReceiptTextError::NotAReceipt),
        (text.replace('\n', "\r\n"), ReceiptTextError::NotAReceipt),
        (text.replace("counterfoil/", "c2sp.org/"), other_suite),
        (text.replace("\n\nnote\n", "\n"), ReceiptTextError::NoCheckpoint),
        (
            text.replace("\n\nnote\n", "\nnote\n"),
            ReceiptTextError::NoCheckpoint,
        ),
        (text.replace(&format!("{extra_line}\n"), ""), line(2)),
        (text.replace("extra ", "Extra "), line(2)),
        (text.replace("extra ", "extra  "), line(2)),
        (text.replace("0cnk=\n", "0cnk\n"), line(2)),
        (text.replace("0cnk=\n", "0cnl=\n"), line(2)),
        (text.replace(extra_line, "extra "), line(2)),
        (
            text.replace(extra_line, &extra(&[&[1][..], &[3; 31]].concat())),
            line(2),
        ),
        (
            text.replace(extra_line, &extra(&[&[2][..], &[3; 40]].concat())),
            ReceiptTextError::UnknownExtraFormat { found: 2 },
        ),
        (
            text.replace(extra_line, &format!("{extra_line}\n{extra_line}")),
            line(3),
        ),
        (text.replace("index 7\n", ""), line(3)),
        (text.replace("index 7", "index 07"), line(3)),
        (text.replace("index 7", "index +7"), line(3)),
        (text.replace("index 7", "index -7"), line(3)),
        (text.replace("index 7", "index "), line(3)),
        (text.replace("index 7", "index 7 "), line(3)),
        (text.replace("index 7", "index 18446744073709551616"), line(3)),
        (text.replace(hash_line, &hash_line[..43]), line(4)),
        (text.replace(hash_line, &format!("{hash_line} ")), line(4)),
        (text.replace(hash_line, &BASE64_STANDARD.encode([1; 31])), line(4)),
        (text.replace(hash_line, &BASE64_STANDARD.encode([1; 33])), line(4)),
        (text.replace("gI=\n", "gJ=\n"), line(5)),
        (text.replace("gI=\n", "_I=\n"), line(5)),
    ];
    for (changed, error) in cases {
        assert_ne!(changed, text);
        assert_eq!(read(&changed), Err(error), "{changed}");
    }
}

#[test]
fn indices_go_up_to_that_of_the_last_leaf() {
    let text = plain().to_text(Suite::Blake3).unwrap();
    let last = LeafIndex::new((1 << 63) - 2).unwrap();
    let at_the_limit = text.replace("index 7", &format!("index {last}"));
    assert_eq!(read(&at_the_limit).unwrap().index, last);
    let past_it = text.replace("index 7", "index 9223372036854775807");
    assert_eq!(read(&past_it), Err(ReceiptTextError::Malformed { line: 3 }));
}

#[test]
fn what_can_be_written_can_be_read_up_to_each_limit() {
    let suite = Suite::Blake3;
    let with_entry = |bytes| Receipt {
        entry: vec![0; bytes],
        ..plain()
    };
    let with_hashes = |count| Receipt {
        inclusion_proof: vec![Digest::from([1; 32]); count],
        ..plain()
    };
    let overhead = plain().to_text(suite).unwrap().len() - plain().checkpoint.len();
    let with_text = |bytes: usize| Receipt {
        checkpoint: vec![b'n'; bytes - overhead],
        ..plain()
    };

    for receipt in [
        with_entry(MAX_ENTRY_BYTES),
        with_hashes(MAX_PROOF_HASHES),
        with_text(MAX_RECEIPT_TEXT_BYTES),
    ] {
        assert_eq!(read(&receipt.to_text(suite).unwrap()).unwrap(), receipt);
    }
    let actual_bytes = MAX_ENTRY_BYTES + 1;
    let refused = [
        (
            with_entry(actual_bytes),
            ReceiptTextError::EntryTooLong { actual_bytes },
        ),
        (with_hashes(MAX_PROOF_HASHES + 1), ReceiptTextError::ProofTooLong),
        (
            with_text(MAX_RECEIPT_TEXT_BYTES + 1),
            ReceiptTextError::TooLong {
                actual_bytes: MAX_RECEIPT_TEXT_BYTES + 1,
            },
        ),
        (
            Receipt {
                checkpoint: vec![0xff],
                ..plain()
            },
            ReceiptTextError::CheckpointNotUtf8,
        ),
    ];
    for (receipt, error) in refused {
        assert_eq!(receipt.to_text(suite), Err(error));
    }

    let text = plain().to_text(suite).unwrap();
    let extra_line = text.lines().nth(1).unwrap();
    let longer = [&[1][..], &SALT, &vec![0; actual_bytes]].concat();
    let longer = text.replace(extra_line, &format!("extra {}", BASE64_STANDARD.encode(longer)));
    assert_eq!(
        read(&longer),
        Err(ReceiptTextError::EntryTooLong { actual_bytes })
    );
    let hash_line = text.lines().nth(3).unwrap();
    let longer = text.replace(hash_line, &[hash_line; MAX_PROOF_HASHES].join("\n"));
    assert_eq!(read(&longer), Err(ReceiptTextError::ProofTooLong));
    let longer = format!("{text}{}", "n".repeat(MAX_RECEIPT_TEXT_BYTES + 1 - text.len()));
    assert_eq!(
        read(&longer),
        Err(ReceiptTextError::TooLong {
            actual_bytes: MAX_RECEIPT_TEXT_BYTES + 1
        })
    );
}

proptest! {
    #[test]
    fn text_comes_back_as_the_receipt_it_was(
        index in 0..u64::MAX / 2,
        entry in proptest::collection::vec(any::<u8>(), 0..200),
        salt in any::<[u8; 32]>(),
        proof in proptest::collection::vec(any::<[u8; 32]>(), 0..=MAX_PROOF_HASHES),
        checkpoint in any::<String>(),
    ) {
        let receipt = Receipt {
            index: LeafIndex::new(index).unwrap(),
            entry,
            salt: Salt::from(salt),
            inclusion_proof: proof.into_iter().map(Digest::from).collect(),
            checkpoint: checkpoint.into_bytes(),
        };
        prop_assert_eq!(read(&receipt.to_text(Suite::Blake3).unwrap()).unwrap(), receipt);
    }

    /// A receipt has one text: whatever else is accepted is written as it was read.
    #[test]
    fn text_that_is_accepted_is_written_as_it_was(
        at in any::<proptest::sample::Index>(),
        cut in 0_usize..3,
        insert in "[\\n A=0-9]{0,2}",
    ) {
        let text = plain().to_text(Suite::Blake3).unwrap();
        let at = at.index(text.len());
        let changed = format!("{}{insert}{}", &text[..at], &text[(at + cut).min(text.len())..]);
        if let Ok(receipt) = read(&changed) {
            prop_assert_eq!(receipt.to_text(Suite::Blake3).unwrap(), changed);
        }
    }
}
