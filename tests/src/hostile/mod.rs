//! A log that lies: honest up to a moment, then one attack of a closed list, over gRPC and HTTP on one port.
//!
//! It stands on the crates that verifiers stand on, and on none of the log's or the server's.

mod attack;
mod bodies;
mod grpc;
mod history;
mod tiles;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

pub use attack::Attack;
use axum::{Router, middleware, routing::get};
use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{
    CosignerSigner, KeyKind, LogSigner, Origin, SignerKey, UnixMillis, UnixSeconds, VerifierKey,
};
use counterfoil_proto::v1::{
    read_service_server::ReadServiceServer, submit_service_server::SubmitServiceServer,
};
use history::History;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{service::Routes, transport};

use crate::add_checkpoint;

/// How many entries it has when an attack starts. The rewritten one is among them.
const HONEST_ENTRIES: usize = 21;
const REWRITTEN_ENTRY: usize = 4;
/// How many an attack drops, or adds.
const DROPPED_ENTRIES: usize = 5;
const ADDED_ENTRIES: usize = 6;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// The log; clones share it. Served for as long as the runtime lives that it was started on.
#[derive(Clone)]
pub struct HostileLog {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    signer: LogSigner,
    /// Keys of the same name that are not the log's.
    wrong: LogSigner,
    foreign: LogSigner,
    other_suite: LogSigner,
    /// The witness whose cosignature is forged.
    witness: CosignerSigner,
    state: Mutex<State>,
}

struct State {
    honest: History,
    attack: Attack,
    /// When the newest head was signed: a later one is signed later.
    newest: u64,
}

/// Through which door something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Grpc,
    Http,
}

fn signer(origin: &str, suite: Suite, seed: u8) -> LogSigner {
    let origin: Origin = origin.parse().unwrap();
    let keys = KeyKind::of_log(suite)
        .iter()
        .zip(seed..)
        .map(|(&kind, seed)| SignerKey::generate(origin.clone(), kind, [seed; 32]));
    LogSigner::new(keys.collect()).unwrap()
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since_epoch.as_millis()).unwrap()
}

