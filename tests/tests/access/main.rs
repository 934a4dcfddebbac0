//! Who may do what: every call with every role, and each way to show who one is, honest and otherwise.
#![allow(clippy::unwrap_used, missing_docs)]

mod issuers;
mod jobs;
mod mtls;
mod spending;
mod streams;
mod table;
mod tokens;

use std::{fs, os::unix::fs::symlink, path::Path, thread, time::Duration};

use counterfoil_event::{Annotations, Entry};
use counterfoil_proto::v1::{
    self, read_service_client::ReadServiceClient, submit_service_client::SubmitServiceClient,
};
use counterfoil_tests::{Data, Server, TestLog, counterfoil, entry_at, event, submission};
use serde_json::Value;
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Writes `access.toml`.
fn set_access(data: &Data, text: &str) {
    // Renamed into place, so that the server reads no half of it.
    let new = data.path().join("access.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, data.path().join("access.toml")).unwrap();
}

/// Puts a bearer token into each call, if there is one.
#[derive(Clone)]
struct Bearer(Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Bearer>;

fn authorized(server: &Server, token: Option<&str>) -> Authorized {
    InterceptedService::new(server.connection(), Bearer(token.map(str::to_owned)))
}

fn submitter(server: &Server, token: Option<&str>) -> SubmitServiceClient<Authorized> {
    SubmitServiceClient::new(authorized(server, token))
}

fn reader(server: &Server, token: Option<&str>) -> ReadServiceClient<Authorized> {
    ReadServiceClient::new(authorized(server, token))
}

/// Submits an event under a token; returns its leaf.
async fn submit_as(server: &Server, token: Option<&str>, id: &str) -> Result<u64, Status> {
    let submitted = submitter(server, token)
        .submit(submission(event(id, "data")))
        .await?;
    Ok(submitted.into_inner().receipt.unwrap().leaf_index)
}

/// What is on record of an event's submitter: the entry, and the evidence that it commits to.
async fn on_record(server: &Server, log: &TestLog, auditor: &str, leaf: u64) -> (Entry, Value) {
    let request = v1::GetEntryRequest {
        log: log.name.clone(),
        leaf: Some(v1::LeafSelector {
            leaf: Some(v1::leaf_selector::Leaf::LeafIndex(leaf)),
        }),
        with_payload: true,
    };
    let answer = reader(server, Some(auditor)).get_entry(request).await.unwrap();
    let answer = answer.into_inner();
    let entry = Entry::decode(&answer.entry).unwrap();
    let annotations = answer.payload.unwrap().annotations;
    let evidence = Annotations::decode_canonical(&annotations).unwrap().evidence;
    (entry, serde_json::from_str(&evidence).unwrap())
}

/// What `counterfoil get` shows of a leaf, once it is published. It has verified that the leaf commits to it.
fn shown(server: &Server, log: &TestLog, auditor: &str, leaf: u64) -> String {
    let state = tempfile::tempdir().unwrap();
    for _ in 0..100 {
        let output = counterfoil()
            .args(["get", &leaf.to_string()])
            .env("COUNTERFOIL_SERVER", format!("http://{}", server.address()))
            .env("COUNTERFOIL_LOG_KEY", log.key().to_string())
            .env("COUNTERFOIL_TOKEN", auditor)
            .env("XDG_STATE_HOME", state.path())
            .output()
            .unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("leaf {leaf} is not published")
}

#[track_caller]
fn assert_denied<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, says: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(says), "{status:?}");
}

/// Tries again until it is so, which takes a second or two: a running server looks for changed files each second.
async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..200 {
        if let Some(done) = attempt().await {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come to pass")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_everyone_may_and_it_is_said() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(
        &data,
        &["--listen", "0.0.0.0:0", "--insecure-plaintext-on-network"],
    );
    let errors = server.errors();
    assert!(errors.contains("can submit and read all"), "{errors}");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = channel.unwrap().connect_lazy();
    let submitted = SubmitServiceClient::new(channel.clone())
        .submit(submission(event("a", "")))
        .await;
    assert_eq!(submitted.unwrap().into_inner().receipt.unwrap().leaf_index, 1);
    assert!(
        entry_at(&mut ReadServiceClient::new(channel), &log, 1)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_followed_and_its_loss_opens_nothing() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, "");
    let server = Server::start(&data, &[]);
    assert_denied(
        submit_as(&server, None, "a").await,
        Code::Unauthenticated,
        "no credential was sent",
    );
    set_access(&data, "anonymous = [\"submit\"]");
    eventually(async || submit_as(&server, None, "b").await.ok()).await;
    set_access(&data, "anonymous = []");
    eventually(async || submit_as(&server, None, "c").await.err()).await;
    // Broken, it says what it said; gone, too.
    set_access(&data, "anonymous = [\"everything\"]");
    eventually(async || server.errors().contains("access.toml").then_some(())).await;
    assert!(submit_as(&server, None, "d").await.is_err());
    fs::remove_file(data.path().join("access.toml")).unwrap();
    eventually(async || server.errors().contains("the file is gone").then_some(())).await;
    assert!(submit_as(&server, None, "e").await.is_err());
    server.stop();

    // Also where nobody asked for as long as it was there.
    let server = Server::start(&data, &[]);
    let read = || server.errors().matches("read changed files").count();
    let before = read();
    set_access(&data, "");
    eventually(async || (read() == before + 1).then_some(())).await;
    fs::remove_file(data.path().join("access.toml")).unwrap();
    eventually(async || (read() == before + 2).then_some(())).await;
    assert!(submit_as(&server, None, "f").await.is_err());
    server.stop();

    set_access(&data, "anonymous = [\"everything\"]");
    let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
    assert!(
        refused.errors.contains("access.toml can't be used"),
        "{}",
        refused.errors
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_file_that_is_broken_shuts_everyone_out_until_it_is_mended() {
    let (data, _log) = Data::with_main_log();
    let token = data.token(&["--role", "submit", "--source", "farm"]);
    let server = Server::start(&data, &[]);
    submit_as(&server, None, "a").await.unwrap();
    set_access(&data, "anonymous = [\"everything\"]");
    let denied = eventually(async || submit_as(&server, None, "b").await.err()).await;
    assert_denied::<u64>(Err(denied), Code::Unauthenticated, "no credential was sent");
    let errors = server.errors();
    assert!(
        errors.contains("a new file is broken and counts for nothing"),
        "{errors}"
    );
    submit_as(&server, Some(&token), "c").await.unwrap();

    // What nobody understood decides nothing, and opens nothing when it goes.
    fs::remove_file(data.path().join("access.toml")).unwrap();
    eventually(async || server.errors().contains("the file is gone").then_some(())).await;
    assert!(submit_as(&server, None, "d").await.is_err());
    set_access(&data, "anonymous = [\"submit\"]");
    eventually(async || submit_as(&server, None, "e").await.ok()).await;
    // From now on a broken one keeps what it said.
    set_access(&data, "anonymous = [\"everything\"]");
    eventually(async || {
        server
            .errors()
            .contains("what it said before stays in force")
            .then_some(())
    })
    .await;
    submit_as(&server, None, "f").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_file_that_can_t_be_read_shuts_everyone_out() {
    let makes: [fn(&Path); 4] = [
        // Not even root can read it: nothing of the server's is at its first address.
        |path| symlink("/proc/self/mem", path).unwrap(),
        |path| symlink("not-mounted.toml", path).unwrap(),
        // What Docker makes of a mount whose file is missing.
        |path| fs::create_dir(path).unwrap(),
        // What Kubernetes makes of a ConfigMap.
        |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("rules.toml"), "anonymous = [\"submit\"]").unwrap();
        },
    ];
    for make in makes {
        let (data, _log) = Data::with_main_log();
        let server = Server::start(&data, &[]);
        submit_as(&server, None, "a").await.unwrap();
        make(&data.path().join("access.toml"));
        let denied = eventually(async || submit_as(&server, None, "b").await.err()).await;
        assert_denied::<u64>(Err(denied), Code::Unauthenticated, "no credential was sent");
        server.stop();
        let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
        assert!(
            refused.errors.contains("access.toml can't be used"),
            "{}",
            refused.errors
        );
    }
}
