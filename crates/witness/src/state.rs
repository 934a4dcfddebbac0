//! What the witness remembers for ever: for each log the newest checkpoint that it cosigned. The only place that knows
//! the database.

use std::{fmt, io, path::Path};

use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::{Checkpoint, CosignerKey, Note, NoteSignature};
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::merge::merged;

/// SHA-256 of a log's origin → the cosigned checkpoint as the reading endpoint serves it.
const CHECKPOINTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("checkpoints");
/// Facts about the database itself.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const FORMAT_VERSION: &str = "1";
const WITNESS: &str = "witness";

/// Memory for pages of the database. A hundred thousand logs fit.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// SHA-256 of a log's origin: what the state and the reading endpoint call the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginHash([u8; 32]);

impl OriginHash {
    /// The hash of an origin.
    pub(crate) fn of(origin: &str) -> Self {
        Self(Sha256::digest(origin).into())
    }

    /// Reads 64 lower-case hex digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let is_lower_case = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        (is_lower_case && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(Self(hash))
    }
}

/// 64 lower-case hex digits.
impl fmt::Display for OriginHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why the state can't be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file is not there.
    #[error("there is no state")]
    Missing,
    /// The file is there already.
    #[error("there is state already")]
    Exists,
    /// Another process has it open.
    #[error("another witness is running on it")]
    InUse,
    /// It was made for another key.
    #[error("it is the state of the witness {found}, not of {expected}")]
    OtherWitness {
        /// The key in use.
        expected: String,
        /// The key in the state.
        found: String,
    },
    /// Another version wrote it.
    #[error("it has the format {found:?}; this version reads {FORMAT_VERSION:?}")]
    Format {
        /// The format found.
        found: String,
    },
    /// What is stored is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The file could not be made durable.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StateError {
    fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl From<DatabaseError> for StateError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            other => Self::database(other),
        }
    }
}

/// Each of redb's steps has an error of its own; to a witness they are one.
macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StateError {
            fn from(error: redb::$error) -> Self {
                Self::database(error)
            }
        })*
    };
}
from_redb!(TransactionError, TableError, StorageError, CommitError);

/// The newest checkpoint of a log that was cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cosigned {
    pub(crate) size: TreeSize,
    pub(crate) root: Digest,
    /// With the signatures of the log and, on the last line, of the witness.
    pub(crate) note: Note,
}

impl Cosigned {
    /// Reads what [`Batch::replace`] stored. Size and root are the note's own: nothing beside it can disagree with it.
    fn read(note: &[u8]) -> Result<Self, StateError> {
        let damaged = |error: &dyn std::error::Error| StateError::Damaged(error.to_string());
        let note = Note::parse(note).map_err(|error| damaged(&error))?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| damaged(&error))?;
        Ok(Self {
            size: checkpoint.size(),
            root: checkpoint.root(),
            note,
        })
    }

    /// The witness's own signature.
    pub(crate) fn own_line(&self) -> Option<&NoteSignature> {
        own_line(&self.note)
    }
}

fn own_line(note: &Note) -> Option<&NoteSignature> {
    note.signatures().last()
}

/// The payload of a cosignature begins with its time, big-endian.
fn is_earlier(one: Option<&NoteSignature>, other: Option<&NoteSignature>) -> bool {
    one.map(NoteSignature::payload) < other.map(NoteSignature::payload)
}

pub(crate) struct State {
    database: Database,
}

impl State {
    /// Makes the state of a witness that has cosigned nothing.
    pub(crate) fn create(path: &Path, witness: &CosignerKey) -> Result<(), StateError> {
        if path.try_exists()? {
            return Err(StateError::Exists);
        }
        Self::initialize(builder().create(path)?, witness)?;
        Ok(())
    }

    /// Opens the state. The whole file is checked, so that damage is found before anything is signed.
    pub(crate) fn open(path: &Path, witness: &CosignerKey) -> Result<Self, StateError> {
        if !path.try_exists()? {
            return Err(StateError::Missing);
        }
        let state = Self {
            database: builder().set_check_integrity_on_open(true).open(path)?,
        };
        state.check(witness)?;
        Ok(state)
    }

