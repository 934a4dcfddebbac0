//! What adapters read of payloads: one target for each of them.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_event::{
    Annotations, Event, EventParts, IndexAttribute, IndexKey, Submitter,
    adapter::{Adapter, Native, differences, named_by, submitted},
    dsse, is_media_type,
    limits::MAX_NORMALISED_BYTES,
    normal::{self, EventType, MAX_LIST_ITEMS, NormalEvent, Text, Word},
};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{event::check_event, head_and_body, normal::check_cdevent, text};
use crate::Target;

/// Lines that stand before the empty line and say what is not in the body.
const HEAD: [&str; 8] = [
    "nativeevent: ",
    "deliveryid: ",
    "hookid: ",
    "host: ",
    "id: ",
    "type: ",
    "time: 2026-11-22T09:30:00Z\n",
    "media: ",
];

/// An event of an input: lines of `name: value`, an empty line, the payload. What no line says is the event's own, `defaults`.
fn event_of(head: &[u8], data: Vec<u8>, defaults: EventParts) -> Option<Event> {
    let mut parts = EventParts {
        data: data.into(),
        ..defaults
    };
    for line in text(head)?.lines() {
        let (name, value) = line.split_once(": ")?;
        let value = value.to_owned();
        match name {
            "id" => parts.id = value,
            "type" => parts.event_type = value,
            "time" => parts.time = value,
            "media" => parts.data_content_type = value,
            name => parts.extensions.push((name.to_owned(), value)),
        }
    }
    Event::try_from(parts).ok()
}

fn parts(event_type: &str, media_type: &str) -> EventParts {
    EventParts {
        id: "1".to_owned(),
        source: "https://ci.example/acme".to_owned(),
        event_type: event_type.to_owned(),
        data_content_type: media_type.to_owned(),
        ..EventParts::default()
    }
}

/// Whatever an adapter makes of an event can be recorded beside it, is read as it was written, is what the adapter makes of it again,
/// and is found by what it says. Returns it, if there is any.
fn check_form(adapter: Adapter, event: &Event) -> Option<NormalEvent> {
    check_event(event);
    let native = Native::stored(event.attributes(), event.data());
    let form = adapter.read(&native);
    assert_eq!(adapter.read(&native), form);
    let Some((name, json)) = event.normal_form() else {
        assert_eq!(form, None);
        return None;
    };
    let form = form.unwrap();
    assert_eq!(name, adapter.name());
    assert!(json.len() <= MAX_NORMALISED_BYTES);
    assert_eq!(form.received_at, None);
    assert!(adapter == Adapter::Event || form.other.is_empty());

    let read = NormalEvent::parse_written(json).unwrap();
    assert_eq!(read.clone().into_json(), json);
    if read.omitted == form.omitted {
        assert_eq!(read, form);
    }

    let mut annotations = Annotations::new(event, &Submitter::anonymous());
    assert_eq!(
        Annotations::decode_canonical(&annotations.encode()).unwrap(),
        annotations
    );
    let differences =
        |annotations: &Annotations| differences(annotations, event.attributes(), event.data()).unwrap();
    assert_eq!(differences(&annotations), []);
    annotations.normalised.push(b' ');
    assert_ne!(differences(&annotations), []);

    check_index(&read, json);
    check_cdevent(&read, event.source());
    Some(read)
}

/// A form is found by what it says.
fn check_index(form: &NormalEvent, json: &[u8]) {
    let keys = IndexKey::of_normal_form(json);
    let has = |attribute, value: &Option<Text>| {
        if let Some(value) = value {
            assert!(keys.contains(&IndexKey::new(attribute, value)), "{value}");
        }
    };
    has(IndexAttribute::Repository, &form.repo.full_name);
    has(IndexAttribute::Run, &form.run.id);
    has(IndexAttribute::Actor, &form.actor.login);
    has(IndexAttribute::Environment, &form.deployment.environment);
    let is_commit = |id: &&Text| id.bytes().any(|byte| byte != b'0');
    has(
        IndexAttribute::Commit,
        &form.commit.as_ref().filter(is_commit).cloned(),
    );
    for artifact in form.artifacts.iter().take(MAX_LIST_ITEMS) {
        has(IndexAttribute::Artifact, &artifact.digest);
    }
}

/// What serde_json sees at a path of a body: a text that says something. `None` also where its own tree can't be made.
fn seen(body: &Value, path: &str) -> Option<Text> {
    Text::cut(body.pointer(path)?.as_str()?)
}

