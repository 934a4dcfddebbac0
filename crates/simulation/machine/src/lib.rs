//! A machine that exists in memory only: a clock, chance, files and databases. One seed decides everything that happens
//! on it.
//!
//! What programs ask of it goes through [`perform`], where other threads may get their turn, the call may fail, and the
//! machine may stop. A machine that lost its power keeps what was synced, and of the rest what chance lets survive. It
//! knows nothing of logs.
//!
//! There is one machine for each thread of the system. All simulated threads run on that one.

mod database;
mod files;

use std::{cell::RefCell, collections::BTreeMap, fmt, io, time::Duration};

pub use database::{Database, Row, Write};
pub use files::{Files, Inode, Kind, Node, Saved};

/// What programs ask of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Looking at a file's name, length or mode, or at what a directory holds.
    Look,
    /// Reading a file.
    Read,
    /// Making a file or directory.
    Create,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDirectory,
    /// Moving a file to another name.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Asking how much room the disk has.
    Room,
    /// Opening a database, which replays its log.
    OpenDatabase,
    /// Reading a row of a database.
    ReadRow,
    /// Appending a batch to a database's log.
    Append,
    /// Syncing a database's log.
    SyncLog,
    /// Writing a database's memory to tables.
    Flush,
}

impl Call {
    /// Whether it takes room on the disk.
    fn fills(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Write
                | Self::Rename
                | Self::Sync
                | Self::Append
                | Self::SyncLog
                | Self::Flush
        )
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Look => "look at a file",
            Self::Read => "read a file",
            Self::Create => "make a file",
            Self::Write => "write a file",
            Self::Sync => "sync a file",
            Self::SyncDirectory => "sync a directory",
            Self::Rename => "rename a file",
            Self::Remove => "remove a file",
            Self::Room => "ask for room",
            Self::OpenDatabase => "open the database",
            Self::ReadRow => "read a row",
            Self::Append => "append to the database's log",
            Self::SyncLog => "sync the database's log",
            Self::Flush => "flush the database",
        })
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// EIO.
    Io,
    /// ENOSPC.
    NoSpace,
}

impl Fault {
    /// The error that a program gets.
    pub fn error(self) -> io::Error {
        // In the words of the system, which some look for.
        io::Error::from_raw_os_error(match self {
            Self::Io => 5,
            Self::NoSpace => 28,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "EIO",
            Self::NoSpace => "ENOSPC",
        })
    }
}

/// How the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The process is killed. The system goes on and forgets nothing.
    Killed,
    /// The power is lost. What was not synced survives by chance, in any order.
    PowerLost,
}

/// What is going to happen to the machine until it is next told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// After this many more moments it stops. Each call has two: before its effect and after.
    pub stop: Option<(u64, Stop)>,
    /// One call in so many fails, on average.
    pub one_fault_in: Option<u64>,
}

/// What has happened.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Calls made.
    pub calls: u64,
    /// Calls that failed, by kind.
    pub faults: BTreeMap<(Call, Fault), u64>,
    /// How often the clock on the wall was set.
    pub clock_steps: u64,
}

impl Counts {
    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.clock_steps += other.clock_steps;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

/// See the crate.
pub struct Machine {
    chance: fastrand::Rng,
    now_ns: u64,
    /// What the clock on the wall shows beyond `now_ns`. It is set back and forth.
    wall_offset_ns: u64,
    plan: Plan,
    stopped: Option<Stop>,
    files: Files,
    trace: blake3::Hasher,
    counts: Counts,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// 2026-01-01T00:00:00Z.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// How far the clock on the wall is set back or forth.
const WALL_RANGE_NS: u64 = 120_000_000_000;

impl Machine {
    /// Puts a new machine in the place of the one before.
    pub fn install(seed: u64) {
        let machine = Self {
            chance: fastrand::Rng::with_seed(seed),
            now_ns: EPOCH_NS,
            wall_offset_ns: WALL_RANGE_NS / 2,
            plan: Plan::default(),
            stopped: None,
            files: Files::new(),
            trace: blake3::Hasher::new(),
            counts: Counts::default(),
        };
        MACHINE.set(Some(machine));
    }

    /// Starts the machine again after it stopped, and says what is to happen to it.
    pub fn start(&mut self, plan: Plan) {
        if self.stopped.take().is_some() {
            self.now_ns += self.chance.u64(..10_000_000_000);
        }
        self.plan = plan;
    }

    /// Changes what is to happen, of a machine that may have stopped.
    pub fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
    }

    /// What is to happen.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Whether it has stopped. Programs that run on are ghosts: all their calls fail, and nobody hears from them.
    pub fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// How it stopped.
    pub fn stopped_by(&self) -> Option<Stop> {
        self.stopped
    }

