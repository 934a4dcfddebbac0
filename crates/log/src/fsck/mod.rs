//! Checking a whole log by its files: everything that is derived is derived anew and compared, everything that is committed to
//! is opened.
//!
//! One pass over the entries, in order, rebuilds the tree, compares its tiles, opens the payloads, and adds up what the indexes
//! must hold. Then the indexes are walked, each once.

mod heads;
mod indexes;
mod tiles;

use std::{fmt, fs, io, iter::Peekable, path::PathBuf};

use counterfoil_event::{Annotations, Attributes, CommitmentError, Entry};
use counterfoil_merkle::{Digest, Frontier, LeafIndex, Suite, TreeSize};
use counterfoil_note::VerifierKey;
use counterfoil_store::{Store, StoreError, StoreOptions, StoredPayload, TreeState};

use self::{heads::Heads, indexes::RowSums, tiles::TileRows};
use crate::{
    DataDirectory, KeyFileError, LogName, OpenError, directory::LogDirectory, keys::read_key_file, keys_of,
    open::stated_keys,
};

/// Findings beyond this many are counted, not kept: a log whose every row is wrong must not fill the memory.
pub const MAX_FINDINGS: usize = 1_000;

/// Why a check could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The key file can't be used.
    #[error("the key file {}: {problem}", path.display())]
    Keys {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: KeyFileError,
    },
    /// There is no key file, and entry 0 does not say what verifies the log's heads.
    #[error("there is no key file, and {0}")]
    NoKeys(OpenError),
    /// The database can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database holds no log.
    #[error("the database holds no log")]
    Empty,
}

/// A place where the log is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The column family.
    pub family: &'static str,
    /// The row in it, such as `index 17`.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.family, self.place, self.problem)
    }
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct FsckReport {
    /// The log's origin.
    pub origin: String,
    /// Its suite.
    pub suite: Suite,
    /// What verified its heads.
    pub keys: Vec<VerifierKey>,
    /// Whether these are the key file's. If not they are those that entry 0 names: to be compared with the log's, since whoever made
    /// up the one made up the other.
    pub has_key_file: bool,
    /// The size that its newest batch recorded.
    pub tree_size: TreeSize,
    /// The root of the stored entries.
    pub root_hash: Digest,
    /// Full tiles compared.
    pub tiles: u64,
    /// Published heads verified.
    pub heads: u64,
    /// Payloads opened against their commitments.
    pub payloads: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
    /// All that is wrong, in the order found, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub finding_count: u64,
}

/// How far a check is.
#[derive(Debug, Clone, Copy)]
pub struct FsckProgress {
    /// Entries checked.
    pub checked: u64,
    /// Entries in all.
    pub entries: u64,
}

/// How much of a log is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsckDepth {
    /// Entries, tiles, heads, and the index of leaf hashes: all that proofs are made of.
    Tree,
    /// That, each payload against its commitments, and the indexes made of payloads.
    Payloads,
}

/// Checks one log: every entry, tile, head and leaf hash, and by `depth` every payload commitment and index row. Beside a running server
/// it checks what was there when it began. Without a key file, the keys in entry 0 stand for it: see [`FsckReport::has_key_file`].
///
/// `progress` is called now and then.
pub fn fsck(
    data: &DataDirectory,
    name: &LogName,
    depth: FsckDepth,
    progress: impl FnMut(FsckProgress),
) -> Result<FsckReport, FsckError> {
    let directory = data.log(name);
    let in_file = keys_in_file(&directory)?;
    // Before the database: a server stores a head before it writes it there, so all that this one covers is in what is opened.
    let head_beside = fs::read(directory.newest_head());
    let store = Store::open_read_only(&directory.database(), &StoreOptions::default())?;
    let state = store.tree_state()?.ok_or(FsckError::Empty)?;
    let stated = stated_keys(&store);
    let has_key_file = in_file.is_some();
    // Where entry 0 can't be read, the pass over the entries says so.
    let others_stated = matches!((&in_file, &stated), (Some(in_file), Ok(stated)) if in_file != stated);
    let keys = match in_file {
        Some(keys) => keys,
        None => stated.map_err(FsckError::NoKeys)?,
    };
    let mut check = Check::new(&store, keys, has_key_file, state, depth);
    if others_stated {
        check.find(
            "entries",
            AtIndex(LeafIndex::ZERO),
            "it names other keys than the key file has",
        );
    }
    Ok(check.run(head_beside, progress))
}

