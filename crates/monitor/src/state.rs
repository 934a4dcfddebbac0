//! What is kept of a log between rounds and across restarts: the cursor, the heads it rests on, and open findings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use counterfoil_event::Entry;
use counterfoil_files::{FileError, Readers, replace};
use counterfoil_merkle::{CompactRange, Digest, LeafIndex, Suite, TreeSize};
use counterfoil_note::{Origin, Policy, SignedHead};
use serde::{Deserialize, Serialize};

use crate::{
    FindingKind,
    heads::Now,
    ledger::{Ledger, SavedLedger},
};

/// The layout of the file. Another is refused.
const VERSION: u32 = 1;
/// What this monitor can read. Entries that one which read other forms could not read are read again.
const READER: &str = Entry::KNOWN_FORMS;

/// How far entries are verified. It does not say where they came from: any source continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The tree of the entries that are verified; the anchor's tree begins with it.
    pub(crate) range: CompactRange,
    /// The last entry that could be read; none before there is one. It may stand before leaves that could not.
    pub(crate) last_read: Option<Timed>,
}

/// An entry by its place, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) index: LeafIndex,
    pub(crate) time_unix_ns: u64,
}

impl Cursor {
    pub(crate) fn size(&self) -> TreeSize {
        self.range.size()
    }
}

/// Entries of which one is of a form that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// The tree before them.
    pub(crate) from: Cursor,
    /// Which entry, and what is unknown in it.
    pub(crate) problem: String,
}

/// Entries that a source served otherwise than the log signed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The tree before them.
    pub(crate) from: Cursor,
    /// The size of the tree that ends with them.
    pub(crate) end: TreeSize,
}

/// A witness that shows a smaller tree than the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Behind {
    size: u64,
    /// Since when, by this machine's clock.
    since_unix_ms: u64,
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
    /// Whose head in `shown` is proved to be of the anchor's history.
    pub(crate) linked: BTreeSet<String>,
    /// Heads of which it is not proved whether they are of the anchor's history, each with the label of who showed it,
    /// the oldest first. One of them may be half of a fork.
    pub(crate) unlinked: Vec<(String, SignedHead)>,
    /// The first entries that only another version may be able to read.
    pub(crate) unread: Option<Unread>,
    /// The wrong entries of each source that served some, by label. It is read from no further before they are right.
    pub(crate) mismatched: BTreeMap<String, Mismatch>,
    /// The witnesses that are behind, by label.
    pub(crate) behind: BTreeMap<String, Behind>,
    pub(crate) ledger: Ledger,
}

impl State {
    /// The state of who has seen nothing.
    fn new(suite: Suite, ledger: Ledger) -> Self {
        Self {
            cursor: Cursor {
                range: CompactRange::new(suite),
                last_read: None,
            },
            anchor: None,
            anchor_seen_unix_ms: 0,
            shown: BTreeMap::new(),
            linked: BTreeSet::new(),
            unlinked: Vec::new(),
            unread: None,
            mismatched: BTreeMap::new(),
            behind: BTreeMap::new(),
            ledger,
        }
    }

    /// Takes times of this machine's clock that are yet to come for now: it was ahead and was set back, and what it is to wait for would
    /// be late by as much.
    pub(crate) fn not_after(&mut self, now_unix_ms: u64) {
        self.anchor_seen_unix_ms = self.anchor_seen_unix_ms.min(now_unix_ms);
        for behind in self.behind.values_mut() {
            behind.since_unix_ms = behind.since_unix_ms.min(now_unix_ms);
        }
        self.ledger.not_after(now_unix_ms);
    }

    /// Notes that a witness shows this head. Returns since when it has shown none larger while there was one, by this machine's clock;
    /// none if there is none.
    pub(crate) fn note_behind(&mut self, label: &str, head: &SignedHead, now: Now) -> Option<u64> {
        if self
            .anchor
            .as_ref()
            .is_none_or(|anchor| anchor.size() <= head.size())
        {
            self.behind.remove(label);
            return None;
        }
        let size = head.size().get();
        let known = self.behind.get(label).filter(|known| size <= known.size);
        let behind = known.copied().unwrap_or(Behind {
            size,
            since_unix_ms: now.unix_ms,
        });
        self.behind.insert(label.to_owned(), behind);
        Some(behind.since_unix_ms)
    }

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
    /// 0 before there is an entry that could be read.
    last_time_unix_ns: u64,
    #[serde(default)]
    last_time_index: Option<u64>,
    anchor: Option<String>,
    anchor_seen_unix_ms: u64,
    shown: BTreeMap<String, String>,
    #[serde(default)]
    linked: BTreeSet<String>,
    #[serde(default)]
    unlinked: Vec<(String, String)>,
    #[serde(default)]
    unread: Option<SavedUnread>,
    #[serde(default)]
    mismatched: BTreeMap<String, SavedMismatch>,
    #[serde(default)]
    behind: BTreeMap<String, Behind>,
    findings: SavedLedger,
}

#[derive(Serialize, Deserialize)]
struct SavedCursor {
    tree_size: u64,
    /// In hex, the largest subtree first.
    compact_range: Vec<String>,
    /// 0 before there is an entry that could be read.
    last_time_unix_ns: u64,
    #[serde(default)]
    last_time_index: Option<u64>,
}

