//! The only place where the witness reads a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use counterfoil_note::UnixSeconds;

/// 2026-01-01T00:00:00Z. A clock that shows less was never set: this software is younger.
const EARLIEST_SECONDS: u64 = 1_767_225_600;

/// The time for a cosignature, unless the clock was never set.
pub(crate) fn unix_seconds() -> Option<UnixSeconds> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    since_earliest(seconds)
}

fn since_earliest(seconds: u64) -> Option<UnixSeconds> {
    (seconds >= EARLIEST_SECONDS)
        .then(|| UnixSeconds::new(seconds).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_gives_no_time() {
        for seconds in [0, 1, EARLIEST_SECONDS - 1, u64::MAX] {
            assert!(since_earliest(seconds).is_none(), "{seconds}");
        }
        assert!(since_earliest(EARLIEST_SECONDS).is_some());
        assert!(unix_seconds().is_some());
    }
}