/// The same body after each of the lines.
fn with_heads(heads: &[&str], body: &Value) -> Vec<Vec<u8>> {
    let seed = |head: &&str| format!("{head}\n\n{body}").into_bytes();
    heads.iter().map(seed).collect()
}

const ACCOUNT: &str = r#"{"id":7,"login":"octo","type":"User"}"#;

/// A body with all that the adapters of GitHub's and Gitea's webhooks look for, but for those members that differ from event to event.
fn hub_body(action: &str) -> Value {
    let account: Value = serde_json::from_str(ACCOUNT).unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let time = "2026-11-22T09:30:00Z";
    let pull_request = json!({
        "number": 17, "merged": true, "merge_commit_sha": commit, "created_at": time, "updated_at": time, "closed_at": time,
        "merged_at": time, "user": account, "head": {"ref": "topic", "sha": commit}, "base": {"ref": "main", "sha": commit},
    });
    let run = json!({
        "id": 4, "name": "build", "status": "completed", "conclusion": "success", "run_number": 2, "run_attempt": 1,
        "workflow_id": 3, "path": ".github/workflows/ci.yml", "event": "push", "head_sha": commit, "head_branch": "main",
        "run_id": 4, "runner_name": "r1", "actor": account, "triggering_actor": account, "pull_requests": [pull_request],
        "started_at": time, "completed_at": time, "created_at": time, "updated_at": time, "run_started_at": time,
        "head_repository": {"id": 1}, "app": {"slug": "checks"}, "check_suite": {"id": 5}, "deployment": {"id": 6},
    });
    json!({
        "action": action, "number": 17, "id": 9, "ref": "refs/heads/main", "before": commit, "after": commit, "forced": false,
        "sha": commit, "state": "success", "context": "ci/build", "created_at": time, "updated_at": time, "since": time,
        "environment": "production", "deployment_callback_url": "https://git.example/callback", "hook_id": 12, "comment": "ok",
        "repository": {"id": 1, "full_name": "acme/widgets", "pushed_at": 1_795_340_000, "visibility": "private", "private": true,
            "name": "widgets", "permissions": {"admin": false, "pull": true},
            "owner": account, "created_at": time, "updated_at": time},
        "sender": account, "organization": {"id": 2, "login": "acme"}, "head_commit": {"id": commit, "timestamp": time},
        "commits": [{"id": commit, "timestamp": time}], "pull_request": pull_request,
        "review": {"id": 8, "state": "approved", "commit_id": commit, "author_association": "MEMBER", "submitted_at": time},
        "workflow_run": run, "workflow_job": run, "check_run": run, "check_suite": run, "workflow": {"path": "ci.yml"},
        "deployment": {"id": 6, "sha": commit, "ref": "main", "environment": "production", "created_at": time},
        "deployment_status": {"state": "success", "environment": "production", "created_at": time},
        "reviewers": [{"type": "User", "reviewer": account}, {"type": "Team", "reviewer": {"id": 3, "slug": "release"}}],
        "workflow_job_runs": [{"id": 4, "environment": "production"}],
        "approver": account, "member": account, "membership": {"role": "admin", "user": account},
        "team": {"id": 3, "name": "release", "permission": "push"}, "key": {"id": 4, "title": "deploy", "read_only": true},
        "release": {"tag_name": "v1", "name": "one", "published_at": time, "assets": [{"name": "a.tgz", "digest": "sha256:5a"}]},
        "package": {"id": 1, "name": "widgets", "type": "container", "version": format!("sha256:{}", "5a".repeat(32)), "owner": account,
            "package_version": {"version": "sha256:5a", "container_metadata": {"tag": {"name": "v1", "digest": "sha256:6b"}},
            "package_files": [{"name": "a", "sha256": "5a"}]}},
        "registry_package": {"id": 1, "name": "@acme/widgets", "package_type": "npm", "package_version": {"version": "1.2.3"}},
        "rule": {"id": 1, "name": "main", "allow_force_pushes": false, "updated_at": time, "contexts": ["a"]},
        "repository_ruleset": {"id": 2, "name": "all", "enforcement": "active"},
        "changes": {"permission": {"from": "read", "to": "write"}, "repository": {"name": {"from": "old"}}, "enforcement": {"from": "off"}},
        "alert": {"number": 3, "secret_type": "token", "resolution": "revoked", "created_at": time, "resolved_at": time},
        "run": {"id": 4, "index_in_repo": 2, "workflow_id": "ci.yml", "event": "push", "prettyref": "main", "commit_sha": commit,
            "status": "cancelled", "stopped": time, "trigger_user": account, "repository": {"id": 1, "full_name": "acme/widgets"}},
    })
}

