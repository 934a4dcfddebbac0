//! The anchor: the newest published head of a log in a file elsewhere, best on another disk.
//!
//! A directory restored from an old backup agrees with itself. Only what was kept outside shows that it is old.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{LogName, directory::sync_directory};

/// A signed note is far shorter; a longer file is no anchor.
const MAX_ANCHOR_BYTES: u64 = 64 * 1024;

/// Why an anchor can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// It can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is too long for a signed head.
    #[error("it is longer than a signed head can be")]
    TooLong,
}

/// The anchor of one log.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    path: PathBuf,
}

impl Anchor {
    /// The anchor of a log in a directory that anchors several.
    pub(crate) fn new(directory: &Path, log: &LogName) -> Self {
        Self {
            path: directory.join(format!("{log}.checkpoint")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The anchored head, `None` if there never was one.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, AnchorError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(metadata) if metadata.len() > MAX_ANCHOR_BYTES => return Err(AnchorError::TooLong),
            Ok(_) => {}
        }
        Ok(Some(fs::read(&self.path)?))
    }

    /// Replaces the anchored head. After a crash the file holds the old head or the new one.
    pub(crate) fn write(&self, note: &[u8]) -> Result<(), AnchorError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let next = self.path.with_extension("checkpoint.new");
        let mut file = File::create(&next)?;
        file.write_all(note)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        Ok(sync_directory(directory)?)
    }
}
