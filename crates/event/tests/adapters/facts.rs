//! What a body says has to be in its form. What it says is looked up here by its own paths, and not by the adapters' code.

use counterfoil_event::adapter::Adapter;
use serde_json::{Value, json};

use crate::{
    form, read,
    recorded::{self, Recorded},
};

/// The strings and numbers at those of the paths that lead to one.
fn stated(body: &Value, paths: &[&str]) -> Vec<String> {
    paths
        .iter()
        .filter_map(|path| match body.pointer(path)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) if number.as_u64() != Some(0) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

fn form_of(recorded: &Recorded) -> Value {
    let form = read(recorded.adapter, &recorded.event, &recorded.body).unwrap();
    serde_json::from_slice(&form.into_json()).unwrap()
}

/// Asserts that where the body has something at one of the paths, the form has one of those at `member`.
fn assert_one_of(recorded: &Recorded, form: &Value, member: &str, paths: &[&str]) -> bool {
    let stated = stated(&recorded.json, paths);
    let found = form.pointer(member).and_then(Value::as_str);
    if stated.is_empty() {
        return false;
    }
    let holds = found.is_some_and(|found| stated.iter().any(|stated| stated == found));
    assert!(
        holds,
        "{}: {member} is {found:?}, and the body has {stated:?}",
        recorded.name()
    );
    true
}

#[test]
fn repository_organisation_and_actor_are_there_where_the_body_has_them() {
    let all = recorded::all();
    let mut with_actor = 0;
    for recorded in &all {
        let form = form_of(recorded);
        let name = ["/repository/full_name", "/project/path_with_namespace"];
        assert_one_of(recorded, &form, "/repo/full_name", &name);
        let id: &[&str] = match recorded.adapter {
            Adapter::GitLab => &["/project/id", "/project_id"],
            _ => &["/repository/id"],
        };
        assert_one_of(recorded, &form, "/repo/id", id);
        assert_one_of(recorded, &form, "/org/login", &["/organization/login"]);
        assert_one_of(recorded, &form, "/org/id", &["/organization/id"]);
        let login = ["/sender/login", "/user/username", "/user_username"];
        with_actor += usize::from(assert_one_of(recorded, &form, "/actor/login", &login));
        assert_one_of(
            recorded,
            &form,
            "/actor/id",
            &["/sender/id", "/user/id", "/user_id"],
        );
        assert_one_of(
            recorded,
            &form,
            "/triggering_actor/login",
            &["/workflow_run/triggering_actor/login"],
        );
    }
    // A ping of an organisation's hook is all that has none.
    assert!(with_actor + 1 >= all.len(), "{with_actor} of {}", all.len());
}

#[test]
fn a_commit_is_there_where_the_body_has_one() {
    let is_commit = |text: &String| {
        text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit()) && text.chars().any(|c| c != '0')
    };
    let paths = [
        "/after",
        "/sha",
        "/checkout_sha",
        "/deployment/sha",
        "/workflow_run/head_sha",
        "/workflow_job/head_sha",
        "/check_run/head_sha",
        "/check_suite/head_sha",
        "/review/commit_id",
        "/pull_request/head/sha",
        "/pull_request/merge_commit_sha",
        "/object_attributes/last_commit/id",
        "/object_attributes/merge_commit_sha",
        "/merge_request/last_commit/id",
    ];
    let mut with_commit = 0;
    for recorded in recorded::all() {
        let stated: Vec<_> = stated(&recorded.json, &paths)
            .into_iter()
            .filter(is_commit)
            .collect();
        let form = form_of(&recorded);
        let commit = form["commit"].as_str().map(str::to_owned);
        assert_eq!(
            commit.is_some(),
            !stated.is_empty(),
            "{}: {commit:?} {stated:?}",
            recorded.name()
        );
        assert!(
            commit.is_none_or(|commit| stated.contains(&commit)),
            "{}",
            recorded.name()
        );
        with_commit += usize::from(!stated.is_empty());
        // Of a pull request that is not merged, GitHub names a commit that nobody has.
        if recorded.json.pointer("/pull_request/merged") == Some(&Value::Bool(false)) {
            assert_eq!(form.pointer("/change/merge_sha"), None, "{}", recorded.name());
        }
        for (path, member) in [("/before", "/ref/before"), ("/after", "/ref/after")] {
            assert_eq!(
                recorded.json.pointer(path),
                form.pointer(member),
                "{}",
                recorded.name()
            );
        }
        if let Some(commits) = recorded.json["commits"].as_array() {
            let ids: Vec<_> = commits.iter().map(|commit| commit["id"].clone()).collect();
            let none = Value::Array(vec![]);
            assert_eq!(
                form.get("commits").unwrap_or(&none),
                &Value::from(ids),
                "{}",
                recorded.name()
            );
        }
    }
    assert!(with_commit == 0 || with_commit > 40, "{with_commit}");
}

