//! What waits is delivered in order and once, whatever the log does, and nothing is given up on a log's bare word.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use counterfoil_client::{
    Client, DeliverError, Delivered, Delivery, Denied, Error, Fate, Options, Outbox, Reason,
};
use counterfoil_merkle::Suite;
use counterfoil_note::{Policy, UnixMillis};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{client, log};
use crate::log::{FakeLog, Lie, event};

struct Waiting {
    log: FakeLog,
    address: String,
    client: Client,
    outbox: Outbox,
    _directory: TempDir,
}

/// A log with entries 0 to 6, and an outbox with events 10 to 14.
async fn waiting() -> Waiting {
    let (log, address) = log(Suite::Blake3).await;
    let client = client(&log, &address, None).await;
    let directory = tempfile::tempdir().unwrap();
    let outbox = Outbox::new(directory.path(), &address.parse().unwrap(), "main");
    for number in 10..15 {
        outbox.enqueue(&event(number), UnixMillis::new(number)).unwrap();
    }
    Waiting {
        log,
        address,
        client,
        outbox,
        _directory: directory,
    }
}

impl Waiting {
    async fn deliver(&self) -> (Vec<Delivered>, Result<Delivery, DeliverError>) {
        self.deliver_until(None).await
    }

    async fn deliver_until(
        &self,
        deadline: Option<Instant>,
    ) -> (Vec<Delivered>, Result<Delivery, DeliverError>) {
        let lock = self.outbox.lock_delivery(None).await.unwrap().unwrap();
        let mut reported = Vec::new();
        let delivery = self
            .outbox
            .deliver(&lock, &self.client, deadline, |delivered| {
                reported.push(delivered)
            })
            .await;
        (reported, delivery)
    }

    /// The deliveries that a log stopped, and why.
    async fn stopped(&self) -> Error {
        let (reported, delivery) = self.deliver().await;
        assert_eq!(reported.len(), 0);
        match delivery {
            Err(DeliverError::Log(error)) => *error,
            other => panic!("instead of stopping: {other:?}"),
        }
    }

    fn left(&self) -> Vec<String> {
        let waiting = self.outbox.list().unwrap().waiting;
        waiting.iter().map(|item| item.event.id().to_owned()).collect()
    }
}

fn runs(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| format!("run-{number}"))
        .collect()
}

fn reason(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "counterfoil", HashMap::new());
    Status::with_error_details(code, "no", details)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test]
async fn events_are_delivered_in_order_and_recorded_once() {
    let waiting = waiting().await;
    let before: PathBuf = waiting.outbox.path().with_extension("before");
    copy(waiting.outbox.path(), &before);

    let (reported, delivery) = waiting.deliver().await;
    let expected = Delivery {
        recorded: 5,
        set_aside: 0,
        left: 0,
    };
    assert_eq!(delivery.unwrap(), expected);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(10..15)));
    assert_eq!(waiting.left(), Vec::<String>::new());
    for (delivered, number) in reported.iter().zip(10..) {
        assert_eq!(delivered.event, Some(event(number)));
        let Fate::Recorded(submitted) = &delivered.fate else {
            panic!("{delivered:?}")
        };
        assert_eq!(
            (submitted.receipt.index.get(), submitted.duplicate),
            (number - 3, false)
        );
    }

    // As if the process had been killed before it removed what it had delivered.
    copy(&before, waiting.outbox.path());
    let (reported, delivery) = waiting.deliver().await;
    assert_eq!(delivery.unwrap(), expected);
    assert!(
        reported
            .iter()
            .all(|delivered| matches!(&delivered.fate, Fate::Recorded(submitted) if submitted.duplicate))
    );
    assert_eq!(waiting.log.size(), 12);
}

