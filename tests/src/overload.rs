//! More than a server can take, and what comes with it: floods, slow readers and writers, giant batches, churn, silence.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_proto::v1::{
    self, Reason, Refused, SubmitBatchRequest, SubmitStreamRequest, submit_result::Outcome,
    submit_service_client::SubmitServiceClient,
};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{Connection, Server, event, submission};

const PAYLOAD_BYTES: usize = 1_024;
/// Nothing that is waited for at the end of a phase takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server is asked for its health.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(100);

/// Who comes, each on a connection of its own.
#[derive(Clone, Copy)]
pub struct Crowd {
    /// How often the usual load: four connections of single calls, one of batches, one stream, all closed loops.
    pub usual: u32,
    /// Batches as large as they may be, sent again at once when they are refused.
    pub giants: u32,
    /// Streams of which no answer is read.
    pub unread: u32,
    /// A connection for each request, twice a second.
    pub churn: u32,
    /// Requests that never end.
    pub half: u32,
    /// Connections on which nothing is said.
    pub silent: u32,
}

impl Crowd {
    /// What a server is made for.
    pub const USUAL: Self = Self {
        usual: 1,
        giants: 0,
        unread: 0,
        churn: 0,
        half: 0,
        silent: 0,
    };
}

/// What came of a phase.
#[derive(Default)]
pub struct Phase {
    /// Events in calls that were sent while it counted.
    pub offered: AtomicU64,
    /// Events that were acknowledged while it counted.
    pub accepted: AtomicU64,
    /// How long it counted.
    pub time: Duration,
    /// Processor time of the server meanwhile.
    pub cpu: Duration,
    /// Calls, and events of streams, that were told to come back later, in the way that is documented, while it counted.
    pub put_off: AtomicU64,
    /// How long an acknowledgement took.
    pub accepted_us: Latency,
    /// How long it took to be put off.
    pub put_off_us: Latency,
    /// What the server told of its health where everybody comes.
    pub health: Health,
    /// The same where it tells its metrics.
    pub probe: Health,
    failures: Mutex<BTreeMap<String, usize>>,
    /// What was acknowledged: the number of each event and where it stands.
    places: Mutex<Vec<(u64, u64)>>,
    counts: AtomicBool,
    stop: AtomicBool,
}

/// What whoever asks for it was told of a server's health.
#[derive(Default)]
pub struct Health {
    /// How long an answer took, from when the question was due.
    pub answered_us: Latency,
    /// How often there was none, or none that it is well.
    pub unanswered: AtomicU64,
}

impl Health {
    /// As whatever restarts a server that does not answer: on a timetable, however long answers take, and each time on a connection of
    /// its own.
    fn ask_until(&self, is_over: impl Fn() -> bool, address: SocketAddr) {
        thread::scope(|scope| {
            let mut due = Instant::now();
            while !is_over() {
                scope.spawn(move || self.ask(address, due));
                due += BETWEEN_QUESTIONS;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
    }

    fn ask(&self, address: SocketAddr, due: Instant) {
        let answer =
            Connection::try_to(address).and_then(|mut connection| connection.try_send("GET", "/health", b""));
        if answer.is_ok_and(|answer| answer.status == 200) {
            self.answered_us.since(due);
        } else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often there was none within this time.
    pub fn unanswered_within(&self, patience: Duration) -> u64 {
        self.unanswered.load(Ordering::Relaxed) + self.answered_us.count_above(patience)
    }
}

/// How long something took, in microseconds.
pub struct Latency(Mutex<Histogram<u64>>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3).unwrap()))
    }
}

impl Latency {
    fn since(&self, started: Instant) {
        let us = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.0.lock().unwrap().saturating_record(us.max(1));
    }

    /// How often it was taken, whether it counted then or not.
    pub fn times(&self) -> u64 {
        self.0.lock().unwrap().len()
    }

    fn count_above(&self, time: Duration) -> u64 {
        let us = u64::try_from(time.as_micros()).unwrap();
        let histogram = self.0.lock().unwrap();
        histogram.len() - histogram.count_between(0, us)
    }

