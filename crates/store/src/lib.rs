//! The RocksDB database of one log. No other crate knows RocksDB.
//!
//! It keeps and returns bytes under keys, a batch at a time; it computes no hash and verifies no proof. Keys are
//! big-endian, so that a scan is in order. docs/PROTOCOL.md, "On disk", has the families, keys and values.
//!
//! All calls block, and none belongs on an async worker, but for lookups with [`Disk::Forbidden`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod keys;
mod options;
mod payload;
mod wal;

use std::{
    fs, iter,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use counterfoil_event::{EventKey, IndexKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex, TileId, TreeSize};
use rocksdb::{
    ColumnFamily, DB, DBRawIterator, DBRecoveryMode, ErrorKind, Options, ReadOptions, ReadTier, WriteBatch,
    WriteOptions,
};

pub use error::StoreError;
use keys::{FORMAT_VERSION, Family, META_FORMAT, META_PUBLISHED, META_TREE};
pub use options::StoreOptions;
pub use payload::{MAX_RECORD_BYTES, StoredPayload, encode_payload};
use tracing::warn;

/// RocksDB by itself begins each table with 8 KiB and never goes beyond 256. What the disk can't read is told up to so much too
/// early.
const SCAN_AHEAD_BYTES: usize = 1024 * 1024;

/// After how long a write is tried again that has to wait for memory to be written out: at first, and at most. It doubles each time.
const STALL_POLL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];

/// A write that has waited so long is worth a word.
const LONG_STALL: Duration = Duration::from_secs(5);

/// How often a database that somebody writes to is looked at until it has not changed meanwhile.
const LOOKS: usize = 10;

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
    /// Makes an empty database in `path`, which must not hold one.
    pub fn create(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let recovery = DBRecoveryMode::AbsoluteConsistency;
        let (mut database, families) = options.build(&Family::ALL, recovery);
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_error_if_exists(true);
        let store = Self::from_opened(DB::open_cf_descriptors(&database, path, families), path)?;
        let format = FORMAT_VERSION.to_be_bytes();
        store
            .db
            .put_cf_opt(store.family(Family::Meta), META_FORMAT, format, &synced())?;
        Ok(store)
    }

    /// Opens a database for reading and writing. At most one process has it open so.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        families_in(path)?;
        let (mut database, families) = options.build(&Family::ALL, wal::recovery_mode(path));
        // The search index came later than the first logs. Their entries have no terms, so it is complete when it is made.
        database.create_missing_column_families(true);
        let opened = DB::open_cf_descriptors(&database, path, families);
        Self::from_opened(opened, path)
            .map_err(StoreError::of_its_files)?
            .of_known_format()
    }

    /// Opens a database for reading, most of all to walk whole families. It changes nothing on disk and sees nothing that is
    /// written later. Takes as many open files as there are tables.
    pub fn open_read_only(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let opened = at_one_moment(path, || {
            let (mut database, families) = options.build(&families_in(path)?, wal::recovery_mode(path));
            keep_tables_open(&mut database);
            let opened = DB::open_cf_descriptors_read_only(&database, path, families, false);
            Self::from_opened(opened, path)
        });
        let mut store = opened?;
        store.scan_ahead = SCAN_AHEAD_BYTES;
        store.of_known_format()
    }

    /// Opens a database for reading that another process may have open for writing. It sees what was written before it was
    /// opened, and changes nothing in `path`; RocksDB's own notes go to `scratch`, a directory.
    pub fn open_beside(path: &Path, scratch: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let (mut database, families) = options.build(&families_in(path)?, wal::recovery_mode(path));
        keep_tables_open(&mut database);
        let opened = DB::open_cf_descriptors_as_secondary(&database, path, scratch, families);
        let store = Self::from_opened(opened, path)?;
        at_one_moment(path, || Ok(store.db.try_catch_up_with_primary()?))?;
        store.of_known_format()
    }

    fn from_opened(opened: Result<DB, rocksdb::Error>, path: &Path) -> Result<Self, StoreError> {
        let db = opened.map_err(|error| StoreError::from_open(error, path))?;
        let mut in_memory = ReadOptions::default();
        in_memory.set_read_tier(ReadTier::BlockCache);
        let mut passing = ReadOptions::default();
        passing.fill_cache(false);
        Ok(Self {
            db,
            path: path.to_owned(),
            lookups: [ReadOptions::default(), in_memory],
            passing,
            scan_ahead: 0,
        })
    }

    fn of_known_format(self) -> Result<Self, StoreError> {
        match self.get(Family::Meta, META_FORMAT, |bytes| {
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        })? {
            Some(FORMAT_VERSION) => Ok(self),
            found => Err(StoreError::UnknownFormat {
                found: found.unwrap_or(0),
            }),
        }
    }

    /// The directory of the database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            store: self,
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

    /// Writes what is in memory to tables, so that the next open has no log to replay.
    pub fn flush(&self) -> Result<(), StoreError> {
        for family in Family::ALL {
            self.db.flush_cf(self.family(family))?;
        }
        Ok(())
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

impl Batch<'_> {
    /// Adds an entry with what is kept beside it, and the rows that find it.
    ///
    /// `payload` comes from [`encode_payload`].
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

/// The families to open for reading: all but the search index, where that is not made yet.
///
/// Asked before each opening: where there is no database, RocksDB would leave a directory with a lock and a log of its own, in the way
/// of a backup that is put there.
fn families_in(path: &Path) -> Result<Vec<Family>, StoreError> {
    let found = match DB::list_cf(&Options::default(), path) {
        Ok(found) => found,
        Err(error) => match StoreError::from_open(error, path) {
            missing @ StoreError::Missing { .. } => return Err(missing),
            // The opening will say why.
            _ => Vec::new(),
        },
    };
    let has_index = found.iter().any(|name| name == Family::Attributes.name());
    Ok(Family::ALL
        .into_iter()
        .filter(|family| has_index || *family != Family::Attributes)
        .collect())
}

/// A writer deletes tables that it has merged into others. Those that are open stay readable.
fn keep_tables_open(database: &mut Options) {
    database.set_max_open_files(-1);
}

/// What `look` finds in a database while no table is added to it. RocksDB looks at the list of tables and at its log one after the other;
/// what a writer moves from the log into a table in between is then found in neither.
fn at_one_moment<T>(path: &Path, look: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..LOOKS {
        let before = list_of_tables(path);
        let found = look();
        if list_of_tables(path) == before {
            return found;
        }
    }
    Err(StoreError::Io(
        "it is written to faster than it can be looked at; try again when less is recorded, or look at a copy".to_owned(),
    ))
}

/// Which list of tables is in force, and how long it is: each change adds to it. What can't be read RocksDB can't either, and says why.
fn list_of_tables(path: &Path) -> Option<(String, u64)> {
    let current = fs::read(path.join("CURRENT")).ok()?;
    let name = String::from_utf8(current).ok()?.trim_end().to_owned();
    let list = fs::metadata(path.join(&name)).ok()?;
    Some((name, list.len()))
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
