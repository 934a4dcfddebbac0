//! How long a log takes to open, and how much memory it takes while it grows: no gRPC, receipts made but not verified.
//!
//! `open_time DIRECTORY ENTRIES`: makes a log in the directory, or goes on with the one that is there, until it has that
//! many entries; then closes it and opens it five times. Prints resident memory as Linux tells it, each tenth of the way.

use std::{
    collections::VecDeque,
    env,
    error::Error,
    fs,
    time::{Duration, Instant},
};

use counterfoil_event::{Event, EventParts, Submitter};
use counterfoil_log::{CreateError, DataDirectory, Log, LogName, LogOptions, create_log};
use counterfoil_merkle::Suite;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS_PER_CALL: u64 = 1_000;

/// Calls on their way at a time: enough for the writer never to wait.
const CALLS_IN_FLIGHT: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, entries] = arguments.as_slice() else {
        return Err("usage: open_time DIRECTORY ENTRIES".into());
    };
    let data = DataDirectory::new(directory);
    let entries: u64 = entries.parse()?;
    match create_log(
        &data,
        &LogName::default(),
        &"bench.example/open".parse()?,
        Suite::Blake3,
    ) {
        Ok(_) | Err(CreateError::Exists(_)) => {}
        Err(problem) => return Err(problem.into()),
    }
    let (log, _) = open(&data)?;
    println!("{}", resident("open"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(grow(&log, entries))?;
    let closing = Instant::now();
    drop(log);
    println!("closed in {:.0?}", closing.elapsed());
    for _ in 0..5 {
        let (log, took) = open(&data)?;
        println!("{} entries opened in {took:.1?}", log.commit_head().size);
    }
    Ok(())
}

fn open(data: &DataDirectory) -> Result<(Log, Duration), Box<dyn Error>> {
    let started = Instant::now();
    let log = Log::open(data, &LogName::default(), LogOptions::default())?;
    Ok((log, started.elapsed()))
}

async fn grow(log: &Log, entries: u64) -> Result<(), Box<dyn Error>> {
    let first = log.commit_head().size.get();
    let (started, mut next, mut in_flight) = (Instant::now(), first, VecDeque::new());
    let mut tenths = 1;
    while next < entries || !in_flight.is_empty() {
        if next < entries && in_flight.len() < CALLS_IN_FLIGHT {
            let end = entries.min(next + EVENTS_PER_CALL);
            let events = (next..end)
                .map(|number| log.prepare(event(number), &Submitter::anonymous()))
                .collect();
            in_flight.push_back(log.submit(events));
            next = end;
        } else if let Some(call) = in_flight.pop_front() {
            call.await?;
        }
        let size = log.commit_head().size.get();
        if size >= first + (entries - first) * tenths / 10 {
            let rate = (size - first) as f64 / started.elapsed().as_secs_f64();
            println!("{} ({rate:.0} events/s)", resident(&format!("{size} entries")));
            tenths += 1;
        }
    }
    Ok(())
}

/// An event with some 200 bytes of payload.
fn event(number: u64) -> Event {
    let data = format!(
        "{{\"run\":{number},\"outcome\":\"success\",\"digest\":\"{:064x}\",\"log\":\"https://ci.example/logs/{number}\"}}",
        u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    );
    Event::try_from(EventParts {
        id: format!("run-{number}"),
        source: "https://ci.example/bench".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: data.into(),
        ..EventParts::default()
    })
    .expect("the event is valid")
}

/// A line with the memory that is resident now, and the most that was.
fn resident(when: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("unknown", str::trim).to_owned()
    };
    format!(
        "{when}: {} resident, {} at most",
        value("VmRSS:"),
        value("VmHWM:")
    )
}
