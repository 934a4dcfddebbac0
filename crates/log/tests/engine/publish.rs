//! Published heads: they grow, they are stored before they are shown, and silence is signed too.

use std::{fs, sync::Arc, time::Duration};

use counterfoil_log::{FsckDepth, LogOptions, TreeHead, export, fsck};
use counterfoil_merkle::Suite;
use counterfoil_note::{LogSigner, SignerKey, UnixMillis};
use counterfoil_store::{Store, StoreOptions};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn published_heads_grow_are_stored_and_are_all_of_one_history() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place
            .open_with(LogOptions {
                publish_interval: Duration::from_millis(2),
                ..options()
            })
            .unwrap();
        let mut watch = log.watch_published();
        let mut seen = vec![log.published_head().unwrap()];
        let watcher = tokio::spawn(async move {
            while watch.changed().await.is_ok() {
                seen.extend(watch.borrow_and_update().clone());
            }
            seen
        });
        for id in 0..200 {
            record(&log, &events([id])).await;
        }
        log.stop();
        let audited = audit(&log).await;
        assert_eq!(log.published_head().unwrap().size, log.commit_head().size);
        let last = log.published_head().unwrap();
        // The watch ends with the log.
        let keys = log.verifier_keys();
        drop(log);
        let seen: Vec<Arc<TreeHead>> = watcher.await.unwrap();
        assert!(seen.len() > 5, "only {} heads were published", seen.len());
        assert_eq!(seen.last().unwrap().note, last.note);
        for pair in seen.windows(2) {
            assert!(pair[0].size < pair[1].size, "published without growth");
            assert!(pair[0].time <= pair[1].time);
        }

        let store = Store::open_read_only(&place.directory().database(), &StoreOptions::default()).unwrap();
        let stored: Vec<_> = store.heads().map(Result::unwrap).collect();
        for head in &seen {
            assert!(
                stored
                    .iter()
                    .any(|(size, note)| *size == head.size && **note == *head.note),
                "the head of size {} was shown and is not stored",
                head.size
            );
        }
        for (size, note) in stored {
            for key in &keys {
                let head = key.verify_head(&note).unwrap();
                assert_eq!(head.size(), size);
                assert_eq!(head.root(), audited.roots[usize::try_from(size.get()).unwrap()]);
            }
        }
    }
}

/// Heads are written beside the database while the check looks at it: none of them is of a log that was rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_beside_a_log_that_grows_finds_nothing() {
    let place = Place::new(Suite::Blake3);
    let log = place
        .open_with(LogOptions {
            publish_interval: Duration::from_micros(100),
            ..options()
        })
        .unwrap();
    let mut id = 0;
    for _ in 0..20 {
        let data = place.data();
        let check =
            tokio::task::spawn_blocking(move || fsck(&data, &name(), FsckDepth::Tree, |_| {}).unwrap());
        while !check.is_finished() {
            record(&log, &events([id])).await;
            id += 1;
        }
        let report = check.await.unwrap();
        assert_eq!(report.findings, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_signed_anew_while_nothing_grows() {
    let place = Place::new(Suite::Sha256);
    let log = place
        .open_with(LogOptions {
            publish_interval: Duration::from_millis(5),
            resign_interval: Duration::from_millis(20),
            ..options()
        })
        .unwrap();
    record(&log, &events(0..5)).await;
    let mut watch = log.watch_published();
    let mut heads = Vec::new();
    while heads.len() < 4 {
        tokio::time::timeout(Duration::from_secs(10), watch.changed())
            .await
            .expect("no head in ten seconds")
            .unwrap();
        let head = watch.borrow_and_update().clone().unwrap();
        if head.size == tree_size(6) {
            heads.push(head);
        }
    }
    let audited = audit(&log).await;
    for pair in heads.windows(2) {
        assert_eq!(pair[0].root, pair[1].root);
        assert!(
            pair[1].time.get() >= pair[0].time.get() + 20,
            "signed anew too soon"
        );
        check_head(&log, &pair[1], &audited);
    }
}

/// A leaf with its proof is read while heads are published under it: both have to be of one tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaves_are_proven_while_heads_are_published() {
    let place = Place::new(Suite::Blake3);
    let log = Arc::new(
        place
            .open_with(LogOptions {
                publish_interval: Duration::from_micros(1),
                ..options()
            })
            .unwrap(),
    );
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let log = log.clone();
        readers.spawn(async move {
            for _ in 0..5_000 {
                let (head, leaf) = log.proven_leaf(index(0)).await.unwrap();
                counterfoil_merkle::verify_inclusion(
                    log.suite(),
                    log.suite().leaf_hash(&leaf.entry),
                    leaf.index,
                    head.size,
                    &leaf.inclusion_proof,
                    head.root,
                )
                .unwrap();
            }
        });
    }
    let mut id = 0;
    while !readers.is_empty() {
        record(&log, &events([id])).await;
        id += 1;
        while let Some(reader) = readers.try_join_next() {
            reader.unwrap();
        }
    }
}

