//! Files that outlive a crash, and secrets that only their owner can read.
//!
//! A file is on disk when it was synced *and* the directory that names it was. Every other crate that keeps state in files
//! writes them through here.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

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

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the process's umask lets.
    Umask,
    /// Its owner alone.
    Owner,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Umask => 0o666,
            Self::Owner => 0o600,
        }
    }
}

/// Writes a file, or replaces it. After a crash at any point it holds what it held before or `bytes`, whole; when this
/// returns, it holds `bytes` on disk. A crash may leave a file behind whose name starts with `.new-`.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), FileError> {
    let directory = directory_of(path);
    let mut new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(readers.mode()))
        .tempfile_in(directory)
        .map_err(FileError::at("write in", directory))?;
    new.write_all(bytes).map_err(FileError::at("write", path))?;
    new.as_file().sync_all().map_err(FileError::at("sync", path))?;
    new.persist(path)
        .map_err(|refused| FileError::at("replace", path)(refused.error))?;
    sync_directory(directory)
}

/// Writes a file that only its owner can read, and that must not exist yet: a key is never overwritten.
pub fn create_secret(path: &Path, secret: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(Readers::Owner.mode())
        .open(path)
        .map_err(FileError::at("create", path))?;
    file.write_all(secret).map_err(FileError::at("write", path))?;
    file.sync_all().map_err(FileError::at("sync", path))?;
    sync_directory(directory_of(path))
}

/// Makes a directory and those above it, unless it is there, and has their names last: also that of one which is there, for
/// whoever made it may have been cut short.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    let above = directory_of(path);
    if !fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        if above != path {
            create_directory(above)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::at("create", path)(error));
            }
            _ => {}
        }
    }
    match sync_directory(above) {
        // Whoever may not look into a directory may still have been given one in it.
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::at("sync", path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
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
    fn a_secret_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create_secret(&path, b"first").unwrap();
        assert_eq!(mode(&path), 0o600);
        let refused = create_secret(&path, b"second").unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create_secret(&path, b"12345").unwrap();
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
        create_directory(&path).unwrap();
        create_directory(&path).unwrap();
        assert!(path.is_dir());
    }
}
