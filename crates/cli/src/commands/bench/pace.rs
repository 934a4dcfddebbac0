//! When calls start. In a closed loop whenever a worker is free; in an open loop by the clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, TryAcquireError};

/// Starts that nobody was free for are told in so many groups at most, however many there were.
const MISSED_GROUPS: u64 = 10_000;

/// The timetable of a run.
///
/// In an open loop each start has its intended time, and latency counts from there: a call that waits for a free
/// worker because earlier ones were slow is as late as it would be for a caller (no coordinated omission).
pub(crate) struct Pace {
    started: Instant,
    deadline: Instant,
    open: Option<Open>,
}

struct Open {
    interval: Duration,
    /// A permit for each start whose time has come; closed at the deadline.
    due: Arc<Semaphore>,
    taken: AtomicU64,
}

impl Open {
    /// Waits until the time of a start has come, and takes it; returns how many were taken before. None at the end.
    async fn turn(&self) -> Option<u64> {
        match self.due.try_acquire() {
            Ok(permit) => permit.forget(),
            // What is left then, nobody was free for.
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => match self.due.acquire().await {
                Ok(permit) => permit.forget(),
                // Whoever waited may have been given a permit in time and hear of the end first: it is back by now.
                Err(_closed) if self.due.forget_permits(1) == 0 => return None,
                Err(_closed) => {}
            },
        }
        Some(self.taken.fetch_add(1, Ordering::Relaxed))
    }
}

impl Pace {
    /// Starts the clock. `interval` is that between starts; without it the loop is closed.
    pub(crate) fn start(duration: Duration, interval: Option<Duration>) -> Self {
        let started = Instant::now();
        let deadline = started + duration;
        let open = interval.map(|interval| {
            let due = Arc::new(Semaphore::new(0));
            let permits = Arc::clone(&due);
            // A thread of its own: the timers of the async runtime are good to a millisecond only.
            thread::spawn(move || keep_time(started, deadline, interval, &permits));
            Open {
                interval,
                due,
                taken: AtomicU64::new(0),
            }
        });
        Self {
            started,
            deadline,
            open,
        }
    }

    /// Waits for the next start; returns when it should have been. None at the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match &self.open {
            None => Some(Instant::now()).filter(|now| *now < self.deadline),
            Some(open) => {
                let turn = open.turn().await?;
                Some(self.started + mul(open.interval, turn))
            }
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Starts that the timetable had and nobody was free for. Their latency would have been the worst.
    pub(crate) fn missed(&self) -> u64 {
        let Some(open) = &self.open else { return 0 };
        starts(self.deadline - self.started, open.interval).saturating_sub(open.taken.load(Ordering::Relaxed))
    }

    /// How late starts that nobody was free for were at the deadline at least, each with how many of them. Their answers
    /// would have come later still.
    pub(crate) fn missed_by(&self) -> Vec<(Duration, u64)> {
        let Some(open) = &self.open else {
            return Vec::new();
        };
        let missed = self.missed();
        let taken = open.taken.load(Ordering::Relaxed);
        let group = missed.div_ceil(MISSED_GROUPS).max(1);
        (0..missed.div_ceil(group))
            .map(|number| {
                let before = number * group;
                let count = group.min(missed - before);
                // The last of a group is the least late.
                let intended = mul(open.interval, taken + before + count - 1);
                ((self.deadline - self.started).saturating_sub(intended), count)
            })
            .collect()
    }
}

fn keep_time(started: Instant, deadline: Instant, interval: Duration, due: &Semaphore) {
    let all = starts(deadline - started, interval);
    let mut released = 0;
    while released < all {
        let target = starts(started.elapsed(), interval).min(all);
        if let Ok(more) = usize::try_from(target.saturating_sub(released)) {
            due.add_permits(more);
        }
        released = released.max(target);
        thread::sleep((started + mul(interval, released)).saturating_duration_since(Instant::now()));
    }
    thread::sleep(deadline.saturating_duration_since(Instant::now()));
    due.close();
}

