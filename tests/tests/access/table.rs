//! Every row of the table in `docs/ACCESS.md`, called with every role, without a credential, and with wrong ones. The server's own
//! tests compare that table with the one that the server goes by, and that one with the methods that there are.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::http::uri::PathAndQuery;
use counterfoil_proto::v1::{self, leaf_selector::Leaf};
use counterfoil_tests::{Data, Hook, Server, counterfoild, event, http_post, http_request, submission};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{assert_denied, authorized, reader, set_access, submitter};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Served,
    /// Without a credential, or with a wrong one.
    Unauthenticated,
    /// The credential has no right to it.
    Forbidden,
}

impl<T> From<Result<T, Status>> for Answer {
    fn from(answer: Result<T, Status>) -> Self {
        match answer.map_err(|status| status.code()) {
            Ok(_) => Self::Served,
            Err(Code::Unauthenticated) => Self::Unauthenticated,
            Err(Code::PermissionDenied) => Self::Forbidden,
            Err(other) => panic!("neither served nor denied: {other:?}"),
        }
    }
}

/// The rows of the table: call and right.
fn rows() -> Vec<(String, String)> {
    let text = include_str!("../../../docs/ACCESS.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let call = cells.next()?.strip_suffix('`')?;
        call.contains('/')
            .then(|| (call.to_owned(), cells.next().unwrap().to_owned()))
    });
    rows.collect()
}

/// The rights of each role, as the table of roles has them.
const ROLES: [(&str, &[&str]); 4] = [
    ("submit", &["submit", "check"]),
    ("read", &["check", "read"]),
    ("audit", &["check", "read", "audit"]),
    ("admin", &["submit", "check", "read", "audit"]),
];

struct Port {
    server: Server,
    metrics: SocketAddr,
    hook: Hook,
}

fn leaf(leaf: Leaf) -> Option<v1::LeafSelector> {
    Some(v1::LeafSelector { leaf: Some(leaf) })
}

/// One more event that is like no other.
fn new_event() -> v1::Event {
    event(format!("{:032x}", fastrand::u128(..)), "data")
}

/// The event that is there from the start.
fn named(name: bool) -> Option<v1::LeafSelector> {
    let there = event("there", "data");
    leaf(if name {
        Leaf::Event(v1::EventName {
            source: there.source,
            id: there.id,
        })
    } else {
        Leaf::LeafIndex(1)
    })
}

impl Port {
    /// Makes the call of a row, or of what is private in it.
    async fn call(&self, call: &str, private: bool, token: Option<&str>) -> Answer {
        match call.strip_prefix("/counterfoil.v1.") {
            Some(method) => self.rpc(method, private, token).await,
            None if call.starts_with("/grpc.") => self.service(call, token).await,
            None => self.http(call, token),
        }
    }

    async fn rpc(&self, method: &str, private: bool, token: Option<&str>) -> Answer {
        let (mut submitter, mut reader) = (submitter(&self.server, token), reader(&self.server, token));
        let log = String::new();
        match method {
            "SubmitService/Submit" => submitter.submit(submission(new_event())).await.into(),
            "SubmitService/SubmitBatch" => {
                let events = vec![new_event()];
                submitter
                    .submit_batch(v1::SubmitBatchRequest { log, events })
                    .await
                    .into()
            }
            "SubmitService/SubmitStream" => {
                let message = v1::SubmitStreamRequest {
                    log,
                    sequence: 0,
                    event: Some(new_event()),
                };
                match submitter.submit_stream(tokio_stream::iter([message])).await {
                    Ok(answers) => answers.into_inner().message().await.into(),
                    Err(status) => Err::<(), _>(status).into(),
                }
            }
            "ReadService/GetTreeHead" => reader
                .get_tree_head(v1::GetTreeHeadRequest::default())
                .await
                .into(),
            "ReadService/WatchTreeHeads" => {
                let request = v1::WatchTreeHeadsRequest::default();
                match reader.watch_tree_heads(request).await {
                    Ok(heads) => heads.into_inner().message().await.into(),
                    Err(status) => Err::<(), _>(status).into(),
                }
            }
            "ReadService/GetConsistencyProof" => {
                let (first_tree_size, second_tree_size) = (1, 2);
                let request = v1::GetConsistencyProofRequest {
                    log,
                    first_tree_size,
                    second_tree_size,
                };
                reader.get_consistency_proof(request).await.into()
            }
            "ReadService/GetInclusionProof" => {
                let request = v1::GetInclusionProofRequest {
                    log,
                    leaf: named(private),
                    tree_size: Some(2),
                };
                reader.get_inclusion_proof(request).await.into()
            }
            "ReadService/GetEntry" => self.get_entry(private, token).await,
            "ReadService/ReadEntries" => {
                let request = v1::ReadEntriesRequest {
                    log,
                    first_leaf_index: 0,
                    limit: 1,
                    with_payload: private,
                };
                match reader.read_entries(request).await {
                    Ok(entries) => entries.into_inner().message().await.into(),
                    Err(status) => Err::<(), _>(status).into(),
                }
            }
            "ReadService/FindEntries" => {
                let request = v1::FindEntriesRequest {
                    attribute: v1::IndexAttribute::Commit.into(),
                    value: "c0ffee".to_owned(),
                    ..v1::FindEntriesRequest::default()
                };
                reader.find_entries(request).await.into()
            }
            "ReadService/GetReceipt" => {
                let leaf = named(false);
                reader
                    .get_receipt(v1::GetReceiptRequest { log, leaf })
                    .await
                    .into()
            }
            other => panic!("the table has {other}, and this test does not call it"),
        }
    }

