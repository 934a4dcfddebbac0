//! What `deploy/` brings into GitHub Actions, GitLab CI and Jenkins, run as those would run it: the scripts themselves, the program
//! downloaded over https, ID tokens by an issuer of our own, a real log.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use counterfoil_tests::{Data, Issuer, JwtKey, Server, TestLog, counterfoil, ended, ready};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{
    self, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

/// What an attacker would call a branch.
const HOSTILE: &str = "$(touch pwned)`touch pwned`\"; touch pwned; '";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// Serves one answer to each request, until the test ends.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static, tls: Option<Arc<ServerConfig>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let respond = |stream: &mut dyn ReadWrite| -> std::io::Result<()> {
                let mut head = String::new();
                let mut lines = BufReader::new(&mut *stream);
                while lines.read_line(&mut head)? > 2 {}
                let Some(asked) = head.lines().next() else {
                    return Ok(());
                };
                let body = answer(asked);
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                )?;
                stream.write_all(&body)?;
                stream.flush()
            };
            // Whoever goes away before the end has their reasons.
            let _ = match &tls {
                None => respond(&mut &stream),
                Some(tls) => {
                    let connection = ServerConnection::new(tls.clone()).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    respond(&mut stream).map(|()| {
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    })
                }
            };
        }
    });
    format!("{scheme}://{address}")
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// A log that believes an issuer's jobs, a place that has the program, and a job's directories.
struct Runner {
    data: Data,
    log: TestLog,
    /// None while it is away.
    server: Option<Server>,
    address: SocketAddr,
    issuer: Issuer,
    key: Arc<JwtKey>,
    /// Where the program can be had, the certificate of that place, and the program's SHA-256.
    download: String,
    ca: PathBuf,
    sha256: String,
}

