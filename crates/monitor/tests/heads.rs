//! What a monitor makes of the heads that sources and witnesses show: forks that nobody proves, growth that is hidden, times that
//! are missing or wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_merkle::Suite;
use counterfoil_monitor::FindingKind;
use counterfoil_note::{CosignerSigner, Note, UnixSeconds};
use serde_json::json;
use support::{
    FakeLog, FakeServer, ORIGIN,
    desk::{Desk, opened, resolved, round},
    now_ms,
};

/// A log of 300 entries, and two that continue it in different ways, of one size.
fn forked() -> (FakeLog, FakeLog, FakeLog) {
    let common = FakeLog::with_entries(Suite::Blake3, 300);
    let (mut one, mut other) = (common.clone(), common.clone());
    one.grow_as("one", 10);
    other.grow_as("other", 10);
    (common, one, other)
}

#[tokio::test]
async fn two_trees_of_one_size_are_a_fork_though_nobody_proves_either() {
    let (common, one, other) = forked();
    let (a, b) = FakeServer::start_two(&common, &common).await;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    a.show(one);
    b.show(other);
    for server in [&a, &b] {
        server.hook(|path, answer| match path.starts_with("tile/") {
            true => Err(503),
            false => answer,
        });
    }
    let found = round(&mut monitor).await;
    let kinds = [
        FindingKind::Fork,
        FindingKind::Unreachable,
        FindingKind::Unreachable,
    ];
    assert_eq!(opened(&found), kinds);
    desk.assert_evidence(&found.events[0].finding, "fork");
    // Each differs from the other for ever; that is one fork.
    assert_eq!(round(&mut monitor).await.events, []);
    drop(monitor);
    assert_eq!(round(&mut desk.monitor()).await.events, []);
}

#[tokio::test]
async fn two_witnesses_that_saw_different_trees_show_a_fork() {
    let (common, one, other) = forked();
    let server = FakeServer::start(common.clone()).await;
    let (a, b) = FakeServer::start_two(&one, &other).await;
    let desk = Desk::new(&common, &[&server]);
    desk.configure(&[&server], &[&a, &b]);
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    assert_eq!(opened(&found), [FindingKind::Fork]);
    desk.assert_evidence(&found.events[0].finding, "fork");
    assert_eq!(found.verified_entries, 300);
    assert_eq!(round(&mut monitor).await.events, []);
}

/// No head is ever old: the larger one is signed anew for its witness, and the other witnesses cosign the smaller one again.
#[tokio::test]
async fn growth_that_one_witness_is_shown_is_found_however_often_it_is_signed_anew() {
    let log = FakeLog::with_entries(Suite::Blake3, 100);
    let mut hidden = log.clone();
    hidden.grow(100);
    let (server, witness) = FakeServer::start_two(&log, &hidden).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    desk.limit_age(3);
    let key = log.signer.keys()[0].verifier_key();
    let witnesses = [0_u8, 1, 2].map(|number| {
        let name = format!("witness.example/w{number}").parse().unwrap();
        CosignerSigner::generate(name, [100 + number; 32])
    });
    let mut policy = format!("log {key}\n");
    for (number, witness) in witnesses.iter().enumerate() {
        policy += &format!("witness w{number} {}\n", witness.verifier_key());
    }
    policy += "group two 2 w0 w1 w2\nquorum two\n";
    fs::write(desk.path("policy"), policy).unwrap();
    let mut monitor = desk.monitor();

    let smaller = key.verify_head(&log.head_at(now_ms() - 60_000)).unwrap();
    let started = Instant::now();
    loop {
        let now = UnixSeconds::new(now_ms() / 1000).unwrap();
        let lines = witnesses[..2].iter().map(|witness| witness.cosign(&smaller, now));
        let note = smaller.with_signatures(lines).unwrap().note_bytes().to_vec();
        server.change(|served| served.head = note.into());
        witness.change(|served| served.head = served.log.head());
        let found = round(&mut monitor).await;
        if opened(&found) == [FindingKind::UnprovenConsistency] {
            assert_eq!(found.events[0].finding.source, Some(witness.url()));
            break;
        }
        assert_eq!(found.events, []);
        assert!(started.elapsed() < Duration::from_secs(30), "it is not found");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A log has its witnesses cosign a head before it publishes it.
#[tokio::test]
async fn a_head_that_a_witness_shows_first_accuses_nobody_where_no_time_is_signed() {
    let log = FakeLog::with_entries(Suite::Sha256, 300);
    let (server, witness) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    desk.trust_the_plain_key();
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);
    witness.grow(100);
    assert_eq!(round(&mut monitor).await.open, []);
    // Where it is still not published in the next round, it is found.
    let kind = FindingKind::UnprovenConsistency;
    assert_eq!(opened(&round(&mut monitor).await), [kind]);
    server.grow(100);
    let published = round(&mut monitor).await;
    assert_eq!((published.verified_entries, published.open), (400, vec![]));
}

/// Who serves the head leaves out the line that says how old it is.
#[tokio::test]
async fn a_head_that_lost_its_time_is_stale() {
    let log = FakeLog::with_entries(Suite::Sha256, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let [timed, plain] = log.signer.keys() else {
        panic!("such a log has two keys");
    };
    let (timed, plain) = (timed.verifier_key(), plain.verifier_key());
    let policy = format!("log {timed}\nlog {plain}\nquorum none\n");
    fs::write(desk.path("policy"), policy).unwrap();
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    let note = Note::parse(&log.head()).unwrap();
    let line = note.signature_by(ORIGIN, plain.id()).unwrap();
    let cut = format!("{}\n{line}\n", note.text());
    server.change(|served| served.head = cut.into());
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::StaleHead]);
    server.show(log);
    let whole = round(&mut monitor).await;
    assert_eq!(resolved(&whole), [FindingKind::StaleHead]);
    assert_eq!(whole.open, []);
}

