//! The scripts in `deploy/` with input that would like to be shell.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// What an attacker would put into a branch's name, a title, or a path.
const HOSTILE: &str = "$(touch pwned) `touch pwned` \"; touch pwned; ' && touch pwned #";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

/// A runner's directories, and a `counterfoil` that writes down how it was called.
struct Runner(TempDir);

impl Runner {
    fn new(counterfoil: &str) -> Self {
        let runner = Self(TempDir::new().unwrap());
        let program = runner.path("bin/counterfoil");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(
            &program,
            format!("#!/bin/bash\nprintf '%s\\0' \"$@\" > \"$RUNNER_TEMP/called\"\n{counterfoil}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, variables: &[(&str, &str)]) -> Output {
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Command::new(deploy("github-action").join(name))
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", path)
            .env("RUNNER_TEMP", self.0.path())
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_PATH", self.path("path"))
            .env("GITHUB_ACTION_PATH", deploy("github-action"))
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "acme/widgets")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    /// How `counterfoil` was called, the paths of receipt and payload left out.
    fn called(&self) -> Vec<String> {
        let called = fs::read_to_string(self.path("called")).unwrap();
        let mut arguments: Vec<_> = called.split_terminator('\0').map(str::to_owned).collect();
        let kept: &[_] = match arguments[0].as_str() {
            "run" => &["--receipt", "--payload-to"],
            _ => &["--receipt"],
        };
        for option in kept {
            let place = arguments.iter().position(|argument| argument == option).unwrap();
            arguments.drain(place..place + 2);
        }
        arguments
    }
}

/// All variables of `record.sh`, of which some differ.
fn record<'a>(changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let names = [
        "EVENT_TYPE",
        "COMMAND",
        "STEP_NAME",
        "DEPLOY_ENVIRONMENT",
        "ARTIFACTS",
        "DATA_FILE",
        "CONTENT_TYPE",
        "EVENT_ID",
        "EVENT_TIME",
        "OIDC_AUDIENCE",
        "REQUIRE_RECEIPT",
    ];
    let value = |name: &str| changed.iter().find(|(changed, _)| *changed == name);
    names
        .iter()
        .map(|name| (*name, value(name).map_or("", |(_, value)| value)))
        .collect()
}

/// `make` takes variables from its environment, `ARTIFACTS` and `COMMAND` among them.
#[test]
fn input_is_not_in_the_command_s_environment() {
    let runner = Runner::new("env > \"$RUNNER_TEMP/environment\"");
    let mut variables = record(&[
        ("EVENT_TYPE", "ci.job"),
        ("COMMAND", "make dist"),
        ("ARTIFACTS", "a"),
    ]);
    variables.push(("COUNTERFOIL_LOG", "main"));
    assert!(runner.script("record.sh", &variables).status.success());
    let environment = fs::read_to_string(runner.path("environment")).unwrap();
    let names: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    assert!(names.contains(&"COUNTERFOIL_LOG"));
    let action = fs::read_to_string(deploy("github-action/action.yml")).unwrap();
    for (name, _) in record(&[]) {
        assert!(!names.contains(&name), "{name}");
        // Without one of them the script ends.
        assert!(
            action.contains(&format!("\n        {name}: ${{{{ inputs.")),
            "{name}"
        );
    }
}

/// What waits is recorded as whoever delivers it.
#[test]
fn each_repository_has_an_outbox_and_what_is_protected_another() {
    let runner = Runner::new("printf %s \"${COUNTERFOIL_OUTBOX-}\" > \"$RUNNER_TEMP/outbox\"");
    let outbox = |variables: &[(&str, &str)]| {
        let step = record(&[("EVENT_TYPE", "deploy.succeeded")]);
        let output = runner.script("record.sh", &[&step[..], variables].concat());
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(runner.path("outbox")).unwrap()
    };
    let home = ("HOME", "/home/runner");
    let of = |repository: &str, protected: &str| {
        outbox(&[
            home,
            ("GITHUB_REPOSITORY_ID", repository),
            ("GITHUB_REF_PROTECTED", protected),
        ])
    };
    let all = [
        of("1", "true"),
        of("1", "false"),
        of("2", "true"),
        of("2", "false"),
    ];
    for (place, path) in all.iter().enumerate() {
        assert!(
            path.starts_with("/home/runner/.local/state/counterfoil/"),
            "{path}"
        );
        assert!(!all[..place].contains(path), "{path}");
    }
    assert_eq!(outbox(&[home, ("GITHUB_REPOSITORY_ID", "1")]), of("1", "false"));
    let state = ("XDG_STATE_HOME", "/state");
    assert!(outbox(&[home, state]).starts_with("/state/counterfoil/"));
    // One that was chosen stays, and without a home the program says what is missing.
    assert_eq!(
        outbox(&[home, ("COUNTERFOIL_OUTBOX", "/volume/outbox")]),
        "/volume/outbox"
    );
    assert_eq!(outbox(&[]), "");
}

