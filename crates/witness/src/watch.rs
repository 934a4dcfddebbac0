//! The logs file, read again when it changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use counterfoil_files::read_up_to;
use counterfoil_note::CosignerKey;
use thiserror::Error;
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use crate::{
    logs::{LogList, LogListError, MAX_LOGS_FILE_BYTES},
    witness::Witness,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a logs file can't be used.
#[derive(Debug, Error)]
pub enum LogsFileError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is wrong.
    #[error(transparent)]
    List(#[from] LogListError),
}

pub(crate) struct LogsFile {
    path: PathBuf,
    /// What the file was when it was last read.
    seen: Option<Stamp>,
    /// Why it can't be read now, which was said.
    unreadable: Option<String>,
}

/// What changes when a file is written or replaced, or who may read it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl LogsFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: None,
            unreadable: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&mut self, witness: &CosignerKey) -> Result<LogList, LogsFileError> {
        // Before the file is read: what is written meanwhile then shows at the next look.
        let stamp = Stamp::of(&self.path);
        // Where that fails the stamp stays the old one, so that it is tried again.
        let bytes = read_up_to(&self.path, MAX_LOGS_FILE_BYTES)?;
        self.seen = stamp;
        self.unreadable = None;
        Ok(LogList::parse(&bytes, witness)?)
    }

    /// Whether it is another file than the one that was read last.
    fn has_changed(&mut self) -> bool {
        let has_changed = self.seen != Stamp::of(&self.path);
        if !has_changed {
            self.unreadable = None;
        }
        has_changed
    }

    /// Whether this is another reason than the one that was said.
    fn is_news(&mut self, problem: &LogsFileError) -> bool {
        match problem {
            LogsFileError::List(_) => true,
            LogsFileError::Io(problem) => {
                let text = problem.to_string();
                self.unreadable.replace(text.clone()) != Some(text)
            }
        }
    }
}

/// Gives the witness the file's logs whenever it has changed, and at each `reload`. Never returns. A file that is wrong
/// changes nothing: the logs known so far stay known.
pub(crate) async fn follow(mut file: LogsFile, witness: Arc<Witness>, mut reload: Signal) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                if !file.has_changed() {
                    continue;
                }
            }
            // Whoever asks is told again.
            _ = reload.recv() => file.unreadable = None,
        }
        let path = file.path().display().to_string();
        match file.read(witness.key()) {
            Ok(logs) => {
                info!(file = path, logs = logs.len(), "the logs file was read again");
                witness.set_logs(logs);
            }
            Err(error) => {
                if file.is_news(&error) {
                    error!(file = path, %error, "the logs file is wrong; the logs known so far stay");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, thread};

    use counterfoil_note::CosignerSigner;

    use super::*;

    fn witness() -> CosignerSigner {
        CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32])
    }

    #[test]
    fn what_can_not_be_read_is_tried_again_and_said_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LogsFile::new(directory.path().to_owned());
        for is_news in [true, false] {
            let problem = file.read(witness().verifier_key()).err().unwrap();
            assert!(matches!(problem, LogsFileError::Io(_)), "{problem}");
            assert_eq!(file.is_news(&problem), is_news);
            assert!(file.has_changed());
        }
    }

    #[test]
    fn a_file_that_others_may_read_now_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs");
        fs::write(&path, "").unwrap();
        let mut file = LogsFile::new(path.clone());
        file.read(witness().verifier_key()).unwrap();
        assert!(!file.has_changed());
        // The file system's clock may tick but a few hundred times a second.
        let seen = (0..1_000).any(|_| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            thread::sleep(Duration::from_millis(5));
            file.has_changed()
        });
        assert!(seen);
    }
}
