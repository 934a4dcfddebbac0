//! Puts real servers through crashes of every kind, for as long as one likes, and prints what came of it.
//! `cargo xtask strength crash` builds and starts it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::{Parser, ValueEnum};
use comfy_table::{Table, presets};
use counterfoil_tests::{
    crash::{self, Counts, Fault, KEPT, Outcome, Subject},
    power::can_trace,
};
use fastrand::Rng;
use tokio::task::{self, JoinError};

/// A log is left for a new one after so many rounds, so that checking all of it stays quick.
const ROUNDS_OF_A_LOG: u64 = 25;
/// The same where each round checks as many disks as the power is lost on.
const POWER_ROUNDS_OF_A_LOG: u64 = 5;
/// How often the power is lost in each recorded run.
const POWER_LOSSES: usize = 12;

/// Crash real servers in every way, and check every promise they ever gave
#[derive(Parser)]
#[command(name = "cargo xtask strength crash")]
struct Options {
    /// Only this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// What all chance comes from; drawn, and printed, if not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many rounds of each kind; faults have one for each call, outcome and place at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    rounds: u64,
    /// When to begin no further round of a kind
    #[arg(long, value_name = "N", default_value_t = 3600)]
    seconds: u64,
    /// Fail if a kind can't be run here, instead of passing it over
    #[arg(long)]
    all_kinds: bool,
    /// Where the directory of a log that broke a promise is kept
    #[arg(long, value_name = "DIRECTORY", default_value = "counterfoil-broken")]
    keep: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// SIGKILL at random under load, SIGSTOP, two servers on a directory
    Kill,
    /// Lost power: what was not synced is lost, or torn
    Power,
    /// System calls that fail with EIO or ENOSPC, or kill
    Faults,
    /// A disk that is full
    Full,
    /// A clock that is set back
    Clock,
}

/// What came of a kind.
#[derive(Default)]
struct Came {
    rounds: u64,
    entries: usize,
    heads: usize,
    counts: Counts,
    /// How often a call did fail in such a way.
    hits: BTreeMap<(&'static str, Outcome), u64>,
    broken: bool,
    took: Duration,
}

impl Came {
    fn add(&mut self, counts: Counts) {
        for (what, times) in counts {
            *self.counts.entry(what).or_default() += times;
        }
    }

