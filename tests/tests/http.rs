//! HTTP on the server's port: paths, caching, methods, protocols, and clients that take their time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use counterfoil_event::EventKey;
use counterfoil_merkle::{LeafIndex, Suite};
use counterfoil_note::HeadError;
use counterfoil_proto::v1;
use counterfoil_store::{Store, StoreOptions};
use counterfoil_tests::{
    Connection, Data, HttpResponse, Server, TestLog, assert_pushed_back, event,
    frames::{END_HEADERS, END_STREAM, Frames, PREFACE, frame, kind, request},
    head, http_get, http_over, http_request, submission,
};
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    client::GrpcService,
    codegen::http,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

async fn submit_to(server: &Server, log: &TestLog, size: u64) {
    let request = v1::SubmitBatchRequest {
        log: log.name.clone(),
        events: (1..size).map(|number| event(number.to_string(), "")).collect(),
    };
    server.submitter().submit_batch(request).await.unwrap();
    head(&mut server.reader(), log, size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_has_one_spelling() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    submit_to(&server, &log, 300).await;
    let status = |path: &str| http_get(server.address(), path).status;
    for path in [
        "/health",
        "/logs/main/checkpoint",
        "/logs/main/tile/0/000",
        "/logs/main/tile/0/000.p/255",
        "/logs/main/tile/0/001.p/44",
        "/logs/main/tile/1/000.p/1",
        "/logs/main/tile/entries/000",
        "/logs/main/tile/entries/000.p/1",
        "/logs/main/tile/entries/001.p/44",
    ] {
        assert_eq!(status(path), 200, "{path}");
    }
    for path in [
        // Logs that are not there, or can't be.
        "/",
        "/logs",
        "/logs/",
        "/logs/main",
        "/logs/main/",
        "/logs/other/checkpoint",
        "/logs/Main/checkpoint",
        "/logs/../logs/main/checkpoint",
        "/logs//checkpoint",
        "/logs/%6dain/checkpoint",
        // Beyond the tree, or not full yet.
        "/logs/main/tile/0/001",
        "/logs/main/tile/0/001.p/45",
        "/logs/main/tile/0/002.p/1",
        "/logs/main/tile/1/000",
        "/logs/main/tile/1/000.p/2",
        "/logs/main/tile/2/000.p/1",
        "/logs/main/tile/63/000.p/1",
        "/logs/main/tile/entries/001",
        "/logs/main/tile/entries/001.p/45",
        "/logs/main/tile/entries/x018/x446/x744/x073/x709/x551/615",
        // Other spellings.
        "/logs/main/tile/0/000.p/0",
        "/logs/main/tile/0/000.p/256",
        "/logs/main/tile/0/000.p/01",
        "/logs/main/tile/0/0",
        "/logs/main/tile/00/000",
        "/logs/main/tile/64/000",
        "/logs/main/tile/0/x000/000",
        "/logs/main/tile/data/000",
        "/logs/main/tile/8/0/000",
        "/logs/main/checkpoint/",
        "/logs/main/tile/0/000/",
        "/logs/main//checkpoint",
        "//logs/main/checkpoint",
        "/logs/main/tile//0/000",
        "/logs/main/./checkpoint",
        "/logs/main/tile/../checkpoint",
        "/logs/main/%63heckpoint",
        "/logs/main%2fcheckpoint",
        "/logs/main/tile/0/%30%30%30",
        "/logs/main/tile/0/000%00",
        "/logs/main/checkpoint?",
        "/logs/main/checkpoint?a=b",
        "/logs/main/tile/0/000?x",
        "/logs/main/checkpoint;a",
        "/logs/main/CHECKPOINT",
        "/logs/main/keys",
        "/logs/main/tile/0/000.p/1/../../../../../keys",
        "/metrics",
    ] {
        let response = http_get(server.address(), path);
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(
            response.header("content-type"),
            "text/plain; charset=utf-8",
            "{path}"
        );
        assert_eq!(response.header("cache-control"), "no-store", "{path}");
        assert!((1..200).contains(&response.body.len()), "{path}");
    }
    // Too long to be read at all: refused, and nothing else breaks.
    let long = format!("/logs/main/{}", "x".repeat(100_000));
    assert!((400..500).contains(&status(&long)));
    assert_eq!(status("/logs/main/checkpoint"), 200);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_say_how_long_they_hold() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    submit_to(&server, &log, 300).await;
    let get = |path: &str, headers: &[(&str, &str)]| http_request(server.address(), "GET", path, headers);
    let paths = [
        ("checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
        (
            "tile/0/000",
            "application/octet-stream",
            "public, max-age=604800, immutable",
        ),
        (
            "tile/1/000.p/1",
            "application/octet-stream",
            "public, max-age=604800, immutable",
        ),
        (
            "tile/entries/001.p/3",
            "application/octet-stream",
            "public, max-age=604800, immutable",
        ),
    ];
    for (path, content_type, caching) in paths {
        let path = format!("/logs/main/{path}");
        let response = get(&path, &[]);
        assert_eq!(response.header("content-type"), content_type);
        assert_eq!(response.header("cache-control"), caching);
        assert_eq!(response.header("content-encoding"), "");
        assert_eq!(response.header("content-length"), response.body.len().to_string());
        let tag = response.header("etag").to_owned();
        // The same to HEAD, but for the body.
        let headers = |response: &HttpResponse| {
            let mut headers = response.headers.clone();
            headers.retain(|(name, _)| name != "date");
            headers
        };
        let same = http_request(server.address(), "HEAD", &path, &[]);
        assert_eq!((same.status, same.body.len()), (200, 0));
        assert_eq!(headers(&same), headers(&response));
        // Asked whether it changed, in any of the ways.
        let opaque = tag.trim_start_matches("W/");
        for known in [
            tag.clone(),
            format!("\"other\" , {opaque}"),
            format!("W/{opaque}"),
            "*".to_owned(),
        ] {
            let unchanged = get(&path, &[("if-none-match", &known), ("accept-encoding", "gzip")]);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{known}");
            assert_eq!(unchanged.header("etag"), tag);
            assert_eq!(unchanged.header("cache-control"), caching);
        }
        for unknown in ["\"other\"", "", opaque.trim_matches('"')] {
            assert_eq!(get(&path, &[("if-none-match", unknown)]).status, 200, "{unknown}");
        }
        // A body is not looked at.
        assert_eq!(get(&path, &[("content-length", "0")]).body, response.body);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let refused = http_request(server.address(), method, &path, &[]);
            assert_eq!(
                (refused.status, refused.header("allow")),
                (405, "GET,HEAD"),
                "{method}"
            );
            assert_ne!(refused.body.len(), 0);
        }
    }
    let bodies: Vec<_> = ["tile/0/000", "tile/0/000.p/255", "tile/entries/000"]
        .map(|path| get(&format!("/logs/main/{path}"), &[]).header("etag").to_owned())
        .into();
    assert!(bodies[0] != bodies[1] && bodies[1] != bodies[2] && bodies[0] != bodies[2]);
    let newer = event("newer", "");
    let before = get("/logs/main/checkpoint", &[]).header("etag").to_owned();
    server
        .submitter()
        .submit(counterfoil_tests::submission(newer))
        .await
        .unwrap();
    head(&mut server.reader(), &log, 301).await;
    assert_eq!(
        get("/logs/main/checkpoint", &[("if-none-match", &before)]).status,
        200
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_compressed_for_those_who_ask() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    submit_to(&server, &log, 300).await;
    let get = |path: &str, accept: &str| {
        http_request(server.address(), "GET", path, &[("accept-encoding", accept)])
    };
    let plain = get("/logs/main/tile/entries/000", "identity");
    assert_eq!(
        (plain.header("content-encoding"), plain.header("vary")),
        ("", "accept-encoding")
    );
    for accept in ["gzip", "br, gzip;q=0.5", "deflate, *;q=0, gzip"] {
        let packed = get("/logs/main/tile/entries/000", accept);
        assert_eq!(packed.header("content-encoding"), "gzip", "{accept}");
        assert_eq!(packed.header("vary"), "accept-encoding");
        assert_eq!(packed.header("content-length"), packed.body.len().to_string());
        assert!(packed.body.len() < plain.body.len() / 2);
        let mut body = Vec::new();
        GzDecoder::new(packed.body.as_slice())
            .read_to_end(&mut body)
            .unwrap();
        assert_eq!(body, plain.body);
    }
    for accept in ["gzip;q=0", "br", "", "identity"] {
        let response = get("/logs/main/tile/entries/000", accept);
        assert_eq!(
            (response.header("content-encoding"), &response.body),
            ("", &plain.body),
            "{accept}"
        );
    }
    for path in [
        "/logs/main/tile/0/000",
        "/logs/main/checkpoint",
        "/logs/main/none",
    ] {
        let response = get(path, "gzip");
        assert_eq!(
            (response.header("content-encoding"), response.header("vary")),
            ("", ""),
            "{path}"
        );
    }
    server.stop();
}

/// Not 404: readers would take it for an entry that is not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_the_servers_fault() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    submit_to(&server, &log, 600).await;
    server.stop();
    let database = data.path().join("logs/main/db");
    let store = Store::open(&database, &StoreOptions::default()).unwrap();
    let mut batch = store.batch();
    let (index, hash) = (LeafIndex::new(5).unwrap(), Suite::Blake3.leaf_hash(b""));
    batch.put_leaf(index, &[0; 70_000], b"", &hash, &EventKey::new("", ""));
    batch.write().unwrap();
    drop(store);

    let server = Server::start(&data, &[]);
    let broken = http_get(server.address(), "/logs/main/tile/entries/000");
    assert_eq!((broken.status, broken.header("cache-control")), (500, "no-store"));
    assert!(String::from_utf8(broken.body).unwrap().contains("fsck"));
    assert!(server.errors().contains("entry 5"), "{}", server.errors());
    assert_eq!(
        http_get(server.address(), "/logs/main/tile/entries/000.p/5").status,
        200
    );
    assert_eq!(
        http_get(server.address(), "/logs/main/tile/entries/001").status,
        200
    );
    assert_eq!(http_get(server.address(), "/logs/main/tile/0/000").status, 200);
    server.stop();
}

/// In HTTP/2, on the connection of gRPC.
async fn get_over(channel: &mut Channel, path: &str) -> (u16, Vec<u8>) {
    poll_fn(|context| GrpcService::<tonic::body::Body>::poll_ready(channel, context))
        .await
        .unwrap();
    let request = http::Request::get(path).body(tonic::body::Body::empty()).unwrap();
    let response = GrpcService::call(channel, request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let status = response.status().as_u16();
    (
        status,
        response.into_body().collect().await.unwrap().to_bytes().into(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_speaks_http1_and_http2_and_grpc() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let mut channel = server.connection();
    let (status, note) = get_over(&mut channel, "/logs/main/checkpoint").await;
    let signed = log.key().verify_head(&note).unwrap();
    assert_eq!((status, signed.size().get()), (200, 1));
    assert_eq!(get_over(&mut channel, "/logs/main/none").await.0, 404);
    assert_eq!(http_get(server.address(), "/logs/main/checkpoint").body, note);
    // Who calls a service that is not there is told so in gRPC.
    let mut stranger = tonic::client::Grpc::new(channel);
    stranger.ready().await.unwrap();
    let status = stranger
        .unary::<v1::GetTreeHeadRequest, v1::GetTreeHeadResponse, _>(
            tonic::Request::new(v1::GetTreeHeadRequest::default()),
            http::uri::PathAndQuery::from_static("/counterfoil.v9.ReadService/GetTreeHead"),
            tonic_prost_codec(),
        )
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(matches!(
        data.init("other", "blake3").key().verify_head(&note),
        Err(HeadError::OtherOrigin { .. })
    ));
    server.stop();
}

fn tonic_prost_codec() -> tonic_prost::ProstCodec<v1::GetTreeHeadRequest, v1::GetTreeHeadResponse> {
    tonic_prost::ProstCodec::default()
}

fn tls_client(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    protocols: &[&str],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("log.test.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_too() {
    let (data, log) = Data::with_main_log();
    let identity = data.identity(&["log.test.example"]);
    let server = Server::start(&data, &identity.options());
    // Some clients name HTTP/1.1, some name nothing.
    for protocols in [&["http/1.1"][..], &[]] {
        let stream = tls_client(server.address(), identity.certificate.der(), protocols);
        let response = http_over(stream, "GET", "/logs/main/checkpoint", &[]);
        log.key().verify_head(&response.body).unwrap();
    }
    // One that has something else to say than either is turned away in the handshake.
    let mut stream = tls_client(server.address(), identity.certificate.der(), &["http/0.9"]);
    assert!(
        stream
            .write_all(b"GET /")
            .and_then(|()| stream.read(&mut [0]))
            .is_err()
    );
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(identity.certificate.pem()))
        .domain_name("log.test.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address())).unwrap();
    let mut channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let (status, note) = get_over(&mut channel, "/logs/main/checkpoint").await;
    assert_eq!(status, 200);
    log.key().verify_head(&note).unwrap();
    server.stop();
}

/// Whoever opens a connection and dawdles holds up neither others nor the end. Half of a request is a call under way: that
/// one does get its ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_nobody_up() {
    let (data, _log) = Data::with_main_log();
    let identity = data.identity(&["log.test.example"]);
    for options in [&identity.options()[..], &[]] {
        let server = Server::start(&data, options);
        let mut slow = Vec::new();
        for number in 0..200 {
            let mut connection = TcpStream::connect(server.address()).unwrap();
            // Nothing, half of the first word of HTTP/2, half of a TLS record.
            let said: &[u8] = match number % 3 {
                0 => b"",
                1 => b"PR",
                _ if options.is_empty() => b"P",
                _ => b"\x16\x03\x01\x02\x00\x01",
            };
            connection.write_all(said).unwrap();
            slow.push(connection);
        }
        let request = "GET /logs/main/checkpoint HTTP/1.1\r\nhost: log.test.example\r\n\r\n";
        let mut answered = [0; 15];
        if options.is_empty() {
            // And one that was answered, and stays.
            let mut connection = TcpStream::connect(server.address()).unwrap();
            connection.write_all(request.as_bytes()).unwrap();
            connection.read_exact(&mut answered).unwrap();
            slow.push(connection);
        } else {
            let mut connection = tls_client(server.address(), identity.certificate.der(), &[]);
            connection.write_all(request.as_bytes()).unwrap();
            connection.read_exact(&mut answered).unwrap();
        }
        assert_eq!(&answered, b"HTTP/1.1 200 OK");
        server.terminate();
        let mut server = server;
        assert_eq!(server.wait().code(), Some(0));
        assert!(!server.errors().contains("cut off"), "{}", server.errors());
        drop(slow);
    }
}

/// Connections are counted. When all are taken, those that have been silent for a second make room.
#[test]
fn silent_connections_make_room() {
    const LIMIT: usize = 1024;
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let mut open: Vec<_> = (0..LIMIT).map(|_| Connection::to(server.address())).collect();
    for connection in &mut open {
        assert_eq!(connection.send("GET", "/health", "").status, 200);
    }

    // Whoever keeps silent keeps nobody out, and those who are heard of stay.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(open[0].send("GET", "/health", "").status, 200);
    let mut others: Vec<_> = (0..100).map(|_| Connection::to(server.address())).collect();
    for other in &mut others {
        assert_eq!(other.send("GET", "/logs/main/checkpoint", "").status, 200);
    }
    assert_eq!(open[0].send("GET", "/health", "").status, 200);
    assert!(open[1..=100].iter_mut().all(Connection::is_closed));
    assert_eq!(open[LIMIT - 1].send("GET", "/health", "").status, 200);
    drop((open, others));
    drop(log);
    server.stop();
}

/// Begins to submit on as many connections as there may be.
async fn take_all_connections(server: &Server) -> Vec<impl Sized + use<>> {
    let mut streams = Vec::new();
    for _ in 0..1024 {
        let (requests, received) = mpsc::channel::<v1::SubmitStreamRequest>(1);
        let received = ReceiverStream::new(received);
        let answers = server.submitter().submit_stream(received).await;
        streams.push((requests, answers.unwrap()));
    }
    streams
}

/// Whoever submits in a stream is being served and stays. Who comes when all are served is told the server's health, and else to come
/// back.
#[tokio::test]
async fn a_connection_too_many_is_put_off_at_once() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let is_counted = |count: u32| {
        let metrics = String::from_utf8(http_get(server.metrics_address(), "/metrics").body).unwrap();
        let line = format!("counterfoil_connections_put_off_total {count}\n");
        assert!(metrics.contains(&line), "no {line}in {metrics}");
    };
    let mut streams = take_all_connections(&server).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    is_counted(0);
    let refused = server
        .submitter()
        .submit(submission(event("one", "one")))
        .await
        .unwrap_err();
    assert_pushed_back(&refused, "QUEUE_FULL");
    let mut health = HealthClient::new(server.connection());
    let told = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(told.into_inner().status(), ServingStatus::Serving);
    is_counted(2);
    let checkpoint = Connection::to(server.address()).send("GET", "/logs/main/checkpoint", "");
    assert_eq!(
        (
            checkpoint.status,
            checkpoint.header("retry-after"),
            checkpoint.header("connection")
        ),
        (503, Some("1"), Some("close"))
    );
    assert!(checkpoint.body.contains("QUEUE_FULL"), "{checkpoint:?}");
    assert_eq!(
        Connection::to(server.address()).send("GET", "/health", "").status,
        200
    );
    is_counted(4);
    assert!(
        server.errors().contains("1024 connections are open"),
        "{}",
        server.errors()
    );
    // It waits for nobody: one who leaves makes room.
    streams.pop();
    submit_in_the_end(&server).await;
    drop(streams);
    server.stop();
}

/// Submits until it is put off no more.
async fn submit_in_the_end(server: &Server) {
    let submitted = async {
        while let Err(status) = server.submitter().submit(submission(event("one", "one"))).await {
            assert_pushed_back(&status, "QUEUE_FULL");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), submitted)
        .await
        .unwrap();
}

/// Peers who ask after the server's health and have no room for the answer.
fn without_room(server: &Server, count: usize) -> Vec<Frames> {
    let no_window = [&4_u16.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    let asked = [
        PREFACE.to_vec(),
        frame(kind::SETTINGS, 0, 0, &no_window),
        frame(
            kind::HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &request("GET", "/health", &[]),
        ),
    ]
    .concat();
    let mut peers: Vec<_> = (0..count)
        .map(|_| {
            let mut peer = Frames::to(server.address());
            peer.write(&asked).unwrap();
            peer
        })
        .collect();
    for peer in &mut peers {
        assert_eq!(peer.until(kind::HEADERS).last().unwrap().0, kind::HEADERS);
    }
    peers
}

/// Whoever takes nothing of an answer is as silent as who asks nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_make_room() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let peers = without_room(&server, 1024);
    submit_in_the_end(&server).await;
    drop(peers);
    server.stop();
}

/// The same where all connections are being served, and those who take nothing are put off: they go in their time, and others are
/// answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_off_and_takes_no_answer_keeps_nobody_out() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let streams = take_all_connections(&server).await;
    for mut peer in without_room(&server, 64) {
        assert!(peer.is_closed_within(Duration::from_secs(10)));
    }
    let peers = without_room(&server, 64);
    let mut health = HealthClient::new(server.connection());
    let told = health.check(HealthCheckRequest::default());
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    assert_eq!(told.unwrap().into_inner().status(), ServingStatus::Serving);
    drop(streams);
    submit_in_the_end(&server).await;
    drop(peers);
    server.stop();
}

/// Whoever waits for heads, or for what anybody may know, is as silent as who says nothing: others do not wait until that tires
/// of it.
#[tokio::test]
async fn watches_make_room() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let (mut heads, mut states, mut questions) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..1024 {
        match number % 3 {
            0 => {
                let request = v1::WatchTreeHeadsRequest::default();
                let watched = server.reader().watch_tree_heads(request).await.unwrap();
                heads.push(watched.into_inner());
            }
            1 => {
                let mut health = HealthClient::new(server.connection());
                let state = health.watch(HealthCheckRequest::default()).await.unwrap();
                states.push(state.into_inner());
            }
            _ => {
                let mut reflection = ServerReflectionClient::new(server.connection());
                let asked = tokio_stream::pending::<ServerReflectionRequest>();
                let answers = reflection.server_reflection_info(asked).await.unwrap();
                questions.push(answers.into_inner());
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut others = Vec::new();
    for number in 0..4 {
        let mut client = server.submitter();
        let sent = submission(event(number.to_string(), ""));
        client.submit(sent).await.unwrap();
        others.push(client);
    }
    // Each is told what it asked for, and that it has to come again.
    let told = async {
        assert!(heads[0].message().await.unwrap().is_some());
        while let Ok(Some(_)) = heads[0].message().await {}
        assert!(states[0].message().await.unwrap().is_some());
        assert!(states[0].message().await.is_err());
        assert!(questions[0].message().await.is_err());
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    drop((heads, states, questions));
    server.stop();
}

/// Those who are put off and say nothing keep nobody waiting for longer than a moment, however many they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silence_is_passed_through() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let streams = take_all_connections(&server).await;
    let mut flood: Vec<_> = (0..4_500).map(|_| Connection::to(server.address())).collect();
    for address in [server.address(), server.metrics_address()] {
        let answer = Connection::to(address).send("GET", "/health", "");
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
    }
    // Whoever is not among the last was shown out.
    drop(flood.split_off(1_000));
    assert!(flood.iter_mut().all(Connection::is_closed));
    drop(streams);
    server.stop();
}
