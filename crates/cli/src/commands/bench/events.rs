//! Events to load a log with: the report of a CI job in JSON, each different, as large as asked for.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use counterfoil_event::{Event, EventParts, limits::MAX_DATA_BYTES};
use fastrand::Rng;

use crate::{commands::submit::random_id, failure::Failure};

/// How many different reports are prepared. An event is one of them with its own run id and commit.
const TEMPLATES: usize = 512;
/// Most bytes of prepared reports, however large one is.
const MAX_TEMPLATE_BYTES: usize = 16 << 20;
/// Hex digits at the beginning of a report that each event has for itself.
const RUN_ID_DIGITS: usize = 16;
const COMMIT_DIGITS: usize = 40;
const HEAD: &str =
    "{\"run\":{\"id\":\"0123456789abcdef\"},\"commit\":\"0123456789012345678901234567890123456789\"";
const RUN_ID_AT: usize = 14;
const COMMIT_AT: usize = 43;

const STEPS: [&str; 10] = [
    "Check out the source",
    "Set up the toolchain",
    "Restore the cache",
    "Compile",
    "Lint",
    "Run unit tests",
    "Run integration tests",
    "Build the image",
    "Push the image",
    "Upload artifacts",
];
const OUTCOMES: [&str; 4] = ["success", "success", "skipped", "failure"];

/// Makes events that no log has seen.
pub(crate) struct Events {
    source: String,
    templates: Vec<Vec<u8>>,
    media_type: &'static str,
    next: AtomicU64,
    seed: u64,
}

impl Events {
    /// Prepares events with payloads of `size` bytes.
    pub(crate) fn new(size: usize) -> Result<Self, Failure> {
        if size > MAX_DATA_BYTES {
            return Err(Failure::usage(format!(
                "--size is at most {MAX_DATA_BYTES} bytes"
            )));
        }
        let run = random_id()?;
        let seed = u64::from_str_radix(&run[..16], 16).expect("16 hex digits are 64 bits");
        let count = TEMPLATES.min(MAX_TEMPLATE_BYTES / size.max(1)).max(1);
        let mut random = Rng::with_seed(seed);
        let is_json = size > HEAD.len() + 16;
        let templates = (0..count)
            .map(|_| {
                if is_json {
                    report(size, &mut random)
                } else {
                    digits(size, &mut random)
                }
            })
            .collect();
        let media_type = if is_json { "application/json" } else { "text/plain" };
        Ok(Self {
            source: format!("bench:{run}"),
            templates,
            media_type,
            next: AtomicU64::new(0),
            seed,
        })
    }

    /// The next `count` events. Their payloads share one allocation.
    pub(crate) fn next(&self, count: usize) -> Vec<Event> {
        let first = self.next.fetch_add(count as u64, Ordering::Relaxed);
        let numbers = first..first + count as u64;
        let template = |number: u64| {
            let place = number % self.templates.len() as u64;
            &self.templates[usize::try_from(place).expect("less than the number of templates")]
        };
        let mut arena = BytesMut::with_capacity(count * template(0).len());
        for number in numbers.clone() {
            let start = arena.len();
            arena.extend_from_slice(template(number));
            self.individualise(&mut arena[start..], number);
        }
        let mut arena = arena.freeze();
        numbers
            .map(|number| self.event(number, arena.split_to(template(number).len())))
            .collect()
    }

    fn event(&self, number: u64, data: Bytes) -> Event {
        Event::try_from(EventParts {
            id: format!("{number:016x}"),
            source: self.source.clone(),
            event_type: "ci.job.finished".to_owned(),
            data_content_type: self.media_type.to_owned(),
            data,
            ..EventParts::default()
        })
        .expect("all attributes are short and printable")
    }

    /// Writes the run id and a commit of its own into a report.
    fn individualise(&self, report: &mut [u8], number: u64) {
        if self.media_type != "application/json" {
            // Too small for a report: as many digits of the number as there is room for.
            let room = report.len().min(RUN_ID_DIGITS);
            return write_hex(
                &mut report[..room],
                number.rotate_left(64 - 4 * u32::try_from(room).unwrap_or(0)),
            );
        }
        write_hex(&mut report[RUN_ID_AT..RUN_ID_AT + RUN_ID_DIGITS], number);
        let mut random = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for digits in report[COMMIT_AT..COMMIT_AT + COMMIT_DIGITS].chunks_mut(16) {
            write_hex(digits, random.u64(..));
        }
    }
}