/// The keys of the log's key file, if it has one: a backup had better not.
fn keys_in_file(directory: &LogDirectory) -> Result<Option<Vec<VerifierKey>>, FsckError> {
    let path = directory.keys();
    match read_key_file(&path) {
        Ok(signer) => Ok(Some(keys_of(&signer))),
        Err(problem) if problem.is_missing() => Ok(None),
        Err(problem) => Err(FsckError::Keys { path, problem }),
    }
}

/// A row of `entries` or `payloads`.
#[derive(Clone, Copy)]
struct AtIndex(LeafIndex);

impl fmt::Display for AtIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {}", self.0)
    }
}

type PayloadRows<'a> = Box<dyn Iterator<Item = Result<(LeafIndex, StoredPayload), StoreError>> + 'a>;

/// Payloads, read in the order of their entries.
struct Payloads<'a> {
    store: &'a Store,
    rows: Peekable<PayloadRows<'a>>,
}

impl<'a> Payloads<'a> {
    fn new(store: &'a Store) -> Self {
        Self::starting_at(store, LeafIndex::ZERO)
    }

    fn starting_at(store: &'a Store, first: LeafIndex) -> Self {
        let rows: PayloadRows<'a> = Box::new(store.payloads(first));
        Self {
            store,
            rows: rows.peekable(),
        }
    }

    fn of(&mut self, index: LeafIndex) -> Result<StoredPayload, String> {
        let row = self
            .rows
            .next_if(|row| row.as_ref().is_ok_and(|(at, _)| *at == index));
        if let Some(Ok((_, payload))) = row {
            return Ok(payload);
        }
        match self.store.payload(index) {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err("is missing".to_owned()),
            Err(problem) => {
                // A damaged row ends the scan; go on behind it.
                if let Ok(next) = LeafIndex::new(index.get() + 1) {
                    *self = Self::starting_at(self.store, next);
                }
                Err(problem.to_string())
            }
        }
    }
}

struct Check<'a> {
    store: &'a Store,
    suite: Suite,
    depth: FsckDepth,
    state: TreeState,
    frontier: Frontier,
    last_time_unix_ns: u64,
    heads: Heads<'a>,
    tiles: TileRows<'a>,
    /// What the indexes must hold.
    rows: RowSums,
    report: FsckReport,
}

impl<'a> Check<'a> {
    /// There is a key at least.
    fn new(
        store: &'a Store,
        keys: Vec<VerifierKey>,
        has_key_file: bool,
        state: TreeState,
        depth: FsckDepth,
    ) -> Self {
        let suite = keys[0].suite();
        Self {
            store,
            suite,
            depth,
            frontier: Frontier::new(suite),
            last_time_unix_ns: 0,
            heads: Heads::of(store),
            tiles: TileRows::default(),
            rows: RowSums::default(),
            report: FsckReport {
                origin: keys[0].name().to_string(),
                suite,
                keys,
                has_key_file,
                tree_size: state.size,
                root_hash: suite.empty_root(),
                tiles: 0,
                heads: 0,
                payloads: 0,
                payload_bytes: 0,
                findings: Vec::new(),
                finding_count: 0,
            },
            state,
        }
    }

    fn run(mut self, head_beside: io::Result<Vec<u8>>, mut progress: impl FnMut(FsckProgress)) -> FsckReport {
        self.begin_heads(head_beside);
        self.check_heads();
        self.walk_entries(&mut progress);
        self.end_heads();
        self.check_state();
        self.find_stray_tiles();
        self.check_leaf_hashes();
        if self.depth == FsckDepth::Payloads {
            self.check_event_ids();
            self.check_search_index();
        }
        self.report.root_hash = self.frontier.root();
        self.report
    }

