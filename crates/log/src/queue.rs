//! The queue between request tasks and the sequencer: bounded in events and in bytes, first in first out.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{SubmitError, commit::Placed, event::PreparedEvent};

/// Events of one call. They enter the tree side by side, in order.
pub(crate) struct Group {
    pub(crate) events: Vec<PreparedEvent>,
    pub(crate) reply: oneshot::Sender<Result<Placed, SubmitError>>,
    bytes: usize,
}

impl Group {
    pub(crate) fn new(
        events: Vec<PreparedEvent>,
        reply: oneshot::Sender<Result<Placed, SubmitError>>,
    ) -> Self {
        let bytes = events.iter().map(PreparedEvent::size_bytes).sum();
        Self { events, reply, bytes }
    }

    /// Answers the caller. One that has gone away does not mind.
    pub(crate) fn refuse(self, error: SubmitError) {
        let _ = self.reply.send(Err(error));
    }
}

/// The most that may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

pub(crate) struct Queue {
    capacity: Capacity,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    groups: VecDeque<Group>,
    events: usize,
    bytes: usize,
    /// Set once: why nothing enters any more.
    closed: Option<SubmitError>,
}

impl Waiting {
    fn take(&mut self, limit: Capacity) -> Vec<Group> {
        let (mut taken, mut events, mut bytes) = (Vec::new(), 0, 0);
        while let Some(group) = self.groups.front() {
            events += group.events.len();
            bytes += group.bytes;
            if !taken.is_empty() && (events > limit.events || bytes > limit.bytes) {
                break;
            }
            self.events -= group.events.len();
            self.bytes -= group.bytes;
            taken.extend(self.groups.pop_front());
        }
        taken
    }
}

impl Queue {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds a group, or answers it at once when there is no room. An empty queue takes any group.
    pub(crate) fn push(&self, group: Group) {
        let mut waiting = self.lock();
        if let Some(error) = &waiting.closed {
            let error = error.clone();
            drop(waiting);
            return group.refuse(error);
        }
        let fits = waiting.events + group.events.len() <= self.capacity.events
            && waiting.bytes + group.bytes <= self.capacity.bytes;
        if !fits && !waiting.groups.is_empty() {
            drop(waiting);
            return group.refuse(SubmitError::QueueFull);
        }
        waiting.events += group.events.len();
        waiting.bytes += group.bytes;
        waiting.groups.push_back(group);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Takes groups in order, as many as stay within `limit` but at least one. Waits for the first. `None` when the
    /// queue is closed and empty.
    pub(crate) fn take(&self, limit: Capacity) -> Option<Vec<Group>> {
        let mut waiting = self.lock();
        while waiting.groups.is_empty() {
            if waiting.closed.is_some() {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(waiting.take(limit))
    }

    /// Takes all that waits, perhaps nothing. `None` when the queue is closed.
    pub(crate) fn take_now(&self) -> Option<Vec<Group>> {
        let mut waiting = self.lock();
        match waiting.closed {
            None => Some(waiting.take(Capacity {
                events: usize::MAX,
                bytes: usize::MAX,
            })),
            Some(_) => None,
        }
    }

    /// Lets nothing more in: later groups are answered with `error`, or with that of an earlier call, which is returned.
    /// What waits can still be taken.
    pub(crate) fn close(&self, error: SubmitError) -> SubmitError {
        let error = self.lock().closed.get_or_insert(error).clone();
        self.changed.notify_all();
        error
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The counts are changed together with the groups, without a panic in between.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
