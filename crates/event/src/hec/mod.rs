//! Splunk's HTTP Event Collector (HEC) protocol, as far as events are sent by it: JSON objects one after another, or raw lines.
//!
//! A GitHub Enterprise audit-log stream is such a sender. Its documents are recognised by `_document_id`, which becomes the
//! event's id: GitHub delivers at least once. Other events have no name of their own, so each is a new one.

mod audit;

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Event, EventParts, InvalidEvent, Protocol, SourceId,
    adapter::{self, Adapter},
    json_object::{JsonObject, told},
};

/// Most events of one request.
pub const MAX_EVENTS: usize = 4_096;
/// Longest that all [`Metadata`] beside the events may be together: each event gets a copy.
pub const MAX_METADATA_BYTES: usize = 1_024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON_EVENT_TYPE: &str = "hec.event";
const RAW_EVENT_TYPE: &str = "hec.raw";

/// Why a request is refused. Events are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HecError {
    /// Nothing was sent.
    #[error("there is no event")]
    NoData,
    /// An event is not JSON, or not of the right shape.
    #[error("event {event} is malformed: {problem}")]
    Malformed {
        /// Which.
        event: usize,
        /// What is wrong.
        problem: String,
    },
    /// An event has no member `event`.
    #[error("event {event} has no member `event`")]
    MissingEvent {
        /// Which.
        event: usize,
    },
    /// An event's member `event` is empty.
    #[error("the member `event` of event {event} is empty")]
    BlankEvent {
        /// Which.
        event: usize,
    },
    /// An event's member `fields` is no object, or longer than an attribute may be.
    #[error("the member `fields` of event {event} can't be kept")]
    Fields {
        /// Which.
        event: usize,
    },
    /// More than [`MAX_EVENTS`].
    #[error("there are more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// More than [`MAX_METADATA_BYTES`] beside the events.
    #[error("what is said beside the events is longer than {MAX_METADATA_BYTES} bytes")]
    MetadataTooLong,
}

/// What a sender says about its events beside them: in the query of a request, or in an event's own object, which counts
/// for more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The machine that it happened on.
    pub host: Option<String>,
    /// What the events were read from.
    pub source: Option<String>,
    /// Their format.
    pub sourcetype: Option<String>,
    /// Where Splunk would keep them.
    pub index: Option<String>,
}

/// One event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HecEvent {
    event_type: String,
    /// Its name, if it has one.
    id: Option<String>,
    subject: String,
    time: String,
    data_content_type: &'static str,
    data: Bytes,
    extensions: Vec<(String, String)>,
    /// What reads it.
    adapter: Option<Adapter>,
}

/// The object around an event.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
    host: Option<String>,
    source: Option<String>,
    sourcetype: Option<String>,
    index: Option<String>,
}

/// Reads the JSON objects of `/services/collector/event`, which follow each other with or without white space between.
pub fn parse_events(body: &[u8], defaults: &Metadata) -> Result<Vec<HecEvent>, HecError> {
    defaults.check_length()?;
    let mut events = Vec::new();
    let envelopes = serde_json::Deserializer::from_slice(body).into_iter::<JsonObject<Envelope<'_>>>();
    for envelope in envelopes {
        let event = events.len();
        if event == MAX_EVENTS {
            return Err(HecError::TooManyEvents);
        }
        let JsonObject(envelope) = envelope.map_err(|problem| HecError::Malformed {
            event,
            problem: told(problem),
        })?;
        events.push(envelope.read(event, defaults)?);
    }
    if events.is_empty() {
        return Err(HecError::NoData);
    }
    Ok(events)
}

/// Reads the lines of `/services/collector/raw`. A line that is an audit-log document is taken as one; lines of white space
/// are passed over.
pub fn parse_raw(body: &[u8], metadata: &Metadata) -> Result<Vec<HecEvent>, HecError> {
    metadata.check_length()?;
    let mut events = Vec::new();
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
        let event = events.len();
        if event == MAX_EVENTS {
            return Err(HecError::TooManyEvents);
        }
        let text = str::from_utf8(line).map_err(|problem| HecError::Malformed {
            event,
            problem: problem.to_string(),
        })?;
        events.push(HecEvent::audit_document(text, "").unwrap_or_else(|| HecEvent {
            event_type: RAW_EVENT_TYPE.to_owned(),
            id: None,
            subject: String::new(),
            time: String::new(),
            data_content_type: TEXT,
            data: Bytes::copy_from_slice(line),
            extensions: metadata.extensions(),
            adapter: None,
        }));
    }
    if events.is_empty() {
        return Err(HecError::NoData);
    }
    Ok(events)
}

