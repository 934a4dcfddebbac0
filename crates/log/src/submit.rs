//! Submitting, as a request task sees it: hand events over, wait, and turn places into proofs.

use std::sync::Arc;

use counterfoil_event::Entry;
use counterfoil_merkle::LeafIndex;
use tokio::sync::oneshot;

use crate::{
    Channel, Log, PreparedEvent, ProvenLeaf, ReadError, SubmitError, TreeHead,
    commit::{NewLeaf, Placed, PlacedEvent},
    queue::Group,
    read::read_entry,
    shared::{Commit, Disk, Shared},
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
    /// Records events side by side, in order. When this returns, they are on disk and under a signed head.
    ///
    /// # Errors
    /// If none of them was recorded, or the log can't tell: see [`SubmitError`].
    ///
    /// # Panics
    /// If there are more than [`MAX_CALL_EVENTS`].
    pub async fn submit(&self, events: Vec<PreparedEvent>) -> Result<Submitted, SubmitError> {
        assert!(events.len() <= MAX_CALL_EVENTS, "the caller limits its calls");
        let Placed { commit, events } = self.place(events).await?;
        let head = commit.head.clone();
        if events.iter().all(|event| matches!(event, PlacedEvent::New(_))) {
            return Ok(Submitted {
                head,
                outcomes: self.prove_new(commit, events).await?,
            });
        }

        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            match event {
                PlacedEvent::New(_) => outcomes.extend(self.prove_new(commit.clone(), vec![event]).await?),
                PlacedEvent::Known { index, event } => {
                    outcomes.push(self.settle_known(&commit, index, *event).await?)
                }
            }
        }
        Ok(Submitted { head, outcomes })
    }

    /// Hands events to the commit path and waits until they are durable.
    async fn place(&self, events: Vec<PreparedEvent>) -> Result<Placed, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Group::new(events, reply));
        // Nobody answers only if the commit path failed in between.
        answer.await.unwrap_or(Err(SubmitError::WriteFailed))
    }

    /// Proofs for leaves of a batch just committed, whose tiles are in memory as a rule.
    async fn prove_new(
        &self,
        commit: Arc<Commit>,
        events: Vec<PlacedEvent>,
    ) -> Result<Vec<Outcome>, SubmitError> {
        let leaves: Vec<NewLeaf> = events
            .into_iter()
            .filter_map(|event| match event {
                PlacedEvent::New(leaf) => Some(leaf),
                PlacedEvent::Known { .. } => None,
            })
            .collect();
        let indices: Vec<LeafIndex> = leaves.iter().map(|leaf| leaf.index).collect();
        let size = commit.head.size;
        let proofs = self
            .with_nodes(commit, move |nodes| {
                indices
                    .iter()
                    .map(|index| nodes.inclusion_proof(*index, size))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await
            .map_err(|problem| report(self, &problem))?;
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

    /// Finds out whether an event whose source and id are on record is the same event. If not, records the attempt.
    async fn settle_known(
        &self,
        commit: &Arc<Commit>,
        index: LeafIndex,
        event: PreparedEvent,
    ) -> Result<Outcome, SubmitError> {
        let at = commit.clone();
        let (leaf, event) = self
            .blocking(move |shared| Ok((same_event(shared, &at, index, &event)?, event)))
            .await
            .map_err(|problem| report(self, &problem))?;
        if let Some(leaf) = leaf {
            return Ok(Outcome::Duplicate(leaf));
        }
        let conflict = counterfoil_event::conflict_event(index, &event.event);
        let conflict = self.prepare(conflict, Channel::LOG);
        // The same attempt again names the same record, which is then known: nothing is added.
        self.place(vec![conflict]).await?;
        Ok(Outcome::Conflict { existing: index })
    }
}

/// The leaf, if it records this very event.
fn same_event(
    shared: &Shared,
    commit: &Commit,
    index: LeafIndex,
    event: &PreparedEvent,
) -> Result<Option<ProvenLeaf>, ReadError> {
    let stored = read_entry(&shared.store, index, true)?;
    let entry = Entry::decode(&stored.entry)
        .map_err(|problem| ReadError::DataLoss(format!("entry {index}: {problem}")))?;
    let payload = stored
        .payload
        .ok_or_else(|| ReadError::DataLoss(format!("the payload of entry {index} is missing")))?;
    if entry
        .commits_to(shared.suite, &payload.salt, &event.event)
        .is_err()
    {
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

fn report(log: &Log, problem: &ReadError) -> SubmitError {
    tracing::error!(log = %log.name(), %problem, "can't read what a receipt needs");
    SubmitError::DataLoss
}
