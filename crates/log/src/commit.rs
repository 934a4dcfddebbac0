//! The commit path: from the queue into the tree, onto the disk, under a signature, back to the callers.
//!
//! Two threads. The *sequencer* gives each event its place and time and builds the next batch; the *writer* puts the
//! batch on disk, signs the head and answers. While the writer waits for the disk, the queue gathers the next batch, or
//! the one after where batches are so large that the sequencer prepares one meanwhile: they form by themselves, without a
//! timer.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    num::NonZeroU64,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use counterfoil_event::{Event, EventKey, Salt};
use counterfoil_merkle::{Frontier, FullTile, LeafIndex, Suite, TileId};
use counterfoil_store::{Batch, StoreError, TreeState};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::{
    Intake, SubmitError, clock,
    event::PreparedEvent,
    open::{OpenError, Recovered, check_signed, recover},
    queue::{Capacity, Group, Held},
    read::FilledTile,
    shared::{Commit, Shared, sign},
};

/// One batch is at most this large, however much waits. A single call may be larger, up to the limits of a call.
const MAX_BATCH: Capacity = Capacity {
    events: 8_192,
    bytes: 32 * 1024 * 1024,
};

/// A batch of so few events is soon made ready: what comes while the disk is busy goes along with them.
const SOON_READY_EVENTS: usize = 256;

/// How often a full disk is looked at again.
const SPACE_POLL: Duration = Duration::from_millis(500);

/// Where the events of a group are, all of them durable and under the head of `commit`.
pub(crate) struct Placed {
    pub(crate) commit: Arc<Commit>,
    /// The tiles that their batch filled, by id.
    pub(crate) filled: Arc<[FilledTile]>,
    pub(crate) events: Vec<PlacedEvent>,
}

pub(crate) enum PlacedEvent {
    New(NewLeaf),
    Known(KnownEvent),
}

pub(crate) struct NewLeaf {
    pub(crate) index: LeafIndex,
    pub(crate) entry: Vec<u8>,
    pub(crate) salt: Salt,
}

/// Its source and id were on record already. Whether the bytes are the same is for the caller to find out.
pub(crate) struct KnownEvent {
    pub(crate) index: LeafIndex,
    pub(crate) event: Box<Event>,
    /// Until it is found out, the event is in memory.
    _held: Held,
}

/// What the sequencer hands to the writer.
struct PreparedBatch<'s> {
    /// `None` if every event was known: nothing to write, but the answer has to wait for what went before.
    writes: Option<Batch<'s>>,
    frontier: Frontier,
    time_unix_ns: NonZeroU64,
    /// Tiles that its leaves filled, by id, and what is kept of each.
    filled: Vec<FilledTile>,
    full_tiles: Vec<(TileId, FullTile)>,
    answers: Vec<Answer>,
}

/// A caller, and where its events are.
type Answer = (oneshot::Sender<Result<Placed, SubmitError>>, Vec<PlacedEvent>);

/// Runs the commit path until the queue is closed. The thread that calls it becomes the sequencer.
pub(crate) fn run(shared: &Shared, mut recovered: Recovered) {
    let _nobody_waits = RefuseOnDrop(shared);
    loop {
        match run_until_failure(shared, recovered) {
            Ok(()) => return,
            Err(StoreError::OutOfSpace(problem)) => {
                note_room(shared, false);
                shared.intake.begin_mending();
                warn!(log = %shared.name, problem, "a write found no room: recovering when there is some");
            }
            Err(problem) => return give_up(shared, &problem),
        }
        // The batch that failed is in the database or it is not; from here on only what recovery finds counts. Nothing
        // of that batch was signed, so either outcome is consistent with every head.
        match recover_when_there_is_room(shared) {
            Ok(Some(again)) => recovered = again,
            Ok(None) => return,
            Err(problem) => return give_up(shared, &problem),
        }
        if recovered.frontier.size() > shared.commit().head.size {
            let time = NonZeroU64::new(recovered.last_time_unix_ns).unwrap_or(NonZeroU64::MIN);
            show_commit(shared, recovered.frontier.clone(), time);
        }
        shared.intake.end_mending();
        info!(log = %shared.name, size = %recovered.frontier.size(), "writing again");
    }
}