const HUB_WORDS: &[&str] = &[
    HEAD[0],
    HEAD[1],
    HEAD[2],
    HEAD[3],
    "push",
    "pull_request",
    "pull_request_review",
    "workflow_run",
    "workflow_job",
    "check_run",
    "deployment_status",
    "deployment_review",
    "release",
    "registry_package",
    "package",
    "branch_protection_rule",
    "repository_ruleset",
    "member",
    "team",
    "repository",
    "secret_scanning_alert",
    "action_run_failure",
    "{\"action\":\"completed\"",
    "\"edited\"",
    "\"changes\":{",
    "\"from\":",
    "\"to\":",
    "\"sender\":{",
    "\"login\":",
    "\"full_name\":",
    "\"id\":",
    "\"conclusion\":",
    "null",
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "[",
    "]",
    "{",
    "}",
    ",",
];

pub(super) const GITHUB: Target = Target {
    name: "github",
    about: "GitHub's webhooks for their normal form: lines of `name: value`, an empty line, the body",
    seeds: github_seeds,
    words: HUB_WORDS,
    max_bytes: 40 << 10,
    run: github,
};

fn github_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        ("push", ""),
        ("pull_request", "closed"),
        ("pull_request_review", "submitted"),
        ("workflow_run", "completed"),
        ("workflow_job", "in_progress"),
        ("check_run", "completed"),
        ("check_suite", "requested"),
        ("status", ""),
        ("deployment", "created"),
        ("deployment_status", "created"),
        ("deployment_review", "approved"),
        ("deployment_protection_rule", "requested"),
        ("release", "published"),
        ("registry_package", "published"),
        ("package", "published"),
        ("branch_protection_rule", "edited"),
        ("branch_protection_rule", "created"),
        ("repository_ruleset", "edited"),
        ("member", "edited"),
        ("membership", "removed"),
        ("organization", "member_added"),
        ("team", "added_to_repository"),
        ("deploy_key", "created"),
        ("repository", "transferred"),
        ("repository", "renamed"),
        ("secret_scanning_alert", "resolved"),
        ("ping", ""),
        ("fork", "x"),
    ];
    let seeds = seeds.iter().flat_map(|(event, action)| {
        with_heads(
            &[&format!("nativeevent: {event}\nhookid: 12\nhost: github.com")],
            &hub_body(action),
        )
    });
    seeds
        .chain([b"nativeevent: push\n\n[]".to_vec(), b"\n\n{}".to_vec()])
        .collect()
}

/// A form; and in it the repository, the action and who sent it, as serde_json sees them in the body.
fn github(input: &[u8]) {
    let Some((event, form)) = named(Adapter::GitHub, input) else {
        return;
    };
    let Ok(body) = serde_json::from_slice::<Value>(event.data()) else {
        return;
    };
    assert_eq!(form.repo.full_name, seen(&body, "/repository/full_name"));
    assert_eq!(form.source.native_action, seen(&body, "/action"));
    let native = event.extensions().get("nativeevent").map_or("", String::as_str);
    if !matches!(
        native,
        "workflow_run" | "deployment_review" | "deployment_protection_rule"
    ) {
        assert_eq!(form.actor.login, seen(&body, "/sender/login"));
    }
}

/// The event of an input, named by its adapter, with the form.
fn named(adapter: Adapter, input: &[u8]) -> Option<(Event, NormalEvent)> {
    let (head, body) = head_and_body(input);
    let event = event_of(head, body.to_vec(), parts("unnamed", "application/json"))?;
    let event = named_by(adapter, event);
    let form = check_form(adapter, &event)?;
    assert_eq!(event.event_type(), form.event_type.as_str());
    Some((event, form))
}

pub(super) const GITEA: Target = Target {
    name: "gitea",
    about: "webhooks of Gitea and Forgejo for their normal form: lines of `name: value`, an empty line, the body",
    seeds: gitea_seeds,
    words: HUB_WORDS,
    max_bytes: 40 << 10,
    run: gitea,
};

