//! Credentials on the command line, against a server that asks for them.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
};

use counterfoil_tests::{Data, Server, TestLog, counterfoil, json_with};
use rustix::fs::{CWD, Mode, mkfifoat};

/// A server where anyone may read, and who has a token may submit.
struct Guarded {
    data: Data,
    log: TestLog,
    server: Server,
    token: String,
}

impl Guarded {
    fn new() -> Self {
        let (data, log) = Data::with_main_log();
        fs::write(data.path().join("access.toml"), "anonymous = [\"read\"]\n").unwrap();
        let token = data.token(&["--role", "submit", "--role", "read", "--source", "build-farm"]);
        let server = Server::start(&data, &[]);
        Self {
            data,
            log,
            server,
            token,
        }
    }

    fn counterfoil(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil();
        command
            .arg("--json")
            .args(arguments)
            .env("COUNTERFOIL_SERVER", format!("http://{}", self.server.address()))
            .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
            .env("XDG_STATE_HOME", self.data.beside("state"))
            .stdin(Stdio::null());
        for name in ["COUNTERFOIL_TOKEN", "COUNTERFOIL_ID_TOKEN", "COUNTERFOIL_OUTBOX"] {
            command.env_remove(name);
        }
        command
    }

    fn submit(&self, id: &str) -> Command {
        self.counterfoil(&["submit", "--type", "ci.job.finished", "--source", "s", "--id", id])
    }

