//! What a monitor finds in a log that lies, and that it says so once.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use counterfoil_merkle::{Suite, TilePath};
use counterfoil_monitor::FindingKind;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use support::{
    FakeLog, FakeServer,
    desk::{Desk, opened, resolved, round},
    now_ms,
};
use tokio::sync::Notify;

#[tokio::test]
async fn an_honest_log_is_followed_to_its_end_and_from_where_it_was_left() {
    for suite in Suite::ALL {
        let log = FakeLog::with_entries(suite, 70_000);
        let server = FakeServer::start(log.clone()).await;
        let desk = Desk::new(&log, &[&server]);
        let mut monitor = desk.monitor();
        let first = round(&mut monitor).await;
        assert_eq!((first.verified_entries, first.tree_size), (70_000, Some(70_000)));
        assert_eq!(first.open, []);

        for grown in [1, 255, 256, 300] {
            server.grow(grown);
            let next = round(&mut monitor).await;
            assert_eq!((next.new_entries, next.is_behind()), (grown, false));
            assert_eq!(next.open, []);
        }
        drop(monitor);
        server.grow(1000);
        let mut monitor = desk.monitor();
        assert_eq!(round(&mut monitor).await.new_entries, 1000);
        assert_eq!(round(&mut monitor).await.new_entries, 0);
    }
}

#[tokio::test]
async fn a_fork_is_found_once_with_evidence_also_after_a_restart() {
    let (common, one, other) = FakeLog::forked();
    let (a, b) = FakeServer::start_two(&one, &other).await;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut monitor = desk.monitor();
    let first = round(&mut monitor).await;
    assert_eq!(opened(&first), [FindingKind::Fork]);
    assert_eq!(first.events[0].finding.source, Some(b.url()));
    desk.assert_evidence(&first.events[0].finding, "fork");
    // The history that was there first is still followed.
    assert_eq!(first.verified_entries, 310);

    assert_eq!(round(&mut monitor).await.events, []);
    drop(monitor);
    let again = round(&mut desk.monitor()).await;
    assert_eq!(again.events, []);
    assert_eq!(again.open, [first.events[0].finding.clone()]);
}

/// Two servers behind one name: the head is of one, and proofs come from the other.
#[tokio::test]
async fn a_head_that_nobody_could_compare_is_compared_once_somebody_can() {
    for (grown, kind, fact) in [
        (20, FindingKind::Fork, "fork"),
        (50, FindingKind::Inconsistency, "inconsistency"),
    ] {
        for restarted in [false, true] {
            let common = FakeLog::with_entries(Suite::Blake3, 100);
            let (mut fork, mut honest) = (common.clone(), common.clone());
            fork.grow_as("other", 20);
            honest.grow(grown);
            let server = FakeServer::start(common.clone()).await;
            let desk = Desk::new(&common, &[&server]);
            let mut monitor = desk.monitor();
            assert_eq!(round(&mut monitor).await.open, []);

            server.show(fork);
            server.refuse("tile/", 503);
            assert_eq!(opened(&round(&mut monitor).await), [FindingKind::Unreachable]);
            if restarted {
                drop(monitor);
                monitor = desk.monitor();
            }
            server.show(honest);
            server.honest();
            let found = round(&mut monitor).await;
            assert_eq!(opened(&found), [kind], "restarted: {restarted}");
            desk.assert_evidence(&found.events[0].finding, fact);
            assert_eq!(found.verified_entries, 100 + grown);
            assert_eq!(round(&mut monitor).await.events, []);
        }
    }
}

