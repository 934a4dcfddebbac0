//! Back-pressure, stopping, and a full disk: what is refused is refused at once, what is acknowledged stays.

use std::{sync::Arc, time::Duration};

use counterfoil_log::{Intake, LogOptions, SubmitError};
use counterfoil_merkle::Suite;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_what_it_took_is_recorded() {
    for (queue_events, queue_bytes) in [(4, usize::MAX), (usize::MAX, 8_000)] {
        let place = Place::new(Suite::Blake3);
        let log = place
            .open_with(LogOptions {
                queue_events,
                queue_bytes,
                ..options()
            })
            .unwrap();
        // Faster than any disk: most find the queue full.
        let calls: Vec<_> = (0..2_000)
            .map(|id| {
                let mut call = Box::pin(submit(&log, &events([id])));
                (now(call.as_mut()), call)
            })
            .collect();
        let (mut recorded, mut refused) = (0, 0);
        for (at_once, call) in calls {
            match at_once {
                Some(Err(SubmitError::QueueFull)) => refused += 1,
                Some(Err(other)) => panic!("{other:?}"),
                // On a busy machine it may be on disk before this looks.
                Some(Ok(_)) => recorded += 1,
                None => {
                    call.await.unwrap();
                    recorded += 1;
                }
            }
        }
        assert!(
            refused > 0 && recorded > 0,
            "{refused} refused, {recorded} recorded"
        );
        assert_eq!(audit(&log).await.size(), 1 + recorded);

        // A call larger than the queue is taken when nothing waits.
        record(&log, &events(10_000..10_100)).await;
        assert_eq!(audit(&log).await.size(), 101 + recorded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_records_what_was_taken_and_refuses_the_rest() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place.open();
        let calls: Vec<_> = (0..3_000).map(|id| submit(&log, &events([id]))).collect();
        log.stop();
        for (place, call) in calls.into_iter().enumerate() {
            assert_eq!(leaf(&call.await.unwrap().outcomes[0]).index, index(place + 1));
        }
        assert_eq!(
            log.published_head().unwrap().size,
            tree_size(3_001),
            "the last head is published"
        );
        let late = now(submit(&log, &events([9_999])));
        assert!(matches!(late, Some(Err(SubmitError::Stopping))), "{late:?}");
        assert_eq!(log.intake(), Intake::Closed);
        log.stop();
        assert_eq!(audit(&log).await.size(), 3_001, "reads go on");
        drop(log);
        assert_eq!(audit(&place.open()).await.size(), 3_001);
    }
}

/// Stops while submissions come in from all sides: each is answered, and what was acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_left_waiting_when_the_log_stops() {
    for round in 0..10 {
        let place = Place::new(Suite::Blake3);
        let log = Arc::new(place.open());
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..8 {
            let log = log.clone();
            callers.spawn(async move {
                let mut recorded = Vec::new();
                for id in 0.. {
                    match submit(&log, &events([caller * 1_000_000 + id])).await {
                        Ok(submitted) => recorded.push(leaf(&submitted.outcomes[0]).clone()),
                        Err(SubmitError::Stopping) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
                recorded
            });
        }
        tokio::time::sleep(Duration::from_millis(5 + 3 * round)).await;
        let stopping = log.clone();
        tokio::task::spawn_blocking(move || stopping.stop())
            .await
            .unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(30), callers.join_all())
            .await
            .expect("a caller was never answered");
        drop(Arc::into_inner(log).unwrap());

        let log = place.open();
        let recorded: Vec<_> = answered.into_iter().flatten().collect();
        assert_eq!(audit(&log).await.size(), 1 + recorded.len());
        for leaf in recorded {
            assert_eq!(log.entry(leaf.index, false).await.unwrap().entry, leaf.entry);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_submissions_and_serves_reads() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    record(&log, &events(0..10)).await;
    drop(log);
    let log = place
        .open_with(LogOptions {
            min_free_bytes: u64::MAX,
            ..options()
        })
        .unwrap();
    for id in [3, 77] {
        // Before anybody has submitted, too.
        assert_eq!(log.intake(), Intake::Full);
        assert_eq!(log.admit(1, 1), Err(SubmitError::OutOfSpace));
        let refused = submit(&log, &events([id])).await;
        assert!(matches!(refused, Err(SubmitError::OutOfSpace)), "{refused:?}");
    }
    assert_eq!(audit(&log).await.size(), 11);
    drop(log);

    let log = place.open();
    assert!(log.takes_events());
    assert_eq!(log.admit(1, 1), Ok(()));
    record(&log, &events([77])).await;
    assert_eq!(audit(&log).await.size(), 12);
}

/// Write buffers that one batch overruns: writing gets slower, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn little_memory_does_not_stop_the_log() {
    let place = Place::new(Suite::Blake3);
    let log = place
        .open_with(LogOptions {
            memory_bytes: 4 << 20,
            ..options()
        })
        .unwrap();
    for first in (0..60_000).step_by(20_000) {
        let events = events(first..first + 20_000);
        let recorded = tokio::time::timeout(Duration::from_secs(60), record(&log, &events));
        recorded.await.expect("a write never came back");
    }
    assert_eq!(log.commit_head().size, tree_size(60_001));
}
