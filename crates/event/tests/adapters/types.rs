//! Which event has which type and outcome.

use counterfoil_event::adapter::Adapter;
use serde_json::{Value, json};

use crate::{form, read, recorded};

/// Type and outcome of each event and action among the recorded bodies, and what else decides.
#[rustfmt::skip]
const RECORDED: &[(&str, &str, &str, &str, &str)] = &[
    // provider, event, action or what stands for it, type, outcome
    ("github", "branch_protection_rule", "deleted", "config.protection.deleted", "success"),
    ("github", "branch_protection_rule", "edited", "config.protection.edited", "success"),
    ("github", "check_run", "completed:failure", "ci.check.finished", "failure"),
    ("github", "check_run", "completed:success", "ci.check.finished", "success"),
    ("github", "check_run", "requested_action", "github.check_run.requested_action", "unknown"),
    ("github", "check_run", "rerequested:neutral", "ci.check.queued", "skipped"),
    ("github", "check_suite", "completed:success", "ci.check.finished", "success"),
    ("github", "check_suite", "requested", "ci.check.queued", "unknown"),
    ("github", "check_suite", "rerequested:success", "ci.check.queued", "success"),
    ("github", "create", "", "github.create", "unknown"),
    ("github", "delete", "", "github.delete", "unknown"),
    ("github", "deployment", "created", "deploy.requested", "unknown"),
    ("github", "deployment_status", "created:in_progress", "deploy.started", "unknown"),
    ("github", "deployment_status", "created:success", "deploy.succeeded", "success"),
    ("github", "member", "added", "config.member.added", "success"),
    ("github", "member", "edited", "config.member.edited", "success"),
    ("github", "membership", "removed", "config.member.removed", "success"),
    ("github", "ping", "", "github.ping", "unknown"),
    ("github", "pull_request", "closed:unmerged", "scm.change.closed", "cancelled"),
    ("github", "pull_request", "converted_to_draft", "scm.change.updated", "unknown"),
    ("github", "pull_request", "locked", "scm.change.updated", "unknown"),
    ("github", "pull_request", "opened", "scm.change.opened", "unknown"),
    ("github", "pull_request", "ready_for_review", "scm.change.updated", "unknown"),
    ("github", "pull_request", "unassigned", "scm.change.updated", "unknown"),
    ("github", "pull_request", "unlabeled", "scm.change.updated", "unknown"),
    ("github", "pull_request", "unlocked", "scm.change.updated", "unknown"),
    ("github", "pull_request_review", "dismissed:dismissed", "scm.review.dismissed", "cancelled"),
    ("github", "pull_request_review", "submitted:commented", "scm.review.submitted", "unknown"),
    ("github", "push", "", "scm.push", "success"),
    ("github", "registry_package", "published", "artifact.published", "success"),
    ("github", "release", "created", "github.release.created", "unknown"),
    ("github", "release", "deleted", "artifact.deleted", "success"),
    ("github", "release", "edited", "github.release.edited", "unknown"),
    ("github", "release", "published", "artifact.published", "success"),
    ("github", "release", "released", "artifact.published", "success"),
    ("github", "repository", "created", "config.repository.created", "success"),
    ("github", "repository", "edited", "config.repository.edited", "success"),
    ("github", "repository", "privatized", "config.repository.edited", "success"),
    ("github", "repository", "publicized", "config.repository.edited", "success"),
    ("github", "repository", "transferred", "config.repository.edited", "success"),
    ("github", "secret_scanning_alert", "reopened", "config.secret.exposed", "unknown"),
    ("github", "status", ":success", "ci.check.finished", "success"),
    ("github", "team", "deleted", "config.member.deleted", "success"),
    ("github", "team", "edited", "config.member.edited", "success"),
    ("github", "team", "removed_from_repository", "config.member.removed", "success"),
    ("github", "workflow_job", "completed:failure", "ci.job.finished", "failure"),
    ("github", "workflow_job", "queued", "ci.job.queued", "unknown"),
    ("github", "workflow_job", "waiting", "ci.job.queued", "unknown"),
    ("github", "workflow_run", "completed:success", "ci.run.finished", "success"),
    ("gitlab", "Push Hook", "", "scm.push", "success"),
    ("gitlab", "Tag Push Hook", "", "scm.push", "success"),
    ("gitlab", "Issue Hook", "close", "gitlab.issue.close", "unknown"),
    ("gitlab", "Issue Hook", "reopen", "gitlab.issue.reopen", "unknown"),
    ("gitlab", "Issue Hook", "update", "gitlab.issue.update", "unknown"),
    ("gitlab", "Note Hook", "", "gitlab.note", "unknown"),
    ("gitlab", "Merge Request Hook", "open", "scm.change.opened", "unknown"),
    ("gitlab", "Merge Request Hook", "close", "scm.change.closed", "cancelled"),
    ("gitlab", "Merge Request Hook", "merge", "scm.change.merged", "success"),
    ("gitea", "create", "", "gitea.create", "unknown"),
    ("gitea", "issue_comment", "created", "gitea.issue_comment.created", "unknown"),
    ("gitea", "issue_comment", "deleted", "gitea.issue_comment.deleted", "unknown"),
    ("gitea", "issues", "closed", "gitea.issues.closed", "unknown"),
    ("gitea", "pull_request", "edited", "scm.change.updated", "unknown"),
    ("gitea", "pull_request", "reopened", "scm.change.opened", "unknown"),
    ("gitea", "pull_request", "synchronized", "scm.change.updated", "unknown"),
    ("gitea", "pull_request_comment", "edited", "gitea.pull_request_comment.edited", "unknown"),
];

