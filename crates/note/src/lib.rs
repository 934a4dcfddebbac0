//! Signed notes, checkpoints and signed tree heads: C2SP [signed-note] and [tlog-checkpoint], and the signature type
//! of our own that puts a signed clock and a hash suite under a tree head. What witnesses say of heads, and whom to
//! trust: C2SP [tlog-cosignature] (type 0x04) and [tlog-policy]. No I/O, no clock, no randomness; and no lenience:
//! whatever does not re-encode to the bytes that it was read from is refused.
//!
//! A verifier configures one string, the log's *vkey*. It carries the log's origin, its hash suite and its public key;
//! nothing else about a log is trusted, and nothing about it is guessed from what the log sends. A verifier that asks
//! for witnesses configures a [`Policy`]: vkeys of logs and witnesses, and how many of which it takes.
//!
//! # Signing and verifying a head
//! ```
//! use counterfoil_merkle::{Digest, Suite, TreeSize};
//! use counterfoil_note::{KeyKind, LogSigner, Origin, SignerKey, UnixMillis, VerifierKey};
//!
//! // Seeds come from the system's random generator; a fixed one is for examples only.
//! let origin: Origin = "example.com/builds".parse()?;
//! let key = SignerKey::generate(origin, KeyKind::TimestampedHead(Suite::Blake3), [7; 32]);
//! let vkey = key.verifier_key().to_string();
//!
//! let signer = LogSigner::new(vec![key])?;
//! let root = Digest::from([1; 32]);
//! let note = signer.sign_head(TreeSize::new(5)?, root, UnixMillis::new(1_767_225_600_000));
//!
//! // Elsewhere, later, with nothing but the vkey:
//! let key: VerifierKey = vkey.parse()?;
//! let head = key.verify_head(&note)?;
//! assert_eq!((head.size().get(), head.root()), (5, root));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cosigning a head, and asking for cosignatures
//! ```
//! use counterfoil_merkle::{Digest, Suite, TreeSize};
//! use counterfoil_note::{CosignerSigner, KeyKind, LogSigner, Policy, SignerKey, UnixMillis, UnixSeconds};
//!
//! let key = SignerKey::generate("example.com/builds".parse()?, KeyKind::TimestampedHead(Suite::Blake3), [7; 32]);
//! let witness = CosignerSigner::generate("witness.example/w1".parse()?, [8; 32]);
//! let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", key.verifier_key(), witness.verifier_key());
//! let policy = Policy::parse(policy.as_bytes())?;
//!
//! let signer = LogSigner::new(vec![key])?;
//! let note = signer.sign_head(TreeSize::new(5)?, Digest::from([1; 32]), UnixMillis::new(1_767_225_600_000));
//! assert!(policy.verify_cosigned(&note).is_err());
//!
//! let head = policy.verify_head(&note)?;
//! let head = head.with_signatures([witness.cosign(&head, UnixSeconds::new(1_767_225_600)?)])?;
//! let cosigned = policy.verify_cosigned(head.note_bytes())?;
//! assert_eq!(cosigned.cosignatures()[0].time().get(), 1_767_225_600);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [signed-note]: https://c2sp.org/signed-note
//! [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
//! [tlog-cosignature]: https://c2sp.org/tlog-cosignature
//! [tlog-policy]: https://c2sp.org/tlog-policy
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod cosigner;
mod head;
mod key;
mod note;
mod origin;
mod policy;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosigner::{
    Cosignature, CosignatureError, CosignerKey, CosignerSigner, UnixSeconds, UnixSecondsError,
};
pub use head::{HeadError, LogSigner, LogSignerError, SignedHead, UnixMillis};
pub use key::{KeyError, KeyId, KeyKind, MAX_KEY_TEXT_BYTES, SignerKey, VerifierKey};
pub use note::{MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature, parse_signature_lines};
pub use origin::{MAX_ORIGIN_BYTES, Origin, OriginError};
pub use policy::{
    CosignedHead, CosignedHeadError, MAX_POLICY_BYTES, MAX_POLICY_GROUPS, MAX_POLICY_LOGS,
    MAX_POLICY_NAME_BYTES, MAX_POLICY_WITNESSES, NoQuorum, Policy, PolicyError, PolicyLog, PolicyName,
    PolicyProblem, PolicyWitness, Quorum,
};
