//! The service that writes.

use std::{pin::Pin, sync::Arc};

use counterfoil_event::{self as event, Event};
use counterfoil_log::{Log, MAX_CALL_EVENTS, Outcome, PreparedEvent, ProvenLeaf, SubmitError, Submitted};
use counterfoil_proto::{
    proof_field,
    v1::{self, submit_result, submit_service_server::SubmitService},
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, watch},
    task,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Logs, Refusal, caller, find_log, receipt, tree_head};
use crate::{
    access::Caller,
    intake::{self, INLINE_BYTES},
};

/// Requests of a stream that enter the log side by side, if they have arrived.
const STREAM_GROUP_EVENTS: usize = 256;
/// Groups of one stream under way; more are not read from the connection.
const STREAM_GROUPS: usize = 16;
/// Responses of one stream that its client has yet to read.
const STREAM_RESPONSES: usize = 16;

/// Serves `counterfoil.v1.SubmitService`.
pub(crate) struct Submitter {
    logs: Logs,
    stopping: watch::Receiver<bool>,
}

impl Submitter {
    pub(crate) fn new(logs: Logs, stopping: watch::Receiver<bool>) -> Self {
        Self { logs, stopping }
    }
}

#[tonic::async_trait]
impl SubmitService for Submitter {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        let group = Group::new(&log, vec![(0, request.event)], &submitter);
        if let Some(refusal) = group.refusals().next() {
            return Err(refusal.clone().into());
        }
        let Submitted { head, mut outcomes } = group.submitted.await.map_err(Refusal::from)?;
        let (leaf, duplicate) = match outcomes.pop() {
            Some(Outcome::Recorded(leaf)) => (leaf, false),
            Some(Outcome::Duplicate(leaf)) => (leaf, true),
            Some(Outcome::Conflict { existing }) => return Err(Refusal::conflict(existing).into()),
            None => return Err(Status::internal("the log did not answer for the event")),
        };
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(receipt(&head, leaf)),
            duplicate,
        }))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        let caller = caller(request.extensions());
        let v1::SubmitBatchRequest { log, events } = request.into_inner();
        let log = find_log(&self.logs, &log, &caller)?;
        if events.len() > MAX_CALL_EVENTS {
            let problem = format!(
                "has {} events; a batch has {MAX_CALL_EVENTS} at most",
                events.len()
            );
            return Err(Refusal::invalid_request("events", problem).into());
        }
        let events = (0..)
            .zip(events)
            .map(|(place, event)| (place, Some(event)))
            .collect();
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        let (tree_heads, results) = Group::new(&log, events, &submitter)
            .results()
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(v1::SubmitBatchResponse { tree_heads, results }))
    }

    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<v1::SubmitStreamResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let (responses, received) = mpsc::channel(STREAM_RESPONSES);
        let stream = SubmitStream {
            logs: self.logs.clone(),
            caller: caller(request.extensions()),
            log: None,
            responses,
        };
        task::spawn(stream.run(request.into_inner(), self.stopping.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(received))))
    }
}

/// The log of a stream.
struct NamedLog {
    /// As the client spells it.
    name: String,
    log: Arc<Log>,
    submitter: event::Submitter,
}

/// One call of `SubmitStream`.
struct SubmitStream {
    logs: Logs,
    caller: Caller,
    /// Once the first message named it.
    log: Option<NamedLog>,
    responses: mpsc::Sender<Result<v1::SubmitStreamResponse, Status>>,
}