#[test]
fn input_stays_input() {
    let runner = Runner::new("");
    let artifacts = format!("{HOSTILE}\n\ntwo words\n");
    let wrapped = record(&[
        ("EVENT_TYPE", HOSTILE),
        ("COMMAND", "make dist"),
        ("STEP_NAME", HOSTILE),
        ("DEPLOY_ENVIRONMENT", HOSTILE),
        ("ARTIFACTS", &artifacts),
        ("OIDC_AUDIENCE", HOSTILE),
        ("REQUIRE_RECEIPT", HOSTILE),
    ]);
    assert!(runner.script("record.sh", &wrapped).status.success());
    let expected = [
        "run",
        "--type",
        HOSTILE,
        "--oidc-audience",
        HOSTILE,
        "--name",
        HOSTILE,
        "--environment",
        HOSTILE,
        "--artifact",
        HOSTILE,
        "--artifact",
        "two words",
        "--",
        "bash",
        "--noprofile",
        "--norc",
        "-eo",
        "pipefail",
        "-c",
        "make dist",
    ];
    assert_eq!(runner.called(), expected);

    let single = record(&[
        ("EVENT_TYPE", "deploy.succeeded"),
        ("DATA_FILE", HOSTILE),
        ("CONTENT_TYPE", HOSTILE),
        ("EVENT_ID", HOSTILE),
        ("EVENT_TIME", HOSTILE),
        ("REQUIRE_RECEIPT", "true"),
    ]);
    assert!(runner.script("record.sh", &single).status.success());
    let expected = [
        "submit",
        "--type",
        "deploy.succeeded",
        "--require-receipt",
        "--source",
        "https://github.com/acme/widgets",
        "--data-file",
        HOSTILE,
        "--content-type",
        HOSTILE,
        "--id",
        HOSTILE,
        "--time",
        HOSTILE,
    ];
    assert_eq!(runner.called(), expected);
    assert!(!runner.path("pwned").exists());
}

#[test]
fn the_step_ends_as_the_command_and_says_whether_there_is_a_receipt() {
    for (counterfoil, code, recorded) in [
        (
            "while [[ $1 != --receipt ]]; do shift; done; echo proof > \"$2\"; exit 3",
            3,
            "recorded=true\n",
        ),
        ("exit 0", 0, "recorded=false\n"),
    ] {
        let runner = Runner::new(counterfoil);
        let output = runner.script(
            "record.sh",
            &record(&[("EVENT_TYPE", "ci.job"), ("COMMAND", "exit 3")]),
        );
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said = || fs::read_to_string(runner.path("output")).unwrap();
        let before = said();
        let receipt = before.lines().find_map(|line| line.strip_prefix("receipt="));
        let looked = runner.script("recorded.sh", &[("RECEIPT", receipt.unwrap())]);
        assert!(looked.status.success(), "{looked:?}");
        assert!(said().ends_with(recorded), "{}", said());
    }
}

#[test]
fn a_download_without_a_good_checksum_is_not_installed() {
    let runner = Runner::new("");
    for (sha256, url) in [
        ("", "https://downloads.invalid/counterfoil"),
        ("abc", "https://downloads.invalid/counterfoil"),
        (HOSTILE, HOSTILE),
        // Nothing but https is fetched.
        (&*"0".repeat(64), "file:///bin/true"),
    ] {
        let output = runner.script("install.sh", &[("DOWNLOAD_URL", url), ("SHA256", sha256)]);
        assert!(!output.status.success(), "{sha256}: {output:?}");
        assert!(!runner.path("path").exists());
        assert!(!runner.path("pwned").exists());
    }
}

/// An expression within a script is replaced before the shell sees it: that is how input becomes shell.
#[test]
fn no_script_in_the_workflows_holds_an_expression() {
    let action = fs::read_to_string(deploy("github-action/action.yml")).unwrap();
    let scripts: Vec<_> = action
        .lines()
        .filter(|line| line.trim_start().starts_with("run:"))
        .collect();
    assert_eq!(scripts.len(), 3);
    for script in scripts {
        // One line each, so that this is all of the script.
        assert!(script.ends_with(".sh\"'") && !script.contains("${{"), "{script}");
    }
    let component = fs::read_to_string(deploy("gitlab/counterfoil.yml")).unwrap();
    let (_, script) = component.split_once("before_script:").unwrap();
    assert!(!script.contains("$[["), "{script}");
    let pipeline = fs::read_to_string(deploy("jenkins/Jenkinsfile")).unwrap();
    assert!(
        pipeline
            .lines()
            .filter(|line| line.contains(" sh "))
            .all(|line| line.contains("sh '"))
    );
}
