//! The largest verified head of each log, on disk.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use counterfoil_files::{FileError, Readers, create_directory, read_up_to, replace, sync_directory};
use counterfoil_note::{HeadError, MAX_NOTE_BYTES, Origin, Policy, SignedHead, UnixMillis};
use counterfoil_verify::{Evidence, EvidenceTextError};

use crate::lock::{self, LOCK_TIME};

/// Most characters of what a file is about that stand in its name.
const READABLE_CHARS: usize = 64;
/// What the umask leaves of it.
const LOCK_FILE_MODE: u32 = 0o666;

/// A directory with one file for each log: the signed note of the largest head that was ever verified.
///
/// Several processes may share it. A file is replaced as a whole and only after it is on disk, and never by a head
/// that was not linked to the one it holds.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// Why the saved head can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Evidence that is too long for a file.
    #[error("the evidence can't be written: {0}")]
    Evidence(#[from] EvidenceTextError),
    /// The file holds something else than a head that a key of the log signed: it is damaged, or the log has another key
    /// now.
    #[error(
        "the head saved in {} is not one that the log's key signed ({source}); remove the file only if you know why",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why its head is refused.
        source: HeadError,
    },
}

/// What became of a head that was to be saved.
#[derive(Debug)]
pub(crate) enum Saved {
    /// It is on disk.
    Yes,
    /// Another process saved this one meanwhile. Nothing was written.
    Overtaken(SignedHead),
}

impl StateDir {
    /// Keeps heads in `path`, which is created when it is needed.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The user's own: `$XDG_STATE_HOME/counterfoil`, or `~/.local/state/counterfoil`. None without a home.
    pub fn of_user() -> Option<Self> {
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|state| Self(state.join("counterfoil")))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The saved head of a log. It need not be cosigned: it may be the head of a receipt.
    pub(crate) fn load(&self, policy: &Policy, origin: &Origin) -> Result<Option<SignedHead>, StateError> {
        let path = self.file(origin, "head");
        let note = match read_up_to(&path, MAX_NOTE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(FileError::at("read", &path))?,
        };
        policy
            .verify_head(&note)
            .map(Some)
            .map_err(|source| StateError::Foreign { path, source })
    }

    /// Saves `head` if the file still holds `base`, the head that it was linked to.
    pub(crate) fn save(
        &self,
        policy: &Policy,
        base: Option<&SignedHead>,
        head: &SignedHead,
    ) -> Result<Saved, StateError> {
        create_directory(&self.0)?;
        // Held until the file is closed, at the end of this function or of the process.
        let _lock = lock::take(&self.file(head.origin(), "lock"), LOCK_FILE_MODE, LOCK_TIME)?;

        if let Some(found) = self.load(policy, head.origin())? {
            let expected =
                base.is_some_and(|base| base.size() == found.size() && base.root() == found.root());
            if !expected {
                return Ok(Saved::Overtaken(found));
            }
        }
        replace(
            &self.file(head.origin(), "head"),
            head.note_bytes(),
            Readers::Umask,
        )?;
        Ok(Saved::Yes)
    }

    /// Writes evidence into `evidence/`, and returns where. The same fact is kept once, as it was observed first.
    pub fn keep_evidence(&self, origin: &Origin, evidence: &Evidence) -> Result<PathBuf, StateError> {
        let timeless = Evidence {
            observed: UnixMillis::new(0),
            ..evidence.clone()
        };
        let digest = blake3::hash(timeless.to_text()?.as_bytes()).to_hex();
        let name = format!("{}-{}.evidence", evidence.fact.name(), &digest[..16]);
        let directory = Self(self.0.join("evidence"));
        let path = directory.file(origin, &name);
        if path.exists() {
            // Whoever wrote it may have been cut short before its name was on disk.
            sync_directory(&directory.0)?;
        } else {
            create_directory(&directory.0)?;
            replace(&path, evidence.to_text()?.as_bytes(), Readers::Umask)?;
        }
        Ok(path)
    }

    fn file(&self, origin: &Origin, extension: &str) -> PathBuf {
        let name = file_name(origin.as_str(), origin.as_str());
        self.0.join(format!("{name}.{extension}"))
    }
}

