//! What is written together.

use counterfoil_event::{EventKey, IndexKey};
use counterfoil_merkle::{Digest, LeafIndex, TileId};
use rocksdb::WriteBatch;

use crate::{
    Store, StoreError, TreeState,
    keys::{self, Family, META_TREE},
};

/// Leaves, tiles and the state of the tree, written together or not at all.
pub struct Batch<'a> {
    store: &'a Store,
    entries: Vec<([u8; 8], Vec<u8>)>,
    payloads: Vec<([u8; 8], Vec<u8>)>,
    tiles: Vec<([u8; 9], Vec<u8>)>,
    tree_state: Option<(&'static [u8], Vec<u8>)>,
    leaf_hashes: Vec<([u8; 32], [u8; 8])>,
    event_ids: Vec<([u8; 32], [u8; 8])>,
    attributes: Vec<(keys::IndexRow, [u8; 0])>,
    /// About what all of it takes in RocksDB's form.
    room_bytes: usize,
}

/// Keys, short values and what stands between them, of an entry with all rows that find it but those of the search index.
const LEAF_ROOM_BYTES: usize = 160;
/// The same of any other row.
const ROW_ROOM_BYTES: usize = 40;

impl<'a> Batch<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            entries: Vec::new(),
            payloads: Vec::new(),
            tiles: Vec::new(),
            tree_state: None,
            leaf_hashes: Vec::new(),
            event_ids: Vec::new(),
            attributes: Vec::new(),
            room_bytes: 0,
        }
    }

    /// Adds an entry with what is kept beside it, and the rows that find it.
    ///
    /// `payload` comes from [`encode_payload`](crate::encode_payload).
    pub fn put_leaf(
        &mut self,
        index: LeafIndex,
        entry: &[u8],
        payload: impl Into<Vec<u8>>,
        leaf_hash: &Digest,
        event: &EventKey,
    ) {
        let key = keys::index(index);
        let payload = payload.into();
        self.room_bytes += entry.len() + payload.len() + LEAF_ROOM_BYTES;
        self.entries.push((key, entry.to_vec()));
        self.payloads.push((key, payload));
        self.leaf_hashes.push((*leaf_hash.as_bytes(), key));
        self.event_ids.push((*event.as_bytes(), key));
    }

    /// Files an entry in the search index.
    pub fn put_index_rows(&mut self, index: LeafIndex, under: &[IndexKey]) {
        self.room_bytes += under.len() * ROW_ROOM_BYTES;
        self.attributes
            .extend(under.iter().map(|key| (keys::index_row(key, index), [])));
    }

    /// Adds a full tile.
    pub fn put_tile(&mut self, tile: TileId, bytes: &[u8]) {
        self.room_bytes += bytes.len() + ROW_ROOM_BYTES;
        self.tiles.push((keys::tile(tile), bytes.to_vec()));
    }

    /// Sets the state of the tree after this batch.
    pub fn put_tree_state(&mut self, state: &TreeState) {
        self.tree_state = Some((META_TREE, keys::encode_tree_state(state)));
    }

    /// Writes the batch and returns when it is on disk. After an error it may be there or not: only opening the
    /// database anew tells.
    pub fn write(mut self) -> Result<(), StoreError> {
        // Neighbours in the batch are then neighbours in RocksDB's memory table, where each row's place is looked for from that of the
        // one before it.
        self.leaf_hashes.sort_unstable();
        self.event_ids.sort_unstable();
        self.attributes.sort_unstable();
        self.store.write_synced(|| {
            let mut rows = Rows {
                store: self.store,
                writes: WriteBatch::with_capacity_bytes(self.room_bytes),
            };
            rows.put(Family::Entries, &self.entries);
            rows.put(Family::Payloads, &self.payloads);
            rows.put(Family::Tiles, &self.tiles);
            rows.put(Family::Meta, &self.tree_state);
            rows.put(Family::LeafHashes, &self.leaf_hashes);
            rows.put(Family::EventIds, &self.event_ids);
            rows.put(Family::Attributes, &self.attributes);
            rows.writes
        })
    }
}

/// A batch in RocksDB's form.
struct Rows<'a> {
    store: &'a Store,
    writes: WriteBatch,
}

impl Rows<'_> {
    fn put<'r, K: AsRef<[u8]> + 'r, V: AsRef<[u8]> + 'r>(
        &mut self,
        family: Family,
        rows: impl IntoIterator<Item = &'r (K, V)>,
    ) {
        let family = self.store.family(family);
        for (key, value) in rows {
            self.writes.put_cf(family, key, value);
        }
    }
}
