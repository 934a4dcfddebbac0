//! A log over gRPC, unverified: the monitor verifies the same way wherever the bytes come from.

use std::time::Duration;

use bytes::Bytes;
use counterfoil_client::{Action, Client, Error, Options, Reason, Server, Unverified, UnverifiedEntries};
use counterfoil_merkle::{Digest, LeafIndex, TreeSize};
use counterfoil_note::{Policy, VerifierKey};
use futures_util::{StreamExt as _, stream};
use tokio::{sync::Mutex, time::timeout};

use crate::source::{Entries, SourceError};

/// How long a call may take, and how long a stream of entries may be silent.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct GrpcSource {
    server: Server,
    log: String,
    key: VerifierKey,
    /// Made when it is first needed; it reconnects by itself.
    client: Mutex<Option<Unverified>>,
}

impl GrpcSource {
    pub(crate) fn new(server: Server, log: String, key: VerifierKey) -> Self {
        Self {
            server,
            log,
            key,
            client: Mutex::new(None),
        }
    }

    pub(crate) async fn head(&self) -> Result<Bytes, SourceError> {
        let client = self.client().await?;
        in_time(client.head_note()).await
    }

    pub(crate) async fn consistency(
        &self,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, SourceError> {
        let client = self.client().await?;
        in_time(Box::pin(client.consistency_proof(first, second))).await
    }

    pub(crate) async fn inclusion(
        &self,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), SourceError> {
        let client = self.client().await?;
        in_time(Box::pin(client.inclusion_proof(index, size))).await
    }

    pub(crate) async fn entries(&self, first: u64, end: TreeSize) -> Result<Entries, SourceError> {
        let client = self.client().await?;
        let first = LeafIndex::new(first).map_err(|error| SourceError::Invalid(error.to_string()))?;
        let entries = in_time(client.entries(first, end)).await?;
        let next = async |mut entries: UnverifiedEntries| {
            let batch = in_time(entries.next()).await?;
            Ok((!batch.is_empty()).then_some((batch, entries)))
        };
        Ok(stream::try_unfold(entries, next).boxed())
    }

    async fn client(&self) -> Result<Unverified, SourceError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let mut options = Options::new(self.server.clone(), Policy::for_log(self.key.clone()));
        options.log.clone_from(&self.log);
        let connected = Box::pin(in_time(Client::connect(options))).await?.unverified();
        Ok(client.insert(connected).clone())
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, SourceError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(SourceError::from),
        Err(_) => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(SourceError::Unreachable(format!("no answer within {seconds} s")))
        }
    }
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
