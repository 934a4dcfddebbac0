//! `in-toto/4`: in-toto statements, such as SLSA provenance, in DSSE envelopes. <https://github.com/in-toto/attestation>, Statement
//! v1 and v0.1; <https://slsa.dev/spec/v1.0/provenance> and v0.2.
//!
//! The form says what the statement says, whoever signed it: that the entry tells.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Native,
    json::{self, Leaf, List},
    uri::host,
};
use crate::{
    dsse::{Envelope, STATEMENT_TYPE},
    json_object::{JsonObject, structure},
    normal::{ActorKind, Artifact, EventType, MAX_LIST_ITEMS, NormalEvent, Outcome, Text, Word},
};

const STATEMENTS: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];
/// How the types of predicates begin that say how something was built.
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// A statement. No member is there twice: its envelope would be none.
#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Subjects,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(borrow)]
    predicate: Option<&'a RawValue>,
}

/// One artifact for each digest of each subject, as many as an event keeps: a statement is found by any of them.
#[derive(Default)]
struct Subjects {
    artifacts: Vec<Artifact>,
    /// How many more there are.
    more: usize,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    uri: Option<String>,
    #[serde(default)]
    digest: Digests,
}

/// Algorithms and digests.
#[derive(Default)]
struct Digests(Vec<(String, String)>);

json::objects! {
    /// The predicates that are known here, all in one: their members do not collide.
    Predicate {
        build_definition = "buildDefinition": BuildDefinition<'a>,
        run_details = "runDetails": RunDetails<'a>,
        builder: Builder<'a>,
        metadata: Metadata<'a>,
        materials: List<Material<'a>>,
        verification_result = "verificationResult",
        result,
    }
    BuildDefinition { dependencies = "resolvedDependencies": List<Material<'a>> }
    RunDetails { builder: Builder<'a>, metadata: Metadata<'a> }
    Builder { id }
    Metadata {
        invocation_id = "invocationId",
        old_invocation_id = "buildInvocationId",
        older_invocation_id = "buildInvocationID",
        finished_on = "finishedOn",
        old_finished_on = "buildFinishedOn",
    }
    Material { name, uri, digest: Commit<'a> }
    Commit { git_commit = "gitCommit", sha1 }
}

/// None if it is no statement in an envelope.
pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let envelope = Envelope::parse(native.data).ok()?;
    let statement = statement(&envelope)?;
    let event_type = native.event_type.parse().unwrap_or_else(|_| type_of(&statement));
    let mut form = native.form("in-toto", event_type);
    form.source.native_event = Text::cut(&statement.predicate_type);
    form.artifacts = statement.subject.artifacts;
    form.omit("artifacts", statement.subject.more);
    if let Some(predicate) = statement.predicate {
        let predicate: Predicate<'_> = json::read(predicate.get().as_bytes()).unwrap_or_default();
        describe(&predicate, &mut form);
    }
    Some(form)
}

/// The type that an event has whose payload is this envelope, if nobody says another: none if it holds no statement.
pub fn event_type(envelope: &Envelope) -> Option<EventType> {
    statement(envelope).map(|statement| type_of(&statement))
}

fn statement(envelope: &Envelope) -> Option<Statement<'_>> {
    if envelope.payload_type() != STATEMENT_TYPE {
        return None;
    }
    let JsonObject(statement): JsonObject<Statement<'_>> = serde_json::from_slice(envelope.payload()).ok()?;
    STATEMENTS
        .contains(&statement.statement_type.as_str())
        .then_some(statement)
}

fn type_of(statement: &Statement<'_>) -> EventType {
    if statement.predicate_type.starts_with(PROVENANCE) {
        Word::ArtifactBuilt.into()
    } else {
        Word::ArtifactSigned.into()
    }
}

impl Subjects {
    fn add(&mut self, subject: &Subject) {
        let name = subject
            .name
            .as_deref()
            .or(subject.uri.as_deref())
            .unwrap_or_default();
        let purl = [subject.uri.as_deref(), subject.name.as_deref()]
            .into_iter()
            .flatten()
            .find(|text| text.starts_with("pkg:"));
        for (algorithm, digest) in &subject.digest.0 {
            if self.artifacts.len() == MAX_LIST_ITEMS {
                self.more += 1;
                continue;
            }
            self.artifacts.push(Artifact {
                name: Text::cut(name),
                digest: Text::cut(&format!("{algorithm}:{digest}")),
                purl: purl.and_then(Text::cut),
                ..Artifact::default()
            });
        }
    }
}

