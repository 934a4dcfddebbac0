//! `cargo xtask strength simulate`: histories of many seeds, and a table of what they went through.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use comfy_table::{Table, presets};
use counterfoil_simulation::{Told, simulate};

/// Run the engine on a simulated machine that crashes, loses writes and fails calls
///
/// Each seed is the history of one log. Two runs from one seed are the same run: the digest shows it.
#[derive(Parser)]
#[command(name = "cargo xtask strength simulate")]
struct Options {
    /// The first seed; those after it follow
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Go on until there were so many crashes
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    cycles: u64,
    /// End after this time all the same
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    histories: u64,
    all: Told,
    digest: blake3::Hasher,
}

impl Sum {
    fn add(&mut self, told: &Told) {
        self.histories += 1;
        self.digest.update(&told.trace);
        self.all.add(told);
    }

    fn table(&self, elapsed: Duration) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header(["what", "count"]);
        let all = &self.all;
        let mut row = |what: &str, count: u64| {
            table.add_row([what.to_owned(), count.to_string()]);
        };
        row("histories", self.histories);
        row("crashes and recoveries", all.crashes());
        row("- power lost", all.power_lost);
        row("- process killed", all.killed);
        row("starts that a fault refused", all.refused_opens);
        row("old copies put back and refused", all.rollbacks);
        row("calls of the machine", all.counts.calls);
        row("times the wall clock was set", all.counts.clock_steps);
        let mut by_fault = BTreeMap::new();
        for ((_, fault), count) in &all.counts.faults {
            *by_fault.entry(*fault).or_insert(0) += count;
        }
        for (fault, count) in by_fault {
            row(&format!("calls that failed: {fault}"), count);
        }
        for ((call, fault), count) in &all.counts.faults {
            row(&format!("- {call}: {fault}"), *count);
        }
        row("events acknowledged", all.tally.acknowledged);
        row("heads seen", all.tally.heads);
        row("promises checked", all.tally.checked);
        row("seconds", elapsed.as_secs());
        table.add_row([
            "trace digest".to_owned(),
            self.digest.finalize().to_hex()[..32].to_owned(),
        ]);
        table
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let start = Instant::now();
    let mut sum = Sum::default();
    let is_watched = io::stderr().is_terminal();
    for seed in options.seed.. {
        let over = options
            .seconds
            .is_some_and(|limit| start.elapsed() >= Duration::from_secs(limit));
        if over || sum.all.crashes() >= options.cycles {
            break;
        }
        match simulate(seed) {
            Ok(told) => sum.add(&told),
            Err(problem) => {
                println!("{}", sum.table(start.elapsed()));
                println!("seed {seed}: {problem}");
                println!("once more: cargo xtask strength simulate --seed {seed} --cycles 1");
                return ExitCode::FAILURE;
            }
        }
        if is_watched && sum.histories % 16 == 0 {
            eprint!("\r{} of {} crashes", sum.all.crashes(), options.cycles);
        }
    }
    if is_watched {
        eprintln!();
    }
    println!("{}", sum.table(start.elapsed()));
    ExitCode::SUCCESS
}
