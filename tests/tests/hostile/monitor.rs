//! A real monitor: an honest round, then one under attack, over each kind of source.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use counterfoil_monitor::{Change, Config, FindingKind, Timeouts};
use counterfoil_tests::{Attack, HostileLog, counterfoil};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, confirmed, run, suite_of};

struct Monitor {
    directory: TempDir,
}

impl Monitor {
    fn new(log: &HostileLog, policy: &str, sources: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("policy"), policy).unwrap();
        let source = |kind: &&str| match *kind {
            "tiles" => format!("{{ tiles = \"{}\" }}", log.tiles()),
            _ => format!("{{ grpc = \"{}\", log = \"main\" }}", log.server()),
        };
        let sources: Vec<_> = sources.iter().map(source).collect();
        let config = format!(
            "state_dir = \"state\"\n\n[[log]]\nname = \"hostile\"\npolicy = \"policy\"\nsources = [{}]\n",
            sources.join(", ")
        );
        fs::write(directory.path().join("monitor.toml"), config).unwrap();
        Self { directory }
    }

    fn round(&self) -> Ended {
        run(counterfoil()
            .args(["monitor", "--once", "--json", "--config"])
            .arg(self.directory.path().join("monitor.toml"))
            .current_dir(self.directory.path()))
    }

    /// The findings that a round opened, each with its evidence.
    fn findings(&self) -> Vec<(String, Option<PathBuf>)> {
        let ended = self.round();
        assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
        let findings = ended.stdout.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let evidence = event["evidence"].as_str().map(|path| self.path(path));
            (event["finding"].as_str().unwrap().to_owned(), evidence)
        });
        findings.collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(Path::new(path))
    }
}

fn trust(log: &HostileLog) -> String {
    format!("log {}\nquorum none\n", log.key())
}

/// Follows an honest log, then the same under attack; returns what was found.
async fn attacked(
    attack: Attack,
    turn: usize,
    sources: &[&str],
) -> (HostileLog, Monitor, Vec<(String, Option<PathBuf>)>) {
    let log = HostileLog::start(suite_of(turn)).await;
    let monitor = Monitor::new(&log, &trust(&log), sources);
    let honest = monitor.round();
    assert_eq!(honest.code, 0, "{}{}", honest.stdout, honest.stderr);
    log.attack(attack);
    let findings = monitor.findings();
    (log, monitor, findings)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_signs_convicts_it_before_anyone() {
    let mut turn = 0;
    for (attack, fact) in [
        (Attack::Fork, "fork"),
        (Attack::Rewrite, "inconsistency"),
        (Attack::RollBack, "rollback"),
        (Attack::InvalidEntry, "invalid_entry"),
        (Attack::DecreasingTime, "decreasing_time"),
    ] {
        for source in ["tiles", "grpc"] {
            turn += 1;
            let (log, _monitor, findings) = attacked(attack, turn, &[source]).await;
            let found = findings.iter().find(|(kind, _)| kind == fact);
            let (_, evidence) = found.unwrap_or_else(|| panic!("{attack:?} over {source}: {findings:?}"));
            let evidence = evidence.as_ref().unwrap();
            assert_eq!(confirmed(&log, evidence, fact), "log_signatures");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_with_different_views_are_a_fork() {
    let (log, _monitor, findings) = attacked(Attack::SplitView, 0, &["grpc", "tiles"]).await;
    let (_, evidence) = findings.iter().find(|(kind, _)| kind == "fork").unwrap();
    let basis = confirmed(&log, evidence.as_ref().unwrap(), "fork");
    assert_eq!(basis, "log_signatures");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_serves_is_found_though_it_convicts_nobody_else() {
    let mut turn = 0;
    let mut missed = Vec::new();
    for (attack, source, kind) in [
        (Attack::Replay, "tiles", "replayed_head"),
        (Attack::Replay, "grpc", "replayed_head"),
        (Attack::Freeze, "tiles", "stale_head"),
        (Attack::Withhold, "tiles", "withheld"),
        (Attack::Withhold, "grpc", "withheld"),
        (Attack::AlteredEntries, "tiles", "entry_mismatch"),
        (Attack::AlteredEntries, "grpc", "entry_mismatch"),
        (Attack::ReorderedEntries, "tiles", "entry_mismatch"),
        (Attack::ReorderedEntries, "grpc", "entry_mismatch"),
        (Attack::WrongProofs, "grpc", "unproven_consistency"),
        (Attack::NoProofs, "grpc", "unproven_consistency"),
        (Attack::WrongTiles, "tiles", "unproven_consistency"),
        (Attack::WrongKey, "tiles", "bad_signature"),
        (Attack::ForeignOrigin, "grpc", "bad_signature"),
        (Attack::OtherSuite, "tiles", "bad_signature"),
        (Attack::Garbage, "tiles", "bad_signature"),
        (Attack::Garbage, "grpc", "invalid_answer"),
        (Attack::Huge, "tiles", "invalid_answer"),
        (Attack::Huge, "grpc", "invalid_answer"),
        (Attack::NotModified, "tiles", "invalid_answer"),
        (Attack::CompressionBomb, "tiles", "unproven_consistency"),
    ] {
        turn += 1;
        let (_, _monitor, findings) = attacked(attack, turn, &[source]).await;
        if !findings.iter().any(|(found, _)| found == kind) {
            missed.push(format!("{attack:?} over {source}: {findings:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The program's patience would be a test's, so this is the library: answers that drip, and are never silent for long.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_is_given_up() {
    for (turn, source) in ["tiles", "grpc"].into_iter().enumerate() {
        let log = HostileLog::start(suite_of(turn)).await;
        let desk = Monitor::new(&log, &trust(&log), &[source]);
        let mut config = Config::load(&desk.path("monitor.toml")).unwrap();
        config.timeouts = Timeouts {
            answer: Duration::from_millis(400),
            ..Timeouts::default()
        };
        let mut monitor = counterfoil_monitor::Monitor::open(config, |_| {}).unwrap();
        assert_eq!(monitor.run_round().await[0].open, []);

        log.attack(Attack::Slow);
        let found = monitor.run_round().await.remove(0);
        let kinds: Vec<_> = found.open.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::Unreachable], "{source}");

        log.attack(Attack::None);
        let over = monitor.run_round().await.remove(0);
        assert_eq!(over.open, [], "{source}");
        assert!(over.events.iter().all(|event| event.change == Change::Resolved));
        assert_eq!(over.verified_entries, log.honest_size(), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_its_witnesses_is_found() {
    for (attack, kind) in [
        (Attack::None, "no_quorum"),
        (Attack::FalseCosignature, "bad_signature"),
    ] {
        let log = HostileLog::start(suite_of(0)).await;
        log.attack(attack);
        let monitor = Monitor::new(&log, &log.witnessed_policy(), &["tiles"]);
        let findings = monitor.findings();
        assert!(
            findings.iter().any(|(found, _)| found == kind),
            "{attack:?}: {findings:?}"
        );
    }
}
