//! Reading the tree: nodes, proofs, entries.

use std::sync::Arc;

use counterfoil_event::{Entry, EventKey, Salt};
use counterfoil_merkle::{
    Digest, Frontier, FullTile, LeafIndex, NodeId, ProveError, Suite, Tile, TileId, TileWidth, TreeSize,
    consistency_proof, inclusion_proof, inclusion_proofs, root_at,
};
use counterfoil_store::{Disk, Store, StoreError, StoredPayload};
use quick_cache::sync::Cache;

use crate::ReadError;

/// A full tile in memory, with what it takes to find it.
const TILE_BYTES: usize = FullTile::BYTES + 128;

/// Payloads from here on are long to read for the salt before them.
const LONG_PAYLOAD_BYTES: u64 = 256 * 1024;

/// Full tiles in memory, the most useful ones. They never change, so nothing is ever taken back.
pub(crate) struct TileCache(Cache<TileId, Arc<FullTile>>);

impl TileCache {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Cache::new((bytes / TILE_BYTES).max(16)))
    }

    pub(crate) fn insert(&self, id: TileId, tile: FullTile) {
        self.0.insert(id, Arc::new(tile));
    }
}

/// A tile that a leaf filled, with all its nodes, of which a stored one lacks most.
pub(crate) type FilledTile = (TileId, Arc<Tile>);

/// A leaf, by any of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafName {
    /// Its index.
    Index(LeafIndex),
    /// Its hash.
    Hash(Digest),
    /// The event that it records.
    Event(EventKey),
}

/// An entry and, where asked for and not erased, what it commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the tree.
    pub index: LeafIndex,
    /// Its bytes, as they were hashed.
    pub entry: Vec<u8>,
    /// What it commits to.
    pub payload: Option<StoredPayload>,
}

/// A leaf with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenLeaf {
    /// Its place in the tree.
    pub index: LeafIndex,
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// The salt of the entry's commitments.
    pub salt: Salt,
    /// Sibling hashes from the leaf up.
    pub inclusion_proof: Vec<Digest>,
}

/// The nodes of a tree of one size: the right edge from memory, the rest from the cache and the store.
pub(crate) struct Nodes<'a> {
    pub(crate) suite: Suite,
    pub(crate) frontier: &'a Frontier,
    pub(crate) tiles: &'a TileCache,
    pub(crate) store: &'a Store,
    pub(crate) disk: Disk,
}

