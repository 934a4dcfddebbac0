//! Malformed, oversized, mistyped and hostile requests: each is refused for the reason it deserves, nothing of it is
//! stored, and the server goes on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use counterfoil_proto::v1::{self, leaf_selector::Leaf, submit_result::Outcome};
use counterfoil_tests::{Data, Refusal, Server, TestLog, event, submission, submit};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

const MIB: usize = 1024 * 1024;
/// More than any tree can hold.
const TOO_LARGE: u64 = 1 << 63;

fn changed(change: impl FnOnce(&mut v1::Event)) -> v1::Event {
    let mut event = event("bad", "payload");
    change(&mut event);
    event
}

fn extension(name: &str, value: &str) -> v1::Extension {
    v1::Extension {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// Events that no log takes, each with the field that is wrong.
fn bad_events() -> Vec<(v1::Event, &'static str)> {
    vec![
        (v1::Event::default(), "event.id"),
        (changed(|event| event.id.clear()), "event.id"),
        (changed(|event| event.id = "i".repeat(257)), "event.id"),
        (changed(|event| event.id = "a\0b".to_owned()), "event.id"),
        (changed(|event| event.id = "line\nbreak".to_owned()), "event.id"),
        (
            changed(|event| event.id = "escape\u{1b}[2J".to_owned()),
            "event.id",
        ),
        (changed(|event| event.source.clear()), "event.source"),
        (changed(|event| event.source = "s".repeat(1025)), "event.source"),
        (
            changed(|event| event.source = "tab\there".to_owned()),
            "event.source",
        ),
        (changed(|event| event.source = "log".to_owned()), "event.source"),
        (changed(|event| event.r#type.clear()), "event.type"),
        (changed(|event| event.r#type = "t".repeat(129)), "event.type"),
        (
            changed(|event| event.r#type = "two words".to_owned()),
            "event.type",
        ),
        (
            changed(|event| event.r#type = "log.created".to_owned()),
            "event.type",
        ),
        (changed(|event| event.r#type = "log.".to_owned()), "event.type"),
        (changed(|event| event.subject = "s".repeat(1025)), "event.subject"),
        (
            changed(|event| event.subject = "\u{7f}".to_owned()),
            "event.subject",
        ),
        (changed(|event| event.time = "yesterday".to_owned()), "event.time"),
        (
            changed(|event| event.time = "2026-02-30T00:00:00Z".to_owned()),
            "event.time",
        ),
        (changed(|event| event.time = "2".repeat(10_000)), "event.time"),
        (
            changed(|event| event.data_content_type = "json".to_owned()),
            "event.data_content_type",
        ),
        (
            changed(|event| event.data_content_type = format!("a/{}", "b".repeat(127))),
            "event.data_content_type",
        ),
        (
            changed(|event| event.data = vec![0; 25 * MIB + 1].into()),
            "event.data",
        ),
        (
            changed(|event| event.extensions = vec![extension("Upper", "")]),
            "event.extensions[0].name",
        ),
        (
            changed(|event| event.extensions = vec![extension("", "")]),
            "event.extensions[0].name",
        ),
        (
            changed(|event| event.extensions = vec![extension("id", "")]),
            "event.extensions[0].name",
        ),
        (
            changed(|event| event.extensions = vec![extension("a", ""), extension("a", "")]),
            "event.extensions[1].name",
        ),
        (
            changed(|event| event.extensions = vec![extension("a", &"v".repeat(1025))]),
            "event.extensions[0].value",
        ),
        (
            changed(|event| event.extensions = (0..65).map(|n| extension(&format!("e{n}"), "")).collect()),
            "event.extensions",
        ),
    ]
}

/// Names that no log here has.
fn hostile_log_names() -> Vec<String> {
    let mut names: Vec<_> = [
        "other",
        "Main",
        " main",
        "main ",
        "main\0",
        "-main",
        ".",
        "..",
        "../main",
        "logs/main",
        "mäin",
    ]
    .map(str::to_owned)
    .into();
    names.push("a".repeat(64));
    names.push("\u{1b}[31m".repeat(10_000));
    names
}

/// One server with the genesis entry and one event, for all tests: what one leaves behind the others would see.
struct Subject {
    _data: Data,
    log: TestLog,
    server: Server,
}

impl Subject {
    async fn start() -> Self {
        let (data, log) = Data::with_main_log();
        let server = Server::start(&data, &["--publish-interval-ms", "5"]);
        let (receipt, _) = submit(&mut server.submitter(), &log, event("first", ""))
            .await
            .unwrap();
        assert_eq!(receipt.index().get(), 1);
        Self {
            _data: data,
            log,
            server,
        }
    }

    /// Asserts that exactly `stored` events entered since the start, and that another still can.
    async fn assert_stored(&self, stored: u64) {
        let (receipt, duplicate) = submit(&mut self.server.submitter(), &self.log, event("last", ""))
            .await
            .unwrap();
        assert!(!duplicate);
        assert_eq!(receipt.index().get(), 2 + stored);
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str, field: &str) {
    let status = answer.unwrap_err();
    assert_eq!(
        Refusal::from(&status),
        Refusal::new(code, reason, field),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events() {
    let subject = Subject::start().await;
    let mut client = subject.server.submitter();
    let missing = client.submit(v1::SubmitRequest::default()).await;
    assert_refused(missing, Code::InvalidArgument, "INVALID_EVENT", "event");
    for (event, field) in bad_events() {
        let answer = client.submit(submission(event)).await;
        assert_refused(answer, Code::InvalidArgument, "INVALID_EVENT", field);
    }
    // All that is wrong is told at once.
    let event = changed(|event| (event.id, event.time) = (String::new(), "now".to_owned()));
    let status = client.submit(submission(event)).await.unwrap_err();
    assert!(
        status.message().contains("event.id") && status.message().contains("event.time"),
        "{status:?}"
    );
    subject.assert_stored(0).await;
}

/// Bad events between good ones, in a batch and in a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours() {
    let subject = Subject::start().await;
    let mut client = subject.server.submitter();
    // One message can't hold the one that is too large by itself and all others.
    let bad: Vec<_> = bad_events()
        .into_iter()
        .filter(|(event, _)| event.data.len() < MIB)
        .collect();
    let events = bad
        .iter()
        .enumerate()
        .flat_map(|(n, (bad, _))| [event(format!("good-{n}"), ""), bad.clone()]);
    let assert_results = |results: Vec<v1::SubmitResult>, first_index: u64, duplicate: bool| {
        assert_eq!(results.len(), 2 * bad.len());
        let mut index = first_index;
        for (place, result) in (0_u64..).zip(results) {
            assert_eq!(result.sequence, place);
            match result.outcome.unwrap() {
                Outcome::Accepted(accepted) => {
                    assert_eq!(
                        (place % 2, accepted.leaf_index, accepted.duplicate),
                        (0, index, duplicate)
                    );
                    index += 1;
                }
                Outcome::Refused(refused) => {
                    let (_, field) = bad[usize::try_from(place).unwrap() / 2];
                    assert_eq!(
                        (place % 2, refused.reason(), &refused.field[..]),
                        (1, v1::Reason::InvalidEvent, field)
                    );
                }
            }
        }
    };

    let request = v1::SubmitBatchRequest {
        log: String::new(),
        events: events.clone().collect(),
    };
    let response = client.submit_batch(request).await.unwrap().into_inner();
    assert_results(response.results, 2, false);

    let requests: Vec<_> = (0..)
        .zip(events)
        .map(|(sequence, event)| v1::SubmitStreamRequest {
            log: String::new(),
            sequence,
            event: Some(event),
        })
        .collect();
    let mut responses = client
        .submit_stream(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let mut results = Vec::new();
    while let Some(response) = responses.message().await.unwrap() {
        results.extend(response.results);
    }
    assert_results(results, 2, true);
    subject.assert_stored(bad.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes() {
    let subject = Subject::start().await;
    let mut client = subject.server.submitter();
    for log in hostile_log_names() {
        let mut request = submission(event("stray", ""));
        request.log.clone_from(&log);
        assert_refused(client.submit(request).await, Code::NotFound, "UNKNOWN_LOG", "");
        let request = v1::SubmitBatchRequest {
            log: log.clone(),
            events: vec![event("stray", "")],
        };
        assert_refused(
            client.submit_batch(request).await,
            Code::NotFound,
            "UNKNOWN_LOG",
            "",
        );
        assert_eq!(
            stream(&subject, [(&log[..], event("stray", ""))]).await,
            (0, not_found())
        );
    }

    let batch = |events| v1::SubmitBatchRequest {
        log: String::new(),
        events,
    };
    let too_many = vec![event("stray", ""); 4097];
    assert_refused(
        client.submit_batch(batch(too_many)).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        "events",
    );
    let none = client.submit_batch(batch(Vec::new())).await.unwrap().into_inner();
    assert_eq!(none.results, []);

    // gRPC libraries refuse by themselves what is longer than the server allows.
    let too_large = submission(event("stray", vec![0; 33 * MIB]));
    assert_refused(client.submit(too_large).await, Code::OutOfRange, "", "");
    let long_request = v1::GetReceiptRequest {
        log: "a".repeat(100_000),
        leaf: None,
    };
    assert_refused(
        subject.server.reader().get_receipt(long_request).await,
        Code::OutOfRange,
        "",
        "",
    );
    subject.assert_stored(0).await;
}

fn not_found() -> Option<Refusal> {
    Some(Refusal::new(Code::NotFound, "UNKNOWN_LOG", ""))
}

/// Submits a stream, each event to a log of its own naming. Returns how many were accepted, and how the stream ended.
async fn stream<'a>(
    subject: &Subject,
    events: impl IntoIterator<Item = (&'a str, v1::Event)>,
) -> (usize, Option<Refusal>) {
    let requests: Vec<_> = events
        .into_iter()
        .map(|(log, event)| v1::SubmitStreamRequest {
            log: log.to_owned(),
            sequence: 0,
            event: Some(event),
        })
        .collect();
    let mut responses = subject
        .server
        .submitter()
        .submit_stream(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let mut accepted = 0;
    loop {
        match responses.message().await {
            Ok(Some(response)) => {
                accepted += response
                    .results
                    .iter()
                    .filter(|result| matches!(result.outcome, Some(Outcome::Accepted(_))))
                    .count();
            }
            Ok(None) => return (accepted, None),
            Err(status) => return (accepted, Some(Refusal::from(&status))),
        }
    }
}

/// A stream is for one log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_change_their_log() {
    let subject = Subject::start().await;
    let same = [
        ("main", event("a", "")),
        ("", event("b", "")),
        ("main", event("c", "")),
    ];
    assert_eq!(stream(&subject, same).await, (3, None));
    let changing = [("main", event("d", "")), ("other", event("e", ""))];
    let (accepted, ended) = stream(&subject, changing).await;
    assert_eq!(
        ended,
        Some(Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", "log"))
    );
    assert!(accepted <= 1);
    subject.assert_stored(3 + accepted as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads() {
    let subject = Subject::start().await;
    let leaf_cases = [
        (None, Code::InvalidArgument, "INVALID_REQUEST", "leaf"),
        (
            Some(Leaf::LeafIndex(u64::MAX)),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "leaf.leaf_index",
        ),
        (
            Some(Leaf::LeafIndex(TOO_LARGE - 2)),
            Code::NotFound,
            "NOT_FOUND",
            "",
        ),
        (Some(Leaf::LeafIndex(2)), Code::NotFound, "NOT_FOUND", ""),
        (
            Some(Leaf::LeafHash(Bytes::new())),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "leaf.leaf_hash",
        ),
        (
            Some(Leaf::LeafHash(vec![0; 31].into())),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "leaf.leaf_hash",
        ),
        (
            Some(Leaf::LeafHash(vec![0; 33].into())),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "leaf.leaf_hash",
        ),
        (
            Some(Leaf::LeafHash(vec![0; 32].into())),
            Code::NotFound,
            "NOT_FOUND",
            "",
        ),
        (
            Some(Leaf::Event(v1::EventName::default())),
            Code::NotFound,
            "NOT_FOUND",
            "",
        ),
        (
            Some(Leaf::Event(v1::EventName {
                source: "s".repeat(30_000),
                id: "i".repeat(30_000),
            })),
            Code::NotFound,
            "NOT_FOUND",
            "",
        ),
    ];
    let mut client = subject.server.reader();
    for (leaf, code, reason, field) in leaf_cases {
        let leaf = Some(v1::LeafSelector { leaf });
        let request = v1::GetReceiptRequest {
            log: String::new(),
            leaf: leaf.clone(),
        };
        assert_refused(client.get_receipt(request).await, code, reason, field);
        let request = v1::GetEntryRequest {
            log: String::new(),
            leaf: leaf.clone(),
            with_payload: true,
        };
        assert_refused(client.get_entry(request).await, code, reason, field);
        let request = v1::GetInclusionProofRequest {
            log: String::new(),
            leaf,
            tree_size: None,
        };
        assert_refused(client.get_inclusion_proof(request).await, code, reason, field);
    }

    // The log has two entries.
    let out_of_range = (Code::OutOfRange, "OUT_OF_RANGE", "");
    let invalid = |field| (Code::InvalidArgument, "INVALID_REQUEST", field);
    for (index, size, (code, reason, field)) in [
        (0, 0, out_of_range),
        (1, 1, out_of_range),
        (0, 3, out_of_range),
        (0, TOO_LARGE - 1, out_of_range),
        (0, TOO_LARGE, invalid("tree_size")),
        (0, u64::MAX, invalid("tree_size")),
    ] {
        let request = v1::GetInclusionProofRequest {
            log: String::new(),
            leaf: Some(v1::LeafSelector {
                leaf: Some(Leaf::LeafIndex(index)),
            }),
            tree_size: Some(size),
        };
        assert_refused(client.get_inclusion_proof(request).await, code, reason, field);
    }
    for (first, second, (code, reason, field)) in [
        (0, 1, out_of_range),
        (0, 0, out_of_range),
        (2, 1, out_of_range),
        (1, 3, out_of_range),
        (TOO_LARGE - 1, TOO_LARGE - 1, out_of_range),
        (TOO_LARGE, 1, invalid("first_tree_size")),
        (1, u64::MAX, invalid("second_tree_size")),
        (u64::MAX, u64::MAX, invalid("first_tree_size")),
    ] {
        let request = v1::GetConsistencyProofRequest {
            log: String::new(),
            first_tree_size: first,
            second_tree_size: second,
        };
        assert_refused(client.get_consistency_proof(request).await, code, reason, field);
    }
    subject.assert_stored(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_heads_and_ranges() {
    let subject = Subject::start().await;
    let mut client = subject.server.reader();
    for log in hostile_log_names() {
        let request = v1::GetTreeHeadRequest {
            log: log.clone(),
            known_tree_size: 0,
        };
        assert_refused(
            client.get_tree_head(request).await,
            Code::NotFound,
            "UNKNOWN_LOG",
            "",
        );
        let request = v1::WatchTreeHeadsRequest {
            log: log.clone(),
            known_tree_size: 0,
        };
        assert_refused(
            client.watch_tree_heads(request).await.map(drop),
            Code::NotFound,
            "UNKNOWN_LOG",
            "",
        );
        let request = v1::ReadEntriesRequest {
            log,
            ..v1::ReadEntriesRequest::default()
        };
        assert_refused(
            client.read_entries(request).await.map(drop),
            Code::NotFound,
            "UNKNOWN_LOG",
            "",
        );
    }

    let known = |known_tree_size| v1::GetTreeHeadRequest {
        log: String::new(),
        known_tree_size,
    };
    let answer = client.get_tree_head(known(u64::MAX)).await;
    assert_refused(
        answer,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        "known_tree_size",
    );
    // A client that knows of a larger log than this one must be told so, and not be kept waiting.
    let answer = tokio::time::timeout(Duration::from_secs(5), client.get_tree_head(known(TOO_LARGE - 1)));
    let answer = answer
        .await
        .expect("waited for a head that can't come")
        .unwrap()
        .into_inner();
    assert!(answer.tree_head.unwrap().tree_size <= 2);
    let request = v1::WatchTreeHeadsRequest {
        log: String::new(),
        known_tree_size: u64::MAX,
    };
    let answer = client.watch_tree_heads(request).await.map(drop);
    assert_refused(
        answer,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        "known_tree_size",
    );

    for (first_leaf_index, limit, expected) in [
        (0, 0, Ok(2)),
        (0, u64::MAX, Ok(2)),
        (1, 1, Ok(1)),
        (2, 0, Ok(0)),
        (TOO_LARGE - 2, u64::MAX, Ok(0)),
        (u64::MAX, 1, Err("first_leaf_index")),
    ] {
        let request = v1::ReadEntriesRequest {
            log: String::new(),
            first_leaf_index,
            limit,
            with_payload: false,
        };
        match (client.read_entries(request).await, expected) {
            (Ok(chunks), Ok(expected)) => {
                let mut chunks = chunks.into_inner();
                let mut entries = 0;
                while let Some(chunk) = chunks.message().await.unwrap() {
                    entries += chunk.entries.len();
                }
                assert_eq!(entries, expected, "from {first_leaf_index}, {limit} at most");
            }
            (answer, expected) => {
                let field = expected.unwrap_err();
                assert_refused(answer.map(drop), Code::InvalidArgument, "INVALID_REQUEST", field);
            }
        }
    }
    subject.assert_stored(0).await;
}

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Bytes that are no message of the type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message() {
    let subject = Subject::start().await;
    let mut client = Grpc::new(subject.server.connection());
    let mut call = async |method: &'static str, bytes: &'static [u8]| {
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static(method);
        client
            .unary(Request::new(Bytes::from_static(bytes)), path, Raw)
            .await
    };
    let submit = "/counterfoil.v1.SubmitService/Submit";
    for malformed in [
        // A field that ends in the middle; a number where there must be a message; no UTF-8; a length past all bounds;
        // a number that does not end; a group that does not end.
        b"\x0a\x04mai".as_slice(),
        b"\x10\x01",
        b"\x0a\x02\xff\xfe",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        b"\x1b",
    ] {
        assert_refused(call(submit, malformed).await, Code::Internal, "", "");
    }
    // A field that is unknown is nothing: the event is missing.
    assert_refused(
        call(submit, b"\x7a\x01x").await,
        Code::InvalidArgument,
        "INVALID_EVENT",
        "event",
    );
    assert_refused(
        call("/counterfoil.v1.SubmitService/Erase", b"").await,
        Code::Unimplemented,
        "",
        "",
    );
    assert_refused(
        call("/counterfoil.v2.SubmitService/Submit", b"").await,
        Code::Unimplemented,
        "",
        "",
    );
    subject.assert_stored(0).await;
}

/// Peers that do not speak gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_call() {
    let subject = Subject::start().await;
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(100_000)
        .collect();
    for sent in [
        b"GET / HTTP/1.1\r\nhost: log\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\xff\xff\xff\xff\xff\xff",
        &noise,
        b"",
    ] {
        let mut connection = TcpStream::connect(subject.server.address()).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        // It may hang up at any byte.
        let _ = connection.write_all(sent);
        let _ = connection.read(&mut [0; 1024]);
    }
    subject.assert_stored(0).await;
}
