//! The wrapped command: its own standard streams, its signals, its exit code.

use std::{
    ffi::OsString,
    fs, future,
    io::{self, ErrorKind},
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, waitid},
    stdio::stdin,
    termios::tcgetpgrp,
};
use tokio::signal::unix::{self, SignalKind};

/// What a shell returns for a command that is not there, and for one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// What `env` and `timeout` return for a failure of their own.
const UNKNOWN: u8 = 125;
/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: u8 = 128;

/// How a command ended.
#[derive(Debug)]
pub(super) enum Ending {
    Exited(u8),
    /// By this signal.
    Killed(u8),
    NotStarted(io::Error),
    /// It ran, and the system does not say how it ended.
    Unknown(io::Error),
}

/// What there is to tell of a command.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) duration: Duration,
    /// Somebody asked for the end, by a signal that was passed on.
    pub(super) cancelled: bool,
}

impl Ending {
    /// The end that a signal would have brought.
    pub(super) fn by(signal: Signal) -> Self {
        Self::Killed(u8::try_from(signal.as_raw()).unwrap_or(u8::MAX))
    }

    /// What to return in its place, as a shell does.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::Killed(signal) => SIGNALLED.saturating_add(*signal),
            Self::NotStarted(error) if error.kind() == ErrorKind::NotFound => NOT_FOUND,
            Self::NotStarted(_) => NOT_EXECUTABLE,
            Self::Unknown(_) => UNKNOWN,
        }
    }
}

/// The signals by which runners and people end a job.
pub(super) struct EndSignals {
    terminate: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    hang_up: Option<unix::Signal>,
}

impl EndSignals {
    /// From now on they end this process no more. One that is ignored, as by `nohup`, stays so.
    pub(super) fn catch() -> io::Result<Self> {
        let ignored = ignored();
        let catch = |signal: Signal, kind| {
            let bit = 1_u64 << (signal.as_raw() - 1);
            (ignored & bit == 0).then(|| unix::signal(kind)).transpose()
        };
        Ok(Self {
            terminate: catch(Signal::TERM, SignalKind::terminate())?,
            interrupt: catch(Signal::INT, SignalKind::interrupt())?,
            hang_up: catch(Signal::HUP, SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            () = received(&mut self.terminate) => Signal::TERM,
            () = received(&mut self.interrupt) => Signal::INT,
            () = received(&mut self.hang_up) => Signal::HUP,
        }
    }
}

/// Waits for a signal; without end for one that is ignored.
async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => future::pending().await,
    }
}

/// The signals that this process ignores, a bit each from the lowest on (proc_pid_status(5)). None where that can't be read.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Runs a command to its end, and passes signals on.
pub(super) async fn run(command: &[OsString], signals: &mut EndSignals) -> Ended {
    let started = Instant::now();
    let mut cancelled = false;
    let ending = match supervise(command, signals, &mut cancelled).await {
        Ok(ending) => ending,
        Err(error) => Ending::NotStarted(error),
    };
    Ended {
        ending,
        duration: started.elapsed(),
        cancelled,
    }
}

async fn supervise(
    command: &[OsString],
    signals: &mut EndSignals,
    cancelled: &mut bool,
) -> io::Result<Ending> {
    let (program, arguments) = command.split_first().ok_or(ErrorKind::InvalidInput)?;
    // Where SIGCHLD is ignored, as this process may have inherited it, the kernel keeps no child's end for who waits for it.
    let _child_ended = unix::signal(SignalKind::child())?;
    let mut child = Command::new(program).args(arguments).spawn()?;
    let pid = Pid::from_child(&child);
    // The child is looked at and left where it is, so that its id is still its own while signals are passed on.
    let ended = move || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let mut ended = tokio::task::spawn_blocking(move || retry_on_intr(ended));
    loop {
        tokio::select! {
            _ = &mut ended => break,
            signal = signals.next() => {
                *cancelled = true;
                if !(signal == Signal::INT && terminal_signals_child()) {
                    // It may have ended in this moment.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => return Ok(Ending::Unknown(error)),
    };
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    Ok(
        match (
            status.code(),
            std::os::unix::process::ExitStatusExt::signal(&status),
        ) {
            (Some(code), _) => Ending::Exited(number(code)),
            (None, signal) => Ending::Killed(signal.map_or(0, number)),
        },
    )
}

/// Whether Ctrl-C comes from a terminal whose foreground we are in: then the child has got it, and must not get it twice.
fn terminal_signals_child() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == getpgrp())
}
