//! Submitting, as a request task sees it: hand events over, wait, and turn places into proofs.

use std::sync::Arc;

use counterfoil_event::{Annotations, Attributes, Entry, Event, Submitter, adapter::Adapter, conflict_event};
use counterfoil_merkle::{LeafIndex, Suite};
use counterfoil_store::{Disk, StoredPayload};
use tokio::{sync::oneshot, task};

use crate::{
    Intake, Log, PreparedEvent, ProvenLeaf, ReadError, SubmitError, TreeHead,
    commit::{KnownEvent, NewLeaf, Placed, PlacedEvent},
    queue::{Capacity, Group, Queue},
    read::{FilledTile, prove_new, read_entry},
    shared::{Commit, Shared, outcome},
};

/// The extension in which a delivery has where its provider runs.
const HOST: &str = "host";
/// Events in one call, at most.
pub const MAX_CALL_EVENTS: usize = 4_096;

/// What became of the events of a call, in their order, under one head that covers all of them.
#[derive(Debug)]
pub struct Submitted {
    /// The head of all the proofs.
    pub head: Arc<TreeHead>,
    /// One for each event.
    pub outcomes: Vec<Outcome>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Outcome {
    /// It is on record now.
    Recorded(ProvenLeaf),
    /// It was on record before, byte for byte.
    Duplicate(ProvenLeaf),
    /// Its source and id are on record with other bytes, and so is this attempt now.
    Conflict {
        /// The entry that has its source and id.
        existing: LeafIndex,
    },
}

impl Log {
    /// Whether so many events, and bytes of payload as they came, would find room now, in the queue and on the disk. To make events
    /// ready costs more than all else that is done for one which is then refused: whoever submits asks this first.
    ///
    /// # Errors
    /// What [`submit`](Self::submit) would say: there is no room, or nothing is taken any more.
    pub fn admit(&self, events: usize, bytes: usize) -> Result<(), SubmitError> {
        match self.intake() {
            Intake::Full | Intake::Mending => Err(SubmitError::OutOfSpace),
            // A closed queue knows why.
            Intake::Open | Intake::Closed => self.shared.queue.admit(Capacity { events, bytes }),
        }
    }

    /// Records events side by side, in order. They take their place in the queue at once; when the future is ready, they
    /// are on disk and under a signed head. Dropping the future takes nothing back.
    ///
    /// # Errors
    /// If none of them was recorded, or the log can't tell: see [`SubmitError`].
    ///
    /// # Panics
    /// If there are more than [`MAX_CALL_EVENTS`].
    pub fn submit(
        &self,
        events: Vec<PreparedEvent>,
    ) -> impl Future<Output = Result<Submitted, SubmitError>> + Send + use<> {
        assert!(events.len() <= MAX_CALL_EVENTS, "the caller limits its calls");
        let placed = place(&self.shared, events, Queue::push);
        let shared = self.shared.clone();
        async move { settle(&shared, placed.await?).await }
    }
}

/// Hands events to the commit path. The answer comes when they are durable.
fn place(
    shared: &Shared,
    events: Vec<PreparedEvent>,
    push: fn(&Queue, Group),
) -> impl Future<Output = Result<Placed, SubmitError>> + Send + use<> {
    let (reply, answer) = oneshot::channel();
    push(&shared.queue, Group::new(events, reply));
    // Nobody answers only if the commit path failed in between.
    async { answer.await.unwrap_or(Err(SubmitError::WriteFailed)) }
}

/// Turns places into proofs.
async fn settle(shared: &Arc<Shared>, placed: Placed) -> Result<Submitted, SubmitError> {
    let Placed {
        commit,
        filled,
        events,
    } = placed;
    let kinds: Vec<bool> = events
        .iter()
        .map(|event| matches!(event, PlacedEvent::New(_)))
        .collect();
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            PlacedEvent::New(leaf) => new.push(leaf),
            PlacedEvent::Known(event) => known.push(event),
        }
    }
    let mut new = settle_new(shared, &commit, &filled, new)?.into_iter();
    let known = if known.is_empty() {
        Vec::new()
    } else {
        // In a task of its own: an attempt that is being compared is recorded though its caller goes away.
        let settled = task::spawn(settle_known(shared.clone(), commit.clone(), known));
        outcome(settled.await).await?
    };
    let mut known = known.into_iter();
    let outcomes = kinds
        .into_iter()
        .filter_map(|is_new| if is_new { new.next() } else { known.next() })
        .collect();
    Ok(Submitted {
        head: commit.head.clone(),
        outcomes,
    })
}

/// Gives the leaves of a batch just committed their proofs.
fn settle_new(
    shared: &Shared,
    commit: &Commit,
    filled: &[FilledTile],
    leaves: Vec<NewLeaf>,
) -> Result<Vec<Outcome>, SubmitError> {
    let indices = leaves.iter().map(|leaf| leaf.index);
    let proofs = prove_new(&commit.frontier, filled, indices).map_err(|problem| report(shared, &problem))?;
    Ok(leaves
        .into_iter()
        .zip(proofs)
        .map(|(NewLeaf { index, entry, salt }, inclusion_proof)| {
            Outcome::Recorded(ProvenLeaf {
                index,
                entry,
                salt,
                inclusion_proof,
            })
        })
        .collect())
}