/// Reads go on; whatever wants to be written is refused until the log is opened anew.
fn give_up(shared: &Shared, problem: &dyn Error) {
    error!(log = %shared.name, %problem, "the log can't write any more; reads go on. Mend the cause, then restart");
}

/// However the commit path ends, and be it by a panic: nobody is left waiting for an answer.
struct RefuseOnDrop<'s>(&'s Shared);

impl Drop for RefuseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.intake.close();
        let error = self.0.queue.close(SubmitError::WriteFailed);
        while let Some(groups) = self.0.queue.take(MAX_BATCH) {
            refuse_all(groups, &error);
        }
    }
}

/// `None` if the log was told to stop meanwhile.
fn recover_when_there_is_room(shared: &Shared) -> Result<Option<Recovered>, OpenError> {
    while !can_write(shared)? {
        let Some(groups) = shared.queue.take_now() else {
            return Ok(None);
        };
        refuse_all(groups, &SubmitError::OutOfSpace);
        thread::sleep(SPACE_POLL);
    }
    let recovered = recover(&shared.store, shared.suite)?;
    // As at every start: what was signed must still be there.
    let newest = shared.commit().head.clone();
    check_signed(
        &shared.store,
        &shared.keys,
        &recovered.frontier,
        &newest.note,
        "the newest commit",
    )?;
    Ok(Some(recovered))
}

/// Whether there is room, and the database has noticed. What recovery reads is then on disk, as it must be before it is
/// signed.
fn can_write(shared: &Shared) -> Result<bool, StoreError> {
    if !look_for_room(shared) {
        return Ok(false);
    }
    // The database mends itself once no flush is asked for; an empty batch only tells whether it has. A flush asked for
    // again and again would keep it from that for ever (facebook/rocksdb#15132).
    match shared.store.batch().write().and_then(|()| shared.store.flush()) {
        Ok(()) => Ok(true),
        Err(StoreError::OutOfSpace(_)) => Ok(false),
        Err(problem) => Err(problem),
    }
}

fn refuse_all(groups: Vec<Group>, error: &SubmitError) {
    for group in groups {
        group.refuse(error.clone());
    }
}

/// Whether the disk has room for a batch beside what is to stay free. The log's state follows what is found.
pub(crate) fn look_for_room(shared: &Shared) -> bool {
    // Once full, more is needed: at the edge it would be the one and the other each second.
    let batches = if shared.intake.state() == Intake::Full {
        2
    } else {
        1
    };
    let needed = shared
        .options
        .min_free_bytes
        .saturating_add(batches * MAX_BATCH.bytes as u64);
    // Unknown is not full: the write itself will tell.
    let has_room = !free_bytes(shared.store.path()).is_ok_and(|free| free < needed);
    note_room(shared, has_room);
    has_room
}

/// Says so once when the disk gets full, and once when there is room again.
fn note_room(shared: &Shared, has_room: bool) {
    if !shared.intake.see_room(has_room) {
        return;
    }
    if has_room {
        info!(log = %shared.name, "there is room again");
    } else {
        warn!(log = %shared.name, "the disk is full: submissions are refused until there is room");
    }
}

fn free_bytes(path: &Path) -> rustix::io::Result<u64> {
    let file_system = rustix::fs::statvfs(path)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

fn run_until_failure(shared: &Shared, recovered: Recovered) -> Result<(), StoreError> {
    thread::scope(|scope| {
        // No slack: while one batch is on its way to the disk, one more may be ready, and it stays open no longer.
        let (batches, next_batches) = mpsc::sync_channel(0);
        let (free, writer_is_free) = mpsc::channel();
        let writer = scope.spawn(move || write_batches(shared, free, next_batches));
        let sequenced = Sequencer::new(shared, recovered).run(batches, writer_is_free);
        let written = writer.join().expect("the writer does not panic");
        match (sequenced, written) {
            (Ok(None), written) => written,
            (Ok(Some(unsent)), Err(problem)) => {
                refuse_answers(unsent.answers, &told(&problem));
                Err(problem)
            }
            (Ok(Some(_)), Ok(())) => unreachable!("the writer stops early only when it fails"),
            // The writer's failure came first, and says more of the cause than what the sequencer met because of it.
            (Err(problem), Ok(())) | (Err(_), Err(problem)) => Err(problem),
        }
    })
}

struct Sequencer<'s> {
    shared: &'s Shared,
    suite: Suite,
    frontier: Frontier,
    /// Events placed but perhaps not yet to be found in the database, oldest first.
    in_flight: HashMap<EventKey, LeafIndex>,
    in_flight_order: VecDeque<(LeafIndex, EventKey)>,
}

