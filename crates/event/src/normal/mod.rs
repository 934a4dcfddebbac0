//! The normalised event: what an event says, in words that mean the same whoever the provider is. `docs/EVENTS.md` has the
//! model, `docs/schema/event.json` its JSON Schema.
//!
//! Every part may be empty, and an empty one is not written: filling an event is assigning to its fields.
//!
//! ```
//! use counterfoil_event::normal::{NormalEvent, Outcome, Text, Word};
//!
//! let mut event = NormalEvent::new(Text::try_from("run-42")?, Word::RunFinished);
//! event.outcome = Outcome::Success;
//! event.repo.full_name = Text::cut("acme/widgets");
//! event.run.id = Text::cut("42");
//! assert_eq!(
//!     event.clone().into_json(),
//!     br#"{"id":"run-42","type":"ci.run.finished","outcome":"success","repo":{"full_name":"acme/widgets"},"run":{"id":"42"}}"#,
//! );
//! assert_eq!(NormalEvent::parse(&event.clone().into_json())?, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`NormalEvent::parse`] reads what others wrote, and says of each member what is wrong with it. Members that are not known
//! here are kept, at every level, and written again.

mod fit;
mod read;
mod text;
mod vocabulary;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use fit::MAX_LIST_ITEMS;
pub use read::{InvalidNormalEvent, MAX_INPUT_BYTES, NormalViolation};
pub use text::{CUT_MARK, Integer, MAX_INTEGER, MAX_TEXT_BYTES, Setting, SignedInteger, Text, Time};
pub use vocabulary::{ActorKind, DerivedType, EventType, NotAType, NotAWord, Outcome, Word};

/// The media type of a payload that is a normalised event.
pub const MEDIA_TYPE: &str = "application/vnd.counterfoil.event+json";

/// Members that are not known here, by name.
pub type Other = BTreeMap<String, serde_json::Value>;

/// A part of the event: a JSON object whose members may all be absent.
macro_rules! part {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$doc:meta])* pub $field:ident: Option<$type:ty>, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+
            /// What is not known here.
            #[serde(flatten)]
            pub other: Other,
        }
    };
}

/// An event in the log's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormalEvent {
    /// The id of the event that this is the normal form of.
    pub id: Text,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// When it happened, by the source's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Time>,
    /// When it was recorded, by the log's clock. Not in what an entry commits to: the entry itself has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time>,
    /// How it came.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub source: Source,
    /// Who did it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub actor: Actor,
    /// Who made it happen again, where that is somebody else.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub triggering_actor: Actor,
    /// The organisation or group that it happened in.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub org: Org,
    /// The repository or project.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub repo: Repo,
    /// The branch or tag.
    #[serde(
        rename = "ref",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_empty"
    )]
    pub reference: Reference,
    /// The commit that it is about, in hex: what was pushed, merged, checked, built or deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Text>,
    /// The commits of a push, as far as the source lists them.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub commits: Vec<Text>,
    /// The pull or merge request.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub change: Change,
    /// The review.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub review: Review,
    /// The run of a workflow or pipeline, or a check's.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub run: Run,
    /// The job of a run.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub job: Job,
    /// The command that `counterfoil run` ran.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub process: Process,
    /// What was built, published or deployed.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The deployment.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub deployment: Deployment,
    /// The settings that changed.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub config_change: Vec<ConfigChange>,
    /// What somebody was asked to decide, or decided.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub decision: Decision,
    /// Other entries of the log that belong to it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub links: Vec<Link>,
    /// The lists that lost their end because the event was too large.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub omitted: Vec<Omitted>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

part! {
    /// How the event came to the log.
    pub struct Source {
        /// The log's name for the source.
        pub id: Option<Text>,
        /// The kind of provider, such as `github`.
        pub provider: Option<Text>,
        /// The host name of the provider.
        pub host: Option<Text>,
        /// The provider's name for what happened.
        pub native_event: Option<Text>,
        /// Its name for what was done to it.
        pub native_action: Option<Text>,
        /// Its id for the delivery.
        pub delivery_id: Option<Text>,
        /// Its id for the webhook.
        pub hook_id: Option<Text>,
    }
}

part! {
    /// An account.
    pub struct Actor {
        /// What kind of account it is.
        pub kind: Option<ActorKind>,
        /// The provider's id of it, which no rename changes.
        pub id: Option<Text>,
        /// Its name.
        pub login: Option<Text>,
    }
}

part! {
    /// An organisation, group or enterprise.
    pub struct Org {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// Its name.
        pub login: Option<Text>,
    }
}

part! {
    /// A repository or project.
    pub struct Repo {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// Its name, such as `acme/widgets`.
        pub full_name: Option<Text>,
    }
}