#[tokio::test]
async fn another_head_that_is_proved_does_not_prove_the_one_before() {
    let common = FakeLog::with_entries(Suite::Blake3, 100);
    let (mut fork, mut honest) = (common.clone(), common.clone());
    fork.grow_as("other", 20);
    honest.grow(10);
    let server = FakeServer::start(common.clone()).await;
    server.change(|served| served.head = common.head_at(now_ms() - 10_000));
    let desk = Desk::new(&common, &[&server]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    server.show(fork);
    server.refuse("tile/", 404);
    let kind = FindingKind::UnprovenConsistency;
    assert_eq!(opened(&round(&mut monitor).await), [kind]);
    server.show(honest.clone());
    server.change(|served| served.head = honest.head_at(now_ms() - 5000));
    server.honest();
    let smaller = round(&mut monitor).await;
    assert_eq!(
        (opened(&smaller), resolved(&smaller)),
        (vec![FindingKind::ReplayedHead], vec![])
    );
    assert_eq!(smaller.verified_entries, 110);
    server.grow(40);
    let larger = round(&mut monitor).await;
    assert_eq!(opened(&larger), [FindingKind::Inconsistency]);
    assert_eq!(resolved(&larger), [kind, FindingKind::ReplayedHead]);
}

#[tokio::test]
async fn what_is_found_after_starting_over_has_another_name_and_leaves_old_evidence() {
    let (common, one, other) = FakeLog::forked();
    let mut third = common.clone();
    third.grow_as("third", 10);
    let (a, b) = FakeServer::start_two(&one, &other).await;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut names = Vec::new();
    for _ in 0..2 {
        let found = round(&mut desk.monitor()).await;
        assert_eq!(opened(&found), [FindingKind::Fork]);
        desk.assert_evidence(&found.events[0].finding, "fork");
        names.push((found.events[0].id(), found.events[0].finding.evidence.clone()));
        fs::remove_file(desk.path("state/logs/main.json")).unwrap();
        b.show(third.clone());
    }
    assert_ne!(names[0].0, names[1].0);
    assert_ne!(names[0].1, names[1].1);
    assert_eq!(fs::read_dir(desk.path("state/evidence")).unwrap().count(), 2);
}

#[tokio::test]
async fn the_state_of_an_older_version_is_taken() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    assert_eq!(round(&mut desk.monitor()).await.verified_entries, 300);
    desk.edit_state(|state| {
        let members = state.as_object_mut().unwrap();
        for newer in [
            "last_time_index",
            "linked",
            "unlinked",
            "unread",
            "mismatched",
            "behind",
        ] {
            assert!(members.remove(newer).is_some(), "{newer}");
        }
        let findings = members["findings"].as_object_mut().unwrap();
        for newer in ["epoch", "untold"] {
            assert!(findings.remove(newer).is_some(), "{newer}");
        }
    });
    server.grow(10);
    let next = round(&mut desk.monitor()).await;
    assert_eq!((next.new_entries, next.events), (10, vec![]));
}

#[tokio::test]
async fn rewritten_history_convicts_whatever_the_sizes() {
    // Of a power of two the consistency proof alone proves nothing.
    for (suite, common, first, second) in [
        (Suite::Blake3, 300, 310, 1000),
        (Suite::Sha256, 1, 256, 1000),
        (Suite::Blake3, 200, 256, 257),
        (Suite::Sha256, 100, 70_000, 70_001),
    ] {
        let common = FakeLog::with_entries(suite, common);
        let (mut one, mut other) = (common.clone(), common.clone());
        one.grow_as("one", first - common.size());
        other.grow_as("other", second - common.size());
        let server = FakeServer::start(one).await;
        let desk = Desk::new(&common, &[&server]);
        let mut monitor = desk.monitor();
        assert_eq!(round(&mut monitor).await.open, []);
        server.show(other);
        let found = round(&mut monitor).await;
        assert_eq!(opened(&found), [FindingKind::Inconsistency]);
        desk.assert_evidence(&found.events[0].finding, "inconsistency");
        assert_eq!(found.verified_entries, first);
    }
}

