//! The engine of a transparency log: it sequences events into a tree, makes them durable, signs heads, proves, and
//! recovers.
//!
//! It knows neither gRPC nor HTTP, and of RocksDB only that `counterfoil-store` hides it. The module `commit` is the
//! protocol; read it first.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchor;
mod clock;
mod commit;
mod create;
mod directory;
mod error;
mod event;
mod export;
mod fsck;
mod intake;
mod keys;
mod open;
mod publish;
mod queue;
mod read;
mod search;
mod shared;
mod static_files;
mod submit;
mod witnessing;

use std::{
    borrow::Borrow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use counterfoil_event::{Event, IndexKey, Salt, Submitter};
use counterfoil_files::sync_directory;
use counterfoil_merkle::{Digest, LeafIndex, Suite, TilePath, TreeSize};
use counterfoil_note::{LogSigner, NoteSignature, Origin, SignedHead, UnixMillis, VerifierKey};
use counterfoil_store::{Disk, Store, StoreError, StoreOptions};
use tokio::sync::{Semaphore, oneshot, watch};

use anchor::Anchors;
use clock::LogClock;
pub use counterfoil_store::StoredPayload;
pub use create::{CreateError, create_log};
pub use directory::{DataDirectory, InvalidLogName, LogDirectory, LogName};
pub use error::{ReadError, SubmitError};
pub use event::PreparedEvent;
pub use export::{ExportError, ExportProgress, ExportReport, export};
pub use fsck::{Finding, FsckDepth, FsckError, FsckProgress, FsckReport, MAX_FINDINGS, fsck};
use intake::Gate;
pub use intake::Intake;
pub use keys::KeyFileError;
pub use open::OpenError;
use publish::Publisher;
use queue::{Capacity, Queue};
pub use read::{LeafName, ProvenLeaf, StoredEntry};
use read::{TileCache, read_entry};
pub use search::{Found, RebuildReport, rebuild_search_index};
use shared::{Commit, Shared};
pub use submit::{MAX_CALL_EVENTS, Outcome, Submitted};
pub use witnessing::{Candidate, PublishError, RememberedHead, WithoutQuorum, Witnessing};

const MIB: usize = 1024 * 1024;

/// What an operator may choose about one log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Memory for the database and cached tiles together, in bytes.
    pub memory_bytes: usize,
    /// Files of the database that may be open at a time.
    pub open_files: usize,
    /// Events that may wait for the commit path.
    pub queue_events: usize,
    /// Bytes of events that may wait for the commit path.
    pub queue_bytes: usize,
    /// How often a head is published if the tree grew.
    pub publish_interval: Duration,
    /// How often a head is signed anew if it did not.
    pub resign_interval: Duration,
    /// Submissions are refused when the disk has less free than this and a batch, in bytes: the database needs room to tidy up.
    pub min_free_bytes: u64,
    /// A directory elsewhere, best on another disk, for the newest head that was signed to be published.
    pub anchor: Option<PathBuf>,
    /// Witnesses whose cosignatures published heads wait for; without, heads are published as they are signed.
    pub witnessing: Option<Witnessing>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 320 * MIB,
            open_files: StoreOptions::default().open_files,
            queue_events: 65_536,
            queue_bytes: 64 * MIB,
            publish_interval: Duration::from_secs(1),
            resign_interval: Duration::from_secs(60),
            min_free_bytes: 256 * MIB as u64,
            anchor: None,
            witnessing: None,
        }
    }
}

/// A signed tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// The log's name in every checkpoint.
    pub origin: Origin,
    /// Leaves.
    pub size: TreeSize,
    /// The root of the tree of that size.
    pub root: Digest,
    /// The log's clock when its newest leaf was placed, or when it was signed anew. Never less than in a smaller tree's.
    pub time: UnixMillis,
    /// The signed note: the artefact itself.
    pub note: Vec<u8>,
}

/// An open log. Dropping it stops it.
pub struct Log {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<()>,
    publisher: JoinHandle<()>,
}

/// What verifies the heads of a log that is not open, the key to hand out first.
///
/// # Errors
/// [`OpenError::Keys`].
pub fn verifier_keys(data: &DataDirectory, name: &LogName) -> Result<Vec<VerifierKey>, OpenError> {
    Ok(keys_of(&signer(&data.log(name))?))
}

fn signer(directory: &LogDirectory) -> Result<LogSigner, OpenError> {
    keys::read_key_file(&directory.keys()).map_err(|problem| OpenError::Keys {
        path: directory.keys(),
        problem,
    })
}

