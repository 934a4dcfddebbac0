//! Submitting over one stream, pipelined, with a bound on what is under way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use counterfoil_event::Event;
use counterfoil_proto::v1;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::{
    Client, Error, InvalidAnswer, Unavailable,
    limits::within,
    submit::{MessageHeads, Outcome, check_head_count},
};

/// Most payload bytes under way on one stream, unless a single event has more.
const MAX_BYTES_IN_FLIGHT: u32 = 64 << 20;
/// Requests that wait between the sender and the connection.
const SEND_AHEAD: usize = 32;

/// Sends events down a stream. Dropping it ends the stream once all results are in.
pub struct SubmitSender {
    log: String,
    sequence: u64,
    requests: mpsc::Sender<v1::SubmitStreamRequest>,
    pending: mpsc::Sender<Pending>,
    bytes: Arc<Semaphore>,
}

/// The results of a stream, in the order in which the events were sent.
pub struct SubmitResults {
    client: Client,
    incoming: Incoming,
    /// The heads of the message that the results at hand came with.
    heads: MessageHeads,
}

/// Results as they come, unchecked but for their order.
pub(crate) struct Incoming {
    responses: Responses,
    pending: mpsc::Receiver<Pending>,
    /// The first of those, whose result is next.
    due: Option<Pending>,
    /// How long to wait for a result that is due.
    timeout: Duration,
    /// What is left of the last message.
    results: std::vec::IntoIter<v1::SubmitResult>,
}

enum Responses {
    /// One task, which ends with the set: nobody else waits for a server that never answers.
    Opening(JoinSet<Result<Response<Streaming<v1::SubmitStreamResponse>>, Status>>),
    Open(Box<Streaming<v1::SubmitStreamResponse>>),
}

struct Pending {
    sequence: u64,
    event: Event,
    _bytes: OwnedSemaphorePermit,
}

impl Client {
    /// Opens a stream with at most `in_flight` events under way. Send and receive from different tasks: a full stream
    /// makes the sender wait until a result is taken.
    pub fn submit_stream(&self, in_flight: usize) -> (SubmitSender, SubmitResults) {
        let (sender, incoming) = self.open_stream(in_flight);
        (
            sender,
            SubmitResults {
                client: self.clone(),
                incoming,
                heads: MessageHeads::default(),
            },
        )
    }

    pub(crate) fn open_stream(&self, in_flight: usize) -> (SubmitSender, Incoming) {
        let (requests, outgoing) = mpsc::channel(SEND_AHEAD);
        let (pending, awaited) = mpsc::channel(in_flight.max(1));
        let mut submits = self.submits();
        // A server may begin to answer only when it has read the first event, so nobody waits here.
        let mut opening = JoinSet::new();
        opening.spawn(async move { submits.submit_stream(ReceiverStream::new(outgoing)).await });
        let sender = SubmitSender {
            log: self.log(),
            sequence: 0,
            requests,
            pending,
            bytes: Arc::new(Semaphore::new(MAX_BYTES_IN_FLIGHT as usize)),
        };
        let responses = Responses::Opening(opening);
        (
            sender,
            Incoming {
                responses,
                pending: awaited,
                due: None,
                timeout: self.timeouts().call,
                results: Vec::new().into_iter(),
            },
        )
    }
}

impl SubmitSender {
    /// Sends an event, when there is room. Returns its sequence number, counted from 0. Nothing is sent if the future is dropped
    /// before.
    ///
    /// Fails once the stream is broken; [`SubmitResults::next`] says why.
    pub async fn send(&mut self, event: Event) -> Result<u64, Unavailable> {
        let broken = || Unavailable::new("the stream has ended");
        let sequence = self.sequence;
        let request = v1::SubmitStreamRequest {
            // The first message says it for all.
            log: if sequence == 0 {
                self.log.clone()
            } else {
                String::new()
            },
            sequence,
            event: Some((&event).into()),
        };
        let weight = weight(event.data());
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(weight)
            .await
            .map_err(|_| broken())?;
        let pending = self.pending.reserve().await.map_err(|_| broken())?;
        let room = self.requests.reserve().await;
        // Without a pause from here on, or it could end with the one and without the other. First what is expected, then what it is
        // expected for: no result can come unexpected.
        pending.send(Pending {
            sequence,
            event,
            _bytes: bytes,
        });
        room.map_err(|_| broken())?.send(request);
        self.sequence += 1;
        Ok(sequence)
    }
}

fn weight(data: &Bytes) -> u32 {
    u32::try_from(data.len())
        .unwrap_or(u32::MAX)
        .min(MAX_BYTES_IN_FLIGHT)
}

impl SubmitResults {
    /// The next event and what became of it. None after the last one, once the sender is gone. Nothing is lost if the future is
    /// dropped.
    ///
    /// An error ends the stream: events without a result may or may not be on record, and can be sent again.
    pub async fn next(&mut self) -> Result<Option<(Event, Outcome)>, Error> {
        self.client.link_if_many().await?;
        let Some((event, result, heads)) = self.incoming.next().await? else {
            return Ok(None);
        };
        if let Some(heads) = heads {
            self.heads = MessageHeads::verify(&self.client, heads)?;
        }
        let outcome = self.heads.check(result, &event)?;
        if let Ok(submitted) = &outcome {
            self.client.learn_from(submitted);
        }
        Ok(Some((event, outcome)))
    }
}

impl Incoming {
    /// The next event and its result. With the first result of a message come the heads of that message.
    pub(crate) async fn next(
        &mut self,
    ) -> Result<Option<(Event, v1::SubmitResult, Option<Vec<v1::TreeHead>>)>, Error> {
        if self.due.is_none() {
            self.due = self.pending.recv().await;
        }
        if self.due.is_none() {
            return Ok(None);
        }
        let (result, heads) = match self.results.next() {
            Some(result) => (result, None),
            None => {
                let (result, heads) = within(self.timeout, "result", self.receive()).await?;
                (result, Some(heads))
            }
        };
        let Some(Pending { sequence, event, .. }) = self.due.take() else {
            return Ok(None);
        };
        if result.sequence != sequence {
            let problem = format!(
                "a result for event {} of the stream where {sequence} was due",
                result.sequence
            );
            return Err(InvalidAnswer::new(problem).into());
        }
        Ok(Some((event, result, heads)))
    }

    /// Takes the next message that has results; returns the first of them, and the heads.
    async fn receive(&mut self) -> Result<(v1::SubmitResult, Vec<v1::TreeHead>), Error> {
        loop {
            let message =
                self.responses.message().await?.ok_or_else(|| {
                    Unavailable::new("the server ended the stream before all results were in")
                })?;
            // The first is for the event at hand, the others for those behind it.
            let due = 1 + self.pending.len();
            if message.results.len() > due {
                let problem = format!("{} results where at most {due} were due", message.results.len());
                return Err(InvalidAnswer::new(problem).into());
            }
            check_head_count(&message.tree_heads, message.results.len())?;
            self.results = message.results.into_iter();
            if let Some(result) = self.results.next() {
                return Ok((result, message.tree_heads));
            }
        }
    }
}

impl Responses {
    async fn message(&mut self) -> Result<Option<v1::SubmitStreamResponse>, Error> {
        loop {
            match self {
                Self::Open(stream) => return Ok(stream.message().await?),
                Self::Opening(opening) => {
                    let opened = opening.join_next().await.and_then(Result::ok);
                    let opened = opened.ok_or_else(|| Unavailable::new("the client is stopping"))?;
                    *self = Self::Open(Box::new(opened?.into_inner()));
                }
            }
        }
    }
}
