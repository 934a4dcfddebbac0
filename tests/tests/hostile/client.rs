//! The client library, where the command line's patience would be a test's: answers that never end.

use std::time::Duration;

use counterfoil_client::{Action, Client, Error, Leaf, Options, Timeouts};
use counterfoil_merkle::LeafIndex;
use counterfoil_note::Policy;
use counterfoil_tests::{Attack, HostileLog};

use crate::suite_of;

async fn client(log: &HostileLog) -> Client {
    let mut options = Options::new(log.server().parse().unwrap(), Policy::for_log(log.key()));
    // Honest answers have to come within it too, however busy the machine is.
    let short = Duration::from_secs(1);
    options.timeouts = Timeouts {
        call: short,
        head: short,
    };
    Client::connect(options).await.unwrap()
}

fn is_unavailable<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| error.action() == Action::Retry && matches!(error, Error::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_holds_nobody() {
    let log = HostileLog::start(suite_of(0)).await;
    let client = client(&log).await;
    let head = client.head().await.unwrap();
    log.attack(Attack::Slow);
    let index = LeafIndex::ZERO;
    assert!(is_unavailable(client.head().await));
    assert!(is_unavailable(client.entry(&Leaf::Index(index), true).await));
    assert!(is_unavailable(client.receipt(index).await));
    assert!(is_unavailable(client.prove_inclusion_under(&head, index).await));

    // A range opens, and then nothing comes.
    log.attack(Attack::None);
    let mut range = client.entries(index, 0, false).await.unwrap();
    assert!(!range.next_page().await.unwrap().is_empty());

    // What was locked is free again.
    assert_eq!(client.head().await.unwrap().size(), head.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_heads_that_falls_silent_ends() {
    let log = HostileLog::start(suite_of(1)).await;
    let client = client(&log).await;
    let mut heads = client.watch_heads().await.unwrap();
    assert!(heads.next().await.unwrap().is_some());
    assert!(is_unavailable(heads.next().await));
}

/// An answer is refused by the length that it claims, before it is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_refused() {
    let log = HostileLog::start(suite_of(0)).await;
    let client = client(&log).await;
    log.attack(Attack::Huge);
    let error = client.head().await.unwrap_err();
    assert!(matches!(error, Error::InvalidAnswer(_)), "{error:?}");
}
