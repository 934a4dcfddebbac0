//! Who owns a data directory.

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, ensure};
use counterfoil_log::DataDirectory;
use rustix::process::geteuid;

/// The user whom mounts and what is made for others belong to at first.
const ROOT: u32 = 0;

/// Refuses to write into somebody else's data directory, as root might: secrets and databases are for their owner alone, so the server
/// could not read what it finds, and would not start again.
///
/// It is the owner's of `logs`, which the server's user made. Where that is not there yet, or root's, whoever may write there
/// may: it is how a volume is handed out.
pub(crate) fn ensure_owner(data: &Path) -> anyhow::Result<()> {
    let logs = DataDirectory::new(data).logs_path();
    let (directory, owner) = match (owner_of(&logs)?, owner_of(data)?) {
        (Some(owner), _) if owner != ROOT => (logs.as_path(), owner),
        (None, Some(owner)) if owner != ROOT => (data, owner),
        _ => return Ok(()),
    };
    let user = geteuid().as_raw();
    ensure!(
        owner == user,
        "{} belongs to the user {owner}, and this runs as the user {user}: neither's server could read what the other writes. Run this as \
         its owner: sudo -u '#{owner}' counterfoild … Or, if the server runs as {user}, give it all there is: chown -R {user} {}",
        directory.display(),
        data.display()
    );
    Ok(())
}

/// The user whom a directory belongs to. `None` if it is not there, or can't be seen: whoever keeps us out owns what is above it.
fn owner_of(path: &Path) -> anyhow::Result<Option<u32>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.uid())),
        Err(problem) if matches!(problem.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(problem) => Err(problem).with_context(|| format!("can't look at {}", path.display())),
    }
}
