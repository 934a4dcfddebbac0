//! Where a server's logs are on disk: `<data>/logs/<name>/` holds `keys`, `newest-head.checkpoint` and the database `db/`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The longest name of a log, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// What a server calls one of its logs, in requests and paths: 1 to 63 of `a`–`z`, `0`–`9` and `-`, the first not `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(String);

/// A name that no log can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a log: it takes 1 to {MAX_NAME_BYTES} of a-z, 0-9 and '-', the first not '-'")]
pub struct InvalidLogName(String);

impl LogName {
    /// The name that is meant where none is given.
    pub const DEFAULT: &str = "main";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for LogName {
    type Err = InvalidLogName;

    fn from_str(name: &str) -> Result<Self, InvalidLogName> {
        let valid = (1..=MAX_NAME_BYTES).contains(&name.len())
            && !name.starts_with('-')
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidLogName(name.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server's data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory(PathBuf);

impl DataDirectory {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory of one log.
    pub fn log(&self, name: &LogName) -> LogDirectory {
        LogDirectory(self.logs_path().join(name.as_str()))
    }

    /// The logs that it holds, in order of name. Other files are passed over.
    pub fn logs(&self) -> io::Result<Vec<LogName>> {
        let mut names = Vec::new();
        for file in fs::read_dir(self.logs_path())? {
            let file = file?;
            if let (true, Some(Ok(name))) = (
                file.file_type()?.is_dir(),
                file.file_name().to_str().map(LogName::from_str),
            ) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn logs_path(&self) -> PathBuf {
        self.0.join("logs")
    }
}

/// The directory of one log: whole in itself, to be copied, moved and checked alone.
#[derive(Debug, Clone)]
pub struct LogDirectory(PathBuf);

impl LogDirectory {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of its signing keys.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The newest head that was signed to be published, outside of the database.
    pub fn newest_head(&self) -> PathBuf {
        self.0.join("newest-head.checkpoint")
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.0.join("db")
    }
}
