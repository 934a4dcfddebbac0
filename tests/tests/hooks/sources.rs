//! Sources as an operator makes, rotates and removes them, beside a running server.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use counterfoil_tests::{Answer, Data, Hook, Server, counterfoild, http_get};

use crate::{assert_refused, assert_taken};

fn source(data: &Data, arguments: &[&str]) -> Output {
    let output = counterfoild()
        .arg("source")
        .args(arguments)
        .arg("--data")
        .arg(data.path())
        .stdin(Stdio::null())
        .output();
    output.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Delivers again and again until the server follows a change, which it does within some seconds.
fn until(hook: &Hook, server: &Server, prefix: &str, status: u16) -> Answer {
    for number in 0..100 {
        let answer = hook.deliver(server.address(), "push", &format!("{prefix}-{number}"), b"{}");
        if answer.status == status {
            return answer;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("the server does not follow");
}

/// The fingerprints of a source's secrets, the newest last.
fn fingerprints(data: &Data) -> Vec<String> {
    let listed = text(&source(data, &["list"]).stdout);
    let (_, secrets) = listed.trim_end().split_once("secrets ").unwrap();
    secrets.split(' ').map(str::to_owned).collect()
}

#[test]
fn secrets_rotate_without_a_restart_or_a_gap() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let old = Hook::add(&data, "github", "github", &[]);
    until(&old, &server, "appears", 201);

    let rotated = source(&data, &["rotate", "github"]);
    let new = old.with_secret(text(&rotated.stdout).trim_end());
    assert_ne!(new.secret, old.secret);
    until(&new, &server, "new", 201);
    assert_taken(&old.deliver(server.address(), "push", "old", b"{}"), false);

    let [first, second] = <[String; 2]>::try_from(fingerprints(&data)).unwrap();
    assert!(
        text(&rotated.stderr).contains(&format!("source retire github {first}")),
        "{rotated:?}"
    );
    assert!(source(&data, &["retire", "github", &first]).status.success());
    until(&old, &server, "retired", 401);
    assert_taken(&new.deliver(server.address(), "push", "after", b"{}"), false);
    assert_eq!(fingerprints(&data), std::slice::from_ref(&second));
    let last = source(&data, &["retire", "github", &second]);
    assert_eq!(last.status.code(), Some(3));
    assert!(text(&last.stderr).contains("1 to 8 secrets"), "{last:?}");

    assert!(source(&data, &["remove", "github"]).status.success());
    assert_refused(&until(&new, &server, "removed", 404), 404, "UNKNOWN_SOURCE");
    assert_eq!(source(&data, &["list"]).stdout, b"");
}

/// A GitLab that has no signing tokens could do nothing with one.
#[test]
fn a_rotation_makes_the_kind_of_secret_that_there_was() {
    let (data, _log) = Data::with_main_log();
    let token = data.beside("token");
    fs::write(&token, "a-token-of-some-length\n").unwrap();
    Hook::add(
        &data,
        "older",
        "gitlab",
        &["--secret-file", token.to_str().unwrap()],
    );
    Hook::add(&data, "newer", "gitlab", &[]);
    for (id, is_signing_token) in [("older", false), ("newer", true)] {
        let rotated = source(&data, &["rotate", id]);
        assert!(rotated.status.success(), "{rotated:?}");
        let secret = text(&rotated.stdout);
        assert_eq!(secret.starts_with("whsec_"), is_signing_token, "{id}: {secret}");
    }
}

#[test]
fn a_broken_file_keeps_the_source_that_it_was() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let path = data.path().join("sources/github.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("nonsense\n{good}")).unwrap();
    let other = Hook::add(&data, "other", "github", &[]);
    until(&other, &server, "other", 201);
    assert_taken(&hook.deliver(server.address(), "push", "d1", b"{}"), false);
    let errors = server.errors();
    assert!(
        errors.contains("github.toml") && !errors.contains(&hook.secret),
        "{errors}"
    );
    drop(server);

    let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
    assert_eq!(refused.code, Some(3));
    assert!(
        refused.errors.contains("github.toml can't be used"),
        "{}",
        refused.errors
    );
    assert!(!refused.errors.contains(&hook.secret), "{}", refused.errors);
    fs::write(&path, good).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
    assert!(refused.errors.contains("chmod 600"), "{}", refused.errors);
}

#[test]
fn secrets_come_from_files_and_not_from_the_command_line() {
    let (data, _log) = Data::with_main_log();
    let mut child = counterfoild()
        .args([
            "source",
            "add",
            "ours",
            "--provider",
            "github",
            "--secret-file",
            "-",
            "--data",
        ])
        .arg(data.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"our own secret, with spaces\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(!text(&output.stderr).contains("our own secret"), "{output:?}");
    let path = data.path().join("sources/ours.toml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let hook = Hook {
        id: "ours".to_owned(),
        provider: "github".to_owned(),
        secret: "our own secret, with spaces".to_owned(),
    };
    let server = Server::start(&data, &[]);
    assert_taken(&hook.deliver(server.address(), "push", "d1", b"{}"), false);
}

#[test]
fn a_secret_that_nobody_was_shown_is_none() {
    let (data, _log) = Data::with_main_log();
    let unseen = |arguments: &[&str]| {
        let output = counterfoild()
            .arg("source")
            .args(arguments)
            .arg("--data")
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains("the new secret can't be printed"), "{errors}");
    };
    unseen(&["add", "github", "--provider", "github"]);
    assert_eq!(source(&data, &["list"]).stdout, b"");
    Hook::add(&data, "github", "github", &[]);
    let before = fingerprints(&data);
    unseen(&["rotate", "github"]);
    assert_eq!(fingerprints(&data), before);
}

#[test]
fn mistakes_are_told() {
    let (data, _log) = Data::with_main_log();
    Hook::add(&data, "taken", "github", &[]);
    let short = data.beside("short");
    fs::write(&short, "short").unwrap();
    for (arguments, code, told) in [
        (
            vec!["add", "taken", "--provider", "github"],
            3,
            "there is a source `taken` already",
        ),
        (vec!["add", "x", "--provider", "svn"], 2, "no provider"),
        (vec!["add", "X", "--provider", "github"], 2, "invalid value 'X'"),
        (
            vec!["add", "log", "--provider", "github"],
            2,
            "invalid value 'log'",
        ),
        (
            vec!["add", "x", "--provider", "github", "--log", "other"],
            3,
            "has no log `other`",
        ),
        (
            vec!["add", "x", "--provider", "gitea", "--host", "https://git"],
            3,
            "the host is a name",
        ),
        (
            vec![
                "add",
                "x",
                "--provider",
                "github",
                "--secret-file",
                short.to_str().unwrap(),
            ],
            3,
            "16 to 255 characters",
        ),
        (vec!["rotate", "none"], 3, "there is no source `none`"),
        (vec!["remove", "none"], 3, "there is no source `none`"),
        (
            vec!["retire", "taken", "00000000"],
            3,
            "can't retire 00000000 of `taken`",
        ),
        (vec!["retire", "taken", "zz"], 2, "eight hex digits"),
    ] {
        let output = source(&data, &arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(told), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn deliveries_are_counted_by_what_became_of_them() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    // The alerts go by a count for each token too, which `access/tokens.rs` looks at.
    data.token(&["--role", "read"]);
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let address = server.metrics_address();
    // There from the start: a count that begins with the first refusal has not increased by it. And a source is silent only once
    // it has spoken.
    let metrics = text(&http_get(address, "/metrics").body);
    assert!(
        metrics.contains("counterfoil_source_refused_total{source=\"github\"} 0\n"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("counterfoil_source_last_recorded_seconds{"),
        "{metrics}"
    );
    for _ in 0..2 {
        hook.deliver(server.address(), "push", "d1", b"{}");
    }
    hook.deliver(server.address(), "push", "d1", b"[]");
    hook.with_secret("another-secret-of-some-length")
        .deliver(server.address(), "push", "d2", b"{}");
    let unknown = Hook {
        id: "unknown".to_owned(),
        ..hook.clone()
    };
    unknown.deliver(server.address(), "push", "d3", b"{}");

    let metrics = text(&http_get(address, "/metrics").body);
    for (outcome, count) in [
        ("recorded", 1),
        ("duplicate", 1),
        ("event_conflict", 1),
        ("wrong_signature", 1),
        ("unknown_source", 1),
    ] {
        let line = format!("counterfoil_intake_total{{path=\"Hooks\",outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line}in {metrics}");
    }
    assert!(
        metrics.contains("counterfoil_source_refused_total{source=\"github\"} 2\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("counterfoil_source_last_recorded_seconds{source=\"github\"} "),
        "{metrics}"
    );
    assert!(!metrics.contains("source=\"unknown\""), "{metrics}");
    assert!(
        metrics.contains("counterfoil_log_entries{log=\"main\"} 3\n"),
        "{metrics}"
    );
    // Whoever takes our alerts is alerted.
    let alerts = include_str!("../../../deploy/server-alerts.yaml");
    let names: Vec<_> = alerts
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("counterfoil_"))
        .collect();
    assert!(names.len() > 5);
    for name in names {
        // Only with TLS; `processes.rs` has it.
        let is_told = ['{', ' ']
            .iter()
            .any(|end| metrics.contains(&format!("\n{name}{end}")))
            || name == "counterfoil_tls_certificate_expires_seconds";
        assert!(is_told, "no {name} in {metrics}");
    }
    assert_eq!(http_get(address, "/hooks/github").status, 404);
    assert_eq!(http_get(server.address(), "/metrics").status, 404);

    // One that is gone would be taken for one that is silent.
    assert!(source(&data, &["remove", "github"]).status.success());
    for _ in 0..100 {
        if !text(&http_get(address, "/metrics").body).contains("source=\"github\"") {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("a source that was removed is not forgotten");
}
