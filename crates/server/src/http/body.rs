//! Bodies of requests, of bounded length and in bounded memory however many come at a time.

use std::{io::Read as _, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;
use tokio::{
    task,
    time::{Instant, sleep_until},
};

use super::budget::{BodyBudget, Buffer, Full, Patience, Share};

/// The longest body that any path takes.
pub(super) const MAX_BODY_BYTES: usize = 36 << 20;
/// Memory for bodies of usual size that are under way, in bytes.
const SMALL_BUDGET_BYTES: usize = 32 << 20;
/// Memory for longer bodies, for those that do not say how long they will be, and for what gzip unpacks to.
const LARGE_BUDGET_BYTES: usize = 144 << 20;
/// The longest body of usual size. They have a budget of their own, so that a few senders of long bodies, who need not know
/// any secret to begin, do not keep them out.
const SMALL_BYTES: usize = 1 << 20;
/// How long a request waits for memory. GitHub waits ten seconds for the answer.
const BUDGET_PATIENCE: Duration = Duration::from_secs(3);
/// How long a sender may be silent within a body.
const SILENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a body may take as a whole, however steadily it drips.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Whoever is silent for so long makes room for others, if they need it.
const SILENCE: Duration = Duration::from_secs(1);
/// So does whoever sends more slowly than this, after as long: 25 MiB of it take little less than a body may.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// What a path takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepts {
    /// The longest body, and the longest that a compressed one may become: [`MAX_BODY_BYTES`] at most.
    pub(super) max_bytes: usize,
    /// Whether it may be compressed.
    pub(super) gzip: bool,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("a body has {max_bytes} bytes at most, once it is decompressed too")]
    TooLarge { max_bytes: usize },
    #[error("too many bodies are under way")]
    Busy,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokeOff,
    #[error("the header content-length is no number")]
    Length,
    #[error("the body's Content-Encoding is not taken here")]
    Encoding,
    #[error("the body is not gzip, though its Content-Encoding says so")]
    NotGzip,
}

impl From<Full> for BodyError {
    fn from(Full: Full) -> Self {
        Self::Busy
    }
}

/// A body, and its part of the memory until it is dropped.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _share: Option<Share>,
}

/// The memory for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies {
    small: BodyBudget,
    large: BodyBudget,
    unpacked: BodyBudget,
}

impl Bodies {
    pub(super) fn new() -> Self {
        // A second place for the longest stands aside for what is unpacked.
        let large = BodyBudget::new(LARGE_BUDGET_BYTES - MAX_BODY_BYTES, MAX_BODY_BYTES);
        Self {
            small: BodyBudget::new(SMALL_BUDGET_BYTES, SMALL_BYTES),
            unpacked: large.with_second_whole_place(),
            large,
        }
    }

    /// Reads a body, as long as there is room for it.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        accepts: Accepts,
    ) -> Result<Received, BodyError> {
        let Accepts { max_bytes, gzip } = accepts;
        debug_assert!(max_bytes <= MAX_BODY_BYTES);
        let compressed = is_gzip(headers)?;
        if compressed && !gzip {
            return Err(BodyError::Encoding);
        }
        let limit = declared_length(headers)?.unwrap_or(max_bytes);
        if limit > max_bytes {
            return Err(BodyError::TooLarge { max_bytes });
        }
        let budget = if limit <= SMALL_BYTES {
            &self.small
        } else {
            &self.large
        };
        let mut patience = Patience(BUDGET_PATIENCE);
        let (bytes, share) = collect(budget, body, limit, &mut patience).await?.finish();
        if compressed {
            return self.unpack(&bytes, max_bytes, &mut patience).await;
        }
        Ok(Received {
            bytes: bytes.into(),
            _share: share,
        })
    }

    /// Memory for the longest is taken first, and most of it given back: how much it takes nobody knows before, and while one
    /// waits for it, another could be done.
    async fn unpack(
        &self,
        packed: &[u8],
        max_bytes: usize,
        patience: &mut Patience,
    ) -> Result<Received, BodyError> {
        let share = self.unpacked.take(max_bytes, patience).await?;
        let bytes = task::block_in_place(|| unpack(packed, max_bytes))?;
        let share = self.unpacked.keep(share, bytes.capacity());
        Ok(Received {
            bytes: bytes.into(),
            _share: Some(share),
        })
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, BodyError> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => Err(BodyError::Encoding),
    }
}

