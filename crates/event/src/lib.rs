//! What a log records: events, with the context attributes of CloudEvents 1.0, and entries, the leaves that
//! commit to them. `docs/PROTOCOL.md` has the bytes; `proto/counterfoil/v1/entry.proto` has the messages.
//!
//! Everything from outside is checked once, where it becomes an [`Event`] or an [`Entry`]; neither can hold a value
//! that breaks a rule. The crate does no I/O and has neither a clock nor randomness: times and salts are given to it.
//! It does not decide what a log accepts beyond form, and it does not know how events travel.
//!
//! ```
//! use std::num::NonZeroU64;
//! use counterfoil_event::{Entry, Event, EventParts, Salt, Submitter, UnstampedEntry};
//! use counterfoil_merkle::Suite;
//!
//! let event = Event::try_from(EventParts {
//!     id: "run-42".into(),
//!     source: "https://ci.example/acme/widgets".into(),
//!     event_type: "ci.run.finished".into(),
//!     data_content_type: "application/json".into(),
//!     data: r#"{"outcome":"success"}"#.into(),
//!     ..EventParts::default()
//! })?;
//! let salt = Salt::from([7; 32]);
//! let unstamped =
//!     UnstampedEntry::new(Suite::Blake3, &event, &salt, &Submitter::anonymous(), &[], "default")?;
//! let leaf = unstamped.stamp(NonZeroU64::MIN);
//!
//! let entry = Entry::decode(&leaf)?;
//! entry.commits_to(Suite::Blake3, &salt, &event)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adapter;
mod annotations;
mod attributes;
pub mod cdevents;
pub mod cloudevents;
mod display;
pub mod dsse;
mod entry;
mod event;
pub mod hec;
mod index;
mod json_object;
pub mod limits;
pub mod normal;
mod own;
mod protocol;
mod submitter;
mod unambiguous;
mod validate;

pub use annotations::{Annotations, AnnotationsError};
pub use attributes::{Attributes, AttributesError};
pub use display::{printable, utc_millis};
pub use entry::{CommitmentError, Entry, EntryError, Salt, UnstampedEntry};
pub use event::{DEFAULT_MEDIA_TYPE, Event, EventKey, EventParts, NormalFormTooLong};
pub use index::{IndexAttribute, IndexKey, UnknownIndexAttribute};
pub use own::{Genesis, GenesisError, conflict_event, dsse_key_event, oidc_keys_event};
pub use protocol::Protocol;
pub use submitter::{Authentication, EvidenceTooLong, SourceId, Submitter};
pub use validate::{FieldViolation, InvalidEvent, Problem, is_media_type, is_text};
