//! Clients of every kind at once, and what each of them was told.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use counterfoil_proto::v1::{
    self, Reason, leaf_selector::Leaf, submit_result::Outcome, submit_service_client::SubmitServiceClient,
};
use counterfoil_verify::Receipt;
use fastrand::Rng;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{self, JoinSet},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{Connection, Hook, Refusal, Server, TestLog, crash::Fault, event, receipt_of, submission};

const BATCH_EVENTS: usize = 64;
const STREAM_IN_FLIGHT: usize = 128;
/// How long a client waits that was pushed back.
const PUSHED_BACK: Duration = Duration::from_millis(5);
/// A server that works answers within this, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// See [`Load::submit_large`]. Together with many others these still fit into one call.
const LARGE_EVENTS: u8 = 2;
const LARGE_BYTES: usize = 12 * 1024 * 1024;

/// What clients of a server remember.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    /// Events whose receipt came back.
    pub acknowledged: Vec<Acknowledged>,
    /// Webhooks that were answered with a place.
    pub delivered: Vec<Delivered>,
    /// Events that were sent, and never answered or refused.
    pub unanswered: Vec<v1::Event>,
    /// Webhooks likewise.
    pub undelivered: Vec<Delivery>,
    /// Published heads seen.
    pub heads: Vec<Shown>,
}

/// An event with its receipt.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// As it was sent.
    pub event: v1::Event,
    /// As it came back, not yet verified.
    pub receipt: Receipt,
    /// When it had been read.
    pub when: SystemTime,
}

/// A webhook.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The provider's id.
    pub id: String,
    /// The body.
    pub body: String,
}

/// A webhook with its answer.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// As it was sent.
    pub delivery: Delivery,
    /// What the server said of it.
    pub answer: Value,
    /// When it had been read.
    pub when: SystemTime,
}

/// A published head.
#[derive(Debug, Clone)]
pub struct Shown {
    /// As it came.
    pub head: v1::TreeHead,
    /// When it had been read.
    pub when: SystemTime,
}

impl Notes {
    /// What a client knew at a moment. What it learnt later counts as sent, and not answered.
    pub fn until(&self, moment: SystemTime) -> Self {
        let mut notes = self.clone();
        let (known, unknown): (Vec<_>, Vec<_>) = notes
            .acknowledged
            .into_iter()
            .partition(|acknowledged| acknowledged.when < moment);
        notes.acknowledged = known;
        notes
            .unanswered
            .extend(unknown.into_iter().map(|acknowledged| acknowledged.event));
        let (known, unknown): (Vec<_>, Vec<_>) = notes
            .delivered
            .into_iter()
            .partition(|delivered| delivered.when < moment);
        notes.delivered = known;
        notes
            .undelivered
            .extend(unknown.into_iter().map(|delivered| delivered.delivery));
        notes.heads.retain(|shown| shown.when < moment);
        notes
    }
}

type Notebook = Arc<Mutex<Notes>>;

/// Makes the events of one client.
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
        self.event(length)
    }

    fn next_large(&mut self) -> v1::Event {
        self.made += 1;
        self.event(LARGE_BYTES)
    }

    fn event(&mut self, length: usize) -> v1::Event {
        let mut data = vec![0; length];
        self.random.fill(&mut data);
        event(format!("{}-{}", self.name, self.made), data)
    }

    fn next_delivery(&mut self) -> Delivery {
        self.made += 1;
        let id = format!("{}-{}", self.name, self.made);
        Delivery {
            body: format!(r#"{{"zen":"{id}","hook_id":292430182,"sender":{{"login":"octocat"}}}}"#),
            id,
        }
    }
}

/// Clients at work on one server, until it goes away.
pub struct Load {
    server: Served,
    notes: Notebook,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts them: two that submit one by one, two in batches, two in streams, one that delivers webhooks to `hook`, one that
    /// watches heads and two that read. `name` is part of the events' ids, so it must be new. Where a `fault` is made, the server may
    /// end at any time, or say now and then that it can't read what it stores.
    pub fn start(
        server: &Arc<Server>,
        fault: Option<&Fault>,
        log: &Arc<TestLog>,
        hook: &Hook,
        name: &str,
        random: &mut Rng,
    ) -> Self {
        let server = Served {
            server: server.clone(),
            is_unreadable: fault.is_some_and(Fault::is_of_reading),
            may_cut_off: Arc::new(AtomicBool::new(fault.is_some())),
        };
        let mut load = Self {
            server: server.clone(),
            notes: Notebook::default(),
            workers: JoinSet::new(),
        };
        let notes = || load.notes.clone();
        let mut source = |number: u8| Source {
            name: format!("{name}-{number}"),
            made: 0,
            random: random.fork(),
        };
        load.workers.spawn(watch_heads(server.clone(), notes()));
        for number in 0..2 {
            load.workers
                .spawn(submit_one_by_one(server.clone(), notes(), source(number)));
            load.workers
                .spawn(submit_batches(server.clone(), notes(), source(number + 2)));
            load.workers
                .spawn(submit_stream(server.clone(), notes(), source(number + 4)));
            let random = source(number + 6).random;
            load.workers.spawn(read(server.clone(), log.clone(), random));
        }
        let (deliveries, hook, server, notes) = (source(8), hook.clone(), server.clone(), notes());
        load.workers
            .spawn_blocking(move || deliver(&server, &hook, &notes, deliveries));
        load
    }

