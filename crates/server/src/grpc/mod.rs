//! The services of `counterfoil.v1` over open logs.

mod arriving;
mod read;
mod refusal;
mod submit;

use std::{collections::BTreeMap, str::FromStr as _, sync::Arc};

use bytes::Bytes;
use counterfoil_log::{Log, LogName, ProvenLeaf, TreeHead};
use counterfoil_proto::{digest_field, proof_field, v1};
use tonic::Extensions;

pub(crate) use arriving::Room;
pub(crate) use read::Reader;
pub(crate) use refusal::Refusal;
pub(crate) use submit::Submitter;

use crate::access::Caller;

/// The longest message that submits: an event of the largest size, or a batch.
pub(crate) const MAX_SUBMIT_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
/// The longest request that reads.
pub(crate) const MAX_READ_REQUEST_BYTES: usize = 64 * 1024;

/// The logs of a server, by name.
pub(crate) type Logs = Arc<BTreeMap<LogName, Arc<Log>>>;

/// A log on which the caller may make this call. Whoever has it not does not learn whether there is such a log.
pub(crate) fn find_log(logs: &Logs, name: &str, caller: &Caller) -> Result<Arc<Log>, Refusal> {
    let name = if name.is_empty() { LogName::DEFAULT } else { name };
    let unknown = || Refusal::unknown_log(name);
    let name = LogName::from_str(name).map_err(|_| unknown())?;
    caller.require(&name)?;
    logs.get(&name).cloned().ok_or_else(unknown)
}

/// Who sent a request.
pub(crate) fn caller(extensions: &Extensions) -> Caller {
    let caller = extensions.get().cloned();
    caller.expect("the layer that finds out who calls is around every service, and each method has a row")
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
