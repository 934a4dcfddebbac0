//! A log in memory, served as tiles, that can be made to lie.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

pub mod desk;

use std::{
    collections::HashMap,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_ENCODING},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use counterfoil_event::{Event, EventParts, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::{Digest, Frontier, Suite, Tile, TileId, TilePath, TreeSize};
use counterfoil_note::{KeyKind, LogSigner, SignerKey, UnixMillis};
use tokio::net::TcpListener;

pub const ORIGIN: &str = "log.example/main";

pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A log that keeps all in memory.
#[derive(Clone)]
pub struct FakeLog {
    pub signer: Arc<LogSigner>,
    frontier: Frontier,
    full: HashMap<TileId, Arc<Tile>>,
    entries: Vec<Bytes>,
}

impl FakeLog {
    pub fn new(suite: Suite) -> Self {
        let kinds = KeyKind::of_log(suite);
        let key = |(seed, kind): (u8, &KeyKind)| {
            SignerKey::generate(ORIGIN.parse().unwrap(), *kind, [seed + 1; 32])
        };
        let keys = (0..).zip(kinds).map(key).collect();
        Self {
            signer: Arc::new(LogSigner::new(keys).unwrap()),
            frontier: Frontier::new(suite),
            full: HashMap::new(),
            entries: Vec::new(),
        }
    }

    pub fn with_entries(suite: Suite, entries: u64) -> Self {
        let mut log = Self::new(suite);
        log.grow(entries);
        log
    }

    /// A log of 300 entries, and two that continue it in different ways, of one size.
    pub fn forked() -> (Self, Self, Self) {
        let common = Self::with_entries(Suite::Blake3, 300);
        let (mut one, mut other) = (common.clone(), common.clone());
        one.grow_as("one", 10);
        other.grow_as("other", 10);
        (common, one, other)
    }

    pub fn suite(&self) -> Suite {
        self.frontier.suite()
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Adds honest entries; what they say differs by index alone.
    pub fn grow(&mut self, entries: u64) {
        self.grow_as("honest", entries);
    }

    /// Adds honest entries of another history.
    pub fn grow_as(&mut self, history: &str, entries: u64) {
        for _ in 0..entries {
            let index = self.size();
            self.append(entry(self.suite(), history, index, 1_000_000 + index));
        }
    }

    pub fn append(&mut self, entry: Bytes) {
        let leaf = self.suite().leaf_hash(&entry);
        let full = &mut self.full;
        self.frontier.append(leaf, &mut |id, tile| {
            full.insert(id, tile);
        });
        self.entries.push(entry);
    }

    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The head of all that is there, signed at a time.
    pub fn head_at(&self, time_ms: u64) -> Bytes {
        self.sign(self.size(), self.root(), time_ms)
    }

    pub fn head(&self) -> Bytes {
        self.head_at(now_ms())
    }

    pub fn sign(&self, size: u64, root: Digest, time_ms: u64) -> Bytes {
        let note = self
            .signer
            .sign_head(TreeSize::new(size).unwrap(), root, UnixMillis::new(time_ms));
        note.into()
    }

    /// The policy file that trusts this log alone.
    pub fn policy(&self) -> String {
        format!("log {}\nquorum none\n", self.signer.keys()[0].verifier_key())
    }

    pub fn file(&self, path: &TilePath) -> Option<Vec<u8>> {
        if !path.exists_at(TreeSize::new(self.size()).unwrap()) {
            return None;
        }
        let width = usize::from(path.width().get());
        match path {
            TilePath::Entries { bundle, .. } => {
                let start = usize::try_from(*bundle).unwrap() * 256;
                Some(bundle_of(&self.entries[start..start + width]))
            }
            TilePath::Tile { tile, .. } => {
                let tile = match self.full.get(tile) {
                    Some(full) => Arc::clone(full),
                    None => self
                        .frontier
                        .tiles()
                        .find(|(id, _)| id == tile)
                        .map(|(_, tile)| Arc::clone(tile))?,
                };
                Some(tile.hashes_bytes()[..width * 32].to_vec())
            }
        }
    }

    pub fn entry(&self, index: usize) -> Bytes {
        self.entries[index].clone()
    }
}

pub fn bundle_of(entries: &[Bytes]) -> Vec<u8> {
    let mut bundle = Vec::new();
    for entry in entries {
        bundle.extend_from_slice(&u16::try_from(entry.len()).unwrap().to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    bundle
}

pub fn entry(suite: Suite, history: &str, index: u64, time_ns: u64) -> Bytes {
    let event = Event::try_from(EventParts {
        id: format!("{history}-{index}"),
        source: "https://ci.example/acme/widgets".into(),
        event_type: "ci.run.finished".into(),
        data_content_type: "application/json".into(),
        data: format!(r#"{{"run":{index}}}"#).into(),
        ..EventParts::default()
    })
    .unwrap();
    let mut salt = [7; 32];
    salt[..8].copy_from_slice(&index.to_le_bytes());
    let entry = UnstampedEntry::new(
        suite,
        &event,
        &Salt::from(salt),
        &Submitter::anonymous(),
        &[],
        "default",
    );
    entry.unwrap().stamp(NonZeroU64::new(time_ns).unwrap()).into()
}

/// What a path answers: the body, or a status.
pub type Answer = Result<Bytes, u16>;
type Hook = Box<dyn Fn(&str, Answer) -> Answer + Send + Sync>;

/// What a server shows; it can be changed while it runs.
pub struct Served {
    pub log: FakeLog,
    pub head: Bytes,
    /// Changes answers.
    pub hook: Hook,
    /// What paths begin with that are never answered.
    pub stalled: Option<&'static str>,
    pub requests: usize,
}

/// A server on the loopback interface.
#[derive(Clone)]
pub struct FakeServer {
    address: SocketAddr,
    served: Arc<Mutex<Served>>,
}

impl FakeServer {
    pub async fn start_two(one: &FakeLog, other: &FakeLog) -> (Self, Self) {
        (Self::start(one.clone()).await, Self::start(other.clone()).await)
    }

    pub async fn start(log: FakeLog) -> Self {
        let head = log.head();
        let served = Arc::new(Mutex::new(Served {
            log,
            head,
            hook: Box::new(|_, answer| answer),
            stalled: None,
            requests: 0,
        }));
        let app = Router::new()
            .route("/{*path}", get(serve))
            .with_state(Arc::clone(&served));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, served }
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Changes what is served.
    pub fn change<T>(&self, change: impl FnOnce(&mut Served) -> T) -> T {
        change(&mut self.served.lock().unwrap())
    }

    /// Serves another log, under a head signed now.
    pub fn show(&self, log: FakeLog) {
        self.change(|served| {
            served.head = log.head();
            served.log = log;
        });
    }

    /// Adds entries and signs a head.
    pub fn grow(&self, entries: u64) {
        self.change(|served| {
            served.log.grow(entries);
            served.head = served.log.head();
        });
    }

    pub fn hook(&self, hook: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static) {
        self.change(|served| served.hook = Box::new(hook));
    }

    /// Answers with a status what begins so.
    pub fn refuse(&self, beginning: &'static str, status: u16) {
        self.hook(move |path, answer| match path.starts_with(beginning) {
            true => Err(status),
            false => answer,
        });
    }

    pub fn honest(&self) {
        self.hook(|_, answer| answer);
    }
}

/// How a gzip stream begins. A bundle would too if its first entry had 8075 bytes; none has.
const GZIP: [u8; 2] = [0x1f, 0x8b];

async fn serve(State(served): State<Arc<Mutex<Served>>>, Path(path): Path<String>) -> Response {
    let stalled = served.lock().unwrap().stalled;
    if stalled.is_some_and(|stalled| path.starts_with(stalled)) {
        served.lock().unwrap().requests += 1;
        return std::future::pending().await;
    }
    let mut served = served.lock().unwrap();
    served.requests += 1;
    let honest = if path.ends_with("checkpoint") {
        Ok(served.head.clone())
    } else {
        let path: Option<TilePath> = path.parse().ok();
        path.and_then(|path| served.log.file(&path))
            .map(Bytes::from)
            .ok_or(404)
    };
    match (served.hook)(&path, honest) {
        Ok(body) if body.starts_with(&GZIP) => ([(CONTENT_ENCODING, "gzip")], body).into_response(),
        Ok(body) => body.into_response(),
        Err(status) => StatusCode::from_u16(status).unwrap().into_response(),
    }
}
