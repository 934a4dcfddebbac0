//! What a command made: names and digests.

use std::{
    convert::Infallible,
    fs::{self, File},
    future,
    io::{self, Read},
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use counterfoil_event::normal::{Artifact, Text};
use sha2::{Digest, Sha256};
use tokio::{task, time::sleep};

use super::process::EndSignals;
use crate::failure::Failure;

/// Most artifacts of one command: their names and digests have to fit into one normalised event.
const MAX_ARTIFACTS: usize = 200;
/// Longest name of one, as it was given.
const MAX_NAME_BYTES: usize = 128;
const BUFFER_BYTES: usize = 256 << 10;
/// How long reading may go on once somebody asked for the end by a signal: SIGKILL may follow.
const TIME_TO_STOP: Duration = Duration::from_secs(1);

/// What was read of the artifacts.
pub(super) struct Found {
    pub(super) artifacts: Vec<Artifact>,
    /// Why others are not among them. A command that failed may have made none.
    pub(super) missing: Vec<String>,
    /// A signal came meanwhile.
    pub(super) is_stopped: bool,
}

/// Whether so many, of such names, can be recorded. Asked before the command runs.
pub(super) fn check(paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.len() > MAX_ARTIFACTS {
        let problem = format!("{} artifacts are more than {MAX_ARTIFACTS}", paths.len());
        return Err(Failure::usage(problem).hint("record the digest of an archive, or of a list of digests"));
    }
    match paths.iter().find(|path| name(path).is_none()) {
        Some(path) => Err(Failure::usage(format!(
            "{}: the path of an artifact is recorded, and has to be UTF-8 of at most {MAX_NAME_BYTES} bytes",
            path.display()
        ))),
        None => Ok(()),
    }
}

fn name(path: &Path) -> Option<String> {
    let name = path.to_str()?;
    (!name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control))
        .then(|| name.to_owned())
}

/// Reads the artifacts. Once a signal has come, before or meanwhile, only those that take no longer than a second.
pub(super) async fn read(paths: &[PathBuf], is_cancelled: bool, signals: &mut EndSignals) -> Found {
    let stop = Arc::new(AtomicBool::new(false));
    let reading = task::spawn_blocking({
        let (paths, stop) = (paths.to_vec(), Arc::clone(&stop));
        move || digests(&paths, &stop)
    });
    let mut is_stopped = false;
    let stopping = async {
        if !is_cancelled {
            signals.next().await;
            is_stopped = true;
        }
        sleep(TIME_TO_STOP).await;
        stop.store(true, Ordering::Relaxed);
        future::pending::<Infallible>().await
    };
    let read = tokio::select! {
        read = reading => read,
        never = stopping => match never {},
    };
    let (artifacts, missing) = read.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
    Found {
        artifacts,
        missing,
        is_stopped,
    }
}

/// The artifacts that are there, and why others are not.
fn digests(paths: &[PathBuf], stop: &AtomicBool) -> (Vec<Artifact>, Vec<String>) {
    let mut artifacts = Vec::new();
    let mut missing = Vec::new();
    for path in paths {
        match (name(path), digest(path, stop)) {
            (Some(name), Ok(digest)) => artifacts.push(Artifact {
                name: Text::cut(&name),
                digest: Text::cut(&digest),
                ..Artifact::default()
            }),
            (_, Err(error)) => missing.push(format!("{}: {error}", path.display())),
            (None, Ok(_)) => {}
        }
    }
    (artifacts, missing)
}

fn digest(path: &Path, stop: &AtomicBool) -> io::Result<String> {
    // A pipe might never open nor end, and a directory has no digest.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("a signal ended the wait for its digest"));
        }
        match file.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hasher.finalize()))),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_digests_and_the_rest_has_reasons() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("f");
        fs::write(&file, "abc").unwrap();
        let paths = [
            file.clone(),
            scratch.path().join("absent"),
            scratch.path().to_owned(),
        ];
        check(&paths).unwrap();
        let (artifacts, missing) = digests(&paths, &AtomicBool::new(false));
        let expected = Artifact {
            name: Text::cut(file.to_str().unwrap()),
            // FIPS 180-4, example B.1.
            digest: Text::cut("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ..Artifact::default()
        };
        assert_eq!(artifacts, [expected]);
        assert_eq!(missing.len(), 2);
        assert!(missing[1].ends_with("not a file"));

        let (artifacts, missing) = digests(&paths, &AtomicBool::new(true));
        assert_eq!((artifacts.len(), missing.len()), (0, 3));
        assert!(missing[0].ends_with("a signal ended the wait for its digest"));
    }

    #[test]
    fn what_can_not_be_recorded_is_refused_before_the_command_runs() {
        let many: Vec<_> = (0..=MAX_ARTIFACTS)
            .map(|number| PathBuf::from(format!("{number}")))
            .collect();
        assert!(check(&many).is_err());
        check(&many[1..]).unwrap();
        for bad in ["", "a\nb", &"a".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check(&[PathBuf::from(bad)]).is_err(), "{bad:?}");
        }
    }
}
