//! `counterfoil find`: what it makes of entries whose payload is not served, and how far it says that it looked. And what the
//! server takes and gives at most.
#![allow(clippy::unwrap_used)]

use std::{
    future::poll_fn,
    net::SocketAddr,
    process::Output,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{Request, Response, header::CONTENT_LENGTH},
};
use counterfoil_proto::v1::{self, leaf_selector::Leaf};
use counterfoil_tests::{Data, Refusal, Server, TestLog, counterfoil, head, submission};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, codegen::Service as _, transport::Channel};

const COMMIT: &str = "cccccccccccccccccccccccccccccccccccccccc";
const OTHER: &str = "dddddddddddddddddddddddddddddddddddddddd";

fn about(commit: &str, id: &str) -> v1::Event {
    v1::Event {
        id: id.to_owned(),
        source: "https://ci.example/acme".to_owned(),
        r#type: "ci.run.finished".to_owned(),
        data_content_type: "application/vnd.counterfoil.event+json".to_owned(),
        data: json!({ "commit": commit }).to_string().into(),
        ..v1::Event::default()
    }
}

/// A log whose leaves 1 and 3 are about [`COMMIT`]; there are four.
struct Setting {
    data: Data,
    log: TestLog,
    server: Server,
}

impl Setting {
    async fn new() -> Self {
        let (data, log) = Data::with_main_log();
        let server = Server::start(&data, &["--publish-interval-ms", "20"]);
        for (id, commit) in [("1", COMMIT), ("2", OTHER), ("3", COMMIT)] {
            let event = about(commit, id);
            server.submitter().submit(submission(event)).await.unwrap();
        }
        head(&mut server.reader(), &log, 4).await;
        Self { data, log, server }
    }

    fn ask(&self, server: SocketAddr, arguments: &[&str]) -> Output {
        counterfoil()
            .args(["find", "--commit", COMMIT])
            .args(arguments)
            .args(["--server", &format!("http://{server}")])
            .args(["--log-key", &self.log.key().to_string(), "--state-dir"])
            .arg(self.data.beside("state"))
            .output()
            .unwrap()
    }

    /// What the search came to, and the exit code.
    fn find(&self, server: SocketAddr, arguments: &[&str]) -> (i32, Value) {
        let output = self.ask(server, &[&["--json"][..], arguments].concat());
        let code = output.status.code().unwrap();
        if code == 0 {
            return (code, serde_json::from_slice(&output.stdout).unwrap());
        }
        let errors: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"));
        (code, errors["error"]["search"].clone())
    }
}

