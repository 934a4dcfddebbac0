//! API tokens: made, listed, shown to a running server, expired, revoked.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use counterfoil_event::Authentication;
use counterfoil_proto::v1;
use counterfoil_tests::{Data, Server, counterfoil, counterfoild, event, http_get, skip};
use tonic::Code;

use super::{
    assert_denied, eventually, on_record, reader, set_access, shown,
    streams::{SubmitStream, end_of},
    submit_as, submitter,
};

fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

fn token_command(data: &Data, arguments: &[&str]) -> std::process::Output {
    let mut command = counterfoild();
    command
        .arg("token")
        .args(arguments)
        .arg("--data")
        .arg(data.path());
    command.output().unwrap()
}

/// Everything that the server keeps or says, as far as it is text.
fn texts(directory: &Path, into: &mut String) {
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            texts(&path, into);
        } else if path.is_file() {
            into.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_submits_as_its_source_and_is_kept_nowhere() {
    let (data, log) = Data::with_main_log();
    set_access(&data, "");
    let server = Server::start(&data, &[]);
    // Made while the server runs.
    let submits = data.token(&["--role", "submit", "--source", "build-farm", "--note", "the farm"]);
    let audits = data.token(&["--role", "audit"]);
    let leaf = eventually(async || submit_as(&server, Some(&submits), "a").await.ok()).await;
    eventually(async || {
        let mut reader = reader(&server, Some(&audits));
        reader.get_tree_head(v1::GetTreeHeadRequest::default()).await.ok()
    })
    .await;
    let (entry, evidence) = on_record(&server, &log, &audits, leaf).await;
    assert_eq!(
        (entry.source_id(), entry.authentication()),
        ("build-farm", Authentication::Token)
    );
    assert_eq!(evidence, serde_json::json!({ "token": id(&submits) }));
    let shown = shown(&server, &log, &audits, leaf);
    for (name, value) in [
        ("channel", "build-farm"),
        ("submitter", "token"),
        ("evidence", id(&submits)),
    ] {
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with(name) && line.contains(value)),
            "{shown}"
        );
    }
    // A token does not say what it is for: only its source is bound.
    assert_denied(
        submit_as(&server, Some(&audits), "b").await,
        Code::PermissionDenied,
        "submit to a log",
    );

    let file = data.path().join(format!("tokens/{}.toml", id(&submits)));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut kept = server.errors();
    server.stop();
    texts(data.path(), &mut kept);
    for token in [&submits, &audits] {
        let secret = token.rsplit('_').next().unwrap();
        assert!(!kept.contains(secret), "a secret is kept or logged");
    }
    let listed = token_command(&data, &["list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line = listed
        .lines()
        .find(|line| line.starts_with(id(&submits)))
        .unwrap();
    assert!(
        line.contains("submit as build-farm in all logs")
            && line.contains("never expires")
            && line.ends_with("# the farm"),
        "{line}"
    );
    assert!(!listed.contains(submits.rsplit('_').next().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_takes_effect_at_once_on_streams_under_way_too() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "");
    let token = data.token(&["--role", "admin", "--source", "ci"]);
    let server = Server::start(&data, &[]);
    let (mut stream, _) = SubmitStream::start(submitter(&server, Some(&token)), "stream").await;
    let heads = reader(&server, Some(&token))
        .watch_tree_heads(v1::WatchTreeHeadsRequest::default())
        .await;
    let mut heads = heads.unwrap().into_inner();
    assert!(heads.message().await.unwrap().is_some());

    assert!(token_command(&data, &["revoke", id(&token)]).status.success());
    let again = token_command(&data, &["revoke", id(&token)]);
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("was revoked before"));
    let denied = eventually(async || submit_as(&server, Some(&token), "x").await.err()).await;
    assert_eq!(denied.code(), Code::Unauthenticated);
    assert!(
        denied.message().contains("unknown, revoked or expired"),
        "{denied:?}"
    );
    assert_denied(stream.submit().await, Code::Unauthenticated, "revoked");
    // Heads come each minute if nothing is recorded: let something be.
    let other = data.token(&["--role", "submit", "--source", "other"]);
    eventually(async || submit_as(&server, Some(&other), "y").await.ok()).await;
    assert_eq!(end_of(heads).await.code(), Code::Unauthenticated);

    // A file that is put back is a token again; who can write it could also make one.
    let listed = token_command(&data, &["list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("REVOKED"));
}

/// Builds stay green then, so whoever runs the log has to hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_no_token_and_its_use_is_told() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "");
    let token = data.token(&["--role", "submit", "--source", "ci", "--expires", "4s"]);
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let refused = || {
        let metrics = http_get(server.metrics_address(), "/metrics").body;
        let metrics = String::from_utf8(metrics).unwrap();
        let series = format!("counterfoil_token_refused_total{{token=\"{}\"}} ", id(&token));
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
        count.unwrap().parse::<u64>().unwrap()
    };
    // There from the start: a count that begins with the first refusal has not increased by it.
    assert_eq!(refused(), 0);
    submit_as(&server, Some(&token), "a").await.unwrap();
    let denied = eventually(async || submit_as(&server, Some(&token), "b").await.err()).await;
    assert_eq!(denied.code(), Code::Unauthenticated);
    assert_eq!(refused(), 1);
    // Strangers, who know no more than the id, count for nothing.
    let guess = format!("{}{}", &token[..token.len() - 64], "0".repeat(64));
    submit_as(&server, Some(&guess), "c").await.unwrap_err();
    assert_eq!(refused(), 1);
    submit_as(&server, Some(&token), "d").await.unwrap_err();
    assert_eq!(refused(), 2);
    // Said once, not each time.
    let errors = server.errors();
    assert_eq!(
        errors.matches("a token is still used that is expired").count(),
        1,
        "{errors}"
    );
    assert!(errors.contains(id(&token)), "{errors}");
    let listed = token_command(&data, &["list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("EXPIRED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_its_logs_alone() {
    let (data, _main) = Data::with_main_log();
    let other = data.init("other", "blake3");
    set_access(&data, "");
    let token = data.token(&["--role", "submit", "--source", "ci", "--log", "other"]);
    let server = Server::start(&data, &[]);
    assert_denied(
        submit_as(&server, Some(&token), "a").await,
        Code::PermissionDenied,
        "not for the log \"main\"",
    );
    let request = v1::SubmitRequest {
        log: other.name.clone(),
        event: Some(event("a", "")),
    };
    submitter(&server, Some(&token)).submit(request).await.unwrap();
    // Splunk's protocol has no place for a log's name: it is that of the token.
    let header = format!("Splunk {token}");
    let headers = [("authorization", header.as_str())];
    let sent = counterfoil_tests::http_post(
        server.address(),
        "/services/collector",
        &headers,
        br#"{"event": "x"}"#,
    );
    assert_eq!(sent.status, 200, "{sent:?}");
    server.stop();
    let sizes = |name: &str| {
        let output = counterfoild()
            .args(["fsck", "--json", "--log", name, "--data"])
            .arg(data.path())
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .unwrap()
            .to_string()
    };
    assert!(sizes("main").contains("\"tree_size\":1"), "{}", sizes("main"));
    assert!(sizes("other").contains("\"tree_size\":3"), "{}", sizes("other"));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let (data, _log) = Data::with_main_log();
    let token = data.token(&["--role", "read"]);
    let file = data.path().join(format!("tokens/{}.toml", id(&token)));
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
        assert!(refused.errors.contains("chmod 600"), "{}", refused.errors);
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    Server::start(&data, &[]).stop();
}

#[test]
fn a_broken_file_hides_no_other_token() {
    let (data, _log) = Data::with_main_log();
    let [good, exposed, broken] = [0; 3].map(|_| data.token(&["--role", "read"]));
    let file = |token: &str| data.path().join(format!("tokens/{}.toml", id(token)));
    fs::set_permissions(file(&exposed), Permissions::from_mode(0o644)).unwrap();
    fs::write(file(&broken), "nonsense").unwrap();
    let listed = token_command(&data, &["list"]);
    assert_eq!(listed.status.code(), Some(3), "{listed:?}");
    let (tokens, errors) = (
        String::from_utf8(listed.stdout).unwrap(),
        String::from_utf8(listed.stderr).unwrap(),
    );
    assert_eq!(tokens.lines().count(), 1, "{tokens}");
    assert!(tokens.starts_with(id(&good)), "{tokens}");
    for token in [&exposed, &broken] {
        assert!(errors.contains(file(token).to_str().unwrap()), "{errors}");
    }
}

#[test]
fn mistakes_are_told() {
    let (data, _log) = Data::with_main_log();
    for (arguments, code, told) in [
        (vec!["create"], 2, "--role"),
        (vec!["create", "--role", "root"], 2, "invalid value 'root'"),
        (vec!["create", "--role", "submit"], 3, "needs a source"),
        (
            vec!["create", "--role", "read", "--source", "ci"],
            3,
            "submit nothing",
        ),
        (
            vec!["create", "--role", "submit", "--source", "log"],
            2,
            "invalid value 'log'",
        ),
        (
            vec!["create", "--role", "read", "--log", "none"],
            3,
            "there is no log `none`",
        ),
        (
            vec!["create", "--role", "read", "--expires", "soon"],
            2,
            "such as 12h",
        ),
        (
            vec!["create", "--role", "read", "--expires", "2020-01-01"],
            3,
            "not in the future",
        ),
        (
            vec!["create", "--role", "read", "--note", "two\nlines"],
            3,
            "one line",
        ),
        (vec!["revoke", "0000000000000000"], 3, "there is no token"),
        (vec!["revoke", "../../etc/passwd"], 2, "16 hexadecimal digits"),
    ] {
        let output = token_command(&data, &arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(told), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(token_command(&data, &["list"]).stdout, b"");
}

/// A server follows no more files than that: it would go by those that it knew, and none would start.
#[test]
fn no_more_tokens_are_made_than_a_server_follows() {
    let (data, _log) = Data::with_main_log();
    let token = data.token(&["--role", "read"]);
    let tokens = data.path().join("tokens");
    let record = fs::read(tokens.join(format!("{}.toml", id(&token)))).unwrap();
    let copy = |number: u32| tokens.join(format!("{number:016x}.toml"));
    let files = || fs::read_dir(&tokens).unwrap().count();
    for number in 0..10_000 {
        fs::write(copy(number), &record).unwrap();
    }
    // More than a server follows, which somebody else put there.
    let revoked = token_command(&data, &["revoke", id(&token)]);
    let errors = String::from_utf8(revoked.stderr).unwrap();
    assert_eq!(revoked.status.code(), Some(3), "{errors}");
    assert!(
        errors.contains("goes on taking the token") && errors.contains("10001 files"),
        "{errors}"
    );
    for number in 0..17 {
        let refused = token_command(&data, &["create", "--role", "read"]);
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(3), "{errors}");
        assert!(
            errors.contains(&format!("holds {} files", files())) && errors.contains("EXPIRED or REVOKED"),
            "{errors}"
        );
        assert_eq!((refused.stdout.len(), files()), (0, 10_001 - number as usize));
        fs::remove_file(copy(number)).unwrap();
    }
    assert_eq!(files(), 9_984);
    let refused = token_command(&data, &["create", "--role", "read"]);
    assert_eq!(refused.status.code(), Some(3));
    fs::remove_file(copy(17)).unwrap();
    data.token(&["--role", "read"]);
    let again = token_command(&data, &["revoke", id(&token)]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("was revoked before"));
}

#[test]
fn a_token_that_nobody_was_shown_is_none() {
    let (data, _log) = Data::with_main_log();
    let refused = counterfoild()
        .args(["token", "create", "--role", "read", "--data"])
        .arg(data.path())
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{errors}");
    assert!(errors.contains("the token can't be printed"), "{errors}");
    assert_eq!(fs::read_dir(data.path().join("tokens")).unwrap().count(), 0);
}

/// The server could not read what is there, and would not start again.
#[test]
fn root_writes_nothing_into_another_users_directory() {
    let (data, _log) = Data::with_main_log();
    if fs::metadata(data.path()).unwrap().uid() != 0 {
        skip("only root can give a directory away");
        return;
    }
    let logs = data.path().join("logs");
    let assert_refused = |code: Option<i32>, errors: &str| {
        assert_eq!(code, Some(3), "{errors}");
        assert!(
            errors.contains("belongs to the user 12345") && errors.contains("sudo -u"),
            "{errors}"
        );
    };
    // The directory itself may be a mount.
    for user_of_data in [12_345, 0] {
        chown(data.path(), Some(user_of_data), None).unwrap();
        chown(&logs, Some(12_345), None).unwrap();
        for command in [
            &["token", "create", "--role", "read"][..],
            &["init", "--origin", "test.example/b", "--log", "b"],
            &["fsck", "--rebuild-index"],
            &["source", "remove", "x"],
        ] {
            let mut refused = counterfoild();
            refused.args(command).arg("--data").arg(data.path());
            let refused = refused.output().unwrap();
            assert_refused(refused.status.code(), &String::from_utf8(refused.stderr).unwrap());
        }
        let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
        assert_refused(refused.code, &refused.errors);
    }
    assert!(!data.path().join("tokens").exists() && !logs.join("b").exists());

    chown(data.path(), Some(12_345), None).unwrap();
    chown(&logs, Some(0), None).unwrap();
    data.token(&["--role", "read"]);
    Server::start(&data, &[]).stop();

    // Before there is a log, the directory is the owner's, unless that is root.
    let empty = Data::temporary();
    fs::create_dir(empty.path()).unwrap();
    chown(empty.path(), Some(12_345), None).unwrap();
    let refused = counterfoild()
        .args(["init", "--origin", "test.example/main", "--data"])
        .arg(empty.path())
        .output()
        .unwrap();
    assert_refused(refused.status.code(), &String::from_utf8(refused.stderr).unwrap());
    assert!(!empty.path().join("logs").exists());
}

/// A receipt needs no rights to be checked, and to be held against the log only those that everybody may have.
#[test]
fn whoever_may_read_holds_a_receipt_against_the_log() {
    let (data, log) = Data::with_main_log();
    set_access(&data, "anonymous = [\"read\"]");
    let token = data.token(&["--role", "submit", "--source", "ci"]);
    let server = Server::start(&data, &[]);
    let receipt = data.beside("event.tlog-proof");
    let run = |arguments: &[&str], token: Option<&str>| {
        let mut command = counterfoil();
        command
            .args(arguments)
            .arg("--json")
            .env("COUNTERFOIL_LOG_KEY", log.key().to_string())
            .env("XDG_STATE_HOME", data.beside("state"));
        if let Some(token) = token {
            command.env("COUNTERFOIL_TOKEN", token);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (receipt, server_url) = (receipt.to_str().unwrap(), format!("http://{}", server.address()));
    let submission = [
        "submit",
        "--server",
        &server_url,
        "--type",
        "t",
        "--source",
        "s",
        "--receipt",
        receipt,
    ];
    run(&submission, Some(&token));
    let verified = run(&["verify", receipt, "--server", &server_url], None);
    assert_eq!(verified["live_tree_head"]["tree_size"], 2, "{verified}");
    assert_eq!(verified["source"], serde_json::Value::Null);
    server.stop();
}
