//! Anchors: the newest published head of a log in files outside of its database.
//!
//! What the database lost, it does not miss: damage to RocksDB's log takes the newest heads with it, and a directory
//! restored from an old backup agrees with itself. One anchor lies in the log's directory and shows the first; one
//! elsewhere, best on another disk, shows both.

use std::path::{Path, PathBuf};

use counterfoil_files::{Readers, read, replace};
use counterfoil_merkle::Frontier;
use counterfoil_note::{LogSigner, MAX_NOTE_BYTES, SignedHead};
use counterfoil_store::Store;

use crate::{LogName, OpenError, directory::LogDirectory, open::check_signed};

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
            if let Some(note) = read(&anchor.path, MAX_NOTE_BYTES).map_err(OpenError::Anchor)? {
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
            .map(|anchor| replace(&anchor.path, note, Readers::Umask).map_err(OpenError::Anchor))
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
