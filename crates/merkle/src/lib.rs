//! The Merkle tree of RFC 6962 and RFC 9162 under two hash suites: tree coordinates, tiles, compact ranges, and
//! inclusion and consistency proofs, made and checked.
//!
//! The crate does no I/O, reads no clock and keeps no global state but the suites' constants. It never learns where
//! nodes are stored: provers read them through a closure. It never takes a tree size from a proof: a root does not
//! commit to its size, so the caller brings both from a signed head.
//!
//! ```
//! use counterfoil_merkle::{Frontier, LeafIndex, Suite, inclusion_proof, verify_inclusion};
//!
//! let suite = Suite::Blake3;
//! let mut frontier = Frontier::new(suite);
//! for entry in ["push", "build", "release"] {
//!     frontier.append(suite.leaf_hash(entry.as_bytes()), &mut |_id, _full_tile| {});
//! }
//!
//! // Three leaves lie in the frontier; a larger log also looks into its full tiles.
//! let read = |node| frontier.node(node).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound));
//! let index = LeafIndex::new(1)?;
//! let proof = inclusion_proof(suite, index, frontier.size(), read)?;
//! verify_inclusion(suite, suite.leaf_hash(b"build"), index, frontier.size(), &proof, frontier.root())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compact;
mod coordinates;
mod digest;
mod frontier;
mod full_tile;
mod path;
mod prove;
mod range;
mod suite;
mod tile;
mod verifier;
mod verify;

pub use compact::{CompactRange, CompactRangeError};
pub use coordinates::{LeafIndex, NodeId, OutOfRange, TileId, TreeSize};
pub use digest::{Digest, DigestLength, ParseDigestError};
pub use frontier::{Frontier, FrontierError};
pub use full_tile::FullTile;
pub use path::{InvalidTilePath, TilePath, TileWidth};
pub use prove::{ProveError, consistency_proof, inclusion_proof, inclusion_proofs, range_root, root_at};
pub use range::root_of_range;
pub use suite::{Suite, UnknownSuite};
pub use tile::{Tile, TileError};
pub use verifier::InclusionVerifier;
pub use verify::{
    ProofError, consistency_from_inclusion, consistency_roots, root_before, verify_consistency,
    verify_inclusion,
};
