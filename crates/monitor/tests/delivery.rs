//! Webhooks and metrics, as who receives them sees them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use counterfoil_merkle::{Suite, TilePath};
use counterfoil_monitor::{Config, Monitor};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use support::{FakeLog, FakeServer, now_ms};
use tempfile::TempDir;
use tracing::{Metadata, Subscriber, field, span};

const KEY: [u8; 32] = [9; 32];

/// What a webhook's receiver got, and the statuses that it answers with before it takes anything.
#[derive(Default)]
struct Received {
    statuses: VecDeque<u16>,
    /// What it never takes: a message that holds this is too long for it.
    refuses: Option<&'static str>,
    attempts: Vec<(HeaderMap, String)>,
}

type Receiver = Arc<Mutex<Received>>;

async fn receiver() -> (SocketAddr, Receiver) {
    let received = Receiver::default();
    let app = Router::new()
        .route("/hook", post(take))
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, received)
}

async fn take(State(received): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let mut received = received.lock().unwrap();
    let is_refused = received.refuses.is_some_and(|refused| body.contains(refused));
    received.attempts.push((headers, body));
    if is_refused {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    StatusCode::from_u16(received.statuses.pop_front().unwrap_or(204)).unwrap()
}

/// Recomputes the signature from the specification: HMAC-SHA256 over id, timestamp and body.
fn assert_signed(headers: &HeaderMap, body: &str) {
    let header = |name: &str| headers[name].to_str().unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let expected = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
    assert_eq!(header("content-type"), "application/json");
    assert!(now_ms() / 1000 - timestamp.parse::<u64>().unwrap() < 3600);
}

fn configure(directory: &Path, log: &FakeLog, source: &str, rest: &str) -> PathBuf {
    fs::write(directory.join("policy"), log.policy()).unwrap();
    fs::write(
        directory.join("secret"),
        format!("whsec_{}\n", BASE64_STANDARD.encode(KEY)),
    )
    .unwrap();
    let path = directory.join("monitor.toml");
    let config = format!(
        "state_dir = \"state\"\n{rest}\n[[log]]\nname = \"main\"\npolicy = \"policy\"\n\
         sources = [{{ tiles = {source:?} }}]\n"
    );
    fs::write(&path, config).unwrap();
    path
}

#[tokio::test]
async fn findings_are_posted_signed_and_kept_until_they_are_taken() {
    let log = FakeLog::with_entries(Suite::Blake3, 10);
    let server = FakeServer::start(log.clone()).await;
    let (address, received) = receiver().await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let hook = format!("webhook = [{{ url = \"http://{address}/hook?token=1\", secret_file = \"secret\" }}]");
    let config = configure(directory.path(), &log, &server.url(), &hook);
    let open = || Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();

    server.hook(|_, _| Err(403));
    let mut monitor = open();
    monitor.run_round().await;
    // The process ends before anybody took the message.
    drop(monitor);
    assert!(received.lock().unwrap().attempts.is_empty());

    received.lock().unwrap().statuses = [500, 302].into();
    server.honest();
    let mut monitor = open();
    monitor.run_round().await;
    assert_eq!(monitor.deliver(Duration::from_secs(60)).await.unwrap(), 0);

    let attempts = std::mem::take(&mut received.lock().unwrap().attempts);
    attempts
        .iter()
        .for_each(|(headers, body)| assert_signed(headers, body));
    let ids: Vec<&str> = attempts
        .iter()
        .map(|(headers, _)| headers["webhook-id"].to_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(
        (ids[0], ids[1]),
        (ids[1], ids[2]),
        "an attempt has the message's id"
    );
    assert_ne!(ids[2], ids[3]);
    let bodies: Vec<Value> = attempts
        .iter()
        .map(|(_, body)| serde_json::from_str(body).unwrap())
        .collect();
    assert_eq!(
        (&bodies[2]["type"], &bodies[3]["type"]),
        (&"finding.opened".into(), &"finding.resolved".into())
    );
    assert_eq!(bodies[2]["finding"], "invalid_answer");
    assert_eq!(bodies[2]["id"], bodies[3]["id"]);
    for member in ["log", "origin", "source", "detail", "explanation", "advice"] {
        assert!(
            bodies[2][member].as_str().is_some_and(|text| !text.is_empty()),
            "{member}"
        );
    }

    assert_eq!(monitor.deliver(Duration::from_secs(60)).await.unwrap(), 0);
    assert!(received.lock().unwrap().attempts.is_empty(), "delivered once");
}

#[tokio::test]
async fn a_message_that_is_refused_holds_up_no_other() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 10);
    log.append(Bytes::from_static(b"no entry"));
    let server = FakeServer::start(log.clone()).await;
    server.change(|served| served.head = served.log.head_at(now_ms() - 1_000_000));
    let (address, received) = receiver().await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let hook = format!("webhook = [{{ url = \"http://{address}/hook\", secret_file = \"secret\" }}]");
    let config = configure(directory.path(), &log, &server.url(), &hook);
    let (refused, other) = ("\"finding\":\"invalid_entry\"", "\"finding\":\"stale_head\"");
    received.lock().unwrap().refuses = Some(refused);
    let mut monitor = Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();
    assert_eq!(monitor.run_round().await[0].events.len(), 2);
    assert_eq!(monitor.deliver(Duration::from_secs(5)).await.unwrap(), 1);
    let attempts = std::mem::take(&mut received.lock().unwrap().attempts);
    assert!(attempts[0].1.contains(refused), "the older one goes first");
    assert!(attempts[1].1.contains(other));
    assert!(attempts[2..].iter().all(|(_, body)| body.contains(refused)));

    received.lock().unwrap().refuses = None;
    assert_eq!(monitor.deliver(Duration::from_secs(60)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_webhook_under_another_url_is_told_once_what_is_open() {
    let log = FakeLog::with_entries(Suite::Blake3, 10);
    let server = FakeServer::start(log.clone()).await;
    server.hook(|_, _| Err(403));
    let (address, received) = receiver().await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let open = |token: u8| {
        let url = format!("http://{address}/hook?token={token}");
        let hook = format!("webhook = [{{ url = {url:?}, secret_file = \"secret\" }}]");
        let config = configure(directory.path(), &log, &server.url(), &hook);
        Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap()
    };
    open(1).run_round().await;
    for _ in 0..2 {
        let monitor = open(2);
        assert_eq!(monitor.deliver(Duration::from_secs(60)).await.unwrap(), 0);
    }
    let attempts = std::mem::take(&mut received.lock().unwrap().attempts);
    assert_eq!(attempts.len(), 1);
    let body: Value = serde_json::from_str(&attempts[0].1).unwrap();
    assert_eq!(
        (&body["type"], &body["finding"]),
        (&"finding.opened".into(), &"invalid_answer".into())
    );
}

/// A log serves one bundle more in each round, withholds the next, and shows an old head by turns.
#[tokio::test]
async fn rounds_that_have_something_to_tell_are_an_interval_apart() {
    let log = FakeLog::with_entries(Suite::Blake3, 5000);
    let server = FakeServer::start(log.clone()).await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let config = configure(directory.path(), &log, &server.url(), "interval_seconds = 1");
    let heads = [log.head_at(now_ms() - 1_000_000), log.head()];
    let rounds = Arc::new(Mutex::new(Vec::new()));
    let notebook = Arc::clone(&rounds);
    server.hook(move |path, answer| {
        let mut rounds = notebook.lock().unwrap();
        if path == "checkpoint" {
            rounds.push(Instant::now());
            return Ok(heads[rounds.len() % 2].clone());
        }
        match path.parse() {
            Ok(TilePath::Entries { bundle, .. }) if bundle >= rounds.len() as u64 => Err(404),
            _ => answer,
        }
    });
    let monitor = Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(monitor.run(async move { drop(stopped.await) }));
    while rounds.lock().unwrap().len() < 3 {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let rounds = rounds.lock().unwrap();
    let lasted = rounds[2] - rounds[0];
    assert!(lasted > Duration::from_secs(1), "{lasted:?}");
}

/// What is logged, as text.
struct Logged(Arc<Mutex<String>>);

impl Subscriber for Logged {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line<'a>(&'a mut String);

impl field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        writeln!(self.0, "{field}={value:?}").unwrap();
    }
}

/// On a full disk the log is all that is left to say it.
#[tokio::test]
async fn what_can_t_be_recorded_is_logged() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 10);
    log.append(Bytes::from_static(b"no entry"));
    let server = FakeServer::start(log.clone()).await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let config = configure(directory.path(), &log, &server.url(), "");
    let mut monitor = Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();
    fs::remove_dir(directory.path().join("state/evidence")).unwrap();
    let logged = Arc::new(Mutex::new(String::new()));
    let guard = tracing::subscriber::set_default(Logged(Arc::clone(&logged)));
    assert!(monitor.run_round().await[0].error.is_some());
    drop(guard);
    let logged = logged.lock().unwrap();
    for line in ["message=found, and not recorded\n", "finding=\"invalid_entry\"\n"] {
        assert!(logged.contains(line), "{logged}");
    }
}

