//! `counterfoil bench`

mod events;
mod ingest;
mod pace;
mod prove;
mod tally;
mod webhooks;

use std::{num::NonZeroUsize, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde::Serialize;

use super::OfLog;
use crate::{failure::Failure, output::Output};

/// Measure a log
#[derive(Subcommand)]
pub(crate) enum Bench {
    Ingest(OfLog<ingest::Arguments>),
    Prove(OfLog<prove::Arguments>),
    Webhooks(OfLog<webhooks::Arguments>),
}

pub(crate) async fn run(bench: Bench, output: &Output) -> Result<(), Failure> {
    match bench {
        Bench::Ingest(command) => command.run(ingest::run, output).await,
        Bench::Prove(command) => command.run(prove::run, output).await,
        Bench::Webhooks(command) => command.run(webhooks::run, output).await,
    }
}

/// How hard to push, and for how long.
#[derive(Args, Clone)]
pub(crate) struct Load {
    /// HTTP/2 connections
    #[arg(long, value_name = "C", default_value = "2")]
    connections: NonZeroUsize,
    /// Calls under way on each connection
    #[arg(long, value_name = "K", default_value = "16")]
    in_flight: NonZeroUsize,
    #[command(flatten)]
    schedule: Schedule,
    /// What to check of the answers: everything, or nothing, to measure the server alone
    #[arg(long, value_enum, default_value_t = Verify::All)]
    verify: Verify,
}

/// When calls start, and for how long.
#[derive(Args, Clone)]
pub(crate) struct Schedule {
    /// For how long to start calls
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Start this many a second, however slow the answers (open loop) [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

impl Schedule {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    /// Between the starts of calls for so many events each, in an open loop.
    fn interval(&self, per_call: usize) -> Option<Duration> {
        self.rate.map(|rate| {
            let nanos = 1_000_000_000 * per_call as u64 / u64::from(rate);
            Duration::from_nanos(nanos.max(1))
        })
    }

    /// Something to look at, on a terminal.
    fn spinner(&self) -> ProgressBar {
        let spinner = ProgressBar::new_spinner();
        spinner.set_message(format!("measuring for {} s", self.duration));
        spinner.enable_steady_tick(Duration::from_millis(200));
        spinner
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
// No documentation on the variants: it would turn the help into its long form.
pub(crate) enum Verify {
    All,
    None,
}
