//! `gitea/4`: webhooks of Gitea and Forgejo. <https://docs.gitea.com/usage/webhooks>, <https://forgejo.org/docs/latest/user/webhooks/>

use super::{
    Native,
    fill::{self, setting},
    hub::Body,
    json::{self, Leaf},
    purl::purl,
};
use crate::normal::{Actor, Artifact, DerivedType, EventType, NormalEvent, Outcome, Text, Time, Word};

const PROVIDER: &str = "gitea";

pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let body: Body<'_> = json::read(native.data)?;
    let event = native.event();
    let action = body.action.str();
    let event_type = match word(event, &action, &body) {
        Some(word) => EventType::Word(word),
        None => DerivedType::new(PROVIDER, event, &action).into(),
    };
    let mut form = native.form(PROVIDER, event_type);
    fill::everything(&body, &mut form);
    form.occurred_at = occurred_at(event, &action, &body);
    form.outcome = outcome(event, &action, &body, &form);
    match event {
        "status" => {
            form.job.id = body.id.id();
            form.job.name = body.context.text();
        }
        "create" | "delete" => reference(&body, &mut form),
        "workflow_run" if form.triggering_actor == Actor::default() => {
            form.triggering_actor = fill::actor(&body.workflow_run.trigger_actor);
        }
        "package" => package(&body, &mut form),
        "repository" => {
            setting(
                &mut form,
                "repository.private",
                None,
                body.repository.private.setting(),
            );
        }
        _ if review_state(event, &action).is_some() => {
            form.review.state = review_state(event, &action).and_then(Text::cut);
            form.review.commit = form.change.head_sha.clone();
        }
        _ if event.starts_with("action_run_") => action_run(&body, &mut form),
        _ => {}
    }
    Some(form)
}

fn word(event: &str, action: &str, body: &Body<'_>) -> Option<Word> {
    if review_state(event, action).is_some() {
        return Some(Word::ReviewSubmitted);
    }
    Some(match (event, action) {
        ("push", _) => Word::ScmPush,
        ("pull_request", "opened" | "reopened") => Word::ChangeOpened,
        ("pull_request", "closed") if fill::is_merged(&body.pull_request) => Word::ChangeMerged,
        ("pull_request", "closed") => Word::ChangeClosed,
        (
            "pull_request"
            | "pull_request_assign"
            | "pull_request_label"
            | "pull_request_milestone"
            | "pull_request_sync"
            | "pull_request_review_request",
            _,
        ) => Word::ChangeUpdated,
        ("status", _) => match &*body.state.str() {
            "pending" => Word::CheckStarted,
            _ => Word::CheckFinished,
        },
        ("workflow_run", "requested") => Word::RunQueued,
        ("workflow_run", "in_progress") => Word::RunStarted,
        ("workflow_run", "completed") => Word::RunFinished,
        ("workflow_job", "queued" | "waiting") => Word::JobQueued,
        ("workflow_job", "in_progress") => Word::JobStarted,
        ("workflow_job", "completed") => Word::JobFinished,
        ("action_run_success" | "action_run_failure" | "action_run_recover", _) => Word::RunFinished,
        ("release", "published") => Word::ArtifactPublished,
        ("release", "deleted") => Word::ArtifactDeleted,
        ("package", "created") => Word::ArtifactPublished,
        ("package", "deleted") => Word::ArtifactDeleted,
        ("repository", "created") => Word::RepositoryCreated,
        ("repository", "deleted") => Word::RepositoryDeleted,
        _ => return None,
    })
}

/// Reviews are events of different names: one for each thing that they come to. One that is a comment has the name of comments, and
/// an action of its own.
fn review_state(event: &str, action: &str) -> Option<&'static str> {
    match (event, action) {
        ("pull_request_approved" | "pull_request_review_approved", _) => Some("approved"),
        ("pull_request_rejected" | "pull_request_review_rejected", _) => Some("rejected"),
        ("pull_request_review_comment", _) | ("pull_request_comment", "reviewed") => Some("commented"),
        _ => None,
    }
}