#[tokio::test]
async fn a_log_that_is_full_or_denies_the_caller_holds_everything_up() {
    let waiting = waiting().await;
    let full = reason(Code::ResourceExhausted, "QUEUE_FULL");
    waiting.log.refuse(Some("run-12"), full);
    let (reported, delivery) = waiting.deliver().await;
    // What came before is settled.
    assert_eq!(reported.len(), 2);
    let Err(DeliverError::Log(error)) = delivery else {
        panic!("{delivery:?}")
    };
    assert!(matches!(*error, Error::Refused(refusal) if refusal.reason == Reason::QueueFull));
    assert_eq!(waiting.left(), runs(12..15));

    waiting.log.refuse(None, Status::unauthenticated("who are you?"));
    assert!(matches!(
        waiting.stopped().await,
        Error::Denied(Denied::Unauthenticated(_))
    ));
    waiting.log.refuse(None, Status::permission_denied("not you"));
    assert!(matches!(
        waiting.stopped().await,
        Error::Denied(Denied::Forbidden(_))
    ));
    waiting.log.refuse(None, Status::unavailable("not now"));
    assert!(matches!(waiting.stopped().await, Error::Unavailable(_)));
    waiting.log.refuse(None, reason(Code::NotFound, "UNKNOWN_LOG"));
    assert!(matches!(waiting.stopped().await, Error::Refused(_)));
    assert_eq!(waiting.left(), runs(12..15));

    waiting.log.relent();
    assert_eq!(waiting.deliver().await.1.unwrap().recorded, 3);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(10..15)));
}

#[tokio::test]
async fn an_event_that_is_refused_for_good_does_not_hold_up_others() {
    let waiting = waiting().await;
    waiting
        .log
        .refuse(Some("run-10"), reason(Code::AlreadyExists, "EVENT_CONFLICT"));
    let (reported, delivery) = waiting.deliver().await;
    let delivery = delivery.unwrap();
    assert_eq!((delivery.recorded, delivery.set_aside), (4, 1));
    // Its fate is sealed at once, that of the others once their heads are linked.
    assert!(matches!(&reported[0].fate, Fate::Refused(refusal) if refusal.reason == Reason::EventConflict));
    assert_eq!(reported[0].event, Some(event(10)));

    waiting.outbox.enqueue(&event(20), UnixMillis::new(1)).unwrap();
    waiting
        .log
        .refuse(Some("run-20"), reason(Code::InvalidArgument, "INVALID_EVENT"));
    assert_eq!(waiting.deliver().await.1.unwrap().set_aside, 1);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(11..15)));
    let listing = waiting.outbox.list().unwrap();
    assert_eq!(listing.waiting.len(), 0);
    assert_eq!(listing.set_aside.len(), 2);
    assert!(
        listing
            .set_aside
            .iter()
            .all(|aside| aside.reason == "no" && aside.item.is_some())
    );
}

/// Its refusal was the log's bare word, which may be another by now.
#[tokio::test]
async fn what_was_set_aside_and_is_queued_again_is_recorded_behind_all_others() {
    let waiting = waiting().await;
    waiting
        .log
        .refuse(Some("run-10"), reason(Code::InvalidArgument, "INVALID_EVENT"));
    assert_eq!(waiting.deliver().await.1.unwrap().set_aside, 1);
    let kept = waiting
        .outbox
        .keep_aside(&event(20), UnixMillis::new(1), "unknown here");
    waiting.outbox.enqueue(&event(30), UnixMillis::new(1)).unwrap();
    waiting.log.relent();
    let refused = waiting.outbox.list().unwrap().set_aside[0].number;
    for number in [kept.unwrap(), refused] {
        waiting.outbox.retry(number).unwrap();
    }
    assert_eq!(waiting.deliver().await.1.unwrap().recorded, 3);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(11..15).chain([30, 20, 10])));
    assert_eq!(waiting.outbox.list().unwrap().set_aside.len(), 0);
}