fn keys_of(signer: &LogSigner) -> Vec<VerifierKey> {
    let keys = signer.keys().iter();
    keys.map(|key| key.verifier_key().clone()).collect()
}

impl Log {
    /// Opens a log, recovering it first, and starts its commit path. Blocks for less than a second.
    ///
    /// # Errors
    /// If another process has the log open, if its data is damaged, or if it is not what was signed before: see
    /// [`OpenError`]. Nothing was shown then, and nothing signed unless storing the first head is what failed.
    pub fn open(data: &DataDirectory, name: &LogName, options: LogOptions) -> Result<Self, OpenError> {
        let directory = data.log(name);
        let keys = signer(&directory)?;
        // It may have been moved to its place a moment ago: what is promised from now on must not go with its name.
        sync_directory(&data.logs_path())?;
        // A quarter of the memory for tiles, which serve proofs; the rest for the database.
        let tiles = TileCache::new(options.memory_bytes / 4);
        let store = Store::open(
            &directory.database(),
            &StoreOptions {
                memory_bytes: options.memory_bytes / 4 * 3,
                open_files: options.open_files,
            },
        )?;

        // First: with the keys of another log nothing else could fit.
        open::check_genesis(&store, &keys)?;
        let recovered = open::recover(&store, keys.suite())?;
        let anchors = Anchors::new(&directory, options.anchor.as_deref(), name);
        let signed = open::check_all_signed(&store, &keys, &recovered.frontier, &anchors, &options)?;
        let shown = match &options.witnessing {
            None => None,
            Some(witnessing) => publish::shown_at_start(&store, &keys, &recovered.frontier, witnessing)?,
        };

        // From here on this process is the only one that signs for the log.
        let (size, root) = (recovered.frontier.size(), recovered.frontier.root());
        let times = signed.iter().filter_map(SignedHead::time);
        let clock = LogClock::new(size, recovered.last_time_unix_ns, times);
        let time = clock
            .time_to_sign_anew(size)
            .expect("no batch has begun before the log is open");
        let head = Arc::new(shared::sign(&keys, size, root, time));
        let commit = Commit {
            head,
            frontier: recovered.frontier.clone(),
        };
        let (publisher, requests) = mpsc::channel();
        let shared = Arc::new(Shared {
            name: name.clone(),
            suite: keys.suite(),
            keys,
            store,
            tiles,
            disk_reads: Arc::new(Semaphore::new(shared::DISK_READS)),
            comparisons: Semaphore::new(shared::COMPARISONS),
            long_records: Arc::new(Semaphore::new(shared::LONG_RECORDS)),
            clock,
            queue: Queue::new(Capacity {
                events: options.queue_events,
                bytes: options.queue_bytes,
            }),
            options,
            commits: watch::Sender::new(Arc::new(commit)),
            published: watch::Sender::new(shown),
            intake: Gate::new(),
            candidates: watch::Sender::new(None),
            publisher,
        });
        let publisher = Publisher::start(shared.clone(), anchors)?;
        // Who comes first knows too.
        commit::look_for_room(&shared);
        Ok(Self {
            threads: Mutex::new(Some(start_threads(&shared, recovered, publisher, requests)?)),
            shared,
        })
    }

    /// What the server calls it.
    pub fn name(&self) -> &LogName {
        &self.shared.name
    }

    /// Its hash suite.
    pub fn suite(&self) -> Suite {
        self.shared.suite
    }

    /// What verifies its heads, the key to hand out first.
    pub fn verifier_keys(&self) -> Vec<VerifierKey> {
        keys_of(&self.shared.keys)
    }

    /// Prepares an event for [`submit`](Self::submit): hashing, and compression if it is long, some
    /// microseconds for each KiB.
    ///
    /// # Panics
    /// If the system has no random bytes to give.
    pub fn prepare(&self, event: Event, submitter: &Submitter) -> PreparedEvent {
        self.shared.prepare(event, submitter)
    }

    /// Prepares events of one call, in order.
    ///
    /// # Panics
    /// If the system has no random bytes to give.
    pub fn prepare_all<S: Borrow<Submitter>>(
        &self,
        events: impl ExactSizeIterator<Item = (Event, S)>,
    ) -> Vec<PreparedEvent> {
        // To ask the system once for all of them costs less than to ask for each.
        let mut salts = vec![[0; 32]; events.len()];
        getrandom::fill(salts.as_flattened_mut()).expect("a running system has random bytes");
        events
            .zip(salts)
            .map(|((event, submitter), salt)| {
                PreparedEvent::new(self.shared.suite, event, Salt::from(salt), submitter.borrow())
            })
            .collect()
    }

