//! A log that is put through crashes of every kind, and checked after each.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    Data, Hook, Load, Notes, Promises, Refused, Server, SmallDisk, TestLog, Witness, WitnessData,
    counterfoild, now_unix_s, own_port,
    power::{Disk, Loss, Recording, recorder, trace},
    server::assert_says_no_defect,
    skip,
};

/// How often each thing was done.
pub type Counts = BTreeMap<&'static str, u64>;

/// Of a disk that lost power.
pub const KEPT: &str = "receipts of the same run that had to hold on what was left";

/// What the exit code of a program is that panicked.
const PANICKED: i32 = 101;

/// A log, and all that it promised.
pub struct Subject {
    data: Data,
    log: Arc<TestLog>,
    hook: Hook,
    promises: Promises,
    witness: Option<Post>,
    options: Vec<String>,
    counts: Counts,
    /// Where its directory is kept if it breaks a promise.
    keep: Option<PathBuf>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(keep) = self.keep.as_ref().filter(|_| thread::panicking()) {
            let target = keep.join(format!("{}", now_unix_s()));
            Data::at(self.data.beside("")).copy_to(&target);
            eprintln!("what it left is in {}", target.display());
        }
    }
}

/// A witness that comes back where it was before, with what it remembers.
struct Post {
    data: WitnessData,
    address: SocketAddr,
    running: Option<Witness>,
}

impl Subject {
    /// A new log. Little memory, so that tables are written and merged meanwhile; many heads, so that many are promised.
    pub fn new(suite: &str) -> Self {
        Self::in_directory(Data::temporary(), suite)
    }

    fn in_directory(data: Data, suite: &str) -> Self {
        let log = data.init("main", suite);
        Self {
            hook: Hook::add(&data, "github", "github", &[]),
            promises: Promises::new(&log),
            log: Arc::new(log),
            witness: None,
            options: ["--memory-mib", "32", "--publish-interval-ms", "5"]
                .map(str::to_owned)
                .into(),
            counts: Counts::new(),
            keep: None,
            data,
        }
    }

    /// Keeps its directory under this one if it breaks a promise.
    pub fn kept_in(mut self, directory: PathBuf) -> Self {
        self.keep = Some(directory);
        self
    }

    /// Has each head wait for the cosignature of a witness.
    pub fn witnessed(mut self) -> Self {
        let data = WitnessData::init("witness.example/w");
        data.set_logs(&self.log.keys.iter().collect::<Vec<_>>());
        let running =
            Witness::try_start_with(&data, &data.logs_path(), &["--listen", &own_port().to_string()]);
        let running = running.unwrap();
        let address = running.address();
        let mut policy: String = self.log.keys.iter().map(|key| format!("log {key}\n")).collect();
        policy += &format!("witness w {} http://{address}/\nquorum w\n", data.key());
        let file = self.data.beside("policy");
        fs::write(&file, policy).unwrap();
        self.options
            .extend(["--witness-policy".to_owned(), file.to_str().unwrap().to_owned()]);
        self.witness = Some(Post {
            data,
            address,
            running: Some(running),
        });
        self
    }

    /// Keeps the newest head in a directory elsewhere too.
    pub fn anchored(mut self) -> Self {
        let anchor = self.data.beside("anchor");
        fs::create_dir(&anchor).unwrap();
        self.options
            .extend(["--anchor".to_owned(), anchor.to_str().unwrap().to_owned()]);
        self
    }

    fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    fn start(&self) -> Server {
        Server::start(&self.data, &self.options())
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn load(&self, server: &Arc<Server>, name: &str, random: &mut Rng) -> Load {
        Load::start(server, None, &self.log, &self.hook, name, random)
    }

    /// Asserts that none of its servers so far panicked or gave up writing: nothing that is done to them is a reason.
    fn assert_nothing_broke(&self) {
        assert_says_no_defect(&fs::read_to_string(self.data.beside("server.log")).unwrap());
    }

    /// Restarts it and checks all promises.
    async fn check(&mut self, notes: Notes, random: &mut Rng) {
        let server = self.start();
        self.promises
            .check(&server, &self.log, &self.hook, notes, random)
            .await;
        server.kill();
        self.data.assert_sound();
    }

    /// Loads it until it is killed, at any time, perhaps while it starts or stops.
    pub async fn kill(&mut self, name: &str, random: &mut Rng) {
        let server = Arc::new(self.start());
        let load = self.load(&server, name, random);
        pause(random, 200).await;
        server.assert_runs();
        if random.u8(..4) == 0 {
            server.signal(Signal::STOP);
            pause(random, 50).await;
            self.assert_second_refused();
            server.signal(Signal::CONT);
            pause(random, 50).await;
            self.count("stopped for a while (SIGSTOP, SIGCONT), a second server refused meanwhile");
        } else if random.u8(..6) == 0 {
            self.assert_second_refused();
            self.count("a second server on the directory, refused");
        }
        if random.u8(..6) == 0 && self.kill_witness() {
            pause(random, 50).await;
            self.count("the witness killed first");
        }
        server.assert_runs();
        load.may_be_cut_off();
        let stops = random.u8(..5) == 0;
        if stops {
            server.terminate();
            pause(random, 20).await;
        }
        server.signal(Signal::KILL);
        let notes = load.ended().await;
        let status = Arc::into_inner(server).unwrap().kill();
        let was_killed = status.signal() == Some(Signal::KILL.as_raw());
        assert!(was_killed || (stops && status.success()), "{status}");
        self.count(match (stops, was_killed) {
            (true, true) => "SIGKILL while it stopped",
            (true, false) => "stopped before SIGKILL came",
            (false, _) => "SIGKILL under load",
        });
        self.restart_witness();
        while random.u8(..4) == 0 {
            let time = Duration::from_micros(random.u64(..60_000));
            let listened = Server::start_and_kill(&self.data, &self.options(), time);
            self.count(if listened {
                "SIGKILL right after a start"
            } else {
                "SIGKILL while it started"
            });
        }
        if random.bool() {
            self.data.assert_sound();
        }
        self.check(notes, random).await;
        self.assert_nothing_broke();
    }

    fn assert_second_refused(&self) {
        let Err(refused) = Server::try_start(&self.data, &self.options()) else {
            panic!("two servers are on one directory");
        };
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(
            refused.errors.contains("another process has the database"),
            "{refused:?}"
        );
    }

    fn kill_witness(&mut self) -> bool {
        let running = self.witness.as_mut().and_then(|post| post.running.take());
        running.map(Witness::kill).is_some()
    }

    /// Keeps what the witness remembers.
    fn keep_witness(&mut self, kept: &Path) {
        if self.kill_witness() {
            let _ = fs::remove_dir_all(kept);
            self.witness_data().copy_to(kept);
            self.restart_witness();
        }
    }

    /// Has the witness remember what was kept, and nothing else.
    fn put_witness_back(&mut self, kept: &Path) {
        if self.kill_witness() {
            self.witness_data().restore_from(kept);
            self.restart_witness();
        }
    }

    fn witness_data(&self) -> Data {
        Data::at(self.witness.as_ref().unwrap().data.path())
    }

    fn restart_witness(&mut self) {
        if let Some(post) = self.witness.as_mut().filter(|post| post.running.is_none()) {
            let options = ["--listen", &post.address.to_string()];
            let running = Witness::try_start_with(&post.data, &post.data.logs_path(), &options);
            post.running = Some(running.unwrap());
        }
    }

    /// Loads it while one system call fails or kills, from its `nth` use in a thread on, then checks it without. Returns whether
    /// any call was made to fail: perhaps it did not come so often.
    pub async fn fail(&mut self, fault: &Fault, name: &str, random: &mut Rng) -> bool {
        let file = self.data.beside("calls");
        let tracer = fault.tracer(&self.data, &file);
        let mut notes = Notes::default();
        let (id, served) = match Server::try_start_under(&self.data, &self.options(), &tracer) {
            Ok(server) => {
                let server = Arc::new(server);
                let load = Load::start(&server, Some(fault), &self.log, &self.hook, name, random);
                pause(random, 200).await;
                let served = !server.has_ended();
                server.signal(Signal::KILL);
                notes = load.ended().await;
                assert!(!server.errors().contains("panicked"), "{}", server.errors());
                let id = server.pid();
                Arc::into_inner(server).unwrap().kill();
                (id, served)
            }
            Err(Refused { id, code, errors }) => {
                assert_ne!(code, Some(PANICKED), "{errors}");
                (id, false)
            }
        };
        let trace = trace(&file, id);
        let was_hit = match fault.outcome {
            Outcome::Eio | Outcome::Enospc => trace.contains("(INJECTED)"),
            // Of a signal there is no such note.
            Outcome::Sigkill => !served && trace.contains("+++ killed by SIGKILL"),
        };
        assert!(
            was_hit || served,
            "it ended, and nothing had failed: {fault:?}, {name}"
        );
        self.count(match (was_hit, served) {
            (false, _) => "the call did not come so often",
            (true, true) => "served on in spite of it",
            (true, false) => "did not start, or died of it",
        });
        self.check(notes, random).await;
        was_hit
    }

    /// Loads it while its calls are recorded, takes the power away at so many places, and checks what each leaves. One of the
    /// disks that were left is what it goes on with. A witness knows no more of each than it did before the run: of what it
    /// learnt then, some came later.
    pub async fn lose_power(&mut self, name: &str, crashes: usize, random: &mut Rng) {
        let mut disk = Disk::load(self.data.path());
        let (witness_before, witness_after) = (
            self.data.beside("witness-before"),
            self.data.beside("witness-after"),
        );
        self.keep_witness(&witness_before);
        let file = self.data.beside("calls");
        let server = Server::try_start_under(&self.data, &self.options(), &recorder(&file)).unwrap();
        let server = Arc::new(server);
        let mut load = self.load(&server, name, random);
        // Traced it is slow, and there must be something to lose.
        load.answered(50).await;
        pause(random, 100).await;
        server.assert_runs();
        load.may_be_cut_off();
        server.signal(Signal::KILL);
        let notes = load.ended().await;
        let pid = server.pid();
        Arc::into_inner(server).unwrap().kill();
        let recording = Recording::read(&file, pid, self.data.path());

        // A start makes most of the calls, and the last ones come under load.
        let last = recording.calls() - recording.calls() / 5;
        let mut places: Vec<_> = (0..crashes)
            .map(|number| random.usize(if number % 2 == 0 { 0 } else { last }..recording.calls()))
            .collect();
        places.sort_unstable();
        let mut left: Vec<(PathBuf, SystemTime, Loss)> = Vec::new();
        disk.play(&recording, &places, |disk, moment| {
            let loss = if random.u8(..4) == 0 {
                Loss::All
            } else {
                Loss::Some
            };
            let path = self.data.beside(&format!("left-{}", left.len()));
            disk.lose_power(&path, loss, random);
            left.push((path, moment, loss));
        });
        disk.assert_is(&recording, self.data.path());

        let goes_on_with = random.usize(..left.len());
        let mut gone_on = None;
        for (number, (path, moment, loss)) in left.into_iter().enumerate() {
            let place = places[number];
            println!(
                "{name}: power lost before call {place} of {}, {loss:?}",
                recording.calls()
            );
            let after = Data::at(path.clone());
            let mut promises = self.promises.clone();
            if random.u8(..3) == 0 {
                after.assert_sound();
            }
            self.put_witness_back(&witness_before);
            let server = Server::start(&after, &self.options());
            let notes = notes.until(moment);
            *self.counts.entry(KEPT).or_default() += notes.acknowledged.len() as u64;
            promises
                .check(&server, &self.log, &self.hook, notes, random)
                .await;
            server.assert_nothing_broke();
            server.kill();
            after.assert_sound();
            self.count(match loss {
                Loss::All => "all that was not synced lost",
                Loss::Some => "some of what was not synced lost or torn",
            });
            if number == goes_on_with {
                self.keep_witness(&witness_after);
                gone_on = Some((path, promises));
            } else {
                fs::remove_dir_all(path).unwrap();
            }
        }
        let (path, promises) = gone_on.unwrap();
        fs::remove_dir_all(self.data.path()).unwrap();
        fs::rename(path, self.data.path()).unwrap();
        self.put_witness_back(&witness_after);
        self.promises = promises;
        self.assert_nothing_broke();
    }

    /// Reads all of it once more. Returns its entries.
    pub async fn finish(&mut self, random: &mut Rng) -> usize {
        self.check(Notes::default(), random).await;
        let server = self.start();
        let entries = self.promises.assert_each_event_once(&server).await;
        server.stop();
        self.data.assert_sound();
        entries
    }

    /// Entries promised so far, and published heads seen.
    pub fn promised(&self) -> (usize, usize) {
        (self.promises.entries(), self.promises.heads())
    }

    /// What was done to it, and how often.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

async fn pause(random: &mut Rng, most_ms: u64) {
    sleep(Duration::from_micros(random.u64(..most_ms * 1000))).await;
}

/// A system call that fails.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its name.
    pub call: &'static str,
    /// What comes of it.
    pub outcome: Outcome,
    /// The first of a thread's uses that fails.
    pub nth: u32,
    /// Whether those after it fail too.
    pub goes_on: bool,
}

/// What comes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An error of the device.
    Eio,
    /// A full disk.
    Enospc,
    /// The process is killed before it.
    Sigkill,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Eio, Self::Enospc, Self::Sigkill];

    fn injected(self) -> &'static str {
        match self {
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::Sigkill => "signal=KILL",
        }
    }
}

