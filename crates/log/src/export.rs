//! A log as static files: the tree of C2SP tlog-tiles, for any web server or bucket.
//!
//! Each entry is hashed anew on its way out and compared with the stored tiles, and the whole with the signed head. The
//! checkpoint is written last, when all that it covers is on disk: whoever reads it finds its tiles.

use std::{
    io,
    path::{Path, PathBuf},
};

use counterfoil_merkle::{Digest, Frontier, LeafIndex, Suite, TileId, TilePath, TileWidth, TreeSize};
use counterfoil_note::{HeadError, Origin, SignedHead, VerifierKey};
use counterfoil_store::{Disk, Store, StoreError, StoreOptions};

use crate::{
    DataDirectory, LogName, OpenError, ReadError,
    open::{recover, right_edge, stated_keys},
    read::{Nodes, TileCache, push_entry, read_tile},
    static_files::StaticFiles,
};

/// The name of the file that holds the signed head.
const CHECKPOINT: &str = "checkpoint";
/// A signed note is far shorter.
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
/// Entries under one tile of level 0, in one bundle.
const BUNDLE: u64 = TileId::FULL_WIDTH as u64;

/// Why a log was not exported. The checkpoint in the directory, if there is one, was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database can't be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored is not a log as it must be.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log has never published a head.
    #[error(
        "the log has published no head yet: start the server once; with witnesses, a quorum has to cosign a head first"
    )]
    NotPublished,
    /// The published head is not the log's.
    #[error("the published head does not verify: {0}. Run `counterfoild fsck`")]
    Head(HeadError),
    /// A file can't be read or written.
    #[error("{}: {problem}", path.display())]
    Io {
        /// The exported log's directory.
        path: PathBuf,
        /// What went wrong.
        problem: io::Error,
    },
    /// Another process exports to the same directory.
    #[error("another process is writing to {}", .0.display())]
    Busy(PathBuf),
    /// The directory has a checkpoint that this log did not sign.
    #[error("{} holds another log: {problem}. Export to another directory", path.display())]
    OtherLog {
        /// The checkpoint.
        path: PathBuf,
        /// Why it is not this log's.
        problem: HeadError,
    },
    /// The directory has more of the log than the data directory.
    #[error(
        "the exported log has {exported} entries, and the published head covers {published}: the data directory is an old copy, \
         or the log was rolled back. Do not go on before you know which"
    )]
    Later {
        /// The size of the exported checkpoint.
        exported: TreeSize,
        /// The size of the published head.
        published: TreeSize,
    },
    /// The directory has another history of the log.
    #[error(
        "at size {size} the exported root is {exported}, and the stored entries make {stored}: the log was rewritten. Keep both \
         as evidence"
    )]
    Forked {
        /// The size of the exported checkpoint.
        size: TreeSize,
        /// Its root.
        exported: Digest,
        /// The root that the log has at that size.
        stored: Digest,
    },
    /// What is stored does not make the tree that was signed.
    #[error("{0}. Nothing that is wrong was published; run `counterfoild fsck`")]
    Mismatch(String),
}

impl From<ReadError> for ExportError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

/// What was exported.
#[derive(Debug, Clone)]
pub struct ExportReport {
    /// The log's origin.
    pub origin: Origin,
    /// Its suite.
    pub suite: Suite,
    /// Entries that the exported checkpoint covers.
    pub size: TreeSize,
    /// Its root.
    pub root: Digest,
    /// Entries that were hashed; those before them were in the directory already.
    pub hashed: u64,
    /// Files written.
    pub written: u64,
    /// Bytes in them.
    pub written_bytes: u64,
    /// Files compared and found to be right.
    pub kept: u64,
    /// Partial files removed, of tiles and bundles that are full now.
    pub removed: u64,
}

/// How far an export is.
#[derive(Debug, Clone, Copy)]
pub struct ExportProgress {
    /// Entries that are in the directory.
    pub exported: u64,
    /// Entries in all.
    pub entries: u64,
}

