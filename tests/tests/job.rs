//! `counterfoil run`: the command is left alone, and what became of it is on record.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::symlink,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use counterfoil_tests::{Data, Server, TestLog, counterfoil, ended, insist, ready};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

/// Variables of CI systems, and of ours, that the machine under the test may have.
const AMBIENT: [&str; 9] = [
    "GITEA_ACTIONS",
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

    /// The same, once there are so many, or never will be.
    fn waiting_at_last(&self, server: &str, count: usize) -> Vec<String> {
        for _ in 0..200 {
            if self.waiting_for(server).len() == count {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        self.waiting_for(server)
    }

    /// A file that takes no room, and longer to read than any test waits.
    fn vast_file(&self) -> String {
        let path = self.data.beside("vast");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn waiting(list: &mut Command) -> Vec<Value> {
    let output = list.output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["waiting"].as_array().unwrap().clone()
}

/// Takes connections, and never says a word.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// The command, run by a shell that ignores a signal. dash would not hand all of them on so.
fn ignoring(signal: &str, inner: &Command) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("trap '' {signal}; exec \"$@\""), "bash"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
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
        let mut child = ready(&mut job.run(&[], script));
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
    let (silent, server) = silent();
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
    let script = format!("trap '' TERM; kill -STOP {}; echo ready", server.pid());
    let mut child = ready(&mut job.run(&["--require-receipt"], &script));
    // The log would have had a minute.
    let status = insist(&mut child, Signal::TERM);
    server.signal(Signal::CONT);
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    let waiting = job.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["attributes"]["type"], "ci.job.finished");
    assert_eq!(job.payload(1)["type"], "ci.job.started");
}

/// A runner that cancels a job gives it some seconds between SIGTERM and SIGKILL.
#[test]
fn the_end_of_what_a_signal_ended_is_on_disk_before_the_log_answers() {
    let job = Job::without_server();
    let (_silent, server) = silent();
    let script = "echo ready; while :; do sleep 0.05; done";
    // Not even digests are waited for.
    let options = ["--deadline", "120", "--artifact", &job.vast_file()];
    let mut child = ready(job.run(&options, script).env("COUNTERFOIL_SERVER", &server));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let waiting = job.waiting_at_last(&server, 2);
    // It still waits for the log.
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(waiting, ["ci.job.started", "ci.job.finished"]);
}

/// Also where nothing is queued but for signals.
#[test]
fn the_end_of_what_a_signal_ended_is_on_disk_before_there_is_a_receipt() {
    let job = Job::new();
    let server = job.server.as_ref().unwrap();
    let script = format!(
        "kill -STOP {}; echo ready; while :; do sleep 0.05; done",
        server.pid()
    );
    let mut child = ready(&mut job.run(&["--require-receipt"], &script));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let waiting = job.waiting_at_last(&format!("http://{}", server.address()), 1);
    // It still waits for the log.
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(waiting, ["ci.job.finished"]);
}

#[test]
fn a_signal_ends_the_wait_for_digests() {
    let job = Job::without_server();
    let options = ["--artifact", &job.vast_file()];
    let mut child = ready(&mut job.run(&options, "trap '' TERM; echo ready"));
    let status = insist(&mut child, Signal::TERM);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(job.waiting().len(), 2);
}

/// The process that holds it may be stopped, or its disk hang.
#[test]
fn a_signal_reaches_the_command_though_another_process_holds_the_outbox() {
    let job = Job::without_server();
    assert!(job.run(&[], "exit 0").output().unwrap().status.success());
    let mut outboxes = fs::read_dir(job.data.beside("state/counterfoil/outbox")).unwrap();
    let outbox = outboxes.next().unwrap().unwrap().path();
    let lock = File::open(outbox.join("lock")).unwrap();
    lock.lock().unwrap();
    let heard = job.data.beside("heard");
    // By then its start waits for the lock.
    let script = format!(
        "trap 'touch {}; exit 5' TERM; sleep 1; echo ready; while :; do sleep 0.05; done",
        heard.display()
    );
    let mut child = ready(&mut job.run(&[], &script));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    for _ in 0..100 {
        if heard.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let is_heard = heard.exists();
    drop(lock);
    let status = ended(&mut child);
    assert!(is_heard);
    assert_eq!(status.and_then(|status| status.code()), Some(5));
    assert_eq!(job.waiting().len(), 4);
}

/// Whoever is to write it may be slow, or hang.
#[test]
fn a_token_that_does_not_come_holds_up_neither_the_command_nor_its_signals() {
    let job = Job::without_server();
    let pipe = job.data.beside("token");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let options = |deadline| ["--token-file", pipe.to_str().unwrap(), "--deadline", deadline];
    // Which of the two is looked at first, the command or its record, is left to chance.
    for turn in 1..=4 {
        let mut run = job.run(&options("1"), "exit 7");
        let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = ended(&mut child);
        assert_eq!(status.and_then(|status| status.code()), Some(7));
        assert_eq!(job.waiting().len(), 2 * turn);
    }
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = ready(&mut job.run(&options("120"), script));
    let status = insist(&mut child, Signal::TERM);
    assert_eq!(status.and_then(|status| status.code()), Some(5));
    assert_eq!(job.waiting().len(), 10);
}

#[test]
fn a_signal_ends_the_wait_for_the_record_of_the_start() {
    let job = Job::without_server();
    let (_silent, server) = silent();
    let mut run = job.run(&["--deadline", "120"], "trap '' TERM; echo ready");
    let mut child = ready(run.env("COUNTERFOIL_SERVER", &server));
    let status = insist(&mut child, Signal::TERM);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(job.waiting_for(&server), ["ci.job.started", "ci.job.finished"]);
}

/// As `nohup` has it.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let job = Job::new();
    let inner = job.run(&[], "echo ready; read line; exit 5");
    let mut child = ready(ignoring("HUP", &inner).stdin(Stdio::piped()));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // Nobody cancelled it.
    assert_eq!(job.payload(2)["outcome"], "failure");
}

/// The kernel keeps no end of a child for who ignores its signal.
#[test]
fn a_command_has_an_end_though_the_signal_of_it_was_ignored() {
    let job = Job::new();
    let output = ignoring("CHLD", &job.run(&[], "exit 3")).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let end = job.payload(2);
    assert_eq!(
        (&end["outcome"], &end["process"]["exit_code"]),
        (&"failure".into(), &3.into())
    );
}

/// A workspace may outlive its build.
#[test]
fn a_receipt_is_of_this_run_or_not_there() {
    let mut job = Job::new();
    let (receipt, link) = (job.data.beside("end.tlog-proof"), job.data.beside("link"));
    let options = ["--receipt", receipt.to_str().unwrap()];
    let output = job.run(&options, "exit 0").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(receipt.exists());
    assert!(!job.data.beside("end.tlog-proof.unlinked").exists());

    job.server.take().unwrap().stop();
    let output = job.run(&options, "exit 0").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!receipt.exists());
    let errors = String::from_utf8(output.stderr).unwrap();
    // Of the start nobody wanted one.
    assert_eq!(errors.matches("there is no receipt").count(), 1, "{errors}");

    fs::write(&receipt, "of an earlier build").unwrap();
    let required = [&["--require-receipt"], &options[..]].concat();
    let output = job.run(&required, "exit 0").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!receipt.exists());

    // A link stays; what it leads to is emptied.
    fs::write(&receipt, "of an earlier build").unwrap();
    symlink(&receipt, &link).unwrap();
    let options = ["--receipt", link.to_str().unwrap()];
    let output = job.run(&options, "exit 0").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&receipt).unwrap(), b"");
}

