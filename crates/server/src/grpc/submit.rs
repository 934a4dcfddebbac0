//! The service that writes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use counterfoil_event::Event;
use counterfoil_log::{Log, MAX_CALL_EVENTS};
use counterfoil_proto::{
    proof_field,
    v1::{self, submit_result, submit_service_server::SubmitService},
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::FuturesOrdered};
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{receipt, tree_head};
use crate::{
    access::{Caller, Submitting},
    intake::{Group, Load, Placed},
    logs::{Logs, find_log},
    refusal::Refusal,
};

/// Requests of a stream that enter the log side by side, if they have arrived.
const STREAM_GROUP_EVENTS: usize = 256;
/// Groups of one stream under way; more are not read from the connection.
const STREAM_GROUPS: usize = 16;
/// Bytes of requests after which no more are added to a group.
const STREAM_GROUP_BYTES: usize = 256 * 1024;
/// Events of all streams whose results are not read yet, or not there. Each takes one or two KiB. While there are so many, every
/// stream has one small group under way.
const STREAM_EVENTS: usize = 64 * 1024;
/// Events in such a group.
const SMALL_GROUP_EVENTS: usize = 16;
/// A client that takes none of its results for so long has its stream cut off. It may send the events again.
const UNREAD_PATIENCE: Duration = Duration::from_secs(30);

/// Serves `counterfoil.v1.SubmitService`.
pub(crate) struct Submitter {
    logs: Logs,
    stopping: watch::Receiver<bool>,
    stream_events: Arc<Semaphore>,
}

impl Submitter {
    pub(crate) fn new(logs: Logs, stopping: watch::Receiver<bool>) -> Self {
        Self {
            logs,
            stopping,
            stream_events: Arc::new(Semaphore::new(STREAM_EVENTS)),
        }
    }
}

#[tonic::async_trait]
impl SubmitService for Submitter {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let events = vec![request.event];
        let load = load(&caller, &log, &events);
        load.admit(&log)?;
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        let (head, mut results) = group(&log, &submitter, load, events).await.settled().await;
        let Placed { leaf, duplicate } = results.pop().expect("one event has one result")?;
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(receipt(&*head?, leaf)),
            duplicate,
        }))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let v1::SubmitBatchRequest { log, events } = request.into_inner();
        let log = find_log(&self.logs, &log, &caller)?;
        if events.len() > MAX_CALL_EVENTS {
            let problem = format!(
                "has {} events; a batch has {MAX_CALL_EVENTS} at most",
                events.len()
            );
            return Err(Refusal::invalid_request("events", problem).into());
        }
        let events: Vec<_> = events.into_iter().map(Some).collect();
        let load = load(&caller, &log, &events);
        load.admit(&log)?;
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        let (head, results) = group(&log, &submitter, load, events).await.settled().await;
        Ok(Response::new(v1::SubmitBatchResponse {
            tree_heads: vec![tree_head(&*head?)],
            results: (0..).zip(results).map(result).collect(),
        }))
    }

    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<v1::SubmitStreamResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let (responses, received) = mpsc::channel(1);
        let stream = SubmitStream {
            logs: self.logs.clone(),
            caller: Caller::of(request.extensions()),
            log: None,
            events: self.stream_events.clone(),
        };
        task::spawn(stream.run(request.into_inner(), responses, self.stopping.clone()));
        let responses = ReceiverStream::new(received).map(|response| response?.take().ok_or_else(too_late));
        Ok(Response::new(Box::pin(responses)))
    }
}

/// The log of a stream.
struct NamedLog {
    /// As the client spells it.
    name: String,
    log: Arc<Log>,
    submitter: Submitting,
}

/// One call of `SubmitStream`.
struct SubmitStream {
    logs: Logs,
    caller: Caller,
    /// Once the first message named it.
    log: Option<NamedLog>,
    /// Room for events, of all streams.
    events: Arc<Semaphore>,
}

