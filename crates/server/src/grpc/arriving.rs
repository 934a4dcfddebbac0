//! Messages on their way in: of bounded memory however many peers send, and none for ever.
//!
//! tonic gathers a message until it is complete, for as long as it takes, and makes room for all of it as soon as its head
//! says how long it is. So messages are gathered here, in memory that grows with what came, and handed on when they are
//! complete. What is gathered is counted, over all connections; a message that is complete is counted elsewhere, by the queue
//! that it goes to.
//!
//! A long one that would find no room is refused by its head, and thrown away as it comes; so is one that finds none when it is
//! complete. The answer waits for the call's end: after an earlier one HTTP/2 would have the rest come to a stream that is
//! closed, and h2 gives up connections on which that happens often.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::Extensions,
};
use bytes::BytesMut;
use http_body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::Status;

use super::MAX_SUBMIT_MESSAGE_BYTES;
use crate::refusal::Refusal;

/// Memory for parts of messages of usual size.
const SMALL_BUDGET_BYTES: usize = 64 << 20;
/// Memory for parts of longer messages.
const LARGE_BUDGET_BYTES: usize = 192 << 20;
/// The longest message of usual size. They have a budget of their own, so that senders of long ones do not keep them out.
const SMALL_BYTES: usize = 256 << 10;
/// Memory for parts of requests that come in one frame, unless somebody cuts them: of those nothing is counted.
const REQUESTS_BUDGET_BYTES: usize = 1 << 20;
/// How long the one message of a call may take to arrive, or one of a stream's once it began.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(60);
/// The calls that send message after message. Between two of them they may be silent.
const STREAMS: [&str; 2] = [
    "/counterfoil.v1.SubmitService/SubmitStream",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
/// What comes before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;
/// A new piece of what is gathered has room for such a share of what was there before: bytes that come one by one take few.
const PIECE_SHARE: usize = 8;
/// No piece is larger for that. They are of few sizes, which the allocator has again for the next message.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// Memory for what arrives. Clones share it.
#[derive(Clone)]
pub(crate) struct MessageBudget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// The longest message that the service takes. tonic refuses longer ones by their heads.
    longest: usize,
    /// What says for a call, by its extensions, whether there is room.
    rooms: Arc<dyn Fn(&Extensions) -> Admit + Send + Sync>,
}

/// Whether there would be room for what a message of so many bytes brings.
pub(crate) type Admit = Box<dyn Fn(usize) -> Result<(), Refusal> + Send>;

impl MessageBudget {
    /// For calls that submit. `rooms` has for each, by its extensions, what long messages are asked about.
    pub(crate) fn new(rooms: impl Fn(&Extensions) -> Admit + Send + Sync + 'static) -> Self {
        Self {
            small: Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)),
            large: Arc::new(Semaphore::new(LARGE_BUDGET_BYTES)),
            longest: MAX_SUBMIT_MESSAGE_BYTES,
            rooms: Arc::new(rooms),
        }
    }

    /// For calls whose requests are short: of its own, so that whoever reads, or asks what takes no right, takes nothing from those
    /// who submit.
    pub(crate) fn of_requests(longest: usize) -> Self {
        let budget = Arc::new(Semaphore::new(REQUESTS_BUDGET_BYTES));
        Self {
            small: budget.clone(),
            large: budget,
            longest,
            rooms: Arc::new(|_| Box::new(|_| Ok(()))),
        }
    }

    /// A call of which no more arrives than there is memory for.
    pub(crate) fn limit(&self, call: Request) -> Request {
        let is_stream = STREAMS.contains(&call.uri().path());
        let admit = (self.rooms)(call.extensions());
        call.map(|body| Body::new(self.arriving(body, is_stream, admit)))
    }

    fn arriving(&self, body: Body, is_stream: bool, admit: Admit) -> Arriving {
        Arriving {
            body,
            budget: self.clone(),
            part: Part::default(),
            gathered: Gathered::default(),
            complete: VecDeque::new(),
            held: None,
            is_stream,
            patience: (!is_stream).then(|| Box::pin(sleep(MESSAGE_PATIENCE))),
            admit,
            refused: None,
        }
    }
}