#[test]
fn no_outcome_is_unknown_that_the_body_states() {
    let conclusions = [
        "/workflow_run/conclusion",
        "/workflow_job/conclusion",
        "/check_run/conclusion",
        "/check_suite/conclusion",
    ];
    let is_final = |state: &String| {
        let not_final = [
            "pending",
            "queued",
            "waiting",
            "in_progress",
            "inactive",
            "commented",
            "opened",
            "open",
        ];
        !not_final.contains(&state.as_str())
    };
    let mut checked = 0;
    for recorded in recorded::all() {
        let body = &recorded.json;
        // What is to run again still has the conclusion of the run before.
        let mut states = match body["action"].as_str() {
            Some("rerequested") => Vec::new(),
            _ => stated(body, &conclusions),
        };
        match recorded.event.as_str() {
            "status" => states.extend(stated(body, &["/state"])),
            "deployment_status" => states.extend(stated(body, &["/deployment_status/state"])),
            "pull_request_review" => states.extend(stated(body, &["/review/state"])),
            "pull_request" => states.extend(stated(body, &["/pull_request/state"])),
            "Merge Request Hook" => states.extend(stated(body, &["/object_attributes/state"])),
            _ => {}
        }
        states.retain(is_final);
        if states.is_empty() {
            continue;
        }
        checked += 1;
        let outcome = form_of(&recorded)["outcome"].clone();
        assert_ne!(outcome, "unknown", "{}: {states:?}", recorded.name());
        // The words that mean the same everywhere are taken at their word.
        for same in ["success", "failure", "cancelled", "skipped"] {
            if states.iter().any(|state| state == same) {
                assert_eq!(outcome, same, "{}", recorded.name());
            }
        }
    }
    assert!(checked == 0 || checked >= 15, "{checked}");
}

#[test]
fn changes_runs_jobs_and_deployments_are_there_where_the_body_has_them() {
    let members: [(&str, &[&str]); 11] = [
        (
            "/change/author_id",
            &["/pull_request/user/id", "/object_attributes/author_id"],
        ),
        ("/change/base_ref", &["/pull_request/base/ref"]),
        ("/review/id", &["/review/id"]),
        (
            "/run/id",
            &[
                "/workflow_run/id",
                "/workflow_job/run_id",
                "/check_suite/id",
                "/check_run/check_suite/id",
            ],
        ),
        ("/run/workflow_id", &["/workflow_run/workflow_id"]),
        ("/job/id", &["/workflow_job/id", "/check_run/id"]),
        ("/job/name", &["/workflow_job/name", "/check_run/name"]),
        ("/job/runner", &["/workflow_job/runner_name"]),
        ("/deployment/id", &["/deployment/id"]),
        ("/deployment/environment", &["/deployment/environment"]),
        ("/deployment/status", &["/deployment_status/state"]),
    ];
    for recorded in recorded::all() {
        let form = form_of(&recorded);
        for (member, paths) in members {
            let is_note = recorded.event == "Note Hook" || recorded.event == "Issue Hook";
            if !(is_note && member.starts_with("/change")) {
                assert_one_of(&recorded, &form, member, paths);
            }
        }
        let numbers = [
            ("/change/number", "/pull_request/number"),
            ("/run/number", "/workflow_run/run_number"),
            ("/run/attempt", "/workflow_run/run_attempt"),
        ];
        for (member, path) in numbers {
            if let Some(number) = recorded.json.pointer(path) {
                assert_eq!(
                    form.pointer(member),
                    Some(number),
                    "{}: {member}",
                    recorded.name()
                );
            }
        }
    }
}

#[test]
fn artifacts_and_settings_are_there_where_the_body_has_them() {
    for recorded in recorded::all() {
        let form = form_of(&recorded);
        let body = &recorded.json;
        let has = |list: &str| {
            form.get(list)
                .is_some_and(|list| !list.as_array().unwrap().is_empty())
        };
        if body.get("release").or(body.get("registry_package")).is_some() {
            assert!(has("artifacts"), "{}", recorded.name());
        }
        for event in [
            "branch_protection_rule",
            "member",
            "membership",
            "team",
            "secret_scanning_alert",
        ] {
            assert!(
                recorded.event != event || has("config_change"),
                "{}",
                recorded.name()
            );
        }
        let Some(changes) = body.get("changes").and_then(Value::as_object) else {
            continue;
        };
        for (name, change) in changes
            .iter()
            .filter(|(_, change)| change.get("from").is_some_and(Value::is_boolean))
        {
            let rows = form["config_change"].as_array().unwrap();
            let row = rows
                .iter()
                .find(|row| row["path"].as_str().unwrap().ends_with(name.as_str()));
            assert_eq!(
                row.unwrap()["from"],
                change["from"],
                "{}: {name}",
                recorded.name()
            );
        }
    }
}