#[tokio::test]
async fn a_smaller_tree_signed_later_is_a_rollback_and_an_old_head_a_replay() {
    let small = FakeLog::with_entries(Suite::Blake3, 100);
    let mut large = small.clone();
    large.grow(50);
    let before = small.head_at(now_ms() - 1000);
    let server = FakeServer::start(large.clone()).await;
    let desk = Desk::new(&small, &[&server]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    server.change(|served| served.head = before);
    let replayed = round(&mut monitor).await;
    assert_eq!(opened(&replayed), [FindingKind::ReplayedHead]);
    assert_eq!(replayed.verified_entries, 150);

    server.change(|served| served.head = small.head_at(now_ms() + 1000));
    let rolled_back = round(&mut monitor).await;
    assert_eq!(opened(&rolled_back), [FindingKind::Rollback]);
    desk.assert_evidence(&rolled_back.events[0].finding, "rollback");

    server.show(large);
    let better = round(&mut monitor).await;
    assert_eq!(resolved(&better), [FindingKind::ReplayedHead]);
    assert_eq!(better.open.len(), 1, "a rollback is not undone");
}

/// An auditor is kept at a smaller tree, signed anew for him, and is shown the larger one later, as it was signed first.
#[tokio::test]
async fn a_rollback_convicts_also_where_the_smaller_tree_is_seen_first() {
    for suite in Suite::ALL {
        let small = FakeLog::with_entries(suite, 100);
        let mut large = small.clone();
        large.grow(50);
        let server = FakeServer::start(small.clone()).await;
        let desk = Desk::new(&small, &[&server]);
        let signed_ms = now_ms();
        server.change(|served| served.head = small.head_at(signed_ms - 2000));
        let mut monitor = desk.monitor();
        assert_eq!(round(&mut monitor).await.open, []);
        server.change(|served| served.head = small.head_at(signed_ms));
        assert_eq!(round(&mut monitor).await.open, []);

        drop(monitor);
        server.show(large.clone());
        server.change(|served| served.head = large.head_at(signed_ms - 1000));
        let mut monitor = desk.monitor();
        let found = round(&mut monitor).await;
        assert_eq!(opened(&found), [FindingKind::Rollback]);
        desk.assert_evidence(&found.events[0].finding, "rollback");
        assert_eq!(found.verified_entries, 150);
        assert_eq!(round(&mut monitor).await.events, []);
    }
}

/// A cache that shows yesterday's head once is no log that drops entries.
#[tokio::test]
async fn a_smaller_tree_without_a_time_convicts_nobody() {
    let small = FakeLog::with_entries(Suite::Sha256, 100);
    let mut large = small.clone();
    large.grow(50);
    let server = FakeServer::start(large.clone()).await;
    let desk = Desk::new(&small, &[&server]);
    desk.trust_the_plain_key();
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.open, []);
    server.change(|served| served.head = small.head());
    let kinds = [FindingKind::UnprovenConsistency, FindingKind::ReplayedHead];
    assert_eq!(opened(&round(&mut monitor).await), kinds);
    server.show(large);
    let better = round(&mut monitor).await;
    assert_eq!(resolved(&better), kinds);
    assert_eq!(better.open, []);
}

/// The process ended between the two.
#[tokio::test]
async fn what_was_saved_and_not_told_is_told_once() {
    let log = FakeLog::with_entries(Suite::Blake3, 10);
    let server = FakeServer::start(log.clone()).await;
    server.hook(|_, _| Err(403));
    let desk = Desk::new(&log, &[&server]);
    let first = round(&mut desk.monitor()).await;
    assert_eq!(opened(&first), [FindingKind::InvalidAnswer]);
    desk.edit_state(|state| {
        let finding = state["findings"]["open"][0].clone();
        state["findings"]["untold"] = json!([["opened", finding]]);
    });
    assert_eq!(round(&mut desk.monitor()).await.events, first.events);
    assert_eq!(round(&mut desk.monitor()).await.events, []);
}

#[tokio::test]
async fn trouble_with_who_is_configured_no_longer_is_over_and_misbehaviour_stays() {
    let (common, one, other) = FakeLog::forked();
    let (a, b) = FakeServer::start_two(&one, &other).await;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut monitor = desk.monitor();
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::Fork]);
    b.hook(|_, _| Err(403));
    assert_eq!(opened(&round(&mut monitor).await), [FindingKind::InvalidAnswer]);
    drop(monitor);

    desk.configure(&[&a], &[]);
    let over = round(&mut desk.monitor()).await;
    assert_eq!(resolved(&over), [FindingKind::InvalidAnswer]);
    let open: Vec<FindingKind> = over.open.iter().map(|finding| finding.kind).collect();
    assert_eq!(open, [FindingKind::Fork]);
}

#[tokio::test]
async fn a_head_without_a_proof_stays_found_when_its_source_is_configured_no_longer() {
    let common = FakeLog::with_entries(Suite::Blake3, 100);
    let mut fork = common.clone();
    fork.grow_as("other", 20);
    let (a, b) = FakeServer::start_two(&common, &fork).await;
    b.refuse("tile/", 404);
    let kind = FindingKind::UnprovenConsistency;
    let desk = Desk::new(&common, &[&a, &b]);
    let mut monitor = desk.monitor();
    assert!(opened(&round(&mut monitor).await).contains(&kind));
    drop(monitor);

    // Nobody is left to ask for a proof, and nothing new is said of the head.
    desk.configure(&[&a], &[]);
    let later = round(&mut desk.monitor()).await;
    assert_eq!(resolved(&later), []);
    assert!(later.open.iter().any(|finding| finding.kind == kind));
}

