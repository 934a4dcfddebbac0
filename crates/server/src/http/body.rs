//! Bodies of requests, of bounded length and in bounded memory however many come at a time.

use std::{error::Error as _, io::Read as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::LengthLimitError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Longest body, and longest that a compressed one may become: a payload of the largest size in base64, or a batch.
pub(super) const MAX_BODY_BYTES: usize = 36 << 20;
/// Memory for all bodies that are on their way in, in KiB.
const BUDGET_KIB: u32 = 160 << 10;
/// How long a request waits for room.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is longer than {MAX_BODY_BYTES} bytes, or would be once it is decompressed")]
    TooLarge,
    #[error("too many bodies are on their way")]
    Busy,
    #[error("the body did not arrive in {} s", BODY_PATIENCE.as_secs())]
    TooSlow,
    #[error("the body broke off")]
    Broken,
    #[error("the body is not gzip, though its Content-Encoding says so")]
    NotGzip,
    #[error("the body's Content-Encoding is not understood here")]
    UnknownEncoding,
}

/// A body, and its share of the budget until it is dropped.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Room for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET_KIB as usize)))
    }
}

impl Bodies {
    /// Reads a body. One that is compressed with gzip is unpacked if `gzip` says so, and refused if not.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        gzip: bool,
    ) -> Result<Received, BodyError> {
        let compressed = is_gzip(headers)?;
        if compressed && !gzip {
            return Err(BodyError::UnknownEncoding);
        }
        // What is not told could be anything.
        let declared = content_length(headers).unwrap_or(MAX_BODY_BYTES);
        if declared > MAX_BODY_BYTES {
            return Err(BodyError::TooLarge);
        }
        let bytes = if compressed {
            declared + MAX_BODY_BYTES
        } else {
            declared
        };
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(BUDGET_KIB);
        let room = timeout(ROOM_PATIENCE, self.0.clone().acquire_many_owned(kibibytes.max(1)));
        let room = room.await.ok().and_then(Result::ok).ok_or(BodyError::Busy)?;
        let received = timeout(BODY_PATIENCE, to_bytes(body, MAX_BODY_BYTES));
        let received = received.await.map_err(|_| BodyError::TooSlow)?;
        let bytes = received.map_err(|problem| {
            let too_large = problem
                .source()
                .is_some_and(|source| source.is::<LengthLimitError>());
            if too_large {
                BodyError::TooLarge
            } else {
                BodyError::Broken
            }
        })?;
        let bytes = if compressed {
            tokio::task::block_in_place(|| unpack(&bytes))?
        } else {
            bytes
        };
        Ok(Received { bytes, _room: room })
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, BodyError> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => Err(BodyError::UnknownEncoding),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A few KiB of gzip can stand for gigabytes: what comes out is counted, not what the header says.
fn unpack(compressed: &[u8]) -> Result<Bytes, BodyError> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(compressed)
        .take(MAX_BODY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| BodyError::NotGzip)?;
    if bytes.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge);
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        assert_eq!(unpack(&pack(b"{}")).unwrap(), "{}");
        let most = vec![0; MAX_BODY_BYTES];
        assert_eq!(unpack(&pack(&most)).unwrap().len(), MAX_BODY_BYTES);
        let bomb = pack(&vec![0; MAX_BODY_BYTES + 1]);
        assert!(bomb.len() < MAX_BODY_BYTES / 100);
        assert_eq!(unpack(&bomb), Err(BodyError::TooLarge));
        // Members after one another are one body.
        let twice = [pack(&most), pack(b"x")].concat();
        assert_eq!(unpack(&twice), Err(BodyError::TooLarge));
        assert_eq!(unpack(b"{}"), Err(BodyError::NotGzip));
        let cut = &pack(b"{\"event\":1}")[..15];
        assert_eq!(unpack(cut), Err(BodyError::NotGzip));
    }
}
