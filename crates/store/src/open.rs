//! The ways to open a database, alone or beside whoever writes to it.

use std::{fs, path::Path};

use rocksdb::{DB, DBRecoveryMode, Options, ReadOptions, ReadTier};

use crate::{
    Store, StoreError, StoreOptions,
    keys::{FORMAT_VERSION, Family, META_FORMAT},
    synced, wal,
};

/// RocksDB by itself begins each table with 8 KiB and never goes beyond 256. What the disk can't read is told up to so much too
/// early.
const SCAN_AHEAD_BYTES: usize = 1024 * 1024;

/// How often a database that somebody writes to is looked at until it has not changed meanwhile.
const LOOKS: usize = 10;

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
        let mut store = Self::from_opened(opened, path)?;
        store.scan_ahead = SCAN_AHEAD_BYTES;
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
