//! Published heads: they grow, they are stored before they are shown, and silence is signed too.

use std::{sync::Arc, time::Duration};

use counterfoil_log::{LogOptions, TreeHead};
use counterfoil_merkle::Suite;
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
