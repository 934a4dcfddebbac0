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