/// How many starts there are in a time: one at its beginning, then one an interval.
fn starts(time: Duration, interval: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(interval.as_nanos().max(1))).unwrap_or(u64::MAX)
}

fn mul(interval: Duration, turns: u64) -> Duration {
    let nanos = interval.as_nanos().saturating_mul(u128::from(turns));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::tally::Tally;

    #[tokio::test]
    async fn an_open_loop_keeps_its_timetable_and_counts_what_it_missed() {
        let pace = Pace::start(Duration::from_secs(2), Some(Duration::from_millis(100)));
        let first = pace.next().await.unwrap();
        assert_eq!(first, pace.started());
        // A slow caller: starts are due meanwhile, and keep their intended times.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = pace.next().await.unwrap();
        assert_eq!(second - first, Duration::from_millis(100));
        assert!(second.elapsed() >= Duration::from_millis(800));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(pace.next().await.is_none());
        assert_eq!(pace.missed(), 18);
    }

    /// A timetable of which the first `due` starts may be taken at once.
    fn overloaded(duration: Duration, interval: Duration, due: usize) -> Pace {
        let started = Instant::now();
        Pace {
            started,
            deadline: started + duration,
            open: Some(Open {
                interval,
                due: Arc::new(Semaphore::new(due)),
                taken: AtomicU64::new(0),
            }),
        }
    }

    #[tokio::test]
    async fn a_start_whose_time_came_before_the_end_counts_for_who_waited_for_it() {
        let pace = overloaded(Duration::from_secs(100), Duration::from_secs(1), 0);
        let due = &pace.open.as_ref().unwrap().due;
        // Both wait by then, and run again when all is over.
        let end = async {
            due.add_permits(1);
            due.close();
        };
        let (first, second, ()) = tokio::join!(pace.next(), pace.next(), end);
        assert_eq!((first, second), (Some(pace.started()), None));
        assert_eq!(pace.missed(), 99);

        // For what is left nobody was free.
        let pace = overloaded(Duration::from_secs(100), Duration::from_secs(1), 2);
        pace.open.as_ref().unwrap().due.close();
        assert_eq!(pace.next().await, None);
        assert_eq!(pace.missed(), 100);
    }

    #[tokio::test]
    async fn at_twice_what_is_taken_latencies_show_the_backlog() {
        let pace = overloaded(Duration::from_secs(100), Duration::from_secs(1), 50);
        let tally = Tally::new();
        for _ in 0..50 {
            let intended = pace.next().await.unwrap();
            // At once: what was taken shows nothing.
            tally.counts().answered(intended, 1);
        }
        let mut counts = tally.counts();
        counts.end(&pace, 1);
        assert_eq!(pace.missed(), 50);
        // The other half was due 50 s to 1 s before the deadline.
        let latency = counts.latency();
        assert!(latency.max >= 50_000.0, "{}", latency.line());
        assert!(latency.p99 >= 49_000.0, "{}", latency.line());
        assert_eq!(counts.elapsed(pace.started()), Duration::from_secs(100));
    }

    #[test]
    fn starts_missed_by_the_billion_are_told_in_groups() {
        let pace = overloaded(Duration::from_secs(10), Duration::from_nanos(1), 0);
        let groups = pace.missed_by();
        assert_eq!(groups.len(), 10_000);
        assert_eq!(groups.iter().map(|(_, count)| count).sum::<u64>(), 10_000_000_000);
        assert_eq!(
            groups[0].0,
            Duration::from_millis(9_999) + Duration::from_nanos(1)
        );
        assert_eq!(groups[9_999].0, Duration::from_nanos(1));
    }

    #[tokio::test]
    async fn a_closed_loop_starts_at_once_until_the_deadline() {
        let pace = Pace::start(Duration::from_millis(500), None);
        assert!(pace.next().await.is_some());
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(pace.next().await.is_none());
        assert_eq!(pace.missed(), 0);
    }
}
