//! A server's connections: as many as there are seats. When all are taken, the connection that has been silent longest makes
//! room for the next. Otherwise whoever opens enough of them and says nothing would keep everybody out.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::{unconstrained, yield_now},
    time::{Instant, sleep},
};

/// Until it is looked again whether a seat can be had, or made free.
const PAUSE: Duration = Duration::from_millis(5);

/// The seats of a server.
pub struct Seats {
    count: u32,
    free: Arc<Semaphore>,
    /// Who has been silent for less is not asked to leave.
    silence: Duration,
    waiting: Mutex<Waiting>,
}

/// The connections of which the server waits for something: a handshake, a request, or that an answer is read.
#[derive(Default)]
struct Waiting {
    /// What the next to wait is numbered.
    next: u64,
    /// Since when each waits, and how to tell it that it has to go; the one that waits longest first.
    seats: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Seats {
    /// So many seats. A connection that has been silent for `silence` may be asked to leave.
    pub fn new(count: u32, silence: Duration) -> Arc<Self> {
        let permits = usize::try_from(count).expect("a u32 fits a usize");
        Arc::new(Self {
            count,
            free: Arc::new(Semaphore::new(permits)),
            silence,
            waiting: Mutex::default(),
        })
    }

    /// A seat for a new connection: a free one, or that of the connection that has been silent longest, as soon as it has left.
    /// `None` if all are taken by connections that are being served, or were a moment ago. Dropped, it leaves the seat to the
    /// next in line.
    pub fn take(self: &Arc<Self>) -> Option<impl Future<Output = Seat> + Send + use<>> {
        let mut place = Box::pin(unconstrained(self.free.clone().acquire_owned()));
        // Stands in the line from now on: a seat that is given back before the caller waits for it is still not for whoever
        // comes after.
        let free = match place.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending if self.make_room() => None,
            Poll::Pending => return None,
        };
        let seats = self.clone();
        Some(async move {
            let place = match free {
                Some(place) => place,
                None => place.await,
            };
            seats.seat(place.expect("the semaphore is never closed"))
        })
    }

