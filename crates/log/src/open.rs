//! Opening a log: the one recovery path, which every start runs through.
//!
//! What the database holds is rebuilt into a tree and compared with everything that was ever said about it: the state that
//! the newest batch left, the newest head that was signed to be published, and the anchors outside of the database. Where
//! they disagree the log stays shut, for a head signed now could contradict one signed before.

use std::{borrow::Cow, path::PathBuf};

use counterfoil_event::{Entry, Genesis};
use counterfoil_files::FileError;
use counterfoil_merkle::{Digest, Frontier, LeafIndex, Suite, Tile, TileId, TreeSize};
use counterfoil_note::{HeadError, LogSigner, SignedHead, SignerKey, VerifierKey};
use counterfoil_store::{Disk, Store, StoreError};
use tracing::warn;

use crate::{
    LogOptions, ReadError, RememberedHead,
    anchor::{AnchorError, Anchors},
    keys::KeyFileError,
    read::{Nodes, TileCache, read_tile},
};

/// Why a log stays shut. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key file can't be used.
    #[error("the key file {}: {problem}", path.display())]
    Keys {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: KeyFileError,
    },
    /// The database can't be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The anchor can't be used.
    #[error("the anchor {}: {problem}", path.display())]
    Anchor {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: AnchorError,
    },
    /// The log's name can't be made durable.
    #[error(transparent)]
    File(#[from] FileError),
    /// A thread of the log could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// The database holds no log.
    #[error(
        "the database holds no log. Make one with `counterfoild init`, or restore the directory from a backup"
    )]
    Empty,
    /// Entry 0 does not describe this log.
    #[error("entry 0 does not describe this log: {0}. The keys and the database are not of the same log")]
    Genesis(String),
    /// Something that the tree needs is missing or malformed.
    #[error("{0}. Run `counterfoild fsck`, and restore the directory from a backup")]
    DataLoss(String),
    /// The stored leaves do not make the tree that the newest batch recorded.
    #[error(
        "the stored leaves do not make the tree of size {size} that the newest batch recorded: data was changed or lost. \
         Run `counterfoild fsck`, and restore the directory from a backup"
    )]
    StateMismatch {
        /// The recorded size.
        size: TreeSize,
    },
    /// There are entries past the recorded size.
    #[error(
        "an entry {index} is stored past the log's size. Run `counterfoild fsck`, and restore the directory from a backup"
    )]
    StrayEntry {
        /// Its index.
        index: LeafIndex,
    },
    /// A head was signed for a larger tree than the one recovered.
    #[error(
        "the log was rolled back: a tree of size {signed} was signed ({witness}), and the database holds {recovered} entries. \
         Starting would sign a second history. Restore the newest copy of the directory; if {lost} lost \
         for good, keep this directory as evidence and begin a new log under a new origin",
        lost = entries_between(*recovered, *signed)
    )]
    RolledBack {
        /// The size that was signed.
        signed: TreeSize,
        /// The size that was recovered.
        recovered: TreeSize,
        /// What remembers it.
        witness: Cow<'static, str>,
    },
    /// A head was signed for another tree of the same size.
    #[error(
        "the log was rewritten: at size {size} the signed root is {signed} ({witness}), and the stored entries make {recovered}. \
         Run `counterfoild fsck` to find the place, and restore the directory from a backup"
    )]
    Rewritten {
        /// The size of the signed head.
        size: TreeSize,
        /// The signed root.
        signed: Digest,
        /// The root that the stored entries make.
        recovered: Digest,
        /// What remembers it.
        witness: Cow<'static, str>,
    },
    /// A stored head is not one of ours.
    #[error("a signed head ({witness}) does not verify: {problem}. It was damaged, or it is another log's")]
    Head {
        /// Where it was found.
        witness: &'static str,
        /// What is wrong.
        problem: HeadError,
    },
}

/// The entries that the larger tree has alone, with their verb.
fn entries_between(recovered: TreeSize, signed: TreeSize) -> String {
    let first = recovered.get();
    match signed.last() {
        Some(last) if last.get() > first => format!("entries {first} to {last} are"),
        _ => format!("entry {first} is"),
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::Store(error),
            other => Self::DataLoss(other.to_string()),
        }
    }
}

