//! The service that reads.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use counterfoil_event::{EventKey, IndexKey};
use counterfoil_log::{LeafName, Log, StoredEntry, StoredPayload, SubmitError, TreeHead};
use counterfoil_merkle::{LeafIndex, TreeSize};
use counterfoil_proto::{
    digest, digest_field, index_attribute, leaf_index, proof_field, tree_size,
    v1::{self, leaf_selector::Leaf, read_service_server::ReadService},
};
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task,
    time::timeout,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::{receipt, tree_head};
use crate::{
    access::Caller,
    logs::{Logs, find_log},
    refusal::Refusal,
    turns::read_to_end,
};

/// Entries in one message of a range.
const RANGE_ENTRIES: usize = 1_024;
/// Bytes in one message of a range, about; one entry may be larger.
const RANGE_BYTES: usize = 1024 * 1024;
/// Payloads and ranges that are read at a time, each of which may take as much memory as the longest payload does, packed and
/// unpacked. What was read is an answer, and counted as one, before the next has its turn.
const MAX_LONG_READS: usize = 8;
/// Entries that one search returns.
const MAX_FOUND: usize = 1_000;
/// Longest value to search for: the longest that an event can have.
const MAX_VALUE_BYTES: usize = 1_024;
/// A head that covers what is committed is published within an interval, of which the longest is shorter, and the time
/// that witnesses take; later means that it can't be.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);

/// Serves `counterfoil.v1.ReadService`.
pub(crate) struct Reader {
    logs: Logs,
    stopping: watch::Receiver<bool>,
    long_reads: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(logs: Logs, stopping: watch::Receiver<bool>) -> Self {
        Self {
            logs,
            stopping,
            long_reads: Arc::new(Semaphore::new(MAX_LONG_READS)),
        }
    }

    /// Ready once the server was told to stop.
    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.clone();
        async move { drop(stopping.wait_for(|stopping| *stopping).await) }
    }

    /// The newest published head; if the log itself is as large as `known`, one that is as large too.
    async fn published_at_least(&self, log: &Log, known: TreeSize) -> Result<Arc<TreeHead>, Refusal> {
        let mut published = log.watch_published();
        // A log that is smaller has nothing to wait for, and its head tells the truth.
        let least = if log.commit_head().size >= known {
            known
        } else {
            TreeSize::ZERO
        };
        let is_enough = |head: &Option<Arc<TreeHead>>| head.as_ref().is_some_and(|head| head.size >= least);
        let head = async { published.wait_for(is_enough).await.ok()?.clone() };
        tokio::select! {
            biased;
            head = timeout(PUBLISH_PATIENCE, head) => head.ok().flatten().ok_or_else(Refusal::not_published),
            // What it waits for may take longer than calls have then.
            () = self.stopped() => Err(SubmitError::Stopping.into()),
        }
    }
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ReadService for Reader {
    async fn get_tree_head(
        &self,
        request: Request<v1::GetTreeHeadRequest>,
    ) -> Result<Response<v1::GetTreeHeadResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let known = tree_size("known_tree_size", request.known_tree_size).map_err(Refusal::from)?;
        let head = self.published_at_least(&log, known).await?;
        Ok(Response::new(v1::GetTreeHeadResponse {
            tree_head: Some(tree_head(&head)),
        }))
    }

    type WatchTreeHeadsStream = ResponseStream<v1::WatchTreeHeadsResponse>;

    async fn watch_tree_heads(
        &self,
        request: Request<v1::WatchTreeHeadsRequest>,
    ) -> Result<Response<Self::WatchTreeHeadsStream>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let known = tree_size("known_tree_size", request.known_tree_size).map_err(Refusal::from)?;
        self.published_at_least(&log, known).await?;
        let name = log.name().clone();
        let heads = WatchStream::new(log.watch_published())
            .filter_map(future::ready)
            .map(move |head| {
                // The stream may outlive what the caller was let in with.
                caller.require(&name).map_err(Refusal::from)?;
                Ok(v1::WatchTreeHeadsResponse {
                    tree_head: Some(tree_head(&head)),
                })
            })
            .take_until(self.stopped());
        Ok(Response::new(Box::pin(heads)))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let caller = caller.asking(is_search(request.leaf.as_ref()));
        let log = find_log(&self.logs, &request.log, &caller)?;
        let size = match request.tree_size {
            Some(size) => tree_size("tree_size", size).map_err(Refusal::from)?,
            None => self.published_at_least(&log, TreeSize::ZERO).await?.size,
        };
        let index = find_leaf(&log, request.leaf).await?;
        let (leaf_hash, hashes) = log.inclusion_proof(index, size).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::GetInclusionProofResponse {
            leaf_index: index.get(),
            leaf_hash: digest_field(&leaf_hash),
            tree_size: size.get(),
            hashes: proof_field(&hashes),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let first = tree_size("first_tree_size", request.first_tree_size).map_err(Refusal::from)?;
        let second = tree_size("second_tree_size", request.second_tree_size).map_err(Refusal::from)?;
        let hashes = log
            .consistency_proof(first, second)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(v1::GetConsistencyProofResponse {
            hashes: proof_field(&hashes),
        }))
    }

    async fn get_entry(
        &self,
        request: Request<v1::GetEntryRequest>,
    ) -> Result<Response<v1::GetEntryResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let caller = caller.asking(request.with_payload || is_search(request.leaf.as_ref()));
        let log = find_log(&self.logs, &request.log, &caller)?;
        let index = find_leaf(&log, request.leaf).await?;
        if !request.with_payload {
            let stored = log.entry(index, false).await.map_err(Refusal::from)?;
            return Ok(Response::new(entry_message(stored)));
        }
        let turn = turn(&self.long_reads).await;
        let read = async move { log.entry(index, true).await };
        let (stored, _turn) = read_to_end(turn, read).await.map_err(Refusal::from)?;
        Ok(Response::new(entry_message(stored.map_err(Refusal::from)?)))
    }

    type ReadEntriesStream = ResponseStream<v1::ReadEntriesResponse>;

    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let caller = caller.asking(request.with_payload);
        let log = find_log(&self.logs, &request.log, &caller)?;
        let first = leaf_index("first_leaf_index", request.first_leaf_index).map_err(Refusal::from)?;
        let size = log.commit_head().size;
        let rest = size.get().saturating_sub(first.get());
        let count = if request.limit == 0 {
            rest
        } else {
            rest.min(request.limit)
        };
        let range = first.get()..first.get() + count;
        let long_reads = self.long_reads.clone();
        let chunks = stream::try_unfold(range, move |range| {
            let (log, caller, long_reads) = (log.clone(), caller.clone(), long_reads.clone());
            async move {
                // tonic asks for the next message before it hands on a short one, and may then not ask again before that is read.
                // So nothing is begun when it asks first.
                task::yield_now().await;
                let turn = turn(&long_reads).await;
                // The stream may outlive what the caller was let in with.
                caller.require(log.name()).map_err(Refusal::from)?;
                let read = async move { next_chunk(&log, range, request.with_payload).await };
                let (chunk, _turn) = read_to_end(turn, read).await.map_err(Refusal::from)?;
                chunk
            }
        });
        Ok(Response::new(Box::pin(chunks.take_until(self.stopped()))))
    }

    async fn find_entries(
        &self,
        request: Request<v1::FindEntriesRequest>,
    ) -> Result<Response<v1::FindEntriesResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let attribute = index_attribute("attribute", request.attribute).map_err(Refusal::from)?;
        let first = leaf_index("first_leaf_index", request.first_leaf_index).map_err(Refusal::from)?;
        if request.value.is_empty() || request.value.len() > MAX_VALUE_BYTES {
            let problem = format!("has to be 1 to {MAX_VALUE_BYTES} bytes long");
            return Err(Refusal::invalid_request("value", problem).into());
        }
        let limit = match usize::try_from(request.limit) {
            Ok(limit) if (1..MAX_FOUND).contains(&limit) => limit,
            _ => MAX_FOUND,
        };
        let key = IndexKey::new(attribute, &request.value);
        let found = log.find_entries(key, first, limit).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::FindEntriesResponse {
            leaf_indices: found.indices.into_iter().map(LeafIndex::get).collect(),
            tree_size: found.size.get(),
            more: found.more,
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let request = request.into_inner();
        let log = find_log(&self.logs, &request.log, &caller)?;
        let index = find_leaf(&log, request.leaf).await?;
        let (head, leaf) = log.proven_leaf(index).await.map_err(Refusal::from)?;
        Ok(Response::new(v1::GetReceiptResponse {
            receipt: Some(receipt(&head, leaf)),
        }))
    }
}

