//! What is kept of a log between rounds and across restarts: the cursor, the heads it rests on, and open findings.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use counterfoil_files::{FileError, Readers, replace};
use counterfoil_merkle::{CompactRange, Digest, Suite, TreeSize};
use counterfoil_note::{Origin, Policy, SignedHead};
use serde::{Deserialize, Serialize};

use crate::{
    FindingKind,
    heads::Now,
    ledger::{Ledger, SavedLedger},
};

/// The layout of the file. Another is refused.
const VERSION: u32 = 1;

/// How far entries are verified. It does not say where they came from: any source continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The tree of the entries that are verified; the anchor's tree begins with it.
    pub(crate) range: CompactRange,
    /// The time of the last entry that could be read, 0 before there is one.
    pub(crate) last_time_unix_ns: u64,
}

impl Cursor {
    pub(crate) fn size(&self) -> TreeSize {
        self.range.size()
    }
}

/// The state of one log.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) cursor: Cursor,
    /// The largest head that is proved consistent with those before it.
    pub(crate) anchor: Option<SignedHead>,
    /// When the anchor was first seen, by this machine's clock.
    pub(crate) anchor_seen_unix_ms: u64,
    /// The largest head that each source and observer showed, by label.
    pub(crate) shown: BTreeMap<String, SignedHead>,
    pub(crate) ledger: Ledger,
}

impl State {
    /// Whether a source gives no answers for longer than a head may be old: what it keeps to itself for so long it withholds,
    /// whatever it says that its trouble is.
    pub(crate) fn is_silent(&self, label: &str, now: Now) -> bool {
        self.ledger
            .opened_unix_ms(FindingKind::Unreachable, Some(label))
            .is_some_and(|opened| now.is_old(opened))
    }
}

/// Why saved state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Another monitor runs on the directory.
    #[error("{} is in use by another monitor", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file is damaged, or of another log, key or version.
    #[error(
        "{} can't be used: {problem}; remove it only if you know why: the log is then followed from its beginning",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    origin: String,
    tree_size: u64,
    /// In hex, the largest subtree first.
    compact_range: Vec<String>,
    last_time_unix_ns: u64,
    anchor: Option<String>,
    anchor_seen_unix_ms: u64,
    shown: BTreeMap<String, String>,
    findings: SavedLedger,
}

/// The file of one log.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
    origin: Origin,
}

impl StateFile {
    pub(crate) fn new(directory: &Path, log: &str, origin: Origin) -> Self {
        let path = directory.join(format!("{log}.json"));
        Self { path, origin }
    }

    /// What was saved last, or the state of who has seen nothing.
    pub(crate) fn load(&self, policy: &Policy) -> Result<State, StateError> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State {
                cursor: Cursor {
                    range: CompactRange::new(self.suite(policy)?),
                    last_time_unix_ns: 0,
                },
                anchor: None,
                anchor_seen_unix_ms: 0,
                shown: BTreeMap::new(),
                ledger: Ledger::default(),
            }),
            read => self.decode(&read.map_err(FileError::at("read", &self.path))?, policy),
        }
    }

    fn suite(&self, policy: &Policy) -> Result<Suite, StateError> {
        policy
            .logs()
            .iter()
            .find(|log| *log.key.name() == self.origin)
            .map(|log| log.key.suite())
            .ok_or_else(|| self.unusable("the policy does not list the log"))
    }

    /// Reads what [`encode`](Self::encode) writes.
    pub(crate) fn decode(&self, bytes: &[u8], policy: &Policy) -> Result<State, StateError> {
        let suite = self.suite(policy)?;
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| self.unusable(error))?;
        if saved.version != VERSION {
            return Err(self.unusable(format!(
                "its version is {}, and only {VERSION} is known",
                saved.version
            )));
        }
        if saved.origin != self.origin.as_str() {
            return Err(self.unusable(format!("it is of the log {}", saved.origin)));
        }
        let head = |note: String| {
            policy
                .verify_head(note.as_bytes())
                .map_err(|error| self.unusable(error))
        };
        let anchor = saved.anchor.map(head).transpose()?;
        let shown = saved
            .shown
            .into_iter()
            .map(|(label, note)| Ok((label, head(note)?)));
        let shown = shown.collect::<Result<_, StateError>>()?;
        let hashes = saved.compact_range.iter().map(|hash| hash.parse::<Digest>());
        let hashes = hashes
            .collect::<Result<_, _>>()
            .map_err(|error| self.unusable(error))?;
        let size = TreeSize::new(saved.tree_size).map_err(|error| self.unusable(error))?;
        let range = CompactRange::from_parts(suite, size, hashes).map_err(|error| self.unusable(error))?;
        let state = State {
            cursor: Cursor {
                range,
                last_time_unix_ns: saved.last_time_unix_ns,
            },
            anchor,
            anchor_seen_unix_ms: saved.anchor_seen_unix_ms,
            shown,
            ledger: Ledger::from_saved(saved.findings),
        };
        self.check(&state)?;
        Ok(state)
    }

    /// The cursor lies under the anchor, and is its tree where both are of one size.
    fn check(&self, state: &State) -> Result<(), StateError> {
        let size = state.cursor.size();
        let anchored = match &state.anchor {
            None => size == TreeSize::ZERO,
            Some(anchor) if anchor.size() == size => anchor.root() == state.cursor.range.root(),
            Some(anchor) => size < anchor.size(),
        };
        if anchored {
            Ok(())
        } else {
            Err(self.unusable("its cursor is not under the head that it holds"))
        }
    }

    /// Replaces the file. After a crash at any point it holds the old state or the new one, whole.
    pub(crate) fn save(&self, state: &State) -> Result<(), StateError> {
        Ok(replace(&self.path, &self.encode(state), Readers::Umask)?)
    }

    /// The content of the file.
    pub(crate) fn encode(&self, state: &State) -> Vec<u8> {
        let note = |head: &SignedHead| String::from_utf8_lossy(head.note_bytes()).into_owned();
        let saved = Saved {
            version: VERSION,
            origin: self.origin.to_string(),
            tree_size: state.cursor.size().get(),
            compact_range: state
                .cursor
                .range
                .hashes()
                .iter()
                .map(Digest::to_string)
                .collect(),
            last_time_unix_ns: state.cursor.last_time_unix_ns,
            anchor: state.anchor.as_ref().map(note),
            anchor_seen_unix_ms: state.anchor_seen_unix_ms,
            shown: state
                .shown
                .iter()
                .map(|(label, head)| (label.clone(), note(head)))
                .collect(),
            findings: state.ledger.to_saved(),
        };
        serde_json::to_vec_pretty(&saved).expect("strings and numbers serialise")
    }

    fn unusable(&self, problem: impl ToString) -> StateError {
        StateError::Unusable {
            path: self.path.clone(),
            problem: problem.to_string(),
        }
    }
}
