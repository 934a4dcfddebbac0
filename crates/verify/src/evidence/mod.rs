//! Evidence: what a log did that no honest log does, as a file that anyone with the log's key can check.
//! `docs/PROTOCOL.md`, section 14, has the text form and why each fact is proof.

mod check;
mod text;

use counterfoil_merkle::{Digest, LeafIndex, consistency_from_inclusion};
use counterfoil_note::{Origin, SignedHead, UnixMillis};

pub use check::{EvidenceError, is_invalid_in_every_version};
pub use text::{EvidenceTextError, MAX_EVIDENCE_TEXT_BYTES, MAX_INVALID_ENTRY_BYTES};

/// Evidence of one fact. Nothing in it is checked yet: see [`check`](Self::check).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When the observer came by it: the observer's word.
    pub observed: UnixMillis,
    /// What the log is said to have done, with all that it takes to check it.
    pub fact: Fact,
}

/// What a log is said to have done. Heads are signed notes, proofs are hashes from the leaf up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It signed two trees of one size.
    Fork {
        /// The two heads, in any order.
        heads: [Vec<u8>; 2],
    },
    /// It signed two trees of which the larger begins with something else than the smaller.
    Inconsistency(Inconsistency),
    /// It signed a tree after it had signed a larger one, both times by its own clock.
    Rollback {
        /// The larger tree, signed first.
        larger: Vec<u8>,
        /// The smaller tree, signed later.
        smaller: Vec<u8>,
    },
    /// It signed two trees with different leaves at one place.
    RewrittenEntry {
        /// The place.
        index: LeafIndex,
        /// The two leaves, in any order.
        leaves: [LeafProof; 2],
    },
    /// It signed a tree with a leaf that is no entry.
    InvalidEntry {
        /// The head that covers the leaf.
        head: Vec<u8>,
        /// The leaf.
        leaf: EntryProof,
    },
    /// It signed a tree in which time runs backwards.
    DecreasingTime {
        /// The head that covers both entries.
        head: Vec<u8>,
        /// The one with the lower index.
        earlier: EntryProof,
        /// The one with the higher index and the lower time.
        later: EntryProof,
    },
    /// Someone was served bytes as an entry, and the log has another leaf at that place.
    EntryMismatch {
        /// The place.
        index: LeafIndex,
        /// What was served, which rests on the observer's word.
        served: Vec<u8>,
        /// The leaf that is there.
        leaf: LeafProof,
    },
}

/// Two heads, and hashes that lead to the root of the newer but not to that of the older.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inconsistency {
    /// The head of the smaller tree.
    pub older: Vec<u8>,
    /// The head of the larger tree.
    pub newer: Vec<u8>,
    /// The root of the last perfect subtree of the smaller tree, as the larger tree has it.
    pub seed: Digest,
    /// Its siblings in the larger tree, from there up: the rest of a consistency proof.
    pub siblings: Vec<Digest>,
}

/// A leaf's hash under a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafProof {
    /// The head.
    pub head: Vec<u8>,
    /// The hash of the leaf.
    pub leaf_hash: Digest,
    /// The inclusion proof.
    pub inclusion_proof: Vec<Digest>,
}

/// A leaf under a head that stands elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryProof {
    /// Its place.
    pub index: LeafIndex,
    /// Its bytes.
    pub entry: Vec<u8>,
    /// The inclusion proof.
    pub inclusion_proof: Vec<Digest>,
}

impl Fact {
    /// Its stable name, which is also that of the misbehaviour or finding that it is evidence of.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fork { .. } => "fork",
            Self::Inconsistency(_) => "inconsistency",
            Self::Rollback { .. } => "rollback",
            Self::RewrittenEntry { .. } => "rewritten_entry",
            Self::InvalidEntry { .. } => "invalid_entry",
            Self::DecreasingTime { .. } => "decreasing_time",
            Self::EntryMismatch { .. } => "entry_mismatch",
        }
    }

    /// What the fact rests on.
    pub fn basis(&self) -> Basis {
        match self {
            Self::EntryMismatch { .. } => Basis::ObserversWord,
            _ => Basis::LogSignatures,
        }
    }
}

impl Inconsistency {
    /// From the consistency proof that a log gave for two heads; none if it is too short to have a seed.
    ///
    /// Where the older size is a power of two a consistency proof has no seed, and can't be evidence by itself: take
    /// [`from_inclusion`](Self::from_inclusion).
    pub fn from_consistency(older: &SignedHead, newer: &SignedHead, proof: &[Digest]) -> Option<Self> {
        if older.size().get().is_power_of_two() {
            return None;
        }
        let (seed, siblings) = proof.split_first()?;
        Some(Self {
            older: older.note_bytes().to_vec(),
            newer: newer.note_bytes().to_vec(),
            seed: *seed,
            siblings: siblings.to_vec(),
        })
    }

    /// From the inclusion proof, in the newer tree, of the older tree's last leaf. None if it is too short.
    pub fn from_inclusion(
        older: &SignedHead,
        newer: &SignedHead,
        leaf_hash: Digest,
        proof: &[Digest],
    ) -> Option<Self> {
        let (seed, siblings) = consistency_from_inclusion(newer.suite(), older.size(), leaf_hash, proof)?;
        Some(Self {
            older: older.note_bytes().to_vec(),
            newer: newer.note_bytes().to_vec(),
            seed,
            siblings: siblings.to_vec(),
        })
    }
}

/// What evidence rests on, once it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The log's own signatures convict it, whoever brings the file.
    LogSignatures,
    /// Part of it rests on the word of whoever made the file.
    ObserversWord,
}

impl Basis {
    /// Its name for scripts: `log_signatures` or `observers_word`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogSignatures => "log_signatures",
            Self::ObserversWord => "observers_word",
        }
    }
}

/// What evidence that holds proves; made by [`Evidence::check`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    heads: Vec<SignedHead>,
    basis: Basis,
    proved: Vec<String>,
    not_proved: Vec<&'static str>,
}

impl Verdict {
    /// The log that it is about.
    pub fn origin(&self) -> &Origin {
        self.heads[0].origin()
    }

    /// The heads, verified, in the order in which the file has them: one or two.
    pub fn heads(&self) -> &[SignedHead] {
        &self.heads
    }

    /// What it rests on.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// What is proved, in words.
    pub fn proved(&self) -> &[String] {
        &self.proved
    }

    /// What is not, in words.
    pub fn not_proved(&self) -> &[&'static str] {
        &self.not_proved
    }
}
