//! `counterfoil monitor`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use counterfoil_monitor::{Change, Config, ConfigError, FindingKind, LogRound, Monitor, MonitorError};
use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    output::{Output, say},
    service,
};

/// How long `--once` waits for webhooks to take what was found.
const DELIVERY: Duration = Duration::from_secs(10);

/// Follow logs, their mirrors and witnesses, verify every entry, and report what is wrong
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil monitor --config monitor.toml
  counterfoil monitor --config monitor.toml --once || notify-send 'look at the log'

A finding is printed once when it opens and once when it resolves; with --json one JSON object a line. Findings, and how
far entries are verified, are kept in the configuration's state_dir. docs/MONITOR.md has the configuration, and what each
finding means.

With --once the exit code is 0 if nothing is open, 1 if a finding is, 3 if only that a source can't be reached.")]
pub(crate) struct Arguments {
    /// What to follow (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do one round and exit: for cron and CI
    #[arg(long)]
    once: bool,
    /// Read the configuration and the files that it names, and exit
    #[arg(long, conflicts_with = "once")]
    check_config: bool,
}

pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let config = Config::load(&arguments.config)?;
    if arguments.check_config {
        let names: Vec<&str> = config.logs.iter().map(|log| log.name.as_str()).collect();
        let summary = format!(
            "{}: {} in order",
            arguments.config.display(),
            count(names.len(), "log")
        );
        output.print(json!({ "logs": names }), summary);
        return Ok(());
    }
    // What is wrong with the monitor itself, such as a webhook that is down. Findings go to standard output.
    service::log_to_standard_error();
    let printer = output.clone();
    let monitor = Monitor::open(config, move |event| printer.print_if_read(event.to_json(), event))?;
    let open = monitor.open_findings().count();
    if open > 0 && !output.is_json() {
        say(format_args!("{} from before:", count(open, "open finding")));
        for finding in monitor.open_findings() {
            let event = counterfoil_monitor::Event {
                change: Change::Opened,
                finding: finding.clone(),
            };
            say(format_args!("  {event}"));
        }
    }
    if arguments.once {
        once(monitor, output.is_json()).await
    } else {
        Ok(monitor.run(service::stop_signal()?).await?)
    }
}

async fn once(mut monitor: Monitor, json: bool) -> Result<(), Failure> {
    let rounds = monitor.run_round().await;
    if !json {
        rounds.iter().for_each(summarise);
    }
    let left = monitor.deliver(DELIVERY).await?;
    if left > 0 {
        say(format_args!(
            "{} not delivered yet; the next run goes on",
            count(left, "webhook message")
        ));
    }
    if let Some(problem) = rounds.iter().find_map(|round| round.error.as_ref()) {
        return Err(Failure::usage(problem));
    }
    let kinds: Vec<FindingKind> = rounds
        .iter()
        .flat_map(|round| &round.open)
        .map(|finding| finding.kind)
        .collect();
    if kinds.iter().any(|kind| *kind != FindingKind::Unreachable) {
        return Err(Failure::untrusted(format!(
            "{} open",
            count(kinds.len(), "finding")
        )));
    }
    match kinds.len() {
        0 => Ok(()),
        unreachable => Err(Failure::new(
            Exit::Unavailable,
            format!("{} unreachable", count(unreachable, "source")),
        )),
    }
}

fn summarise(round: &LogRound) {
    let size = round
        .tree_size
        .map_or_else(|| "no head yet".to_owned(), |size| format!("of {size}"));
    let more = if round.is_behind() {
        "; the next round goes on"
    } else {
        ""
    };
    say(format_args!(
        "{}: {} entries verified, {size}{more}",
        round.log, round.verified_entries
    ));
}

fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        Self::usage(error.to_string())
    }
}
