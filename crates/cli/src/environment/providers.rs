//! The variables of each CI system, as its documentation names them.

use super::{Environment, Provider, Variables, branch_or_tag, host, repository};

impl Provider {
    pub(super) const ALL: [Self; 7] = [
        // Before GitHub, whose variables it sets too.
        Self::Gitea,
        Self::GitHub,
        Self::GitLab,
        Self::CircleCi,
        Self::Buildkite,
        Self::Azure,
        // Last: it sets no variable of the kind that others set, and its agents may run inside of them.
        Self::Jenkins,
    ];

    /// The name that the normalised event has for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Gitea => "gitea",
            Self::GitLab => "gitlab",
            Self::Jenkins => "jenkins",
            Self::CircleCi => "circleci",
            Self::Buildkite => "buildkite",
            Self::Azure => "azure",
        }
    }

    pub(super) fn is_there(self, variables: &Variables<'_>) -> bool {
        let flag = |name| variables.flag(name) == Some(true);
        match self {
            Self::GitHub => flag("GITHUB_ACTIONS"),
            // Forgejo's runner sets it beside one of its own.
            Self::Gitea => flag("GITEA_ACTIONS"),
            Self::GitLab => flag("GITLAB_CI"),
            Self::CircleCi => flag("CIRCLECI"),
            Self::Buildkite => flag("BUILDKITE"),
            Self::Azure => flag("TF_BUILD"),
            Self::Jenkins => variables.text("JENKINS_URL").is_some(),
        }
    }

    pub(super) fn read(self, variables: &Variables<'_>) -> Environment {
        let environment = match self {
            Self::GitHub | Self::Gitea => github(variables),
            Self::GitLab => gitlab(variables),
            Self::Jenkins => jenkins(variables),
            Self::CircleCi => circleci(variables),
            Self::Buildkite => buildkite(variables),
            Self::Azure => azure(variables),
        };
        Environment {
            provider: Some(self),
            ..environment
        }
    }
}

/// <https://docs.github.com/actions/reference/workflows-and-actions/variables>
fn github(variables: &Variables<'_>) -> Environment {
    let server = variables.url("GITHUB_SERVER_URL");
    let repository = variables.text("GITHUB_REPOSITORY");
    let reference = variables.text("GITHUB_REF");
    Environment {
        host: server.as_deref().and_then(host),
        source: join(server, repository.as_deref()),
        trigger: variables.text("GITHUB_EVENT_NAME"),
        repository_id: variables.text("GITHUB_REPOSITORY_ID"),
        change: reference.as_deref().and_then(pull_request),
        reference,
        reference_protected: variables.flag("GITHUB_REF_PROTECTED"),
        commit: variables.text("GITHUB_SHA"),
        run_id: variables.text("GITHUB_RUN_ID"),
        run_number: variables.number("GITHUB_RUN_NUMBER"),
        run_attempt: variables.number("GITHUB_RUN_ATTEMPT"),
        workflow: variables
            .text("GITHUB_WORKFLOW_REF")
            .and_then(|name| workflow_file(&name, repository.as_deref()))
            .or_else(|| variables.text("GITHUB_WORKFLOW")),
        repository,
        job: variables.text("GITHUB_JOB"),
        runner: variables.text("RUNNER_NAME"),
        actor_id: variables.text("GITHUB_ACTOR_ID"),
        actor: variables.text("GITHUB_ACTOR"),
        triggering_actor: variables.text("GITHUB_TRIGGERING_ACTOR"),
        ..Environment::default()
    }
}

/// `refs/pull/7/merge` is of pull request 7.
fn pull_request(reference: &str) -> Option<u64> {
    let number = reference.strip_prefix("refs/pull/")?.split('/').next()?;
    number.parse().ok()
}

