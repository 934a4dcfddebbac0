//! One table for each CI system: the variables as its documentation shows them, with values made up here.

use super::*;

fn read(variables: &[(&str, &str)]) -> Environment {
    Environment::from_variables(|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

const COMMIT: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

#[test]
fn github_actions() {
    let pull_request = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/widgets"),
        ("GITHUB_REPOSITORY_ID", "123456"),
        ("GITHUB_EVENT_NAME", "pull_request"),
        ("GITHUB_REF", "refs/pull/7/merge"),
        ("GITHUB_REF_PROTECTED", "false"),
        ("GITHUB_SHA", COMMIT),
        ("GITHUB_RUN_ID", "9876543210"),
        ("GITHUB_RUN_NUMBER", "42"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_WORKFLOW", "CI"),
        (
            "GITHUB_WORKFLOW_REF",
            "acme/widgets/.github/workflows/ci.yml@refs/pull/7/merge",
        ),
        ("GITHUB_JOB", "build"),
        ("RUNNER_NAME", "runner-1"),
        ("GITHUB_ACTOR", "octo"),
        ("GITHUB_ACTOR_ID", "17"),
        ("GITHUB_TRIGGERING_ACTOR", "mona"),
    ];
    let expected = Environment {
        provider: Some(Provider::GitHub),
        host: text("github.com"),
        source: text("https://github.com/acme/widgets"),
        trigger: text("pull_request"),
        repository_id: text("123456"),
        repository: text("acme/widgets"),
        reference: text("refs/pull/7/merge"),
        reference_protected: Some(false),
        commit: text(COMMIT),
        change: Some(7),
        run_id: text("9876543210"),
        run_number: Some(42),
        run_attempt: Some(2),
        workflow: text(".github/workflows/ci.yml"),
        job: text("build"),
        runner: text("runner-1"),
        actor_id: text("17"),
        actor: text("octo"),
        triggering_actor: text("mona"),
        ..Environment::default()
    };
    assert_eq!(read(&pull_request), expected);

    let gitea = [&pull_request[..], &[("GITEA_ACTIONS", "true")]].concat();
    let expected = Environment {
        provider: Some(Provider::Gitea),
        ..expected
    };
    assert_eq!(read(&gitea), expected);
}

#[test]
fn gitlab_ci() {
    let tag = [
        ("GITLAB_CI", "true"),
        ("CI_SERVER_HOST", "gitlab.example"),
        ("CI_PROJECT_URL", "https://gitlab.example/acme/widgets"),
        ("CI_PROJECT_ID", "55"),
        ("CI_PROJECT_PATH", "acme/widgets"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_TAG", "v1.2.0"),
        ("CI_COMMIT_REF_PROTECTED", "true"),
        ("CI_COMMIT_SHA", COMMIT),
        ("CI_PIPELINE_ID", "1001"),
        ("CI_PIPELINE_IID", "12"),
        ("CI_CONFIG_PATH", ".gitlab-ci.yml"),
        ("CI_JOB_ID", "70001"),
        ("CI_JOB_NAME", "deploy"),
        ("CI_RUNNER_ID", "3"),
        ("GITLAB_USER_ID", "8"),
        ("GITLAB_USER_LOGIN", "ada"),
        ("CI_ENVIRONMENT_NAME", "production"),
    ];
    let expected = Environment {
        provider: Some(Provider::GitLab),
        host: text("gitlab.example"),
        source: text("https://gitlab.example/acme/widgets"),
        trigger: text("push"),
        repository_id: text("55"),
        repository: text("acme/widgets"),
        reference: text("refs/tags/v1.2.0"),
        reference_protected: Some(true),
        commit: text(COMMIT),
        run_id: text("1001"),
        run_number: Some(12),
        workflow: text(".gitlab-ci.yml"),
        job_id: text("70001"),
        job: text("deploy"),
        runner: text("3"),
        actor_id: text("8"),
        actor: text("ada"),
        deployment_environment: text("production"),
        ..Environment::default()
    };
    assert_eq!(read(&tag), expected);

    for (source_project, reference) in [
        ("55", "refs/heads/main"),
        ("56", "refs/merge-requests/9/head"),
        ("", "refs/merge-requests/9/head"),
    ] {
        let merge_request = read(&[
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_ID", "55"),
            ("CI_MERGE_REQUEST_IID", "9"),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", source_project),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "main"),
            ("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/9/head"),
        ]);
        assert_eq!(merge_request.change, Some(9));
        assert_eq!(merge_request.reference, text(reference), "{source_project}");
    }
}

#[test]
fn jenkins() {
    let multibranch = [
        ("JENKINS_URL", "https://jenkins.example/"),
        ("JOB_NAME", "acme/widgets/main"),
        ("BUILD_ID", "31"),
        ("BUILD_NUMBER", "31"),
        ("BRANCH_NAME", "main"),
        ("GIT_BRANCH", "origin/main"),
        ("GIT_COMMIT", COMMIT),
        (
            "GIT_URL",
            "https://robot:hunter2@git.example:8443/acme/widgets.git",
        ),
        ("NODE_NAME", "agent-4"),
        ("STAGE_NAME", "Build"),
        ("BUILD_USER_ID", "grace"),
    ];
    let expected = Environment {
        provider: Some(Provider::Jenkins),
        host: text("git.example"),
        source: text("https://jenkins.example/job/acme/widgets/main"),
        repository: text("acme/widgets"),
        reference: text("refs/heads/main"),
        commit: text(COMMIT),
        run_id: text("31"),
        run_number: Some(31),
        workflow: text("acme/widgets/main"),
        job: text("Build"),
        runner: text("agent-4"),
        actor: text("grace"),
        ..Environment::default()
    };
    assert_eq!(read(&multibranch), expected);

    for (fork, reference) in [("", text("refs/heads/main")), ("mallory", None)] {
        let change = read(&[
            ("JENKINS_URL", "https://jenkins.example/"),
            ("BRANCH_NAME", "PR-7"),
            ("GIT_BRANCH", "PR-7"),
            ("CHANGE_ID", "7"),
            ("CHANGE_BRANCH", "main"),
            ("CHANGE_FORK", fork),
        ]);
        assert_eq!((change.change, change.reference), (Some(7), reference), "{fork}");
    }

    let freestyle = [
        ("JENKINS_URL", "https://jenkins.example/"),
        ("GIT_BRANCH", "origin/release/2"),
    ];
    let freestyle = read(&freestyle);
    assert_eq!(freestyle.reference, text("refs/heads/release/2"));
    assert_eq!(freestyle.host, text("jenkins.example"));
}

#[test]
fn circleci() {
    let branch = [
        ("CIRCLECI", "true"),
        ("CIRCLE_REPOSITORY_URL", "git@github.com:acme/widgets.git"),
        ("CIRCLE_PROJECT_USERNAME", "acme"),
        ("CIRCLE_PROJECT_REPONAME", "widgets"),
        ("CIRCLE_BRANCH", "main"),
        ("CIRCLE_SHA1", COMMIT),
        ("CIRCLE_WORKFLOW_ID", "0f1e2d3c-0000-4000-8000-000000000001"),
        ("CIRCLE_WORKFLOW_JOB_ID", "0f1e2d3c-0000-4000-8000-000000000002"),
        ("CIRCLE_BUILD_NUM", "77"),
        ("CIRCLE_JOB", "build"),
        ("CIRCLE_USERNAME", "octo"),
    ];
    let expected = Environment {
        provider: Some(Provider::CircleCi),
        host: text("github.com"),
        source: text("https://github.com/acme/widgets"),
        repository: text("acme/widgets"),
        reference: text("refs/heads/main"),
        commit: text(COMMIT),
        run_id: text("0f1e2d3c-0000-4000-8000-000000000001"),
        job_id: text("0f1e2d3c-0000-4000-8000-000000000002"),
        job: text("build"),
        actor: text("octo"),
        ..Environment::default()
    };
    assert_eq!(read(&branch), expected);
}

#[test]
fn buildkite() {
    let build = [
        ("BUILDKITE", "true"),
        ("BUILDKITE_ORGANIZATION_SLUG", "acme"),
        ("BUILDKITE_PIPELINE_SLUG", "widgets-ci"),
        ("BUILDKITE_PIPELINE_ID", "018f0000-0000-4000-8000-000000000001"),
        ("BUILDKITE_REPO", "ssh://git@git.example:2222/acme/widgets.git"),
        ("BUILDKITE_SOURCE", "webhook"),
        ("BUILDKITE_BRANCH", "main"),
        ("BUILDKITE_TAG", ""),
        ("BUILDKITE_COMMIT", COMMIT),
        ("BUILDKITE_PULL_REQUEST", "false"),
        ("BUILDKITE_BUILD_ID", "018f0000-0000-4000-8000-000000000002"),
        ("BUILDKITE_BUILD_NUMBER", "1514"),
        ("BUILDKITE_RETRY_COUNT", "1"),
        ("BUILDKITE_JOB_ID", "018f0000-0000-4000-8000-000000000003"),
        ("BUILDKITE_STEP_KEY", "compile"),
        ("BUILDKITE_LABEL", ":hammer: Compile"),
        ("BUILDKITE_AGENT_NAME", "agent-9"),
        ("BUILDKITE_BUILD_CREATOR", "Grace Example"),
        (
            "BUILDKITE_BUILD_CREATOR_ID",
            "018f0000-0000-4000-8000-000000000004",
        ),
    ];
    let expected = Environment {
        provider: Some(Provider::Buildkite),
        host: text("git.example"),
        source: text("https://buildkite.com/acme/widgets-ci"),
        trigger: text("webhook"),
        repository: text("acme/widgets"),
        reference: text("refs/heads/main"),
        commit: text(COMMIT),
        run_id: text("018f0000-0000-4000-8000-000000000002"),
        run_number: Some(1514),
        run_attempt: Some(2),
        workflow_id: text("018f0000-0000-4000-8000-000000000001"),
        workflow: text("widgets-ci"),
        job_id: text("018f0000-0000-4000-8000-000000000003"),
        job: text("compile"),
        runner: text("agent-9"),
        actor_id: text("018f0000-0000-4000-8000-000000000004"),
        actor: text("Grace Example"),
        ..Environment::default()
    };
    assert_eq!(read(&build), expected);
    let early = read(&[
        ("BUILDKITE", "true"),
        ("BUILDKITE_COMMIT", "HEAD"),
        ("BUILDKITE_PULL_REQUEST", "12"),
    ]);
    assert_eq!((early.commit, early.change), (None, Some(12)));

    for (source, reference) in [
        ("https://git.example/acme/widgets.git", text("refs/heads/main")),
        ("https://git.example/mallory/widgets.git", None),
        ("nowhere", None),
    ] {
        let pull_request = [&build[..], &[("BUILDKITE_PULL_REQUEST_REPO", source)]].concat();
        assert_eq!(read(&pull_request).reference, reference, "{source}");
    }
    let worn = read(&[
        ("BUILDKITE", "true"),
        ("BUILDKITE_RETRY_COUNT", "18446744073709551615"),
    ]);
    assert_eq!(worn.run_attempt, None);
}

#[test]
fn azure_pipelines() {
    let build = [
        ("TF_BUILD", "True"),
        ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
        ("SYSTEM_TEAMPROJECT", "Widget Works"),
        (
            "BUILD_REPOSITORY_URI",
            "https://acme@dev.azure.com/acme/Widget%20Works/_git/widgets",
        ),
        ("BUILD_REPOSITORY_ID", "1b2c0000-0000-4000-8000-000000000001"),
        ("BUILD_REPOSITORY_NAME", "widgets"),
        ("BUILD_REASON", "IndividualCI"),
        ("BUILD_SOURCEBRANCH", "refs/heads/main"),
        ("BUILD_SOURCEVERSION", COMMIT),
        ("BUILD_BUILDID", "421"),
        ("BUILD_BUILDNUMBER", "20261122.3"),
        ("BUILD_DEFINITIONNAME", "widgets CI"),
        ("SYSTEM_DEFINITIONID", "6"),
        ("SYSTEM_JOBID", "12f10000-0000-4000-8000-000000000002"),
        ("SYSTEM_JOBNAME", "build"),
        ("SYSTEM_JOBATTEMPT", "1"),
        ("AGENT_NAME", "Hosted Agent"),
        ("BUILD_REQUESTEDFOR", "Ada Example"),
        ("BUILD_REQUESTEDFORID", "1b2c0000-0000-4000-8000-000000000003"),
        ("SYSTEM_PULLREQUEST_PULLREQUESTID", "88"),
    ];
    let expected = Environment {
        provider: Some(Provider::Azure),
        host: text("dev.azure.com"),
        source: text("https://dev.azure.com/acme/Widget%20Works"),
        trigger: text("IndividualCI"),
        repository_id: text("1b2c0000-0000-4000-8000-000000000001"),
        repository: text("widgets"),
        reference: text("refs/heads/main"),
        commit: text(COMMIT),
        change: Some(88),
        run_id: text("421"),
        run_attempt: Some(1),
        workflow_id: text("6"),
        workflow: text("widgets CI"),
        job_id: text("12f10000-0000-4000-8000-000000000002"),
        job: text("build"),
        runner: text("Hosted Agent"),
        actor_id: text("1b2c0000-0000-4000-8000-000000000003"),
        actor: text("Ada Example"),
        ..Environment::default()
    };
    assert_eq!(read(&build), expected);
}

#[test]
fn elsewhere_nothing_is_made_up() {
    assert_eq!(read(&[]), Environment::default());
    assert_eq!(
        read(&[("GITHUB_ACTIONS", "false"), ("GITHUB_SHA", COMMIT)]),
        Environment::default()
    );
    let alone = read(&[("GITHUB_ACTIONS", "true")]);
    let expected = Environment {
        provider: Some(Provider::GitHub),
        ..Environment::default()
    };
    assert_eq!(alone, expected);
}

#[test]
fn what_can_not_be_a_value_is_left_out() {
    let long = "a".repeat(MAX_VALUE_BYTES + 1);
    for bad in ["", "two\nlines", "\u{1b}[2J", &long] {
        let environment = read(&[("GITHUB_ACTIONS", "true"), ("GITHUB_REPOSITORY", bad)]);
        assert_eq!(environment.repository, None, "{bad:?}");
    }
    let environment = read(&[("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_NUMBER", "-1")]);
    assert_eq!(environment.run_number, None);
}

#[test]
fn an_address_is_read_without_the_secrets_in_it() {
    let found = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
    for (address, expected) in [
        (
            "https://git.example/acme/widgets.git",
            found("git.example", "acme/widgets"),
        ),
        (
            "https://u:p%40@git.example:1/a/b/c/",
            found("git.example", "a/b/c"),
        ),
        (
            "https://token@git.example/acme/widgets?x=secret#y",
            found("git.example", "acme/widgets"),
        ),
        (
            "ssh://git@[::1]:22/acme/widgets.git",
            found("::1", "acme/widgets"),
        ),
        (
            "git@git.example:acme/widgets.git",
            found("git.example", "acme/widgets"),
        ),
        ("git.example:acme/widgets", found("git.example", "acme/widgets")),
        ("/srv/git/widgets.git", None),
        ("https://git.example", None),
        ("https:///acme", None),
        ("", None),
    ] {
        assert_eq!(repository(address), expected, "{address}");
    }
    let environment = read(&[
        ("GITLAB_CI", "true"),
        (
            "CI_PROJECT_URL",
            "https://user:hunter2@gitlab.example/acme/widgets/?token=x",
        ),
    ]);
    assert_eq!(environment.source, text("https://gitlab.example/acme/widgets"));
}
