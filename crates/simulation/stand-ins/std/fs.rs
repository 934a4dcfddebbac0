//! Files of the simulated machine.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use counterfoil_simulated_machine::{Call, Inode, Machine, Node, machine, perform};
pub use std::fs::TryLockError;

/// What others than a directory's owner do not get.
const UMASK: u32 = 0o022;

fn subject(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[derive(Debug)]
pub struct File {
    inode: Inode,
    place: usize,
}

impl File {
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let inode = perform(Call::Look, subject(path), |machine| machine.files().find(path))?;
        Ok(Self { inode, place: 0 })
    }

    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let inode = perform(Call::Create, subject(path), |machine| {
            match machine.files().find(path) {
                Ok(inode) => {
                    machine.files().bytes(inode)?.clear();
                    Ok(inode)
                }
                Err(_) => machine.files().create(path, Node::file(0o644)),
            }
        })?;
        Ok(Self { inode, place: 0 })
    }

    pub fn sync_all(&self) -> io::Result<()> {
        let call = match machine(|machine| machine.files().node(self.inode).is_directory()) {
            true => Call::SyncDirectory,
            false => Call::Sync,
        };
        perform(call, [], |machine| {
            machine.files().sync(self.inode);
            Ok(())
        })
    }

    pub fn metadata(&self) -> io::Result<Metadata> {
        perform(Call::Look, [], |machine| Ok(Metadata::of(machine, self.inode)))
    }

    /// Nobody else is on this machine.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        Ok(())
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        perform(Call::Write, bytes, |machine| {
            // A long write may be done in parts.
            let written = match machine.one_in(4) {
                true => machine.chance().usize(..=bytes.len()).max(1),
                false => bytes.len(),
            };
            let file = machine.files().bytes(self.inode)?;
            file.truncate(self.place);
            file.extend_from_slice(&bytes[..written]);
            self.place += written;
            Ok(written)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        perform(Call::Read, [], |machine| {
            let bytes = &machine.files().bytes(self.inode)?[self.place..];
            let read = bytes.len().min(buffer.len());
            buffer[..read].copy_from_slice(&bytes[..read]);
            self.place += read;
            Ok(read)
        })
    }
}

#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    write: bool,
    create_new: bool,
    mode: u32,
}

impl OpenOptions {
    pub fn new() -> Self {
        let mode = 0o666;
        Self {
            mode,
            ..Self::default()
        }
    }

    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        assert!(
            self.write && self.create_new,
            "nothing else is asked for in the engine"
        );
        let path = path.as_ref();
        let inode = perform(Call::Create, subject(path), |machine| {
            machine.files().create(path, Node::file(self.mode))
        })?;
        Ok(File { inode, place: 0 })
    }
}

pub trait OpenOptionsExt {
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }
}

#[derive(Debug)]
pub struct DirBuilder {
    mode: u32,
}

#[expect(clippy::new_without_default, reason = "std has none")]
impl DirBuilder {
    pub fn new() -> Self {
        Self { mode: 0o777 }
    }

    pub fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let node = Node::directory(self.mode & !UMASK);
        perform(Call::Create, subject(path), |machine| {
            machine.files().create(path, node).map(|_| ())
        })
    }
}

pub trait DirBuilderExt {
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(u32);

pub trait PermissionsExt {
    fn mode(&self) -> u32;
    fn from_mode(mode: u32) -> Self;
}

impl PermissionsExt for Permissions {
    fn mode(&self) -> u32 {
        self.0
    }

    fn from_mode(mode: u32) -> Self {
        Self(mode)
    }
}

#[derive(Debug, Clone)]
pub struct Metadata {
    inode: u64,
    length: u64,
    mode: u32,
    is_directory: bool,
}

impl Metadata {
    fn of(machine: &mut Machine, inode: Inode) -> Self {
        let node = machine.files().node(inode);
        Self {
            inode: inode.number(),
            length: node.len(),
            mode: node.mode,
            is_directory: node.is_directory(),
        }
    }

    #[expect(clippy::len_without_is_empty, reason = "std has none")]
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn permissions(&self) -> Permissions {
        Permissions(self.mode)
    }

    pub fn is_dir(&self) -> bool {
        self.is_directory
    }
}

pub trait MetadataExt {
    fn dev(&self) -> u64;
    fn ino(&self) -> u64;
}

impl MetadataExt for Metadata {
    /// There is one disk.
    fn dev(&self) -> u64 {
        0
    }

    fn ino(&self) -> u64 {
        self.inode
    }
}

pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    perform(Call::Look, subject(path), |machine| {
        let inode = machine.files().find(path)?;
        Ok(Metadata::of(machine, inode))
    })
}

pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    perform(Call::Read, subject(path), |machine| {
        let inode = machine.files().find(path)?;
        machine.files().bytes(inode).cloned()
    })
}

pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().create(path)
}

pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if exists(path)? {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_dir_all(above)?;
    }
    create_dir(path)
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    perform(Call::Rename, subject(to), |machine| {
        machine.files().rename(from, to)
    })
}

pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    perform(Call::Remove, subject(path), |machine| {
        machine.files().remove(path)
    })
}

pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    remove_file(path)
}

#[derive(Debug)]
pub struct ReadDir(std::vec::IntoIter<DirEntry>);

#[derive(Debug)]
pub struct DirEntry {
    name: String,
    path: PathBuf,
}

pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref();
    let entries = perform(Call::Look, subject(path), |machine| {
        let names = machine.files().list(path)?;
        let entries = names.into_iter().map(|(name, _)| DirEntry {
            path: path.join(&name),
            name,
        });
        Ok(entries.collect::<Vec<_>>())
    })?;
    Ok(ReadDir(entries.into_iter()))
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

impl DirEntry {
    pub fn file_name(&self) -> OsString {
        self.name.clone().into()
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}
