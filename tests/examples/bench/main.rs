//! Measures the programs on this machine, and prints one table of it. `cargo xtask bench` builds what this runs.
#![allow(missing_docs, clippy::unwrap_used)]

mod figures;
mod fill;
mod plots;
mod subject;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::Value;

use figures::{Figures, Load};
use subject::Subject;

/// Measure this machine's log: ingest, latency against load, proofs and reads by size, open, memory, disk, fsck, monitor
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Data directories are made in TMPDIR, else in /tmp: on the disk to measure, not on a tmpfs."
)]
struct Options {
    /// How often each rate is measured; the table has the median and the range
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Sizes at which a log is opened, asked, followed, checked and added to, ascending; each has a log of its own
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10_000, 1_000_000])]
    leaves: Vec<u64>,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "PART", value_enum)]
    part: Vec<Part>,
    /// Recorded webhooks of GitHub to deliver: DIR/EVENT/*.json
    #[arg(long, value_name = "DIR")]
    webhooks: Option<PathBuf>,
    /// Where all figures go as JSON
    #[arg(long, value_name = "FILE", default_value = "bench.json")]
    json: PathBuf,
    /// Where plots go, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Draw the plots of an earlier run's JSON, and measure nothing
    #[arg(long, requires = "plots")]
    replot: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Ingest,
    Load,
    Sizes,
    Webhooks,
}

/// Bytes of payloads at which ingest is measured.
const PAYLOADS: [usize; 3] = [100, 1_024, 16_384];
/// The payload that the targets are about.
const PAYLOAD: usize = 1_024;
/// How long events come before the server is killed, so that there is something to replay.
const SECONDS_TO_REPLAY: u64 = 2;
/// Shares of the largest rate at which latency is measured, in percent.
const LOADS: [u64; 8] = [10, 25, 50, 70, 80, 90, 100, 110];
/// Up to this share the log has to take all.
const LOAD_TO_TAKE: u64 = 70;
const BATCH: [&str; 8] = [
    "--mode",
    "batch",
    "--connections",
    "2",
    "--in-flight",
    "4",
    "--batch",
    "256",
];
const STREAM: [&str; 6] = ["--mode", "stream", "--connections", "2", "--in-flight", "1024"];
const UNARY: [&str; 6] = ["--mode", "unary", "--connections", "4", "--in-flight", "64"];
const SINGLE: [&str; 6] = ["--mode", "unary", "--connections", "1", "--in-flight", "1"];
/// In an open loop nobody may wait for a free worker while the server keeps up.
const UNARY_OPEN: [&str; 6] = ["--mode", "unary", "--connections", "4", "--in-flight", "256"];
const BATCH_OPEN: [&str; 8] = [
    "--mode",
    "batch",
    "--connections",
    "4",
    "--in-flight",
    "16",
    "--batch",
    "64",
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(
        options.replot || options.webhooks.is_some() || !options.part.contains(&Part::Webhooks),
        "--part webhooks needs --webhooks DIR, the recorded bodies to deliver"
    );
    let figures = if options.replot {
        Figures::read(&options.json)?
    } else {
        let mut figures = Figures::of_this_machine(&env::temp_dir())?;
        let measured = measure(options, &mut figures);
        // What was measured before something went wrong is worth keeping.
        println!("{}", figures.table());
        figures.write(&options.json)?;
        println!("all figures: {}", options.json.display());
        measured?;
        figures
    };
    if let Some(directory) = &options.plots {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        for path in plots::draw(&figures, directory)? {
            println!("plot: {}", path.display());
        }
    }
    Ok(())
}

fn measure(options: &Options, figures: &mut Figures) -> Result<()> {
    let wanted = |part| options.part.is_empty() || options.part.contains(&part);
    if wanted(Part::Ingest) {
        ingest(options, figures)?;
    }
    if wanted(Part::Webhooks)
        && let Some(bodies) = &options.webhooks
    {
        webhooks(options, bodies, figures)?;
    }
    if wanted(Part::Load) {
        latency_against_load(options, figures)?;
    }
    if wanted(Part::Sizes) {
        by_size(options, figures)?;
    }
    Ok(())
}