impl From<&Cursor> for SavedCursor {
    fn from(cursor: &Cursor) -> Self {
        Self {
            tree_size: cursor.size().get(),
            compact_range: cursor.range.hashes().iter().map(Digest::to_string).collect(),
            last_time_unix_ns: cursor.last_read.map_or(0, |read| read.time_unix_ns),
            last_time_index: cursor.last_read.map(|read| read.index.get()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SavedUnread {
    /// What the monitor could read that could not read them.
    reader: String,
    from: SavedCursor,
    problem: String,
}

#[derive(Serialize, Deserialize)]
struct SavedMismatch {
    from: SavedCursor,
    end: u64,
}

impl From<&Mismatch> for SavedMismatch {
    fn from(mismatch: &Mismatch) -> Self {
        Self {
            from: SavedCursor::from(&mismatch.from),
            end: mismatch.end.get(),
        }
    }
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

    /// What was saved last, or the state of who has seen nothing. That is saved at once, for what names its findings has to
    /// be on disk before there is one.
    pub(crate) fn load(&self, policy: &Policy) -> Result<State, StateError> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = State::new(self.suite(policy)?, Ledger::new());
                self.save(&state)?;
                Ok(state)
            }
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
        let shown: BTreeMap<String, SignedHead> = shown.collect::<Result<_, StateError>>()?;
        let mut linked = saved.linked;
        linked.retain(|label| shown.contains_key(label));
        let unlinked = saved
            .unlinked
            .into_iter()
            .map(|(label, note)| Ok((label, head(note)?)));
        let unlinked = unlinked.collect::<Result<_, StateError>>()?;
        let mismatched = saved
            .mismatched
            .into_iter()
            .map(|(label, mismatch)| Ok((label, self.mismatch(suite, mismatch)?)));
        let mismatched = mismatched.collect::<Result<_, StateError>>()?;
        let mut cursor = self.cursor(
            suite,
            SavedCursor {
                tree_size: saved.tree_size,
                compact_range: saved.compact_range,
                last_time_unix_ns: saved.last_time_unix_ns,
                last_time_index: saved.last_time_index,
            },
        )?;
        let mut unread = None;
        if let Some(saved) = saved.unread {
            let (from, problem) = (self.cursor(suite, saved.from)?, saved.problem);
            match saved.reader == READER {
                true => unread = Some(Unread { from, problem }),
                // What was unknown to another may be known to this one, which goes on from there.
                false => cursor = from,
            }
        }
        let state = State {
            cursor,
            anchor,
            anchor_seen_unix_ms: saved.anchor_seen_unix_ms,
            shown,
            linked,
            unlinked,
            unread,
            mismatched,
            behind: saved.behind,
            ledger: Ledger::from_saved(saved.findings),
        };
        self.check(&state)?;
        Ok(state)
    }

    fn cursor(&self, suite: Suite, saved: SavedCursor) -> Result<Cursor, StateError> {
        let hashes = saved.compact_range.iter().map(|hash| hash.parse::<Digest>());
        let hashes = hashes
            .collect::<Result<_, _>>()
            .map_err(|error| self.unusable(error))?;
        let size = TreeSize::new(saved.tree_size).map_err(|error| self.unusable(error))?;
        let index = saved.last_time_index.map(LeafIndex::new).transpose();
        // An older version kept the time alone.
        let index = index.map_err(|error| self.unusable(error))?.or(size.last());
        let last_read = index.map(|index| Timed {
            index,
            time_unix_ns: saved.last_time_unix_ns,
        });
        Ok(Cursor {
            range: CompactRange::from_parts(suite, size, hashes).map_err(|error| self.unusable(error))?,
            last_read: last_read.filter(|read| read.time_unix_ns != 0),
        })
    }

    fn mismatch(&self, suite: Suite, saved: SavedMismatch) -> Result<Mismatch, StateError> {
        Ok(Mismatch {
            from: self.cursor(suite, saved.from)?,
            end: TreeSize::new(saved.end).map_err(|error| self.unusable(error))?,
        })
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
        let SavedCursor {
            tree_size,
            compact_range,
            last_time_unix_ns,
            last_time_index,
        } = SavedCursor::from(&state.cursor);
        let saved = Saved {
            version: VERSION,
            origin: self.origin.to_string(),
            tree_size,
            compact_range,
            last_time_unix_ns,
            last_time_index,
            anchor: state.anchor.as_ref().map(note),
            anchor_seen_unix_ms: state.anchor_seen_unix_ms,
            shown: state
                .shown
                .iter()
                .map(|(label, head)| (label.clone(), note(head)))
                .collect(),
            linked: state.linked.clone(),
            unlinked: state
                .unlinked
                .iter()
                .map(|(label, head)| (label.clone(), note(head)))
                .collect(),
            unread: state.unread.as_ref().map(|unread| SavedUnread {
                reader: READER.to_owned(),
                from: SavedCursor::from(&unread.from),
                problem: unread.problem.clone(),
            }),
            mismatched: state
                .mismatched
                .iter()
                .map(|(label, mismatch)| (label.clone(), SavedMismatch::from(mismatch)))
                .collect(),
            behind: state.behind.clone(),
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The version of a program says nothing of it: sources are built again under the same.
    #[test]
    fn what_could_not_be_read_is_kept_with_what_could_be() {
        let mut state = State::new(Suite::Blake3, Ledger::new());
        state.unread = Some(Unread {
            from: state.cursor.clone(),
            problem: "of a later form".to_owned(),
        });
        let file = StateFile::new(Path::new("."), "main", "log.example/main".parse().unwrap());
        let saved: Value = serde_json::from_slice(&file.encode(&state)).unwrap();
        assert_eq!(saved["unread"]["reader"], Entry::KNOWN_FORMS);
    }
}
