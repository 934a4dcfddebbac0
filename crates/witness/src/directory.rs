//! A witness on disk: `<data>/witness.key`, its secret key, and `<data>/state.redb`, what it cosigned.

use std::path::{Path, PathBuf};

use counterfoil_files::{
    FileError, SecretError, create_private_directory, create_secret, read_secret, sync_directory,
};
use counterfoil_note::{CosignerKey, CosignerSigner, KeyError, MAX_KEY_TEXT_BYTES, Origin};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::state::{State, StateError};

/// A witness's data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory(PathBuf);

/// Why a data directory can't be made or used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The directory or the key file can't be made.
    #[error(transparent)]
    Make(#[from] FileError),
    /// There is a key, and nothing overwrites one.
    #[error("{} is there already: a witness's key is never overwritten", path.display())]
    KeyExists {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("can't get random bytes: {0}")]
    Random(getrandom::Error),
    /// The key file can't be used.
    #[error("the key file {}: {problem}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeyFileError,
    },
    /// The state can't be used.
    #[error("the state {}: {problem}{}", path.display(), remedy(problem))]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        problem: StateError,
    },
}

/// Why a key file can't be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It can't be read, or others than its owner can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It holds more than a key, or less.
    #[error("it is no secret key of a witness: {0}")]
    Malformed(#[from] KeyError),
}

/// What the operator has to do.
fn remedy(problem: &StateError) -> &'static str {
    match problem {
        StateError::Missing => {
            ". A witness that has forgotten what it cosigned must not go on under its key: restore the file, or make \
             a new witness with `counterfoil witness init` in another directory"
        }
        StateError::Exists => ", without a key. Make the witness in another directory",
        StateError::InUse => ". Stop that one first",
        StateError::Damaged(_) | StateError::Database(_) => {
            ". If the file is damaged, no older copy may take its place: see docs/WITNESS.md"
        }
        StateError::OtherWitness { .. } | StateError::Format { .. } | StateError::Io(_) => "",
    }
}

impl DataDirectory {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn key_path(&self) -> PathBuf {
        self.0.join("witness.key")
    }

    fn state_path(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// Makes a witness with a new key and nothing cosigned; returns its public key.
    ///
    /// # Errors
    /// If there is one already, or anything can't be written. Nothing is overwritten.
    pub fn init(&self, name: Origin) -> Result<CosignerKey, DirectoryError> {
        let (directory, path) = (&self.0, self.key_path());
        if path.try_exists().unwrap_or(true) {
            return Err(DirectoryError::KeyExists { path });
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(DirectoryError::Random)?;
        let signer = CosignerSigner::generate(name, *seed);

        create_private_directory(directory)?;
        self.create_state(signer.verifier_key())?;
        // The key last, once the state's name is on disk: a directory in which a crash left a key is whole.
        sync_directory(directory)?;
        let text = Zeroizing::new(format!("{}\n", *signer.to_secret_text()));
        create_secret(&path, text.as_bytes())?;
        Ok(signer.verifier_key().clone())
    }

    fn create_state(&self, witness: &CosignerKey) -> Result<(), DirectoryError> {
        let path = self.state_path();
        State::create(&path, witness).map_err(|problem| DirectoryError::State { path, problem })
    }

    /// Reads the key and opens the state, which nobody else can open meanwhile.
    pub(crate) fn open(&self) -> Result<(CosignerSigner, State), DirectoryError> {
        let path = self.key_path();
        let signer = read_key_file(&path).map_err(|problem| DirectoryError::Key { path, problem })?;
        let path = self.state_path();
        let state = State::open(&path, signer.verifier_key())
            .map_err(|problem| DirectoryError::State { path, problem })?;
        Ok((signer, state))
    }
}

fn read_key_file(path: &Path) -> Result<CosignerSigner, KeyFileError> {
    let text = read_secret(path, MAX_KEY_TEXT_BYTES)?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).parse()?)
}