impl SubmitStream {
    /// Takes requests as they come and answers in their order. A client that reads no answers is read no further.
    ///
    /// `responses` holds one at a time, so it has room when the one before is on its way to the client.
    async fn run(
        mut self,
        requests: Streaming<v1::SubmitStreamRequest>,
        responses: mpsc::Sender<Result<Answered, Status>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) }.shared();
        let mut requests = requests.take_until(stopped);
        let mut under_way = FuturesOrdered::new();
        let mut ended = None;
        let mut unread: Option<Answered> = None;
        let mut deadline = Instant::now();
        loop {
            let is_idle = under_way.is_empty() && unread.is_none();
            let has_room = self.events.available_permits() >= STREAM_GROUP_EVENTS;
            let may_begin = is_idle || (has_room && under_way.len() < STREAM_GROUPS);
            tokio::select! {
                biased;
                room = timeout_at(deadline, responses.reserve()), if unread.is_some() => {
                    let unread = unread.take();
                    if !matches!(room, Ok(Ok(_))) {
                        // The stream may stay open for as long as its client likes.
                        drop(unread.and_then(|unread| unread.take()));
                        return;
                    }
                }
                Some(answered) = under_way.next(), if unread.is_none() && !under_way.is_empty() => {
                    // It panicked, or the runtime is on its way out.
                    let Ok(answered) = answered else { return };
                    let response = unread.insert(answered);
                    deadline = Instant::now() + UNREAD_PATIENCE;
                    if responses.try_send(Ok(response.clone())).is_err() {
                        return;
                    }
                }
                arrived = next_messages(&mut requests, &self.events), if may_begin && ended.is_none() => {
                    match self.groups(arrived.messages, arrived.room).await {
                        // In tasks of their own: known events take room in the queue until they are compared.
                        Ok(groups) => {
                            under_way.extend(groups.into_iter().map(|group| task::spawn(group.answered())));
                        }
                        Err(refusal) => ended = Some(Err(refusal.into())),
                    }
                    ended = ended.or(arrived.end);
                }
                else => break,
            }
        }
        if let Some(Err(status)) = ended {
            let _ = responses.try_send(Err(status));
        }
    }

    /// What arrived together enters the log together. Where the search for who signed it is too long for one call, it does so in
    /// parts: whether an event is taken must not depend on what came at the same time.
    async fn groups(
        &mut self,
        messages: Vec<v1::SubmitStreamRequest>,
        mut room: Option<OwnedSemaphorePermit>,
    ) -> Result<Vec<StreamGroup>, Refusal> {
        let Some(first) = messages.first() else {
            return Ok(Vec::new());
        };
        let NamedLog { name, log, submitter } = match &mut self.log {
            Some(named) => {
                // The stream may outlive what the caller was let in with.
                self.caller.renew(&mut named.submitter, named.log.name())?;
                named
            }
            none => {
                let log = find_log(&self.logs, &first.log, &self.caller)?;
                // Whether there is room or not: events that find none may be sent again on this stream.
                let submitter = self.caller.submitter(&log).await?;
                none.insert(NamedLog {
                    name: first.log.clone(),
                    log,
                    submitter,
                })
            }
        };
        if messages
            .iter()
            .any(|message| !message.log.is_empty() && message.log != *name)
        {
            return Err(Refusal::invalid_request(
                "log",
                "differs from that of the stream's first message",
            ));
        }
        let (mut sequences, mut events): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .map(|message| (message.sequence, message.event))
            .unzip();
        let loads: Vec<_> = loads(&self.caller, log, &events).collect();
        let mut loads = loads.as_slice();
        let mut groups = Vec::new();
        while !events.is_empty() {
            let (count, load) = Load::of_first(loads);
            let later = (sequences.split_off(count), events.split_off(count));
            groups.push(StreamGroup {
                sequences,
                group: group(log, submitter, load, events).await,
                room: room.as_mut().and_then(|room| room.split(count)),
            });
            (sequences, events) = later;
            loads = &loads[count..];
        }
        Ok(groups)
    }
}

/// Events of a stream that arrived together.
struct StreamGroup {
    sequences: Vec<u64>,
    group: Group,
    room: Option<OwnedSemaphorePermit>,
}

impl StreamGroup {
    /// A result for each event, also if the log took none.
    async fn answered(self) -> Answered {
        let (head, results) = self.group.settled().await;
        let response = v1::SubmitStreamResponse {
            tree_heads: head.iter().map(|head| tree_head(head)).collect(),
            results: self.sequences.into_iter().zip(results).map(result).collect(),
        };
        Answered(Arc::new(Mutex::new(Some((response, self.room)))))
    }
}