/// `acme/widgets/.github/workflows/ci.yml@refs/heads/main` names the file within the repository.
fn workflow_file(name: &str, repository: Option<&str>) -> Option<String> {
    let file = name
        .strip_prefix(repository?)?
        .strip_prefix('/')?
        .split('@')
        .next()?;
    Some(file.to_owned())
}

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>
fn gitlab(variables: &Variables<'_>) -> Environment {
    let project = variables.text("CI_PROJECT_ID");
    // In pipelines of merge requests there is no CI_COMMIT_BRANCH, and a fork's branch may be called like one of this project.
    let is_own = project.is_some() && project == variables.text("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
    let branch = variables.text("CI_COMMIT_BRANCH").or_else(|| {
        variables
            .text("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
            .filter(|_| is_own)
    });
    Environment {
        host: variables.text("CI_SERVER_HOST"),
        source: variables.url("CI_PROJECT_URL"),
        trigger: variables.text("CI_PIPELINE_SOURCE"),
        repository_id: project,
        repository: variables.text("CI_PROJECT_PATH"),
        reference: branch_or_tag(branch, variables.text("CI_COMMIT_TAG"))
            .or_else(|| variables.text("CI_MERGE_REQUEST_REF_PATH")),
        reference_protected: variables.flag("CI_COMMIT_REF_PROTECTED"),
        commit: variables.text("CI_COMMIT_SHA"),
        change: variables.number("CI_MERGE_REQUEST_IID"),
        run_id: variables.text("CI_PIPELINE_ID"),
        run_number: variables.number("CI_PIPELINE_IID"),
        workflow: variables.text("CI_CONFIG_PATH"),
        job_id: variables.text("CI_JOB_ID"),
        job: variables.text("CI_JOB_NAME"),
        runner: variables.text("CI_RUNNER_ID"),
        actor_id: variables.text("GITLAB_USER_ID"),
        actor: variables.text("GITLAB_USER_LOGIN"),
        deployment_environment: variables.text("CI_ENVIRONMENT_NAME"),
        ..Environment::default()
    }
}

/// <https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables>, with the variables of the Git plugin,
/// of multibranch pipelines and, for the actor, of the plugin `build user vars`.
fn jenkins(variables: &Variables<'_>) -> Environment {
    let address = variables.first(&["GIT_URL", "GIT_URL_1"]);
    let repository = address.as_deref().and_then(repository);
    let jenkins = variables.url("JENKINS_URL");
    let job = variables.text("JOB_NAME");
    let branch = if variables.text("CHANGE_ID").is_some() {
        // BRANCH_NAME and GIT_BRANCH name the change, and a fork's branch may be called like one of this repository.
        variables
            .text("CHANGE_BRANCH")
            .filter(|_| variables.text("CHANGE_FORK").is_none())
    } else {
        // GIT_BRANCH is `origin/main`, or `main` in a multibranch pipeline.
        variables.text("BRANCH_NAME").or_else(|| {
            Some(
                variables
                    .text("GIT_BRANCH")?
                    .trim_start_matches("origin/")
                    .to_owned(),
            )
        })
    };
    Environment {
        host: repository
            .as_ref()
            .map(|(host, _)| host.clone())
            .or_else(|| host(jenkins.as_deref()?)),
        source: join(jenkins, job.as_ref().map(|job| format!("job/{job}")).as_deref()),
        repository: repository.map(|(_, path)| path),
        reference: branch_or_tag(branch, variables.text("TAG_NAME")),
        commit: variables.text("GIT_COMMIT"),
        change: variables.number("CHANGE_ID"),
        run_id: variables.text("BUILD_ID"),
        run_number: variables.number("BUILD_NUMBER"),
        workflow: job,
        job: variables.text("STAGE_NAME"),
        runner: variables.text("NODE_NAME"),
        actor: variables.text("BUILD_USER_ID"),
        ..Environment::default()
    }
}

/// <https://circleci.com/docs/variables/#built-in-environment-variables>
fn circleci(variables: &Variables<'_>) -> Environment {
    let address = variables.text("CIRCLE_REPOSITORY_URL");
    let found = address.as_deref().and_then(repository);
    let owner = variables.text("CIRCLE_PROJECT_USERNAME");
    let name = variables.text("CIRCLE_PROJECT_REPONAME");
    let repository = owner
        .zip(name)
        .map(|(owner, name)| format!("{owner}/{name}"))
        .or_else(|| found.as_ref().map(|(_, path)| path.clone()));
    let host = found.map(|(host, _)| host);
    Environment {
        source: join(
            host.as_ref().map(|host| format!("https://{host}")),
            repository.as_deref(),
        ),
        host,
        repository,
        reference: branch_or_tag(variables.text("CIRCLE_BRANCH"), variables.text("CIRCLE_TAG")),
        commit: variables.text("CIRCLE_SHA1"),
        change: variables.number("CIRCLE_PR_NUMBER"),
        run_id: variables.text("CIRCLE_WORKFLOW_ID"),
        job_id: variables.first(&["CIRCLE_WORKFLOW_JOB_ID", "CIRCLE_BUILD_NUM"]),
        job: variables.text("CIRCLE_JOB"),
        actor: variables.text("CIRCLE_USERNAME"),
        ..Environment::default()
    }
}

/// <https://buildkite.com/docs/pipelines/configure/environment-variables>
fn buildkite(variables: &Variables<'_>) -> Environment {
    let address = variables.text("BUILDKITE_REPO");
    let source = variables.text("BUILDKITE_PULL_REQUEST_REPO");
    let source = source.map(|address| repository(&address));
    let repository = address.as_deref().and_then(repository);
    // A fork's branch may be called like one of this repository.
    let is_own = source.is_none_or(|source| source.is_some() && source == repository);
    let organisation = variables.text("BUILDKITE_ORGANIZATION_SLUG");
    let pipeline = variables.text("BUILDKITE_PIPELINE_SLUG");
    Environment {
        source: organisation
            .zip(pipeline.as_deref())
            .map(|(organisation, pipeline)| format!("https://buildkite.com/{organisation}/{pipeline}")),
        host: repository.as_ref().map(|(host, _)| host.clone()),
        trigger: variables.text("BUILDKITE_SOURCE"),
        repository: repository.map(|(_, path)| path),
        reference: branch_or_tag(
            variables.text("BUILDKITE_BRANCH").filter(|_| is_own),
            variables.text("BUILDKITE_TAG"),
        ),
        // Before the checkout it may be the word HEAD.
        commit: variables
            .text("BUILDKITE_COMMIT")
            .filter(|commit| commit != "HEAD"),
        // `false` outside of pull requests.
        change: variables.number("BUILDKITE_PULL_REQUEST"),
        run_id: variables.text("BUILDKITE_BUILD_ID"),
        run_number: variables.number("BUILDKITE_BUILD_NUMBER"),
        // Retries of a job are counted from 0.
        run_attempt: variables
            .number("BUILDKITE_RETRY_COUNT")
            .and_then(|retries| retries.checked_add(1)),
        workflow_id: variables.text("BUILDKITE_PIPELINE_ID"),
        workflow: pipeline,
        job_id: variables.text("BUILDKITE_JOB_ID"),
        job: variables.first(&["BUILDKITE_STEP_KEY", "BUILDKITE_LABEL"]),
        runner: variables.text("BUILDKITE_AGENT_NAME"),
        actor_id: variables.text("BUILDKITE_BUILD_CREATOR_ID"),
        actor: variables.text("BUILDKITE_BUILD_CREATOR"),
        ..Environment::default()
    }
}

/// <https://learn.microsoft.com/azure/devops/pipelines/build/variables>
fn azure(variables: &Variables<'_>) -> Environment {
    let collection = variables.first(&["SYSTEM_COLLECTIONURI", "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI"]);
    let collection = collection.map(|url| url.trim_end_matches('/').to_owned());
    let project = variables.text("SYSTEM_TEAMPROJECT");
    let address = variables.text("BUILD_REPOSITORY_URI");
    Environment {
        host: address
            .as_deref()
            .and_then(repository)
            .map(|(host, _)| host)
            .or_else(|| host(collection.as_deref()?)),
        // Projects may have spaces in their names.
        source: join(
            collection,
            project.map(|name| name.replace(' ', "%20")).as_deref(),
        ),
        trigger: variables.text("BUILD_REASON"),
        repository_id: variables.text("BUILD_REPOSITORY_ID"),
        repository: variables.text("BUILD_REPOSITORY_NAME"),
        reference: variables.text("BUILD_SOURCEBRANCH"),
        commit: variables.text("BUILD_SOURCEVERSION"),
        change: variables
            .number("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")
            .or_else(|| variables.number("SYSTEM_PULLREQUEST_PULLREQUESTID")),
        run_id: variables.text("BUILD_BUILDID"),
        // BUILD_BUILDNUMBER is a name that the pipeline makes up.
        run_attempt: variables.number("SYSTEM_JOBATTEMPT"),
        workflow_id: variables.text("SYSTEM_DEFINITIONID"),
        workflow: variables.text("BUILD_DEFINITIONNAME"),
        job_id: variables.text("SYSTEM_JOBID"),
        job: variables.first(&["SYSTEM_JOBNAME", "AGENT_JOBNAME"]),
        runner: variables.text("AGENT_NAME"),
        actor_id: variables.text("BUILD_REQUESTEDFORID"),
        actor: variables.text("BUILD_REQUESTEDFOR"),
        deployment_environment: variables.text("ENVIRONMENT_NAME"),
        ..Environment::default()
    }
}

/// A path below a URL.
fn join(base: Option<String>, path: Option<&str>) -> Option<String> {
    base.zip(path).map(|(base, path)| format!("{base}/{path}"))
}