async fn turn(turns: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let turn = turns.clone().acquire_owned().await;
    turn.expect("the semaphore is never closed")
}

/// Whether a leaf is named by what is in it: to find one by its event is a search.
fn is_search(selector: Option<&v1::LeafSelector>) -> bool {
    let leaf = selector.and_then(|selector| selector.leaf.as_ref());
    matches!(leaf, Some(Leaf::Event(_)))
}

async fn find_leaf(log: &Log, selector: Option<v1::LeafSelector>) -> Result<LeafIndex, Refusal> {
    let leaf = selector
        .and_then(|selector| selector.leaf)
        .ok_or_else(|| Refusal::invalid_request("leaf", "is missing"))?;
    let name = match leaf {
        Leaf::LeafIndex(index) => LeafName::Index(leaf_index("leaf.leaf_index", index)?),
        Leaf::LeafHash(hash) => LeafName::Hash(digest("leaf.leaf_hash", &hash)?),
        Leaf::Event(event) => LeafName::Event(EventKey::new(&event.source, &event.id)),
    };
    Ok(log.find(name).await?)
}

type Range = std::ops::Range<u64>;

async fn next_chunk(
    log: &Log,
    range: Range,
    with_payload: bool,
) -> Result<Option<(v1::ReadEntriesResponse, Range)>, Status> {
    if range.is_empty() {
        return Ok(None);
    }
    let first = leaf_index("first_leaf_index", range.start).map_err(Refusal::from)?;
    let most = usize::try_from(range.end - range.start)
        .unwrap_or(usize::MAX)
        .min(RANGE_ENTRIES);
    let entries = log
        .entries(first, most, RANGE_BYTES, with_payload)
        .await
        .map_err(Refusal::from)?;
    let next = range.start + entries.len() as u64;
    let message = v1::ReadEntriesResponse {
        entries: entries.into_iter().map(entry_message).collect(),
    };
    Ok(Some((message, next..range.end)))
}

fn entry_message(stored: StoredEntry) -> v1::GetEntryResponse {
    v1::GetEntryResponse {
        leaf_index: stored.index.get(),
        entry: stored.entry.into(),
        payload: stored.payload.map(
            |StoredPayload {
                 salt,
                 attributes,
                 annotations,
                 data,
             }| v1::Payload {
                salt: Bytes::copy_from_slice(salt.as_bytes()),
                attributes: attributes.into(),
                data: data.into(),
                annotations: annotations.into(),
            },
        ),
    }
}
