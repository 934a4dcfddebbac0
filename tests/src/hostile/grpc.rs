//! The two services, as the attack has them. Of submitting, `Submit` alone: the client's own tests have the rest.

use std::{collections::HashMap, pin::Pin};

use bytes::Bytes;
use counterfoil_event::Event;
use counterfoil_merkle::Digest;
use counterfoil_proto::{
    digest_field, proof_field,
    v1::{
        self, leaf_selector::Leaf as Selector, read_service_server::ReadService,
        submit_service_server::SubmitService,
    },
};
use tokio_stream::{self as stream, Stream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Attack, Door, HostileLog, history::History, tiles::spoil_entries};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl HostileLog {
    fn head(&self) -> v1::TreeHead {
        v1::TreeHead {
            checkpoint: self.note(Door::Grpc).into(),
            ..v1::TreeHead::default()
        }
    }

    fn proof(&self, proof: Option<Vec<Digest>>) -> Result<Vec<Bytes>, Status> {
        if self.current() == Attack::NoProofs {
            return Err(Status::not_found("there are no proofs today"));
        }
        let mut proof = proof.ok_or_else(|| Status::out_of_range("no such tree"))?;
        self.spoil_proof(&mut proof);
        Ok(proof_field(&proof))
    }

    fn receipt(&self, history: &History, index: usize) -> Result<v1::Receipt, Status> {
        let leaf = &history.leaves[index];
        let salt = match self.current() {
            Attack::FalseSalt => [9; 32],
            _ => *leaf.salt.as_bytes(),
        };
        Ok(v1::Receipt {
            leaf_index: index as u64,
            entry: leaf.entry.clone().into(),
            salt: Bytes::copy_from_slice(&salt),
            inclusion_proof: self.proof(history.inclusion(index as u64, history.size()))?,
            tree_head: Some(self.head()),
        })
    }

    fn entries(&self, history: &History) -> Vec<v1::GetEntryResponse> {
        let mut entries: Vec<_> = history.leaves.iter().map(|leaf| leaf.entry.clone()).collect();
        spoil_entries(&mut entries, self.current());
        let answers = history.leaves.iter().zip(entries).zip(0..);
        answers
            .map(|((leaf, entry), leaf_index)| v1::GetEntryResponse {
                leaf_index,
                entry: entry.into(),
                payload: (self.current() != Attack::NoPayloads).then(|| v1::Payload {
                    salt: Bytes::copy_from_slice(leaf.salt.as_bytes()),
                    attributes: leaf.event.attributes().encode().into(),
                    data: leaf.event.data().clone(),
                    annotations: leaf.annotations.clone().into(),
                }),
            })
            .collect()
    }
}

fn find(history: &History, leaf: Option<v1::LeafSelector>) -> Result<usize, Status> {
    let leaves = history.leaves.iter();
    let place = match leaf.and_then(|leaf| leaf.leaf) {
        Some(Selector::LeafIndex(index)) => usize::try_from(index).ok(),
        Some(Selector::LeafHash(hash)) => {
            (0..history.leaves.len()).find(|&index| digest_field(&history.leaf_hash(index)) == hash)
        }
        Some(Selector::Event(name)) => leaves
            .map(|leaf| &leaf.event)
            .position(|event| event.id() == name.id && event.source() == name.source),
        None => None,
    };
    place
        .filter(|place| *place < history.leaves.len())
        .ok_or_else(|| Status::not_found("the log has no such entry"))
}

#[tonic::async_trait]
impl SubmitService for HostileLog {
    type SubmitStreamStream = Answers<v1::SubmitStreamResponse>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        if self.current() == Attack::RefusedEvents {
            let details = ErrorDetails::with_error_info("INVALID_EVENT", "counterfoil", HashMap::new());
            return Err(Status::with_error_details(
                Code::InvalidArgument,
                "no such word",
                details,
            ));
        }
        let event = request.into_inner().event.unwrap_or_default();
        let event = Event::try_from(event).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let index = self.shared.state.lock().unwrap().honest.record(event);
        let history = self.shown(Door::Grpc);
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(self.receipt(&history, index)?),
            duplicate: false,
        }))
    }

    async fn submit_batch(
        &self,
        _: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        Err(Status::unimplemented("one at a time"))
    }

    async fn submit_stream(
        &self,
        _: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        Err(Status::unimplemented("one at a time"))
    }
}

#[tonic::async_trait]
impl ReadService for HostileLog {
    type WatchTreeHeadsStream = Answers<v1::WatchTreeHeadsResponse>;
    type ReadEntriesStream = Answers<v1::ReadEntriesResponse>;

    async fn get_tree_head(
        &self,
        _: Request<v1::GetTreeHeadRequest>,
    ) -> Result<Response<v1::GetTreeHeadResponse>, Status> {
        let tree_head = Some(self.head());
        Ok(Response::new(v1::GetTreeHeadResponse { tree_head }))
    }

    /// One head, then silence.
    async fn watch_tree_heads(
        &self,
        _: Request<v1::WatchTreeHeadsRequest>,
    ) -> Result<Response<Self::WatchTreeHeadsStream>, Status> {
        let tree_head = Some(self.head());
        let first = Ok(v1::WatchTreeHeadsResponse { tree_head });
        let silence = stream::StreamExt::chain(stream::once(first), stream::pending());
        Ok(Response::new(Box::pin(silence)))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        let request = request.into_inner();
        let history = self.shown(Door::Grpc);
        let index = find(&history, request.leaf)?;
        let tree_size = request.tree_size.unwrap_or(history.size());
        Ok(Response::new(v1::GetInclusionProofResponse {
            leaf_index: index as u64,
            leaf_hash: digest_field(&history.leaf_hash(index)),
            tree_size,
            hashes: self.proof(history.inclusion(index as u64, tree_size))?,
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        let history = self.shown(Door::Grpc);
        let proof = history.consistency(request.first_tree_size, request.second_tree_size);
        let hashes = self.proof(proof)?;
        Ok(Response::new(v1::GetConsistencyProofResponse { hashes }))
    }

    async fn get_entry(
        &self,
        request: Request<v1::GetEntryRequest>,
    ) -> Result<Response<v1::GetEntryResponse>, Status> {
        if self.current() == Attack::Withhold {
            return Err(Status::not_found("the log has no such entry"));
        }
        let history = self.shown(Door::Grpc);
        let index = find(&history, request.into_inner().leaf)?;
        Ok(Response::new(self.entries(&history).swap_remove(index)))
    }

    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let request = request.into_inner();
        let history = self.shown(Door::Grpc);
        if self.current() == Attack::Withhold {
            return Err(Status::not_found("the log has no such entries"));
        }
        let mut entries = self.entries(&history);
        let first = usize::try_from(request.first_leaf_index)
            .unwrap()
            .min(entries.len());
        let mut entries = entries.split_off(first);
        if request.limit > 0 {
            entries.truncate(usize::try_from(request.limit).unwrap());
        }
        let message = Ok(v1::ReadEntriesResponse { entries });
        Ok(Response::new(Box::pin(stream::once(message))))
    }

    async fn find_entries(
        &self,
        _: Request<v1::FindEntriesRequest>,
    ) -> Result<Response<v1::FindEntriesResponse>, Status> {
        Err(Status::unimplemented("this log has no search index"))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let history = self.shown(Door::Grpc);
        let index = find(&history, request.into_inner().leaf)?;
        let receipt = Some(self.receipt(&history, index)?);
        Ok(Response::new(v1::GetReceiptResponse { receipt }))
    }
}
