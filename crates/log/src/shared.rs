//! What the threads of one log share.

use std::{
    future, panic,
    sync::{Arc, mpsc},
};

use counterfoil_event::{Event, Salt, Submitter};
use counterfoil_merkle::{Digest, Frontier, Suite, TreeSize};
use counterfoil_note::{LogSigner, UnixMillis};
use counterfoil_store::{Disk, Store, StoreError};
use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinError},
};

use crate::{
    Candidate, LogName, LogOptions, PreparedEvent, ReadError, TreeHead,
    clock::LogClock,
    intake::Gate,
    publish,
    queue::Queue,
    read::{Nodes, TileCache},
};

/// Reads of a log that are on a thread that may wait for the disk, or next in line for one. Whoever takes a read back does
/// not end it: without a limit, reads that nobody waits for would stand in line before those of others.
pub(crate) const DISK_READS: usize = 64;

/// Calls whose events are compared with those on record at a time: others have most of the reads to themselves.
pub(crate) const COMPARISONS: usize = 8;

/// Receipts of entries with long payloads that are made at a time. Each may take as much memory as two of the longest payloads.
pub(crate) const LONG_RECORDS: usize = 4;

/// The log as it stood after one batch: on disk, and signed.
pub(crate) struct Commit {
    pub(crate) head: Arc<TreeHead>,
    pub(crate) frontier: Frontier,
}

pub(crate) struct Shared {
    pub(crate) name: LogName,
    pub(crate) suite: Suite,
    pub(crate) keys: LogSigner,
    pub(crate) options: LogOptions,
    pub(crate) store: Store,
    pub(crate) tiles: TileCache,
    /// A permit for each read of [`DISK_READS`], until it ends.
    pub(crate) disk_reads: Arc<Semaphore>,
    /// A permit for each call of [`COMPARISONS`].
    pub(crate) comparisons: Semaphore,
    /// A permit for each receipt of [`LONG_RECORDS`], until all that it takes is read.
    pub(crate) long_records: Arc<Semaphore>,
    pub(crate) queue: Queue,
    pub(crate) clock: LogClock,
    /// The newest commit. Everything that reads starts from one.
    pub(crate) commits: watch::Sender<Arc<Commit>>,
    /// The newest published head. `None` until there is one that may be shown.
    pub(crate) published: watch::Sender<Option<Arc<TreeHead>>>,
    /// Whether it takes events.
    pub(crate) intake: Gate,
    /// The newest head that waits for cosignatures. `None` for ever in a log without witnesses.
    pub(crate) candidates: watch::Sender<Option<Candidate>>,
    /// Leads to the publisher.
    pub(crate) publisher: mpsc::Sender<publish::Request>,
}

impl Shared {
    pub(crate) fn commit(&self) -> Arc<Commit> {
        self.commits.borrow().clone()
    }

    /// The nodes of the tree at `commit`.
    pub(crate) fn nodes<'a>(&'a self, commit: &'a Commit, disk: Disk) -> Nodes<'a> {
        Nodes {
            suite: self.suite,
            frontier: &commit.frontier,
            tiles: &self.tiles,
            store: &self.store,
            disk,
        }
    }

    /// See [`Log::prepare`](crate::Log::prepare).
    pub(crate) fn prepare(&self, event: Event, submitter: &Submitter) -> PreparedEvent {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).expect("a running system has random bytes");
        PreparedEvent::new(self.suite, event, Salt::from(salt), submitter)
    }

    /// Reads on a thread that may wait for the disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turn = self.disk_reads.clone().acquire_owned().await;
        let turn = turn.expect("it is never closed");
        let shared = self.clone();
        let ended = task::spawn_blocking(move || {
            let result = read(&shared);
            drop(turn);
            result
        });
        outcome(ended.await).await
    }

    /// Looks up single rows: at once if they are in memory, else on a thread that may wait for the disk, which costs more than
    /// the lookup.
    pub(crate) async fn look_up<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl Fn(&Self, Disk) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        match look(self, Disk::Forbidden) {
            Err(ReadError::Store(StoreError::NotInMemory)) => {
                self.blocking(move |shared| look(shared, Disk::Allowed)).await
            }
            result => result,
        }
    }

    /// Reads the tree at `commit`, as [`look_up`](Self::look_up) does.
    pub(crate) async fn with_nodes<T: Send + 'static>(
        self: &Arc<Self>,
        commit: Arc<Commit>,
        read: impl Fn(&Nodes<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.look_up(move |shared, disk| read(&shared.nodes(&commit, disk)))
            .await
    }
}

/// What a task came to, or its panic.
pub(crate) async fn outcome<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(outcome) => outcome,
        Err(ended) if ended.is_panic() => panic::resume_unwind(ended.into_panic()),
        // The runtime is on its way out, and whoever waits with it.
        Err(_) => future::pending().await,
    }
}

/// Signs a head. The time is one that the [`LogClock`] gave for a tree of that size.
pub(crate) fn sign(keys: &LogSigner, size: TreeSize, root: Digest, time: UnixMillis) -> TreeHead {
    let note = keys.sign_head(size, root, time);
    TreeHead {
        origin: keys.origin().clone(),
        size,
        root,
        time,
        note,
    }
}
