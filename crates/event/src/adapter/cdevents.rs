//! `cdevents/3`: CDEvents, as the data of CloudEvents. <https://github.com/cdevents/spec>, versions 0.3 to 0.6.

use percent_encoding::percent_decode_str;

use super::{
    Native,
    json::{self, Leaf, commit_id},
    uri::host,
};
use crate::normal::{Artifact, DerivedType, EventType, Integer, NormalEvent, Outcome, Text, Word};

/// How the types of CloudEvents begin that carry CDEvents.
pub(super) const TYPE_PREFIX: &str = "dev.cdevents.";
/// The media types that they come under.
pub(super) const MEDIA_TYPES: [&str; 2] = ["application/json", "application/cdevents+json"];

json::objects! {
    CdEvent { context: Context<'a>, subject: Subject<'a> }
    Context { source, event_type = "type", timestamp }
    Subject { id, content: Content<'a> }
    Content {
        outcome, name, owner, user, creator,
        updated_by = "updatedBy",
        pipeline_name = "pipelineName",
        task_name = "taskName",
        artifact_id = "artifactId",
        pipeline_run = "pipelineRun": Named<'a>,
        test_case = "testCase": Named<'a>,
        test_suite = "testSuite": Named<'a>,
        test_suite_run = "testSuiteRun": Named<'a>,
        environment: Named<'a>,
        service: Named<'a>,
        repository: Named<'a>,
        change: Named<'a>,
        trigger: Trigger<'a>,
    }
    Named { id, name, source }
    Trigger { kind = "type" }
}

/// None if it is no CDEvent, or its type is not the one that the CloudEvent says.
pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let event: CdEvent<'_> = json::read(native.data)?;
    let declared = event.context.event_type.str();
    if declared != native.event_type {
        return None;
    }
    // Subject, predicate, and the version of both.
    let mut names = declared.strip_prefix(TYPE_PREFIX)?.split('.');
    let (subject, predicate) = (names.next()?, names.next()?);
    let mut form = native.form("cdevents", event_type(subject, predicate));
    form.source.native_event = Text::cut(&declared);
    let stated = host(&event.context.source.str());
    form.source.host = form.source.host.take().or(stated);
    form.source.native_action = Text::cut(predicate);
    form.occurred_at = event.context.timestamp.time();
    form.outcome = outcome(subject, predicate, event.subject.content.outcome);
    describe(subject, &event.subject, &mut form);
    Some(form)
}

fn event_type(subject: &str, predicate: &str) -> EventType {
    let word = match (subject, predicate) {
        ("pipelinerun", "queued") => Word::RunQueued,
        ("pipelinerun", "started") => Word::RunStarted,
        ("pipelinerun", "finished") => Word::RunFinished,
        ("taskrun" | "build", "queued") => Word::JobQueued,
        ("taskrun" | "build", "started") => Word::JobStarted,
        ("taskrun" | "build", "finished") => Word::JobFinished,
        ("testcaserun" | "testsuiterun", "queued") => Word::CheckQueued,
        ("testcaserun" | "testsuiterun", "started") => Word::CheckStarted,
        ("testcaserun" | "testsuiterun", "finished" | "skipped") => Word::CheckFinished,
        ("change", "created") => Word::ChangeOpened,
        ("change", "updated") => Word::ChangeUpdated,
        ("change", "reviewed") => Word::ReviewSubmitted,
        ("change", "merged") => Word::ChangeMerged,
        ("change", "abandoned") => Word::ChangeClosed,
        ("branch", "created" | "deleted") => Word::ScmPush,
        ("repository", "created") => Word::RepositoryCreated,
        ("repository", "modified") => Word::RepositoryEdited,
        ("repository", "deleted") => Word::RepositoryDeleted,
        ("artifact", "packaged") => Word::ArtifactBuilt,
        ("artifact", "signed") => Word::ArtifactSigned,
        ("artifact", "published") => Word::ArtifactPublished,
        ("artifact", "deleted") => Word::ArtifactDeleted,
        ("service", "deployed" | "upgraded") => Word::DeploySucceeded,
        ("service", "rolledback") => Word::DeployRolledback,
        _ => return DerivedType::new("cdevents", subject, predicate).into(),
    };
    word.into()
}

