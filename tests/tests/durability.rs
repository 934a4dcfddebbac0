//! What was acknowledged stays: the server is killed at random moments under load, again and again.
//!
//! `COUNTERFOIL_TEST_SEED` replays the delays and loads of a run; `COUNTERFOIL_TEST_ROUNDS` makes it longer or shorter.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{HashSet, VecDeque},
    env,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use counterfoil_event::{Attributes, Event};
use counterfoil_merkle::{verify_consistency, verify_inclusion};
use counterfoil_note::SignedHead;
use counterfoil_proto::{
    digests,
    v1::{self, leaf_selector::Leaf, submit_result::Outcome},
};
use counterfoil_tests::{Data, Replica, Server, TestLog, event, submission};
use counterfoil_verify::{Receipt, VerifiedReceipt};
use fastrand::Rng;
use rustix::process::Signal;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const ROUNDS: u64 = 50;
const BATCH_EVENTS: usize = 64;
const STREAM_IN_FLIGHT: usize = 128;
/// Of what a round left, so many are asked for one by one; the whole log is recomputed in any case.
const SAMPLE: usize = 64;

fn from_environment(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().expect("a number"))
}

/// What a client remembers of one round.
#[derive(Default)]
struct Notes {
    acknowledged: Vec<(v1::Event, Receipt)>,
    /// Sent, and never answered.
    unanswered: Vec<v1::Event>,
    /// Published heads seen.
    heads: Vec<v1::TreeHead>,
}

type Notebook = Arc<Mutex<Notes>>;

/// Makes the events of one worker.
struct Source {
    name: String,
    made: u64,
    random: Rng,
}

impl Source {
    fn next(&mut self) -> v1::Event {
        self.made += 1;
        // Small and large lie in different files of the database.
        let length = match self.random.u8(..) {
            0 => 100_000,
            1..=60 => self.random.usize(1024..4096),
            _ => self.random.usize(..200),
        };
        let data: Bytes = std::iter::repeat_with(|| self.random.u8(..))
            .take(length)
            .collect();
        event(format!("{}-{}", self.name, self.made), data)
    }
}

/// A killed server breaks its connections; anything else that goes wrong is a defect.
fn assert_cut_off(status: &Status) {
    let expected = matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    );
    assert!(expected, "{status:?}");
}

async fn submit_one_by_one(server: Arc<Server>, notes: Notebook, mut source: Source) {
    let mut client = server.submitter();
    loop {
        let event = source.next();
        match client.submit(submission(event.clone())).await {
            Ok(response) => {
                let response = response.into_inner();
                assert!(!response.duplicate);
                let receipt = response.receipt.unwrap().try_into().unwrap();
                notes.lock().unwrap().acknowledged.push((event, receipt));
            }
            Err(status) => {
                assert_cut_off(&status);
                return notes.lock().unwrap().unanswered.push(event);
            }
        }
    }
}

async fn submit_batches(server: Arc<Server>, notes: Notebook, mut source: Source) {
    let mut client = server.submitter();
    loop {
        let events: Vec<_> = (0..BATCH_EVENTS).map(|_| source.next()).collect();
        let request = v1::SubmitBatchRequest {
            log: String::new(),
            events: events.clone(),
        };
        match client.submit_batch(request).await {
            Ok(response) => {
                let v1::SubmitBatchResponse { tree_heads, results } = response.into_inner();
                assert_eq!(results.len(), events.len());
                let mut notes = notes.lock().unwrap();
                for (event, result) in events.into_iter().zip(results) {
                    let accepted = accepted(result);
                    assert!(!accepted.duplicate);
                    notes
                        .acknowledged
                        .push((event, accepted.into_receipt(&tree_heads).unwrap()));
                }
            }
            Err(status) => {
                assert_cut_off(&status);
                return notes.lock().unwrap().unanswered.extend(events);
            }
        }
    }
}

async fn submit_stream(server: Arc<Server>, notes: Notebook, mut source: Source) {
    let (requests, to_send) = mpsc::channel(STREAM_IN_FLIGHT);
    let room = Arc::new(Semaphore::new(STREAM_IN_FLIGHT));
    let sent = Arc::new(Mutex::new(VecDeque::new()));
    let sender = tokio::spawn({
        let (sent, room) = (sent.clone(), room.clone());
        async move {
            for sequence in 0.. {
                match room.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
                let event = source.next();
                sent.lock().unwrap().push_back(event.clone());
                let request = v1::SubmitStreamRequest {
                    log: String::new(),
                    sequence,
                    event: Some(event),
                };
                if requests.send(request).await.is_err() {
                    return;
                }
            }
        }
    });
    let ended = async {
        let mut answers = server
            .submitter()
            .submit_stream(ReceiverStream::new(to_send))
            .await?
            .into_inner();
        let mut expected_sequence = 0;
        while let Some(v1::SubmitStreamResponse { tree_heads, results }) = answers.message().await? {
            for result in results {
                assert_eq!(result.sequence, expected_sequence);
                expected_sequence += 1;
                room.add_permits(1);
                let event = sent.lock().unwrap().pop_front().unwrap();
                let receipt = accepted(result).into_receipt(&tree_heads).unwrap();
                notes.lock().unwrap().acknowledged.push((event, receipt));
            }
        }
        Ok::<_, Status>(())
    };
    if let Err(status) = ended.await {
        assert_cut_off(&status);
    }
    room.close();
    sender.await.unwrap();
    notes
        .lock()
        .unwrap()
        .unanswered
        .extend(sent.lock().unwrap().drain(..));
}

