//! A directory of files that other programs serve: each is there whole or not at all, and on disk when that is said.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use counterfoil_merkle::{Digest, TilePath};

use counterfoil_files::{create_directory, sync_directory};

/// Where a file is written before it is moved to its place. One is enough, and what a crash leaves there is removed.
const INCOMING: &str = ".incoming";

/// The files of one exported log.
pub(crate) struct StaticFiles {
    root: PathBuf,
    /// Held until the end: one export at a time.
    _lock: File,
    /// Directories that hold what was written, and those that hold them.
    directories: BTreeSet<PathBuf>,
    pub(crate) written: u64,
    pub(crate) written_bytes: u64,
    pub(crate) kept: u64,
    pub(crate) removed: u64,
}

impl StaticFiles {
    /// The directory at `root`, which is made if it is not there.
    ///
    /// # Errors
    /// `WouldBlock` if another process writes there.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        create_directory(&root).map_err(|error| error.source)?;
        let lock = File::open(&root)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        })?;
        // A file system that writes names one by one may have kept this one beside the name that the file was moved to: to write
        // over it would change what is in its place.
        match fs::remove_file(root.join(INCOMING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            directories: BTreeSet::from([root.clone()]),
            root,
            _lock: lock,
            written: 0,
            written_bytes: 0,
            kept: 0,
            removed: 0,
        })
    }

    /// A file's bytes, `None` if it is not there. One that is longer than `max_bytes` is an error.
    pub(crate) fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.root.join(path);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(metadata) if metadata.len() > max_bytes => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => fs::read(path).map(Some),
        }
    }

    /// Whether the file of a full tile or bundle is there, and as long as it must be at least.
    pub(crate) fn has(&self, path: TilePath) -> bool {
        let width = u64::from(path.width().get());
        let length = fs::metadata(self.root.join(path.to_string())).map(|file| file.len());
        length.is_ok_and(|length| match path {
            TilePath::Tile { .. } => length == width * Digest::LEN as u64,
            // A length, and an entry that is not empty.
            TilePath::Entries { .. } => length > width * 2,
        })
    }

    /// Puts a file in its place, unless it is there with these bytes. After a crash it is there whole or not at all; it is on
    /// disk after [`sync`](Self::sync).
    pub(crate) fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.root.join(path);
        // Also for a file that is kept: whoever put it there may have been cut short before its name was on disk.
        self.make_directory(place.parent().expect("it lies under the root"))?;
        match fs::read(&place) {
            Ok(found) if found == bytes => {
                self.kept += 1;
                return Ok(());
            }
            _ => {}
        }
        let incoming = self.root.join(INCOMING);
        let mut file = File::create(&incoming)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&incoming, &place)?;
        self.written += 1;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn make_directory(&mut self, directory: &Path) -> io::Result<()> {
        if self.directories.contains(directory) {
            return Ok(());
        }
        if let Some(above) = directory.parent() {
            self.make_directory(above)?;
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.directories.insert(directory.to_owned());
        Ok(())
    }

    /// Makes durable what was put: a file is not on disk before the directory that names it is.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.directories
            .iter()
            .try_for_each(|directory| sync_directory(directory).map_err(|error| error.source))
    }

    /// Removes all partial files of a tile or bundle.
    pub(crate) fn remove_partials(&mut self, full: TilePath) -> io::Result<()> {
        let directory = self.root.join(format!("{full}.p"));
        let files = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files?.count(),
        };
        fs::remove_dir_all(directory)?;
        self.removed += files as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As after a crash on a file system that writes names one by one.
    #[test]
    fn a_file_that_is_still_incoming_is_not_written_over() {
        let root = tempfile::tempdir().unwrap();
        StaticFiles::open(root.path().to_owned())
            .unwrap()
            .put("first", b"hash")
            .unwrap();
        fs::hard_link(root.path().join("first"), root.path().join(INCOMING)).unwrap();
        StaticFiles::open(root.path().to_owned())
            .unwrap()
            .put("second", b"other")
            .unwrap();
        assert_eq!(fs::read(root.path().join("first")).unwrap(), b"hash");
    }

    #[test]
    fn the_name_of_a_file_that_is_kept_is_made_durable_as_well() {
        let root = tempfile::tempdir().unwrap();
        for (written, kept) in [(1, 0), (0, 1)] {
            let mut files = StaticFiles::open(root.path().join("log")).unwrap();
            files.put("tile/0/000.p/1", b"hash").unwrap();
            assert_eq!((files.written, files.kept), (written, kept));
            for directory in ["log", "log/tile", "log/tile/0", "log/tile/0/000.p"] {
                assert!(
                    files.directories.contains(&root.path().join(directory)),
                    "{directory}"
                );
            }
        }
    }
}
