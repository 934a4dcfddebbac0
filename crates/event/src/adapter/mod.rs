//! Adapters: pure functions that read an event's normal form out of what is stored of it. `docs/EVENTS.md` has what each maps to
//! what.
//!
//! An adapter sees the payload, the event's id, source, media type and extensions and, where they are its submitter's, type and
//! time. Nothing else: all of it is committed to by the entry, so anyone can run it again and compare. Its name has its version.
//! Whatever changes what it makes of any payload takes a new version; the old one stays for as long as logs have entries of it.
//!
//! Payloads are hostile. What is missing or of a wrong type is left out of the form; what is no JSON at all has no form. No
//! payload makes an adapter fail, or take more memory than a few times its own size.

mod audit;
mod cdevents;
mod compare;
mod fill;
mod git;
mod gitea;
mod github;
mod gitlab;
mod hub;
mod in_toto;
pub(crate) mod json;
mod own;
mod purl;
mod time;
mod uri;

use std::{collections::BTreeMap, fmt, str::FromStr};

pub(crate) use audit::event_type as audit_type;
pub use compare::{Difference, differences};
pub use git::seconds_and_offset as git_time;
pub use in_toto::event_type as statement_type;

use crate::{
    Attributes, Event, dsse, is_media_type,
    normal::{self, EventType, InvalidNormalEvent, NormalEvent, Text, Word},
    protocol,
};

/// What makes normal forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adapter {
    /// Webhooks of GitHub.
    GitHub,
    /// Webhooks of GitLab.
    GitLab,
    /// Webhooks of Gitea and Forgejo.
    Gitea,
    /// Documents of GitHub's audit log.
    GitHubAudit,
    /// Normalised events.
    Event,
    /// Objects and tags of git.
    Git,
    /// CDEvents.
    CdEvents,
    /// in-toto statements in DSSE envelopes.
    InToto,
}

/// The name of an adapter, or a version of one, that this program does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no adapter {0:?} in this program, which has {known}", known = Adapter::names())]
pub struct UnknownAdapter(String);

/// What an adapter reads.
#[derive(Debug, Clone, Copy)]
pub struct Native<'a> {
    /// The event's id.
    pub id: &'a str,
    /// The event's source.
    pub source: &'a str,
    /// The event's type, for those adapters that do not give events theirs.
    pub event_type: &'a str,
    /// The event's time, for the same. Empty if it has none.
    pub time: &'a str,
    /// The media type of the payload.
    pub media_type: &'a str,
    /// The event's extensions: `nativeevent` is the provider's name for what happened, `deliveryid`, `hookid` and `host` say how
    /// it came.
    pub extensions: &'a BTreeMap<String, String>,
    /// The payload.
    pub data: &'a [u8],
}

impl Adapter {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::GitHub,
        Self::GitLab,
        Self::Gitea,
        Self::GitHubAudit,
        Self::Event,
        Self::Git,
        Self::CdEvents,
        Self::InToto,
    ];

    /// Its name and version, as annotations have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github/4",
            Self::GitLab => "gitlab/4",
            Self::Gitea => "gitea/4",
            Self::GitHubAudit => "github-audit/2",
            Self::Event => "event/1",
            Self::Git => "git/1",
            Self::CdEvents => "cdevents/3",
            Self::InToto => "in-toto/4",
        }
    }

    /// Whether events have their type, subject and time from it. Those of the others are their submitters'.
    pub fn names_events(self) -> bool {
        match self {
            Self::GitHub | Self::GitLab | Self::Gitea | Self::GitHubAudit => true,
            Self::Event | Self::Git | Self::CdEvents | Self::InToto => false,
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The normal form. None if the payload is not what the adapter reads: no JSON object, say.
    pub fn read(self, native: &Native<'_>) -> Option<NormalEvent> {
        match self {
            Self::GitHub => github::read(native),
            Self::GitLab => gitlab::read(native),
            Self::Gitea => gitea::read(native),
            Self::GitHubAudit => audit::read(native),
            Self::Event => own::read(native).ok(),
            Self::Git => git::read(native),
            Self::CdEvents => cdevents::read(native),
            Self::InToto => in_toto::read(native),
        }
    }
}

/// The event that a submitter sent, with its normal form, if an adapter reads payloads of its kind.
///
/// # Errors
/// If the payload says that it is a normalised event and is none.
pub fn submitted(event: Event) -> Result<Event, InvalidNormalEvent> {
    let native = Native::stored(event.attributes(), event.data());
    let is = |known| is_media_type(native.media_type, known);
    let is_cdevent = native.event_type.starts_with(cdevents::TYPE_PREFIX);
    let is_tag = native.event_type == Word::ScmTag.as_str();
    let (adapter, form) = if is(normal::MEDIA_TYPE) {
        (Adapter::Event, Some(own::read(&native)?))
    } else if is(git::OBJECT_MEDIA_TYPE) || (is_tag && is("text/plain")) {
        (Adapter::Git, git::read(&native))
    } else if is(dsse::MEDIA_TYPE) {
        (Adapter::InToto, in_toto::read(&native))
    } else if is_cdevent && cdevents::MEDIA_TYPES.into_iter().any(is) {
        (Adapter::CdEvents, cdevents::read(&native))
    } else {
        return Ok(event);
    };
    Ok(match form {
        Some(form) => event.with_form(adapter, form),
        None => event,
    })
}

/// The event that a provider sent, with the type, subject and time that its normal form gives it. Without a form it stays as
/// it is.
pub fn named_by(adapter: Adapter, event: Event) -> Event {
    debug_assert!(adapter.names_events());
    let form = adapter.read(&Native::stored(event.attributes(), event.data()));
    match form {
        Some(form) => event.named_by(&form).with_form(adapter, form),
        None => event,
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Adapter {
    type Err = UnknownAdapter;

    fn from_str(name: &str) -> Result<Self, UnknownAdapter> {
        let mut all = Self::ALL.into_iter();
        all.find(|adapter| adapter.name() == name)
            .ok_or_else(|| UnknownAdapter(name.to_owned()))
    }
}

impl<'a> Native<'a> {
    /// What is stored of an event.
    pub fn stored(attributes: &'a Attributes, data: &'a [u8]) -> Self {
        Self {
            id: &attributes.id,
            source: &attributes.source,
            event_type: &attributes.event_type,
            time: &attributes.time,
            media_type: &attributes.data_content_type,
            extensions: &attributes.extensions,
            data,
        }
    }

    fn extension(&self, name: &str) -> &'a str {
        self.extensions.get(name).map_or("", String::as_str)
    }

    /// The provider's name for what happened.
    fn event(&self) -> &'a str {
        self.extension("nativeevent")
    }

    /// A form that says how the event came, of an event that has no type yet.
    fn form(&self, provider: &'static str, event_type: EventType) -> NormalEvent {
        // Events have ids; annotations of others say nothing.
        let id = Text::cut(self.id).unwrap_or_else(|| Text::try_from("-").expect("a text"));
        let mut form = NormalEvent::new(id, event_type);
        let source = &mut form.source;
        source.id = protocol::sender(self.source).and_then(Text::cut);
        source.provider = Text::cut(provider);
        source.host = Text::cut(self.extension("host"));
        source.native_event = Text::cut(self.event());
        source.delivery_id = Text::cut(self.extension("deliveryid"));
        source.hook_id = Text::cut(self.extension("hookid"));
        form
    }
}