    /// The head of everything on record, published or not.
    pub fn commit_head(&self) -> Arc<TreeHead> {
        self.shared.commit().head.clone()
    }

    /// The newest published head. `None` while a log that waits for cosignatures has none that may be shown.
    pub fn published_head(&self) -> Option<Arc<TreeHead>> {
        self.shared.published.borrow().clone()
    }

    /// Whether the log takes events.
    pub fn takes_events(&self) -> bool {
        self.intake() == Intake::Open
    }

    /// Whether the log takes events, and if not, why. A full disk is noticed within a second, and so is room, whether anybody
    /// submits or not; after a write that found none, once the log is recovered too.
    pub fn intake(&self) -> Intake {
        self.shared.intake.state()
    }

    /// As [`intake`](Self::intake), and what follows.
    pub fn watch_intake(&self) -> watch::Receiver<Intake> {
        self.shared.intake.watch()
    }

    /// The newest [published head](Self::published_head) and those that follow.
    pub fn watch_published(&self) -> watch::Receiver<Option<Arc<TreeHead>>> {
        self.shared.published.subscribe()
    }

    /// The newest head that waits for cosignatures, and those that follow. `None` in a log without witnesses.
    pub fn candidates(&self) -> watch::Receiver<Option<Candidate>> {
        self.shared.candidates.subscribe()
    }

    /// Publishes a candidate with cosignatures that were collected for it; does nothing if a larger head is published already.
    ///
    /// # Errors
    /// Any [`PublishError`]: nothing was shown then.
    pub async fn publish(
        &self,
        candidate: Candidate,
        cosignatures: Vec<NoteSignature>,
    ) -> Result<(), PublishError> {
        let (reply, published) = oneshot::channel();
        let request = publish::Request::Publish {
            candidate,
            cosignatures,
            reply,
        };
        // A publisher that is gone drops the request, and with it the reply.
        let _ = self.shared.publisher.send(request);
        // A crash while this waits: the publisher says at each write what it means.
        published.await.unwrap_or(Err(PublishError::Stopping))
    }

    /// Brings out the newest head before its time, if the tree grew: a witness has seen a larger tree than the candidate's.
    /// Ten times a second at most.
    pub fn hasten(&self) {
        // A publisher that is gone brings out nothing more.
        let _ = self.shared.publisher.send(publish::Request::Hasten);
    }

    /// The index of a leaf.
    pub async fn find(&self, leaf: LeafName) -> Result<LeafIndex, ReadError> {
        let commit = self.shared.commit();
        let index = match leaf {
            LeafName::Index(index) => Some(index),
            LeafName::Hash(hash) => {
                self.shared
                    .look_up(move |shared, disk| Ok(shared.store.index_of_leaf(&hash, disk)?))
                    .await?
            }
            LeafName::Event(key) => {
                self.shared
                    .look_up(move |shared, disk| Ok(shared.store.index_of_event(&key, disk)?))
                    .await?
            }
        };
        // A row of a batch that is written but not yet signed finds nothing: it is not in any tree.
        index
            .filter(|index| commit.head.size.contains(*index))
            .ok_or(ReadError::NotFound)
    }

    /// What the search index has under `key`, from `first` on: at most `limit` entries.
    pub async fn find_entries(
        &self,
        key: IndexKey,
        first: LeafIndex,
        limit: usize,
    ) -> Result<Found, ReadError> {
        let size = self.commit_head().size;
        self.shared
            .blocking(move |shared| Ok(search::find(&shared.store, &key, first, size, limit)?))
            .await
    }

    /// The hash of a leaf, and proof that it is in the tree of `size`.
    pub async fn inclusion_proof(
        &self,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), ReadError> {
        self.shared
            .with_nodes(self.shared.commit(), move |nodes| {
                let proof = nodes.inclusion_proof(index, size)?;
                Ok((nodes.leaf_hash(index)?, proof))
            })
            .await
    }

