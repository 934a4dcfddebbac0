//! The search index: which attributes of an event lead to its entry, and by which key.

use std::{fmt, str::FromStr, sync::LazyLock};

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::{
    adapter::json::{self, Leaf, List},
    normal::Text,
};

/// An attribute by which entries can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexAttribute {
    /// A repository: its full name, such as `acme/widgets`, or the provider's id of it.
    Repository,
    /// A commit, in hex: what an event is about, and those that it names beside.
    Commit,
    /// A run of a workflow or pipeline: the provider's id of it.
    Run,
    /// Who did it: a login, or the provider's id of it.
    Actor,
    /// What was built: a digest, such as `sha256:…`.
    Artifact,
    /// Where it was deployed to.
    Environment,
}

/// A name that no attribute has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such attribute; there are repository, commit, run, actor, artifact and environment")]
pub struct UnknownIndexAttribute;

impl IndexAttribute {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Repository,
        Self::Commit,
        Self::Run,
        Self::Actor,
        Self::Artifact,
        Self::Environment,
    ];

    /// Its name, such as `artifact`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Commit => "commit",
            Self::Run => "run",
            Self::Actor => "actor",
            Self::Artifact => "artifact",
            Self::Environment => "environment",
        }
    }

    /// The first byte of its keys, and its number in messages. Never reused.
    pub fn number(self) -> u8 {
        match self {
            Self::Repository => 1,
            Self::Commit => 2,
            Self::Run => 3,
            Self::Actor => 4,
            Self::Artifact => 5,
            Self::Environment => 6,
        }
    }

    /// The attribute of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|attribute| attribute.number() == number)
    }
}

impl fmt::Display for IndexAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IndexAttribute {
    type Err = UnknownIndexAttribute;

    fn from_str(name: &str) -> Result<Self, UnknownIndexAttribute> {
        let mut all = Self::ALL.into_iter();
        all.find(|attribute| attribute.as_str() == name)
            .ok_or(UnknownIndexAttribute)
    }
}

/// What a value of an attribute is filed under in a log's search index: 17 bytes, the same for both suites, never published.
///
/// The attribute's number, then the first 16 bytes of BLAKE3 in derive-key mode with the context
/// `counterfoil 2026-11-22 index key` over the value, its ASCII letters in lower case: providers take `Acme/Widgets` and
/// `acme/widgets` for one name, and digests are written in both. What no normal form holds whole is cut first, as it is there.
/// A hash, so that rows are short and of one length however long the value is. Two values under one key cost a reader a look at
/// an entry that is not meant; whoever searches looks at the entries anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey([u8; Self::LEN]);

static INDEX_KEY_CONTEXT: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("counterfoil 2026-11-22 index key"));

impl IndexKey {
    /// Bytes of a key.
    pub const LEN: usize = 17;

    /// The key of a value.
    pub fn new(attribute: IndexAttribute, value: &str) -> Self {
        // Whoever searches has the whole value, and the normal form has what it was cut to.
        let mut value = Text::cut(value).map_or(String::new(), |text| text.to_string());
        value.make_ascii_lowercase();
        let mut hasher = blake3::Hasher::new_from_context_key(&INDEX_KEY_CONTEXT);
        hasher.update(value.as_bytes());
        let mut key = [attribute.number(); Self::LEN];
        key[1..].copy_from_slice(&hasher.finalize().as_bytes()[..Self::LEN - 1]);
        Self(key)
    }