/// Calls on the way of a commit and of a start, and up to which use in a thread they are made to fail.
const CALLS: [(&str, u32); 11] = [
    ("write", 12),
    ("fdatasync", 12),
    ("fsync", 12),
    // RocksDB's own: three when it opens.
    ("rename", 3),
    ("renameat", 12),
    ("openat", 12),
    ("ftruncate", 12),
    // What a start has no more use for.
    ("unlink", 4),
    ("fallocate", 12),
    ("read", 12),
    ("pread64", 12),
];
/// Those that fill no disk.
const READS: [&str; 2] = ["read", "pread64"];

impl Fault {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut faults = Vec::new();
        for (call, uses) in CALLS {
            for outcome in Outcome::ALL {
                if outcome == Outcome::Enospc && READS.contains(&call) {
                    continue;
                }
                for nth in 1..=uses {
                    for goes_on in [false, true] {
                        // Who is killed makes no further calls.
                        if !(goes_on && outcome == Outcome::Sigkill) {
                            faults.push(Self {
                                call,
                                outcome,
                                nth,
                                goes_on,
                            });
                        }
                    }
                }
            }
        }
        faults
    }

    /// Whether what is stored may not be there to be read.
    pub(crate) fn is_of_reading(&self) -> bool {
        self.call == "openat" || READS.contains(&self.call)
    }

    /// What the server's command is put behind. What failed is written to a file.
    fn tracer(&self, data: &Data, file: &Path) -> Vec<String> {
        let Self {
            call,
            outcome,
            nth,
            goes_on,
        } = self;
        let on = if *goes_on { "+" } else { "" };
        let inject = format!("inject={call}:{}:when={nth}{on}", outcome.injected());
        let mut words: Vec<String> = ["strace", "-D", "-f", "-o", file.to_str().unwrap()]
            .map(str::to_owned)
            .into();
        // Where a process stops for the filter alone, the signal does not always reach it.
        if *outcome != Outcome::Sigkill {
            words.push("--seccomp-bpf".to_owned());
        }
        words.push("-e".to_owned());
        words.extend([format!("trace={call}"), "-e".to_owned(), inject]);
        // Sockets are read and written too, and libraries opened.
        if *call == "write" || self.is_of_reading() {
            for path in database_files(data) {
                words.extend(["-P".to_owned(), path.to_str().unwrap().to_owned()]);
            }
        }
        words
    }
}

