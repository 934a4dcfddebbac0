//! What a monitor makes of entries: altered, against the rules, of a later version, late, and withheld.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;

use bytes::Bytes;
use counterfoil_merkle::Suite;
use counterfoil_monitor::FindingKind;
use serde_json::json;
use support::{
    FakeLog, FakeServer, ORIGIN, bundle_of,
    desk::{Desk, opened, resolved, round},
    entry,
};

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

    // Who knows the same forms reads no more; who knows others reads again what that one could not.
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
            "kind": "unknown_entry", "log": "main", "origin": ORIGIN, "source": null,
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
