//! An hour of mixed load on one log, with restarts, and what grew meanwhile. `cargo xtask strength soak` builds what this runs.
#![allow(missing_docs)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use comfy_table::{Table, presets};
use counterfoil_tests::soak::{self, Plan, Soak};

/// Load a log at a steady rate through several lives of its server, and see whether anything grows that must not
#[derive(Parser)]
#[command(name = "cargo xtask strength soak")]
struct Options {
    /// How long the load lasts, over all lives
    #[arg(long, value_name = "N", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// How often a server is started on the log: each time from the third on is compared with the first two
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(3..=100))]
    lives: u64,
    /// Recorded webhooks of GitHub to deliver as well: DIR/EVENT/*.json
    #[arg(long, value_name = "DIR")]
    webhooks: Option<PathBuf>,
}

fn main() -> ExitCode {
    match soak(Options::parse()) {
        Ok(problems) if problems.is_empty() => {
            println!("ok: nothing grew but the log, by what was acknowledged and as computed");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            for problem in problems {
                println!("NOT AS IT MUST BE: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(options: Options) -> Result<Vec<String>> {
    let plan = Plan {
        seconds: options.seconds,
        lives: options.lives,
        webhooks: options.webhooks,
    };
    let mut number = 0;
    let soak = soak::run(&plan, |life| {
        number += 1;
        eprintln!("life {number} of {}: {} entries", plan.lives, life.entries);
    })?;
    println!("{}", table(&soak));
    println!("{}", latency(&soak));
    let grown = soak.grown();
    Ok(soak.broken.into_iter().chain(grown).collect())
}

fn table(soak: &Soak) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "life",
        "entries",
        "events/s",
        "memory MiB: median",
        "most",
        "handles: before",
        "most",
        "after",
        "threads: before",
        "most",
        "after",
        "database's files",
        "disk MiB",
        "bytes/event",
        "computed",
    ]);
    for (number, life) in (1..).zip(&soak.lives) {
        let most = life.most();
        let mib = |bytes: f64| format!("{:.0}", bytes / 1_048_576.0);
        let by_event = |bytes: f64| format!("{:.0}", bytes / life.added as f64);
        table.add_row([
            number.to_string(),
            life.entries.to_string(),
            format!("{:.0}", life.rate()),
            mib(life.median_memory_bytes()),
            mib(most.memory_bytes as f64),
            life.before.handles.to_string(),
            most.handles.to_string(),
            life.after.handles.to_string(),
            life.before.threads.to_string(),
            most.threads.to_string(),
            life.after.threads.to_string(),
            most.database_files.to_string(),
            mib(life.disk_bytes as f64),
            by_event(life.added_bytes),
            by_event(life.computed_bytes),
        ]);
    }
    table
}

/// p50 and p99 of each kind of load, in each life.
fn latency(soak: &Soak) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let kinds = soak
        .lives
        .first()
        .into_iter()
        .flat_map(|life| life.latency.keys());
    table.set_header(
        ["life".to_owned()]
            .into_iter()
            .chain(kinds.map(|kind| format!("{kind}: p50, p99 ms"))),
    );
    for (number, life) in (1..).zip(&soak.lives) {
        let latencies = life.latency.values();
        table.add_row(
            [number.to_string()]
                .into_iter()
                .chain(latencies.map(|latency| format!("{:.2}, {:.1}", latency.p50, latency.p99))),
        );
    }
    table
}
