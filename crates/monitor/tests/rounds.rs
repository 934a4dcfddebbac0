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
use counterfoil_merkle::{Digest, Suite, TilePath};
use counterfoil_monitor::FindingKind;
use counterfoil_note::{CosignerSigner, UnixSeconds};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use support::{
    FakeLog, FakeServer, bundle_of,
    desk::{Desk, opened, resolved, round},
    entry, now_ms,
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
    let common = FakeLog::with_entries(Suite::Blake3, 300);
    let (mut one, mut other) = (common.clone(), common.clone());
    one.grow_as("one", 10);
    other.grow_as("other", 10);
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
            server.hook(|path, answer| match path.starts_with("tile/") {
                true => Err(503),
                false => answer,
            });
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
    server.hook(|path, answer| match path.starts_with("tile/") {
        true => Err(404),
        false => answer,
    });
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
    let common = FakeLog::with_entries(Suite::Blake3, 300);
    let (mut one, mut other, mut third) = (common.clone(), common.clone(), common.clone());
    one.grow_as("one", 10);
    other.grow_as("other", 10);
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

#[tokio::test]
async fn an_altered_entry_is_named_and_another_source_goes_on() {
    let log = FakeLog::with_entries(Suite::Sha256, 1000);
    let (bad, good) = FakeServer::start_two(&log, &log).await;
    let altered = {
        let mut entries: Vec<Bytes> = (512..768).map(|index| log.entry(index)).collect();
        entries[88] = entry(Suite::Sha256, "altered", 600, 1_000_600);
        bundle_of(&entries)
    };
    bad.hook(move |path, answer| match path {
        "tile/entries/002" => Ok(altered.clone().into()),
        _ => answer,
    });
    let desk = Desk::new(&log, &[&bad, &good]);
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    assert_eq!(opened(&found), [FindingKind::EntryMismatch]);
    let finding = &found.events[0].finding;
    assert_eq!(finding.source, Some(bad.url()));
    assert!(finding.detail.contains("Leaf 600 "), "{}", finding.detail);
    desk.assert_evidence(finding, "entry_mismatch");
    assert_eq!(found.verified_entries, 1000);

    // The entry was read elsewhere. That the last ones are right does not make it so.
    bad.grow(300);
    good.grow(300);
    let grown = round(&mut monitor).await;
    assert_eq!((grown.verified_entries, grown.events), (1300, vec![]));
    drop(monitor);
    bad.honest();
    let mut monitor = desk.monitor();
    assert_eq!(resolved(&round(&mut monitor).await), [FindingKind::EntryMismatch]);
    assert_eq!(round(&mut monitor).await.open, []);
}

#[tokio::test]
async fn entries_that_break_the_rules_are_found_and_do_not_stop_the_monitor() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 500);
    log.append(Bytes::from_static(b"no entry"));
    log.grow(10);
    // Between the late entry and the last one that can be read stands one that can't.
    let size = log.size();
    let mut later = entry(Suite::Blake3, "later", size, 1_000_000 + size).to_vec();
    let field = later.windows(3).position(|three| three == [0x48, 1, 0x52]);
    later[field.unwrap() + 1] = 9;
    log.append(later.into());
    log.append(entry(Suite::Blake3, "late", size + 1, 5));
    log.grow(10);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    assert_eq!(
        opened(&found),
        [
            FindingKind::InvalidEntry,
            FindingKind::DecreasingTime,
            FindingKind::UnknownEntry
        ]
    );
    desk.assert_evidence(&found.events[0].finding, "invalid_entry");
    desk.assert_evidence(&found.events[1].finding, "decreasing_time");
    let detail = &found.events[1].finding.detail;
    assert!(
        detail.contains("Entry 512 ") && detail.contains("entry 510 "),
        "{detail}"
    );
    assert_eq!((found.verified_entries, found.is_behind()), (523, false));
    server.grow(10);
    assert_eq!(round(&mut monitor).await.events, []);
}