/// A log that signs heads and has nothing to prove them with, for now and for ever.
#[tokio::test]
async fn proofs_and_entries_that_never_come_are_found() {
    for what in ["tile/", "tile/entries/"] {
        let log = FakeLog::with_entries(Suite::Blake3, 300);
        let server = FakeServer::start(log.clone()).await;
        let desk = Desk::new(&log, &[&server]);
        desk.limit_age(1);
        let mut monitor = desk.monitor();
        assert_eq!(round(&mut monitor).await.open, []);
        server.grow(100);
        server.refuse(what, 503);
        let first = round(&mut monitor).await;
        assert_eq!(opened(&first), [FindingKind::Unreachable], "{what}");
        // Each head is fresh; that it leads nowhere does not become right by that.
        let lasting = loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.grow(1);
            let found = round(&mut monitor).await;
            if !found.events.is_empty() {
                break found;
            }
        };
        let kind = match what {
            "tile/" => FindingKind::UnprovenConsistency,
            _ => FindingKind::Withheld,
        };
        assert_eq!(opened(&lasting), [kind], "{what}");
        server.honest();
        server.grow(0);
        let over = round(&mut monitor).await;
        assert_eq!(over.open, [], "{what}");
        assert_eq!(resolved(&over).len(), 2, "{what}");
    }
}

/// A mirror that serves heads at once and proofs never has so much time in a round, however many heads are to be compared.
#[tokio::test]
async fn a_mirror_that_never_ends_a_proof_puts_nobody_off_for_long() {
    const OBSERVERS: u64 = 8;
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let (mirror, server) = FakeServer::start_two(&log, &log).await;
    let mut observers = Vec::new();
    for _ in 0..OBSERVERS {
        observers.push(FakeServer::start(log.clone()).await);
    }
    let desk = Desk::new(&log, &[&mirror, &server]);
    desk.configure(&[&mirror, &server], &observers.iter().collect::<Vec<_>>());
    let mut monitor = desk.impatient_monitor();
    assert_eq!(round(&mut monitor).await.open, []);

    let mut grown = log.clone();
    for observer in &observers {
        grown.grow(10);
        observer.show(grown.clone());
    }
    grown.grow(10);
    server.show(grown.clone());
    mirror.show(grown);
    mirror.change(|served| (served.stalled, served.requests) = (Some("tile/"), 0));
    let found = round(&mut monitor).await;
    assert_eq!(opened(&found), [FindingKind::Unreachable]);
    assert_eq!(found.open[0].source, Some(mirror.url()));
    assert_eq!(found.verified_entries, 300 + 10 * (OBSERVERS + 1));
    // A head, one proof of three tiles at the most, and one bundle, each three times.
    let requests = mirror.change(|served| served.requests);
    assert!(requests <= 3 * 5, "{requests}");
}

/// The index of the bundle that a path names.
fn bundle(path: &str) -> Option<u64> {
    match path.parse() {
        Ok(TilePath::Entries { bundle, .. }) => Some(bundle),
        _ => None,
    }
}

#[tokio::test]
async fn what_was_verified_is_not_read_again_and_nothing_else_is_skipped() {
    let log = FakeLog::with_entries(Suite::Blake3, 40_000);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let reached = Arc::new(Notify::new());
    let notify = Arc::clone(&reached);
    server.hook(move |path, answer| match bundle(path) {
        Some(100..) => {
            notify.notify_one();
            Err(503)
        }
        _ => answer,
    });
    let mut monitor = desk.monitor();
    tokio::select! {
        rounds = monitor.run_round() => panic!("it ended: {rounds:?}"),
        () = reached.notified() => {}
    }
    drop(monitor);

    let asked = Arc::new(Mutex::new(Vec::new()));
    let notebook = Arc::clone(&asked);
    server.hook(move |path, answer| {
        notebook.lock().unwrap().extend(bundle(path));
        answer
    });
    let rest = round(&mut desk.monitor()).await;
    // One chunk of 64 bundles was verified and saved; half of the next was read.
    assert_eq!(
        (rest.verified_entries, rest.new_entries),
        (40_000, 40_000 - 64 * 256)
    );
    let mut asked = asked.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, (64..=156).collect::<Vec<u64>>());
}

#[tokio::test]
async fn bodies_that_grow_without_end_are_cut_off() {
    let log = FakeLog::with_entries(Suite::Blake3, 300);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    // 200 MB of zeros, compressed to 200 KB.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..200).for_each(|_| bomb.write_all(&zeros).unwrap());
    let bomb = Bytes::from(bomb.finish().unwrap());
    server.hook(move |path, answer| match bundle(path) {
        Some(_) => Ok(bomb.clone()),
        None => answer,
    });
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    assert_eq!(opened(&found), [FindingKind::InvalidAnswer]);
    let detail = &found.events[0].finding.detail;
    assert!(detail.contains("is longer than 16777472 bytes"), "{detail}");
    server.honest();
    assert_eq!(resolved(&round(&mut monitor).await), [FindingKind::InvalidAnswer]);
}
