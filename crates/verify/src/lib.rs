//! Receipts: the half that a submitter keeps, and what it proves. And evidence: what proves that a log misbehaved.
//!
//! A [`Receipt`] composes a leaf, an inclusion proof (RFC 9162 section 2.1.3) and a signed head (C2SP tlog-checkpoint).
//! Whoever has the log's vkey, or a policy (C2SP tlog-policy), checks one with no access to the log. As a file it is a
//! C2SP tlog-proof; see [`Receipt::to_text`]. The crate does no I/O, reads no clock, and trusts nothing but the key or
//! policy it is given: the size of the tree and its root come from the signed head alone, and bytes are hashed before
//! they are read.
//!
//! What a check covers:
//!
//! | part of a receipt | checked by |
//! | --- | --- |
//! | origin, size, root and time of the head | the signature of the key given, or of a key that the policy lists |
//! | cosignatures on the head | the keys of the policy's witnesses, under [`Receipt::verify_by`] alone |
//! | entry, index and proof | the hashes up to the head's root |
//! | salt | [`VerifiedReceipt::commits_to`] and [`VerifiedReceipt::commits_to_payload`] only |
//! | other signatures on the checkpoint | nobody: they are for the holders of other keys |
//!
//! So [`Receipt::verify`] proves that the log has recorded *this entry*. That the entry stands for a given event takes
//! the event itself, and one of the two commitment checks. That the log shows everyone the same history, its own
//! signature can't prove: that takes witnesses, and a policy that names them.
//!
//! [`Evidence`] is the other direction: signed heads, leaves and proofs from which anyone with the log's key recomputes
//! that the log did what no honest log does. [`Evidence::check`] says what is proved, and what is not.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod evidence;
mod receipt;
mod text;

pub use evidence::{
    Basis, EntryProof, Evidence, EvidenceError, EvidenceTextError, Fact, Inconsistency, LeafProof,
    MAX_EVIDENCE_TEXT_BYTES, MAX_INVALID_ENTRY_BYTES, Verdict, is_invalid_in_every_version,
};
pub use receipt::{Receipt, ReceiptError, ReceiptVerifier, VerifiedReceipt, WitnessedReceipt};
pub use text::{MAX_PROOF_HASHES, MAX_RECEIPT_TEXT_BYTES, ReceiptTextError};
