//! `counterfoil`: its exit codes, what it calls the attack, and the evidence that it leaves.

use std::path::{Path, PathBuf};

use counterfoil_tests::{Attack, HostileLog, counterfoil};
use serde_json::Value;

use crate::{confirmed, run, suite_of};

const MISBEHAVED: i32 = 1;

/// What one command said of a log.
#[derive(Debug)]
struct Said {
    code: i32,
    /// The misbehaviour's name or, where it is none, the kind of the failure.
    name: String,
    evidence: Option<PathBuf>,
}

fn ask(log: &HostileLog, state: &Path, arguments: &[&str]) -> Said {
    let ended = run(counterfoil()
        .args(arguments)
        .args(["--json", "--server", &log.server(), "--state-dir"])
        .arg(state));
    let error: Value = ended
        .stderr
        .lines()
        .last()
        .map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    let error = &error["error"];
    let name = error["misbehaviour"].as_str().or(error["kind"].as_str());
    Said {
        code: ended.code,
        name: name.unwrap_or_default().to_owned(),
        evidence: error["evidence_file"].as_str().map(PathBuf::from),
    }
}

/// Asks an honest log for its head, then the same log under attack.
async fn attacked(attack: Attack, turn: usize, arguments: &[&str]) -> (HostileLog, Said) {
    let log = HostileLog::start(suite_of(turn)).await;
    let state = tempfile::tempdir().unwrap().keep();
    let key = log.key().to_string();
    let trusted = [arguments, &["--log-key", &key]].concat();
    assert_eq!(ask(&log, &state, &["head", "--log-key", &key]).code, 0);
    log.attack(attack);
    let said = ask(&log, &state, &trusted);
    (log, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_signs_convicts_it_before_anyone() {
    let attacks: [(Attack, &[&str], &str); 5] = [
        (Attack::Fork, &["head"], "fork"),
        (Attack::Rewrite, &["head"], "inconsistency"),
        (Attack::Rewrite, &["get", "7"], "inconsistency"),
        (Attack::RollBack, &["head"], "rollback"),
        (Attack::InvalidEntry, &["get", "21"], "invalid_entry"),
    ];
    for (turn, (attack, arguments, name)) in attacks.into_iter().enumerate() {
        let (log, said) = attacked(attack, turn, arguments).await;
        assert_eq!((said.code, &said.name[..]), (MISBEHAVED, name), "{attack:?}");
        let evidence = said.evidence.unwrap();
        assert_eq!(confirmed(&log, &evidence, name), "log_signatures", "{attack:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_serves_is_caught_though_it_convicts_nobody_else() {
    let attacks: [(Attack, &[&str], &str); 8] = [
        (Attack::Replay, &["head"], "rollback"),
        (Attack::WrongProofs, &["head"], "unproven_consistency"),
        (Attack::NoProofs, &["head"], "unproven_consistency"),
        (Attack::WrongKey, &["head"], "unverified_head"),
        (Attack::ForeignOrigin, &["head"], "unverified_head"),
        (Attack::OtherSuite, &["head"], "unverified_head"),
        (Attack::Garbage, &["head"], "invalid_answer"),
        (Attack::Huge, &["head"], "invalid_answer"),
    ];
    for (turn, (attack, arguments, name)) in attacks.into_iter().enumerate() {
        let (_, said) = attacked(attack, turn, arguments).await;
        assert_eq!((said.code, &said.name[..]), (MISBEHAVED, name), "{attack:?}");
        assert_eq!(said.evidence, None, "{attack:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_not_the_one_recorded_is_caught_and_kept() {
    for (turn, attack) in [Attack::AlteredEntries, Attack::ReorderedEntries]
        .into_iter()
        .enumerate()
    {
        let (log, said) = attacked(attack, turn, &["get", "26"]).await;
        assert_eq!(
            (said.code, &said.name[..]),
            (MISBEHAVED, "entry_mismatch"),
            "{said:?}"
        );
        let basis = confirmed(&log, &said.evidence.unwrap(), "entry_mismatch");
        assert_eq!(basis, "observers_word");
    }
}

/// The log signed what it says, so nothing but the payload itself tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_normal_form_that_no_adapter_makes_is_caught_by_making_it_again() {
    let (log, said) = attacked(Attack::FalseForm, 0, &["get", "22", "--renormalise"]).await;
    assert_eq!(
        (said.code, &said.name[..]),
        (MISBEHAVED, "normal_form"),
        "{said:?}"
    );

    let key = log.key().to_string();
    let get = |index: &str| {
        let state = tempfile::tempdir().unwrap();
        run(counterfoil()
            .args([
                "get",
                index,
                "--renormalise",
                "--log-key",
                &key,
                "--server",
                &log.server(),
            ])
            .arg("--state-dir")
            .arg(state.path()))
    };
    let lie = get("22");
    let difference = r#"actor.login: the log has "mallory", the adapter makes "octocat""#;
    assert!(lie.stderr.contains(difference), "{}", lie.stderr);
    assert!(
        lie.stderr
            .contains("leaf 22 commits to is not what github/4 makes"),
        "{}",
        lie.stderr
    );
    let honest = get("21");
    assert_eq!(honest.code, 0, "{}", honest.stderr);
    assert!(
        honest.stdout.contains("what github/4 makes of the payload"),
        "{}",
        honest.stdout
    );
    let none = get("7");
    assert!(
        none.code == 0 && none.stdout.contains("no adapter of the log read this"),
        "{}",
        none.stdout
    );
}

/// Who knows nothing of the log is told that there is no such entry. A head that covers it, or a receipt, shows otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_withheld_is_missed_by_who_knows_a_head_or_a_receipt() {
    let withheld = |said: Said| {
        assert_eq!((said.code, &said.name[..]), (MISBEHAVED, "withheld"));
        assert_eq!(said.evidence, None);
    };
    let (log, said) = attacked(Attack::Withhold, 0, &["get", "7"]).await;
    withheld(said);

    let scratch = tempfile::tempdir().unwrap();
    let receipt = scratch.path().join("seven.tlog-proof");
    let (receipt, key) = (receipt.to_str().unwrap(), log.key().to_string());
    let ask = |state: &str, arguments: &[&str]| {
        let trusted = [arguments, &["--log-key", &key]].concat();
        ask(&log, &scratch.path().join(state), &trusted)
    };
    let said = ask("stranger", &["get", "7"]);
    assert_eq!((said.code, &said.name[..]), (5, "not_found"));

    withheld(ask("holder", &["receipt", "7", "--output", receipt]));
    assert!(!Path::new(receipt).exists());
    log.attack(Attack::None);
    let fetched = ask("early holder", &["receipt", "7", "--output", receipt]);
    assert_eq!(fetched.code, 0, "{fetched:?}");
    log.attack(Attack::Withhold);
    withheld(ask("verifier", &["verify", receipt]));
}

/// No signature covers the salt of a receipt: what the log serves of the entry shows whether it is the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_with_another_salt_is_not_handed_on() {
    let scratch = tempfile::tempdir().unwrap();
    let receipt = scratch.path().join("seven.tlog-proof");
    let output = receipt.to_str().unwrap();
    let (log, said) = attacked(Attack::FalseSalt, 0, &["receipt", "7", "--output", output]).await;
    assert_eq!((said.code, &said.name[..]), (MISBEHAVED, "unverified"));
    assert!(!receipt.exists());

    let key = log.key().to_string();
    for (attack, is_verified) in [(Attack::NoPayloads, false), (Attack::None, true)] {
        log.attack(attack);
        let fetch = |json: &[&str]| {
            let ended = run(counterfoil()
                .args(["receipt", "7", "--output", output, "--log-key", &key])
                .args(["--server", &log.server(), "--state-dir"])
                .arg(scratch.path().join(format!("{attack:?}")))
                .args(json));
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            ended.stdout
        };
        let said: Value = serde_json::from_str(&fetch(&["--json"])).unwrap();
        assert_eq!(said["salt_verified"], is_verified);
        let unchecked = "not checked: the payload is not served";
        assert_eq!(fetch(&[]).contains(unchecked), !is_verified);
        assert!(receipt.exists());
    }
}

/// The log signs what stands in one, and anybody may add lines to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_with_a_command_to_a_runner_is_not_printed() {
    let log = HostileLog::start(suite_of(1)).await;
    log.attack(Attack::DeceptiveLine);
    let scratch = tempfile::tempdir().unwrap();
    let receipt = scratch.path().join("seven.tlog-proof");
    let fetch = |more: &[&str]| {
        let key = log.key().to_string();
        run(counterfoil()
            .args(["receipt", "7", "--log-key", &key, "--server", &log.server()])
            .arg("--state-dir")
            .arg(scratch.path().join("state"))
            .args(more))
    };
    for more in [&[][..], &["--output", "-"]] {
        let refused = fetch(more);
        assert_eq!((refused.code, &*refused.stdout), (MISBEHAVED, ""), "{more:?}");
        let problem = "a terminal or a CI runner may take for a command";
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
    for more in [&["--json"][..], &["--output", receipt.to_str().unwrap()]] {
        assert_eq!(fetch(more).code, 0, "{more:?}");
    }
    assert!(receipt.exists());
}

/// A refusal is the bare word of whoever answers, and nobody is there to submit a build's events again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_refuses_for_good_a_build_sets_aside() {
    let log = HostileLog::start(suite_of(0)).await;
    log.attack(Attack::RefusedEvents);
    let scratch = tempfile::tempdir().unwrap();
    let command = |arguments: &[&str]| {
        run(counterfoil()
            .args(arguments)
            .env("COUNTERFOIL_SERVER", log.server())
            .env("COUNTERFOIL_LOG_KEY", log.key().to_string())
            .env("XDG_STATE_HOME", scratch.path())
            .env_remove("COUNTERFOIL_OUTBOX"))
    };
    let listed = || -> Value {
        let list = command(&["outbox", "list", "--json"]);
        serde_json::from_str(&list.stdout).unwrap()
    };
    let build = command(&[
        "run", "--type", "ci.job", "--source", "s", "--", "sh", "-c", "exit 7",
    ]);
    assert_eq!(build.code, 7, "{}", build.stderr);
    let told = "ci.job.finished is not recorded: it is set aside as number 2 in ";
    assert!(build.stderr.contains(told), "{}", build.stderr);
    let kept = listed();
    assert_eq!(kept["waiting"].as_array().unwrap().len(), 0, "{kept}");
    let aside = kept["set_aside"].as_array().unwrap();
    assert_eq!(aside.len(), 2, "{kept}");
    for (aside, event_type) in aside.iter().zip(["ci.job.started", "ci.job.finished"]) {
        assert_eq!(aside["attributes"]["type"], event_type);
        let reason = aside["reason"].as_str().unwrap();
        assert!(reason.contains("no such word"), "{reason}");
    }

    let again = command(&["outbox", "retry", "1", "--json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["number"], 3);
    let kept = listed();
    assert_eq!(kept["waiting"][0]["number"], 3);
    assert_eq!(kept["waiting"][0]["attributes"]["type"], "ci.job.started");
    assert_eq!(kept["set_aside"].as_array().unwrap().len(), 1, "{kept}");
}

/// Each view is consistent in itself. A quorum of witnesses lets one of them through only.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_its_witnesses_is_refused_by_a_policy() {
    for (attack, code, name) in [
        (Attack::SplitView, 3, "no_quorum"),
        (Attack::FalseCosignature, 1, "unverified_head"),
    ] {
        let log = HostileLog::start(suite_of(0)).await;
        let scratch = tempfile::tempdir().unwrap();
        let policy = scratch.path().join("trust.policy");
        std::fs::write(&policy, log.witnessed_policy()).unwrap();
        log.attack(attack);
        let policy = policy.to_str().unwrap();
        let said = ask(&log, &scratch.path().join("state"), &["head", "--policy", policy]);
        assert_eq!((said.code, &said.name[..]), (code, name), "{attack:?}");
    }
}
