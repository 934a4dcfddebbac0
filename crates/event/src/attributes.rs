//! The `Attributes` message: an event but for its payload, in the one encoding that entries commit to.

use std::collections::BTreeMap;

use prost::Message;

use crate::limits::MAX_ATTRIBUTES_BYTES;

/// The attributes of an event as the log keeps them and as entries commit to them.
///
/// Decoding checks the form alone, not the rules for events: a log commits to what it accepted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attributes {
    /// With `source`, names the event.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who says that it happened.
    #[prost(string, tag = "2")]
    pub source: String,
    /// What happened, such as `scm.push`.
    #[prost(string, tag = "3")]
    pub event_type: String,
    /// What it happened to. Empty if the event had none.
    #[prost(string, tag = "4")]
    pub subject: String,
    /// When the source says that it happened: RFC 3339, verbatim. Empty if the event had none.
    #[prost(string, tag = "5")]
    pub time: String,
    /// The media type of the payload.
    #[prost(string, tag = "6")]
    pub data_content_type: String,
    /// Extension attributes, name to value.
    // On the wire a map is the repeated `Extension` of the .proto file; an ordered one writes names ascending, so
    // comparing the re-encoding also finds names that repeat or descend.
    #[prost(btree_map = "string, string", tag = "7")]
    pub extensions: BTreeMap<String, String>,
}

/// Why bytes are not encoded attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// Longer than [`MAX_ATTRIBUTES_BYTES`].
    #[error("the attributes are {actual_bytes} bytes long, more than {MAX_ATTRIBUTES_BYTES}")]
    TooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// Not a protobuf message of this type.
    #[error("the attributes are not a well-formed message")]
    Malformed,
    /// Well-formed, but not the one encoding of what it says: an unknown, repeated, reordered or needless field.
    #[error("the attributes are not encoded canonically")]
    NotCanonical,
}

impl Attributes {
    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads the one encoding and no other.
    pub fn decode_canonical(bytes: &[u8]) -> Result<Self, AttributesError> {
        if bytes.len() > MAX_ATTRIBUTES_BYTES {
            return Err(AttributesError::TooLong {
                actual_bytes: bytes.len(),
            });
        }
        let attributes = <Self as Message>::decode(bytes).map_err(|_| AttributesError::Malformed)?;
        if attributes.encode() != bytes {
            return Err(AttributesError::NotCanonical);
        }
        Ok(attributes)
    }
}