    /// Proof that the tree of `first` is a prefix of the tree of `second`.
    pub async fn consistency_proof(
        &self,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, ReadError> {
        self.shared
            .with_nodes(self.shared.commit(), move |nodes| {
                nodes.consistency_proof(first, second)
            })
            .await
    }

    /// One entry.
    pub async fn entry(&self, index: LeafIndex, with_payload: bool) -> Result<StoredEntry, ReadError> {
        if !self.commit_head().size.contains(index) {
            return Err(ReadError::NotFound);
        }
        self.shared
            .blocking(move |shared| read_entry(&shared.store, index, with_payload))
            .await
    }

    /// Entries from `first` on, in order of index: at most `max_entries`, at most about `max_bytes`, but at least one.
    /// Empty past the end of the log.
    pub async fn entries(
        &self,
        first: LeafIndex,
        max_entries: usize,
        max_bytes: usize,
        with_payload: bool,
    ) -> Result<Vec<StoredEntry>, ReadError> {
        let end = self.commit_head().size;
        self.shared
            .blocking(move |shared| {
                read::read_range(&shared.store, first, end, max_entries, max_bytes, with_payload)
            })
            .await
    }

    /// What lies at a path: the first hashes of a tile, 32 bytes each, or the first entries of a bundle, each after its length
    /// in two bytes, big-endian. [`ReadError::NotFound`] if the log has not so much of it yet.
    pub async fn tile_or_bundle(&self, path: TilePath) -> Result<Vec<u8>, ReadError> {
        let commit = self.shared.commit();
        if !path.exists_at(commit.head.size) {
            return Err(ReadError::NotFound);
        }
        match path {
            TilePath::Tile { tile, width } => {
                self.shared
                    .with_nodes(commit, move |nodes| nodes.tile_bytes(tile, width))
                    .await
            }
            TilePath::Entries { bundle, width } => {
                self.shared
                    .blocking(move |shared| read::read_bundle(&shared.store, bundle, width))
                    .await
            }
        }
    }

    /// A leaf with its proof at a head that covers it: the newest published one, or the newest commit's if that is not yet
    /// large enough.
    pub async fn proven_leaf(&self, index: LeafIndex) -> Result<(Arc<TreeHead>, ProvenLeaf), ReadError> {
        // In this order: the commit is then at least as new as the published head, and has all its nodes.
        let published = self.published_head();
        let commit = self.shared.commit();
        let head = published
            .filter(|published| published.size.contains(index))
            .unwrap_or_else(|| commit.head.clone());
        if !head.size.contains(index) {
            return Err(ReadError::NotFound);
        }
        let size = head.size;
        let read = move |shared: &Shared, disk, has_turn| -> Result<_, ReadError> {
            let (entry, salt) = read::read_entry_and_salt(&shared.store, index, disk, has_turn)?;
            let inclusion_proof = shared.nodes(&commit, disk).inclusion_proof(index, size)?;
            Ok((entry, salt, inclusion_proof))
        };
        let in_passing = read.clone();
        let found = self
            .shared
            .look_up(move |shared, disk| in_passing(shared, disk, false))
            .await;
        let (entry, salt, inclusion_proof) = match found {
            Err(ReadError::Store(StoreError::NotInMemory)) => {
                let turn = self.shared.long_records.clone().acquire_owned().await;
                let turn = turn.expect("it is never closed");
                self.shared
                    .blocking(move |shared| {
                        let found = read(shared, Disk::Allowed, true);
                        // The read has it to its end, though its caller went away.
                        drop(turn);
                        found
                    })
                    .await
            }
            found => found,
        }?;
        Ok((
            head,
            ProvenLeaf {
                index,
                entry,
                salt,
                inclusion_proof,
            },
        ))
    }

    /// Lets nothing more in, commits what waits, publishes the last head and closes. Blocks until done; calls after the first
    /// do nothing.
    pub fn stop(&self) {
        let Some(threads) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        self.shared.queue.close(SubmitError::Stopping);
        let committed = threads.committer.join();
        // One that has ended needs no telling.
        let _ = self.shared.publisher.send(publish::Request::Stop);
        let published = threads.publisher.join();
        if let Err(problem) = self.shared.store.flush() {
            // The next start replays RocksDB's log instead.
            tracing::warn!(log = %self.shared.name, %problem, "can't flush the database");
        }
        committed
            .and(published)
            .expect("the threads of a log do not panic");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_threads(
    shared: &Arc<Shared>,
    recovered: open::Recovered,
    publisher: Publisher,
    requests: mpsc::Receiver<publish::Request>,
) -> Result<Threads, OpenError> {
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(format!("{name} {}", shared.name))
            .spawn(work)
            .map_err(OpenError::Thread)
    };
    let for_committer = shared.clone();
    let committer = spawn("commit", Box::new(move || commit::run(&for_committer, recovered)))?;
    let publisher = spawn("publish", Box::new(move || publisher.run(&requests)))?;
    Ok(Threads { committer, publisher })
}
