//! `github-audit/2`: documents of GitHub's audit log, as its streams have them.
//! <https://docs.github.com/enterprise-cloud@latest/admin/monitoring-activity-in-your-enterprise/reviewing-audit-logs-for-your-enterprise/audit-log-events-for-your-enterprise>

use super::{
    Native,
    fill::{self, setting},
    json::{self, Leaf},
};
use crate::normal::{Actor, ActorKind, DerivedType, EventType, NormalEvent, Outcome, Word};

const PROVIDER: &str = "github";

json::objects! {
    /// A document. It is flat.
    Document {
        action, actor, actor_id, actor_is_bot, user, user_id, org, org_id, business, business_id, repo, repo_id, repository,
        timestamp = "@timestamp", created_at, head_sha, head_branch, event, conclusion, environment_name, workflow_id,
        workflow_run_id, run_number, run_attempt, job_name, runner_name, pull_request_url, team, permission, old_permission,
        name, key, visibility, previous_visibility, old_repo, number,
    }
}

pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let document: Document<'_> = json::read(native.data)?;
    let action = document.action.str();
    let mut form = native.form(PROVIDER, event_type(&action));
    form.occurred_at = document
        .timestamp
        .unix_ms()
        .or_else(|| document.created_at.unix_ms());
    form.outcome = outcome(&action, &document, &form);
    form.actor = Actor {
        kind: document.actor_is_bot.flag().map(|is_bot| match is_bot {
            true => ActorKind::Bot,
            false => ActorKind::User,
        }),
        id: document.actor_id.id(),
        login: document.actor.text(),
        ..Actor::default()
    };
    form.org.login = document.org.text().or_else(|| document.business.text());
    form.org.id = document.org_id.id().or_else(|| document.business_id.id());
    form.repo.full_name = document.repo.text().or_else(|| document.repository.text());
    form.repo.id = document.repo_id.id();
    form.reference.name = document.head_branch.text();
    form.commit = document.head_sha.commit();
    form.run.id = document.workflow_run_id.id();
    form.run.number = document.run_number.integer();
    form.run.attempt = document.run_attempt.integer();
    form.run.workflow_id = document.workflow_id.id();
    form.run.trigger = document.event.text();
    form.job.name = document.job_name.text();
    form.job.runner = document.runner_name.text();
    form.deployment.environment = document.environment_name.text();
    let url = document.pull_request_url.str();
    form.change.number = url
        .rsplit('/')
        .next()
        .and_then(|number| number.parse().ok())
        .and_then(crate::normal::Integer::new);
    settings(&action, &document, &mut form);
    Some(form)
}

/// The type of an event for an action, such as `protected_branch.create`.
pub(crate) fn event_type(action: &str) -> EventType {
    match word(action) {
        Some(word) => word.into(),
        None => DerivedType::new(PROVIDER, &format!("audit.{action}"), "").into(),
    }
}

fn word(action: &str) -> Option<Word> {
    Some(match action {
        "git.push" => Word::ScmPush,
        "pull_request.create" | "pull_request.reopen" => Word::ChangeOpened,
        "pull_request.merge" => Word::ChangeMerged,
        "pull_request.close" => Word::ChangeClosed,
        "pull_request_review.submit" => Word::ReviewSubmitted,
        "pull_request_review.dismiss" => Word::ReviewDismissed,
        "workflows.created_workflow_run" | "workflows.rerun_workflow_run" => Word::RunQueued,
        "workflows.completed_workflow_run" => Word::RunFinished,
        "workflows.prepared_workflow_job" => Word::JobStarted,
        "workflows.approve_workflow_job" | "workflows.reject_workflow_job" => Word::DeployDecided,
        "repo.create" => Word::RepositoryCreated,
        "repo.destroy" => Word::RepositoryDeleted,
        "repo.access" | "repo.rename" | "repo.transfer" | "repo.archived" | "repo.unarchived" => {
            Word::RepositoryEdited
        }
        "secret_scanning_alert.create" | "secret_scanning_alert.reopen" => Word::SecretExposed,
        "secret_scanning_alert.resolve" => Word::SecretResolved,
        "team.create" => Word::MemberCreated,
        "team.destroy" => Word::MemberDeleted,
        "team.add_repository" => Word::MemberAdded,
        "team.remove_repository" => Word::MemberRemoved,
        "team.update_repository_permission" => Word::MemberEdited,
        _ => return config_word(action),
    })
}