impl Nodes<'_> {
    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    fn node(&self, id: NodeId) -> Result<Digest, ReadError> {
        if let Some(hash) = self.frontier.node(id) {
            return Ok(hash);
        }
        Ok(self.tile(TileId::containing(id))?.node(self.suite, id))
    }

    fn tile(&self, id: TileId) -> Result<Arc<FullTile>, ReadError> {
        if let Some(tile) = self.tiles.0.get(&id) {
            return Ok(tile);
        }
        let tile = Arc::new(read_tile(self.store, id, self.disk)?);
        self.tiles.0.insert(id, tile.clone());
        Ok(tile)
    }

    /// The first `width` hashes of a tile that the tree has so much of.
    ///
    /// What is not in memory is read as it is stored and does not go there: whoever copies the whole tree would push out
    /// what proofs need.
    pub(crate) fn tile_bytes(&self, id: TileId, width: TileWidth) -> Result<Vec<u8>, ReadError> {
        let length = usize::from(width.get()) * Digest::LEN;
        if let Some((_, edge)) = self.frontier.tiles().find(|(edge, _)| *edge == id) {
            return Ok(edge.hashes_bytes()[..length].to_vec());
        }
        let tile = match self.tiles.0.get(&id) {
            Some(tile) => tile,
            None => Arc::new(read_tile(self.store, id, self.disk)?),
        };
        Ok(tile.hashes_bytes()[..length].to_vec())
    }

    pub(crate) fn leaf_hash(&self, index: LeafIndex) -> Result<Digest, ReadError> {
        self.require(index, self.size())?;
        self.node(NodeId {
            level: 0,
            index: index.get(),
        })
    }

    /// Proof that a leaf is in the tree of `size`.
    pub(crate) fn inclusion_proof(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Digest>, ReadError> {
        if size > self.size() {
            return Err(self.size_out_of_range(size, size));
        }
        self.require(index, size)?;
        inclusion_proof(self.suite, index, size, |id| self.node(id)).map_err(read_failure)
    }

    /// Proof that the tree of `first` is a prefix of the tree of `second`.
    pub(crate) fn consistency_proof(
        &self,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, ReadError> {
        if first == TreeSize::ZERO || first > second || second > self.size() {
            return Err(self.size_out_of_range(first, second));
        }
        consistency_proof(self.suite, first, second, |id| self.node(id)).map_err(read_failure)
    }

    /// The root that the tree had at `size`.
    pub(crate) fn root_at(&self, size: TreeSize) -> Result<Digest, ReadError> {
        if size > self.size() {
            return Err(self.size_out_of_range(size, size));
        }
        root_at(self.suite, size, |id| self.node(id))
    }

    fn require(&self, index: LeafIndex, size: TreeSize) -> Result<(), ReadError> {
        if size.contains(index) {
            Ok(())
        } else {
            Err(ReadError::IndexOutOfRange { index, size })
        }
    }

    fn size_out_of_range(&self, first: TreeSize, second: TreeSize) -> ReadError {
        ReadError::SizeOutOfRange {
            first,
            second,
            log_size: self.size(),
        }
    }
}

/// Proofs for leaves of a batch that was just committed, in the tree with it. All the nodes that they need are in its frontier and
/// in the tiles that it filled, which are in order of id.
pub(crate) fn prove_new(
    frontier: &Frontier,
    filled: &[FilledTile],
    leaves: impl IntoIterator<Item = LeafIndex>,
) -> Result<Vec<Vec<Digest>>, ReadError> {
    let node = |node| {
        frontier
            .node(node)
            .or_else(|| {
                let tile = TileId::containing(node);
                let place = filled.binary_search_by_key(&tile, |(id, _)| *id).ok()?;
                filled[place].1.lookup(node)
            })
            .ok_or_else(|| ReadError::DataLoss(format!("{node:?} is not in the batch")))
    };
    inclusion_proofs(frontier.suite(), leaves, frontier.size(), node).map_err(read_failure)
}

/// Ranges are checked before a proof is made, so what fails is reading.
fn read_failure(error: ProveError<ReadError>) -> ReadError {
    match error {
        ProveError::Read(error) => error,
        other => ReadError::DataLoss(other.to_string()),
    }
}

/// Reads a full tile.
pub(crate) fn read_tile(store: &Store, id: TileId, disk: Disk) -> Result<FullTile, ReadError> {
    let bytes = store
        .tile(id, disk)?
        .ok_or_else(|| ReadError::DataLoss(format!("{id:?} is missing")))?;
    FullTile::from_bytes(&bytes).map_err(|problem| ReadError::DataLoss(format!("{id:?}: {problem}")))
}

/// The first `width` entries under a tile of level 0, as a bundle has them: each after its length in two bytes. The tree
/// has them all.
pub(crate) fn read_bundle(store: &Store, bundle: u64, width: TileWidth) -> Result<Vec<u8>, ReadError> {
    let first = bundle * u64::from(TileId::FULL_WIDTH);
    let first = LeafIndex::new(first).expect("the tree has it");
    let (end, count) = (TreeSize::MAX, usize::from(width.get()));
    let entries = read_range(store, first, end, count, usize::MAX, false)?;
    if entries.len() != count {
        return Err(ReadError::DataLoss(format!(
            "entries {first} and those after it end too soon"
        )));
    }
    let mut bytes = Vec::new();
    for StoredEntry { index, entry, .. } in entries {
        push_entry(&mut bytes, index, &entry)?;
    }
    Ok(bytes)
}

/// Adds an entry to a bundle.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, index: LeafIndex, entry: &[u8]) -> Result<(), ReadError> {
    let length = u16::try_from(entry.len())
        .map_err(|_| ReadError::DataLoss(format!("entry {index} is longer than an entry can be")))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Reads an entry that the tree has, and the salt that a receipt carries with it.
///
/// The salt stands before the payload, and RocksDB reads all of a record for it: one that is long is
/// [`StoreError::NotInMemory`] to whoever has no turn for it.
pub(crate) fn read_entry_and_salt(
    store: &Store,
    index: LeafIndex,
    disk: Disk,
    has_turn: bool,
) -> Result<(Vec<u8>, Salt), ReadError> {
    let entry = entry_bytes(store, index, disk)?;
    let is_long = |entry: Entry| entry.payload_length() > LONG_PAYLOAD_BYTES;
    if !has_turn && Entry::decode(&entry).is_ok_and(is_long) {
        return Err(StoreError::NotInMemory.into());
    }
    let salt = store
        .salt(index, disk)?
        .ok_or_else(|| ReadError::DataLoss(format!("the payload of entry {index} is missing")))?;
    Ok((entry, salt))
}

fn entry_bytes(store: &Store, index: LeafIndex, disk: Disk) -> Result<Vec<u8>, ReadError> {
    store
        .entry(index, disk)?
        .ok_or_else(|| ReadError::DataLoss(format!("entry {index} is missing")))
}

/// Reads an entry that the tree has.
pub(crate) fn read_entry(
    store: &Store,
    index: LeafIndex,
    with_payload: bool,
) -> Result<StoredEntry, ReadError> {
    let entry = entry_bytes(store, index, Disk::Allowed)?;
    let payload = if with_payload { store.payload(index)? } else { None };
    Ok(StoredEntry {
        index,
        entry,
        payload,
    })
}

/// Entries `first..end` in order, as many as the limits allow but at least one.
pub(crate) fn read_range(
    store: &Store,
    first: LeafIndex,
    end: TreeSize,
    max_entries: usize,
    max_bytes: usize,
    with_payload: bool,
) -> Result<Vec<StoredEntry>, ReadError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let indices = (first.get()..end.get()).take(max_entries.max(1));
    for (expected, row) in indices.zip(store.entries(first)) {
        let (index, entry) = row?;
        if index.get() != expected {
            return Err(ReadError::DataLoss(format!("entry {expected} is missing")));
        }
        let payload = if with_payload { store.payload(index)? } else { None };
        bytes += entry.len()
            + payload.as_ref().map_or(0, |payload| {
                payload.data.len() + payload.attributes.len() + payload.annotations.len()
            });
        entries.push(StoredEntry {
            index,
            entry: entry.into_vec(),
            payload,
        });
        if bytes >= max_bytes {
            break;
        }
    }
    if entries.is_empty() && end.contains(first) {
        return Err(ReadError::DataLoss(format!("entry {first} is missing")));
    }
    Ok(entries)
}
