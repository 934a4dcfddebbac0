//! Ten times the load that a server can take, and what comes with it: floods, slow readers and writers, giant batches, churn.
//! `cargo xtask strength overload` builds what this runs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use comfy_table::{Table, presets};
use counterfoil_proto::v1::{
    self, SubmitBatchRequest, SubmitRequest, SubmitStreamRequest, submit_result::Outcome,
    submit_service_client::SubmitServiceClient,
};
use counterfoil_tests::{Connection, Data, Server, event};
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Give a server more than it can take, and see whether it goes on as before
#[derive(Parser)]
#[command(name = "cargo xtask strength overload")]
struct Options {
    /// How long each phase lasts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Connections in the overload, beyond those of ten times the usual load
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(300..=15_000))]
    connections: u32,
    /// What the server may use for its database and tiles, in MiB
    #[arg(long, value_name = "N", default_value_t = 320)]
    memory_mib: u32,
    /// What it may use beyond that
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    more_memory_mib: u64,
}

/// The share of the usual goodput that has to be left, in percent.
const GOODPUT_PERCENT: f64 = 90.0;
/// How much more is sent than usual.
const TIMES: u32 = 10;
const PAYLOAD_BYTES: usize = 1_024;

/// What all who send count.
#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    offered: AtomicU64,
    put_off: AtomicU64,
    failed: AtomicU64,
    accepted_us: Latency,
    put_off_us: Latency,
    health_us: Latency,
    unhealthy: AtomicU64,
    /// What was acknowledged: where each event stands.
    places: Mutex<Vec<(u64, u64)>>,
    stop: AtomicBool,
}

struct Latency(Mutex<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3).unwrap()))
    }
}

