//! Submitting, as a request task sees it: hand events over, wait, and turn places into proofs.

use std::sync::Arc;

use counterfoil_event::{Annotations, Attributes, Entry, Event, Submitter, adapter::Adapter, conflict_event};
use counterfoil_merkle::{LeafIndex, Suite};
use counterfoil_store::{Disk, StoredPayload};
use tokio::sync::oneshot;

use crate::{
    Intake, Log, PreparedEvent, ProvenLeaf, ReadError, SubmitError, TreeHead,
    commit::{NewLeaf, Placed, PlacedEvent},
    queue::{Capacity, Group},
    read::{FilledTile, prove_new, read_entry},
    shared::{Commit, Shared},
};

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
        let placed = place(&self.shared, events);
        let shared = self.shared.clone();
        async move { settle(&shared, placed.await?).await }
    }
}

/// Hands events to the commit path. The answer comes when they are durable.
fn place(
    shared: &Shared,
    events: Vec<PreparedEvent>,
) -> impl Future<Output = Result<Placed, SubmitError>> + Send + use<> {
    let (reply, answer) = oneshot::channel();
    shared.queue.push(Group::new(events, reply));
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
            PlacedEvent::Known { index, event } => known.push((index, *event)),
        }
    }
    let mut new = settle_new(shared, &commit, &filled, new)?.into_iter();
    let mut known = settle_known(shared, &commit, known).await?.into_iter();
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
    shared: &Arc<Shared>,
    commit: &Arc<Commit>,
    known: Vec<(LeafIndex, PreparedEvent)>,
) -> Result<Vec<Outcome>, SubmitError> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let at = commit.clone();
    let compared = shared
        .blocking(move |shared| {
            known
                .into_iter()
                .map(|(index, event)| match same_event(shared, &at, index, &event)? {
                    Some(leaf) => Ok(Ok(leaf)),
                    None => Ok(Err((index, event))),
                })
                .collect::<Result<Vec<_>, _>>()
        })
        .await
        .map_err(|problem| report(shared, &problem))?;

    let (mut outcomes, mut conflicts) = (Vec::new(), Vec::new());
    for same in compared {
        outcomes.push(match same {
            Ok(leaf) => Outcome::Duplicate(leaf),
            Err((existing, event)) => {
                conflicts.push(shared.prepare(conflict_event(existing, &event.event), &Submitter::log()));
                Outcome::Conflict { existing }
            }
        });
    }
    if !conflicts.is_empty() {
        // The same attempt again names the same record, which is then known: nothing is added.
        place(shared, conflicts).await?;
    }
    Ok(outcomes)
}

/// The leaf, if it records this very event.
fn same_event(
    shared: &Shared,
    commit: &Commit,
    index: LeafIndex,
    event: &PreparedEvent,
) -> Result<Option<ProvenLeaf>, ReadError> {
    let stored = read_entry(&shared.store, index, false)?;
    let entry = Entry::decode(&stored.entry)
        .map_err(|problem| ReadError::DataLoss(format!("entry {index}: {problem}")))?;
    // What differs at a glance is not worth reading a large payload for.
    if entry.payload_length() != event.event.data().len() as u64 {
        return Ok(None);
    }
    let payload = shared.store.payload(index)?;
    let payload =
        payload.ok_or_else(|| ReadError::DataLoss(format!("the payload of entry {index} is missing")))?;
    if !records(shared.suite, &entry, &payload, &event.event) {
        return Ok(None);
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
/// of the log has not told two stories. And it has told its own only where its adapter made the record: anyone who may submit
/// can take the name of a delivery first, and say the same without its signature.
fn records(suite: Suite, entry: &Entry, stored: &StoredPayload, event: &Event) -> bool {
    let as_submitted = || entry.commits_to(suite, &stored.salt, event).is_ok();
    let Some(adapter) = naming_adapter(event) else {
        return as_submitted();
    };
    let (Ok(attributes), Ok(annotations)) = (
        Attributes::decode_canonical(&stored.attributes),
        Annotations::decode_canonical(&stored.annotations),
    ) else {
        return false;
    };
    if annotations.adapter == adapter {
        return as_submitted();
    }
    let new = event.attributes();
    without_version(&annotations.adapter) == without_version(adapter)
        && stored.data == *event.data()
        && attributes.data_content_type == new.data_content_type
        && attributes.extensions == new.extensions
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