struct Arriving {
    body: Body,
    budget: MessageBudget,
    part: Part,
    /// What came of the message that is not complete.
    gathered: Gathered,
    /// What is handed on before more is taken in.
    complete: VecDeque<Bytes>,
    held: Option<OwnedSemaphorePermit>,
    /// Whether messages follow one another.
    is_stream: bool,
    /// Ends when the message that has begun has to be complete; where there is one alone, the call.
    patience: Option<Pin<Box<Sleep>>>,
    admit: Admit,
    /// What the call is told at its end. Nothing of it is looked at any more.
    refused: Option<Status>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.complete.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let next = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let Some(patience) = &mut this.patience else {
                        return Poll::Pending;
                    };
                    ready!(patience.as_mut().poll(context));
                    let seconds = MESSAGE_PATIENCE.as_secs();
                    let late = format!("the message did not arrive within {seconds} s");
                    return Poll::Ready(Some(Err(Status::deadline_exceeded(late))));
                }
            };
            let frame = match next {
                Some(frame) => frame.map_err(|error| Status::from_error(error.into_inner()))?,
                None if this.refused.is_some() => return Poll::Ready(this.refused.take().map(Err)),
                None if this.gathered.is_empty() => return Poll::Ready(None),
                None => {
                    this.gathered = Gathered::default();
                    let cut_off = "the call ended in the middle of a message";
                    return Poll::Ready(Some(Err(Status::internal(cut_off))));
                }
            };
            match frame.into_data() {
                Ok(bytes) => this.take_in(bytes)?,
                // tonic would miss a message before them.
                Err(_) if this.refused.is_some() => {}
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none()
            && self.complete.is_empty()
            && self.gathered.is_empty()
            && self.body.is_end_stream()
    }
}

impl Arriving {
    /// Counts what came, and keeps back what is of a message that is not complete.
    fn take_in(&mut self, mut bytes: Bytes) -> Result<(), Status> {
        if self.refused.is_some() {
            return Ok(());
        }
        let mut ends = self.count(&bytes)?;
        if self.refused.is_some() {
            (self.gathered, self.held) = (Gathered::default(), None);
            return Ok(());
        }
        // What tonic refuses by its head does not have to be complete for that.
        if self.part.is_refused(self.budget.longest) {
            let last = bytes.len();
            let first = ends.map_or(last, |ends| ends.first);
            ends = Some(Ends { first, last });
        }
        let Some(Ends { first, last }) = ends else {
            self.gathered.add(&bytes);
            return Ok(());
        };
        let rest = bytes.split_off(last);
        if !self.gathered.is_empty() {
            self.gathered.add(&bytes.split_to(first));
            self.complete.extend(self.gathered.take());
        }
        // Whatever came in one frame is not copied.
        self.complete.push_back(bytes);
        self.gathered.add(&rest);
        Ok(())
    }

