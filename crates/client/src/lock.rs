//! Locks between processes: files that are locked, and hold nothing.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use counterfoil_files::FileError;

/// How long another process may hold one. Whoever holds it for much longer was stopped, or its disk hangs.
pub(crate) const LOCK_TIME: Duration = Duration::from_secs(30);
/// How often one that another process holds is tried.
pub(crate) const LOCK_POLL: Duration = Duration::from_millis(50);

/// Opens the file of a lock, which is made with `mode` unless it is there.
pub(crate) fn open(path: &Path, mode: u32) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    // To read as well: a pipe that somebody put there then opens without its other end (fifo(7)).
    options.read(true).write(true);
    options.create(true).truncate(false).mode(mode);
    options.open(path).map_err(FileError::at("open", path))
}

/// Whether it was free. It is then held until the file is closed, at the latest at the end of the process.
pub(crate) fn try_take(file: &File, path: &Path) -> Result<bool, FileError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(FileError::at("lock", path)(error)),
    }
}

/// Takes one, if others let go of it within `limit`. Blocks.
pub(crate) fn take(path: &Path, mode: u32, limit: Duration) -> Result<File, FileError> {
    let file = open(path, mode)?;
    let deadline = Instant::now() + limit;
    while !try_take(&file, path)? {
        if Instant::now() >= deadline {
            let held = io::Error::other("another process does not let go of it");
            return Err(FileError::at("lock", path)(held));
        }
        thread::sleep(LOCK_POLL);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn one_that_nobody_lets_go_of_is_not_waited_for_without_end() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let limit = Duration::from_millis(100);
        let held = take(&path, 0o600, limit).unwrap();
        assert_eq!(take(&path, 0o600, limit).unwrap_err().action, "lock");
        drop(held);
        take(&path, 0o600, limit).unwrap();
    }

    #[test]
    fn a_pipe_in_its_place_holds_nobody() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        take(&path, 0o600, Duration::ZERO).unwrap();
    }
}
