//! `std` with the threads, locks, clocks and files of the simulated machine. All else is the real one.
//!
//! Cargo gives it the name `std` where the engine's sources are compiled for the simulation, and these then need not know.
#![allow(missing_docs)]

pub use std::*;

pub mod fs;

pub mod os {
    pub use std::os::*;

    pub mod unix {
        pub use std::os::unix::*;

        pub mod fs {
            pub use std::os::unix::fs::*;

            pub use crate::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
        }
    }
}

pub mod sync;

pub mod thread {
    pub use shuttle::thread::{
        Builder, JoinHandle, Scope, ScopedJoinHandle, Thread, ThreadId, current, scope, spawn, yield_now,
    };
    pub use std::thread::*;

    use counterfoil_simulated_machine::machine;
    use std::time::Duration;

    pub fn sleep(duration: Duration) {
        let mut waited = crate::time::Waiting::new(duration);
        while !machine(|machine| waited.is_over(machine)) {
            yield_now();
        }
    }
}

pub mod time {
    //! Time passes while somebody waits for it, and a little with each call of the machine.

    use std::ops::Add;
    pub use std::time::*;

    use counterfoil_simulated_machine::{Machine, machine};

    /// A point of the clock that never goes back.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Instant(Duration);

    impl Instant {
        pub fn now() -> Self {
            Self(Duration::from_nanos(machine(Machine::monotonic_ns)))
        }

        pub fn elapsed(&self) -> Duration {
            Self::now().saturating_duration_since(*self)
        }

        pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Self;

        fn add(self, duration: Duration) -> Self {
            Self(self.0 + duration)
        }
    }

    /// A point of the clock on the wall, which the simulation sets back and forth.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct SystemTime(Duration);

    pub const UNIX_EPOCH: SystemTime = SystemTime(Duration::ZERO);

    /// An earlier point is later.
    #[derive(Debug, Clone)]
    pub struct SystemTimeError;

    impl SystemTime {
        pub fn now() -> Self {
            Self(Duration::from_nanos(machine(Machine::wall_ns)))
        }

        pub fn duration_since(&self, earlier: Self) -> Result<Duration, SystemTimeError> {
            self.0.checked_sub(earlier.0).ok_or(SystemTimeError)
        }
    }

    /// Somebody who waits.
    pub(crate) struct Waiting(Duration);

    impl Waiting {
        pub(crate) fn new(duration: Duration) -> Self {
            let now = machine(Machine::monotonic_ns);
            Self(Duration::from_nanos(now).saturating_add(duration))
        }

        /// Whether it was long enough. If not, some more time passes.
        pub(crate) fn is_over(&mut self, machine: &mut Machine) -> bool {
            let now = Duration::from_nanos(machine.monotonic_ns());
            let left = self.0.saturating_sub(now);
            if left.is_zero() {
                return true;
            }
            machine.pass_time(left);
            false
        }
    }
}