/// The action of a body, with what else decides behind a colon.
fn case(event: &str, body: &Value) -> String {
    let action = body["object_attributes"]["action"].as_str();
    let action = action.or(body["action"].as_str()).unwrap_or_default();
    let part = &body[event];
    let more = match event {
        "pull_request" if action == "closed" && body["number"].is_u64() => Some(match part["merged"] {
            Value::Bool(true) => "merged",
            _ => "unmerged",
        }),
        "pull_request_review" => body["review"]["state"].as_str(),
        "status" => body["state"].as_str(),
        "deployment_status" => part["state"].as_str(),
        _ => part["conclusion"].as_str(),
    };
    more.map_or_else(|| action.to_owned(), |more| format!("{action}:{more}"))
}

#[test]
fn each_recorded_body_has_the_type_and_outcome_that_it_should() {
    let mut seen = vec![false; RECORDED.len()];
    let all = recorded::all();
    for recorded in &all {
        let provider = recorded.adapter.name().split('/').next().unwrap();
        let case = case(&recorded.event, &recorded.json);
        let place = RECORDED
            .iter()
            .position(|row| (row.0, row.1, row.2) == (provider, &*recorded.event, &*case));
        let place =
            place.unwrap_or_else(|| panic!("no row for {}: {:?} {case:?}", recorded.name(), recorded.event));
        seen[place] = true;
        let form = read(recorded.adapter, &recorded.event, &recorded.body).unwrap();
        let (_, _, _, event_type, outcome) = RECORDED[place];
        assert_eq!(
            (form.event_type.as_str(), form.outcome.as_str()),
            (event_type, outcome),
            "{}",
            recorded.name()
        );
    }
    for (row, seen) in RECORDED.iter().zip(&seen) {
        assert!(*seen || all.is_empty(), "no body for {row:?}");
    }
}

