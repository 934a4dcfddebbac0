//! Bodies of deliveries, within the memory set aside for all of them together.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use bytes::{Bytes, BytesMut};
use counterfoil_event::limits::MAX_DATA_BYTES;
use futures_util::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::answer::Refusal;

/// The longest body: GitHub's reach 25 MB.
pub(super) const MAX_BODY_BYTES: usize = MAX_DATA_BYTES;
/// Memory for bodies of usual size that are under way.
const SMALL_BUDGET_BYTES: usize = 32 << 20;
/// Memory for longer bodies, and for those that do not say how long they are.
const LARGE_BUDGET_BYTES: usize = 96 << 20;
/// The longest body of usual size. They have a budget of their own, so that a few senders of long bodies, who need not know
/// any secret to begin, do not keep them out.
const SMALL_BYTES: usize = 1 << 20;
/// How long a delivery waits for memory. GitHub waits ten seconds for the answer.
const BUDGET_PATIENCE: Duration = Duration::from_secs(3);
/// How long a sender may be silent within a body.
const SILENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a body may take as a whole, however steadily it drips.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The memory for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A body, and its part of the memory.
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    _reserved: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self {
            small: Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)),
            large: Arc::new(Semaphore::new(LARGE_BUDGET_BYTES)),
        }
    }

    /// Reads a body, if there is room for as much as it says that it will be; one that does not say gets room for the longest.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<ReadBody, Refusal> {
        let declared = declared_length(headers)?;
        if declared.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(Refusal::TooLarge);
        }
        let limit = declared.unwrap_or(MAX_BODY_BYTES);
        let reserved = self.reserve(limit).await?;
        let bytes = collect(body, limit, declared.unwrap_or(0)).await?;
        Ok(ReadBody {
            bytes,
            _reserved: reserved,
        })
    }

    async fn reserve(&self, length: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let budget = if length <= SMALL_BYTES {
            &self.small
        } else {
            &self.large
        };
        let permits = u32::try_from(length).expect("the limit of a body is far less");
        let turn = timeout(BUDGET_PATIENCE, budget.clone().acquire_many_owned(permits)).await;
        let permit = turn.map_err(|_| Refusal::Busy)?;
        Ok(permit.expect("the budget is never closed"))
    }
}

/// What the sender says. HTTP's own rules about lengths are hyper's to enforce.
fn declared_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|value| value.parse::<u64>().ok());
    let length = length.ok_or(Refusal::Header("content-length"))?;
    // What does not fit is too long in any case.
    Ok(Some(usize::try_from(length).unwrap_or(usize::MAX)))
}

async fn collect(body: Body, limit: usize, expected: usize) -> Result<Bytes, Refusal> {
    let deadline = Instant::now() + BODY_PATIENCE;
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::with_capacity(expected);
    loop {
        let silent = Instant::now() + SILENCE_PATIENCE;
        let chunk = timeout_at(silent.min(deadline), chunks.next()).await;
        match chunk.map_err(|_| Refusal::TooSlow)? {
            None => return Ok(bytes.freeze()),
            Some(Err(_)) => return Err(Refusal::BrokeOff),
            Some(Ok(chunk)) if chunk.len() > limit - bytes.len() => return Err(Refusal::TooLarge),
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
        }
    }
}