/// What a group comes to, and the room that it takes, until its client takes it or is too late. The stream's task, which takes it
/// back, and the body of the answer share it.
#[derive(Clone)]
struct Answered(Arc<Mutex<Option<Kept>>>);

type Kept = (v1::SubmitStreamResponse, Option<OwnedSemaphorePermit>);

impl Answered {
    fn take(&self) -> Option<v1::SubmitStreamResponse> {
        let (response, _room) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(response)
    }
}

fn too_late() -> Status {
    let seconds = UNREAD_PATIENCE.as_secs();
    Status::deadline_exceeded(format!(
        "results were not read within {seconds} s; events without one may be on record, and may be sent again"
    ))
}

/// What has arrived of a stream.
struct Arrived {
    messages: Vec<v1::SubmitStreamRequest>,
    /// For so many results, if there is any.
    room: Option<OwnedSemaphorePermit>,
    /// How the stream ended, if it did.
    end: Option<Result<(), Status>>,
}

/// Waits for a message, and takes what has arrived with it: as many as there is room for among `events`, or a few.
async fn next_messages(
    requests: &mut (impl Stream<Item = Result<v1::SubmitStreamRequest, Status>> + Unpin),
    events: &Arc<Semaphore>,
) -> Arrived {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let mut next = requests.next().await;
    // Not before: while this one waits, others may take all there is.
    let room = room_for(events, STREAM_GROUP_EVENTS);
    let most = match room {
        Some(_) => STREAM_GROUP_EVENTS,
        None => SMALL_GROUP_EVENTS,
    };
    let end = loop {
        match next {
            None => break Some(Ok(())),
            Some(Err(status)) => break Some(Err(status)),
            Some(Ok(message)) => {
                bytes += message.encoded_len();
                messages.push(message);
            }
        }
        if messages.len() >= most || bytes >= STREAM_GROUP_BYTES {
            break None;
        }
        match requests.next().now_or_never() {
            Some(arrived) => next = arrived,
            None => break None,
        }
    };
    let room = match room {
        Some(mut room) => room.split(messages.len()),
        None => room_for(events, messages.len()),
    };
    Arrived { messages, room, end }
}

fn room_for(events: &Arc<Semaphore>, count: usize) -> Option<OwnedSemaphorePermit> {
    let count = u32::try_from(count).expect("a group is small");
    events.clone().try_acquire_many_owned(count).ok()
}

fn load(caller: &Caller, log: &Log, events: &[Option<v1::Event>]) -> Load {
    loads(caller, log, events).sum()
}

fn loads(caller: &Caller, log: &Log, events: &[Option<v1::Event>]) -> impl Iterator<Item = Load> {
    events.iter().map(move |event| match event {
        Some(event) => Load {
            events: 1,
            // In memory: extensions of nothing take two bytes on the way here.
            bytes: event.encoded_len() + size_of_val(event) + size_of_val(event.extensions.as_slice()),
            search_bytes: caller.search_bytes(log.name(), &event.data_content_type, &event.data),
        },
        None => Load::REFUSED,
    })
}

async fn group(log: &Log, submitter: &Submitting, load: Load, events: Vec<Option<v1::Event>>) -> Group {
    let events = events.into_iter().map(|event| {
        let event = event.ok_or_else(Refusal::missing_event)?;
        Ok(Event::try_from(event)?)
    });
    Group::new(log, submitter, load, events).await
}

fn result((sequence, result): (u64, Result<Placed, Refusal>)) -> v1::SubmitResult {
    let outcome = match result {
        Ok(placed) => submit_result::Outcome::Accepted(accepted(placed)),
        Err(refusal) => submit_result::Outcome::Refused(refusal.into()),
    };
    v1::SubmitResult {
        sequence,
        outcome: Some(outcome),
    }
}

