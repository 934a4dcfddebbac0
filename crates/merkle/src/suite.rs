use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// The hash functions of a log, chosen when it is created and never sniffed from what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// BLAKE3 in `derive_key` mode, with one context each for leaves, nodes, the empty tree and commitments.
    Blake3,
    /// RFC 6962, section 2.1: SHA-256 with prefix 0x00 for leaves and 0x01 for nodes. Commitments are HMAC-SHA256.
    Sha256,
}

/// `derive_key` contexts. They are part of the format: changing one changes every digest.
const LEAF_CONTEXT: &str = "counterfoil 2026-11-22 leaf";
const NODE_CONTEXT: &str = "counterfoil 2026-11-22 node";
const EMPTY_CONTEXT: &str = "counterfoil 2026-11-22 empty";
const COMMITMENT_CONTEXT: &str = "counterfoil 2026-11-22 commitment";

/// RFC 6962, section 2.1: a leaf can't pass for a node.
const SHA256_LEAF_PREFIX: u8 = 0;
const SHA256_NODE_PREFIX: u8 = 1;

/// What a commitment opens with: salt and length.
const OPENING_BYTES: usize = 32 + 8;
/// BLAKE3 hashes chunks of 1 KiB side by side, as many as one update has from where a chunk begins. Behind the opening, an
/// update with the payload alone would begin within a chunk. So the payload's first bytes are laid behind the opening, as many
/// as make the chunks that any processor takes at once.
const AHEAD_BYTES: usize = 16 * 1024;
/// Below, there is less to gain than the copy takes.
const MIN_AHEAD_BYTES: usize = 3 * 1024;

/// A context is hashed to its key once; a keyed node is then a single compression.
static LEAF_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(LEAF_CONTEXT));
static NODE_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(NODE_CONTEXT));
static COMMITMENT_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(COMMITMENT_CONTEXT));

impl Suite {
    /// Both suites, for whoever has to treat each.
    pub const ALL: [Self; 2] = [Self::Blake3, Self::Sha256];

    /// The suite's name in configuration, key identifiers and the genesis entry: `blake3` or `sha256`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// The hash of a leaf: of an entry's bytes exactly as they were first encoded.
    pub fn leaf_hash(self, entry: &[u8]) -> Digest {
        match self {
            Self::Blake3 => keyed(&LEAF_KEY, &[entry]),
            Self::Sha256 => finish(Sha256::new_with_prefix([SHA256_LEAF_PREFIX]).chain_update(entry)),
        }
    }

    /// The hash of an interior node over its two children.
    #[inline]
    pub fn node_hash(self, left: &Digest, right: &Digest) -> Digest {
        match self {
            Self::Blake3 => {
                let mut block = [0; 2 * Digest::LEN];
                block[..Digest::LEN].copy_from_slice(left.as_bytes());
                block[Digest::LEN..].copy_from_slice(right.as_bytes());
                keyed(&NODE_KEY, &[&block])
            }
            Self::Sha256 => {
                // One update with the whole input is a fifth faster than three.
                let mut input = [SHA256_NODE_PREFIX; 1 + 2 * Digest::LEN];
                input[1..=Digest::LEN].copy_from_slice(left.as_bytes());
                input[1 + Digest::LEN..].copy_from_slice(right.as_bytes());
                finish(Sha256::new_with_prefix(input))
            }
        }
    }

    /// The root of the tree that has no leaves.
    pub fn empty_root(self) -> Digest {
        match self {
            Self::Blake3 => blake3::derive_key(EMPTY_CONTEXT, &[]).into(),
            Self::Sha256 => finish(Sha256::new()),
        }
    }

    /// A commitment to `bytes` that reveals nothing about them without `salt`: over the salt, the length as a
    /// little-endian u64, and the bytes. In `sha256` the salt is the HMAC key (RFC 2104).
    pub fn commitment(self, salt: &[u8; 32], bytes: &[u8]) -> Digest {
        let length = (bytes.len() as u64).to_le_bytes();
        match self {
            Self::Blake3 if bytes.len() < MIN_AHEAD_BYTES => keyed(&COMMITMENT_KEY, &[salt, &length, bytes]),
            Self::Blake3 => {
                let mut first = [0; AHEAD_BYTES];
                first[..salt.len()].copy_from_slice(salt);
                first[salt.len()..OPENING_BYTES].copy_from_slice(&length);
                let (ahead, rest) = bytes.split_at(bytes.len().min(AHEAD_BYTES - OPENING_BYTES));
                let end = OPENING_BYTES + ahead.len();
                first[OPENING_BYTES..end].copy_from_slice(ahead);
                keyed(&COMMITMENT_KEY, &[&first[..end], rest])
            }
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes a key of any length");
                mac.update(&length);
                mac.update(bytes);
                Digest::from(<[u8; 32]>::from(mac.finalize().into_bytes()))
            }
        }
    }
}

/// BLAKE3's `derive_key` over the parts, one after another.
fn keyed(key: &ContextKey, parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new_from_context_key(key);
    for part in parts {
        hasher.update(part);
    }
    Digest::from(*hasher.finalize().as_bytes())
}

fn finish(hasher: Sha256) -> Digest {
    Digest::from(<[u8; 32]>::from(hasher.finalize()))
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.as_str() == name)
            .ok_or(UnknownSuite(()))
    }
}

/// The name of a hash suite is neither `blake3` nor `sha256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash suite is named blake3 or sha256")]
pub struct UnknownSuite(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_over_salt_length_and_bytes_however_long() {
        let salt = [7_u8; 32];
        let bytes: Vec<u8> = (0..100_000_u32)
            .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
            .collect();
        let edges = [
            0,
            MIN_AHEAD_BYTES,
            AHEAD_BYTES - OPENING_BYTES,
            AHEAD_BYTES,
            17 * 1024 - OPENING_BYTES,
            65_536,
            99_999,
        ];
        for length in edges
            .into_iter()
            .flat_map(|edge: usize| edge.saturating_sub(1)..=edge + 1)
        {
            let whole = [&salt[..], &(length as u64).to_le_bytes(), &bytes[..length]].concat();
            let expected = Digest::from(blake3::derive_key(COMMITMENT_CONTEXT, &whole));
            assert_eq!(
                Suite::Blake3.commitment(&salt, &bytes[..length]),
                expected,
                "{length} bytes"
            );
        }
    }
}