/// A JSON object of exactly `size` bytes. Names, times and digests in the proportion of real reports: zstd takes a
/// report of 1 KiB to about half.
fn report(size: usize, random: &mut Rng) -> Vec<u8> {
    let mut json = format!(
        "{HEAD},\"repo\":{{\"id\":{},\"full_name\":\"acme/widgets-{}\"}},\"ref\":\"refs/heads/topic-{}\",\
         \"attempt\":{},\"actor\":{{\"id\":{},\"login\":\"dev{}\"}},\"steps\":[",
        random.usize(..1 << 30),
        random.usize(..40),
        random.usize(..500),
        1 + random.usize(..3),
        random.usize(..1 << 24),
        random.usize(..200),
    );
    let mut separator = "";
    loop {
        let step = step(separator, random);
        if json.len() + step.len() + CLOSING_BYTES > size {
            break;
        }
        json.push_str(&step);
        separator = ",";
    }
    // What is left is filled with a digest cut to length.
    let mut report = if json.len() + CLOSING_BYTES <= size {
        json.push_str("],\"log_digest\":\"");
        json.into_bytes()
    } else {
        format!("{HEAD},\"log_digest\":\"").into_bytes()
    };
    let room = size - report.len() - 2;
    report.extend(digits(room, random));
    report.extend_from_slice(b"\"}");
    report
}

/// Bytes of `],"log_digest":""}`.
const CLOSING_BYTES: usize = 18;

fn step(separator: &str, random: &mut Rng) -> String {
    let mut step = String::new();
    let name = STEPS[random.usize(..STEPS.len())];
    let outcome = OUTCOMES[random.usize(..OUTCOMES.len())];
    write!(
        step,
        "{separator}{{\"name\":\"{name}\",\"outcome\":\"{outcome}\",\"ms\":{},\"log\":\"sha256:{:016x}{:016x}\"}}",
        random.usize(..100_000),
        random.u64(..),
        random.u64(..),
    )
    .expect("writing to a string does not fail");
    step
}

fn digits(count: usize, random: &mut Rng) -> Vec<u8> {
    let mut digits = vec![0; count];
    for chunk in digits.chunks_mut(16) {
        write_hex(chunk, random.u64(..));
    }
    digits
}

/// Writes the highest digits of a number.
fn write_hex(room: &mut [u8], number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in room.chunks_mut(2).zip(number.to_be_bytes()) {
        let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        pair.copy_from_slice(&digits[..pair.len()]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn payloads_are_as_large_as_asked_for_and_all_different() {
        for size in [8, 16, 99, 100, 101, 120, 300, 1024, 4096, 100_000] {
            let events = Events::new(size).unwrap();
            let made: Vec<Event> = (0..30).flat_map(|_| events.next(50)).collect();
            assert!(made.iter().all(|event| event.data().len() == size), "{size}");
            assert_eq!(
                made.iter().map(Event::data).collect::<HashSet<_>>().len(),
                made.len(),
                "{size}"
            );
            assert_eq!(
                made.iter().map(Event::key).collect::<HashSet<_>>().len(),
                made.len()
            );
            if made[0].data_content_type() == "application/json" {
                for event in made {
                    let json: serde_json::Value = serde_json::from_slice(event.data()).unwrap();
                    assert_eq!(json["run"]["id"].as_str(), Some(event.id()));
                }
            }
        }
        assert!(Events::new(MAX_DATA_BYTES + 1).is_err());
    }

    #[test]
    fn another_run_has_other_events() {
        let (one, other) = (Events::new(1024).unwrap(), Events::new(1024).unwrap());
        assert_ne!(one.next(1)[0].key(), other.next(1)[0].key());
    }

    /// What the comment on `report` says.
    #[test]
    fn a_report_compresses_to_about_half() {
        for event in Events::new(1024).unwrap().next(100) {
            let compressed = zstd::encode_all(event.data().as_ref(), 3).unwrap().len();
            assert!((400..640).contains(&compressed), "{compressed} of 1024 bytes");
        }
    }
}
