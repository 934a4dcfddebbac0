//! Streams under way when `access.toml` takes away or changes what let them in.

use std::time::Duration;

use counterfoil_proto::v1::{self, submit_result::Outcome, submit_service_client::SubmitServiceClient};
use counterfoil_tests::{Data, Issuer, JwtKey, Server, event, submission};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Authorized, assert_denied, eventually, on_record, reader, set_access, submit_as, submitter};

const AUDIENCE: &str = "test.example/main";

/// One call that submits event after event.
pub(super) struct SubmitStream {
    name: String,
    sent: u64,
    requests: mpsc::Sender<v1::SubmitStreamRequest>,
    answers: Streaming<v1::SubmitStreamResponse>,
}

impl SubmitStream {
    /// Begins one; `name` is in the ids of its events.
    pub(super) async fn begin(mut submitter: SubmitServiceClient<Authorized>, name: &str) -> Self {
        let (requests, received) = mpsc::channel(1);
        let answers = submitter.submit_stream(ReceiverStream::new(received)).await;
        Self {
            name: name.to_owned(),
            sent: 0,
            requests,
            answers: answers.unwrap().into_inner(),
        }
    }

    /// The same. Returns it when its first event is recorded, with that one's leaf.
    pub(super) async fn start(submitter: SubmitServiceClient<Authorized>, name: &str) -> (Self, u64) {
        let mut stream = Self::begin(submitter, name).await;
        let leaf = stream.submit().await.unwrap();
        (stream, leaf)
    }

    /// Submits one more event; returns its leaf, or how the call ended.
    pub(super) async fn submit(&mut self) -> Result<u64, Status> {
        match self.outcome().await? {
            Outcome::Accepted(accepted) => Ok(accepted.leaf_index),
            Outcome::Refused(refused) => panic!("{refused:?}"),
        }
    }

    /// Submits one more event; returns what became of it, or how the call ended.
    pub(super) async fn outcome(&mut self) -> Result<Outcome, Status> {
        let request = v1::SubmitStreamRequest {
            log: String::new(),
            sequence: self.sent,
            event: Some(event(format!("{}-{}", self.name, self.sent), "")),
        };
        self.sent += 1;
        // A call that has ended takes none, and says why below.
        let _ = self.requests.send(request).await;
        let mut answer = self.answers.message().await?.expect("an answer to each event");
        Ok(answer.results.pop().unwrap().outcome.unwrap())
    }
}