#[tokio::test]
async fn an_entry_of_a_later_version_convicts_nobody_and_hides_nothing() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 5);
    let mut later = entry(Suite::Blake3, "later", 5, 1_000_005).to_vec();
    assert_eq!(later[..2], [0x08, 1], "the version is the first field");
    later[1] = 2;
    log.append(later.into());
    log.grow(3);
    log.append(Bytes::from_static(b"no entry"));
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    let found = round(&mut desk.monitor()).await;
    let kinds = [FindingKind::InvalidEntry, FindingKind::UnknownEntry];
    assert_eq!(opened(&found), kinds);
    desk.assert_evidence(&found.events[0].finding, "invalid_entry");
    let detail = &found.events[1].finding.detail;
    assert!(detail.starts_with("Leaf 5: "), "{detail}");

    // The same version knows no more; another reads again what that one could not.
    let again = round(&mut desk.monitor()).await;
    assert_eq!((again.new_entries, again.events), (0, vec![]));
    desk.edit_state(|state| state["unread"]["reader"] = json!("0.0.0"));
    let again = round(&mut desk.monitor()).await;
    assert_eq!((again.new_entries, again.events), (10, vec![]));
    assert_eq!(again.open.len(), 2);
}

#[tokio::test]
async fn an_entry_that_an_update_can_read_is_unknown_no_longer() {
    let log = FakeLog::with_entries(Suite::Blake3, 10);
    let server = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&server]);
    assert_eq!(round(&mut desk.monitor()).await.open, []);
    // As a version would have left it that does not know the first entry.
    desk.edit_state(|state| {
        state["unread"] = json!({
            "reader": "0.0.0",
            "from": {"tree_size": 0, "compact_range": [], "last_time_unix_ns": 0},
            "problem": "Leaf 0: unknown.",
        });
        state["findings"]["open"] = json!([{
            "kind": "unknown_entry", "log": "main", "origin": support::ORIGIN, "source": null,
            "detail": "Leaf 0: unknown.", "heads": [], "evidence": null, "unproven": null, "occurrence": 0,
            "opened_unix_ms": 1, "resolved_unix_ms": null,
        }]);
    });
    let read = round(&mut desk.monitor()).await;
    assert_eq!(read.new_entries, 10);
    assert_eq!(resolved(&read), [FindingKind::UnknownEntry]);
    assert_eq!(read.open, []);
}

/// A disk that is full for a while, say. Neither a restart meanwhile nor a source that has more entries hides the finding.
#[tokio::test]
async fn a_finding_that_can_t_be_recorded_is_not_passed_by() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 500);
    log.append(Bytes::from_static(b"no entry"));
    let short = FakeServer::start(log.clone()).await;
    log.grow(1000);
    let long = FakeServer::start(log.clone()).await;
    let desk = Desk::new(&log, &[&short, &long]);
    let evidence = desk.path("state/evidence");

    let mut monitor = desk.monitor();
    fs::remove_dir(&evidence).unwrap();
    fs::write(&evidence, "in the way").unwrap();
    for _ in 0..2 {
        let failed = monitor.run_round().await.remove(0);
        assert!(failed.error.is_some());
        assert_eq!(failed.events, []);
    }

    // The same process goes on, or another that knows what is on disk alone.
    fs::remove_file(&evidence).unwrap();
    fs::create_dir(&evidence).unwrap();
    for restarted in [false, true] {
        if restarted {
            fs::remove_dir_all(desk.path("state")).unwrap();
            monitor = desk.monitor();
            fs::remove_dir(&evidence).unwrap();
            assert!(monitor.run_round().await.remove(0).error.is_some());
            drop(monitor);
            fs::create_dir(&evidence).unwrap();
            monitor = desk.monitor();
        }
        let found = round(&mut monitor).await;
        assert_eq!(
            opened(&found),
            [FindingKind::InvalidEntry],
            "restarted: {restarted}"
        );
        desk.assert_evidence(&found.events[0].finding, "invalid_entry");
        assert_eq!(found.verified_entries, 1501);
    }
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
async fn a_mismatch_that_can_t_be_recorded_is_found_though_the_source_is_right_again() {
    let log = FakeLog::with_entries(Suite::Blake3, 10);
    let server = FakeServer::start(log.clone()).await;
    let mut entries: Vec<Bytes> = (0..10).map(|index| log.entry(index)).collect();
    entries[4] = entry(Suite::Blake3, "altered", 4, 1_000_004);
    let altered = bundle_of(&entries);
    server.hook(move |path, answer| match path {
        "tile/entries/000.p/10" => Ok(altered.clone().into()),
        _ => answer,
    });
    let desk = Desk::new(&log, &[&server]);
    let evidence = desk.path("state/evidence");
    let mut monitor = desk.monitor();
    fs::remove_dir(&evidence).unwrap();
    assert!(monitor.run_round().await.remove(0).error.is_some());

    fs::create_dir(&evidence).unwrap();
    server.honest();
    let found = round(&mut monitor).await;
    let kinds = [FindingKind::EntryMismatch];
    assert_eq!(opened(&found), kinds);
    desk.assert_evidence(&found.events[0].finding, "entry_mismatch");
    assert_eq!(resolved(&found), kinds);
    assert_eq!(round(&mut monitor).await.verified_entries, 10);
}

