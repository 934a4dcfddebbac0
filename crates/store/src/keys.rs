//! Column families, and their keys and small values as bytes.

use counterfoil_event::IndexKey;
use counterfoil_merkle::{Digest, LeafIndex, TileId, TreeSize};

use crate::TreeState;

/// The key of the [`FORMAT_VERSION`] in [`Family::Meta`], a big-endian u32.
pub(crate) const META_FORMAT: &[u8] = b"format";

/// What is stored where, and how: this module, the payload record, and the options that RocksDB can't tell by itself.
pub(crate) const FORMAT_VERSION: u32 = 3;

/// The key of the [`TreeState`] in [`Family::Meta`].
pub(crate) const META_TREE: &[u8] = b"tree";

/// The key of the size of the head that was published last in [`Family::Meta`], a big-endian u64.
pub(crate) const META_PUBLISHED: &[u8] = b"published";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Entries,
    Payloads,
    Tiles,
    Heads,
    EventIds,
    LeafHashes,
    Attributes,
    Meta,
}

impl Family {
    pub(crate) const ALL: [Self; 8] = [
        Self::Entries,
        Self::Payloads,
        Self::Tiles,
        Self::Heads,
        Self::EventIds,
        Self::LeafHashes,
        Self::Attributes,
        Self::Meta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Payloads => "payloads",
            Self::Tiles => "tiles",
            Self::Heads => "heads",
            Self::EventIds => "event_ids",
            Self::LeafHashes => "leaf_hashes",
            Self::Attributes => "attributes",
            Self::Meta => "meta",
        }
    }
}

pub(crate) fn index(index: LeafIndex) -> [u8; 8] {
    index.get().to_be_bytes()
}

pub(crate) fn decode_index(bytes: &[u8]) -> Option<LeafIndex> {
    LeafIndex::new(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// A row of the search index: all of it is key, so that what a value leads to is one run of rows in order of index.
pub(crate) type IndexRow = [u8; IndexKey::LEN + 8];

pub(crate) fn index_row(key: &IndexKey, index: LeafIndex) -> IndexRow {
    let mut row = [0; IndexKey::LEN + 8];
    row[..IndexKey::LEN].copy_from_slice(key.as_bytes());
    row[IndexKey::LEN..].copy_from_slice(&self::index(index));
    row
}

pub(crate) fn decode_index_row(bytes: &[u8]) -> Option<(IndexKey, LeafIndex)> {
    let (key, index) = bytes.split_first_chunk::<{ IndexKey::LEN }>()?;
    Some((IndexKey::from(*key), decode_index(index)?))
}

pub(crate) fn size(size: TreeSize) -> [u8; 8] {
    size.get().to_be_bytes()
}

pub(crate) fn decode_size(bytes: &[u8]) -> Option<TreeSize> {
    TreeSize::new(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

pub(crate) fn tile(tile: TileId) -> [u8; 9] {
    let mut key = [tile.level; 9];
    key[1..].copy_from_slice(&tile.index.to_be_bytes());
    key
}

pub(crate) fn decode_tile(bytes: &[u8]) -> Option<TileId> {
    let (&level, index) = bytes.split_first()?;
    Some(TileId {
        level,
        index: u64::from_be_bytes(index.try_into().ok()?),
    })
}

pub(crate) fn encode_tree_state(state: &TreeState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + state.compact_range.len() * 32);
    bytes.extend_from_slice(&size(state.size));
    bytes.extend_from_slice(&state.last_time_unix_ns.to_be_bytes());
    for hash in &state.compact_range {
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes
}

pub(crate) fn decode_tree_state(bytes: &[u8]) -> Option<TreeState> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let (time, hashes) = rest.split_first_chunk::<8>()?;
    let (hashes, []) = hashes.as_chunks::<32>() else {
        return None;
    };
    Some(TreeState {
        size: decode_size(size)?,
        last_time_unix_ns: u64::from_be_bytes(*time),
        compact_range: hashes.iter().map(|hash| Digest::from(*hash)).collect(),
    })
}