#[test]
fn every_form_says_how_it_came_and_is_read_again() {
    for recorded in recorded::all() {
        let form = read(recorded.adapter, &recorded.event, &recorded.body).unwrap();
        let json: Value = serde_json::from_slice(&form.clone().into_json()).unwrap();
        assert_eq!(json["id"], "h1/d1");
        let provider = recorded.adapter.name().split('/').next().unwrap();
        let mut source = json!({
            "id": "forge", "provider": provider, "host": "forge.example", "native_event": recorded.event,
            "delivery_id": "d1", "hook_id": "h1",
        });
        if let Some(action) = json.pointer("/source/native_action") {
            source["native_action"] = action.clone();
        }
        if recorded.event == "ping" {
            source["hook_id"] = recorded.json["hook_id"].to_string().into();
        }
        assert_eq!(json["source"], source, "{}", recorded.name());
        assert!(form.other.is_empty());
        let again = counterfoil_event::normal::NormalEvent::parse(&form.clone().into_json()).unwrap();
        assert_eq!(again, form, "{}", recorded.name());
    }
}

/// Whole forms, of bodies written for it.
#[test]
fn a_merge_says_who_merged_what_of_whom_into_what() {
    let (head, merge) = ("a".repeat(40), "b".repeat(40));
    let body = json!({
        "action": "closed",
        "number": 7,
        "pull_request": {
            "number": 7, "merged": true, "merge_commit_sha": merge, "merged_at": "2026-11-22T09:30:00Z",
            "closed_at": "2026-11-22T09:30:01Z",
            "user": {"id": 1, "login": "author", "type": "User"},
            "head": {"ref": "feature", "sha": head}, "base": {"ref": "main"},
        },
        "repository": {"id": 5, "full_name": "acme/widgets", "private": true},
        "organization": {"id": 9, "login": "acme"},
        "sender": {"id": 2, "login": "merger", "type": "User"},
    });
    let expected = json!({
        "id": "h1/d1", "type": "scm.change.merged", "outcome": "success", "occurred_at": "2026-11-22T09:30:00Z",
        "source": {
            "id": "forge", "provider": "github", "host": "forge.example", "native_event": "pull_request",
            "native_action": "closed", "delivery_id": "d1", "hook_id": "h1",
        },
        "actor": {"kind": "user", "id": "2", "login": "merger"},
        "org": {"id": "9", "login": "acme"},
        "repo": {"id": "5", "full_name": "acme/widgets"},
        "commit": merge,
        "change": {
            "number": 7, "author_id": "1", "author": "author", "head_sha": head, "base_ref": "main", "merge_sha": merge,
        },
    });
    assert_eq!(form(Adapter::GitHub, "pull_request", &body), expected);
}

#[test]
fn a_run_or_check_is_not_filed_under_a_pull_request_of_another_repository() {
    let head = "a".repeat(40);
    let theirs = json!({"number": 7, "head": {"sha": head}, "base": {"ref": "x", "repo": {"id": 666}}});
    let ours = json!({"number": 8, "head": {"sha": head}, "base": {"ref": "main", "repo": {"id": 5}}});
    for event in ["workflow_run", "check_run", "check_suite"] {
        let change = |pull_requests: Value| {
            let body = json!({
                "action": "completed", "repository": {"id": 5, "full_name": "acme/widgets"},
                event: {"id": 9, "head_sha": head, "conclusion": "success", "pull_requests": pull_requests},
            });
            form(Adapter::GitHub, event, &body)["change"].clone()
        };
        let expected = json!({"number": 8, "head_sha": head, "base_ref": "main"});
        assert_eq!(change(json!([theirs, ours])), expected, "{event}");
        assert_eq!(change(json!([theirs])), Value::Null, "{event}");
    }
}

#[test]
fn a_run_for_a_fork_s_branch_is_not_of_the_branch_that_has_its_name_here() {
    for (event, head_repository, expected) in [
        ("push", json!({"id": 5}), json!("main")),
        ("push", Value::Null, json!("main")),
        ("pull_request", json!({"id": 5}), json!("main")),
        ("pull_request", json!({"id": 666}), Value::Null),
        // So it is once the fork is deleted.
        ("pull_request", Value::Null, Value::Null),
        ("pull_request_target", Value::Null, Value::Null),
    ] {
        let body = json!({
            "action": "completed", "repository": {"id": 5},
            "workflow_run": {"id": 9, "event": event, "head_branch": "main", "head_repository": head_repository},
        });
        let run = form(Adapter::GitHub, "workflow_run", &body);
        assert_eq!(run["ref"]["name"], expected, "{event} {head_repository}");
    }
}

#[test]
fn a_push_of_an_annotated_tag_is_about_the_commit_that_it_tags() {
    let (tag, commit, none) = ("7".repeat(40), "c".repeat(40), "0".repeat(40));
    for adapter in [Adapter::GitHub, Adapter::Gitea] {
        let body = json!({
            "ref": "refs/tags/v1", "before": none, "after": tag, "created": true, "commits": [],
            "head_commit": {"id": commit, "timestamp": "2026-11-22T09:30:00Z"},
        });
        let pushed = form(adapter, "push", &body);
        assert_eq!(
            (&pushed["commit"], &pushed["ref"]["after"]),
            (&json!(commit), &json!(tag)),
            "{adapter}"
        );
        let body = json!({
            "ref": "refs/tags/v1", "before": tag, "after": none, "deleted": true, "commits": [], "head_commit": null,
        });
        assert_eq!(form(adapter, "push", &body)["commit"], Value::Null, "{adapter}");
    }
}