#[test]
fn what_was_made_is_shown_without_the_log_by_receipt_and_payload() {
    let mut job = Job::new();
    let [made, receipt, payload] =
        ["widgets.tar", "end.tlog-proof", "end.json"].map(|name| job.data.beside(name));
    let options = [
        "--artifact",
        made.to_str().unwrap(),
        "--receipt",
        receipt.to_str().unwrap(),
        "--payload-to",
        payload.to_str().unwrap(),
    ];
    let run = |job: &Job| {
        let mut command = job.run(&options, "printf abc > \"$0\"");
        let output = command.arg(&made).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    run(&job);
    job.server.take().unwrap().stop();
    let verified = job
        .command(&["verify"])
        .arg(&receipt)
        .arg("--payload")
        .arg(&payload)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let end: Value = serde_json::from_slice(&fs::read(&payload).unwrap()).unwrap();
    assert_eq!(
        (&end["type"], &end["artifacts"][0]["digest"]),
        (
            &"ci.job.finished".into(),
            &"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into()
        )
    );

    // The next end is queued.
    run(&job);
    assert!(!receipt.exists() && !payload.exists());
}

/// As where another user made it.
#[test]
fn an_outbox_that_can_not_be_used_keeps_nothing_from_the_log() {
    let job = Job::new();
    let file = job.data.beside("file");
    fs::write(&file, "").unwrap();
    let options = ["--outbox", file.to_str().unwrap()];
    let output = job.run(&options, "exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let errors = String::from_utf8(output.stderr).unwrap();
    let warnings = errors.matches("is submitted past all that may wait").count();
    assert_eq!(warnings, 2, "{errors}");
    assert_eq!(job.payload(1)["type"], "ci.job.started");
    assert_eq!(job.payload(2)["type"], "ci.job.finished");
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
fn a_payload_that_can_not_be_written_to_its_end_is_a_failure() {
    let job = Job::new();
    assert!(job.run(&[], "true").output().unwrap().status.success());
    job.payload(1);
    let get = || job.command(&["get", "1", "--payload-to", "-"]);
    // It is one line without an end, which stays in the process until somebody flushes it.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let failed = get().stdout(full).output().unwrap();
    assert_eq!(failed.status.code(), Some(2), "{failed:?}");
    let error = String::from_utf8(failed.stderr).unwrap();
    assert!(
        error.starts_with("error: can't write standard output: "),
        "{error}"
    );

    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let unread = get().stdout(writer).output().unwrap();
    assert_eq!(unread.status.code(), Some(0), "{unread:?}");
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
        // Without the receipt nobody could check it.
        job.run(&["--payload-to", "end.json"], &script),
        job.run(&["--receipt", "end", "--payload-to", "end"], &script),
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
