//! For the fuzz targets: what they read has no other public entrance. No part of the crate's interface.

use std::path::Path;

use bytes::Bytes;
use counterfoil_merkle::TileWidth;
use counterfoil_note::{Origin, Policy};

use crate::{Secret, StateError, config, state::StateFile, tiles};

/// The first `width` entries of an entry bundle. None if it has fewer, or anything but whole entries.
pub fn split_bundle(bundle: &Bytes, width: TileWidth) -> Option<Vec<Bytes>> {
    tiles::split_bundle(bundle, width)
}

/// Reads the saved state of a log, and writes it again.
///
/// # Errors
/// If it can't be used.
pub fn rewrite_state(bytes: &[u8], origin: &Origin, policy: &Policy) -> Result<Vec<u8>, StateError> {
    let file = StateFile::new(Path::new(""), "fuzzed", origin.clone());
    let state = file.decode(bytes, policy)?;
    Ok(file.encode(&state))
}

/// Whether a text can be a configuration, as far as that can be said without reading the files that it names.
pub fn is_config(text: &str) -> bool {
    config::is_well_formed(text)
}

/// Whether a text is a secret that signs messages.
pub fn is_secret(text: &str) -> bool {
    Secret::parse(text).is_ok()
}
