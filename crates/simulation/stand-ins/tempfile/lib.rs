//! Temporary files and directories of the simulated machine.
#![allow(missing_docs)]

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use counterfoil_simulated_machine::{Call, machine, perform};

#[derive(Debug, Default)]
pub struct Builder {
    prefix: String,
    permissions: Option<Permissions>,
}

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn prefix(&mut self, prefix: &str) -> &mut Self {
        self.prefix = prefix.to_owned();
        self
    }

    pub fn permissions(&mut self, permissions: Permissions) -> &mut Self {
        self.permissions = Some(permissions);
        self
    }

    fn path_in(&self, directory: &Path) -> PathBuf {
        let random = machine(|machine| machine.chance().u64(..));
        directory.join(format!("{}{random:016x}", self.prefix))
    }

    pub fn tempfile_in(&self, directory: impl AsRef<Path>) -> io::Result<NamedTempFile> {
        let path = self.path_in(directory.as_ref());
        let mode = self.permissions.as_ref().map_or(0o600, Permissions::mode);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        Ok(NamedTempFile {
            file: Some(file),
            path,
        })
    }

    pub fn tempdir_in(&self, directory: impl AsRef<Path>) -> io::Result<TempDir> {
        let path = self.path_in(directory.as_ref());
        fs::create_dir(&path)?;
        Ok(TempDir { path, is_kept: false })
    }
}

#[derive(Debug)]
pub struct NamedTempFile {
    /// None once it has a name of its own.
    file: Option<File>,
    path: PathBuf,
}

#[derive(Debug)]
pub struct PersistError {
    pub error: io::Error,
    pub file: NamedTempFile,
}

impl NamedTempFile {
    pub fn as_file(&self) -> &File {
        self.file.as_ref().expect("it is there until it is persisted")
    }

    pub fn persist(self, path: impl AsRef<Path>) -> Result<File, PersistError> {
        let renamed = fs::rename(&self.path, path);
        self.persisted(renamed)
    }

    pub fn persist_noclobber(self, path: impl AsRef<Path>) -> Result<File, PersistError> {
        let path = path.as_ref();
        let renamed = perform(Call::Rename, path.as_os_str().as_encoded_bytes(), |machine| {
            machine.files().rename_to_new(&self.path, path)
        });
        self.persisted(renamed)
    }

    fn persisted(mut self, renamed: io::Result<()>) -> Result<File, PersistError> {
        match renamed {
            Ok(()) => Ok(self.file.take().expect("it is there until it is persisted")),
            Err(error) => Err(PersistError { error, file: self }),
        }
    }
}

impl Write for NamedTempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().expect("it is there until it is persisted");
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NamedTempFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    is_kept: bool,
}

impl TempDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn disable_cleanup(&mut self, disable_cleanup: bool) {
        self.is_kept = disable_cleanup;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

pub fn tempdir() -> io::Result<TempDir> {
    fs::create_dir_all("/tmp")?;
    Builder::new().prefix(".tmp").tempdir_in("/tmp")
}
