//! The only place where the engine reads a clock.

use std::{
    num::NonZeroU64,
    time::{SystemTime, UNIX_EPOCH},
};

use counterfoil_note::UnixMillis;

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
    UnixMillis::new(unix_ns().get() / 1_000_000)
}
