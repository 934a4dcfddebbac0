//! One log in several lives, under a load that never changes: what may not grow, and what has to grow as computed.
//!
//! Each life is a server on the same directory. Its clients are programs of their own, all kinds at once; they come again and
//! again, so that connections do. When they have gone, the server is at rest, and has to hold what it held at rest before. A
//! monitor and a witness live through all of it. A life ends in turns with SIGTERM and SIGKILL; killing servers that work is
//! what [`crash`](crate::crash) does.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Data, Held, Hook, Server, TestLog, Witness, WitnessData, bytes_under, client_of, configure_monitor,
    counterfoil, entry_at, http_get, json_of, output_of, process::Process,
};

/// For the database and tiles of the server: little, so that it is soon used up.
pub const MEMORY_MIB: u32 = 64;

/// What is sent, and how much of it in a second.
const LOADS: &[(&str, &[&str])] = &[
    (
        "unary",
        &[
            "bench",
            "ingest",
            "--mode",
            "unary",
            "--rate",
            "300",
            "--size",
            "4096",
            "--in-flight",
            "64",
        ],
    ),
    (
        "batch",
        &[
            "bench", "ingest", "--mode", "batch", "--rate", "2000", "--size", "512", "--batch", "100",
        ],
    ),
    (
        "stream",
        &[
            "bench",
            "ingest",
            "--mode",
            "stream",
            "--rate",
            "500",
            "--size",
            "1024",
            "--in-flight",
            "256",
        ],
    ),
    ("prove", &["bench", "prove", "--rate", "200"]),
];
/// The same for recorded webhooks.
const WEBHOOKS: &[&str] = &["bench", "webhooks", "--rate", "20", "--connections", "8"];
/// One who asks each time on a connection of its own.
const VISITOR: &str = "visitor";
const BETWEEN_VISITS: Duration = Duration::from_millis(100);
/// How long a client stays before the next one of its kind comes.
const CLIENT_SECONDS: u64 = 30;

/// For how long what a server holds at rest is looked at.
const REST: Duration = Duration::from_secs(4);
/// How long a server may take to come to rest: threads that ran once are kept for 10 s.
const UNTIL_REST: Duration = Duration::from_secs(40);
/// Threads that wait for the disk, at most. The runtime keeps one for 10 s after it was last needed, and the server's own upkeep
/// needs one a few times a second, now this and now that: all may be left.
const IDLE_THREADS: usize = 32;
/// The database keeps so many tables open, and a few files beside them.
const DATABASE_FILES: usize = 1_024 + 32;

/// How many payloads of a life are read to compute what it adds on disk: in so many places, so many neighbours, which are what the
/// database compresses together.
const SAMPLES: u64 = 125;
const NEIGHBOURS: u64 = 16;
/// See "Disk" in `docs/OPERATIONS.md`: what an entry takes beside its attributes, annotations and payload.
pub const ENTRY_BYTES: u64 = 260;
/// From here on these are compressed alone.
const COMPRESSED_FROM_BYTES: usize = 4_096;
const ZSTD_LEVEL: i32 = 1;
/// What waits in the database's log for its place in tables: at most 40 MiB, and what was written while those are made.
const WAITING_BYTES: f64 = 64.0 * 1_048_576.0;
/// How far disk use may be from what is computed.
const DISK_SHARE: f64 = 0.15;
/// How much more memory and latency may be at the end than before, as a share and beside it.
const MEMORY_SHARE: f64 = 0.10;
const MEMORY_BYTES: f64 = 16.0 * 1_048_576.0;
const LATENCY_SHARE: f64 = 0.25;
const LATENCY_MS: f64 = 0.25;

/// How long, and in how many lives.
pub struct Plan {
    /// Of load, over all lives.
    pub seconds: u64,
    /// How many.
    pub lives: u64,
    /// Recorded webhooks of GitHub to deliver as well: a directory with `EVENT/*.json`.
    pub webhooks: Option<PathBuf>,
}

/// What came of a life.
pub struct Life {
    /// The log's size at its end.
    pub entries: u64,
    /// Entries that came in it.
    pub added: u64,
    /// Those of them that were acknowledged after the server was warm.
    acknowledged: u64,
    /// How long that lasted.
    seconds: f64,
    /// By kind of load.
    pub latency: BTreeMap<&'static str, Latency>,
    /// Under load, a look each second.
    pub looks: Vec<Held>,
    /// At rest, before the load.
    pub before: Held,
    /// At rest, after it.
    pub after: Held,
    /// Of the data directory, when the server had ended.
    pub disk_bytes: u64,
    /// What the life added to that.
    pub added_bytes: f64,
    /// What that should be.
    pub computed_bytes: f64,
}