    /// Stops it now.
    pub fn stop(&mut self, stop: Stop) {
        if self.has_stopped() {
            return;
        }
        self.stopped = Some(stop);
        self.note(b"stop", &[stop as u8]);
        match stop {
            Stop::Killed => {}
            Stop::PowerLost => self.files.lose_power(&mut self.chance),
        }
        self.files.end_processes();
    }

    /// The process ended by itself: what it had open is closed.
    pub fn end_process(&mut self) {
        self.files.end_processes();
    }

    /// Chance, for all who need it.
    pub fn chance(&mut self) -> &mut fastrand::Rng {
        &mut self.chance
    }

    /// Its disk. Looking at it is no call.
    pub fn files(&mut self) -> &mut Files {
        &mut self.files
    }

    /// What has happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Adds to the trace: what is the same in two runs of one seed.
    pub fn note(&mut self, what: &[u8], detail: &[u8]) {
        self.trace
            .update(&[u8::try_from(what.len()).expect("it is a short name")]);
        self.trace.update(what);
        self.trace.update(&detail.len().to_le_bytes());
        self.trace.update(detail);
    }

    /// The digest of all that happened so far.
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// A clock that never goes back.
    pub fn monotonic_ns(&mut self) -> u64 {
        self.now_ns += self.chance.u64(..5_000);
        self.now_ns
    }

    /// The clock on the wall, nanoseconds since 1970.
    pub fn wall_ns(&mut self) -> u64 {
        if self.one_in(8) {
            self.wall_offset_ns = self.chance.u64(..WALL_RANGE_NS);
            self.counts.clock_steps += 1;
        }
        self.monotonic_ns() + self.wall_offset_ns
    }

    /// Has some time pass for somebody who waits: at most `most`, or all of it for a ghost.
    pub fn pass_time(&mut self, most: Duration) {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        let some = match self.one_in(16) {
            true => 100_000_000,
            false => 1_000_000,
        };
        self.now_ns += match self.stopped {
            Some(_) => most,
            None => self.chance.u64(1..=most.min(some)),
        };
    }

    /// One in `many`, by chance.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.chance.u64(..many) == 0
    }

    /// A moment at which the machine may stop.
    fn moment(&mut self) -> io::Result<()> {
        if let Some((left, stop)) = &mut self.plan.stop
            && self.stopped.is_none()
        {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => {
                    let stop = *stop;
                    self.stop(stop);
                }
            }
        }
        if self.has_stopped() {
            return Err(io::Error::other("the machine has stopped"));
        }
        Ok(())
    }

    /// How this call fails, if it is to.
    fn fault(&mut self, call: Call) -> Option<Fault> {
        let many = self.plan.one_fault_in?;
        if !self.one_in(many) {
            return None;
        }
        let fault = match call.fills() && self.chance.bool() {
            true => Fault::NoSpace,
            false => Fault::Io,
        };
        *self.counts.faults.entry((call, fault)).or_default() += 1;
        Some(fault)
    }

    fn begin(&mut self, call: Call, subject: &[u8]) -> io::Result<Option<Fault>> {
        self.moment()?;
        self.counts.calls += 1;
        self.now_ns += self.chance.u64(..200_000);
        self.note(&[call as u8], subject);
        let fault = self.fault(call);
        if let Some(fault) = fault {
            self.note(b"fault", &[fault as u8]);
        }
        Ok(fault)
    }
}

/// Uses the machine. Nothing that lets other threads run may happen meanwhile.
///
/// # Panics
/// If none is installed.
pub fn machine<T>(use_it: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with_borrow_mut(|machine| use_it(machine.as_mut().expect("a machine is installed")))
}

/// Calls the machine. Other threads may run first; then it may stop, or the call may fail, with or without its effect; or
/// it has its effect, and the machine may stop before anybody hears of it.
pub fn perform<T>(
    call: Call,
    subject: impl AsRef<[u8]>,
    effect: impl FnOnce(&mut Machine) -> io::Result<T>,
) -> io::Result<T> {
    perform_or(call, subject, effect, |machine, _| {
        // Half of the calls that fail had their effect all the same. Reading has none.
        machine.chance.bool()
    })
}

/// As [`perform`], for a call that says itself what is left of one that fails: `on_fault` tells whether the effect takes
/// place.
pub fn perform_or<T>(
    call: Call,
    subject: impl AsRef<[u8]>,
    effect: impl FnOnce(&mut Machine) -> io::Result<T>,
    on_fault: impl FnOnce(&mut Machine, Fault) -> bool,
) -> io::Result<T> {
    shuttle::thread::yield_now();
    machine(|machine| {
        let fault = machine.begin(call, subject.as_ref())?;
        if let Some(fault) = fault {
            if on_fault(machine, fault) {
                effect(machine)?;
            }
            return Err(fault.error());
        }
        let done = effect(machine)?;
        machine.moment()?;
        Ok(done)
    })
}