fn describe(predicate: &Predicate<'_>, form: &mut NormalEvent) {
    let first = |leaves: &[Leaf<'_>]| leaves.iter().find_map(|leaf| leaf.text());
    let (now, before) = (&predicate.run_details.metadata, &predicate.metadata);
    form.run.id = first(&[
        now.invocation_id,
        before.old_invocation_id,
        before.older_invocation_id,
        before.invocation_id,
    ]);
    form.occurred_at = now
        .finished_on
        .time()
        .or_else(|| before.old_finished_on.time())
        .or_else(|| form.occurred_at.take());
    form.actor.login = first(&[predicate.run_details.builder.id, predicate.builder.id]);
    form.actor.kind = form.actor.login.is_some().then_some(ActorKind::System);
    let sources = [&predicate.build_definition.dependencies, &predicate.materials];
    let mut repositories = sources
        .iter()
        .flat_map(|list| &list.items)
        .filter(|material| material.uri.str().starts_with("git+"));
    // Tekton Chains names what it ran beside what that was run on, and once only where both are the same.
    let is_source =
        |material: &&Material<'_>| !matches!(&*material.name.str(), "pipeline" | "task" | "pipelineTask");
    let source = repositories
        .clone()
        .find(is_source)
        .or_else(|| repositories.next());
    if let Some(source) = source {
        let uri = source.uri.str();
        form.repo.full_name = repository(&uri);
        // What is signed, and nothing that the submitter says: two hosts may each have such a repository.
        form.source.host = host(&uri);
        form.commit = source
            .digest
            .git_commit
            .commit()
            .or_else(|| source.digest.sha1.commit());
    }
    form.outcome = match &*first(&[predicate.verification_result, predicate.result])
        .map(|result| result.to_string())
        .unwrap_or_default()
    {
        "PASSED" | "WARNED" => Outcome::Success,
        "FAILED" => Outcome::Failure,
        // What was built was built.
        _ if form.event_type == Word::ArtifactBuilt.into() => Outcome::Success,
        _ => Outcome::Unknown,
    };
}

/// The path of `git+https://host/acme/widgets@refs/heads/main`.
fn repository(uri: &str) -> Option<Text> {
    let (_, rest) = uri.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let path = path.split(['@', '?', '#']).next().unwrap_or_default();
    Text::cut(path.trim_end_matches('/').trim_end_matches(".git"))
}

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Subjects;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of subjects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Subjects, A::Error> {
                let mut subjects = Subjects::default();
                // One at a time: a list of empty objects would take 24 times its length in memory.
                while let Some(JsonObject(subject)) = array.next_element::<JsonObject<Subject>>()? {
                    subjects.add(&subject);
                }
                Ok(subjects)
            }
        }

        structure(deserializer, Items)
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Digests;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("digests by algorithm")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Digests, A::Error> {
                let mut digests: Vec<(String, String)> = Vec::new();
                while let Some((algorithm, digest)) = map.next_entry()? {
                    if digests.len() == MAX_LIST_ITEMS {
                        return Err(A::Error::custom("too many digests of one subject"));
                    }
                    digests.push((algorithm, digest));
                }
                Ok(Digests(digests))
            }
        }

        structure(deserializer, Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_kept_as_far_as_an_event_has_room() {
        let with = |count: usize| -> Subjects {
            let subject = r#"{"name":"n","digest":{"sha256":"ab","sha512":"cd"}}"#;
            serde_json::from_str(&format!("[{}]", vec![subject; count].join(","))).unwrap()
        };
        for (count, kept, more) in [(0, 0, 0), (128, 256, 0), (129, 256, 2), (1_000, 256, 1_744)] {
            let subjects = with(count);
            assert_eq!((subjects.artifacts.len(), subjects.more), (kept, more), "{count}");
        }
        assert!(serde_json::from_str::<Subjects>(r#"[["n",null,{"sha256":"ab"}]]"#).is_err());
    }
}