    /// The keys of an event's terms, ascending, each once.
    pub fn of_terms(terms: &[(IndexAttribute, String)]) -> Vec<Self> {
        let mut keys: Vec<_> = terms
            .iter()
            .map(|(attribute, value)| Self::new(*attribute, value))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The keys of an event's normal form, ascending, each once. None if it has no normal form, or none that can be read.
    pub fn of_normal_form(json: &[u8]) -> Vec<Self> {
        Self::of_terms(&terms(json).unwrap_or_default())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Self::LEN]> for IndexKey {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

/// What a normal form is found by. It is read as hostile bodies are: a log may have been given anything.
fn terms(json: &[u8]) -> Option<Vec<(IndexAttribute, String)>> {
    let form: Form<'_> = json::read(json)?;
    let mut terms = Vec::new();
    let mut add = |attribute, value: Option<Text>| {
        terms.extend(value.map(|value| (attribute, value.to_string())));
    };
    add(IndexAttribute::Repository, form.repo.full_name.text());
    add(IndexAttribute::Repository, form.repo.id.id());
    let commits = [
        form.commit,
        form.reference.after,
        form.change.head_sha,
        form.change.merge_sha,
        form.review.commit,
    ];
    for commit in commits.iter().chain(&form.commits.items) {
        // Zeros stand for none.
        add(
            IndexAttribute::Commit,
            commit.text().filter(|id| id.bytes().any(|byte| byte != b'0')),
        );
    }
    add(IndexAttribute::Run, form.run.id.id());
    for actor in [&form.actor, &form.triggering_actor] {
        add(IndexAttribute::Actor, actor.login.text());
        add(IndexAttribute::Actor, actor.id.id());
    }
    add(IndexAttribute::Environment, form.deployment.environment.text());
    for artifact in &form.artifacts.items {
        add(IndexAttribute::Artifact, artifact.digest.text());
    }
    Some(terms)
}

json::objects! {
    /// A normal form, as far as it is filed.
    Form {
        commit, commits: List<Leaf<'a>>, repo: Repo<'a>, reference = "ref": Reference<'a>, change: Change<'a>, review: Review<'a>,
        run: Run<'a>, actor: Actor<'a>, triggering_actor: Actor<'a>, deployment: Deployment<'a>, artifacts: List<Artifact<'a>>,
    }
    Repo { id, full_name }
    Reference { after }
    Change { head_sha, merge_sha }
    Review { commit }
    Run { id }
    Actor { id, login }
    Deployment { environment }
    Artifact { digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_attribute() {
        for attribute in IndexAttribute::ALL {
            assert_eq!(attribute.as_str().parse(), Ok(attribute));
            assert_eq!(IndexAttribute::from_number(attribute.number()), Some(attribute));
        }
        assert_eq!("Commit".parse::<IndexAttribute>(), Err(UnknownIndexAttribute));
        assert_eq!(IndexAttribute::from_number(0), None);
    }

    #[test]
    fn a_key_is_what_the_protocol_says() {
        let key = IndexKey::new(IndexAttribute::Repository, "Acme/Widgets");
        let hash = blake3::derive_key("counterfoil 2026-11-22 index key", b"acme/widgets");
        assert_eq!(key.as_bytes()[0], 1);
        assert_eq!(key.as_bytes()[1..], hash[..16]);
        assert_ne!(
            key,
            IndexKey::new(IndexAttribute::Environment, "acme/widgets"),
            "the same value of another attribute is filed elsewhere"
        );
    }

    #[test]
    fn a_value_that_a_form_has_to_cut_is_found_by_the_whole_of_it() {
        let whole = "Production/".repeat(60);
        let cut = Text::cut(&whole).unwrap();
        assert!(cut.len() < whole.len());
        let form = serde_json::json!({ "deployment": { "environment": cut } });
        assert_eq!(
            IndexKey::of_normal_form(form.to_string().as_bytes()),
            [IndexKey::new(IndexAttribute::Environment, &whole)]
        );
    }

    #[test]
    fn terms_that_are_filed_together_make_one_row() {
        let terms = [
            (IndexAttribute::Commit, "ABC".to_owned()),
            (IndexAttribute::Repository, "x".to_owned()),
            (IndexAttribute::Commit, "abc".to_owned()),
        ];
        let keys = IndexKey::of_terms(&terms);
        assert_eq!(keys.len(), 2);
        assert!(keys.is_sorted());
    }

    #[test]
    fn an_event_is_filed_under_all_that_it_may_be_looked_for_by() {
        let id = |digit: &str| digit.repeat(40);
        let form = serde_json::json!({
            "id": "1", "type": "scm.change.merged", "commit": id("a"), "commits": [id("b"), 7], "ref": {"after": id("c"), "before": id("9")},
            "change": {"head_sha": id("d"), "merge_sha": id("e")}, "review": {"commit": id("f")},
            "repo": {"id": "5", "full_name": "Acme/Widgets"}, "run": {"id": 6, "number": 99}, "deployment": {"environment": "prod"},
            "actor": {"id": "7", "login": "one"}, "triggering_actor": {"login": "two"}, "artifacts": [{"name": "x", "digest": "sha256:1"}],
        });
        let keys = IndexKey::of_normal_form(form.to_string().as_bytes());
        let commits = ["a", "b", "c", "d", "e", "f"].map(|digit| (IndexAttribute::Commit, id(digit)));
        let others = [
            (IndexAttribute::Repository, "5"),
            (IndexAttribute::Repository, "acme/widgets"),
            (IndexAttribute::Run, "6"),
            (IndexAttribute::Environment, "prod"),
            (IndexAttribute::Actor, "7"),
            (IndexAttribute::Actor, "one"),
            (IndexAttribute::Actor, "two"),
            (IndexAttribute::Artifact, "SHA256:1"),
        ];
        let others = others.map(|(attribute, value)| (attribute, value.to_owned()));
        let expected = IndexKey::of_terms(&[&commits[..], &others[..]].concat());
        assert_eq!(keys, expected);

        let deleted = format!(r#"{{"ref":{{"after":"{}"}}}}"#, id("0"));
        for nothing in [
            &deleted,
            "",
            "[]",
            "no JSON",
            r#"{"commit":7,"repo":null,"artifacts":{}}"#,
        ] {
            assert_eq!(IndexKey::of_normal_form(nothing.as_bytes()), [], "{nothing}");
        }
    }
}