impl<'s> Sequencer<'s> {
    fn new(shared: &'s Shared, recovered: Recovered) -> Self {
        shared.clock.end_batch(recovered.frontier.size());
        Self {
            shared,
            suite: shared.suite,
            frontier: recovered.frontier,
            in_flight: HashMap::new(),
            in_flight_order: VecDeque::new(),
        }
    }

    /// Returns the batch that a failing writer did not take, if one was ready.
    fn run(
        mut self,
        batches: mpsc::SyncSender<PreparedBatch<'s>>,
        writer_is_free: mpsc::Receiver<()>,
    ) -> Result<Option<PreparedBatch<'s>>, StoreError> {
        let (mut last_events, mut is_free) = (0, false);
        loop {
            // Small batches are taken when they can be written, with all that came until then. A large one takes time to make
            // ready, and the disk would wait for it.
            if last_events < SOON_READY_EVENTS && !is_free {
                if writer_is_free.recv().is_err() {
                    // It failed. What waits stays in the queue, for whoever sees to that.
                    return Ok(None);
                }
                is_free = true;
            }
            let Some(groups) = self.shared.queue.take(MAX_BATCH) else {
                return Ok(None);
            };
            if groups.is_empty() {
                // Interrupted: a write failed. If the database can't write any more, that is to be known before somebody comes who
                // wants to; if it was the writer's, the empty batch that follows finds nobody to take it.
                self.shared.store.batch().write()?;
            } else if !look_for_room(self.shared) {
                refuse_all(groups, &SubmitError::OutOfSpace);
                continue;
            }
            self.forget_what_is_durable();
            let known = match self.known_events(&groups) {
                Ok(known) => known,
                Err(problem) => {
                    // None of them has a place yet: whoever sends them again asks again.
                    error!(log = %self.shared.name, %problem, "can't tell which events are on record");
                    refuse_all(groups, &SubmitError::ReadFailed);
                    continue;
                }
            };
            last_events = known.len();
            let batch = self.prepare(groups, known);
            if !is_free {
                // From one that failed there is no word, and it takes no batch.
                let _ = writer_is_free.recv();
            }
            is_free = false;
            if let Err(mpsc::SendError(unsent)) = batches.send(batch) {
                return Ok(Some(unsent));
            }
        }
    }

    /// `known` says of each event whether it is in the database.
    fn prepare(&mut self, groups: Vec<Group>, known: Vec<Option<LeafIndex>>) -> PreparedBatch<'s> {
        let mut known = known.into_iter();
        let time_unix_ns = self.shared.clock.begin_batch();
        let mut writes = self.shared.store.batch();
        let mut filled = Vec::new();
        let size_before = self.frontier.size();

        let mut answers = Vec::with_capacity(groups.len());
        for group in groups {
            let mut placed = Vec::with_capacity(group.events.len());
            for event in group.events {
                let stored = known.next().expect("one answer for each event");
                placed.push(match stored.or_else(|| self.in_flight.get(&event.key).copied()) {
                    Some(index) => PlacedEvent::Known(KnownEvent {
                        index,
                        _held: self.shared.queue.hold(event.size_bytes()),
                        event: Box::new(event.event),
                    }),
                    None => PlacedEvent::New(self.append(event, time_unix_ns, &mut writes, &mut filled)),
                });
            }
            answers.push((group.reply, placed));
        }

        self.shared.clock.end_batch(self.frontier.size());
        filled.sort_unstable_by_key(|(id, _)| *id);
        let full = |tile| FullTile::of(tile).expect("it was told as full");
        let full_tiles: Vec<_> = filled.iter().map(|(id, tile)| (*id, full(tile))).collect();
        let writes = (self.frontier.size() > size_before).then(|| {
            for (id, tile) in &full_tiles {
                writes.put_tile(*id, tile.bytes());
            }
            writes.put_tree_state(&TreeState {
                size: self.frontier.size(),
                last_time_unix_ns: time_unix_ns.get(),
                compact_range: self.frontier.compact_range(),
            });
            writes
        });
        PreparedBatch {
            writes,
            frontier: self.frontier.clone(),
            time_unix_ns,
            filled,
            full_tiles,
            answers,
        }
    }

    fn append(
        &mut self,
        event: PreparedEvent,
        time_unix_ns: NonZeroU64,
        writes: &mut Batch<'s>,
        filled: &mut Vec<FilledTile>,
    ) -> NewLeaf {
        let index = LeafIndex::new(self.frontier.size().get()).expect("a log can't grow to 2^63 entries");
        let entry = event.entry.stamp(time_unix_ns);
        let leaf_hash = self.suite.leaf_hash(&entry);
        self.frontier
            .append(leaf_hash, &mut |id, tile| filled.push((id, tile)));
        writes.put_leaf(index, &entry, event.record, &leaf_hash, &event.key);
        writes.put_index_rows(index, &event.index_keys);
        self.in_flight_order.push_back((index, event.key));
        self.in_flight.insert(event.key, index);
        NewLeaf {
            index,
            entry,
            salt: event.salt,
        }
    }

    /// Which events are in the database already. Those of batches in flight are not yet there.
    fn known_events(&self, groups: &[Group]) -> Result<Vec<Option<LeafIndex>>, StoreError> {
        let keys = groups
            .iter()
            .flat_map(|group| group.events.iter().map(|event| &event.key));
        self.shared.store.indices_of_events(keys)
    }

    fn forget_what_is_durable(&mut self) {
        let durable = self.shared.commit().head.size;
        while let Some((_, key)) = self
            .in_flight_order
            .pop_front_if(|(index, _)| durable.contains(*index))
        {
            self.in_flight.remove(&key);
        }
    }
}

