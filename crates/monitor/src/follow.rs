//! Following entries: read, hashed into the tree, and held against the signed root a chunk at a time.

use std::time::Instant;

use bytes::Bytes;
use counterfoil_event::{Entry, EntryError};
use counterfoil_merkle::{CompactRange, Digest, LeafIndex, Suite, TreeSize};
use counterfoil_note::SignedHead;
use counterfoil_verify::{EntryProof, Fact as Proof, LeafProof, is_invalid_in_every_version};
use futures_util::StreamExt as _;

use crate::{
    prove::{Unproved, beginning},
    source::{Entries, Source, SourceError, within},
    state::{Cursor, Timed},
};

/// Entries after which what was read is verified and the cursor moves. 64 full bundles.
const CHUNK_ENTRIES: usize = 1 << 14;
/// Bytes of entries after which a chunk ends early.
const CHUNK_BYTES: usize = 8 << 20;

/// Entries from one source under one head, verified chunk by chunk.
pub(crate) struct Follower<'a> {
    signed: Signed<'a>,
    entries: Entries,
    /// How the entries ended before their time. What a stream gives after an error has lost its place.
    ended: Option<SourceError>,
}

/// The tree under a head, as a source proves it.
#[derive(Clone, Copy)]
struct Signed<'a> {
    source: &'a Source,
    head: &'a SignedHead,
}

/// Entries that were read and are not verified yet.
struct Draft {
    suite: Suite,
    start: CompactRange,
    cursor: Cursor,
    leaves: Vec<Digest>,
    entries: Vec<Bytes>,
    bytes: usize,
    problems: Vec<Problem>,
}

/// What is wrong with an entry that is where the log signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is no entry.
    Invalid {
        index: LeafIndex,
        entry: Bytes,
        problem: EntryError,
    },
    /// It may be an entry of another version. That convicts nobody, and must not hide one that is none.
    Unknown { index: LeafIndex, problem: EntryError },
    /// Its time is before that of the last entry before it that could be read.
    Decreasing { before: Timed, entry: Timed },
}

/// Verified progress.
pub(crate) struct Chunk {
    pub(crate) cursor: Cursor,
    pub(crate) problems: Vec<Problem>,
}

/// Why a source can't be followed further.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// It gives no entries, or nothing that proves them.
    Unproved(Unproved),
    /// It gave entries that are not those under the signed head.
    Mismatch {
        /// What is wrong, in words.
        detail: String,
        /// The size of the tree that ends with the entries given.
        end: TreeSize,
        /// The proof of what the leaf is that it gave another entry for.
        proof: Result<Proof, String>,
    },
}

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Self {
        Self::Unproved(error.into())
    }
}

