//! Bodies of requests, of bounded length and in bounded memory however many come at a time.

use std::{io::Read as _, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
    time::{Instant, timeout, timeout_at},
};

/// Memory for bodies of usual size that are under way, in bytes.
const SMALL_BUDGET_BYTES: usize = 32 << 20;
/// Memory for longer bodies, and for those that do not say how long they will be.
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

/// What a path takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepts {
    /// The longest body, and the longest that a compressed one may become.
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

/// A body, and its part of the memory until it is dropped.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _reserved: OwnedSemaphorePermit,
}

/// The memory for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self {
            small: Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)),
            large: Arc::new(Semaphore::new(LARGE_BUDGET_BYTES)),
        }
    }

    /// Reads a body, if there is room for as much as it says that it will be; one that does not say gets room for the longest.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        accepts: Accepts,
    ) -> Result<Received, BodyError> {
        let Accepts { max_bytes, gzip } = accepts;
        let compressed = is_gzip(headers)?;
        if compressed && !gzip {
            return Err(BodyError::Encoding);
        }
        let declared = declared_length(headers)?;
        if declared.is_some_and(|length| length > max_bytes) {
            return Err(BodyError::TooLarge { max_bytes });
        }
        let limit = declared.unwrap_or(max_bytes);
        let unpacked = if compressed { max_bytes } else { 0 };
        let reserved = self.reserve(limit + unpacked).await?;
        let arrived = collect(body, limit, declared.unwrap_or(0)).await?;
        let bytes = if compressed {
            task::block_in_place(|| unpack(&arrived, max_bytes))?
        } else {
            arrived
        };
        Ok(Received {
            bytes,
            _reserved: reserved,
        })
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        let budget = if bytes <= SMALL_BYTES {
            &self.small
        } else {
            &self.large
        };
        let permits = u32::try_from(bytes).expect("the limit of a body is far less");
        let turn = timeout(BUDGET_PATIENCE, budget.clone().acquire_many_owned(permits)).await;
        let permit = turn.map_err(|_| BodyError::Busy)?;
        Ok(permit.expect("the budget is never closed"))
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

async fn collect(body: Body, limit: usize, expected: usize) -> Result<Bytes, BodyError> {
    let deadline = Instant::now() + BODY_PATIENCE;
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::with_capacity(expected);
    loop {
        let silent = Instant::now() + SILENCE_PATIENCE;
        let chunk = timeout_at(silent.min(deadline), chunks.next()).await;
        match chunk.map_err(|_| BodyError::TooSlow)? {
            None => return Ok(bytes.freeze()),
            Some(Err(_)) => return Err(BodyError::BrokeOff),
            Some(Ok(chunk)) if chunk.len() > limit - bytes.len() => {
                return Err(BodyError::TooLarge { max_bytes: limit });
            }
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
        }
    }
}

/// A few KiB of gzip can stand for gigabytes: what comes out is counted, not what the header says.
fn unpack(compressed: &[u8], max_bytes: usize) -> Result<Bytes, BodyError> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(compressed)
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| BodyError::NotGzip)?;
    if bytes.len() > max_bytes {
        return Err(BodyError::TooLarge { max_bytes });
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const MAX_BYTES: usize = 36 << 20;
    const TOO_LARGE: BodyError = BodyError::TooLarge { max_bytes: MAX_BYTES };

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let unpack = |bytes: &[u8]| unpack(bytes, MAX_BYTES);
        assert_eq!(unpack(&pack(b"{}")).unwrap(), "{}");
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

    #[tokio::test]
    async fn memory_is_held_as_long_as_the_body() {
        let accepts = Accepts {
            max_bytes: MAX_BYTES,
            gzip: true,
        };
        let bodies = Bodies::new();
        let no_headers = HeaderMap::new();
        let undeclared = || bodies.read(&no_headers, Body::from("x"), accepts);
        let mut held = Vec::new();
        for _ in 0..LARGE_BUDGET_BYTES / MAX_BYTES {
            held.push(undeclared().await.unwrap());
        }
        assert_eq!(undeclared().await.err(), Some(BodyError::Busy));
        let declared = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("1"))]);
        assert!(bodies.read(&declared, Body::from("x"), accepts).await.is_ok());
        held.pop();
        assert!(undeclared().await.is_ok());
    }
}
