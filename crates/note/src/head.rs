//! Signed tree heads: a checkpoint in a note, signed by its log.
//!
//! A key of kind [`KeyKind::Ed25519`] signs the note's text. A key of kind [`KeyKind::TimestampedHead`] signs
//! `"counterfoil/timestamped-head/v1\nsuite <suite>\ntime <milliseconds>\n" ‖ text`, and its signature line carries
//! `u64be milliseconds ‖ signature` after the key id.

use std::fmt;

use counterfoil_merkle::{Digest, Suite, TreeSize};
use ed25519_dalek::{Signature, Signer as _};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosigner::CosignatureError;
use crate::key::{KeyId, KeyKind, SignerKey, VerifierKey};
use crate::note::{MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature};
use crate::origin::Origin;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The moment so many milliseconds after 1970-01-01T00:00:00Z.
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The milliseconds in decimal.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys with which one log signs each of its heads.
#[derive(Debug)]
pub struct LogSigner {
    /// One for each kind in `KeyKind::of_log(suite)`, in that order, all of the name `origin`.
    keys: Vec<SignerKey>,
    origin: Origin,
    suite: Suite,
}

/// Why keys can't sign for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogSignerError {
    /// Not one key of each kind in [`KeyKind::of_log`], in that order.
    #[error(
        "a log has one key for timestamped heads and, if its suite is sha256, a plain Ed25519 key after it"
    )]
    Kinds,
    /// The keys bear different names.
    #[error("the keys bear different names; all keys of a log bear its origin")]
    Names,
    /// Two keys from one seed. What either signs could then be tried as a signature by the other.
    #[error("two keys are made from the same seed; each key of a log has its own")]
    SharedSeed,
}

impl LogSigner {
    /// The signer of a log, from one key of each kind in [`KeyKind::of_log`], in that order.
    ///
    /// # Errors
    /// [`LogSignerError`].
    pub fn new(keys: Vec<SignerKey>) -> Result<Self, LogSignerError> {
        let first = keys.first().ok_or(LogSignerError::Kinds)?.verifier_key().clone();
        let kinds = keys.iter().map(|key| key.verifier_key().kind());
        if !kinds.eq(KeyKind::of_log(first.suite()).iter().copied()) {
            return Err(LogSignerError::Kinds);
        }
        for other in keys[1..].iter().map(SignerKey::verifier_key) {
            if other.name() != first.name() {
                return Err(LogSignerError::Names);
            }
            if other.key() == first.key() {
                return Err(LogSignerError::SharedSeed);
            }
        }
        Ok(Self {
            keys,
            origin: first.name().clone(),
            suite: first.suite(),
        })
    }

    /// The name of the log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The hash suite of the log.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The keys in the order of their signature lines. The first is the one whose public half verifiers configure: it
    /// signs suite and time as well.
    pub fn keys(&self) -> &[SignerKey] {
        &self.keys
    }

    /// Signs a head; returns the note. The root of an empty tree must be the suite's, or no verifier takes the head.
    pub fn sign_head(&self, size: TreeSize, root: Digest, time: UnixMillis) -> Vec<u8> {
        let text = Checkpoint::new(self.origin.clone(), size, root).to_text();
        let signatures = self.keys.iter().map(|key| sign(key, &text, time)).collect();
        Note::new(text, signatures).to_bytes()
    }
}

fn sign(key: &SignerKey, text: &str, time: UnixMillis) -> NoteSignature {
    let verifier = key.verifier_key();
    let sign = |message: &[u8]| key.key().sign(message).to_bytes();
    let payload = match verifier.kind() {
        KeyKind::Ed25519 => sign(text.as_bytes()).to_vec(),
        KeyKind::TimestampedHead(suite) => [
            time.get().to_be_bytes().as_slice(),
            &sign(&timestamped_message(suite, time, text)),
        ]
        .concat(),
    };
    NoteSignature::new(verifier.name().as_str(), verifier.id(), payload)
}

fn timestamped_message(suite: Suite, time: UnixMillis, text: &str) -> Vec<u8> {
    format!("counterfoil/timestamped-head/v1\nsuite {suite}\ntime {time}\n{text}").into_bytes()
}

/// A tree head whose signature was verified. There is no other way to come by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    checkpoint: Checkpoint,
    suite: Suite,
    time: Option<UnixMillis>,
    signatures: Vec<NoteSignature>,
    note: Vec<u8>,
}

impl SignedHead {
    /// The log.
    pub fn origin(&self) -> &Origin {
        self.checkpoint.origin()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> TreeSize {
        self.checkpoint.size()
    }

    /// The root hash of the tree.
    pub fn root(&self) -> Digest {
        self.checkpoint.root()
    }

    /// The hash suite of the tree, which the key determined.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// When the log signed it, by the log's clock. `None` under a key of kind [`KeyKind::Ed25519`], which signs no time.
    pub fn time(&self) -> Option<UnixMillis> {
        self.time
    }

    /// The note as it came, with signatures that were not verified too.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    /// All signature lines of the note. The log's is verified; the others are not.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The text that the log signed, and that cosigners sign.
    pub(crate) fn checkpoint_text(&self) -> String {
        // Reading it took the canonical form only, so this is the text as it came.
        self.checkpoint.to_text()
    }

    /// The same head with these lines after its own. A line takes the place of the one with its name and key id, unless
    /// that bears the name of the log: what the log signed stays. Nobody has verified the lines.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`] or [`NoteError::TooLong`]: the note would be refused by readers.
    pub fn with_signatures(&self, lines: impl IntoIterator<Item = NoteSignature>) -> Result<Self, NoteError> {
        let mut signatures = self.signatures.clone();
        for line in lines {
            let same = |other: &NoteSignature| other.id() == line.id() && other.name() == line.name();
            match signatures.iter().position(same) {
                Some(_) if line.name() == self.origin().as_str() => {}
                Some(at) => signatures[at] = line,
                None if signatures.len() == MAX_SIGNATURES => return Err(NoteError::TooManySignatures),
                None => signatures.push(line),
            }
        }
        let note = Note::new(self.checkpoint_text(), signatures.clone()).to_bytes();
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { bytes: note.len() });
        }
        Ok(Self {
            signatures,
            note,
            ..self.clone()
        })
    }
}

