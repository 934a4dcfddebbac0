//! Peers that use the protocols against the server: it stays up, within its memory, and answers everyone else.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use axum::http::uri::PathAndQuery;
use counterfoil_proto::v1::{self, leaf_selector::Leaf};
use counterfoil_tests::{
    Data, Server, event,
    frames::{END_HEADERS, END_STREAM, Frames, PREFACE, frame, kind, request},
    http_get, http_post, http_request, submission, submit,
};
use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use tokio::time::{sleep, timeout};
use tonic::codec::CompressionEncoding;
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

const MIB: u64 = 1024 * 1024;
/// The longest head of an HTTP/1.1 request.
const HEAD_BYTES: usize = 16 * 1024;
/// What the server may need beside what it has when it starts, whatever comes.
const HEADROOM_BYTES: u64 = 320 * MIB;

/// A server, and what it must still do afterwards.
struct Target {
    data: Data,
    log: counterfoil_tests::TestLog,
    server: Server,
    memory_at_start: u64,
}

impl Target {
    fn start() -> Self {
        let (data, log) = Data::with_main_log();
        let server = Server::start(&data, &["--memory-mib", "32"]);
        Self {
            data,
            log,
            memory_at_start: server.peak_memory_bytes(),
            server,
        }
    }

    /// It answers others, records an event, took no more memory than it may, and stops in order.
    async fn assert_well(self, name: &str) {
        self.assert_well_after(name, Some(1)).await;
    }

    /// As [`assert_well`](Self::assert_well), where so many entries are on record, if that is known.
    async fn assert_well_after(self, name: &str, entries: Option<u64>) {
        assert_eq!(http_get(self.server.address(), "/health").status, 200, "{name}");
        let (receipt, _) = submit(
            &mut self.server.submitter(),
            &self.log,
            event(name.to_owned(), "{}"),
        )
        .await
        .unwrap();
        if let Some(entries) = entries {
            let index = receipt.index().get();
            assert_eq!(index, entries, "{name}: something else was recorded");
        }
        let grown = self.server.peak_memory_bytes() - self.memory_at_start;
        assert!(grown < HEADROOM_BYTES, "{name}: {} MiB more", grown / MIB);
        assert!(
            !self.server.errors().contains("panicked"),
            "{}",
            self.server.errors()
        );
        self.server.stop();
        self.data.assert_sound();
    }
}

fn get(stream: u32) -> Vec<u8> {
    let block = request("GET", "/logs/main/checkpoint", &[]);
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// A call with its one message.
fn call(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let block = request("POST", path, &headers);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0][..], &length, message].concat();
    let head = frame(kind::HEADERS, END_HEADERS, stream, &block);
    [head, frame(kind::DATA, END_STREAM, stream, &body)].concat()
}

fn is_told_off(frames: &[(u8, Vec<u8>)]) -> bool {
    frames.iter().any(|(kind, _)| *kind == kind::GOAWAY)
}

/// CVE-2023-44487: requests that are taken back as soon as they are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let target = Target::start();
    let mut taken = 0;
    for _ in 0..20 {
        let mut peer = Frames::opened(target.server.address());
        let burst: Vec<u8> = (0..20_000_u32)
            .flat_map(|number| {
                let stream = 2 * number + 1;
                let reset = frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                [get(stream), reset].concat()
            })
            .collect();
        taken += usize::from(peer.write(&burst).is_ok() && !is_told_off(&peer.until_closed()));
    }
    assert_eq!(taken, 0, "a connection was not closed for it");
    target.assert_well("rapid reset").await;
}

