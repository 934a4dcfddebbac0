//! `github/4`: webhooks of GitHub. <https://docs.github.com/webhooks/webhook-events-and-payloads>

mod settings;

use super::{
    Native, fill,
    hub::{Body, Package, Review},
    json::{self, Leaf},
    purl::purl,
};
use crate::normal::{
    Actor, ActorKind, Artifact, DerivedType, EventType, NormalEvent, Outcome, Text, Time, Word,
};

const PROVIDER: &str = "github";

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
        "workflow_run" if body.workflow_run.actor.id.is_there() => {
            form.actor = fill::actor(&body.workflow_run.actor);
        }
        "deployment_review" | "deployment_protection_rule" => decision(&action, &body, &mut form),
        "registry_package" => package(&body.registry_package, &mut form),
        "package" => package(&body.package, &mut form),
        "status" => {
            form.job.id = body.id.id();
            form.job.name = body.context.text();
        }
        "ping" => form.source.hook_id = body.hook_id.id().or(form.source.hook_id),
        _ => settings::settings(event, &action, &body, native.data, &mut form),
    }
    Some(form)
}

/// The vocabulary's word for an event.
fn word(event: &str, action: &str, body: &Body<'_>) -> Option<Word> {
    Some(match (event, action) {
        ("push", _) => Word::ScmPush,
        ("pull_request", "opened" | "reopened") => Word::ChangeOpened,
        ("pull_request", "closed") if fill::is_merged(&body.pull_request) => Word::ChangeMerged,
        ("pull_request", "closed") => Word::ChangeClosed,
        ("pull_request", _) => Word::ChangeUpdated,
        ("pull_request_review", "submitted") => Word::ReviewSubmitted,
        ("pull_request_review", "dismissed") => Word::ReviewDismissed,
        ("workflow_run", "requested") => Word::RunQueued,
        ("workflow_run", "in_progress") => Word::RunStarted,
        ("workflow_run", "completed") => Word::RunFinished,
        ("workflow_job", "queued" | "waiting") => Word::JobQueued,
        ("workflow_job", "in_progress") => Word::JobStarted,
        ("workflow_job", "completed") => Word::JobFinished,
        ("check_run", "created") => check(&body.check_run.status.str()),
        ("check_run" | "check_suite", "rerequested" | "requested") => Word::CheckQueued,
        ("check_run" | "check_suite", "completed") => Word::CheckFinished,
        ("status", _) => match &*body.state.str() {
            "pending" => Word::CheckStarted,
            _ => Word::CheckFinished,
        },
        ("deployment", "created") => Word::DeployRequested,
        ("deployment_status", _) => deploy(&body.deployment_status.state.str())?,
        ("deployment_review", "approved" | "rejected") => Word::DeployDecided,
        ("deployment_review" | "deployment_protection_rule", "requested") => Word::DeployRequested,
        ("release", "published" | "released" | "prereleased") => Word::ArtifactPublished,
        ("release" | "package", "deleted") => Word::ArtifactDeleted,
        ("registry_package" | "package", "published" | "updated") => Word::ArtifactPublished,
        _ => return config_word(event, action),
    })
}

fn check(status: &str) -> Word {
    match status {
        "in_progress" => Word::CheckStarted,
        "completed" => Word::CheckFinished,
        _ => Word::CheckQueued,
    }
}

fn deploy(state: &str) -> Option<Word> {
    match state {
        "queued" | "pending" | "waiting" => Some(Word::DeployRequested),
        "in_progress" => Some(Word::DeployStarted),
        "success" => Some(Word::DeploySucceeded),
        "failure" | "error" => Some(Word::DeployFailed),
        // One that a later one took the place of.
        _ => None,
    }
}

