use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use counterfoil_proto::v1::{
    read_service_client::ReadServiceClient, submit_service_client::SubmitServiceClient,
};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};

use crate::{
    Data,
    held::memory_bytes,
    process::{Process, Refused, counterfoild},
};

/// A running server. Killed when dropped.
pub struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port of the loopback interface, and waits until it listens.
    pub fn start(data: &Data, options: &[&str]) -> Self {
        Self::try_start(data, options)
            .unwrap_or_else(|refused| panic!("the server would not start: {refused:?}"))
    }

    /// As [`start`](Self::start), where the server may refuse. A `--listen` among the options replaces the free port.
    pub fn try_start(data: &Data, options: &[&str]) -> Result<Self, Refused> {
        Self::try_start_under::<&str>(data, options, &[])
    }

    /// As [`try_start`](Self::try_start), with the server's command line behind another: `tracer` has to start it in its own
    /// process.
    pub fn try_start_under<S: AsRef<OsStr>>(
        data: &Data,
        options: &[&str],
        tracer: &[S],
    ) -> Result<Self, Refused> {
        let command = behind(tracer, command(data, options));
        let mut process = Process::spawn(command, data.beside("server.log"));
        let address = process.listening()?;
        Ok(Self { process, address })
    }

    /// Starts a server and kills it after `time`, wherever it has got to. Returns whether it listened by then.
    pub fn start_and_kill(data: &Data, options: &[&str], time: Duration) -> bool {
        let mut process = Process::spawn(command(data, options), data.beside("server.log"));
        thread::sleep(time);
        let status = process.kill();
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "it ended by itself: {}",
            process.errors()
        );
        process.printed().starts_with("listening on ")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics, which it has to be told to do: as it says when it starts.
    pub fn metrics_address(&self) -> SocketAddr {
        let errors = self.errors();
        let (_, address) = errors.rsplit_once("serving metrics address=").unwrap();
        address.split_whitespace().next().unwrap().parse().unwrap()
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
        self.process.errors()
    }

    /// The most memory that it has had, in bytes, as the kernel counts.
    pub fn peak_memory_bytes(&self) -> u64 {
        memory_bytes(self.process.id(), "VmHWM:")
    }

    /// How long it has kept a processor busy, all threads together.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name may hold anything; behind it fields 14 and 15 are the time in user mode and in the kernel.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        // To programs Linux counts a hundred in a second.
        Duration::from_millis(10 * ticks)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has ended, by itself or by what was done to it.
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Sends SIGKILL and waits for the end, whatever came of it.
    pub fn kill(mut self) -> ExitStatus {
        self.process.kill()
    }

    /// Asserts that it has not ended by itself.
    #[track_caller]
    pub fn assert_runs(&self) {
        assert!(!self.has_ended(), "it ended by itself: {}", self.errors());
    }

    /// Asserts that neither it nor a server before it on the same directory panicked or gave up writing.
    #[track_caller]
    pub fn assert_nothing_broke(&self) {
        self.assert_runs();
        assert_says_no_defect(&self.errors());
    }

    /// Sends SIGTERM. The server ends in its own time.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGTERM, waits, and asserts that it ended well.
    pub fn stop(mut self) {
        self.process.stop();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// Asserts that what servers said on standard error tells of no panic, and of no log that gave up writing.
#[track_caller]
pub(crate) fn assert_says_no_defect(errors: &str) {
    let is_defect = |line: &&str| line.contains("panicked") || line.contains("can't write any more");
    assert_eq!(errors.lines().find(is_defect), None);
}

/// A command line behind another, if there is one.
pub(crate) fn behind<S: AsRef<OsStr>>(tracer: &[S], command: Command) -> Command {
    match tracer {
        [] => command,
        [program, arguments @ ..] => {
            let mut traced = Command::new(program);
            traced
                .args(arguments)
                .arg(command.get_program())
                .args(command.get_args());
            traced
        }
    }
}

fn command(data: &Data, options: &[&str]) -> Command {
    let mut command = counterfoild();
    command.arg("serve").arg("--data").arg(data.path());
    if !options.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(options);
    command
}
