//! How fast a monitor follows a log: entries a second of the monitor's own CPU time, and of wall time.
//!
//! ```text
//! taskset -c 0 target/release/examples/follow_speed [ENTRIES] [blake3|sha256]
//! ```
//! The log is served as tiles by a process of its own, which moves to the other core if there is one.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use counterfoil_merkle::Suite;
use counterfoil_monitor::{Config, Monitor};
use support::{FakeLog, FakeServer};

const DEFAULT_ENTRIES: u64 = 1_000_000;

fn main() {
    let mut arguments = env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("serve") {
        let entries = arguments.next().unwrap().parse().unwrap();
        return serve(entries, arguments.next().unwrap().parse().unwrap());
    }
    let entries = first.map_or(DEFAULT_ENTRIES, |text| text.parse().unwrap());
    let suite: Suite = arguments
        .next()
        .map_or(Suite::Blake3, |text| text.parse().unwrap());
    let mut server = start_server(entries, suite);
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let (url, vkey) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("policy"), format!("log {vkey}\nquorum none\n")).unwrap();
    let config = format!(
        "state_dir = \"state\"\n[[log]]\nname = \"main\"\npolicy = \"policy\"\nmax_head_age_seconds = 3600\n\
         sources = [{{ tiles = \"{url}\" }}]\n"
    );
    fs::write(path("monitor.toml"), config).unwrap();
    let mut monitor = Monitor::open(Config::load(&path("monitor.toml")).unwrap(), |event| {
        println!("{event}")
    })
    .unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (started, cpu) = (Instant::now(), cpu_time());
    let round = runtime.block_on(monitor.run_round()).remove(0);
    let (wall, cpu) = (started.elapsed(), cpu_time() - cpu);
    assert_eq!((round.verified_entries, round.open.len()), (entries, 0));
    println!(
        "{suite}: {entries} entries in {:.2} s ({:.0}/s), {:.2} s of the monitor's CPU ({:.0} entries/s of CPU)",
        wall.as_secs_f64(),
        per_second(entries, wall),
        cpu.as_secs_f64(),
        per_second(entries, cpu)
    );
    server.kill().unwrap();
    server.wait().unwrap();
}

#[allow(clippy::cast_precision_loss)]
fn per_second(entries: u64, time: Duration) -> f64 {
    entries as f64 / time.as_secs_f64()
}

/// User and system time of this process, all threads.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn start_server(entries: u64, suite: Suite) -> Child {
    let program = env::current_exe().unwrap();
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]).arg(&program);
    let two_cores =
        std::thread::available_parallelism().is_ok() && fs::exists("/sys/devices/system/cpu/cpu1").unwrap();
    if !two_cores {
        command = Command::new(program);
    }
    command.arg("serve").arg(entries.to_string()).arg(suite.as_str());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn serve(entries: u64, suite: Suite) {
    let log = FakeLog::with_entries(suite, entries);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let vkey = log.signer.keys()[0].verifier_key().to_string();
        let server = FakeServer::start(log).await;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}\n{vkey}", server.url()).unwrap();
        stdout.flush().unwrap();
        std::future::pending::<()>().await;
    });
}
