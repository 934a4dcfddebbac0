//! `counterfoil run`: the command is left alone, and what became of it is on record.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use counterfoil_tests::{Data, Server, TestLog, counterfoil};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Variables of CI systems, and of ours, that the machine under the test may have.
const AMBIENT: [&str; 8] = [
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "CIRCLECI",
    "BUILDKITE",
    "TF_BUILD",
    "JENKINS_URL",
    "COUNTERFOIL_OUTBOX",
    "COUNTERFOIL_TOKEN",
];

struct Job {
    data: Data,
    log: TestLog,
    server: Option<Server>,
}

impl Job {
    fn new() -> Self {
        let (data, log) = Data::with_main_log();
        let server = Some(Server::start(&data, &[]));
        Self { data, log, server }
    }

    /// Nobody listens at port 1.
    fn without_server() -> Self {
        let (data, log) = Data::with_main_log();
        Self {
            data,
            log,
            server: None,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil();
        let address = self.server.as_ref().map(|server| server.address().to_string());
        command
            .args(arguments)
            .env(
                "COUNTERFOIL_SERVER",
                format!("http://{}", address.as_deref().unwrap_or("127.0.0.1:1")),
            )
            .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
            .env("XDG_STATE_HOME", self.data.beside("state"));
        for name in AMBIENT {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.command(&[
            "run",
            "--type",
            "ci.job",
            "--source",
            "https://ci.test.example/acme",
        ]);
        command
            .args(options)
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::null());
        command
    }

    /// What was recorded as leaf `index`.
    fn payload(&self, index: u64) -> Value {
        // An entry is read under a published head, and those come a little later.
        for _ in 0..100 {
            let output = self
                .command(&["get", &index.to_string(), "--payload-to", "-"])
                .output()
                .unwrap();
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("leaf {index} is not published")
    }

    fn waiting(&self) -> Vec<Value> {
        waiting(&mut self.command(&["outbox", "list", "--json"]))
    }

    /// The types of what waits for another server.
    fn waiting_for(&self, server: &str) -> Vec<String> {
        let mut list = self.command(&["outbox", "list", "--json"]);
        let waiting = waiting(list.env("COUNTERFOIL_SERVER", server));
        let types = waiting.iter().map(|item| &item["attributes"]["type"]);
        types
            .map(|event_type| event_type.as_str().unwrap().to_owned())
            .collect()
    }
}

fn waiting(list: &mut Command) -> Vec<Value> {
    let output = list.output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["waiting"].as_array().unwrap().clone()
}

/// A service for ID tokens that answers each request with this status.
fn token_service(status: &'static str) -> String {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/?v=2", service.local_addr().unwrap());
    thread::spawn(move || {
        for visit in service.incoming() {
            let mut visit = visit.unwrap();
            let _ = visit.read(&mut [0; 4_096]);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = visit.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_command_is_recorded_and_left_alone() {
    let job = Job::new();
    let made = job.data.beside("widgets.tar");
    let receipt = job.data.beside("end.tlog-proof");
    let script = "read line; echo \"$line\"; echo err >&2; printf abc > \"$0\"; exit 3";
    let options = [
        "--name",
        "pack",
        "--artifact",
        made.to_str().unwrap(),
        "--artifact",
        "absent",
        "--receipt",
        receipt.to_str().unwrap(),
    ];
    let mut command = job.run(&options, script);
    command.arg(&made);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_REPOSITORY", "acme/widgets")
        .env("GITHUB_SHA", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
        .env("GITHUB_RUN_ID", "17");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"hello\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("err\n") && errors.contains("warning: no artifact absent"),
        "{errors}"
    );

    let (start, end) = (job.payload(1), job.payload(2));
    assert_eq!(
        (&start["type"], &end["type"]),
        (&"ci.job.started".into(), &"ci.job.finished".into())
    );
    assert_eq!(start["process"]["id"], end["process"]["id"]);
    assert_eq!(end["outcome"], "failure");
    assert_eq!(
        (&end["process"]["exit_code"], &end["process"]["name"]),
        (&3.into(), &"pack".into())
    );
    assert_eq!(end["repo"]["full_name"], "acme/widgets");
    assert_eq!(end["run"]["id"], "17");
    let artifacts = end["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 1);
    assert_eq!(
        artifacts[0]["digest"],
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let verified = job.command(&["verify"]).arg(&receipt).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    // Nothing of the command's arguments is on record.
    assert!(!end.to_string().contains("read line"));
}

#[test]
fn a_build_does_not_fail_because_the_log_is_away() {
    let job = Job::without_server();
    for (script, code) in [("exit 0", 0), ("exit 7", 7)] {
        let output = job.run(&[], script).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("ci.job.finished is queued in "), "{errors}");
    }
    let waiting = job.waiting();
    let types: Vec<_> = waiting
        .iter()
        .map(|item| item["attributes"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "ci.job.started",
            "ci.job.finished",
            "ci.job.started",
            "ci.job.finished"
        ]
    );

    // Who asks for receipts gets them, or nothing runs.
    let ran = job.data.beside("ran");
    let output = job
        .run(&["--require-receipt"], &format!("touch {}", ran.display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!ran.exists());
}

#[test]
fn credentials_that_can_not_be_had_do_not_fail_a_build() {
    let job = Job::new();
    let output = job
        .run(&["--token-file", "absent.token"], "exit 0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("can't read absent.token"), "{errors}");
    assert_eq!(job.waiting().len(), 2);
}

/// What stands against the caller or the log now may not stand against it later.
#[test]
fn what_is_not_refused_for_good_waits() {
    let job = Job::new();
    for (status, waiting) in [("403 Forbidden", 2), ("429 Too Many Requests", 4)] {
        let output = job
            .run(&["--oidc-audience", "log"], "exit 0")
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", token_service(status))
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(&format!("HTTP status {status}")), "{errors}");
        assert_eq!(job.waiting().len(), waiting, "{status}: {errors}");
    }
    let output = job.run(&["--log", "nosuch"], "exit 0").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut list = job.command(&["outbox", "list", "--json", "--log", "nosuch"]);
    assert_eq!(waiting(&mut list).len(), 2, "{output:?}");
}

#[test]
fn signals_reach_the_command_and_its_end_is_recorded() {
    let job = Job::new();
    let mut leaf = 1;
    for (signal, script, code, outcome) in [
        (
            Signal::TERM,
            "echo ready; while :; do sleep 0.05; done",
            128 + 15,
            "cancelled",
        ),
        (
            Signal::INT,
            "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done",
            5,
            "cancelled",
        ),
    ] {
        let mut child = job
            .run(&[], script)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        leaf += 1;
        assert_eq!(job.payload(leaf)["outcome"], outcome);
        leaf += 1;
    }
    // A signal that came from elsewhere.
    let output = job.run(&[], "kill -KILL $$").output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9));
    let end = job.payload(leaf + 1);
    assert_eq!(
        (&end["outcome"], &end["process"]["signal"]),
        (&"error".into(), &9.into())
    );
}

#[test]
fn a_signal_while_a_receipt_is_waited_for_leaves_the_command_alone() {
    let job = Job::without_server();
    // Takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let ran = job.data.beside("ran");
    let child = job
        .run(&["--require-receipt"], &format!("touch {}", ran.display()))
        .env("COUNTERFOIL_SERVER", server)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _connection = silent.accept().unwrap();
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 15), "{output:?}");
    // The log would have had a minute.
    assert!(signalled.elapsed() < Duration::from_secs(30));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the command is not run"));
    assert!(!ran.exists());
}

#[test]
fn a_signal_ends_the_wait_for_the_receipt_of_the_end() {
    let job = Job::new();
    let server = job.server.as_ref().unwrap();
    // The log stops in the middle.
    let script = format!("trap '' TERM; kill -STOP {}; echo stopped", server.pid());
    let mut child = job
        .run(&["--require-receipt"], &script)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "stopped\n");
    let signalled = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        // The first may still reach the script, which ignores it.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        thread::sleep(Duration::from_millis(100));
    };
    // The log would have had a minute.
    assert!(signalled.elapsed() < Duration::from_secs(30));
    server.signal(Signal::CONT);
    assert_eq!(status.code(), Some(3));
    let waiting = job.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["attributes"]["type"], "ci.job.finished");
    assert_eq!(job.payload(1)["type"], "ci.job.started");
}

/// A runner that cancels a job gives it some seconds between SIGTERM and SIGKILL.
#[test]
fn the_end_of_what_a_signal_ended_is_on_disk_before_the_log_answers() {
    let job = Job::without_server();
    // Takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let script = "echo ready; while :; do sleep 0.05; done";
    let mut child = job
        .run(&["--deadline", "120"], script)
        .env("COUNTERFOIL_SERVER", &server)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        waiting = job.waiting_for(&server);
        if waiting.len() == 2 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    // It still waits for the log.
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(waiting, ["ci.job.started", "ci.job.finished"]);
}

#[test]
fn a_signal_ends_the_wait_for_the_record_of_the_start() {
    let job = Job::without_server();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let mut child = job
        .run(&["--deadline", "120"], "trap '' TERM; echo ready")
        .env("COUNTERFOIL_SERVER", &server)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let mut status = None;
    for _ in 0..200 {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        // The first may still reach the script, which ignores it.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(job.waiting_for(&server), ["ci.job.started", "ci.job.finished"]);
}

/// As `nohup` has it.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let job = Job::new();
    let inner = job.run(&[], "echo ready; read line; exit 5");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // Nobody cancelled it.
    assert_eq!(job.payload(2)["outcome"], "failure");
}

#[test]
fn nobody_has_to_read_what_is_said() {
    let job = Job::new();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let status = job
        .run(&["--artifact", "absent"], "exit 0")
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(job.payload(1)["type"], "ci.job.started");
    assert_eq!(job.payload(2)["type"], "ci.job.finished");
}

#[test]
fn a_command_that_can_not_be_run_ends_as_in_a_shell() {
    let job = Job::new();
    let not_executable = job.data.beside("text");
    fs::write(&not_executable, "no program").unwrap();
    for (program, code) in [
        ("no-such-program-here", 127),
        (not_executable.to_str().unwrap(), 126),
    ] {
        let output = job
            .command(&["run", "--type", "ci.check", "--source", "s", "--", program])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: can't run"));
    }
    assert_eq!(job.payload(4)["process"]["started"], false);
}

#[test]
fn a_wrong_command_line_runs_nothing() {
    let job = Job::new();
    let ran = job.data.beside("ran");
    let script = format!("touch {}", ran.display());
    // There is room for `.started`, and none for `.finished`.
    let too_long = "x".repeat(120);
    for wrong in [
        job.command(&[
            "run", "--type", "ci job", "--source", "s", "--", "sh", "-c", &script,
        ]),
        job.command(&[
            "run", "--type", &too_long, "--source", "s", "--", "sh", "-c", &script,
        ]),
        job.command(&["run", "--type", "ci.job", "--", "sh", "-c", &script]),
        job.command(&[
            "run",
            "--type",
            "ci.job",
            "--source",
            "s",
            "--artifact",
            "",
            "--",
            "sh",
            "-c",
            &script,
        ]),
    ] {
        let mut wrong = wrong;
        assert_eq!(wrong.output().unwrap().status.code(), Some(2));
    }
    assert!(!ran.exists());
}
