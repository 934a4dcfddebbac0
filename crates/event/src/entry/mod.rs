//! Entries: the leaves of the tree.

mod encoding;

use std::{fmt, num::NonZeroU64};

use counterfoil_merkle::{Digest, Suite};
use prost::Message;

use self::encoding::Fields;
use crate::{
    Authentication, Event, Submitter,
    limits::MAX_ENTRY_BYTES,
    validate::{self, Problem},
};

/// The version of the entry's format that this crate writes, and the only one that it reads.
const FORMAT_VERSION: u32 = 1;

/// Where the eight bytes of the time are in every entry: after field 1 (two bytes) and the tag of field 2.
const TIME_OFFSET: usize = 3;

/// The salt of an entry's commitments: 32 random bytes, used for one entry only.
///
/// Whoever has it can check guesses at what the entry commits to, so its `Debug` form does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Salt {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// A leaf of the tree, decoded. Its fields keep the rules of its format version, 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    time_unix_ns: NonZeroU64,
    source_id: String,
    event_type: String,
    media_type: String,
    payload_length: u64,
    payload_commitment: Digest,
    attributes_commitment: Digest,
    authentication: Authentication,
    retention_class: String,
    annotations_commitment: Option<Digest>,
}

/// Why bytes are not an entry, or why there can be no such entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Longer than [`MAX_ENTRY_BYTES`].
    #[error("the entry is {actual_bytes} bytes long, more than {MAX_ENTRY_BYTES}")]
    TooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// Not a protobuf message of this type.
    #[error("the entry is not a well-formed message")]
    Malformed,
    /// Well-formed, but not the one encoding of what it says: an unknown, repeated, reordered or needless field.
    #[error("the entry is not encoded canonically")]
    NotCanonical,
    /// Of a format version that is not known here.
    #[error("the entry's format version is {found}, and only {FORMAT_VERSION} is known")]
    UnknownVersion {
        /// The version that it states.
        found: u32,
    },
    /// An authentication that the format version does not have.
    #[error("the entry's authentication is {number}, which has no meaning")]
    UnknownAuthentication {
        /// Its number in the message.
        number: i32,
    },
    /// A field with a value that the format does not allow.
    #[error("the entry's {field} {problem}")]
    Field {
        /// The field's name in the message.
        field: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A commitment that is not 32 bytes long.
    #[error("the entry's {field} is {actual_bytes} bytes long instead of 32")]
    CommitmentLength {
        /// The field's name in the message.
        field: &'static str,
        /// How long.
        actual_bytes: usize,
    },
}

/// How an entry differs from what it was claimed to commit to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// The entry states another event type.
    #[error("the entry states another event type")]
    EventType,
    /// The entry states another media type.
    #[error("the entry states another media type")]
    MediaType,
    /// The payload has another length.
    #[error("the payload is {actual_bytes} bytes long, and the entry is for {stated_bytes}")]
    PayloadLength {
        /// What the entry states.
        stated_bytes: u64,
        /// What the payload has.
        actual_bytes: u64,
    },
    /// The entry does not commit to this payload with this salt.
    #[error("the entry does not commit to this payload")]
    Payload,
    /// The entry does not commit to these attributes with this salt.
    #[error("the entry does not commit to these attributes")]
    Attributes,
    /// The entry does not commit to these annotations with this salt, or to none where there are some, or the reverse.
    #[error("the entry does not commit to these annotations")]
    Annotations,
}

impl Entry {
    /// The entries that this crate can read. Where it says something else, those may be readable that were not.
    pub const KNOWN_FORMS: &str = "format 1, authentication 1 to 7";

