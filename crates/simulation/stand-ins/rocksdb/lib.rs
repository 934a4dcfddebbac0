//! RocksDB as a model, with as much of its interface as the store uses.
//!
//! What is simulated: a log that is appended to and synced, one writer at a time; replay at the open, after which all is in
//! tables; a write that fails ends writing, for good or until there is room; stalls. Options that say how rows are laid out
//! change nothing here.
#![allow(missing_docs)]

mod options;

use std::{fmt, io, path::Path};

use counterfoil_simulated_machine::{
    Call, Database, Fault, Inode, Machine, Node, Row, Write, machine, perform, perform_or,
};
pub use options::*;
use shuttle::sync::{Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    Corruption,
    InvalidArgument,
    IOError,
    Incomplete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn into_string(self) -> String {
        self.message
    }
}

impl AsRef<str> for Error {
    fn as_ref(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(ErrorKind::IOError, format!("IO error: {error}"))
    }
}

/// A column family, by its name.
#[derive(Debug)]
pub struct ColumnFamily(String);

/// An open database.
pub struct DB {
    inode: Inode,
    families: Vec<ColumnFamily>,
    for_writing: bool,
    /// Held by whoever writes: batches go into the log one after another.
    writing: Mutex<()>,
}

type Found = Result<Option<Vec<u8>>, Error>;

impl DB {
    pub fn open_cf_descriptors(
        options: &Options,
        path: &Path,
        families: Vec<ColumnFamilyDescriptor>,
    ) -> Result<Self, Error> {
        assert!(
            options.create
                || matches!(
                    options.recovery,
                    Some(DBRecoveryMode::TolerateCorruptedTailRecords)
                ),
            "the model replays the log in this mode alone"
        );
        let families: Vec<_> = families.into_iter().map(|family| family.0).collect();
        let mut refused = None;
        let opened = perform(Call::OpenDatabase, subject(path), |machine| {
            let inode = match machine.files().find(path) {
                Ok(inode) => inode,
                Err(_) if options.create => machine.files().create(path, Node::database())?,
                Err(error) => return Err(error),
            };
            let database = database(machine, inode);
            refused = if database.is_open() {
                Some("lock hold by current process")
            } else if !database.is_made() && !options.create {
                Some("does not exist (create_if_missing is false)")
            } else if database.is_made() && options.must_be_new {
                Some("exists (error_if_exists is true)")
            } else {
                database.open(families.iter().map(String::as_str));
                None
            };
            Ok(inode)
        });
        if let Some(reason) = refused {
            let message = format!("{}: {reason}", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let store = Self::opened(opened.map_err(|error| missing(error, path))?, families, true);
        // What was replayed goes into tables before anybody reads it. Dropping it closes it.
        perform(Call::Flush, subject(path), |machine| {
            database(machine, store.inode).flush();
            Ok(())
        })?;
        Ok(store)
    }

    pub fn open_cf_descriptors_read_only(
        _options: &Options,
        path: &Path,
        families: Vec<ColumnFamilyDescriptor>,
        _error_if_log_file_exists: bool,
    ) -> Result<Self, Error> {
        let found = perform(Call::OpenDatabase, subject(path), |machine| {
            machine.files().find(path)
        });
        let families = families.into_iter().map(|family| family.0).collect();
        Ok(Self::opened(
            found.map_err(|error| missing(error, path))?,
            families,
            false,
        ))
    }

    pub fn open_cf_descriptors_as_secondary(
        options: &Options,
        path: &Path,
        _scratch: &Path,
        families: Vec<ColumnFamilyDescriptor>,
    ) -> Result<Self, Error> {
        Self::open_cf_descriptors_read_only(options, path, families, false)
    }

    pub fn try_catch_up_with_primary(&self) -> Result<(), Error> {
        Ok(())
    }

    fn opened(inode: Inode, families: Vec<String>, for_writing: bool) -> Self {
        Self {
            inode,
            families: families.into_iter().map(ColumnFamily).collect(),
            for_writing,
            writing: Mutex::new(()),
        }
    }

    pub fn list_cf(_options: &Options, path: &Path) -> Result<Vec<String>, Error> {
        let found = perform(Call::Look, subject(path), |machine| {
            let inode = machine.files().find(path)?;
            Ok(database(machine, inode).families().map(str::to_owned).collect())
        });
        found.map_err(|error| missing(error, path))
    }

    pub fn cf_handle(&self, name: &str) -> Option<&ColumnFamily> {
        self.families.iter().find(|family| family.0 == name)
    }

    pub fn put_cf_opt(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(family, key, value);
        self.write_opt(batch, options)
    }

    pub fn write_opt(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), Error> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if options.no_slowdown && machine(|machine| !machine.has_stopped() && machine.one_in(64)) {
            return Err(Error::new(ErrorKind::Incomplete, "Write stall"));
        }
        let number = perform_or(
            Call::Append,
            batch.data(),
            |machine| {
                let now = machine.monotonic_ns();
                let database = database(machine, self.inode);
                database.require_writable(now)?;
                Ok(database.append(batch.writes()))
            },
            |machine, fault| {
                self.fail(machine, fault);
                false
            },
        )?;
        if !options.sync {
            machine(|machine| database(machine, self.inode).apply(number));
            return Ok(());
        }
        Ok(perform_or(
            Call::SyncLog,
            [],
            |machine| {
                database(machine, self.inode).apply_synced(number);
                Ok(())
            },
            |machine, fault| {
                self.fail(machine, fault);
                let mut chance = machine.chance().fork();
                database(machine, self.inode).abandon(number, &mut chance);
                false
            },
        )?)
    }

    fn fail(&self, machine: &mut Machine, fault: Fault) {
        let until_ns = machine.monotonic_ns() + machine.chance().u64(..2_000_000_000);
        let database = database(machine, self.inode);
        match fault {
            Fault::Io => database.fail_for_good(),
            Fault::NoSpace => database.fail_until(until_ns),
        }
    }

    pub fn flush_cfs_opt(&self, families: &[&ColumnFamily], _options: &FlushOptions) -> Result<(), Error> {
        assert_eq!(
            families.len(),
            self.families.len(),
            "some alone may lose what all together keep"
        );
        Ok(perform_or(
            Call::Flush,
            [],
            |machine| {
                let now = machine.monotonic_ns();
                let database = database(machine, self.inode);
                database.require_writable(now)?;
                database.flush();
                Ok(())
            },
            |machine, fault| {
                self.fail(machine, fault);
                false
            },
        )?)
    }

    /// What is in memory is a matter of chance, and finding it there is no call of the machine.
    pub fn get_pinned_cf_opt(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Found {
        if !options.in_memory {
            return self.get_pinned_cf(family, key);
        }
        machine(|machine| {
            if machine.one_in(2) {
                return Err(Error::new(ErrorKind::Incomplete, "Result incomplete"));
            }
            Ok(database(machine, self.inode)
                .get(&family.0, key.as_ref())
                .cloned())
        })
    }

    pub fn get_pinned_cf(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Found {
        let key = key.as_ref();
        Ok(perform(Call::ReadRow, key, |machine| {
            Ok(database(machine, self.inode).get(&family.0, key).cloned())
        })?)
    }

    pub fn batched_multi_get_cf<K: AsRef<[u8]>>(
        &self,
        family: &ColumnFamily,
        keys: Vec<K>,
        _sorted: bool,
    ) -> Vec<Found> {
        keys.into_iter()
            .map(|key| self.get_pinned_cf(family, key))
            .collect()
    }

    /// Unlike RocksDB's it sees what is written meanwhile.
    pub fn raw_iterator_cf_opt<'a>(
        &'a self,
        family: &'a ColumnFamily,
        _options: ReadOptions,
    ) -> DBRawIterator<'a> {
        DBRawIterator {
            database: self,
            family,
            found: Ok(None),
        }
    }
}

/// Stands at a row, at none, or at what kept it from reading one.
pub struct DBRawIterator<'a> {
    database: &'a DB,
    family: &'a ColumnFamily,
    found: Result<Option<Row>, Error>,
}

