//! What can go wrong, by what the caller can do about it.

use counterfoil_merkle::{LeafIndex, TreeSize};
use counterfoil_store::StoreError;

/// Why a call got no receipts. Sending it again is always safe: what was recorded all the same is found, not recorded twice.
/// That happens after [`OutOfSpace`](Self::OutOfSpace), [`WriteFailed`](Self::WriteFailed), [`DataLoss`](Self::DataLoss) and
/// [`ReadFailed`](Self::ReadFailed), and where part of a call is in conflict with what is on record and the conflict could
/// not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More is waiting than the log allows. Retry soon.
    #[error("the log has more waiting than it allows; retry after a pause")]
    QueueFull,
    /// The disk is nearly full. Retry later; the operator has to make room.
    #[error("the log's disk is nearly full; the operator has to make room")]
    OutOfSpace,
    /// A write failed. The events may be on record or not: a retry after the operator mended the cause tells.
    #[error("the log can't write; the operator has to look at its disk")]
    WriteFailed,
    /// What is stored of an event already on record can't be read.
    #[error("stored data is damaged or missing; the operator has to run fsck")]
    DataLoss,
    /// Whether an event is on record, or what is stored of it, could not be read, for a cause that may pass. Retry.
    #[error("the log could not read what a receipt needs; try again")]
    ReadFailed,
    /// The log is stopping. Retry when it is back.
    #[error("the log is stopping")]
    Stopping,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log has no such leaf or event.
    #[error("the log has no such entry")]
    NotFound,
    /// An index that the tree of that size does not have.
    #[error("index {index} is not in a tree of size {size}")]
    IndexOutOfRange {
        /// The index asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// A tree size that the log has not reached, or 0, or sizes in the wrong order.
    #[error("no proof leads from size {first} to size {second}; the log's size is {log_size}")]
    SizeOutOfRange {
        /// The smaller tree.
        first: TreeSize,
        /// The larger tree.
        second: TreeSize,
        /// The size of the log.
        log_size: TreeSize,
    },
    /// Something that must be stored is missing or malformed. Run fsck.
    #[error("stored data is damaged or missing: {0}")]
    DataLoss(String),
    /// The database could not be read, for a cause that may pass: too many open files, say. Nothing says that the log is damaged.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_)
            | StoreError::Malformed { .. }
            | StoreError::Missing { .. }
            | StoreError::UnknownFormat { .. } => Self::DataLoss(error.to_string()),
            StoreError::Locked { .. }
            | StoreError::OutOfSpace(_)
            | StoreError::NotInMemory
            | StoreError::Io(_) => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A want of files for a moment must not look like a log that lost its data.
    #[test]
    fn what_may_pass_is_no_damage() {
        let text = || "too many open files".to_owned();
        for passes in [StoreError::Io(text()), StoreError::OutOfSpace(text())] {
            assert!(matches!(ReadError::from(passes), ReadError::Store(_)));
        }
        for stays in [
            StoreError::Corrupt(text()),
            StoreError::Malformed { family: "tiles" },
        ] {
            assert!(matches!(ReadError::from(stays), ReadError::DataLoss(_)));
        }
    }
}