/// Rates by mode and payload, beside that of the database alone.
fn ingest(options: &Options, figures: &mut Figures) -> Result<()> {
    for round in 0..options.rounds {
        let raw = subject::synced_rate(256, options.seconds)?;
        figures.add("database alone, batches of 256, 1 KiB", "leaves/s", raw);
        for payload in PAYLOADS {
            let subject = Subject::new();
            let answer = all_taken(subject.ingest(&BATCH, payload, options.seconds, &[])?)?;
            let name = format!("batches of 256, {payload} bytes");
            let rate = number(&answer, "/events_per_second")?;
            figures.add(&name, "events/s", rate);
            if payload == PAYLOAD {
                figures.add("the same by that of the database alone", "%", 100.0 * rate / raw);
            }
            if round == 0 {
                let peak = subject.peak_memory_mib();
                figures.add(&format!("{name}: memory at most"), "MiB", peak);
                let bytes = subject.disk_bytes_per_entry()?;
                figures.add(&format!("{name}: disk"), "bytes/event", bytes);
            }
        }
        let answer = all_taken(Subject::new().ingest(&STREAM, PAYLOAD, options.seconds, &[])?)?;
        let rate = number(&answer, "/events_per_second")?;
        figures.add("streams, 1 KiB", "events/s", rate);
        // As many calls under way as below.
        let calls = subject::call_rate(4, 64, options.seconds)?;
        figures.add("gRPC alone, messages of that size", "calls/s", calls);
        let answer = all_taken(Subject::new().ingest(&UNARY, PAYLOAD, options.seconds, &[])?)?;
        let rate = number(&answer, "/events_per_second")?;
        figures.add("one event a call, 1 KiB", "events/s", rate);
        figures.add("the same by that of gRPC alone", "%", 100.0 * rate / calls);
        let raw_ms = 1e3 / subject::synced_rate(1, options.seconds)?;
        figures.add("database alone, one at a time", "ms", raw_ms);
        let answer = all_taken(Subject::new().ingest(&SINGLE, PAYLOAD, options.seconds, &[])?)?;
        figures.add(
            "one at a time, 1 KiB: p50",
            "ms",
            number(&answer, "/latency_ms/p50")?,
        );
        figures.add(
            "one at a time, 1 KiB: p99",
            "ms",
            number(&answer, "/latency_ms/p99")?,
        );
    }
    Ok(())
}

/// An open loop: calls start by the clock, however slow the answers.
fn latency_against_load(options: &Options, figures: &mut Figures) -> Result<()> {
    for (name, closed, open) in [
        ("one event a call", &UNARY[..], &UNARY_OPEN[..]),
        ("batches of 64", &BATCH[..], &BATCH_OPEN[..]),
    ] {
        let answer = all_taken(Subject::new().ingest(closed, PAYLOAD, options.seconds, &[])?)?;
        let largest = number(&answer, "/events_per_second")?;
        let subject = Subject::new();
        for percent in LOADS {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
            let rate = (largest * percent as f64 / 100.0) as u64;
            let mut answer =
                subject.ingest(open, PAYLOAD, options.seconds, &["--rate", &rate.to_string()])?;
            if percent <= LOAD_TO_TAKE {
                answer = all_taken(answer)?;
            }
            let offered = rate as f64;
            let load = Load {
                name: name.to_owned(),
                percent,
                offered,
                taken: number(&answer, "/events_per_second")?,
                never_started: 100.0 * number(&answer, "/not_started")? / (offered * options.seconds as f64),
                p50_ms: number(&answer, "/latency_ms/p50")?,
                p99_ms: number(&answer, "/latency_ms/p99")?,
            };
            if percent == 50 {
                figures.add(
                    &format!("{name}, at half of its largest rate: p99"),
                    "ms",
                    load.p99_ms,
                );
            }
            figures.loads.push(load);
        }
    }
    Ok(())
}

