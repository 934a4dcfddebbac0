//! `counterfoil import git` into a log that takes no event of a stream.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    fs,
    future::poll_fn,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request as HttpRequest, Response as HttpResponse, header::AUTHORIZATION},
    routing::get,
};
use counterfoil_proto::v1::{
    self, Reason,
    submit_result::Outcome,
    submit_service_client::SubmitServiceClient,
    submit_service_server::{SubmitService, SubmitServiceServer},
};
use counterfoil_tests::{Data, Server, TestLog, WitnessData, counterfoil};
use flate2::{Compression, write::ZlibEncoder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming, codegen::Service as _, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

const FIRST: &str = "ee31c31ea23072ed873deb0b9152039ed7349144";
const SECOND: &str = "3aa80168a27819875c004e4820305db547fbe464";

/// A repository with two commits.
fn make_repository(path: &Path) {
    let commit = |parents: &str, time: u32, message: &str| {
        format!(
            "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n{parents}author A <a> {time} +0000\n\
             committer A <a> {time} +0000\n\n{message}\n"
        )
    };
    let parent = format!("parent {FIRST}\n");
    for (id, content) in [
        (FIRST, commit("", 1, "first")),
        (SECOND, commit(&parent, 2, "second")),
    ] {
        let directory = path.join("objects").join(&id[..2]);
        fs::create_dir_all(&directory).unwrap();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        write!(encoder, "commit {}\0{content}", content.len()).unwrap();
        fs::write(directory.join(&id[2..]), encoder.finish().unwrap()).unwrap();
    }
    fs::create_dir_all(path.join("refs/heads")).unwrap();
    fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(path.join("refs/heads/main"), format!("{SECOND}\n")).unwrap();
    fs::write(
        path.join("config"),
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    )
    .unwrap();
}

/// A server in front of another one, that refuses each event of a stream.
#[derive(Clone)]
struct Reluctant {
    server: Channel,
    says: Reason,
    /// Whether it takes an event that comes alone.
    relents: bool,
    /// What came with each stream and each event that came alone.
    credentials: Arc<Mutex<Vec<String>>>,
    /// How many tokens the runner gave away.
    tokens: Arc<AtomicU64>,
}

impl Reluctant {
    async fn start(server: &Server, says: Reason, relents: bool) -> (Self, SocketAddr) {
        let reluctant = Self {
            server: server.connection(),
            says,
            relents,
            credentials: Arc::default(),
            tokens: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route_service(
                "/counterfoil.v1.SubmitService/{*call}",
                SubmitServiceServer::new(reluctant.clone()),
            )
            .route("/token", get(token))
            .fallback(pass_on)
            .with_state(reluctant.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (reluctant, address)
    }

    fn note<T>(&self, request: &Request<T>) {
        let credential = request.metadata().get("authorization").unwrap();
        let credential = credential.to_str().unwrap().to_owned();
        self.credentials.lock().unwrap().push(credential);
    }

    fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap().clone()
    }
}

/// What a runner of GitHub Actions answers: a new ID token each time.
async fn token(State(reluctant): State<Reluctant>) -> String {
    let number = reluctant.tokens.fetch_add(1, Ordering::Relaxed);
    json!({ "value": format!("token-{number}") }).to_string()
}

/// The server behind this one asks for no credential.
async fn pass_on(State(reluctant): State<Reluctant>, mut request: HttpRequest<Body>) -> HttpResponse<Body> {
    request.headers_mut().remove(AUTHORIZATION);
    let mut server = reluctant.server;
    poll_fn(|context| server.poll_ready(context)).await.unwrap();
    let answer = server.call(request.map(tonic::body::Body::new)).await.unwrap();
    answer.map(Body::new)
}

#[tonic::async_trait]
impl SubmitService for Reluctant {
    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<v1::SubmitStreamResponse, Status>> + Send>>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        self.note(&request);
        if !self.relents {
            let reason = self.says.as_str_name().trim_start_matches("REASON_");
            let mut details = ErrorDetails::with_error_info(reason, "counterfoil", HashMap::new());
            details.set_retry_info(Some(Duration::from_millis(1)));
            return Err(Status::with_error_details(
                Code::ResourceExhausted,
                "not today",
                details,
            ));
        }
        let mut server = SubmitServiceClient::new(self.server.clone());
        server.submit(request.into_inner()).await
    }

    async fn submit_batch(
        &self,
        _: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        Err(Status::unimplemented("an import sends none"))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.note(&request);
        let reason: i32 = self.says.into();
        let answers = request.into_inner().map(move |request| {
            let refused = v1::Refused {
                reason,
                message: "not today".to_owned(),
                retry_after_ms: 1,
                ..v1::Refused::default()
            };
            let result = v1::SubmitResult {
                sequence: request?.sequence,
                outcome: Some(Outcome::Refused(refused)),
            };
            Ok::<_, Status>(v1::SubmitStreamResponse {
                tree_heads: vec![],
                results: vec![result],
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn import(data: &Data, log: &TestLog, server: SocketAddr) -> Output {
    let repository = data.beside("repository.git");
    make_repository(&repository);
    counterfoil()
        .args(["import", "git", "--json"])
        .arg(repository)
        .args(["--server", &format!("http://{server}"), "--oidc-audience", "log"])
        .args(["--log-key", &log.key().to_string(), "--state-dir"])
        .arg(data.beside("state"))
        .env(
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            format!("http://{server}/token?job=1"),
        )
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
        .output()
        .unwrap()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(bytes)))
}

/// An ID token may be good for one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_was_no_room_for_is_sent_again_with_a_new_token() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let (reluctant, address) = Reluctant::start(&server, Reason::QueueFull, true).await;
    let output = import(&data, &log, address);
    assert!(output.status.success(), "{output:?}");
    let summary = json_of(&output.stdout);
    assert_eq!((&summary["new"], &summary["refused"]), (&json!(2), &json!([])));
    assert_eq!(
        reluctant.credentials(),
        ["Bearer token-0", "Bearer token-1", "Bearer token-2"]
    );
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_stays_full_is_a_reason_to_try_again() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let (reluctant, address) = Reluctant::start(&server, Reason::QueueFull, false).await;
    let output = import(&data, &log, address);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let refused = [FIRST, SECOND].map(|id| format!("{id}: not today"));
    assert_eq!(json_of(&output.stdout)["refused"], json!(refused));
    assert_eq!(json_of(&output.stderr)["error"]["kind"], "unavailable");
    // Once in the stream, and each twenty times more.
    assert_eq!(reluctant.credentials().len(), 1 + 2 * 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_can_not_write_ends_the_import_at_once() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let (reluctant, address) = Reluctant::start(&server, Reason::WriteFailed, false).await;
    let output = import(&data, &log, address);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = &json_of(&output.stderr)["error"];
    assert_eq!(error["reason"], "WRITE_FAILED");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(FIRST) && !message.contains(SECOND), "{message}");
    assert_eq!(reluctant.credentials(), ["Bearer token-0"]);
}

/// Their heads are the log's word for what it took, and that is all that an import asks for.
#[test]
fn an_import_does_not_wait_for_witnesses() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let repository = data.beside("repository.git");
    make_repository(&repository);
    let policy = data.beside("log.policy");
    let witness = WitnessData::init("witness.example/one");
    let lines = format!("log {}\nwitness one {}\nquorum one\n", log.key(), witness.key());
    fs::write(&policy, lines).unwrap();
    for (new, already_on_record) in [(2, 0), (0, 2)] {
        let output = counterfoil()
            .args(["import", "git", "--json"])
            .arg(&repository)
            .args(["--server", &format!("http://{}", server.address()), "--policy"])
            .arg(&policy)
            .arg("--state-dir")
            .arg(data.beside("state"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let summary = json_of(&output.stdout);
        assert_eq!(
            (&summary["new"], &summary["already_on_record"]),
            (&json!(new), &json!(already_on_record))
        );
        // The two, behind the first entry of every log.
        assert_eq!(summary["tree_size"], 3);
    }
}

#[test]
fn what_is_no_repository_is_told_before_the_log_is_asked() {
    let (data, log) = Data::with_main_log();
    let output = counterfoil()
        .args(["import", "git", "--json"])
        .arg(data.path())
        .args(["--server", "http://127.0.0.1:1", "--log-key"])
        .arg(log.key().to_string())
        .arg("--state-dir")
        .arg(data.beside("state"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(json_of(&output.stderr)["error"]["kind"], "usage");
}
