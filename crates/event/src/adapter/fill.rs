//! Parts of the form that bodies of the same shape fill in the same way.

use super::{
    hub::{Account, Body, CheckRun, CheckSuite, Package, PullRequest, Repository, WorkflowJob, WorkflowRun},
    json::{Leaf, List},
};
use crate::normal::{
    Actor, ActorKind, Artifact, ConfigChange, MAX_LIST_ITEMS, NormalEvent, Org, Outcome, Setting, Text,
};

/// An account as an actor.
pub(super) fn actor(account: &Account<'_>) -> Actor {
    Actor {
        kind: match &*account.kind.str() {
            "User" | "Mannequin" => Some(ActorKind::User),
            "Bot" => Some(ActorKind::Bot),
            "Organization" | "Enterprise" => Some(ActorKind::Organization),
            _ => None,
        },
        id: account.id.id(),
        login: account.login.text(),
        ..Actor::default()
    }
}

/// Everything that is there whatever the event is.
pub(super) fn everything(body: &Body<'_>, form: &mut NormalEvent) {
    form.source.native_action = body.action.text();
    form.actor = actor(&body.sender);
    for account in [&body.organization, &body.enterprise] {
        if form.org == Org::default() {
            form.org.id = account.id.id();
            form.org.login = account.login.text().or_else(|| account.slug.text());
        }
    }
    form.repo.id = body.repository.id.id();
    form.repo.full_name = body.repository.full_name.text();
    reference(body, form);
    change(&body.pull_request, form);
    form.review.id = body.review.id.id();
    form.review.state = body.review.state.text();
    form.review.commit = body.review.commit_id.commit();
    form.review.association = body.review.author_association.text();
    deployment(body, form);
    check_suite(&body.check_suite, form);
    check_run(&body.check_run, form);
    workflow_job(&body.workflow_job, form);
    workflow_run(&body.workflow_run, form);
    form.run.path = form.run.path.take().or_else(|| body.workflow.path.text());
    artifacts(body, form);
    commit(body, form);
}

fn reference(body: &Body<'_>, form: &mut NormalEvent) {
    let name = body.reference.str();
    form.reference.name = match &*body.reference_type.str() {
        "branch" => Text::cut(&format!("refs/heads/{name}")),
        "tag" => Text::cut(&format!("refs/tags/{name}")),
        _ => Text::cut(&name),
    };
    form.reference.before = body.before.text();
    form.reference.after = body.after.text();
    form.reference.forced = body.forced.flag();
    form.commits = body
        .commits
        .items
        .iter()
        .filter_map(|commit| commit.id.commit())
        .collect();
    form.omit("commits", body.commits.more);
}

fn change(pull_request: &PullRequest<'_>, form: &mut NormalEvent) {
    let change = &mut form.change;
    change.number = pull_request.number.integer();
    change.author_id = pull_request.user.id.id();
    change.author = pull_request.user.login.text();
    change.head_sha = pull_request.head.sha.commit();
    change.base_ref = pull_request.base.reference.text();
    // Of one that is not merged it is a commit that nobody has.
    if is_merged(pull_request) {
        change.merge_sha = pull_request.merge_commit_sha.commit();
    }
}

pub(super) fn is_merged(pull_request: &PullRequest<'_>) -> bool {
    pull_request.merged.flag() == Some(true) || pull_request.merged_at.is_there()
}

/// The pull request that a run or check is for, as far as it says. Those of forks whose head is a branch of the repository are
/// listed too.
fn change_of(pull_requests: &List<PullRequest<'_>>, form: &mut NormalEvent) {
    let mut all = pull_requests.items.iter();
    if form.change.number.is_none()
        && let Some(ours) = all.find(|pull_request| is_ours(&pull_request.base.repo, form))
    {
        change(ours, form);
    }
}

/// Whether it is the repository of the event, as far as both say which they are.
fn is_ours(repository: &Repository<'_>, form: &NormalEvent) -> bool {
    let id = repository.id.id();
    id.is_none() || form.repo.id.is_none() || id == form.repo.id
}

fn check_suite(suite: &CheckSuite<'_>, form: &mut NormalEvent) {
    form.run.id = suite.id.id();
    form.run.path = suite.app.slug.text();
    form.reference.name = form.reference.name.take().or_else(|| suite.head_branch.text());
    change_of(&suite.pull_requests, form);
}

fn check_run(run: &CheckRun<'_>, form: &mut NormalEvent) {
    if !run.id.is_there() {
        return;
    }
    check_suite(&run.check_suite, form);
    form.job.id = run.id.id();
    form.job.name = run.name.text();
    form.run.path = run.app.slug.text().or_else(|| form.run.path.take());
    change_of(&run.pull_requests, form);
}

fn workflow_job(job: &WorkflowJob<'_>, form: &mut NormalEvent) {
    if !job.id.is_there() {
        return;
    }
    form.job.id = job.id.id();
    form.job.name = job.name.text();
    form.job.runner = job.runner_name.text();
    form.run.id = job.run_id.id();
    form.run.attempt = job.run_attempt.integer();
    form.reference.name = form.reference.name.take().or_else(|| job.head_branch.text());
}

