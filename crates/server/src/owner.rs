//! Who owns a data directory.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, ensure};
use rustix::process::geteuid;

/// Refuses to write into somebody else's data directory, as root might: secrets are for their owner alone, so the server could not read
/// what it finds, and would not start again.
pub(crate) fn ensure_owner(data: &Path) -> anyhow::Result<()> {
    let owner = fs::metadata(data).with_context(|| format!("can't look at {}", data.display()))?;
    let (owner, user) = (owner.uid(), geteuid().as_raw());
    ensure!(
        owner == user,
        "{} belongs to the user {owner}, and this runs as the user {user}: a server of its owner could not read what is written here. Run this \
         as its owner: sudo -u '#{owner}' counterfoild …",
        data.display()
    );
    Ok(())
}