/// The word for a change of what guards a repository.
fn config_word(event: &str, action: &str) -> Option<Word> {
    Some(match (event, action) {
        ("branch_protection_rule", "created") => Word::ProtectionCreated,
        ("branch_protection_rule", "edited") => Word::ProtectionEdited,
        ("branch_protection_rule", "deleted") => Word::ProtectionDeleted,
        ("branch_protection_configuration", "enabled" | "disabled") => Word::ProtectionEdited,
        ("repository_ruleset", "created") => Word::RulesetCreated,
        ("repository_ruleset", "edited") => Word::RulesetEdited,
        ("repository_ruleset", "deleted") => Word::RulesetDeleted,
        ("member" | "membership", "added") => Word::MemberAdded,
        ("member", "edited") => Word::MemberEdited,
        ("member" | "membership", "removed") => Word::MemberRemoved,
        ("organization", "member_added") => Word::MemberAdded,
        ("organization", "member_removed") => Word::MemberRemoved,
        ("team_add", _) => Word::MemberAdded,
        ("team", "created") => Word::MemberCreated,
        ("team", "edited") => Word::MemberEdited,
        ("team", "deleted") => Word::MemberDeleted,
        ("team", "added_to_repository") => Word::MemberAdded,
        ("team", "removed_from_repository") => Word::MemberRemoved,
        ("deploy_key", "created") => Word::KeyCreated,
        ("deploy_key", "deleted") => Word::KeyDeleted,
        ("repository", "created") => Word::RepositoryCreated,
        ("repository", "deleted") => Word::RepositoryDeleted,
        (
            "repository",
            "edited" | "renamed" | "transferred" | "privatized" | "publicized" | "archived" | "unarchived",
        )
        | ("public", _) => Word::RepositoryEdited,
        ("secret_scanning_alert", "created" | "reopened" | "publicly_leaked") => Word::SecretExposed,
        ("secret_scanning_alert", "resolved" | "revoked") => Word::SecretResolved,
        _ => return None,
    })
}

fn outcome(event: &str, action: &str, body: &Body<'_>, form: &NormalEvent) -> Outcome {
    let EventType::Word(word) = form.event_type else {
        return conclusion(body);
    };
    match word {
        Word::ReviewSubmitted => review(&body.review),
        Word::ReviewDismissed | Word::ChangeClosed => Outcome::Cancelled,
        Word::DeployDecided if action == "rejected" => Outcome::Denied,
        Word::DeploySucceeded | Word::DeployFailed => state(body.deployment_status.state),
        Word::CheckStarted | Word::CheckFinished if event == "status" => state(body.state),
        Word::ChangeOpened
        | Word::ChangeUpdated
        | Word::DeployRequested
        | Word::DeployStarted
        | Word::SecretExposed => Outcome::Unknown,
        // A check that is to run again still has the conclusion of the run before.
        Word::CheckQueued => Outcome::Unknown,
        Word::RunQueued | Word::RunStarted | Word::RunFinished => conclusion(body),
        Word::JobQueued | Word::JobStarted | Word::JobFinished => conclusion(body),
        Word::CheckStarted | Word::CheckFinished => conclusion(body),
        // All others tell of what is done.
        _ => Outcome::Success,
    }
}

fn review(review: &Review<'_>) -> Outcome {
    match review.state.str().to_ascii_lowercase().as_str() {
        "approved" => match &*review.author_association.str() {
            "" | "OWNER" | "MEMBER" | "COLLABORATOR" => Outcome::Success,
            // Whoever may read a repository may approve, and GitHub does not count that.
            _ => Outcome::Unknown,
        },
        "changes_requested" => Outcome::Denied,
        // A comment is neither.
        _ => Outcome::Unknown,
    }
}

/// The state of a commit or a deployment.
fn state(state: Leaf<'_>) -> Outcome {
    match &*state.str() {
        "success" => Outcome::Success,
        "failure" => Outcome::Failure,
        "error" => Outcome::Error,
        _ => Outcome::Unknown,
    }
}

/// How a run, job or check ended.
fn conclusion(body: &Body<'_>) -> Outcome {
    let conclusions = [
        body.workflow_run.conclusion,
        body.workflow_job.conclusion,
        body.check_run.conclusion,
        body.check_suite.conclusion,
    ];
    let stated = conclusions.into_iter().find(|conclusion| conclusion.is_there());
    fill::conclusion(stated.unwrap_or_default())
}

