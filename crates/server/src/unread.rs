//! Answers on their way out: of bounded memory, however many are asked for by those who don't read them.
//!
//! hyper takes a frame of a body ahead, whether its reader has room or not, and h2 takes it as soon as there is room for one byte
//! of it. So they get small copies, and the long rest waits here, under one budget for all connections.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Response,
};
use bytes::Buf as _;
use counterfoil_seats::Serving;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Memory for answers that wait for their readers. One alone may be longer.
const BUDGET_BYTES: usize = 128 << 20;
/// What is handed on at a time: a frame of HTTP/2. hyper and h2 may hold two of them.
const CHUNK_BYTES: usize = 16 << 10;
/// The same while little waits, of an answer that has more than that: fewer turns for long answers.
const LONG_CHUNK_BYTES: usize = 64 << 10;
/// Whoever takes nothing of an answer for so long makes room for another's, if that is needed.
const SILENCE: Duration = Duration::from_secs(1);
/// So does whoever takes it more slowly than this.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The reader came back for the rest too late, or there was no room for what comes next. It sees a stream, or connection, that
/// breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the rest of this answer was given up: others needed the memory")]
struct GivenUp;

/// There is no room for an answer: too many that are being read wait for their readers.
#[derive(Debug)]
struct Crowded;

/// The answers of all connections that wait for their readers.
pub(crate) struct Unread {
    waiting: Mutex<Waiting>,
    metrics: Metrics,
}

#[derive(Default)]
struct Waiting {
    /// The rest of each answer, by when something of it was last handed on: the one that waits longest is first.
    rests: BTreeMap<u64, Rest>,
    next: u64,
    bytes: usize,
}

struct Rest {
    bytes: Bytes,
    /// Where they came from. tonic's bodies hold on to the memory that `bytes` is part of until they are asked for more.
    body: Body,
    /// That memory.
    whole_bytes: usize,
    /// When something of it was last handed on.
    touched: Instant,
    /// When a reader that is not too slow has all of it.
    due: Instant,
}

impl Rest {
    fn makes_room(&self, now: Instant) -> bool {
        now >= self.due || now >= self.touched + SILENCE
    }
}

impl Waiting {
    /// Returns where it is.
    fn insert(&mut self, rest: Rest) -> u64 {
        let place = self.next;
        self.next += 1;
        self.bytes += rest.whole_bytes;
        self.rests.insert(place, rest);
        place
    }

    fn remove(&mut self, place: u64) -> Option<Rest> {
        let rest = self.rests.remove(&place)?;
        self.bytes -= rest.whole_bytes;
        Some(rest)
    }

    /// One whose reader is silent or slow, the silent first.
    fn dispensable(&self) -> Option<u64> {
        let now = Instant::now();
        let (place, _) = self.rests.iter().find(|(_, rest)| rest.makes_room(now))?;
        Some(*place)
    }
}

