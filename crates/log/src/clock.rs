//! The only place where the engine reads a clock.

use std::{
    num::NonZeroU64,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use counterfoil_merkle::TreeSize;
use counterfoil_note::UnixMillis;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Nanoseconds since 1970. A clock set before that reads as 1.
pub(crate) fn unix_ns() -> NonZeroU64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos())
        .ok()
        .and_then(NonZeroU64::new)
        .unwrap_or(NonZeroU64::MIN)
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> UnixMillis {
    millis(unix_ns())
}

/// The millisecond that a moment lies in.
pub(crate) fn millis(unix_ns: NonZeroU64) -> UnixMillis {
    UnixMillis::new(unix_ns.get() / NANOS_PER_MILLI)
}

/// The log's own clock. It never goes back, whatever the system's does, and no smaller tree is signed at a later time
/// than a larger one: that would be evidence against the log.
///
/// A commit head bears the time of its newest leaf, which is on disk with the leaf before anyone sees the head. A head
/// that is signed anew is on disk as well before anyone sees it. So what is on disk is never behind what was shown,
/// and a restart goes on from there.
pub(crate) struct LogClock(Mutex<Reading>);

struct Reading {
    newest: NonZeroU64,
    /// The size of the newest tree whose leaves have their times; none while a batch gets its own.
    stamped: Option<TreeSize>,
}

impl LogClock {
    /// Goes on from the newest leaf of a recovered tree and from heads signed earlier.
    pub(crate) fn new(size: TreeSize, leaf_unix_ns: u64, heads: impl Iterator<Item = UnixMillis>) -> Self {
        let newest = heads
            .map(|time| time.get().saturating_mul(NANOS_PER_MILLI))
            .fold(leaf_unix_ns, u64::max);
        Self(Mutex::new(Reading {
            newest: NonZeroU64::new(newest).unwrap_or(NonZeroU64::MIN),
            stamped: Some(size),
        }))
    }

    /// The time of a batch. No head of a smaller tree is signed from now on.
    pub(crate) fn begin_batch(&self) -> NonZeroU64 {
        let mut reading = self.reading();
        reading.stamped = None;
        reading.advance()
    }

    /// The batch has its leaves: the tree is of this size, or will be when they are on disk. Also after batches failed.
    pub(crate) fn end_batch(&self, size: TreeSize) {
        self.reading().stamped = Some(size);
    }

    /// The time to sign the tree of `size` anew. None if there will be a larger one.
    pub(crate) fn time_to_sign_anew(&self, size: TreeSize) -> Option<UnixMillis> {
        let mut reading = self.reading();
        (reading.stamped == Some(size)).then(|| millis(reading.advance()))
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn advance(&mut self) -> NonZeroU64 {
        self.newest = unix_ns().max(self.newest);
        self.newest
    }
}