/// Why bytes are not a head that the log signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The bytes are not a signed note.
    #[error("the tree head is not a signed note: {0}")]
    Note(#[from] NoteError),
    /// The text of the note is not a checkpoint.
    #[error("the tree head is malformed: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It is about another log.
    #[error("the tree head is of the log {found}, not of {expected}")]
    OtherOrigin {
        /// The log of the key.
        expected: Origin,
        /// The log that the head names.
        found: Origin,
    },
    /// It is of a log that the policy does not list.
    #[error("the tree head is of the log {found}, which the policy does not list")]
    UnlistedLog {
        /// The log that the head names.
        found: Origin,
    },
    /// No line claims to be a signature by the key. A head of the other hash suite ends here too.
    #[error("the tree head is not signed by the key {id} of {origin}")]
    NotSignedByKey {
        /// The name of the key.
        origin: Origin,
        /// Its id.
        id: KeyId,
    },
    /// A signature that claims to be by the key is not.
    #[error("the tree head's signature by the key {id} of {origin} does not verify")]
    BadSignature {
        /// The name of the key.
        origin: Origin,
        /// Its id.
        id: KeyId,
    },
    /// A line claims to be by a listed witness and is not.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// The log signed an empty tree with a root that an empty tree does not have.
    #[error("the tree head is of an empty tree but has another root")]
    EmptyTreeRoot,
}

impl VerifierKey {
    /// Verifies that this key signed a head of the log that bears its name.
    ///
    /// Signatures by other keys are not looked at.
    ///
    /// # Errors
    /// Any [`HeadError`]: what is in the note is then worth nothing.
    pub fn verify_head(&self, note: &[u8]) -> Result<SignedHead, HeadError> {
        let head = UnverifiedHead::parse(note)?;
        if head.checkpoint.origin() != self.name() {
            let (expected, found) = (self.name().clone(), head.checkpoint.origin().clone());
            return Err(HeadError::OtherOrigin { expected, found });
        }
        head.verify(&[self])
    }

    /// Returns the time that the signature covers, if it does.
    fn verify_signature(&self, text: &str, payload: &[u8]) -> Result<Option<UnixMillis>, HeadError> {
        let bad = || HeadError::BadSignature {
            origin: self.name().clone(),
            id: self.id(),
        };
        let verify = |message: &[u8], signature: &[u8]| {
            let signature = Signature::from_slice(signature).map_err(|_| bad())?;
            self.key().verify_strict(message, &signature).map_err(|_| bad())
        };
        match self.kind() {
            KeyKind::Ed25519 => {
                verify(text.as_bytes(), payload)?;
                Ok(None)
            }
            KeyKind::TimestampedHead(suite) => {
                let (time, signature) = payload.split_first_chunk().ok_or_else(bad)?;
                let time = UnixMillis(u64::from_be_bytes(*time));
                verify(&timestamped_message(suite, time, text), signature)?;
                Ok(Some(time))
            }
        }
    }
}

/// A checkpoint in a note, before any signature was verified.
pub(crate) struct UnverifiedHead<'a> {
    note: Note,
    bytes: &'a [u8],
    pub(crate) checkpoint: Checkpoint,
}

impl<'a> UnverifiedHead<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self {
            note,
            bytes,
            checkpoint,
        })
    }

    /// Verifies the signatures by the known keys of the log: there is one at least, and each that there is holds.
    ///
    /// `keys` bear the origin's name and are of one suite; there is one at least.
    pub(crate) fn verify(self, keys: &[&VerifierKey]) -> Result<SignedHead, HeadError> {
        let suite = keys[0].suite();
        let mut is_signed = false;
        let mut time = None;
        for key in keys {
            if let Some(line) = self.note.signature_by(key.name().as_str(), key.id()) {
                let signed_time = key.verify_signature(self.note.text(), line.payload())?;
                is_signed = true;
                time = time.or(signed_time);
            }
        }
        if !is_signed {
            return Err(HeadError::NotSignedByKey {
                origin: keys[0].name().clone(),
                id: keys[0].id(),
            });
        }
        if self.checkpoint.size() == TreeSize::ZERO && self.checkpoint.root() != suite.empty_root() {
            return Err(HeadError::EmptyTreeRoot);
        }
        Ok(SignedHead {
            checkpoint: self.checkpoint,
            suite,
            time,
            signatures: self.note.into_signatures(),
            note: self.bytes.to_vec(),
        })
    }
}
