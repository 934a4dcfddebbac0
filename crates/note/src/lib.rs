//! Signed notes, checkpoints and signed tree heads: C2SP [signed-note] and [tlog-checkpoint], and the signature type
//! of our own that puts a signed clock and a hash suite under a tree head. No I/O, no clock, no randomness; and no
//! lenience: whatever does not re-encode to the bytes that it was read from is refused.
//!
//! A verifier configures one string, the log's *vkey*. It carries the log's origin, its hash suite and its public key;
//! nothing else about a log is trusted, and nothing about it is guessed from what the log sends.
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
//! [signed-note]: https://c2sp.org/signed-note
//! [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod head;
mod key;
mod note;
mod origin;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use head::{HeadError, LogSigner, LogSignerError, SignedHead, UnixMillis};
pub use key::{KeyError, KeyId, KeyKind, MAX_KEY_TEXT_BYTES, SignerKey, VerifierKey};
pub use note::{MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature};
pub use origin::{MAX_ORIGIN_BYTES, Origin, OriginError};