/// What the database holds, as a tree to go on from.
pub(crate) struct Recovered {
    pub(crate) frontier: Frontier,
    pub(crate) last_time_unix_ns: u64,
}

/// Rebuilds the tree's right edge from fewer than 256 entries and at most 255 tiles a level: the cost does not grow with
/// the log.
pub(crate) fn recover(store: &Store, suite: Suite) -> Result<Recovered, OpenError> {
    let state = store.tree_state()?.ok_or(OpenError::Empty)?;
    let partials = right_edge(store, suite, state.size)?;
    let frontier = Frontier::from_tiles(suite, state.size, partials)
        .map_err(|problem| OpenError::DataLoss(problem.to_string()))?;
    if frontier.compact_range() != state.compact_range {
        return Err(OpenError::StateMismatch { size: state.size });
    }
    if let Some(stray) = LeafIndex::new(state.size.get())
        .ok()
        .and_then(|next| store.entries(next).next())
    {
        return Err(OpenError::StrayEntry { index: stray?.0 });
    }
    Ok(Recovered {
        frontier,
        last_time_unix_ns: state.last_time_unix_ns,
    })
}

/// The partial tile of each level that the tree had at `size`, level 0 first.
pub(crate) fn right_edge(store: &Store, suite: Suite, size: TreeSize) -> Result<Vec<Tile>, OpenError> {
    TileId::right_edge(size)
        .map(|(tile, width)| right_edge_tile(store, suite, tile, width))
        .collect()
}

/// The first `width` hashes of a tile that is not full yet: leaf hashes, or the roots of the full tiles below.
fn right_edge_tile(store: &Store, suite: Suite, tile: TileId, width: u16) -> Result<Tile, OpenError> {
    let first = tile.index * u64::from(TileId::FULL_WIDTH);
    let mut partial = Tile::new();
    for index in first..first + u64::from(width) {
        let hash = match tile.level.checked_sub(1) {
            None => leaf_hash(store, suite, index)?,
            Some(below) => {
                let full = read_tile(store, TileId { level: below, index }, Disk::Allowed)?;
                // From its hashes, not from the nodes beside them: these are what the tree was made of.
                Tile::from_bytes(suite, full.hashes_bytes())
                    .ok()
                    .and_then(|tile| tile.root())
                    .expect("a stored tile is full")
            }
        };
        partial.push(suite, hash);
    }
    Ok(partial)
}

fn leaf_hash(store: &Store, suite: Suite, index: u64) -> Result<Digest, OpenError> {
    let missing = || OpenError::DataLoss(format!("entry {index} is missing"));
    let entry = store
        .entry(LeafIndex::new(index).map_err(|_| missing())?, Disk::Allowed)?
        .ok_or_else(missing)?;
    Ok(suite.leaf_hash(&entry))
}

/// What entry 0 says of the log, its commitment opened.
fn read_genesis(store: &Store) -> Result<Genesis, OpenError> {
    let wrong = |problem: &dyn ToString| OpenError::Genesis(problem.to_string());
    let bytes = store
        .entry(LeafIndex::ZERO, Disk::Allowed)?
        .ok_or_else(|| wrong(&"it is missing"))?;
    let entry = Entry::decode(&bytes).map_err(|problem| wrong(&problem))?;
    let payload = store
        .payload(LeafIndex::ZERO)?
        .ok_or_else(|| wrong(&"its payload is missing"))?;
    let genesis = Genesis::parse(&payload.data).map_err(|problem| wrong(&problem))?;
    entry
        .commits_to_payload(genesis.suite, &payload.salt, &payload.data)
        .map_err(|problem| wrong(&problem))?;
    Ok(genesis)
}

/// What verifies the log's heads, by its own word in entry 0: a key or more, of one name and suite. No secret key is needed.
pub(crate) fn stated_keys(store: &Store) -> Result<Vec<VerifierKey>, OpenError> {
    let Genesis {
        origin, suite, keys, ..
    } = read_genesis(store)?;
    let wrong = || OpenError::Genesis("it names no key of its origin and suite".to_owned());
    let keys: Vec<VerifierKey> = keys
        .iter()
        .map(|key| key.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| wrong())?;
    let its_own = |key: &VerifierKey| key.name().as_str() == origin && key.suite() == suite;
    if keys.is_empty() || !keys.iter().all(its_own) {
        return Err(wrong());
    }
    Ok(keys)
}

