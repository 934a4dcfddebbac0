//! The file of a log's signing keys: one signed-note secret key on a line, in the order of [`KeyKind::of_log`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use counterfoil_merkle::Suite;
use counterfoil_note::{KeyKind, LogSigner, LogSignerError, Origin, SignerKey};
use zeroize::Zeroizing;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others than its owner can read it.
    #[error(
        "others than its owner may read it (mode {mode:03o}); it holds the log's secret keys. Run chmod 600 on it"
    )]
    Exposed {
        /// Its permission bits.
        mode: u32,
    },
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
pub(crate) fn write_key_file(path: &Path, keys: &[SignerKey]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for key in keys {
        file.write_all(key.to_secret_text().as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// Reads a key file.
pub(crate) fn read_key_file(path: &Path) -> Result<LogSigner, KeyFileError> {
    let mode = File::open(path)?.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { mode });
    }
    let text = Zeroizing::new(fs::read_to_string(path)?);
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
