//! Keys, and how they are written. C2SP signed-note, with a key kind of our own under its type for private use.
//!
//! A public key is `<name>+<key id>+<base64(kind ‖ public key)>`, the *vkey*; a secret one is
//! `PRIVATE+KEY+<name>+<key id>+<base64(kind ‖ seed)>`. The key id is eight hex digits:
//! `SHA-256(name ‖ 0x0A ‖ kind ‖ public key)[..4]`. `kind` is one byte for a type that the specification defines, else
//! 0xff and an identifier.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::Suite;
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::origin::{Origin, OriginError};

/// Longest key text that is read, in bytes. The longest that is valid has less.
pub const MAX_KEY_TEXT_BYTES: usize = 512;

const SECRET_PREFIX: &str = "PRIVATE+KEY+";

/// The short id of a key, enough to tell the keys of one name apart. It authenticates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

/// What a key signs, and so which hash suite its heads are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Type 0x01: Ed25519 over the note's text. Every SHA-256 verifier knows it.
    Ed25519,
    /// Type 0xff with an identifier of ours: Ed25519 over suite, time and text.
    TimestampedHead(Suite),
}

/// A public key with its name: all that a verifier needs to know of a log.
///
/// Written and read as a vkey. Reading refuses small-order points and points that are not in canonical form.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: Origin,
    kind: KeyKind,
    id: KeyId,
    key: VerifyingKey,
}

/// A secret key with its name. Never printed; wiped from memory when dropped.
pub struct SignerKey {
    verifier: VerifierKey,
    key: SigningKey,
}

/// Why a text is not a key. Nothing of a secret key's text is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Longer than [`MAX_KEY_TEXT_BYTES`].
    #[error("the key's text has {bytes} bytes; {MAX_KEY_TEXT_BYTES} is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not of the form `<name>+<key id>+<base64>`, for a secret key after `PRIVATE+KEY+`.
    #[error("the key is not of the form <name>+<8 hex digits>+<base64>")]
    Format,
    /// A secret key where a public one is expected. It may have been shown to whom it should not.
    #[error("this is a secret key; the public key is expected here")]
    Secret,
    /// The name is not valid.
    #[error("the key's name is invalid: {0}")]
    Name(#[from] OriginError),
    /// The key is of a kind that can't sign a log's heads.
    #[error("the key is of an unknown kind")]
    UnknownKind,
    /// There are more or fewer than 32 bytes of key.
    #[error("the key has {bytes} bytes instead of 32")]
    Length {
        /// How many there are.
        bytes: usize,
    },
    /// The bytes are no canonical encoding of a curve point.
    #[error("the public key is not a canonical Ed25519 point")]
    NotAPoint,
    /// A point of small order: signatures that it accepts prove nothing.
    #[error("the public key is a weak Ed25519 point")]
    Weak,
    /// The id is not that of the name, kind and key beside it: part of the text was changed or mistyped.
    #[error("the key's id should be {expected}: its text was altered or mistyped")]
    Id {
        /// The id that belongs to them.
        expected: KeyId,
    },
}

impl KeyId {
    fn of(name: &Origin, kind: KeyKind, key: &VerifyingKey) -> Self {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update(b"\n")
            .chain_update(kind.prefix())
            .chain_update(key.as_bytes())
            .finalize();
        Self(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
    }

    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// Eight lower-case hex digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl KeyKind {
    const ALL: [Self; 3] = [
        Self::Ed25519,
        Self::TimestampedHead(Suite::Blake3),
        Self::TimestampedHead(Suite::Sha256),
    ];

    /// The kinds that sign each head of a log, in the order of their signature lines. The first is the one to trust.
    ///
    /// A `blake3` log has no 0x01 key: software that knows SHA-256 only must find its heads unsigned.
    pub fn of_log(suite: Suite) -> &'static [Self] {
        match suite {
            Suite::Blake3 => &[Self::TimestampedHead(Suite::Blake3)],
            Suite::Sha256 => &[Self::TimestampedHead(Suite::Sha256), Self::Ed25519],
        }
    }

    /// The hash suite of the heads that such a key signs.
    pub fn suite(self) -> Suite {
        match self {
            Self::Ed25519 => Suite::Sha256,
            Self::TimestampedHead(suite) => suite,
        }
    }

