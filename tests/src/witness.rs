use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use counterfoil_note::{CosignerKey, VerifierKey};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, Refused, counterfoil};

/// A witness's directory, with its key and its logs file.
pub struct WitnessData {
    directory: TempDir,
    key: CosignerKey,
}

impl WitnessData {
    /// A new witness that knows no logs.
    pub fn init(name: &str) -> Self {
        let directory = TempDir::with_prefix("counterfoil-witness-").unwrap();
        let output = counterfoil()
            .args(["witness", "init", "--name", name, "--data"])
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let key = str::from_utf8(&output.stdout)
            .unwrap()
            .trim_end()
            .parse()
            .unwrap();
        let data = Self { directory, key };
        data.set_logs(&[]);
        data
    }

    /// What verifies its cosignatures.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Its data directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its logs file.
    pub fn logs_path(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    /// Replaces the logs file as a whole. A witness that runs sees it within about a second.
    pub fn set_logs(&self, keys: &[&VerifierKey]) {
        let lines: String = keys.iter().map(|key| format!("log {key}\n")).collect();
        self.replace_logs_file(lines);
    }

    /// Replaces the logs file by something else.
    pub fn replace_logs_file(&self, content: impl AsRef<[u8]>) {
        let new = self.directory.path().join("logs.new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.logs_path()).unwrap();
    }

    fn errors_path(&self) -> PathBuf {
        self.directory.path().join("witness.log")
    }
}

/// A running witness. Killed when dropped.
pub struct Witness {
    process: Process,
    address: SocketAddr,
}

impl Witness {
    /// Starts a witness on a free port of the loopback interface, and waits until it listens.
    pub fn start(data: &WitnessData) -> Self {
        Self::try_start(data, &data.logs_path())
            .unwrap_or_else(|refused| panic!("the witness would not start: {refused:?}"))
    }

    /// As [`start`](Self::start), with another logs file, where the witness may refuse.
    pub fn try_start(data: &WitnessData, logs: &Path) -> Result<Self, Refused> {
        Self::try_start_with(data, logs, &[])
    }

    /// As [`try_start`](Self::try_start), with more options. A `--listen` among them replaces the free port.
    pub fn try_start_with(data: &WitnessData, logs: &Path, options: &[&str]) -> Result<Self, Refused> {
        let mut command = counterfoil();
        command
            .args(["witness", "serve", "--data"])
            .arg(data.path())
            .arg("--logs")
            .arg(logs)
            .args(options);
        if !options.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut process = Process::spawn(command, data.errors_path());
        let address = process.listening()?;
        Ok(Self { process, address })
    }

    /// Where it listens, for plain HTTP; its paths start at the root.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it, and witnesses before it on the same directory, said on standard error.
    pub fn errors(&self) -> String {
        self.process.errors()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Sends SIGTERM, waits, and asserts that it ended well.
    pub fn stop(mut self) {
        self.process.stop();
    }
}
