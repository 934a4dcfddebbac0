//! Anchors: the newest head that a log signed to be published, in files outside of its database.
//!
//! What the database lost, it does not miss: damage to RocksDB's log takes the newest heads with it, and a directory
//! restored from an old backup agrees with itself. One anchor lies in the log's directory and shows the first; one
//! elsewhere, best on another disk, shows both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use counterfoil_files::{FileError, Readers, replace};
use counterfoil_merkle::Frontier;
use counterfoil_note::{LogSigner, SignedHead};
use counterfoil_store::Store;

use crate::{LogName, OpenError, directory::LogDirectory, open::check_signed};

/// A signed note is far shorter; a longer file is no anchor.
const MAX_ANCHOR_BYTES: u64 = 64 * 1024;

/// Why an anchor can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It can't be replaced.
    #[error(transparent)]
    Write(#[from] FileError),
    /// It is too long for a signed head.
    #[error("it is longer than a signed head can be")]
    TooLong,
}

/// All anchors of one log.
#[derive(Debug)]
pub(crate) struct Anchors(Vec<Anchor>);

impl Anchors {
    /// The anchor in the log's directory and, if there is to be one, that in a directory elsewhere.
    pub(crate) fn new(log: &LogDirectory, elsewhere: Option<&Path>, name: &LogName) -> Self {
        let beside = Anchor {
            path: log.newest_head(),
            known_as: "the newest head beside the database",
        };
        let elsewhere = elsewhere.map(|directory| Anchor {
            path: directory.join(format!("{name}.checkpoint")),
            known_as: "the anchor",
        });
        Self(std::iter::once(beside).chain(elsewhere).collect())
    }

    /// Checks that the recovered tree has grown from each anchored head, and returns these. One that was never written
    /// says nothing.
    pub(crate) fn check(
        &self,
        store: &Store,
        keys: &LogSigner,
        frontier: &Frontier,
    ) -> Result<Vec<SignedHead>, OpenError> {
        let mut heads = Vec::new();
        for anchor in &self.0 {
            if let Some(note) = anchor.read().map_err(|problem| anchor.failed(problem))? {
                heads.push(check_signed(store, keys, frontier, &note, anchor.known_as)?);
            }
        }
        Ok(heads)
    }

    /// Replaces the anchored heads.
    pub(crate) fn write(&self, note: &[u8]) -> Result<(), OpenError> {
        // One that can't be written must not keep the others from it.
        let written: Vec<_> = self
            .0
            .iter()
            .map(|anchor| anchor.write(note).map_err(|problem| anchor.failed(problem)))
            .collect();
        written.into_iter().collect()
    }
}

#[derive(Debug)]
struct Anchor {
    path: PathBuf,
    /// What a refusal calls it.
    known_as: &'static str,
}

impl Anchor {
    fn failed(&self, problem: AnchorError) -> OpenError {
        OpenError::Anchor {
            path: self.path.clone(),
            problem,
        }
    }

    /// The anchored head, `None` if there never was one.
    fn read(&self) -> Result<Option<Vec<u8>>, AnchorError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(metadata) if metadata.len() > MAX_ANCHOR_BYTES => return Err(AnchorError::TooLong),
            Ok(_) => {}
        }
        Ok(Some(fs::read(&self.path)?))
    }

    /// Replaces the anchored head. After a crash the file holds the old head or the new one.
    fn write(&self, note: &[u8]) -> Result<(), AnchorError> {
        Ok(replace(&self.path, note, Readers::Umask)?)
    }
}
