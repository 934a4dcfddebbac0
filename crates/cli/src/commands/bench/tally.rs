//! What a run counted.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use counterfoil_client::Error;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::pace::Pace;
use crate::{failure::Failure, output::Facts};

/// Latencies are kept to three digits up to this; slower answers count as this slow.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// Counts and latencies of all workers.
pub(crate) struct Tally {
    counts: Mutex<Counts>,
}

pub(crate) struct Counts {
    latency_us: Histogram<u64>,
    pub(crate) acknowledged: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) verified: u64,
    /// When the last answer came; in the end, when the run did.
    last: Instant,
    first_problem: Option<String>,
    /// The log did what it must not: the run ends.
    fatal: Option<Failure>,
}

/// Milliseconds.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("the bounds are valid");
        Self {
            counts: Mutex::new(Counts {
                latency_us,
                acknowledged: 0,
                duplicates: 0,
                refused: 0,
                failed: 0,
                verified: 0,
                last: Instant::now(),
                first_problem: None,
                fatal: None,
            }),
        }
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it counts")
    }

    pub(crate) fn is_over(&self) -> bool {
        self.counts().fatal.is_some()
    }
}

impl Counts {
    /// Takes in `events` answers that came now, to calls that should have started at `intended`.
    pub(crate) fn answered(&mut self, intended: Instant, events: u64) {
        let now = Instant::now();
        self.record(now - intended, events);
        self.last = now;
    }

    fn record(&mut self, latency: Duration, events: u64) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record_n(latency_us.max(1), events);
    }

    /// Takes in the calls that never started, for `events` each: latencies without them would be those of the lucky ones.
    ///
    /// A run ends with its last answer, but where calls start by the clock, or some were refused or failed, not before its
    /// deadline: else a log that soon takes nothing more would keep the rate that it began with.
    pub(crate) fn end(&mut self, pace: &Pace, events: u64) {
        for (late, starts) in pace.missed_by() {
            self.record(late, starts * events);
        }
        if pace.is_open() || self.refused + self.failed > 0 {
            self.last = self.last.max(pace.deadline());
        }
    }

    pub(crate) fn refused(&mut self, problem: &dyn std::fmt::Display) {
        self.refused += 1;
        self.first_problem.get_or_insert_with(|| problem.to_string());
    }

    /// Takes in a call for `events` that has no answer.
    pub(crate) fn unanswered(&mut self, problem: &dyn std::fmt::Display, events: u64) {
        self.failed += events;
        self.first_problem.get_or_insert_with(|| problem.to_string());
    }

    /// Takes in a call for `events` that has no usable answer. If the log did what it must not, the run ends.
    pub(crate) fn failed(&mut self, error: Error, events: u64) {
        self.unanswered(&error, events);
        if matches!(error, Error::Misbehaviour(_) | Error::InvalidAnswer(_)) {
            self.fatal.get_or_insert(error.into());
        }
    }

    pub(crate) fn elapsed(&self, started: Instant) -> Duration {
        self.last.saturating_duration_since(started)
    }

    pub(crate) fn first_problem(&self) -> Option<String> {
        self.first_problem.clone()
    }

    /// What went wrong first, for people. A server may have chosen the words.
    pub(crate) fn tell_first_problem(&self, facts: &mut Facts) {
        if let Some(problem) = &self.first_problem {
            facts.add("first problem", problem);
        }
    }

    pub(crate) fn take_fatal(&mut self) -> Option<Failure> {
        self.fatal.take()
    }

    pub(crate) fn latency(&self) -> Latency {
        #[allow(clippy::cast_precision_loss, reason = "an hour of microseconds has 32 bits")]
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile: f64| ms(self.latency_us.value_at_quantile(quantile));
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: ms(self.latency_us.max()),
        }
    }
}

/// How many a second, to one decimal.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds == 0.0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    let rate = count as f64 / seconds;
    (rate * 10.0).round() / 10.0
}

impl Latency {
    /// In one line, for people.
    pub(crate) fn line(&self) -> String {
        let Self {
            p50,
            p90,
            p99,
            p99_9,
            max,
        } = self;
        format!("p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, p99.9 {p99_9} ms, max {max} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_a_refusal_lasts_until_its_deadline() {
        const HOUR: Duration = Duration::from_secs(3600);
        let pace = Pace::start(HOUR, None);
        let tally = Tally::new();
        let mut counts = tally.counts();
        counts.answered(pace.started(), 1);
        counts.end(&pace, 1);
        assert_ne!(counts.elapsed(pace.started()), HOUR);
        counts.refused(&"the disk is full");
        counts.end(&pace, 1);
        assert_eq!(counts.elapsed(pace.started()), HOUR);
    }

    #[test]
    fn a_servers_words_do_nothing_to_a_terminal() {
        let tally = Tally::new();
        tally.counts().refused(&"full\u{1b}[2J\nacknowledged  9");
        let mut facts = Facts::default();
        tally.counts().tell_first_problem(&mut facts);
        assert_eq!(
            facts.to_string(),
            "first problem  full\u{fffd}[2J\u{fffd}acknowledged  9\n"
        );
    }
}