/// CVE-2024-27316 and its like: headers that never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end() {
    let target = Target::start();
    let filler = "x".repeat(16_000);
    for _ in 0..8 {
        let mut peer = Frames::opened(target.server.address());
        peer.write(&frame(kind::HEADERS, 0, 1, &request("GET", "/health", &[])))
            .unwrap();
        let mut more = vec![0];
        more.extend(&request("GET", "/", &[("x-filler", &filler)])[21..]);
        let sent = peer.flood(&frame(kind::CONTINUATION, 0, 1, &more[..16_000]), 4_000);
        assert!(sent < 4_000, "64 MB of headers were taken");
    }
    // The same within the rules: each header is short, and all of them are not. Each counts 80 bytes.
    for (count, is_taken) in [(190, true), (215, false), (600, false)] {
        let mut peer = Frames::opened(target.server.address());
        let headers = vec![("x-filler", "0123456789012345678901234567890123456789"); count];
        let block = request("GET", "/health", &headers);
        let parts: Vec<_> = block.chunks(16_000).collect();
        for (place, part) in parts.iter().enumerate() {
            let (kind, flags) = match place {
                0 => (kind::HEADERS, END_STREAM),
                _ => (kind::CONTINUATION, 0),
            };
            let end = if place + 1 == parts.len() { END_HEADERS } else { 0 };
            peer.write(&frame(kind, flags | end, 1, part)).unwrap();
        }
        let answer = peer.until(kind::HEADERS);
        let head = answer.iter().find(|(kind, _)| *kind == kind::HEADERS);
        // In HPACK's static table 8 is `:status: 200`.
        let is_ok = head.map(|(_, block)| block[0] == 0x88);
        assert_eq!(is_ok, Some(is_taken), "{count} headers: {answer:?}");
    }

    // In HTTP/1.1 too. A head that ends where the limit is has all been read, and so has one that does not end there: nothing that
    // is on the way has the system take the answer back.
    for (end, status) in [("\r\n\r\n", 200), ("xxxx", 431)] {
        let mut stream = TcpStream::connect(target.server.address()).unwrap();
        let begin = "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-filler: ";
        let filler = "x".repeat(HEAD_BYTES - begin.len() - end.len());
        stream
            .write_all(format!("{begin}{filler}{end}").as_bytes())
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    target.assert_well("headers without end").await;
}

/// Frames that cost the sender nothing and have to be answered, from peers that read the answers and from some that don't.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_small_frames() {
    let target = Target::start();
    let settings: Vec<u8> = [(1_u16, 0_u32), (4, 0), (4, i32::MAX.unsigned_abs())]
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    for small in [
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, 0, 0, &settings),
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(kind::DATA, 0, 1, &[]),
        frame(0xee, 0xff, 1, &[7; 16]),
    ] {
        let burst = small.repeat(1_000);
        for reads in [true, false] {
            let mut peer = Frames::opened(target.server.address());
            peer.write(&frame(
                kind::HEADERS,
                END_HEADERS,
                1,
                &request("POST", "/hooks/none", &[]),
            ))
            .unwrap();
            if reads {
                peer.drain();
                peer.flood(&burst, 200);
            } else {
                peer.set_impatient();
                peer.flood(&burst, 200);
            }
            assert_eq!(http_get(target.server.address(), "/health").status, 200);
        }
    }
    target.assert_well("floods").await;
}

/// What is longer than any frame may be, or is of no stream that there can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_against_the_rules() {
    let target = Target::start();
    let huge = [
        &[0xff, 0xff, 0xff, kind::DATA, 0][..],
        &1_u32.to_be_bytes(),
        &[0; 1 << 16],
    ]
    .concat();
    for bad in [
        huge,
        frame(kind::HEADERS, END_HEADERS, 0, &request("GET", "/health", &[])),
        frame(kind::HEADERS, END_HEADERS, 2, &request("GET", "/health", &[])),
        frame(kind::HEADERS, END_HEADERS, 1, &[0xff; 200]),
        frame(kind::DATA, 0, 0, b"x"),
        frame(kind::DATA, 0, 77, b"x"),
        frame(kind::CONTINUATION, END_HEADERS, 1, b""),
        frame(kind::SETTINGS, 0, 0, b"x"),
        frame(kind::SETTINGS, 1, 0, &[0; 6]),
        frame(kind::PING, 0, 0, b"x"),
        frame(kind::PING, 0, 1, &[0; 8]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        frame(kind::RST_STREAM, 0, 0, &[0; 4]),
        frame(5, END_HEADERS, 1, &[0; 8]),
    ] {
        let mut peer = Frames::opened(target.server.address());
        let _ = peer.write(&bad);
        let answer = peer.until_closed();
        let refused = answer
            .iter()
            .any(|(kind, _)| [kind::GOAWAY, kind::RST_STREAM].contains(kind));
        assert!(refused || answer.len() <= 2, "{bad:?} was taken: {answer:?}");
    }
    target.assert_well("frames against the rules").await;
}