impl Latency {
    fn since(&self, started: Instant) {
        let us = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.0.lock().unwrap().saturating_record(us.max(1));
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.0.lock().unwrap().value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A phase of the run.
struct Phase {
    name: &'static str,
    tally: Tally,
    seconds: f64,
    peak_mib: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (data, log) = Data::with_main_log();
    // One core for the server, the other for all who want something of it: what they take is not missing there.
    let two_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if two_cores {
        pin(0);
    }
    let server = Server::start(&data, &["--memory-mib", &options.memory_mib.to_string()]);
    if two_cores {
        pin(1);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let mut phases = Vec::new();
    for (name, over) in [
        ("usual load", 0),
        ("overload", options.connections),
        ("usual load again", 0),
    ] {
        eprintln!("{name}: {} s", options.seconds);
        let tally = runtime.block_on(load(&server, &next, over, options.seconds));
        phases.push(Phase {
            name,
            seconds: options.seconds as f64,
            tally: Arc::into_inner(tally).expect("nobody sends any more"),
            peak_mib: server.peak_memory_bytes() as f64 / 1_048_576.0,
        });
    }
    println!("{}", table(&phases));

    let mut problems = problems(&phases, &options);
    problems.extend(lost(&runtime, &server, &phases));
    drop(log);
    server.stop();
    data.assert_sound();
    if problems.is_empty() {
        println!("ok: nothing acknowledged was lost, and fsck is content");
        return ExitCode::SUCCESS;
    }
    problems
        .iter()
        .for_each(|problem| println!("NOT AS IT MUST BE: {problem}"));
    ExitCode::FAILURE
}

/// Moves this thread, and what it starts, to one core.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

async fn load(server: &Server, next: &Arc<AtomicU64>, over: u32, seconds: u64) -> Arc<Tally> {
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    let sender = |channel: Channel| Sender {
        client: SubmitServiceClient::new(channel).max_decoding_message_size(usize::MAX),
        tally: tally.clone(),
        next: next.clone(),
    };
    // The usual: four connections of single calls, one of batches, one stream; and ten times that.
    let times = if over == 0 { 1 } else { TIMES };
    for _ in 0..4 * times {
        let channel = server.connection();
        for _ in 0..16 {
            tasks.spawn(sender(channel.clone()).single());
        }
    }
    for _ in 0..times {
        tasks.spawn(sender(server.connection()).batches(256, true));
        tasks.spawn(sender(server.connection()).stream(128));
    }
    let address = server.address();
    for place in 0..over {
        match place {
            // Batches as large as they may be, at once again when they are refused.
            0..40 => tasks.spawn(sender(server.connection()).batches(4_096, false)),
            // Streams of which no answer is read.
            40..48 => tasks.spawn(sender(server.connection()).unread_stream()),
            48..148 => tasks.spawn(churn(tally.clone(), address)),
            148..248 => tasks.spawn(half_a_request(tally.clone(), address)),
            _ => tasks.spawn(silence(tally.clone(), address)),
        };
    }
    let asks = tokio::task::spawn_blocking({
        let tally = tally.clone();
        move || ask_after_health(&tally, address)
    });
    sleep(Duration::from_secs(seconds)).await;
    tally.stop.store(true, Ordering::Relaxed);
    // Answers under way still count; who never ends is cut off.
    let _ = tokio::time::timeout(Duration::from_secs(30), async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    tasks.shutdown().await;
    asks.await.unwrap();
    tally
}

struct Sender {
    client: SubmitServiceClient<Channel>,
    tally: Arc<Tally>,
    next: Arc<AtomicU64>,
}

impl Sender {
    fn is_over(&self) -> bool {
        self.tally.stop.load(Ordering::Relaxed)
    }

    fn numbers(&self, count: u64) -> std::ops::Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    fn acknowledge(&self, started: Instant, places: impl IntoIterator<Item = (u64, u64)>) {
        let mut known = self.tally.places.lock().unwrap();
        let before = known.len();
        known.extend(places);
        let new = (known.len() - before) as u64;
        drop(known);
        self.tally.accepted.fetch_add(new, Ordering::Relaxed);
        self.tally.accepted_us.since(started);
    }

    /// Waits as told, if it is one who does.
    async fn refused(&self, status: &Status, started: Instant, obeys: bool) {
        if status.code() != Code::ResourceExhausted {
            self.tally.failed.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
            return;
        }
        self.tally.put_off.fetch_add(1, Ordering::Relaxed);
        self.tally.put_off_us.since(started);
        let told = status
            .get_error_details()
            .retry_info()
            .and_then(|info| info.retry_delay);
        if obeys {
            sleep(told.unwrap_or(Duration::from_millis(100))).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    async fn single(mut self) {
        while !self.is_over() {
            let number = self.numbers(1).start;
            let request = SubmitRequest {
                log: String::new(),
                event: Some(numbered(number)),
            };
            self.tally.offered.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            match self.client.submit(request).await {
                Ok(answer) => {
                    let receipt = answer.into_inner().receipt.unwrap();
                    self.acknowledge(started, [(number, receipt.leaf_index)]);
                }
                Err(status) => self.refused(&status, started, true).await,
            }
        }
    }

    async fn batches(mut self, size: u64, obeys: bool) {
        let mut numbers = self.numbers(size);
        let mut events: Vec<_> = numbers.clone().map(numbered).collect();
        while !self.is_over() {
            self.tally.offered.fetch_add(size, Ordering::Relaxed);
            let request = SubmitBatchRequest {
                log: String::new(),
                // Payloads are shared, not copied.
                events: events.clone(),
            };
            let started = Instant::now();
            match self.client.submit_batch(request).await {
                Ok(answer) => {
                    let places = answer
                        .into_inner()
                        .results
                        .into_iter()
                        .map(|result| match result.outcome {
                            Some(Outcome::Accepted(accepted)) => accepted.leaf_index,
                            other => panic!("one of a batch was refused: {other:?}"),
                        });
                    self.acknowledge(started, numbers.zip(places));
                    numbers = self.numbers(size);
                    events = numbers.clone().map(numbered).collect();
                }
                Err(status) => self.refused(&status, started, obeys).await,
            }
        }
    }

    /// A stream with so many events under way.
    async fn stream(mut self, under_way: usize) {
        while !self.is_over() {
            let (send, requests) = tokio::sync::mpsc::channel(under_way);
            let (tally, next) = (self.tally.clone(), self.next.clone());
            let sent = Arc::new(Mutex::new(HashMap::new()));
            let sends = sent.clone();
            let room = Arc::new(tokio::sync::Semaphore::new(under_way));
            let places = room.clone();
            let sending = tokio::spawn(async move {
                while !tally.stop.load(Ordering::Relaxed) {
                    let Ok(place) = places.acquire().await else { return };
                    place.forget();
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    tally.offered.fetch_add(1, Ordering::Relaxed);
                    sends.lock().unwrap().insert(number, Instant::now());
                    let request = SubmitStreamRequest {
                        log: String::new(),
                        sequence: number,
                        event: Some(numbered(number)),
                    };
                    if send.send(request).await.is_err() {
                        return;
                    }
                }
            });
            let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
            match self.client.submit_stream(requests).await {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    while let Ok(Some(answer)) = answers.message().await {
                        for result in answer.results {
                            room.add_permits(1);
                            let started = sent.lock().unwrap().remove(&result.sequence).unwrap();
                            match result.outcome {
                                Some(Outcome::Accepted(accepted)) => {
                                    self.acknowledge(started, [(result.sequence, accepted.leaf_index)]);
                                }
                                _ => {
                                    self.tally.put_off.fetch_add(1, Ordering::Relaxed);
                                    self.tally.put_off_us.since(started);
                                    sleep(Duration::from_millis(1)).await;
                                }
                            }
                        }
                    }
                }
                Err(status) => self.refused(&status, Instant::now(), true).await,
            }
            room.close();
            sending.abort();
        }
    }

    async fn unread_stream(mut self) {
        let tally = self.tally.clone();
        let next = self.next.clone();
        let requests = futures_util::stream::unfold((), move |()| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let request = SubmitStreamRequest {
                log: String::new(),
                sequence: number,
                event: Some(numbered(number)),
            };
            async move { Some((request, ())) }
        });
        let _unread = self.client.submit_stream(requests).await;
        while !tally.stop.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn churn(tally: Arc<Tally>, address: std::net::SocketAddr) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    while !tally.stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
            let request = b"GET /logs/main/checkpoint HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(request).await;
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 512])).await;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn half_a_request(tally: Arc<Tally>, address: std::net::SocketAddr) {
    use tokio::io::AsyncWriteExt as _;
    while !tally.stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
            for piece in [
                "POST /logs/main/events HTTP/1.1\r\nhost: a\r\ncontent-",
                "length: 1000\r\n\r\n{\"id\":",
            ] {
                let _ = stream.write_all(piece.as_bytes()).await;
                sleep(Duration::from_millis(500)).await;
            }
            // Until it is closed, or the phase ends.
            while !tally.stop.load(Ordering::Relaxed) && stream.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn silence(tally: Arc<Tally>, address: std::net::SocketAddr) {
    use tokio::io::AsyncReadExt as _;
    while !tally.stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0])).await;
        }
    }
}

