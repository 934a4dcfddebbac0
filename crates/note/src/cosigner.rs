//! Cosignatures: what a witness says of a log's head. C2SP tlog-cosignature, type 0x04.
//!
//! The message is `"cosignature/v1\ntime <seconds>\n" ‖ text`, and the signature line carries `u64be seconds ‖ signature`
//! after the key id. The message does not name the cosigner, so a key serves one cosigner and nothing else.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::head::SignedHead;
use crate::key::{KeyError, KeyId, PublicKey, Role, SecretKey};
use crate::note::NoteSignature;
use crate::origin::Origin;

/// A moment in whole seconds since 1970-01-01T00:00:00Z, from 1 to 2^63 − 1: what a cosignature may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u64);

/// A number of seconds that is 0 or above 2^63 − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{seconds} is no time of a cosignature: 1 to 2^63 - 1 seconds are")]
pub struct UnixSecondsError {
    /// The number.
    pub seconds: u64,
}

impl UnixSeconds {
    /// The last moment, 2^63 − 1.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The moment so many seconds after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// If there are none, or more than [`MAX`](Self::MAX).
    pub const fn new(seconds: u64) -> Result<Self, UnixSecondsError> {
        // Zero is how a cosigner says that it states no time.
        if seconds == 0 || seconds > Self::MAX.0 {
            return Err(UnixSecondsError { seconds });
        }
        Ok(Self(seconds))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The seconds in decimal.
impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A witness's public key with its name, written and read as a vkey of type 0x04.
///
/// Reading refuses small-order points and points that are not in canonical form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CosignerKey(PublicKey);

/// A witness's secret key with its name. Never printed; wiped from memory when dropped.
pub struct CosignerSigner {
    key: CosignerKey,
    secret: SecretKey,
}

/// A cosignature that was verified. There is no other way to come by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    key: CosignerKey,
    time: UnixSeconds,
}

/// A line claims to be a cosignature by a known key and is not: the whole note is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CosignatureError {
    /// The signature does not verify, or the line has another length than 8 + 64 bytes.
    #[error("the cosignature by the key {id} of {name} does not verify")]
    BadSignature {
        /// The name of the key.
        name: Origin,
        /// Its id.
        id: KeyId,
    },
    /// The time is out of range.
    #[error("the cosignature by the key {id} of {name} has no valid time: {source}")]
    Time {
        /// The name of the key.
        name: Origin,
        /// Its id.
        id: KeyId,
        /// What time it has.
        source: UnixSecondsError,
    },
}

impl Cosignature {
    /// The key that made it.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// The name of the witness.
    pub fn name(&self) -> &Origin {
        self.key.name()
    }

    /// When it was made, by the witness's clock: until then the witness had seen no larger head of the log.
    pub fn time(&self) -> UnixSeconds {
        self.time
    }
}

impl CosignerKey {
    /// The name of the witness.
    pub fn name(&self) -> &Origin {
        &self.0.name
    }

    /// The id that its signature lines carry.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// The 32 bytes of the public key alone. No two roles may share them, under whatever names and ids.
    pub fn public_key_bytes(&self) -> &[u8; 32] {
        self.0.key.as_bytes()
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.0.key
    }

    /// Verifies this key's cosignature of a head. `None` if no line claims to be one; lines by others are not looked at.
    ///
    /// # Errors
    /// A line that claims to be by this key and does not verify. The note is then to be refused as a whole.
    pub fn verify_cosignature(&self, head: &SignedHead) -> Result<Option<Cosignature>, CosignatureError> {
        let lines = head.signatures();
        let own = |line: &&NoteSignature| line.id() == self.id() && line.name() == self.name().as_str();
        match lines.iter().find(own) {
            Some(line) => self
                .verify_payload(&head.checkpoint_text(), line.payload())
                .map(Some),
            None => Ok(None),
        }
    }

    fn verify_payload(&self, text: &str, payload: &[u8]) -> Result<Cosignature, CosignatureError> {
        let (name, id) = (self.name(), self.id());
        let bad = || CosignatureError::BadSignature {
            name: name.clone(),
            id,
        };
        let (time, signature) = payload.split_first_chunk().ok_or_else(bad)?;
        let time = UnixSeconds::new(u64::from_be_bytes(*time)).map_err(|source| CosignatureError::Time {
            name: name.clone(),
            id,
            source,
        })?;
        let signature = Signature::from_slice(signature).map_err(|_| bad())?;
        self.key()
            .verify_strict(&message(time, text), &signature)
            .map_err(|_| bad())?;
        Ok(Cosignature {
            key: self.clone(),
            time,
        })
    }
}

impl FromStr for CosignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match PublicKey::parse(text)? {
            (Role::Cosigner, public) => Ok(Self(public)),
            (Role::Log(_), _) => Err(KeyError::LogKey),
        }
    }
}

/// The vkey.
impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(Role::Cosigner, f)
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({self})")
    }
}

impl CosignerSigner {
    /// The key that a seed determines. The seed must be 32 bytes from a cryptographic random generator, used for
    /// nothing else: neither a log's key nor another cosigner's.
    pub fn generate(name: Origin, seed: [u8; 32]) -> Self {
        Self::new(SecretKey::generate(name, Role::Cosigner, seed))
    }

    fn new(secret: SecretKey) -> Self {
        let key = CosignerKey(secret.public.clone());
        Self { key, secret }
    }

    /// The public key.
    pub fn verifier_key(&self) -> &CosignerKey {
        &self.key
    }

    /// The secret key as text, for a file that only the witness may read. Reads back with [`str::parse`].
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        self.secret.to_text(Role::Cosigner)
    }

    /// Cosigns a head: says that it is consistent with all heads of its log that this witness cosigned before, and the
    /// largest of them. The caller has checked that, and has it on disk.
    pub fn cosign(&self, head: &SignedHead, time: UnixSeconds) -> NoteSignature {
        let message = message(time, &head.checkpoint_text());
        let signature = self.secret.key.sign(&message).to_bytes();
        let payload = [time.get().to_be_bytes().as_slice(), &signature].concat();
        NoteSignature::new(self.key.name().as_str(), self.key.id(), payload)
    }
}

impl FromStr for CosignerSigner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match SecretKey::parse(text)? {
            (Role::Cosigner, secret) => Ok(Self::new(secret)),
            (Role::Log(_), _) => Err(KeyError::LogKey),
        }
    }
}

impl fmt::Debug for CosignerSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerSigner(secret of {})", self.key)
    }
}

fn message(time: UnixSeconds, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}
