//! Events: what a submitter sends.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use bytes::Bytes;
use counterfoil_merkle::Digest;

use crate::{
    Attributes, Protocol, SourceId,
    adapter::Adapter,
    limits::{MAX_ADAPTER_BYTES, MAX_NORMALISED_BYTES},
    normal::NormalEvent,
    validate::{self, FieldViolation, InvalidEvent},
};

/// The media type of a payload whose event names none.
pub const DEFAULT_MEDIA_TYPE: &str = "application/octet-stream";

/// A valid event: the context attributes of CloudEvents 1.0, string extensions and a payload.
///
/// Made from [`EventParts`], which has the rules.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    attributes: Attributes,
    data: Bytes,
    normal_form: Option<NormalForm>,
}

/// What an adapter made of an event.
#[derive(Clone, PartialEq, Eq)]
struct NormalForm {
    adapter: String,
    normalised: Vec<u8>,
}

/// A normal form, or the name of its adapter, longer than an entry's annotations have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the normal form is {actual_bytes} bytes long, more than {MAX_NORMALISED_BYTES}, or its adapter has no name or too long a one"
)]
pub struct NormalFormTooLong {
    /// How long the normal form is.
    pub actual_bytes: usize,
}

/// The parts of an event before they are checked.
///
/// No string holds a control character or a Unicode noncharacter (the `String` of CloudEvents). Lengths are limited by
/// [`limits`](crate::limits). The source `log`, sources that begin with `hooks/` or `hec/`, and types that begin with `log.` are the
/// log's to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventParts {
    /// With `source`, names the event. Required.
    pub id: String,
    /// Who says that it happened, by convention a URI. Required.
    pub source: String,
    /// What happened, such as `scm.push`: printable ASCII without spaces. Required.
    pub event_type: String,
    /// What it happened to. Empty for none.
    pub subject: String,
    /// When the source says that it happened, in RFC 3339 with at most nine digits of fraction. Empty for none.
    pub time: String,
    /// The media type of `data`: `type/subtype`, with or without parameters. Empty for [`DEFAULT_MEDIA_TYPE`].
    pub data_content_type: String,
    /// The payload, any bytes.
    pub data: Bytes,
    /// Extension attributes, name and value, in any order. Names are of `a`–`z` and `0`–`9`, differ from each other
    /// and from those of CloudEvents' own attributes.
    pub extensions: Vec<(String, String)>,
}

impl TryFrom<EventParts> for Event {
    type Error = InvalidEvent;

    /// Checks an event that a submitter sent. The error names every field that breaks a rule.
    fn try_from(parts: EventParts) -> Result<Self, InvalidEvent> {
        let violations = validate::submitted(&parts);
        Self::checked(parts, violations)
    }
}

impl Event {
    /// An event of the log itself, of a type that submitters may not use.
    pub(crate) fn own(event_type: &str, id: String, data_content_type: &str, data: Vec<u8>) -> Self {
        Self::own_about(event_type, id, String::new(), data_content_type, data.into())
    }

    /// The same with a subject.
    pub(crate) fn own_about(
        event_type: &str,
        id: String,
        subject: String,
        data_content_type: &str,
        data: Bytes,
    ) -> Self {
        let parts = EventParts {
            id,
            source: validate::OWN_SOURCE.to_owned(),
            event_type: event_type.to_owned(),
            subject,
            data_content_type: data_content_type.to_owned(),
            data,
            ..EventParts::default()
        };
        debug_assert_eq!(validate::form(&parts), []);
        Self::from_valid(parts)
    }

    /// What the log makes of a request by another protocol. Its source is made of `protocol` and `sender`, and is none that anybody
    /// could submit; that of `parts` does not count.
    ///
    /// # Errors
    /// If another part breaks a rule for events.
    pub fn received(protocol: Protocol, sender: &SourceId, parts: EventParts) -> Result<Self, InvalidEvent> {
        let parts = EventParts {
            source: protocol.source(sender),
            ..parts
        };
        let violations = validate::received(&parts);
        Self::checked(parts, violations)
    }

    fn checked(parts: EventParts, violations: Vec<FieldViolation>) -> Result<Self, InvalidEvent> {
        if violations.is_empty() {
            Ok(Self::from_valid(parts))
        } else {
            Err(InvalidEvent { violations })
        }
    }