/// As whatever restarts a server that does not answer: ten times a second, each on a connection of its own.
fn ask_after_health(tally: &Tally, address: std::net::SocketAddr) {
    while !tally.stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = std::panic::catch_unwind(|| Connection::to(address).try_send("GET", "/health", b""));
        match answer {
            Ok(Ok(answer)) if answer.status == 200 => tally.health_us.since(started),
            _ => {
                tally.unhealthy.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn numbered(number: u64) -> v1::Event {
    let mut digits = String::with_capacity(PAYLOAD_BYTES);
    let mut random = fastrand::Rng::with_seed(number);
    while digits.len() < PAYLOAD_BYTES / 2 {
        digits.push_str(&format!("{:016x}", random.u64(..)));
    }
    // As much as compresses well, as much as does not.
    let data = format!("{digits:<PAYLOAD_BYTES$}");
    event(format!("{number}"), Bytes::from(data))
}

/// Sends everything that was acknowledged again: each has to be known, and in its place.
fn lost(runtime: &tokio::runtime::Runtime, server: &Server, phases: &[Phase]) -> Vec<String> {
    let _runtime = runtime.enter();
    let mut client = server.submitter();
    let mut problems = Vec::new();
    for phase in phases {
        let places = phase.tally.places.lock().unwrap();
        for chunk in places.chunks(1_024) {
            let request = SubmitBatchRequest {
                log: String::new(),
                events: chunk.iter().map(|(number, _)| numbered(*number)).collect(),
            };
            let answer = runtime
                .block_on(client.submit_batch(request))
                .unwrap()
                .into_inner();
            for (result, (number, place)) in answer.results.into_iter().zip(chunk) {
                let is_there = matches!(&result.outcome,
                    Some(Outcome::Accepted(known)) if known.leaf_index == *place && known.duplicate);
                if !is_there && problems.len() < 10 {
                    problems.push(format!(
                        "event {number} was acknowledged as entry {place}: {result:?}"
                    ));
                }
            }
        }
    }
    problems
}

fn problems(phases: &[Phase], options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    let [usual, over, again] = phases else {
        unreachable!()
    };
    let goodput = |phase: &Phase| phase.tally.accepted.load(Ordering::Relaxed) as f64 / phase.seconds;
    for phase in [over, again] {
        let share = 100.0 * goodput(phase) / goodput(usual);
        if share < GOODPUT_PERCENT {
            problems.push(format!("{}: {share:.0} % of the usual goodput", phase.name));
        }
        let unhealthy = phase.tally.unhealthy.load(Ordering::Relaxed);
        if unhealthy > 0 {
            problems.push(format!("{}: {unhealthy} times no answer to /health", phase.name));
        }
    }
    let most = f64::from(options.memory_mib) + options.more_memory_mib as f64;
    if over.peak_mib > most {
        problems.push(format!(
            "{:.0} MiB of memory, and {most:.0} were planned",
            over.peak_mib
        ));
    }
    problems
}

fn table(phases: &[Phase]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "phase",
        "offered/s",
        "accepted/s",
        "p50 ms",
        "p99 ms",
        "put off/s",
        "p99 ms",
        "failed",
        "health p99 ms",
        "no answer",
        "memory MiB",
    ]);
    for Phase {
        name,
        tally,
        seconds,
        peak_mib,
    } in phases
    {
        let rate = |count: &AtomicU64| format!("{:.0}", count.load(Ordering::Relaxed) as f64 / seconds);
        table.add_row([
            (*name).to_owned(),
            rate(&tally.offered),
            rate(&tally.accepted),
            format!("{:.1}", tally.accepted_us.ms(0.5)),
            format!("{:.1}", tally.accepted_us.ms(0.99)),
            rate(&tally.put_off),
            format!("{:.1}", tally.put_off_us.ms(0.99)),
            tally.failed.load(Ordering::Relaxed).to_string(),
            format!("{:.1}", tally.health_us.ms(0.99)),
            tally.unhealthy.load(Ordering::Relaxed).to_string(),
            format!("{peak_mib:.0}"),
        ]);
    }
    table
}