/// When it happened, where the body says so: not when what it is about was made.
fn occurred_at(event: &str, action: &str, body: &Body<'_>) -> Option<Time> {
    let pull_request = &body.pull_request;
    let times: &[Leaf<'_>] = match (event, action) {
        ("push", _) => {
            let pushed = body.repository.pushed_at;
            return pushed
                .unix_s()
                .or_else(|| pushed.time())
                .or_else(|| body.head_commit.timestamp.time());
        }
        ("pull_request", "opened") => &[pull_request.created_at],
        ("pull_request", "closed") => &[pull_request.merged_at, pull_request.closed_at],
        ("pull_request", _) => &[pull_request.updated_at],
        ("pull_request_review", "submitted") => &[body.review.submitted_at],
        ("pull_request_review", _) => &[body.review.updated_at, pull_request.updated_at],
        ("workflow_run", "requested") => &[body.workflow_run.run_started_at, body.workflow_run.created_at],
        ("workflow_run", _) => &[body.workflow_run.updated_at],
        ("workflow_job", "completed") => &[body.workflow_job.completed_at],
        ("workflow_job", "in_progress") => &[body.workflow_job.started_at],
        ("workflow_job", _) => &[body.workflow_job.created_at, body.workflow_job.started_at],
        ("check_run", "completed") => &[body.check_run.completed_at],
        ("check_run", "created") => &[body.check_run.started_at],
        ("check_suite", _) => &[body.check_suite.updated_at],
        ("status", _) => &[body.updated_at, body.created_at],
        ("deployment", _) => &[body.deployment.created_at],
        ("deployment_status", _) => &[body.deployment_status.created_at],
        ("deployment_review", "requested") => &[body.since],
        ("release", "published" | "released" | "prereleased") => &[body.release.published_at],
        ("release", "created") => &[body.release.created_at],
        ("release", "edited") => &[body.release.updated_at],
        ("registry_package", _) => &[
            body.registry_package.package_version.updated_at,
            body.registry_package.updated_at,
        ],
        ("package", _) => &[body.package.package_version.updated_at, body.package.updated_at],
        ("repository", "created") => &[body.repository.created_at],
        ("repository", _) => &[body.repository.updated_at],
        ("deploy_key", "created") => &[body.key.created_at],
        ("secret_scanning_alert", "resolved") => &[body.alert.resolved_at],
        ("secret_scanning_alert", "created") => &[body.alert.created_at],
        ("secret_scanning_alert", _) => &[body.alert.updated_at],
        ("branch_protection_rule", "created" | "edited") => {
            return body.rule.read::<Stamps<'_>>().updated_at.time();
        }
        ("repository_ruleset", "created" | "edited") => {
            return body.repository_ruleset.read::<Stamps<'_>>().updated_at.time();
        }
        _ => &[],
    };
    times.iter().find_map(|time| time.time())
}

json::objects! {
    Stamps { updated_at, name, id }
}

/// Who was asked whether a deployment may go on, and what they said.
fn decision(action: &str, body: &Body<'_>, form: &mut NormalEvent) {
    if body.approver.id.is_there() {
        form.actor = fill::actor(&body.approver);
    }
    form.decision.state = Text::cut(action);
    form.decision.reason = body.comment.text();
    form.decision.callback_url = body.deployment_callback_url.text();
    form.decision.reviewers = body.reviewers.items.iter().map(reviewer).collect();
    form.omit("decision.reviewers", body.reviewers.more);
}

/// A user, or a team by its name.
fn reviewer(reviewer: &super::hub::Reviewer<'_>) -> Actor {
    let account = &reviewer.reviewer;
    let actor = fill::actor(account);
    match &*reviewer.kind.str() {
        "Team" => Actor {
            kind: None,
            login: account.slug.text().or_else(|| account.name.text()),
            ..actor
        },
        _ => Actor {
            kind: actor.kind.or(Some(ActorKind::User)),
            ..actor
        },
    }
}

/// What a registry has now: the version by its digest or number, what its tag leads to if that is something else, and each file.
fn package(package: &Package<'_>, form: &mut NormalEvent) {
    let version = &package.package_version;
    let number = version.version.text();
    let by_digest = fill::digest_of_version(package, version.version);
    let number = number.filter(|_| by_digest.is_none());
    if !package.id.is_there() && !package.name.is_there() {
        return;
    }
    let tag = &version.container_metadata.tag;
    let artifact = Artifact {
        name: package.name.text(),
        digest: by_digest.clone().or_else(|| tag.digest.text()),
        purl: number
            .as_ref()
            .and_then(|number| purl(&package.package_type.str(), &package.name.str(), number)),
        tag: tag.name.text().or_else(|| number.clone()),
        ..Artifact::default()
    };
    let tagged = tag
        .digest
        .text()
        .filter(|digest| artifact.digest.as_ref() != Some(digest));
    let tagged = tagged.map(|digest| Artifact {
        digest: Some(digest),
        ..artifact.clone()
    });
    form.artifacts.push(artifact);
    form.artifacts.extend(tagged);
    for file in &version.package_files.items {
        form.artifacts.push(Artifact {
            name: file.name.text(),
            digest: file
                .sha256
                .text()
                .and_then(|hex| Text::cut(&format!("sha256:{hex}"))),
            tag: number.clone(),
            ..Artifact::default()
        });
    }
    form.omit("artifacts", version.package_files.more);
    // Of what is named by its digest it is the digest again.
    let commit = version.target_oid.commit().filter(|_| by_digest.is_none());
    form.commit = form.commit.take().or(commit);
}