impl Envelope<'_> {
    fn read(self, event: usize, defaults: &Metadata) -> Result<HecEvent, HecError> {
        let metadata = Metadata {
            host: self.host.or_else(|| defaults.host.clone()),
            source: self.source.or_else(|| defaults.source.clone()),
            sourcetype: self.sourcetype.or_else(|| defaults.sourcetype.clone()),
            index: self.index.or_else(|| defaults.index.clone()),
        };
        let mut extensions = metadata.extensions();
        if let Some(fields) = self.fields {
            let fields = fields.get();
            if !fields.starts_with('{') || fields.len() > crate::limits::MAX_EXTENSION_VALUE_BYTES {
                return Err(HecError::Fields { event });
            }
            // White space between members may hold line breaks, which no attribute may.
            extensions.push(("hecfields".to_owned(), fields.replace(['\n', '\r', '\t'], " ")));
        }
        let time = match self.time {
            None => String::new(),
            Some(time) => rfc3339(time.get().trim_matches('"')).ok_or_else(|| HecError::Malformed {
                event,
                problem: "the time is not in seconds since 1970".to_owned(),
            })?,
        };
        let payload = self.event.ok_or(HecError::MissingEvent { event })?.get();
        if let Some(document) = HecEvent::audit_document(payload, &time) {
            return Ok(document);
        }
        let text: Option<String> = serde_json::from_str(payload).ok();
        if text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Err(HecError::BlankEvent { event });
        }
        let (data_content_type, data) = match text {
            Some(text) => (TEXT, Bytes::from(text)),
            None => (JSON, Bytes::copy_from_slice(payload.as_bytes())),
        };
        Ok(HecEvent {
            event_type: JSON_EVENT_TYPE.to_owned(),
            id: None,
            subject: String::new(),
            time,
            data_content_type,
            data,
            extensions,
            adapter: None,
        })
    }
}

impl Metadata {
    fn check_length(&self) -> Result<(), HecError> {
        let bytes = self
            .named()
            .into_iter()
            .flat_map(|(_, value)| value)
            .map(String::len);
        if bytes.sum::<usize>() > MAX_METADATA_BYTES {
            return Err(HecError::MetadataTooLong);
        }
        Ok(())
    }

    fn named(&self) -> [(&'static str, &Option<String>); 4] {
        [
            ("hechost", &self.host),
            ("hecindex", &self.index),
            ("hecsource", &self.source),
            ("hecsourcetype", &self.sourcetype),
        ]
    }

    fn extensions(&self) -> Vec<(String, String)> {
        self.named()
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .collect()
    }
}

impl HecEvent {
    /// A document of GitHub's audit log. `None` if this is none. A time beside it counts only if it has none of its own; what else
    /// stands beside it says how it was sent, and the same document sent in another way has to stay the same event.
    fn audit_document(json: &str, time: &str) -> Option<Self> {
        let document = audit::Document::parse(json)?;
        Some(Self {
            event_type: adapter::audit_type(&document.action).to_string(),
            id: Some(document.id),
            subject: String::new(),
            time: time.to_owned(),
            data_content_type: JSON,
            data: Bytes::copy_from_slice(json.as_bytes()),
            extensions: vec![("nativeevent".to_owned(), document.action)],
            adapter: Some(Adapter::GitHubAudit),
        })
    }

    /// The event for a log, sent by `source`, which becomes the event's source `hec/<source>`. `new_id` names an event that has
    /// no name.
    pub fn into_event(
        self,
        source: &SourceId,
        new_id: impl FnOnce() -> String,
    ) -> Result<Event, InvalidEvent> {
        let parts = EventParts {
            id: self.id.unwrap_or_else(new_id),
            event_type: self.event_type,
            subject: self.subject,
            time: self.time,
            data_content_type: self.data_content_type.to_owned(),
            data: self.data,
            extensions: self.extensions,
            ..EventParts::default()
        };
        let event = Event::received(Protocol::Hec, source, parts)?;
        Ok(match self.adapter {
            Some(adapter) => adapter::named_by(adapter, event),
            None => event,
        })
    }
}

/// Seconds since 1970 with or without a fraction, as text.
fn rfc3339(seconds: &str) -> Option<String> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    let since_epoch = Duration::new(whole.parse().ok()?, nanos);
    let time = Timestamp::UNIX_EPOCH.checked_add(since_epoch).ok()?;
    Some(time.to_string())
}
