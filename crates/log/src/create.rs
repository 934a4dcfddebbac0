//! Making a new log: its keys, its database, its first entry.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
};

use counterfoil_event::{Genesis, Salt, Submitter};
use counterfoil_files::{FileError, create_directory, sync_directory};
use counterfoil_merkle::{Frontier, Suite};
use counterfoil_note::{Origin, VerifierKey};
use counterfoil_store::{Store, StoreError, StoreOptions, TreeState};

use crate::{
    DataDirectory, LogName, clock,
    directory::LogDirectory,
    event::PreparedEvent,
    keys::{generate, write_key_file},
};

/// Why a log could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one of that name.
    #[error("the log `{0}` exists already")]
    Exists(LogName),
    /// The system gave no random bytes for keys.
    #[error("the system gave no random bytes for the keys: {0}")]
    Random(#[from] getrandom::Error),
    /// A file or directory could not be written.
    #[error("can't write the log's files: {0}")]
    Io(#[from] io::Error),
    /// A file could not be made durable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a log with new keys and returns what verifies its heads, the key to hand out first. It is there whole or not at
/// all: it is built under another name and moved into place.
pub fn create_log(
    data: &DataDirectory,
    name: &LogName,
    origin: &Origin,
    suite: Suite,
) -> Result<Vec<VerifierKey>, CreateError> {
    let logs = data.logs_path();
    create_directory(&logs)?;
    let place = data.log(name);
    if fs::exists(place.path())? {
        return Err(CreateError::Exists(name.clone()));
    }

    // A name that starts with a dot is no log's; one that a crash leaves behind is dead weight, nothing more.
    let mut scaffold = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        // Payloads are for those whom the server lets read them.
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&logs)?;
    let directory = LogDirectory::at(scaffold.path().to_owned());
    let secrets = generate(origin, suite)?;
    write_key_file(&directory.keys(), &secrets)?;
    let keys = secrets
        .iter()
        .map(|key| key.verifier_key().clone())
        .collect::<Vec<_>>();
    write_genesis(&directory, origin, suite, &keys)?;
    sync_directory(directory.path())?;

    match fs::rename(scaffold.path(), place.path()) {
        // Somebody else was faster. The scaffold goes, with its keys.
        Err(problem) if problem.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Err(CreateError::Exists(name.clone()));
        }
        renamed => renamed?,
    }
    scaffold.disable_cleanup(true);
    // A crash here may take the name back. Nobody was told of the log, and each start makes the name last.
    sync_directory(&logs)?;
    Ok(keys)
}

fn write_genesis(
    directory: &LogDirectory,
    origin: &Origin,
    suite: Suite,
    keys: &[VerifierKey],
) -> Result<(), CreateError> {
    let genesis = Genesis {
        origin: origin.to_string(),
        suite,
        keys: keys.iter().map(ToString::to_string).collect(),
        created_unix_ms: clock::unix_millis().get(),
    };
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)?;
    let event = PreparedEvent::new(suite, genesis.to_event(), Salt::from(salt), &Submitter::log());

    let time = clock::unix_ns();
    let entry = event.entry.stamp(time);
    let leaf_hash = suite.leaf_hash(&entry);
    let mut frontier = Frontier::new(suite);
    let index = frontier.append(leaf_hash, &mut |_, _| {});

    let store = Store::create(&directory.database(), &StoreOptions::default())?;
    let mut batch = store.batch();
    batch.put_leaf(index, &entry, event.record, &leaf_hash, &event.key);
    batch.put_tree_state(&TreeState {
        size: frontier.size(),
        last_time_unix_ns: time.get(),
        compact_range: frontier.compact_range(),
    });
    batch.write()?;
    store.flush()?;
    Ok(())
}
