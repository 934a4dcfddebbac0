//! Sources on disk: `<data>/sources/<source id>.toml`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use counterfoil_event::SourceId;
use counterfoil_files::{self as files, FileError, Readers, SecretError};

use crate::{Source, SourceError};

/// The longest file: far more than its secrets take.
const MAX_FILE_BYTES: usize = 16 * 1024;

/// The sources of a data directory. A running server follows changes within some seconds.
#[derive(Debug, Clone)]
pub struct SourcesDirectory(PathBuf);

/// Why sources can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is one of that name.
    #[error("there is a source `{0}` already")]
    Exists(SourceId),
    /// There is none of that name.
    #[error("there is no source `{0}`")]
    Missing(SourceId),
    /// Its file does not describe one.
    #[error("{path}: {problem}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SourceError,
    },
    /// Its file can't be read, or others can read it too.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SecretError,
    },
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl SourcesDirectory {
    /// That of the data directory at `data`. It need not exist yet.
    pub fn of(data: &Path) -> Self {
        Self(data.join("sources"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a source.
    pub fn file(&self, id: &SourceId) -> PathBuf {
        self.0.join(format!("{id}.toml"))
    }

    /// The sources that it has, in order of name. Files of other names are passed over.
    ///
    /// # Errors
    /// [`DirectoryError::File`].
    pub fn list(&self) -> Result<Vec<SourceId>, DirectoryError> {
        let mut ids = Vec::new();
        let files = match fs::read_dir(&self.0) {
            Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(ids),
            files => files.map_err(FileError::at("list", &self.0))?,
        };
        for file in files {
            let name = file.map_err(FileError::at("list", &self.0))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            ids.extend(id.and_then(|id| id.parse::<SourceId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Reads a source.
    ///
    /// # Errors
    /// If it is not there, broken, or not its owner's alone.
    pub fn read(&self, id: &SourceId) -> Result<Source, DirectoryError> {
        let path = self.file(id);
        let text = match files::read_secret(&path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(SecretError::Io(problem)) if problem.kind() == ErrorKind::NotFound => {
                return Err(DirectoryError::Missing(id.clone()));
            }
            Err(problem) => return Err(DirectoryError::Unreadable { path, problem }),
        };
        Source::parse(&text).map_err(|problem| DirectoryError::Broken { path, problem })
    }

    /// Writes a new source: its file is there whole or not at all, and nobody but its owner can read it.
    ///
    /// # Errors
    /// If there is one of that name already.
    pub fn create(&self, id: &SourceId, source: &Source) -> Result<(), DirectoryError> {
        files::create_private_directory(&self.0)?;
        match files::create_secret(&self.file(id), source.to_toml().as_bytes()) {
            Err(problem) if problem.source.kind() == ErrorKind::AlreadyExists => {
                Err(DirectoryError::Exists(id.clone()))
            }
            created => Ok(created?),
        }
    }

    /// Writes a source that is there already. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// [`DirectoryError::File`].
    pub fn replace(&self, id: &SourceId, source: &Source) -> Result<(), DirectoryError> {
        let toml = source.to_toml();
        Ok(files::replace(&self.file(id), toml.as_bytes(), Readers::Owner)?)
    }

    /// Removes a source.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, id: &SourceId) -> Result<(), DirectoryError> {
        match files::remove(&self.file(id)) {
            Err(problem) if problem.source.kind() == ErrorKind::NotFound => {
                Err(DirectoryError::Missing(id.clone()))
            }
            removed => Ok(removed?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, thread};

    use super::*;
    use crate::{Provider, Secret};

    fn source() -> Source {
        let secret = Secret::generate(Provider::GitHub).unwrap();
        Source::new(Provider::GitHub, "main".to_owned(), None, secret).unwrap()
    }

    #[test]
    fn a_source_is_made_once_changed_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let directory = SourcesDirectory::of(data.path());
        let id: SourceId = "github".parse().unwrap();
        assert_eq!(directory.list().unwrap(), []);
        assert!(matches!(directory.read(&id), Err(DirectoryError::Missing(_))));
        assert!(matches!(directory.remove(&id), Err(DirectoryError::Missing(_))));

        let mut first = source();
        directory.create(&id, &first).unwrap();
        assert!(matches!(
            directory.create(&id, &source()),
            Err(DirectoryError::Exists(_))
        ));
        assert_eq!(*directory.read(&id).unwrap().to_toml(), *first.to_toml());

        first
            .add_secret(Secret::generate(Provider::GitHub).unwrap())
            .unwrap();
        directory.replace(&id, &first).unwrap();
        assert_eq!(directory.read(&id).unwrap().secrets().len(), 2);
        assert_eq!(directory.list().unwrap(), std::slice::from_ref(&id));
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");

        directory.remove(&id).unwrap();
        assert_eq!(directory.list().unwrap(), []);
    }

    #[test]
    fn of_those_who_make_one_at_once_one_does() {
        let data = tempfile::tempdir().unwrap();
        let directory = SourcesDirectory::of(data.path());
        for round in 0..50 {
            let id: SourceId = format!("github-{round}").parse().unwrap();
            let sources = [(); 4].map(|()| source());
            let made = thread::scope(|scope| {
                let makers = sources
                    .each_ref()
                    .map(|source| scope.spawn(|| directory.create(&id, source)));
                makers.map(|maker| maker.join().unwrap())
            });
            let file = directory.read(&id).unwrap().to_toml();
            for (source, made) in sources.iter().zip(made) {
                match made {
                    Ok(()) => assert_eq!(*source.to_toml(), *file, "it is the one that was made"),
                    Err(refused) => assert!(matches!(refused, DirectoryError::Exists(_)), "{refused}"),
                }
            }
        }
    }

    #[test]
    fn only_the_owner_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let directory = SourcesDirectory::of(data.path());
        let id: SourceId = "github".parse().unwrap();
        directory.create(&id, &source()).unwrap();
        directory.replace(&id, &source()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.file(&id)), 0o600);
        assert_eq!(mode(directory.path()), 0o700);
        fs::set_permissions(directory.file(&id), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            directory.read(&id),
            Err(DirectoryError::Unreadable { .. })
        ));
    }
}
