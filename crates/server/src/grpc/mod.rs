//! The services of `counterfoil.v1` over open logs.

mod arriving;
mod read;
mod submit;

use bytes::Bytes;
use counterfoil_log::{ProvenLeaf, TreeHead};
use counterfoil_proto::{digest_field, proof_field, v1};

pub(crate) use arriving::MessageBudget;
pub use arriving::held_after;
pub(crate) use read::Reader;
pub(crate) use submit::Submitter;

/// The longest message that submits: an event of the largest size, or a batch.
pub(crate) const MAX_SUBMIT_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
/// The longest request that reads.
pub(crate) const MAX_READ_REQUEST_BYTES: usize = 64 * 1024;
/// The longest question about health, or about what services there are.
pub(crate) const MAX_QUESTION_BYTES: usize = 4 * 1024;

/// Each method that the port serves over gRPC, by its path.
#[cfg(test)]
pub(crate) fn methods() -> Vec<(String, prost_types::MethodDescriptorProto)> {
    use prost::Message as _;

    let sets = [
        counterfoil_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for file in sets
        .into_iter()
        .flat_map(|set| prost_types::FileDescriptorSet::decode(set).unwrap().file)
    {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| {
                let path = format!("/{service_name}/{}", method.name());
                (path, method.clone())
            }));
        }
    }
    methods
}

fn tree_head(head: &TreeHead) -> v1::TreeHead {
    v1::TreeHead {
        origin: head.origin.to_string(),
        tree_size: head.size.get(),
        root_hash: digest_field(&head.root),
        time_unix_ms: head.time.get(),
        checkpoint: Bytes::copy_from_slice(&head.note),
    }
}

fn receipt(head: &TreeHead, leaf: ProvenLeaf) -> v1::Receipt {
    v1::Receipt {
        leaf_index: leaf.index.get(),
        entry: leaf.entry.into(),
        salt: Bytes::copy_from_slice(leaf.salt.as_bytes()),
        inclusion_proof: proof_field(&leaf.inclusion_proof),
        tree_head: Some(tree_head(head)),
    }
}
