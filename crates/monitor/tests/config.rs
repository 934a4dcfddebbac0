//! The configurations that are handed out are such that the monitor takes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, path::Path, time::Duration};

use counterfoil_merkle::Suite;
use counterfoil_monitor::{Config, ConfigError, FindingKind, MAX_LOGS};
use support::FakeLog;
use tempfile::TempDir;

const MANUAL: &str = include_str!("../../../docs/MONITOR.md");
const DEPLOYED: &str = include_str!("../../../deploy/monitor.toml");
const ALERTS: &str = include_str!("../../../deploy/monitor-alerts.yaml");

fn load(config: &str) -> Result<Config, ConfigError> {
    let directory = TempDir::with_prefix("counterfoil-monitor-").unwrap();
    let path = |name: &str| directory.path().join(name);
    let policy = FakeLog::new(Suite::Blake3).policy();
    fs::write(path("builds.policy"), policy).unwrap();
    fs::write(
        path("webhook.secret"),
        format!("whsec_{}\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    )
    .unwrap();
    fs::write(path("read.token"), "cft_7_s3cret\n").unwrap();
    fs::write(path("bad.token"), "two s3crets\n").unwrap();
    fs::write(path("monitor.toml"), config).unwrap();
    Config::load(&path("monitor.toml"))
}

#[test]
fn the_manual_s_example_is_a_configuration() {
    let (_, rest) = MANUAL.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    // The origin is that of the policy at hand.
    let config =
        load(&example.replace("\"log.example.com/builds\"", &format!("{:?}", support::ORIGIN))).unwrap();
    assert_eq!(config.interval, Duration::from_secs(30));
    assert_eq!((config.logs.len(), config.webhooks.len()), (1, 1));
    let log = &config.logs[0];
    assert_eq!((log.sources.len(), log.observers.len()), (3, 1));
    assert!(config.metrics_listen.unwrap().ip().is_loopback());
}

#[test]
fn the_deployed_example_is_a_configuration() {
    assert_eq!(
        load(DEPLOYED).unwrap().state_dir,
        Path::new("/var/lib/counterfoil-monitor")
    );
}

#[test]
fn the_manual_and_the_alerts_know_every_finding() {
    for kind in FindingKind::ALL {
        assert!(
            MANUAL.contains(&format!("| `{kind}` |")),
            "{kind} is not in the manual"
        );
        let critical = kind.severity() == counterfoil_monitor::Severity::Misbehaviour;
        assert_eq!(ALERTS.contains(kind.name()), critical, "{kind}");
    }
}

#[test]
fn a_source_may_have_a_token_and_an_age_of_its_own() {
    let source = |source: &str| {
        load(&format!(
            "state_dir = \"s\"\n[[log]]\nname = \"a\"\npolicy = \"builds.policy\"\nmax_head_age_seconds = 60\nsources = [{source}]\n"
        ))
    };
    for private in [
        "tiles = \"https://log.example/\"",
        "tiles = \"http://127.0.0.1:7480/logs/main/\"",
        "tiles = \"http://LOCALHOST/\"",
        "tiles = \"http://[::1]:1/\"",
        "grpc = \"https://log.example\"",
        "grpc = \"http://127.0.0.1:7480\", log = \"builds\"",
    ] {
        let config = source(&format!(
            "{{ {private}, token_file = \"read.token\", max_head_age_seconds = 7200 }}"
        ));
        let source = &config.unwrap().logs[0].sources[0];
        assert!(source.token.is_some(), "{private}");
        assert_eq!(source.max_head_age, Duration::from_secs(7200));
    }
    let plain = source("{ tiles = \"http://log.example/\" }").unwrap();
    assert_eq!(plain.logs[0].sources[0].max_head_age, Duration::from_secs(60));
    for exposed in [
        "tiles = \"http://log.example/\"",
        "tiles = \"http://10.0.0.1/\"",
        "tiles = \"http://localhost.example/\"",
        "grpc = \"http://log.example\"",
    ] {
        let refused = source(&format!("{{ {exposed}, token_file = \"read.token\" }}")).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("log.a.sources: the token is not sent to") && refused.contains("in the clear"),
            "{refused}"
        );
    }
    for file in ["none.token", "bad.token"] {
        let refused = source(&format!(
            "{{ tiles = \"https://log.example/\", token_file = {file:?} }}"
        ))
        .unwrap_err()
        .to_string();
        assert!(refused.contains(file) && !refused.contains("s3cret"), "{refused}");
    }
    for bad in [
        "{ token_file = \"read.token\" }",
        "{ tiles = \"https://a/\", grpc = \"https://a\" }",
        "{ tiles = \"https://a/\", log = \"main\" }",
        "{ tiles = \"https://a/\", max_head_age_seconds = 0 }",
        "{ tiles = \"https://a/\", user = \"a\" }",
    ] {
        assert!(matches!(source(bad), Err(ConfigError::Toml { .. })), "{bad}");
    }
}

#[test]
fn a_webhook_is_there_once() {
    let with = |urls: [&str; 2]| {
        let webhooks =
            urls.map(|url| format!("[[webhook]]\nurl = \"{url}\"\nsecret_file = \"webhook.secret\"\n"));
        load(&format!(
            "state_dir = \"s\"\n[[log]]\nname = \"a\"\npolicy = \"builds.policy\"\n\
             sources = [{{ tiles = \"https://log.example/\" }}]\n{}",
            webhooks.concat()
        ))
    };
    let config = with(["https://a.example/?key=one", "https://a.example/?key=two"]);
    assert_eq!(config.unwrap().webhooks.len(), 2);
    let refused = with(["https://a.example/?key=one", "https://A.example/?key=one"]).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("webhook.url: two webhooks") && !refused.contains("key=one"),
        "{refused}"
    );
}

#[test]
fn limits_hold_at_the_limit_and_past_it() {
    let log = |number: usize, sources: usize| {
        let sources: Vec<String> = (0..sources)
            .map(|source| format!("{{ tiles = \"http://a/{source}/\" }}"))
            .collect();
        format!(
            "[[log]]\nname = \"log-{number}\"\npolicy = \"builds.policy\"\nsources = [{}]\n",
            sources.join(",")
        )
    };
    let logs = |number: usize, sources| {
        let logs: String = (0..number).map(|number| log(number, sources)).collect();
        load(&format!("state_dir = \"s\"\n{logs}"))
    };
    assert_eq!(logs(MAX_LOGS, 1).unwrap().logs.len(), MAX_LOGS);
    assert!(matches!(logs(MAX_LOGS + 1, 1), Err(ConfigError::Value { .. })));
    assert!(logs(1, 16).is_ok());
    assert!(matches!(logs(1, 17), Err(ConfigError::Value { .. })));
    let age = |seconds: u64| {
        load(&format!(
            "state_dir = \"s\"\ninterval_seconds = {seconds}\n{}",
            log(1, 1)
        ))
    };
    assert!(age(1).is_ok());
    for bad in [0, 366 * 24 * 3600 + 1] {
        assert!(matches!(age(bad), Err(ConfigError::Toml { .. })), "{bad}");
    }
}
