//! Where heads, proofs and entries come from. What a source says is worth nothing until it is verified.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use counterfoil_client::Options;
use counterfoil_merkle::{Digest, LeafIndex, Suite, TreeSize};
use counterfoil_note::Policy;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::timeout;

use crate::{
    Timeouts,
    config::{SourceAddress, SourceConfig},
    grpc::GrpcSource,
    http::Http,
    tiles::TileSource,
};

/// Attempts at one call, if the fault may pass.
const MAX_ATTEMPTS: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// Entries in order of index, some at a time.
pub(crate) type Entries = BoxStream<'static, Result<Vec<Bytes>, SourceError>>;

/// Why a source gave no answer that could be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// No answer, or none now.
    #[error("{0}")]
    Unreachable(String),
    /// It says that it does not have what was asked for.
    #[error("{0}")]
    NotServed(String),
    /// An answer that can't be one.
    #[error("{0}")]
    Invalid(String),
}

/// A log or a mirror of it.
pub(crate) struct Source {
    label: String,
    kind: Kind,
    timeouts: Timeouts,
}

enum Kind {
    Tiles(TileSource),
    Grpc(Box<GrpcSource>),
}

impl Source {
    /// Connects when it is first asked.
    pub(crate) fn new(config: &SourceConfig, key: &counterfoil_note::VerifierKey, http: &Http) -> Self {
        let token = config.token.clone();
        let kind = match &config.address {
            SourceAddress::Tiles(url) => Kind::Tiles(TileSource::new(url.clone(), token, http.clone())),
            SourceAddress::Grpc { server, log } => {
                let mut options = Options::new(server.clone(), Policy::for_log(key.clone()));
                options.log.clone_from(log);
                options.token = token;
                Kind::Grpc(Box::new(GrpcSource::new(options, http.timeouts())))
            }
        };
        Self {
            label: config.address.to_string(),
            kind,
            timeouts: http.timeouts(),
        }
    }

    /// How long it may take for the proofs of a round.
    pub(crate) fn proof_time(&self) -> Duration {
        self.timeouts.proofs
    }

    /// What it is called in findings and metrics.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The note that it serves as its newest head.
    pub(crate) async fn head(&self) -> Result<Bytes, SourceError> {
        retry(|| async move {
            match &self.kind {
                Kind::Tiles(tiles) => tiles.head().await,
                Kind::Grpc(grpc) => grpc.head().await,
            }
        })
        .await
    }

    /// A consistency proof between two sizes, the second not above its newest head's.
    pub(crate) async fn consistency(
        &self,
        suite: Suite,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, SourceError> {
        let proof = retry(|| async move {
            match &self.kind {
                Kind::Tiles(tiles) => tiles.consistency(suite, first, second).await,
                Kind::Grpc(grpc) => grpc.consistency(first, second).await,
            }
        });
        within(self.timeouts.proofs, proof).await
    }

    /// A leaf's hash and its inclusion proof in the tree of a size.
    pub(crate) async fn inclusion(
        &self,
        suite: Suite,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), SourceError> {
        let proof = retry(|| async move {
            match &self.kind {
                Kind::Tiles(tiles) => tiles.inclusion(suite, index, size).await,
                Kind::Grpc(grpc) => grpc.inclusion(index, size).await,
            }
        });
        // A proof from tiles is many answers.
        within(self.timeouts.proofs, proof).await
    }

    /// The entries `[first, end)`; `end` is at most the size of a head that it served.
    pub(crate) async fn entries(&self, first: u64, end: TreeSize) -> Result<Entries, SourceError> {
        match &self.kind {
            Kind::Tiles(tiles) => Ok(tiles.entries(first, end)),
            Kind::Grpc(grpc) => retry(|| grpc.entries(first, end)).await,
        }
    }

    /// One entry of the tree of `size`, which is at most that of a head that it served.
    pub(crate) async fn entry(&self, index: LeafIndex, size: TreeSize) -> Result<Bytes, SourceError> {
        let mut entries = match &self.kind {
            Kind::Tiles(tiles) => return tiles.entry(index, size).await,
            Kind::Grpc(grpc) => retry(|| grpc.entries(index.get(), index.size_after())).await?,
        };
        let mut batch = entries.next().await.unwrap_or_else(|| Ok(Vec::new()))?;
        match (batch.pop(), batch.is_empty()) {
            (Some(entry), true) => Ok(entry),
            _ => Err(SourceError::Invalid(format!(
                "leaf {index} was asked for, and that alone"
            ))),
        }
    }
}

/// Waits for an answer no longer than that.
pub(crate) async fn within<T, E: From<SourceError>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(limit, answer).await.unwrap_or_else(|_| {
        let problem = format!("no answer within {limit:?}");
        Err(SourceError::Unreachable(problem).into())
    })
}

/// Tries again, with longer and longer pauses, what may work the next time.
pub(crate) async fn retry<T, F>(call: impl Fn() -> F) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let delays = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_jitter()
        .with_max_times(MAX_ATTEMPTS - 1);
    call.retry(delays)
        .when(|error| matches!(error, SourceError::Unreachable(_)))
        .await
}