fn gitea_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        ("push", ""),
        ("pull_request", "closed"),
        ("pull_request_approved", "reviewed"),
        ("pull_request_review_rejected", ""),
        ("status", ""),
        ("workflow_run", "completed"),
        ("workflow_job", "queued"),
        ("action_run_failure", ""),
        ("release", "published"),
        ("package", "created"),
        ("repository", "created"),
        ("fork", ""),
    ];
    let seeds = seeds.iter().flat_map(|(event, action)| {
        with_heads(
            &[&format!("nativeevent: {event}\nhost: git.example")],
            &hub_body(action),
        )
    });
    seeds.chain([b"nativeevent: push\n\nnull".to_vec()]).collect()
}

/// A form; and in it the repository and the action, as serde_json sees them in the body.
fn gitea(input: &[u8]) {
    let Some((event, form)) = named(Adapter::Gitea, input) else {
        return;
    };
    let Ok(body) = serde_json::from_slice::<Value>(event.data()) else {
        return;
    };
    if let Some(repository) = seen(&body, "/repository/full_name") {
        assert_eq!(form.repo.full_name, Some(repository));
    }
    assert_eq!(form.source.native_action, seen(&body, "/action"));
}

pub(super) const GITLAB: Target = Target {
    name: "gitlab",
    about: "GitLab's webhooks for their normal form: lines of `name: value`, an empty line, the body",
    seeds: gitlab_seeds,
    words: &[
        HEAD[0],
        HEAD[1],
        HEAD[2],
        HEAD[3],
        "{\"object_kind\":\"push\"",
        "\"event_name\":",
        "merge_request",
        "pipeline",
        "build",
        "deployment",
        "release",
        "note",
        "user_add_to_group",
        "key_create",
        "project_rename",
        "\"object_attributes\":{",
        "\"status\":\"success\"",
        "\"action\":\"merge\"",
        "\"iid\":",
        "\"path_with_namespace\":",
        "\"commit_url\":\"https://git.example/-/commit/",
        "null",
        "\\u0000",
        "\\ud800",
    ],
    max_bytes: 40 << 10,
    run: gitlab,
};

fn gitlab_seeds() -> Vec<Vec<u8>> {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let time = "2026-11-22 09:30:00 UTC";
    let body = |kind: &str, action: &str| {
        json!({
            "object_kind": kind, "before": commit, "after": commit, "ref": "refs/heads/main", "ref_protected": true, "checkout_sha": commit,
            "sha": commit, "tag": "v1", "user_id": 7, "user_username": "octo", "project_id": 1, "name": "one", "released_at": time,
            "build_id": 4, "build_name": "test", "build_status": "success", "build_finished_at": "2026-11-22 10:30:00 +0100",
            "pipeline_id": 5, "status": "success", "status_changed_at": time, "deployment_id": 6, "deployable_id": 4,
            "commit_url": format!("https://git.example/acme/widgets/-/commit/{commit}"),
            "environment": if kind == "build" { json!({"name": "production"}) } else { json!("production") },
            "user": {"id": 7, "username": "octo"}, "project": {"id": 1, "path_with_namespace": "acme/widgets"},
            "object_attributes": {
                "id": 8, "iid": 17, "action": action, "state": "merged", "status": "success", "author_id": 7, "target_branch": "main",
                "merge_commit_sha": commit, "sha": commit, "source": "push", "ref": "main", "tag": false, "name": "nightly",
                "created_at": time, "updated_at": time, "finished_at": time, "last_commit": {"id": commit, "timestamp": "2026-11-22T09:30:00+00:00"},
            },
            "merge_request": {"iid": 17, "author_id": 7, "target_branch": "main", "last_commit": {"id": commit}},
            "commit": {"id": commit, "sha": commit}, "commits": [{"id": commit, "timestamp": "2026-11-22T09:30:00+00:00"}],
            "runner": {"id": 3, "description": "r1"}, "assets": {"links": [{"name": "a.tgz"}]},
        })
    };
    let kinds = [
        ("push", ""),
        ("tag_push", ""),
        ("merge_request", "merge"),
        ("merge_request", ""),
        ("merge_request", "approved"),
        ("pipeline", ""),
        ("build", ""),
        ("deployment", ""),
        ("release", "create"),
        ("note", ""),
        ("issue", "close"),
    ];
    let administration = json!({
        "event_name": "user_update_for_group", "group_id": 2, "group_path": "acme", "user_id": 7, "user_username": "octo",
        "group_access": "Owner", "created_at": time, "updated_at": time, "path_with_namespace": "acme/widgets",
        "old_path_with_namespace": "acme/old", "project_visibility": "private", "key": "ssh-ed25519 AAAA", "username": "octo", "id": 4,
    });
    let administered = [
        "user_add_to_group",
        "user_remove_from_team",
        "key_create",
        "key_destroy",
        "project_rename",
        "group_create",
    ];
    let administered = administered.map(|name| {
        let mut body = administration.clone();
        body["event_name"] = name.into();
        body
    });
    let bodies = kinds
        .map(|(kind, action)| body(kind, action))
        .into_iter()
        .chain(administered);
    let seeds = bodies.flat_map(|body| with_heads(&["nativeevent: System Hook\nhost: git.example"], &body));
    seeds
        .chain(with_heads(
            &["nativeevent: Tag Push Hook", "nativeevent: Job Hook"],
            &json!({"ref": "main"}),
        ))
        .collect()
}

