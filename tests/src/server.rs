use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use counterfoil_proto::v1::{
    read_service_client::ReadServiceClient, submit_service_client::SubmitServiceClient,
};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

use crate::Data;

/// Nothing that is waited for here takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's program, built from the sources as they are.
pub fn counterfoild() -> Command {
    Command::new(programs().join("counterfoild"))
}

/// Where cargo puts the programs of this workspace. Builds them the first time: cargo does so of itself only for the
/// tests of the package that a program belongs to.
fn programs() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // <target>/<profile>/deps/<test>
        let test = env::current_exe().unwrap();
        let directory = test.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet"]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        // The examples need what tests need, so that shared dependencies keep the features they were built with.
        cargo.args(["--workspace", "--bins", "--examples", "--target-dir"]);
        let built = cargo.arg(directory.parent().unwrap()).status().unwrap();
        assert!(built.success(), "can't build the programs under test: {built}");
        directory.to_owned()
    })
}

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    errors: PathBuf,
}

/// A server that would not start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub errors: String,
}

impl Server {
    /// Starts a server on a free port of the loopback interface, and waits until it listens.
    pub fn start(data: &Data, options: &[&str]) -> Self {
        Self::try_start(data, options)
            .unwrap_or_else(|refused| panic!("the server would not start: {refused:?}"))
    }

    /// As [`start`](Self::start), where the server may refuse. A `--listen` among the options replaces the free port.
    pub fn try_start(data: &Data, options: &[&str]) -> Result<Self, Refused> {
        let errors = data.beside("server.log");
        let mut child = spawn(data, options, &errors);
        let (line, first_line) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = line.send(lines.next());
            // Read on, so that the server never writes into a closed pipe.
            lines.for_each(drop);
        });
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            errors,
        };
        match first_line
            .recv_timeout(PATIENCE)
            .expect("the server neither listens nor stops")
        {
            Some(line) => {
                let line = line.unwrap();
                let address = line
                    .strip_prefix("listening on ")
                    .unwrap_or_else(|| panic!("it printed {line:?}"));
                server.address = address.parse().unwrap();
                Ok(server)
            }
            None => Err(Refused {
                code: server.wait().code(),
                errors: server.errors(),
            }),
        }
    }

    /// Starts a server and kills it after `time`, wherever it has got to.
    pub fn start_and_kill(data: &Data, options: &[&str], time: Duration) {
        let mut child = spawn(data, options, &data.beside("server.log"));
        thread::sleep(time);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection of its own, made when first used.
    pub fn connection(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    /// A client that submits, on a connection of its own.
    pub fn submitter(&self) -> SubmitServiceClient<Channel> {
        SubmitServiceClient::new(self.connection()).max_decoding_message_size(usize::MAX)
    }

    /// A client that reads, on a connection of its own.
    pub fn reader(&self) -> ReadServiceClient<Channel> {
        ReadServiceClient::new(self.connection()).max_decoding_message_size(usize::MAX)
    }

    /// What it, and servers before it on the same directory, said on standard error.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Sends SIGTERM. The server ends in its own time.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGTERM, waits, and asserts that it ended well.
    pub fn stop(mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.errors());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the server does not stop: {}",
                self.errors()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let errors = self.errors();
            let tail: Vec<_> = errors.lines().rev().take(20).collect();
            for line in tail.iter().rev() {
                eprintln!("server: {line}");
            }
        }
    }
}

fn spawn(data: &Data, options: &[&str], errors: &Path) -> Child {
    let errors: File = OpenOptions::new().create(true).append(true).open(errors).unwrap();
    let mut command = counterfoild();
    command.arg("serve").arg("--data").arg(data.path());
    if !options.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap()
}
