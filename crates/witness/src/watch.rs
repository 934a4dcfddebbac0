//! The logs file, read again when it changes.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl LogsFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&mut self, witness: &CosignerKey) -> Result<LogList, LogsFileError> {
        // Before the file is read: what is written meanwhile then shows at the next look.
        self.seen = Stamp::of(&self.path);
        let mut bytes = Vec::new();
        File::open(&self.path)?
            .take(MAX_LOGS_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(LogList::parse(&bytes, witness)?)
    }

    fn has_changed(&self) -> bool {
        self.seen != Stamp::of(&self.path)
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
            _ = reload.recv() => {}
        }
        let path = file.path().display().to_string();
        match file.read(witness.key()) {
            Ok(logs) => {
                info!(file = path, logs = logs.len(), "the logs file was read again");
                witness.set_logs(logs);
            }
            Err(error) => error!(file = path, %error, "the logs file is wrong; the logs known so far stay"),
        }
    }
}