/// The name of a file or directory: what can be read of `shown`, and a digest of `whole` that makes it unique.
pub(crate) fn file_name(shown: &str, whole: &str) -> String {
    let readable: String = shown
        .chars()
        .take(READABLE_CHARS)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => c,
            _ => '_',
        })
        .collect();
    let digest = blake3::hash(whole.as_bytes()).to_hex();
    format!("{readable}-{}", &digest[..16])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use counterfoil_merkle::{Digest, Suite, TreeSize};
    use counterfoil_note::{KeyKind, LogSigner, SignerKey, UnixMillis};

    use super::*;

    fn signer(seed: u8) -> LogSigner {
        let origin: Origin = "log.example/main".parse().unwrap();
        let key = SignerKey::generate(origin, KeyKind::TimestampedHead(Suite::Blake3), [seed; 32]);
        LogSigner::new(vec![key]).unwrap()
    }

    fn head(signer: &LogSigner, size: u64, root: u8) -> SignedHead {
        let note = signer.sign_head(
            TreeSize::new(size).unwrap(),
            Digest::from([root; 32]),
            UnixMillis::new(1_000 + size),
        );
        signer.keys()[0].verifier_key().verify_head(&note).unwrap()
    }

    fn trust(signer: &LogSigner) -> (Policy, Origin) {
        let key = signer.keys()[0].verifier_key().clone();
        (Policy::for_log(key), signer.origin().clone())
    }

    #[test]
    fn a_head_outlives_the_process_and_is_not_overwritten_by_who_did_not_know_it() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::new(scratch.path().join("a/b"));
        let signer = signer(1);
        let (policy, origin) = trust(&signer);
        let (ten, twenty, thirty) = (head(&signer, 10, 1), head(&signer, 20, 2), head(&signer, 30, 3));

        assert!(state.load(&policy, &origin).unwrap().is_none());
        assert!(matches!(state.save(&policy, None, &ten).unwrap(), Saved::Yes));
        assert_eq!(state.load(&policy, &origin).unwrap().unwrap(), ten);

        // This one saw an empty directory; another process was faster.
        let Saved::Overtaken(found) = state.save(&policy, None, &twenty).unwrap() else {
            panic!("it was written")
        };
        assert_eq!(found, ten);
        assert!(matches!(
            state.save(&policy, Some(&ten), &thirty).unwrap(),
            Saved::Yes
        ));
        let Saved::Overtaken(found) = state.save(&policy, Some(&ten), &twenty).unwrap() else {
            panic!("it was rolled back")
        };
        assert_eq!(found, thirty);
        assert_eq!(state.load(&policy, &origin).unwrap().unwrap(), thirty);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_and_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::new(scratch.path());
        let ours = signer(1);
        let saved = head(&ours, 10, 1);
        let (policy, origin) = trust(&ours);
        state.save(&policy, None, &saved).unwrap();

        let other = signer(2);
        let (other_policy, _) = trust(&other);
        assert!(matches!(
            state.load(&other_policy, &origin),
            Err(StateError::Foreign { .. })
        ));
        let refused = state.save(&other_policy, None, &head(&other, 11, 1));
        assert!(matches!(refused, Err(StateError::Foreign { .. })));

        let path = state.file(saved.origin(), "head");
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 5);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            state.load(&policy, &origin),
            Err(StateError::Foreign { .. })
        ));
        fs::write(&path, vec![b'a'; MAX_NOTE_BYTES * 2]).unwrap();
        assert!(matches!(
            state.load(&policy, &origin),
            Err(StateError::Foreign { .. })
        ));
    }

    #[test]
    fn origins_that_look_alike_as_file_names_have_files_of_their_own() {
        let state = StateDir::new("s");
        let name = |origin: &str| state.file(&origin.parse().unwrap(), "head");
        assert_ne!(name("log.example/main"), name("log.example_main"));
        let long = "a".repeat(100);
        assert_ne!(name(&format!("{long}1")), name(&format!("{long}2")));
        assert!(name("../../etc/passwd").parent() == Some(Path::new("s")));
    }
}
