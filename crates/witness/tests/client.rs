//! The client against witnesses that lie, flood, stall and refuse. Whatever they do, it ends with an error of its kind or with
//! a cosignature that holds.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use counterfoil_merkle::{Digest, Suite, TreeSize, verify_consistency};
use counterfoil_note::{CosignerSigner, NoteError, SignedHead, UnixSeconds};
use counterfoil_tests::MemoryLog;
use counterfoil_witness::{
    AddCheckpoint,
    client::{ClientError, Cosigned, HttpClient, WitnessClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const ORIGIN: &str = "log.example/main";

fn log(suite: Suite) -> MemoryLog {
    MemoryLog::new(ORIGIN, suite, 1)
}

fn head(log: &MemoryLog, size: u64) -> SignedHead {
    log_head(log, log.head(size).as_bytes())
}

fn signer() -> CosignerSigner {
    CosignerSigner::generate("witness.example/w1".parse().unwrap(), [50; 32])
}

/// The line that an honest witness answers with.
fn line(signer: &CosignerSigner, head: &SignedHead) -> String {
    format!(
        "{}\n",
        signer.cosign(head, UnixSeconds::new(1_800_000_000).unwrap())
    )
}

/// What a double sends, whatever it was asked.
#[derive(Clone)]
enum Reply {
    /// A status and a body, in proper form.
    Answer(&'static str, Vec<u8>),
    /// These bytes, then the connection ends.
    Raw(Vec<u8>),
    /// These bytes, then nothing more; the connection stays.
    Stall(Vec<u8>),
    /// These bytes, and then x without end.
    Flood(Vec<u8>),
}

fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply::Answer("200 OK", body.into())
}

fn conflict(body: &str) -> Reply {
    Reply::Answer("409 Conflict", body.into())
}

/// The first line of a request, and its body.
type Request = (String, Vec<u8>);

/// A witness that gives these answers in turn, the last one for ever.
struct Double {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Double {
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies: Arc<Mutex<VecDeque<Reply>>> = Arc::new(Mutex::new(replies.into_iter().collect()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, replies) = (seen.clone(), replies.clone());
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        seen.lock().unwrap().push(request);
                        let reply = {
                            let mut replies = replies.lock().unwrap();
                            let next = replies.front().unwrap().clone();
                            if replies.len() > 1 {
                                replies.pop_front();
                            }
                            next
                        };
                        if !send(&mut stream, reply).await {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, requests }
    }

    fn client(&self) -> WitnessClient {
        self.client_with(Duration::from_secs(20))
    }

    fn client_with(&self, timeout: Duration) -> WitnessClient {
        let http = HttpClient::new(timeout).unwrap();
        WitnessClient::new(http, &self.url, signer().verifier_key().clone()).unwrap()
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let headers = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = headers
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    while bytes.len() < end + length {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    Some((headers.lines().next().unwrap().to_owned(), bytes.split_off(end)))
}

/// Whether the connection goes on.
async fn send(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Answer(status, body) => {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await.is_ok()
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            false
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).await.unwrap();
            std::future::pending().await
        }
        Reply::Flood(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
            false
        }
    }
}

async fn cosign(client: &mut WitnessClient, log: &MemoryLog, size: u64) -> Result<Cosigned, ClientError> {
    let prove = |old: TreeSize| {
        let proof = log.proof(old.get(), size);
        async move { Ok::<Vec<Digest>, Infallible>(proof) }
    };
    client.cosign(&head(log, size), prove).await
}

/// What comes of one kind of answer, given again and again.
async fn outcome(reply: Reply) -> Result<Cosigned, ClientError> {
    let double = Double::start([reply]).await;
    cosign(&mut double.client(), &log(Suite::Sha256), 7).await
}

#[tokio::test]
async fn a_witness_is_asked_from_the_size_that_it_cosigned() {
    for suite in [Suite::Blake3, Suite::Sha256] {
        let log = log(suite);
        let cosignature = |size| ok(line(&signer(), &head(&log, size)));
        let double = Double::start([
            conflict("3\n"),
            cosignature(7),
            cosignature(7),
            cosignature(20),
            conflict("0\n"),
            cosignature(21),
        ])
        .await;
        let mut client = double.client();
        for size in [7, 7, 20, 21] {
            let cosigned = cosign(&mut client, &log, size).await.unwrap();
            let with_line = head(&log, size).with_signatures([cosigned.line]).unwrap();
            let verified = signer().verifier_key().verify_cosignature(&with_line).unwrap();
            assert_eq!(verified, Some(cosigned.cosignature));
        }
        let requests = double.requests();
        let sizes: Vec<_> = requests
            .iter()
            .map(|(line, body)| {
                assert_eq!(line, "POST /prefix/add-checkpoint HTTP/1.1");
                let request = AddCheckpoint::parse(body).unwrap();
                let sent = log_head(&log, request.checkpoint);
                if request.old == TreeSize::ZERO {
                    assert!(request.proof.is_empty());
                } else {
                    let old_root = log.root(request.old.get());
                    verify_consistency(
                        suite,
                        request.old,
                        old_root,
                        sent.size(),
                        sent.root(),
                        &request.proof,
                    )
                    .unwrap();
                }
                (request.old.get(), sent.size().get())
            })
            .collect();
        assert_eq!(sizes, [(0, 7), (3, 7), (7, 7), (7, 20), (20, 21), (0, 21)]);
    }
}

fn log_head(log: &MemoryLog, note: &[u8]) -> SignedHead {
    log.keys().next().unwrap().verify_head(note).unwrap()
}

#[tokio::test]
async fn only_the_line_of_the_configured_key_is_taken() {
    let log = log(Suite::Sha256);
    let seven = head(&log, 7);
    let other = CosignerSigner::generate("witness.example/w2".parse().unwrap(), [51; 32]);
    let namesake = CosignerSigner::generate("witness.example/w1".parse().unwrap(), [52; 32]);
    let (own, by_other, by_namesake) = (
        line(&signer(), &seven),
        line(&other, &seven),
        line(&namesake, &seven),
    );
    let of_the_log: String = seven
        .signatures()
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();

    let crowd = format!("{by_other}{of_the_log}{by_namesake}{own}");
    let cosigned = outcome(ok(crowd)).await.unwrap();
    assert_eq!(format!("{}\n", cosigned.line), own);

    for strangers in [by_other.clone(), by_namesake, of_the_log] {
        let refused = outcome(ok(strangers)).await;
        assert!(matches!(refused, Err(ClientError::OtherKey(_))), "{refused:?}");
    }
    // Of this key, and of another head: another size, or the same of another history.
    let forked = head(&MemoryLog::forked(ORIGIN, Suite::Sha256, 1, 3), 7);
    for of_another in [head(&log, 6), forked] {
        let refused = outcome(ok(line(&signer(), &of_another))).await;
        assert!(matches!(refused, Err(ClientError::Cosignature(_))), "{refused:?}");
    }
    // The first of two counts, as in a note, so a good one can't be hidden behind a bad one or the other way round.
    let refused = outcome(ok(line(&signer(), &head(&log, 6)) + &own)).await;
    assert!(matches!(refused, Err(ClientError::Cosignature(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_signature_line_is_refused() {
    let own = line(&signer(), &head(&log(Suite::Sha256), 7));
    for (body, problem) in [
        (String::new(), NoteError::NoFinalNewline),
        (own.trim_end().to_owned(), NoteError::NoFinalNewline),
        ("garbage\n".to_owned(), NoteError::MalformedSignature { line: 1 }),
        (format!("{own}\n"), NoteError::MalformedSignature { line: 2 }),
        (
            format!("{own}log.example/other\n5\n"),
            NoteError::MalformedSignature { line: 2 },
        ),
        (
            own.replace('\n', "\r\n"),
            NoteError::ControlCharacter {
                byte: b'\r',
                at: own.len() - 1,
            },
        ),
        (own.repeat(65), NoteError::TooManySignatures),
    ] {
        assert_eq!(outcome(ok(body)).await, Err(ClientError::Lines(problem)));
    }
    let not_utf8 = outcome(ok([b"\xff\xfe".as_slice(), own.as_bytes()].concat())).await;
    assert_eq!(not_utf8, Err(ClientError::Lines(NoteError::NotUtf8)));
}

#[tokio::test]
async fn conflicts_end() {
    // It names another size each time, or the one it was just given.
    for sizes in [&["1\n", "2\n", "3\n", "4\n"][..], &["3\n"], &["0\n"], &["7\n"]] {
        let double = Double::start(sizes.iter().map(|size| conflict(size))).await;
        let refused = cosign(&mut double.client(), &log(Suite::Blake3), 7).await;
        assert_eq!(refused, Err(ClientError::Unsettled));
        assert_eq!(double.requests().len(), 3);
    }
    for (size, witness) in [("8\n", 8), ("9223372036854775807\n", i64::MAX as u64)] {
        let ahead = ClientError::Ahead {
            witness: TreeSize::new(witness).unwrap(),
            head: TreeSize::new(7).unwrap(),
        };
        assert_eq!(outcome(conflict(size)).await, Err(ahead));
    }
    for nothing in [
        "",
        "\n",
        "7",
        "07\n",
        "+7\n",
        "-1\n",
        "7\n\n",
        "7 \n",
        "9223372036854775808\n",
        "seven\n",
    ] {
        assert_eq!(
            outcome(conflict(nothing)).await,
            Err(ClientError::NoSize),
            "{nothing:?}"
        );
    }
    // A size that it claimed is not held against it when it knows better.
    let log = log(Suite::Sha256);
    let good = ok(line(&signer(), &head(&log, 7)));
    let double = Double::start([conflict("99\n"), good]).await;
    let mut client = double.client();
    cosign(&mut client, &log, 7).await.unwrap_err();
    cosign(&mut client, &log, 7).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_named_and_what_comes_with_it_made_harmless() {
    let body = "no\u{1b}[31m \u{202e}way\ninjected: line\n";
    let told = |code: u16| format!("(status {code}, \"no?[31m ?way\")");
    for (status, words) in [
        (
            "400 Bad Request",
            format!("it calls the request malformed {}", told(400)),
        ),
        (
            "403 Forbidden",
            format!("it does not trust the log's keys {}", told(403)),
        ),
        ("404 Not Found", format!("it does not know the log {}", told(404))),
        (
            "422 Unprocessable Entity",
            format!(
                "it says that the head is not consistent with what it cosigned before {}",
                told(422)
            ),
        ),
        (
            "500 Internal Server Error",
            "it answered with status 500, \"no?[31m ?way\"".to_owned(),
        ),
        (
            "201 Created",
            "it answered with status 201, \"no?[31m ?way\"".to_owned(),
        ),
    ] {
        let refused = outcome(Reply::Answer(status, body.into())).await.unwrap_err();
        assert_eq!(refused.to_string(), words);
    }
    let long = outcome(Reply::Answer("400 Bad Request", vec![b'a'; 100_000]))
        .await
        .unwrap_err();
    assert!(long.to_string().len() < 250, "{long}");
    let flood = Reply::Flood(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    assert!(matches!(outcome(flood).await, Err(ClientError::Malformed(_))));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let double = Double::start([ok(line(&signer(), &head(&log(Suite::Sha256), 7)))]).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let target = format!(
            "HTTP/1.1 {status}\r\nLocation: {}add-checkpoint\r\nContent-Length: 0\r\n\r\n",
            double.url
        );
        let refused = outcome(Reply::Raw(target.into_bytes())).await;
        assert!(matches!(refused, Err(ClientError::Status(_))), "{refused:?}");
    }
    assert!(double.requests().is_empty());
}

#[tokio::test]
async fn floods_are_cut_off_and_stalls_end() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n".to_vec();
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for flood in [chunked, huge, endless] {
        assert_eq!(
            outcome(Reply::Flood(flood.clone())).await,
            Err(ClientError::TooLong)
        );
        let double = Double::start([Reply::Flood(flood)]).await;
        let newest = double.client().newest(&ORIGIN.parse().unwrap()).await;
        assert_eq!(newest, Err(ClientError::TooLong));
    }
    let broken = [
        Reply::Raw(vec![]),
        Reply::Raw(b"not HTTP at all\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec()),
        Reply::Flood(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
    ];
    for reply in broken {
        let refused = outcome(reply).await;
        assert!(matches!(refused, Err(ClientError::Unreachable(_))), "{refused:?}");
    }
    let stalls = [
        Reply::Stall(vec![]),
        Reply::Stall(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec()),
        Reply::Stall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n".to_vec()),
    ];
    let timeout = Duration::from_millis(50);
    for reply in stalls {
        let double = Double::start([reply]).await;
        let mut client = double.client_with(timeout);
        let refused = cosign(&mut client, &log(Suite::Blake3), 7).await;
        assert_eq!(refused, Err(ClientError::TimedOut(timeout)));
        let newest = client.newest(&ORIGIN.parse().unwrap()).await;
        assert_eq!(newest, Err(ClientError::TimedOut(timeout)));
    }
}

#[tokio::test]
async fn the_newest_head_is_read_by_the_origin_s_hash() {
    let double = Double::start([ok("whatever it says"), Reply::Answer("404 Not Found", vec![])]).await;
    let client = double.client();
    let origin = "example.com/behind-the-sofa".parse().unwrap();
    let newest = client.newest(&origin).await.unwrap();
    assert_eq!(newest.as_deref(), Some(b"whatever it says".as_slice()));
    assert_eq!(client.newest(&origin).await, Ok(None));
    // printf example.com/behind-the-sofa | sha256sum
    let path =
        "GET /prefix/5fd2dc0beb4ce54da5050cf6d5c75248b023abad441c3cecde3976fbe9da4fe4/checkpoint HTTP/1.1";
    assert_eq!(double.requests()[0].0, path);
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let http = HttpClient::new(Duration::from_secs(20)).unwrap();
    let client = WitnessClient::new(http, &nobody, signer().verifier_key().clone()).unwrap();
    let refused = client.newest(&origin).await;
    assert!(matches!(refused, Err(ClientError::Unreachable(_))), "{refused:?}");
}

#[test]
fn a_url_is_http_with_a_host_and_a_path() {
    let http = HttpClient::new(Duration::from_secs(1)).unwrap();
    let new = |url| WitnessClient::new(http.clone(), url, signer().verifier_key().clone());
    for good in [
        "http://w",
        "https://w:1/",
        "https://w.example/a/b",
        "http://[::1]:80/a/",
    ] {
        new(good).unwrap();
    }
    for bad in [
        "",
        "w.example",
        "ftp://w",
        "file:///etc/passwd",
        "https://",
        "https://w?q",
        "https://w/#f",
        "unix:/a",
    ] {
        new(bad).unwrap_err();
    }
}
