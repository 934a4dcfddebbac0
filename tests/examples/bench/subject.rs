//! What is measured: real processes on a directory of their own.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use counterfoil_tests::{
    Data, Hook, Server, TestLog, bytes_under, client_of, configure_monitor, counterfoil, counterfoild,
    example, json_of, output_of,
};
use serde_json::Value;

use crate::fill::fill;

/// A log and its server.
pub(crate) struct Subject {
    /// Declared before the directory, so that it ends before that goes.
    server: Option<Server>,
    data: Data,
    log: TestLog,
}

impl Subject {
    pub(crate) fn new() -> Self {
        let (data, log) = Data::with_main_log();
        Self {
            server: Some(Server::start(&data, &[])),
            data,
            log,
        }
    }

    /// With a source of GitHub's webhooks.
    pub(crate) fn with_hook() -> (Self, Hook) {
        let mut subject = Self::new();
        subject.stop();
        let hook = Hook::add(&subject.data, "bench", "github", &[]);
        fs::write(subject.data.beside("secret"), &hook.secret).unwrap();
        subject.server = Some(Server::start(&subject.data, &[]));
        (subject, hook)
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs but while it is checked")
    }

    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    fn client(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.client_command(arguments);
        command.stderr(Stdio::inherit());
        json_of(command)
    }

    fn client_command(&self, arguments: &[&str]) -> Command {
        let state = self.data.beside("state");
        client_of(self.server().address(), &self.log, &state, arguments)
    }

    pub(crate) fn ingest(&self, mode: &[&str], payload: usize, seconds: u64, more: &[&str]) -> Result<Value> {
        let (payload, seconds) = (payload.to_string(), seconds.to_string());
        let fixed = ["bench", "ingest", "--size", &payload, "--duration", &seconds];
        self.client(&[&fixed, mode, more].concat())
    }

    pub(crate) fn prove(&self, seconds: u64, more: &[&str]) -> Result<Value> {
        let seconds = seconds.to_string();
        let fixed = [
            "bench",
            "prove",
            "--connections",
            "4",
            "--in-flight",
            "32",
            "--duration",
            &seconds,
        ];
        self.client(&[&fixed, more].concat())
    }

    pub(crate) fn webhooks(&self, hook: &Hook, bodies: &Path, seconds: u64, more: &[&str]) -> Result<Value> {
        let seconds = seconds.to_string();
        let bodies = bodies.to_str().context("the path of the bodies is not UTF-8")?;
        let secret = self.data.beside("secret");
        let secret = secret.to_str().context("the path of the secret is not UTF-8")?;
        let fixed = [
            "bench",
            "webhooks",
            "--source",
            &hook.id,
            "--secret-file",
            secret,
            "--bodies",
            bodies,
            "--duration",
            &seconds,
        ];
        self.client(&[&fixed, more].concat())
    }

    /// How many entries there are.
    pub(crate) fn size(&self) -> Result<u64> {
        let head = self.client(&["head"])?;
        let size = head.pointer("/tree_size").and_then(Value::as_u64);
        size.with_context(|| format!("the head has no size: {head}"))
    }

    /// Grows the log to at least so many entries.
    pub(crate) fn fill(&mut self, leaves: u64) -> Result<()> {
        self.stop();
        fill(self.data.path(), leaves)?;
        self.start();
        Ok(())
    }

    pub(crate) fn peak_memory_mib(&self) -> f64 {
        self.server().peak_memory_bytes() as f64 / 1_048_576.0
    }

    /// Seconds until the server listens again.
    pub(crate) fn restart(&mut self) -> f64 {
        self.stop();
        self.start()
    }

