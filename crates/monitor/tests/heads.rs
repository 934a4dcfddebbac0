//! What a monitor makes of the heads that sources and witnesses show: forks that nobody proves, growth that is hidden, times that
//! are missing or wrong, witnesses that fall behind.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_merkle::{Digest, Suite};
use counterfoil_monitor::FindingKind;
use counterfoil_note::{Note, UnixSeconds};
use serde_json::json;
use support::{
    FakeLog, FakeServer, ORIGIN,
    desk::{Desk, opened, resolved, round},
    now_ms,
};

#[tokio::test]
async fn two_trees_of_one_size_are_a_fork_though_nobody_proves_either() {
    let (common, one, other) = FakeLog::forked();
    let (a, b) = FakeServer::start_two(&common, &common).await;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    a.show(one);
    b.show(other);
    for server in [&a, &b] {
        server.refuse("tile/", 503);
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
    let (common, one, other) = FakeLog::forked();
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
    let witnesses = desk.ask_two_of_three();
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
    desk.limit_age_of(&mirror, 7200);
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

#[tokio::test]
async fn heads_that_nobody_can_believe_are_refused() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let mut monitor = desk.monitor();
    let head = |head: Bytes| server.change(|served| served.head = head);

    let mut forged = log.head().to_vec();
    let middle = forged.len() - 10;
    forged[middle] ^= 1;
    head(forged.into());
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::BadSignature]);
    head(log.head_at(now_ms() - 100_000));
    let old = round(&mut monitor).await;
    assert_eq!(
        (opened(&old), resolved(&old)),
        (vec![FindingKind::StaleHead], vec![FindingKind::BadSignature])
    );
    head(log.head_at(now_ms() + 100_000));
    let early = round(&mut monitor).await;
    assert_eq!(
        (opened(&early), resolved(&early)),
        (vec![FindingKind::FutureHead], vec![FindingKind::StaleHead])
    );

    server.hook(|_, _| Err(403));
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::InvalidAnswer]);
    server.hook(|_, _| Ok(vec![b'x'; 100_000].into()));
    assert_eq!(round(&mut monitor).await.events, []);
    server.hook(|_, _| Err(503));
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::Unreachable]);
}

/// A mirror that is brought up to date each hour shows old heads, and that is as it should be.
#[tokio::test]
async fn a_source_may_have_older_heads_than_the_log() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let (server, mirror) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server, &mirror]);
    desk.limit_age_of(&mirror, 200);
    let mut monitor = desk.monitor();
    for (age_ms, stale) in [(100_000, false), (300_000, true)] {
        mirror.change(|served| served.head = log.head_at(now_ms() - age_ms));
        let found = round(&mut monitor).await;
        let sources: Vec<_> = found.open.iter().map(|finding| finding.source.clone()).collect();
        assert_eq!(sources, [Some(mirror.url())][..usize::from(stale)]);
    }
}

#[tokio::test]
async fn one_witness_alone_keeps_no_old_head_young() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let key = log.signer.keys()[0].verifier_key();
    let witnesses = desk.ask_two_of_three();
    let mut monitor = desk.monitor();

    let (old, now) = (now_ms() - 300_000, now_ms());
    let head = key.verify_head(&log.head_at(old)).unwrap();
    for (cosigned_at, expected) in [
        ([old, old, now], vec![FindingKind::StaleHead]),
        ([now, old, now], vec![]),
    ] {
        let lines = witnesses.iter().zip(cosigned_at).map(|(witness, time_ms)| {
            let time = UnixSeconds::new(time_ms / 1000).unwrap();
            witness.cosign(&head, time)
        });
        let note = head.with_signatures(lines).unwrap().note_bytes().to_vec();
        server.change(|served| served.head = note.into());
        let found = round(&mut monitor).await;
        let open: Vec<_> = found.open.iter().map(|finding| finding.kind).collect();
        assert_eq!(open, expected, "{found:?}");
    }
}

#[tokio::test]
async fn a_head_of_absurd_size_costs_nothing() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let mut monitor = desk.monitor();
    // First contact: nothing is there to compare with.
    server.change(|served| served.head = served.log.sign(1 << 62, Digest::from([1; 32]), now_ms()));
    let found = round(&mut monitor).await;
    assert_eq!((found.verified_entries, found.tree_size), (0, Some(1 << 62)));
    assert_eq!(opened(&found), [FindingKind::Withheld]);

    let requests = server.change(|served| served.requests);
    assert!(requests < 200, "{requests} requests");
}