impl Runner {
    fn new(access: impl FnOnce(&Issuer) -> String) -> Self {
        let key = Arc::new(JwtKey::p256("k1"));
        let issuer = Issuer::start(&[&key]);
        let (data, log) = Data::with_main_log();
        fs::write(data.path().join("access.toml"), access(&issuer)).unwrap();
        let server = Server::start(&data, &[]);
        let program = fs::read(counterfoil().get_program()).unwrap();
        let sha256 = hex::encode(Sha256::digest(&program));
        let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let tls = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![identity.cert.der().clone()],
                PrivateKeyDer::from_pem_slice(identity.signing_key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        let ca = data.beside("ca.pem");
        fs::write(&ca, identity.cert.pem()).unwrap();
        let download = serve(move |_| program.clone(), Some(Arc::new(tls)));
        let runner = Self {
            data,
            log,
            address: server.address(),
            server: Some(server),
            issuer,
            key,
            download,
            ca,
            sha256,
        };
        for directory in ["temp", "workspace", "bin", "home"] {
            fs::create_dir(runner.path(directory)).unwrap();
        }
        // Builds make things, and these do so without more tools.
        runner.program(
            "make",
            "echo \"making $1\"; mkdir -p dist; printf abc > dist/widgets.tar.gz; exit ${MAKE_EXIT:-0}",
        );
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.beside(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A shell in the job's workspace, with nothing of this machine but its tools.
    fn shell(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        command
            .current_dir(self.path("workspace"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("CURL_CA_BUNDLE", &self.ca);
        command
    }

    fn server_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The log goes away.
    fn leave(&mut self) {
        self.server.take().unwrap().stop();
    }

    /// It comes back to where it was.
    fn come_back(&mut self) {
        self.server = Some(Server::start(
            &self.data,
            &["--listen", &self.address.to_string()],
        ));
    }

    /// What an auditor sees of a leaf.
    fn leaf(&self, index: u64) -> Value {
        let token = self.data.token(&["--role", "audit"]);
        for _ in 0..100 {
            let output = counterfoil()
                .args(["get", &index.to_string(), "--json"])
                .env("COUNTERFOIL_SERVER", self.server_url())
                .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
                .env("COUNTERFOIL_TOKEN", &token)
                .env("XDG_STATE_HOME", self.path("auditor"))
                .output()
                .unwrap();
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("no leaf {index}");
    }

    /// What a job keeps takes nothing but the log's key to check.
    fn verify(&self, receipt: &Path, payload: &Path) {
        let verified = counterfoil()
            .args(["verify", "--log-key", &self.log.key().to_string()])
            .arg(receipt)
            .arg("--payload")
            .arg(payload)
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

/// The normal form that a job's event carries.
fn payload(leaf: &Value) -> Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let data = BASE64_STANDARD
        .decode(leaf["payload"]["data"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&data).unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn of_github(issuer: &Issuer) -> String {
    format!(
        "anonymous = [\"read\"]\n[[oidc]]\nissuer = \"{}\"\n[[oidc.rule]]\nmatch = {{ repository_id = \"482139077\" }}\nroles = [\"submit\"]\nsource = \"widgets-ci\"\n",
        issuer.url()
    )
}

/// The steps of the composite action, with the variables that a runner sets.
struct Action<'a> {
    runner: &'a Runner,
    /// Where the runner's service gives ID tokens.
    tokens: String,
}

impl<'a> Action<'a> {
    fn new(runner: &'a Runner) -> Self {
        let (key, url) = (runner.key.clone(), runner.issuer.url());
        let claims = runner.issuer.claims("");
        let tokens = serve(
            move |line| {
                let audience = line.split("audience=").nth(1).unwrap().split(' ').next().unwrap();
                let mut claims = claims.clone();
                claims["aud"] = audience.replace("%2F", "/").into();
                claims["iss"] = url.as_str().into();
                claims["jti"] = format!("{:032x}", fastrand::u128(..)).into();
                json!({ "value": key.token(&claims) }).to_string().into_bytes()
            },
            None,
        );
        Self { runner, tokens }
    }

    fn step(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let script = deploy("github-action").join(script);
        self.shell(&script, variables).output().unwrap()
    }

    /// The step that records, and the one behind it.
    fn record(&self, variables: &[(&str, &str)]) -> Output {
        let output = self.step("record.sh", variables);
        let receipt = self.output("receipt");
        assert_code(&self.step("recorded.sh", &[("RECEIPT", &receipt)]), 0);
        output
    }

    /// Checks what the step that recorded leaves to be uploaded.
    fn verify(&self) {
        let [receipt, payload] = ["receipt", "payload"].map(|name| self.output(name));
        self.runner.verify(Path::new(&receipt), Path::new(&payload));
    }

    fn shell(&self, program: &Path, variables: &[(&str, &str)]) -> Command {
        let runner = self.runner;
        let mut shell = runner.shell(program);
        if let Ok(added) = fs::read_to_string(runner.path("github-path")) {
            let path = format!("{}:{}", added.trim_end(), std::env::var("PATH").unwrap());
            shell.env("PATH", format!("{}:{path}", runner.path("bin").display()));
        }
        shell
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_ACTION_PATH", deploy("github-action"))
            .env("GITHUB_OUTPUT", runner.path("github-output"))
            .env("GITHUB_PATH", runner.path("github-path"))
            .env("RUNNER_TEMP", runner.path("temp"))
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "acme/widgets")
            .env("GITHUB_REPOSITORY_ID", "482139077")
            .env("GITHUB_SHA", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
            .env("GITHUB_REF", format!("refs/heads/{HOSTILE}"))
            .env("GITHUB_RUN_ID", "17")
            .env("GITHUB_JOB", "build")
            .env("GITHUB_ACTOR", "octo")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/?v=2", self.tokens))
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
            .env("COUNTERFOIL_SERVER", runner.server_url())
            .env("COUNTERFOIL_LOG_KEY", runner.log.key().to_string())
            .env("COUNTERFOIL_LOG", "main");
        for name in [
            "COUNTERFOIL_TOKEN",
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
            "DOWNLOAD_URL",
            "SHA256",
        ] {
            shell.env(name, "");
        }
        shell.envs(variables.iter().copied());
        shell
    }

    /// What the last step gave out.
    fn output(&self, name: &str) -> String {
        let all = fs::read_to_string(self.runner.path("github-output")).unwrap();
        let mut lines = all.lines().rev();
        lines
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
            .unwrap()
            .to_owned()
    }
}

#[test]
fn the_github_action_records_a_build_with_the_job_s_own_identity() {
    let runner = Runner::new(of_github);
    let action = Action::new(&runner);
    let wrong = action.step(
        "install.sh",
        &[("DOWNLOAD_URL", &runner.download), ("SHA256", &"0".repeat(64))],
    );
    assert!(!wrong.status.success());
    assert!(!runner.path("github-path").exists());
    let installed = action.step(
        "install.sh",
        &[("DOWNLOAD_URL", &runner.download), ("SHA256", &runner.sha256)],
    );
    assert_code(&installed, 0);

    let build = [
        ("EVENT_TYPE", "ci.job"),
        ("COMMAND", "make dist\nmake check\nexit 3"),
        ("STEP_NAME", HOSTILE),
        ("DEPLOY_ENVIRONMENT", "production"),
        ("ARTIFACTS", "dist/widgets.tar.gz\n"),
        ("OIDC_AUDIENCE", "test.example/main"),
    ];
    let recorded = action.record(&build);
    assert_code(&recorded, 3);
    assert_eq!(recorded.stdout, b"making dist\nmaking check\n");
    assert_eq!(action.output("recorded"), "true");
    action.verify();
    let text = fs::read_to_string(deploy("github-action/action.yml")).unwrap();
    let (_, upload) = text.split_once("name: Upload the receipt\n").unwrap();
    for name in ["receipt", "payload"] {
        assert!(upload.contains(&format!("${{{{ steps.record.outputs.{name} }}}}\n")));
    }
    // Leaf 1 is the record of the issuer's keys.
    let end = runner.leaf(3);
    assert_eq!(end["entry_fields"]["authentication"], "oidc");
    assert_eq!(end["entry_fields"]["source_id"], "widgets-ci");
    let event = payload(&end);
    assert_eq!(event["type"], "ci.job.finished");
    assert_eq!(event["outcome"], "failure");
    assert_eq!(event["repo"]["id"], "482139077");
    assert_eq!(event["deployment"]["environment"], "production");
    assert_eq!(event["ref"]["name"], format!("refs/heads/{HOSTILE}"));
    assert_eq!(
        event["artifacts"][0]["digest"],
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert!(!runner.path("workspace").join("pwned").exists());

    let single = [
        ("EVENT_TYPE", "deploy.succeeded"),
        ("DATA_FILE", "dist/widgets.tar.gz"),
        ("OIDC_AUDIENCE", "test.example/main"),
        ("REQUIRE_RECEIPT", "true"),
    ];
    assert_code(&action.record(&single), 0);
    assert_eq!(runner.leaf(4)["entry_fields"]["authentication"], "oidc");
}

#[test]
fn the_github_action_fails_no_build_when_the_log_is_away() {
    let mut runner = Runner::new(of_github);
    runner.leave();
    let build = [
        ("EVENT_TYPE", "ci.job"),
        ("COMMAND", "make dist"),
        ("OIDC_AUDIENCE", "test.example/main"),
    ];
    {
        let action = Action::new(&runner);
        let install = [("DOWNLOAD_URL", &*runner.download), ("SHA256", &*runner.sha256)];
        assert_code(&action.step("install.sh", &install), 0);
        let queued = action.record(&build);
        assert_code(&queued, 0);
        assert_eq!(action.output("recorded"), "false");
        assert!(String::from_utf8_lossy(&queued.stderr).contains("ci.job.finished is queued"));
        // Those who ask for a receipt are told, before anything runs.
        let refused = action.record(&[&build[..], &[("REQUIRE_RECEIPT", "true")]].concat());
        assert_code(&refused, 3);
        assert_eq!(refused.stdout, b"");
    }
    runner.come_back();
    let action = Action::new(&runner);
    let recorded = action.record(&build);
    assert_code(&recorded, 0);
    assert_eq!(action.output("recorded"), "true");
    // Genesis, keys; then the two that waited, in front of the two of this step.
    for (leaf, event_type) in [
        (2, "ci.job.started"),
        (3, "ci.job.finished"),
        (5, "ci.job.finished"),
    ] {
        assert_eq!(payload(&runner.leaf(leaf))["type"], event_type);
    }
}

/// What waits is recorded as the job that delivers it. On one machine there may be jobs of several repositories, and of forks.
#[test]
fn the_github_action_delivers_what_the_same_repository_queued_under_the_same_protection() {
    let mut runner = Runner::new(of_github);
    runner.leave();
    let build = [
        ("EVENT_TYPE", "ci.job"),
        ("COMMAND", "make dist"),
        ("OIDC_AUDIENCE", "test.example/main"),
    ];
    {
        let action = Action::new(&runner);
        let install = [("DOWNLOAD_URL", &*runner.download), ("SHA256", &*runner.sha256)];
        assert_code(&action.step("install.sh", &install), 0);
        assert_code(&action.record(&build), 0);
        assert_eq!(action.output("recorded"), "false");
    }
    runner.come_back();
    let action = Action::new(&runner);
    for differs in [
        &[("GITHUB_REF_PROTECTED", "true")][..],
        &[("GITHUB_REPOSITORY_ID", "7")],
        &[],
    ] {
        assert_code(&action.record(&[&build[..], differs].concat()), 0);
        assert_eq!(action.output("recorded"), "true");
    }
    // Genesis, keys; then a start and an end of each, the first one's in front of those of the last.
    for (end, repository, protected) in [
        (3, "482139077", json!(true)),
        (5, "7", Value::Null),
        (7, "482139077", Value::Null),
        (9, "482139077", Value::Null),
    ] {
        let event = payload(&runner.leaf(end));
        assert_eq!(event["type"], "ci.job.finished");
        assert_eq!(event["repo"]["id"], repository, "{end}");
        assert_eq!(event["ref"]["protected"], protected, "{end}");
    }
}

/// A runner signals the shell of the step, and nothing that this has started.
#[test]
fn a_step_of_the_github_action_that_is_cancelled_says_so() {
    let runner = Runner::new(of_github);
    let action = Action::new(&runner);
    let install = [("DOWNLOAD_URL", &*runner.download), ("SHA256", &*runner.sha256)];
    assert_code(&action.step("install.sh", &install), 0);
    let text = fs::read_to_string(deploy("github-action/action.yml")).unwrap();
    let (_, step) = text.split_once("id: record\n").unwrap();
    let script = step
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("run: '"))
        .unwrap();
    let file = runner.path("step.sh");
    fs::write(&file, script.trim_end_matches('\'')).unwrap();
    let build = [
        ("EVENT_TYPE", "ci.job"),
        (
            "COMMAND",
            "trap 'exit 5' INT; echo ready; for _ in {1..1200}; do sleep 0.05; done",
        ),
        ("OIDC_AUDIENCE", "test.example/main"),
    ];
    let mut shell = action.shell(Path::new("bash"), &build);
    shell
        .args(["--noprofile", "--norc", "-eo", "pipefail"])
        .arg(&file)
        .stdin(Stdio::null());
    let mut child = ready(&mut shell);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = ended(&mut child);
    assert_eq!(status.and_then(|status| status.code()), Some(5));
    let end = payload(&runner.leaf(3));
    assert_eq!(
        (&end["type"], &end["outcome"]),
        (&"ci.job.finished".into(), &"cancelled".into())
    );
    action.verify();
}

/// The lines of a list in the component, `name` being its key.
fn lines_of(component: &str, name: &str) -> Vec<String> {
    let (_, list) = component.split_once(&format!("  {name}:\n")).unwrap();
    let lines = list.lines().take_while(|line| line.starts_with("    - "));
    lines.map(|line| line["    - ".len()..].to_owned()).collect()
}

#[test]
fn the_gitlab_component_brings_the_program_and_an_outbox() {
    let mut runner = Runner::new(|issuer| {
        format!(
            "anonymous = [\"read\"]\n[[oidc]]\nissuer = \"{}\"\naudience = \"https://log.example\"\nreuse = \"until-expiry\"\n[[oidc.rule]]\nmatch = {{ project_id = \"42\" }}\nroles = [\"submit\"]\nsource = \"gitlab\"\n",
            issuer.url()
        )
    });
    let component = fs::read_to_string(deploy("gitlab/counterfoil.yml")).unwrap();
    let mut claims = runner.issuer.claims("https://log.example");
    claims["project_id"] = "42".into();
    let token = runner.key.token(&claims);
    // A runner joins the lines and gives them to a shell that stops at the first error.
    let before = lines_of(&component, "before_script");
    let readme = fs::read_to_string(deploy("gitlab/README.md")).unwrap();
    let script = readme
        .lines()
        .find_map(|line| line.strip_prefix("    - "))
        .unwrap();
    let script = format!("{}\n{script}", before.join("\n"));
    // GitLab takes slashes around an expression for a part of it.
    assert!(component.contains("regex: ^[0-9a-f]{64}$\n"));
    // Jobs that one runner runs at a time would overwrite each other's cache.
    assert!(component.contains("key: counterfoil-outbox-$CI_RUNNER_ID-$CI_CONCURRENT_ID-"));
    let job = |runner: &Runner, exit: &str| {
        runner
            .shell(Path::new("/bin/sh"))
            .args(["-e", "-c", &script])
            .env("TMPDIR", runner.path("temp"))
            .env("GITLAB_CI", "true")
            .env("CI_PROJECT_URL", "https://gitlab.example/acme/widgets")
            .env("CI_PROJECT_ID", "42")
            .env("CI_PROJECT_PATH", "acme/widgets")
            .env("CI_COMMIT_BRANCH", HOSTILE)
            .env("CI_COMMIT_SHA", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
            .env("CI_PIPELINE_ID", "17")
            .env("CI_JOB_ID", "18")
            .env("MAKE_EXIT", exit)
            .env("COUNTERFOIL_SERVER", runner.server_url())
            .env("COUNTERFOIL_LOG_KEY", runner.log.key().to_string())
            .env("COUNTERFOIL_LOG", "main")
            .env("COUNTERFOIL_DOWNLOAD_URL", &runner.download)
            .env("COUNTERFOIL_SHA256", &runner.sha256)
            .env(
                "COUNTERFOIL_OUTBOX",
                runner.path("workspace").join(".counterfoil-outbox"),
            )
            .env("COUNTERFOIL_ID_TOKEN", &token)
            .output()
            .unwrap()
    };
    // The log is away for a job; the next one, with what the cache kept, delivers.
    runner.leave();
    assert_code(&job(&runner, "0"), 0);
    let kept = ["build.tlog-proof", "build.json"].map(|name| runner.path("workspace").join(name));
    assert!(kept.iter().all(|file| !file.exists()));
    runner.come_back();
    assert_code(&job(&runner, "7"), 7);
    assert_eq!(payload(&runner.leaf(3))["outcome"], "success");
    runner.verify(&kept[0], &kept[1]);
    let end = runner.leaf(5);
    assert_eq!(end["entry_fields"]["source_id"], "gitlab");
    assert_eq!(payload(&end)["outcome"], "failure");
    assert_eq!(payload(&end)["ref"]["name"], format!("refs/heads/{HOSTILE}"));
    assert_eq!(payload(&end)["run"]["id"], "17");
    assert!(!runner.path("workspace").join("pwned").exists());
}

#[test]
fn the_jenkins_stage_records_with_a_token_from_a_file() {
    let mut runner = Runner::new(|_| "anonymous = [\"read\"]\n".to_owned());
    let token = runner.data.token(&["--role", "submit", "--source", "jenkins"]);
    fs::write(runner.path("token"), format!("{token}\n")).unwrap();
    // A server knows the tokens that were there when it started.
    runner.leave();
    runner.come_back();
    fs::copy(
        counterfoil().get_program(),
        runner.path("bin").join("counterfoil"),
    )
    .unwrap();
    let pipeline = fs::read_to_string(deploy("jenkins/Jenkinsfile")).unwrap();
    let (_, step) = pipeline.split_once("sh '").unwrap();
    let (script, _) = step.split_once("'\n").unwrap();
    // As the step `sh` does it.
    let output = runner
        .shell(Path::new("/bin/sh"))
        .args(["-xe", "-c", script])
        .env("JENKINS_URL", "https://jenkins.example/")
        .env("JOB_NAME", "widgets/main")
        .env("BUILD_ID", "17")
        .env("BUILD_NUMBER", "17")
        .env("GIT_URL", "https://user:secret@git.example/acme/widgets.git")
        .env("GIT_COMMIT", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
        .env("BRANCH_NAME", HOSTILE)
        .env("TOKEN_FILE", runner.path("token"))
        .env("COUNTERFOIL_SERVER", runner.server_url())
        .env("COUNTERFOIL_LOG_KEY", runner.log.key().to_string())
        .env(
            "COUNTERFOIL_OUTBOX",
            runner.path("home").join("counterfoil-outbox"),
        )
        .output()
        .unwrap();
    assert_code(&output, 0);
    // The workspace outlives the build, and what is archived has to be of this one.
    let archived = "build-${env.BUILD_NUMBER}.tlog-proof, build-${env.BUILD_NUMBER}.json";
    assert!(pipeline.contains(&format!("artifacts: \"{archived}\"")));
    let kept = ["build-17.tlog-proof", "build-17.json"].map(|name| runner.path("workspace").join(name));
    runner.verify(&kept[0], &kept[1]);
    let end = runner.leaf(2);
    assert_eq!(end["entry_fields"]["authentication"], "token");
    assert_eq!(end["entry_fields"]["source_id"], "jenkins");
    let event = payload(&end);
    assert_eq!(event["repo"]["full_name"], "acme/widgets");
    assert_eq!(event["source"]["host"], "git.example");
    assert!(!event.to_string().contains("secret"));
    assert!(!runner.path("workspace").join("pwned").exists());
    // The shell shows what it runs, and the token is not in it.
    assert!(!String::from_utf8_lossy(&output.stderr).contains(&token));
}

#[test]
fn units_wait_for_what_comes_later_and_give_nobody_up_too_soon() {
    for (unit, expected) in [
        // A log asks its witnesses as it starts.
        (
            "counterfoild.service",
            &[
                "After=network-online.target time-sync.target",
                "Wants=network-online.target time-sync.target",
                // Without it, a start after a restore or a wrong mount opens the log to all.
                "AssertPathExists=/var/lib/counterfoil/access.toml",
            ][..],
        ),
        // A disk may be full for long.
        (
            "counterfoil-witness.service",
            &["StartLimitIntervalSec=0", "Restart=always"][..],
        ),
    ] {
        let text = fs::read_to_string(deploy(unit)).unwrap();
        for line in expected {
            assert!(text.lines().any(|other| other == *line), "{unit}: {line}");
        }
    }
}