/// Finds out which of the events whose source and id are on record are the same events. Records the attempt for others.
async fn settle_known(
    shared: Arc<Shared>,
    commit: Arc<Commit>,
    known: Vec<KnownEvent>,
) -> Result<Vec<Outcome>, SubmitError> {
    let turn = shared.comparisons.acquire().await;
    let turn = turn.expect("it is never closed");
    let compared = shared
        .blocking(move |shared| {
            known
                .into_iter()
                .map(|known| match same_event(shared, &commit, &known)? {
                    Some(leaf) => Ok(Ok(leaf)),
                    // Made here, where there is time to hash what was sent.
                    None => Ok(Err((known.index, conflict_event(known.index, &known.event)))),
                })
                .collect::<Result<Vec<_>, _>>()
        })
        .await
        .map_err(|problem| report(&shared, &problem))?;
    drop(turn);

    let (mut outcomes, mut conflicts) = (Vec::new(), Vec::new());
    for same in compared {
        outcomes.push(match same {
            Ok(leaf) => Outcome::Duplicate(leaf),
            Err((existing, conflict)) => {
                conflicts.push(shared.prepare(conflict, &Submitter::log()));
                Outcome::Conflict { existing }
            }
        });
    }
    if !conflicts.is_empty() {
        // The same attempt again names the same record, which is then known: nothing is added. It is small, and the attempt has had
        // its room.
        place(&shared, conflicts, Queue::push_beyond_limits).await?;
    }
    Ok(outcomes)
}

/// The leaf, if it records this very event.
fn same_event(shared: &Shared, commit: &Commit, known: &KnownEvent) -> Result<Option<ProvenLeaf>, ReadError> {
    let KnownEvent { index, event, .. } = known;
    let index = *index;
    let stored = read_entry(&shared.store, index, false)?;
    let entry = Entry::decode(&stored.entry)
        .map_err(|problem| ReadError::DataLoss(format!("entry {index}: {problem}")))?;
    // What differs at a glance is not worth reading a large payload for.
    if entry.payload_length() != event.data().len() as u64 {
        return Ok(None);
    }
    let payload = shared.store.payload(index)?;
    let payload =
        payload.ok_or_else(|| ReadError::DataLoss(format!("the payload of entry {index} is missing")))?;
    if !records(shared.suite, &entry, &payload, event) {
        // Before anybody is said to have told two stories: what is stored has to be what was recorded.
        let (suite, salt) = (shared.suite, &payload.salt);
        let is_whole = entry.commits_to_payload(suite, salt, &payload.data).is_ok()
            && entry
                .commits_to_attributes(suite, salt, &payload.attributes)
                .is_ok();
        return match is_whole {
            true => Ok(None),
            false => Err(ReadError::DataLoss(format!(
                "the payload of entry {index} is not what it commits to"
            ))),
        };
    }
    let inclusion_proof = shared
        .nodes(commit, Disk::Allowed)
        .inclusion_proof(index, commit.head.size)?;
    Ok(Some(ProvenLeaf {
        index,
        entry: stored.entry,
        salt: payload.salt,
        inclusion_proof,
    }))
}

/// Whether an entry with this payload is the event's.
///
/// The type, subject and time of a provider's event are what an adapter read: a provider that sends a delivery again after an upgrade
/// of the log has not told two stories. Nor has it where the operator said in between that it runs on another host: that is of the
/// source, and not of the delivery. And it has told its own only where its adapter made the record: anyone who may submit
/// can take the name of a delivery first, and say the same without its signature.
fn records(suite: Suite, entry: &Entry, stored: &StoredPayload, event: &Event) -> bool {
    let Some(adapter) = naming_adapter(event) else {
        return entry.commits_to(suite, &stored.salt, event).is_ok();
    };
    let (Ok(attributes), Ok(annotations)) = (
        Attributes::decode_canonical(&stored.attributes),
        Annotations::decode_canonical(&stored.annotations),
    ) else {
        return false;
    };
    let new = on_host_of(&attributes, event);
    if annotations.adapter == adapter {
        let salt = &stored.salt;
        return entry.commits_to_payload(suite, salt, event.data()).is_ok()
            && entry.commits_to_attributes(suite, salt, &new.encode()).is_ok();
    }
    without_version(&annotations.adapter) == without_version(adapter)
        && stored.data == *event.data()
        && attributes.data_content_type == new.data_content_type
        && attributes.extensions == new.extensions
}

/// The event's attributes with the host that the stored ones have.
fn on_host_of(stored: &Attributes, event: &Event) -> Attributes {
    let mut attributes = event.attributes().clone();
    match stored.extensions.get(HOST) {
        Some(host) => attributes.extensions.insert(HOST.to_owned(), host.clone()),
        None => attributes.extensions.remove(HOST),
    };
    attributes
}

