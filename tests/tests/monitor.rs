//! The monitor as an operator runs it: against real logs, by tiles and by gRPC, killed and continued.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use counterfoil_note::SignedHead;
use counterfoil_proto::v1;
use counterfoil_tests::{
    Data, Replica, Server, TestLog, Witness, WitnessData, counterfoil, event, head, http_get, own_port,
};
use counterfoil_verify::Evidence;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor's configuration, and the state that it keeps.
struct Monitored {
    directory: TempDir,
    policy: String,
}

impl Monitored {
    fn new(log: &TestLog) -> Self {
        Self {
            directory: TempDir::with_prefix("counterfoil-monitor-").unwrap(),
            policy: format!("log {}\nquorum none\n", log.key()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, sources: &[String], observers: &[String]) {
        fs::write(self.path("policy"), &self.policy).unwrap();
        let config = format!(
            "state_dir = \"state\"\ninterval_seconds = 1\n[[log]]\nname = \"builds\"\npolicy = \"policy\"\n\
             sources = [{}]\nobservers = {observers:?}\n",
            sources.join(", ")
        );
        fs::write(self.path("monitor.toml"), config).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = counterfoil();
        command
            .args(["monitor", "--json", "--config"])
            .arg(self.path("monitor.toml"));
        command
    }

    /// One round: the events that it printed, after its exit code.
    fn once(&self) -> (Option<i32>, Vec<Value>) {
        let output = self.command().arg("--once").output().unwrap();
        (output.status.code(), events(&output))
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("state/logs/builds.json")).unwrap()).unwrap()
    }
}

