//! What a log needs to know of the witnesses whose cosignatures its published heads wait for.
//!
//! How witnesses are asked is none of the engine's business: it hands out [`Candidate`]s and takes back signature lines.

use std::sync::Arc;

use counterfoil_note::{CosignatureError, HeadError, NoQuorum, NoteError, Policy};
use counterfoil_store::StoreError;

use crate::TreeHead;

/// Whose cosignatures a head has to bear before it is published.
#[derive(Debug, Clone)]
pub struct Witnessing {
    /// The witnesses and the quorum. Its logs are not looked at.
    pub policy: Arc<Policy>,
    /// What to do with a head that a quorum does not cosign.
    pub without_quorum: WithoutQuorum,
    /// What the witnesses serve of this log, to compare with what is recovered.
    pub remembered: Vec<RememberedHead>,
}

/// What to do with a head that a quorum of witnesses does not cosign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutQuorum {
    /// It is never shown: readers keep the last one that was cosigned.
    Hold,
    /// It may be shown with the cosignatures that there are.
    Publish,
}

/// The newest head of a log that a witness says it cosigned. Nobody has verified it.
#[derive(Debug, Clone)]
pub struct RememberedHead {
    /// What messages call the witness.
    pub witness: String,
    /// The signed note.
    pub note: Vec<u8>,
}

/// A head that is signed, stored and anchored, and waits for cosignatures. Only a log makes one.
#[derive(Debug, Clone)]
pub struct Candidate(pub(crate) Arc<TreeHead>);

impl Candidate {
    /// The head, with the log's own signatures.
    pub fn head(&self) -> &TreeHead {
        &self.0
    }
}

/// Why a candidate was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It is another log's.
    #[error("the candidate is not this log's: {0}")]
    Candidate(#[from] HeadError),
    /// A line claims to be by a witness of the policy and is not.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// A line is by nobody that the policy lists. It would have nobody's word behind it but the log's.
    #[error("a signature line is by none of the policy's witnesses")]
    Stranger,
    /// The lines do not fit into a note.
    #[error(transparent)]
    Lines(#[from] NoteError),
    /// Too few witnesses cosigned it, and [`WithoutQuorum::Hold`] is set.
    #[error(transparent)]
    NoQuorum(#[from] NoQuorum),
    /// It could not be stored. It may be found by the next start.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is stopping.
    #[error("the log is stopping")]
    Stopping,
}