/// The word for a verb and what it is done to.
fn config_word(action: &str) -> Option<Word> {
    let (category, verb) = action.split_once('.')?;
    if category == "protected_branch" && is_edit_of_protection(verb) {
        return Some(Word::ProtectionEdited);
    }
    let (verb, what) = match category {
        "protected_branch" => (verb, "protection"),
        "repository_ruleset" => (verb, "ruleset"),
        "public_key" | "deploy_key" => (verb, "key"),
        "org" | "repo" | "team" | "environment" => match verb.split_once('_')? {
            (verb, "member") => (verb, "member"),
            (verb, "actions_secret" | "environment_actions_secret") => (verb, "secret"),
            _ => return None,
        },
        _ => return None,
    };
    let done = match verb {
        "add" => "added",
        "create" => "created",
        "update" => "edited",
        "delete" | "destroy" => "deleted",
        "remove" => "removed",
        _ => return None,
    };
    format!("config.{what}.{done}").parse().ok()
}

/// Whether it sets one of the settings of a protected branch: most have an action of their own.
fn is_edit_of_protection(verb: &str) -> bool {
    verb.starts_with("update_")
        || matches!(
            verb,
            "dismiss_stale_reviews"
                | "dismissal_restricted_users_teams"
                | "authorized_users_teams"
                | "branch_allowances"
        )
}

fn outcome(action: &str, document: &Document<'_>, form: &NormalEvent) -> Outcome {
    match form.event_type {
        EventType::Derived(_) => Outcome::Unknown,
        EventType::Word(word) => match word {
            Word::RunFinished => fill::conclusion(document.conclusion),
            Word::ChangeClosed | Word::ReviewDismissed => Outcome::Cancelled,
            Word::DeployDecided if action == "workflows.reject_workflow_job" => Outcome::Denied,
            Word::ChangeOpened
            | Word::ReviewSubmitted
            | Word::RunQueued
            | Word::JobStarted
            | Word::SecretExposed => Outcome::Unknown,
            // All others tell of what is done.
            _ => Outcome::Success,
        },
    }
}

/// What was done to whom, as far as it changes what somebody may do.
fn settings(action: &str, document: &Document<'_>, form: &mut NormalEvent) {
    let is_config = form.event_type.as_str().starts_with("config.");
    if !is_config {
        return;
    }
    let is_gone = ["remove", "delete", "destroy"]
        .iter()
        .any(|verb| action.contains(verb));
    let mut named = |path: &str, value: Leaf<'_>| {
        let value = value.setting();
        match is_gone {
            true => setting(form, path, value, None),
            false => setting(form, path, None, value),
        }
    };
    named("member.login", document.user);
    named("member.id", document.user_id);
    named("team.name", document.team);
    named("name", document.name);
    // The name of a secret. A public key has its own document.
    named(
        "secret.name",
        if action.contains("secret") {
            document.key
        } else {
            Leaf::default()
        },
    );
    named("alert.number", document.number);
    setting(
        form,
        "permission",
        document.old_permission.setting(),
        document.permission.setting(),
    );
    setting(
        form,
        "repository.visibility",
        document.previous_visibility.setting(),
        document.visibility.setting(),
    );
    setting(form, "repository.full_name", document.old_repo.setting(), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_TYPE_BYTES;

    #[test]
    fn actions_have_types() {
        for (action, expected) in [
            ("git.push", "scm.push"),
            ("pull_request.merge", "scm.change.merged"),
            ("protected_branch.destroy", "config.protection.deleted"),
            (
                "protected_branch.policy_override",
                "github.audit.protected_branch.policy_override",
            ),
            (
                "protected_branch.update_admin_enforced",
                "config.protection.edited",
            ),
            (
                "protected_branch.dismiss_stale_reviews",
                "config.protection.edited",
            ),
            (
                "protected_branch.rejected_ref_update",
                "github.audit.protected_branch.rejected_ref_update",
            ),
            ("repository_ruleset.update", "config.ruleset.edited"),
            ("org.add_member", "config.member.added"),
            (
                "org.remove_outside_collaborator",
                "github.audit.org.remove_outside_collaborator",
            ),
            ("repo.create_actions_secret", "config.secret.created"),
            ("environment.create_actions_secret", "config.secret.created"),
            ("public_key.create", "config.key.created"),
            ("workflows.completed_workflow_run", "ci.run.finished"),
            ("repo.create", "config.repository.created"),
            ("repo.access", "config.repository.edited"),
            ("hook.create", "github.audit.hook.create"),
            ("protected_branch.add", "github.audit.protected_branch.add"),
            ("no dots\u{7}", "github.audit.no_dots_"),
            ("", "github.audit."),
        ] {
            assert_eq!(event_type(action).as_str(), expected);
        }
        assert!(event_type(&"x".repeat(1_000)).as_str().len() <= MAX_TYPE_BYTES);
    }
}