/// Writes batches in order until there are no more or one fails; what comes after a failure is answered with it. Says
/// whenever it is `free` for the next.
fn write_batches(
    shared: &Shared,
    free: mpsc::Sender<()>,
    batches: mpsc::Receiver<PreparedBatch<'_>>,
) -> Result<(), StoreError> {
    loop {
        // Nobody listens any more only where there are no more batches.
        let _ = free.send(());
        let Ok(batch) = batches.recv() else {
            return Ok(());
        };
        let PreparedBatch {
            writes,
            frontier,
            time_unix_ns,
            filled,
            full_tiles,
            answers,
        } = batch;
        if let Some(writes) = writes {
            // A crash before this returns: the batch is on disk whole or not at all, and nobody was told of it.
            if let Err(problem) = writes.write() {
                refuse_answers(answers, &told(&problem));
                // The next batch was built on this one. It finds nobody to take it; if there is none, and the sequencer waits for
                // events, it has to be told.
                shared.queue.interrupt();
                return Err(problem);
            }
            // A crash here: the events are in the tree for ever, unanswered. A retry finds them and gets a receipt.
            for (id, tile) in full_tiles {
                shared.tiles.insert(id, tile);
            }
            show_commit(shared, frontier, time_unix_ns);
        }
        // A crash here: as before; the head was signed, and recovery finds a tree that is as large or larger.
        let commit = shared.commit();
        let filled: Arc<[FilledTile]> = filled.into();
        for (reply, events) in answers {
            let _ = reply.send(Ok(Placed {
                commit: commit.clone(),
                filled: filled.clone(),
                events,
            }));
        }
    }
}

/// Signs a tree that is on disk, at the time of its newest leaf, and has everything read from it.
fn show_commit(shared: &Shared, frontier: Frontier, time_unix_ns: NonZeroU64) {
    let (size, root) = (frontier.size(), frontier.root());
    let head = Arc::new(sign(&shared.keys, size, root, clock::millis(time_unix_ns)));
    shared.commits.send_replace(Arc::new(Commit { head, frontier }));
}

/// What a caller is told of a failed write.
fn told(problem: &StoreError) -> SubmitError {
    match problem {
        StoreError::OutOfSpace(_) => SubmitError::OutOfSpace,
        _ => SubmitError::WriteFailed,
    }
}

fn refuse_answers(answers: Vec<Answer>, error: &SubmitError) {
    for (reply, _) in answers {
        let _ = reply.send(Err(error.clone()));
    }
}
