//! Ten times the load that a server can take, and what comes with it: floods, slow readers and writers, giant batches, churn.
//! `cargo xtask strength overload` builds what this runs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use clap::Parser;
use comfy_table::{Table, presets};
use counterfoil_tests::{Crowd, Data, Health, Overload, Phase, Server};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// Give a server more than it can take, and see whether it goes on as before
#[derive(Parser)]
#[command(name = "cargo xtask strength overload")]
struct Options {
    /// How often the overload comes, the usual load before it and after
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// How long each phase is counted
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Connections in the overload, beyond those of ten times the usual load
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(300..=15_000))]
    connections: u32,
    /// What the server may use for its database and tiles, in MiB
    #[arg(long, value_name = "N", default_value_t = 320)]
    memory_mib: u32,
    /// What it may use beyond that
    #[arg(long, value_name = "N", default_value_t = 768)]
    more_memory_mib: u64,
}

/// Files that are open beside the connections of the crowd: those of the usual load, of whoever asks for health, and the program's own.
const MORE_FILES: u64 = 256;

/// How long an overload is there before it is counted: until the queue is full, and what it holds was worked on once.
const FILLING: Duration = Duration::from_secs(4);

/// The share of the usual goodput that has to be left, in percent.
const GOODPUT_PERCENT: f64 = 90.0;

/// Longer than this nobody waits who restarts a server that does not answer: where everybody comes, and beside the metrics.
const HEALTH_PATIENCE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];

const USUAL: &str = "usual load";
const OVERLOAD: &str = "overload";

/// A phase, and what it took.
struct Row {
    name: &'static str,
    phase: Phase,
    peak_mib: f64,
}

impl Row {
    /// How often a second.
    fn rate(&self, count: &AtomicU64) -> f64 {
        count.load(Ordering::Relaxed) as f64 / self.phase.time.as_secs_f64()
    }

    /// What it told of its health, how often not in time, and where.
    fn health(&self) -> [(&Health, u64, &'static str); 2] {
        let Phase { health, probe, .. } = &self.phase;
        let [patience, probe_patience] = HEALTH_PATIENCE;
        [
            (
                health,
                health.unanswered_within(patience),
                "where everybody comes",
            ),
            (
                probe,
                probe.unanswered_within(probe_patience),
                "beside the metrics",
            ),
        ]
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (files, needed) = (raise_file_limit(), u64::from(options.connections) + MORE_FILES);
    if files < needed {
        let connections = options.connections;
        eprintln!(
            "error: {files} files may be open, and {connections} connections take {needed}: raise the limit (ulimit -Hn), or ask for \
             fewer --connections"
        );
        return ExitCode::FAILURE;
    }
    let (data, log) = Data::with_main_log();
    // One core for the server, the other for all who want something of it: what they take is not missing there.
    let two_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if two_cores {
        pin(0);
    }
    let memory_mib = options.memory_mib.to_string();
    let server = Server::start(
        &data,
        &["--memory-mib", &memory_mib, "--metrics-listen", "127.0.0.1:0"],
    );
    if two_cores {
        pin(1);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let overload = Overload::of(&server);
    let crowd = Crowd {
        usual: 10,
        giants: 40,
        unread: 8,
        churn: 100,
        half: 100,
        silent: options.connections - 248,
    };
    // An empty log has nothing yet to merge, and is faster than it will ever be again: the first is to warm up.
    let mut phases = vec![("into an empty log", Crowd::USUAL), (USUAL, Crowd::USUAL)];
    for _ in 0..options.rounds {
        phases.extend([(OVERLOAD, crowd), (USUAL, Crowd::USUAL)]);
    }
    let mut rows = Vec::new();
    for (name, crowd) in phases {
        // The usual load fills no queue, and has to be back at once.
        let before = if name == OVERLOAD { FILLING } else { Duration::ZERO };
        let time = Duration::from_secs(options.seconds);
        eprintln!("{name}: {} s", (before + time).as_secs());
        let phase = runtime.block_on(overload.phase(crowd, before, time));
        rows.push(Row {
            name,
            phase,
            peak_mib: server.peak_memory_bytes() as f64 / 1_048_576.0,
        });
    }
    println!("{}", table(&rows));

    let mut problems = problems(&rows, &options);
    for row in &rows {
        problems.extend(runtime.block_on(overload.lost(&row.phase)));
    }
    problems
        .iter()
        .for_each(|problem| println!("NOT AS IT MUST BE: {problem}"));
    server.assert_nothing_broke();
    drop(log);
    server.stop();
    data.assert_sound();
    if !problems.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("ok: nothing acknowledged was lost, and fsck is content");
    ExitCode::SUCCESS
}

/// Each connection takes a file, and the limit that a process starts with is often low. Returns the limit now.
fn raise_file_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(_) => before.current,
    };
    // There may be none.
    limit.unwrap_or(u64::MAX)
}

/// Moves this thread, and what it starts, to one core.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

fn problems(rows: &[Row], options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, share) in goodput_left(&rows[1..]) {
        println!(
            "{what}: {share:.0} % of the usual goodput before it (median of {})",
            options.rounds
        );
        // Of nothing there is no share.
        if !(share.is_finite() && share >= GOODPUT_PERCENT) {
            problems.push(format!("{what}: {share:.0} % of the usual goodput"));
        }
    }
    for row in rows {
        if row.name == OVERLOAD && row.phase.put_off.load(Ordering::Relaxed) == 0 {
            problems.push(format!("{OVERLOAD}: it was not too much, nobody was put off"));
        }
        for (_, unanswered, place) in row.health() {
            if unanswered > 0 {
                let name = row.name;
                problems.push(format!(
                    "{name}: {unanswered} times no answer in time to /health {place}"
                ));
            }
        }
        for (failure, times) in row.phase.failures() {
            let said = format!("{}: {times} calls failed: {failure}", row.name);
            if row.name == OVERLOAD && is_cut_off(&failure) {
                eprintln!("{said}");
            } else {
                problems.push(said);
            }
        }
    }
    let most = f64::from(options.memory_mib) + options.more_memory_mib as f64;
    let peak = rows.last().map_or(0.0, |row| row.peak_mib);
    if peak > most {
        problems.push(format!("{peak:.0} MiB of memory, and {most:.0} were planned"));
    }
    problems
}