    fn from_valid(parts: EventParts) -> Self {
        let data_content_type = if parts.data_content_type.is_empty() {
            DEFAULT_MEDIA_TYPE.to_owned()
        } else {
            parts.data_content_type
        };
        let attributes = Attributes {
            id: parts.id,
            source: parts.source,
            event_type: parts.event_type,
            subject: parts.subject,
            time: parts.time,
            data_content_type,
            extensions: parts.extensions.into_iter().collect(),
        };
        Self {
            attributes,
            data: parts.data,
            normal_form: None,
        }
    }

    /// The event with the type, subject and time of its normal form.
    pub(crate) fn named_by(mut self, form: &NormalEvent) -> Self {
        self.attributes.event_type = form.event_type.as_str().to_owned();
        self.attributes.subject = form.subject().to_owned();
        if let Some(time) = &form.occurred_at {
            self.attributes.time = time.as_str().to_owned();
        }
        self
    }

    /// The event with its normal form.
    pub(crate) fn with_form(self, adapter: Adapter, form: NormalEvent) -> Self {
        self.with_normal_form(adapter.name(), form.into_json())
            .expect("a form and the name of an adapter are no longer than they may be")
    }

    /// The event with what `adapter`, such as `github/4`, made of it: JSON.
    pub fn with_normal_form(self, adapter: &str, normalised: Vec<u8>) -> Result<Self, NormalFormTooLong> {
        let fits =
            (1..=MAX_ADAPTER_BYTES).contains(&adapter.len()) && normalised.len() <= MAX_NORMALISED_BYTES;
        if !fits {
            return Err(NormalFormTooLong {
                actual_bytes: normalised.len(),
            });
        }
        let normal_form = Some(NormalForm {
            adapter: adapter.to_owned(),
            normalised,
        });
        Ok(Self { normal_form, ..self })
    }

    /// The name and version of an adapter, and what it made of the event.
    pub fn normal_form(&self) -> Option<(&str, &[u8])> {
        let NormalForm { adapter, normalised } = self.normal_form.as_ref()?;
        Some((adapter, normalised))
    }

    /// With [`source`](Self::source), names the event.
    pub fn id(&self) -> &str {
        &self.attributes.id
    }

    /// Who says that it happened.
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// What happened, such as `scm.push`.
    pub fn event_type(&self) -> &str {
        &self.attributes.event_type
    }

    /// What it happened to.
    pub fn subject(&self) -> Option<&str> {
        Some(self.attributes.subject.as_str()).filter(|subject| !subject.is_empty())
    }

    /// When the source says that it happened: RFC 3339, verbatim.
    pub fn time(&self) -> Option<&str> {
        Some(self.attributes.time.as_str()).filter(|time| !time.is_empty())
    }

    /// The media type of the payload.
    pub fn data_content_type(&self) -> &str {
        &self.attributes.data_content_type
    }

    /// Extension attributes, name to value.
    pub fn extensions(&self) -> &BTreeMap<String, String> {
        &self.attributes.extensions
    }

    /// The payload.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Everything but the payload, as the log keeps it.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The key that the event has in a log's index.
    pub fn key(&self) -> EventKey {
        EventKey::new(self.source(), self.id())
    }
}

impl fmt::Debug for Event {
    /// Leaves the payload out: it may be large, and no business of who reads a server's own messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("attributes", &self.attributes)
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// Names an event by its source and id, in 32 bytes. A key of a log's index, the same for both suites, never published.
///
/// BLAKE3 in derive-key mode with the context `counterfoil 2026-11-22 event key`, over the source's length as
/// little-endian u64, the source, and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey(Digest);

static EVENT_KEY_CONTEXT: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("counterfoil 2026-11-22 event key"));

impl EventKey {
    /// The key of the event that `source` calls `id`.
    pub fn new(source: &str, id: &str) -> Self {
        let mut hasher = blake3::Hasher::new_from_context_key(&EVENT_KEY_CONTEXT);
        hasher.update(&(source.len() as u64).to_le_bytes());
        hasher.update(source.as_bytes());
        hasher.update(id.as_bytes());
        Self(Digest::from(*hasher.finalize().as_bytes()))
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}