    /// Refuses a long message where there is no room: to keep and read it would take from those who are served. A stream goes on
    /// after what finds none.
    fn admit(&mut self, length: usize) {
        if length > SMALL_BYTES && !self.is_stream {
            self.refused = (self.admit)(length).err().map(Status::from);
        }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<Option<Ends>, Status> {
        // What tonic refuses by its head has no room to wait for.
        let waits = |part: &Part| part.has_head() && !part.is_refused(self.budget.longest);
        let (was_begun, waited, length) = (self.part.is_begun(), waits(&self.part), self.part.length);
        let (ends, gathered) = self.part.advance(bytes);
        if !waited && waits(&self.part) {
            self.admit(self.part.length);
        }
        if waited && ends.is_some() {
            // Others may have taken the room meanwhile.
            self.admit(length);
        }
        if self.refused.is_some() {
            return Ok(None);
        }
        if ends.is_some() {
            self.held = None;
        }
        if self.is_stream && (ends.is_some() || !was_begun) {
            let is_begun = self.part.is_begun();
            self.patience = is_begun.then(|| Box::pin(sleep(MESSAGE_PATIENCE)));
        }
        // As long as the head is not complete, nothing says which memory the message takes.
        if gathered == 0 {
            return Ok(ends);
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
        Ok(ends)
    }
}

/// What came of a message, in pieces: what is there is not copied when more comes.
#[derive(Default)]
struct Gathered {
    pieces: Vec<BytesMut>,
    bytes: usize,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut more = bytes;
        if let Some(piece) = self.pieces.last_mut() {
            let room = piece.capacity() - piece.len();
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            piece.extend_from_slice(fits);
            more = rest;
        }
        if !more.is_empty() {
            let share = (self.bytes / PIECE_SHARE).min(MAX_PIECE_BYTES);
            let share = share.checked_ilog2().map_or(0, |bits| 1 << bits);
            let mut piece = BytesMut::with_capacity(more.len().max(share));
            piece.extend_from_slice(more);
            self.pieces.push(piece);
        }
        self.bytes += bytes.len();
    }

    fn take(&mut self) -> impl Iterator<Item = Bytes> {
        mem::take(self).pieces.into_iter().map(BytesMut::freeze)
    }
}

/// Where messages end among some bytes: the first that does, and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    first: usize,
    last: usize,
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

    fn has_head(&self) -> bool {
        self.head_bytes == HEAD_BYTES
    }

    /// Whether the head is there, and tonic refuses the message by it: it is too long, or says that it is compressed.
    fn is_refused(&self, longest: usize) -> bool {
        self.has_head() && (self.head[0] != 0 || self.length > longest)
    }

    /// Takes in what came. Returns which messages became complete, and how much was gathered of the one that is not.
    fn advance(&mut self, bytes: &[u8]) -> (Option<Ends>, usize) {
        let (mut ends, mut gathered) = (None, 0);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.head_bytes < HEAD_BYTES {
                self.head[self.head_bytes] = rest[0];
                self.head_bytes += 1;
                rest = &rest[1..];
                if self.head_bytes < HEAD_BYTES {
                    continue;
                }
                let [_, length @ ..] = self.head;
                self.length = usize::try_from(u32::from_be_bytes(length)).expect("32 bits fit");
                self.missing = self.length;
            } else {
                let taken = self.missing.min(rest.len());
                self.missing -= taken;
                gathered += taken;
                rest = &rest[taken..];
            }
            if self.missing == 0 {
                *self = Self::default();
                let last = bytes.len() - rest.len();
                let first = ends.map_or(last, |ends: Ends| ends.first);
                (ends, gathered) = (Some(Ends { first, last }), 0);
            }
        }
        (ends, gathered)
    }
}