fn found(search: &Value) -> Vec<u64> {
    let entries = search["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["leaf_index"].as_u64().unwrap())
        .collect()
}

/// A server in front of another one. It passes everything on, but the payloads of some leaves.
#[derive(Clone)]
struct Withholding {
    server: Channel,
    leaves: Arc<Mutex<Vec<u64>>>,
}

impl Withholding {
    async fn start(server: &Server) -> (Self, SocketAddr) {
        let withholding = Self {
            server: server.connection(),
            leaves: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass_on).with_state(withholding.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (withholding, address)
    }

    fn withhold(&self, leaves: &[u64]) {
        *self.leaves.lock().unwrap() = leaves.to_vec();
    }
}

/// A log serves no payload that it is not asked for, so the question is changed. Of a range all are withheld.
async fn pass_on(State(withholding): State<Withholding>, request: Request<Body>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let mut body = to_bytes(body, 1 << 20).await.unwrap();
    let withheld = withholding.leaves.lock().unwrap().clone();
    match parts.uri.path() {
        "/counterfoil.v1.ReadService/GetEntry" => {
            body = changed(&body, |request: &mut v1::GetEntryRequest| {
                let leaf = request.leaf.as_ref().and_then(|leaf| leaf.leaf.as_ref());
                if matches!(leaf, Some(Leaf::LeafIndex(index)) if withheld.contains(index)) {
                    request.with_payload = false;
                }
            });
        }
        "/counterfoil.v1.ReadService/ReadEntries" => {
            body = changed(&body, |request: &mut v1::ReadEntriesRequest| {
                request.with_payload = withheld.is_empty();
            });
        }
        _ => {}
    }
    let mut server = withholding.server;
    poll_fn(|context| server.poll_ready(context)).await.unwrap();
    let request = Request::from_parts(parts, tonic::body::Body::new(Body::from(body)));
    server.call(request).await.unwrap().map(Body::new)
}

/// The body of a request, with its one message changed: a flag, the length in four bytes, the message.
fn changed<M: Message + Default>(body: &[u8], change: impl FnOnce(&mut M)) -> Bytes {
    assert_eq!(body[0], 0, "it is compressed");
    let mut message = M::decode(&body[5..]).unwrap();
    change(&mut message);
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length[..], &message[..]].concat().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_looks_cut_short_gets_a_hint() {
    let setting = Setting::new().await;
    for (term, value, hint) in [
        ("--artifact", "5a".repeat(32), Some("--artifact sha256:…")),
        ("--artifact", format!("sha256:{}", "5a".repeat(32)), None),
        ("--commit", COMMIT[..7].to_owned(), Some("whole hash")),
        ("--commit", "e".repeat(40), None),
    ] {
        let output = counterfoil()
            .args(["find", term, &value, "--json", "--server"])
            .arg(format!("http://{}", setting.server.address()))
            .args(["--log-key", &setting.log.key().to_string(), "--state-dir"])
            .arg(setting.data.beside("state"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let errors: Value = serde_json::from_slice(&output.stderr).unwrap();
        let hints = errors["error"]["hints"].as_array().unwrap();
        assert_eq!(hints.len(), 1 + usize::from(hint.is_some()), "{hints:?}");
        if let Some(hint) = hint {
            assert!(hints[0].as_str().unwrap().contains(hint), "{hints:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_payload_is_not_served_is_not_among_the_found() {
    let setting = Setting::new().await;
    let (withholding, address) = Withholding::start(&setting.server).await;
    let (code, search) = setting.find(address, &[]);
    assert_eq!((code, found(&search)), (0, vec![1, 3]));
    assert_eq!(
        (&search["unreadable"], &search["entries_read"]),
        (&json!(0), &Value::Null)
    );

    withholding.withhold(&[1]);
    let (code, search) = setting.find(address, &[]);
    assert_eq!((code, found(&search)), (0, vec![3]));
    assert_eq!(
        (&search["unreadable"], &search["unreadable_leaf_indices"]),
        (&json!(1), &json!([1]))
    );
    let text = String::from_utf8(setting.ask(address, &[]).stdout).unwrap();
    for line in [
        "\n1 with the commit ",
        "\n1 that the search index names may be about something else, as no payload is served: leaf 1\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }

    // Nothing is found where there is nothing else, by the index and by reading everything.
    let (code, search) = setting.find(address, &["--limit", "1"]);
    assert_eq!((code, found(&search)), (5, vec![]));
    assert_eq!(
        (&search["more"], &search["unreadable_leaf_indices"]),
        (&json!(true), &json!([1]))
    );
    withholding.withhold(&[1, 3]);
    let (code, search) = setting.find(address, &[]);
    assert_eq!((code, found(&search)), (5, vec![]));
    assert_eq!(search["unreadable_leaf_indices"], json!([1, 3]));
    let (code, search) = setting.find(address, &["--scan", "--limit", "2"]);
    assert_eq!((code, found(&search)), (5, vec![]));
    assert_eq!(
        (&search["unreadable"], &search["unreadable_leaf_indices"]),
        (&json!(4), &json!([0, 1]))
    );
    let output = setting.ask(address, &["--scan"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    let line = "4 that were read may be about it too, as no payload is served: leaf 0, 1, 2, 3\n";
    assert!(errors.contains(line), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_says_which_entries_it_read() {
    let setting = Setting::new().await;
    let address = setting.server.address();
    let (code, search) = setting.find(address, &["--scan"]);
    assert_eq!((code, found(&search)), (0, vec![1, 3]));
    assert_eq!(search["every_entry_read"], true);

    let (code, search) = setting.find(address, &["--scan", "--from", "2"]);
    assert_eq!((code, found(&search)), (0, vec![3]));
    let read = json!({"first_leaf_index": 2, "number": 2});
    assert_eq!(
        (&search["every_entry_read"], &search["entries_read"]),
        (&json!(false), &read)
    );
    // It ends where it meets one more than it may show.
    let (code, search) = setting.find(address, &["--scan", "--limit", "1"]);
    assert_eq!((code, found(&search)), (0, vec![1]));
    let read = json!({"first_leaf_index": 0, "number": 3});
    assert_eq!(
        (
            &search["more"],
            &search["every_entry_read"],
            &search["entries_read"]
        ),
        (&json!(true), &json!(false), &read)
    );

    for (arguments, says) in [
        (&["--scan"][..], "all entries of the log's 4 were read"),
        (
            &["--scan", "--from", "2"],
            "of the log's 4 entries 2 to 3 were read and verified, and no others",
        ),
        (
            &["--scan", "--limit", "1"],
            "of the log's 4 entries 0 to 2 were read and verified, and no others",
        ),
        (&["--scan", "--from", "9"], "none of the log's 4 entries was read"),
    ] {
        let output = setting.ask(address, arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(says), "{says:?} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_a_thousand_entries_at_most() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let request = v1::SubmitBatchRequest {
        log: String::new(),
        events: (1..=1_001)
            .map(|number| about(COMMIT, &number.to_string()))
            .collect(),
    };
    server.submitter().submit_batch(request).await.unwrap();
    let mut reader = server.reader();
    let mut find = async |value: String, first_leaf_index, limit| {
        let request = v1::FindEntriesRequest {
            log: String::new(),
            attribute: v1::IndexAttribute::Commit.into(),
            value,
            first_leaf_index,
            limit,
        };
        let answer = reader.find_entries(request).await;
        answer.map(|answer| answer.into_inner())
    };
    for (first, limit, last, more) in [
        (1, 0, 1_000, true),
        (1, 999, 999, true),
        (1, 1_000, 1_000, true),
        (1, 2_000, 1_000, true),
        (1, u32::MAX, 1_000, true),
        (2, 0, 1_001, false),
    ] {
        let answer = find(COMMIT.to_owned(), first, limit).await.unwrap();
        let found: Vec<_> = (first..=last).collect();
        assert_eq!(
            (answer.leaf_indices, answer.more),
            (found, more),
            "{first}, {limit}"
        );
    }
    for (bytes, is_taken) in [(0, false), (1, true), (1_024, true), (1_025, false)] {
        let answer = find("c".repeat(bytes), 0, 0).await;
        let refusal = answer.err().map(|status| Refusal::from(&status));
        let expected = Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", "value");
        assert_eq!(refusal, (!is_taken).then_some(expected), "{bytes} bytes");
    }
}