fn outcome(event: &str, action: &str, body: &Body<'_>, form: &NormalEvent) -> Outcome {
    match event {
        "status" => return stated(body.state),
        "workflow_run" => return stated(body.workflow_run.conclusion),
        "workflow_job" => return stated(body.workflow_job.conclusion),
        // Forgejo calls every end so that is no success.
        "action_run_failure" => {
            return match stated(body.run.status) {
                outcome @ (Outcome::Cancelled | Outcome::Skipped) => outcome,
                _ => Outcome::Failure,
            };
        }
        _ => {}
    }
    match (&form.event_type, review_state(event, action)) {
        (_, Some("approved")) => Outcome::Success,
        (_, Some("rejected")) => Outcome::Denied,
        (_, Some(_))
        | (EventType::Derived(_) | EventType::Word(Word::ChangeOpened | Word::ChangeUpdated), _) => {
            Outcome::Unknown
        }
        (EventType::Word(Word::ChangeClosed), _) => Outcome::Cancelled,
        // All others tell of what is done.
        (EventType::Word(_), _) => Outcome::Success,
    }
}

/// The state of a commit, or how a run or job ended.
fn stated(state: Leaf<'_>) -> Outcome {
    match &*state.str() {
        // A warning does not stop a merge.
        "success" | "warning" => Outcome::Success,
        "failure" => Outcome::Failure,
        "error" | "timed_out" => Outcome::Error,
        "cancelled" => Outcome::Cancelled,
        "skipped" | "neutral" => Outcome::Skipped,
        "action_required" | "blocked" => Outcome::Denied,
        _ => Outcome::Unknown,
    }
}

fn occurred_at(event: &str, action: &str, body: &Body<'_>) -> Option<Time> {
    let pull_request = &body.pull_request;
    let times: &[Leaf<'_>] = match (event, action) {
        ("push", _) => &[body.head_commit.timestamp],
        ("pull_request", "opened") => &[pull_request.created_at],
        ("pull_request", "closed") => &[
            pull_request.merged_at,
            pull_request.closed_at,
            pull_request.updated_at,
        ],
        (_, _) if pull_request.number.is_there() => &[pull_request.updated_at],
        ("status", _) => &[body.updated_at, body.created_at],
        // What has not started says that it started in 1970.
        ("workflow_run", "in_progress") => &[body.workflow_run.started_at],
        ("workflow_run", "completed") => &[body.workflow_run.completed_at],
        ("workflow_job", "completed") => &[body.workflow_job.completed_at],
        ("workflow_job", "in_progress") => &[body.workflow_job.started_at, body.workflow_job.created_at],
        ("workflow_job", _) => &[body.workflow_job.created_at],
        ("release", "published") => &[body.release.published_at],
        ("package", "created") => &[body.package.created_at],
        ("repository", "created") => &[body.repository.created_at],
        _ if event.starts_with("action_run_") => &[body.run.stopped, body.run.updated],
        _ => &[],
    };
    times.iter().find_map(|time| time.time())
}

/// What was created or deleted. Gitea says its short name, Forgejo the full one.
fn reference(body: &Body<'_>, form: &mut NormalEvent) {
    let prefix = match &*body.reference_type.str() {
        "branch" => "refs/heads/",
        "tag" => "refs/tags/",
        _ => return,
    };
    if body.reference.str().starts_with(prefix) {
        form.reference.name = body.reference.text();
    }
}

fn package(body: &Body<'_>, form: &mut NormalEvent) {
    let package = &body.package;
    let version = package.version.text();
    let by_digest = fill::digest_of_version(package, package.version);
    form.artifacts.push(Artifact {
        name: package.name.text(),
        tag: version.filter(|_| by_digest.is_none()),
        digest: by_digest,
        purl: purl(&package.kind.str(), &package.name.str(), &package.version.str()),
        ..Artifact::default()
    });
    form.repo.id = form.repo.id.take().or_else(|| package.repository.id.id());
    form.repo.full_name = form
        .repo
        .full_name
        .take()
        .or_else(|| package.repository.full_name.text());
    form.org.login = form.org.login.take().or_else(|| package.owner.login.text());
}

/// A run of Forgejo Actions that ended.
fn action_run(body: &Body<'_>, form: &mut NormalEvent) {
    let run = &body.run;
    form.repo.id = form.repo.id.take().or_else(|| run.repository.id.id());
    form.repo.full_name = form
        .repo
        .full_name
        .take()
        .or_else(|| run.repository.full_name.text());
    form.run.id = run.id.id();
    form.run.number = run.index_in_repo.integer();
    form.run.workflow_id = run.workflow_id.id();
    form.run.path = run.workflow_id.text();
    form.run.trigger = run.event.text();
    form.reference.name = run.prettyref.text();
    form.commit = run.commit_sha.commit();
    if form.actor == Actor::default() {
        form.actor = fill::actor(&run.trigger_user);
    }
}