/// Whoever serves the entry shows no proof, or a wrong one.
#[tokio::test]
async fn a_proof_that_one_source_keeps_to_itself_is_had_from_another() {
    for wrong in [false, true] {
        let mut log = FakeLog::with_entries(Suite::Blake3, 200);
        log.append(Bytes::from_static(b"no entry"));
        let (bad, good) = FakeServer::start_two(&log, &log).await;
        bad.hook(move |path, answer| match path.starts_with("tile/0/") {
            true if wrong => answer.map(|tile| vec![0_u8; tile.len()].into()),
            true => Err(404),
            false => answer,
        });
        let desk = Desk::new(&log, &[&bad, &good]);
        let found = round(&mut desk.monitor()).await;
        assert_eq!(opened(&found), [FindingKind::InvalidEntry]);
        desk.assert_evidence(&found.events[0].finding, "invalid_entry");
    }
}

/// Static files have the last bundle in the width of their head alone.
#[tokio::test]
async fn a_late_entry_is_proved_also_where_no_narrower_bundle_is_served() {
    let mut log = FakeLog::with_entries(Suite::Blake3, 300);
    log.append(entry(Suite::Blake3, "late", 300, 5));
    log.grow(9);
    let server = FakeServer::start(log.clone()).await;
    server.hook(|path, answer| match path.strip_prefix("tile/entries/001") {
        Some(width) if width != ".p/54" => Err(404),
        _ => answer,
    });
    let desk = Desk::new(&log, &[&server]);
    let found = round(&mut desk.monitor()).await;
    assert_eq!(opened(&found), [FindingKind::DecreasingTime]);
    desk.assert_evidence(&found.events[0].finding, "decreasing_time");
}

#[tokio::test]
async fn withheld_entries_are_found_and_the_gap_is_filled_from_elsewhere() {
    let log = FakeLog::with_entries(Suite::Blake3, 3000);
    let (gap, whole) = FakeServer::start_two(&log, &log).await;
    gap.hook(|path, answer| {
        if path == "tile/entries/005" {
            Err(404)
        } else {
            answer
        }
    });

    let desk = Desk::new(&log, &[&gap]);
    let mut monitor = desk.monitor();
    let found = round(&mut monitor).await;
    assert_eq!(opened(&found), [FindingKind::Withheld]);
    assert_eq!(
        found.verified_entries, 1280,
        "what came before the gap is verified"
    );
    assert_eq!(round(&mut monitor).await.events, []);
    drop(monitor);

    desk.configure(&[&gap, &whole], &[]);
    let mut monitor = desk.monitor();
    assert_eq!(round(&mut monitor).await.verified_entries, 3000);
    gap.honest();
    assert_eq!(resolved(&round(&mut monitor).await), [FindingKind::Withheld]);
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
    let config = fs::read_to_string(desk.path("monitor.toml")).unwrap();
    let own = format!("{:?}, max_head_age_seconds = 200 }}", mirror.url());
    let config = config.replace(&format!("{:?} }}", mirror.url()), &own);
    fs::write(desk.path("monitor.toml"), config).unwrap();
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
async fn trouble_with_who_is_configured_no_longer_is_over_and_misbehaviour_stays() {
    let common = FakeLog::with_entries(Suite::Blake3, 300);
    let (mut one, mut other) = (common.clone(), common.clone());
    one.grow_as("one", 10);
    other.grow_as("other", 10);
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
    b.hook(|path, answer| match path.starts_with("tile/") {
        true => Err(404),
        false => answer,
    });
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
        server.hook(move |path, answer| match path.starts_with(what) {
            true => Err(503),
            false => answer,
        });
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