    /// Reads an entry in its one encoding; refuses every other one, so nothing can hide in the bytes of a leaf.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong {
                actual_bytes: bytes.len(),
            });
        }
        let fields = encoding::fields(bytes).ok_or_else(|| why_not_read(bytes))?;
        check_label("source_id", fields.source_id)?;
        check_label("retention_class", fields.retention_class)?;
        validate::event_type(fields.event_type).map_err(|problem| EntryError::Field {
            field: "event_type",
            problem,
        })?;
        validate::media_type(fields.media_type).map_err(|problem| EntryError::Field {
            field: "media_type",
            problem,
        })?;
        let time_unix_ns = NonZeroU64::new(fields.time_unix_ns).ok_or(EntryError::Field {
            field: "time_unix_ns",
            problem: Problem::Missing,
        })?;
        let payload_commitment = commitment("payload_commitment", fields.payload_commitment)?;
        let attributes_commitment = commitment("attributes_commitment", fields.attributes_commitment)?;
        let annotations_commitment = match fields.annotations_commitment {
            [] => None,
            bytes => Some(commitment("annotations_commitment", bytes)?),
        };
        // Last: what is refused for this alone may be an entry of a later version, so it must not hide another fault.
        let authentication =
            Authentication::from_number(fields.authentication).ok_or(EntryError::UnknownAuthentication {
                number: fields.authentication,
            })?;
        Ok(Self {
            time_unix_ns,
            source_id: fields.source_id.to_owned(),
            event_type: fields.event_type.to_owned(),
            media_type: fields.media_type.to_owned(),
            payload_length: fields.payload_length,
            payload_commitment,
            attributes_commitment,
            authentication,
            retention_class: fields.retention_class.to_owned(),
            annotations_commitment,
        })
    }

    /// The one encoding: the leaf.
    pub fn encode(&self) -> Vec<u8> {
        Fields {
            time_unix_ns: self.time_unix_ns.get(),
            source_id: &self.source_id,
            event_type: &self.event_type,
            media_type: &self.media_type,
            payload_length: self.payload_length,
            payload_commitment: self.payload_commitment.as_bytes(),
            attributes_commitment: self.attributes_commitment.as_bytes(),
            authentication: self.authentication.number(),
            retention_class: &self.retention_class,
            annotations_commitment: bytes_of(self.annotations_commitment.as_ref()),
        }
        .encode()
    }

    /// The version of the format: 1.
    pub fn format_version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// The log's clock, in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn time_unix_ns(&self) -> NonZeroU64 {
        self.time_unix_ns
    }

    /// The log's own name for the channel that the event came by, such as `api`.
    pub fn source_id(&self) -> &str {
        &self.source_id
    }

    /// The event's type, such as `scm.push`.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The media type of the payload.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Bytes of payload.
    pub fn payload_length(&self) -> u64 {
        self.payload_length
    }

    /// The commitment to the payload.
    pub fn payload_commitment(&self) -> Digest {
        self.payload_commitment
    }

    /// The commitment to the encoded [`Attributes`](crate::Attributes).
    pub fn attributes_commitment(&self) -> Digest {
        self.attributes_commitment
    }

    /// How the log authenticated the submitter.
    pub fn authentication(&self) -> Authentication {
        self.authentication
    }

    /// Names the rule by which the payload is kept or erased.
    pub fn retention_class(&self) -> &str {
        &self.retention_class
    }

    /// The commitment to the encoded [`Annotations`](crate::Annotations), if the log added any.
    pub fn annotations_commitment(&self) -> Option<Digest> {
        self.annotations_commitment
    }

    /// Checks that this entry stands for exactly `event`: its stated fields and the two commitments to it. Says nothing
    /// of what the log added.
    pub fn commits_to(&self, suite: Suite, salt: &Salt, event: &Event) -> Result<(), CommitmentError> {
        if self.event_type != event.event_type() {
            return Err(CommitmentError::EventType);
        }
        if self.media_type != event.data_content_type() {
            return Err(CommitmentError::MediaType);
        }
        self.commits_to_payload(suite, salt, event.data())?;
        self.commits_to_attributes(suite, salt, &event.attributes().encode())
    }

    /// Checks the commitment to the payload, and the stated length. Says nothing of the attributes.
    pub fn commits_to_payload(
        &self,
        suite: Suite,
        salt: &Salt,
        payload: &[u8],
    ) -> Result<(), CommitmentError> {
        let actual_bytes = payload.len() as u64;
        if self.payload_length != actual_bytes {
            return Err(CommitmentError::PayloadLength {
                stated_bytes: self.payload_length,
                actual_bytes,
            });
        }
        if self.payload_commitment != suite.commitment(&salt.0, payload) {
            return Err(CommitmentError::Payload);
        }
        Ok(())
    }

    /// Checks the commitment to encoded [`Attributes`](crate::Attributes). Says nothing of the payload.
    pub fn commits_to_attributes(
        &self,
        suite: Suite,
        salt: &Salt,
        attributes: &[u8],
    ) -> Result<(), CommitmentError> {
        if self.attributes_commitment != suite.commitment(&salt.0, attributes) {
            return Err(CommitmentError::Attributes);
        }
        Ok(())
    }

    /// Checks the commitment to encoded [`Annotations`](crate::Annotations); no bytes stand for none.
    pub fn commits_to_annotations(
        &self,
        suite: Suite,
        salt: &Salt,
        annotations: &[u8],
    ) -> Result<(), CommitmentError> {
        if self.annotations_commitment != commit_to_annotations(suite, salt, annotations) {
            return Err(CommitmentError::Annotations);
        }
        Ok(())
    }
}

/// What is wrong with bytes that are not in the one encoding.
fn why_not_read(bytes: &[u8]) -> EntryError {
    match wire::Entry::decode(bytes) {
        Err(_) => EntryError::Malformed,
        Ok(message) if message.format_version != FORMAT_VERSION => EntryError::UnknownVersion {
            found: message.format_version,
        },
        Ok(_) => EntryError::NotCanonical,
    }
}

