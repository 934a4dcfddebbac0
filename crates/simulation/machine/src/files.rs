//! The disk: files and directories, each as programs see it and as it would be after a loss of power.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Component, Path},
};

use crate::Database;

/// A file's number. It stays what it is, whatever the file is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode(usize);

impl Inode {
    /// As programs are told it.
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

/// A file, a directory or a database.
#[derive(Debug, Clone)]
pub struct Node {
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file.
    File {
        /// Its bytes.
        live: Vec<u8>,
        /// Those that survive.
        synced: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its names.
        live: BTreeMap<String, Inode>,
        /// Those that survive.
        synced: BTreeMap<String, Inode>,
    },
    /// A directory that a database keeps as it likes.
    Database(Database),
}

/// The disk.
#[derive(Debug)]
pub struct Files {
    nodes: Vec<Node>,
}

const ROOT: Inode = Inode(0);

/// A copy of a file, or of a directory with all that is in it.
#[derive(Debug, Clone)]
pub struct Saved {
    nodes: Vec<Node>,
    root: Inode,
}

impl Node {
    /// An empty file.
    pub fn file(mode: u32) -> Self {
        let (live, synced) = (Vec::new(), Vec::new());
        Self {
            mode,
            kind: Kind::File { live, synced },
        }
    }

    /// An empty directory.
    pub fn directory(mode: u32) -> Self {
        let (live, synced) = (BTreeMap::new(), BTreeMap::new());
        Self {
            mode,
            kind: Kind::Directory { live, synced },
        }
    }

    /// An empty database.
    pub fn database() -> Self {
        Self {
            mode: 0o755,
            kind: Kind::Database(Database::default()),
        }
    }

    /// Length of a file.
    pub fn len(&self) -> u64 {
        match &self.kind {
            Kind::File { live, .. } => live.len() as u64,
            _ => 0,
        }
    }