/// Follows heads until it is told why it may not.
pub(super) async fn end_of(mut heads: Streaming<v1::WatchTreeHeadsResponse>) -> Status {
    let ended = async {
        loop {
            if let Err(status) = heads.message().await {
                return status;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anonymous_callers_may_no_more_they_go_on_doing_in_no_stream() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "anonymous = [\"submit\", \"audit\"]");
    let farm = data.token(&["--role", "submit", "--source", "farm"]);
    let server = Server::start(&data, &[]);
    let (mut stream, _) = SubmitStream::start(submitter(&server, None), "stream").await;
    let heads = reader(&server, None)
        .watch_tree_heads(v1::WatchTreeHeadsRequest::default())
        .await;
    let mut heads = heads.unwrap().into_inner();
    assert!(heads.message().await.unwrap().is_some());

    // The file says something else, and the same of them.
    set_access(&data, "anonymous = [\"audit\", \"submit\"] # as before");
    let read = || server.errors().matches("read changed files").count();
    eventually(async || (read() == 1).then_some(())).await;
    stream.submit().await.unwrap();

    set_access(&data, "anonymous = [\"audit\"]");
    let denied = eventually(async || submit_as(&server, None, "x").await.err()).await;
    assert_eq!(denied.code(), Code::Unauthenticated);
    assert_denied(
        stream.submit().await,
        Code::Unauthenticated,
        "no credential was sent",
    );
    assert!(heads.message().await.unwrap().is_some(), "they may read");

    set_access(&data, "");
    eventually(async || {
        let mut reader = reader(&server, None);
        reader
            .get_tree_head(v1::GetTreeHeadRequest::default())
            .await
            .err()
    })
    .await;
    // Heads come each minute if nothing is recorded: let something be.
    submit_as(&server, Some(&farm), "y").await.unwrap();
    assert_eq!(end_of(heads).await.code(), Code::Unauthenticated);
}

/// One rule, for the jobs of a repository.
fn access(issuer: &Issuer, more: &str, repository: &str, source: &str) -> String {
    format!(
        r#"
        [[oidc]]
        issuer = "{}"
        {more}
        [[oidc.rule]]
        match = {{ repository_id = "{repository}" }}
        roles = ["submit"]
        source = "{source}"
        "#,
        issuer.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_as_the_rules_say_now() {
    let key = JwtKey::p256("k1");
    let (issuer, other) = (Issuer::start(&[&key]), Issuer::start(&[&key]));
    let (data, log) = Data::with_main_log();
    let usual = access(&issuer, "", "482139077", "jobs");
    set_access(&data, &usual);
    let auditor = data.token(&["--role", "audit"]);
    let server = Server::start(&data, &[]);
    let job = || submitter(&server, Some(&key.token(&issuer.claims(AUDIENCE))));
    // Each time another event: one that is on record keeps its source.
    let submit = async || {
        let event = event(format!("probe-{}", fastrand::u64(..)), "");
        let answer = job().submit(submission(event)).await?;
        Ok::<_, Status>(answer.into_inner().receipt.unwrap().leaf_index)
    };
    let source = async |leaf: u64| {
        let (entry, _) = on_record(&server, &log, &auditor, leaf).await;
        entry.source_id().to_owned()
    };

    let (mut stream, leaf) = SubmitStream::start(job(), "renamed").await;
    assert_eq!(source(leaf).await, "jobs");
    set_access(&data, &access(&issuer, "", "482139077", "builds"));
    eventually(async || (source(submit().await.unwrap()).await == "builds").then_some(())).await;
    let leaf = stream.submit().await.unwrap();
    assert_eq!(source(leaf).await, "builds");

    for (what, next, code, says) in [
        (
            "rule",
            access(&issuer, "", "999", "jobs"),
            Code::PermissionDenied,
            "no rule of this server is for its claims",
        ),
        (
            "issuer",
            access(&other, "", "482139077", "jobs"),
            Code::Unauthenticated,
            "no tokens of this issuer",
        ),
        (
            "audience",
            access(&issuer, "audience = \"https://log.example\"", "482139077", "jobs"),
            Code::Unauthenticated,
            "has to be for https://log.example",
        ),
    ] {
        set_access(&data, &usual);
        eventually(async || submit().await.ok()).await;
        let (mut stream, _) = SubmitStream::start(job(), what).await;
        set_access(&data, &next);
        let denied = eventually(async || submit().await.err()).await;
        assert_denied::<u64>(Err(denied), code, says);
        assert_denied(stream.submit().await, code, says);
    }
}

/// Entries show all of a token that is spent, and less of one that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_begins_anew_when_its_token_is_to_be_used_in_another_way() {
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let (data, log) = Data::with_main_log();
    let once = access(&issuer, "", "482139077", "jobs");
    set_access(&data, &once);
    let auditor = data.token(&["--role", "audit"]);
    let server = Server::start(&data, &[]);
    let token = key.token(&issuer.claims(AUDIENCE));
    let (mut stream, leaf) = SubmitStream::start(submitter(&server, Some(&token)), "once").await;
    let (_, evidence) = on_record(&server, &log, &auditor, leaf).await;
    assert_eq!(evidence["jwt"], token);

    set_access(
        &data,
        &access(&issuer, "reuse = \"until-expiry\"", "482139077", "jobs"),
    );
    let ended = eventually(async || stream.submit().await.err()).await;
    assert_denied::<u64>(Err(ended), Code::Unavailable, "has changed; try again");
    // What the evidence shows whole stays spent.
    assert_denied(
        submit_as(&server, Some(&token), "a").await,
        Code::Unauthenticated,
        "has submitted before",
    );
    let token = key.token(&issuer.claims(AUDIENCE));
    let (mut stream, leaf) = SubmitStream::start(submitter(&server, Some(&token)), "again").await;
    let (_, evidence) = on_record(&server, &log, &auditor, leaf).await;
    assert!(evidence["jwt_without_signature"].is_string(), "{evidence}");

    set_access(&data, &once);
    eventually(async || submit_as(&server, Some(&token), "b").await.err()).await;
    assert_denied(stream.submit().await, Code::Unavailable, "has changed; try again");
    assert_denied(
        submit_as(&server, Some(&token), "b").await,
        Code::Unauthenticated,
        "has submitted before",
    );
}
