//! `counterfoild fsck`.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use counterfoil_log::{DataDirectory, FsckDepth, FsckReport, LogName, fsck, rebuild_search_index};
use serde::Serialize;

use crate::{
    cli::EXIT_FINDINGS,
    logs::log_names,
    open_files::raise_file_limit,
    owner::ensure_owner,
    print::{print_line, progress_bar},
};

/// Recomputes everything that a log stores and compares. Beside a running server it looks at what was there when it began. Exit
/// code 1 if anything is not what it must be, with the exact places.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild fsck --data ./data
  counterfoild fsck --data ./data --rebuild-index")]
pub(crate) struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only this log; all of them otherwise
    #[arg(long, value_name = "NAME")]
    log: Option<LogName>,
    /// Check entries, tiles, heads and leaf hashes, and open no payload: more than twice as fast
    #[arg(long, conflicts_with = "rebuild_index")]
    tree_only: bool,
    /// First make the search index what the entries say; all else is only read. The server has to be stopped
    #[arg(long)]
    rebuild_index: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    log: &'a str,
    origin: &'a str,
    suite: &'a str,
    keys: Vec<String>,
    has_key_file: bool,
    tree_size: u64,
    root_hash: String,
    payloads: u64,
    payload_bytes: u64,
    tiles: u64,
    heads: u64,
    finding_count: u64,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    family: &'a str,
    place: &'a str,
    problem: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // All tables are open, so that a server may take them away.
    raise_file_limit();
    if arguments.rebuild_index {
        ensure_owner(&arguments.data)?;
    }
    let data = DataDirectory::new(&arguments.data);
    let names = log_names(&arguments.data, arguments.log.as_ref())?;
    let depth = if arguments.tree_only {
        FsckDepth::Tree
    } else {
        FsckDepth::Payloads
    };
    let mut reports = Vec::new();
    for name in names {
        if arguments.rebuild_index {
            rebuild_index(&data, &name)?;
        }
        let bar = progress_bar(format!("checking {name}"));
        let report = fsck(&data, &name, depth, |progress| {
            bar.set_length(progress.entries);
            bar.set_position(progress.checked);
        })
        .with_context(|| format!("can't check the log `{name}`"))?;
        bar.finish_and_clear();
        if !arguments.json {
            print_report(&name, depth, &report).with_context(|| {
                format!(
                    "the log `{name}` has {} findings, and the report can't be printed",
                    report.finding_count
                )
            })?;
        }
        reports.push((name, report));
    }
    if arguments.json {
        let reports: Vec<_> = reports
            .iter()
            .map(|(name, report)| to_json(name, report))
            .collect();
        print_line(serde_json::to_string_pretty(&reports)?).context("the report can't be printed")?;
    }
    let clean = reports.iter().all(|(_, report)| report.finding_count == 0);
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FINDINGS)
    })
}

fn rebuild_index(data: &DataDirectory, name: &LogName) -> anyhow::Result<()> {
    let bar = progress_bar(format!("reading {name}"));
    let report = rebuild_search_index(data, name, |progress| {
        bar.set_length(progress.entries);
        bar.set_position(progress.checked);
    })
    .with_context(|| format!("can't rebuild the search index of the log `{name}`"))?;
    bar.finish_and_clear();
    eprintln!(
        "log {name}: the search index has {} rows; {} were missing, and {} led to entries that are not theirs",
        report.rows, report.added, report.removed
    );
    Ok(())
}

fn print_report(name: &LogName, depth: FsckDepth, report: &FsckReport) -> io::Result<()> {
    print_line(format_args!("log {name}: {} ({})", report.origin, report.suite))?;
    print_line(format_args!(
        "  {} entries, root {}",
        report.tree_size, report.root_hash
    ))?;
    let opened = match depth {
        FsckDepth::Payloads => format!(
            "{} payloads ({} bytes) opened",
            report.payloads, report.payload_bytes
        ),
        FsckDepth::Tree => "no payload opened".to_owned(),
    };
    print_line(format_args!(
        "  {opened}, {} full tiles and {} published heads compared",
        report.tiles, report.heads
    ))?;
    if !report.has_key_file {
        print_line(
            "  no key file: heads were verified by what entry 0 names. Is this the key that you know?",
        )?;
        for key in &report.keys {
            print_line(format_args!("    {key}"))?;
        }
    }
    if report.finding_count == 0 {
        return print_line("  ok: everything is what it must be");
    }
    print_line(format_args!("  {} findings:", report.finding_count))?;
    for finding in &report.findings {
        print_line(format_args!("    {finding}"))?;
    }
    let unsaid = report.finding_count - report.findings.len() as u64;
    if unsaid > 0 {
        print_line(format_args!("    and {unsaid} more"))?;
    }
    print_line(format_args!("  {}", advice(report)))
}

/// What to do about what was found.
fn advice(report: &FsckReport) -> &'static str {
    // The search index is looked at last: where nothing else was kept, nothing else was counted.
    if report
        .findings
        .iter()
        .all(|finding| finding.family == "attributes")
    {
        "searches may miss entries, and nothing worse: stop the server and run `counterfoild fsck --rebuild-index`"
    } else {
        "keep this directory as evidence; restore a copy that passes and has every entry that was acknowledged \
         (docs/OPERATIONS.md, Backups and restoring)"
    }
}

fn to_json<'a>(name: &'a LogName, report: &'a FsckReport) -> ReportJson<'a> {
    ReportJson {
        log: name.as_str(),
        origin: &report.origin,
        suite: report.suite.as_str(),
        keys: report.keys.iter().map(ToString::to_string).collect(),
        has_key_file: report.has_key_file,
        tree_size: report.tree_size.get(),
        root_hash: report.root_hash.to_string(),
        payloads: report.payloads,
        payload_bytes: report.payload_bytes,
        tiles: report.tiles,
        heads: report.heads,
        finding_count: report.finding_count,
        findings: report
            .findings
            .iter()
            .map(|finding| FindingJson {
                family: finding.family,
                place: &finding.place,
                problem: &finding.problem,
            })
            .collect(),
    }
}