    /// Whether it is a file without bytes, or no file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a directory, as programs see it.
    pub fn is_directory(&self) -> bool {
        !matches!(self.kind, Kind::File { .. })
    }
}

fn error(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::directory(0o755)],
        }
    }

    /// What a file's number stands for.
    pub fn node(&mut self, inode: Inode) -> &mut Node {
        &mut self.nodes[inode.0]
    }

    /// Finds what is at a path.
    pub fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let Kind::Directory { live, .. } = &self.nodes[at.0].kind else {
                        return Err(error(io::ErrorKind::NotADirectory));
                    };
                    let name = name.to_str().expect("paths here are UTF-8");
                    at = *live.get(name).ok_or(error(io::ErrorKind::NotFound))?;
                }
                other => panic!("no such path here: {other:?}"),
            }
        }
        Ok(at)
    }

    /// Finds the directory that names what is at a path, and the name.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(Inode, &'p str)> {
        let above = path.parent().ok_or(error(io::ErrorKind::InvalidInput))?;
        let name = path.file_name().and_then(|name| name.to_str());
        Ok((self.find(above)?, name.expect("paths here end with a name")))
    }

    fn names(&mut self, directory: Inode) -> io::Result<&mut BTreeMap<String, Inode>> {
        match &mut self.nodes[directory.0].kind {
            Kind::Directory { live, .. } => Ok(live),
            _ => Err(error(io::ErrorKind::NotADirectory)),
        }
    }

    /// The names in a directory, in order.
    pub fn list(&mut self, path: &Path) -> io::Result<Vec<(String, Inode)>> {
        let directory = self.find(path)?;
        if self.database(directory).is_some() {
            // What files a database has is its own affair.
            return Ok(Vec::new());
        }
        let names = self.names(directory)?;
        Ok(names.iter().map(|(name, inode)| (name.clone(), *inode)).collect())
    }

    /// Makes something under a name that is not taken.
    pub fn create(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let (directory, name) = self.parent(path)?;
        let inode = Inode(self.nodes.len());
        match self.names(directory)?.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(error(io::ErrorKind::AlreadyExists)),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(inode);
                self.nodes.push(node);
                Ok(inode)
            }
        }
    }

    /// Gives something another name. What had that name is gone.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (directory, name) = self.parent(to)?;
        let taken = self.names(directory)?.get(name).copied();
        if let Some(taken) = taken
            && let Kind::Directory { live, .. } = &self.nodes[taken.0].kind
            && !live.is_empty()
        {
            return Err(error(io::ErrorKind::DirectoryNotEmpty));
        }
        self.remove(from)?;
        self.names(directory)?.insert(name.to_owned(), inode);
        Ok(())
    }

    /// Gives something another name, unless that is taken.
    pub fn rename_to_new(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        match self.find(to) {
            Ok(_) => Err(error(io::ErrorKind::AlreadyExists)),
            Err(_) => self.rename(from, to),
        }
    }

    /// Takes a name away, and all that lies below it.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let removed = self.names(directory)?.remove(name);
        removed.map(|_| ()).ok_or(error(io::ErrorKind::NotFound))
    }

    /// Has a file's bytes, or a directory's names, survive.
    pub fn sync(&mut self, inode: Inode) {
        match &mut self.nodes[inode.0].kind {
            Kind::File { live, synced } => synced.clone_from(live),
            Kind::Directory { live, synced } => synced.clone_from(live),
            Kind::Database(_) => {}
        }
    }

    /// The bytes of a file.
    pub fn bytes(&mut self, inode: Inode) -> io::Result<&mut Vec<u8>> {
        match &mut self.nodes[inode.0].kind {
            Kind::File { live, .. } => Ok(live),
            _ => Err(error(io::ErrorKind::IsADirectory)),
        }
    }

    /// The database at a path.
    pub fn database(&mut self, inode: Inode) -> Option<&mut Database> {
        match &mut self.nodes[inode.0].kind {
            Kind::Database(database) => Some(database),
            _ => None,
        }
    }

    /// Copies what is at a path.
    pub fn save(&self, path: &Path) -> io::Result<Saved> {
        Ok(Saved {
            root: self.find(path)?,
            nodes: self.nodes.clone(),
        })
    }

    /// Puts a copy in the place of what is at a path, synced: somebody restored a backup.
    pub fn restore(&mut self, path: &Path, saved: &Saved) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let root = self.adopt(saved, saved.root);
        self.names(directory)?.insert(name.to_owned(), root);
        self.sync(directory);
        Ok(())
    }

    fn adopt(&mut self, saved: &Saved, inode: Inode) -> Inode {
        let mut node = saved.nodes[inode.0].clone();
        match &mut node.kind {
            Kind::File { live, synced } => synced.clone_from(live),
            Kind::Directory { live, synced } => {
                for inode in live.values_mut() {
                    *inode = self.adopt(saved, *inode);
                }
                synced.clone_from(live);
            }
            Kind::Database(database) => database.close(),
        }
        self.nodes.push(node);
        Inode(self.nodes.len() - 1)
    }

    /// What was not synced survives or not: each name, each file for itself.
    pub(crate) fn lose_power(&mut self, chance: &mut fastrand::Rng) {
        for node in &mut self.nodes {
            match &mut node.kind {
                Kind::File { live, synced } => {
                    if live != synced {
                        *live = survivor(live, synced, chance);
                        synced.clone_from(live);
                    }
                }
                Kind::Directory { live, synced } => {
                    let names: BTreeSet<_> = live.keys().chain(synced.keys()).cloned().collect();
                    for name in names {
                        if live.get(&name) == synced.get(&name) {
                            continue;
                        }
                        if chance.bool() {
                            match synced.get(&name) {
                                Some(inode) => live.insert(name, *inode),
                                None => live.remove(&name),
                            };
                        }
                    }
                    synced.clone_from(live);
                }
                Kind::Database(database) => database.lose_power(chance),
            }
        }
    }

    pub(crate) fn end_processes(&mut self) {
        for node in &mut self.nodes {
            if let Kind::Database(database) = &mut node.kind {
                database.close();
            }
        }
    }
}

/// What a file holds whose newest bytes were not synced: the old ones, the new, or a torn lot of the new, with zeros where the
/// length was written and the bytes were not.
fn survivor(live: &[u8], synced: &[u8], chance: &mut fastrand::Rng) -> Vec<u8> {
    match chance.u8(..4) {
        0 => live.to_vec(),
        1 => synced.to_vec(),
        torn => {
            let kept = chance.usize(..=live.len());
            let mut bytes = live[..kept].to_vec();
            if torn == 2 {
                bytes.resize(live.len(), 0);
            }
            bytes
        }
    }
}