/// The files that the database has and those that it will make next: it numbers them.
fn database_files(data: &Data) -> Vec<PathBuf> {
    const NEXT: u64 = 60;
    let database = data.path().join("logs/main/db");
    let mut files: Vec<_> = fs::read_dir(&database)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let digits = name.trim_start_matches("MANIFEST-").split('.').next()?;
        digits.parse::<u64>().ok()
    };
    let newest = files.iter().filter_map(number).max().unwrap_or(0);
    for number in newest + 1..newest + NEXT {
        files
            .extend(["log", "sst", "blob", "dbtmp"].map(|kind| database.join(format!("{number:06}.{kind}"))));
        files.push(database.join(format!("MANIFEST-{number:06}")));
    }
    // The head beside the database is read under this name. It is written under one that nobody knows before.
    files.extend([database, data.path().join("logs/main/newest-head.checkpoint")]);
    files
}

/// Runs out of room under load, is killed there and started there, and has room again. None where no disk can be made.
pub async fn fill_disk(name: &str, random: &mut Rng) -> Option<Subject> {
    let disk = SmallDisk::mount(384)?;
    let mut subject = Subject::in_directory(Data::at(disk.path().join("data")), "blake3");
    subject.options.extend(["--min-free-mib", "0"].map(str::to_owned));
    for time in 0..2 {
        let server = Arc::new(subject.start());
        let no_room = || server.errors().matches("a write found no room").count() as u64;
        let before = no_room();
        // The log wants room for a batch of 32 MiB before it writes any.
        let most = disk.fill_to(48);
        let name = format!("{name}-{time}");
        let mut load = subject.load(&server, &name, random);
        load.answered(50).await;
        load.submit_large(&name, random);
        pause(random, 200).await;
        let rest = disk.fill_to(0);
        pause(random, 200).await;
        server.assert_runs();
        server.assert_nothing_broke();
        *subject.counts.entry("a write found no room").or_default() += no_room() - before;
        load.may_be_cut_off();
        server.signal(Signal::KILL);
        let notes = load.ended().await;
        Arc::into_inner(server).unwrap().kill();
        match Server::try_start(&subject.data, &subject.options()) {
            Ok(server) => {
                subject.count("started on a full disk");
                server.kill();
            }
            Err(Refused { code, errors, .. }) => {
                assert_ne!(code, Some(PANICKED), "{errors}");
                subject.count("refused to start on a full disk");
            }
        }
        drop((most, rest));
        subject.check(notes, random).await;
        subject.count("SIGKILL on a full disk");
    }
    subject.finish(random).await;
    subject.assert_nothing_broke();
    Some(subject)
}

