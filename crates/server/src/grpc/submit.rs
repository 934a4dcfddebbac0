//! The service that writes.

use std::{pin::Pin, sync::Arc};

use counterfoil_event::Event;
use counterfoil_log::{Log, MAX_CALL_EVENTS};
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
    access::{Caller, Submitting},
    intake::{Group, Placed},
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
        let (head, mut results) = group(&log, &submitter, vec![request.event]).await.settled().await;
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
        let events = events.into_iter().map(Some).collect();
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        let (head, results) = group(&log, &submitter, events).await.settled().await;
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
    submitter: Submitting,
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
                Some(response) = under_way.next(), if !under_way.is_empty() => {
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
                        Ok(Some((sequences, group))) => under_way.push_back(answered(sequences, group)),
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
    async fn group(&mut self, messages: Messages) -> Result<Option<(Vec<u64>, Group)>, Refusal> {
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
        let (sequences, events) = messages
            .into_iter()
            .map(|message| (message.sequence, message.event))
            .unzip();
        Ok(Some((sequences, group(log, submitter, events).await)))
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

async fn group(log: &Log, submitter: &Submitting, events: Vec<Option<v1::Event>>) -> Group {
    let bytes = events.iter().flatten().map(|event| event.data.len()).sum();
    let events = events.into_iter().map(|event| {
        let event = event.ok_or_else(Refusal::missing_event)?;
        Ok(Event::try_from(event)?)
    });
    Group::new(log, submitter, bytes, events).await
}

/// A result for each event of a group, also if the log took none.
async fn answered(sequences: Vec<u64>, group: Group) -> v1::SubmitStreamResponse {
    let (head, results) = group.settled().await;
    v1::SubmitStreamResponse {
        tree_heads: head.iter().map(|head| tree_head(head)).collect(),
        results: sequences.into_iter().zip(results).map(result).collect(),
    }
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
