//! How many add-checkpoint requests a second a witness answers, each verified, cosigned and on disk: `counterfoil witness
//! serve` as its own process, pinned to one core, asked over HTTP for many logs at once.
//!
//! `taskset -c 1 witness_rate blake3|sha256 [SECONDS] [CONNECTIONS]`
//!
//! Run it with another core than 0, which is the server's. `counterfoil` has to be built beside it.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, BufRead as _, BufReader as StdBufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, NodeId, Suite, TreeSize, consistency_proof, root_at};
use counterfoil_note::{KeyKind, LogSigner, SignerKey, UnixMillis};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    runtime,
};

const SERVER_CORE: &str = "0";
const LOGS: usize = 1024;
const RUNS: u64 = 3;
/// Logs of a million entries that grow by a thousand between heads: proofs of some twenty hashes.
const FIRST_SIZE: u64 = 1_000_003;
const GROWTH: u64 = 1_009;
/// Requests are made beforehand, for so many a second at most.
const MAX_RATE: u64 = 16_000;
/// What `/proc/PID/stat` counts processor time in, a second.
const TICKS: f64 = 100.0;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let suite: Suite = arguments.next().ok_or("blake3 or sha256?")?.parse()?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (seconds, connections) = (number(5)?, usize::try_from(number(512)?)?);
    let steps = seconds * RUNS * MAX_RATE / LOGS as u64 + 1;

    let logs: Vec<_> = (0..LOGS)
        .map(|log| signer(suite, log))
        .collect::<Result<_, _>>()?;
    let requests = prepare(suite, &logs, steps)?;
    let directory = tempfile::tempdir_in(".")?;
    let server = Server::start(directory.path().to_path_buf(), &logs)?;

    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for chunk in split(requests, connections) {
            clients.push(Client::connect(server.address, chunk).await?);
        }
        // Every log's first checkpoint.
        for client in &mut clients {
            client.run(Instant::now() + Duration::from_secs(60), 1).await?;
        }
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let (cpu, started) = (server.cpu_seconds()?, Instant::now());
            let deadline = started + Duration::from_secs(seconds);
            let tasks: Vec<_> = clients
                .drain(..)
                .map(|mut client| {
                    tokio::spawn(async move { client.run(deadline, usize::MAX).await.map(|times| (client, times)) })
                })
                .collect();
            let mut latencies = Vec::new();
            for task in tasks {
                let (client, times) = task.await??;
                clients.push(client);
                latencies.extend(times);
            }
            let elapsed = started.elapsed().as_secs_f64();
            let cpu = server.cpu_seconds()? - cpu;
            latencies.sort_unstable();
            let answers = latencies.len();
            let percentile = |percent: usize| latencies[answers * percent / 100].as_secs_f64() * 1e3;
            let rate = answers as f64 / elapsed;
            println!(
                "{rate:.0} answers/s, p50 {:.1} ms, p99 {:.1} ms; server: {:.0} % of a core, {:.0} µs a request",
                percentile(50),
                percentile(99),
                100.0 * cpu / elapsed,
                1e6 * cpu / answers as f64,
            );
            rates.push(rate);
        }
        rates.sort_unstable_by(f64::total_cmp);
        println!("median: {:.0} answers/s", rates[rates.len() / 2]);
        Ok(())
    })
}

fn signer(suite: Suite, log: usize) -> Result<LogSigner, Failure> {
    let origin: counterfoil_note::Origin = format!("bench.example/log-{log}").parse()?;
    let keys = KeyKind::of_log(suite).iter().zip(0_u64..).map(|(kind, number)| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(2 * log as u64 + number).to_le_bytes());
        SignerKey::generate(origin.clone(), *kind, seed)
    });
    Ok(LogSigner::new(keys.collect())?)
}

