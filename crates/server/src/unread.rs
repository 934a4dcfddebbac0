//! Answers on their way out: of bounded memory, however many are asked for by those who don't read them.
//!
//! hyper and h2 take a whole frame of a body as soon as its reader has room for one byte of it, and hold it until the reader
//! has room for the rest. So they get small copies, and the long rest waits here, under one budget for all connections.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Response,
};
use bytes::Buf as _;
use http_body::{Frame, SizeHint};

use crate::metrics::Metrics;

/// Memory for answers that wait for their readers. One alone may be longer.
const BUDGET_BYTES: usize = 128 << 20;
/// What is handed on at a time: a frame of HTTP/2.
const CHUNK_BYTES: usize = 16 << 10;

/// Whoever takes nothing of an answer for so long makes room for another's, if that is needed.
const SILENCE: Duration = Duration::from_secs(1);

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
    /// The rest of each answer, by when its reader last took something of it: the one that waits longest is first.
    rests: BTreeMap<u64, Rest>,
    next: u64,
    bytes: usize,
}

struct Rest {
    bytes: Bytes,
    /// The memory that it is part of, which is free when all of it is.
    whole_bytes: usize,
    since: Instant,
}

impl Waiting {
    /// Returns where it is.
    fn insert(&mut self, bytes: Bytes, whole_bytes: usize) -> u64 {
        let place = self.next;
        self.next += 1;
        self.bytes += whole_bytes;
        let since = Instant::now();
        self.rests.insert(
            place,
            Rest {
                bytes,
                whole_bytes,
                since,
            },
        );
        place
    }

    fn remove(&mut self, place: u64) -> Option<Rest> {
        let rest = self.rests.remove(&place)?;
        self.bytes -= rest.whole_bytes;
        Some(rest)
    }