/// Whoever says that HTTP/2 comes, and then says nothing, does not keep a place: there are only so many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_preface_keeps_no_place() {
    let target = Target::start();
    let mut dawdling: Vec<_> = [&PREFACE[..3], &PREFACE[..PREFACE.len() - 1]]
        .into_iter()
        .map(|said| {
            let mut peer = Frames::to(target.server.address());
            peer.write(said).unwrap();
            peer
        })
        .collect();
    for peer in &mut dawdling {
        assert!(
            peer.is_closed_within(Duration::from_secs(60)),
            "it is still there"
        );
    }
    target.assert_well("half a preface").await;
}

fn bomb(bytes: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; usize::try_from(MIB).unwrap()];
    for _ in 0..bytes / MIB {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

/// A few MiB that would be a few GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_unpacks_without_end() {
    let target = Target::start();
    let address = target.server.address();
    let bomb = bomb(2048 * MIB);
    let headers = [("content-encoding", "gzip"), ("content-type", "application/json")];
    for _ in 0..4 {
        let answer = http_post(address, "/services/collector", &headers, &bomb);
        assert_eq!(answer.status, 413);
    }
    // Where nothing says that compression is understood, it is not.
    let answer = http_post(address, "/logs/main/events", &headers, &bomb);
    assert_eq!(answer.status, 415);

    // A gRPC message: a byte that says that it is compressed, its length, and the bomb.
    let length = u32::try_from(bomb.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length, &bomb].concat();
    let block = request(
        "POST",
        "/counterfoil.v1.SubmitService/Submit",
        &[
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-encoding", "gzip"),
        ],
    );
    let mut peer = Frames::opened(address);
    peer.drain();
    peer.write(&frame(kind::HEADERS, END_HEADERS, 1, &block)).unwrap();
    for part in message.chunks(16_000) {
        if peer.write(&frame(kind::DATA, 0, 1, part)).is_err() {
            break;
        }
    }
    target.assert_well("bombs").await;
}

/// serde_json quotes what it did not expect, a byte of this as six. In gzip all of it is some 36 KB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_is_short_whatever_was_wrong() {
    const TEXT_BYTES: usize = 35 << 20;
    let target = Target::start();
    let address = target.server.address();
    let text = "\u{7f}".repeat(TEXT_BYTES);
    let string = format!("\"{text}\"");
    let name = format!("{{\"{text}\":\"\\u0001\"}}");
    for (media_type, body) in [
        ("application/cloudevents+json", &string),
        ("application/cloudevents-batch+json", &string),
        ("application/cloudevents+json", &name),
    ] {
        let headers = [("content-type", media_type)];
        let answer = http_post(address, "/logs/main/events", &headers, body.as_bytes());
        assert_eq!(answer.status, 400, "{media_type}");
        let told = String::from_utf8_lossy(&answer.body);
        assert!(told.len() < 4096, "{media_type}: {told:.200}…");
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(string.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let headers = [("content-encoding", "gzip")];
    let answer = http_post(address, "/services/collector", &headers, &packed);
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8(answer.body).unwrap().contains(r#""code":6"#));
    target.assert_well("what is told").await;
}

/// A batch of events of nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct Events {
    #[prost(message, repeated, tag = "2")]
    events: Vec<()>,
}

/// An event with extensions of nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct WithExtensions {
    #[prost(message, optional, tag = "2")]
    event: Option<Extensions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extensions {
    #[prost(message, repeated, tag = "8")]
    extensions: Vec<()>,
}

/// Each takes two bytes of a message, and would take a hundred times that of memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_empty_parts() {
    async fn send(
        target: &Target,
        method: &'static str,
        message: impl prost::Message + 'static,
    ) -> tonic::Status {
        let mut client = tonic::client::Grpc::new(target.server.connection());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static(method);
        let codec = ProstCodec::<_, ()>::default();
        client
            .unary(tonic::Request::new(message), path, codec)
            .await
            .unwrap_err()
    }

    let target = Target::start();
    let parts = || vec![(); 16_000_000];
    let events = Events { events: parts() };
    let refused = send(&target, "/counterfoil.v1.SubmitService/SubmitBatch", events).await;
    assert!(refused.message().contains("parts"), "{refused:?}");
    let extensions = WithExtensions {
        event: Some(Extensions { extensions: parts() }),
    };
    let refused = send(&target, "/counterfoil.v1.SubmitService/Submit", extensions).await;
    assert!(refused.message().contains("parts"), "{refused:?}");
    target.assert_well("messages of many empty parts").await;
}