fn workflow_run(run: &WorkflowRun<'_>, form: &mut NormalEvent) {
    if !run.id.is_there() {
        return;
    }
    form.run.id = run.id.id();
    form.run.number = run.run_number.integer();
    form.run.attempt = run.run_attempt.integer();
    form.run.workflow_id = run.workflow_id.id();
    form.run.path = run.path.text();
    form.run.trigger = run.event.text();
    form.triggering_actor = actor(&run.triggering_actor);
    if is_our_branch(run, form) {
        form.reference.name = form.reference.name.take().or_else(|| run.head_branch.text());
    }
    change_of(&run.pull_requests, form);
}

/// Whether the branch of a run is one of the repository. A fork's may have the name of one of ours, and a fork that is deleted is no
/// longer in the runs of its pull requests.
fn is_our_branch(run: &WorkflowRun<'_>, form: &NormalEvent) -> bool {
    match run.head_repository.id.id() {
        Some(_) => is_ours(&run.head_repository, form),
        None => !run.event.str().starts_with("pull_request"),
    }
}

fn deployment(body: &Body<'_>, form: &mut NormalEvent) {
    let deployment = if body.deployment.id.is_there() {
        &body.deployment
    } else {
        &body.check_run.deployment
    };
    let environments = [
        body.deployment_status.environment,
        deployment.environment,
        body.environment,
        body.workflow_job_run.environment,
    ];
    let of_jobs = body.workflow_job_runs.items.iter().map(|job| job.environment);
    form.deployment.id = deployment.id.id();
    form.deployment.environment = environments.into_iter().chain(of_jobs).find_map(Leaf::text);
    form.deployment.status = body.deployment_status.state.text();
    form.reference.name = form.reference.name.take().or_else(|| deployment.reference.text());
}

fn artifacts(body: &Body<'_>, form: &mut NormalEvent) {
    let release = &body.release;
    let tag = release.tag_name.text();
    for asset in &release.assets.items {
        form.artifacts.push(Artifact {
            name: asset.name.text(),
            digest: asset.digest.text(),
            tag: tag.clone(),
            ..Artifact::default()
        });
    }
    form.omit("artifacts", release.assets.more);
    if let Some(tag) = tag {
        form.reference.name = Text::cut(&format!("refs/tags/{tag}"));
        // What is released without files is the source itself.
        if release.assets.items.is_empty() {
            form.artifacts.push(Artifact {
                name: release.name.text().or_else(|| form.repo.full_name.clone()),
                tag: Some(tag),
                ..Artifact::default()
            });
        }
    }
}

/// The version of a package, where it is the digest of what was published: one of a container may be. Of any other kind it is a name
/// that whoever publishes is free to choose.
pub(super) fn digest_of_version(package: &Package<'_>, version: Leaf<'_>) -> Option<Text> {
    let kinds = [package.kind, package.package_type, package.ecosystem];
    let is_container = kinds
        .iter()
        .any(|kind| matches!(&*kind.str().to_ascii_lowercase(), "container" | "docker"));
    let is_digest = |hex: &str| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    version
        .text()
        .filter(|version| is_container && version.strip_prefix("sha256:").is_some_and(is_digest))
}

/// How a run, job or check of GitHub's ended.
pub(super) fn conclusion(conclusion: Leaf<'_>) -> Outcome {
    match &*conclusion.str() {
        "success" => Outcome::Success,
        "failure" => Outcome::Failure,
        "timed_out" | "startup_failure" => Outcome::Error,
        "cancelled" | "stale" => Outcome::Cancelled,
        "skipped" | "neutral" => Outcome::Skipped,
        "action_required" => Outcome::Denied,
        _ => Outcome::Unknown,
    }
}

/// What it is about: what landed, else what was looked at, else what is to land. Not what a release says that it is of: where its tag
/// is older, that is whatever its author wrote.
fn commit(body: &Body<'_>, form: &mut NormalEvent) {
    let commits = [
        body.deployment.sha,
        body.workflow_run.head_sha,
        body.workflow_job.head_sha,
        body.check_run.head_sha,
        body.check_suite.head_sha,
        // Of an annotated tag, `after` is the tag itself.
        body.head_commit.id,
        body.after,
        body.sha,
        body.merge_group.head_sha,
    ];
    form.commit = form
        .change
        .merge_sha
        .clone()
        .or_else(|| form.review.commit.clone())
        .or_else(|| commits.into_iter().find_map(Leaf::commit))
        .or_else(|| form.change.head_sha.clone());
}

/// A setting that has a value now, had one, or both. Those beyond what a form keeps are only counted.
pub(super) fn setting(form: &mut NormalEvent, path: &str, from: Option<Setting>, to: Option<Setting>) {
    if from.is_none() && to.is_none() {
        return;
    }
    if form.config_change.len() < MAX_LIST_ITEMS {
        form.config_change.push(ConfigChange {
            path: Text::cut(path),
            from,
            to,
            ..ConfigChange::default()
        });
    } else {
        form.omit("config_change", 1);
    }
}