/// What the sender says. HTTP's own rules about lengths are hyper's to enforce.
fn declared_length(headers: &HeaderMap) -> Result<Option<usize>, BodyError> {
    let Some(value) = headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|value| value.parse::<u64>().ok());
    let length = length.ok_or(BodyError::Length)?;
    // What does not fit is too long in any case.
    Ok(Some(usize::try_from(length).unwrap_or(usize::MAX)))
}

async fn collect<'r>(
    budget: &'r BodyBudget,
    body: Body,
    limit: usize,
    patience: &mut Patience,
) -> Result<Buffer<'r>, BodyError> {
    let mut began = Instant::now();
    let deadline = began + BODY_PATIENCE;
    let mut chunks = body.into_data_stream();
    let mut buffer = Buffer::new(budget, limit);
    loop {
        let now = Instant::now();
        let sent = Duration::from_millis(buffer.len() as u64 * 1_000 / BYTES_PER_SECOND);
        let makes_room = async {
            sleep_until((now + SILENCE).min(began + SILENCE + sent)).await;
            budget.is_wanted().await;
        };
        let chunk = tokio::select! {
            biased;
            chunk = chunks.next() => chunk,
            () = sleep_until((now + SILENCE_PATIENCE).min(deadline)) => return Err(BodyError::TooSlow),
            () = makes_room => return Err(BodyError::TooSlow),
        };
        match chunk {
            None => return Ok(buffer),
            Some(Err(_)) => return Err(BodyError::BrokeOff),
            Some(Ok(chunk)) if chunk.len() > limit - buffer.len() => {
                return Err(BodyError::TooLarge { max_bytes: limit });
            }
            Some(Ok(chunk)) => {
                let asked = Instant::now();
                buffer.extend(&chunk, patience).await?;
                // It is not slow who is kept waiting.
                began += asked.elapsed();
            }
        }
    }
}

