//! Why a request gets no cosignature.

use counterfoil_merkle::{ProofError, TreeSize};
use counterfoil_note::{CheckpointError, MAX_NOTE_BYTES, NoteError};
use thiserror::Error;

use crate::request::{MAX_REQUEST_BYTES, RequestError};

/// Why a request gets no cosignature. [`status`](Self::status) is the specification's for each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The body is not a request.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The checkpoint is not a signed note.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// The note is not a checkpoint.
    #[error("{0}")]
    Checkpoint(CheckpointError),
    /// The note with the cosignature would be longer than notes that are read.
    #[error("with the cosignature the note has {bytes} bytes; {MAX_NOTE_BYTES} is the most")]
    NoRoom {
        /// Its length.
        bytes: usize,
    },
    /// The old size is larger than the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's, {size}")]
    OldSizeTooLarge {
        /// The old size.
        old: TreeSize,
        /// The checkpoint's.
        size: TreeSize,
    },
    /// The witness does not know the log.
    #[error("this witness does not know the log")]
    UnknownLog,
    /// No line is by a key that is trusted for the log.
    #[error("the checkpoint is not signed by a key that is trusted for the log")]
    NotSigned,
    /// A line that claims to be by a trusted key is not.
    #[error("a signature by a key that is trusted for the log does not verify")]
    BadSignature,
    /// The old size is not that of the newest checkpoint that was cosigned. The body of the answer is that size alone.
    #[error("{newest}")]
    Conflict {
        /// The size of the newest checkpoint that was cosigned; zero if there is none.
        newest: TreeSize,
    },
    /// A checkpoint of size zero has a root that an empty tree does not have.
    #[error("the checkpoint is of an empty tree but has another root")]
    EmptyTreeRoot,
    /// The old size is zero and there is a proof.
    #[error("from the old size zero the proof must be empty")]
    ProofFromZero,
    /// The log signed two trees of one size.
    #[error("a checkpoint of this size with another root was cosigned before")]
    Fork,
    /// The consistency proof does not hold.
    #[error("{0}")]
    Proof(ProofError),
    /// The body is longer than [`MAX_REQUEST_BYTES`].
    #[error("the body is longer than {MAX_REQUEST_BYTES} bytes")]
    BodyTooLong,
    /// The body did not come in time.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// The body broke off.
    #[error("the body broke off")]
    BodyBroken,
    /// Too many requests wait for the disk.
    #[error("too many requests are waiting; try again")]
    QueueFull,
    /// The machine's clock was never set, and a cosignature states a time.
    #[error("the witness's clock is not set; try again")]
    ClockNotSet,
    /// The state, or the record of the log in it, can't be read or written. The operator has to look.
    #[error("the witness can't read or write its state")]
    State,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Request(_)
            | Self::Note(_)
            | Self::Checkpoint(_)
            | Self::NoRoom { .. }
            | Self::OldSizeTooLarge { .. }
            | Self::BodyBroken => 400,
            Self::NotSigned | Self::BadSignature => 403,
            Self::UnknownLog => 404,
            Self::BodyTooSlow => 408,
            Self::Conflict { .. } => 409,
            Self::BodyTooLong => 413,
            Self::EmptyTreeRoot | Self::ProofFromZero | Self::Fork | Self::Proof(_) => 422,
            Self::State => 500,
            Self::QueueFull | Self::ClockNotSet => 503,
        }
    }
}
