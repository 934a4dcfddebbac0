//! Each lie that a log can tell is told to a client, and caught under its name.
#![allow(clippy::unwrap_used)]

mod log;
mod outbox;
mod witnesses;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use counterfoil_client::{
    Action, Client, Error, Leaf, Misbehaviour, Options, Reason, StateDir, UnprovenConsistency,
};
use counterfoil_event::{CommitmentError, EntryError, Event, EventParts, IndexAttribute};
use counterfoil_merkle::{LeafIndex, ProofError, Suite, TreeSize};
use counterfoil_note::{HeadError, Policy, UnixMillis};
use counterfoil_verify::{Basis, Evidence, Receipt};
use tempfile::TempDir;

use crate::log::{FakeLog, Lie, event};

/// A log with entries 0 to 6, served.
async fn log(suite: Suite) -> (FakeLog, String) {
    let log = FakeLog::new(suite);
    log.record(0..7);
    let address = log.serve().await;
    (log, address)
}

async fn client(log: &FakeLog, address: &str, state: Option<&TempDir>) -> Client {
    let mut options = Options::new(address.parse().unwrap(), Policy::for_log(log.key()));
    options.state = state.map(|directory| StateDir::new(directory.path()));
    Client::connect(options).await.unwrap()
}

fn index(index: u64) -> LeafIndex {
    LeafIndex::new(index).unwrap()
}

fn size(size: u64) -> TreeSize {
    TreeSize::new(size).unwrap()
}

/// The fact in an error that must be one.
fn fact<T>(result: Result<T, Error>) -> Misbehaviour {
    match result.map(|_| "success") {
        Err(Error::Misbehaviour(fact)) => *fact,
        other => panic!("instead of a misbehaviour: {other:?}"),
    }
}

fn is_invalid<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::InvalidAnswer(_)))
}

fn is_unavailable<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable(_)))
}

