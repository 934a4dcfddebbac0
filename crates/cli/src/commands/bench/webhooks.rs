//! `counterfoil bench webhooks`

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use counterfoil_event::{SourceId, limits::MAX_DATA_BYTES};
use counterfoil_files::FileError;
use counterfoil_hooks::Secret;
use reqwest::{
    Certificate, Client, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde_json::json;
use tokio::{task::JoinSet, time};

use super::{
    Schedule,
    pace::Pace,
    tally::{Tally, per_second},
};
use crate::{
    commands::submit::random_id,
    failure::{Exit, Failure},
    files,
    options::Common,
    output::{Facts, Output},
};

/// How long a worker of a closed loop rests after a refusal or a failure.
const REST: Duration = Duration::from_millis(20);
/// How long a delivery may take: as long as GitHub waits.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Room for a secret and the end of its line.
const MAX_SECRET_BYTES: usize = 257;
/// What is kept of an answer: enough to show why a delivery was refused.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// Most bytes of bodies that are held ready.
const MAX_BODIES_BYTES: usize = 256 << 20;

/// Deliver recorded webhooks as GitHub does, signed, as fast as the log takes them, or at a given rate
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil bench webhooks --source github --secret-file secret --bodies recorded/ --duration 10 --json

DIR has a directory for each of GitHub's events, such as `push`, with bodies in files that end in .json. They are sent in turn,
over HTTP/1.1, each time under a new delivery id, so that the log records every one. The source must exist on the server:
`counterfoild source add` makes it. Latency runs from the start of a delivery, or with --rate from when it should have started,
until it is answered: on disk and under a signed head. Answers say where the event stands; receipts are not fetched.")]
pub(crate) struct Arguments {
    /// The source on the server, which takes webhooks of GitHub
    #[arg(long, value_name = "NAME")]
    source: SourceId,
    /// A file with the source's secret
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Where the bodies are: DIR/EVENT/*.json
    #[arg(long, value_name = "DIR")]
    bodies: PathBuf,
    /// Connections, each with one delivery under way
    #[arg(long, value_name = "C", default_value = "64")]
    connections: NonZeroUsize,
    #[command(flatten)]
    schedule: Schedule,
}

/// A body that can be sent again and again.
struct Recorded {
    event: HeaderValue,
    body: Bytes,
    signature: HeaderValue,
}

struct Run {
    client: Client,
    url: Url,
    recorded: Vec<Recorded>,
    /// What the delivery ids of this run begin with.
    name: String,
    next: AtomicU64,
    body_bytes: AtomicU64,
    pace: Pace,
    tally: Tally,
    is_open: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let secret = read_secret(&arguments.secret_file)?;
    let recorded = read_bodies(&arguments.bodies, &secret)?;
    let client = client(common, arguments.connections.get())?;
    let spinner = arguments.schedule.spinner();
    let interval = arguments.schedule.interval(1);
    let run = Arc::new(Run {
        client,
        url: url(common, &arguments.source)?,
        recorded,
        name: random_id()?[..16].to_owned(),
        next: AtomicU64::new(0),
        body_bytes: AtomicU64::new(0),
        pace: Pace::start(arguments.schedule.duration(), interval),
        tally: Tally::new(),
        is_open: interval.is_some(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..arguments.connections.get() {
        workers.spawn(deliver(Arc::clone(&run)));
    }
    workers.join_all().await;
    spinner.finish_and_clear();
    report(&arguments, &run, output)
}

fn url(common: &Common, source: &SourceId) -> Result<Url, Failure> {
    let url = format!("{}/hooks/{source}", common.server()?);
    url.parse()
        .map_err(|error| Failure::usage(format!("{url} is no URL: {error}")))
}

fn read_secret(path: &Path) -> Result<Secret, Failure> {
    let text = zeroize::Zeroizing::new(files::read(path, MAX_SECRET_BYTES)?);
    let text = str::from_utf8(&text).unwrap_or("\u{fffd}");
    text.trim_end_matches(['\r', '\n'])
        .parse()
        .map_err(|problem| Failure::usage(format!("{}: {problem}", path.display())))
}

fn read_bodies(directory: &Path, secret: &Secret) -> Result<Vec<Recorded>, Failure> {
    let mut recorded = Vec::new();
    let mut room = MAX_BODIES_BYTES;
    for event in entries(directory)? {
        if !event.is_dir() {
            continue;
        }
        let name = event.file_name().unwrap_or_default().to_string_lossy();
        let name = HeaderValue::from_str(&name)
            .map_err(|_| Failure::usage(format!("{} is no name of an event", event.display())))?;
        for path in entries(&event)? {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let body = files::read(&path, MAX_DATA_BYTES)?;
            room = room.checked_sub(body.len()).ok_or_else(|| {
                Failure::usage(format!(
                    "the bodies are more than {MAX_BODIES_BYTES} bytes together"
                ))
            })?;
            let signature = format!("sha256={}", hex::encode(secret.sign(&body)));
            recorded.push(Recorded {
                event: name.clone(),
                signature: signature.try_into().expect("hex is good for a header"),
                body: body.into(),
            });
        }
    }
    if recorded.is_empty() {
        let problem = format!("there is no body in {}", directory.display());
        return Err(Failure::usage(problem).hint("they are expected as EVENT/NAME.json"));
    }
    Ok(recorded)
}

/// What is in a directory, in order of name, so that runs are alike.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect();
    let entries: std::io::Result<Vec<PathBuf>> = read();
    let mut entries = entries.map_err(FileError::at("read", directory))?;
    entries.sort();
    Ok(entries)
}

fn client(common: &Common, connections: usize) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .http1_only()
        .no_proxy()
        .pool_max_idle_per_host(connections)
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT);
    if let Some(path) = &common.tls_ca {
        let pem = fs::read(path).map_err(FileError::at("read", path))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder
        .build()
        .map_err(|error| Failure::usage(format!("can't deliver over HTTP: {error}")))
}

async fn deliver(run: Arc<Run>) {
    while let Some(intended) = run.pace.next().await {
        let number = run.next.fetch_add(1, Ordering::Relaxed);
        let place = number % run.recorded.len() as u64;
        let recorded = &run.recorded[usize::try_from(place).expect("less than the number of bodies")];
        let answered = run.send(recorded, number).await;
        if !run.count(recorded, intended, answered) && !run.is_open {
            time::sleep(REST).await;
        }
    }
}

type Answered = Result<(StatusCode, Vec<u8>), reqwest::Error>;

impl Run {
    /// Returns status and body of the answer. It is read whole, so that the connection can be used again, unless it is longer
    /// than any that the log gives.
    async fn send(&self, recorded: &Recorded, number: u64) -> Answered {
        let mut answer = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("x-github-event", recorded.event.clone())
            .header("x-github-delivery", format!("{}-{number:016x}", self.name))
            .header("x-hub-signature-256", recorded.signature.clone())
            .body(recorded.body.clone())
            .send()
            .await?;
        let mut body = Vec::new();
        while body.len() < MAX_ANSWER_BYTES
            && let Some(chunk) = answer.chunk().await?
        {
            body.extend_from_slice(&chunk);
        }
        Ok((answer.status(), body))
    }

    /// Whether the delivery is on record.
    fn count(&self, recorded: &Recorded, intended: Instant, answered: Answered) -> bool {
        let mut counts = self.tally.counts();
        match answered {
            Ok((status @ (StatusCode::CREATED | StatusCode::OK), _)) => {
                counts.acknowledged += 1;
                counts.duplicates += u64::from(status == StatusCode::OK);
                counts.answered(intended, 1);
                let bytes = recorded.body.len() as u64;
                self.body_bytes.fetch_add(bytes, Ordering::Relaxed);
                return true;
            }
            Ok((status, body)) => {
                let body = String::from_utf8_lossy(&body);
                counts.refused(&format!("{status}: {}", body.trim()));
            }
            Err(error) => counts.unanswered(&error, 1),
        }
        false
    }
}

fn report(arguments: &Arguments, run: &Run, output: &Output) -> Result<(), Failure> {
    let mut counts = run.tally.counts();
    counts.end(&run.pace, 1);
    let elapsed = counts.elapsed(run.pace.started());
    let rate = per_second(counts.acknowledged, elapsed);
    let latency = counts.latency();
    let body_bytes = run.body_bytes.load(Ordering::Relaxed);
    let mut facts = Facts::default();
    facts
        .add("deliveries/s", rate)
        .add("acknowledged", counts.acknowledged)
        .add("refused", counts.refused)
        .add("failed", counts.failed)
        .add("not started", run.pace.missed())
        .add(
            "bodies",
            format!("{body_bytes} bytes of {} files", run.recorded.len()),
        )
        .add("latency", latency.line())
        .add("in", format!("{:.2} s", elapsed.as_secs_f64()));
    counts.tell_first_problem(&mut facts);
    let json = json!({
        "connections": arguments.connections,
        "duration_seconds": arguments.schedule.duration,
        "rate": arguments.schedule.rate,
        "body_files": run.recorded.len(),
        "body_bytes": body_bytes,
        "acknowledged": counts.acknowledged,
        "duplicates": counts.duplicates,
        "refused": counts.refused,
        "failed": counts.failed,
        "not_started": run.pace.missed(),
        "elapsed_seconds": elapsed.as_secs_f64(),
        "deliveries_per_second": rate,
        "latency_ms": latency,
        "first_problem": counts.first_problem(),
    });
    output.print(json, facts);
    if counts.acknowledged == 0 {
        return Err(Failure::new(Exit::Unavailable, "no delivery was acknowledged"));
    }
    Ok(())
}