/// For the fuzz targets: how many bytes of a gRPC message that is not complete are held after each of these pieces of a call's body.
pub fn held_after(pieces: &[&[u8]]) -> Vec<usize> {
    let (mut part, mut held) = (Part::default(), 0);
    let after = |piece: &&[u8]| {
        let (ends, gathered) = part.advance(piece);
        held = gathered + if ends.is_some() { 0 } else { held };
        held
    };
    pieces.iter().map(after).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use axum::http::HeaderMap;
    use counterfoil_log::SubmitError;
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
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
        let ends = Ends { first: 8, last: 13 };
        assert_eq!(part.advance(&bytes[..bytes.len() - 1]), (Some(ends), 999));
        assert!(part.is_begun());
    }

    impl MessageBudget {
        fn body(&self, body: Body, is_stream: bool) -> Body {
            let admit = (self.rooms)(&Extensions::new());
            Body::new(self.arriving(body, is_stream, admit))
        }
    }

    /// Memory for what arrives where there is room for all that does.
    fn roomy() -> MessageBudget {
        MessageBudget::new(|_| Box::new(|_| Ok(())))
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
        let budget = roomy();
        let begun = || {
            let part = message(24 << 20)[..16 << 20].to_vec();
            let mut body = budget.body(stalled(part), false).into_data_stream();
            (body.next().now_or_never(), body)
        };
        let mut bodies = Vec::new();
        for _ in 0..LARGE_BUDGET_BYTES / (16 << 20) {
            let (handed_on, body) = begun();
            assert!(handed_on.is_none(), "{handed_on:?}");
            bodies.push(body);
        }
        let (refused, _) = begun();
        let refused = refused.unwrap().unwrap().unwrap_err();
        let refused = Status::from_error(refused.into_inner());
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
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
        assert!(begun().0.is_none());
    }

    /// tonic makes room for all of a message once it has its head.
    #[tokio::test]
    async fn a_message_goes_on_once_all_of_it_is_there() {
        let budget = roomy();
        let bytes = [message(3), message(0), message(300), message(7)].concat();
        for size in [1, 4, 5, 6, 100, 311, bytes.len()] {
            for came in 0..=bytes.len() {
                let frames = bytes[..came]
                    .chunks(size)
                    .map(|frame| Ok::<_, Status>(Bytes::copy_from_slice(frame)));
                let frames: Vec<_> = frames.collect();
                let body = Body::from_stream(stream::iter(frames).chain(stream::pending()));
                let mut body = budget.body(body, true).into_data_stream();
                let mut handed_on = Vec::new();
                while let Some(Some(frame)) = body.next().now_or_never() {
                    handed_on.extend(frame.unwrap());
                }
                let complete = [0, 8, 13, 318, 330].into_iter().rfind(|end| *end <= came);
                assert_eq!(
                    handed_on,
                    &bytes[..complete.unwrap()],
                    "{came} in pieces of {size}"
                );
            }
        }
        // What came in one frame is not copied.
        let sent = Bytes::from(bytes);
        let mut body = budget.body(Body::from(sent.clone()), true).into_data_stream();
        let handed_on = body.next().await.unwrap().unwrap();
        assert_eq!((handed_on.len(), handed_on.as_ptr()), (sent.len(), sent.as_ptr()));
        // Nothing comes of one that the call ends before.
        let refused = read(budget.body(Body::from(sent.slice(..17)), true)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::Internal);
    }

    #[tokio::test]
    async fn what_is_refused_by_its_head_is_not_waited_for() {
        for (head, longest) in [
            ([0, 2, 0, 0, 1], MAX_SUBMIT_MESSAGE_BYTES),
            ([0, 0, 0, 16, 1], 4 << 10),
            ([1, 0, 0, 0, 9], 4 << 10),
            ([7, 0, 0, 0, 9], 4 << 10),
        ] {
            let budget = MessageBudget { longest, ..roomy() };
            for cut in 0..HEAD_BYTES {
                let frames = [&head[..cut], &head[cut..], &[7; 3]];
                let frames = frames.map(|frame| Ok::<_, Status>(Bytes::copy_from_slice(frame)));
                let body = Body::from_stream(stream::iter(frames).chain(stream::pending()));
                let mut body = budget.body(body, true).into_data_stream();
                let mut handed_on = Vec::new();
                while let Some(Some(frame)) = body.next().now_or_never() {
                    handed_on.extend(frame.unwrap());
                }
                assert_eq!(handed_on, [&head[..], &[7; 3]].concat());
            }
        }
    }

    /// Nothing of it is kept, and its head is told at its end: there may be room again by then.
    #[tokio::test]
    async fn a_long_message_without_room_is_refused_by_its_head() {
        const ROOM: usize = 1 << 20;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asks = asked.clone();
        let budget = MessageBudget::new(move |_| {
            let asks = asks.clone();
            Box::new(move |bytes| {
                asks.lock().unwrap().push(bytes);
                match bytes {
                    ..=ROOM => Ok(()),
                    _ => Err(SubmitError::OutOfSpace.into()),
                }
            })
        });
        let told = Status::from(Refusal::from(SubmitError::OutOfSpace));
        let cut = |bytes: &[u8], first: usize| {
            let mut pieces = vec![Bytes::copy_from_slice(&bytes[..first])];
            pieces.extend(bytes[first..].chunks(100_000).map(Bytes::copy_from_slice));
            stream::iter(pieces.into_iter().map(Ok::<_, Status>))
        };
        for first in 1..=HEAD_BYTES + 1 {
            let sent = message(ROOM + 1);
            let refused = read(budget.body(Body::from_stream(cut(&sent, first)), false)).await;
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), refused.details()), (told.code(), told.details()));
            assert_eq!(mem::take(&mut *asked.lock().unwrap()), [ROOM + 1], "{first}");

            let sent = message(ROOM);
            let taken = read(budget.body(Body::from_stream(cut(&sent, first)), false)).await;
            assert_eq!(taken.unwrap(), sent.len());
            assert_eq!(mem::take(&mut *asked.lock().unwrap()), [ROOM; 2], "{first}");
        }
        // It is not answered before its end, and holds no memory meanwhile.
        let sent = message(ROOM + 1);
        let begun = cut(&sent[..ROOM], 7).chain(stream::pending());
        let mut begun = budget.body(Body::from_stream(begun), false).into_data_stream();
        assert!(begun.next().now_or_never().is_none());
        assert_eq!(budget.large.available_permits(), LARGE_BUDGET_BYTES);
        mem::take(&mut *asked.lock().unwrap());
        // Trailers behind it are nothing else to say.
        let data = cut(&sent, 7).map(|piece| piece.map(Frame::data));
        let trailers = stream::iter([Ok(Frame::trailers(HeaderMap::new()))]);
        let mut call = budget.body(Body::new(StreamBody::new(data.chain(trailers))), false);
        assert!(call.frame().await.unwrap().is_err());
        assert!(call.frame().await.is_none());
        mem::take(&mut *asked.lock().unwrap());
        // Nor is there room when others took it meanwhile.
        let has_room = Arc::new(AtomicBool::new(true));
        let asked_before = MessageBudget::new(move |_| {
            let has_room = has_room.clone();
            Box::new(move |_| match has_room.swap(false, Relaxed) {
                true => Ok(()),
                false => Err(Refusal::crowded()),
            })
        });
        let refused = read(asked_before.body(Body::from_stream(cut(&sent, 7)), false)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert_eq!(asked_before.large.available_permits(), LARGE_BUDGET_BYTES);
        // Nobody asks for a short one, for one of a stream, where each is refused for itself, nor for one that is too long for ever.
        let too_long = message(MAX_SUBMIT_MESSAGE_BYTES + 1);
        for (sent, is_stream) in [
            (message(SMALL_BYTES), false),
            (message(ROOM + 1), true),
            (too_long, false),
        ] {
            let body = budget.body(Body::from_stream(cut(&sent, HEAD_BYTES)), is_stream);
            assert_eq!(read(body).await.unwrap(), sent.len());
        }
        assert_eq!(*asked.lock().unwrap(), [0; 0]);
    }

    #[test]
    fn memory_grows_with_what_came() {
        let message = message(128 << 10);
        for size in [1, 100, 16 << 10] {
            let mut gathered = Gathered::default();
            for frame in message.chunks(size) {
                gathered.add(frame);
                let room: usize = gathered.pieces.iter().map(BytesMut::capacity).sum();
                assert!(room <= gathered.bytes + gathered.bytes / PIECE_SHARE);
            }
            assert!(gathered.pieces.len() < 300, "{} pieces", gathered.pieces.len());
            assert!(gathered.take().flatten().eq(message.iter().copied()));
        }
    }

    #[tokio::test]
    async fn a_message_may_be_cut_in_its_head() {
        let budget = roomy();
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
        let budget = roomy();
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
        let budget = roomy();
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