    /// Both ways of asking for what is private have to come to the same.
    async fn get_entry(&self, private: bool, token: Option<&str>) -> Answer {
        let ask = async |with_payload, name| -> Answer {
            let request = v1::GetEntryRequest {
                log: String::new(),
                leaf: named(name),
                with_payload,
            };
            reader(&self.server, token).get_entry(request).await.into()
        };
        let answer = ask(private, false).await;
        if private {
            assert_eq!(ask(false, true).await, answer);
            assert_eq!(ask(true, true).await, answer);
        }
        answer
    }

    async fn service(&self, call: &str, token: Option<&str>) -> Answer {
        let channel = authorized(&self.server, token);
        let check = HealthCheckRequest::default();
        match call {
            "/grpc.health.v1.Health/Check" => HealthClient::new(channel).check(check).await.into(),
            "/grpc.health.v1.Health/Watch" => match HealthClient::new(channel).watch(check).await {
                Ok(states) => states.into_inner().message().await.into(),
                Err(status) => Err::<(), _>(status).into(),
            },
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => {
                let question = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(MessageRequest::ListServices(String::new())),
                };
                let mut client = ServerReflectionClient::new(channel);
                match client
                    .server_reflection_info(tokio_stream::iter([question]))
                    .await
                {
                    Ok(answers) => answers.into_inner().message().await.into(),
                    Err(status) => Err::<(), _>(status).into(),
                }
            }
            other => panic!("the table has {other}, and this test does not call it"),
        }
    }

    fn http(&self, call: &str, token: Option<&str>) -> Answer {
        let (method, path) = call.split_once(' ').unwrap();
        let (headers, body) = self.request(path);
        let path = path
            .replace("{log}", "main")
            .replace("{*tile}", "entries/000.p/1")
            .replace("{source}", &self.hook.id);
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let address = if path == "/metrics" {
            self.metrics
        } else {
            self.server.address()
        };
        let answer = match method {
            "GET" => http_request(address, method, &path, &headers),
            "POST" => http_post(address, &path, &headers, &body),
            other => panic!("{other}"),
        };
        match (answer.status, path.as_str()) {
            (200 | 201, _) => Answer::Served,
            // It has nothing else to say.
            (400, "/services/collector/ack") => Answer::Served,
            (401, _) => Answer::Unauthenticated,
            (403, _) => Answer::Forbidden,
            _ => panic!("neither served nor denied: {call}: {answer:?}"),
        }
    }

    /// What makes a request to this path a good one.
    fn request(&self, path: &str) -> (Vec<(String, String)>, Vec<u8>) {
        let id = format!("{:032x}", fastrand::u128(..));
        let body = match path {
            "/logs/{log}/events" => {
                let event = serde_json::json!({ "specversion": "1.0", "id": id, "source": "s", "type": "t" });
                let media_type = "application/cloudevents+json".to_owned();
                return (
                    vec![("content-type".to_owned(), media_type)],
                    event.to_string().into(),
                );
            }
            "/hooks/{source}" => {
                let body = b"{}".to_vec();
                return (self.hook.headers("push", &id, &body), body);
            }
            path if path.starts_with("/services/collector/raw") => "a line",
            path if path.starts_with("/services/collector") => r#"{"event": "x"}"#,
            _ => "",
        };
        (Vec::new(), body.into())
    }
}