#[tokio::test]
async fn an_honest_log_is_believed() {
    for suite in Suite::ALL {
        let (log, address) = log(suite).await;
        let state = tempfile::tempdir().unwrap();
        let client = client(&log, &address, Some(&state)).await;

        assert_eq!(client.head().await.unwrap().size(), size(7));
        let submitted = client.submit(&event(7)).await.unwrap();
        assert_eq!((submitted.receipt.index, submitted.duplicate), (index(7), false));
        assert!(client.submit(&event(7)).await.unwrap().duplicate);
        let batch: Vec<_> = (6..20).map(event).collect();
        let outcomes = client.submit_batch(&batch).await.unwrap();
        assert_eq!(
            outcomes
                .iter()
                .filter(|outcome| outcome.as_ref().unwrap().duplicate)
                .count(),
            2
        );

        let (mut sender, mut results) = client.submit_stream(4);
        let sending = tokio::spawn(async move {
            for number in 20..40 {
                sender.send(event(number)).await.unwrap();
            }
        });
        for number in 20..40 {
            let (sent, outcome) = results.next().await.unwrap().unwrap();
            assert_eq!(
                (sent, outcome.unwrap().receipt.index),
                (event(number), index(number))
            );
        }
        assert!(results.next().await.unwrap().is_none());
        sending.await.unwrap();
        assert_eq!(client.link_heads().await.unwrap().unwrap().size(), size(40));

        for number in [0, 20, 39] {
            let name = Leaf::Event {
                source: event(number).source().into(),
                id: event(number).id().into(),
            };
            let (entry, head) = client.entry(&name, false).await.unwrap();
            assert_eq!((entry.leaf_index, head.size()), (index(number), size(40)));
            assert_eq!(entry.payload.unwrap().data, event(number).data());
            let by_hash = client
                .prove_inclusion(&Leaf::Hash(entry.leaf_hash), Some(size(number + 1)))
                .await;
            assert_eq!(by_hash.unwrap().leaf_index, index(number));
            let (receipt, _) = client.receipt(index(number)).await.unwrap();
            let text = receipt.to_text(suite).unwrap();
            let offline = Receipt::from_text(&text, suite)
                .unwrap()
                .verify(&log.key())
                .unwrap();
            offline.commits_to(&event(number)).unwrap();
        }
        for (first, second) in [
            (1, None),
            (7, Some(size(8))),
            (32, None),
            (40, None),
            (13, Some(size(13))),
        ] {
            let proof = client.prove_consistency(size(first), second).await.unwrap();
            assert_eq!(proof.second_tree_size, second.unwrap_or(size(40)));
        }
        let mut range = client.entries(index(5), 0, true).await.unwrap();
        assert_eq!(range.next_page().await.unwrap().len(), 35);
        assert!(range.next_page().await.unwrap().is_empty());
        assert!(
            client
                .entries(index(99), 3, false)
                .await
                .unwrap()
                .next_page()
                .await
                .unwrap()
                .is_empty()
        );

        let mut heads = client.watch_heads().await.unwrap();
        assert_eq!(heads.next().await.unwrap().unwrap().size(), size(40));
        assert_eq!(heads.next().await.unwrap().unwrap().size(), size(41));
        assert!(heads.next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_head_that_the_key_did_not_sign_is_refused() {
    let (log, address) = log(Suite::Blake3).await;
    for (lie, expected) in [
        (Lie::OtherKey, "not signed"),
        (Lie::BrokenSignature, "does not verify"),
    ] {
        log.lie(lie);
        let client = client(&log, &address, None).await;
        for fact in [fact(client.head().await), fact(client.submit(&event(0)).await)] {
            let Misbehaviour::UnverifiedHead { error, note } = fact else {
                panic!("{fact:?}")
            };
            assert!(error.to_string().contains(expected), "{error}");
            assert!(log.key().verify_head(&note).is_err());
        }
    }
}

#[tokio::test]
async fn a_log_of_the_other_suite_is_refused() {
    let (sha256, address) = log(Suite::Sha256).await;
    let blake3 = FakeLog::new(Suite::Blake3);
    let client = client(&blake3, &address, None).await;
    let fact = fact(client.head().await);
    assert!(
        matches!(
            fact,
            Misbehaviour::UnverifiedHead {
                error: HeadError::NotSignedByKey { .. },
                ..
            }
        ),
        "{fact:?}"
    );
    drop(sha256);
}

#[tokio::test]
async fn going_back_is_caught_across_processes_with_both_heads() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    client(&log, &address, Some(&state)).await.head().await.unwrap();

    log.lie(Lie::OldHead(5));
    let fact = fact(client(&log, &address, Some(&state)).await.head().await);
    let Misbehaviour::Rollback { known, presented } = &fact else {
        panic!("{fact:?}")
    };
    assert_eq!((known.size(), presented.size()), (size(7), size(5)));
    for head in fact.heads() {
        log.key().verify_head(head.note_bytes()).unwrap();
    }
    // Nothing was forgotten over it.
    log.lie(Lie::Nothing);
    assert_eq!(
        client(&log, &address, Some(&state))
            .await
            .head()
            .await
            .unwrap()
            .size(),
        size(7)
    );
}

/// The larger head comes second and was signed first: nothing but the log's own clock tells.
#[tokio::test]
async fn going_back_is_caught_whichever_head_comes_first() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    log.record(7..10);
    client(&log, &address, Some(&state)).await.head().await.unwrap();
    log.record(10..12);
    let submitter = client(&log, &address, None).await;
    let (receipt, _) = submitter.receipt(index(11)).await.unwrap();
    // Now the head of size 10 is signed anew.
    log.lie(Lie::OldHead(10));
    client(&log, &address, Some(&state)).await.head().await.unwrap();

    log.lie(Lie::Nothing);
    log.record(12..15);
    let client = client(&log, &address, Some(&state)).await;
    client.take_in_head(&receipt.checkpoint).unwrap();
    let fact = fact(client.head().await);
    let Misbehaviour::Rollback { known, presented } = &fact else {
        panic!("{fact:?}")
    };
    assert_eq!((known.size(), presented.size()), (size(12), size(10)));
    assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures));
}

/// A log that lost its end can't link what it signed since to what it signed before. The times of the two convict it.
#[tokio::test]
async fn going_back_is_caught_although_the_log_proves_nothing() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    client(&log, &address, Some(&state)).await.head().await.unwrap();

    log.forget(3);
    log.lie(Lie::ConsistencyRefused);
    let client = client(&log, &address, Some(&state)).await;
    client.submit(&event(100)).await.unwrap();
    let fact = fact(client.link_heads().await);
    let Misbehaviour::Rollback { known, presented } = &fact else {
        panic!("{fact:?}")
    };
    assert_eq!((known.size(), presented.size()), (size(7), size(4)));
    assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures));
}