part! {
    /// A branch or tag.
    pub struct Reference {
        /// Its name, in full where the source says what it is: `refs/heads/main`.
        pub name: Option<Text>,
        /// Where it was before; zeros if it was not.
        pub before: Option<Text>,
        /// Where it is now; zeros if it is gone.
        pub after: Option<Text>,
        /// Whether it was moved to what does not follow from what it was.
        pub forced: Option<bool>,
        /// Whether rules protect it.
        pub protected: Option<bool>,
    }
}

part! {
    /// A pull or merge request.
    pub struct Change {
        /// Its number in its repository.
        pub number: Option<Integer>,
        /// The provider's id of its author.
        pub author_id: Option<Text>,
        /// Their name.
        pub author: Option<Text>,
        /// The commit that is to be merged.
        pub head_sha: Option<Text>,
        /// The branch that it is to be merged into.
        pub base_ref: Option<Text>,
        /// The commit that came of it.
        pub merge_sha: Option<Text>,
    }
}

part! {
    /// A review of a change.
    pub struct Review {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// What it came to, in the provider's word.
        pub state: Option<Text>,
        /// The commit that was looked at.
        pub commit: Option<Text>,
        /// What its author is to the repository, in the provider's word.
        pub association: Option<Text>,
    }
}

part! {
    /// A run of a workflow or pipeline, or of a check.
    pub struct Run {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// Its number among those of the workflow.
        pub number: Option<Integer>,
        /// Which attempt it is, from 1.
        pub attempt: Option<Integer>,
        /// The provider's id of the workflow.
        pub workflow_id: Option<Text>,
        /// The workflow's file or the pipeline's name; for a check, who makes it.
        pub path: Option<Text>,
        /// What made it run, in the provider's word.
        pub trigger: Option<Text>,
    }
}

part! {
    /// A job of a run.
    pub struct Job {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// What the workflow calls it.
        pub name: Option<Text>,
        /// The machine that it runs on.
        pub runner: Option<Text>,
    }
}

part! {
    /// A command and how it ended.
    pub struct Process {
        /// Names the pair of events at its start and its end.
        pub id: Option<Text>,
        /// What it is called.
        pub name: Option<Text>,
        /// How long it ran, in milliseconds.
        pub duration_ms: Option<Integer>,
        /// What it returned.
        pub exit_code: Option<Integer>,
        /// The signal that ended it.
        pub signal: Option<Integer>,
        /// False if it could not be run.
        pub started: Option<bool>,
    }
}

part! {
    /// Something that was built, published or deployed.
    pub struct Artifact {
        /// Its name or path.
        pub name: Option<Text>,
        /// The digest of its bytes: `sha256:` and hex.
        pub digest: Option<Text>,
        /// Its package URL.
        pub purl: Option<Text>,
        /// Its tag or version.
        pub tag: Option<Text>,
    }
}

part! {
    /// A deployment.
    pub struct Deployment {
        /// The provider's id of it.
        pub id: Option<Text>,
        /// Where to, such as `production`.
        pub environment: Option<Text>,
        /// How far it is, in the provider's word.
        pub status: Option<Text>,
    }
}

part! {
    /// One setting and its values.
    pub struct ConfigChange {
        /// Which, such as `permission` or `rule.allow_force_pushes`.
        pub path: Option<Text>,
        /// What it was.
        pub from: Option<Setting>,
        /// What it is.
        pub to: Option<Setting>,
    }
}

/// A decision on whether something may go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What was decided, or that it has to be, in the provider's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Text>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Where to send the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<Text>,
    /// Who was asked.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_empty")]
    pub reviewers: Vec<Actor>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

part! {
    /// Another entry of the log.
    pub struct Link {
        /// How it belongs here.
        pub rel: Option<Text>,
        /// Its index.
        pub entry: Option<Integer>,
    }
}

/// A list that lost its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Omitted {
    /// Which list, such as `commits`.
    pub path: Text,
    /// How many of its items are not here.
    pub count: Integer,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// A part that is null is an empty one, as a value that is null is none.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_empty<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

impl NormalEvent {
    /// An event of which no more is known.
    pub fn new(id: Text, event_type: impl Into<EventType>) -> Self {
        Self {
            id,
            event_type: event_type.into(),
            outcome: Outcome::Unknown,
            occurred_at: None,
            received_at: None,
            source: Source::default(),
            actor: Actor::default(),
            triggering_actor: Actor::default(),
            org: Org::default(),
            repo: Repo::default(),
            reference: Reference::default(),
            commit: None,
            commits: Vec::new(),
            change: Change::default(),
            review: Review::default(),
            run: Run::default(),
            job: Job::default(),
            process: Process::default(),
            artifacts: Vec::new(),
            deployment: Deployment::default(),
            config_change: Vec::new(),
            decision: Decision::default(),
            links: Vec::new(),
            omitted: Vec::new(),
            other: Other::new(),
        }
    }

    /// What it happened to, for an event's `subject`: the repository, or else the organisation.
    pub fn subject(&self) -> &str {
        let named = self.repo.full_name.as_ref().or(self.org.login.as_ref());
        named.map_or("", Text::as_str)
    }
}