#[tokio::test]
async fn what_strangers_add_to_a_head_is_not_kept() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let honest = log.head_at(now_ms() - 100_000);
    let line = "— stranger.example/w AAAAAAAAAAAA\n".as_bytes();
    let padded = Bytes::from([&honest[..], line].concat());
    server.change(|served| served.head = padded);
    let found = round(&mut desk.monitor()).await;
    assert_eq!(opened(&found), [FindingKind::StaleHead]);
    let kept = &found.open[0].heads[0].checkpoint;
    assert_eq!(kept.as_bytes(), &honest[..]);
}

#[tokio::test]
async fn a_mirror_that_lags_is_not_accused_at_a_start_while_the_log_is_away() {
    let log = FakeLog::with_entries(Suite::Blake3, 150);
    let mut grown = log.clone();
    grown.grow(50);
    let (server, mirror) = FakeServer::start_two(&grown, &log).await;
    let desk = Desk::new(&log, &[&server, &mirror]);
    desk.limit_age(1);
    let config = fs::read_to_string(desk.path("monitor.toml")).unwrap();
    let own = format!("{:?}, max_head_age_seconds = 7200 }}", mirror.url());
    let config = config.replace(&format!("{:?} }}", mirror.url()), &own);
    fs::write(desk.path("monitor.toml"), config).unwrap();
    // The mirror's tree is proved to be the beginning of the log's.
    assert_eq!(round(&mut desk.monitor()).await.verified_entries, 200);

    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.hook(|_, _| Err(503));
    let away = round(&mut desk.monitor()).await;
    assert_eq!(opened(&away), [FindingKind::Unreachable]);
}

#[tokio::test]
async fn a_clock_that_was_ahead_and_was_set_back_puts_nothing_off() {
    let log = FakeLog::with_entries(Suite::Sha256, 300);
    let (server, witness) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    desk.trust_the_plain_key();
    desk.limit_age(1);
    server.grow(10);
    assert_eq!(round(&mut desk.monitor()).await.open, []);
    desk.edit_state(|state| {
        let behind = &mut state["behind"][witness.url()];
        assert!(behind["since_unix_ms"].is_u64());
        behind["since_unix_ms"] = json!(now_ms() + 3_600_000);
    });
    assert_eq!(round(&mut desk.monitor()).await.open, []);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let found = round(&mut desk.monitor()).await;
    assert_eq!(opened(&found), [FindingKind::WitnessBehind]);
}

#[tokio::test]
async fn a_head_that_is_signed_while_it_is_waited_for_is_of_no_future() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    desk.limit_age(1);
    server.hook(move |path, answer| match path {
        "checkpoint" => {
            thread::sleep(Duration::from_millis(2500));
            Ok(log.head())
        }
        _ => answer,
    });
    assert_eq!(round(&mut desk.monitor()).await.open, []);
}