#[tokio::test]
async fn going_back_is_caught_within_a_stream_of_heads() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    log.lie(Lie::OldHead(6));
    let mut heads = client.watch_heads().await.unwrap();
    assert_eq!(heads.next().await.unwrap().unwrap().size(), size(7));
    assert!(matches!(fact(heads.next().await), Misbehaviour::Rollback { .. }));
}

#[tokio::test]
async fn another_history_of_the_same_size_is_a_fork() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    client(&log, &address, Some(&state)).await.head().await.unwrap();

    log.forget(5);
    log.record(100..102);
    let fact = fact(client(&log, &address, Some(&state)).await.head().await);
    let Misbehaviour::Fork { known, presented } = &fact else {
        panic!("{fact:?}")
    };
    assert_eq!(known.size(), presented.size());
    assert_ne!(known.root(), presented.root());
    // Whoever has the key alone can judge it.
    assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures));
}

/// The proof that the log gives convicts it. From a size that is a power of two it does not, and the client asks for one
/// that does.
#[tokio::test]
async fn another_history_that_grew_convicts_the_log() {
    for suite in Suite::ALL {
        for known in [7, 8] {
            let (log, address) = log(suite).await;
            log.record(7..known);
            let state = tempfile::tempdir().unwrap();
            client(&log, &address, Some(&state)).await.head().await.unwrap();

            log.forget(5);
            log.record(100..110);
            let fact = fact(client(&log, &address, Some(&state)).await.head().await);
            let Misbehaviour::Inconsistency { older, newer, .. } = &fact else {
                panic!("{fact:?}")
            };
            assert_eq!((older.size(), newer.size()), (size(known), size(15)));
            assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures));
        }
    }
}

/// What evidence of a fact rests on, if others can be shown any.
fn proves(log: &FakeLog, fact: &Misbehaviour) -> Option<Basis> {
    let evidence = Evidence {
        observed: UnixMillis::new(0),
        fact: fact.fact()?,
    };
    assert_eq!(evidence.fact.name(), fact.name());
    evidence.check(&[log.key()]).ok().map(|verdict| verdict.basis())
}

/// The first history is gone from the server; the receipt is all there is.
#[tokio::test]
async fn a_receipt_of_another_history_is_caught_when_it_is_linked() {
    let (log, address) = log(Suite::Blake3).await;
    let (receipt, _) = client(&log, &address, None)
        .await
        .receipt(index(6))
        .await
        .unwrap();
    for (regrown, name) in [(107, "fork"), (120, "inconsistency")] {
        log.forget(5);
        log.record(105..regrown);
        let client = client(&log, &address, None).await;
        client.take_in_head(&receipt.checkpoint).unwrap();
        let fact = fact(client.head().await);
        assert_eq!(fact.name(), name);
        assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures));
    }
    log.forget(6);
    let client = client(&log, &address, None).await;
    client.take_in_head(&receipt.checkpoint).unwrap();
    assert_eq!(fact(client.head().await).name(), "rollback");
}

/// Receipts from one tree, published heads from another.
#[tokio::test]
async fn a_receipt_under_an_unlinked_head_is_not_the_end_of_it() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    client.head().await.unwrap();
    log.forget(5);
    // The receipt by itself holds: the log did sign a head over it.
    client.submit(&event(50)).await.unwrap();
    let submitted = client.submit(&event(51)).await;
    let fact = match submitted {
        Ok(_) => fact(client.link_heads().await),
        other => fact(other),
    };
    assert!(
        matches!(
            fact,
            Misbehaviour::Fork { .. } | Misbehaviour::Inconsistency { .. }
        ),
        "{fact:?}"
    );
}

