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

/// Longest key text that is read, in bytes. Enough for an ML-DSA-44 key under the longest name.
pub const MAX_KEY_TEXT_BYTES: usize = 2048;

const SECRET_PREFIX: &str = "PRIVATE+KEY+";

/// What stands before a cosigner's Ed25519 key in its text and in its id.
const COSIGNER_TYPE: &[u8] = b"\x04";
/// The same before a cosigner's ML-DSA-44 key.
const ML_DSA_44_COSIGNER_TYPE: &[u8] = b"\x06";

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
    kind: KeyKind,
    public: PublicKey,
}

/// A secret key with its name. Never printed; wiped from memory when dropped.
pub struct SignerKey {
    verifier: VerifierKey,
    secret: SecretKey,
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
    /// The key is of a kind that is not known here.
    #[error("the key is of an unknown kind")]
    UnknownKind,
    /// A witness's key, type 0x04 or 0x06, where a log's is expected.
    #[error("this is a witness's key; a log's is expected here")]
    WitnessKey,
    /// A log's key where a witness's is expected.
    #[error("this is a log's key; a witness's is expected here")]
    LogKey,
    /// A witness's key of type 0x06.
    #[error(
        "this is an ML-DSA-44 key (type 0x06), which is not supported; a witness's Ed25519 key has type 0x04"
    )]
    MlDsa44,
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
    fn of(name: &Origin, prefix: &[u8], key: &VerifyingKey) -> Self {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update(b"\n")
            .chain_update(prefix)
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

/// A public key of any role, under its name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PublicKey {
    pub(crate) name: Origin,
    pub(crate) id: KeyId,
    pub(crate) key: VerifyingKey,
}

impl PublicKey {
    pub(crate) fn new(name: Origin, role: Role, key: VerifyingKey) -> Self {
        let id = KeyId::of(&name, role.prefix(), &key);
        Self { name, id, key }
    }

    /// Reads a vkey of any role; points of small order and second spellings of a point are refused.
    pub(crate) fn parse(text: &str) -> Result<(Role, Self), KeyError> {
        if text.starts_with(SECRET_PREFIX) {
            return Err(KeyError::Secret);
        }
        let KeyText {
            name,
            id,
            role,
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
        Ok((role, Self::new(name, role, key).check_id(id)?))
    }

    fn check_id(self, id: KeyId) -> Result<Self, KeyError> {
        if self.id != id {
            return Err(KeyError::Id { expected: self.id });
        }
        Ok(self)
    }

    /// Writes the vkey.
    pub(crate) fn fmt(&self, role: Role, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = [role.prefix(), self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, self.id, BASE64_STANDARD.encode(data))
    }
}

/// The secret half of a [`PublicKey`]; wiped from memory when dropped.
pub(crate) struct SecretKey {
    pub(crate) public: PublicKey,
    pub(crate) key: SigningKey,
}

impl SecretKey {
    pub(crate) fn generate(name: Origin, role: Role, seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&Zeroizing::new(seed));
        let public = PublicKey::new(name, role, key.verifying_key());
        Self { public, key }
    }

    pub(crate) fn parse(text: &str) -> Result<(Role, Self), KeyError> {
        let KeyText {
            name,
            id,
            role,
            bytes,
        } = KeyText::parse(text.strip_prefix(SECRET_PREFIX).ok_or(KeyError::Format)?)?;
        let key = SigningKey::from_bytes(&bytes);
        let public = PublicKey::new(name, role, key.verifying_key()).check_id(id)?;
        Ok((role, Self { public, key }))
    }

    pub(crate) fn to_text(&self, role: Role) -> Zeroizing<String> {
        let PublicKey { name, id, .. } = &self.public;
        let data = Zeroizing::new([role.prefix(), self.key.as_bytes()].concat());
        let data = Zeroizing::new(BASE64_STANDARD.encode(&*data));
        Zeroizing::new(format!("{SECRET_PREFIX}{name}+{id}+{}", *data))
    }
}

/// What the type in a key's text says that the key is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To sign the heads of the log that bears its name.
    Log(KeyKind),
    /// To cosign heads of any log.
    Cosigner,
}

impl Role {
    const ALL: [Self; 4] = [
        Self::Log(KeyKind::Ed25519),
        Self::Log(KeyKind::TimestampedHead(Suite::Blake3)),
        Self::Log(KeyKind::TimestampedHead(Suite::Sha256)),
        Self::Cosigner,
    ];

    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Log(kind) => kind.prefix(),
            Self::Cosigner => COSIGNER_TYPE,
        }
    }

    fn log(self) -> Result<KeyKind, KeyError> {
        match self {
            Self::Log(kind) => Ok(kind),
            Self::Cosigner => Err(KeyError::WitnessKey),
        }
    }
}

impl VerifierKey {
    /// The name of the key: for a log's key, the log's origin.
    pub fn name(&self) -> &Origin {
        &self.public.name
    }

    /// The id that its signature lines carry.
    pub fn id(&self) -> KeyId {
        self.public.id
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The hash suite of the log: [`Suite::Sha256`] for a key of type 0x01.
    pub fn suite(&self) -> Suite {
        self.kind.suite()
    }

    /// The 32 bytes of the public key alone. No two roles may share them, under whatever names and ids.
    pub fn public_key_bytes(&self) -> &[u8; 32] {
        self.public.key.as_bytes()
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.public.key
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (role, public) = PublicKey::parse(text).map_err(|error| match error {
            KeyError::MlDsa44 => KeyError::WitnessKey,
            other => other,
        })?;
        let kind = role.log()?;
        Ok(Self { kind, public })
    }
}

/// The vkey.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public.fmt(Role::Log(self.kind), f)
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
        Self::new(kind, SecretKey::generate(name, Role::Log(kind), seed))
    }

    fn new(kind: KeyKind, secret: SecretKey) -> Self {
        let public = secret.public.clone();
        Self {
            verifier: VerifierKey { kind, public },
            secret,
        }
    }

    /// The public key.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The secret key as text, for a file that only the log may read. Reads back with [`str::parse`].
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        self.secret.to_text(Role::Log(self.verifier.kind))
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.secret.key
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (role, secret) = SecretKey::parse(text)?;
        Ok(Self::new(role.log()?, secret))
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey(secret of {})", self.verifier)
    }
}

/// The parts of a key's text: `<name>+<key id>+<base64(type ‖ 32 bytes)>`, the bytes perhaps a secret.
struct KeyText {
    name: Origin,
    id: KeyId,
    role: Role,
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
        if data.starts_with(ML_DSA_44_COSIGNER_TYPE) {
            return Err(KeyError::MlDsa44);
        }
        let (role, key) = Role::ALL
            .into_iter()
            .find_map(|role| Some((role, data.strip_prefix(role.prefix())?)))
            .ok_or(KeyError::UnknownKind)?;
        let key: &[u8; 32] = key
            .try_into()
            .map_err(|_| KeyError::Length { bytes: key.len() })?;
        Ok(Self {
            name: name.parse()?,
            id,
            role,
            bytes: Zeroizing::new(*key),
        })
    }
}
