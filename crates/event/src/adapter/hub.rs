//! The bodies of GitHub's webhooks, whose shapes Gitea and Forgejo follow: what is looked at.

use super::json::{List, objects};

objects! {
    /// A body of any event.
    Body {
        action, id, reference = "ref", reference_type = "ref_type", before, after, forced, sha, state, context, created_at,
        updated_at, since, comment, environment, deployment_callback_url, changes, rule, repository_ruleset, hook_id,
        repository: Repository<'a>,
        sender: Account<'a>,
        organization: Account<'a>,
        enterprise: Account<'a>,
        head_commit: Commit<'a>,
        commits: List<Commit<'a>>,
        pull_request: PullRequest<'a>,
        review: Review<'a>,
        workflow: Workflow<'a>,
        workflow_run: WorkflowRun<'a>,
        workflow_job: WorkflowJob<'a>,
        workflow_job_run: WorkflowJobRun<'a>,
        workflow_job_runs: List<WorkflowJobRun<'a>>,
        check_run: CheckRun<'a>,
        check_suite: CheckSuite<'a>,
        deployment: Deployment<'a>,
        deployment_status: DeploymentStatus<'a>,
        reviewers: List<Reviewer<'a>>,
        approver: Account<'a>,
        release: Release<'a>,
        registry_package: Package<'a>,
        package: Package<'a>,
        member: Account<'a>,
        membership: Membership<'a>,
        team: Team<'a>,
        key: Key<'a>,
        alert: Alert<'a>,
        merge_group: MergeGroup<'a>,
        // Forgejo's.
        run: ActionRun<'a>,
    }

    /// Users, programs, organisations and enterprises.
    Account { id, login, kind = "type", slug, name }
    Repository { id, full_name, pushed_at, created_at, updated_at, visibility, private, owner: Account<'a> }
    Commit { id, timestamp }
    PullRequest {
        number, merged, merge_commit_sha, created_at, updated_at, closed_at, merged_at,
        user: Account<'a>, head: Side<'a>, base: Side<'a>,
    }
    /// A branch of a pull request.
    Side { reference = "ref", sha, repo: Repository<'a> }
    Review { id, state, commit_id, author_association, submitted_at, updated_at }
    Workflow { path }
    WorkflowRun {
        id, run_number, run_attempt, workflow_id, path, event, conclusion, head_sha, head_branch, created_at, updated_at,
        run_started_at, actor: Account<'a>, triggering_actor: Account<'a>, head_repository: Repository<'a>,
        pull_requests: List<PullRequest<'a>>,
        // Gitea's.
        started_at, completed_at, trigger_actor: Account<'a>,
    }
    WorkflowJob {
        id, run_id, run_attempt, name, conclusion, head_sha, head_branch, runner_name, created_at, started_at, completed_at,
    }
    WorkflowJobRun { environment }
    CheckRun {
        id, name, status, conclusion, head_sha, started_at, completed_at, check_suite: CheckSuite<'a>, app: Account<'a>,
        pull_requests: List<PullRequest<'a>>, deployment: Deployment<'a>,
    }
    CheckSuite {
        id, conclusion, head_sha, head_branch, updated_at, app: Account<'a>, pull_requests: List<PullRequest<'a>>,
    }
    Deployment { id, sha, reference = "ref", environment, created_at }
    DeploymentStatus { state, environment, created_at }
    /// Somebody who is asked, and what kind of account that is.
    Reviewer { reviewer: Account<'a>, kind = "type" }
    Release { name, tag_name, created_at, updated_at, published_at, assets: List<Asset<'a>> }
    Asset { name, digest }
    /// Of GitHub's registries, and of Gitea's, where the version is the package's own member.
    Package {
        id, name, ecosystem, package_type, kind = "type", version, created_at, updated_at, owner: Account<'a>,
        package_version: PackageVersion<'a>, repository: Repository<'a>,
    }
    PackageVersion {
        version, target_oid, updated_at, package_files: List<PackageFile<'a>>, container_metadata: ContainerMetadata<'a>,
    }
    PackageFile { name, sha256 }
    ContainerMetadata { tag: ContainerTag<'a> }
    ContainerTag { name, digest }
    /// In an organisation.
    Membership { role, user: Account<'a> }
    Team { id, name, permission }
    Key { id, title, read_only, created_at }
    /// Of secrets that were found. What was found is not looked at.
    Alert { number, secret_type, resolution, created_at, updated_at, resolved_at }
    MergeGroup { head_sha }
    ActionRun {
        id, index_in_repo, workflow_id, commit_sha, prettyref, event, status, updated, stopped,
        trigger_user: Account<'a>, repository: Repository<'a>,
    }
}
