//! The RocksDB database of one log. No other crate knows RocksDB.
//!
//! It keeps and returns bytes under keys, a batch at a time; it computes no hash and verifies no proof. Keys are
//! big-endian, so that a scan is in order. docs/PROTOCOL.md, "On disk", has the families, keys and values.
//!
//! All calls block, and none belongs on an async worker, but for lookups with [`Disk::Forbidden`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod error;
mod keys;
mod open;
mod options;
mod payload;
mod wal;

use std::{
    iter,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use counterfoil_event::{EventKey, IndexKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex, TileId, TreeSize};
use rocksdb::{
    ColumnFamily, DB, DBRawIterator, ErrorKind, FlushOptions, ReadOptions, WriteBatch, WriteOptions,
};

pub use batch::Batch;
pub use error::StoreError;
use keys::{Family, META_PUBLISHED, META_TREE};
pub use options::StoreOptions;
pub use payload::{MAX_RECORD_BYTES, StoredPayload, encode_payload};
use tracing::warn;

/// After how long a write is tried again that has to wait for memory to be written out: at first, and at most. It doubles each time.
const STALL_POLL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];

/// A write that has waited so long is worth a word.
const LONG_STALL: Duration = Duration::from_secs(5);

/// What a log's tree was after its newest batch: the newest batch wrote it, atomically with its leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeState {
    /// Leaves.
    pub size: TreeSize,
    /// The time of the newest leaf, nanoseconds since 1970-01-01T00:00:00Z.
    pub last_time_unix_ns: u64,
    /// Roots of the largest perfect subtrees, leftmost (largest) first.
    pub compact_range: Vec<Digest>,
}

/// Whether a lookup may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It may.
    Allowed,
    /// It may not, as on an async worker: what is not in memory is [`StoreError::NotInMemory`].
    Forbidden,
}

/// An open database.
pub struct Store {
    db: DB,
    path: PathBuf,
    /// For lookups that may wait for the disk, and for those that may not.
    lookups: [ReadOptions; 2],
    /// For tiles on disk: who reads them keeps them, so RocksDB's cache is left to others.
    passing: ReadOptions,
    /// How far scans read ahead, in bytes; 0 leaves it to RocksDB.
    scan_ahead: usize,
}

impl Store {
    /// The directory of the database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Writes what is in memory to tables, that of all families at once, so that the next open has no log to replay.
    pub fn flush(&self) -> Result<(), StoreError> {
        let families = Family::ALL.map(|family| self.family(family));
        Ok(self.db.flush_cfs_opt(&families, &FlushOptions::default())?)
    }

    /// The state that the newest batch left. `None` in a new database.
    pub fn tree_state(&self) -> Result<Option<TreeState>, StoreError> {
        self.get(Family::Meta, META_TREE, keys::decode_tree_state)
    }