impl Unread {
    pub(crate) fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            metrics,
        })
    }

    /// Keeps what is new. Gives up for it, if it has to, what nobody takes.
    fn keep(&self, bytes: Bytes, body: Body) -> Result<u64, Crowded> {
        // To be dropped when nobody waits for the lock.
        let mut given_up = Vec::new();
        let mut waiting = self.lock();
        while waiting.bytes + bytes.len() > BUDGET_BYTES && !waiting.rests.is_empty() {
            let Some(place) = waiting.dispensable() else {
                drop(waiting);
                return Err(Crowded);
            };
            self.metrics.count_given_up();
            given_up.extend(waiting.remove(place));
        }
        let now = Instant::now();
        let patience = SILENCE + Duration::from_secs(bytes.len() as u64 / BYTES_PER_SECOND);
        Ok(waiting.insert(Rest {
            whole_bytes: bytes.len(),
            bytes,
            body,
            touched: now,
            due: now + patience,
        }))
    }

    /// Takes some of what is kept, or at its end the body.
    fn take(&self, place: u64) -> Taken {
        let mut waiting = self.lock();
        let is_calm = waiting.bytes <= BUDGET_BYTES / 2;
        let Some(mut rest) = waiting.remove(place) else {
            return Taken::GivenUp;
        };
        if rest.bytes.is_empty() {
            return Taken::Body(rest.body);
        }
        // A reader that stops with a long chunk has more here, which is counted.
        let length = if is_calm && rest.bytes.len() > LONG_CHUNK_BYTES {
            LONG_CHUNK_BYTES
        } else {
            rest.bytes.len().min(CHUNK_BYTES)
        };
        // A slice would hold on to all of it.
        let chunk = Bytes::copy_from_slice(&rest.bytes[..length]);
        rest.bytes.advance(length);
        rest.touched = Instant::now();
        Taken::Chunk(chunk, waiting.insert(rest))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Next = Result<Frame<Bytes>, axum::Error>;

enum Taken {
    /// And where the rest is from now on.
    Chunk(Bytes, u64),
    Body(Body),
    GivenUp,
}

/// The body of an answer, of which what is made but not read is counted.
pub(crate) struct Answer {
    unread: Arc<Unread>,
    state: State,
    /// Its connection is served while it is asked for more, and silent else: who reads nothing would keep others out.
    serving: Option<Serving>,
}

/// What is there of a body.
enum State {
    /// Nothing that is made.
    Waiting(Body),
    /// One frame, before the rest of it.
    Short(Next, Body),
    /// So many bytes in this place, and the body, which says of itself what `after` does.
    Long {
        place: u64,
        bytes: usize,
        after: SizeHint,
        ends: bool,
    },
    Over,
}

impl Answer {
    /// Counts what a response has ready. Where there is no room for it, the response is another, which is short.
    pub(crate) async fn new(
        unread: Arc<Unread>,
        response: Response<Body>,
        serving: Option<Serving>,
        put_off: impl FnOnce() -> Response<Body>,
    ) -> Response<Self> {
        let (mut head, mut body) = response.into_parts();
        let first = if body.is_end_stream() {
            Poll::Pending
        } else {
            poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await
        };
        let is_ready = first.is_ready();
        let state = match first {
            Poll::Pending => State::Waiting(body),
            Poll::Ready(None) => State::Over,
            Poll::Ready(Some(next)) => State::of(&unread, next, body).unwrap_or_else(|Crowded| {
                let (other, body) = put_off().into_parts();
                head = other;
                State::Waiting(body)
            }),
        };
        let mut answer = Self {
            unread,
            state,
            serving,
        };
        if is_ready {
            answer.pause();
        }
        Response::from_parts(head, answer)
    }

    /// Something is there to be taken.
    fn pause(&mut self) {
        if let Some(serving) = &mut self.serving {
            serving.pause();
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        loop {
            match mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Short(next, body) => {
                    self.state = State::Waiting(body);
                    return Poll::Ready(Some(next));
                }
                State::Waiting(mut body) => match Pin::new(&mut body).poll_frame(context) {
                    Poll::Pending => {
                        self.state = State::Waiting(body);
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(next)) => match State::of(&self.unread, next, body) {
                        Ok(state) => self.state = state,
                        Err(Crowded) => {
                            self.unread.metrics.count_given_up();
                            return Poll::Ready(Some(Err(axum::Error::new(GivenUp))));
                        }
                    },
                },
                State::Long {
                    place,
                    bytes,
                    after,
                    ends,
                } => match self.unread.take(place) {
                    Taken::Chunk(chunk, place) => {
                        self.state = State::Long {
                            place,
                            bytes: bytes - chunk.len(),
                            after,
                            ends,
                        };
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                    Taken::Body(body) => self.state = State::Waiting(body),
                    Taken::GivenUp => return Poll::Ready(Some(Err(axum::Error::new(GivenUp)))),
                },
            }
        }
    }
}

impl State {
    fn of(unread: &Unread, next: Next, body: Body) -> Result<Self, Crowded> {
        let next = match next.map(Frame::into_data) {
            Ok(Ok(bytes)) if bytes.len() > CHUNK_BYTES => {
                return Ok(Self::Long {
                    bytes: bytes.len(),
                    after: body.size_hint(),
                    ends: body.is_end_stream(),
                    place: unread.keep(bytes, body)?,
                });
            }
            Ok(Ok(bytes)) => Ok(Frame::data(bytes)),
            Ok(Err(trailers)) => Ok(trailers),
            Err(error) => Err(error),
        };
        Ok(Self::Short(next, body))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Next>> {
        if let Some(serving) = &mut self.serving {
            serving.resume();
        }
        let next = self.next(context);
        if next.is_ready() {
            self.pause();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Waiting(body) => body.is_end_stream(),
            State::Short(..) => false,
            State::Long { bytes, ends, .. } => *bytes == 0 && *ends,
            State::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (ready, after) = match &self.state {
            State::Waiting(body) => (0, body.size_hint()),
            State::Short(next, body) => {
                let data = next.as_ref().ok().and_then(Frame::data_ref);
                (data.map_or(0, Bytes::len), body.size_hint())
            }
            State::Long { bytes, after, .. } => (*bytes, *after),
            State::Over => (0, SizeHint::with_exact(0)),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(after.lower() + ready as u64);
        if let Some(upper) = after.upper() {
            hint.set_upper(upper + ready as u64);
        }
        hint
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let State::Long { place, .. } = self.state {
            let rest = self.unread.lock().remove(place);
            drop(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use futures_util::{StreamExt as _, future::join_all, stream};
    use http_body_util::BodyExt as _;
    use tokio::time::advance;

    use super::*;

    const MIB: usize = 1 << 20;

    fn unread() -> Arc<Unread> {
        Unread::new(Metrics::new())
    }

    /// `None` if there was no room.
    async fn try_answer(unread: &Arc<Unread>, body: Body) -> Option<Answer> {
        let put_off = || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        };
        let response = Answer::new(unread.clone(), Response::new(body), None, put_off).await;
        (response.status() == StatusCode::OK).then(|| response.into_body())
    }

    async fn answer(unread: &Arc<Unread>, bytes: usize) -> Answer {
        try_answer(unread, Body::from(vec![7; bytes])).await.unwrap()
    }

    fn kept(unread: &Unread) -> (usize, usize) {
        let waiting = unread.lock();
        (waiting.rests.len(), waiting.bytes)
    }

    #[tokio::test]
    async fn a_body_arrives_whole_in_small_pieces_and_tells_its_length() {
        let unread = unread();
        for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, MIB + 5] {
            let mut answer = answer(&unread, bytes).await;
            let mut left = bytes;
            while let Some(frame) = answer.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!((1..=LONG_CHUNK_BYTES).contains(&data.len()));
                assert!(left > LONG_CHUNK_BYTES || data.len() <= CHUNK_BYTES);
                left -= data.len();
                assert_eq!(answer.size_hint().exact(), Some(left as u64));
                assert_eq!(answer.is_end_stream(), left == 0);
            }
            assert_eq!(left, 0);
            drop(answer);
            assert_eq!(kept(&unread), (0, 0));
        }
    }

    #[tokio::test]
    async fn frames_keep_their_order_and_trailers_come_last() {
        let unread = unread();
        let parts = [vec![1; 5], vec![2; 2 * CHUNK_BYTES + 5], vec![3; 5]];
        let frames = parts
            .clone()
            .into_iter()
            .map(|part| Frame::data(Bytes::from(part)));
        let frames = frames.chain([Frame::trailers(
            [("a".parse().unwrap(), "b".parse().unwrap())]
                .into_iter()
                .collect(),
        )]);
        let body = http_body_util::StreamBody::new(stream::iter(frames.map(Ok::<_, axum::Error>)));
        let answer = try_answer(&unread, Body::new(body)).await.unwrap();
        let collected = answer.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["a"], "b");
        assert_eq!(collected.to_bytes(), parts.concat());
    }

    /// Whoever reads goes on, however many others come and don't.
    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_more_when_someone_has_been_silent() {
        const LENGTH: usize = 16 * MIB;
        let unread = unread();
        let mut silent = answer(&unread, LENGTH).await;
        let mut read = answer(&unread, LENGTH).await;
        let _others = join_all([(); 6].map(|()| answer(&unread, LENGTH))).await;
        assert_eq!(kept(&unread), (8, BUDGET_BYTES));
        let more = || try_answer(&unread, Body::from(vec![7; LENGTH]));
        assert!(more().await.is_none());

        advance(SILENCE).await;
        let chunk = read.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(chunk.len(), CHUNK_BYTES, "long chunks are for when little waits");
        let _newcomer = more().await.unwrap();
        assert_eq!(kept(&unread), (8, BUDGET_BYTES));
        assert!(silent.frame().await.unwrap().is_err());
        assert!(silent.frame().await.is_none());
        assert_eq!(
            read.collect().await.unwrap().to_bytes().len(),
            LENGTH - CHUNK_BYTES
        );
    }

    /// As tonic's bodies do, which is why they are given up together with what they made.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_free_though_its_body_holds_on_to_it() {
        let unread = unread();
        let whole = Bytes::from(vec![7; MIB]);
        let holds = whole.clone();
        let later = stream::pending().map(move |()| holds.clone());
        let frames = stream::iter([whole.clone()])
            .chain(later)
            .map(Ok::<_, axum::Error>);
        let mut answer = try_answer(&unread, Body::from_stream(frames)).await.unwrap();
        answer.frame().await.unwrap().unwrap();
        advance(SILENCE).await;
        let _newcomer = self::answer(&unread, BUDGET_BYTES).await;
        assert!(whole.is_unique());
        assert!(answer.frame().await.unwrap().is_err());
    }

    /// Whoever takes a little now and then would keep others out for ever.
    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_makes_room_too() {
        let unread = unread();
        let mut slow = answer(&unread, BUDGET_BYTES).await;
        for _ in 0..200 {
            advance(SILENCE * 9 / 10).await;
            if try_answer(&unread, Body::from(vec![7; MIB])).await.is_some() {
                assert!(slow.frame().await.unwrap().is_err());
                return;
            }
            slow.frame().await.unwrap().unwrap();
        }
        panic!("nobody else was let in");
    }

    /// A long message of a stream that is being read, when others' answers fill the memory.
    #[tokio::test(start_paused = true)]
    async fn a_stream_breaks_off_where_there_is_no_room_for_what_comes_next() {
        let unread = unread();
        let parts = [vec![1; 5], vec![2; MIB]].map(Ok::<_, axum::Error>);
        let mut answer = try_answer(&unread, Body::from_stream(stream::iter(parts)))
            .await
            .unwrap();
        let _others = join_all([(); 8].map(|()| self::answer(&unread, 16 * MIB))).await;
        answer.frame().await.unwrap().unwrap();
        assert!(answer.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn one_alone_may_be_of_any_length() {
        let unread = unread();
        let mut long = answer(&unread, BUDGET_BYTES + 1).await;
        long.frame().await.unwrap().unwrap();
        assert_eq!(kept(&unread).0, 1);
        drop(long);
        assert_eq!(kept(&unread), (0, 0));
    }

    /// A slice of an answer holds on to all of it, so the first piece may not be one.
    #[tokio::test]
    async fn what_was_read_of_an_answer_holds_on_to_no_more_of_it() {
        let unread = unread();
        let whole = Bytes::from(vec![7; MIB]);
        let mut answer = try_answer(&unread, Body::from(whole.clone())).await.unwrap();
        let _chunk = answer.frame().await.unwrap().unwrap();
        drop(answer);
        assert!(whole.is_unique());
    }
}
