//! Files that outlive a crash, and secrets that only their owner can read.
//!
//! A file is on disk when it was synced *and* the directory that names it was. Every other crate that keeps state in files
//! writes them through here.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    fs::{self, DirBuilder, File, Permissions},
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
///
/// Takes the place of what was there: of a symbolic link, not of the file that it leads to; and has the mode of `readers`,
/// whatever the old one's was.
///
/// # Errors
/// If the file system refuses a step. If that is the last, the sync of the directory, it holds `bytes` already, and a crash may
/// undo that.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), FileError> {
    write_beside(path, bytes, readers)?
        .persist(path)
        .map_err(|refused| FileError::at("replace", path)(refused.error))?;
    sync_directory(directory_of(path))
}

/// Writes a file that only its owner can read, and that must not exist yet: a key is never overwritten. After a crash at any
/// point it is there whole or not at all, and whoever reads meanwhile finds it so too. A crash may leave a file behind whose
/// name starts with `.new-`.
///
/// # Errors
/// If the name is taken (`AlreadyExists`), or the file system refuses a step. If that is the last, the sync of the directory, the
/// file is there already, and a crash may undo that.
pub fn create_secret(path: &Path, secret: &[u8]) -> Result<(), FileError> {
    write_beside(path, secret, Readers::Owner)?
        // It fails where the name is taken, even since a moment ago.
        .persist_noclobber(path)
        .map_err(|refused| FileError::at("create", path)(refused.error))?;
    sync_directory(directory_of(path))
}

/// Removes a file. When this returns, it is gone on disk too: no crash brings it back.
///
/// # Errors
/// If it is not there, or the file system refuses. If that is the sync of the directory, the file is gone already, and a crash may
/// bring it back.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(FileError::at("remove", path))?;
    sync_directory(directory_of(path))
}

/// Writes and syncs a file that is to get the name `path`, under a name of its own: two that write at once don't meet.
fn write_beside(path: &Path, bytes: &[u8], readers: Readers) -> Result<NamedTempFile, FileError> {
    let directory = directory_of(path);
    let mut new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(readers.file_mode()))
        .tempfile_in(directory)
        .map_err(FileError::at("write in", directory))?;
    new.write_all(bytes).map_err(FileError::at("write", path))?;
    new.as_file().sync_all().map_err(FileError::at("sync", path))?;
    Ok(new)
}

/// Makes a directory and those above it, unless it is there, and has their names last: also that of one which is there, for
/// whoever made it may have been cut short.
///
/// # Errors
/// If something else has its name or one above it (`NotADirectory`), or the file system refuses.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    create_directory_for(path, Readers::Umask)
}

/// The same for directories that only their owner can look into, from the moment that they are made. One that is there keeps
/// its mode.
///
/// # Errors
/// Those of [`create_directory`].
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    create_directory_for(path, Readers::Owner)
}

fn create_directory_for(path: &Path, readers: Readers) -> Result<(), FileError> {
    let above = directory_of(path);
    if !is_directory(path) {
        if above != path {
            create_directory_for(above, readers)?;
        }
        match DirBuilder::new().mode(readers.directory_mode()).create(path) {
            // Somebody else may just have made it.
            Err(error) if !is_directory(path) => {
                let what_is_wrong = match error.kind() {
                    io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
                    _ => error,
                };
                return Err(FileError::at("create", path)(what_is_wrong));
            }
            _ => {}
        }
    }
    match sync_directory(above) {
        // Whoever may not look into a directory may still have been given one in it.
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        // Some file systems sync no directories (fsync(2), EINVAL), such as read-only ones that a volume is mounted in.
        Err(error) if error.source.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn is_directory(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the names in a directory durable.
///
/// # Errors
/// If it can't be opened, or the file system does not sync it.
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

/// Reads a file up to one byte past `limit_bytes`: a longer one is told from one that just fits.
///
/// # Errors
/// If it can't be read.
pub fn read_up_to(path: &Path, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit_bytes as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
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

/// Reads a text of at most `limit_bytes` from a file that only its owner has access to. Follows symbolic links, and takes memory
/// for the longest text at once.
///
/// # Errors
/// If others than its owner have access to it, it is longer, it is not UTF-8, or it can't be read.
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
    use std::thread;

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
    fn a_file_is_removed_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create_secret(&path, b"first").unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let refused = remove(&path).unwrap_err();
        assert_eq!(
            (refused.action, refused.source.kind()),
            ("remove", io::ErrorKind::NotFound)
        );
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
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_whole_as_soon_as_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        // Long, so that there is time to look.
        let secret = vec![b'k'; 16 << 20];
        thread::scope(|scope| {
            let written = scope.spawn(|| create_secret(&path, &secret));
            while !written.is_finished() {
                if let Ok(found) = fs::read(&path) {
                    assert_eq!(found.len(), secret.len());
                }
            }
            written.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(&path).unwrap(), secret);
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
    fn a_file_is_read_one_byte_past_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        assert_eq!(read_up_to(&path, 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, b"12345").unwrap();
        for (limit_bytes, read) in [(3, "1234"), (4, "12345"), (9, "12345")] {
            assert_eq!(read_up_to(&path, limit_bytes).unwrap(), read.as_bytes());
        }
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        create_directory(&path).unwrap();
        create_directory(&path).unwrap();
        assert!(path.is_dir());

        let file = path.join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("d")] {
            let refused = create_directory(path).unwrap_err();
            assert_eq!((refused.action, &refused.path), ("create", &file));
            assert_eq!(refused.source.kind(), io::ErrorKind::NotADirectory);
        }
    }

    /// As where a volume is mounted in a file system that syncs none.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_may_stand_in_one_that_nobody_can_sync() {
        let path = Path::new("/proc/self");
        let refused = sync_directory(directory_of(path)).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::InvalidInput);
        create_directory(path).unwrap();
    }

    #[test]
    fn private_directories_are_their_owners_with_those_made_above_them() {
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, Permissions::from_mode(0o755)).unwrap();
        let path = there.join("a/b");
        create_private_directory(&path).unwrap();
        create_private_directory(&path).unwrap();
        let modes = [&there, &there.join("a"), &path].map(|path| mode(path));
        assert_eq!(modes, [0o755, 0o700, 0o700]);
    }
}
