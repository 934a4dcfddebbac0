//! Job tokens of calls that failed before anything was submitted: the next try finds them as good as new.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_proto::v1::{Reason, submit_result::Outcome};
use counterfoil_tests::{
    Data, Issuer, JwtKey, Server, SmallDisk, assert_pushed_back, event, http_get, http_post, submission,
};
use fastrand::Rng;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status};

use super::{assert_denied, eventually, set_access, streams::SubmitStream, submit_as, submitter};

struct Job {
    data: Data,
    issuer: Issuer,
    key: JwtKey,
    token: String,
}

impl Job {
    fn new() -> Self {
        let (data, _log) = Data::with_main_log();
        Self::with(data)
    }

    /// A job of a server with this directory.
    fn with(data: Data) -> Self {
        let key = JwtKey::p256("k1");
        let issuer = Issuer::start(&[&key]);
        let access = format!(
            r#"
            anonymous = ["submit"]
            [[oidc]]
            issuer = "{}"
            [[oidc.rule]]
            match = {{ repository_id = "482139077" }}
            roles = ["submit"]
            source = "jobs"
            "#,
            issuer.url()
        );
        set_access(&data, &access);
        Self {
            data,
            token: key.token(&issuer.claims("test.example/main")),
            issuer,
            key,
        }
    }

    fn another_token(&self) -> String {
        self.key.token(&self.issuer.claims("test.example/main"))
    }

    async fn submit(&self, server: &Server, id: &str) -> Result<u64, Status> {
        submit_as(server, Some(&self.token), id).await
    }

    /// Submits, once.
    async fn assert_unspent(&self, server: &Server) {
        let leaf = self.submit(server, "good").await.unwrap();
        assert_eq!(leaf, 2, "more is on record than genesis and the issuer's keys");
        assert_denied(
            self.submit(server, "spent").await,
            Code::Unauthenticated,
            "has submitted before",
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_use_can_not_be_recorded_is_not_used_up() {
    let job = Job::new();
    let server = Server::start(&job.data, &[]);
    // No file can take the place of a directory.
    let in_the_way = job.data.path().join("spent-tokens");
    fs::create_dir(&in_the_way).unwrap();
    for id in ["a", "b"] {
        assert_denied(
            job.submit(&server, id).await,
            Code::Unavailable,
            "can't record that this token was used",
        );
    }
    fs::remove_dir(&in_the_way).unwrap();
    job.assert_unspent(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_batch_that_no_events_can_be_made_of_is_not_used_up() {
    let job = Job::new();
    let server = Server::start(&job.data, &[]);
    let bearer = format!("Bearer {}", job.token);
    let headers = [("authorization", bearer.as_str())];
    // The batch reads, and no attribute has a line break.
    let body = br#"{"event": "x"}{"event": "x", "host": "two\nlines"}"#;
    for _ in 0..2 {
        let answer = http_post(server.address(), "/services/collector", &headers, body);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    job.assert_unspent(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_server_that_starts_without_room_is_not_used_up() {
    let job = Job::new();
    // More than any disk has free.
    let full = Server::start(&job.data, &["--min-free-mib", "4294967295"]);
    // It does not have the issuer's keys on record. In a stream nothing else is found wrong before them.
    let mut stream = SubmitStream::begin(submitter(&full, Some(&job.token)), "stream").await;
    assert_pushed_back(&stream.outcome().await.unwrap_err(), "OUT_OF_SPACE");
    for id in ["a", "b"] {
        assert_pushed_back(&job.submit(&full, id).await.unwrap_err(), "OUT_OF_SPACE");
    }
    full.stop();
    let server = Server::start(&job.data, &[]);
    job.assert_unspent(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_call_that_finds_the_disk_full_is_not_used_up() {
    let Some(disk) = SmallDisk::mount(192) else { return };
    let data = Data::at(disk.path().join("data"));
    data.init("main", "blake3");
    let job = Job::with(data);
    let server = Server::start(&job.data, &["--memory-mib", "32", "--min-free-mib", "32"]);
    // The issuer's keys are on record from now on.
    submit_as(&server, Some(&job.another_token()), "first")
        .await
        .unwrap();

    let health = || http_get(server.address(), "/services/collector/health").status;
    let ballast = disk.fill_to(8);
    // The log looks at the disk in its own time.
    eventually(async || (health() == 503).then_some(())).await;
    for id in ["a", "b"] {
        assert_pushed_back(&job.submit(&server, id).await.unwrap_err(), "OUT_OF_SPACE");
    }
    // A stream spends its token as it begins. What finds no room has to be sent on the same stream.
    let token = job.another_token();
    let mut stream = SubmitStream::begin(submitter(&server, Some(&token)), "stream").await;
    match stream.outcome().await.unwrap() {
        Outcome::Refused(refused) => assert_eq!(refused.reason(), Reason::OutOfSpace),
        accepted => panic!("{accepted:?}"),
    }
    drop(ballast);
    eventually(async || (health() == 200).then_some(())).await;
    assert_eq!(job.submit(&server, "good").await.unwrap(), 3);
    assert_denied(
        job.submit(&server, "spent").await,
        Code::Unauthenticated,
        "has submitted before",
    );
    assert_eq!(stream.submit().await.unwrap(), 4);
    drop(stream);
    server.stop();
}

/// What others send fills the queue. A token may still be spent where the room goes a moment later, but not by each call that finds
/// none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_call_that_finds_the_queue_full_is_not_used_up() {
    const REFUSED: usize = 8;
    let job = Job::new();
    let server = Server::start(&job.data, &["--memory-mib", "32"]);
    // The issuer's keys are on record from now on.
    job.submit(&server, "first").await.unwrap();

    let mut data = vec![0; 24 << 20];
    Rng::new().fill(&mut data);
    let data = Bytes::from(data);
    let (stop, stopping) = watch::channel(false);
    let mut others = JoinSet::new();
    for other in 0..6 {
        let (mut client, data, stopping) = (submitter(&server, None), data.clone(), stopping.clone());
        others.spawn(async move {
            for number in 0..24 {
                if *stopping.borrow() {
                    break;
                }
                let event = event(format!("{other}-{number}"), data.clone());
                let _ = client.submit(submission(event)).await;
            }
        });
    }
    let begun = Instant::now();
    let mut refused = Vec::new();
    for number in 0.. {
        if refused.len() == REFUSED || begun.elapsed() > Duration::from_secs(60) {
            break;
        }
        let token = job.another_token();
        let event = event(format!("job-{number}"), data.clone());
        let answer = submitter(&server, Some(&token)).submit(submission(event)).await;
        // Not those that were put off before anybody looked at their tokens.
        if answer.is_err_and(|status| status.message().starts_with("the log has more waiting")) {
            refused.push(token);
        }
    }
    stop.send_replace(true);
    others.join_all().await;
    // Of a few all may have lost to the others.
    assert!(
        refused.len() >= REFUSED / 2,
        "the queue was seldom full: {}",
        refused.len()
    );

    let mut unspent = 0;
    for (number, token) in refused.iter().enumerate() {
        match submit_as(&server, Some(token), &format!("again-{number}")).await {
            Ok(_) => unspent += 1,
            Err(status) => assert!(status.message().contains("has submitted before"), "{status:?}"),
        }
    }
    assert!(unspent > 0, "{} tokens were spent for nothing", refused.len());
}