/// A few KiB of gzip can stand for gigabytes: what comes out is counted, not what the header says. There is never more than
/// `max_bytes` of it.
fn unpack(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, BodyError> {
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut bytes = Vec::with_capacity(max_bytes);
    let unpacked = (&mut decoder)
        .take(max_bytes as u64)
        .read_to_end(&mut bytes)
        .and_then(|_| decoder.read(&mut [0]));
    if unpacked.map_err(|_| BodyError::NotGzip)? > 0 {
        return Err(BodyError::TooLarge { max_bytes });
    }
    // A copy: there is room for two only where both are short.
    if bytes.len() <= max_bytes / 2 {
        bytes.shrink_to_fit();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use axum::http::HeaderValue;
    use flate2::{Compression, write::GzEncoder};
    use futures_util::stream;
    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    const MAX_BYTES: usize = MAX_BODY_BYTES;
    const TOO_LARGE: BodyError = BodyError::TooLarge { max_bytes: MAX_BYTES };

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let unpack = |bytes: &[u8]| unpack(bytes, MAX_BYTES);
        assert_eq!(unpack(&pack(b"{}")).unwrap(), b"{}");
        let most = vec![0; MAX_BYTES];
        assert_eq!(unpack(&pack(&most)).unwrap().len(), MAX_BYTES);
        let bomb = pack(&vec![0; MAX_BYTES + 1]);
        assert!(bomb.len() < MAX_BYTES / 100);
        assert_eq!(unpack(&bomb), Err(TOO_LARGE));
        // Members after one another are one body.
        let twice = [pack(&most), pack(b"x")].concat();
        assert_eq!(unpack(&twice), Err(TOO_LARGE));
        assert_eq!(unpack(b"{}"), Err(BodyError::NotGzip));
        let cut = &pack(b"{\"event\":1}")[..15];
        assert_eq!(unpack(cut), Err(BodyError::NotGzip));
    }

    const MIB: usize = 1 << 20;

    fn declared(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(bytes))])
    }

    async fn read(bodies: &Bodies, headers: &HeaderMap, body: Body) -> Result<Received, BodyError> {
        let accepts = Accepts {
            max_bytes: MAX_BODY_BYTES,
            gzip: true,
        };
        bodies.read(headers, body, accepts).await
    }

    /// Reads a body of zeros that comes at once.
    async fn read_zeros(bodies: &Bodies, bytes: usize) -> Result<Received, BodyError> {
        read(bodies, &declared(bytes), Body::from(vec![0; bytes])).await
    }

    /// So many bytes at once, and from then on one now and again.
    fn dripping(begins_with: usize) -> Body {
        let begins = stream::once(async move { Ok::<_, io::Error>(Bytes::from(vec![0; begins_with])) });
        let drips = stream::repeat_with(|| Ok(Bytes::from_static(b"0"))).then(async |drop| {
            sleep(Duration::from_millis(100)).await;
            drop
        });
        Body::from_stream(begins.chain(drips))
    }

    /// Reads bodies beside whatever else there is to do.
    fn begin(
        bodies: &Bodies,
        count: usize,
        bytes: usize,
        body: impl Fn() -> Body,
    ) -> JoinSet<Result<Received, BodyError>> {
        let reads = (0..count).map(|_| {
            let (bodies, body) = (bodies.clone(), body());
            async move { read(&bodies, &declared(bytes), body).await }
        });
        reads.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_held_as_long_as_the_body() {
        let bodies = Bodies::new();
        let long = || read_zeros(&bodies, 24 * MIB);
        let mut held = Vec::new();
        // In parts of the memory, and where the longest has room.
        for _ in 0..4 {
            held.push(long().await.unwrap());
        }
        let began = Instant::now();
        assert_eq!(long().await.err(), Some(BodyError::Busy));
        assert_eq!(began.elapsed(), BUDGET_PATIENCE);
        assert!(read_zeros(&bodies, MIB).await.is_ok());
        held.pop();
        assert!(long().await.is_ok());
    }

    /// Whoever says that a body will be long, and sends a byte of it now and again, holds up nobody.
    #[tokio::test(start_paused = true)]
    async fn memory_is_taken_by_what_comes_and_not_by_what_is_said() {
        for bytes in [MIB, 24 * MIB] {
            let bodies = Bodies::new();
            let _dripping = begin(&bodies, 1_000, bytes, || dripping(1));
            sleep(Duration::from_millis(950)).await;
            let began = Instant::now();
            assert_eq!(read_zeros(&bodies, bytes).await.unwrap().bytes.len(), bytes);
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
    }

    /// More than there is memory for, side by side: each would wait with its part for all the others.
    #[tokio::test(start_paused = true)]
    async fn bodies_that_wait_for_each_other_get_through() {
        let bodies = Bodies::new();
        let cut = || {
            let chunks =
                stream::iter((0..64).map(|_| Ok::<_, io::Error>(Bytes::from_static(&[0; MIB / 64]))));
            Body::from_stream(chunks.then(async |chunk| {
                sleep(Duration::from_millis(1)).await;
                chunk
            }))
        };
        let mut reads = begin(&bodies, 100, MIB, cut);
        while let Some(read) = reads.join_next().await {
            assert_eq!(read.unwrap().err(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_makes_room_for_who_waits() {
        let bodies = Bodies::new();
        let mut slow = begin(&bodies, 31, MIB, || dripping(MIB / 2 + 1));
        let held = read_zeros(&bodies, MIB).await;
        // Nobody is disturbed as long as nobody else needs the memory.
        sleep(Duration::from_secs(10)).await;
        assert!(slow.try_join_next().is_none());

        let began = Instant::now();
        assert!(held.is_ok() && read_zeros(&bodies, MIB).await.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(
            slow.join_next().await.unwrap().unwrap().err(),
            Some(BodyError::TooSlow)
        );
    }

    /// It has the time that it would take at the least speed that there is no objection to.
    #[tokio::test(start_paused = true)]
    async fn who_is_fast_enough_keeps_the_room() {
        let bodies = Bodies::new();
        let mut fast = begin(&bodies, 31, MIB, || dripping(MIB / 2 + 1));
        // They come first.
        task::yield_now().await;
        let _held = read_zeros(&bodies, MIB).await.unwrap();
        let began = Instant::now();
        assert!(read_zeros(&bodies, MIB).await.is_ok());
        assert_eq!(began.elapsed(), SILENCE + SILENCE / 2);
        assert!(fast.join_next().await.unwrap().unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_in_time_or_not_at_all() {
        let bodies = Bodies::new();
        let began = Instant::now();
        let dripped = read(&bodies, &declared(MIB), dripping(1)).await;
        assert_eq!(
            (dripped.err(), began.elapsed()),
            (Some(BodyError::TooSlow), BODY_PATIENCE)
        );
        let began = Instant::now();
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let silent = read(&bodies, &declared(1), silent).await;
        assert_eq!(
            (silent.err(), began.elapsed()),
            (Some(BodyError::TooSlow), SILENCE_PATIENCE)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_unpacked_holds_no_more_than_it_has() {
        let bodies = Bodies::new();
        let packed = pack(&vec![0; MIB]);
        let mut headers = declared(packed.len());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let mut held = Vec::new();
        for _ in 0..36 {
            let received = read(&bodies, &headers, Body::from(packed.clone())).await.unwrap();
            assert_eq!(received.bytes.len(), MIB);
            held.push(received);
        }
    }
}