fn events(output: &Output) -> Vec<Value> {
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn by_tiles(server: &Server) -> String {
    format!("{{ tiles = \"http://{}/logs/main/\" }}", server.address())
}

fn by_grpc(server: &Server) -> String {
    format!("{{ grpc = \"http://{}\" }}", server.address())
}

/// Submits events, and waits until a head that covers them is published.
async fn grow(server: &Server, log: &TestLog, name: &str, events: u64) -> SignedHead {
    let mut submitter = server.submitter();
    let mut size = 0;
    let all: Vec<v1::Event> = (0..events)
        .map(|number| event(format!("{name}-{number}"), "data"))
        .collect();
    for batch in all.chunks(2000) {
        let request = v1::SubmitBatchRequest {
            log: String::new(),
            events: batch.to_vec(),
        };
        let response = submitter.submit_batch(request).await.unwrap().into_inner();
        size = response
            .tree_heads
            .iter()
            .map(|head| head.tree_size)
            .fold(size, u64::max);
    }
    head(&mut server.reader(), log, size).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_by_tiles_and_by_grpc_alike() {
    for suite in ["blake3", "sha256"] {
        let data = Data::temporary();
        let log = data.init("main", suite);
        let server = Server::start(&data, &[]);
        let monitored = Monitored::new(&log);
        let mut replica = Replica::new(&log);
        for (round, source) in [by_tiles(&server), by_grpc(&server), by_tiles(&server)]
            .into_iter()
            .enumerate()
        {
            let head = grow(&server, &log, &format!("round-{round}"), 700).await;
            monitored.configure(&[source], &[]);
            assert_eq!(monitored.once(), (Some(0), vec![]), "{suite}");

            replica.catch_up(&mut server.reader(), &log, 0).await;
            let state = monitored.state();
            assert_eq!(state["tree_size"], head.size().get());
            // The compact range is that of the tree that the replica built from the same entries.
            let range = state["compact_range"].as_array().unwrap();
            let range = range
                .iter()
                .map(|hash| hash.as_str().unwrap().parse().unwrap())
                .collect();
            let range =
                counterfoil_merkle::CompactRange::from_parts(head.suite(), head.size(), range).unwrap();
            replica.assert_head(head.size(), range.root());
        }
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_closed_to_strangers_is_followed_with_a_token() {
    let (data, log) = Data::with_main_log();
    fs::write(data.path().join("access.toml"), "anonymous = []\n").unwrap();
    let token = data.token(&["--role", "read"]);
    let server = Server::start(&data, &[]);
    let sources = [by_tiles(&server), by_grpc(&server)];
    let monitored = Monitored::new(&log);
    fs::write(monitored.path("token"), format!("{token}\n")).unwrap();

    monitored.configure(&sources, &[]);
    let (code, events) = monitored.once();
    assert_eq!((code, events.len()), (Some(1), 2), "{events:?}");
    for event in &events {
        assert_eq!(event["finding"], "invalid_answer");
        let detail = event["detail"].as_str().unwrap();
        assert!(
            detail.contains("401") || detail.contains("credential"),
            "{detail}"
        );
        // It is a file of the monitor's own that is to be looked at.
        assert!(
            event["advice"].as_str().unwrap().contains("`token_file`"),
            "{event}"
        );
    }
    let sources = sources.map(|source| source.replace(" }", ", token_file = \"token\" }"));
    monitored.configure(&sources, &[]);
    // A proxy would see the token, and is not asked.
    let output = monitored
        .command()
        .arg("--once")
        .envs([("http_proxy", "http://127.0.0.1:1"), ("no_proxy", "")])
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let (code, events) = (output.status.code(), self::events(&output));
    assert_eq!((code, events.len()), (Some(0), 2), "{events:?}");
    assert!(events.iter().all(|event| event["type"] == "finding.resolved"));
    assert_eq!(monitored.state()["tree_size"], 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_view_is_found_and_the_evidence_convicts_the_log() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    grow(&server, &log, "common", 300).await;
    server.stop();
    // Two servers with one key, each sure that it is the log.
    let copy = Data::at(data.beside("copy"));
    data.copy_to(copy.path());
    let (one, other) = (Server::start(&data, &[]), Server::start(&copy, &[]));
    grow(&one, &log, "one", 20).await;
    grow(&other, &log, "other", 33).await;

    for sources in [
        [by_tiles(&one), by_tiles(&other)],
        [by_grpc(&other), by_grpc(&one)],
    ] {
        let monitored = Monitored::new(&log);
        monitored.configure(&sources, &[]);
        let (code, found) = monitored.once();
        assert_eq!(code, Some(1), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["finding"], "inconsistency");
        assert_eq!(found[0]["heads"].as_array().unwrap().len(), 2);
        let path = found[0]["evidence"].as_str().unwrap();
        assert_convicts(Path::new(path), &log);
        // Once, and the exit code goes on telling.
        assert_eq!(monitored.once(), (Some(1), vec![]));
    }
}

/// Confirms evidence with no server and no monitor: by the command, and by the library.
fn assert_convicts(path: &Path, log: &TestLog) {
    let evidence = Evidence::from_text(&fs::read_to_string(path).unwrap()).unwrap();
    evidence.check(&log.keys).unwrap();
    let confirmed = counterfoil()
        .args(["verify", "--log-key", &log.key().to_string(), "--evidence"])
        .arg(path)
        .output()
        .unwrap();
    assert!(confirmed.status.success(), "{confirmed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_killed_anywhere_goes_on_where_it_was() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let head = grow(&server, &log, "event", 60_000).await;
    let monitored = Monitored::new(&log);
    monitored.configure(&[by_tiles(&server)], &[]);
    let mut sizes = vec![0];
    // Not ever later: one that begins anew each time has to show.
    for delay_ms in [0, 250, 20, 150, 60, 200, 100] {
        let mut child = monitored
            .command()
            .arg("--once")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if monitored.path("state/logs/builds.json").exists() {
            sizes.push(monitored.state()["tree_size"].as_u64().unwrap());
        }
    }
    assert!(sizes.is_sorted(), "the cursor went back: {sizes:?}");
    assert_eq!(monitored.once(), (Some(0), vec![]));
    assert_eq!(monitored.state()["tree_size"], head.size().get());
}

/// A monitor that runs until it is told to stop.
struct Running {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Running {
    fn start(monitored: &Monitored) -> Self {
        let mut child = monitored
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { child, lines }
    }

    /// The next event that it prints.
    fn event(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the monitor does not stop");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_stops_is_a_finding_that_resolves_when_it_is_back() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--listen", &own_port().to_string()]);
    let listen = server.address().to_string();
    let monitored = Monitored::new(&log);
    monitored.configure(&[by_grpc(&server)], &[]);
    let monitor = Running::start(&monitored);
    let started = Instant::now();
    // The file is there before the first round.
    while !monitored.path("state/logs/builds.json").exists() || monitored.state()["tree_size"] == 0 {
        assert!(started.elapsed() < PATIENCE, "no round ends");
        thread::sleep(Duration::from_millis(10));
    }
    server.stop();
    let opened = monitor.event();
    assert_eq!(
        (&opened["type"], &opened["finding"]),
        (&"finding.opened".into(), &"unreachable".into())
    );
    let server = Server::start(&data, &["--listen", &listen]);
    let resolved = monitor.event();
    assert_eq!(resolved["type"], "finding.resolved");
    assert_eq!(resolved["id"], opened["id"]);
    assert!(resolved["lasted_ms"].as_u64().unwrap() > 0);
    assert_eq!(monitor.stop().code(), Some(0));

    server.stop();
    let (code, events) = monitored.once();
    assert_eq!((code, events.len()), (Some(3), 1));
}

/// Whoever takes our alerts is alerted.
#[test]
fn the_alerts_go_by_metrics_that_there_are() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let monitored = Monitored::new(&log);
    monitored.configure(&[by_tiles(&server)], &[]);
    let free = TcpListener::bind(own_port()).unwrap();
    let address = free.local_addr().unwrap();
    let file = monitored.path("monitor.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("metrics_listen = \"{address}\"\n{config}")).unwrap();
    drop(free);
    let monitor = Running::start(&monitored);
    let started = Instant::now();
    let metrics = loop {
        assert!(started.elapsed() < PATIENCE, "no round ends");
        if TcpStream::connect(address).is_ok() {
            let metrics = String::from_utf8(http_get(address, "/metrics").body).unwrap();
            if metrics.contains("\ncounterfoil_monitor_last_round_seconds{") {
                break metrics;
            }
        }
        thread::sleep(Duration::from_millis(20));
    };
    let alerts = include_str!("../../deploy/monitor-alerts.yaml");
    let names: Vec<_> = alerts
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("counterfoil_"))
        .collect();
    assert!(names.len() > 5);
    for name in names {
        let is_told = ['{', ' ']
            .iter()
            .any(|end| metrics.contains(&format!("\n{name}{end}")));
        assert!(is_told, "no {name} in {metrics}");
    }
    assert_eq!(monitor.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_is_an_observer_and_without_its_cosignature_there_is_no_quorum() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    grow(&server, &log, "event", 10).await;
    let witness_data = WitnessData::init("witness.example/one");
    let witness = Witness::start(&witness_data);
    let mut monitored = Monitored::new(&log);
    monitored.policy = format!(
        "log {}\nwitness one {}\nquorum one\n",
        log.key(),
        witness_data.key()
    );
    monitored.configure(&[by_tiles(&server)], &[format!("http://{}/", witness.address())]);
    let (code, found) = monitored.once();
    assert_eq!(code, Some(1));
    let names: Vec<&str> = found
        .iter()
        .map(|event| event["finding"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["no_quorum", "witness_behind"]);
    // The entries are followed all the same.
    assert!(monitored.state()["tree_size"].as_u64().unwrap() > 10);
}