/// A port where nobody may do anything without a credential, and a token of each role.
async fn start() -> (Data, Port, Vec<(&'static str, &'static [&'static str], String)>) {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "");
    let tokens = ROLES.map(|(role, rights)| {
        let mut options = vec!["--role", role];
        if rights.contains(&"submit") {
            options.extend(["--source", "ci"]);
        }
        (role, rights, data.token(&options))
    });
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let metrics = server.metrics_address();
    let port = Port {
        server,
        metrics,
        hook,
    };
    let there = submission(event("there", "data"));
    let admin = tokens[3].2.clone();
    submitter(&port.server, Some(&admin)).submit(there).await.unwrap();
    (data, port, tokens.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_open_to_whom_the_table_names_and_to_nobody_else() {
    let (data, port, tokens) = start().await;
    let revoked = data.token(&["--role", "admin", "--source", "ci"]);
    let is_answered = async |expected: Answer| {
        let call = "/counterfoil.v1.ReadService/GetTreeHead";
        let answer = port.call(call, false, Some(&revoked)).await;
        (answer == expected).then_some(())
    };
    super::eventually(async || is_answered(Answer::Served).await).await;
    revoke(&data, &revoked);
    super::eventually(async || is_answered(Answer::Unauthenticated).await).await;
    let (head, secret) = tokens[3].2.rsplit_once('_').unwrap();
    let wrong = [
        revoked,
        // The right id, and another secret.
        format!("{head}_{}", secret.chars().rev().collect::<String>()),
        format!("cft_{}_{}", "0".repeat(16), "0".repeat(64)),
        "cft_".to_owned(),
        "neither.a.token".to_owned(),
    ];
    let mut called = BTreeSet::new();
    for (call, needs) in rows() {
        let both = [
            (needs.split(';').next().unwrap(), false),
            (if needs.contains(';') { "audit" } else { "" }, true),
        ];
        for (right, private) in both.into_iter().filter(|(right, _)| !right.is_empty()) {
            let open = ["nothing", "signature"].contains(&right);
            let expect = |answer| if open { Answer::Served } else { answer };
            let what = format!("{call}, private: {private}");
            for (role, rights, token) in &tokens {
                let expected = if open || rights.contains(&right) {
                    Answer::Served
                } else {
                    Answer::Forbidden
                };
                assert_eq!(
                    port.call(&call, private, Some(token)).await,
                    expected,
                    "{what}, {role}"
                );
            }
            for token in &wrong {
                let answer = port.call(&call, private, Some(token)).await;
                // So it is in Splunk's protocol.
                let refused = if call.starts_with("POST /services/collector") {
                    Answer::Forbidden
                } else {
                    Answer::Unauthenticated
                };
                assert_eq!(answer, expect(refused), "{what}, {token}");
            }
            assert_eq!(
                port.call(&call, private, None).await,
                expect(Answer::Unauthenticated),
                "{what}"
            );
        }
        called.insert(call);
    }
    assert_eq!(called.len(), 29);
}

fn revoke(data: &Data, token: &str) {
    let id = token.split('_').nth(1).unwrap();
    let output = counterfoild()
        .args(["token", "revoke", id, "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anonymous_may_do_the_file_says() {
    let (data, port, tokens) = start().await;
    set_access(&data, "anonymous = [\"read\"]");
    let head = async || {
        let mut reader = reader(&port.server, None);
        reader.get_tree_head(v1::GetTreeHeadRequest::default()).await.ok()
    };
    super::eventually(head).await;
    for (call, needs) in rows() {
        let right = needs.split(';').next().unwrap();
        let expected = if ["nothing", "signature", "check", "read"].contains(&right) {
            Answer::Served
        } else {
            // A credential would help.
            Answer::Unauthenticated
        };
        assert_eq!(port.call(&call, false, None).await, expected, "{call}");
        if needs.contains(';') {
            assert_eq!(
                port.call(&call, true, None).await,
                Answer::Unauthenticated,
                "{call}"
            );
        }
    }
    // Whoever shows a credential may do what that is good for, and not what everyone may.
    let submits = &tokens[0].2;
    let tile = "GET /logs/{log}/tile/{*tile}";
    assert_eq!(port.call(tile, false, Some(submits)).await, Answer::Forbidden);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_use_a_log_does_not_learn_whether_it_is_there() {
    let (data, _main) = Data::with_main_log();
    data.init("secret", "blake3");
    set_access(&data, "anonymous = []");
    let token = data.token(&["--role", "admin", "--source", "ci", "--log", "main"]);
    let server = Server::start(&data, &[]);
    let mut answers = Vec::new();
    for name in ["secret", "absent"] {
        for token in [None, Some(token.as_str())] {
            let request = v1::GetTreeHeadRequest {
                log: name.to_owned(),
                known_tree_size: 0,
            };
            let status = reader(&server, token).get_tree_head(request).await.unwrap_err();
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer
                .iter()
                .map(|bearer| ("authorization", bearer.as_str()))
                .collect();
            let path = format!("/logs/{name}/checkpoint");
            let http = http_request(server.address(), "GET", &path, &headers);
            answers.push((
                status.code(),
                status.message().replace(name, ""),
                http.status,
                String::from_utf8(http.body).unwrap().replace(name, ""),
            ));
        }
    }
    assert_eq!(answers[..2], answers[2..]);
    assert_eq!(answers[0].0, Code::Unauthenticated);
    assert_eq!((answers[1].0, answers[1].2), (Code::PermissionDenied, 403));
}

/// A refusal in gRPC is a 200 to HTTP. A cache would keep it for all who get that path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_refused_in_http_whatever_type_it_names() {
    let (_data, port, _tokens) = start().await;
    let headers = [
        ("content-type", "application/grpc"),
        ("authorization", "Bearer x"),
    ];
    for (path, status) in [
        ("/logs/main/checkpoint", 401),
        ("/logs/main/tile/entries/000.p/1", 401),
        ("/counterfoil.v9.ReadService/GetTreeHead", 404),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = http_request(port.server.address(), method, path, &headers);
            let told = (answer.status, answer.header("cache-control"));
            assert_eq!(told, (status, "no-store"), "{method} {path}");
        }
    }
}

/// Whoever may submit to no log could fill the memory for what others send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_make_a_call_nowhere_is_told_before_its_message_comes() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "anonymous = []");
    let reads = data.token(&["--role", "read"]);
    // A token without a source, whatever its role is, submits nothing.
    let admin = data.token(&["--role", "admin"]);
    let server = Server::start(&data, &[]);
    let needs = "this needs the right to submit to a log";
    for (token, code, says) in [
        (None, Code::Unauthenticated, needs),
        (Some(&reads), Code::PermissionDenied, needs),
        (Some(&admin), Code::PermissionDenied, "names no source"),
    ] {
        let mut client = Grpc::new(authorized(&server, token.map(String::as_str)));
        client.ready().await.unwrap();
        let never = Request::new(tokio_stream::pending::<v1::SubmitRequest>());
        let path = PathAndQuery::from_static("/counterfoil.v1.SubmitService/Submit");
        let codec = ProstCodec::<_, v1::SubmitResponse>::default();
        assert_denied(client.client_streaming(never, path, codec).await, code, says);
    }
}

/// Paths that are spelled in another way, or are none: they lead to nothing, whoever asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_spelling_leads_around_the_table() {
    let (_data, port, tokens) = start().await;
    let admin = format!("Bearer {}", tokens[3].2);
    for path in [
        "/logs/main/tile/entries/000.p/1/",
        "//logs/main/tile/entries/000.p/1",
        "/./logs/main/tile/entries/000.p/1",
        "/hooks/../logs/main/tile/entries/000.p/1",
        "/hooks/x/../../logs/main/tile/entries/000.p/1",
        "/hooks/%2e%2e/logs/main/tile/entries/000.p/1",
        "/health/../logs/main/tile/entries/000.p/1",
        "/logs/main%2Ftile%2Fentries%2F000.p%2F1",
        "/%6cogs/main/tile/entries/000.p/1",
        "/LOGS/main/tile/entries/000.p/1",
        "/logs/main/tile/entries/000.p/1?x",
        "/metrics",
        "/admin",
        "/",
    ] {
        for headers in [&[][..], &[("authorization", admin.as_str())]] {
            let answer = http_request(port.server.address(), "GET", path, headers);
            let refused = [404, 405].contains(&answer.status) || (answer.status == 401 && headers.is_empty());
            assert!(refused, "{path}: {answer:?}");
        }
    }
}
