//! Too much at once, and a disk without room: submissions are pushed back, reads go on, and what was acknowledged stays.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashSet,
    future::poll_fn,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use counterfoil_event::Event;
use counterfoil_note::SignedHead;
use counterfoil_proto::v1::{
    self, Reason, leaf_selector::Leaf, submit_result::Outcome, submit_service_client::SubmitServiceClient,
};
use counterfoil_tests::{
    Data, Refusal, Replica, Server, SmallDisk, TestLog, assert_pushed_back, entry_at, event, head, http_get,
    receipt_of, submission, submit,
};
use counterfoil_verify::{Receipt, VerifiedReceipt};
use fastrand::Rng;
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, client::GrpcService, codegen::http, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const MIB: usize = 1024 * 1024;
/// The log waits longer than this for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that do not compress.
fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    Rng::new().fill(&mut bytes);
    bytes.into()
}

/// Tries again, as the refusals ask for, until the event is accepted.
async fn submit_in_the_end(server: &Server, log: &TestLog, event: v1::Event) -> VerifiedReceipt {
    let started = Instant::now();
    loop {
        match submit(&mut server.submitter(), log, event.clone()).await {
            Ok((receipt, _)) => return receipt,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(started.elapsed() < PATIENCE, "still refused: {status:?}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether the log `main` takes events, as metrics, the collector's health and gRPC's health say.
async fn said_to_take_events(server: &Server) -> [bool; 3] {
    let metrics = String::from_utf8(http_get(server.metrics_address(), "/metrics").body).unwrap();
    let metric = metrics
        .lines()
        .find_map(|line| line.strip_prefix("counterfoil_log_writing{log=\"main\"} "));
    let request = HealthCheckRequest {
        service: "counterfoil.v1.SubmitService".to_owned(),
    };
    let health = HealthClient::new(server.connection()).check(request).await;
    [
        match metric {
            Some("1") => true,
            Some("0") => false,
            other => panic!("{other:?}"),
        },
        match http_get(server.address(), "/services/collector/health").status {
            200 => true,
            503 => false,
            other => panic!("{other}"),
        },
        match health.unwrap().into_inner().status() {
            ServingStatus::Serving => true,
            ServingStatus::NotServing => false,
            other => panic!("{other:?}"),
        },
    ]
}

/// Waits until all of them say so, though nobody submits.
async fn said_in_the_end(server: &Server, takes_events: bool) {
    let started = Instant::now();
    loop {
        let said = said_to_take_events(server).await;
        if said == [takes_events; 3] {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "still said: {said:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// More bytes than may wait. Those that find no room are told at once; none of them is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_pushes_back() {
    const CALLS: usize = 16;
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--memory-mib", "32"]);
    let data_of_call = noise(24 * MIB);
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    // How fast the disk is nobody knows: flood it until it is too slow.
    for round in 0..20 {
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let (mut client, event) = (
                server.submitter(),
                event(format!("{round}-{number}"), data_of_call.clone()),
            );
            calls.spawn(async move {
                let answer = client.submit(submission(event.clone())).await;
                (event, answer, Instant::now())
            });
        }
        let mut answers = calls.join_all().await;
        answers.sort_by_key(|(_, _, when)| *when);
        let first_refused = answers.iter().position(|(_, answer, _)| answer.is_err());
        let last_accepted = answers.iter().rposition(|(_, answer, _)| answer.is_ok());
        for (event, answer, _) in answers {
            match answer {
                Ok(response) => accepted.push((event, response.into_inner().receipt.unwrap())),
                Err(status) => {
                    assert_pushed_back(&status, "QUEUE_FULL");
                    refused.push(event);
                }
            }
        }
        if let (Some(refused), Some(accepted)) = (first_refused, last_accepted) {
            assert!(refused < accepted, "the refusals waited for the queue to empty");
            break;
        }
    }
    assert!(
        !refused.is_empty(),
        "{} calls of 24 MiB did not fill a queue of 64 MiB",
        accepted.len()
    );

    for (event, receipt) in accepted {
        let receipt = Receipt::try_from(receipt).unwrap().verify(log.key()).unwrap();
        receipt.commits_to(&Event::try_from(event).unwrap()).unwrap();
    }
    let mut reader = server.reader();
    for event in &refused {
        let name = Leaf::Event(v1::EventName {
            source: event.source.clone(),
            id: event.id.clone(),
        });
        let status = receipt_of(&mut reader, &log, name).await.unwrap_err();
        assert_eq!(
            Refusal::from(&status),
            Refusal::new(Code::NotFound, "NOT_FOUND", "")
        );
    }
    for event in refused.into_iter().take(3) {
        submit_in_the_end(&server, &log, event).await;
    }
    server.stop();
}

/// In a stream each event that finds no room is refused, and more may come: what began the stream may be good for one call only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_there_is_no_room() {
    let (data, _log) = Data::with_main_log();
    // More than any disk has free.
    let server = Server::start(&data, &["--min-free-mib", "4294967295"]);
    let (requests, received) = mpsc::channel(1);
    let answers = server
        .submitter()
        .submit_stream(ReceiverStream::new(received))
        .await;
    let mut answers = answers.unwrap().into_inner();
    for sequence in 0..3 {
        let request = v1::SubmitStreamRequest {
            log: String::new(),
            sequence,
            event: Some(event(sequence.to_string(), "")),
        };
        requests.send(request).await.unwrap();
        let mut results = answers.message().await.unwrap().unwrap().results;
        let result = results.pop().unwrap();
        assert_eq!((result.sequence, results.len()), (sequence, 0));
        match result.outcome {
            Some(Outcome::Refused(refused)) => assert_eq!(refused.reason(), Reason::OutOfSpace),
            other => panic!("{other:?}"),
        }
    }
    drop(requests);
    assert_eq!(answers.message().await.unwrap(), None);
    server.stop();
}

/// What is sent behind its head is not looked at. And as often as it is sent again, the connection stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_message_is_refused_by_its_head() {
    const LENGTH: usize = 1 << 20;
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &["--min-free-mib", "4294967295"]);
    let channel = server.connection();
    // No event, whatever reads it.
    let mut message = [&[0][..], &u32::try_from(LENGTH).unwrap().to_be_bytes()].concat();
    message.resize(5 + LENGTH, 0xff);
    let message = Bytes::from(message);
    let mut senders = JoinSet::new();
    for _ in 0..16 {
        let (mut channel, message) = (channel.clone(), message.clone());
        senders.spawn(async move {
            for _ in 0..100 {
                let call = http::Request::post("/counterfoil.v1.SubmitService/SubmitBatch")
                    .header("content-type", "application/grpc")
                    .body(tonic::body::Body::new(Body::from(message.clone())))
                    .unwrap();
                poll_fn(|context| GrpcService::poll_ready(&mut channel, context))
                    .await
                    .unwrap();
                let answer = GrpcService::call(&mut channel, call).await.unwrap();
                let status = Status::from_header_map(answer.headers()).unwrap();
                assert_pushed_back(&status, "OUT_OF_SPACE");
            }
        });
    }
    senders.join_all().await;
    server.stop();
}

/// The operator's reserve is used up: nothing is written any more, whoever asks is told so, and nothing breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full() {
    let Some(disk) = SmallDisk::mount(192) else { return };
    let data = Data::at(disk.path().join("data"));
    let log = data.init("main", "blake3");
    let server = Server::start(
        &data,
        &[
            "--memory-mib",
            "32",
            "--min-free-mib",
            "32",
            "--publish-interval-ms",
            "20",
            "--metrics-listen",
            "127.0.0.1:0",
        ],
    );
    let mut client = server.submitter();
    let mut replica = Replica::new(&log);
    let mut reader = server.reader();
    let mut receipts = Vec::new();
    for time in 0..3 {
        for number in 0..10 {
            let receipt =
                submit_in_the_end(&server, &log, event(format!("{time}-{number}"), noise(10_000))).await;
            receipts.push(receipt);
        }
        let size = receipts.last().unwrap().head().size().get();
        replica.catch_up(&mut reader, &log, size).await;

        assert_eq!(said_to_take_events(&server).await, [true; 3]);
        let ballast = disk.fill_to(8);
        said_in_the_end(&server, false).await;
        for number in 0..10 {
            let refused = event(format!("refused-{time}-{number}"), noise(1000));
            assert_pushed_back(
                &submit(&mut client, &log, refused).await.unwrap_err(),
                "OUT_OF_SPACE",
            );
        }
        // Reads go on, from memory and from disk.
        assert_eq!(
            head(&mut reader, &log, size).await.size().get(),
            size,
            "something refused was stored"
        );
        for receipt in &receipts {
            let index = receipt.index().get();
            let again = receipt_of(&mut reader, &log, Leaf::LeafIndex(index))
                .await
                .unwrap();
            assert_eq!(again.leaf_hash(), receipt.leaf_hash());
            let entry = entry_at(&mut reader, &log, index).await.unwrap();
            receipt.commits_to_payload(&entry.payload.unwrap().data).unwrap();
        }
        assert_eq!(said_to_take_events(&server).await, [false; 3]);
        drop(ballast);
        said_in_the_end(&server, true).await;
    }
    let last = submit_in_the_end(&server, &log, event("room again", "")).await;
    assert_eq!(last.index().get(), 1 + receipts.len() as u64);
    // Once each time.
    let errors = server.errors();
    for line in ["the disk is full", "there is room again"] {
        assert_eq!(errors.matches(line).count(), 3, "{line:?} in {errors}");
    }
    server.stop();
    data.assert_sound();
}

#[derive(Default)]
struct Load {
    acknowledged: Vec<(v1::Event, v1::Receipt)>,
    refused: Vec<Status>,
}

impl Load {
    async fn submit(&mut self, client: &mut SubmitServiceClient<Channel>, event: v1::Event) {
        match client.submit(submission(event.clone())).await {
            Ok(response) => self
                .acknowledged
                .push((event, response.into_inner().receipt.unwrap())),
            Err(status) => self.refused.push(status),
        }
    }

    /// Asserts that what was refused was pushed back, and returns what was acknowledged.
    fn check(self, log: &TestLog) -> Vec<VerifiedReceipt> {
        for status in self.refused {
            let reason = Refusal::from(&status).reason;
            assert!(
                ["OUT_OF_SPACE", "QUEUE_FULL"].contains(&&reason[..]),
                "{status:?}"
            );
            assert_pushed_back(&status, &reason);
        }
        let verify = |(event, receipt)| {
            let receipt = Receipt::try_from(receipt).unwrap().verify(log.key()).unwrap();
            receipt.commits_to(&Event::try_from(event).unwrap()).unwrap();
            receipt
        };
        self.acknowledged.into_iter().map(verify).collect()
    }
}

/// Small events all the time, and amid them some that take a while to write: the room that the log saw is gone meanwhile.
/// Returns with the disk as it was before, and the last head that was published while it was full.
async fn overrun(server: &Server, log: &TestLog, disk: &SmallDisk, name: &str) -> (Load, SignedHead) {
    const SMALL: usize = 4;
    const LARGE: usize = 6;
    let most = disk.fill_to(128);
    let (stop, stopping) = watch::channel(false);
    let mut workers = JoinSet::new();
    for worker in 0..SMALL + LARGE {
        let (mut client, stopping, name) = (server.submitter(), stopping.clone(), format!("{name}-{worker}"));
        let payload = noise(if worker < SMALL { 30_000 } else { 12 * MIB });
        workers.spawn(async move {
            let mut load = Load::default();
            for number in 0.. {
                load.submit(&mut client, event(format!("{name}-{number}"), payload.clone()))
                    .await;
                if worker >= SMALL || *stopping.borrow() {
                    break;
                }
                sleep(Duration::from_millis(2)).await;
            }
            load
        });
    }
    sleep(Duration::from_millis(fastrand::u64(20..200))).await;
    let rest = task::block_in_place(|| disk.fill_to(0));
    sleep(Duration::from_millis(400)).await;
    let head_when_full = head(&mut server.reader(), log, 0).await;
    drop((most, rest));
    stop.send_replace(true);
    let loads = timeout(PATIENCE, workers.join_all())
        .await
        .expect("submissions hang although there is room");
    let load = loads.into_iter().fold(Load::default(), |mut all, load| {
        all.acknowledged.extend(load.acknowledged);
        all.refused.extend(load.refused);
        all
    });
    (load, head_when_full)
}

/// The database itself runs into the end of the disk, in the middle of a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_to_the_last_byte() {
    let Some(disk) = SmallDisk::mount(768) else { return };
    let data = Data::at(disk.path().join("data"));
    let log = data.init("main", "blake3");
    let options = [
        "--memory-mib",
        "32",
        "--min-free-mib",
        "0",
        "--publish-interval-ms",
        "20",
    ];
    let server = Server::start(&data, &options);
    let mut replica = Replica::new(&log);
    let mut receipts = Vec::new();
    let times_full = |server: &Server| server.errors().matches("a write found no room").count();
    // Where exactly the end of the disk is met, chance decides.
    for time in 0..30 {
        let (load, head_when_full) = overrun(&server, &log, &disk, &format!("load-{time}")).await;
        receipts.extend(load.check(&log));

        let last = submit_in_the_end(&server, &log, event(format!("room again {time}"), "")).await;
        replica
            .catch_up(&mut server.reader(), &log, last.head().size().get())
            .await;
        replica.assert_head(head_when_full.size(), head_when_full.root());
        receipts
            .iter()
            .for_each(|receipt| replica.assert_receipt(receipt));
        if times_full(&server) >= 2 {
            break;
        }
    }
    println!(
        "{} acknowledged; the disk was full in {} writes",
        receipts.len(),
        times_full(&server)
    );
    assert!(times_full(&server) > 0, "the database never met a full disk");
    let indices: HashSet<_> = receipts.iter().map(VerifiedReceipt::index).collect();
    assert_eq!(indices.len(), receipts.len());
    server.stop();
    data.assert_sound();

    let server = Server::start(&data, &options);
    replica.catch_up(&mut server.reader(), &log, replica.size()).await;
    receipts
        .iter()
        .for_each(|receipt| replica.assert_receipt(receipt));
    submit_in_the_end(&server, &log, event("after the restart", "")).await;
    server.stop();
    data.assert_sound();
}