async fn watch_heads(server: Arc<Server>, notes: Notebook) {
    let watched = async {
        let request = v1::WatchTreeHeadsRequest::default();
        let mut heads = server.reader().watch_tree_heads(request).await?.into_inner();
        while let Some(response) = heads.message().await? {
            notes.lock().unwrap().heads.push(response.tree_head.unwrap());
        }
        Ok::<_, Status>(())
    };
    if let Err(status) = watched.await {
        assert_cut_off(&status);
    }
}

fn accepted(result: v1::SubmitResult) -> v1::Accepted {
    match result.outcome.unwrap() {
        Outcome::Accepted(accepted) => accepted,
        Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}

/// Everything that was ever acknowledged or shown, and the log as it was last read.
struct Witness {
    log: TestLog,
    replica: Replica,
    /// Receipts of all rounds, and the events of those that are sampled.
    receipts: Vec<VerifiedReceipt>,
    heads: Vec<SignedHead>,
}

impl Witness {
    /// Loads the server until it is killed.
    async fn load_and_kill(server: Server, round: u64, random: &mut Rng) -> Notes {
        let server = Arc::new(server);
        let notes = Notebook::default();
        let mut workers = JoinSet::new();
        workers.spawn(watch_heads(server.clone(), notes.clone()));
        for number in 0..6 {
            let source = Source {
                name: format!("round-{round}-worker-{number}"),
                made: 0,
                random: random.fork(),
            };
            let (server, notes) = (server.clone(), notes.clone());
            match number % 3 {
                0 => workers.spawn(submit_one_by_one(server, notes, source)),
                1 => workers.spawn(submit_batches(server, notes, source)),
                _ => workers.spawn(submit_stream(server, notes, source)),
            };
        }
        sleep(Duration::from_micros(random.u64(..200_000))).await;
        // Now and then in the middle of an orderly stop.
        if random.u8(..5) == 0 {
            server.terminate();
            sleep(Duration::from_micros(random.u64(..20_000))).await;
        }
        server.signal(Signal::KILL);
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
        Arc::into_inner(server).unwrap().kill();
        Arc::into_inner(notes).unwrap().into_inner().unwrap()
    }

    /// Checks a restarted server against everything that was promised, then settles what the round left open.
    async fn check(&mut self, server: &Server, notes: Notes, random: &mut Rng) {
        let Notes {
            acknowledged,
            unanswered,
            heads,
        } = notes;
        let mut reader = server.reader();
        let now = self.replica.catch_up(&mut reader, &self.log, 0).await;

        for shown in heads {
            let shown = self.log.key().verify_head(&shown.checkpoint).unwrap();
            self.replica.assert_head(shown.size(), shown.root());
            self.heads.push(shown);
        }
        let mut indices = HashSet::new();
        let mut samples = Vec::new();
        for (event, receipt) in acknowledged {
            let verified = self.verify(&receipt);
            verified
                .commits_to(&Event::try_from(event.clone()).unwrap())
                .unwrap();
            self.replica.assert_receipt(&verified);
            assert!(
                indices.insert(receipt.index),
                "two events were given entry {}",
                receipt.index
            );
            samples.push((event, receipt));
            self.receipts.push(verified);
        }
        random.shuffle(&mut samples);
        samples.truncate(SAMPLE);
        self.check_samples(server, &now, samples).await;
        let size = self.settle(server, unanswered).await;
        self.replica.catch_up(&mut reader, &self.log, size).await;
    }

    /// Most receipts share their head with others, whose signature was checked already.
    fn verify(&self, receipt: &Receipt) -> VerifiedReceipt {
        match self.receipts.last() {
            Some(last) if last.head().note_bytes() == receipt.checkpoint => {
                receipt.verify_under(last.head()).unwrap()
            }
            _ => receipt.verify(self.log.key()).unwrap(),
        }
    }

    /// Asks the server itself for proofs, and for its memory of events that it acknowledged.
    async fn check_samples(&self, server: &Server, now: &SignedHead, samples: Vec<(v1::Event, Receipt)>) {
        let suite = self.log.key().suite();
        let mut reader = server.reader();
        for (_, receipt) in &samples {
            let request = v1::GetInclusionProofRequest {
                log: String::new(),
                leaf: Some(v1::LeafSelector {
                    leaf: Some(Leaf::LeafIndex(receipt.index.get())),
                }),
                tree_size: Some(now.size().get()),
            };
            let proof = reader.get_inclusion_proof(request).await.unwrap().into_inner();
            let hashes = digests("hashes", &proof.hashes).unwrap();
            let leaf = suite.leaf_hash(&receipt.entry);
            verify_inclusion(suite, leaf, receipt.index, now.size(), &hashes, now.root()).unwrap();
        }
        let old = [self.heads.first(), self.heads.last()];
        for old in old.into_iter().flatten() {
            let request = v1::GetConsistencyProofRequest {
                log: String::new(),
                first_tree_size: old.size().get(),
                second_tree_size: now.size().get(),
            };
            let proof = reader.get_consistency_proof(request).await.unwrap().into_inner();
            let hashes = digests("hashes", &proof.hashes).unwrap();
            verify_consistency(suite, old.size(), old.root(), now.size(), now.root(), &hashes).unwrap();
        }

        let (events, receipts): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        for (again, receipt) in submit_again(server, events).await.into_iter().zip(receipts) {
            assert!(again.duplicate);
            assert_eq!(
                (again.leaf_index, &again.entry[..]),
                (receipt.index.get(), &receipt.entry[..])
            );
        }
    }

    /// What was not answered may be in the log or not. Sent again it is acknowledged, once. Returns a size that covers it.
    async fn settle(&self, server: &Server, unanswered: Vec<v1::Event>) -> u64 {
        let mut size = 0;
        for events in unanswered.chunks(BATCH_EVENTS) {
            let first = submit_again(server, events.to_vec()).await;
            let second = submit_again(server, events.to_vec()).await;
            for (first, second) in first.into_iter().zip(second) {
                assert!(second.duplicate);
                assert_eq!((first.leaf_index, first.entry), (second.leaf_index, second.entry));
                size = size.max(second.leaf_index + 1);
            }
        }
        size
    }
}

async fn submit_again(server: &Server, events: Vec<v1::Event>) -> Vec<v1::Accepted> {
    let request = v1::SubmitBatchRequest {
        log: String::new(),
        events,
    };
    let response = server
        .submitter()
        .submit_batch(request)
        .await
        .unwrap()
        .into_inner();
    response.results.into_iter().map(accepted).collect()
}

/// Reads the whole log and asserts that no event has two entries.
async fn assert_each_event_once(server: &Server) -> usize {
    let request = v1::ReadEntriesRequest {
        with_payload: true,
        ..v1::ReadEntriesRequest::default()
    };
    let mut chunks = server.reader().read_entries(request).await.unwrap().into_inner();
    let mut names = HashSet::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        for entry in chunk.entries {
            let attributes = Attributes::decode_canonical(&entry.payload.unwrap().attributes).unwrap();
            assert!(
                names.insert((attributes.source, attributes.id)),
                "entry {} repeats an event",
                entry.leaf_index
            );
        }
    }
    names.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill() {
    let seed = from_environment("COUNTERFOIL_TEST_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    let rounds = from_environment("COUNTERFOIL_TEST_ROUNDS").unwrap_or(ROUNDS);
    println!("COUNTERFOIL_TEST_SEED={seed} COUNTERFOIL_TEST_ROUNDS={rounds}");
    let mut random = Rng::with_seed(seed);

    let (data, log) = Data::with_main_log();
    let anchor = data.beside("anchor");
    std::fs::create_dir(&anchor).unwrap();
    // Little memory, so that tables are written and merged meanwhile; many heads, so that many are promised.
    let anchor = anchor.to_str().unwrap();
    let options = [
        "--memory-mib",
        "32",
        "--publish-interval-ms",
        "5",
        "--anchor",
        anchor,
    ];
    let mut witness = Witness {
        replica: Replica::new(&log),
        log,
        receipts: Vec::new(),
        heads: Vec::new(),
    };
    for round in 0..rounds {
        let server = Server::start(&data, &options);
        let notes = Witness::load_and_kill(server, round, &mut random).await;
        while random.u8(..4) == 0 {
            let time = Duration::from_micros(random.u64(..40_000));
            Server::start_and_kill(&data, &options, time);
        }
        let server = Server::start(&data, &options);
        witness.check(&server, notes, &mut random).await;
        server.kill();
    }

    let server = Server::start(&data, &options);
    let size = witness.replica.size();
    witness
        .replica
        .catch_up(&mut server.reader(), &witness.log, 0)
        .await;
    assert_eq!(witness.replica.size(), size, "nothing was sent since");
    for receipt in &witness.receipts {
        witness.replica.assert_receipt(receipt);
    }
    let events = assert_each_event_once(&server).await;
    server.stop();
    data.assert_sound();
    println!(
        "{events} entries, {} acknowledged under load, {} heads seen",
        witness.receipts.len(),
        witness.heads.len()
    );
    assert!(
        witness.receipts.len() as u64 > rounds,
        "hardly anything was acknowledged before the kills"
    );
}