/// Milliseconds.
#[derive(Debug, Default, Clone, Copy)]
pub struct Latency {
    /// The median, over all clients of a kind the median of theirs.
    pub p50: f64,
    /// The 99th percentile, likewise.
    pub p99: f64,
}

impl Life {
    /// The median of what was seen of its memory in a part of its time, `part` of `parts`.
    fn memory_bytes(&self, part: usize, parts: usize) -> f64 {
        let looks = &self.looks[self.looks.len() * part / parts..self.looks.len() * (part + 1) / parts];
        median(looks.iter().map(|held| held.memory_bytes as f64).collect())
    }

    /// The median over all of its time.
    pub fn median_memory_bytes(&self) -> f64 {
        self.memory_bytes(0, 1)
    }

    /// Entries a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.seconds
    }

    /// The most of each that was seen under load.
    pub fn most(&self) -> Held {
        self.looks.iter().copied().fold(self.after, Held::most)
    }
}

/// What came of a soak.
#[derive(Default)]
pub struct Soak {
    /// Each life.
    pub lives: Vec<Life>,
    /// What must not be, however busy the machine is.
    pub broken: Vec<String>,
}

impl Soak {
    /// What grew over time that must not, or not so fast. Means little in lives of a few seconds.
    pub fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        let memory_of = |bytes: f64| bytes * (1.0 + MEMORY_SHARE) + MEMORY_BYTES;
        for (number, life) in (1..).zip(&self.lives) {
            let (before, last) = (life.memory_bytes(1, 3), life.memory_bytes(2, 3));
            if last > memory_of(before) {
                grown.push(format!(
                    "life {number}: memory went from {} to {} MiB in the last two thirds",
                    mib(before),
                    mib(last)
                ));
            }
            let off = (life.added_bytes - life.computed_bytes).abs();
            if off > life.computed_bytes * DISK_SHARE + WAITING_BYTES {
                grown.push(format!(
                    "life {number}: {} MiB more on disk, and {} were computed",
                    mib(life.added_bytes),
                    mib(life.computed_bytes)
                ));
            }
        }
        let [first, second, .., last] = self.lives.as_slice() else {
            return grown;
        };
        let (before, after) = (second.median_memory_bytes(), last.median_memory_bytes());
        if after > memory_of(before) {
            grown.push(format!(
                "memory went from {} MiB in the second life to {} in the last",
                mib(before),
                mib(after)
            ));
        }
        for (kind, latency) in &last.latency {
            let usual = f64::midpoint(first.latency[kind].p50, second.latency[kind].p50);
            if latency.p50 > usual * (1.0 + LATENCY_SHARE) + LATENCY_MS {
                grown.push(format!(
                    "{kind}: p50 went from {usual:.2} ms in the first two lives to {:.2} ms in the last",
                    latency.p50
                ));
            }
        }
        grown
    }
}

/// Runs a soak. `tell` is called after each life.
pub fn run(plan: &Plan, mut tell: impl FnMut(&Life)) -> Result<Soak> {
    let (data, log) = Data::with_main_log();
    let hook = plan
        .webhooks
        .as_ref()
        .map(|_| Hook::add(&data, "soak", "github", &[]));
    if let Some(hook) = &hook {
        fs::write(data.beside("secret"), &hook.secret)?;
    }
    let (witness, policy) = witness_of(&log);
    fs::write(data.beside("policy"), &policy)?;

    let mut subject = Subject {
        server: None,
        monitor: None,
        _witness: witness,
        policy,
        data,
        log,
    };
    let mut soak = Soak::default();
    let mut address = None;
    let mut entries = None;
    for number in 0..plan.lives {
        address = Some(subject.start(address));
        if number == 0 {
            subject.follow()?;
        }
        let before = match entries {
            Some(entries) => entries,
            None => subject.size()?,
        };
        let life = subject.live(plan, number, before, &mut soak.broken)?;
        entries = Some(life.entries);
        tell(&life);
        soak.lives.push(life);
    }
    let address = address.context("a soak has at least one life")?;
    subject.start(Some(address));
    subject.finish(&mut soak)?;
    Ok(soak)
}

