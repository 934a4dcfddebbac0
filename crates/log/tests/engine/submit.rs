//! Recording events: places, receipts, and the tree that they make.

use std::sync::Arc;

use counterfoil_log::{Outcome, ReadError};
use counterfoil_merkle::{Digest, Suite};
use tokio::task::JoinSet;

use crate::support::*;

/// RFC 6962's definition of the root, word for word: another path to it than the engine's tiles.
fn tree_hash(suite: Suite, leaves: &[Digest]) -> Digest {
    match leaves {
        [] => suite.empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            suite.node_hash(&tree_hash(suite, left), &tree_hash(suite, right))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_said_follows_from_what_is_stored_at_every_step() {
    // Entry 0 is the log's own: these end at tree sizes 1, 2, 3, 255, 256, 257, 511, 512, 513 and 1,000.
    for suite in SUITES {
        let place = Place::new(suite);
        let mut recorded = 0;
        for size in [1, 2, 3, 255, 256, 257, 511, 512, 513, 1_000] {
            let log = place.open();
            record(&log, &events(recorded..size - 1)).await;
            recorded = size - 1;
            assert_eq!(audit(&log).await.size(), size);
            drop(log);

            let log = place.open();
            let audited = audit(&log).await;
            assert_eq!(audited.size(), size, "after opening again");
            let mut leaves = Vec::new();
            for place in 0..size {
                leaves.push(suite.leaf_hash(&log.entry(index(place), false).await.unwrap().entry));
            }
            assert_eq!(log.commit_head().root, tree_hash(suite, &leaves));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_tile_level_fills() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place.open();
        record(&log, &events(0..65_534)).await;
        assert_eq!(log.commit_head().size, tree_size(65_535));
        // One call across the boundary, and then each size on its own.
        record(&log, &events(65_534..65_534 + 300)).await;
        for id in 65_834..65_840 {
            record(&log, &events([id])).await;
        }
        audit(&log).await;
        drop(log);

        let log = place.open();
        let audited = audit(&log).await;
        assert_eq!(audited.size(), 65_841);
        for size in [65_535, 65_536, 65_537, 65_791, 65_792, 65_793, 65_841] {
            for first in [1, 255, 256, 257, 32_768, 65_280, 65_535] {
                let proof = log
                    .consistency_proof(tree_size(first), tree_size(size))
                    .await
                    .unwrap();
                counterfoil_merkle::verify_consistency(
                    suite,
                    tree_size(first),
                    audited.roots[first],
                    tree_size(size),
                    audited.roots[size],
                    &proof,
                )
                .unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_stay_whole_and_all_receipts_hold() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = Arc::new(place.open());
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let log = log.clone();
            callers.spawn(async move {
                for call in 0..40 {
                    let first = (caller * 40 + call) * 100;
                    let events = events(first..first + 1 + call % 17);
                    let submitted = submit(&log, &events).await.unwrap();
                    let start = leaf(&submitted.outcomes[0]).index.get();
                    for (offset, (event, outcome)) in events.iter().zip(&submitted.outcomes).enumerate() {
                        assert!(matches!(outcome, Outcome::Recorded(_)));
                        let receipt = check_receipt(&log, &submitted.head, outcome, event);
                        assert_eq!(
                            receipt.index().get(),
                            start + offset as u64,
                            "side by side, in order"
                        );
                    }
                    // What is acknowledged can be read back at once.
                    assert!(log.commit_head().size >= submitted.head.size);
                    log.proven_leaf(leaf(&submitted.outcomes[0]).index).await.unwrap();
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        let expected: usize = 1 + 8 * (0..40).map(|call| 1 + call % 17).sum::<usize>();
        assert_eq!(audit(&log).await.size(), expected);
        drop(Arc::into_inner(log).unwrap());
        assert_eq!(audit(&place.open()).await.size(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_enter_the_tree_in_the_order_of_their_submission() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    let calls: Vec<_> = (0..2_000).map(|id| submit(&log, &events([id]))).collect();
    for (place, call) in calls.into_iter().enumerate() {
        assert_eq!(leaf(&call.await.unwrap().outcomes[0]).index, index(place + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_every_size_come_back_as_they_were() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    let noise = |length: usize| -> Vec<u8> {
        (0..length as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect()
    };
    let sent: Vec<_> = [0, 1, 511, 512, 1_023, 1_024]
        .into_iter()
        // With its attributes, one of these is the first that is compressed alone, and kept in a file of its own.
        .chain(3_950..4_150)
        .chain([65_536, 1 << 20, 25 << 20])
        .flat_map(|length| {
            [
                event(format!("noise {length}"), noise(length)),
                event(format!("zeros {length}"), vec![0; length]),
            ]
        })
        .collect();
    record(&log, &sent).await;
    drop(log);
    let log = place.open();
    for (place, event) in sent.iter().enumerate() {
        let stored = log.entry(index(place + 1), true).await.unwrap();
        assert!(stored.payload.unwrap().data == *event.data(), "{}", event.id());
    }
}

/// The last call fills tiles of level 0 on both sides of leaf 65,536, and the tile above those before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fills_tiles_of_two_levels_is_proved() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    for first in (0..61_440).step_by(4_096) {
        submit(&log, &events(first..first + 4_096)).await.unwrap();
    }
    record(&log, &events(61_440..62_440)).await;
    record(&log, &events(62_440..66_536)).await;
    assert!(log.commit_head().size.get() > 65_536 + 3 * 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_entries_keep_their_limits() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    record(&log, &events(0..20)).await;
    let page = |first, entries, bytes| {
        let log = &log;
        async move {
            let page = log.entries(index(first), entries, bytes, true).await.unwrap();
            page.iter().map(|entry| entry.index.get()).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(3, 4, usize::MAX).await, [3, 4, 5, 6]);
    assert_eq!(page(18, 10, usize::MAX).await, [18, 19, 20]);
    assert_eq!(page(3, 10, 1).await, [3], "one at least");
    assert_eq!(page(3, 0, usize::MAX).await, [3], "one at least");
    assert_eq!(page(21, 10, usize::MAX).await, [] as [u64; 0]);
    assert_eq!(page(1_000_000, 10, usize::MAX).await, [] as [u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    record(&log, &events(0..9)).await;
    assert!(matches!(
        log.entry(index(10), false).await,
        Err(ReadError::NotFound)
    ));
    assert!(matches!(
        log.proven_leaf(index(10)).await,
        Err(ReadError::NotFound)
    ));
    for (at, size) in [(10, 10), (5, 5), (0, 0)] {
        let refused = log.inclusion_proof(index(at), tree_size(size)).await;
        assert!(
            matches!(refused, Err(ReadError::IndexOutOfRange { .. })),
            "{refused:?}"
        );
    }
    assert!(matches!(
        log.inclusion_proof(index(3), tree_size(11)).await,
        Err(ReadError::SizeOutOfRange { .. })
    ));
    for (first, second) in [(0, 5), (6, 5), (5, 11), (11, 11)] {
        let refused = log.consistency_proof(tree_size(first), tree_size(second)).await;
        assert!(
            matches!(refused, Err(ReadError::SizeOutOfRange { .. })),
            "{first} {second}: {refused:?}"
        );
    }
}