/// Type and outcome of what there is no recorded body of, from the least of one.
#[test]
fn events_of_the_tables_have_their_types() {
    use Adapter::{GitHub, GitLab, Gitea};
    let cases = [
        (
            GitHub,
            "pull_request",
            json!({"action": "closed", "pull_request": {"merged": true}}),
            "scm.change.merged",
            "success",
        ),
        (
            GitHub,
            "pull_request",
            json!({"action": "closed", "pull_request": {"merged": "true"}}),
            "scm.change.closed",
            "cancelled",
        ),
        (
            GitHub,
            "pull_request",
            json!({"action": "reopened"}),
            "scm.change.opened",
            "unknown",
        ),
        (
            GitHub,
            "pull_request",
            json!({"action": "synchronize"}),
            "scm.change.updated",
            "unknown",
        ),
        (
            GitHub,
            "pull_request_review",
            json!({"action": "submitted", "review": {"state": "approved"}}),
            "scm.review.submitted",
            "success",
        ),
        (
            GitHub,
            "pull_request_review",
            json!({"action": "submitted", "review": {"state": "changes_requested"}}),
            "scm.review.submitted",
            "denied",
        ),
        (
            GitHub,
            "pull_request_review",
            json!({"action": "edited", "review": {"state": "approved"}}),
            "github.pull_request_review.edited",
            "unknown",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "requested", "workflow_run": {"id": 1}}),
            "ci.run.queued",
            "unknown",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "in_progress"}),
            "ci.run.started",
            "unknown",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "cancelled"}}),
            "ci.run.finished",
            "cancelled",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "timed_out"}}),
            "ci.run.finished",
            "error",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "startup_failure"}}),
            "ci.run.finished",
            "error",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "action_required"}}),
            "ci.run.finished",
            "denied",
        ),
        (
            GitHub,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "stale"}}),
            "ci.run.finished",
            "cancelled",
        ),
        (
            GitHub,
            "workflow_job",
            json!({"action": "in_progress"}),
            "ci.job.started",
            "unknown",
        ),
        (
            GitHub,
            "workflow_job",
            json!({"action": "completed", "workflow_job": {"conclusion": "skipped"}}),
            "ci.job.finished",
            "skipped",
        ),
        (
            GitHub,
            "check_run",
            json!({"action": "created", "check_run": {"status": "queued"}}),
            "ci.check.queued",
            "unknown",
        ),
        (
            GitHub,
            "check_run",
            json!({"action": "created", "check_run": {"status": "in_progress"}}),
            "ci.check.started",
            "unknown",
        ),
        (
            GitHub,
            "check_run",
            json!({"action": "created", "check_run": {"status": "completed", "conclusion": "success"}}),
            "ci.check.finished",
            "success",
        ),
        (
            GitHub,
            "status",
            json!({"state": "pending"}),
            "ci.check.started",
            "unknown",
        ),
        (
            GitHub,
            "status",
            json!({"state": "error"}),
            "ci.check.finished",
            "error",
        ),
        (
            GitHub,
            "deployment_status",
            json!({"action": "created", "deployment_status": {"state": "failure"}}),
            "deploy.failed",
            "failure",
        ),
        (
            GitHub,
            "deployment_status",
            json!({"action": "created", "deployment_status": {"state": "error"}}),
            "deploy.failed",
            "error",
        ),
        (
            GitHub,
            "deployment_status",
            json!({"action": "created", "deployment_status": {"state": "queued"}}),
            "deploy.requested",
            "unknown",
        ),
        (
            GitHub,
            "deployment_status",
            json!({"action": "created", "deployment_status": {"state": "inactive"}}),
            "github.deployment_status.created",
            "unknown",
        ),
        (
            GitHub,
            "deployment_review",
            json!({"action": "requested"}),
            "deploy.requested",
            "unknown",
        ),
        (
            GitHub,
            "deployment_review",
            json!({"action": "approved"}),
            "deploy.decided",
            "success",
        ),
        (
            GitHub,
            "deployment_review",
            json!({"action": "rejected"}),
            "deploy.decided",
            "denied",
        ),
        (
            GitHub,
            "deployment_protection_rule",
            json!({"action": "requested"}),
            "deploy.requested",
            "unknown",
        ),
        (
            GitHub,
            "package",
            json!({"action": "published"}),
            "artifact.published",
            "success",
        ),
        (
            GitHub,
            "branch_protection_rule",
            json!({"action": "created"}),
            "config.protection.created",
            "success",
        ),
        (
            GitHub,
            "repository_ruleset",
            json!({"action": "created"}),
            "config.ruleset.created",
            "success",
        ),
        (
            GitHub,
            "repository_ruleset",
            json!({"action": "edited"}),
            "config.ruleset.edited",
            "success",
        ),
        (
            GitHub,
            "repository_ruleset",
            json!({"action": "deleted"}),
            "config.ruleset.deleted",
            "success",
        ),
        (
            GitHub,
            "member",
            json!({"action": "removed"}),
            "config.member.removed",
            "success",
        ),
        (
            GitHub,
            "membership",
            json!({"action": "added"}),
            "config.member.added",
            "success",
        ),
        (
            GitHub,
            "organization",
            json!({"action": "member_added"}),
            "config.member.added",
            "success",
        ),
        (
            GitHub,
            "team",
            json!({"action": "added_to_repository"}),
            "config.member.added",
            "success",
        ),
        (
            GitHub,
            "team",
            json!({"action": "created"}),
            "config.member.created",
            "success",
        ),
        (
            GitHub,
            "deploy_key",
            json!({"action": "created"}),
            "config.key.created",
            "success",
        ),
        (
            GitHub,
            "deploy_key",
            json!({"action": "deleted"}),
            "config.key.deleted",
            "success",
        ),
        (
            GitHub,
            "repository",
            json!({"action": "archived"}),
            "config.repository.edited",
            "success",
        ),
        (
            GitHub,
            "repository",
            json!({"action": "deleted"}),
            "config.repository.deleted",
            "success",
        ),
        (
            GitHub,
            "secret_scanning_alert",
            json!({"action": "created"}),
            "config.secret.exposed",
            "unknown",
        ),
        (
            GitHub,
            "secret_scanning_alert",
            json!({"action": "resolved"}),
            "config.secret.resolved",
            "success",
        ),
        (GitHub, "fork", json!({}), "github.fork", "unknown"),
        (
            GitHub,
            "installation",
            json!({"action": "created"}),
            "github.installation.created",
            "unknown",
        ),
        (
            GitHub,
            "issues",
            json!({"action": "a secret word"}),
            "github.issues",
            "unknown",
        ),
        (GitHub, "scm.push", json!({}), "github.scm.push", "unknown"),
        (
            GitLab,
            "Pipeline Hook",
            json!({"object_kind": "pipeline", "object_attributes": {"status": "pending"}}),
            "ci.run.queued",
            "unknown",
        ),
        (
            GitLab,
            "Pipeline Hook",
            json!({"object_kind": "pipeline", "object_attributes": {"status": "running"}}),
            "ci.run.started",
            "unknown",
        ),
        (
            GitLab,
            "Pipeline Hook",
            json!({"object_kind": "pipeline", "object_attributes": {"status": "failed"}}),
            "ci.run.finished",
            "failure",
        ),
        (
            GitLab,
            "Pipeline Hook",
            json!({"object_kind": "pipeline", "object_attributes": {"status": "canceled"}}),
            "ci.run.finished",
            "cancelled",
        ),
        (
            GitLab,
            "Job Hook",
            json!({"object_kind": "build", "build_status": "success"}),
            "ci.job.finished",
            "success",
        ),
        (
            GitLab,
            "Job Hook",
            json!({"object_kind": "build", "build_status": "created"}),
            "ci.job.queued",
            "unknown",
        ),
        (
            GitLab,
            "Deployment Hook",
            json!({"object_kind": "deployment", "status": "running"}),
            "deploy.started",
            "unknown",
        ),
        (
            GitLab,
            "Deployment Hook",
            json!({"object_kind": "deployment", "status": "success"}),
            "deploy.succeeded",
            "success",
        ),
        (
            GitLab,
            "Deployment Hook",
            json!({"object_kind": "deployment", "status": "failed"}),
            "deploy.failed",
            "failure",
        ),
        (
            GitLab,
            "Deployment Hook",
            json!({"object_kind": "deployment", "status": "canceled"}),
            "deploy.failed",
            "cancelled",
        ),
        (
            GitLab,
            "Release Hook",
            json!({"object_kind": "release", "action": "create"}),
            "artifact.published",
            "success",
        ),
        (
            GitLab,
            "Release Hook",
            json!({"object_kind": "release", "action": "delete"}),
            "artifact.deleted",
            "success",
        ),
        (
            GitLab,
            "Member Hook",
            json!({"event_name": "user_add_to_group"}),
            "config.member.added",
            "success",
        ),
        (
            GitLab,
            "Member Hook",
            json!({"event_name": "user_remove_from_group"}),
            "config.member.removed",
            "success",
        ),
        (
            GitLab,
            "Merge Request Hook",
            json!({"object_kind": "merge_request", "object_attributes": {"action": "approved"}}),
            "scm.review.submitted",
            "success",
        ),
        (
            GitLab,
            "Merge Request Hook",
            json!({"object_kind": "merge_request", "object_attributes": {"action": "unapproved"}}),
            "scm.review.dismissed",
            "cancelled",
        ),
        (
            GitLab,
            "System Hook",
            json!({"event_name": "key_create"}),
            "config.key.created",
            "success",
        ),
        (
            GitLab,
            "System Hook",
            json!({"object_kind": "push", "event_name": "push"}),
            "scm.push",
            "success",
        ),
        (
            GitLab,
            "System Hook",
            json!({"event_name": "project_destroy"}),
            "config.repository.deleted",
            "success",
        ),
        (GitLab, "Push Hook", json!({}), "scm.push", "success"),
        (
            GitLab,
            "Feature Flag Hook",
            json!({"object_kind": "feature_flag"}),
            "gitlab.feature_flag",
            "unknown",
        ),
        (Gitea, "push", json!({}), "scm.push", "success"),
        (
            Gitea,
            "pull_request",
            json!({"action": "closed", "pull_request": {"merged": true}}),
            "scm.change.merged",
            "success",
        ),
        (
            Gitea,
            "pull_request",
            json!({"action": "closed", "pull_request": {"merged": false}}),
            "scm.change.closed",
            "cancelled",
        ),
        (
            Gitea,
            "pull_request_approved",
            json!({"action": "reviewed"}),
            "scm.review.submitted",
            "success",
        ),
        (
            Gitea,
            "pull_request_rejected",
            json!({"action": "reviewed"}),
            "scm.review.submitted",
            "denied",
        ),
        (
            Gitea,
            "status",
            json!({"state": "failure"}),
            "ci.check.finished",
            "failure",
        ),
        (
            Gitea,
            "workflow_run",
            json!({"action": "completed", "workflow_run": {"conclusion": "success"}}),
            "ci.run.finished",
            "success",
        ),
        (
            Gitea,
            "workflow_job",
            json!({"action": "queued"}),
            "ci.job.queued",
            "unknown",
        ),
        (
            Gitea,
            "action_run_failure",
            json!({"action": "failure", "run": {"id": 1}}),
            "ci.run.finished",
            "failure",
        ),
        (
            Gitea,
            "action_run_recover",
            json!({"action": "recover"}),
            "ci.run.finished",
            "success",
        ),
        (
            Gitea,
            "release",
            json!({"action": "published"}),
            "artifact.published",
            "success",
        ),
        (
            Gitea,
            "package",
            json!({"action": "deleted"}),
            "artifact.deleted",
            "success",
        ),
        (
            Gitea,
            "repository",
            json!({"action": "created"}),
            "config.repository.created",
            "success",
        ),
        (Gitea, "fork", json!({}), "gitea.fork", "unknown"),
    ];
    for (adapter, event, body, event_type, outcome) in cases {
        let form = form(adapter, event, &body);
        assert_eq!(
            (form["type"].as_str().unwrap(), form["outcome"].as_str().unwrap()),
            (event_type, outcome),
            "{adapter} {event} {body}"
        );
    }
}