/// The metrics; nothing until they are served.
async fn read_metrics(address: SocketAddr) -> String {
    match reqwest::get(format!("http://{address}/metrics")).await {
        Ok(answer) => answer.text().await.unwrap(),
        Err(_) => String::new(),
    }
}

/// A full disk must not look like a monitor that works.
#[tokio::test]
async fn a_round_that_can_t_be_saved_does_not_count() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 10);
    log.append(Bytes::from_static(b"no entry"));
    let server = FakeServer::start(log.clone()).await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rest = format!("interval_seconds = 1\nmetrics_listen = \"{port}\"");
    let config = configure(directory.path(), &log, &server.url(), &rest);
    let monitor = Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();
    let evidence = directory.path().join("state/evidence");
    fs::remove_dir(&evidence).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(monitor.run(async move { drop(stopped.await) }));

    let last_round = "counterfoil_monitor_last_round_seconds{";
    while !read_metrics(port)
        .await
        .contains("counterfoil_monitor_head_size{log=\"main\"} 11\n")
    {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another round fails meanwhile.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!read_metrics(port).await.contains(last_round));
    fs::create_dir(&evidence).unwrap();
    while !read_metrics(port).await.contains(last_round) {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn metrics_show_heads_cursor_and_findings() {
    let log = FakeLog::with_entries(Suite::Blake3, 1234);
    let server = FakeServer::start(log.clone()).await;
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = configure(
        directory.path(),
        &log,
        &server.url(),
        &format!("interval_seconds = 1\nmetrics_listen = \"{port}\""),
    );
    server.change(|served| served.head = served.log.head_at(now_ms() - 1_000_000));
    let monitor = Monitor::open(Config::load(&config).unwrap(), |_| {}).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(monitor.run(async move { drop(stopped.await) }));

    let label = format!("log=\"main\",source=\"{}\"", server.url());
    let expected = [
        "counterfoil_monitor_head_size{log=\"main\"} 1234".to_owned(),
        "counterfoil_monitor_verified_size{log=\"main\"} 1234".to_owned(),
        "counterfoil_monitor_verified_entries_total{log=\"main\"} 1234".to_owned(),
        "counterfoil_monitor_findings_open{log=\"main\",finding=\"stale_head\"} 1".to_owned(),
        "counterfoil_monitor_findings_open{log=\"main\",finding=\"fork\"} 0".to_owned(),
        "counterfoil_monitor_findings_total{log=\"main\",finding=\"stale_head\"} 1".to_owned(),
        format!("counterfoil_monitor_source_last_success_seconds{{{label}}} "),
        "counterfoil_monitor_head_time_seconds{log=\"main\"} ".to_owned(),
    ];
    loop {
        let text = read_metrics(port).await;
        if expected.iter().all(|line| text.contains(line.as_str())) {
            break;
        }
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The same tree, signed again.
    let signed_ms = now_ms() - 5000;
    server.change(|served| served.head = served.log.head_at(signed_ms));
    let time = format!(
        "counterfoil_monitor_head_time_seconds{{log=\"main\"}} {}\n",
        signed_ms / 1000
    );
    while !read_metrics(port).await.contains(&time) {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