/// Whoever begins messages.
struct Beginner {
    frames: Frames,
    /// How many of its calls were answered.
    answers: usize,
}

impl Beginner {
    /// Waits until the server has read all that was sent.
    fn wait(&mut self) {
        self.frames.write(&frame(kind::PING, 0, 0, &[0; 8])).unwrap();
        let frames = self.frames.until(kind::PING);
        assert_eq!(frames.last().map(|(kind, _)| *kind), Some(kind::PING));
        let heads = frames.iter().filter(|(kind, _)| *kind == kind::HEADERS);
        self.answers += heads.count();
    }
}

/// Peers who begin a call of each of these methods, with a part of its message, and send no more. All of it was read.
fn begin_messages(target: &Target, peers: usize, paths: &[&str], part: &[u8]) -> Vec<Beginner> {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let begin = |_| {
        let mut frames = Frames::opened(target.server.address());
        // Its windows have to be open; what it is told about them does not matter, since it sends no more than they have.
        frames.until(kind::WINDOW_UPDATE);
        frames.write(&frame(kind::SETTINGS, 1, 0, &[])).unwrap();
        for (number, path) in (0..).zip(paths) {
            let stream = 2 * number + 1;
            let block = request("POST", path, &headers);
            let head = frame(kind::HEADERS, END_HEADERS, stream, &block);
            frames.write(&head).unwrap();
            for part in part.chunks(16_000) {
                frames.write(&frame(kind::DATA, 0, stream, part)).unwrap();
            }
        }
        let mut peer = Beginner { frames, answers: 0 };
        peer.wait();
        peer
    };
    (0..peers).map(begin).collect()
}

/// Nothing was answered: the messages may still come.
fn assert_waited_for(peers: &mut [Beginner]) {
    for peer in peers {
        // What it was told at first may have been on its way.
        peer.wait();
        assert_eq!(peer.answers, 0);
    }
}

/// Long messages that begin and do not go on: half a gigabyte of them, of which some are waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_do_not_end() {
    // As much as a stream has room for from the start.
    const STREAM_BYTES: usize = 480 << 10;
    let target = Target::start();
    let mut begun = vec![0];
    begun.extend(30_u32.pow(5).to_be_bytes());
    begun.resize(STREAM_BYTES, 7);
    let paths = ["/counterfoil.v1.SubmitService/Submit"; 4];
    let mut peers = begin_messages(&target, 256, &paths, &begun);
    assert_waited_for(&mut peers[..64]);
    target.assert_well("messages that do not end").await;
    drop(peers);
}

/// Heads of long messages, and nothing behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_without_messages() {
    let target = Target::start();
    let head = [&[0][..], &(31_u32 << 20).to_be_bytes()].concat();
    let paths = ["/counterfoil.v1.SubmitService/Submit"; 120];
    let mut peers = begin_messages(&target, 8, &paths, &head);
    assert_waited_for(&mut peers);
    target.assert_well("heads without messages").await;
    drop(peers);
}

/// The same of requests that read, which anybody may send to a public log: they take nothing of what messages of events need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_do_not_end() {
    // As many as a connection has room for from the start, and together more than there is for messages of that length.
    const STREAM_BYTES: usize = 65_000;
    let target = Target::start();
    let mut begun = vec![0];
    begun.extend(65_535_u32.to_be_bytes());
    begun.resize(STREAM_BYTES, 7);
    let paths = ["/counterfoil.v1.ReadService/GetTreeHead"; 31];
    let peers = begin_messages(&target, 48, &paths, &begun);
    let sent = event("long".to_owned(), vec![7; 200 << 10]);
    target.server.submitter().submit(submission(sent)).await.unwrap();
    target
        .assert_well_after("requests that do not end", Some(2))
        .await;
    drop(peers);
}

/// The same in calls that need no right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_do_not_end() {
    // As much as a stream has room for from the start, of what may be the longest message by tonic's default.
    const STREAM_BYTES: usize = 480 << 10;
    let target = Target::start();
    let paths = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check",
    ];
    let mut begun = vec![0];
    begun.extend((4_u32 << 20).to_be_bytes());
    begun.resize(STREAM_BYTES, 7);
    let peers = begin_messages(&target, 112, &paths, &begun);
    let request = v1::SubmitBatchRequest {
        log: String::new(),
        events: (0..4)
            .map(|number| event(number.to_string(), vec![7; 256 << 10]))
            .collect(),
    };
    let answer = target.server.submitter().submit_batch(request).await.unwrap();
    assert_eq!(answer.into_inner().results.len(), 4);
    target
        .assert_well_after("questions that do not end", Some(5))
        .await;
    drop(peers);
}