fn witness_of(log: &TestLog) -> ((Witness, WitnessData), String) {
    let data = WitnessData::init("witness.example/w");
    data.set_logs(&log.keys.iter().collect::<Vec<_>>());
    let witness = Witness::start(&data);
    let mut policy: String = log.keys.iter().map(|key| format!("log {key}\n")).collect();
    policy += &format!(
        "witness w {} http://{}/\nquorum w\n",
        data.key(),
        witness.address()
    );
    ((witness, data), policy)
}

/// A log with those who watch it. Fields are dropped in their order: processes before their directories.
struct Subject {
    server: Option<Server>,
    monitor: Option<Process>,
    _witness: (Witness, WitnessData),
    policy: String,
    data: Data,
    log: TestLog,
}

impl Subject {
    /// On the address that it had before.
    fn start(&mut self, address: Option<SocketAddr>) -> SocketAddr {
        let listen = address.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
        let memory = MEMORY_MIB.to_string();
        let policy = self.data.beside("policy");
        let policy = policy.to_str().unwrap();
        let server = Server::start(
            &self.data,
            &[
                "--listen",
                &listen,
                "--memory-mib",
                &memory,
                "--witness-policy",
                policy,
            ],
        );
        let address = server.address();
        self.server = Some(server);
        address
    }

    fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("it runs from the start of a life to its end")
    }

    fn held(&self) -> Held {
        Held::by(self.server().pid(), self.data.path())
    }

    fn client(&self, state: &str, arguments: &[&str]) -> Command {
        client_of(
            self.server().address(),
            &self.log,
            &self.data.beside(state),
            arguments,
        )
    }

    fn size(&self) -> Result<u64> {
        let head = json_of(self.client("state", &["head"]))?;
        head["tree_size"]
            .as_u64()
            .with_context(|| format!("the head has no size: {head}"))
    }

    /// Waits for a head that covers so many entries, and returns its size.
    fn size_from(&self, entries: u64) -> Result<u64> {
        let started = Instant::now();
        loop {
            let size = self.size()?;
            if size >= entries || started.elapsed() > UNTIL_REST {
                return Ok(size);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn live(&mut self, plan: &Plan, number: u64, before: u64, broken: &mut Vec<String>) -> Result<Life> {
        let disk_before = bytes_under(self.data.path())?;
        // Everything that is made when it is first needed is made now.
        let seconds = (plan.seconds / plan.lives / 10).clamp(1, CLIENT_SECONDS);
        let warm = self.load(plan, Duration::from_secs(seconds))?;
        thread::sleep(REST);
        let at_rest_before = self.at_rest(None);
        let load = self.load(plan, Duration::from_secs(plan.seconds / plan.lives))?;

        let acknowledged = warm.acknowledged + load.acknowledged;
        let entries = self.size_from(before + acknowledged)?;
        let number = number + 1;
        if entries != before + acknowledged {
            broken.push(format!(
                "life {number}: {before} entries and {acknowledged} acknowledged make {}, and the log has {entries}",
                before + acknowledged
            ));
        }
        for problem in warm.problems.into_iter().chain(load.problems) {
            broken.push(format!("life {number}: {problem}"));
        }
        let computed = self.record_bytes(before, entries)? + ENTRY_BYTES as f64;
        let at_rest_after = self.at_rest(Some(at_rest_before));
        let mut life = Life {
            entries,
            added: entries - before,
            acknowledged: load.acknowledged,
            seconds: load.seconds,
            latency: load.latency,
            looks: load.looks,
            before: at_rest_before,
            after: at_rest_after,
            disk_bytes: 0,
            added_bytes: 0.0,
            computed_bytes: computed * (entries - before) as f64,
        };
        broken.extend(left_over(&life).map(|left| format!("life {number}: {left}")));

        let server = self
            .server
            .take()
            .expect("it runs from the start of a life to its end");
        if number.is_multiple_of(2) {
            server.kill();
        } else {
            server.stop();
        }
        life.disk_bytes = bytes_under(self.data.path())?;
        life.added_bytes = life.disk_bytes as f64 - disk_before as f64;
        Ok(life)
    }

    /// All kinds of load at once, for a time.
    fn load(&self, plan: &Plan, time: Duration) -> Result<Load> {
        let started = Instant::now();
        let address = self.server().address();
        let secret = self.data.beside("secret");
        let webhooks = match &plan.webhooks {
            Some(bodies) => {
                let bodies = bodies.to_str().context("the path of the bodies is not UTF-8")?;
                let more = [
                    "--source",
                    "soak",
                    "--secret-file",
                    secret.to_str().unwrap(),
                    "--bodies",
                    bodies,
                ];
                Some([WEBHOOKS, &more].concat())
            }
            None => None,
        };
        let mut kinds = LOADS.to_vec();
        kinds.extend(webhooks.as_deref().map(|webhooks| ("webhooks", webhooks)));
        let over = AtomicBool::new(false);
        let mut load = Load::default();
        thread::scope(|scope| {
            let visits = scope.spawn(|| visit(address, &over));
            let looks = scope.spawn(|| self.look(&over));
            let clients: Vec<_> = kinds
                .iter()
                .map(|&(kind, arguments)| {
                    (
                        kind,
                        scope.spawn(move || self.clients(kind, arguments, started + time)),
                    )
                })
                .collect();
            let answers: Vec<_> = clients
                .into_iter()
                .map(|(kind, client)| (kind, client.join().expect("clients do not panic")))
                .collect();
            over.store(true, Ordering::Relaxed);
            load.seconds = started.elapsed().as_secs_f64();
            load.looks = looks.join().expect("the server runs");
            load.latency
                .insert(VISITOR, visits.join().expect("the server answers"));
            for (kind, answers) in answers {
                load.take(kind, &answers?)?;
            }
            Ok(load)
        })
    }

    /// One client after another.
    fn clients(&self, kind: &str, arguments: &[&str], deadline: Instant) -> Result<Vec<Value>> {
        let mut answers = Vec::new();
        loop {
            // To the nearest second.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
            let seconds = left.as_secs().min(CLIENT_SECONDS);
            if seconds == 0 {
                return Ok(answers);
            }
            let seconds = seconds.to_string();
            answers.push(json_of(
                self.client(kind, &[arguments, &["--duration", &seconds]].concat()),
            )?);
        }
    }

    fn look(&self, over: &AtomicBool) -> Vec<Held> {
        let mut looks = Vec::new();
        while !over.load(Ordering::Relaxed) {
            looks.push(self.held());
            thread::sleep(Duration::from_secs(1));
        }
        looks
    }

    /// What the server holds at rest: the most that is seen in a while; or, where that is given, what is left after a while that is
    /// longer if it is more than before.
    fn at_rest(&self, before: Option<Held>) -> Held {
        let started = Instant::now();
        let mut held = self.held();
        loop {
            let more = match before {
                Some(before) => {
                    held = self.held();
                    held.handles > before.handles || held.threads > before.threads + IDLE_THREADS
                }
                None => {
                    held = held.most(self.held());
                    started.elapsed() < REST
                }
            };
            if !more || started.elapsed() > UNTIL_REST {
                return held;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the payload records of the entries in a range take, on average.
    fn record_bytes(&self, first: u64, end: u64) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let _entered = runtime.enter();
        let mut reader = self.server().reader();
        ensure!(first < end, "nothing was added");
        let (mut bytes, mut entries) = (0, 0);
        for sample in 0..SAMPLES {
            let start = first + (end - first) * sample / SAMPLES;
            let mut together = Vec::new();
            for index in start..end.min(start + NEIGHBOURS) {
                let entry = runtime.block_on(entry_at(&mut reader, &self.log, index))?;
                let payload = entry.payload.context("an entry without its payload")?;
                let body = [payload.attributes, payload.annotations, payload.data].concat();
                if body.len() < COMPRESSED_FROM_BYTES {
                    together.extend(body);
                } else {
                    bytes += zstd::bulk::compress(&body, ZSTD_LEVEL)?.len().min(body.len());
                }
                entries += 1;
            }
            bytes += zstd::bulk::compress(&together, ZSTD_LEVEL)?.len();
        }
        Ok(bytes as f64 / f64::from(entries))
    }

    fn monitor(&self) -> Command {
        let mut command = counterfoil();
        command
            .args(["monitor", "--json", "--config"])
            .arg(self.data.beside("monitor").join("monitor.toml"));
        command
    }

    /// Starts the monitor.
    fn follow(&mut self) -> Result<()> {
        let directory = self.data.beside("monitor");
        configure_monitor(&directory, &self.policy, self.server().address())?;
        let findings = File::create(directory.join("findings"))?;
        let errors = self.data.beside("monitor.log");
        self.monitor = Some(Process::spawn_into(self.monitor(), errors, findings.into()));
        Ok(())
    }

    /// Everything that can be said of the log when all is over.
    fn finish(mut self, soak: &mut Soak) -> Result<()> {
        let mut monitor = self.monitor.take().context("it was started in the first life")?;
        monitor.stop();
        let directory = self.data.beside("monitor");
        for line in fs::read_to_string(directory.join("findings"))?.lines() {
            let event: Value = serde_json::from_str(line)?;
            // It is so between two lives.
            if event["finding"] != "unreachable" {
                soak.broken.push(format!("the monitor said: {line}"));
            }
        }
        let entries = soak.lives.last().map_or(0, |life| life.entries);
        let size = self.size()?;
        if size != entries {
            soak.broken.push(format!(
                "the log had {entries} entries, and has {size} after its last start"
            ));
        }
        let mut once = self.monitor();
        once.arg("--once");
        // It ends badly if anything is open.
        output_of(once)?;
        let state: Value = serde_json::from_slice(&fs::read(directory.join("state/logs/main.json"))?)?;
        if state["tree_size"] != size {
            soak.broken.push(format!(
                "the monitor verified {} entries of {size}",
                state["tree_size"]
            ));
        }
        self.server.take().expect("it was started").stop();
        self.data.assert_sound();
        Ok(())
    }
}

/// What came of a time under load.
#[derive(Default)]
struct Load {
    acknowledged: u64,
    problems: Vec<String>,
    latency: BTreeMap<&'static str, Latency>,
    looks: Vec<Held>,
    seconds: f64,
}

impl Load {
    /// Takes in what the clients of a kind said.
    fn take(&mut self, kind: &'static str, answers: &[Value]) -> Result<()> {
        let of = |answer: &Value, name: &str| {
            let number = answer.pointer(name).cloned();
            number.with_context(|| format!("{kind}: no {name} in {answer}"))
        };
        let count = |answer: &Value, name: &str| {
            let number = of(answer, name)?.as_u64();
            number.with_context(|| format!("{kind}: {name} is no count"))
        };
        let ms = |answer: &Value, name: &str| {
            let number = of(answer, name)?.as_f64();
            number.with_context(|| format!("{kind}: {name} is no time"))
        };
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for answer in answers {
            if kind != "prove" {
                self.acknowledged += count(answer, "/acknowledged")? - count(answer, "/duplicates")?;
            }
            if answer["failed"] != 0 {
                self.problems.push(format!("{kind}: calls failed: {answer}"));
            }
            p50.push(ms(answer, "/latency_ms/p50")?);
            p99.push(ms(answer, "/latency_ms/p99")?);
        }
        self.latency.insert(
            kind,
            Latency {
                p50: median(p50),
                p99: median(p99),
            },
        );
        Ok(())
    }
}

fn visit(address: SocketAddr, over: &AtomicBool) -> Latency {
    let mut took_ms = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        assert_eq!(http_get(address, "/logs/main/checkpoint").status, 200);
        took_ms.push(started.elapsed().as_secs_f64() * 1e3);
        thread::sleep(BETWEEN_VISITS);
    }
    took_ms.sort_by(f64::total_cmp);
    Latency {
        p50: took_ms[took_ms.len() / 2],
        p99: took_ms[took_ms.len() * 99 / 100],
    }
}

/// What a server holds that it did not hold before its clients came.
fn left_over(life: &Life) -> impl Iterator<Item = String> {
    let Life { before, after, .. } = life;
    let database = life.most().database_files;
    [
        (
            after.handles > before.handles,
            format!(
                "{} handles at rest, and {} before the load",
                after.handles, before.handles
            ),
        ),
        (
            after.threads > before.threads + IDLE_THREADS,
            format!(
                "{} threads at rest, and {} before the load",
                after.threads, before.threads
            ),
        ),
        (
            database > DATABASE_FILES,
            format!("{database} files of the database were open"),
        ),
    ]
    .into_iter()
    .filter_map(|(is_left, what)| is_left.then_some(what))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / 1_048_576.0)
}
