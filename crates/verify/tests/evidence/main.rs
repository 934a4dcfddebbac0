//! Evidence of what a log did, and what must never pass for evidence.
#![allow(clippy::unwrap_used)]

mod honest;
mod log;
mod text;
mod vectors;

use counterfoil_event::EntryError;
use counterfoil_merkle::{Digest, ProofError, Suite};
use counterfoil_note::HeadError;
use counterfoil_verify::{Basis, EvidenceError, Fact, Inconsistency};

use crate::log::{Log, at, evidence, index, leaf, size};

/// One of each fact, from a log that did it.
fn facts(suite: Suite) -> Vec<Fact> {
    let log = Log::of_entries(suite, 13);
    let other = log.rewritten(4);
    let mut strange = log.leaves.clone();
    strange[6] = b"\x08\x01 no entry".to_vec();
    strange[8] = leaf(suite, 8, 3);
    let strange = Log::new(suite, strange);
    vec![
        Fact::Fork {
            heads: [log.note(11), other.note(11)],
        },
        Fact::Inconsistency(
            Inconsistency::from_consistency(&log.head(7), &other.head(13), &other.consistency(7, 13))
                .unwrap(),
        ),
        Fact::Inconsistency(
            Inconsistency::from_inclusion(
                &log.head(8),
                &other.head(13),
                other.leaf_hash(7),
                &other.inclusion(7, 13),
            )
            .unwrap(),
        ),
        Fact::Rollback {
            larger: log.note(9),
            smaller: log.note_at(7, at(9_001)),
        },
        Fact::RewrittenEntry {
            index: index(4),
            leaves: [log.leaf_proof(4, 13), other.leaf_proof(4, 6)],
        },
        Fact::InvalidEntry {
            head: strange.note(12),
            leaf: strange.entry_proof(6, 12),
        },
        Fact::DecreasingTime {
            head: strange.note(13),
            earlier: strange.entry_proof(7, 13),
            later: strange.entry_proof(8, 13),
        },
        Fact::EntryMismatch {
            index: index(4),
            served: other.leaves[4].clone(),
            leaf: log.leaf_proof(4, 13),
        },
    ]
}

#[test]
fn what_a_log_did_is_proved_under_its_key_alone() {
    for suite in Suite::ALL {
        let log = Log::of_entries(suite, 1);
        let key = &log.keys()[..1];
        for fact in facts(suite) {
            let basis = fact.basis();
            let verdict = evidence(fact.clone()).check(key).unwrap();
            assert_eq!(verdict.origin(), log.signer.origin());
            assert_eq!(verdict.basis(), basis);
            assert!(!verdict.proved().is_empty() && !verdict.not_proved().is_empty());
            let convicts = !matches!(fact, Fact::EntryMismatch { .. });
            assert_eq!(basis == Basis::LogSignatures, convicts, "{}", fact.name());
            // With all keys of the log it is the same.
            assert_eq!(evidence(fact).check(&log.keys()).unwrap(), verdict);
        }
    }
}

