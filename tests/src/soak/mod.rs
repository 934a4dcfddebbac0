//! One log in several lives, under a load that never changes: what may not grow, and what has to grow as computed.
//!
//! Each life is a server on the same directory. Its clients are programs of their own, all kinds at once; they come again and
//! again, so that connections do. When they have gone, the server is at rest, and has to hold what it held at rest before. A
//! monitor and a witness live through all of it. A life ends in turns with SIGTERM and SIGKILL; killing servers that work is
//! what [`crash`](crate::crash) does.

mod load;
mod verdict;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub use self::verdict::{Latency, Life, Soak};
use self::{
    load::CLIENT_SECONDS,
    verdict::{IDLE_THREADS, left_over},
};
use crate::{
    Data, Held, Hook, Server, TestLog, Witness, WitnessData, bytes_under, client_of, configure_monitor,
    counterfoil, entry_at, json_of, output_of, own_port, process::Process,
};

/// For the database and tiles of the server: little, so that it is soon used up.
pub const MEMORY_MIB: u32 = 64;
/// For how long what a server holds at rest is looked at.
const REST: Duration = Duration::from_secs(4);
/// How long a server may take to come to rest: threads that ran once are kept for 10 s.
const UNTIL_REST: Duration = Duration::from_secs(40);

/// How long a monitor may take to read all that is there.
const UNTIL_READ: Duration = Duration::from_secs(60);

/// How many payloads of a life are read to compute what it adds on disk: in so many places, so many neighbours, which are what the
/// database compresses together.
const SAMPLES: u64 = 125;
const NEIGHBOURS: u64 = 16;
/// See "Disk" in `docs/OPERATIONS.md`: what an entry takes beside its attributes, annotations and payload.
pub const ENTRY_BYTES: u64 = 260;
/// From here on these are compressed alone.
const COMPRESSED_FROM_BYTES: usize = 4_096;
const ZSTD_LEVEL: i32 = 1;

/// How long, and in how many lives.
pub struct Plan {
    /// Of load, over all lives.
    pub seconds: u64,
    /// How many.
    pub lives: u64,
    /// Recorded webhooks of GitHub to deliver as well: a directory with `EVENT/*.json`.
    pub webhooks: Option<PathBuf>,
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
        let listen = address.unwrap_or_else(own_port).to_string();
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
            not_started: load.not_started,
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

    /// How many entries the monitor has verified, if it has written any state yet.
    fn verified(&self) -> Option<u64> {
        let state = fs::read(self.data.beside("monitor").join("state/logs/main.json")).ok()?;
        serde_json::from_slice::<Value>(&state).ok()?["tree_size"].as_u64()
    }

    /// Waits until it has verified so many.
    fn verified_from(&self, entries: u64) -> Option<u64> {
        let started = Instant::now();
        loop {
            let verified = self.verified();
            if verified >= Some(entries) || started.elapsed() > UNTIL_READ {
                return verified;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Everything that can be said of the log when all is over.
    fn finish(mut self, soak: &mut Soak) -> Result<()> {
        let mut monitor = self.monitor.take().context("it was started in the first life")?;
        let size = self.size()?;
        let verified = self.verified_from(size);
        monitor.stop();
        if verified != Some(size) {
            soak.broken.push(format!(
                "the monitor that ran all the time verified {} entries of {size}",
                verified.unwrap_or(0)
            ));
        }
        let directory = self.data.beside("monitor");
        for line in fs::read_to_string(directory.join("findings"))?.lines() {
            let event: Value = serde_json::from_str(line)?;
            // It is so between two lives.
            if event["finding"] != "unreachable" {
                soak.broken.push(format!("the monitor said: {line}"));
            }
        }
        let entries = soak.lives.last().map_or(0, |life| life.entries);
        if size != entries {
            soak.broken.push(format!(
                "the log had {entries} entries, and has {size} after its last start"
            ));
        }
        let mut once = self.monitor();
        once.arg("--once");
        // It ends badly if anything is open.
        output_of(once)?;
        let verified = self.verified();
        if verified != Some(size) {
            soak.broken.push(format!(
                "the monitor verified {} entries of {size}",
                verified.unwrap_or(0)
            ));
        }
        self.server.take().expect("it was started").stop();
        self.data.assert_sound();
        Ok(())
    }
}