/// Whether a call ended with its connection: those that come have room made for them by closing others. The server did not say so:
/// its own words begin with a reason.
fn is_cut_off(failure: &str) -> bool {
    failure.starts_with("Unavailable: ")
        || failure.starts_with("Cancelled: ")
        || failure.contains("transport error")
        || failure.contains("h2 protocol error")
}

/// What was taken in an overload, and by the usual load after it, in percent of what the usual load right before it took. Rows
/// alternate, from usual load to usual load; neighbours are compared, since a log that has grown takes less than before.
fn goodput_left(rows: &[Row]) -> [(&'static str, f64); 2] {
    let goodput = |row: &Row| row.rate(&row.phase.accepted);
    let median_at = |place: usize| {
        let mut shares: Vec<_> = rows
            .windows(3)
            .step_by(2)
            .map(|rows| 100.0 * goodput(&rows[place]) / goodput(&rows[0]))
            .collect();
        shares.sort_by(f64::total_cmp);
        // Of an even number the lower one.
        shares[(shares.len() - 1) / 2]
    };
    [("overload", median_at(1)), ("usual load after it", median_at(2))]
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "phase",
        "offered/s",
        "accepted/s",
        "p50 ms",
        "p99 ms",
        "CPU us each",
        "put off/s",
        "p99 ms",
        "failed",
        "health p99 ms",
        "no answer",
        "at metrics",
        "no answer",
        "memory MiB",
    ]);
    for row in rows {
        let phase = &row.phase;
        let accepted = phase.accepted.load(Ordering::Relaxed) as f64;
        let rate = |count: &AtomicU64| format!("{:.0}", row.rate(count));
        let mut cells = vec![
            row.name.to_owned(),
            rate(&phase.offered),
            rate(&phase.accepted),
            format!("{:.1}", phase.accepted_us.ms(0.5)),
            format!("{:.1}", phase.accepted_us.ms(0.99)),
            format!("{:.1}", phase.cpu.as_secs_f64() * 1e6 / accepted),
            rate(&phase.put_off),
            format!("{:.1}", phase.put_off_us.ms(0.99)),
            phase.failures().values().sum::<usize>().to_string(),
        ];
        for (health, unanswered, _) in row.health() {
            cells.push(format!("{:.1}", health.answered_us.ms(0.99)));
            cells.push(unanswered.to_string());
        }
        cells.push(format!("{:.0}", row.peak_mib));
        table.add_row(cells);
    }
    table
}