/// Each place of the change, each pair of sizes: evidence where the change lies in the older tree, else none.
#[test]
fn a_larger_tree_with_another_beginning_is_caught_at_every_size() {
    for suite in Suite::ALL {
        let log = Log::of_entries(suite, 12);
        for place in 0..12 {
            let other = log.rewritten(place);
            for newer in 2..=12 {
                for older in 1..newer {
                    let (first, second) = (log.head(older), other.head(newer));
                    let proof = other.consistency(older, newer);
                    let by_consistency = Inconsistency::from_consistency(&first, &second, &proof);
                    assert_eq!(by_consistency.is_none(), older.is_power_of_two());
                    let by_inclusion = Inconsistency::from_inclusion(
                        &first,
                        &second,
                        other.leaf_hash(older - 1),
                        &other.inclusion(older - 1, newer),
                    )
                    .unwrap();
                    for fact in by_consistency.iter().chain([&by_inclusion]) {
                        assert_eq!(
                            (fact.seed, &fact.siblings),
                            (by_inclusion.seed, &by_inclusion.siblings)
                        );
                        let checked = evidence(Fact::Inconsistency(fact.clone())).check(&log.keys());
                        match place < older {
                            true => assert!(checked.is_ok(), "{older} {newer} {place}: {checked:?}"),
                            false => assert_eq!(checked, Err(EvidenceError::Consistent)),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn hashes_that_lead_to_no_signed_root_are_no_evidence() {
    let log = Log::of_entries(Suite::Blake3, 13);
    let other = log.rewritten(4);
    let (older, newer) = (log.head(7), other.head(13));
    let fact = |change: &dyn Fn(&mut Inconsistency)| {
        let proof = other.consistency(7, 13);
        let mut fact = Inconsistency::from_consistency(&older, &newer, &proof).unwrap();
        change(&mut fact);
        evidence(Fact::Inconsistency(fact)).check(&log.keys())
    };
    assert!(fact(&|_| {}).is_ok());
    let hash = Digest::from([7; 32]);
    // A proof from the older history leads to the older root: it says nothing of the newer tree.
    let honest = log.consistency(7, 13);
    let nothing: [&dyn Fn(&mut Inconsistency); 3] = [
        &|fact| fact.seed = hash,
        &|fact| fact.siblings[0] = hash,
        &|fact| (fact.seed, fact.siblings) = (honest[0], honest[1..].to_vec()),
    ];
    for change in nothing {
        assert_eq!(fact(change), Err(EvidenceError::ProvesNothing));
    }
    let long = fact(&|fact| fact.siblings.push(hash));
    assert!(matches!(
        long,
        Err(EvidenceError::Consistency(ProofError::WrongLength { .. }))
    ));
    for (first, second) in [(0, 13), (13, 13), (13, 7)] {
        let turned = fact(&|fact| (fact.older, fact.newer) = (log.note(first), other.note(second)));
        let (first, second) = (size(first), size(second));
        assert_eq!(turned, Err(EvidenceError::NotOlder { first, second }));
    }
}

#[test]
fn a_rollback_takes_signed_times_in_the_wrong_order() {
    let log = Log::of_entries(Suite::Sha256, 9);
    let rollback = |larger, smaller, keys: &[_]| evidence(Fact::Rollback { larger, smaller }).check(keys);
    let (both, plain) = (log.keys(), log.keys()[1..].to_vec());
    let late = log.note_at(7, at(9_001));
    assert!(rollback(log.note(9), late.clone(), &both).is_ok());
    assert!(rollback(log.note(9), late.clone(), &both[..1]).is_ok());
    assert_eq!(
        rollback(log.note(9), late.clone(), &plain),
        Err(EvidenceError::NoTime)
    );
    let refused = Err(EvidenceError::NoRollback);
    // At the same moment; before it; the same tree signed anew; heads in the wrong order.
    assert_eq!(rollback(log.note(9), log.note_at(7, at(9_000)), &both), refused);
    assert_eq!(rollback(log.note(9), log.note(7), &both), refused);
    assert_eq!(rollback(log.note(9), log.note_at(9, at(9_001)), &both), refused);
    assert_eq!(rollback(late, log.note(9), &both), refused);
}

#[test]
fn heads_of_other_logs_keys_and_suites_are_refused() {
    let log = Log::of_entries(Suite::Sha256, 5);
    let other = log.rewritten(2);
    let fork = |first: &[u8], second: &[u8], keys: &[_]| {
        let heads = [first.to_vec(), second.to_vec()];
        evidence(Fact::Fork { heads }).check(keys)
    };
    assert!(fork(&log.note(5), &other.note(5), &log.keys()).is_ok());
    assert_eq!(
        fork(&log.note(5), &other.note(5), &[]),
        Err(EvidenceError::UnknownLog {
            origin: log.signer.origin().clone()
        })
    );

    // Another log, honest, trusted as well.
    let foreign = Log::named("log.example/other", Suite::Sha256, other.leaves.clone());
    let all = [log.keys(), foreign.keys()].concat();
    assert_eq!(
        fork(&log.note(5), &foreign.note(5), &all),
        Err(EvidenceError::OtherLog)
    );
    // The same name under a key for the other suite: roots of two suites always differ.
    let blake3 = Log::of_entries(Suite::Blake3, 5);
    let all = [log.keys(), blake3.keys()].concat();
    assert_eq!(
        fork(&log.note(5), &blake3.note(5), &all),
        Err(EvidenceError::OtherLog)
    );
    // One text under the keys of both suites says nothing of which tree its root is of.
    let text_of = |note: Vec<u8>| String::from_utf8(note).unwrap();
    let signed = |log: &Log| text_of(log.signer.sign_head(size(5), blake3.root(5), at(5)));
    let lines = signed(&log);
    let both = signed(&blake3) + lines.split_once("\n\n").unwrap().1;
    for heads in [
        [both.as_bytes(), &other.note(5)],
        [&other.note(5), both.as_bytes()],
    ] {
        assert_eq!(fork(heads[0], heads[1], &all), Err(EvidenceError::OtherLog));
    }
    assert!(matches!(
        fork(&blake3.note(5), &blake3.note(5), &log.keys()),
        Err(EvidenceError::Head(HeadError::NotSignedByKey { .. }))
    ));

    // One line that holds convicts, whatever stands beside it: a false one was the log's to add.
    let mut broken = String::from_utf8(other.note(5)).unwrap();
    let lines = broken.matches("\n— ").count();
    assert_eq!(lines, log.keys().len());
    let ends: Vec<_> = broken.match_indices('\n').map(|(place, _)| place).collect();
    for (broken_lines, end) in (1..=lines).zip(ends.into_iter().rev()) {
        // Within the signature, before what its last character has to be.
        let place = end - 5;
        let changed = if broken.as_bytes()[place] == b'A' {
            "B"
        } else {
            "A"
        };
        broken.replace_range(place..=place, changed);
        let found = fork(&log.note(5), broken.as_bytes(), &log.keys());
        match found {
            Ok(_) => assert!(broken_lines < lines),
            Err(error) => {
                assert_eq!(broken_lines, lines);
                assert!(matches!(
                    error,
                    EvidenceError::Head(HeadError::BadSignature { .. })
                ));
            }
        }
    }
}

#[test]
fn leaves_have_to_be_where_they_are_said_to_be() {
    for suite in Suite::ALL {
        let log = Log::of_entries(suite, 13);
        let other = log.rewritten(4);
        let keys = log.keys();
        let rewritten = |index, leaves| evidence(Fact::RewrittenEntry { index, leaves }).check(&keys);
        let (ours, theirs) = (log.leaf_proof(4, 13), other.leaf_proof(4, 6));
        assert!(rewritten(index(4), [ours.clone(), theirs.clone()]).is_ok());
        assert!(rewritten(index(4), [theirs.clone(), ours.clone()]).is_ok());
        for place in [3, 5, 12, 13] {
            let moved = rewritten(index(place), [ours.clone(), theirs.clone()]);
            assert!(matches!(moved, Err(EvidenceError::Inclusion { .. })), "{place}");
        }
        let same = rewritten(index(2), [log.leaf_proof(2, 13), other.leaf_proof(2, 6)]);
        assert_eq!(same, Err(EvidenceError::SameLeaf));

        let mismatch = |served: &[u8], leaf| {
            let served = served.to_vec();
            evidence(Fact::EntryMismatch {
                index: index(4),
                served,
                leaf,
            })
            .check(&keys)
        };
        assert!(mismatch(b"anything", ours.clone()).is_ok());
        assert_eq!(
            mismatch(&log.leaves[4], ours.clone()),
            Err(EvidenceError::SameLeaf)
        );
        let mut unproven = ours;
        unproven.leaf_hash = other.leaf_hash(4);
        assert!(matches!(
            mismatch(&log.leaves[4], unproven),
            Err(EvidenceError::Inclusion { .. })
        ));
    }
}

/// An entry that this version can't read may be one of a version to come; what is none in any version convicts.
#[test]
fn a_leaf_that_is_no_entry_convicts_and_one_of_a_later_version_does_not() {
    let suite = Suite::Blake3;
    let sound = leaf(suite, 1, 2);
    let check = |bytes: &[u8]| {
        let log = Log::new(suite, vec![leaf(suite, 0, 1), bytes.to_vec()]);
        let leaf = log.entry_proof(1, 2);
        let head = log.note(2);
        evidence(Fact::InvalidEntry { head, leaf }).check(&log.keys())
    };
    assert_eq!(check(&sound), Err(EvidenceError::ValidEntry { index: index(1) }));

    let mut no_time = sound.clone();
    no_time[3..11].fill(0);
    let hidden = [&sound[..], b"\x7a\x06hidden"].concat();
    let twice = [&sound[..], b"\x08\x02"].concat();
    let long_version = [b"\x08\x81\x00", &sound[2..]].concat();
    // 2^64 + 2: no varint of 64 bits, so no version.
    let overflowing = b"\x08\x82\x80\x80\x80\x80\x80\x80\x80\x80\x02";
    let authentication = sound.windows(2).position(|pair| pair == [0x48, 1]).unwrap();
    let mut other_authentication = sound.clone();
    other_authentication[authentication + 1] = 9;
    // Field 11, which this entry does not have, with a commitment of five bytes.
    let also_short = [&other_authentication[..], b"\x5a\x05short"].concat();
    let invalid: [&[u8]; 11] = [
        b"",
        b"hello",
        b"\x08",
        b"\x08\x00",
        b"\x08\x81",
        &no_time,
        &hidden,
        &twice,
        &long_version,
        overflowing,
        &also_short,
    ];
    for bytes in invalid {
        assert!(check(bytes).is_ok(), "{}", hex::encode(bytes));
    }

    let mut version_2 = sound.clone();
    version_2[1] = 2;
    let later: [(&[u8], EntryError); 4] = [
        (&version_2, EntryError::UnknownVersion { found: 2 }),
        (b"\x08\x02and what it may mean", EntryError::Malformed),
        (b"\x08\x80\x01", EntryError::UnknownVersion { found: 128 }),
        (
            &other_authentication,
            EntryError::UnknownAuthentication { number: 9 },
        ),
    ];
    for (bytes, problem) in later {
        let index = index(1);
        assert_eq!(check(bytes), Err(EvidenceError::UnknownForm { index, problem }));
    }
}

#[test]
fn time_runs_backwards_between_two_entries_of_one_tree() {
    let suite = Suite::Blake3;
    let leaves = [10, 20, 15, 20].into_iter().zip(0..);
    let log = Log::new(suite, leaves.map(|(time, n)| leaf(suite, n, time)).collect());
    let check = |first: usize, then: usize| {
        evidence(Fact::DecreasingTime {
            head: log.note(4),
            earlier: log.entry_proof(first, 4),
            later: log.entry_proof(then, 4),
        })
        .check(&log.keys())
    };
    assert!(check(1, 2).is_ok());
    for (first, then) in [(0, 1), (0, 2), (1, 3), (2, 1), (1, 1), (2, 3)] {
        assert_eq!(
            check(first, then),
            Err(EvidenceError::NoDecrease),
            "{first} {then}"
        );
    }
}