fn accepted(Placed { leaf, duplicate }: Placed) -> v1::Accepted {
    v1::Accepted {
        leaf_index: leaf.index.get(),
        entry: leaf.entry.into(),
        salt: bytes::Bytes::copy_from_slice(leaf.salt.as_bytes()),
        inclusion_proof: proof_field(&leaf.inclusion_proof),
        tree_head_place: 0,
        duplicate,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::{Router, body::Body, http};
    use counterfoil_log::{DataDirectory, LogName, LogOptions, create_log};
    use counterfoil_merkle::Suite;
    use counterfoil_proto::v1::submit_service_server::SubmitServiceServer;
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use tokio::time::sleep;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::{Code, service::Routes};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        access::{Access, Settings},
        deliveries::Deliveries,
        metrics::Metrics,
    };

    #[tokio::test]
    async fn a_group_is_as_large_as_there_is_room_when_it_comes() {
        let events = Arc::new(Semaphore::new(STREAM_EVENTS));
        let message = || Ok(v1::SubmitStreamRequest::default());
        let (sender, received) = mpsc::unbounded_channel();
        let mut requests = UnboundedReceiverStream::new(received);
        // It waits while there is room, of which others take all.
        let mut waiting = Box::pin(next_messages(&mut requests, &events));
        assert!(waiting.as_mut().now_or_never().is_none());
        let others = room_for(&events, STREAM_EVENTS).unwrap();
        for _ in 0..2 * SMALL_GROUP_EVENTS {
            sender.send(message()).unwrap();
        }
        let arrived = waiting.await;
        assert_eq!(arrived.messages.len(), SMALL_GROUP_EVENTS);
        assert!(arrived.room.is_none() && arrived.end.is_none());

        // Where there is some, a group takes no more of it than it has events.
        drop(others);
        let mut requests = stream::repeat_with(message).take(STREAM_GROUP_EVENTS + 1);
        for (count, has_ended) in [(STREAM_GROUP_EVENTS, false), (1, true)] {
            let arrived = next_messages(&mut requests, &events).await;
            assert_eq!(
                (arrived.messages.len(), arrived.end.is_some()),
                (count, has_ended)
            );
            assert_eq!(events.available_permits(), STREAM_EVENTS - count);
        }
        assert_eq!(events.available_permits(), STREAM_EVENTS);
    }

    #[tokio::test(start_paused = true)]
    async fn results_that_nobody_reads_are_given_up_and_the_client_is_told() {
        const SECOND: Duration = Duration::from_secs(1);
        let directory = tempfile::tempdir().unwrap();
        let (data, name) = (DataDirectory::new(directory.path()), LogName::default());
        create_log(&data, &name, &"test.example/main".parse().unwrap(), Suite::Blake3).unwrap();
        let log = Log::open(&data, &name, LogOptions::default()).unwrap();
        let logs = Arc::new(BTreeMap::from([(name, Arc::new(log))]));
        let settings = Settings::start(directory.path()).unwrap();
        let access = Access::start(settings, directory.path(), &logs, &Metrics::new())
            .await
            .unwrap();
        let (_stop, stopping) = watch::channel(false);
        let service = SubmitServiceServer::new(Submitter::new(logs, stopping));
        let router = Routes::from(Router::new())
            .add_service(service)
            .into_axum_router();
        let router = access.guard(router, Deliveries::default());

        // Without an event it is refused, which is a result.
        let message = v1::SubmitStreamRequest {
            sequence: 7,
            ..v1::SubmitStreamRequest::default()
        }
        .encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[0][..], &length, &message].concat();
        for (unread, code) in [
            (UNREAD_PATIENCE - SECOND, Code::Ok),
            (UNREAD_PATIENCE + SECOND, Code::DeadlineExceeded),
        ] {
            let call = http::Request::post("/counterfoil.v1.SubmitService/SubmitStream")
                .header("content-type", "application/grpc")
                .body(Body::from(message.clone()))
                .unwrap();
            let answer = router.clone().oneshot(call).await.unwrap();
            sleep(unread).await;
            let answer = answer.into_body().collect().await.unwrap();
            let status = Status::from_header_map(answer.trailers().unwrap()).unwrap();
            assert_eq!(status.code(), code, "{status:?}");
            assert_eq!(answer.to_bytes().is_empty(), code != Code::Ok);
        }
    }
}