    /// The one that waits longest, if it was long enough.
    fn silent(&self) -> Option<u64> {
        let (place, rest) = self.rests.first_key_value()?;
        (rest.since.elapsed() >= SILENCE).then_some(*place)
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
    fn keep(&self, bytes: Bytes) -> Result<u64, Crowded> {
        let mut given_up = Vec::new();
        let mut waiting = self.lock();
        while waiting.bytes + bytes.len() > BUDGET_BYTES && !waiting.rests.is_empty() {
            let Some(place) = waiting.silent() else {
                return Err(Crowded);
            };
            self.metrics.count_given_up();
            given_up.extend(waiting.remove(place));
        }
        let whole_bytes = bytes.len();
        Ok(waiting.insert(bytes, whole_bytes))
    }

    /// Takes some of what is kept, and the place where the rest of it is from now on. `None` if it was given up.
    fn take(&self, place: u64) -> Option<(Bytes, Option<Ready>)> {
        let mut waiting = self.lock();
        let Rest {
            mut bytes,
            whole_bytes,
            ..
        } = waiting.remove(place)?;
        let length = bytes.len().min(CHUNK_BYTES);
        // A slice would hold on to all of it.
        let chunk = Bytes::copy_from_slice(&bytes[..length]);
        bytes.advance(length);
        let rest = (!bytes.is_empty()).then(|| Ready::Long {
            bytes: bytes.len(),
            place: waiting.insert(bytes, whole_bytes),
        });
        Some((chunk, rest))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Next = Result<Frame<Bytes>, axum::Error>;

/// The body of an answer, of which what is made but not read is counted. It holds something until all of it was taken.
pub(crate) struct Answer<T> {
    unread: Arc<Unread>,
    body: Body,
    ready: Ready,
    _held: T,
}

/// What of a body is made and not read.
enum Ready {
    Nothing,
    Short(Next),
    /// So many bytes in this place.
    Long {
        place: u64,
        bytes: usize,
    },
}

impl<T> Answer<T> {
    /// Counts what a response has ready: it may be all there, and its reader may never have room for the first byte. Where there
    /// is no room for it, the response is another, which is short.
    pub(crate) async fn new(
        unread: Arc<Unread>,
        response: Response<Body>,
        held: T,
        put_off: impl FnOnce() -> Response<Body>,
    ) -> Response<Self> {
        let (mut head, body) = response.into_parts();
        let mut answer = Self {
            unread,
            body,
            ready: Ready::Nothing,
            _held: held,
        };
        if !answer.body.is_end_stream()
            && let Poll::Ready(Some(next)) = poll_fn(|context| Poll::Ready(answer.poll_body(context))).await
            && let Err(Crowded) = answer.make_ready(next)
        {
            (head, answer.body) = put_off().into_parts();
        }
        Response::from_parts(head, answer)
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn make_ready(&mut self, next: Next) -> Result<(), Crowded> {
        self.ready = match next.map(Frame::into_data) {
            Ok(Ok(bytes)) if bytes.len() > CHUNK_BYTES => Ready::Long {
                bytes: bytes.len(),
                place: self.unread.keep(bytes)?,
            },
            Ok(Ok(bytes)) => Ready::Short(Ok(Frame::data(bytes))),
            Ok(Err(trailers)) => Ready::Short(Ok(trailers)),
            Err(error) => Ready::Short(Err(error)),
        };
        Ok(())
    }

    fn take_ready(&mut self) -> Option<Next> {
        match mem::replace(&mut self.ready, Ready::Nothing) {
            Ready::Nothing => None,
            Ready::Short(next) => Some(next),
            Ready::Long { place, .. } => match self.unread.take(place) {
                Some((chunk, rest)) => {
                    self.ready = rest.unwrap_or(Ready::Nothing);
                    Some(Ok(Frame::data(chunk)))
                }
                None => Some(Err(axum::Error::new(GivenUp))),
            },
        }
    }
}

impl<T: Unpin> HttpBody for Answer<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Next>> {
        if matches!(self.ready, Ready::Nothing) {
            match ready!(self.poll_body(context)) {
                Some(next) => {
                    if self.make_ready(next).is_err() {
                        return Poll::Ready(Some(Err(axum::Error::new(GivenUp))));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(self.take_ready())
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.ready, Ready::Nothing) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ready = match &self.ready {
            Ready::Nothing => 0,
            Ready::Short(next) => next.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len),
            Ready::Long { bytes, .. } => *bytes,
        } as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ready);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ready);
        }
        hint
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Ready::Long { place, .. } = self.ready {
            let _rest = self.unread.lock().remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use futures_util::{future::join_all, stream};
    use http_body_util::BodyExt as _;
    use tokio::time::sleep;

    use super::*;

    const MIB: usize = 1 << 20;

    fn unread() -> Arc<Unread> {
        Unread::new(Metrics::default())
    }

    /// `None` if there was no room.
    async fn try_answer(unread: &Arc<Unread>, body: Body) -> Option<Answer<()>> {
        let put_off = || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        };
        let response = Answer::new(unread.clone(), Response::new(body), (), put_off).await;
        (response.status() == StatusCode::OK).then(|| response.into_body())
    }

    async fn answer(unread: &Arc<Unread>, bytes: usize) -> Answer<()> {
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
                assert!((1..=CHUNK_BYTES).contains(&data.len()));
                left -= data.len();
                assert_eq!(answer.size_hint().exact(), Some(left as u64));
                assert_eq!(answer.is_end_stream(), left == 0);
            }
            assert_eq!(left, 0);
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
    #[tokio::test]
    async fn there_is_room_for_more_when_someone_has_been_silent() {
        const LENGTH: usize = 16 * MIB;
        let unread = unread();
        let mut silent = answer(&unread, LENGTH).await;
        silent.frame().await.unwrap().unwrap();
        let mut read = answer(&unread, LENGTH).await;
        let _others = join_all([(); 6].map(|()| answer(&unread, LENGTH))).await;
        assert_eq!(kept(&unread), (8, BUDGET_BYTES));
        let more = || try_answer(&unread, Body::from(vec![7; LENGTH]));
        assert!(more().await.is_none());

        sleep(SILENCE).await;
        read.frame().await.unwrap().unwrap();
        let _newcomer = more().await.unwrap();
        assert_eq!(kept(&unread), (8, BUDGET_BYTES));
        assert!(silent.frame().await.unwrap().is_err());
        assert_eq!(
            read.collect().await.unwrap().to_bytes().len(),
            LENGTH - CHUNK_BYTES
        );
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