impl DBRawIterator<'_> {
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        self.read(|database, family| database.at_or_after(family, key.as_ref(), true));
    }

    pub fn seek_to_last(&mut self) {
        self.read(|database, family| database.last(family));
    }

    pub fn next(&mut self) {
        if let Ok(Some((key, _))) = &self.found {
            let key = key.clone();
            self.read(|database, family| database.at_or_after(family, &key, false));
        }
    }

    pub fn item(&self) -> Option<(&[u8], &[u8])> {
        match &self.found {
            Ok(Some((key, value))) => Some((key, value)),
            _ => None,
        }
    }

    pub fn status(&self) -> Result<(), Error> {
        self.found.clone().map(drop)
    }

    fn read(&mut self, find: impl FnOnce(&Database, &str) -> Option<Row>) {
        let family = &self.family.0;
        let found = perform(Call::ReadRow, family, |machine| {
            Ok(find(database(machine, self.database.inode), family))
        });
        self.found = found.map_err(Error::from);
    }
}

impl Drop for DB {
    fn drop(&mut self) {
        if self.for_writing {
            machine(|machine| database(machine, self.inode).close());
        }
    }
}

fn subject(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

fn database(machine: &mut Machine, inode: Inode) -> &mut Database {
    machine.files().database(inode).expect("it is a database")
}

fn missing(error: io::Error, path: &Path) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        let message = format!("{}/CURRENT: No such file or directory", path.display());
        return Error::new(ErrorKind::IOError, message);
    }
    error.into()
}

/// Changes that are made together: each as `family ‖ key ‖ value`, every part after its length, a removed row without the
/// last.
#[derive(Default)]
pub struct WriteBatch(Vec<u8>);

impl WriteBatch {
    pub fn with_capacity_bytes(_: usize) -> Self {
        Self::default()
    }

    fn data(&self) -> &[u8] {
        &self.0
    }

    pub fn put_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push(1);
        for part in [family.0.as_bytes(), key.as_ref(), value.as_ref()] {
            self.push(part);
        }
    }

    pub fn delete_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.0.push(0);
        for part in [family.0.as_bytes(), key.as_ref()] {
            self.push(part);
        }
    }

    fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&part.len().to_le_bytes());
        self.0.extend_from_slice(part);
    }

    fn writes(&self) -> Vec<Write> {
        let mut rest = self.0.as_slice();
        let mut writes = Vec::new();
        while let Some((&is_put, after)) = rest.split_first() {
            rest = after;
            let family = String::from_utf8(part(&mut rest)).expect("names of families are text");
            let key = part(&mut rest);
            let value = (is_put == 1).then(|| part(&mut rest));
            writes.push(Write { family, key, value });
        }
        writes
    }
}

fn part(rest: &mut &[u8]) -> Vec<u8> {
    let (length, after) = rest.split_first_chunk().expect("each part has its length");
    let (part, after) = after.split_at(usize::from_le_bytes(*length));
    *rest = after;
    part.to_vec()
}