fn commit_to_annotations(suite: Suite, salt: &Salt, annotations: &[u8]) -> Option<Digest> {
    (!annotations.is_empty()).then(|| suite.commitment(&salt.0, annotations))
}

/// As a field has it: no bytes for none.
fn bytes_of(commitment: Option<&Digest>) -> &[u8] {
    match commitment {
        Some(digest) => digest.as_bytes(),
        None => &[],
    }
}

fn check_label(field: &'static str, value: &str) -> Result<(), EntryError> {
    validate::label(value).map_err(|problem| EntryError::Field { field, problem })
}

fn commitment(field: &'static str, bytes: &[u8]) -> Result<Digest, EntryError> {
    Digest::try_from(bytes).map_err(|_| EntryError::CommitmentLength {
        field,
        actual_bytes: bytes.len(),
    })
}

/// An entry complete but for its time, so that hashing and encoding happen before the log puts entries in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnstampedEntry {
    bytes: Vec<u8>,
    attributes: Vec<u8>,
}

impl UnstampedEntry {
    /// Commits to `event` and to the encoded `annotations` with `salt`, which no other entry may use.
    ///
    /// `retention_class` is the log's own name, 1 to [`MAX_LABEL_BYTES`](crate::limits::MAX_LABEL_BYTES) of `a`–`z`,
    /// `0`–`9`, `.`, `_` and `-`; any other is the only error.
    pub fn new(
        suite: Suite,
        event: &Event,
        salt: &Salt,
        submitter: &Submitter,
        annotations: &[u8],
        retention_class: &str,
    ) -> Result<Self, EntryError> {
        check_label("retention_class", retention_class)?;
        let attributes = event.attributes().encode();
        let payload_commitment = suite.commitment(&salt.0, event.data());
        let attributes_commitment = suite.commitment(&salt.0, &attributes);
        let annotations_commitment = commit_to_annotations(suite, salt, annotations);
        let fields = Fields {
            // Any value but 0 holds the place of the time; 0 would be left out.
            time_unix_ns: u64::MAX,
            source_id: submitter.source_id().as_str(),
            event_type: event.event_type(),
            media_type: event.data_content_type(),
            payload_length: event.data().len() as u64,
            payload_commitment: payload_commitment.as_bytes(),
            attributes_commitment: attributes_commitment.as_bytes(),
            authentication: submitter.authentication().number(),
            retention_class,
            annotations_commitment: bytes_of(annotations_commitment.as_ref()),
        };
        Ok(Self {
            bytes: fields.encode(),
            attributes,
        })
    }

    /// The encoded [`Attributes`](crate::Attributes) of the event, which it commits to.
    pub fn attributes(&self) -> &[u8] {
        &self.attributes
    }

    /// The entry with its time, encoded: the leaf.
    pub fn stamp(self, time_unix_ns: NonZeroU64) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes[TIME_OFFSET..TIME_OFFSET + 8].copy_from_slice(&time_unix_ns.get().to_le_bytes());
        bytes
    }
}

/// Any encoding of an entry, to say what is wrong with one that is not the one encoding.
mod wire {
    /// The message of `proto/counterfoil/v1/entry.proto`, which documents the fields.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Entry {
        #[prost(uint32, tag = "1")]
        pub(super) format_version: u32,
        #[prost(fixed64, tag = "2")]
        pub(super) time_unix_ns: u64,
        #[prost(string, tag = "3")]
        pub(super) source_id: String,
        #[prost(string, tag = "4")]
        pub(super) event_type: String,
        #[prost(string, tag = "5")]
        pub(super) media_type: String,
        #[prost(uint64, tag = "6")]
        pub(super) payload_length: u64,
        #[prost(bytes = "vec", tag = "7")]
        pub(super) payload_commitment: Vec<u8>,
        #[prost(bytes = "vec", tag = "8")]
        pub(super) attributes_commitment: Vec<u8>,
        #[prost(int32, tag = "9")]
        pub(super) authentication: i32,
        #[prost(string, tag = "10")]
        pub(super) retention_class: String,
        #[prost(bytes = "vec", tag = "11")]
        pub(super) annotations_commitment: Vec<u8>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who could not read an entry reads it again once this says more.
    #[test]
    fn the_known_forms_are_those_that_can_be_read() {
        let known: Vec<i32> = (0..1000)
            .filter(|number| Authentication::from_number(*number).is_some())
            .collect();
        let [first, .., last] = known[..] else {
            panic!("{known:?}")
        };
        assert_eq!(known, (first..=last).collect::<Vec<_>>());
        let forms = format!("format {FORMAT_VERSION}, authentication {first} to {last}");
        assert_eq!(Entry::KNOWN_FORMS, forms);
    }
}