/// Exports one log at its newest published head to `<to>/<name>/`. A server may be running on the data directory; what it
/// commits meanwhile is not looked at.
///
/// What the exported checkpoint covers is not written again if all its full tiles and bundles are there with a length that
/// is possible; if one is missing, all are compared. `progress` is called now and then.
pub fn export(
    data: &DataDirectory,
    name: &LogName,
    to: &Path,
    progress: impl FnMut(ExportProgress),
) -> Result<ExportReport, ExportError> {
    let scratch = tempfile::tempdir().map_err(|problem| ExportError::Io {
        path: std::env::temp_dir(),
        problem,
    })?;
    let database = data.log(name).database();
    let store = Store::open_beside(&database, scratch.path(), &StoreOptions::default())?;
    let key = stated_keys(&store)?.swap_remove(0);
    let suite = key.suite();
    let (_, note) = store.published_head()?.ok_or(ExportError::NotPublished)?;
    let head = key.verify_head(&note).map_err(ExportError::Head)?;

    let path = to.join(name.as_str());
    let files = StaticFiles::open(path.clone()).map_err(|problem| match problem.kind() {
        io::ErrorKind::WouldBlock => ExportError::Busy(path.clone()),
        _ => failed(&path, problem),
    })?;
    let previous = previous_head(&files, &path, &key)?;
    check_history(&store, suite, &head, previous.as_ref())?;
    let mut export = Export {
        store: &store,
        suite,
        path,
        files,
    };
    let hashed = export.run(&head, previous.as_ref(), progress)?;
    let files = export.files;
    Ok(ExportReport {
        origin: key.name().clone(),
        suite,
        size: head.size(),
        root: head.root(),
        hashed,
        written: files.written,
        written_bytes: files.written_bytes,
        kept: files.kept,
        removed: files.removed,
    })
}

fn failed(path: &Path, problem: io::Error) -> ExportError {
    ExportError::Io {
        path: path.to_owned(),
        problem,
    }
}

/// The checkpoint that the directory has. Everything that it covers was there before it.
fn previous_head(
    files: &StaticFiles,
    path: &Path,
    key: &VerifierKey,
) -> Result<Option<SignedHead>, ExportError> {
    let note = files.read(CHECKPOINT, MAX_CHECKPOINT_BYTES);
    let note = note.map_err(|problem| failed(&path.join(CHECKPOINT), problem))?;
    note.map(|note| key.verify_head(&note))
        .transpose()
        .map_err(|problem| ExportError::OtherLog {
            path: path.join(CHECKPOINT),
            problem,
        })
}

/// Checks, before a file is touched, that the stored tree has the published head and has grown from the exported one.
fn check_history(
    store: &Store,
    suite: Suite,
    head: &SignedHead,
    previous: Option<&SignedHead>,
) -> Result<(), ExportError> {
    let frontier = recover(store, suite)?.frontier;
    let tiles = TileCache::new(0);
    let nodes = Nodes {
        suite,
        frontier: &frontier,
        tiles: &tiles,
        store,
        disk: Disk::Allowed,
    };
    if nodes.root_at(head.size())? != head.root() {
        return Err(mismatch(format_args!(
            "the stored tree does not have the root of the head published for size {}",
            head.size()
        )));
    }
    let Some(previous) = previous else {
        return Ok(());
    };
    if previous.size() > head.size() {
        return Err(ExportError::Later {
            exported: previous.size(),
            published: head.size(),
        });
    }
    let stored = nodes.root_at(previous.size())?;
    if stored != previous.root() {
        return Err(ExportError::Forked {
            size: previous.size(),
            exported: previous.root(),
            stored,
        });
    }
    Ok(())
}

fn mismatch(problem: impl ToString) -> ExportError {
    ExportError::Mismatch(problem.to_string())
}

struct Export<'a> {
    store: &'a Store,
    suite: Suite,
    path: PathBuf,
    files: StaticFiles,
}