    fn waiting(&self) -> usize {
        let listed = json_with(&self.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
        listed["waiting"].as_array().unwrap().len()
    }
}

#[test]
fn a_token_lets_in_and_its_lack_is_told() {
    let guarded = Guarded::new();
    let file = guarded.data.beside("ci.token");
    fs::write(&file, format!("{}\n", guarded.token)).unwrap();
    let by_file = json_with(
        &guarded
            .submit("file")
            .arg("--token-file")
            .arg(&file)
            .output()
            .unwrap(),
        0,
    );
    assert_eq!(by_file["queued"], false);
    for name in ["COUNTERFOIL_TOKEN", "COUNTERFOIL_ID_TOKEN"] {
        let by_variable = guarded.submit(name).env(name, &guarded.token).output().unwrap();
        assert_eq!(json_with(&by_variable, 0)["queued"], false);
    }
    // A variable that is set to nothing is not set.
    let none = guarded
        .submit("none")
        .env("COUNTERFOIL_TOKEN", "")
        .output()
        .unwrap();
    assert_eq!(json_with(&none, 4)["error"]["kind"], "denied");

    let (head, secret) = guarded.token.rsplit_once('_').unwrap();
    let wrong = format!("{head}_{}", secret.chars().rev().collect::<String>());
    let refused = guarded
        .submit("wrong")
        .env("COUNTERFOIL_TOKEN", &wrong)
        .output()
        .unwrap();
    let error = json_with(&refused, 4);
    assert_eq!(
        (&error["error"]["kind"], &error["error"]["reason"]),
        (&"denied".into(), &"UNAUTHENTICATED".into())
    );
    assert!(!String::from_utf8_lossy(&refused.stderr).contains(secret));
    assert_eq!(guarded.waiting(), 0, "what is denied is not queued");
}

/// What waits is delivered in one call, and the event submitted in another.
#[test]
fn a_token_from_a_pipe_is_read_once() {
    let guarded = Guarded::new();
    let away = guarded
        .submit("a")
        .args(["--oidc-audience", "log"])
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/")
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
        .output()
        .unwrap();
    assert_eq!(json_with(&away, 0)["queued"], true);
    let mut child = guarded
        .submit("b")
        .args(["--token-file", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(guarded.token.as_bytes()).unwrap();
    drop(pipe);
    let submitted = child.wait_with_output().unwrap();
    assert_eq!(json_with(&submitted, 0)["queued"], false);
    assert_eq!(guarded.waiting(), 0);
}

/// By then the start of the command does not wait for it any more.
#[test]
fn a_token_from_a_pipe_may_come_late() {
    let guarded = Guarded::new();
    let pipe = guarded.data.beside("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let script = format!("sleep 7; printf %s {} > {}", guarded.token, pipe.display());
    let mut run = guarded.counterfoil(&["run", "--type", "ci.job", "--source", "s"]);
    run.args(["--deadline", "4", "--token-file"]).arg(&pipe);
    let job = run.args(["--", "sh", "-c", &script]).output().unwrap();
    assert_eq!(job.status.code(), Some(0), "{job:?}");
    let errors = String::from_utf8(job.stderr).unwrap();
    assert!(errors.contains("ci.job.started is queued"), "{errors}");
    assert!(errors.contains("ci.job.finished is leaf 2"), "{errors}");
    assert_eq!(guarded.waiting(), 0);
}

#[test]
fn a_denied_credential_holds_up_what_waits_and_fails_no_build() {
    let guarded = Guarded::new();
    let job = guarded
        .counterfoil(&[
            "run", "--type", "ci.job", "--source", "s", "--", "sh", "-c", "exit 7",
        ])
        .output()
        .unwrap();
    assert_eq!(job.status.code(), Some(7), "{job:?}");
    let errors = String::from_utf8(job.stderr).unwrap();
    assert!(
        errors.contains("\"denied\"") && errors.contains("ci.job.finished is queued"),
        "{errors}"
    );
    assert_eq!(guarded.waiting(), 2);

    let flush = || guarded.counterfoil(&["outbox", "flush"]);
    assert_eq!(
        json_with(&flush().output().unwrap(), 4)["error"]["kind"],
        "denied"
    );
    assert_eq!(guarded.waiting(), 2);
    let flushed = json_with(
        &flush().env("COUNTERFOIL_TOKEN", &guarded.token).output().unwrap(),
        0,
    );
    assert_eq!(flushed["recorded"], 2);
}

#[test]
fn an_empty_variable_is_not_set() {
    let guarded = Guarded::new();
    let submitted = guarded
        .submit("a")
        .env("COUNTERFOIL_TOKEN", &guarded.token)
        .envs(["COUNTERFOIL_POLICY", "COUNTERFOIL_LOG", "COUNTERFOIL_OUTBOX"].map(|name| (name, "")))
        .output()
        .unwrap();
    assert_eq!(json_with(&submitted, 0)["leaf_index"], 1);
    let listed = guarded
        .counterfoil(&["outbox", "list"])
        .envs(["COUNTERFOIL_SERVER", "COUNTERFOIL_LOG_KEY"].map(|name| (name, "")))
        .output()
        .unwrap();
    json_with(&listed, 0);
}

#[test]
fn another_key_for_a_known_log_is_told_before_its_file_is_blamed() {
    let guarded = Guarded::new();
    let submitted = guarded
        .submit("a")
        .env("COUNTERFOIL_TOKEN", &guarded.token)
        .output();
    json_with(&submitted.unwrap(), 0);
    // It has the same origin.
    let (_data, other) = Data::with_main_log();
    let refused = guarded
        .counterfoil(&["head"])
        .env("COUNTERFOIL_LOG_KEY", other.key().to_string())
        .output()
        .unwrap();
    let refused = json_with(&refused, 2);
    assert_eq!(refused["error"]["kind"], "state");
    let hint = refused["error"]["hints"][0].as_str().unwrap();
    assert!(hint.contains("--log-key or --policy"), "{hint}");
}

/// A runner of GitHub Actions, as far as ID tokens go: one answer for each request. Returns the requests.
fn runner(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token?api-version=2.0", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let answer = |answer: String| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer).collect()
    });
    (url, served)
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[test]
fn github_actions_gives_a_new_token_for_each_command() {
    let guarded = Guarded::new();
    let good = http(
        "200 OK",
        &format!("{{\"count\":1,\"value\":\"{}\"}}", guarded.token),
    );
    let (url, served) = runner(vec![
        good.clone(),
        http("403 Forbidden", ""),
        http("503 Service Unavailable", ""),
        http("200 OK", "{}"),
        good.clone(),
        // The first delivers what waits, the second submits.
        good,
    ]);
    let submit = |id: &str| {
        let mut command = guarded.submit(id);
        command
            .args(["--oidc-audience", "https://log.example/main"])
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", &url)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
            // It would see the request's token in the clear.
            .env("http_proxy", "http://127.0.0.1:1")
            .envs(["no_proxy", "NO_PROXY"].map(|name| (name, "")));
        command.output().unwrap()
    };
    assert_eq!(json_with(&submit("a"), 0)["queued"], false);
    assert_eq!(json_with(&submit("b"), 4)["error"]["kind"], "denied");
    // The runner is away as the log can be.
    assert_eq!(json_with(&submit("c"), 0)["queued"], true);
    assert_eq!(json_with(&submit("d"), 0)["queued"], true);
    assert_eq!(json_with(&submit("e"), 0)["queued"], false);
    assert_eq!(guarded.waiting(), 0);
    for request in served.join().unwrap() {
        let request = request.to_ascii_lowercase();
        let line = "get /token?api-version=2.0&audience=https%3a%2f%2flog.example%2fmain http/1.1\r\n";
        assert!(request.starts_with(line), "{request}");
        assert!(
            request.contains("authorization: bearer request-token\r\n"),
            "{request}"
        );
    }
}