/// The adapter that the event has its type, subject and time from, in any version. `None` if they are its submitter's.
fn naming_adapter(event: &Event) -> Option<&str> {
    let (adapter, _) = event.normal_form()?;
    let mut all = Adapter::ALL.into_iter();
    let known = all.find(|known| without_version(known.name()) == without_version(adapter))?;
    known.names_events().then_some(adapter)
}

fn without_version(adapter: &str) -> &str {
    adapter.split_once('/').map_or(adapter, |(name, _)| name)
}

fn report(shared: &Shared, problem: &ReadError) -> SubmitError {
    tracing::error!(log = %shared.name, %problem, "can't read what a receipt needs");
    match problem {
        ReadError::Store(_) => SubmitError::ReadFailed,
        _ => SubmitError::DataLoss,
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use counterfoil_event::EventParts;
    use tokio::{
        sync::OwnedSemaphorePermit,
        task::JoinSet,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{
        DataDirectory, LogName, LogOptions, create_log,
        shared::{COMPARISONS, DISK_READS, LONG_RECORDS},
    };

    const PATIENCE: Duration = Duration::from_secs(30);

    fn open(path: &Path, queue_bytes: usize) -> Log {
        let (data, name) = (DataDirectory::new(path), LogName::default());
        create_log(&data, &name, &"log.example/test".parse().unwrap(), Suite::Blake3).unwrap();
        let options = LogOptions {
            queue_bytes,
            memory_bytes: 16 << 20,
            min_free_bytes: 0,
            ..LogOptions::default()
        };
        Log::open(&data, &name, options).unwrap()
    }

    fn submit(
        log: &Log,
        id: &str,
        data: Vec<u8>,
    ) -> impl Future<Output = Result<Submitted, SubmitError>> + Send + use<> {
        let event = Event::try_from(EventParts {
            id: id.to_owned(),
            source: "source".to_owned(),
            event_type: "type".to_owned(),
            data: data.into(),
            ..EventParts::default()
        });
        log.submit(vec![log.prepare(event.unwrap(), &Submitter::anonymous())])
    }

    /// Nothing is read from the disk until it is dropped.
    async fn all_reads(log: &Log) -> OwnedSemaphorePermit {
        let all = u32::try_from(DISK_READS).unwrap();
        let reads = log.shared.disk_reads.clone();
        reads.acquire_many_owned(all).await.unwrap()
    }

    #[tokio::test]
    async fn known_events_take_room_until_they_are_compared() {
        let place = tempfile::tempdir().unwrap();
        let log = open(place.path(), 4 << 20);
        let large = || submit(&log, "large", vec![7; 1 << 20]);
        large().await.unwrap();
        let all_reads = all_reads(&log).await;
        let mut calls = JoinSet::new();
        for number in 0..8 {
            calls.spawn(large());
            // What comes later is answered later.
            submit(&log, &number.to_string(), Vec::new()).await.unwrap();
        }
        // Three take all the room.
        for _ in 0..5 {
            let refused = timeout(PATIENCE, calls.join_next()).await.unwrap();
            assert!(matches!(refused.unwrap().unwrap(), Err(SubmitError::QueueFull)));
        }
        drop(all_reads);
        for submitted in calls.join_all().await {
            let outcomes = submitted.unwrap().outcomes;
            assert!(matches!(outcomes[..], [Outcome::Duplicate(_)]));
        }
        large().await.unwrap();
    }

    /// All of a record is read for the salt in it, and those who wait for a long one keep nobody else waiting.
    #[tokio::test]
    async fn receipts_of_long_payloads_wait_for_their_turn() {
        let place = tempfile::tempdir().unwrap();
        let log = open(place.path(), 4 << 20);
        submit(&log, "long", vec![7; 1 << 20]).await.unwrap();
        submit(&log, "short", vec![7; 1 << 10]).await.unwrap();
        let [long, short] = [1, 2].map(|index| LeafIndex::new(index).unwrap());
        let all = u32::try_from(LONG_RECORDS).unwrap();
        let turns = log.shared.long_records.clone();
        let turns = turns.acquire_many_owned(all).await.unwrap();
        let patience = Duration::from_millis(200);
        assert!(timeout(patience, log.proven_leaf(long)).await.is_err());
        log.proven_leaf(short).await.unwrap();
        drop(turns);
        let (_, leaf) = log.proven_leaf(long).await.unwrap();
        assert_eq!(leaf.index, long);
    }

    #[tokio::test]
    async fn an_attempt_is_recorded_though_its_caller_goes_away() {
        let place = tempfile::tempdir().unwrap();
        let log = open(place.path(), 4 << 20);
        submit(&log, "one", vec![1]).await.unwrap();
        let all_reads = all_reads(&log).await;
        let attempt = task::spawn(submit(&log, "one", vec![2]));
        let is_compared = async {
            while log.shared.comparisons.available_permits() == COMPARISONS {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, is_compared).await.unwrap();
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
        drop(all_reads);
        let is_recorded = async {
            while log.commit_head().size.get() < 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, is_recorded).await.unwrap();
    }
}