/// A form; and in it the repository, as serde_json sees it in the body, whose word for its kind counts before the header's.
fn gitlab(input: &[u8]) {
    let Some((event, form)) = named(Adapter::GitLab, input) else {
        return;
    };
    let Ok(body) = serde_json::from_slice::<Value>(event.data()) else {
        return;
    };
    if let Some(repository) = seen(&body, "/project/path_with_namespace") {
        assert_eq!(form.repo.full_name, Some(repository));
    }
    if seen(&body, "/object_kind").is_some_and(|kind| &*kind == "push") {
        assert_eq!(form.event_type, Word::ScmPush.into());
    }
}

pub(super) const GITHUB_AUDIT: Target = Target {
    name: "github_audit",
    about: "documents of GitHub's audit log for their normal form",
    seeds: github_audit_seeds,
    words: &[
        "{\"action\":\"protected_branch.destroy\"",
        "\"actor\":",
        "\"user\":",
        "\"repo\":",
        "\"org\":",
        "\"business\":",
        "\"@timestamp\":1795340000123",
        "\"created_at\":",
        "workflows.completed_workflow_run",
        "\"conclusion\":",
        "\"pull_request_url\":",
        "repo.create_actions_secret",
        "org.add_member",
        "null",
        "\\u0000",
    ],
    max_bytes: 16 << 10,
    run: github_audit,
};

fn github_audit_seeds() -> Vec<Vec<u8>> {
    let document = |action: &str| {
        json!({
            "action": action, "actor": "octo", "actor_id": 7, "actor_is_bot": false, "user": "other", "user_id": 8, "org": "acme", "org_id": 2,
            "business": "big", "repo": "acme/widgets", "repo_id": 1, "@timestamp": 1_795_340_000_123_u64, "created_at": 1_795_340_000_000_u64,
            "head_sha": "0123456789abcdef0123456789abcdef01234567", "head_branch": "main", "conclusion": "timed_out",
            "environment_name": "production", "workflow_run_id": 4, "run_number": 2, "run_attempt": 1, "job_name": "test",
            "pull_request_url": "https://github.com/acme/widgets/pull/17", "permission": "admin", "old_permission": "read", "key": "TOKEN",
            "visibility": "public", "previous_visibility": "private", "name": "main", "team": "acme/release", "_document_id": "abc",
        })
    };
    [
        "git.push",
        "pull_request.merge",
        "workflows.completed_workflow_run",
        "workflows.reject_workflow_job",
        "protected_branch.destroy",
        "org.add_member",
        "repo.remove_actions_secret",
        "team.update_repository_permission",
        "repo.access",
        "secret_scanning_alert.create",
        "x",
    ]
    .into_iter()
    .flat_map(|action| with_heads(&["id: abc"], &document(action)))
    .collect()
}

/// A form; and in it actor and repository, as serde_json sees them in the document.
fn github_audit(input: &[u8]) {
    let Some((event, form)) = named(Adapter::GitHubAudit, input) else {
        return;
    };
    let Ok(document) = serde_json::from_slice::<Value>(event.data()) else {
        return;
    };
    assert_eq!(form.actor.login, seen(&document, "/actor"));
    assert_eq!(
        form.repo.full_name,
        seen(&document, "/repo").or_else(|| seen(&document, "/repository"))
    );
    assert_eq!(
        form.org.login,
        seen(&document, "/org").or_else(|| seen(&document, "/business"))
    );
}

/// The event of an input that its submitter named, with its form if there is one. What it says of itself stays as it was.
fn kept(adapter: Adapter, head: &[u8], data: Vec<u8>, defaults: EventParts) -> Option<(Event, NormalEvent)> {
    let sent = event_of(head, data, defaults)?;
    let event = submitted(sent.clone()).ok()?;
    assert_eq!(
        (event.attributes(), event.data()),
        (sent.attributes(), sent.data())
    );
    // What comes under another media type is for another adapter, or for none.
    let (name, _) = event.normal_form()?;
    if name != adapter.name() {
        return None;
    }
    let form = check_form(adapter, &event)?;
    Some((event, form))
}

