//! Job tokens of calls that failed before anything was submitted: the next try finds them as good as new.

use std::fs;

use counterfoil_tests::{Data, Issuer, JwtKey, Server};
use tonic::{Code, Status};

use super::{assert_denied, set_access, submit_as};

struct Job {
    data: Data,
    token: String,
}

impl Job {
    fn new() -> Self {
        let key = JwtKey::p256("k1");
        let issuer = Issuer::start(&[&key]);
        let (data, _log) = Data::with_main_log();
        let access = format!(
            r#"
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
        }
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
async fn a_token_whose_issuers_keys_can_not_be_recorded_is_not_used_up() {
    let job = Job::new();
    // More than any disk has free.
    let full = Server::start(&job.data, &["--min-free-mib", "4294967295"]);
    for id in ["a", "b"] {
        assert_denied(
            job.submit(&full, id).await,
            Code::Unavailable,
            "can't record the keys of the token's issuer",
        );
    }
    full.stop();
    let server = Server::start(&job.data, &[]);
    job.assert_unspent(&server).await;
}