    fn initialize(database: Database, witness: &CosignerKey) -> Result<Self, StateError> {
        let transaction = database.begin_write()?;
        {
            transaction.open_table(CHECKPOINTS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT, FORMAT_VERSION)?;
            meta.insert(WITNESS, witness.to_string().as_str())?;
        }
        transaction.commit()?;
        Ok(Self { database })
    }

    fn check(&self, witness: &CosignerKey) -> Result<(), StateError> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let fact = |name| match meta.get(name)? {
            Some(value) => Ok(value.value().to_owned()),
            None => Err(StateError::Damaged(format!("{name:?} is missing"))),
        };
        let found = fact(FORMAT)?;
        if found != FORMAT_VERSION {
            return Err(StateError::Format { found });
        }
        let (expected, found) = (witness.to_string(), fact(WITNESS)?);
        if found != expected {
            return Err(StateError::OtherWitness { expected, found });
        }
        transaction.open_table(CHECKPOINTS)?;
        Ok(())
    }

    /// How many logs have a cosigned checkpoint.
    pub(crate) fn logs(&self) -> Result<u64, StateError> {
        Ok(self.database.begin_read()?.open_table(CHECKPOINTS)?.len()?)
    }

    /// The newest checkpoint of a log that is on disk.
    pub(crate) fn newest(&self, log: OriginHash) -> Result<Option<Cosigned>, StateError> {
        let table = self.database.begin_read()?.open_table(CHECKPOINTS)?;
        let note = table.get(&log.0)?;
        note.map(|note| Cosigned::read(note.value())).transpose()
    }

    /// Begins changes that become durable together. There is one batch at a time.
    pub(crate) fn batch(&self) -> Result<Batch, StateError> {
        let mut transaction = self.database.begin_write()?;
        // Logs choose much of what is written. In one phase, a torn write is told from a whole one by a checksum that
        // whoever chooses the bytes can forge; a second sync costs little, shared by a batch.
        transaction.set_two_phase_commit(true);
        Ok(Batch { transaction })
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Changes that become durable together, or not at all.
pub(crate) struct Batch {
    transaction: redb::WriteTransaction,
}

impl Batch {
    /// Puts `note` in the place of the newest checkpoint if that still has the size `old`, zero standing for none, and the
    /// cosignature `over`. Otherwise changes nothing and returns the size that it has. A note of the same text keeps the log's
    /// lines, and may come over an earlier cosignature too.
    ///
    /// Of the tree the size is enough to compare: at one size the root never changes, because nothing is stored that was not proved
    /// consistent with what was there. The cosignature may have been given anew meanwhile, later than the one in `note`.
    ///
    /// # Errors
    /// With [`StateError::Damaged`] the log's record can't be read, nothing was changed, and the batch can go on.
    pub(crate) fn replace(
        &self,
        log: OriginHash,
        old: TreeSize,
        over: Option<&NoteSignature>,
        note: &Note,
    ) -> Result<Result<(), TreeSize>, StateError> {
        let mut table = self.transaction.open_table(CHECKPOINTS)?;
        let newest = match table.get(&log.0)? {
            Some(note) => Some(Cosigned::read(note.value())?),
            None => None,
        };
        let size = newest.as_ref().map_or(TreeSize::ZERO, |newest| newest.size);
        if size != old {
            return Ok(Err(size));
        }
        if let Some(newest) = &newest
            && newest.own_line() != over
            && (newest.note.text() != note.text() || is_earlier(own_line(note), newest.own_line()))
        {
            return Ok(Err(size));
        }
        let note = match newest {
            Some(newest) if newest.note.text() == note.text() => merged(&newest.note, note),
            _ => note.to_bytes(),
        };
        table.insert(&log.0, note.as_slice())?;
        Ok(Ok(()))
    }

    /// Returns once the changes are on disk.
    pub(crate) fn commit(self) -> Result<(), StateError> {
        Ok(self.transaction.commit()?)
    }
}

#[cfg(test)]
impl State {
    pub(crate) fn in_memory(witness: &CosignerKey) -> Self {
        let database = builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        Self::initialize(database, witness).unwrap()
    }

    /// Puts what is no note in the place of a log's newest checkpoint.
    pub(crate) fn damage(&self, log: OriginHash) {
        let batch = self.batch().unwrap();
        {
            let mut table = batch.transaction.open_table(CHECKPOINTS).unwrap();
            table.insert(&log.0, b"no note".as_slice()).unwrap();
        }
        batch.commit().unwrap();
    }
}
