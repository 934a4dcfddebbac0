//! Documents of GitHub's audit log, and the types of events for what they report.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{MAX_SUBJECT_BYTES, MAX_TYPE_BYTES};

/// How the types begin for which there is no word of our own.
const PREFIX: &str = "github.audit.";

/// What is read out of a document. The rest stays in the payload.
pub(super) struct Document {
    pub(super) id: String,
    pub(super) action: String,
    /// The repository, or else the organisation, or else the enterprise.
    pub(super) subject: String,
    pub(super) time: Option<String>,
}

#[derive(Deserialize)]
struct Members {
    #[serde(rename = "_document_id")]
    document_id: String,
    action: String,
    #[serde(default)]
    repo: Value,
    #[serde(default)]
    org: Value,
    #[serde(default)]
    business: Value,
    #[serde(rename = "@timestamp", default)]
    timestamp: Value,
    #[serde(default)]
    created_at: Value,
}

impl Document {
    pub(super) fn parse(json: &str) -> Option<Self> {
        let members: Members = serde_json::from_str(json).ok()?;
        let subject = [&members.repo, &members.org, &members.business]
            .into_iter()
            .filter_map(Value::as_str)
            .find(|name| !name.is_empty() && name.len() <= MAX_SUBJECT_BYTES);
        let millis = members.timestamp.as_i64().or_else(|| members.created_at.as_i64());
        let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        Some(Self {
            id: members.document_id,
            action: members.action,
            subject: subject.unwrap_or_default().to_owned(),
            time: time.map(|time| time.to_string()),
        })
    }
}

/// The type of an event for an action, such as `protected_branch.create`.
pub(super) fn event_type(action: &str) -> String {
    let (category, verb) = action.split_once('.').unwrap_or((action, ""));
    let known = match (category, verb) {
        ("git", "push") => Some("scm.push".to_owned()),
        ("pull_request", "create") => Some("scm.change.opened".to_owned()),
        ("pull_request", "merge") => Some("scm.change.merged".to_owned()),
        ("pull_request", "close") => Some("scm.change.closed".to_owned()),
        ("pull_request_review", "submit") => Some("scm.review.submitted".to_owned()),
        ("pull_request_review", "dismiss") => Some("scm.review.dismissed".to_owned()),
        ("workflows", "created_workflow_run") => Some("ci.run.queued".to_owned()),
        ("workflows", "completed_workflow_run") => Some("ci.run.finished".to_owned()),
        ("protected_branch", verb) => changed("protection", verb),
        ("repository_ruleset", verb) => changed("ruleset", verb),
        ("public_key" | "deploy_key", verb) => changed("key", verb),
        ("org" | "repo" | "team", verb) => {
            let (verb, object) = verb.split_once('_').unwrap_or((verb, ""));
            match object {
                "member" => changed("member", verb),
                "actions_secret" | "environment_actions_secret" => changed("secret", verb),
                _ => None,
            }
        }
        _ => None,
    };
    known.unwrap_or_else(|| derived(action))
}

/// A change of what guards a repository, if the verb is one that is understood.
fn changed(what: &str, verb: &str) -> Option<String> {
    let done = match verb {
        "add" => "added",
        "create" => "created",
        "update" => "edited",
        "delete" | "destroy" => "deleted",
        "remove" => "removed",
        _ => return None,
    };
    Some(format!("config.{what}.{done}"))
}

/// The provider's own name for it, as far as a type may hold it.
fn derived(action: &str) -> String {
    let printable = action.chars().filter(char::is_ascii_graphic);
    PREFIX.chars().chain(printable).take(MAX_TYPE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("repository_ruleset.update", "config.ruleset.edited"),
            ("org.add_member", "config.member.added"),
            (
                "org.remove_outside_collaborator",
                "github.audit.org.remove_outside_collaborator",
            ),
            ("repo.create_actions_secret", "config.secret.created"),
            ("public_key.create", "config.key.created"),
            ("workflows.completed_workflow_run", "ci.run.finished"),
            ("repo.create", "github.audit.repo.create"),
            ("no dots\u{7}", "github.audit.nodots"),
            ("", "github.audit."),
        ] {
            assert_eq!(event_type(action), expected);
        }
        assert_eq!(event_type(&"x".repeat(1_000)).len(), MAX_TYPE_BYTES);
    }
}