/// Checks that entry 0 names this origin, suite and keys.
pub(crate) fn check_genesis(store: &Store, keys: &LogSigner) -> Result<(), OpenError> {
    let genesis = read_genesis(store)?;
    let vkeys: Vec<String> = keys
        .keys()
        .iter()
        .map(|key| key.verifier_key().to_string())
        .collect();
    if genesis.origin != keys.origin().as_str() || genesis.suite != keys.suite() || genesis.keys != vkeys {
        return Err(OpenError::Genesis(format!(
            "it names the origin {:?}, the suite {} and other keys",
            genesis.origin, genesis.suite
        )));
    }
    Ok(())
}

/// Checks that the recovered tree has grown from every head that is known to be signed, and returns these.
pub(crate) fn check_all_signed(
    store: &Store,
    keys: &LogSigner,
    frontier: &Frontier,
    anchors: &Anchors,
    options: &LogOptions,
) -> Result<Vec<SignedHead>, OpenError> {
    let mut signed = Vec::new();
    if let Some((_, note)) = store.newest_head()? {
        let stored = check_signed(store, keys, frontier, &note, "the newest stored head")?;
        signed.push(stored);
    }
    signed.extend(anchors.check(store, keys, frontier)?);
    if let Some(witnessing) = &options.witnessing {
        signed.extend(check_remembered(store, keys, frontier, &witnessing.remembered)?);
    }
    Ok(signed)
}

/// Checks that the recovered tree has grown from a head signed earlier.
pub(crate) fn check_signed(
    store: &Store,
    keys: &LogSigner,
    frontier: &Frontier,
    note: &[u8],
    witness: &'static str,
) -> Result<SignedHead, OpenError> {
    let head = keys.keys()[0]
        .verifier_key()
        .verify_head(note)
        .map_err(|problem| OpenError::Head { witness, problem })?;
    check_grown_from(store, frontier, &head, witness.into())?;
    Ok(head)
}

/// Compares the recovered tree with what witnesses remember, and returns that. What the log did not sign can't keep it shut:
/// whoever is asked could send that.
fn check_remembered(
    store: &Store,
    keys: &LogSigner,
    frontier: &Frontier,
    remembered: &[RememberedHead],
) -> Result<Vec<SignedHead>, OpenError> {
    let mut heads = Vec::new();
    for RememberedHead { witness, note } in remembered {
        match own_head(keys, note) {
            Ok(head) => {
                let known_as = format!("the witness {witness} has cosigned it");
                check_grown_from(store, frontier, &head, known_as.into())?;
                heads.push(head);
            }
            Err(problem) => {
                warn!(origin = %keys.origin(), witness, %problem, "a witness serves a head that this log did not sign; ignored")
            }
        }
    }
    Ok(heads)
}

/// Verifies that a key of the log signed a head: a witness need not keep all of its signatures.
fn own_head(keys: &LogSigner, note: &[u8]) -> Result<SignedHead, HeadError> {
    let mut keys = keys.keys().iter().map(SignerKey::verifier_key);
    let first = keys.next().expect("a signer has a key").verify_head(note);
    keys.fold(first, |verified, key| match verified {
        Err(HeadError::NotSignedByKey { .. }) => key.verify_head(note),
        verified => verified,
    })
}

fn check_grown_from(
    store: &Store,
    frontier: &Frontier,
    head: &SignedHead,
    witness: Cow<'static, str>,
) -> Result<(), OpenError> {
    if head.size() > frontier.size() {
        return Err(OpenError::RolledBack {
            signed: head.size(),
            recovered: frontier.size(),
            witness,
        });
    }
    let tiles = TileCache::new(0);
    let nodes = Nodes {
        suite: frontier.suite(),
        frontier,
        tiles: &tiles,
        store,
        disk: Disk::Allowed,
    };
    let recovered = nodes.root_at(head.size())?;
    if recovered != head.root() {
        return Err(OpenError::Rewritten {
            size: head.size(),
            signed: head.root(),
            recovered,
            witness,
        });
    }
    Ok(())
}
