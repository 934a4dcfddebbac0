//! Files that outlive a crash, and secrets that only their owner can read.
//!
//! A file is on disk when it was synced *and* the directory that names it was. Every other crate that keeps state in files
//! writes them through here.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// What the file system refused.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, such as `read`.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Who may read a file, or look into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the process's umask lets.
    Umask,
    /// Its owner alone.
    Owner,
}

impl Readers {
    fn file_mode(self) -> u32 {
        match self {
            Self::Umask => 0o666,
            Self::Owner => 0o600,
        }
    }

    fn directory_mode(self) -> u32 {
        match self {
            Self::Umask => 0o777,
            Self::Owner => 0o700,
        }
    }
}

/// Writes a file, or replaces it. After a crash at any point it holds what it held before or `bytes`, whole; when this
/// returns, it holds `bytes` on disk. A crash may leave a file behind whose name starts with `.new-`.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), FileError> {
    write_beside(path, bytes, readers)?
        .persist(path)
        .map_err(|refused| FileError::at("replace", path)(refused.error))?;
    sync_directory(directory_of(path))
}

/// Writes a file that must not exist yet, such as a key: one is never overwritten. After a crash it is there whole or not
/// at all.
pub fn create(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), FileError> {
    write_beside(path, bytes, readers)?
        .persist_noclobber(path)
        .map_err(|refused| FileError::at("create", path)(refused.error))?;
    sync_directory(directory_of(path))
}

/// The bytes under another name in the same directory, synced.
fn write_beside(path: &Path, bytes: &[u8], readers: Readers) -> Result<NamedTempFile, FileError> {
    let directory = directory_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(readers.file_mode()))
        .tempfile_in(directory)
        .map_err(FileError::at("write in", directory))?;
    file.write_all(bytes).map_err(FileError::at("write", path))?;
    file.as_file().sync_all().map_err(FileError::at("sync", path))?;
    Ok(file)
}

/// A file's bytes, `None` if it is not there. More than `limit_bytes` is an error of the kind `FileTooLarge`.
pub fn read(path: &Path, limit_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(FileError::at("open", path))?,
    };
    let mut bytes = Vec::new();
    // One byte above the limit, so that a longer file is refused rather than cut.
    file.take(limit_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::at("read", path))?;
    if bytes.len() > limit_bytes {
        return Err(FileError::at("read", path)(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Makes a directory and those above it, unless it is there.
pub fn create_directory(path: &Path, readers: Readers) -> Result<(), FileError> {
    // The empty path, above a relative one, is the working directory.
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    let above = directory_of(path);
    create_directory(above, readers)?;
    match DirBuilder::new().mode(readers.directory_mode()).create(path) {
        // Somebody else did, at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        created => created.map_err(FileError::at("create", path))?,
    }
    sync_directory(above)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::at("sync", path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Why a file of secrets can't be used. Its messages do not name the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others than its owner may read or write it.
    #[error(
        "others than its owner may read it (mode {mode:03o}), and it holds a secret. Run chmod 600 on it"
    )]
    Exposed {
        /// Its permission bits.
        mode: u32,
    },
    /// Longer than what it is for.
    #[error("it is longer than {limit_bytes} bytes")]
    TooLong {
        /// How long it may be.
        limit_bytes: usize,
    },
}

/// Reads a text of at most `limit_bytes` from a file that only its owner has access to.
pub fn read_secret(path: &Path, limit_bytes: usize) -> Result<Zeroizing<String>, SecretError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { mode });
    }
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(limit_bytes + 1));
    file.take(limit_bytes as u64 + 1).read_to_string(&mut text)?;
    if text.len() > limit_bytes {
        return Err(SecretError::TooLong { limit_bytes });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for (bytes, readers) in [(b"first".as_slice(), Readers::Owner), (b"second", Readers::Owner)] {
            replace(&path, bytes, readers).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(mode(&path), 0o600);
        }
        replace(&path, b"third", Readers::Umask).unwrap();
        assert_eq!(mode(&path) & 0o600, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let nowhere = directory.path().join("none/state");
        let refused = replace(&nowhere, b"", Readers::Umask).unwrap_err();
        assert!(refused.to_string().starts_with("can't write in "), "{refused}");
        assert_eq!(refused.path, directory.path().join("none"));
    }

    #[test]
    fn a_file_that_is_there_is_not_created_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create(&path, b"first", Readers::Owner).unwrap();
        assert_eq!(mode(&path), 0o600);
        let refused = create(&path, b"second", Readers::Owner).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note");
        assert_eq!(read(&path, 5).unwrap(), None);
        create(&path, b"12345", Readers::Umask).unwrap();
        assert_eq!(read(&path, 5).unwrap().unwrap(), b"12345");
        let refused = read(&path, 4).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(directory.path(), 4).unwrap_err().action, "read");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create(&path, b"12345", Readers::Owner).unwrap();
        assert_eq!(*read_secret(&path, 5).unwrap(), "12345");
        assert!(matches!(
            read_secret(&path, 4),
            Err(SecretError::TooLong { limit_bytes: 4 })
        ));
        for exposed in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
            assert!(matches!(read_secret(&path, 5), Err(SecretError::Exposed { mode }) if mode == exposed));
        }
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        for _ in 0..2 {
            create_directory(&path, Readers::Owner).unwrap();
        }
        assert_eq!((mode(&path), mode(&root.path().join("a"))), (0o700, 0o700));
        let file = root.path().join("file");
        create(&file, b"", Readers::Umask).unwrap();
        assert!(create_directory(&file, Readers::Owner).is_err());
        assert!(create_directory(&file.join("below"), Readers::Owner).is_err());
    }
}