/// For each log its requests in order. All logs have the same tree, each signs with its own keys.
fn prepare(suite: Suite, logs: &[LogSigner], steps: u64) -> Result<Vec<Vec<Vec<u8>>>, Failure> {
    let tree = levels(suite, FIRST_SIZE + steps * GROWTH);
    let read = |node: NodeId| {
        let level = tree.get(usize::from(node.level));
        let hash = level.and_then(|level| level.get(usize::try_from(node.index).ok()?));
        hash.copied()
            .ok_or_else(|| io::Error::other("a node beyond the tree"))
    };
    let mut requests = vec![Vec::new(); logs.len()];
    let mut old: Option<TreeSize> = None;
    for step in 0..steps {
        let size = TreeSize::new(FIRST_SIZE + step * GROWTH)?;
        let root = root_at(suite, size, read)?;
        let mut head = format!("old {}\n", old.map_or(0, TreeSize::get));
        if let Some(old) = old {
            for hash in consistency_proof(suite, old, size, read)? {
                head += &(BASE64_STANDARD.encode(hash.as_bytes()) + "\n");
            }
        }
        head.push('\n');
        for (log, requests) in logs.iter().zip(&mut requests) {
            let note = log.sign_head(size, root, UnixMillis::new(1_795_000_000_000 + step));
            let length = head.len() + note.len();
            let start = format!(
                "POST /add-checkpoint HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n{head}"
            );
            requests.push([start.as_bytes(), &note].concat());
        }
        old = Some(size);
    }
    Ok(requests)
}

/// The perfect subtrees of a tree, by level.
fn levels(suite: Suite, leaves: u64) -> Vec<Vec<Digest>> {
    let mut levels = vec![
        (0..leaves)
            .map(|leaf| suite.leaf_hash(&leaf.to_le_bytes()))
            .collect::<Vec<_>>(),
    ];
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        let level = below
            .chunks_exact(2)
            .map(|pair| suite.node_hash(&pair[0], &pair[1]))
            .collect();
        levels.push(level);
    }
    levels
}

/// Deals the logs out to connections.
fn split(requests: Vec<Vec<Vec<u8>>>, connections: usize) -> Vec<Vec<Vec<Vec<u8>>>> {
    let mut chunks = vec![Vec::new(); connections];
    for (log, requests) in requests.into_iter().enumerate() {
        chunks[log % connections].push(requests);
    }
    chunks
}

/// One connection, which asks for each of its logs in turn and waits for each answer.
struct Client {
    stream: BufReader<TcpStream>,
    logs: Vec<Vec<Vec<u8>>>,
    step: usize,
    log: usize,
}

impl Client {
    async fn connect(address: SocketAddr, logs: Vec<Vec<Vec<u8>>>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            logs,
            step: 0,
            log: 0,
        })
    }

    /// Until the deadline, or for so many rounds through its logs. Returns how long each answer took.
    async fn run(&mut self, deadline: Instant, rounds: usize) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        let last = self.step.saturating_add(rounds);
        while self.step < last && Instant::now() < deadline {
            let started = Instant::now();
            let request = self.logs[self.log]
                .get(self.step)
                .ok_or("out of prepared requests")?;
            self.stream.get_mut().write_all(request).await?;
            self.answer().await?;
            times.push(started.elapsed());
            self.log = (self.log + 1) % self.logs.len();
            self.step += usize::from(self.log == 0);
        }
        Ok(times)
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let (mut line, mut length) = (String::new(), 0);
        self.stream.read_line(&mut line).await?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the witness answered {line:?}").into());
        }
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line).await?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse()?;
            }
        }
        self.stream.read_exact(&mut vec![0; length]).await?;
        Ok(())
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(directory: PathBuf, logs: &[LogSigner]) -> Result<Self, Failure> {
        // <target>/release/examples/witness_rate
        let program = env::current_exe()?.with_file_name("../counterfoil");
        let data = directory.join("data");
        let made = Command::new(&program)
            .args(["witness", "init", "--name", "bench.example/witness", "--data"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err("can't make a witness".into());
        }
        let keys = logs.iter().flat_map(LogSigner::keys);
        let lines: String = keys.map(|key| format!("log {}\n", key.verifier_key())).collect();
        fs::write(directory.join("logs"), lines)?;
        let mut child = Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(program)
            .args(["witness", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--logs")
            .arg(directory.join("logs"))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            StdBufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim_end()
            .strip_prefix("listening on ")
            .ok_or("it does not listen")?;
        let address = address.parse()?;
        Ok(Self { child, address })
    }

    /// Processor time that the server has used, user and system.
    fn cpu_seconds(&self) -> Result<f64, Failure> {
        let mut stat = String::new();
        StdBufReader::new(File::open(format!("/proc/{}/stat", self.child.id()))?).read_line(&mut stat)?;
        // The second field, the program's name, may hold anything; the 14th and 15th are the times.
        let fields = stat.rsplit_once(')').ok_or("no stat")?.1;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = times.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks / TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