fn entry_1_with_payload() -> v1::GetEntryRequest {
    v1::GetEntryRequest {
        log: String::new(),
        leaf: Some(v1::LeafSelector {
            leaf: Some(Leaf::LeafIndex(1)),
        }),
        with_payload: true,
    }
}

/// Long reads that are asked for and taken back, again and again: each keeps its turn until it ends, and so memory and threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_taken_back() {
    // Eight such reads have room, and as many as there are threads for them have not.
    const ANSWER_BYTES: usize = 8 << 20;
    let target = Target::start();
    let address = target.server.address();
    let mut client = target.server.submitter();
    let long = event("long".to_owned(), vec![7; ANSWER_BYTES]);
    client.submit(submission(long)).await.unwrap();

    let entry = entry_1_with_payload().encode_to_vec();
    let mut peers = [(); 8].map(|()| Frames::opened(address));
    for stream in (0..300).map(|number| 2 * number + 1) {
        let asked = call(stream, "/counterfoil.v1.ReadService/GetEntry", &entry);
        for peer in &mut peers {
            // Whoever was told off for it comes again.
            if peer.write(&asked).is_err() {
                *peer = Frames::opened(address);
            }
        }
        // For the reads to begin, of which there is no other sign.
        sleep(Duration::from_millis(4)).await;
        let reset = frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        for peer in &mut peers {
            let _ = peer.write(&reset);
        }
    }
    let tile = http_get(address, "/logs/main/tile/entries/000.p/2");
    assert_eq!(tile.status, 200);
    target.assert_well_after("reads taken back", Some(2)).await;
    drop(peers);
}

