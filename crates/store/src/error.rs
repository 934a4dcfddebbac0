use std::path::{Path, PathBuf};

use rocksdb::ErrorKind;

use crate::keys::FORMAT_VERSION;

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the database open. Stop it first.
    #[error("another process has the database in {} open", path.display())]
    Locked {
        /// The directory of the database.
        path: PathBuf,
    },
    /// There is no database there.
    #[error("there is no database in {}", path.display())]
    Missing {
        /// The directory of the database.
        path: PathBuf,
    },
    /// The database is laid out in a way that this version does not know.
    #[error(
        "the database has the format {found}, and this version knows {FORMAT_VERSION} alone. Use the version that wrote it"
    )]
    UnknownFormat {
        /// The format's number.
        found: u32,
    },
    /// The file system is full.
    #[error("no space is left on the disk: {0}")]
    OutOfSpace(String),
    /// RocksDB read bytes that do not match their checksums, or files are missing. Restore from a backup.
    #[error("the database is damaged: {0}. Restore the log's directory from a backup")]
    Corrupt(String),
    /// A row that RocksDB finds in order is not of the form that this version writes.
    #[error("a row of the column family `{family}` is malformed")]
    Malformed {
        /// The column family.
        family: &'static str,
    },
    /// A lookup that may not wait for the disk would have to.
    #[error("what was looked up is not in memory")]
    NotInMemory,
    /// Reading or writing failed otherwise.
    #[error("the database failed: {0}")]
    Io(String),
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let text = error.into_string();
        match kind {
            ErrorKind::Corruption => Self::Corrupt(text),
            // Writes that come back so are tried again where they are made.
            ErrorKind::Incomplete => Self::NotInMemory,
            // RocksDB's status has a subcode for it that its C interface does not pass on.
            ErrorKind::IOError if text.contains("No space left on device") => Self::OutOfSpace(text),
            _ => Self::Io(text),
        }
    }
}

/// Whether what RocksDB says of its lock means that somebody has it. Else there may be none to be had, as on some network file
/// systems.
fn is_held(text: &str) -> bool {
    // What POSIX lets `fcntl` say then.
    let by_another = ["Resource temporarily unavailable", "Permission denied"];
    text.contains("lock hold by current process")
        || (text.contains("While lock file") && by_another.iter().any(|reason| text.ends_with(reason)))
}

impl StoreError {
    pub(crate) fn from_open(error: rocksdb::Error, path: &Path) -> Self {
        let text = error.as_ref();
        if is_held(text) {
            return Self::Locked {
                path: path.to_owned(),
            };
        }
        // Opening for reading and writing says the one, opening for reading the other.
        if text.contains("does not exist (create_if_missing is false)")
            || text.contains("/CURRENT: No such file or directory")
        {
            return Self::Missing {
                path: path.to_owned(),
            };
        }
        error.into()
    }

    /// The same, where a database is there that nobody else writes: what is not found is one of its files.
    pub(crate) fn of_its_files(self) -> Self {
        match self {
            Self::Io(text) if text.contains("No such file or directory") => Self::Corrupt(text),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_nobody_can_have_is_not_held() {
        for (said, held) in [
            (
                "IO error: lock hold by current process, acquire time 1 acquiring thread 2: db/LOCK: No locks available",
                true,
            ),
            (
                "IO error: While lock file: db/LOCK: Resource temporarily unavailable",
                true,
            ),
            ("IO error: While lock file: db/LOCK: Permission denied", true),
            ("IO error: While lock file: db/LOCK: No locks available", false),
        ] {
            assert_eq!(is_held(said), held, "{said}");
        }
    }
}