    /// What stands before the key in its text and in its id: the type, and the identifier that 0xff wants. None is the
    /// beginning of another.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => b"\x01",
            Self::TimestampedHead(Suite::Blake3) => b"\xffcounterfoil/timestamped-head/v1/blake3",
            Self::TimestampedHead(Suite::Sha256) => b"\xffcounterfoil/timestamped-head/v1/sha256",
        }
    }
}

impl VerifierKey {
    fn new(name: Origin, kind: KeyKind, key: VerifyingKey) -> Self {
        let id = KeyId::of(&name, kind, &key);
        Self { name, kind, id, key }
    }

    fn check_id(self, id: KeyId) -> Result<Self, KeyError> {
        if self.id != id {
            return Err(KeyError::Id { expected: self.id });
        }
        Ok(self)
    }

    /// The name of the key: for a log's key, the log's origin.
    pub fn name(&self) -> &Origin {
        &self.name
    }

    /// The id that its signature lines carry.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The hash suite of the log: [`Suite::Sha256`] for a key of type 0x01.
    pub fn suite(&self) -> Suite {
        self.kind.suite()
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.key
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(SECRET_PREFIX) {
            return Err(KeyError::Secret);
        }
        let KeyText {
            name,
            id,
            kind,
            bytes,
        } = KeyText::parse(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotAPoint)?;
        // Decompression takes a y coordinate beyond the field's modulus, which is a second spelling of the same key.
        if key.to_edwards().compress().as_bytes() != &*bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Self::new(name, kind, key).check_id(id)
    }
}

/// The vkey.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = [self.kind.prefix(), self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, self.id, BASE64_STANDARD.encode(data))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl SignerKey {
    /// The key that a seed determines. The seed must be 32 bytes from a cryptographic random generator, used for
    /// nothing else, not even for another key of the same log.
    pub fn generate(name: Origin, kind: KeyKind, seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&Zeroizing::new(seed));
        Self {
            verifier: VerifierKey::new(name, kind, key.verifying_key()),
            key,
        }
    }

    /// The public key.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The secret key as text, for a file that only the log may read. Reads back with [`str::parse`].
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let VerifierKey { name, id, kind, .. } = &self.verifier;
        let data = Zeroizing::new([kind.prefix(), self.key.as_bytes()].concat());
        let data = Zeroizing::new(BASE64_STANDARD.encode(&*data));
        Zeroizing::new(format!("{SECRET_PREFIX}{name}+{id}+{}", *data))
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let KeyText {
            name,
            id,
            kind,
            bytes,
        } = KeyText::parse(text.strip_prefix(SECRET_PREFIX).ok_or(KeyError::Format)?)?;
        let key = SigningKey::from_bytes(&bytes);
        let verifier = VerifierKey::new(name, kind, key.verifying_key()).check_id(id)?;
        Ok(Self { verifier, key })
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey(secret of {})", self.verifier)
    }
}

/// The parts of a key's text: `<name>+<key id>+<base64(kind ‖ 32 bytes)>`, the bytes perhaps a secret.
struct KeyText {
    name: Origin,
    id: KeyId,
    kind: KeyKind,
    bytes: Zeroizing<[u8; 32]>,
}

impl KeyText {
    fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_TEXT_BYTES {
            return Err(KeyError::TooLong { bytes: text.len() });
        }
        // Base64 may hold a plus, names may not.
        let mut parts = text.splitn(3, '+');
        let mut part = || parts.next().ok_or(KeyError::Format);
        let (name, id, data) = (part()?, part()?, part()?);

        // Lower case only: one key has one text.
        if id.len() != 8 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(KeyError::Format);
        }
        let id = KeyId(u32::from_str_radix(id, 16).map_err(|_| KeyError::Format)?);
        let data = Zeroizing::new(BASE64_STANDARD.decode(data).map_err(|_| KeyError::Format)?);
        let (kind, key) = KeyKind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, data.strip_prefix(kind.prefix())?)))
            .ok_or(KeyError::UnknownKind)?;
        let key: &[u8; 32] = key
            .try_into()
            .map_err(|_| KeyError::Length { bytes: key.len() })?;
        Ok(Self {
            name: name.parse()?,
            id,
            kind,
            bytes: Zeroizing::new(*key),
        })
    }
}