/// Long answers, asked for in a few bytes each by peers who have room for some of them, or for none, and read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads() {
    const ANSWER_BYTES: usize = 4 << 20;
    let target = Target::start();
    let mut client = target.server.submitter();
    let long = event("long".to_owned(), vec![7; ANSWER_BYTES]);
    client.submit(submission(long)).await.unwrap();

    let entry = entry_1_with_payload();
    let range = v1::ReadEntriesRequest {
        first_leaf_index: 1,
        with_payload: true,
        ..v1::ReadEntriesRequest::default()
    };
    let requests = [
        ("/counterfoil.v1.ReadService/GetEntry", entry.encode_to_vec()),
        ("/counterfoil.v1.ReadService/ReadEntries", range.encode_to_vec()),
    ];
    // Of short messages a server may prepare the next before the first is read.
    let short = v1::ReadEntriesRequest {
        limit: 1,
        with_payload: true,
        ..v1::ReadEntriesRequest::default()
    };
    let short = ("/counterfoil.v1.ReadService/ReadEntries", short.encode_to_vec());
    let no_window = [&4_u16.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    let wide_window = [&4_u16.to_be_bytes()[..], &i32::MAX.to_be_bytes()].concat();
    let ask = |settings: &[u8], (path, message): &(&str, Vec<u8>), times: u32| {
        let mut peer = Frames::opened(target.server.address());
        peer.set_impatient();
        peer.write(&frame(kind::SETTINGS, 0, 0, settings)).unwrap();
        peer.write(&frame(kind::WINDOW_UPDATE, 0, 0, &(i32::MAX / 2).to_be_bytes()))
            .unwrap();
        // All at once: they have to wait for each other.
        let calls = (0..times).flat_map(|number| call(2 * number + 1, path, message));
        peer.write(&calls.collect::<Vec<u8>>()).unwrap();
        peer
    };
    let mut peers = vec![ask(&no_window, &short, 120)];
    for settings in [&[][..], &no_window, &wide_window] {
        for request in &requests {
            peers.extend([(); 2].map(|()| ask(settings, request, 100)));
        }
    }
    // Those who wait longest are given up for others who do not read either.
    for _ in 0..6 {
        sleep(Duration::from_millis(1_100)).await;
        peers.push(ask(&no_window, &requests[0], 32));
    }
    // Whoever reads has an answer nevertheless, if not at once, and while the others are there: who answers no ping is shown out
    // after 50 s.
    let mut reader = target.server.reader();
    let answer = timeout(Duration::from_secs(30), async {
        loop {
            match reader.get_entry(entry.clone()).await {
                Err(put_off) if put_off.code() == tonic::Code::ResourceExhausted => {
                    let told = put_off
                        .get_error_details()
                        .retry_info()
                        .and_then(|info| info.retry_delay);
                    sleep(told.unwrap()).await;
                }
                answer => break answer.unwrap().into_inner(),
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(answer.payload.unwrap().data.len(), ANSWER_BYTES);
    drop(peers);
    target
        .assert_well_after("answers that nobody reads", Some(2))
        .await;
}

/// The same of bundles in gzip: each takes an encoder, which is larger than what it makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_that_nobody_reads() {
    const BUNDLE: &str = "/logs/main/tile/entries/000";
    const STREAMS: u32 = 120;
    let target = Target::start();
    let address = target.server.address();
    let full = v1::SubmitBatchRequest {
        log: String::new(),
        events: (0..256).map(|number| event(number.to_string(), "{}")).collect(),
    };
    target.server.submitter().submit_batch(full).await.unwrap();
    let gzip = [("accept-encoding", "gzip")];
    let packed = http_request(address, "GET", BUNDLE, &gzip);
    assert_eq!(packed.header("content-encoding"), "gzip");

    let no_window = [&4_u16.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    let block = request("GET", BUNDLE, &gzip);
    let mut peers = Vec::new();
    for _ in 0..15 {
        let mut peer = Frames::opened(address);
        peer.write(&frame(kind::SETTINGS, 0, 0, &no_window)).unwrap();
        let asked = (0..STREAMS).flat_map(|number| {
            let stream = 2 * number + 1;
            frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block)
        });
        peer.write(&asked.collect::<Vec<u8>>()).unwrap();
        // With its head, something of an answer is there. In HPACK's static table 8 is `:status: 200`.
        for _ in 0..STREAMS {
            let head = peer.until(kind::HEADERS).pop();
            assert!(matches!(head, Some((kind::HEADERS, block)) if block[0] == 0x88));
        }
        peers.push(peer);
    }
    drop(peers);
    target
        .assert_well_after("bundles that nobody reads", Some(257))
        .await;
}

/// Streams that send on and on and read no result: in time nothing is taken from them, and others are not kept out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_read_no_results() {
    let target = Target::start();
    let mut streams = Vec::new();
    for number in 0..64_u64 {
        let mut client = target.server.submitter();
        let mut sequence = 0;
        let requests = futures_util::stream::repeat_with(move || {
            sequence += 1;
            v1::SubmitStreamRequest {
                log: String::new(),
                sequence,
                event: Some(event(format!("{number}-{sequence}"), "{}")),
            }
        });
        // Its answers are never asked for.
        streams.push(client.submit_stream(requests).await.unwrap());
    }
    // Until all have come to a halt, which is sooner than they are cut off.
    let mut reader = target.server.reader();
    let (mut size, mut before) = (1, 0);
    for _ in 0..10 {
        sleep(Duration::from_secs(3)).await;
        let head = reader
            .get_tree_head(v1::GetTreeHeadRequest::default())
            .await
            .unwrap();
        before = std::mem::replace(&mut size, head.into_inner().tree_head.unwrap().tree_size);
        if size == before {
            break;
        }
    }
    assert_eq!(size, before, "they are still read");
    target
        .assert_well_after("streams that read no results", None)
        .await;
    drop(streams);
}

/// It would unpack to anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_call_is_refused() {
    let target = Target::start();
    let mut client = target
        .server
        .submitter()
        .send_compressed(CompressionEncoding::Gzip);
    let sent = event("compressed".to_owned(), vec![7; 1 << 20]);
    let refused = client.submit(submission(sent)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused:?}");
    target.assert_well("a compressed call").await;
}

/// Whoever keeps to the rules has to know them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connection_may_do_is_said() {
    let target = Target::start();
    let told = Frames::opened(target.server.address()).until(kind::SETTINGS);
    let (_, settings) = told.last().unwrap();
    for (name, value) in [(3_u16, 128_u32), (6, 16 * 1024)] {
        let setting = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        assert!(settings.chunks(6).any(|it| it == setting), "{name}: {settings:?}");
    }
    target.assert_well("settings").await;
}
