//! Who keeps the witness waiting: when all connections are taken, the one that does so longest makes room. Otherwise whoever
//! opens enough of them and stays silent would keep every log out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The connections of which the witness waits for something: a handshake, a request, or that an answer is read.
#[derive(Default)]
pub(crate) struct Seats(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// What the next to wait is numbered.
    next: u64,
    /// How to tell each that it has to go, the one that waits longest first.
    seats: BTreeMap<u64, Arc<Notify>>,
}

impl Seats {
    /// A new connection, which waits.
    pub(crate) fn take(self: &Arc<Self>) -> Seat {
        let leave = Arc::new(Notify::new());
        let number = self.waiting().add(&leave);
        Seat(Arc::new(Inner {
            seats: Arc::clone(self),
            leave,
            number: Mutex::new(number),
        }))
    }

    /// Tells the connection that has waited longest to go, if any waits.
    pub(crate) fn make_room(&self) {
        if let Some((_, leave)) = self.waiting().seats.pop_first() {
            leave.notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, leave: &Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.seats.insert(number, Arc::clone(leave));
        number
    }
}

/// A connection's place; it is given back with the last clone.
#[derive(Clone)]
pub(crate) struct Seat(Arc<Inner>);

struct Inner {
    seats: Arc<Seats>,
    leave: Arc<Notify>,
    /// Its number since it began to wait.
    number: Mutex<u64>,
}

impl Seat {
    /// Ends when the connection has to make room.
    pub(crate) async fn asked_to_leave(&self) {
        self.0.leave.notified().await;
    }

    /// A request has arrived, and the client waits for us: until the guard is dropped nobody asks this connection to leave.
    pub(crate) fn serve(&self) -> Serving<'_> {
        let inner = &self.0;
        inner.seats.waiting().seats.remove(&inner.number());
        Serving(inner)
    }
}

impl Inner {
    fn number(&self) -> MutexGuard<'_, u64> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let number = *self.number();
        self.seats.waiting().seats.remove(&number);
    }
}

/// A connection whose request is being answered.
pub(crate) struct Serving<'a>(&'a Inner);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut number = self.0.number();
        *number = self.0.seats.waiting().add(&self.0.leave);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn has_to_leave(seat: &Seat) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(seat.asked_to_leave()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_silent_goes_and_whoever_is_served_stays() {
        let seats = Arc::new(Seats::default());
        let [first, second, third] = [(); 3].map(|()| seats.take());
        let serving = first.serve();
        seats.make_room();
        assert!(!has_to_leave(&first) && has_to_leave(&second) && !has_to_leave(&third));

        // From its answer on the first waits anew, and so for less long than the third.
        drop(serving);
        seats.make_room();
        assert!(!has_to_leave(&first) && has_to_leave(&third));
        seats.make_room();
        assert!(has_to_leave(&first));

        // Nobody is left to go; and who went takes nothing along.
        seats.make_room();
        drop((first, second, third));
        assert!(seats.waiting().seats.is_empty());
        let gone = seats.take();
        drop(gone);
        assert!(seats.waiting().seats.is_empty());
    }
}