/// The library that lies about the time, where it is installed. Under CI it has to be.
fn faketime() -> Option<String> {
    let output = Command::new("faketime")
        .args(["-f", "+0", "printenv", "LD_PRELOAD"])
        .stderr(Stdio::null())
        .output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        skip("this sets the server's clock with faketime, which is not installed");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Steps the clock of a server back under load. None where there is no faketime.
pub async fn step_clock(name: &str, random: &mut Rng) -> Option<Subject> {
    let library = faketime()?;
    let mut subject = Subject::new("sha256");
    let clock = subject.data.beside("clock");
    let tracer = [
        "env".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let set = |hours: i64| {
        let new = subject.data.beside("clock.new");
        fs::write(&new, format!("{hours:+}h\n")).unwrap();
        fs::rename(new, &clock).unwrap();
    };
    // Each later run starts where the last one left its clock.
    let mut hours = 0;
    for time in 0..3 {
        set(hours);
        let server = Server::try_start_under(&subject.data, &subject.options(), &tracer).unwrap();
        let server = Arc::new(server);
        // A loader that does not find it says so and goes on.
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
        assert!(maps.contains("libfaketime"), "{library} is not in the server");
        let load = subject.load(&server, &format!("{name}-{time}"), random);
        for _ in 0..3 {
            pause(random, 100).await;
            hours -= random.i64(1..48);
            set(hours);
        }
        pause(random, 100).await;
        server.assert_runs();
        load.may_be_cut_off();
        server.signal(Signal::KILL);
        let notes = load.ended().await;
        Arc::into_inner(server).unwrap().kill();
        let server = Server::try_start_under(&subject.data, &subject.options(), &tracer).unwrap();
        subject
            .promises
            .check(&server, &subject.log, &subject.hook, notes, random)
            .await;
        server.stop();
        subject.data.assert_sound();
        subject.assert_nothing_broke();
        *subject.counts.entry("the clock set back under load").or_default() += 3;
    }
    subject.finish(random).await;
    Some(subject)
}

/// Makes a log while the power goes, at so many places and after the last call: there is a log or none, and then one can be made.
pub fn lose_power_while_a_log_is_made(crashes: usize, random: &mut Rng) -> Counts {
    let data = Data::temporary();
    fs::create_dir(data.path()).unwrap();
    let mut disk = Disk::load(data.path());
    let mut init = counterfoild();
    init.args(["init", "--origin", "test.example/main", "--data"])
        .arg(data.path());
    let recording = Recording::of(&init, &data.beside("calls"), data.path());
    let mut counts = Counts::new();
    let mut places: Vec<_> = (0..crashes).map(|_| random.usize(..recording.calls())).collect();
    places.sort_unstable();
    let mut number = 0;
    let mut check = |disk: &Disk, is_made: bool| {
        let path = data.beside(&format!("left-{number}"));
        number += 1;
        let loss = if is_made || random.bool() {
            Loss::All
        } else {
            Loss::Some
        };
        disk.lose_power(&path, loss, random);
        let after = Data::at(path.clone());
        let is_there = path.join("logs/main").exists();
        assert!(is_there || !is_made, "it was said to be made");
        if is_there {
            after.assert_sound();
        } else {
            after.init("main", "blake3");
        }
        // What is there serves.
        Server::start(&after, &[]).stop();
        *counts.entry("power lost while a log was made").or_default() += 1;
        fs::remove_dir_all(path).unwrap();
    };
    disk.play(&recording, &places, |disk, _| check(disk, false));
    check(&disk, true);
    disk.assert_is(&recording, data.path());
    counts
}