impl SubmitStream {
    /// Takes requests as they come and answers in their order. A client that reads no answers is read no further.
    async fn run(
        mut self,
        requests: Streaming<v1::SubmitStreamRequest>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) }.shared();
        let mut requests = requests.ready_chunks(STREAM_GROUP_EVENTS).take_until(stopped);
        let mut under_way = FuturesOrdered::new();
        let mut ended = None;
        loop {
            tokio::select! {
                biased;
                Some((tree_heads, results)) = under_way.next(), if !under_way.is_empty() => {
                    let response = v1::SubmitStreamResponse { tree_heads, results };
                    if self.responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                chunk = requests.next(), if ended.is_none() && under_way.len() < STREAM_GROUPS => {
                    let (messages, end) = match chunk {
                        None => (Vec::new(), Some(Ok(()))),
                        Some(chunk) => split_at_error(chunk),
                    };
                    match self.group(messages).await {
                        Ok(Some(group)) => under_way.push_back(group.results_each()),
                        Ok(None) => {}
                        Err(refusal) => ended = Some(Err(refusal.into())),
                    }
                    ended = ended.or(end);
                }
                else => break,
            }
        }
        if let Some(Err(status)) = ended {
            let _ = self.responses.send(Err(status)).await;
        }
    }

    /// What arrived together enters the log together. `None` if nothing did.
    async fn group(&mut self, messages: Vec<v1::SubmitStreamRequest>) -> Result<Option<Group>, Refusal> {
        let Some(first) = messages.first() else {
            return Ok(None);
        };
        let NamedLog { name, log, submitter } = match &mut self.log {
            Some(named) => {
                // The stream may outlive what the caller was let in with.
                self.caller.require(named.log.name())?;
                named
            }
            none => {
                let log = find_log(&self.logs, &first.log, &self.caller)?;
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
        let events = messages
            .into_iter()
            .map(|message| (message.sequence, message.event))
            .collect();
        Ok(Some(Group::new(log, events, submitter)))
    }
}

type Messages = Vec<v1::SubmitStreamRequest>;

/// The messages before an error, and the error.
fn split_at_error(
    chunk: Vec<Result<v1::SubmitStreamRequest, Status>>,
) -> (Messages, Option<Result<(), Status>>) {
    let mut messages = Vec::with_capacity(chunk.len());
    for message in chunk {
        match message {
            Ok(message) => messages.push(message),
            Err(status) => return (messages, Some(Err(status))),
        }
    }
    (messages, None)
}

type SubmittedFuture = Pin<Box<dyn Future<Output = Result<Submitted, SubmitError>> + Send>>;

/// Events that entered the log side by side. They did so when it was made: groups keep their order.
struct Group {
    /// Each event's sequence number, and why it was refused before it reached the log.
    items: Vec<(u64, Option<Refusal>)>,
    /// The fate of the others.
    submitted: SubmittedFuture,
}

impl Group {
    fn new(log: &Log, events: Vec<(u64, Option<v1::Event>)>, submitter: &event::Submitter) -> Self {
        let bytes: usize = events
            .iter()
            .map(|(_, event)| event.as_ref().map_or(0, |event| event.data.len()))
            .sum();
        let (items, prepared) = if bytes > INLINE_BYTES {
            task::block_in_place(|| prepare(log, events, submitter))
        } else {
            prepare(log, events, submitter)
        };
        let submitted: SubmittedFuture = if prepared.is_empty() {
            let head = log.commit_head();
            Box::pin(async {
                Ok(Submitted {
                    head,
                    outcomes: Vec::new(),
                })
            })
        } else {
            Box::pin(log.submit(prepared))
        };
        Self { items, submitted }
    }

    fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.items.iter().filter_map(|(_, refusal)| refusal.as_ref())
    }

    /// A result for each event. If the log took none, that is an error of all.
    async fn results(self) -> Result<(Vec<v1::TreeHead>, Vec<v1::SubmitResult>), SubmitError> {
        let Submitted { head, outcomes } = self.submitted.await?;
        let mut outcomes = outcomes.into_iter();
        let results = self
            .items
            .into_iter()
            .map(|(sequence, refusal)| {
                let outcome = match refusal {
                    Some(refusal) => submit_result::Outcome::Refused(refusal.into()),
                    None => outcome(outcomes.next().expect("the log answers for each event")),
                };
                v1::SubmitResult {
                    sequence,
                    outcome: Some(outcome),
                }
            })
            .collect();
        Ok((vec![tree_head(&head)], results))
    }

    /// A result for each event, also if the log took none.
    async fn results_each(self) -> (Vec<v1::TreeHead>, Vec<v1::SubmitResult>) {
        let items = self.items.clone();
        self.results().await.unwrap_or_else(|error| {
            let refuse = |(sequence, refusal): (u64, Option<Refusal>)| {
                let refusal = refusal.unwrap_or_else(|| error.clone().into());
                v1::SubmitResult {
                    sequence,
                    outcome: Some(submit_result::Outcome::Refused(refusal.into())),
                }
            };
            (Vec::new(), items.into_iter().map(refuse).collect())
        })
    }
}

fn prepare(
    log: &Log,
    events: Vec<(u64, Option<v1::Event>)>,
    submitter: &event::Submitter,
) -> (Vec<(u64, Option<Refusal>)>, Vec<PreparedEvent>) {
    let mut prepared = Vec::with_capacity(events.len());
    let items = events
        .into_iter()
        .map(|(sequence, event)| {
            let event = event
                .ok_or_else(Refusal::missing_event)
                .and_then(|event| Ok(Event::try_from(event)?))
                .and_then(|event| intake::prepare(log, event, submitter));
            (sequence, event.map(|event| prepared.push(event)).err())
        })
        .collect();
    (items, prepared)
}

fn outcome(outcome: Outcome) -> submit_result::Outcome {
    match outcome {
        Outcome::Recorded(leaf) => submit_result::Outcome::Accepted(accepted(leaf, false)),
        Outcome::Duplicate(leaf) => submit_result::Outcome::Accepted(accepted(leaf, true)),
        Outcome::Conflict { existing } => submit_result::Outcome::Refused(Refusal::conflict(existing).into()),
    }
}

fn accepted(leaf: ProvenLeaf, duplicate: bool) -> v1::Accepted {
    v1::Accepted {
        leaf_index: leaf.index.get(),
        entry: leaf.entry.into(),
        salt: bytes::Bytes::copy_from_slice(leaf.salt.as_bytes()),
        inclusion_proof: proof_field(&leaf.inclusion_proof),
        tree_head_place: 0,
        duplicate,
    }
}