#[test]
fn a_deployment_s_approval_says_who_was_asked_and_what_they_said() {
    let body = json!({
        "action": "rejected", "comment": "not on a Friday", "since": "2026-11-22T09:30:00Z",
        "approver": {"id": 3, "login": "lead", "type": "User"},
        "reviewers": [
            {"type": "User", "reviewer": {"id": 3, "login": "lead"}},
            {"type": "Team", "reviewer": {"id": 4, "name": "Release Team", "slug": "release"}},
        ],
        "workflow_job_run": {"id": 8, "environment": "production"},
        "workflow_run": {"id": 6, "run_number": 2, "head_sha": "c".repeat(40), "event": "push"},
        "sender": {"id": 99, "login": "octo", "type": "User"},
    });
    let form = form(Adapter::GitHub, "deployment_review", &body);
    let expected = json!({
        "state": "rejected", "reason": "not on a Friday",
        "reviewers": [{"kind": "user", "id": "3", "login": "lead"}, {"id": "4", "login": "release"}],
    });
    assert_eq!(form["decision"], expected);
    assert_eq!(form["actor"]["login"], "lead");
    assert_eq!(form["deployment"], json!({"environment": "production"}));
    assert_eq!(form["run"], json!({"id": "6", "number": 2, "trigger": "push"}));
    assert_eq!(form["commit"], "c".repeat(40));
    let body = json!({
        "action": "approved", "workflow_job_runs": [{"id": 8, "environment": "production"}, {"id": 9, "environment": "staging"}],
    });
    let of_two = super::form(Adapter::GitHub, "deployment_review", &body);
    assert_eq!(of_two["deployment"], json!({"environment": "production"}));
}

#[test]
fn who_sent_a_run_is_known_where_nobody_else_is() {
    for (actor, login) in [
        (json!({"id": 1, "login": "author"}), "author"),
        (Value::Null, "sender"),
    ] {
        let body = json!({
            "action": "completed", "sender": {"id": 2, "login": "sender"}, "workflow_run": {"id": 9, "actor": actor},
        });
        assert_eq!(
            form(Adapter::GitHub, "workflow_run", &body)["actor"]["login"],
            login
        );
    }
}

#[test]
fn a_review_says_what_its_author_is_to_the_repository() {
    let body = json!({
        "action": "submitted",
        "review": {"id": 1, "state": "approved", "commit_id": "a".repeat(40), "author_association": "NONE"},
    });
    let review = form(Adapter::GitHub, "pull_request_review", &body)["review"].clone();
    let expected = json!({"id": "1", "state": "approved", "commit": "a".repeat(40), "association": "NONE"});
    assert_eq!(review, expected);
}

#[test]
fn the_commit_that_a_release_names_is_its_author_s_word() {
    for adapter in [Adapter::GitHub, Adapter::Gitea] {
        let body =
            json!({"action": "published", "release": {"tag_name": "v2", "target_commitish": "c".repeat(40)}});
        let release = form(adapter, "release", &body);
        assert_eq!(
            (&release["commit"], &release["ref"]["name"]),
            (&Value::Null, &json!("refs/tags/v2")),
            "{adapter}"
        );
    }
}

#[test]
fn a_rule_s_change_says_what_it_was_and_what_it_is() {
    let body = json!({
        "action": "edited",
        "rule": {"id": 1, "name": "main", "admin_enforced": true, "checks": ["a"], "updated_at": "2026-11-22T09:30:00Z"},
        "changes": {"admin_enforced": {"from": false}, "checks": {"from": []}, "gone": {"from": 3}},
    });
    let form = form(Adapter::GitHub, "branch_protection_rule", &body);
    let expected = json!([
        {"path": "rule.id", "to": 1},
        {"path": "rule.name", "to": "main"},
        {"path": "rule.admin_enforced", "from": false, "to": true},
        {"path": "rule.checks", "from": "[]", "to": "[\"a\"]"},
        {"path": "rule.gone", "from": 3},
    ]);
    assert_eq!(form["config_change"], expected);
    assert_eq!(form["occurred_at"], "2026-11-22T09:30:00Z");

    let body = json!({
        "action": "renamed", "repository": {"name": "gadgets", "full_name": "acme/gadgets"},
        "changes": {"repository": {"name": {"from": "widgets"}}},
    });
    let form = super::form(Adapter::GitHub, "repository", &body);
    assert_eq!(
        form["config_change"],
        json!([{"path": "repository.repository.name", "from": "widgets", "to": "gadgets"}])
    );
    let body = json!({
        "action": "edited", "repository": {"default_branch": "trunk", "homepage": null},
        "changes": {"default_branch": {"from": "main"}, "homepage": {"from": "https://acme.example"}},
    });
    let form = super::form(Adapter::GitHub, "repository", &body);
    let expected = json!([
        {"path": "repository.default_branch", "from": "main", "to": "trunk"},
        {"path": "repository.homepage", "from": "https://acme.example"},
    ]);
    assert_eq!(form["config_change"], expected);
}