pub(super) const EVENT: Target = Target {
    name: "event",
    about: "normalised events as payloads: lines of `name: value`, an empty line, JSON",
    seeds: event_seeds,
    words: &[
        HEAD[4],
        HEAD[5],
        HEAD[6],
        "\"id\":\"1\"",
        "\"type\":\"ci.run.finished\"",
        "\"outcome\":\"success\"",
        "\"occurred_at\":\"2026-11-22T09:30:00Z\"",
        "\"received_at\":",
        "\"repo\":{\"full_name\":\"acme/widgets\"}",
        "\"commits\":[",
        "\"config_change\":[{",
        "\"from\":",
        "\"decision\":{\"reviewers\":[",
        "\"omitted\":[{\"path\":\"commits\",\"count\":1}]",
        "9007199254740992",
        "null",
        "\"mine\":{\"a\":[1]}",
        "\\u0000",
    ],
    max_bytes: 66 << 10,
    run: event,
};

fn event_seeds() -> Vec<Vec<u8>> {
    let bodies = super::normal::seeds().into_iter();
    let mut seeds: Vec<Vec<u8>> = bodies
        .map(|body| {
            [
                b"type: ci.run.finished\nid: run-42\ntime: 2026-11-22T09:30:00Z\n\n",
                &body[..],
            ]
            .concat()
        })
        .collect();
    seeds.push(b"type: github.fork\n\n{\"mine\":1}".to_vec());
    seeds.push(b"\n\n{\"received_at\":\"2026-11-22T09:30:00Z\",\"actor\":{\"login\":7}}".to_vec());
    seeds
}

/// The form has the event's own id and type, and every member that was sent.
fn event(input: &[u8]) {
    let (head, body) = head_and_body(input);
    let defaults = parts("ci.run.finished", normal::MEDIA_TYPE);
    let Some((event, form)) = kept(Adapter::Event, head, body.to_vec(), defaults) else {
        return;
    };
    assert_eq!(
        (&*form.id, form.event_type.as_str()),
        (event.id(), event.event_type())
    );
    let sent = serde_json::from_slice(body).unwrap();
    super::normal::check_kept(&sent, &form);
}

pub(super) const GIT: Target = Target {
    name: "git",
    about: "commits and tags of git: lines of `name: value`, an empty line, then the object with its header",
    seeds: git_seeds,
    words: &[
        HEAD[5],
        HEAD[7],
        "scm.commit",
        "scm.merge",
        "scm.tag",
        "text/plain",
        "commit 120\0",
        "tag 120\0",
        "tree ",
        "parent ",
        "object ",
        "type commit\n",
        "tag v1\n",
        "author A <a@example> ",
        "committer B <b@example> 1795340000 +0130\n",
        "tagger ",
        "\n\n",
        " refs/tags/v1\n",
    ],
    max_bytes: 16 << 10,
    run: git,
};