/// What is stated; and success for what is a fact once it has happened. What a review came to CDEvents do not say.
fn outcome(subject: &str, predicate: &str, stated: Leaf<'_>) -> Outcome {
    match (&*stated.str(), subject, predicate) {
        ("success" | "pass", ..) => Outcome::Success,
        ("failure" | "fail", ..) => Outcome::Failure,
        ("error", ..) => Outcome::Error,
        ("cancel" | "cancelled" | "canceled" | "abort" | "aborted", ..) => Outcome::Cancelled,
        ("skip" | "skipped", ..) | (_, _, "skipped") => Outcome::Skipped,
        (_, "change", "abandoned") => Outcome::Cancelled,
        (_, "change", "merged")
        | (_, "artifact" | "branch" | "environment" | "repository" | "service", _) => Outcome::Success,
        _ => Outcome::Unknown,
    }
}

fn describe(kind: &str, subject: &Subject<'_>, form: &mut NormalEvent) {
    let content = &subject.content;
    let id = subject.id.text();
    let actors = [content.user, content.updated_by, content.creator];
    form.actor.login = actors.into_iter().find_map(Leaf::text);
    form.repo.full_name = content
        .repository
        .name
        .text()
        .or_else(|| content.repository.id.text());
    form.deployment.environment = content
        .environment
        .name
        .text()
        .or_else(|| content.environment.id.text());
    form.run.id = content
        .pipeline_run
        .id
        .text()
        .or_else(|| content.test_suite_run.id.text());
    form.run.path = content.pipeline_name.text();
    form.run.trigger = content.trigger.kind.text();
    if let Some(artifact) = content.artifact_id.text() {
        form.artifacts.push(artifact_of(&artifact));
    }
    match kind {
        "pipelinerun" => form.run.id = id,
        "taskrun" | "build" | "testcaserun" => {
            form.job.id = id;
            let names = [content.task_name, content.test_case.name, content.test_case.id];
            form.job.name = names.into_iter().find_map(Leaf::text);
        }
        "testsuiterun" => {
            form.run.id = id;
            form.run.path = content
                .test_suite
                .name
                .text()
                .or_else(|| content.test_suite.id.text());
        }
        "change" => change(&subject.id, form),
        "branch" => {
            form.reference.name = id.and_then(|name| Text::cut(&format!("refs/heads/{name}")));
        }
        "repository" => {
            form.repo.id = id;
            form.repo.full_name = match (content.owner.text(), content.name.text()) {
                (Some(owner), Some(name)) => Text::cut(&format!("{owner}/{name}")),
                (_, name) => name,
            };
        }
        "artifact" => form.artifacts.extend(id.map(|id| artifact_of(&id))),
        "service" => form.deployment.id = id,
        "environment" => {
            form.deployment.environment = content.name.text().or(id);
        }
        _ => form.deployment.id = content.service.id.text(),
    }
    if kind == "artifact" && content.change.id.is_there() {
        change(&content.change.id, form);
        form.repo.full_name = content.change.source.text();
    }
}

/// A change is called by its number, or by its commit.
fn change(id: &Leaf<'_>, form: &mut NormalEvent) {
    form.change.number = id.str().parse().ok().and_then(Integer::new);
    form.change.head_sha = commit_id(&id.str());
    form.commit = form.change.head_sha.clone();
}

/// The artifact of a package URL, with the digest that the URLs of container images have for a version.
fn artifact_of(id: &Text) -> Artifact {
    let mut artifact = Artifact::default();
    if !id.starts_with("pkg:") {
        artifact.name = Some(id.clone());
        return artifact;
    }
    artifact.purl = Some(id.clone());
    let path = id.split(['?', '#']).next().unwrap_or_default();
    let (name, version) = path.rsplit_once('@').unwrap_or((path, ""));
    let decoded = |text: &str| Text::cut(&percent_decode_str(text).decode_utf8_lossy());
    artifact.name = name.rsplit('/').next().and_then(decoded);
    let version = decoded(version);
    let is_digest = version
        .as_ref()
        .and_then(|version| version.split_once(':'))
        .is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
    if is_digest {
        artifact.digest = version;
    } else {
        artifact.tag = version;
    }
    artifact
}
