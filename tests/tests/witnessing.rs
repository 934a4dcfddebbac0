//! A log and its witnesses, all of them processes: heads are published with cosignatures, some witnesses fail and come back,
//! and what they remember keeps a log shut that lost it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{self, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode, Uri},
};
use counterfoil_note::{CosignedHead, CosignedHeadError, CosignerSigner, Policy, SignedHead};
use counterfoil_proto::{
    digests,
    v1::{
        self, leaf_selector::Leaf, read_service_client::ReadServiceClient,
        submit_service_client::SubmitServiceClient,
    },
};
use counterfoil_tests::{
    Connection, Data, Refusal, Replica, Server, TestLog, Witness, WitnessData, add_checkpoint, event, head,
    receipt_of, submit,
};
use counterfoil_verify::VerifiedReceipt;
use tokio::{net::TcpListener, sync::Mutex, time::sleep};
use tonic::{Code, transport::Channel};

const SUITES: [&str; 2] = ["blake3", "sha256"];

/// A witness that comes back where it was before, with what it remembers.
struct Post {
    name: &'static str,
    data: WitnessData,
    address: SocketAddr,
    running: Option<Witness>,
}

impl Post {
    fn new(name: &'static str, log: &TestLog) -> Self {
        let data = WitnessData::init(&format!("witness.example/{name}"));
        data.set_logs(&log.keys.iter().collect::<Vec<_>>());
        let running = Witness::start(&data);
        Self {
            name,
            data,
            address: running.address(),
            running: Some(running),
        }
    }

    fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    fn start_again(&mut self) {
        let options = ["--listen", &self.address.to_string()];
        self.running = Some(Witness::try_start_with(&self.data, &self.data.logs_path(), &options).unwrap());
    }

    fn policy_line(&self) -> String {
        format!(
            "witness {} {} http://{}/\n",
            self.name,
            self.data.key(),
            self.address
        )
    }
}

/// A log with three witnesses, of which two make a quorum.
struct Cast {
    data: Data,
    log: TestLog,
    witnesses: Vec<Post>,
    policy_file: PathBuf,
    policy: Policy,
}

impl Cast {
    fn new(suite: &str) -> Self {
        let data = Data::temporary();
        let log = data.init("main", suite);
        let witnesses: Vec<_> = ["w1", "w2", "w3"].map(|name| Post::new(name, &log)).into();
        let mut policy: String = log.keys.iter().map(|key| format!("log {key}\n")).collect();
        policy.extend(witnesses.iter().map(Post::policy_line));
        policy += "group two-of-them 2 w1 w2 w3\nquorum two-of-them\n";
        let policy_file = data.beside("policy");
        fs::write(&policy_file, &policy).unwrap();
        Self {
            policy: Policy::parse(policy.as_bytes()).unwrap(),
            data,
            log,
            witnesses,
            policy_file,
        }
    }

    fn options(&self, without_quorum: &'static str) -> [&str; 8] {
        let policy = self.policy_file.to_str().unwrap();
        let mut options = [
            "--witness-policy",
            policy,
            "--without-quorum",
            without_quorum,
            "",
            "",
            "",
            "",
        ];
        options[4..].copy_from_slice(&["--publish-interval-ms", "50", "--witness-timeout-ms", "3000"]);
        options
    }

    fn serve(&self, without_quorum: &'static str) -> Server {
        Server::start(&self.data, &self.options(without_quorum))
    }

    async fn submit(&self, server: &Server, id: &str) -> u64 {
        let (receipt, _) = submit(&mut server.submitter(), &self.log, event(id, ""))
            .await
            .unwrap();
        receipt.index().get() + 1
    }

    /// The newest published head of at least `known` leaves.
    async fn head(&self, server: &Server, known: u64) -> SignedHead {
        head(&mut server.reader(), &self.log, known).await
    }

    async fn receipt(&self, server: &Server, index: u64) -> VerifiedReceipt {
        let leaf = Leaf::LeafIndex(index);
        receipt_of(&mut server.reader(), &self.log, leaf).await.unwrap()
    }

    fn cosigned(&self, head: &SignedHead) -> CosignedHead {
        self.policy.verify_cosigned(head.note_bytes()).unwrap()
    }
}

