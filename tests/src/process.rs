use std::{
    env,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Nothing that is waited for here takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's program, built from the sources as they are.
pub fn counterfoild() -> Command {
    Command::new(programs().join("counterfoild"))
}

/// The command line's program, built from the sources as they are.
pub fn counterfoil() -> Command {
    Command::new(programs().join("counterfoil"))
}

/// An example of a crate, such as a measurement, built from the sources as they are.
pub fn example(name: &str) -> Command {
    Command::new(programs().join("examples").join(name))
}

/// Where cargo puts the programs of this workspace. Builds them the first time: cargo does so of itself only for the
/// tests of the package that a program belongs to.
pub fn programs() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // <target>/<profile>/deps/<test>, or examples/<example>.
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

/// Starts a program, and waits until it says `ready`. What else it says nobody reads.
pub fn ready(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Waits until a program has ended. `None` if it goes on for half a minute; then it is killed.
pub fn ended(child: &mut Child) -> Option<ExitStatus> {
    ended_while(child, |_| {})
}

/// The same, with a signal again and again: the first may reach only what the program runs.
pub fn insist(child: &mut Child, signal: Signal) -> Option<ExitStatus> {
    ended_while(child, |child| {
        kill_process(Pid::from_child(child), signal).unwrap();
    })
}

fn ended_while(child: &mut Child, again: impl Fn(&Child)) -> Option<ExitStatus> {
    for _ in 0..300 {
        let status = child.try_wait().unwrap();
        if status.is_some() {
            return status;
        }
        again(child);
        thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// A program that would not start.
#[derive(Debug)]
pub struct Refused {
    /// Its process, which is gone.
    pub id: u32,
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub errors: String,
}

/// A program that serves. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts it; standard error is appended to the file `errors`.
    pub(crate) fn spawn(command: Command, errors: PathBuf) -> Self {
        Self::spawn_into(command, errors, Stdio::piped())
    }

    /// The same for one that does not say where it listens, with its standard output.
    pub(crate) fn spawn_into(mut command: Command, errors: PathBuf, stdout: Stdio) -> Self {
        let stderr = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&errors)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, errors }
    }

    /// Waits until it says where it listens, or ends.
    pub(crate) fn listening(&mut self) -> Result<SocketAddr, Refused> {
        let (line, first_line) = mpsc::channel();
        let stdout = self.child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = line.send(lines.next());
            // Read on, so that it never writes into a closed pipe.
            lines.for_each(drop);
        });
        match first_line
            .recv_timeout(PATIENCE)
            .expect("the server neither listens nor stops")
        {
            Some(line) => {
                let line = line.unwrap();
                let address = line
                    .strip_prefix("listening on ")
                    .unwrap_or_else(|| panic!("it printed {line:?}"));
                Ok(address.parse().unwrap())
            }
            None => Err(Refused {
                id: self.id(),
                code: self.wait().code(),
                errors: self.errors(),
            }),
        }
    }

    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it has ended. It is still there to be waited for.
    pub(crate) fn has_ended(&self) -> bool {
        let id = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(id, options).unwrap().is_some()
    }

    /// Sends SIGKILL and waits. How it ended says whether that was what ended it.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.wait()
    }

    /// What one that has ended said on standard output, if nobody waited for it to listen.
    pub(crate) fn printed(&mut self) -> String {
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut printed).unwrap();
        printed
    }

    /// Sends SIGTERM, waits, and asserts that it ended well.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.errors());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
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

impl Drop for Process {
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
