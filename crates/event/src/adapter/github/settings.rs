//! Settings: of rules, members, teams, keys and repositories.

use super::Stamps;
use crate::{
    adapter::{
        fill::setting,
        hub::{Account, Body},
        json::{self, Leaf, List},
    },
    normal::{NormalEvent, Setting},
};

/// Settings that are no settings: what they belong to, when, and where else to look.
const NO_SETTINGS: [&str; 8] = [
    "id",
    "node_id",
    "repository_id",
    "created_at",
    "updated_at",
    "url",
    "_links",
    "source",
];

json::objects! {
    /// What changed, as it is now.
    Now { team, repository }
    Permissions { permissions }
    FromTo { from, to }
    Lists { added: List<Leaf<'a>>, deleted: List<Leaf<'a>>, updated: List<Leaf<'a>> }
    OwnerChange { owner: Owner<'a> }
    Owner { from: OwnerBefore<'a> }
    OwnerBefore { user: Account<'a>, organization: Account<'a> }
}

/// The settings that an event tells of.
pub(super) fn settings(event: &str, action: &str, body: &Body<'_>, data: &[u8], form: &mut NormalEvent) {
    match event {
        "branch_protection_rule" => rule("rule", action, body.rule, body, form),
        "repository_ruleset" => rule("ruleset", action, body.repository_ruleset, body, form),
        "member" | "membership" | "organization" => {
            let account = match event {
                "organization" => &body.membership.user,
                _ => &body.member,
            };
            named(
                form,
                action,
                &[("member.login", account.login), ("member.id", account.id)],
            );
            named(
                form,
                action,
                &[("team.name", body.team.name), ("team.id", body.team.id)],
            );
            named(form, action, &[("member.role", body.membership.role)]);
            changes("", body.changes, Leaf::default(), Leaf::default(), form);
        }
        "team" | "team_add" => team_settings(event, action, body, data, form),
        "deploy_key" => {
            let key = &body.key;
            named(
                form,
                action,
                &[
                    ("key.id", key.id),
                    ("key.title", key.title),
                    ("key.read_only", key.read_only),
                ],
            );
        }
        "repository" | "public" => repository_settings(action, body, data, form),
        "secret_scanning_alert" => {
            let alert = &body.alert;
            let facts = [
                ("alert.number", alert.number),
                ("alert.secret_type", alert.secret_type),
                ("alert.resolution", alert.resolution),
            ];
            named(form, "", &facts);
        }
        _ => {}
    }
}

fn team_settings(event: &str, action: &str, body: &Body<'_>, data: &[u8], form: &mut NormalEvent) {
    let team = &body.team;
    named(
        form,
        action,
        &[
            ("team.name", team.name),
            ("team.id", team.id),
            ("team.permission", team.permission),
        ],
    );
    let Now { team, repository } = json::read(data).unwrap_or_default();
    // Of a removal they are what is left.
    if matches!((event, action), ("team_add", _) | (_, "added_to_repository")) {
        let Permissions { permissions } = repository.read();
        named(form, action, &[("team.repository.permissions", permissions)]);
    }
    changes("team.", body.changes, team, repository, form);
}

fn repository_settings(action: &str, body: &Body<'_>, data: &[u8], form: &mut NormalEvent) {
    let repository = &body.repository;
    let mut switch = |path: &str, is_on: bool| {
        setting(form, path, Some((!is_on).into()), Some(is_on.into()));
    };
    match action {
        "privatized" | "publicized" => switch("repository.private", action == "privatized"),
        "archived" | "unarchived" => switch("repository.archived", action == "archived"),
        "transferred" => {
            let OwnerChange { owner } = body.changes.read();
            let before = owner
                .from
                .user
                .login
                .setting()
                .or_else(|| owner.from.organization.login.setting());
            setting(form, "repository.owner", before, repository.owner.login.setting());
            return;
        }
        "created" | "" => setting(
            form,
            "repository.visibility",
            None,
            repository.visibility.setting(),
        ),
        _ => {}
    }
    let Now { repository, .. } = json::read(data).unwrap_or_default();
    changes("repository.", body.changes, repository, repository, form);
}

/// Settings that are there now; or were, if the action takes away.
fn named(form: &mut NormalEvent, action: &str, settings: &[(&str, Leaf<'_>)]) {
    let is_gone = matches!(
        action,
        "removed" | "deleted" | "member_removed" | "removed_from_repository"
    );
    for (path, value) in settings {
        match is_gone {
            true => setting(form, path, value.setting(), None),
            false => setting(form, path, None, value.setting()),
        }
    }
}

/// A rule: all of it when it comes or goes, and its name and what changed when it changes.
fn rule(prefix: &str, action: &str, rule: Leaf<'_>, body: &Body<'_>, form: &mut NormalEvent) {
    let prefix = format!("{prefix}.");
    if action == "edited" {
        let Stamps { id, name, .. } = rule.read();
        named(
            form,
            action,
            &[(&format!("{prefix}id"), id), (&format!("{prefix}name"), name)],
        );
        changes(&prefix, body.changes, rule, Leaf::default(), form);
        return;
    }
    for (name, value) in rule.members() {
        if name == "id" || !NO_SETTINGS.contains(&name.as_str()) {
            named(form, action, &[(&format!("{prefix}{name}"), value)]);
        }
    }
}

/// `changes`: for each setting what it was, beside what it is by its own word or by that of the object that has it: `now`, or
/// `repository` if it is one of those that are grouped under that name.
fn changes(prefix: &str, changes: Leaf<'_>, now: Leaf<'_>, repository: Leaf<'_>, form: &mut NormalEvent) {
    let (now, repository) = (now.members(), repository.members());
    let changes = changes.members();
    let says_permission = changes
        .iter()
        .any(|(name, change)| name == "permission" && change.read::<FromTo<'_>>().from.is_there());
    for (name, change) in changes {
        let FromTo { from, to } = change.read();
        if from.is_there() || to.is_there() {
            // The one is the other, as GitHub wrote it first.
            let name = match name.as_str() {
                "old_permission" if says_permission => continue,
                "old_permission" => "permission",
                name => name,
            };
            let to = to.setting().or_else(|| member(&now, name));
            setting(form, &format!("{prefix}{name}"), from.setting(), to);
            continue;
        }
        let path = format!("{prefix}{name}");
        let there = match name.as_str() {
            "repository" => repository.as_slice(),
            _ => &[],
        };
        if !list(&path, change, form) && !group(&path, change, there, form) {
            let to = member(&now, &name).or_else(|| change.setting());
            setting(form, &path, None, to);
        }
    }
}

fn member(members: &[(String, Leaf<'_>)], name: &str) -> Option<Setting> {
    let member = members.iter().find(|(other, _)| other == name);
    member.and_then(|(_, value)| value.setting())
}

/// Some say what was taken from a list and put into it. Whether this one does.
fn list(path: &str, change: Leaf<'_>, form: &mut NormalEvent) -> bool {
    let Lists {
        added,
        deleted,
        updated,
    } = change.read();
    if [&added, &deleted, &updated]
        .iter()
        .all(|list| list.items.is_empty())
    {
        return false;
    }
    for item in &deleted.items {
        setting(form, path, item.setting(), None);
    }
    for item in added.items.iter().chain(&updated.items) {
        setting(form, path, None, item.setting());
    }
    form.omit("config_change", deleted.more + added.more + updated.more);
    true
}

/// Some are grouped: `{"repository": {"name": {"from": …}}}`. Whether this one is.
fn group(path: &str, change: Leaf<'_>, now: &[(String, Leaf<'_>)], form: &mut NormalEvent) -> bool {
    let mut is_group = false;
    for (inner, change) in change.members() {
        let FromTo { from, to } = change.read();
        if from.is_there() || to.is_there() {
            is_group = true;
            let to = to.setting().or_else(|| member(now, &inner));
            setting(form, &format!("{path}.{inner}"), from.setting(), to);
        }
    }
    is_group
}