    /// How many answers there were so far.
    pub fn answers(&self) -> usize {
        let notes = self.notes.lock().unwrap();
        notes.acknowledged.len() + notes.delivered.len()
    }

    /// Waits for so many answers.
    ///
    /// # Panics
    /// If they do not come, or one of the clients was told what it must not be.
    pub async fn answered(&mut self, answers: usize) {
        let started = Instant::now();
        while self.answers() < answers {
            self.server.assert_runs();
            while let Some(ended) = self.workers.try_join_next() {
                ended.unwrap();
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the server gave no {answers} answers"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Submits a few events so large that room on the disk which the log saw may be gone when it writes.
    pub fn submit_large(&mut self, name: &str, random: &mut Rng) {
        for number in 0..LARGE_EVENTS {
            let source = Source {
                name: format!("{name}-large-{number}"),
                made: 0,
                random: random.fork(),
            };
            self.workers
                .spawn(submit_one_large(self.server.clone(), self.notes.clone(), source));
        }
    }

    /// From now on the server may break connections: to be said right before it is told to end. A server that does so earlier ended by
    /// itself.
    pub fn may_be_cut_off(&self) {
        self.server.may_cut_off.store(true, Ordering::SeqCst);
    }

    /// Waits until all have noticed that the server is gone.
    ///
    /// # Panics
    /// If one of them was told what it must not be.
    pub async fn ended(mut self) -> Notes {
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}

/// A server under load.
#[derive(Clone)]
struct Served {
    server: Arc<Server>,
    /// Files of its database can't be opened now and then.
    is_unreadable: bool,
    /// It may be gone, or about to go.
    may_cut_off: Arc<AtomicBool>,
}

impl Deref for Served {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Served {
    /// A server that is killed breaks its connections; one that has no room pushes back; one that can't read says that, and so does one
    /// whose witness has not cosigned yet. Anything else is a defect.
    #[track_caller]
    fn assert_cut_off_or_pushed_back(&self, status: &Status) {
        let expected = match status.code() {
            Code::ResourceExhausted => true,
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
                self.is_cut_off() || Refusal::from(status).reason == "NOT_PUBLISHED"
            }
            Code::DataLoss => self.is_unreadable,
            _ => false,
        };
        assert!(expected, "{status:?}");
    }

    fn is_cut_off(&self) -> bool {
        self.may_cut_off.load(Ordering::SeqCst)
    }

    /// Whether to go on after an error.
    async fn was_pushed_back(&self, status: &Status) -> bool {
        self.assert_cut_off_or_pushed_back(status);
        let pushed_back = status.code() == Code::ResourceExhausted;
        if pushed_back {
            sleep(PUSHED_BACK).await;
        }
        pushed_back
    }
}

async fn submit_one_by_one(server: Served, notes: Notebook, mut source: Source) {
    let mut client = server.submitter();
    while submit(&server, &mut client, &notes, source.next()).await {}
}

async fn submit_one_large(server: Served, notes: Notebook, mut source: Source) {
    submit(&server, &mut server.submitter(), &notes, source.next_large()).await;
}

/// Returns whether to go on.
async fn submit(
    server: &Served,
    client: &mut SubmitServiceClient<Channel>,
    notes: &Notebook,
    event: v1::Event,
) -> bool {
    match client.submit(submission(event.clone())).await {
        Ok(response) => {
            let response = response.into_inner();
            assert!(!response.duplicate);
            let receipt = response.receipt.unwrap().try_into().unwrap();
            notes.lock().unwrap().acknowledged.push(Acknowledged {
                event,
                receipt,
                when: SystemTime::now(),
            });
            true
        }
        Err(status) => {
            notes.lock().unwrap().unanswered.push(event);
            server.was_pushed_back(&status).await
        }
    }
}

async fn submit_batches(server: Served, notes: Notebook, mut source: Source) {
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
                    notes.note(&server, event, result, &tree_heads);
                }
            }
            Err(status) => {
                notes.lock().unwrap().unanswered.extend(events);
                if !server.was_pushed_back(&status).await {
                    return;
                }
            }
        }
    }
}

