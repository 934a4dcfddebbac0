//! Where a server's logs are on disk: `<data>/logs/<name>/` holds `keys`, `newest-head.checkpoint` and the database `db/`.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
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

    /// The logs that it holds, in order of name. Other files are passed over. A log may be elsewhere, behind a symbolic link.
    ///
    /// # Errors
    /// If two names lead to one log: a process that opened it twice would not be kept out by its own lock.
    pub fn logs(&self) -> io::Result<Vec<LogName>> {
        let mut names = Vec::new();
        let mut places = BTreeMap::new();
        for file in fs::read_dir(self.logs_path())? {
            let file = file?;
            let Some(Ok(name)) = file.file_name().to_str().map(LogName::from_str) else {
                continue;
            };
            match fs::metadata(file.path()) {
                Ok(found) if !found.is_dir() => continue,
                Ok(found) => {
                    if let Some(other) = places.insert((found.dev(), found.ino()), name.clone()) {
                        let problem = format!("`{other}` and `{name}` are one directory");
                        return Err(io::Error::other(problem));
                    }
                }
                // A link that leads nowhere, or a disk that fails: opening it says what is wrong.
                Err(_) => {}
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// Where its logs are.
    pub fn logs_path(&self) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_log_may_be_behind_a_link_and_has_one_name() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(directory.path().join("data"));
        let logs = data.logs_path();
        let elsewhere = directory.path().join("elsewhere");
        for path in [&logs, &logs.join("main"), &elsewhere, &logs.join(".new-x")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(logs.join("note"), "").unwrap();
        symlink(&elsewhere, logs.join("builds")).unwrap();
        symlink("nowhere", logs.join("lost")).unwrap();
        let names: Vec<_> = data.logs().unwrap().iter().map(LogName::to_string).collect();
        assert_eq!(names, ["builds", "lost", "main"]);

        symlink("main", logs.join("again")).unwrap();
        let refused = data.logs().unwrap_err().to_string();
        assert!(
            refused.contains("`main`") && refused.contains("`again`"),
            "{refused}"
        );
    }
}
