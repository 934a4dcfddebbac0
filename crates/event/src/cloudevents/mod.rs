//! CloudEvents 1.0 as they travel: the JSON event format and the HTTP protocol binding (v1.0.2), read into [`Event`]s.
//!
//! The payload stays what was sent. In the JSON format that is the text of the member `data`, byte for byte and white space
//! included, never a re-serialisation; a member that appears twice is refused, since readers differ on which one counts.
//!
//! ```
//! use counterfoil_event::cloudevents;
//!
//! let event = cloudevents::from_json(br#"{
//!     "specversion": "1.0", "id": "42", "source": "https://ci.example", "type": "ci.run.finished",
//!     "attempt": 2, "data": {"outcome": "success"}
//! }"#)?;
//! assert_eq!(event.extensions()["attempt"], "2");
//! assert_eq!(&event.data()[..], br#"{"outcome": "success"}"#);
//! # Ok::<(), cloudevents::CloudEventError>(())
//! ```

mod binary;
mod json;

use std::fmt;

pub use binary::from_headers;
pub use json::{batch_from_json, from_json};

use crate::{Event, EventParts, FieldViolation, InvalidEvent, limits::MAX_EXTENSIONS};

/// The media type of one event in JSON.
pub const STRUCTURED_MEDIA_TYPE: &str = "application/cloudevents+json";
/// The media type of several events in JSON.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";
/// How the media types of all event formats begin, those that are not read here among them.
pub const MEDIA_TYPE_PREFIX: &str = "application/cloudevents";
/// Most events of one batch.
pub const MAX_BATCH_EVENTS: usize = 4_096;

/// The only version there is.
const SPEC_VERSION: &str = "1.0";
/// Most attributes that an event may have: its own, and extensions.
const MAX_ATTRIBUTES: usize = 8 + MAX_EXTENSIONS;

/// Why something is no event that a log takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudEventError {
    /// Not JSON, or not of the right shape.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// One attribute is wrong in a way that has to do with how it travels.
    #[error("{attribute} {problem}")]
    Attribute {
        /// Its name, as CloudEvents has it.
        attribute: String,
        /// What is wrong with it.
        problem: AttributeProblem,
    },
    /// More attributes than an event may have.
    #[error("the event has more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    /// A batch of more than [`MAX_BATCH_EVENTS`].
    #[error("the batch has more than {MAX_BATCH_EVENTS} events")]
    TooManyEvents,
    /// The event breaks rules of the log's.
    #[error("{0}")]
    Invalid(Violations),
}

/// What can be wrong with an attribute on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeProblem {
    /// Required, and not there.
    #[error("is missing")]
    Missing,
    /// There twice.
    #[error("appears more than once")]
    Repeated,
    /// Of a type that CloudEvents does not have there.
    #[error("has to be a string")]
    NotAString,
    /// An extension that is no string, boolean or integer of 32 bits.
    #[error("has to be a string, a boolean or an integer of at most 32 bits")]
    NotAScalar,
    /// Another version of CloudEvents.
    #[error("has to be \"1.0\"")]
    UnknownVersion,
    /// Not base64.
    #[error("is not base64")]
    NotBase64,
    /// `data` and `data_base64` together.
    #[error("stands beside data, and only one of them can be the payload")]
    TwoPayloads,
    /// A header's value that is not UTF-8 once it is decoded, or a quoted string without an end.
    #[error("is not a header value as the HTTP binding encodes it")]
    BadEncoding,
    /// In a header, though `Content-Type` has its place.
    #[error("belongs into the header Content-Type")]
    InContentType,
}

/// The rules that an event breaks, each under the name that CloudEvents has for the attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<FieldViolation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violations = self.0.clone();
        InvalidEvent { violations }.fmt(f)
    }
}

impl CloudEventError {
    fn attribute(attribute: impl Into<String>, problem: AttributeProblem) -> Self {
        Self::Attribute {
            attribute: attribute.into(),
            problem,
        }
    }

    /// Name and problem of each attribute that is wrong. Empty if it is not about attributes.
    pub fn fields(&self) -> Vec<(String, String)> {
        match self {
            Self::Attribute { attribute, problem } => vec![(attribute.clone(), problem.to_string())],
            Self::Invalid(Violations(violations)) => violations
                .iter()
                .map(|violation| (violation.field.clone(), violation.problem.to_string()))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Checks an event once its parts are read.
fn event(spec_version: Option<&str>, parts: EventParts) -> Result<Event, CloudEventError> {
    match spec_version {
        Some(SPEC_VERSION) => {}
        found => {
            let problem = found.map_or(AttributeProblem::Missing, |_| AttributeProblem::UnknownVersion);
            return Err(CloudEventError::attribute("specversion", problem));
        }
    }
    let names: Vec<_> = parts.extensions.iter().map(|(name, _)| name.clone()).collect();
    Event::try_from(parts).map_err(|InvalidEvent { mut violations }| {
        for violation in &mut violations {
            violation.field = cloud_event_name(&violation.field, &names);
        }
        CloudEventError::Invalid(Violations(violations))
    })
}

/// What CloudEvents calls a field of an event; extensions are attributes like others there.
fn cloud_event_name(field: &str, extensions: &[String]) -> String {
    if field == "data_content_type" {
        return "datacontenttype".to_owned();
    }
    let place = field
        .strip_prefix("extensions[")
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(place, _)| place.parse::<usize>().ok());
    match place.and_then(|place| extensions.get(place)) {
        Some(name) => name.clone(),
        None => field.to_owned(),
    }
}
