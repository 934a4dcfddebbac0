//! Messages on their way in: of bounded memory however many peers send, and none for ever.
//!
//! tonic gathers a message until it is complete, up to its limit, for as long as it takes. What is counted here is what is
//! gathered, over all connections; a message that is complete is counted elsewhere, by the queue that it goes to.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::Status;

use crate::refusal::Refusal;

/// Memory for parts of messages of usual size.
const SMALL_BUDGET_BYTES: usize = 64 << 20;
/// Memory for parts of longer messages.
const LARGE_BUDGET_BYTES: usize = 192 << 20;
/// The longest message of usual size. They have a budget of their own, so that senders of long ones do not keep them out.
const SMALL_BYTES: usize = 256 << 10;
/// Memory for parts of what asks for no right.
const QUESTIONS_BUDGET_BYTES: usize = 1 << 20;
/// How long the one message of a call may take to arrive, or one of a stream's once it began.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(60);
/// The calls that send message after message. Between two of them they may be silent.
const STREAMS: [&str; 2] = [
    "/counterfoil.v1.SubmitService/SubmitStream",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
/// What comes before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// Memory for what arrives. Clones share it.
#[derive(Clone)]
pub(crate) struct MessageBudget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl MessageBudget {
    pub(crate) fn new() -> Self {
        Self {
            small: Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)),
            large: Arc::new(Semaphore::new(LARGE_BUDGET_BYTES)),
        }
    }

    /// For calls that ask for no right: of its own, so that whoever makes them takes nothing from the others.
    pub(crate) fn of_questions() -> Self {
        let budget = Arc::new(Semaphore::new(QUESTIONS_BUDGET_BYTES));
        Self {
            small: budget.clone(),
            large: budget,
        }
    }

    /// A call of which no more arrives than there is memory for.
    pub(crate) fn limit(&self, call: Request) -> Request {
        let is_stream = STREAMS.contains(&call.uri().path());
        call.map(|body| self.body(body, is_stream))
    }

    fn body(&self, body: Body, is_stream: bool) -> Body {
        Body::new(Arriving {
            body,
            budget: self.clone(),
            part: Part::default(),
            held: None,
            is_stream,
            patience: (!is_stream).then(|| Box::pin(sleep(MESSAGE_PATIENCE))),
        })
    }
}