/// Waits until the server has said something on standard error, after what it said before `since`.
async fn wait_for_word(server: &Server, since: usize, word: &str) {
    for _ in 0..3_000 {
        if server.errors()[since..].contains(word) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the server never said {word:?}: {}", server.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_held_back_until_a_quorum_cosigned_them() {
    for suite in SUITES {
        let mut cast = Cast::new(suite);
        let server = cast.serve("hold");
        let size = cast.submit(&server, "all three are there").await;
        let first = cast.head(&server, size).await;
        assert_eq!(cast.cosigned(&first).cosignatures().len(), 3);

        cast.witnesses[0].kill();
        let size = cast.submit(&server, "one is gone").await;
        let held = cast.head(&server, size).await;
        assert_eq!(cast.cosigned(&held).cosignatures().len(), 2);
        assert_eq!(held.size().get(), size);

        cast.witnesses[1].kill();
        let said = server.errors().len();
        let size = cast.submit(&server, "two are gone").await;
        wait_for_word(&server, said, "no quorum of witnesses: readers keep").await;
        let still = cast.head(&server, 0).await;
        assert_eq!(still.note_bytes(), held.note_bytes());
        // What is recorded can be proved all the same, by a receipt with a commit head.
        let receipt = cast.receipt(&server, size - 1).await;
        assert_eq!(receipt.head().size().get(), size);

        // After a restart without a quorum, too, readers are shown what they saw last.
        server.kill();
        let server = cast.serve("hold");
        assert_eq!(cast.head(&server, 0).await.note_bytes(), held.note_bytes());

        // This process does not know how far they are; they say so.
        for witness in &mut cast.witnesses[..2] {
            witness.start_again();
        }
        let caught_up = cast.head(&server, size).await;
        assert!(cast.cosigned(&caught_up).cosignatures().len() >= 2);
        cast.cosigned(cast.receipt(&server, size - 1).await.head());
        wait_for_word(&server, 0, "a quorum of witnesses cosigns again").await;
        let mut replica = Replica::new(&cast.log);
        replica.catch_up(&mut server.reader(), &cast.log, size).await;
        for head in [&first, &held, &caught_up] {
            replica.assert_head(head.size(), head.root());
        }
        server.stop();
        cast.data.assert_sound();
    }
}

/// A quorum that does not come holds up no stop: whoever waits for a head is told, and nothing is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_quorum_is_told_of_the_stop() {
    let mut cast = Cast::new("sha256");
    let mut server = cast.serve("hold");
    let size = cast.submit(&server, "all three are there").await;
    cast.head(&server, size).await;
    for witness in &mut cast.witnesses[1..] {
        witness.kill();
    }
    let known_tree_size = cast.submit(&server, "two are gone").await;

    // One connection: what is sent first is heard first.
    let mut reader = server.reader();
    let (mut watcher, mut after) = (reader.clone(), reader.clone());
    let head = reader.get_tree_head(v1::GetTreeHeadRequest {
        known_tree_size,
        ..v1::GetTreeHeadRequest::default()
    });
    let heads = watcher.watch_tree_heads(v1::WatchTreeHeadsRequest {
        known_tree_size,
        ..v1::WatchTreeHeadsRequest::default()
    });
    let stop = async {
        let request = v1::GetTreeHeadRequest::default();
        after.get_tree_head(request).await.unwrap();
        server.terminate();
    };
    let (head, heads, ()) = tokio::join!(biased; head, heads, stop);
    let told = Refusal::new(Code::Unavailable, "STOPPING", "");
    assert_eq!(Refusal::from(&head.unwrap_err()), told);
    assert_eq!(Refusal::from(&heads.err().unwrap()), told);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.errors().contains("cut off"), "{}", server.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_published_without_a_quorum_where_that_is_wanted() {
    let mut cast = Cast::new("sha256");
    let server = cast.serve("publish");
    let size = cast.submit(&server, "all three are there").await;
    cast.cosigned(&cast.head(&server, size).await);
    for witness in &mut cast.witnesses[1..] {
        witness.kill();
    }
    let size = cast.submit(&server, "two are gone").await;
    let alone = cast.head(&server, size).await;
    let refused = cast.policy.verify_cosigned(alone.note_bytes());
    assert!(
        matches!(refused, Err(CosignedHeadError::NoQuorum(_))),
        "{refused:?}"
    );
    assert_eq!(cast.policy.cosignatures(&alone).unwrap().len(), 1);

    for witness in &mut cast.witnesses[1..] {
        witness.start_again();
    }
    let mut size = size;
    for number in 0.. {
        assert!(number < 1_000, "{}", server.errors());
        size = cast.submit(&server, &format!("they are back {number}")).await;
        let head = cast.head(&server, size).await;
        if cast.policy.verify_cosigned(head.note_bytes()).is_ok() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(size > 3);
    server.stop();
    cast.data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_remembers_what_a_backup_forgot() {
    for suite in SUITES {
        let mut cast = Cast::new(suite);
        let server = cast.serve("hold");
        cast.submit(&server, "kept").await;
        server.stop();
        let (backup, newest) = (cast.data.beside("backup"), cast.data.beside("newest"));
        cast.data.copy_to(&backup);
        let server = cast.serve("hold");
        let size = cast.submit(&server, "lost").await;
        cast.head(&server, size).await;
        server.stop();
        cast.data.copy_to(&newest);

        // One that can't be asked hides nothing that another knows.
        cast.witnesses[0].kill();
        cast.data.restore_from(&backup);
        let refused = Server::try_start(&cast.data, &cast.options("publish"))
            .err()
            .unwrap();
        assert_eq!(refused.code, Some(3));
        for word in [
            "can't compare the log with what this witness remembers",
            "rolled back",
            "a tree of size 3 was signed",
            "the witness w",
            "holds 2 entries",
        ] {
            assert!(
                refused.errors.contains(word),
                "{word:?} is not in {}",
                refused.errors
            );
        }
        cast.data.assert_sound();
        cast.data.restore_from(&newest);
        let server = cast.serve("hold");
        let size = cast.submit(&server, "goes on").await;
        cast.cosigned(&cast.head(&server, size).await);
        server.stop();
    }
}

/// Someone who submits, and shows the head of each receipt to a witness before the log's own head gets there.
struct Overtaker {
    submitter: SubmitServiceClient<Channel>,
    reader: ReadServiceClient<Channel>,
    log: TestLog,
    /// What the witness cosigned last.
    size: u64,
    /// How often it is still done.
    left: u32,
}

impl Overtaker {
    async fn overtake(&mut self, witness: &mut Connection) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let newest = event(format!("overtakes, {} to go", self.left), "");
        let (receipt, _) = submit(&mut self.submitter, &self.log, newest).await.unwrap();
        let (note, size) = (receipt.head().note_bytes(), receipt.head().size().get());
        loop {
            let request = v1::GetConsistencyProofRequest {
                log: self.log.name.clone(),
                first_tree_size: self.size,
                second_tree_size: size,
            };
            let proof = self.reader.get_consistency_proof(request).await.unwrap();
            let proof = digests("hashes", &proof.into_inner().hashes).unwrap();
            let body = add_checkpoint(self.size, &proof, str::from_utf8(note).unwrap());
            let answer = witness.add_checkpoint(body);
            match answer.status {
                200 => break self.size = size,
                409 => self.size = answer.body.trim_end().parse().unwrap(),
                _ => panic!("{answer:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heads_that_a_submitter_overtakes_are_followed_by_others_at_once() {
    let (data, log) = Data::with_main_log();
    let witness = Post::new("w1", &log);
    let address = witness.address;
    let overtaker: Arc<Mutex<Option<Overtaker>>> = Arc::default();
    let on_the_way = {
        let overtaker = overtaker.clone();
        move |method: Method, uri: Uri, body: Bytes| {
            let overtaker = overtaker.clone();
            async move {
                let mut witness = Connection::to(address);
                if let Some(overtaker) = &mut *overtaker.lock().await
                    && method == Method::POST
                {
                    overtaker.overtake(&mut witness).await;
                }
                let answer = witness.send(method.as_str(), uri.path(), body);
                (StatusCode::from_u16(answer.status).unwrap(), answer.body)
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(on_the_way)).await });

    let (policy, key) = (data.beside("policy"), witness.data.key());
    fs::write(
        &policy,
        format!("witness w1 {key} http://{between}/\nquorum w1\n"),
    )
    .unwrap();
    let options = [
        "--witness-policy",
        policy.to_str().unwrap(),
        "--without-quorum",
        "hold",
    ];
    let server = Server::start(&data, &options);
    let (mut submitter, mut reader) = (server.submitter(), server.reader());
    let before = head(&mut reader, &log, 1).await;

    // More often than a witness that fails is asked in the time that a reader waits for a head.
    *overtaker.lock().await = Some(Overtaker {
        submitter: server.submitter(),
        reader: server.reader(),
        log: TestLog {
            name: log.name.clone(),
            keys: log.keys.clone(),
        },
        size: before.size().get(),
        left: 12,
    });
    let (receipt, _) = submit(&mut submitter, &log, event("waits", "")).await.unwrap();
    let published = head(&mut reader, &log, receipt.index().get() + 1).await;
    assert!(published.size() > before.size());
    assert_eq!(overtaker.lock().await.as_ref().unwrap().left, 0);
    server.stop();
    data.assert_sound();
}

/// Just after a boot its name may not resolve yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_is_there_a_moment_later_is_asked_all_the_same() {
    let mut cast = Cast::new("sha256");
    let server = cast.serve("hold");
    cast.submit(&server, "kept").await;
    server.stop();
    let backup = cast.data.beside("backup");
    cast.data.copy_to(&backup);
    let server = cast.serve("hold");
    let size = cast.submit(&server, "lost").await;
    cast.head(&server, size).await;
    server.stop();
    cast.data.restore_from(&backup);

    for witness in &mut cast.witnesses {
        witness.kill();
    }
    let options = [
        "--witness-policy",
        cast.policy_file.to_str().unwrap(),
        "--witness-timeout-ms",
        "60000",
    ];
    let first = net::TcpListener::bind(cast.witnesses[0].address).unwrap();
    let refused = thread::scope(|scope| {
        let starting = scope.spawn(|| Server::try_start(&cast.data, &options).err());
        drop(first.accept().unwrap());
        drop(first);
        for witness in &mut cast.witnesses {
            witness.start_again();
        }
        starting.join().unwrap()
    });
    let refused = refused.expect("it was not asked again");
    assert!(refused.errors.contains("rolled back"), "{}", refused.errors);
}

#[test]
fn a_start_asks_a_witness_about_all_logs_at_once() {
    let data = Data::temporary();
    for name in ["one", "two", "three"] {
        data.init(name, "blake3");
    }
    let witness = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = witness.local_addr().unwrap();
    let key = CosignerSigner::generate("witness.example/w1".parse().unwrap(), [1; 32]);
    let (policy, key) = (data.beside("policy"), key.verifier_key());
    fs::write(
        &policy,
        format!("witness w1 {key} http://{address}/\nquorum none\n"),
    )
    .unwrap();
    let options = [
        "--witness-policy",
        policy.to_str().unwrap(),
        "--witness-timeout-ms",
        "60000",
    ];
    thread::scope(|scope| {
        let starting = scope.spawn(|| Server::start(&data, &options));
        let mut asked: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = BufReader::new(witness.accept().unwrap().0);
                let mut head = String::new();
                while stream.read_line(&mut head).unwrap() > 2 {}
                stream
            })
            .collect();
        // None was given up before the others were asked.
        for stream in &mut asked {
            stream.get_ref().set_nonblocking(true).unwrap();
            let nothing = stream.read(&mut [0]).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
            stream.get_ref().set_nonblocking(false).unwrap();
        }
        for stream in &mut asked {
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
        }
        drop(witness);
        starting.join().unwrap().stop();
    });
}

#[test]
fn a_policy_that_can_not_be_used_is_refused() {
    let (data, log) = Data::with_main_log();
    let other = Data::temporary().init("other", "blake3");
    let witness = Post::new("w1", &log);
    let line = witness.policy_line();
    let without_url = line.rsplit_once(' ').unwrap().0;
    let with_url = |url: &str| format!("{without_url} {url}\nquorum w1\n");
    let policy = data.beside("policy");
    let start = |text: &str| {
        fs::write(&policy, text).unwrap();
        Server::try_start(&data, &["--witness-policy", policy.to_str().unwrap()])
    };
    for (text, words) in [
        (
            "quorum none\n".to_owned(),
            ["names no witness", "witness NAME VKEY URL"],
        ),
        (
            format!("{without_url}\nquorum w1\n"),
            ["the witness w1 has no URL", "w1"],
        ),
        (
            with_url("ftp://w1.example"),
            ["the witness w1", "submission prefix"],
        ),
        (
            with_url("https://w1.example/?a"),
            ["the witness w1", "submission prefix"],
        ),
        (format!("{line}quorum w2\n"), ["line 2 of the policy", "w2"]),
        (
            format!("log {}\n{line}quorum w1\n", other.key()),
            ["`main` is not among them", "Add a line `log test.example/main+"],
        ),
    ] {
        let refused = start(&text).err().unwrap();
        assert_eq!(refused.code, Some(3), "{text}");
        for word in words {
            assert!(
                refused.errors.contains(word),
                "{word:?} is not in {}",
                refused.errors
            );
        }
        fs::remove_file(data.beside("server.log")).unwrap();
    }
    start(&format!("log {}\n{line}quorum w1\n", log.key()))
        .unwrap()
        .stop();
    start(&format!("{line}quorum none\n")).unwrap().stop();
}
