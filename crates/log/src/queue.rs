//! The queue between request tasks and the sequencer: bounded in events and in bytes, first in first out.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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
    /// Bytes of events that were taken and are held on to all the same.
    held: Arc<AtomicUsize>,
}

/// Room for bytes in the queue, until this is dropped.
pub(crate) struct Held {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

#[derive(Default)]
struct Waiting {
    groups: VecDeque<Group>,
    events: usize,
    bytes: usize,
    /// Set once: why nothing enters any more.
    closed: Option<SubmitError>,
    /// Whoever waits to take groups has to look up.
    interrupted: bool,
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
            held: Arc::default(),
        }
    }

    /// Counts bytes of events that were taken as if they still waited.
    pub(crate) fn hold(&self, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Relaxed);
        Held {
            bytes,
            all: self.held.clone(),
        }
    }

    /// Why so many events would not be let in now, if they would not.
    pub(crate) fn admit(&self, more: Capacity) -> Result<(), SubmitError> {
        let waiting = self.lock();
        if let Some(error) = &waiting.closed {
            return Err(error.clone());
        }
        self.fits(&waiting, more)
            .then_some(())
            .ok_or(SubmitError::QueueFull)
    }

    /// An empty queue takes anything, unless events that were taken are still held.
    fn fits(&self, waiting: &Waiting, more: Capacity) -> bool {
        let held = self.held.load(Relaxed);
        let fits = waiting.events + more.events <= self.capacity.events
            && waiting.bytes + held + more.bytes <= self.capacity.bytes;
        fits || waiting.groups.is_empty() && held == 0
    }

    /// Adds a group, or answers it at once when there is no room.
    pub(crate) fn push(&self, group: Group) {
        self.enter(group, Self::fits);
    }

    /// Adds a group though there be no room: few, and small ones.
    pub(crate) fn push_beyond_limits(&self, group: Group) {
        self.enter(group, |_, _, _| true);
    }

    fn enter(&self, group: Group, fits: fn(&Self, &Waiting, Capacity) -> bool) {
        let mut waiting = self.lock();
        if let Some(error) = &waiting.closed {
            let error = error.clone();
            drop(waiting);
            return group.refuse(error);
        }
        let more = Capacity {
            events: group.events.len(),
            bytes: group.bytes,
        };
        if !fits(self, &waiting, more) {
            drop(waiting);
            return group.refuse(SubmitError::QueueFull);
        }
        waiting.events += group.events.len();
        waiting.bytes += group.bytes;
        // The one that takes waits only while there is nothing, and to wake nobody costs as much as to wake somebody.
        let is_first = waiting.groups.is_empty();
        waiting.groups.push_back(group);
        drop(waiting);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Takes groups in order, as many as stay within `limit` but at least one. Waits for the first; if it is
    /// [interrupted](Self::interrupt), it takes none. `None` when the queue is closed and empty.
    pub(crate) fn take(&self, limit: Capacity) -> Option<Vec<Group>> {
        let mut waiting = self.lock();
        while waiting.groups.is_empty() && !mem::take(&mut waiting.interrupted) {
            if waiting.closed.is_some() {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(waiting.take(limit))
    }

    /// Wakes whoever waits to take groups, or will next, though none may be there: a write failed, and they have to see to it.
    pub(crate) fn interrupt(&self) {
        self.lock().interrupted = true;
        self.changed.notify_all();
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

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use counterfoil_event::{Event, EventParts, Salt, Submitter};
    use counterfoil_merkle::Suite;

    use super::*;

    type Answer = oneshot::Receiver<Result<Placed, SubmitError>>;

    /// A group of `events` events, the first of them with this id.
    fn group(id: usize, events: usize) -> (Group, Answer) {
        let events = (0..events).map(|offset| {
            let event = Event::try_from(EventParts {
                id: format!("{}", id + offset),
                source: "source".to_owned(),
                event_type: "type".to_owned(),
                ..EventParts::default()
            })
            .unwrap();
            PreparedEvent::new(Suite::Blake3, event, Salt::from([0; 32]), &Submitter::anonymous())
        });
        let (reply, answer) = oneshot::channel();
        (Group::new(events.collect(), reply), answer)
    }

    fn push(queue: &Queue, id: usize, events: usize) -> Answer {
        let (group, answer) = group(id, events);
        queue.push(group);
        answer
    }

    fn refusal(mut answer: Answer) -> Option<SubmitError> {
        answer.try_recv().ok()?.err()
    }

    fn ids(groups: &[Group]) -> Vec<String> {
        groups
            .iter()
            .map(|group| group.events[0].event.id().to_owned())
            .collect()
    }

    const UNLIMITED: Capacity = Capacity {
        events: usize::MAX,
        bytes: usize::MAX,
    };

    #[test]
    fn room_is_counted_in_events_and_in_bytes_and_comes_back() {
        let bytes = group(0, 1).0.bytes;
        for capacity in [
            Capacity {
                events: 5,
                ..UNLIMITED
            },
            Capacity {
                bytes: 5 * bytes,
                ..UNLIMITED
            },
        ] {
            let queue = Queue::new(capacity);
            for _ in 0..3 {
                let waiting = [push(&queue, 0, 2), push(&queue, 2, 3)];
                assert_eq!(refusal(push(&queue, 5, 1)), Some(SubmitError::QueueFull));
                assert_eq!(ids(&queue.take(UNLIMITED).unwrap()), ["0", "2"]);
                drop(waiting);
            }
            // More than there can ever be room for, when nothing waits; then nothing else.
            let _large = push(&queue, 0, 50);
            assert_eq!(refusal(push(&queue, 50, 1)), Some(SubmitError::QueueFull));
            assert_eq!(ids(&queue.take_now().unwrap()), ["0"]);
            assert_eq!(refusal(push(&queue, 50, 1)), None);
        }
    }

    #[test]
    fn what_is_taken_keeps_its_order_and_the_limit() {
        let queue = Queue::new(UNLIMITED);
        let _answers: Vec<_> = [(0, 1), (1, 2), (3, 3), (6, 9), (15, 1)]
            .into_iter()
            .map(|(id, events)| push(&queue, id, events))
            .collect();
        let limit = Capacity {
            events: 6,
            ..UNLIMITED
        };
        assert_eq!(ids(&queue.take(limit).unwrap()), ["0", "1", "3"]);
        assert_eq!(ids(&queue.take(limit).unwrap()), ["6"], "one at least");
        assert_eq!(ids(&queue.take(limit).unwrap()), ["15"]);
        assert_eq!(ids(&queue.take_now().unwrap()), [""; 0]);
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_has_and_takes_no_more() {
        let queue = Queue::new(UNLIMITED);
        let waiting = push(&queue, 0, 1);
        assert_eq!(queue.close(SubmitError::Stopping), SubmitError::Stopping);
        assert_eq!(
            queue.close(SubmitError::WriteFailed),
            SubmitError::Stopping,
            "the first reason stays"
        );
        assert_eq!(refusal(push(&queue, 1, 1)), Some(SubmitError::Stopping));
        assert!(queue.take_now().is_none());
        assert_eq!(ids(&queue.take(UNLIMITED).unwrap()), ["0"]);
        assert!(queue.take(UNLIMITED).is_none());
        assert_eq!(refusal(waiting), None);
    }

    /// A queue that a thread takes from, and what it takes.
    fn taken_from() -> (Arc<Queue>, mpsc::Receiver<Vec<String>>, thread::JoinHandle<()>) {
        let queue = Arc::new(Queue::new(UNLIMITED));
        let (taken, groups) = mpsc::channel();
        let taker = queue.clone();
        let taker = thread::spawn(move || {
            while let Some(groups) = taker.take(UNLIMITED) {
                taken.send(ids(&groups)).unwrap();
            }
        });
        (queue, groups, taker)
    }

    #[test]
    fn whoever_waits_for_groups_is_woken_by_each() {
        let (queue, groups, taker) = taken_from();
        for id in 0..100 {
            let _answer = push(&queue, id, 1);
            let woken = groups.recv_timeout(Duration::from_secs(10));
            assert_eq!(woken.unwrap(), [id.to_string()]);
        }
        queue.close(SubmitError::Stopping);
        taker.join().unwrap();
    }

    #[test]
    fn whoever_waits_for_groups_can_be_interrupted() {
        let (queue, groups, taker) = taken_from();
        // Before it waits or while it does: it makes no difference.
        for _ in 0..100 {
            queue.interrupt();
            assert_eq!(groups.recv_timeout(Duration::from_secs(10)).unwrap(), [""; 0]);
        }
        queue.close(SubmitError::Stopping);
        taker.join().unwrap();
    }

    /// What is packed to nothing is held unpacked all the same.
    #[test]
    fn attributes_take_room_however_well_they_compress() {
        let extensions = (0..64).map(|number| (format!("x{number}"), "a".repeat(1_024)));
        let event = Event::try_from(EventParts {
            id: "id".to_owned(),
            source: "source".to_owned(),
            event_type: "type".to_owned(),
            extensions: extensions.collect(),
            ..EventParts::default()
        });
        let salt = Salt::from([0; 32]);
        let event = PreparedEvent::new(Suite::Blake3, event.unwrap(), salt, &Submitter::anonymous());
        assert!(event.record.len() < 4_096);
        assert!(event.size_bytes() > 64 * 1_024);
    }

    #[test]
    fn what_is_held_takes_room_as_what_waits_does() {
        let queue = Queue::new(Capacity {
            bytes: 10_000,
            ..UNLIMITED
        });
        let held = queue.hold(10_000);
        assert_eq!(refusal(push(&queue, 0, 1)), Some(SubmitError::QueueFull));
        let (beyond, _answer) = group(1, 1);
        queue.push_beyond_limits(beyond);
        assert_eq!(ids(&queue.take_now().unwrap()), ["1"]);
        drop(held);
        assert_eq!(refusal(push(&queue, 2, 1)), None);
    }

    /// As a push would be answered, before anything is made ready.
    #[test]
    fn what_would_find_no_room_is_not_admitted() {
        let queue = Queue::new(Capacity {
            events: 2,
            bytes: 10_000,
        });
        let admitted = |events, bytes| queue.admit(Capacity { events, bytes });
        // An empty queue takes a call of any size, or it would never be taken.
        assert_eq!(admitted(3, 20_000), Ok(()));

        let _waiting = push(&queue, 0, 1);
        assert_eq!(admitted(1, 1), Ok(()));
        assert_eq!(admitted(2, 1), Err(SubmitError::QueueFull));
        assert_eq!(admitted(1, 10_000), Err(SubmitError::QueueFull));

        queue.close(SubmitError::Stopping);
        assert_eq!(admitted(1, 1), Err(SubmitError::Stopping));
    }
}