#[test]
fn an_edited_ruleset_says_which_rules_were_taken_away_and_which_were_added() {
    let rows = |changes: Value| {
        let ruleset = json!({"id": 1, "name": "main", "rules": [{"type": "deletion"}]});
        let body = json!({"action": "edited", "repository_ruleset": ruleset, "changes": changes});
        form(Adapter::GitHub, "repository_ruleset", &body)["config_change"].clone()
    };
    let (id, name) = (
        json!({"path": "ruleset.id", "to": 1}),
        json!({"path": "ruleset.name", "to": "main"}),
    );
    let deleted =
        json!({"rules": {"added": [], "deleted": [{"type": "required_signatures"}], "updated": []}});
    let gone = json!({"path": "ruleset.rules", "from": r#"{"type":"required_signatures"}"#});
    assert_eq!(rows(deleted), json!([id, name, gone]));
    let both = json!({
        "rules": {"added": [{"type": "deletion"}], "deleted": [], "updated": [{"rule": {"type": "update"}}]},
    });
    let added = json!({"path": "ruleset.rules", "to": r#"{"type":"deletion"}"#});
    let updated = json!({"path": "ruleset.rules", "to": r#"{"rule":{"type":"update"}}"#});
    assert_eq!(rows(both), json!([id, name, added, updated]));
}

#[test]
fn a_setting_of_a_protected_branch_in_the_audit_log_is_a_change_of_its_protection() {
    let action = "protected_branch.update_admin_enforced";
    let document = json!({"action": action, "actor": "boss", "repo": "acme/widgets", "name": "main"});
    let edited = form(Adapter::GitHubAudit, action, &document);
    assert_eq!(
        (&edited["type"], &edited["outcome"]),
        (&json!("config.protection.edited"), &json!("success"))
    );
    assert_eq!(edited["config_change"], json!([{"path": "name", "to": "main"}]));
}

#[test]
fn changes_of_access_say_whose_and_what() {
    let rows = |event: &str, body: Value| form(Adapter::GitHub, event, &body)["config_change"].clone();
    let member = json!({
        "action": "edited", "member": {"id": 2, "login": "octocat"}, "changes": {"old_permission": {"from": "read"}},
    });
    let expected = json!([
        {"path": "member.login", "to": "octocat"}, {"path": "member.id", "to": 2}, {"path": "permission", "from": "read"},
    ]);
    assert_eq!(rows("member", member), expected);
    let member = json!({
        "action": "edited", "changes": {"old_permission": {"from": "read"}, "permission": {"from": "read", "to": "write"}},
    });
    let expected = json!([{"path": "permission", "from": "read", "to": "write"}]);
    assert_eq!(rows("member", member), expected, "it is said once");
    let transferred = json!({
        "action": "transferred", "repository": {"full_name": "acme/widgets", "owner": {"login": "acme"}},
        "changes": {"owner": {"from": {"user": {"login": "octocat", "id": 1}}}},
    });
    let expected = json!([{"path": "repository.owner", "from": "octocat", "to": "acme"}]);
    assert_eq!(rows("repository", transferred), expected);
    let (pull, admin) = (r#"{"admin":false,"pull":true}"#, r#"{"admin":true,"pull":true}"#);
    let team = |event: &str, action: &str, changes: Value| {
        let body = json!({
            "action": action, "team": {"id": 3, "name": "contractors", "permission": "pull"}, "changes": changes,
            "repository": {"permissions": {"admin": true, "pull": true}},
        });
        let rows = rows(event, body);
        assert_eq!(rows[2]["path"], "team.permission", "what the team has by itself");
        rows[3].clone()
    };
    let given = json!({"path": "team.repository.permissions", "to": admin});
    assert_eq!(team("team", "added_to_repository", Value::Null), given);
    assert_eq!(team("team_add", "", Value::Null), given);
    assert_eq!(team("team", "removed_from_repository", Value::Null), Value::Null);
    let raised = json!({"repository": {"permissions": {"from": {"admin": false, "pull": true}}}});
    let expected = json!({"path": "team.repository.permissions", "from": pull, "to": admin});
    assert_eq!(team("team", "edited", raised), expected);
    let renamed = json!({"name": {"from": "helpers"}});
    let expected = json!({"path": "team.name", "from": "helpers", "to": "contractors"});
    assert_eq!(team("team", "edited", renamed), expected);
    let publicized = json!({"action": "publicized", "repository": {"visibility": "public"}});
    let expected = json!([{"path": "repository.private", "from": true, "to": false}]);
    assert_eq!(rows("repository", publicized), expected);
    let alert =
        json!({"action": "created", "alert": {"number": 5, "secret_type": "token", "secret": "hunter2"}});
    let expected = json!([{"path": "alert.number", "to": 5}, {"path": "alert.secret_type", "to": "token"}]);
    assert_eq!(
        rows("secret_scanning_alert", alert),
        expected,
        "what was found stays where it is"
    );
}

#[test]
fn a_release_and_a_package_name_their_files_and_digests() {
    let digest = format!("sha256:{}", "d".repeat(64));
    let body = json!({
        "action": "published",
        "release": {"tag_name": "v1", "assets": [{"name": "a.tar.gz", "digest": digest}], "published_at": "2026-11-22T09:30:00Z"},
    });
    let release = form(Adapter::GitHub, "release", &body);
    assert_eq!(
        release["artifacts"],
        json!([{"name": "a.tar.gz", "digest": digest, "tag": "v1"}])
    );
    assert_eq!(release["ref"], json!({"name": "refs/tags/v1"}));

    let body = json!({
        "action": "published",
        "registry_package": {
            "id": 1, "name": "@acme/widgets", "package_type": "npm",
            "package_version": {
                "version": "1.0.0", "target_oid": "e".repeat(40),
                "package_files": [{"name": "widgets.tgz", "sha256": "d".repeat(64)}],
            },
        },
    });
    let package = form(Adapter::GitHub, "registry_package", &body);
    let expected = json!([
        {"name": "@acme/widgets", "purl": "pkg:npm/%40acme/widgets@1.0.0", "tag": "1.0.0"},
        {"name": "widgets.tgz", "digest": digest, "tag": "1.0.0"},
    ]);
    assert_eq!(package["artifacts"], expected);
    assert_eq!(package["commit"], "e".repeat(40));

    for (kind, version, member) in [
        ("container", digest.as_str(), "digest"),
        ("CONTAINER", digest.as_str(), "digest"),
        ("container", "latest", "tag"),
        ("container", "sha256:zz", "tag"),
        // Whoever publishes such a one says what its version is.
        ("generic", digest.as_str(), "tag"),
    ] {
        let expected = json!([{"name": "widgets", member: version}]);
        let body = json!({"action": "created", "package": {"id": 1, "name": "widgets", "type": kind, "version": version}});
        let package = form(Adapter::Gitea, "package", &body);
        assert_eq!(package["artifacts"], expected, "{kind} {version}");
        let body = json!({
            "action": "published",
            "package": {"id": 1, "name": "widgets", "package_type": kind, "package_version": {"version": version}},
        });
        let package = form(Adapter::GitHub, "package", &body);
        assert_eq!(package["artifacts"], expected, "{kind} {version}");
    }
}

#[test]
fn what_gitlab_says_of_a_pipeline_a_job_and_a_deployment_is_found() {
    let sha = "f".repeat(40);
    let body = json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 31, "iid": 3, "ref": "v1", "tag": true, "sha": sha, "source": "merge_request_event", "status": "success",
            "created_at": "2016-08-12 15:23:28 UTC", "finished_at": "2016-08-12 15:26:29 UTC",
        },
        "merge_request": {"iid": 1, "source_project_id": 7, "target_branch": "main"},
        "user": {"id": 1, "username": "root"},
        "project": {"id": 7, "path_with_namespace": "acme/widgets"},
    });
    let pipeline = form(Adapter::GitLab, "Pipeline Hook", &body);
    assert_eq!(
        pipeline["run"],
        json!({"id": "31", "number": 3, "trigger": "merge_request_event"})
    );
    assert_eq!(pipeline["ref"], json!({"name": "refs/tags/v1"}));
    assert_eq!(pipeline["change"], json!({"number": 1, "base_ref": "main"}));
    assert_eq!(
        (&pipeline["commit"], &pipeline["occurred_at"]),
        (&json!(sha), &json!("2016-08-12T15:26:29Z"))
    );

    let body = json!({
        "object_kind": "build", "ref": "main", "tag": false, "sha": sha, "build_id": 19, "build_name": "test",
        "build_status": "failed", "pipeline_id": 31, "runner": {"id": 3, "description": "runner-1"},
        "environment": {"name": "staging"}, "project_id": 7,
    });
    let job = form(Adapter::GitLab, "Job Hook", &body);
    assert_eq!(
        job["job"],
        json!({"id": "19", "name": "test", "runner": "runner-1"})
    );
    assert_eq!(
        (&job["run"]["id"], &job["deployment"]["environment"]),
        (&json!("31"), &json!("staging"))
    );
    assert_eq!(job["ref"]["name"], "refs/heads/main");

    let body = json!({
        "object_kind": "deployment", "status": "success", "deployment_id": 15, "deployable_id": 19, "environment": "production",
        "short_sha": &sha[..8], "commit_url": format!("https://gitlab.example/acme/widgets/-/commit/{sha}"),
        "status_changed_at": "2026-11-22 09:30:00 +0100", "user": {"id": 1, "username": "root"},
    });
    let deployment = form(Adapter::GitLab, "Deployment Hook", &body);
    let expected = json!({"id": "15", "environment": "production", "status": "success"});
    assert_eq!(deployment["deployment"], expected);
    assert_eq!(
        (&deployment["commit"], &deployment["occurred_at"]),
        (&json!(sha), &json!("2026-11-22T09:30:00+01:00"))
    );

    let body = json!({
        "event_name": "user_remove_from_group", "group_id": 4, "group_path": "acme", "user_id": 64, "user_username": "leaver",
        "group_access": "Developer",
    });
    let member = form(Adapter::GitLab, "Member Hook", &body);
    assert_eq!(member.get("actor"), None, "nobody says who did it");
    let expected = json!([
        {"path": "member.login", "from": "leaver"}, {"path": "member.id", "from": 64}, {"path": "member.role", "from": "Developer"},
    ]);
    assert_eq!(member["config_change"], expected);
    assert_eq!(member["org"], json!({"id": "4", "login": "acme"}));
}

#[test]
fn a_branch_of_another_project_is_no_reference_of_gitlab_s() {
    let reference = |merge_request: Value| {
        let body = json!({
            "object_kind": "pipeline", "project": {"id": 7}, "merge_request": merge_request,
            "object_attributes": {
                "ref": "feature", "tag": false, "source": "merge_request_event", "status": "success", "sha": "f".repeat(40),
            },
        });
        let pipeline = form(Adapter::GitLab, "Pipeline Hook", &body);
        assert_eq!(pipeline["commit"], "f".repeat(40));
        pipeline["ref"]["name"].clone()
    };
    assert_eq!(
        reference(json!({"iid": 12, "source_project_id": 99, "target_project_id": 7})),
        Value::Null
    );
    // That of a fork that is gone is not said.
    assert_eq!(
        reference(json!({"iid": 12, "source_project_id": null, "target_project_id": 7})),
        Value::Null
    );
    assert_eq!(
        reference(json!({"iid": 12, "source_project_id": 7, "target_project_id": 7})),
        "refs/heads/feature"
    );
    assert_eq!(reference(Value::Null), "refs/heads/feature");
}

#[test]
fn a_merge_request_s_head_is_no_branch() {
    for (name, is_tag, full) in [
        (
            "refs/merge-requests/12/head",
            false,
            "refs/merge-requests/12/head",
        ),
        (
            "refs/merge-requests/12/merge",
            false,
            "refs/merge-requests/12/merge",
        ),
        // Branches may have such names, and are none of the tags.
        ("refs/tags/v1", false, "refs/heads/refs/tags/v1"),
        (
            "refs/merge-requests/12/head",
            true,
            "refs/tags/refs/merge-requests/12/head",
        ),
    ] {
        let body = json!({"object_kind": "build", "ref": name, "tag": is_tag, "build_status": "running"});
        let job = form(Adapter::GitLab, "Job Hook", &body);
        assert_eq!(job["ref"]["name"], full, "{name}");
    }
}

#[test]
fn what_gitlab_removes_is_not_dated_when_it_was_made() {
    let time = |member: &str, kind: &str, action: &str| {
        let body = json!({
            member: kind, "action": action, "released_at": "2026-11-22T09:30:00Z",
            "created_at": "2026-11-22T09:30:00Z", "updated_at": "2026-11-22T09:30:00Z",
        });
        form(Adapter::GitLab, "System Hook", &body)["occurred_at"].clone()
    };
    for gone in [
        "user_remove_from_group",
        "user_remove_from_team",
        "group_destroy",
        "subgroup_destroy",
        "project_destroy",
        "key_destroy",
        "user_destroy",
    ] {
        assert_eq!(time("event_name", gone, ""), Value::Null, "{gone}");
    }
    for made in [
        "user_add_to_group",
        "user_update_for_group",
        "subgroup_create",
        "key_create",
    ] {
        assert_eq!(time("event_name", made, ""), "2026-11-22T09:30:00Z", "{made}");
    }
    assert_eq!(time("object_kind", "release", "create"), "2026-11-22T09:30:00Z");
    assert_eq!(time("object_kind", "release", "update"), Value::Null);
    assert_eq!(time("object_kind", "release", "delete"), Value::Null);
}

#[test]
fn a_pipeline_that_runs_again_does_not_happen_when_it_ended_before() {
    let time = |status: &str| {
        let body = json!({
            "object_kind": "pipeline",
            "object_attributes": {
                "id": 31, "status": status,
                "created_at": "2026-11-22 09:00:00 UTC", "finished_at": "2026-11-22 09:30:00 UTC",
            },
        });
        form(Adapter::GitLab, "Pipeline Hook", &body)["occurred_at"].clone()
    };
    assert_eq!(time("pending"), "2026-11-22T09:00:00Z");
    assert_eq!(time("running"), Value::Null);
    assert_eq!(time("failed"), "2026-11-22T09:30:00Z");
}

#[test]
fn a_project_changes_its_visibility_in_events_of_its_own_alone() {
    let rows = |event: &str| {
        let body = json!({
            "event_name": event, "project_id": 7, "path_with_namespace": "acme/widgets", "project_visibility": "private",
            "user_id": 64, "user_username": "octo", "access_level": "Developer",
        });
        form(Adapter::GitLab, "System Hook", &body)["config_change"].to_string()
    };
    for event in [
        "user_add_to_team",
        "user_update_for_team",
        "user_remove_from_team",
    ] {
        let rows = rows(event);
        assert!(
            rows.contains("member.login") && !rows.contains("visibility"),
            "{event}: {rows}"
        );
    }
    for event in ["project_create", "project_update"] {
        assert!(
            rows(event).contains(r#"{"path":"repository.visibility","to":"private"}"#),
            "{event}"
        );
    }
    let gone: Vec<Value> = serde_json::from_str(&rows("project_destroy")).unwrap();
    for (path, value) in [
        ("repository.visibility", "private"),
        ("repository.full_name", "acme/widgets"),
    ] {
        assert!(gone.contains(&json!({"path": path, "from": value})), "{gone:?}");
    }
}

#[test]
fn who_pushes_to_gitlab_is_no_member_that_changed() {
    let body =
        json!({"event_name": "repository_update", "user_id": 64, "user_name": "Octo", "project_id": 7});
    let update = form(Adapter::GitLab, "System Hook", &body);
    assert_eq!(update["actor"], json!({"id": "64"}));
    assert_eq!(update["config_change"], Value::Null);
}

#[test]
fn a_run_of_forgejo_s_is_in_its_repository_and_ended_as_it_did() {
    for (status, outcome) in [
        ("failure", "failure"),
        ("cancelled", "cancelled"),
        ("skipped", "skipped"),
    ] {
        let body = json!({
            "action": "failure", "prior_status": "running",
            "run": {
                "id": 1, "index_in_repo": 3, "status": status, "commit_sha": "a".repeat(40),
                "trigger_user": {"id": 2, "login": "octo"}, "repository": {"id": 5, "full_name": "acme/widgets"},
            },
        });
        let run = form(Adapter::Gitea, "action_run_failure", &body);
        assert_eq!(run["repo"], json!({"id": "5", "full_name": "acme/widgets"}));
        assert_eq!(run["outcome"], outcome);
    }
}

#[test]
fn a_run_or_job_of_gitea_s_is_dated_by_what_it_says_itself() {
    let [none, started, ended, made] = [
        "1970-01-01T00:00:00Z",
        "2026-11-22T09:30:00Z",
        "2026-11-22T09:40:00Z",
        "2026-11-22T09:20:00Z",
    ];
    for (event, action, started_at, completed_at, expected) in [
        ("workflow_run", "requested", none, none, Value::Null),
        ("workflow_run", "in_progress", started, none, json!(started)),
        ("workflow_run", "completed", started, ended, json!(ended)),
        ("workflow_job", "queued", none, none, json!(made)),
        ("workflow_job", "in_progress", started, none, json!(started)),
        ("workflow_job", "completed", started, ended, json!(ended)),
    ] {
        let mut of = json!({
            "id": 9, "started_at": started_at, "completed_at": completed_at, "trigger_actor": {"id": 2, "login": "octo"},
        });
        if event == "workflow_job" {
            of["created_at"] = made.into();
        }
        let form = form(Adapter::Gitea, event, &json!({"action": action, event: of}));
        assert_eq!(form["occurred_at"], expected, "{event} {action}");
        if event == "workflow_run" {
            assert_eq!(form["triggering_actor"], json!({"id": "2", "login": "octo"}));
        }
    }
}

#[test]
fn a_reference_of_gitea_s_and_of_forgejo_s_has_one_name() {
    for (kind, name, full) in [
        ("branch", "x", "refs/heads/x"),
        ("branch", "refs/heads/x", "refs/heads/x"),
        ("branch", "refs/tags/x", "refs/heads/refs/tags/x"),
        ("tag", "v1", "refs/tags/v1"),
        ("tag", "refs/tags/v1", "refs/tags/v1"),
    ] {
        for event in ["create", "delete"] {
            let body = json!({"ref": name, "ref_type": kind});
            let form = form(Adapter::Gitea, event, &body);
            assert_eq!(form["ref"]["name"], full, "{event} {kind} {name}");
        }
    }
}

#[test]
fn a_review_of_gitea_says_what_it_came_to() {
    let commit = "a".repeat(40);
    for (event, state) in [
        ("pull_request_approved", "approved"),
        ("pull_request_rejected", "rejected"),
        ("pull_request_comment", "commented"),
    ] {
        let body = json!({
            "action": "reviewed", "pull_request": {"number": 7, "head": {"sha": commit}},
            "review": {"type": "pull_request_review_x", "content": "Hm."},
        });
        let review = form(Adapter::Gitea, event, &body)["review"].clone();
        assert_eq!(review, json!({"state": state, "commit": commit}), "{event}");
    }
}
