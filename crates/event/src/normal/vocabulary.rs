//! The words of the normalised event. Lists are closed: what has no word in them has a derived type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{limits::MAX_TYPE_BYTES, validate};

/// An enum whose variants are words.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($unknown:literal) { $( $(#[$doc:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&str")]
        pub enum $name { $( $(#[$doc])* $variant, )+ }

        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The word itself.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;

            fn from_str(word: &str) -> Result<Self, NotAWord> {
                match word {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err(NotAWord($unknown)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAWord;

            fn try_from(word: String) -> Result<Self, NotAWord> {
                word.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(word: $name) -> Self {
                word.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A word that the vocabulary does not have at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is {0}")]
pub struct NotAWord(&'static str);

words! {
    /// How it ended.
    #[derive(Default)]
    pub enum Outcome("none of success, failure, error, cancelled, skipped, denied, unknown") {
        /// It did what it was for.
        Success = "success",
        /// It ran, and the result is bad: tests that fail.
        Failure = "failure",
        /// It could not be carried through: a machine that died, a time limit.
        Error = "error",
        /// Somebody ended it, or it was overtaken.
        Cancelled = "cancelled",
        /// It was not done, or has nothing to say.
        Skipped = "skipped",
        /// Somebody who was asked said no.
        Denied = "denied",
        /// It has not ended, or nobody said how.
        #[default]
        Unknown = "unknown",
    }
}

words! {
    /// What kind of account acts.
    pub enum ActorKind("none of user, bot, organization, system") {
        /// A person.
        User = "user",
        /// A program with an account of its own.
        Bot = "bot",
        /// An organisation, acting as such.
        Organization = "organization",
        /// The provider itself.
        System = "system",
    }
}

words! {
    /// The types of events that mean the same whoever the provider is.
    pub enum Word("no word of the vocabulary") {
        /// A reference was created, moved or deleted.
        ScmPush = "scm.push",
        /// A commit, as imported from a repository.
        ScmCommit = "scm.commit",
        /// A commit with more than one parent, as imported from a repository.
        ScmMerge = "scm.merge",
        /// A tag, as imported from a repository.
        ScmTag = "scm.tag",
        /// A pull or merge request is open, for the first time or again.
        ChangeOpened = "scm.change.opened",
        /// Something about it changed: its commits, title, labels, reviewers.
        ChangeUpdated = "scm.change.updated",
        /// It was merged.
        ChangeMerged = "scm.change.merged",
        /// It was closed without a merge.
        ChangeClosed = "scm.change.closed",
        /// Somebody approved it, asked for changes, or commented.
        ReviewSubmitted = "scm.review.submitted",
        /// A review counts no more.
        ReviewDismissed = "scm.review.dismissed",
        /// A workflow or pipeline is to run.
        RunQueued = "ci.run.queued",
        /// It runs.
        RunStarted = "ci.run.started",
        /// It ended.
        RunFinished = "ci.run.finished",
        /// A job of a run is to run.
        JobQueued = "ci.job.queued",
        /// It runs.
        JobStarted = "ci.job.started",
        /// It ended.
        JobFinished = "ci.job.finished",
        /// A check of a commit is asked for.
        CheckQueued = "ci.check.queued",
        /// It is under way.
        CheckStarted = "ci.check.started",
        /// It ended.
        CheckFinished = "ci.check.finished",
        /// Something was made.
        ArtifactBuilt = "artifact.built",
        /// It can be had: a release, a package.
        ArtifactPublished = "artifact.published",
        /// It was signed.
        ArtifactSigned = "artifact.signed",
        /// It can be had no more.
        ArtifactDeleted = "artifact.deleted",
        /// A deployment is asked for.
        DeployRequested = "deploy.requested",
        /// Somebody let it pass or did not.
        DeployDecided = "deploy.decided",
        /// It is under way.
        DeployStarted = "deploy.started",
        /// It is done.
        DeploySucceeded = "deploy.succeeded",
        /// It was not done.
        DeployFailed = "deploy.failed",
        /// What was there before is back.
        DeployRolledback = "deploy.rolledback",
        /// A rule that protects branches or tags.
        ProtectionCreated = "config.protection.created",
        /// The same, changed.
        ProtectionEdited = "config.protection.edited",
        /// The same, gone.
        ProtectionDeleted = "config.protection.deleted",
        /// A set of rules for references.
        RulesetCreated = "config.ruleset.created",
        /// The same, changed.
        RulesetEdited = "config.ruleset.edited",
        /// The same, gone.
        RulesetDeleted = "config.ruleset.deleted",
        /// A team or group was made.
        MemberCreated = "config.member.created",
        /// Somebody, or a team, was given access.
        MemberAdded = "config.member.added",
        /// A role, a team or a group changed.
        MemberEdited = "config.member.edited",
        /// Access was taken away.
        MemberRemoved = "config.member.removed",
        /// A team or group is gone.
        MemberDeleted = "config.member.deleted",
        /// A key was made.
        KeyCreated = "config.key.created",
        /// A key was given to something that exists.
        KeyAdded = "config.key.added",
        /// A key, or what it may do, changed.
        KeyEdited = "config.key.edited",
        /// A key was taken away.
        KeyRemoved = "config.key.removed",
        /// A key is gone.
        KeyDeleted = "config.key.deleted",
        /// A secret of jobs was set.
        SecretCreated = "config.secret.created",
        /// The same, for something that exists.
        SecretAdded = "config.secret.added",
        /// It was set anew.
        SecretEdited = "config.secret.edited",
        /// It was taken away.
        SecretRemoved = "config.secret.removed",
        /// It is gone.
        SecretDeleted = "config.secret.deleted",
        /// A secret was found where others can read it.
        SecretExposed = "config.secret.exposed",
        /// What was found is dealt with.
        SecretResolved = "config.secret.resolved",
        /// A repository was made.
        RepositoryCreated = "config.repository.created",
        /// Its name, owner, visibility or settings changed.
        RepositoryEdited = "config.repository.edited",
        /// It is gone.
        RepositoryDeleted = "config.repository.deleted",
        /// The log begins.
        LogCreated = "log.created",
        /// Something is missing.
        LogGap = "log.gap",
        /// Somebody used an event's name again.
        LogConflict = "log.conflict",
        /// A payload was erased.
        LogErased = "log.erased",
        /// Payloads are kept against the rule.
        LogHold = "log.hold",
        /// The log has another key.
        LogKeyRotated = "log.key_rotated",
        /// The log takes nothing more.
        LogFrozen = "log.frozen",
        /// The keys of an issuer of ID tokens.
        LogOidcKeys = "log.oidc_keys",
        /// A key whose signatures on DSSE envelopes are believed.
        LogDsseKey = "log.dsse_key",
    }
}

/// How the types begin that only the vocabulary has.
const NAMESPACES: [&str; 6] = ["artifact", "ci", "config", "deploy", "log", "scm"];

/// The type of an event: a word of the vocabulary, or what the source calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", untagged)]
pub enum EventType {
    /// One that everybody knows.
    Word(Word),
    /// One of the source's own, such as `github.fork`.
    Derived(DerivedType),
}

/// A type that is made of the source's name for what happened: printable ASCII without spaces, at most
/// [`MAX_TYPE_BYTES`], and beginning like no word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DerivedType(String);

/// Why there is no such type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAType {
    /// It begins like the words of the vocabulary and is none of them.
    #[error("begins like the vocabulary's words and is none of them")]
    NotAWord,
    /// Not a type of any event.
    #[error("{0}")]
    Form(validate::Problem),
}

impl EventType {
    /// The type as events have it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Word(word) => word.as_str(),
            Self::Derived(DerivedType(text)) => text,
        }
    }
}

impl FromStr for EventType {
    type Err = NotAType;

    fn from_str(text: &str) -> Result<Self, NotAType> {
        if let Ok(word) = text.parse() {
            return Ok(Self::Word(word));
        }
        validate::event_type(text).map_err(NotAType::Form)?;
        let first = text.split('.').next().unwrap_or_default();
        if NAMESPACES.contains(&first) {
            return Err(NotAType::NotAWord);
        }
        Ok(Self::Derived(DerivedType(text.to_owned())))
    }
}

impl TryFrom<String> for EventType {
    type Error = NotAType;

    fn try_from(text: String) -> Result<Self, NotAType> {
        text.parse()
    }
}

impl From<Word> for EventType {
    fn from(word: Word) -> Self {
        Self::Word(word)
    }
}

impl From<DerivedType> for EventType {
    fn from(derived: DerivedType) -> Self {
        Self::Derived(derived)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DerivedType {
    /// `<provider>.<event>[.<action>]`. Types are public for ever, so what is no plain name does not get into one: letters
    /// become small ones, everything but them, digits, `.`, `_` and `-` becomes `_`, and an action with anything else in it, or
    /// of more than 40 bytes, is left out.
    ///
    /// # Panics
    /// If `provider` is how a word begins.
    pub fn new(provider: &str, event: &str, action: &str) -> Self {
        assert!(
            !NAMESPACES.contains(&provider),
            "providers have names of their own"
        );
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let event = event.trim().chars();
        let event = event.map(|c| if is_plain(c) { c.to_ascii_lowercase() } else { '_' });
        let mut text = format!("{provider}.");
        text.extend(event.take(MAX_TYPE_BYTES - MAX_ACTION_BYTES - 1 - text.len()));
        if !action.is_empty() && action.len() <= MAX_ACTION_BYTES && action.chars().all(is_plain) {
            text.push('.');
            text.push_str(&action.to_ascii_lowercase());
        }
        Self(text)
    }
}

/// Longest action in a derived type.
const MAX_ACTION_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_themselves_and_keep_to_their_namespaces() {
        for word in Word::ALL {
            assert_eq!(word.as_str().parse(), Ok(EventType::Word(*word)));
            let first = word.as_str().split('.').next().unwrap();
            assert!(NAMESPACES.contains(&first), "{word}");
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(*outcome));
        }
        assert_eq!(
            "Success"
                .parse::<Outcome>()
                .unwrap_err()
                .to_string()
                .split(',')
                .count(),
            7
        );
    }

    #[test]
    fn what_begins_like_a_word_has_to_be_one() {
        for bad in ["ci.run.finised", "log.anything", "deploy", "scm."] {
            assert_eq!(bad.parse::<EventType>(), Err(NotAType::NotAWord), "{bad}");
        }
        for good in ["github.fork", "build.finished", "scmx.push", "x"] {
            assert_eq!(good.parse::<EventType>().unwrap().as_str(), good);
        }
        assert!(matches!("two words".parse::<EventType>(), Err(NotAType::Form(_))));
        assert!(matches!("".parse::<EventType>(), Err(NotAType::Form(_))));
    }

    #[test]
    fn derived_types_are_plain_whatever_they_are_made_of() {
        for (event, action, expected) in [
            ("fork", "", "github.fork"),
            ("issues", "opened", "github.issues.opened"),
            ("Push Hook", "", "github.push_hook"),
            ("a\u{e9}b", "b c", "github.a_b"),
            ("x", &"a".repeat(41), "github.x"),
        ] {
            let derived = DerivedType::new("github", event, action);
            assert_eq!(derived.0, expected);
            assert_eq!(expected.parse(), Ok(EventType::from(derived)));
        }
        let long = DerivedType::new("github", &"e".repeat(500), &"a".repeat(40));
        assert_eq!(long.0.len(), MAX_TYPE_BYTES);
    }
}
