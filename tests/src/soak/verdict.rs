//! What came of a soak, and what of it must not be.

use std::collections::BTreeMap;

use crate::Held;

/// Threads that wait for the disk, at most. The runtime keeps one for 10 s after it was last needed, and the server's own upkeep
/// needs one a few times a second, now this and now that: all may be left.
pub(super) const IDLE_THREADS: usize = 32;
/// So many tables a soak's log may make, at most, and a few files beside them.
const DATABASE_FILES: usize = 1_024 + 32;
/// What waits in the database's log for its place in tables: at most 40 MiB, and what was written while those are made.
const WAITING_BYTES: f64 = 64.0 * 1_048_576.0;
/// How far disk use may be from what is computed.
const DISK_SHARE: f64 = 0.15;
/// How much more memory and latency may be later than before, as a share and beside it.
const MEMORY_SHARE: f64 = 0.10;
const MEMORY_BYTES: f64 = 16.0 * 1_048_576.0;
const LATENCY_SHARE: f64 = 0.25;
const LATENCY_MS: f64 = 0.25;
/// How much of a load need not arrive, as a share.
const NOT_STARTED_SHARE: f64 = 0.01;

/// What came of a life.
pub struct Life {
    /// The log's size at its end.
    pub entries: u64,
    /// Entries that came in it.
    pub added: u64,
    /// Those of them that were acknowledged after the server was warm.
    pub(super) acknowledged: u64,
    /// How long that lasted.
    pub(super) seconds: f64,
    /// By kind of load.
    pub latency: BTreeMap<&'static str, Latency>,
    /// By kind of load, the share of its timetable that no client was free for.
    pub(super) not_started: BTreeMap<&'static str, f64>,
    /// Under load, a look each second.
    pub looks: Vec<Held>,
    /// At rest, before the load.
    pub before: Held,
    /// At rest, after it.
    pub after: Held,
    /// Of the data directory, when the server had ended.
    pub disk_bytes: u64,
    /// What the life added to that.
    pub added_bytes: f64,
    /// What that should be.
    pub computed_bytes: f64,
}

/// Milliseconds.
#[derive(Debug, Default, Clone, Copy)]
pub struct Latency {
    /// The median, over all clients of a kind the median of theirs.
    pub p50: f64,
    /// The 99th percentile, likewise.
    pub p99: f64,
}

impl Life {
    /// The median of what was seen of its memory in a part of its time, `part` of `parts`.
    fn memory_bytes(&self, part: usize, parts: usize) -> f64 {
        let looks = &self.looks[self.looks.len() * part / parts..self.looks.len() * (part + 1) / parts];
        median(looks.iter().map(|held| held.memory_bytes as f64).collect())
    }

    /// The median over all of its time.
    pub fn median_memory_bytes(&self) -> f64 {
        self.memory_bytes(0, 1)
    }

    /// Entries a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.seconds
    }

    /// The most of each that was seen under load.
    pub fn most(&self) -> Held {
        self.looks.iter().copied().fold(self.after, Held::most)
    }
}

/// What came of a soak.
#[derive(Default)]
pub struct Soak {
    /// Each life.
    pub lives: Vec<Life>,
    /// What must not be, however busy the machine is.
    pub broken: Vec<String>,
}

impl Soak {
    /// What grew over time that must not, or not so fast, and what load was missing. Means little in lives of a few seconds.
    pub fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        let memory_of = |bytes: f64| bytes * (1.0 + MEMORY_SHARE) + MEMORY_BYTES;
        for (number, life) in (1..).zip(&self.lives) {
            let (before, last) = (life.memory_bytes(1, 3), life.memory_bytes(2, 3));
            if last > memory_of(before) {
                grown.push(format!(
                    "life {number}: memory went from {} to {} MiB in the last two thirds",
                    mib(before),
                    mib(last)
                ));
            }
            for (kind, share) in life
                .not_started
                .iter()
                .filter(|(_, share)| **share > NOT_STARTED_SHARE)
            {
                grown.push(format!(
                    "life {number}: {kind}: {:.1} % of the load never came",
                    share * 100.0
                ));
            }
            let off = (life.added_bytes - life.computed_bytes).abs();
            if off > life.computed_bytes * DISK_SHARE + WAITING_BYTES {
                grown.push(format!(
                    "life {number}: {} MiB more on disk, and {} were computed",
                    mib(life.added_bytes),
                    mib(life.computed_bytes)
                ));
            }
        }
        let [first, second, later @ ..] = self.lives.as_slice() else {
            return grown;
        };
        for (number, life) in (3..).zip(later) {
            let (before, after) = (second.median_memory_bytes(), life.median_memory_bytes());
            if after > memory_of(before) {
                grown.push(format!(
                    "memory went from {} MiB in life 2 to {} in life {number}",
                    mib(before),
                    mib(after)
                ));
            }
            for (kind, latency) in &life.latency {
                let usual = f64::midpoint(first.latency[kind].p50, second.latency[kind].p50);
                if latency.p50 > usual * (1.0 + LATENCY_SHARE) + LATENCY_MS {
                    grown.push(format!(
                        "{kind}: p50 went from {usual:.2} ms in lives 1 and 2 to {:.2} ms in life {number}",
                        latency.p50
                    ));
                }
            }
        }
        grown
    }
}

/// What a server holds that it did not hold before its clients came.
pub(super) fn left_over(life: &Life) -> impl Iterator<Item = String> {
    let Life { before, after, .. } = life;
    let database = life.most().database_files;
    [
        (
            after.handles > before.handles,
            format!(
                "{} handles at rest, and {} before the load",
                after.handles, before.handles
            ),
        ),
        (
            after.threads > before.threads + IDLE_THREADS,
            format!(
                "{} threads at rest, and {} before the load",
                after.threads, before.threads
            ),
        ),
        (
            database > DATABASE_FILES,
            format!("{database} files of the database were open"),
        ),
    ]
    .into_iter()
    .filter_map(|(is_left, what)| is_left.then_some(what))
}

pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing but its median latency, in milliseconds, and how much memory it took.
    fn life(p50: f64, memory_mib: u64) -> Life {
        let held = Held {
            memory_bytes: memory_mib * 1_048_576,
            ..Held::default()
        };
        Life {
            entries: 0,
            added: 0,
            acknowledged: 0,
            seconds: 1.0,
            latency: BTreeMap::from([("batch", Latency { p50, p99: p50 })]),
            not_started: BTreeMap::new(),
            looks: vec![held; 9],
            before: held,
            after: held,
            disk_bytes: 0,
            added_bytes: 0.0,
            computed_bytes: 0.0,
        }
    }

    fn grown(lives: impl IntoIterator<Item = Life>) -> Vec<String> {
        let lives = lives.into_iter().collect();
        let broken = Vec::new();
        Soak { lives, broken }.grown()
    }

    /// The last may have had the machine to itself.
    #[test]
    fn each_life_from_the_third_on_is_compared_with_those_before() {
        assert_eq!(
            grown([6.0, 6.0, 9.0, 5.0].map(|p50| life(p50, 200))),
            ["batch: p50 went from 6.00 ms in lives 1 and 2 to 9.00 ms in life 3"]
        );
        assert_eq!(
            grown([200, 200, 200, 300, 200].map(|memory_mib| life(6.0, memory_mib))),
            ["memory went from 200 MiB in life 2 to 300 in life 4"]
        );
        // The first makes what is needed from then on.
        assert_eq!(
            grown([100, 200, 230].map(|memory_mib| life(6.0, memory_mib))),
            [""; 0]
        );
    }
}
