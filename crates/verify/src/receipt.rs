//! Receipts and what checking one gives.

use std::sync::Arc;

use counterfoil_event::{CommitmentError, Entry, EntryError, Event, Salt};
use counterfoil_merkle::{Digest, InclusionVerifier, LeafIndex, ProofError};
use counterfoil_note::{
    Cosignature, CosignedHeadError, HeadError, NoQuorum, Policy, SignedHead, VerifierKey,
};

/// All that it takes to prove that a log has recorded an entry. Nothing in it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's place in the log.
    pub index: LeafIndex,
    /// The encoded entry: the leaf, as it was hashed.
    pub entry: Vec<u8>,
    /// The salt of the entry's commitments.
    pub salt: Salt,
    /// Sibling hashes from the leaf up.
    pub inclusion_proof: Vec<Digest>,
    /// The signed note of a head that covers the entry.
    pub checkpoint: Vec<u8>,
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The checkpoint is not a head that the key signed, or one that the policy accepts.
    #[error("the receipt's checkpoint is refused: {0}")]
    Head(#[source] HeadError),
    /// The checkpoint is signed, and too few witnesses cosigned it. The log may have a cosigned one by now.
    #[error("the receipt's checkpoint is refused: {0}")]
    NoQuorum(#[source] NoQuorum),
    /// The receipt carries another checkpoint than the head it was checked under.
    #[error("the receipt carries another checkpoint than the head it was checked under")]
    OtherHead,
    /// The entry is not at that index in the tree of that head.
    #[error("the receipt's inclusion proof is refused: {0}")]
    Inclusion(#[source] ProofError),
    /// The log recorded these bytes, but they are no entry of a version known here.
    #[error("the receipt's leaf is refused: {0}")]
    Entry(#[source] EntryError),
}

impl Receipt {
    /// Checks everything that the log's key alone can prove: the head's signature, the inclusion of the leaf, the form
    /// of the entry. The salt is checked with what was committed to: [`VerifiedReceipt::commits_to`].
    ///
    /// The hash suite is the key's; a receipt of a log with another suite has a head that the key did not sign.
    pub fn verify(&self, key: &VerifierKey) -> Result<VerifiedReceipt, ReceiptError> {
        let head = key.verify_head(&self.checkpoint).map_err(ReceiptError::Head)?;
        ReceiptVerifier::new(Arc::new(head)).verify(self)
    }

    /// As [`verify`](Self::verify), for a log that the policy lists, and under a head that its witnesses cosigned.
    pub fn verify_by(&self, policy: &Policy) -> Result<WitnessedReceipt, ReceiptError> {
        let cosigned = policy
            .verify_cosigned(&self.checkpoint)
            .map_err(|error| match error {
                CosignedHeadError::Head(error) => ReceiptError::Head(error),
                CosignedHeadError::NoQuorum(error) => ReceiptError::NoQuorum(error),
            })?;
        let (head, cosignatures) = cosigned.into_parts();
        let verified = ReceiptVerifier::new(Arc::new(head)).verify(self)?;
        Ok(WitnessedReceipt {
            verified,
            cosignatures,
        })
    }
}

/// Checks many receipts under one head, whose signature was checked before.
#[derive(Debug, Clone)]
pub struct ReceiptVerifier {
    head: Arc<SignedHead>,
    inclusion: InclusionVerifier,
}

impl ReceiptVerifier {
    /// For receipts that carry this head.
    pub fn new(head: Arc<SignedHead>) -> Self {
        let inclusion = InclusionVerifier::new(head.suite(), head.size(), head.root());
        Self { head, inclusion }
    }

    /// The head.
    pub fn head(&self) -> &Arc<SignedHead> {
        &self.head
    }

    /// As [`Receipt::verify`]. The receipt's own checkpoint must be the head's, byte for byte.
    pub fn verify(&mut self, receipt: &Receipt) -> Result<VerifiedReceipt, ReceiptError> {
        if self.head.note_bytes() != receipt.checkpoint {
            return Err(ReceiptError::OtherHead);
        }
        let leaf_hash = self.head.suite().leaf_hash(&receipt.entry);
        self.inclusion
            .verify(leaf_hash, receipt.index, &receipt.inclusion_proof)
            .map_err(ReceiptError::Inclusion)?;
        let entry = Entry::decode(&receipt.entry).map_err(ReceiptError::Entry)?;
        let head = Arc::clone(&self.head);
        Ok(VerifiedReceipt {
            head,
            index: receipt.index,
            leaf_hash,
            entry,
            salt: receipt.salt,
        })
    }
}

/// A receipt that holds: made by [`Receipt::verify`] and [`ReceiptVerifier::verify`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    head: Arc<SignedHead>,
    index: LeafIndex,
    leaf_hash: Digest,
    entry: Entry,
    salt: Salt,
}

impl VerifiedReceipt {
    /// The head that covers the entry.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The entry's place in the log.
    pub fn index(&self) -> LeafIndex {
        self.index
    }

    /// The hash of the leaf.
    pub fn leaf_hash(&self) -> Digest {
        self.leaf_hash
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The salt as the receipt has it: what nobody signed, until a commitment check passes with it.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Checks that what was recorded is exactly `event`.
    pub fn commits_to(&self, event: &Event) -> Result<(), CommitmentError> {
        self.entry.commits_to(self.head.suite(), &self.salt, event)
    }

    /// Checks that what was recorded has this payload. Says nothing of the event's attributes.
    pub fn commits_to_payload(&self, payload: &[u8]) -> Result<(), CommitmentError> {
        self.entry
            .commits_to_payload(self.head.suite(), &self.salt, payload)
    }
}

/// A receipt that holds under a policy: made by [`Receipt::verify_by`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessedReceipt {
    verified: VerifiedReceipt,
    cosignatures: Vec<Cosignature>,
}

impl WitnessedReceipt {
    /// What the log's signature proves.
    pub fn receipt(&self) -> &VerifiedReceipt {
        &self.verified
    }

    /// Which of the policy's witnesses cosigned the head, and when: each had then seen no larger tree of the log, and
    /// none that contradicts this one. A quorum of them; empty only if the policy asks for none.
    pub fn cosignatures(&self) -> &[Cosignature] {
        &self.cosignatures
    }
}