impl<'a> Follower<'a> {
    /// From the cursor to the head, which the source showed and which is proved to continue the cursor's tree.
    pub(crate) async fn new(
        source: &'a Source,
        head: &'a SignedHead,
        cursor: &Cursor,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            signed: Signed { source, head },
            entries: source.entries(cursor.size().get(), head.size()).await?,
            ended: None,
        })
    }

    /// Reads the next chunk, at the longest until about `deadline`, and verifies it. The cursor that it returns is
    /// proved to be of the head's tree.
    pub(crate) async fn chunk(&mut self, cursor: &Cursor, deadline: Instant) -> Result<Chunk, Stopped> {
        if let Some(error) = &self.ended {
            return Err(error.clone().into());
        }
        let mut draft = Draft::new(cursor, self.signed.head.suite());
        let end = self.signed.head.size();
        while draft.cursor.size() < end && !draft.is_full() {
            let batch = self.entries.next().await.unwrap_or_else(|| {
                let problem = format!("the entries end before leaf {}", draft.cursor.size());
                Err(SourceError::Invalid(problem))
            });
            let batch = match batch {
                Ok(batch) => batch,
                // What came before is worth verifying.
                Err(error) if !draft.leaves.is_empty() => {
                    self.ended = Some(error);
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            for entry in batch {
                if draft.cursor.size() >= end {
                    let problem = format!("it gives more than the {end} entries that the head has");
                    return Err(SourceError::Invalid(problem).into());
                }
                draft.add(entry);
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        self.signed.verify(draft).await
    }
}

impl Signed<'_> {
    async fn verify(&self, draft: Draft) -> Result<Chunk, Stopped> {
        if self
            .root_at(draft.cursor.size())
            .await
            .map_err(Stopped::Unproved)?
            == draft.cursor.range.root()
        {
            return Ok(Chunk {
                cursor: draft.cursor,
                problems: draft.problems,
            });
        }
        let end = draft.cursor.size();
        let first_wrong = self.first_wrong(&draft);
        let (detail, proof) = match within(self.source.proof_time(), first_wrong).await {
            Ok((index, proof)) => (
                format!("Leaf {index} is served as another entry than the log signed."),
                Ok(proof),
            ),
            Err(unproved) => {
                let first = draft.start.size();
                let detail = format!(
                    "Among the leaves from {first} to before {end} is another entry than the log signed."
                );
                (
                    detail,
                    Err(format!("which leaf it is can't be proved: {unproved}")),
                )
            }
        };
        Err(Stopped::Mismatch { detail, end, proof })
    }

    /// The root of the first leaves of the head's tree.
    async fn root_at(&self, size: TreeSize) -> Result<Digest, Unproved> {
        if size == self.head.size() {
            return Ok(self.head.root());
        }
        Ok(beginning(self.source, size, self.head).await?.root)
    }

    /// The first leaf that differs from the signed tree, by bisection, with what is really there.
    async fn first_wrong(&self, draft: &Draft) -> Result<(LeafIndex, Proof), Unproved> {
        let start = draft.start.size().get();
        // So many leaves are right, and with so many one is wrong.
        let (mut right, mut wrong) = (0, draft.leaves.len());
        while wrong - right > 1 {
            let middle = right + (wrong - right) / 2;
            let mut range = draft.start.clone();
            draft.leaves[..middle].iter().for_each(|&leaf| range.append(leaf));
            match self.root_at(range.size()).await? == range.root() {
                true => right = middle,
                false => wrong = middle,
            }
        }
        let index = LeafIndex::new(start + right as u64).map_err(|_| Unproved::Wrong(self.head.size()))?;
        let suite = self.head.suite();
        let (leaf_hash, inclusion_proof) = self.source.inclusion(suite, index, self.head.size()).await?;
        let leaf = LeafProof {
            head: self.head.note_bytes().to_vec(),
            leaf_hash,
            inclusion_proof,
        };
        let served = draft.entries[right].to_vec();
        Ok((index, Proof::EntryMismatch { index, served, leaf }))
    }
}

impl Draft {
    fn new(cursor: &Cursor, suite: Suite) -> Self {
        Self {
            suite,
            start: cursor.range.clone(),
            cursor: cursor.clone(),
            leaves: Vec::new(),
            entries: Vec::new(),
            bytes: 0,
            problems: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.leaves.len() >= CHUNK_ENTRIES || self.bytes >= CHUNK_BYTES
    }

    fn add(&mut self, bytes: Bytes) {
        let index = LeafIndex::new(self.cursor.size().get()).expect("below the size of the head");
        let leaf = self.suite.leaf_hash(&bytes);
        self.cursor.range.append(leaf);
        match Entry::decode(&bytes) {
            Ok(entry) => {
                let entry = Timed {
                    index,
                    time_unix_ns: entry.time_unix_ns().get(),
                };
                if let Some(before) = self.cursor.last_read
                    && entry.time_unix_ns < before.time_unix_ns
                {
                    self.report(Problem::Decreasing { before, entry });
                }
                self.cursor.last_read = Some(entry);
            }
            Err(problem) if is_invalid_in_every_version(&bytes, problem) => self.report(Problem::Invalid {
                index,
                entry: bytes.clone(),
                problem,
            }),
            Err(problem) => self.report(Problem::Unknown { index, problem }),
        }
        self.bytes += bytes.len();
        self.leaves.push(leaf);
        self.entries.push(bytes);
    }

    /// One problem of each kind says enough: the finding fires once.
    fn report(&mut self, problem: Problem) {
        let same = |known: &Problem| std::mem::discriminant(known) == std::mem::discriminant(&problem);
        if !self.problems.iter().any(same) {
            self.problems.push(problem);
        }
    }
}

/// The proof of what is wrong with an entry, as a source gives it: under a signed head the leaf is no entry, or bears an earlier time
/// than one before it.
pub(crate) async fn prove(
    source: &Source,
    head: &SignedHead,
    problem: &Problem,
) -> Result<Proof, SourceError> {
    let note = head.note_bytes().to_vec();
    match problem {
        Problem::Invalid { index, entry, .. } => Ok(Proof::InvalidEntry {
            head: note,
            leaf: entry_proof(source, head, *index, entry.clone()).await?,
        }),
        Problem::Decreasing { before, entry } => Ok(Proof::DecreasingTime {
            head: note,
            earlier: fetch_proof(source, head, before.index).await?,
            later: fetch_proof(source, head, entry.index).await?,
        }),
        Problem::Unknown { problem, .. } => Err(SourceError::Invalid(problem.to_string())),
    }
}

async fn fetch_proof(
    source: &Source,
    head: &SignedHead,
    index: LeafIndex,
) -> Result<EntryProof, SourceError> {
    let entry = source.entry(index, head.size()).await?;
    entry_proof(source, head, index, entry).await
}

async fn entry_proof(
    source: &Source,
    head: &SignedHead,
    index: LeafIndex,
    entry: Bytes,
) -> Result<EntryProof, SourceError> {
    let (_, inclusion_proof) = source.inclusion(head.suite(), index, head.size()).await?;
    Ok(EntryProof {
        index,
        entry: entry.to_vec(),
        inclusion_proof,
    })
}
