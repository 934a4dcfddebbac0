//! Local files: payloads and receipts.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use crate::failure::Failure;
use counterfoil_files::{Readers, replace};

/// Reads a file, or standard input for `-`, of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let read = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    };
    let bytes = if path == Path::new("-") {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    }
    .map_err(|error| Failure::file("read", path, &error))?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!(
            "{} is longer than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Writes a file as a whole or not at all; or to standard output for `-`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if path == Path::new("-") {
        return io::stdout()
            .lock()
            .write_all(bytes)
            .map_err(|error| Failure::file("write", path, &error));
    }
    replace(path, bytes, Readers::Umask)
        .map_err(|error| Failure::file(error.action, &error.path, &error.source))
}
