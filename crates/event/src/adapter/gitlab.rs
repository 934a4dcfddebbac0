//! `gitlab/4`: webhooks of GitLab, of projects, groups and whole instances.
//! <https://docs.gitlab.com/user/project/integrations/webhook_events/>, <https://docs.gitlab.com/administration/system_hooks/>

use super::{
    Native,
    fill::setting,
    json::{self, Leaf, List},
};
use crate::normal::{
    Actor, Artifact, DerivedType, EventType, NormalEvent, Outcome, Setting, Text, Time, Word,
};

const PROVIDER: &str = "gitlab";

json::objects! {
    /// A body of any event.
    Body {
        object_kind, event_name, action, before, after, reference = "ref", reference_protected = "ref_protected",
        checkout_sha, sha, tag, user_id, user_username, project_id, created_at, updated_at,
        // Jobs, whose kind is `build`.
        build_id, build_name, build_status, build_created_at, build_started_at, build_finished_at, pipeline_id,
        // Deployments.
        status, status_changed_at, deployment_id, deployable_id, commit_url, environment,
        // Releases.
        id, name, released_at,
        // Groups, members, keys and projects, of instances too.
        group_id, group_path, full_path, path_with_namespace, project_path_with_namespace, access_level, project_access,
        group_access, username, old_path_with_namespace, visibility = "project_visibility",
        user: Account<'a>,
        project: Project<'a>,
        object_attributes: Attributes<'a>,
        merge_request: MergeRequest<'a>,
        commit: Commit<'a>,
        commits: List<Commit<'a>>,
        runner: Runner<'a>,
        assets: Assets<'a>,
    }
    Account { id, username }
    Project { id, path_with_namespace }
    Commit { id, sha, timestamp }
    Runner { id, description }
    Environment { name }
    /// Of merge requests, pipelines and whatever else has some.
    Attributes {
        id, iid, action, state, status, author_id, target_branch, merge_commit_sha, squash_commit_sha, sha, source,
        reference = "ref", tag, name, created_at, updated_at, finished_at, target: Project<'a>, last_commit: Commit<'a>,
    }
    /// The one that a pipeline or a comment is for.
    MergeRequest { iid, author_id, source_project_id, target_branch, merge_commit_sha, last_commit: Commit<'a> }
    Assets { links: List<AssetLink<'a>> }
    AssetLink { name }
}

pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let body: Body<'_> = json::read(native.data)?;
    let kind = kind(&body, native.event());
    let action = body.object_attributes.action.str();
    let action = if action.is_empty() {
        body.action.str()
    } else {
        action
    };
    let event_type = match word(&kind, &action, &body) {
        Some(word) => EventType::Word(word),
        None => DerivedType::new(PROVIDER, &kind, &action).into(),
    };
    let mut form = native.form(PROVIDER, event_type);
    form.source.native_action = Text::cut(&action);
    form.repo.id = body.project.id.id().or_else(|| body.project_id.id());
    let paths = [
        body.project.path_with_namespace,
        body.object_attributes.target.path_with_namespace,
        body.path_with_namespace,
        body.project_path_with_namespace,
    ];
    form.repo.full_name = paths.into_iter().find_map(Leaf::text);
    form.org.id = body.group_id.id();
    form.org.login = body.group_path.text().or_else(|| body.full_path.text());
    form.actor = Actor {
        id: body.user.id.id(),
        login: body.user.username.text(),
        ..Actor::default()
    };
    match kind.as_str() {
        "push" | "tag_push" => push(&body, &mut form),
        "merge_request" => merge_request(&body, &action, &mut form),
        "pipeline" => pipeline(&body, &mut form),
        "build" => job(&body, &mut form),
        "deployment" => deployment(&body, &mut form),
        "release" => release(&body, &mut form),
        "note" => change(&body.merge_request, &mut form),
        _ => administration(&kind, &body, &mut form),
    }
    form.outcome = outcome(&kind, &action, &body, &form);
    form.occurred_at = occurred_at(&kind, &action, &body);
    Some(form)
}

/// What kind of event it is: the body says, which is what was signed; else the header, such as `Tag Push Hook`.
fn kind(body: &Body<'_>, header: &str) -> String {
    let stated = [body.object_kind.str(), body.event_name.str()];
    if let Some(kind) = stated.into_iter().find(|kind| !kind.is_empty()) {
        return kind.into_owned();
    }
    let name = header.strip_suffix(" Hook").unwrap_or(header);
    match name.to_ascii_lowercase().replace(' ', "_").as_str() {
        "job" => "build".to_owned(),
        kind => kind.to_owned(),
    }
}

fn word(kind: &str, action: &str, body: &Body<'_>) -> Option<Word> {
    Some(match (kind, action) {
        ("push" | "tag_push", _) => Word::ScmPush,
        ("merge_request", "open" | "reopen") => Word::ChangeOpened,
        ("merge_request", "update") => Word::ChangeUpdated,
        ("merge_request", "merge") => Word::ChangeMerged,
        ("merge_request", "close") => Word::ChangeClosed,
        ("merge_request", "approved" | "approval") => Word::ReviewSubmitted,
        ("merge_request", "unapproved" | "unapproval") => Word::ReviewDismissed,
        // Of a request that was changed by an import or an API call there is no action.
        ("merge_request", "") => match &*body.object_attributes.state.str() {
            "merged" => Word::ChangeMerged,
            "closed" => Word::ChangeClosed,
            _ => Word::ChangeUpdated,
        },
        ("pipeline", _) => match phase(&body.object_attributes.status.str())? {
            Phase::Queued => Word::RunQueued,
            Phase::Started => Word::RunStarted,
            Phase::Finished => Word::RunFinished,
        },
        ("build", _) => match phase(&body.build_status.str())? {
            Phase::Queued => Word::JobQueued,
            Phase::Started => Word::JobStarted,
            Phase::Finished => Word::JobFinished,
        },
        ("deployment", _) => match &*body.status.str() {
            "created" | "blocked" => Word::DeployRequested,
            "running" => Word::DeployStarted,
            "success" => Word::DeploySucceeded,
            "failed" | "canceled" | "skipped" => Word::DeployFailed,
            _ => return None,
        },
        ("release", "create") => Word::ArtifactPublished,
        ("release", "delete") => Word::ArtifactDeleted,
        ("user_add_to_group" | "user_add_to_team", _) => Word::MemberAdded,
        ("user_update_for_group" | "user_update_for_team", _) => Word::MemberEdited,
        ("user_remove_from_group" | "user_remove_from_team", _) => Word::MemberRemoved,
        ("group_create" | "subgroup_create", _) => Word::MemberCreated,
        ("group_destroy" | "subgroup_destroy", _) => Word::MemberDeleted,
        ("key_create", _) => Word::KeyCreated,
        ("key_destroy", _) => Word::KeyDeleted,
        ("project_create", _) => Word::RepositoryCreated,
        ("project_destroy", _) => Word::RepositoryDeleted,
        ("project_rename" | "project_transfer" | "project_update", _) => Word::RepositoryEdited,
        _ => return None,
    })
}

enum Phase {
    Queued,
    Started,
    Finished,
}

/// How far a pipeline or job is.
fn phase(status: &str) -> Option<Phase> {
    match status {
        "created"
        | "waiting_for_resource"
        | "waiting_for_callback"
        | "preparing"
        | "pending"
        | "scheduled"
        | "manual" => Some(Phase::Queued),
        "running" | "canceling" => Some(Phase::Started),
        "success" | "failed" | "canceled" | "skipped" => Some(Phase::Finished),
        _ => None,
    }
}

fn ended(status: &str) -> Outcome {
    match status {
        "success" => Outcome::Success,
        "failed" => Outcome::Failure,
        "canceled" => Outcome::Cancelled,
        "skipped" => Outcome::Skipped,
        _ => Outcome::Unknown,
    }
}

fn outcome(kind: &str, action: &str, body: &Body<'_>, form: &NormalEvent) -> Outcome {
    match (kind, action) {
        ("pipeline", _) => return ended(&body.object_attributes.status.str()),
        ("build", _) => return ended(&body.build_status.str()),
        ("deployment", _) => return ended(&body.status.str()),
        _ => {}
    }
    match form.event_type {
        EventType::Word(Word::ChangeOpened | Word::ChangeUpdated) | EventType::Derived(_) => Outcome::Unknown,
        EventType::Word(Word::ChangeClosed | Word::ReviewDismissed) => Outcome::Cancelled,
        // All others tell of what is done.
        EventType::Word(_) => Outcome::Success,
    }
}

/// Whether it tells of what is no longer there. All that such a body says is how it was.
fn is_gone(kind: &str) -> bool {
    kind.ends_with("_destroy") || kind.starts_with("user_remove_from_")
}

fn occurred_at(kind: &str, action: &str, body: &Body<'_>) -> Option<Time> {
    let attributes = &body.object_attributes;
    let times: &[Leaf<'_>] = match kind {
        // Not when it was pushed, but when its newest commit says that it was made.
        "push" | "tag_push" => {
            let newest = body
                .commits
                .items
                .iter()
                .rfind(|commit| commit.id.commit() == body.after.commit());
            return newest.and_then(|commit| commit.timestamp.time());
        }
        // One that is run again has the end of the run before until it ends. Nothing says when it started.
        "pipeline" => match phase(&attributes.status.str()) {
            Some(Phase::Queued) => &[attributes.created_at],
            Some(Phase::Finished) => &[attributes.finished_at],
            Some(Phase::Started) | None => &[],
        },
        "build" => &[
            body.build_finished_at,
            body.build_started_at,
            body.build_created_at,
        ],
        "deployment" => &[body.status_changed_at],
        "release" if action == "create" => &[body.released_at, body.created_at],
        "release" => &[],
        kind if is_gone(kind) => &[],
        _ => &[
            attributes.updated_at,
            attributes.created_at,
            body.updated_at,
            body.created_at,
        ],
    };
    times.iter().find_map(|time| time.time())
}

fn push(body: &Body<'_>, form: &mut NormalEvent) {
    form.actor.id = body.user_id.id();
    form.actor.login = body.user_username.text();
    form.reference.name = body.reference.text();
    form.reference.before = body.before.text();
    form.reference.after = body.after.text();
    form.reference.protected = body.reference_protected.flag();
    // Of an annotated tag, `after` is the tag itself.
    form.commit = body.checkout_sha.commit().or_else(|| body.after.commit());
    form.commits = body
        .commits
        .items
        .iter()
        .filter_map(|commit| commit.id.commit())
        .collect();
    form.omit("commits", body.commits.more);
}

fn merge_request(body: &Body<'_>, action: &str, form: &mut NormalEvent) {
    let attributes = &body.object_attributes;
    let change = &mut form.change;
    change.number = attributes.iid.integer();
    change.author_id = attributes.author_id.id();
    change.head_sha = attributes.last_commit.id.commit();
    change.base_ref = attributes.target_branch.text();
    change.merge_sha = attributes
        .merge_commit_sha
        .commit()
        .or_else(|| attributes.squash_commit_sha.commit());
    form.commit = change.merge_sha.clone().or_else(|| change.head_sha.clone());
    if let "approved" | "approval" | "unapproved" | "unapproval" = action {
        form.review.state = Text::cut(action);
        form.review.commit = form.change.head_sha.clone();
    }
}

/// The merge request that something is for.
fn change(merge_request: &MergeRequest<'_>, form: &mut NormalEvent) {
    form.change.number = merge_request.iid.integer();
    form.change.author_id = merge_request.author_id.id();
    form.change.head_sha = merge_request.last_commit.id.commit();
    form.change.base_ref = merge_request.target_branch.text();
    form.change.merge_sha = merge_request.merge_commit_sha.commit();
    form.commit = form.commit.take().or_else(|| form.change.head_sha.clone());
}

/// The full name of a branch or a tag, or that of a merge request's head, which jobs state in full.
fn reference(name: Leaf<'_>, is_tag: Leaf<'_>) -> Option<Text> {
    let name = name.text()?;
    match is_tag.flag() {
        Some(true) => Text::cut(&format!("refs/tags/{name}")),
        Some(false) if name.starts_with("refs/merge-requests/") => Some(name),
        Some(false) => Text::cut(&format!("refs/heads/{name}")),
        None => Some(name),
    }
}

fn pipeline(body: &Body<'_>, form: &mut NormalEvent) {
    let attributes = &body.object_attributes;
    form.run.id = attributes.id.id();
    form.run.number = attributes.iid.integer();
    form.run.path = attributes.name.text();
    form.run.trigger = attributes.source.text();
    // Of a merge request it is a branch of where that comes from, which may be another project, or one that is gone.
    let is_ours = match body.merge_request.source_project_id.id() {
        Some(source) => Some(source) == form.repo.id,
        None => !body.merge_request.iid.is_there(),
    };
    if is_ours {
        form.reference.name = reference(attributes.reference, attributes.tag);
    }
    form.commit = attributes.sha.commit().or_else(|| body.commit.id.commit());
    change(&body.merge_request, form);
}

fn job(body: &Body<'_>, form: &mut NormalEvent) {
    form.job.id = body.build_id.id();
    form.job.name = body.build_name.text();
    form.job.runner = body.runner.description.text().or_else(|| body.runner.id.id());
    form.run.id = body.pipeline_id.id();
    form.reference.name = reference(body.reference, body.tag);
    form.commit = body.sha.commit().or_else(|| body.commit.sha.commit());
    form.deployment.environment = body.environment.read::<Environment<'_>>().name.text();
}

fn deployment(body: &Body<'_>, form: &mut NormalEvent) {
    form.deployment.id = body.deployment_id.id();
    form.deployment.environment = body.environment.text();
    form.deployment.status = body.status.text();
    form.job.id = body.deployable_id.id();
    form.reference.name = body.reference.text();
    // The commit itself is there in its first digits only.
    let url = body.commit_url.str();
    form.commit = url.rsplit('/').next().and_then(json::commit_id);
}

fn release(body: &Body<'_>, form: &mut NormalEvent) {
    let tag = body.tag.text();
    form.reference.name = tag
        .as_ref()
        .and_then(|tag| Text::cut(&format!("refs/tags/{tag}")));
    form.commit = body.commit.id.commit();
    let named = |name: Option<Text>| Artifact {
        name,
        tag: tag.clone(),
        ..Artifact::default()
    };
    let links = &body.assets.links;
    form.artifacts = links.items.iter().map(|link| named(link.name.text())).collect();
    form.omit("artifacts", links.more);
    if form.artifacts.is_empty() {
        let name = body.name.text().or_else(|| form.repo.full_name.clone());
        form.artifacts.push(named(name));
    }
}

/// Members, keys, groups and projects. Of members the user is the one that it happened to, and nothing says who did it.
fn administration(kind: &str, body: &Body<'_>, form: &mut NormalEvent) {
    let is_of_user = kind.starts_with("user_");
    if !is_of_user && form.actor == Actor::default() {
        form.actor.id = body.user_id.id();
        form.actor.login = body.user_username.text();
    }
    let mut named = |path: &str, before: Option<Setting>, value: Option<Setting>| match is_gone(kind) {
        true => setting(form, path, value, None),
        false => setting(form, path, before, value),
    };
    if is_of_user {
        named("member.login", None, body.user_username.setting());
        named("member.id", None, body.user_id.setting());
        let roles = [body.group_access, body.access_level, body.project_access];
        named("member.role", None, roles.into_iter().find_map(Leaf::setting));
    }
    if body.event_name.str().starts_with("key_") {
        named("key.id", None, body.id.setting());
        named("key.user", None, body.username.setting());
    }
    named(
        "repository.full_name",
        body.old_path_with_namespace.setting(),
        body.path_with_namespace.setting(),
    );
    // What happens to members says how visible their project is, too.
    if body.event_name.str().starts_with("project_") {
        named("repository.visibility", None, body.visibility.setting());
    }
}
