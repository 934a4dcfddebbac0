//! How long a server may take: one that answers signs of life and never finishes must not hold a caller for ever.

use std::time::Duration;

use tokio::time;
use tonic::{Response, Status};

use crate::{Error, Unavailable};

/// How long one call may take in all, and a stream of entries or results be silent. A large batch over a slow line has
/// room.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stream of heads may be silent. Logs sign a head anew every minute unless configured otherwise.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// How long to wait for a server that is there but does not get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For one call, from the request to the last byte of the answer, and for the next entry or result of a stream. A
    /// stream that goes on has no limit in all.
    pub call: Duration,
    /// For the next head of a stream of heads.
    pub head: Duration,
}

impl Default for Timeouts {
    /// 60 s for a call, 600 s for a head.
    fn default() -> Self {
        Self {
            call: CALL_TIMEOUT,
            head: HEAD_TIMEOUT,
        }
    }
}

/// The whole answer to a call.
pub(crate) async fn answer<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    // In a box: each future around a future holds it again.
    let call = Box::pin(call);
    within(limit, "answer", async { Ok(call.await?.into_inner()) }).await
}

/// What is awaited, if it comes in time.
pub(crate) async fn within<T>(
    limit: Duration,
    awaited: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the server is there, but no {awaited} was complete within {limit:?}");
        Err(Unavailable::new(message).into())
    })
}