struct Arriving {
    body: Body,
    budget: MessageBudget,
    part: Part,
    held: Option<OwnedSemaphorePermit>,
    /// Whether messages follow one another.
    is_stream: bool,
    /// Ends when the message that has begun has to be complete; where there is one alone, the call.
    patience: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                let Some(patience) = &mut self.patience else {
                    return Poll::Pending;
                };
                ready!(patience.as_mut().poll(context));
                let seconds = MESSAGE_PATIENCE.as_secs();
                let late = format!("the message did not arrive within {seconds} s");
                return Poll::Ready(Some(Err(Status::deadline_exceeded(late))));
            }
        };
        Poll::Ready(next.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(error.into_inner()))?;
            if let Some(bytes) = frame.data_ref() {
                self.count(bytes)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Arriving {
    fn count(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let was_begun = self.part.is_begun();
        let (completed, gathered) = self.part.advance(bytes);
        if completed {
            self.held = None;
        }
        if self.is_stream && (completed || !was_begun) {
            let is_begun = self.part.is_begun();
            self.patience = is_begun.then(|| Box::pin(sleep(MESSAGE_PATIENCE)));
        }
        // As long as the head is not complete, nothing says which memory the message takes.
        if gathered == 0 {
            return Ok(());
        }
        let is_small = self.part.length <= SMALL_BYTES;
        let budget = if is_small {
            &self.budget.small
        } else {
            &self.budget.large
        };
        let gathered = u32::try_from(gathered).map_err(|_| Refusal::crowded())?;
        let permit = budget.clone().try_acquire_many_owned(gathered);
        let permit = permit.map_err(|_| Refusal::crowded())?;
        match &mut self.held {
            // Both are of one semaphore: a message's length does not change once it is known.
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }
}

/// Where in a message the bytes have got to.
#[derive(Default)]
struct Part {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// What the head says.
    length: usize,
    /// What is missing of it.
    missing: usize,
}

impl Part {
    fn is_begun(&self) -> bool {
        self.head_bytes > 0
    }

    /// Takes in what came. Returns whether a message became complete, and how much was gathered of the one that is not.
    fn advance(&mut self, mut bytes: &[u8]) -> (bool, usize) {
        let (mut completed, mut gathered) = (false, 0);
        while !bytes.is_empty() {
            if self.head_bytes < HEAD_BYTES {
                self.head[self.head_bytes] = bytes[0];
                self.head_bytes += 1;
                bytes = &bytes[1..];
                if self.head_bytes < HEAD_BYTES {
                    continue;
                }
                let [_, length @ ..] = self.head;
                self.length = usize::try_from(u32::from_be_bytes(length)).expect("32 bits fit");
                self.missing = self.length;
            } else {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                gathered += taken;
                bytes = &bytes[taken..];
            }
            if self.missing == 0 {
                *self = Self::default();
                (completed, gathered) = (true, 0);
            }
        }
        (completed, gathered)
    }
}

/// For the fuzz targets: how many bytes of a gRPC message that is not complete are held after each of these pieces of a call's body.
pub fn held_after(pieces: &[&[u8]]) -> Vec<usize> {
    let (mut part, mut held) = (Part::default(), 0);
    let after = |piece: &&[u8]| {
        let (completed, gathered) = part.advance(piece);
        held = if completed { gathered } else { held + gathered };
        held
    };
    pieces.iter().map(after).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use tokio::time::timeout;

    use super::*;
    use crate::grpc::methods;

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![7; bytes]].concat()
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let bytes = [message(3), message(0), message(1_000)].concat();
        for size in 1..bytes.len() {
            let held = held_after(&bytes.chunks(size).collect::<Vec<_>>());
            assert!(held.iter().all(|held| *held < 1_000));
            assert_eq!(held.last(), Some(&0), "pieces of {size}");
        }
        let mut part = Part::default();
        assert_eq!(part.advance(&bytes[..bytes.len() - 1]), (true, 999));
        assert!(part.is_begun());
    }

    async fn read(body: Body) -> Result<usize, Status> {
        let mut read = 0;
        let mut stream = body.into_data_stream();
        while let Some(bytes) = stream.next().await {
            read += bytes
                .map_err(|error| Status::from_error(error.into_inner()))?
                .len();
        }
        Ok(read)
    }

    #[tokio::test]
    async fn parts_of_messages_have_a_common_budget() {
        let budget = MessageBudget::new();
        let begun = || {
            let part = Bytes::from(message(24 << 20)).slice(..16 << 20);
            let never = stream::once(async { Ok::<_, Status>(part) }).chain(stream::pending());
            let body = budget.body(Body::from_stream(never), false);
            let mut body = body.into_data_stream();
            async move {
                let first = body.next().await.unwrap();
                (
                    first.map_err(|error| Status::from_error(error.into_inner())),
                    body,
                )
            }
        };
        let mut bodies = Vec::new();
        for _ in 0..LARGE_BUDGET_BYTES / (16 << 20) {
            let (taken, body) = begun().await;
            assert_eq!(taken.unwrap().len(), 16 << 20);
            bodies.push(body);
        }
        let (refused, _) = begun().await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        // What is complete, or short, has room all the same.
        let complete = budget.body(Body::from(message(30 << 20)), false);
        assert!(read(complete).await.is_ok());
        let small = message(SMALL_BYTES);
        let cut = small
            .chunks(1_000)
            .map(|piece| Ok::<_, Status>(Bytes::copy_from_slice(piece)));
        let cut: Vec<_> = cut.collect();
        let cut = budget.body(Body::from_stream(stream::iter(cut)), false);
        assert_eq!(read(cut).await.unwrap(), small.len());
        // And so have others once one gives up.
        bodies.pop();
        assert!(begun().await.0.is_ok());
    }

    #[tokio::test]
    async fn a_message_may_be_cut_in_its_head() {
        let budget = MessageBudget::new();
        for bytes in [1, SMALL_BYTES, SMALL_BYTES + 1] {
            let message = Bytes::from(message(bytes));
            for cut in 1..=HEAD_BYTES + 1 {
                let body = [message.slice(..cut), message.slice(cut..)].map(Ok::<_, Status>);
                let body = budget.body(Body::from_stream(stream::iter(body)), true);
                assert_eq!(read(body).await.unwrap(), HEAD_BYTES + bytes);
            }
        }
        assert_eq!(budget.small.available_permits(), SMALL_BUDGET_BYTES);
        assert_eq!(budget.large.available_permits(), LARGE_BUDGET_BYTES);
    }

    /// What was sent, and no more.
    fn stalled(sent: Vec<u8>) -> Body {
        let sent = stream::once(async { Ok::<_, Status>(Bytes::from(sent)) });
        Body::from_stream(sent.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_is_given_up() {
        let budget = MessageBudget::new();
        let whole = message(3);
        for (sent, is_stream) in [
            // Nothing, half of its head, half of it, and all of it without the call's end.
            (vec![], false),
            (whole[..3].to_vec(), false),
            (whole[..6].to_vec(), false),
            (whole.clone(), false),
            (whole[..3].to_vec(), true),
            ([&whole[..], &whole[..6]].concat(), true),
        ] {
            let body = budget.body(stalled(sent.clone()), is_stream);
            let refused = read(body).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_the_messages_of_a_stream_there_is_all_the_time_there_is() {
        let budget = MessageBudget::new();
        for sent in [vec![], message(3), [message(3), message(0)].concat()] {
            let reading = read(budget.body(stalled(sent), true));
            assert!(timeout(10 * MESSAGE_PATIENCE, reading).await.is_err());
        }
    }

    #[test]
    fn the_calls_that_send_message_after_message_are_known() {
        let streams = methods()
            .into_iter()
            .filter(|(_, method)| method.client_streaming());
        let streams: Vec<_> = streams.map(|(path, _)| path).collect();
        assert_eq!(streams, STREAMS);
    }
}
