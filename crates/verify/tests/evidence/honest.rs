//! The law that matters most: no file convicts a log that did nothing.

use counterfoil_merkle::{Digest, Suite};
use counterfoil_verify::{
    Basis, EntryProof, Evidence, EvidenceError, Fact, Inconsistency, LeafProof, Verdict,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    facts,
    log::{Log, at, evidence, index, leaf},
};

/// What an honest log ever gave out: leaves, some of equal time, and heads, each size signed more than once.
#[derive(Debug, Clone)]
struct Told {
    suite: Suite,
    /// By how much each leaf's time exceeds the one before it.
    steps: Vec<u64>,
    /// For each size, how often its head was signed anew, a millisecond apart.
    signed: Vec<u64>,
}

impl Told {
    fn log(&self) -> Log {
        let mut time = 1;
        let leaves = self.steps.iter().enumerate().map(|(number, step)| {
            time += step;
            leaf(self.suite, number, time)
        });
        Log::new(self.suite, leaves.collect())
    }

    /// All heads, in the order in which they were signed.
    fn heads(&self, log: &Log) -> Vec<(usize, Vec<u8>)> {
        let mut now = 0;
        let mut heads = Vec::new();
        for (size, signed) in self.signed.iter().enumerate() {
            for _ in 0..*signed {
                heads.push((size, log.note_at(size, at(now))));
                now += 1;
            }
        }
        heads
    }
}

fn told() -> impl Strategy<Value = Told> {
    (1..24usize).prop_flat_map(|count| {
        let suite = prop_oneof![Just(Suite::Blake3), Just(Suite::Sha256)];
        (suite, vec(0..3u64, count), vec(1..3u64, count + 1)).prop_map(|(suite, steps, signed)| Told {
            suite,
            steps,
            signed,
        })
    })
}

/// Whoever makes up a file: takes any of what the log gave out, and changes hashes and bytes at will.
struct Forger<'a> {
    log: &'a Log,
    heads: &'a [(usize, Vec<u8>)],
    picks: std::slice::Iter<'a, Index>,
}

impl Forger<'_> {
    fn pick(&mut self, count: usize) -> usize {
        self.picks.next().map_or(0, |pick| pick.index(count))
    }

    /// A head of at least `least` leaves.
    fn head(&mut self, least: usize) -> (usize, Vec<u8>) {
        let fit: Vec<_> = self.heads.iter().filter(|(size, _)| *size >= least).collect();
        fit[self.pick(fit.len())].clone()
    }

    fn leaf(&mut self) -> usize {
        self.pick(self.log.leaves.len())
    }

    /// Perhaps with a hash changed, added or taken away.
    fn tampered(&mut self, mut proof: Vec<Digest>) -> Vec<Digest> {
        let place = self.pick(proof.len() + 1);
        let hash = Digest::from([9; 32]);
        match self.pick(5) {
            0 if place < proof.len() => proof[place] = hash,
            1 => proof.insert(place, hash),
            2 if place < proof.len() => drop(proof.remove(place)),
            _ => {}
        }
        proof
    }

    fn leaf_proof(&mut self, leaf: usize) -> LeafProof {
        let (size, head) = self.head(leaf + 1);
        let claimed = if self.pick(2) == 0 { leaf } else { self.leaf() };
        LeafProof {
            head,
            leaf_hash: self.log.leaf_hash(claimed),
            inclusion_proof: self.tampered(self.log.inclusion(leaf, size)),
        }
    }

    fn entry_proof(&mut self, leaf: usize, size: usize) -> EntryProof {
        let mut entry = self.log.leaves[leaf].clone();
        if self.pick(2) == 0 {
            let place = self.pick(entry.len());
            entry[place] ^= 1 << self.pick(8);
        }
        EntryProof {
            index: index(leaf),
            entry,
            inclusion_proof: self.tampered(self.log.inclusion(leaf, size)),
        }
    }

    fn inconsistency(&mut self) -> Inconsistency {
        let (newer_size, newer) = self.head(1);
        let (older_size, older) = self.head(0);
        // The shape may be that of other sizes than those of the heads.
        let first = 1 + self.pick(newer_size);
        let proof = self.log.inclusion(first - 1, newer_size);
        let (older_head, newer_head) = (self.log.head(first), self.log.head(newer_size));
        let fact =
            Inconsistency::from_inclusion(&older_head, &newer_head, self.log.leaf_hash(first - 1), &proof);
        let fact = fact.unwrap();
        let older = if self.pick(2) == 0 && older_size > 0 {
            older
        } else {
            fact.older
        };
        let seed = if self.pick(3) == 0 {
            self.log.root(older_size)
        } else {
            fact.seed
        };
        Inconsistency {
            older,
            newer,
            seed,
            siblings: self.tampered(fact.siblings),
        }
    }

    fn fact(&mut self) -> Fact {
        match self.pick(7) {
            0 => Fact::Fork {
                heads: [self.head(0).1, self.head(0).1],
            },
            1 => Fact::Inconsistency(self.inconsistency()),
            2 => Fact::Rollback {
                larger: self.head(0).1,
                smaller: self.head(0).1,
            },
            3 => {
                let leaf = self.leaf();
                let leaves = [self.leaf_proof(leaf), self.leaf_proof(leaf)];
                let index = index(if self.pick(2) == 0 { leaf } else { self.leaf() });
                Fact::RewrittenEntry { index, leaves }
            }
            4 => {
                let leaf = self.leaf();
                let (size, head) = self.head(leaf + 1);
                let leaf = self.entry_proof(leaf, size);
                Fact::InvalidEntry { head, leaf }
            }
            5 => {
                let (earlier, later) = (self.leaf(), self.leaf());
                let (size, head) = self.head(earlier.max(later) + 1);
                Fact::DecreasingTime {
                    head,
                    earlier: self.entry_proof(earlier, size),
                    later: self.entry_proof(later, size),
                }
            }
            _ => {
                let leaf = self.leaf();
                Fact::EntryMismatch {
                    index: index(leaf),
                    served: self.log.leaves[self.leaf()].clone(),
                    leaf: self.leaf_proof(leaf),
                }
            }
        }
    }
}