    /// The bytes of an entry.
    pub fn entry(&self, index: LeafIndex, disk: Disk) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_from(disk, Family::Entries, &keys::index(index), |bytes| {
            Some(bytes.to_vec())
        })
    }

    /// What is kept beside an entry: its payload, attributes and salt.
    pub fn payload(&self, index: LeafIndex) -> Result<Option<StoredPayload>, StoreError> {
        self.get(Family::Payloads, &keys::index(index), payload::decode)
    }

    /// The salt of an entry's commitments, without unpacking the payload beside it.
    pub fn salt(&self, index: LeafIndex, disk: Disk) -> Result<Option<Salt>, StoreError> {
        self.get_from(disk, Family::Payloads, &keys::index(index), payload::decode_salt)
    }

    /// The bytes of a full tile, as they were put.
    pub fn tile(&self, tile: TileId, disk: Disk) -> Result<Option<Vec<u8>>, StoreError> {
        let options = match disk {
            Disk::Allowed => &self.passing,
            Disk::Forbidden => self.lookup(disk),
        };
        self.get_with(options, Family::Tiles, &keys::tile(tile), |bytes| {
            Some(bytes.to_vec())
        })
    }

    /// The entry that holds an event.
    pub fn index_of_event(&self, key: &EventKey, disk: Disk) -> Result<Option<LeafIndex>, StoreError> {
        self.get_from(disk, Family::EventIds, key.as_bytes(), keys::decode_index)
    }

    /// Whether any of `keys` names an event on record, and which: one answer for each, in order.
    pub fn indices_of_events<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k EventKey>,
    ) -> Result<Vec<Option<LeafIndex>>, StoreError> {
        let keys: Vec<_> = keys.into_iter().map(EventKey::as_bytes).collect();
        self.db
            .batched_multi_get_cf(self.family(Family::EventIds), keys, false)
            .into_iter()
            .map(|found| {
                found?
                    .map(|bytes| decode(Family::EventIds, &bytes, keys::decode_index))
                    .transpose()
            })
            .collect()
    }

    /// The entry with this leaf hash.
    pub fn index_of_leaf(&self, leaf_hash: &Digest, disk: Disk) -> Result<Option<LeafIndex>, StoreError> {
        self.get_from(disk, Family::LeafHashes, leaf_hash.as_bytes(), keys::decode_index)
    }

    /// The stored head of the largest size, as a signed note: published, or signed to be.
    pub fn newest_head(&self) -> Result<Option<(TreeSize, Vec<u8>)>, StoreError> {
        let mut rows = self
            .db
            .raw_iterator_cf_opt(self.family(Family::Heads), ReadOptions::default());
        rows.seek_to_last();
        in_order(rows, Family::Heads, |key, note| {
            Some((keys::decode_size(key)?, note.to_vec()))
        })
        .next()
        .transpose()
    }

    /// The head that was published last, as a signed note. `None` if there never was one.
    pub fn published_head(&self) -> Result<Option<(TreeSize, Vec<u8>)>, StoreError> {
        let Some(size) = self.get(Family::Meta, META_PUBLISHED, keys::decode_size)? else {
            return Ok(None);
        };
        self.get(Family::Heads, &keys::size(size), |note| Some(note.to_vec()))?
            .map(|note| Some((size, note)))
            .ok_or(StoreError::Malformed {
                family: Family::Meta.name(),
            })
    }

    /// Stores a head that is not published yet, synced. It replaces an older one of the same size.
    pub fn put_head(&self, size: TreeSize, note: &[u8]) -> Result<(), StoreError> {
        self.write_synced(|| {
            let mut writes = WriteBatch::default();
            writes.put_cf(self.family(Family::Heads), keys::size(size), note);
            writes
        })
    }

    /// Stores a head as the one that was published last, synced. It replaces an older one of the same size.
    pub fn put_published_head(&self, size: TreeSize, note: &[u8]) -> Result<(), StoreError> {
        self.write_synced(|| {
            let mut writes = WriteBatch::default();
            writes.put_cf(self.family(Family::Heads), keys::size(size), note);
            writes.put_cf(self.family(Family::Meta), META_PUBLISHED, keys::size(size));
            writes
        })
    }

    /// Waits for memory to be written out where that has to come first, but never inside of RocksDB: a writer that waits
    /// there keeps it from recovering after a full disk, for ever.
    ///
    /// RocksDB takes a batch for good, whether it writes it or not, so that one is made for each try. To copy the one that there
    /// is would cost every write what few need.
    fn write_synced(&self, writes: impl Fn() -> WriteBatch) -> Result<(), StoreError> {
        let mut options = synced();
        options.set_no_slowdown(true);
        let [mut pause, longest] = STALL_POLL;
        let mut waited = Duration::ZERO;
        loop {
            match self.db.write_opt(writes(), &options) {
                Err(error) if error.kind() == ErrorKind::Incomplete => {
                    thread::sleep(pause);
                    let was_long = waited >= LONG_STALL;
                    waited += pause;
                    if waited >= LONG_STALL && !was_long {
                        warn!(database = %self.path.display(), "writes wait: the database has to write out its memory or merge tables first");
                    }
                    pause = longest.min(2 * pause);
                }
                result => return Ok(result?),
            }
        }
    }

    /// Entries from `first` on, in order of index. A gap shows as a jump of the index.
    pub fn entries(
        &self,
        first: LeafIndex,
    ) -> impl Iterator<Item = Result<(LeafIndex, Box<[u8]>), StoreError>> {
        self.scan(Family::Entries, keys::index(first), |key, entry| {
            Some((keys::decode_index(key)?, entry.into()))
        })
    }

    /// What is kept beside entries, from `first` on, in order of index. A gap shows as a jump of the index.
    pub fn payloads(
        &self,
        first: LeafIndex,
    ) -> impl Iterator<Item = Result<(LeafIndex, StoredPayload), StoreError>> {
        self.scan(Family::Payloads, keys::index(first), |key, record| {
            Some((keys::decode_index(key)?, payload::decode(record)?))
        })
    }

    /// Full tiles from `first` on, in order of level, then index.
    pub fn tiles(&self, first: TileId) -> impl Iterator<Item = Result<(TileId, Box<[u8]>), StoreError>> {
        let first = keys::tile(first);
        // From the very start, so that keys of no tile that sort before the first are met too.
        let first = if first == [0; 9] {
            Vec::new()
        } else {
            first.to_vec()
        };
        self.scan(Family::Tiles, first, |key, tile| {
            Some((keys::decode_tile(key)?, tile.into()))
        })
    }

    /// Heads in order of size, as signed notes: published, or signed to be.
    pub fn heads(&self) -> impl Iterator<Item = Result<(TreeSize, Box<[u8]>), StoreError>> {
        self.scan(Family::Heads, [], |key, note| {
            Some((keys::decode_size(key)?, note.into()))
        })
    }

    /// The index from leaf hashes to entries, in order of hash.
    pub fn leaf_hashes(&self) -> impl Iterator<Item = Result<(Digest, LeafIndex), StoreError>> {
        self.scan(Family::LeafHashes, [], digest_row)
    }

    /// The index from events to entries, in order of key.
    pub fn event_ids(&self) -> impl Iterator<Item = Result<(Digest, LeafIndex), StoreError>> {
        self.scan(Family::EventIds, [], digest_row)
    }

    /// The entries that the search index has under `key`, from `first` on, in order of index.
    pub fn indices_under(
        &self,
        key: &IndexKey,
        first: LeafIndex,
    ) -> impl Iterator<Item = Result<LeafIndex, StoreError>> {
        let key = *key;
        self.index_rows_from(keys::index_row(&key, first))
            .take_while(move |row| row.as_ref().map_or(true, |(found, _)| *found == key))
            .map(|row| row.map(|(_, index)| index))
    }

    /// Whether the search index has an entry under `key`.
    pub fn has_index_row(&self, key: &IndexKey, index: LeafIndex) -> Result<bool, StoreError> {
        match self.search_index() {
            Some(family) => Ok(self
                .db
                .get_pinned_cf(family, keys::index_row(key, index))?
                .is_some()),
            None => Ok(false),
        }
    }

    /// The search index in order of key, then index.
    pub fn index_rows(&self) -> impl Iterator<Item = Result<(IndexKey, LeafIndex), StoreError>> {
        self.index_rows_from([])
    }

    /// Adds rows to the search index, synced. For mending it: new entries bring theirs in their batch.
    pub fn add_index_rows(&self, rows: &[(IndexKey, LeafIndex)]) -> Result<(), StoreError> {
        self.write_synced(|| {
            let mut writes = WriteBatch::default();
            for (key, index) in rows {
                writes.put_cf(self.family(Family::Attributes), keys::index_row(key, *index), []);
            }
            writes
        })
    }

    /// Removes rows from the search index, synced. Nothing else here removes anything.
    pub fn remove_index_rows(&self, rows: &[(IndexKey, LeafIndex)]) -> Result<(), StoreError> {
        self.write_synced(|| {
            let mut writes = WriteBatch::default();
            for (key, index) in rows {
                writes.delete_cf(self.family(Family::Attributes), keys::index_row(key, *index));
            }
            writes
        })
    }

    fn index_rows_from(
        &self,
        first: impl AsRef<[u8]>,
    ) -> impl Iterator<Item = Result<(IndexKey, LeafIndex), StoreError>> {
        let rows = self.search_index().map(|family| {
            let mut rows = self.db.raw_iterator_cf_opt(family, ReadOptions::default());
            rows.seek(first);
            in_order(rows, Family::Attributes, |key, _| keys::decode_index_row(key))
        });
        rows.into_iter().flatten()
    }

    /// `None` in a database that was only read since before there was one.
    fn search_index(&self) -> Option<&ColumnFamily> {
        self.db.cf_handle(Family::Attributes.name())
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("every family is named when the database is opened")
    }

    fn get<T>(
        &self,
        family: Family,
        key: &[u8],
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.get_from(Disk::Allowed, family, key, parse)
    }

    fn get_from<T>(
        &self,
        disk: Disk,
        family: Family,
        key: &[u8],
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.get_with(self.lookup(disk), family, key, parse)
    }

    fn lookup(&self, disk: Disk) -> &ReadOptions {
        let [anywhere, in_memory] = &self.lookups;
        match disk {
            Disk::Allowed => anywhere,
            Disk::Forbidden => in_memory,
        }
    }

    fn get_with<T>(
        &self,
        options: &ReadOptions,
        family: Family,
        key: &[u8],
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.db
            .get_pinned_cf_opt(self.family(family), key, options)?
            .map(|value| decode(family, &value, parse))
            .transpose()
    }

    fn scan<T>(
        &self,
        family: Family,
        first: impl AsRef<[u8]>,
        read: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> impl Iterator<Item = Result<T, StoreError>> {
        // A scan reads each block once; it would only push out of the cache what lookups need.
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_async_io(false);
        options.set_readahead_size(self.scan_ahead);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(family), options);
        rows.seek(first);
        in_order(rows, family, read)
    }
}

/// Rows of a family from where `rows` stands on, each read in place, key and value. What can't be read off the disk ends them.
fn in_order<T>(
    mut rows: DBRawIterator<'_>,
    family: Family,
    read: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> impl Iterator<Item = Result<T, StoreError>> {
    let mut is_over = false;
    iter::from_fn(move || {
        if is_over {
            return None;
        }
        let Some((key, value)) = rows.item() else {
            is_over = true;
            return rows.status().err().map(|problem| Err(problem.into()));
        };
        let row = read(key, value).ok_or(StoreError::Malformed {
            family: family.name(),
        });
        rows.next();
        Some(row)
    })
}

fn digest_row(key: &[u8], index: &[u8]) -> Option<(Digest, LeafIndex)> {
    Some((Digest::try_from(key).ok()?, keys::decode_index(index)?))
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn decode<T>(family: Family, bytes: &[u8], parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, StoreError> {
    parse(bytes).ok_or(StoreError::Malformed {
        family: family.name(),
    })
}