    /// A seat as soon as one can be had: at the latest when a connection has been silent for long enough.
    pub async fn wait(self: &Arc<Self>) -> Seat {
        loop {
            if let Some(seat) = self.take() {
                return seat.await;
            }
            sleep(PAUSE).await;
        }
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Ends once all have been given back, and leaves none to be taken.
    pub async fn emptied(&self) {
        if let Ok(all) = self.free.acquire_many(self.count).await {
            all.forget();
        }
    }

    fn seat(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Seat {
        let leave = Arc::new(Notify::new());
        let number = self.waiting().add(&leave);
        Seat(Arc::new(Inner {
            seats: Arc::clone(self),
            leave,
            requests: Mutex::new(Requests {
                open: 0,
                number,
                asked: false,
                silent_since: Instant::now(),
                answered: None,
            }),
            _place: place,
        }))
    }

    /// Tells the connection that has waited longest to go, if one has waited long enough.
    fn make_room(&self) -> bool {
        let mut waiting = self.waiting();
        let Some(first) = waiting.seats.first_entry() else {
            return false;
        };
        if first.get().0.elapsed() < self.silence {
            return false;
        }
        first.remove().1.notify_one();
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, leave: &Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.seats.insert(number, (Instant::now(), Arc::clone(leave)));
        number
    }
}

/// A connection's seat; it is given back with the last clone.
#[derive(Clone)]
pub struct Seat(Arc<Inner>);

struct Inner {
    seats: Arc<Seats>,
    leave: Arc<Notify>,
    requests: Mutex<Requests>,
    _place: OwnedSemaphorePermit,
}

struct Requests {
    /// How many are being served.
    open: usize,
    /// The connection's number since it began to wait.
    number: u64,
    /// It was asked to leave when they came, and owes its seat until another goes. Meanwhile it is not among those who wait: it
    /// would be asked again, and has one seat to give.
    asked: bool,
    /// From when on its silence counts while it owes its seat.
    silent_since: Instant,
    /// When it had answered all for the first time since then.
    answered: Option<Instant>,
}

impl Requests {
    /// Whether nothing keeps a connection that was told to leave: no request came, or it has been silent again for long enough.
    fn may_leave(&self, silence: Duration) -> bool {
        self.open == 0 && (!self.asked || self.silent_since.elapsed() >= silence)
    }
}

impl Seat {
    /// Ends when the connection has to make room. For requests to be noticed that have arrived but were not read, the task that
    /// waits for this has to read the connection too, and to do so first.
    ///
    /// Not cancel safe, and for one caller: the connection is told once, and whoever drops this may drop that along with it.
    pub async fn asked_to_leave(&self) {
        let seat = &self.0;
        seat.leave.notified().await;
        loop {
            // tokio looks at what has arrived.
            yield_now().await;
            let another_goes = {
                let mut requests = seat.requests();
                if requests.may_leave(seat.seats.silence) {
                    return;
                }
                // It is not silent any more: somebody else goes, or else it does once it has answered.
                let another_goes = seat.seats.make_room();
                if another_goes {
                    requests.asked = false;
                    requests.answered = None;
                    if requests.open == 0 {
                        requests.number = seat.seats.waiting().add(&seat.leave);
                    }
                }
                another_goes
            };
            if another_goes {
                seat.leave.notified().await;
            } else {
                // Its answer may take for ever, and somebody was promised a seat: whoever falls silent meanwhile goes, even if another seat
                // became free by itself.
                sleep(PAUSE).await;
            }
        }
    }

    /// A request has arrived, and the client waits for us: until the last guard is dropped or paused nobody asks this connection to
    /// leave.
    pub fn serve(&self) -> Serving {
        self.0.begin();
        Serving {
            seat: self.clone(),
            is_paused: false,
        }
    }
}

impl Inner {
    fn begin(&self) {
        let mut requests = self.requests();
        if requests.open == 0 {
            let waited = self.seats.waiting().seats.remove(&requests.number);
            requests.asked |= waited.is_none();
        }
        requests.open += 1;
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let number = self.requests().number;
        self.seats.waiting().seats.remove(&number);
    }
}

/// A request that is being answered.
pub struct Serving {
    seat: Seat,
    /// It is the client's turn.
    is_paused: bool,
}

impl Serving {
    /// The client has to take what there is of the answer: until it does, it is silent, unless it waits for another.
    pub fn pause(&mut self) {
        if mem::replace(&mut self.is_paused, true) {
            return;
        }
        let seat = &self.seat.0;
        let mut requests = seat.requests();
        requests.open -= 1;
        if requests.open == 0 && requests.asked {
            requests.silent_since = Instant::now();
        } else if requests.open == 0 {
            requests.number = seat.seats.waiting().add(&seat.leave);
        }
    }

    /// The client waits for us again.
    pub fn resume(&mut self) {
        if mem::take(&mut self.is_paused) {
            self.seat.0.begin();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.resume();
        let seat = &self.seat.0;
        let mut requests = seat.requests();
        requests.open -= 1;
        if requests.open == 0 && requests.asked {
            // The end of the answer may still be under way. Whoever asks again and again has no more time than that of the first.
            requests.silent_since = *requests.answered.get_or_insert_with(Instant::now);
        } else if requests.open == 0 {
            requests.number = seat.seats.waiting().add(&seat.leave);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{advance, timeout};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(future).poll(&mut context) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        }
    }

    fn has_to_leave(seat: &Seat) -> bool {
        let mut leaves = pin!(seat.asked_to_leave());
        // Looks once more after it was told.
        now(leaves.as_mut()).or_else(|| now(leaves)).is_some()
    }

    /// Has to leave once a request is answered, and not before.
    async fn leaves_after(seat: &Seat, serving: Serving) {
        let mut leaves = pin!(seat.asked_to_leave());
        // It looks once more after it was told.
        assert!(now(leaves.as_mut()).is_none() && now(leaves.as_mut()).is_none());
        drop(serving);
        timeout(PATIENCE, leaves).await.unwrap();
    }

    fn taken(seats: &Arc<Seats>) -> Seat {
        now(seats.take().unwrap()).unwrap()
    }

    /// Whether somebody was told to make room for another, who waits for it.
    fn another_waits(seats: &Arc<Seats>) -> bool {
        seats.take().is_some_and(|seat| now(seat).is_none())
    }

    #[test]
    fn the_longest_silent_goes_and_whoever_is_served_stays() {
        let seats = Seats::new(3, Duration::ZERO);
        let [first, second, third] = [(); 3].map(|()| taken(&seats));
        let serving = first.serve();
        assert!(another_waits(&seats));
        assert!(!has_to_leave(&first) && has_to_leave(&second) && !has_to_leave(&third));

        // From its answer on the first waits anew, and so for less long than the third.
        drop(serving);
        assert!(another_waits(&seats));
        assert!(!has_to_leave(&first) && has_to_leave(&third));
        assert!(another_waits(&seats));
        assert!(has_to_leave(&first));

        // Nobody is left to go; and who went takes nothing along.
        assert!(seats.take().is_none());
        drop((first, second, third));
        assert!(seats.waiting().seats.is_empty());
        let gone = taken(&seats);
        drop(gone);
        assert!(seats.waiting().seats.is_empty());
        assert_eq!(seats.free(), 3);
    }

    #[test]
    fn a_connection_is_served_until_its_last_request_is_answered() {
        let seats = Seats::new(1, Duration::ZERO);
        let only = taken(&seats);
        let (one, other) = (only.serve(), only.serve());
        drop(one);
        assert!(seats.take().is_none());
        drop(other);
        assert!(another_waits(&seats));
        assert!(has_to_leave(&only));
    }

    #[test]
    fn who_was_served_a_moment_ago_stays() {
        let seats = Seats::new(1, Duration::from_secs(3600));
        let only = taken(&seats);
        drop(only.serve());
        assert!(seats.take().is_none());
        assert!(!has_to_leave(&only));
        drop(only);
        assert!(now(seats.take().unwrap()).is_some());
    }

    /// A request that arrived before its connection left is answered: another goes, or else this one after the answer.
    #[tokio::test]
    async fn whoever_asks_after_all_is_answered_first() {
        let seats = Seats::new(2, Duration::ZERO);
        let [first, second] = [(); 2].map(|()| taken(&seats));
        let next = seats.take().unwrap();
        let serving = first.serve();
        assert!(!has_to_leave(&second) && !has_to_leave(&first));
        assert!(has_to_leave(&second));
        drop(second);
        let next = now(next).unwrap();
        let _serving = next.serve();

        drop(serving);
        let last = pin!(seats.take().unwrap());
        let (one, other) = (first.serve(), first.serve());
        drop(one);
        leaves_after(&first, other).await;
        drop(first);
        assert!(now(last).is_some());
    }

    /// The one that was asked to leave may be served for ever: whoever waits for its seat has that of the next who falls silent.
    #[tokio::test]
    async fn a_promised_seat_does_not_hang_on_one_connection() {
        let seats = Seats::new(2, Duration::ZERO);
        let [first, second] = [(); 2].map(|()| taken(&seats));
        let serving = second.serve();
        let promised = seats.take().unwrap();
        let _for_ever = first.serve();
        let mut stays = pin!(first.asked_to_leave());
        // It looks once more after it was told, and nobody is silent then.
        assert!(now(stays.as_mut()).is_none() && now(stays.as_mut()).is_none());
        let goes = tokio::spawn(async move {
            drop(serving);
            second.asked_to_leave().await;
        });
        tokio::select! {
            () = stays => panic!("it is being served"),
            seat = timeout(PATIENCE, promised) => drop(seat.unwrap()),
        }
        goes.await.unwrap();
    }

    /// Whoever does not read an answer is as silent as who asks nothing, and is served again as soon as it does.
    #[tokio::test]
    async fn who_has_an_answer_to_read_is_silent() {
        let seats = Seats::new(1, Duration::ZERO);
        let only = taken(&seats);
        let mut answer = only.serve();
        answer.pause();
        answer.resume();
        assert!(seats.take().is_none());
        let another = only.serve();
        answer.pause();
        assert!(seats.take().is_none());
        drop(another);

        // It reads on after all, before it has left, and goes at the end of the answer.
        let next = pin!(seats.take().unwrap());
        answer.resume();
        answer.pause();
        answer.resume();
        leaves_after(&only, answer).await;
        drop(only);
        assert!(now(next).is_some());

        // Or it does not, and goes at once.
        let only = taken(&seats);
        let mut answer = only.serve();
        answer.pause();
        assert!(another_waits(&seats));
        assert!(has_to_leave(&only));
        drop((answer, only));
        assert!(seats.waiting().seats.is_empty());
        assert_eq!(seats.free(), 1);
    }

    /// Neither to the next who comes, nor to another that owes one: only one seat becomes free.
    #[tokio::test]
    async fn nobody_owes_a_seat_twice() {
        let seats = Seats::new(2, Duration::ZERO);
        let [first, second] = [(); 2].map(|()| taken(&seats));
        let _serving = second.serve();
        let promised = seats.take().unwrap();
        // It asks before it has left, and then does not read.
        let mut answer = first.serve();
        answer.pause();
        assert!(seats.take().is_none());
        timeout(PATIENCE, first.asked_to_leave()).await.unwrap();
        drop((answer, first));
        assert!(now(promised).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_on_stays_and_who_does_not_leaves_in_time() {
        let seats = Seats::new(1, SILENCE);
        let only = taken(&seats);
        advance(SILENCE).await;
        let promised = seats.take().unwrap();
        let mut answer = only.serve();
        let mut leaves = Box::pin(only.asked_to_leave());
        for _ in 0..5 {
            answer.pause();
            assert!(timeout(SILENCE / 2, leaves.as_mut()).await.is_err());
            answer.resume();
        }
        answer.pause();
        let paused = Instant::now();
        timeout(PATIENCE, leaves).await.unwrap();
        assert!((SILENCE..SILENCE + 2 * PAUSE).contains(&paused.elapsed()));
        drop((answer, only));
        assert!(now(promised).is_some());
    }

    /// Another went for it while its answer was not read: from then on it waits like everybody else.
    #[tokio::test(start_paused = true)]
    async fn whoever_owes_nothing_any_more_may_be_asked_again() {
        let seats = Seats::new(2, SILENCE);
        let [first, second] = [(); 2].map(|()| taken(&seats));
        advance(SILENCE).await;
        let serving = second.serve();
        let promised = seats.take().unwrap();
        let mut answer = first.serve();
        drop(serving);
        advance(SILENCE).await;
        answer.pause();
        let mut leaves = Box::pin(first.asked_to_leave());
        assert!(timeout(2 * PAUSE, leaves.as_mut()).await.is_err());
        assert!(has_to_leave(&second));
        drop(second);
        let promised = now(promised).unwrap();

        let _serving = promised.serve();
        assert!(seats.take().is_none());
        advance(SILENCE).await;
        let last = seats.take().unwrap();
        timeout(PATIENCE, leaves).await.unwrap();
        drop((answer, first));
        assert!(now(last).is_some());
    }

    /// What was handed on may wait for its reader.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_answer_has_time_to_arrive() {
        let seats = Seats::new(1, SILENCE);
        let only = taken(&seats);
        advance(SILENCE).await;
        let promised = seats.take().unwrap();
        drop(only.serve());
        let answered = Instant::now();
        timeout(PATIENCE, only.asked_to_leave()).await.unwrap();
        assert!((SILENCE..SILENCE + 2 * PAUSE).contains(&answered.elapsed()));
        drop(only);
        assert!(now(promised).is_some());
    }

    /// Otherwise whoever was promised its seat would wait for as long as it likes.
    #[tokio::test(start_paused = true)]
    async fn whoever_asks_again_and_again_leaves_all_the_same() {
        let seats = Seats::new(1, SILENCE);
        let only = taken(&seats);
        advance(SILENCE).await;
        let promised = seats.take().unwrap();
        let asks = async {
            for _ in 0..10 {
                drop(only.serve());
                sleep(SILENCE / 2).await;
            }
        };
        tokio::select! {
            () = only.asked_to_leave() => {}
            () = asks => panic!("it stays"),
        }
        drop(only);
        assert!(now(promised).is_some());
    }

    /// Whoever was promised a seat need not hurry to it.
    #[test]
    fn a_seat_that_was_made_room_for_is_not_the_next_comers() {
        let seats = Seats::new(2, Duration::ZERO);
        let [first, second] = [(); 2].map(|()| taken(&seats));
        let promised = seats.take().unwrap();
        assert!(has_to_leave(&first));
        drop(first);
        let next = seats.take().unwrap();
        assert!(has_to_leave(&second));
        let _seat = now(promised).unwrap();
        let mut next = pin!(next);
        assert!(now(next.as_mut()).is_none());
        drop(second);
        assert!(now(next).is_some());
    }

    /// However many a task shows in without a pause, for which tokio would have it yield.
    #[tokio::test]
    async fn a_free_seat_is_had_at_once() {
        let seats = Seats::new(1000, Duration::from_secs(3600));
        let all: Vec<_> = (0..1000).map(|_| taken(&seats)).collect();
        assert!(seats.take().is_none());
        drop(all);
        assert_eq!(seats.free(), 1000);
    }

    /// Nobody who is silent keeps another waiting for longer than that is allowed.
    #[tokio::test]
    async fn whoever_waits_has_the_seat_of_who_falls_silent() {
        let seats = Seats::new(1, Duration::from_millis(20));
        let only = taken(&seats);
        let leaves = tokio::spawn(async move {
            let serving = only.serve();
            sleep(Duration::from_millis(10)).await;
            drop(serving);
            only.asked_to_leave().await;
        });
        yield_now().await;
        seats.wait().await;
        leaves.await.unwrap();
    }

    #[tokio::test]
    async fn the_seat_of_who_goes_is_the_next_ones() {
        let seats = Seats::new(1, Duration::ZERO);
        let first = taken(&seats);
        let leaves = tokio::spawn(async move { first.asked_to_leave().await });
        tokio::task::yield_now().await;
        let second = seats.take().unwrap().await;
        leaves.await.unwrap();
        assert_eq!(seats.free(), 0);
        drop(second);
        seats.emptied().await;
        assert!(seats.take().is_none());
    }
}
