//! The file of a log's signing keys: one signed-note secret key on a line, in the order of [`KeyKind::of_log`].

use std::{io, path::Path};

use counterfoil_files::{FileError, SecretError, create_secret, read_secret};
use counterfoil_merkle::Suite;
use counterfoil_note::{KeyKind, LogSigner, LogSignerError, Origin, SignerKey};
use zeroize::Zeroizing;

/// Longest key file: a few keys, each of a name and some hundred characters.
const MAX_KEY_FILE_BYTES: usize = 8 << 10;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read, or others than its owner can read it.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A line is not a secret key.
    #[error("line {line} is no secret key: {problem}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: counterfoil_note::KeyError,
    },
    /// The keys are not those of one log.
    #[error("{0}")]
    Keys(#[from] LogSignerError),
}

impl KeyFileError {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Secret(SecretError::Io(problem)) if problem.kind() == io::ErrorKind::NotFound)
    }
}

/// New keys for a log, one of each kind that its suite asks for, each of its own seed.
pub(crate) fn generate(origin: &Origin, suite: Suite) -> Result<Vec<SignerKey>, getrandom::Error> {
    KeyKind::of_log(suite)
        .iter()
        .map(|kind| {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut())?;
            Ok(SignerKey::generate(origin.clone(), *kind, *seed))
        })
        .collect()
}

/// Writes a key file, synced, readable by its owner alone. The file must not exist.
pub(crate) fn write_key_file(path: &Path, keys: &[SignerKey]) -> Result<(), FileError> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES));
    for key in keys {
        text.push_str(&key.to_secret_text());
        text.push('\n');
    }
    create_secret(path, text.as_bytes())
}

/// Reads a key file.
pub(crate) fn read_key_file(path: &Path) -> Result<LogSigner, KeyFileError> {
    let text = read_secret(path, MAX_KEY_FILE_BYTES)?;
    let keys = text
        .lines()
        .enumerate()
        .map(|(place, line)| {
            line.parse::<SignerKey>()
                .map_err(|problem| KeyFileError::Malformed {
                    line: place + 1,
                    problem,
                })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(LogSigner::new(keys)?)
}