#[tokio::test]
async fn consistency_is_proved_or_the_head_is_not_saved() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    client(&log, &address, Some(&state)).await.head().await.unwrap();
    log.record(7..12);
    for lie in [
        Lie::ConsistencyBit,
        Lie::ConsistencyLength,
        Lie::ConsistencyRefused,
    ] {
        log.lie(lie);
        let client = client(&log, &address, Some(&state)).await;
        let fact = fact(client.head().await);
        let Misbehaviour::UnprovenConsistency { problem, .. } = &fact else {
            panic!("{lie:?}: {fact:?}")
        };
        match lie {
            Lie::ConsistencyRefused => assert!(matches!(problem, UnprovenConsistency::Refused(_))),
            Lie::ConsistencyLength => {
                assert!(matches!(
                    problem,
                    UnprovenConsistency::Proof(ProofError::WrongLength { .. })
                ));
            }
            _ => assert!(matches!(problem, UnprovenConsistency::Proof(_))),
        }
        assert_eq!(fact.heads().len(), 2);
        // It stays so for as long as the client lives.
        assert!(client.link_heads().await.is_err());
        let reopened = self::client(&log, &address, Some(&state)).await;
        assert_eq!(reopened.largest_head().unwrap().size(), size(7), "{lie:?}");
    }
}

/// Each receipt's proof shows the tree before its leaf too, which is that of the receipt before.
#[tokio::test]
async fn receipts_in_a_row_take_no_further_proof() {
    for suite in Suite::ALL {
        let (log, address) = log(suite).await;
        let client = client(&log, &address, None).await;
        client.head().await.unwrap();
        log.lie(Lie::ConsistencyRefused);
        for number in 50..53 {
            client.submit(&event(number)).await.unwrap();
        }
        client
            .submit_batch(&[event(53), event(54), event(50)])
            .await
            .unwrap();
        let linked = client.link_heads().await.unwrap().unwrap();
        assert_eq!(linked.size(), size(12), "{suite}");
        // Of what others recorded in between nobody has shown anything.
        log.record(60..61);
        client.submit(&event(55)).await.unwrap();
        let fact = fact(client.link_heads().await);
        assert_eq!(fact.name(), "unproven_consistency");
    }
}

#[tokio::test]
async fn receipts_are_checked_in_every_way_of_submitting() {
    type Expect = fn(Misbehaviour) -> bool;
    let facts: [(Lie, Expect); 7] = [
        (Lie::InclusionBit, |fact| {
            matches!(
                fact,
                Misbehaviour::UnprovenInclusion {
                    problem: ProofError::RootMismatch,
                    ..
                }
            )
        }),
        (Lie::InclusionLength, |fact| {
            matches!(
                fact,
                Misbehaviour::UnprovenInclusion {
                    problem: ProofError::WrongLength { .. },
                    ..
                }
            )
        }),
        (Lie::OtherPayload, |fact| {
            other_content(fact, |problem| problem == CommitmentError::Payload)
        }),
        (Lie::OtherAttributes, |fact| {
            other_content(fact, |problem| problem == CommitmentError::Attributes)
        }),
        (Lie::OtherType, |fact| {
            other_content(fact, |problem| problem == CommitmentError::EventType)
        }),
        (Lie::OtherSalt, |fact| {
            other_content(fact, |problem| problem == CommitmentError::Payload)
        }),
        (Lie::UnknownField, |fact| {
            matches!(
                fact,
                Misbehaviour::InvalidEntry {
                    problem: EntryError::NotCanonical,
                    ..
                }
            )
        }),
    ];
    for (lie, expect) in facts {
        for way in ["one", "batch", "stream"] {
            let (log, address) = log(Suite::Blake3).await;
            let client = client(&log, &address, None).await;
            log.lie(lie);
            assert!(expect(fact(submit(&client, way).await)), "{lie:?} {way}");
        }
    }
}

fn other_content(fact: Misbehaviour, expect: fn(CommitmentError) -> bool) -> bool {
    match fact {
        // The payload of the lie has the length of the one sent.
        Misbehaviour::OtherContent {
            problem: CommitmentError::PayloadLength { .. },
            ..
        } => expect(CommitmentError::Payload),
        Misbehaviour::OtherContent { problem, .. } => expect(problem),
        _ => false,
    }
}