    /// The same after SIGKILL when events have come for so many seconds and still do, with the MiB of the database's log
    /// that it found.
    pub(crate) fn restart_after_kill(
        &mut self,
        mode: &[&str],
        payload: usize,
        seconds: u64,
    ) -> Result<(f64, f64)> {
        let (payload, longer) = (payload.to_string(), (seconds + 60).to_string());
        let fixed = ["bench", "ingest", "--size", &payload, "--duration", &longer];
        let mut load = self
            .client_command(&[&fixed, mode].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // It loses the server.
            .stderr(Stdio::null())
            .spawn()
            .context("starting the load")?;
        thread::sleep(Duration::from_secs(seconds));
        let ended = load.try_wait()?;
        if let Some(server) = self.server.take() {
            server.kill();
        }
        // After the server, which was to be killed under load.
        load.kill()?;
        load.wait()?;
        ensure!(
            ended.is_none(),
            "the load ended before the server was killed: {ended:?}"
        );
        let mut log_bytes = 0;
        for file in fs::read_dir(self.data.path().join("logs/main/db"))? {
            let file = file?;
            if file
                .path()
                .extension()
                .is_some_and(|extension| extension == "log")
            {
                log_bytes += file.metadata()?.len();
            }
        }
        Ok((self.start(), log_bytes as f64 / 1_048_576.0))
    }

    fn start(&mut self) -> f64 {
        let started = Instant::now();
        self.server = Some(Server::start(&self.data, &[]));
        started.elapsed().as_secs_f64()
    }

    /// All that is on disk once the server has stopped, by entries.
    pub(crate) fn disk_bytes_per_entry(mut self) -> Result<f64> {
        let size = self.size()?;
        self.stop();
        Ok(bytes_under(self.data.path())? as f64 / size as f64)
    }

    /// All that is on disk once the server has stopped.
    pub(crate) fn disk_bytes(mut self) -> Result<f64> {
        self.stop();
        Ok(bytes_under(self.data.path())? as f64)
    }

    /// A monitor that has never seen the log reads and verifies all of it, in as many rounds as it takes.
    pub(crate) fn follow(&self, entries: u64) -> Result<()> {
        let directory = self.data.beside("monitor");
        let _ = fs::remove_dir_all(&directory);
        let policy = format!("log {}\nquorum none\n", self.log.key());
        let config = configure_monitor(&directory, &policy, self.server().address())?;
        let state = directory.join("state/logs/main.json");
        loop {
            let mut command = counterfoil();
            command.args(["monitor", "--once", "--config"]).arg(&config);
            run(command)?;
            let state: Value = serde_json::from_slice(&fs::read(&state)?)?;
            let verified = state.pointer("/tree_size").and_then(Value::as_u64);
            if verified.context("the monitor's state has no size")? >= entries {
                return Ok(());
            }
        }
    }

    /// Seconds that fsck takes, for the tree and for everything.
    pub(crate) fn fsck(&mut self) -> Result<(f64, f64)> {
        self.stop();
        let timed = |more: &[&str]| {
            let started = Instant::now();
            let mut command = counterfoild();
            command.arg("fsck").arg("--data").arg(self.data.path()).args(more);
            run(command)?;
            anyhow::Ok(started.elapsed().as_secs_f64())
        };
        let seconds = (timed(&["--tree-only"])?, timed(&[])?);
        self.start();
        Ok(seconds)
    }
}

/// How many leaves a second the database alone takes.
pub(crate) fn synced_rate(batch: u64, seconds: u64) -> Result<f64> {
    rate_of("synced_rate", &[batch, seconds])
}

/// How many calls a second gRPC alone answers.
pub(crate) fn call_rate(connections: u64, in_flight: u64, seconds: u64) -> Result<f64> {
    rate_of("call_rate", &[connections, in_flight, seconds])
}

/// The number that an example's output begins with.
fn rate_of(name: &str, arguments: &[u64]) -> Result<f64> {
    let mut command = example(name);
    command.args(arguments.iter().map(u64::to_string));
    let directory = tempfile::tempdir()?;
    command.current_dir(directory.path());
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output);
    let rate = text.split(' ').next().unwrap_or_default();
    rate.parse().with_context(|| format!("{name} printed {text:?}"))
}

/// With its progress on a terminal.
fn run(mut command: Command) -> Result<Vec<u8>> {
    command.stderr(Stdio::inherit());
    output_of(command)
}