fn convicts(checked: &Result<Verdict, EvidenceError>) -> bool {
    checked
        .as_ref()
        .is_ok_and(|verdict| verdict.basis() == Basis::LogSignatures)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_honest_log_is_never_convicted(told in told(), picks in vec(vec(any::<Index>(), 40), 64)) {
        let log = told.log();
        let heads = told.heads(&log);
        let keys = log.keys();
        for picks in &picks {
            let fact = Forger { log: &log, heads: &heads, picks: picks.iter() }.fact();
            let checked = evidence(fact.clone()).check(&keys);
            prop_assert!(!convicts(&checked), "{fact:?}: {checked:?}");
        }
    }

    /// Only what the log did not do: the leaf that was served is the one that is there.
    #[test]
    fn an_entry_served_as_it_is_mismatches_nothing(told in told(), place in any::<Index>(), cut in any::<Index>()) {
        let log = told.log();
        let place = place.index(log.leaves.len());
        let size = place + 1 + cut.index(log.leaves.len() - place);
        let served = log.leaves[place].clone();
        let fact = Fact::EntryMismatch { index: index(place), served, leaf: log.leaf_proof(place, size) };
        prop_assert_eq!(evidence(fact).check(&log.keys()), Err(EvidenceError::SameLeaf));
    }
}

/// A bit of every byte of every file. What still holds says what it said before, or rests on the observer's word.
#[test]
fn a_flipped_bit_is_refused_or_changes_nothing_that_is_proved() {
    for suite in Suite::ALL {
        let key = &Log::of_entries(suite, 1).keys()[..1];
        for fact in facts(suite) {
            let text = evidence(fact.clone()).to_text().unwrap();
            let proved = evidence(fact).check(key).unwrap();
            let mut survivors = 0;
            for place in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[place] ^= 1 << (place % 7);
                let Some(read) = String::from_utf8(bytes)
                    .ok()
                    .and_then(|text| Evidence::from_text(&text).ok())
                else {
                    continue;
                };
                if let Ok(verdict) = read.check(key)
                    && verdict.basis() == Basis::LogSignatures
                {
                    assert_eq!(verdict.proved(), proved.proved());
                    survivors += 1;
                }
            }
            // The observer's time is not signed, so some bits of it may change: the test reaches the end of a check.
            assert!(survivors > 0 || proved.basis() == Basis::ObserversWord);
        }
    }
}