    /// Takes in what came of some rounds; whatever broke in them has been said.
    fn take(&mut self, part: Result<Self, JoinError>) {
        let Ok(part) = part else {
            self.broken = true;
            return;
        };
        self.rounds += part.rounds;
        self.entries += part.entries;
        self.heads += part.heads;
        self.add(part.counts);
        for (fault, hits) in part.hits {
            *self.hits.entry(fault).or_default() += hits;
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("--seed {seed}");
    let kinds = match options.only.as_slice() {
        [] => Kind::value_variants(),
        only => only,
    };
    let mut all = Vec::new();
    for kind in kinds {
        let came = run(*kind, Rng::with_seed(seed), &options).await;
        all.push((*kind, came));
    }
    println!("{}", table(&all));
    let is_missing = |came: &Came| options.all_kinds && came.rounds == 0;
    if all.iter().any(|(_, came)| came.broken || is_missing(came)) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(kind: Kind, mut random: Rng, options: &Options) -> Came {
    let started = Instant::now();
    let deadline = started + Duration::from_secs(options.seconds);
    let mut came = Came::default();
    let mut faults = Fault::all();
    random.shuffle(&mut faults);
    let rounds = match kind {
        Kind::Faults => options.rounds.min(faults.len() as u64),
        _ => options.rounds,
    };
    let rounds_of_a_log = match kind {
        Kind::Power => POWER_ROUNDS_OF_A_LOG,
        _ => ROUNDS_OF_A_LOG,
    };
    let can_run = !matches!(kind, Kind::Power | Kind::Faults) || can_trace();
    let mut logs = 0;
    while can_run && !came.broken && came.rounds < rounds && Instant::now() < deadline {
        let log = Log {
            kind,
            number: logs,
            first_round: came.rounds,
            rounds: (rounds - came.rounds).min(rounds_of_a_log),
            faults: faults.clone(),
            deadline,
            keep: options.keep.clone(),
        };
        // A task of its own, so that what breaks in it ends it alone.
        let part = task::spawn(log.run(random.fork())).await;
        if part.as_ref().is_ok_and(|part| part.rounds == 0) {
            break;
        }
        came.take(part);
        logs += 1;
    }
    let wants_all_faults = kind == Kind::Faults && options.rounds >= faults.len() as u64;
    if can_run && wants_all_faults && !came.broken {
        if came.rounds < rounds {
            println!(
                "NOT AS IT MUST BE: of {rounds} faults there was time for {} in {} s",
                came.rounds, options.seconds
            );
            came.broken = true;
        } else {
            for ((call, outcome), _) in came.hits.iter().filter(|(_, hits)| **hits == 0) {
                println!("NOT AS IT MUST BE: {call} was never made to fail with {outcome:?}");
                came.broken = true;
            }
        }
    }
    let kept = came.counts.get(KEPT).copied().unwrap_or_default();
    if kind == Kind::Power && came.rounds > 0 && !came.broken && kept == 0 {
        println!("NOT AS IT MUST BE: on no disk that lost its power a receipt of the same run had to hold");
        came.broken = true;
    }
    came.took = started.elapsed();
    came
}

/// The rounds of one log.
struct Log {
    kind: Kind,
    number: u64,
    first_round: u64,
    rounds: u64,
    faults: Vec<Fault>,
    deadline: Instant,
    keep: PathBuf,
}

impl Log {
    async fn run(self, mut random: Rng) -> Came {
        let mut came = Came::default();
        let name = |round| format!("{:?}-{round}", self.kind);
        // These make their own.
        if let Kind::Full | Kind::Clock = self.kind {
            eprintln!("{}", name(self.first_round));
            let done = match self.kind {
                Kind::Full => crash::fill_disk(&name(self.first_round), &mut random).await,
                _ => crash::step_clock(&name(self.first_round), &mut random).await,
            };
            if let Some(subject) = done {
                (came.entries, came.heads) = subject.promised();
                came.add(subject.counts());
                came.rounds = 1;
            }
            return came;
        }
        if self.kind == Kind::Power {
            came.add(task::block_in_place(|| {
                crash::lose_power_while_a_log_is_made(POWER_LOSSES, &mut random)
            }));
        }
        let suite = if (self.number / 2).is_multiple_of(2) {
            "blake3"
        } else {
            "sha256"
        };
        let mut subject = Subject::new(suite).kept_in(self.keep);
        // Half of them, of either suite.
        if !self.number.is_multiple_of(2) {
            subject = subject.witnessed();
        }
        // Half of them, with a witness or without. A disk without power is compared with no anchor: that one keeps what is newer.
        if self.kind == Kind::Kill && matches!(self.number % 4, 1 | 2) {
            subject = subject.anchored();
        }
        for round in self.first_round..self.first_round + self.rounds {
            if Instant::now() > self.deadline {
                break;
            }
            let name = format!("{:?}-{round}", self.kind);
            eprintln!("{name}");
            match self.kind {
                Kind::Kill => subject.kill(&name, &mut random).await,
                Kind::Power => subject.lose_power(&name, POWER_LOSSES, &mut random).await,
                _ => {
                    let fault = &self.faults[usize::try_from(round).unwrap()];
                    let was_hit = subject.fail(fault, &name, &mut random).await;
                    *came.hits.entry((fault.call, fault.outcome)).or_default() += u64::from(was_hit);
                }
            }
            came.rounds += 1;
        }
        subject.finish(&mut random).await;
        (came.entries, came.heads) = subject.promised();
        came.add(subject.counts());
        came
    }
}

fn table(all: &[(Kind, Came)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "kind", "rounds", "seconds", "promised", "heads", "what", "times", "broken",
    ]);
    for (kind, came) in all {
        let broken = match came.rounds {
            _ if came.broken => "YES",
            0 => "not run",
            _ => "no",
        };
        table.add_row([
            format!("{kind:?}").to_lowercase(),
            came.rounds.to_string(),
            came.took.as_secs().to_string(),
            came.entries.to_string(),
            came.heads.to_string(),
            String::new(),
            String::new(),
            broken.to_owned(),
        ]);
        for (what, times) in &came.counts {
            let row = ["", "", "", "", "", what, &times.to_string(), ""].map(str::to_owned);
            table.add_row(row);
        }
    }
    table
}