impl Notes {
    /// Takes down what became of one event of many.
    fn note(&mut self, server: &Served, event: v1::Event, result: v1::SubmitResult, heads: &[v1::TreeHead]) {
        match result.outcome.unwrap() {
            Outcome::Accepted(accepted) => {
                assert!(!accepted.duplicate);
                self.acknowledged.push(Acknowledged {
                    event,
                    receipt: accepted.into_receipt(heads).unwrap(),
                    when: SystemTime::now(),
                });
            }
            Outcome::Refused(refused) => {
                let pushed_back = [Reason::QueueFull, Reason::OutOfSpace].contains(&refused.reason());
                assert!(pushed_back || server.is_cut_off(), "{refused:?}");
                self.unanswered.push(event);
            }
        }
    }
}

async fn submit_stream(server: Served, notes: Notebook, mut source: Source) {
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
                notes.lock().unwrap().note(&server, event, result, &tree_heads);
            }
        }
        Ok::<_, Status>(())
    };
    let ended = ended.await;
    // Events that find no room are refused, and the stream goes on.
    assert!(server.is_cut_off(), "the stream ended: {ended:?}");
    if let Err(status) = ended {
        server.assert_cut_off_or_pushed_back(&status);
    }
    room.close();
    sender.await.unwrap();
    notes
        .lock()
        .unwrap()
        .unanswered
        .extend(sent.lock().unwrap().drain(..));
}

fn deliver(server: &Served, hook: &Hook, notes: &Notebook, mut source: Source) {
    let assert_cut_off = |problem: std::io::Error| assert!(server.is_cut_off(), "a webhook: {problem:?}");
    let mut connection = match Connection::try_to(server.address()) {
        Ok(connection) => connection,
        Err(problem) => return assert_cut_off(problem),
    };
    loop {
        let delivery = source.next_delivery();
        let answer = match hook.try_deliver(&mut connection, &delivery) {
            Ok(answer) => answer,
            Err(problem) => {
                assert_cut_off(problem);
                return notes.lock().unwrap().undelivered.push(delivery);
            }
        };
        if answer.status == 201 {
            let answer = serde_json::from_str(&answer.body).unwrap();
            notes.lock().unwrap().delivered.push(Delivered {
                delivery,
                answer,
                when: SystemTime::now(),
            });
        } else {
            let expected = answer.status == 503 || (answer.status == 500 && server.is_unreadable);
            assert!(expected, "{answer:?}");
            notes.lock().unwrap().undelivered.push(delivery);
            std::thread::sleep(PUSHED_BACK);
        }
    }
}

impl Hook {
    /// Delivers a ping on a connection that may break.
    pub fn try_deliver(
        &self,
        connection: &mut Connection,
        delivery: &Delivery,
    ) -> std::io::Result<crate::Answer> {
        let body = delivery.body.as_bytes();
        let headers = self.headers("ping", &delivery.id, body);
        connection.try_post(&self.path(), &headers, body)
    }
}

async fn watch_heads(server: Served, notes: Notebook) {
    let watched = async {
        let request = v1::WatchTreeHeadsRequest::default();
        let mut heads = server.reader().watch_tree_heads(request).await?.into_inner();
        let mut newest = (0, 0);
        while let Some(response) = heads.message().await? {
            let head = response.tree_head.unwrap();
            let this = (head.tree_size, head.time_unix_ms);
            assert!(
                newest.0 <= this.0 && newest.1 <= this.1,
                "{newest:?}, then {this:?}"
            );
            newest = this;
            notes.lock().unwrap().heads.push(Shown {
                head,
                when: SystemTime::now(),
            });
        }
        Ok::<_, Status>(())
    };
    if let Err(status) = watched.await {
        server.assert_cut_off_or_pushed_back(&status);
    }
}

/// Reads entries of any age with their proofs, and verifies them.
async fn read(server: Served, log: Arc<TestLog>, mut random: Rng) {
    let mut client = server.reader();
    let mut largest = 1;
    loop {
        let index = random.u64(..largest);
        match receipt_of(&mut client, &log, Leaf::LeafIndex(index)).await {
            Ok(receipt) => {
                assert_eq!(receipt.index().get(), index);
                largest = largest.max(receipt.head().size().get());
            }
            Err(status) => {
                // A log that waits for its witness has nothing to show yet.
                server.assert_cut_off_or_pushed_back(&status);
                return;
            }
        }
        task::yield_now().await;
    }
}