/// As a job leaves it that shares the outbox, or a cache that keeps links and not what they lead to.
#[tokio::test]
async fn a_name_that_leads_nowhere_holds_nothing_up() {
    let waiting = waiting().await;
    let name = format!("000000000001-{}.event", "0".repeat(64));
    symlink("nowhere", waiting.outbox.path().join(name)).unwrap();
    let delivery = timeout(Duration::from_secs(30), waiting.deliver()).await;
    assert_eq!(delivery.unwrap().1.unwrap().recorded, 5);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(10..15)));
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let waiting = waiting().await;
    let mut files: Vec<_> = fs::read_dir(waiting.outbox.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "event"))
        .collect();
    files.sort();
    let mut bytes = fs::read(&files[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let (_, delivery) = waiting.deliver().await;
    let delivery = delivery.unwrap();
    assert_eq!((delivery.recorded, delivery.set_aside), (4, 1));
    assert_eq!(waiting.log.ids(), runs((0..7).chain([10, 12, 13, 14])));
    assert!(waiting.outbox.list().unwrap().set_aside[0].item.is_none());
}

#[tokio::test]
async fn nothing_is_removed_on_the_word_of_a_log_that_lies() {
    for lie in [
        Lie::OtherPayload,
        Lie::OtherSalt,
        Lie::BrokenSignature,
        Lie::InclusionBit,
    ] {
        let waiting = waiting().await;
        waiting.log.lie(lie);
        assert!(
            matches!(waiting.stopped().await, Error::Misbehaviour(_)),
            "{lie:?}"
        );
        assert_eq!(waiting.left(), runs(10..15), "{lie:?}");
    }
    // Each receipt holds by itself, and the log can't prove that its history was not rewritten.
    let waiting = waiting().await;
    waiting.client.head().await.unwrap();
    waiting.client.link_heads().await.unwrap();
    waiting.log.forget(5);
    waiting.log.record(20..29);
    assert!(matches!(waiting.stopped().await, Error::Misbehaviour(_)));
    assert_eq!(waiting.left(), runs(10..15));
}

#[tokio::test]
async fn a_delivery_ends_with_its_time() {
    let waiting = waiting().await;
    let (reported, delivery) = waiting
        .deliver_until(Some(Instant::now() - Duration::from_secs(1)))
        .await;
    assert_eq!((reported.len(), delivery.unwrap().left), (0, 5));
    assert_eq!(waiting.left(), runs(10..15));
}

/// What is on record and not proved is delivered again.
#[tokio::test]
async fn a_log_that_proves_nothing_does_not_hold_a_delivery_beyond_its_time() {
    let waiting = waiting().await;
    // What others recorded in between, no receipt shows.
    waiting.client.head().await.unwrap();
    waiting.log.record(20..21);
    waiting.log.lie(Lie::SilentProofs);
    let (reported, delivery) = waiting
        .deliver_until(Some(Instant::now() + Duration::from_secs(2)))
        .await;
    assert_eq!((reported.len(), delivery.unwrap().left), (0, 5));
    assert_eq!(waiting.left(), runs(10..15));
    waiting.log.lie(Lie::Nothing);
    assert_eq!(waiting.deliver().await.1.unwrap().recorded, 5);
    assert_eq!(waiting.log.ids(), runs((0..7).chain(20..21).chain(10..15)));
}

#[tokio::test]
async fn a_token_goes_with_every_call() {
    let waiting = waiting().await;
    waiting.client.submit(&event(20)).await.unwrap();
    assert_eq!(waiting.log.authorization(), None);
    let mut options = Options::new(
        waiting.address.parse().unwrap(),
        Policy::for_log(waiting.log.key()),
    );
    options.token = Some("cft_7_s3cret".parse().unwrap());
    assert!(!format!("{options:?}").contains("s3cret"));
    let client = Client::connect(options).await.unwrap();
    client.submit(&event(21)).await.unwrap();
    assert_eq!(waiting.log.authorization().unwrap(), "Bearer cft_7_s3cret");
}