impl Export<'_> {
    /// Brings the files up to `head`. Returns how many entries were hashed.
    fn run(
        &mut self,
        head: &SignedHead,
        previous: Option<&SignedHead>,
        progress: impl FnMut(ExportProgress),
    ) -> Result<u64, ExportError> {
        let first = self.first_to_do(previous)?;
        let mut frontier =
            Frontier::from_tiles(self.suite, first, right_edge(self.store, self.suite, first)?)
                .expect("the edge is that of the size");
        let partial_bundle = self.write_full(&mut frontier, head.size(), progress)?;
        if frontier.root() != head.root() {
            return Err(mismatch(format_args!(
                "the stored entries do not make the root of the head published for size {}",
                head.size()
            )));
        }
        for path in TilePath::partials_at(head.size()) {
            match path {
                TilePath::Entries { .. } => self.put(path, &partial_bundle)?,
                TilePath::Tile { tile, .. } => {
                    let (_, partial) = frontier
                        .tiles()
                        .find(|(edge, _)| *edge == tile)
                        .expect("a partial tile is on the edge");
                    self.put(path, &partial.hashes_bytes())?;
                }
            }
        }
        let path = self.path.clone();
        let failed = |problem| failed(&path, problem);
        // A crash before here: the old checkpoint stands, and what it covers is as it was. Some of what is new is there.
        self.files.sync().map_err(failed)?;
        // From here on: the new one, and all that it covers is on disk.
        self.files.put(CHECKPOINT, head.note_bytes()).map_err(failed)?;
        self.files.sync().map_err(failed)?;
        // A crash before here leaves partial files of full tiles. They are right, and nobody minds them.
        for path in previous
            .into_iter()
            .flat_map(|head| TilePath::partials_at(head.size()))
        {
            let full = widened(path);
            if full.exists_at(head.size()) {
                self.files.remove_partials(full).map_err(failed)?;
            }
        }
        Ok(head.size().get() - first.get())
    }

    /// The size up to which full bundles need no look: those of the exported checkpoint, if all its full files are there.
    fn first_to_do(&self, previous: Option<&SignedHead>) -> Result<TreeSize, ExportError> {
        let covered = previous.map_or(0, |head| head.size().get() / BUNDLE * BUNDLE);
        let covered = TreeSize::new(covered).expect("it is below a size");
        let width = TileWidth::FULL;
        for (edge, _) in TileId::right_edge(covered) {
            for index in 0..edge.index {
                let tile = TileId { index, ..edge };
                let is_there = self.files.has(TilePath::Tile { tile, width })
                    && (tile.level > 0 || self.files.has(TilePath::Entries { bundle: index, width }));
                if !is_there {
                    return Ok(TreeSize::ZERO);
                }
            }
        }
        Ok(covered)
    }

    /// Writes the full tiles and bundles from the frontier's size to `end`; leaves the frontier there. Returns the entries
    /// that fill no bundle, as a bundle.
    fn write_full(
        &mut self,
        frontier: &mut Frontier,
        end: TreeSize,
        mut progress: impl FnMut(ExportProgress),
    ) -> Result<Vec<u8>, ExportError> {
        let mut bundle = Vec::new();
        let store = self.store;
        let first = LeafIndex::new(frontier.size().get()).expect("an end is a size");
        let mut rows = store.entries(first);
        for expected in first.get()..end.get() {
            let (index, entry) = match rows.next() {
                Some(row) => row?,
                None => return Err(mismatch(format_args!("entry {expected} is missing"))),
            };
            if index.get() != expected {
                return Err(mismatch(format_args!("entry {expected} is missing")));
            }
            push_entry(&mut bundle, index, &entry)?;
            let mut full = Vec::new();
            frontier.append(self.suite.leaf_hash(&entry), &mut |id, tile| {
                full.push((id, tile))
            });
            for (tile, hashes) in full {
                let bytes = hashes.hashes_bytes();
                // The stored tile was made when the entries came.
                if bytes != read_tile(store, tile, Disk::Allowed)?.hashes_bytes() {
                    return Err(mismatch(format_args!(
                        "tile {} of level {} is not that of the stored entries",
                        tile.index, tile.level
                    )));
                }
                let width = TileWidth::FULL;
                if tile.level == 0 {
                    let bundle = std::mem::take(&mut bundle);
                    let path = TilePath::Entries {
                        bundle: tile.index,
                        width,
                    };
                    self.put(path, &bundle)?;
                    progress(ExportProgress {
                        exported: expected + 1,
                        entries: end.get(),
                    });
                }
                self.put(TilePath::Tile { tile, width }, &bytes)?;
            }
        }
        Ok(bundle)
    }

    fn put(&mut self, path: TilePath, bytes: &[u8]) -> Result<(), ExportError> {
        let path = path.to_string();
        self.files
            .put(&path, bytes)
            .map_err(|problem| failed(&self.path.join(path), problem))
    }
}

/// The full tile or bundle of which a path names a part.
fn widened(path: TilePath) -> TilePath {
    let full = TileWidth::FULL;
    match path {
        TilePath::Tile { tile, .. } => TilePath::Tile { tile, width: full },
        TilePath::Entries { bundle, .. } => TilePath::Entries { bundle, width: full },
    }
}