    fn find(&mut self, family: &'static str, place: impl fmt::Display, problem: impl fmt::Display) {
        self.report.finding_count += 1;
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(Finding {
                family,
                place: place.to_string(),
                problem: problem.to_string(),
            });
        }
    }

    fn walk_entries(&mut self, progress: &mut impl FnMut(FsckProgress)) {
        let store = self.store;
        let entries = self.state.size.get();
        let mut rows = store.entries(LeafIndex::ZERO);
        let mut payloads = (self.depth == FsckDepth::Payloads).then(|| Payloads::new(store));
        for expected in 0..entries {
            if expected % 4_096 == 0 {
                progress(FsckProgress {
                    checked: expected,
                    entries,
                });
            }
            let (index, entry) = match rows.next() {
                Some(Ok(row)) if row.0.get() == expected => row,
                Some(Err(problem)) => return self.find("entries", format_args!("index {expected}"), problem),
                // Past a hole nothing lines up: every later tile and head would be reported as well.
                _ => {
                    return self.find(
                        "entries",
                        format_args!("index {expected}"),
                        "is missing; what follows was not checked",
                    );
                }
            };
            let payload = payloads.as_mut().map(|payloads| payloads.of(index));
            self.check_entry(index, &entry, payload);
        }
        progress(FsckProgress {
            checked: entries,
            entries,
        });
        if let Some(row) = rows.next() {
            match row {
                Ok((index, _)) => self.find(
                    "entries",
                    format_args!("index {index}"),
                    "is stored past the log's size",
                ),
                Err(problem) => self.find("entries", "scan", problem),
            }
        }
        match payloads.and_then(|mut payloads| payloads.rows.next()) {
            None => {}
            Some(Ok((index, _))) => self.find("payloads", AtIndex(index), "belongs to no entry"),
            Some(Err(problem)) => self.find("payloads", "scan", problem),
        }
    }

    fn check_entry(
        &mut self,
        index: LeafIndex,
        bytes: &[u8],
        payload: Option<Result<StoredPayload, String>>,
    ) {
        let leaf_hash = self.suite.leaf_hash(bytes);
        self.rows.add_leaf_hash(index, &leaf_hash);
        match Entry::decode(bytes) {
            Err(problem) => self.find("entries", AtIndex(index), problem),
            Ok(entry) => {
                let time = entry.time_unix_ns().get();
                if time < self.last_time_unix_ns {
                    let problem = "its time is before that of the entry before it";
                    self.find("entries", AtIndex(index), problem);
                }
                self.last_time_unix_ns = time;
                match payload {
                    None => {}
                    Some(Err(problem)) => self.find("payloads", AtIndex(index), problem),
                    Some(Ok(payload)) => self.check_payload(index, &entry, &payload),
                }
            }
        }
        self.append(leaf_hash);
    }

    fn check_payload(&mut self, index: LeafIndex, entry: &Entry, payload: &StoredPayload) {
        let place = AtIndex(index);
        self.report.payloads += 1;
        self.report.payload_bytes += payload.data.len() as u64;
        if let Err(problem) = entry.commits_to_payload(self.suite, &payload.salt, &payload.data) {
            self.find("payloads", place, problem);
        }
        if let Err(problem) = entry.commits_to_attributes(self.suite, &payload.salt, &payload.attributes) {
            self.find("payloads", place, problem);
        }
        if let Err(problem) = entry.commits_to_annotations(self.suite, &payload.salt, &payload.annotations) {
            self.find("payloads", place, problem);
        }
        match Annotations::decode_canonical(&payload.annotations) {
            Err(problem) => self.find("payloads", place, problem),
            Ok(annotations) => self.rows.add_annotations(index, &annotations),
        }
        match Attributes::decode_canonical(&payload.attributes) {
            Err(problem) => self.find("payloads", place, problem),
            Ok(attributes) => {
                if entry.event_type() != attributes.event_type {
                    self.find("entries", place, CommitmentError::EventType);
                }
                if entry.media_type() != attributes.data_content_type {
                    self.find("entries", place, CommitmentError::MediaType);
                }
                self.rows.add_event_id(index, &attributes);
            }
        }
    }

    /// Adds a leaf, compares the tiles that it fills with the stored ones, and the root with the heads of that size.
    fn append(&mut self, leaf_hash: Digest) {
        let mut full = Vec::new();
        self.frontier
            .append(leaf_hash, &mut |id, tile| full.push((id, tile)));
        for (id, tile) in full {
            self.check_tile(id, &tile);
        }
        self.check_heads();
    }

    fn check_state(&mut self) {
        if self.frontier.size() != self.state.size {
            return;
        }
        if self.frontier.compact_range() != self.state.compact_range {
            self.find(
                "meta",
                "tree",
                "the recorded compact range is not what the entries make",
            );
        }
        if self.last_time_unix_ns != self.state.last_time_unix_ns {
            self.find(
                "meta",
                "tree",
                "the recorded time is not that of the newest entry",
            );
        }
    }
}
