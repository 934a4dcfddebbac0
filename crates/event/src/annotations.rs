//! The `Annotations` message: what a log adds to an event, in the one encoding that entries commit to.

use prost::Message;

use crate::{Event, Submitter, limits::MAX_ANNOTATIONS_BYTES};

/// What the log says about an event: its normal form, and why the log believes its submitter.
///
/// It is apart from [`Attributes`](crate::Attributes), which hold what the submitter said, so that a submitter can check a
/// receipt against the event alone. Decoding checks the form, not what the fields say.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Annotations {
    /// Name and version of what made the normal form, such as `github/4`. Empty if there is none.
    #[prost(string, tag = "1")]
    pub adapter: String,
    /// The normal form: JSON, as the adapter wrote it. Empty if there is none.
    #[prost(bytes = "vec", tag = "2")]
    pub normalised: Vec<u8>,
    /// What the submitter showed to be let in, as JSON. Empty if nothing was asked for.
    #[prost(string, tag = "3")]
    pub evidence: String,
}

/// Why bytes are not encoded annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationsError {
    /// Longer than [`MAX_ANNOTATIONS_BYTES`].
    #[error("the annotations are {actual_bytes} bytes long, more than {MAX_ANNOTATIONS_BYTES}")]
    TooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// Not a protobuf message of this type.
    #[error("the annotations are not a well-formed message")]
    Malformed,
    /// Well-formed, but not the one encoding of what it says: an unknown, repeated, reordered or needless field.
    #[error("the annotations are not encoded canonically")]
    NotCanonical,
}

impl Annotations {
    /// What there is to say about `event` from `submitter`.
    pub fn new(event: &Event, submitter: &Submitter) -> Self {
        let (adapter, normalised) = event.normal_form().unwrap_or_default();
        Self {
            adapter: adapter.to_owned(),
            normalised: normalised.to_vec(),
            evidence: submitter.evidence().to_owned(),
        }
    }

    /// The one encoding; no bytes if nothing is said.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads the one encoding and no other.
    pub fn decode_canonical(bytes: &[u8]) -> Result<Self, AnnotationsError> {
        if bytes.len() > MAX_ANNOTATIONS_BYTES {
            return Err(AnnotationsError::TooLong {
                actual_bytes: bytes.len(),
            });
        }
        let annotations = <Self as Message>::decode(bytes).map_err(|_| AnnotationsError::Malformed)?;
        if annotations.encode() != bytes {
            return Err(AnnotationsError::NotCanonical);
        }
        Ok(annotations)
    }
}
