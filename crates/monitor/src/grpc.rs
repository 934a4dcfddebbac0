//! A log over gRPC, unverified: the monitor verifies the same way wherever the bytes come from.

use std::time::Duration;

use bytes::Bytes;
use counterfoil_client::{Action, Client, Error, Options, Reason, Unverified, UnverifiedEntries};
use counterfoil_merkle::{Digest, LeafIndex, TreeSize};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use crate::{
    Timeouts,
    source::{Entries, SourceError, within},
};

pub(crate) struct GrpcSource {
    options: Options,
    timeouts: Timeouts,
    /// Made when it is first needed; it reconnects by itself.
    client: Mutex<Option<Unverified>>,
}

impl GrpcSource {
    pub(crate) fn new(options: Options, timeouts: Timeouts) -> Self {
        Self {
            options,
            timeouts,
            client: Mutex::new(None),
        }
    }

    pub(crate) async fn head(&self) -> Result<Bytes, SourceError> {
        let client = self.client().await?;
        self.in_time(client.head_note()).await
    }

    pub(crate) async fn consistency(
        &self,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, SourceError> {
        let client = self.client().await?;
        self.in_time(Box::pin(client.consistency_proof(first, second)))
            .await
    }

    pub(crate) async fn inclusion(
        &self,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), SourceError> {
        let client = self.client().await?;
        self.in_time(Box::pin(client.inclusion_proof(index, size))).await
    }

    pub(crate) async fn entries(&self, first: u64, end: TreeSize) -> Result<Entries, SourceError> {
        let client = self.client().await?;
        let first = LeafIndex::new(first).map_err(|error| SourceError::Invalid(error.to_string()))?;
        let entries = self.in_time(client.entries(first, end)).await?;
        let limit = self.timeouts.answer;
        let next = move |mut entries: UnverifiedEntries| async move {
            let batch = in_time(limit, entries.next()).await?;
            Ok((!batch.is_empty()).then_some((batch, entries)))
        };
        Ok(stream::try_unfold(entries, next).boxed())
    }

    async fn client(&self) -> Result<Unverified, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let connected = Box::pin(self.in_time(Client::connect(self.options.clone())))
            .await?
            .unverified();
        Ok(client.insert(connected).clone())
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, SourceError> {
        in_time(self.timeouts.answer, call).await
    }
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, SourceError> {
    within(limit, async { call.await.map_err(SourceError::from) }).await
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match &error {
            Error::Refused(refusal)
                if matches!(
                    refusal.reason,
                    Reason::NotFound | Reason::OutOfRange | Reason::DataLoss | Reason::UnknownLog
                ) =>
            {
                Self::NotServed(text)
            }
            _ if error.action() == Action::Retry => Self::Unreachable(text),
            _ => Self::Invalid(text),
        }
    }
}