#[tokio::test]
async fn a_witness_that_saw_another_history_or_fell_behind_is_found() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let mut other = FakeLog::with_entries(Suite::Blake3, 290);
    other.grow_as("other", 10);
    let (server, witness) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    let small = FakeLog::with_entries(Suite::Blake3, 200);
    witness.change(|served| served.head = small.head_at(now_ms() - 100_000));
    let behind = round(&mut monitor).await;
    assert!(
        opened(&behind).contains(&FindingKind::WitnessBehind),
        "{behind:?}"
    );
    witness.hook(|_, _| Err(404));
    assert_eq!(round(&mut monitor).await.events, []);
    witness.honest();
    witness.show(other);
    assert!(opened(&round(&mut monitor).await).contains(&FindingKind::Fork));
}

#[tokio::test]
async fn a_witness_that_answers_as_it_should_again_is_in_order() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let (server, witness) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    let mut monitor = desk.monitor();
    witness.hook(|_, _| Err(403));
    let refused = round(&mut monitor).await;
    assert_eq!(opened(&refused), [FindingKind::InvalidAnswer]);
    assert_eq!(refused.open[0].source, Some(witness.url()));
    witness.honest();
    let over = round(&mut monitor).await;
    assert_eq!(resolved(&over), [FindingKind::InvalidAnswer]);
    assert_eq!(over.open, []);
}

#[tokio::test]
async fn a_witness_that_falls_behind_is_found_also_where_nobody_signs_a_time() {
    let log = FakeLog::with_entries(Suite::Sha256, 300);
    let (server, witness) = FakeServer::start_two(&log, &log).await;
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    desk.trust_the_plain_key();
    desk.limit_age(1);
    let kind = FindingKind::WitnessBehind;

    witness.hook(|_, _| Err(404));
    assert_eq!(opened(&round(&mut desk.monitor()).await), [kind]);
    witness.honest();
    assert_eq!(resolved(&round(&mut desk.monitor()).await), [kind]);

    // The log grows on and on, so its largest head is never old; a restart forgets nothing.
    server.grow(10);
    assert_eq!(round(&mut desk.monitor()).await.events, []);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.grow(10);
    assert_eq!(opened(&round(&mut desk.monitor()).await), [kind]);
    witness.grow(20);
    let over = round(&mut desk.monitor()).await;
    assert_eq!((resolved(&over), over.open), (vec![kind], vec![]));
}

#[tokio::test]
async fn a_larger_tree_that_only_a_witness_was_shown_is_found_once_it_is_old() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let mut hidden = log.clone();
    hidden.grow(100);
    let (server, witness) = FakeServer::start_two(&log, &hidden).await;
    witness.change(|served| served.head = hidden.head_at(now_ms() - 100_000));
    server.change(|served| served.head = log.head_at(now_ms() - 110_000));
    let desk = Desk::new(&log, &[&server]);
    desk.configure(&[&server], &[&witness]);
    desk.limit_age(1000);
    // By that limit the log may have published it a moment ago.
    assert_eq!(round(&mut desk.monitor()).await.open, []);
    desk.configure(&[&server], &[&witness]);
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    let kinds = [FindingKind::UnprovenConsistency, FindingKind::StaleHead];
    assert_eq!(opened(&found), kinds);
    assert_eq!(found.events[0].finding.heads.len(), 2);

    server.show(hidden);
    let shown = round(&mut monitor).await;
    assert_eq!(resolved(&shown), kinds);
    assert_eq!(shown.verified_entries, 400);
}

/// Each head is as fresh as it can be, so none is missed for its age.
#[tokio::test]
async fn a_log_that_shows_its_growth_to_its_witness_alone_is_convicted() {
    for suite in Suite::ALL {
        let log = FakeLog::with_entries(suite, 300);
        let mut hidden = log.clone();
        hidden.grow(100);
        let (server, witness) = FakeServer::start_two(&log, &log).await;
        let desk = Desk::new(&log, &[&server]);
        desk.configure(&[&server], &[&witness]);
        let mut monitor = desk.monitor();
        witness.change(|served| served.head = hidden.head_at(now_ms() - 1_000));
        // The larger head was signed first: a log that had it does not sign the smaller one anew.
        server.change(|served| served.head = log.head_at(now_ms()));
        let found = round(&mut monitor).await;
        assert_eq!(opened(&found), [FindingKind::Rollback]);
        desk.assert_evidence(&found.events[0].finding, "rollback");
        assert_eq!(found.events[0].finding.source, Some(server.url()));
    }
}
