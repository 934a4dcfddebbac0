//! What a log must never do, as facts.

use counterfoil_event::{CommitmentError, EntryError};
use counterfoil_merkle::{LeafIndex, ProofError};
use counterfoil_note::{HeadError, SignedHead};
use counterfoil_verify::{EntryProof, Fact, Inconsistency, LeafProof};

use crate::Refusal;

/// Something that an honest log never does. Do not trust the log; keep what is in here and show it to others.
///
/// Some convict the log by its own signatures: those of which [`fact`](Self::fact) makes evidence. The others convict
/// it before whoever believes the client about the answer it got.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Misbehaviour {
    /// A head that the log's key did not sign, or with a cosignature that its witness did not make. Or the client was
    /// given another log's key.
    #[error("{error}")]
    UnverifiedHead {
        /// Why it is refused.
        error: HeadError,
        /// What was served as a head.
        note: Vec<u8>,
    },
    /// Two trees of one size: the log shows different histories.
    #[error(
        "the log signed two different trees of size {}: root {} and root {}",
        known.size(), known.root(), presented.root()
    )]
    Fork {
        /// The head known before.
        known: SignedHead,
        /// The head that contradicts it.
        presented: SignedHead,
    },
    /// The log presents a tree smaller than one it signed before, or signed one later: it has lost or dropped entries, or
    /// hides them from some.
    #[error("the log went back: after its tree of size {} came one of size {}", known.size(), presented.size())]
    Rollback {
        /// The larger head, known before or signed first.
        known: SignedHead,
        /// The smaller head, presented as the newest or signed later.
        presented: SignedHead,
    },
    /// Two heads that the log signed, and proof that the larger tree does not begin with the smaller.
    #[error(
        "the log rewrote its history: its tree of size {} does not begin with its tree of size {}",
        newer.size(), older.size()
    )]
    Inconsistency {
        /// The smaller head.
        older: SignedHead,
        /// The larger head.
        newer: SignedHead,
        /// The proof.
        proof: Inconsistency,
    },
    /// Two heads that the log signed, and no proof that one tree begins with the other.
    #[error(
        "the log can't prove that its tree of size {} begins with its tree of size {}: {problem}",
        newer.size(), older.size()
    )]
    UnprovenConsistency {
        /// The smaller head.
        older: SignedHead,
        /// The larger head.
        newer: SignedHead,
        /// What is wrong with the proof.
        problem: UnprovenConsistency,
    },
    /// An entry that the log says it has, and no proof that a signed head covers it.
    #[error("the log can't prove that leaf {leaf_index} is in its tree of size {}: {problem}", head.size())]
    UnprovenInclusion {
        /// The head that should cover it.
        head: SignedHead,
        /// The leaf that the log claimed.
        leaf_index: LeafIndex,
        /// What is wrong with the proof.
        problem: ProofError,
    },
    /// The log served other bytes as an entry than those that it proves to have there.
    #[error("the log served something else as entry {leaf_index} than what its tree of size {} has there", head.size())]
    EntryMismatch {
        /// The head that covers the leaf.
        head: SignedHead,
        /// The leaf asked for.
        leaf_index: LeafIndex,
        /// What was served.
        served: Vec<u8>,
        /// The leaf that is there.
        leaf: LeafProof,
    },
    /// The log, or something between that speaks for it, said that it does not have a leaf which a head that it signed before
    /// covers.
    #[error("the log denies leaf {leaf_index}, which its tree of size {} has: {refusal}", head.size())]
    Withheld {
        /// The head that covers the leaf.
        head: SignedHead,
        /// The leaf asked for.
        leaf_index: LeafIndex,
        /// What the log said.
        refusal: Refusal,
    },
    /// A leaf under a signed head that is no entry.
    #[error("leaf {} of the log is not a valid entry: {problem}", leaf.index)]
    InvalidEntry {
        /// The head that covers it.
        head: SignedHead,
        /// The leaf. Its proof is empty if the log would not give one.
        leaf: EntryProof,
        /// What is wrong with it.
        problem: EntryError,
    },
    /// What was recorded is not what was sent, or what is served is not what was recorded.
    #[error("leaf {leaf_index} of the log stands for something else: {problem}")]
    OtherContent {
        /// The head that covers the entry.
        head: SignedHead,
        /// The leaf.
        leaf_index: LeafIndex,
        /// How the entry differs.
        problem: CommitmentError,
    },
}

/// Why the consistency of two heads is not proved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnprovenConsistency {
    /// The proof that the log gave does not hold.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// The log refused to give a proof between two sizes that it signed.
    #[error("{0}")]
    Refused(Refusal),
}

impl Misbehaviour {
    /// A stable name, for labels and scripts. Where evidence can be made, it has the same.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnverifiedHead { .. } => "unverified_head",
            Self::Fork { .. } => "fork",
            Self::Rollback { .. } => "rollback",
            Self::Inconsistency { .. } => "inconsistency",
            Self::UnprovenConsistency { .. } => "unproven_consistency",
            Self::UnprovenInclusion { .. } => "unproven_inclusion",
            Self::EntryMismatch { .. } => "entry_mismatch",
            Self::Withheld { .. } => "withheld",
            Self::InvalidEntry { .. } => "invalid_entry",
            Self::OtherContent { .. } => "other_content",
        }
    }

    /// The signed heads that show it, the one known first before the one that contradicts it.
    pub fn heads(&self) -> Vec<&SignedHead> {
        match self {
            Self::UnverifiedHead { .. } => vec![],
            Self::Fork { known, presented } | Self::Rollback { known, presented } => vec![known, presented],
            Self::Inconsistency { older, newer, .. } | Self::UnprovenConsistency { older, newer, .. } => {
                vec![older, newer]
            }
            Self::UnprovenInclusion { head, .. }
            | Self::EntryMismatch { head, .. }
            | Self::Withheld { head, .. }
            | Self::InvalidEntry { head, .. }
            | Self::OtherContent { head, .. } => vec![head],
        }
    }

    /// What evidence can be made of. It may still not hold: a smaller head is a rollback for everyone only if it was
    /// signed later than the larger.
    pub fn fact(&self) -> Option<Fact> {
        let note = |head: &SignedHead| head.note_bytes().to_vec();
        match self {
            Self::Fork { known, presented } => Some(Fact::Fork {
                heads: [note(known), note(presented)],
            }),
            Self::Rollback { known, presented } => Some(Fact::Rollback {
                larger: note(known),
                smaller: note(presented),
            }),
            Self::Inconsistency { proof, .. } => Some(Fact::Inconsistency(proof.clone())),
            Self::EntryMismatch {
                leaf_index,
                served,
                leaf,
                ..
            } => Some(Fact::EntryMismatch {
                index: *leaf_index,
                served: served.clone(),
                leaf: leaf.clone(),
            }),
            Self::InvalidEntry { head, leaf, .. } => Some(Fact::InvalidEntry {
                head: note(head),
                leaf: leaf.clone(),
            }),
            Self::UnverifiedHead { .. }
            | Self::UnprovenConsistency { .. }
            | Self::UnprovenInclusion { .. }
            | Self::Withheld { .. }
            | Self::OtherContent { .. } => None,
        }
    }
}