    /// Such a quantile in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.0.lock().unwrap().value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Phase {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What fills the queue at first is answered later, and what stands in it at the end is worked on after it. They make up for each
    /// other where it is as full when counting begins as when it ends.
    fn count(&self, counter: &AtomicU64, events: u64) {
        if self.counts.load(Ordering::Relaxed) {
            counter.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// Answers that are neither an acknowledgement nor the documented way to put off, and how often each came.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        self.failures.lock().unwrap().clone()
    }

    fn fail(&self, what: impl Into<String>) {
        *self.failures.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    fn acknowledge(&self, started: Instant, places: impl IntoIterator<Item = (u64, u64)>) {
        let mut known = self.places.lock().unwrap();
        let before = known.len();
        known.extend(places);
        let new = (known.len() - before) as u64;
        drop(known);
        self.count(&self.accepted, new);
        self.accepted_us.since(started);
    }
}

/// One run on one server; events are numbered throughout.
pub struct Overload<'a> {
    server: &'a Server,
    next: Arc<AtomicU64>,
}

impl<'a> Overload<'a> {
    /// Nothing happens yet. The server has to serve metrics.
    pub fn of(server: &'a Server) -> Self {
        Self {
            server,
            next: Arc::default(),
        }
    }

    /// Lets a crowd in, and counts for some `time` what comes of it, once it has been there for `before`. Answers under way at the end
    /// are waited for and checked, and none of them is counted.
    pub async fn phase(&self, crowd: Crowd, before: Duration, time: Duration) -> Phase {
        let phase = Arc::new(Phase::default());
        let address = self.server.address();
        let mut tasks = JoinSet::new();
        let sender = |channel: Channel| Sender {
            client: SubmitServiceClient::new(channel).max_decoding_message_size(usize::MAX),
            phase: phase.clone(),
            next: self.next.clone(),
        };
        let new_sender = || sender(self.server.connection());
        for _ in 0..4 * crowd.usual {
            let channel = self.server.connection();
            for _ in 0..16 {
                tasks.spawn(sender(channel.clone()).single());
            }
        }
        for _ in 0..crowd.usual {
            tasks.spawn(new_sender().batches(256, true));
            tasks.spawn(new_sender().stream(128));
        }
        for _ in 0..crowd.giants {
            tasks.spawn(new_sender().batches(4_096, false));
        }
        for _ in 0..crowd.unread {
            tasks.spawn(new_sender().unread_stream());
        }
        for _ in 0..crowd.churn {
            tasks.spawn(churn(phase.clone(), address));
        }
        for _ in 0..crowd.half {
            tasks.spawn(half_a_request(phase.clone(), address));
        }
        for _ in 0..crowd.silent {
            tasks.spawn(silence(phase.clone(), address));
        }
        let asks = |health: fn(&Phase) -> &Health, address| {
            let phase = phase.clone();
            task::spawn_blocking(move || health(&phase).ask_until(|| phase.is_over(), address))
        };
        let asks = [
            asks(|phase| &phase.health, address),
            asks(|phase| &phase.probe, self.server.metrics_address()),
        ];
        sleep(before).await;
        let (started, cpu_before) = (Instant::now(), self.server.cpu_time());
        phase.counts.store(true, Ordering::Relaxed);
        sleep(time).await;
        phase.counts.store(false, Ordering::Relaxed);
        // Where all have much to do it may be more than was asked for.
        let (time, cpu) = (started.elapsed(), self.server.cpu_time() - cpu_before);
        phase.stop.store(true, Ordering::Relaxed);
        let ended = timeout(PATIENCE, async {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        if ended.await.is_err() {
            phase.fail("some calls were never answered");
            tasks.shutdown().await;
        }
        for asks in asks {
            asks.await.unwrap();
        }
        let phase = Arc::into_inner(phase).expect("nobody sends any more");
        Phase { time, cpu, ..phase }
    }

    /// Sends everything that was acknowledged again: each has to be known, and in its place. Returns the first that are not.
    pub async fn lost(&self, phase: &Phase) -> Vec<String> {
        let mut client = self.server.submitter();
        let mut lost = Vec::new();
        let places = phase.places.lock().unwrap().clone();
        for chunk in places.chunks(1_024) {
            let request = SubmitBatchRequest {
                log: String::new(),
                events: chunk.iter().map(|(number, _)| numbered(*number)).collect(),
            };
            let answer = client.submit_batch(request).await.unwrap().into_inner();
            for (result, (number, place)) in answer.results.into_iter().zip(chunk) {
                let is_there = matches!(&result.outcome,
                    Some(Outcome::Accepted(known)) if known.leaf_index == *place && known.duplicate);
                if !is_there && lost.len() < 10 {
                    lost.push(format!(
                        "event {number} was acknowledged as entry {place}: {result:?}"
                    ));
                }
            }
        }
        lost
    }
}

struct Sender {
    client: SubmitServiceClient<Channel>,
    phase: Arc<Phase>,
    next: Arc<AtomicU64>,
}

impl Sender {
    fn numbers(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    fn put_off(&self, started: Instant) {
        self.phase.count(&self.phase.put_off, 1);
        self.phase.put_off_us.since(started);
    }

    /// Waits as told, if it is one who does.
    async fn refused(&self, status: &Status, started: Instant, obeys: bool) {
        let details = status.get_error_details();
        let told = details.retry_info().and_then(|info| info.retry_delay);
        match told {
            Some(told) if status.code() == Code::ResourceExhausted && !told.is_zero() => {
                self.put_off(started);
                if obeys {
                    sleep(told).await;
                } else {
                    task::yield_now().await;
                }
            }
            _ => {
                self.phase.fail(in_words(status));
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn single(mut self) {
        while !self.phase.is_over() {
            let number = self.numbers(1).start;
            self.phase.count(&self.phase.offered, 1);
            let started = Instant::now();
            match self.client.submit(submission(numbered(number))).await {
                Ok(answer) => {
                    let receipt = answer.into_inner().receipt.unwrap();
                    self.phase.acknowledge(started, [(number, receipt.leaf_index)]);
                }
                Err(status) => self.refused(&status, started, true).await,
            }
        }
    }

    async fn batches(mut self, size: u64, obeys: bool) {
        let mut numbers = self.numbers(size);
        let mut events: Vec<_> = numbers.clone().map(numbered).collect();
        while !self.phase.is_over() {
            self.phase.count(&self.phase.offered, size);
            let request = SubmitBatchRequest {
                log: String::new(),
                // Payloads are shared, not copied.
                events: events.clone(),
            };
            let started = Instant::now();
            match self.client.submit_batch(request).await {
                Ok(answer) => {
                    let places = answer
                        .into_inner()
                        .results
                        .into_iter()
                        .map(|result| match result.outcome {
                            Some(Outcome::Accepted(accepted)) => accepted.leaf_index,
                            other => panic!("one of a batch was refused: {other:?}"),
                        });
                    self.phase.acknowledge(started, numbers.zip(places));
                    numbers = self.numbers(size);
                    events = numbers.clone().map(numbered).collect();
                }
                Err(status) => self.refused(&status, started, obeys).await,
            }
        }
    }

    /// A stream with so many events under way.
    async fn stream(mut self, under_way: usize) {
        while !self.phase.is_over() {
            let (send, requests) = mpsc::channel(under_way);
            let (phase, next) = (self.phase.clone(), self.next.clone());
            let sent = Arc::new(Mutex::new(HashMap::new()));
            let sends = sent.clone();
            let room = Arc::new(Semaphore::new(under_way));
            let places = room.clone();
            let sending = task::spawn(async move {
                while !phase.is_over() {
                    let Ok(place) = places.acquire().await else { return };
                    place.forget();
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    phase.count(&phase.offered, 1);
                    sends.lock().unwrap().insert(number, Instant::now());
                    if send.send(stream_request(number)).await.is_err() {
                        return;
                    }
                }
            });
            let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
            match self.client.submit_stream(requests).await {
                Ok(answers) => self.answers(answers.into_inner(), &room, &sent).await,
                Err(status) => self.refused(&status, Instant::now(), true).await,
            }
            room.close();
            sending.abort();
            // It holds the phase.
            let _ = sending.await;
        }
    }

    async fn answers(
        &self,
        mut answers: tonic::Streaming<v1::SubmitStreamResponse>,
        room: &Semaphore,
        sent: &Mutex<HashMap<u64, Instant>>,
    ) {
        loop {
            let results = match answers.message().await {
                Ok(Some(answer)) => answer.results,
                Ok(None) if self.phase.is_over() => return,
                Ok(None) => return self.phase.fail("a stream ended by itself"),
                Err(status) => return self.refused(&status, Instant::now(), true).await,
            };
            for result in results {
                room.add_permits(1);
                let started = sent.lock().unwrap().remove(&result.sequence).unwrap();
                match result.outcome {
                    Some(Outcome::Accepted(accepted)) => {
                        self.phase
                            .acknowledge(started, [(result.sequence, accepted.leaf_index)]);
                    }
                    Some(Outcome::Refused(Refused { reason, .. })) if reason == Reason::QueueFull as i32 => {
                        self.put_off(started);
                        sleep(Duration::from_millis(1)).await;
                    }
                    other => self.phase.fail(format!("{other:?}")),
                }
            }
        }
    }

    async fn unread_stream(mut self) {
        let phase = self.phase.clone();
        let next = self.next.clone();
        let requests =
            futures_util::stream::repeat_with(move || stream_request(next.fetch_add(1, Ordering::Relaxed)));
        let _unread = self.client.submit_stream(requests).await;
        while !phase.is_over() {
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn churn(phase: Arc<Phase>, address: SocketAddr) {
    while !phase.is_over() {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let request = b"GET /logs/main/checkpoint HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(request).await;
            let _ = timeout(Duration::from_secs(5), stream.read(&mut [0; 512])).await;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn half_a_request(phase: Arc<Phase>, address: SocketAddr) {
    while !phase.is_over() {
        if let Some(mut stream) = connect(address).await {
            for piece in [
                "POST /logs/main/events HTTP/1.1\r\nhost: a\r\ncontent-",
                "length: 1000\r\n\r\n{\"id\":",
            ] {
                let _ = stream.write_all(piece.as_bytes()).await;
                sleep(Duration::from_millis(500)).await;
            }
            // Until it is closed, or the phase ends.
            while !phase.is_over() && stream.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn silence(phase: Arc<Phase>, address: SocketAddr) {
    while !phase.is_over() {
        if let Some(mut stream) = connect(address).await {
            let _ = timeout(Duration::from_secs(1), stream.read(&mut [0])).await;
        }
    }
}

/// Where that fails it does so at once: whoever comes again has to wait a little.
async fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).await.ok();
    if stream.is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    stream
}

/// With all that lies below it: of a connection that broke, the status says next to nothing. What the server itself said begins with
/// its reason.
fn in_words(status: &Status) -> String {
    let mut words = match status.get_error_details().error_info() {
        Some(info) => format!("{}: ", info.reason),
        None => String::new(),
    };
    words.push_str(&format!("{:?}: {}", status.code(), status.message()));
    let mut source = Error::source(status);
    while let Some(error) = source {
        words.push_str(&format!(": {error}"));
        source = error.source();
    }
    words
}

fn stream_request(number: u64) -> SubmitStreamRequest {
    SubmitStreamRequest {
        log: String::new(),
        sequence: number,
        event: Some(numbered(number)),
    }
}

fn numbered(number: u64) -> v1::Event {
    let mut digits = String::with_capacity(PAYLOAD_BYTES);
    let mut random = fastrand::Rng::with_seed(number);
    while digits.len() < PAYLOAD_BYTES / 2 {
        digits.push_str(&format!("{:016x}", random.u64(..)));
    }
    // As much as compresses well, as much as does not.
    let data = format!("{digits:<PAYLOAD_BYTES$}");
    event(format!("{number}"), Bytes::from(data))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn what_is_acknowledged_before_it_counts_and_after_is_no_goodput() {
        let phase = Phase::default();
        let mut numbers = 0..;
        let mut acknowledge = |count| {
            let places = numbers.by_ref().take(count).map(|number| (number, number));
            phase.acknowledge(Instant::now(), places);
        };
        acknowledge(1);
        phase.counts.store(true, Ordering::Relaxed);
        acknowledge(3);
        phase.counts.store(false, Ordering::Relaxed);
        acknowledge(5);
        assert_eq!(phase.accepted.load(Ordering::Relaxed), 3);
        assert_eq!(phase.places.lock().unwrap().len(), 9);
    }

    /// Of a server that answers at once but for the first time, when it takes a second.
    #[test]
    fn health_is_asked_for_on_a_timetable_and_late_answers_are_noticed() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let slow = Duration::from_secs(1);
        thread::spawn(move || {
            for (number, stream) in server.incoming().enumerate() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    assert!(stream.read(&mut [0; 512]).unwrap() > 0);
                    if number == 0 {
                        thread::sleep(slow);
                    }
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                });
            }
        });
        let health = Health::default();
        let started = Instant::now();
        health.ask_until(|| started.elapsed() >= slow, address);
        assert_eq!(health.unanswered.load(Ordering::Relaxed), 0);
        // Others were asked meanwhile.
        assert!(health.answered_us.times() > 1);
        assert!(health.unanswered_within(slow / 2) >= 1);
        assert_eq!(health.unanswered_within(PATIENCE), 0);
    }
}
