//! Sources on disk: `<data>/sources/<source id>.toml`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use counterfoil_event::SourceId;
use zeroize::Zeroizing;

use crate::{Source, SourceError};

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
    /// The system refused.
    #[error("{path}: {problem}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        problem: io::Error,
    },
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
    /// [`DirectoryError::Io`].
    pub fn list(&self) -> Result<Vec<SourceId>, DirectoryError> {
        let mut ids = Vec::new();
        let files = match fs::read_dir(&self.0) {
            Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(ids),
            files => files.map_err(|problem| io_error(&self.0, problem))?,
        };
        for file in files {
            let file = file.map_err(|problem| io_error(&self.0, problem))?;
            let name = file.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            ids.extend(id.and_then(|id| id.parse::<SourceId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// Reads a source.
    ///
    /// # Errors
    /// If it is not there, or broken.
    pub fn read(&self, id: &SourceId) -> Result<Source, DirectoryError> {
        let path = self.file(id);
        let text = match fs::read_to_string(&path) {
            Err(problem) if problem.kind() == ErrorKind::NotFound => {
                return Err(DirectoryError::Missing(id.clone()));
            }
            text => Zeroizing::new(text.map_err(|problem| io_error(&path, problem))?),
        };
        Source::parse(&text).map_err(|problem| DirectoryError::Broken { path, problem })
    }

    /// Writes a new source: its file is there whole or not at all, and nobody but its owner can read it.
    ///
    /// # Errors
    /// If there is one of that name already.
    pub fn create(&self, id: &SourceId, source: &Source) -> Result<(), DirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|problem| io_error(&self.0, problem))?;
        let partial = self.write_beside(id, source)?;
        let path = self.file(id);
        // A link, unlike a rename, takes nobody else's place.
        let linked = fs::hard_link(&partial, &path);
        fs::remove_file(&partial).map_err(|problem| io_error(&partial, problem))?;
        match linked {
            Err(problem) if problem.kind() == ErrorKind::AlreadyExists => {
                return Err(DirectoryError::Exists(id.clone()));
            }
            linked => linked.map_err(|problem| io_error(&path, problem))?,
        }
        self.sync()
    }

    /// Writes a source that is there already. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn replace(&self, id: &SourceId, source: &Source) -> Result<(), DirectoryError> {
        let partial = self.write_beside(id, source)?;
        let path = self.file(id);
        fs::rename(partial, &path).map_err(|problem| io_error(&path, problem))?;
        self.sync()
    }

    /// Removes a source.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, id: &SourceId) -> Result<(), DirectoryError> {
        let path = self.file(id);
        match fs::remove_file(&path) {
            Err(problem) if problem.kind() == ErrorKind::NotFound => {
                return Err(DirectoryError::Missing(id.clone()));
            }
            removed => removed.map_err(|problem| io_error(&path, problem))?,
        }
        self.sync()
    }

    /// A file that is no source's, synced.
    fn write_beside(&self, id: &SourceId, source: &Source) -> Result<PathBuf, DirectoryError> {
        // The name of the process lets two at a time stay apart.
        let path = self.0.join(format!(".{id}.{}.partial", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(source.to_toml().as_bytes())?;
                file.sync_all()
            });
        written.map_err(|problem| io_error(&path, problem))?;
        Ok(path)
    }

    /// A file is on disk once the directory that names it is.
    fn sync(&self) -> Result<(), DirectoryError> {
        File::open(&self.0)
            .and_then(|directory| directory.sync_all())
            .map_err(|problem| io_error(&self.0, problem))
    }
}

fn io_error(path: &Path, problem: io::Error) -> DirectoryError {
    DirectoryError::Io {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        assert_eq!(directory.list().unwrap(), [id.clone()]);
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");

        directory.remove(&id).unwrap();
        assert_eq!(directory.list().unwrap(), []);
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
    }
}