/// Whoever has the export of a head could convict the log of a fork that its anchor would not keep it from.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_an_anchor_does_not_take_is_neither_shown_nor_exported() {
    const INTERVAL: Duration = Duration::from_millis(5);
    let place = Place::new(Suite::Blake3);
    let (anchor, exported) = (place.beside("anchor"), place.beside("exported"));
    let log = place
        .open_with(LogOptions {
            publish_interval: INTERVAL,
            anchor: Some(anchor.clone()),
            ..options()
        })
        .unwrap();
    let exported_size = || {
        let report = export(&place.data(), &name(), &exported, |_| {}).unwrap();
        report.size
    };
    let shown = log.published_head().unwrap();
    fs::remove_dir_all(&anchor).unwrap();
    record(&log, &events(0..3)).await;
    tokio::time::sleep(10 * INTERVAL).await;
    assert_eq!(log.commit_head().size, tree_size(4));
    assert_eq!(log.published_head().unwrap().note, shown.note);
    assert_eq!(exported_size(), shown.size);

    fs::create_dir(&anchor).unwrap();
    let mut watch = log.watch_published();
    let is_new = |head: &Option<Arc<TreeHead>>| head.as_ref().is_some_and(|head| head.size == tree_size(4));
    tokio::time::timeout(Duration::from_secs(10), watch.wait_for(is_new))
        .await
        .expect("no head in ten seconds")
        .unwrap();
    assert_eq!(exported_size(), tree_size(4));
}

/// Signs and stores the newest head anew, as of an hour from now.
fn sign_ahead_of_time(place: &Place) -> Arc<TreeHead> {
    let secrets = fs::read_to_string(place.directory().keys()).unwrap();
    let keys = secrets.lines().map(|line| line.parse::<SignerKey>().unwrap());
    let signer = LogSigner::new(keys.collect()).unwrap();
    let verifier = signer.keys()[0].verifier_key();

    let store = Store::open(&place.directory().database(), &StoreOptions::default()).unwrap();
    let (size, note) = store.newest_head().unwrap().unwrap();
    let head = verifier.verify_head(&note).unwrap();
    let time = UnixMillis::new(head.time().unwrap().get() + 3_600_000);
    let note = signer.sign_head(size, head.root(), time);
    store.put_published_head(size, &note).unwrap();
    Arc::new(TreeHead {
        origin: signer.origin().clone(),
        size,
        root: head.root(),
        time,
        note,
    })
}

/// A smaller tree signed at a later time than a larger one would be evidence against the log, so no two heads that it ever
/// shows may be such a pair: not those in receipts while others are signed anew, and not after the clock was set back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heads_bear_times_in_the_order_of_their_sizes() {
    let place = Place::new(Suite::Blake3);
    let mut heads = Vec::new();
    for run in 0..2 {
        // Heads are signed anew as fast as can be, while others are committed.
        let log = place
            .open_with(LogOptions {
                publish_interval: Duration::from_micros(1),
                resign_interval: Duration::ZERO,
                ..options()
            })
            .unwrap();
        let mut watch = log.watch_published();
        let watcher = tokio::spawn(async move {
            let mut seen = Vec::new();
            while watch.changed().await.is_ok() {
                seen.extend(watch.borrow_and_update().clone());
            }
            seen
        });
        for call in 0..60 {
            let ids = 100_000 * run + 400 * call;
            let submitted = submit(&log, &events(ids..ids + 400)).await.unwrap();
            heads.push(submitted.head);
        }
        heads.push(log.commit_head());
        log.stop();
        drop(log);
        heads.extend(watcher.await.unwrap());
        // The next run's clock is an hour behind.
        heads.push(sign_ahead_of_time(&place));
    }
    let smallest_later = |time| {
        let later = heads.iter().filter(|head| head.time > time);
        later.map(|head| head.size).min()
    };
    for head in &heads {
        let smallest = smallest_later(head.time);
        assert!(
            smallest.is_none_or(|smallest| smallest >= head.size),
            "{} was signed after {}",
            smallest.unwrap(),
            head.size
        );
    }
}