fn webhooks(options: &Options, bodies: &Path, figures: &mut Figures) -> Result<()> {
    let mut rates = Vec::new();
    for round in 0..options.rounds {
        let (subject, hook) = Subject::with_hook();
        let answer = all_taken(subject.webhooks(&hook, bodies, options.seconds, &[])?)?;
        let rate = number(&answer, "/deliveries_per_second")?;
        figures.add("webhooks of GitHub, recorded bodies", "deliveries/s", rate);
        rates.push(rate);
        if round == 0 {
            let body = number(&answer, "/body_bytes")?;
            let stored = subject.disk_bytes()?;
            figures.add("webhooks: disk by bytes of bodies", "%", 100.0 * stored / body);
        }
    }
    rates.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
    let half = (rates[rates.len() / 2] / 2.0) as u64;
    let (subject, hook) = Subject::with_hook();
    let answer = subject.webhooks(&hook, bodies, options.seconds, &["--rate", &half.to_string()])?;
    let answer = all_taken(answer)?;
    figures.add(
        "webhooks at half of that rate: p99",
        "ms",
        number(&answer, "/latency_ms/p99")?,
    );
    Ok(())
}

/// A log of each size is opened, followed, checked and asked, and only then added to, so that what is read has that size.
fn by_size(options: &Options, figures: &mut Figures) -> Result<()> {
    for &leaves in &options.leaves {
        let mut subject = Subject::new();
        subject.fill(leaves)?;
        let entries = subject.size()?;
        ensure!(
            entries == leaves,
            "a log of {leaves} leaves can't be measured: this one has {entries}"
        );
        let at = |what: &str| format!("{what}, {leaves} leaves");
        for _ in 0..options.rounds {
            let stopped = subject.restart();
            figures.add(&at("open after an orderly stop"), "s", stopped);
        }
        let followed = Instant::now();
        subject.follow(entries)?;
        figures.add(
            &at("monitor, from nothing"),
            "entries/s",
            entries as f64 / followed.elapsed().as_secs_f64(),
        );
        let (tree, whole) = subject.fsck()?;
        figures.add(&at("fsck --tree-only"), "leaves/s", entries as f64 / tree);
        figures.add(&at("fsck"), "leaves/s", entries as f64 / whole);
        for _ in 0..options.rounds {
            let proofs = all_taken(subject.prove(options.seconds, &[])?)?;
            figures.add_at_size(
                "inclusion proofs",
                leaves,
                "proofs/s",
                number(&proofs, "/proofs_per_second")?,
            );
            let receipts = all_taken(subject.prove(options.seconds, &["--receipts"])?)?;
            figures.add_at_size(
                "receipts",
                leaves,
                "receipts/s",
                number(&receipts, "/proofs_per_second")?,
            );
        }
        let mut grown = entries as f64;
        for _ in 0..options.rounds {
            let batches = all_taken(subject.ingest(&BATCH, PAYLOAD, options.seconds, &[])?)?;
            figures.add_at_size(
                "batches of 256, 1 KiB",
                leaves,
                "events/s",
                number(&batches, "/events_per_second")?,
            );
            grown += number(&batches, "/acknowledged")?;
            figures.add(&at("the same: the log grew to"), "leaves", grown);
        }
        figures.add(&at("memory at most"), "MiB", subject.peak_memory_mib());
        for _ in 0..options.rounds {
            let (killed, log_mib) = subject.restart_after_kill(&BATCH, PAYLOAD, SECONDS_TO_REPLAY)?;
            figures.add(&at("open after SIGKILL under load"), "s", killed);
            figures.add(&at("the same: database's log at the kill"), "MiB", log_mib);
            let grown = subject.size()? as f64;
            figures.add(&at("the same: the log grew to, by the kill"), "leaves", grown);
        }
    }
    Ok(())
}

/// An answer to which nothing was refused and nothing failed: else its figures would be those of another load.
fn all_taken(answer: Value) -> Result<Value> {
    let (refused, failed) = (number(&answer, "/refused")?, number(&answer, "/failed")?);
    ensure!(
        refused + failed == 0.0,
        "{refused} were refused and {failed} failed, so this measures nothing: {answer}"
    );
    Ok(answer)
}

fn number(answer: &Value, pointer: &str) -> Result<f64> {
    answer
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("the answer has no number at {pointer}: {answer}"))
}