async fn submit(client: &Client, way: &str) -> Result<(), Error> {
    match way {
        "one" => client.submit(&event(9)).await.map(drop),
        "batch" => client.submit_batch(&[event(8), event(9)]).await.map(drop),
        _ => {
            let (mut sender, mut results) = client.submit_stream(8);
            for number in [8, 9] {
                sender.send(event(number)).await.unwrap();
            }
            drop(sender);
            while results.next().await?.is_some() {}
            Ok(())
        }
    }
}

/// A client that is behind the times accuses nobody.
#[tokio::test]
async fn an_entry_of_a_later_version_is_no_misbehaviour() {
    for lie in [Lie::LaterVersion, Lie::LaterAuthentication, Lie::UnknownField] {
        for way in ["one", "batch", "stream", "entry", "range", "receipt", "search"] {
            let (log, address) = log(Suite::Blake3).await;
            let client = client(&log, &address, None).await;
            log.lie(lie);
            log.record(7..8);
            let result = match way {
                "entry" => client.entry(&Leaf::Index(index(7)), false).await.map(drop),
                "range" => {
                    let mut range = client.entries(index(0), 0, false).await.unwrap();
                    range.next_page().await.map(drop)
                }
                "receipt" => client.receipt(index(7)).await.map(drop),
                "search" => {
                    let found = client.find(IndexAttribute::Commit, "decade", index(0), 9);
                    found.await.map(drop)
                }
                _ => submit(&client, way).await,
            };
            if lie == Lie::UnknownField {
                let fact = fact(result);
                assert_eq!(fact.name(), "invalid_entry", "{way}");
                assert_eq!(proves(&log, &fact), Some(Basis::LogSignatures), "{way}");
                continue;
            }
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::UnknownEntry { .. }),
                "{lie:?} {way}: {error:?}"
            );
            assert_eq!(error.action(), Action::Fix);
        }
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_the_question_are_invalid() {
    for (lie, ways) in [
        (Lie::ShortHash, &["one", "batch", "stream"][..]),
        (Lie::MissingResult, &["batch"]),
        (Lie::SwappedResults, &["batch"]),
        (Lie::OtherSequence, &["batch", "stream"]),
        (Lie::NoHead, &["batch", "stream"]),
        (Lie::SpareHead, &["batch", "stream"]),
        (Lie::SpareResults, &["batch", "stream"]),
    ] {
        for way in ways {
            let (log, address) = log(Suite::Blake3).await;
            let client = client(&log, &address, None).await;
            log.lie(lie);
            let result = submit(&client, way).await;
            assert!(is_invalid(result), "{lie:?} {way}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_can_be_retried() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    log.lie(Lie::ShortStream);
    let error = submit(&client, "stream").await.unwrap_err();
    assert_eq!(error.action(), Action::Retry, "{error}");
    log.lie(Lie::Nothing);
    submit(&client, "stream").await.unwrap();
    assert_eq!(log.size(), 9);
}

/// What a future answers at once, without waiting for anything.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let future = pin!(tokio::task::coop::unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Whoever drops what it began, as `select!` does, begins it again.
#[tokio::test]
async fn sending_and_receiving_may_be_given_up() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    let (mut sender, mut results) = client.submit_stream(64);
    let mut last = 7;
    // Nothing is taken off this task's hands before it waits: in the end there is no room.
    while let Some(sent) = now(sender.send(event(last))) {
        sent.unwrap();
        last += 1;
    }
    assert!(now(results.next()).is_none());
    sender.send(event(last)).await.unwrap();
    drop(sender);
    for number in 7..=last {
        let (sent, outcome) = results.next().await.unwrap().unwrap();
        assert_eq!(
            (sent, outcome.unwrap().receipt.index),
            (event(number), index(number))
        );
    }
    assert!(results.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_of_one_event_carries_the_reason_and_when_to_retry() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    for (number, retry_after_ms, reason, action) in [
        (Reason::QueueFull as i32, 250, Reason::QueueFull, Action::Retry),
        // Of a later server.
        (99, 250, Reason::Unspecified, Action::Retry),
        (99, 0, Reason::Unspecified, Action::Fix),
    ] {
        log.lie(Lie::Refusing(number, retry_after_ms));
        let outcomes = client.submit_batch(&[event(8)]).await.unwrap();
        let refusal = outcomes[0].as_ref().unwrap_err();
        assert_eq!((refusal.reason, refusal.action()), (reason, action));
        let retry_after = refusal.retry_after.unwrap_or_default();
        assert_eq!(retry_after, Duration::from_millis(retry_after_ms));
        assert!(!refusal.is_final());
    }
}

/// The server's own refusal has no reason, and would look like an answer of something that is no log.
#[tokio::test]
async fn a_batch_that_no_log_takes_is_not_sent() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    let large = Event::try_from(EventParts {
        id: "large".to_owned(),
        source: "https://ci.example/acme".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data: vec![0_u8; 17 << 20].into(),
        ..EventParts::default()
    });
    for batch in [vec![large.unwrap(); 2], vec![event(8); 4_097]] {
        for error in [
            client.submit_batch(&batch).await.unwrap_err(),
            client.unverified().submit_batch(&batch).await.unwrap_err(),
        ] {
            assert_eq!(error.action(), Action::Fix, "{error}");
            assert!(matches!(error, Error::Options(_)), "{error:?}");
        }
    }
    assert_eq!(log.size(), 7);
}

#[tokio::test]
async fn proofs_are_checked() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    let head = client.head().await.unwrap();
    for lie in [Lie::InclusionBit, Lie::InclusionLength] {
        log.lie(lie);
        for result in [
            client.prove_inclusion(&Leaf::Index(index(2)), None).await,
            client
                .prove_inclusion(&Leaf::Index(index(2)), Some(size(5)))
                .await,
            client.prove_inclusion_under(&head, index(2)).await,
        ] {
            let fact = fact(result);
            assert!(
                matches!(fact, Misbehaviour::UnprovenInclusion { .. }),
                "{lie:?}: {fact:?}"
            );
        }
        assert!(client.prove_consistency(size(3), None).await.is_err());
        assert!(client.receipt(index(3)).await.is_err());
    }
    log.lie(Lie::OtherLeaf);
    assert!(is_invalid(
        client.prove_inclusion(&Leaf::Index(index(2)), None).await
    ));
    let hash = client.suite().leaf_hash(b"none");
    assert!(matches!(
        client.prove_inclusion(&Leaf::Hash(hash), None).await,
        Err(Error::Refused(refusal)) if refusal.reason == Reason::NotFound
    ));
    assert!(is_invalid(client.receipt(index(3)).await));

    log.lie(Lie::ConsistencyBit);
    assert!(client.prove_consistency(size(3), None).await.is_err());
    assert!(
        client
            .prove_inclusion(&Leaf::Index(index(2)), Some(size(5)))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_entry_is_the_one_that_was_asked_for() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    let (entry, _) = client.entry(&Leaf::Index(index(2)), false).await.unwrap();
    log.lie(Lie::OtherLeaf);
    assert!(is_invalid(
        client.prove_inclusion(&Leaf::Hash(entry.leaf_hash), None).await
    ));
    log.lie(Lie::OtherEntry);
    let name = Leaf::Event {
        source: event(2).source().into(),
        id: event(2).id().into(),
    };
    for leaf in [Leaf::Index(index(2)), Leaf::Hash(entry.leaf_hash), name] {
        assert!(is_invalid(client.entry(&leaf, true).await), "{leaf:?}");
    }
}

#[tokio::test]
async fn a_leaf_that_a_known_head_covers_is_not_denied() {
    let (log, address) = log(Suite::Blake3).await;
    let stranger = client(&log, &address, None).await;
    let client = client(&log, &address, None).await;
    let head = client.head().await.unwrap();
    log.lie(Lie::Withheld);
    let (two, seven) = (Leaf::Index(index(2)), Leaf::Index(index(7)));
    for result in [
        client.entry(&two, true).await.map(drop),
        client.entries(index(2), 0, false).await.map(drop),
        client.receipt(index(2)).await.map(drop),
        client.prove_inclusion(&two, None).await.map(drop),
        client.prove_inclusion(&two, Some(size(3))).await.map(drop),
        client.prove_inclusion_under(&head, index(2)).await.map(drop),
    ] {
        let fact = fact(result);
        assert_eq!((fact.name(), fact.heads().len()), ("withheld", 1));
        assert_eq!(proves(&log, &fact), None);
    }
    // What no head that is known covers, the log need not have; nor in a tree that it is not in.
    for result in [
        stranger.entry(&two, true).await.map(drop),
        client.entry(&seven, true).await.map(drop),
        client.receipt(index(7)).await.map(drop),
        client.prove_inclusion(&seven, None).await.map(drop),
        client.prove_inclusion(&two, Some(size(2))).await.map(drop),
        client.prove_inclusion(&two, Some(size(9))).await.map(drop),
    ] {
        assert!(
            matches!(&result, Err(Error::Refused(refusal)) if refusal.reason == Reason::NotFound),
            "{result:?}"
        );
    }
}

/// A log that withholds payloads could pass any entry off as the one asked for.
#[tokio::test]
async fn nothing_but_a_payload_shows_what_an_entry_is_about() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    log.lie(Lie::NoPayload);
    let name = Leaf::Event {
        source: event(2).source().into(),
        id: event(2).id().into(),
    };
    assert!(is_invalid(client.entry(&name, true).await));
    assert!(is_invalid(client.prove_inclusion(&name, None).await));
    // An index says by itself which entry is meant.
    let (entry, _) = client.entry(&Leaf::Index(index(2)), true).await.unwrap();
    assert!(entry.payload.is_none());

    let found = client.find(IndexAttribute::Commit, "c0ffee", index(0), 3);
    let found = found.await.unwrap();
    assert!(found.entries.is_empty());
    assert_eq!(found.unreadable, [0, 2, 4].map(index));
    assert_eq!(found.next, Some(index(5)));
}

#[tokio::test]
async fn entries_and_payloads_are_checked() {
    for lie in [
        Lie::ServedEntry,
        Lie::ServedPayload,
        Lie::ServedAttributes,
        Lie::ServedAnnotations,
        Lie::OtherLeaf,
    ] {
        let (log, address) = log(Suite::Blake3).await;
        let client = client(&log, &address, None).await;
        let name = Leaf::Event {
            source: event(2).source().into(),
            id: event(2).id().into(),
        };
        log.lie(lie);
        for leaf in [Leaf::Index(index(2)), name] {
            let result = client.entry(&leaf, true).await;
            match lie {
                Lie::OtherLeaf => assert!(is_invalid(result), "{leaf:?}"),
                Lie::ServedEntry => {
                    let fact = fact(result);
                    assert_eq!(fact.name(), "entry_mismatch");
                    assert_eq!(proves(&log, &fact), Some(Basis::ObserversWord));
                }
                _ => assert_eq!(fact(result).name(), "other_content"),
            }
        }
        if lie == Lie::OtherLeaf {
            continue;
        }
        let mut range = client.entries(index(1), 5, true).await.unwrap();
        let name = if lie == Lie::ServedEntry {
            "unproven_inclusion"
        } else {
            "other_content"
        };
        assert_eq!(fact(range.next_page().await).name(), name, "{lie:?}");
    }
}

#[tokio::test]
async fn a_range_has_no_gap_and_no_early_end() {
    for (lie, problem) in [
        (Lie::SkippedEntry, "leaf 3 where leaf 2 was due"),
        (Lie::ShortRange, "the range ends before leaf 5"),
    ] {
        let (log, address) = log(Suite::Blake3).await;
        let client = client(&log, &address, None).await;
        log.lie(lie);
        let mut range = client.entries(index(1), 5, false).await.unwrap();
        let Err(Error::InvalidAnswer(invalid)) = range.next_page().await else {
            panic!("{lie:?}")
        };
        assert_eq!(invalid.problem, problem);
    }
}

/// A range whose proofs do not come in time leaves out nothing of what comes after.
#[tokio::test]
async fn a_page_that_was_not_proved_is_still_the_next() {
    let (log, address) = log(Suite::Blake3).await;
    let mut options = Options::new(address.parse().unwrap(), Policy::for_log(log.key()));
    options.timeouts.call = Duration::from_secs(2);
    let client = Client::connect(options).await.unwrap();
    let mut range = client.entries(index(1), 5, false).await.unwrap();
    log.lie(Lie::SilentProofs);
    assert!(is_unavailable(range.next_page().await));
    log.lie(Lie::Nothing);
    let page = range.next_page().await.unwrap();
    let indices: Vec<_> = page.iter().map(|entry| entry.leaf_index.get()).collect();
    assert_eq!(indices, [1, 2, 3, 4, 5]);
    assert!(range.next_page().await.unwrap().is_empty());
}

/// Three entries close a page, so that nothing is asked of the range's end.
#[tokio::test]
async fn all_that_comes_with_an_entry_fills_a_page() {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    log.lie(Lie::LargeAttributes);
    let mut range = client.entries(index(1), 5, true).await.unwrap();
    assert_eq!(fact(range.next_page().await).name(), "other_content");
}

#[tokio::test]
async fn a_log_that_never_answers_holds_nobody() {
    let (log, address) = log(Suite::Blake3).await;
    let mut options = Options::new(address.parse().unwrap(), Policy::for_log(log.key()));
    options.timeouts.call = Duration::from_millis(500);
    let client = Client::connect(options).await.unwrap();
    let unverified = client.unverified();
    log.lie(Lie::Silent);
    let calls = async {
        assert!(is_unavailable(client.head().await));
        assert!(is_unavailable(unverified.head_note().await));
        let mut entries = unverified.entries(index(0), size(7)).await.unwrap();
        assert!(is_unavailable(entries.next().await));
        let (mut sender, mut results) = client.submit_stream(1);
        sender.send(event(7)).await.unwrap();
        assert!(is_unavailable(results.next().await));
    };
    tokio::time::timeout(Duration::from_secs(20), Box::pin(calls))
        .await
        .unwrap();
}

/// Clients that share a directory never save a smaller head over a larger one.
#[tokio::test]
async fn clients_that_share_a_directory_agree_on_the_largest_head() {
    let (log, address) = log(Suite::Blake3).await;
    let state = tempfile::tempdir().unwrap();
    let slow = client(&log, &address, Some(&state)).await;
    let (receipt, _) = client(&log, &address, None)
        .await
        .receipt(index(3))
        .await
        .unwrap();
    slow.take_in_head(&receipt.checkpoint).unwrap();

    log.record(7..30);
    let fast = client(&log, &address, Some(&state)).await;
    assert_eq!(fast.head().await.unwrap().size(), size(30));

    // The slow one links its own head of size 7 and finds the other's.
    assert_eq!(slow.link_heads().await.unwrap().unwrap().size(), size(30));
    assert_eq!(
        client(&log, &address, Some(&state))
            .await
            .largest_head()
            .unwrap()
            .size(),
        size(30)
    );
}

#[tokio::test]
async fn what_a_search_finds_is_looked_at() {
    for suite in Suite::ALL {
        let (log, address) = log(suite).await;
        let client = client(&log, &address, None).await;
        let find = async |first, limit| {
            let found = client.find(IndexAttribute::Commit, "c0ffee", index(first), limit);
            found.await
        };
        let numbers = |found: &counterfoil_client::Found| -> Vec<u64> {
            found.entries.iter().map(|entry| entry.leaf_index.get()).collect()
        };
        let all = find(0, 10).await.unwrap();
        assert_eq!((numbers(&all), all.next), (vec![0, 2, 4, 6], None));
        assert!(all.unreadable.is_empty());
        assert_eq!(all.head.size(), size(7));
        let some = find(1, 2).await.unwrap();
        assert_eq!((numbers(&some), some.next), (vec![2, 4], Some(index(5))));
        let none = client.find(IndexAttribute::Commit, "facade", index(0), 9);
        assert!(none.await.unwrap().entries.is_empty());

        for lie in [
            Lie::FoundOther,
            Lie::FoundTwice,
            Lie::FoundUnsigned,
            Lie::FoundNothing,
        ] {
            log.lie(lie);
            assert!(is_invalid(find(0, 10).await), "{lie:?}");
        }
        // Refused by its length, before it is decoded.
        log.lie(Lie::FoundMany);
        let refused = find(0, 100_000).await.unwrap_err().to_string();
        assert!(refused.contains("too large"), "{refused}");
        log.lie(Lie::ServedAnnotations);
        assert!(matches!(
            fact(find(0, 10).await),
            Misbehaviour::OtherContent {
                problem: CommitmentError::Annotations,
                ..
            }
        ));
    }
}
