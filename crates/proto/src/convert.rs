//! Between messages and the types of the other crates.

use bytes::{Bytes, BytesMut};
use counterfoil_event::{Event, EventParts, IndexAttribute, InvalidEvent, Salt};
use counterfoil_merkle::{Digest, LeafIndex, TreeSize};
use counterfoil_note::SignedHead;
use counterfoil_verify::Receipt;

use crate::v1;

/// A message field that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field's name in the .proto file, such as `root_hash`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidField {
    fn new(field: &'static str, problem: impl ToString) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Reads a digest: exactly 32 bytes.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, InvalidField> {
    Digest::try_from(bytes).map_err(|problem| InvalidField::new(field, problem))
}

/// Reads the hashes of a proof, 32 bytes each.
pub fn digests(field: &'static str, hashes: &[Bytes]) -> Result<Vec<Digest>, InvalidField> {
    // Collecting into a `Result` would not know how many there are, and grow the vector by turns.
    let mut digests = Vec::with_capacity(hashes.len());
    for hash in hashes {
        digests.push(digest(field, hash)?);
    }
    Ok(digests)
}

/// Reads the index of a leaf.
pub fn leaf_index(field: &'static str, index: u64) -> Result<LeafIndex, InvalidField> {
    LeafIndex::new(index).map_err(|problem| InvalidField::new(field, problem))
}

/// Reads the size of a tree.
pub fn tree_size(field: &'static str, size: u64) -> Result<TreeSize, InvalidField> {
    TreeSize::new(size).map_err(|problem| InvalidField::new(field, problem))
}

/// Reads an attribute of the search index.
pub fn index_attribute(field: &'static str, number: i32) -> Result<IndexAttribute, InvalidField> {
    u8::try_from(number)
        .ok()
        .and_then(IndexAttribute::from_number)
        .ok_or_else(|| InvalidField::new(field, "is no attribute that entries can be found by"))
}

/// A digest as a message field.
pub fn digest_field(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// The hashes of a proof as a message field. They share one allocation.
pub fn proof_field(hashes: &[Digest]) -> Vec<Bytes> {
    let mut buffer = BytesMut::with_capacity(hashes.len() * 32);
    for hash in hashes {
        buffer.extend_from_slice(hash.as_bytes());
    }
    let mut buffer = buffer.freeze();
    hashes.iter().map(|_| buffer.split_to(32)).collect()
}

impl TryFrom<v1::Event> for Event {
    type Error = InvalidEvent;

    /// The data is copied out of the message: it would hold the whole receive buffer alive otherwise.
    fn try_from(message: v1::Event) -> Result<Self, InvalidEvent> {
        Event::try_from(EventParts {
            id: message.id,
            source: message.source,
            event_type: message.r#type,
            subject: message.subject,
            time: message.time,
            data_content_type: message.data_content_type,
            data: Bytes::copy_from_slice(&message.data),
            extensions: message
                .extensions
                .into_iter()
                .map(|extension| (extension.name, extension.value))
                .collect(),
        })
    }
}

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id().to_owned(),
            source: event.source().to_owned(),
            r#type: event.event_type().to_owned(),
            subject: event.subject().unwrap_or_default().to_owned(),
            time: event.time().unwrap_or_default().to_owned(),
            data_content_type: event.data_content_type().to_owned(),
            data: event.data().clone(),
            extensions: event
                .extensions()
                .iter()
                .map(|(name, value)| v1::Extension {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        }
    }
}

impl From<&SignedHead> for v1::TreeHead {
    fn from(head: &SignedHead) -> Self {
        Self {
            origin: head.origin().to_string(),
            tree_size: head.size().get(),
            root_hash: digest_field(&head.root()),
            time_unix_ms: head.time().map_or(0, |time| time.get()),
            checkpoint: Bytes::copy_from_slice(head.note_bytes()),
        }
    }
}

impl From<&Receipt> for v1::Accepted {
    /// The head is left to the message around it.
    fn from(receipt: &Receipt) -> Self {
        Self {
            leaf_index: receipt.index.get(),
            entry: Bytes::copy_from_slice(&receipt.entry),
            salt: Bytes::copy_from_slice(receipt.salt.as_bytes()),
            inclusion_proof: proof_field(&receipt.inclusion_proof),
            tree_head_place: 0,
            duplicate: false,
        }
    }
}

impl TryFrom<v1::Receipt> for Receipt {
    type Error = InvalidField;

    fn try_from(message: v1::Receipt) -> Result<Self, InvalidField> {
        let head = message
            .tree_head
            .ok_or_else(|| InvalidField::missing("tree_head"))?;
        Ok(Self {
            index: leaf_index("leaf_index", message.leaf_index)?,
            entry: message.entry.to_vec(),
            salt: salt("salt", &message.salt)?,
            inclusion_proof: digests("inclusion_proof", &message.inclusion_proof)?,
            checkpoint: head.checkpoint.to_vec(),
        })
    }
}

impl v1::Accepted {
    /// The receipt, with the head that this points to among those of the message around it.
    pub fn into_receipt(self, tree_heads: &[v1::TreeHead]) -> Result<Receipt, InvalidField> {
        let head = usize::try_from(self.tree_head_place)
            .ok()
            .and_then(|place| tree_heads.get(place))
            .ok_or_else(|| InvalidField::new("tree_head_place", "points to no head"))?;
        Ok(Receipt {
            index: leaf_index("leaf_index", self.leaf_index)?,
            entry: self.entry.to_vec(),
            salt: salt("salt", &self.salt)?,
            inclusion_proof: digests("inclusion_proof", &self.inclusion_proof)?,
            checkpoint: head.checkpoint.to_vec(),
        })
    }
}

/// Reads the salt of an entry: exactly 32 bytes.
pub fn salt(field: &'static str, bytes: &[u8]) -> Result<Salt, InvalidField> {
    <[u8; 32]>::try_from(bytes)
        .map(Salt::from)
        .map_err(|_| InvalidField::new(field, format!("is {} bytes long instead of 32", bytes.len())))
}