impl HostileLog {
    /// An honest log of some entries, served on a port of its own.
    pub async fn start(suite: Suite) -> Self {
        let other = match suite {
            Suite::Blake3 => Suite::Sha256,
            Suite::Sha256 => Suite::Blake3,
        };
        let mut honest = History::new(suite);
        honest.grow(HONEST_ENTRIES);
        let origin = "hostile.example/main";
        let shared = Arc::new(Shared {
            signer: signer(origin, suite, 1),
            wrong: signer(origin, suite, 101),
            foreign: signer("other.example/main", suite, 1),
            other_suite: signer(origin, other, 11),
            witness: CosignerSigner::generate("witness.example/w".parse().unwrap(), [42; 32]),
            state: Mutex::new(State {
                honest,
                attack: Attack::None,
                newest: 0,
            }),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Self { shared, address };
        let routes = Routes::new(SubmitServiceServer::new(log.clone()))
            .add_service(ReadServiceServer::new(log.clone()))
            .into_axum_router()
            .merge(
                Router::new()
                    .route("/logs/main/{*path}", get(tiles::answer))
                    .with_state(log.clone()),
            )
            .layer(middleware::from_fn_with_state(log.clone(), bodies::spoil));
        let server = transport::Server::builder()
            .accept_http1(true)
            .add_routes(routes.into());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        log
    }

    /// Starts an attack, or ends one.
    pub fn attack(&self, attack: Attack) {
        self.shared.state.lock().unwrap().attack = attack;
    }

    /// What verifies its heads; the first is the one that clients use.
    pub fn keys(&self) -> Vec<VerifierKey> {
        let keys = self.shared.signer.keys().iter();
        keys.map(|key| key.verifier_key().clone()).collect()
    }

    /// The key that clients use.
    pub fn key(&self) -> VerifierKey {
        self.keys().remove(0)
    }

    /// Trust in this log, as long as a witness cosigns.
    pub fn witnessed_policy(&self) -> String {
        let witness = self.shared.witness.verifier_key();
        format!("log {}\nwitness w {witness}\nquorum w\n", self.key())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for gRPC.
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address for tiles.
    pub fn tiles(&self) -> String {
        format!("http://{}/logs/main/", self.address)
    }

    /// How many entries an honest observer has seen of it.
    pub fn honest_size(&self) -> u64 {
        HONEST_ENTRIES as u64
    }

    /// What it would send to a witness that cosigned `old` before.
    pub fn add_checkpoint(&self, old: u64) -> String {
        let history = self.shown(Door::Http);
        let mut proof = match old {
            0 => Vec::new(),
            old => history.consistency(old, history.size()).unwrap_or_default(),
        };
        self.spoil_proof(&mut proof);
        let note = String::from_utf8(self.note(Door::Http)).unwrap();
        add_checkpoint(old, &proof, &note)
    }

    fn current(&self) -> Attack {
        self.shared.state.lock().unwrap().attack
    }

    /// The history that is shown at this door.
    fn shown(&self, door: Door) -> History {
        let state = self.shared.state.lock().unwrap();
        let mut history = state.honest.clone();
        match state.attack {
            Attack::Fork => history.rewrite(REWRITTEN_ENTRY),
            Attack::SplitView if door == Door::Http => history.rewrite(REWRITTEN_ENTRY),
            Attack::RollBack | Attack::Replay => {
                history.leaves.truncate(HONEST_ENTRIES - DROPPED_ENTRIES);
            }
            Attack::Rewrite => {
                history.rewrite(REWRITTEN_ENTRY);
                history.grow(ADDED_ENTRIES);
            }
            Attack::InvalidEntry => {
                history.record_no_entry();
                history.grow(ADDED_ENTRIES);
            }
            Attack::DecreasingTime => {
                history.record_at_an_earlier_time();
                history.grow(ADDED_ENTRIES);
            }
            Attack::FalseForm => {
                history.record_false_form();
            }
            Attack::None | Attack::SplitView | Attack::Freeze => {}
            _ => history.grow(ADDED_ENTRIES),
        }
        history
    }

    /// The newest head that is shown at this door.
    fn note(&self, door: Door) -> Vec<u8> {
        let history = self.shown(door);
        let (size, root) = (history.size(), history.root(history.size()));
        self.sign(size, root)
    }

    fn sign(&self, size: u64, root: Digest) -> Vec<u8> {
        let shared = &self.shared;
        let mut state = shared.state.lock().unwrap();
        state.newest = now_ms().max(state.newest + 1);
        let time = match state.attack {
            Attack::Replay => state.newest - DAY_MS / 2,
            Attack::Freeze => state.newest - DAY_MS,
            _ => state.newest,
        };
        let signer = match state.attack {
            Attack::WrongKey => &shared.wrong,
            Attack::ForeignOrigin => &shared.foreign,
            Attack::OtherSuite => &shared.other_suite,
            _ => &shared.signer,
        };
        let size = TreeSize::new(size).unwrap();
        let note = signer.sign_head(size, root, UnixMillis::new(time));
        let line = match state.attack {
            Attack::FalseCosignature => {
                // A true cosignature, of another tree.
                let other = signer.sign_head(size, Digest::from([9; 32]), UnixMillis::new(time));
                let other = signer.keys()[0].verifier_key().verify_head(&other).unwrap();
                let time = UnixSeconds::new(time / 1000).unwrap();
                shared.witness.cosign(&other, time).to_string()
            }
            Attack::DeceptiveLine => "— ##[group] AAAAAAA=".to_owned(),
            _ => return note,
        };
        [note, format!("{line}\n").into_bytes()].concat()
    }

    fn spoil_proof(&self, proof: &mut [Digest]) {
        if self.current() == Attack::WrongProofs
            && let Some(hash) = proof.first_mut()
        {
            *hash = Digest::from([9; 32]);
        }
    }
}