fn git_seeds() -> Vec<Vec<u8>> {
    let id = "0123456789abcdef0123456789abcdef01234567";
    let people = "author A <a@example> 1795340000 +0000\ncommitter B <b@example> 1795340000 -0130\n";
    let object = |kind: &str, content: String| format!("{kind} {}\0{content}", content.len());
    let commit = object("commit", format!("tree {id}\nparent {id}\n{people}\nMessage\n"));
    let merge = object(
        "commit",
        format!("tree {id}\nparent {id}\nparent {id}\n{people}gpgsig -----BEGIN\n x\n\nMessage\n"),
    );
    let tag = object(
        "tag",
        format!("object {id}\ntype commit\ntag v1\ntagger A <a@example> 1795340000 +0000\n\nOne\n"),
    );
    [
        format!("type: scm.commit\n\n{commit}"),
        format!("type: scm.merge\n\n{merge}"),
        format!("type: scm.tag\n\n{tag}"),
        format!("type: scm.tag\nmedia: text/plain\n\n{id} refs/tags/v1\n"),
        format!("type: scm.commit\nid: {id}\n\n{commit}"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Of a commit the form names the hash, and nothing that is not by its hash's name has a form.
fn git(input: &[u8]) {
    let (head, body) = head_and_body(input);
    let ids = [hex::encode(Sha1::digest(body)), hex::encode(Sha256::digest(body))];
    for id in &ids {
        let mut defaults = parts("scm.commit", "application/x-git-object");
        defaults.id.clone_from(id);
        let Some((event, form)) = kept(Adapter::Git, head, body.to_vec(), defaults) else {
            continue;
        };
        assert_eq!(form.event_type.as_str(), event.event_type());
        if is_media_type(event.data_content_type(), "text/plain") {
            assert!(
                text(body)
                    .unwrap()
                    .starts_with(&**form.reference.after.as_ref().unwrap())
            );
            continue;
        }
        assert!(ids.iter().any(|id| id == event.id()), "the object has its name");
        match form.event_type {
            EventType::Word(Word::ScmTag) => assert_eq!(form.reference.after.as_deref(), Some(event.id())),
            _ => assert_eq!(form.commit.as_deref(), Some(event.id())),
        }
    }
}

pub(super) const CDEVENTS: Target = Target {
    name: "cdevents",
    about: "CDEvents: lines of `name: value`, an empty line, JSON",
    seeds: cdevents_seeds,
    words: &[
        HEAD[5],
        HEAD[7],
        "dev.cdevents.pipelinerun.finished.0.2.0",
        "\"context\":{\"type\":\"dev.cdevents.",
        "\"subject\":{\"id\":",
        "\"content\":{",
        "\"outcome\":",
        "\"artifactId\":\"pkg:oci/widgets@sha256%3A",
        "\"environment\":{\"id\":",
        "\"pipelineRun\":{\"id\":",
        "\"change\":{\"id\":",
        "%ff",
        "null",
    ],
    max_bytes: 32 << 10,
    run: cdevents,
};

fn cdevents_seeds() -> Vec<Vec<u8>> {
    let content = json!({
        "outcome": "failure", "name": "widgets", "owner": "acme", "user": "octo", "pipelineName": "deploy", "taskName": "test",
        "artifactId": format!("pkg:oci/widgets@sha256%3A{}?tag=v1", "5a".repeat(32)), "pipelineRun": {"id": "run-42"},
        "testCase": {"id": "c", "name": "case"}, "testSuite": {"id": "s"}, "environment": {"id": "production", "name": "prod"},
        "service": {"id": "web"}, "repository": {"id": "acme/widgets", "name": "widgets"}, "change": {"id": "17", "source": "acme/widgets"},
        "trigger": {"type": "push"}, "url": "https://ci.example/42",
    });
    [
        "pipelinerun.finished.0.2.0", "taskrun.started.0.2.0", "build.queued.0.2.0", "testsuiterun.finished.0.2.0", "testcaserun.skipped.0.1.0",
        "change.merged.0.2.0", "branch.created.0.2.0", "repository.modified.0.2.0", "artifact.published.0.2.0", "service.deployed.0.2.0",
        "environment.created.0.2.0", "incident.detected.0.2.0", "x.y",
    ]
    .into_iter()
    .flat_map(|kind| {
        let event_type = format!("dev.cdevents.{kind}");
        let event = json!({
            "context": {"version": "0.4.1", "id": "1", "source": "https://ci.example", "type": event_type, "timestamp": "2026-11-22T09:30:00Z"},
            "subject": {"id": "0123456789abcdef0123456789abcdef01234567", "source": "s", "content": content},
        });
        with_heads(&[&format!("type: {event_type}")], &event)
    })
    .collect()
}

/// The form is of the type that both the CloudEvent and the CDEvent say, as serde_json sees it.
fn cdevents(input: &[u8]) {
    let (head, body) = head_and_body(input);
    let defaults = parts("dev.cdevents.pipelinerun.finished.0.2.0", "application/json");
    let Some((event, form)) = kept(Adapter::CdEvents, head, body.to_vec(), defaults) else {
        return;
    };
    assert_eq!(form.source.native_event.as_deref(), Some(event.event_type()));
    let Ok(sent) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    assert_eq!(seen(&sent, "/context/type").as_deref(), Some(event.event_type()));
    if event.event_type().starts_with("dev.cdevents.pipelinerun.") {
        assert_eq!(form.run.id, seen(&sent, "/subject/id"));
    }
}

pub(super) const IN_TOTO: Target = Target {
    name: "in_toto",
    about: "in-toto statements, which are put into an envelope: lines of `name: value`, an empty line, JSON",
    seeds: in_toto_seeds,
    words: &[
        HEAD[5],
        "\"_type\":\"https://in-toto.io/Statement/v1\"",
        "\"subject\":[{\"name\":",
        "\"uri\":\"pkg:",
        "\"digest\":{\"sha256\":\"5a\"}",
        "\"predicateType\":\"https://slsa.dev/provenance/v1\"",
        "\"predicate\":{",
        "\"buildDefinition\":{\"resolvedDependencies\":[{\"uri\":\"git+https://git.example/acme/widgets@main\"",
        "\"runDetails\":{\"builder\":{\"id\":",
        "\"metadata\":{\"invocationId\":",
        "\"materials\":[",
        "\"verificationResult\":\"FAILED\"",
        "\"Subject\":",
        "null",
        "\\u0073",
        "\\u017f",
    ],
    max_bytes: 32 << 10,
    run: in_toto,
};

fn in_toto_seeds() -> Vec<Vec<u8>> {
    let digest = "5a".repeat(32);
    let statement = |version: &str, predicate_type: &str, predicate: Value| {
        json!({
            "_type": format!("https://in-toto.io/Statement/{version}"),
            "subject": [{"name": "widgets.tgz", "digest": {"sha256": digest, "sha512": "6b"}}, {"uri": "pkg:npm/widgets@1", "digest": {"sha1": "7c"}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        })
    };
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let now = json!({
        "buildDefinition": {"externalParameters": {"a": "b", "A": "c"}, "resolvedDependencies": [{"uri": "git+https://git.example/acme/widgets.git@refs/heads/main", "digest": {"gitCommit": commit}}]},
        "runDetails": {"builder": {"id": "https://ci.example/builder"}, "metadata": {"invocationId": "run-42", "finishedOn": "2026-11-22T09:30:00Z"}},
    });
    let before = json!({
        "builder": {"id": "b"}, "materials": [{"uri": "git+https://git.example/acme/widgets", "digest": {"sha1": commit}}],
        "metadata": {"buildInvocationId": "run-41", "buildFinishedOn": "2026-11-22T09:30:00Z"},
    });
    let statements = [
        statement("v1", "https://slsa.dev/provenance/v1", now),
        statement("v0.1", "https://slsa.dev/provenance/v0.2", before),
        statement(
            "v1",
            "https://slsa.dev/verification_summary/v1",
            json!({"verificationResult": "FAILED"}),
        ),
        statement("v1", "https://spdx.dev/Document", Value::Null),
        statement("v2", "x", json!([])),
    ];
    let mut seeds: Vec<_> = statements
        .iter()
        .flat_map(|it| with_heads(&["type: artifact.built"], it))
        .collect();
    let twice = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{"builder":{"id":"a"},"builder":{"id":"b"}}}"#;
    seeds.push(format!("type: artifact.built\n\n{twice}").into_bytes());
    seeds
}

/// Every digest of every subject is an artifact, in order, whichever of two members a reader would have taken; and nothing is read that
/// is not there once.
fn in_toto(input: &[u8]) {
    let (head, statement) = head_and_body(input);
    let envelope = json!({
        "payloadType": dsse::STATEMENT_TYPE,
        "payload": BASE64_STANDARD.encode(statement),
        "signatures": [{ "sig": "AA==" }],
    });
    let defaults = parts("artifact.built", dsse::MEDIA_TYPE);
    let Some((_, form)) = kept(Adapter::InToto, head, envelope.to_string().into_bytes(), defaults) else {
        return;
    };
    let last: Value = serde_json::from_slice(statement).unwrap();
    let first = super::dsse::first_members(statement).unwrap();
    assert_eq!(first, last);
    assert_eq!(form.source.native_event, seen(&last, "/predicateType"));
    let subjects = last["subject"].as_array().unwrap().iter();
    let digests = subjects.flat_map(|subject| super::dsse::members(&subject["digest"]));
    let digests: Vec<_> = digests
        .map(|(algorithm, digest)| format!("{algorithm}:{}", digest.as_str().unwrap()))
        .collect();
    let count = |omitted: &normal::Omitted| omitted.count.get();
    let omitted: u64 = form.omitted.iter().map(count).sum();
    assert_eq!(form.artifacts.len() as u64 + omitted, digests.len() as u64);
    if omitted == 0 {
        let mut expected: Vec<_> = digests.iter().map(|digest| Text::cut(digest)).collect();
        let mut artifacts: Vec<_> = form
            .artifacts
            .iter()
            .map(|artifact| artifact.digest.clone())
            .collect();
        // serde_json's tree has members in an order of its own.
        expected.sort();
        artifacts.sort();
        assert_eq!(artifacts, expected);
    }
}
