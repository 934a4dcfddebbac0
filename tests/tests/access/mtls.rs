//! Client certificates.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use counterfoil_event::Authentication;
use counterfoil_proto::v1::{
    read_service_client::ReadServiceClient, submit_service_client::SubmitServiceClient,
};
use counterfoil_tests::{Data, Server, TestLog, counterfoil, entry_at, event, submission};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Authorized, Bearer, assert_denied, set_access, streams::SubmitStream};

const RUNNER: &str = "spiffe://example.com/ci/runner";
const HOST: &str = "log.test.example";

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Client {
    chain: String,
    key: String,
    der: Vec<u8>,
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

impl Authority {
    fn new() -> Self {
        Self::named("authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> Client {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Client {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }
}

struct Guarded {
    data: Data,
    log: TestLog,
    server: Server,
    /// The server's own certificate, which clients trust.
    trusted: String,
}

impl Guarded {
    fn new(access: &str, authority: &Authority) -> Self {
        let (data, log) = Data::with_main_log();
        fs::write(data.path().join("client-ca.pem"), authority.pem()).unwrap();
        set_access(&data, access);
        let identity = data.identity(&[HOST, "127.0.0.1"]);
        let server = Server::start(&data, &identity.options());
        Self {
            data,
            log,
            server,
            trusted: identity.certificate.pem(),
        }
    }

    async fn connect(&self, client: Option<&Client>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.trusted))
            .domain_name(HOST);
        if let Some(client) = client {
            tls = tls.identity(Identity::from_pem(&client.chain, &client.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.server.address())).unwrap();
        endpoint.tls_config(tls)?.connect().await
    }

    async fn submit(&self, client: Option<&Client>, id: &str) -> Result<u64, Status> {
        // A certificate that is refused may show only when something is read: TLS 1.3 lets clients write before.
        let channel = self
            .connect(client)
            .await
            .map_err(|error| Status::unknown(format!("no connection: {error:?}")))?;
        let answer = SubmitServiceClient::new(channel)
            .submit(submission(event(id, "")))
            .await?;
        Ok(answer.into_inner().receipt.unwrap().leaf_index)
    }

    fn counterfoil(&self, client: &Client, arguments: &[&str]) -> Output {
        let mut command = counterfoil();
        command
            .args(arguments)
            .arg("--client-cert")
            .arg(self.file("client.pem", &client.chain))
            .arg("--client-key")
            .arg(self.file("client.key", &client.key))
            .arg("--tls-ca")
            .arg(self.file("ca.pem", &self.trusted))
            .env("COUNTERFOIL_SERVER", format!("https://{}", self.server.address()))
            .env("COUNTERFOIL_LOG_KEY", self.log.key().to_string())
            .env("XDG_STATE_HOME", self.data.beside("state"))
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.data.beside(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn rules() -> String {
    format!(
        r#"
        [mtls]
        ca = "client-ca.pem"
        [[mtls.rule]]
        match = {{ spiffe = "{RUNNER}" }}
        roles = ["submit", "audit"]
        source = "runners"
        [[mtls.rule]]
        match = {{ dns = "audit.example.com" }}
        roles = ["audit"]
        "#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_submits_as_its_rule_says() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let runner = authority.issue(&[uri(RUNNER), dns("runner-7.example.com")], |_| {});
    let leaf = guarded.submit(Some(&runner), "a").await.unwrap();
    let channel = guarded.connect(Some(&runner)).await.unwrap();
    let answer = entry_at(&mut ReadServiceClient::new(channel), &guarded.log, leaf)
        .await
        .unwrap();
    let entry = counterfoil_event::Entry::decode(&answer.entry).unwrap();
    assert_eq!(
        (entry.source_id(), entry.authentication()),
        ("runners", Authentication::Mtls)
    );
    let annotations = answer.payload.unwrap().annotations;
    let evidence = counterfoil_event::Annotations::decode_canonical(&annotations)
        .unwrap()
        .evidence;
    let evidence: Value = serde_json::from_str(&evidence).unwrap();
    assert_eq!(evidence["spiffe"], RUNNER);
    assert_eq!(
        evidence["certificate_sha256"],
        hex::encode(Sha256::digest(&runner.der))
    );

    // By the command line, and shown by it.
    let command = |arguments: &[&str]| guarded.counterfoil(&runner, arguments);
    let submitted = command(&["submit", "--type", "t", "--source", "s", "--require-receipt"]);
    assert!(submitted.status.success(), "{submitted:?}");
    let shown = command(&["get", "1"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for (name, value) in [
        ("channel", "runners"),
        ("submitter", "mtls"),
        ("evidence", RUNNER),
    ] {
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with(name) && line.contains(value)),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_names_of_rules_count_and_only_as_a_whole() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let mut named = CertificateParams::new(Vec::new()).unwrap().distinguished_name;
    named.push(rcgen::DnType::CommonName, RUNNER);
    for (names, common_name) in [
        (vec![], false),
        (vec![], true),
        (vec![uri("spiffe://example.com/ci/runner/7")], false),
        (vec![uri("spiffe://example.com/ci")], false),
        (vec![uri("spiffe://example.com.evil.example/ci/runner")], false),
        (vec![uri("https://example.com/ci/runner")], false),
        // A SPIFFE ID is the only URI of its certificate.
        (vec![uri(RUNNER), uri("spiffe://example.com/ci/other")], false),
        (vec![uri("https://example.com"), uri(RUNNER)], false),
        (vec![dns("*.example.com")], false),
        (vec![dns("audit.example.com.evil.example")], false),
    ] {
        let stranger = authority.issue(&names, |params| {
            if common_name {
                params.distinguished_name = named.clone();
            }
        });
        let answer = guarded.submit(Some(&stranger), "a").await;
        assert_denied(
            answer,
            Code::PermissionDenied,
            "no rule of this server is for its names",
        );
    }
    // A rule that lets in, and not for this.
    let auditor = authority.issue(&[dns("Audit.Example.com")], |_| {});
    assert_denied(
        guarded.submit(Some(&auditor), "a").await,
        Code::PermissionDenied,
        "submit to a log",
    );
    let channel = guarded.connect(Some(&auditor)).await.unwrap();
    assert!(
        entry_at(&mut ReadServiceClient::new(channel), &guarded.log, 0)
            .await
            .is_ok()
    );
    // None at all is a caller without a credential.
    assert_denied(
        guarded.submit(None, "a").await,
        Code::Unauthenticated,
        "no credential was sent",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_others_make_no_connection() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let ours = |change: &dyn Fn(&mut CertificateParams)| authority.issue(&[uri(RUNNER)], change);
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    for (what, client) in [
        (
            "another authority",
            Authority::new().issue(&[uri(RUNNER)], |_| {}),
        ),
        (
            "expired",
            ours(&|params| {
                params.not_before = year(2019);
                params.not_after = year(2020);
            }),
        ),
        ("not valid yet", ours(&|params| params.not_before = year(2090))),
        (
            "for servers",
            ours(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "an authority itself",
            ours(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "its key is another's",
            Client {
                key: KeyPair::generate().unwrap().serialize_pem(),
                ..ours(&|_| {})
            },
        ),
    ] {
        let status = guarded.submit(Some(&client), "a").await.unwrap_err();
        // Not one word was heard: it is no answer of the server's.
        assert!(
            ![Code::Unauthenticated, Code::PermissionDenied].contains(&status.code()),
            "{what}: {status:?}"
        );
    }
    assert!(guarded.submit(Some(&ours(&|_| {})), "a").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_certificate_is_a_denied_credential() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let expired = authority.issue(&[uri(RUNNER)], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    // One of the same name would be the authority that is trusted, with a wrong signature.
    let stranger = Authority::named("stranger").issue(&[uri(RUNNER)], |_| {});
    for (client, alert) in [(&expired, "CertificateExpired"), (&stranger, "UnknownCA")] {
        let submit = || {
            let arguments = [
                "submit",
                "--json",
                "--type",
                "t",
                "--source",
                "s",
                "--require-receipt",
            ];
            guarded.counterfoil(client, &arguments)
        };
        // The server closes the connection right behind its alert, and what is written meanwhile may fail before that is read.
        let refused = (0..50)
            .map(|_| submit())
            .find(|output| output.status.code() != Some(3))
            .unwrap();
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
        let error = &error["error"];
        assert_eq!(error["kind"], "denied");
        assert!(error["message"].as_str().unwrap().contains(alert), "{error}");
    }
}

#[test]
fn rules_for_certificates_need_tls_and_an_authority() {
    let (data, _log) = Data::with_main_log();
    set_access(&data, &rules());
    let refused = Server::try_start(&data, &[]).map(drop).unwrap_err();
    assert!(
        refused.errors.contains("client certificates need TLS"),
        "{}",
        refused.errors
    );
    let identity = data.identity(&[HOST]);
    for ca in [None, Some("no certificate")] {
        if let Some(ca) = ca {
            fs::write(data.path().join("client-ca.pem"), ca).unwrap();
        }
        let refused = Server::try_start(&data, &identity.options())
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.code, Some(3), "{}", refused.errors);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_go_away_leave_a_certificate_without_any_right() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let runner = authority.issue(&[uri(RUNNER)], |_| {});
    let channel = guarded.connect(Some(&runner)).await.unwrap();
    let submit = async |id: &str| {
        let mut submitter = SubmitServiceClient::new(channel.clone());
        submitter.submit(submission(event(id, ""))).await
    };
    submit("a").await.unwrap();
    set_access(&guarded.data, "anonymous = [\"submit\"]");
    let denied = super::eventually(async || submit("b").await.err()).await;
    // Not even what everyone may: it was shown, and it is not good.
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(guarded.submit(None, "c").await.is_ok());
    // A token speaks louder.
    let token = guarded.data.token(&["--role", "submit", "--source", "ci"]);
    let with_token =
        tonic::service::interceptor::InterceptedService::new(channel, super::Bearer(Some(token)));
    super::eventually(async || {
        let mut submitter = SubmitServiceClient::new(with_token.clone());
        submitter.submit(submission(event("d", ""))).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_takes_the_place_of_the_one_before() {
    let (old, new) = (Authority::new(), Authority::new());
    let guarded = Guarded::new(&rules(), &old);
    let (leaving, coming) = (
        old.issue(&[uri(RUNNER)], |_| {}),
        new.issue(&[uri(RUNNER)], |_| {}),
    );
    guarded.submit(Some(&leaving), "a").await.unwrap();
    assert!(guarded.submit(Some(&coming), "b").await.is_err());
    // What can't be used changes nothing.
    fs::write(guarded.data.path().join("client-ca.pem"), "no certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    guarded.submit(Some(&leaving), "c").await.unwrap();

    fs::write(guarded.data.path().join("client-ca.pem"), new.pem()).unwrap();
    super::eventually(async || guarded.submit(Some(&coming), "b").await.ok()).await;
    assert!(guarded.submit(Some(&leaving), "d").await.is_err());

    // New rules, and authorities that can't be read yet: what the old ones vouch for has no right by them.
    let (channel, other) = (guarded.connect(Some(&coming)).await.unwrap(), "other-ca.pem");
    let submit = async |id: &str| {
        let mut submitter = SubmitServiceClient::new(channel.clone());
        submitter.submit(submission(event(id, ""))).await
    };
    submit("e").await.unwrap();
    set_access(&guarded.data, &rules().replace("client-ca.pem", other));
    let denied = super::eventually(async || submit("f").await.err()).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(guarded.submit(Some(&coming), "g").await.is_err());
    fs::write(guarded.data.path().join(other), old.pem()).unwrap();
    super::eventually(async || guarded.submit(Some(&leaving), "h").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_authority_in_another_file_goes_on_vouching() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let runner = authority.issue(&[uri(RUNNER)], |_| {});
    let source = "runners-of-the-other-file";
    fs::write(guarded.data.path().join("other-ca.pem"), authority.pem()).unwrap();
    let moved = rules().replace("client-ca.pem", "other-ca.pem");
    set_access(
        &guarded.data,
        &moved.replace("\"runners\"", &format!("\"{source}\"")),
    );
    super::eventually(async || {
        let channel = guarded.connect(Some(&runner)).await.unwrap();
        // Each try submits another event: one that is on record keeps its source.
        let id = format!("probe-{}", fastrand::u64(..));
        let answer = SubmitServiceClient::new(channel.clone())
            .submit(submission(event(id, "")))
            .await;
        let leaf = answer.ok()?.into_inner().receipt.unwrap().leaf_index;
        let answer = entry_at(&mut ReadServiceClient::new(channel), &guarded.log, leaf)
            .await
            .ok()?;
        let entry = counterfoil_event::Entry::decode(&answer.entry).unwrap();
        (entry.source_id() == source).then_some(())
    })
    .await;
}

/// 9999-12-31T23:59:59 says that there is no end (RFC 5280, section 4.1.2.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_an_end_is_one() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let endless = authority.issue(&[uri(RUNNER)], |params| {
        params.not_after = rcgen::date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    });
    guarded.submit(Some(&endless), "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_as_the_rules_for_its_certificate_say_now() {
    let authority = Authority::new();
    let guarded = Guarded::new(&rules(), &authority);
    let runner = authority.issue(&[uri(RUNNER)], |_| {});
    let channel = guarded.connect(Some(&runner)).await.unwrap();
    let source = async |leaf: u64| {
        let answer = entry_at(&mut ReadServiceClient::new(channel.clone()), &guarded.log, leaf).await;
        let entry = counterfoil_event::Entry::decode(&answer.unwrap().entry).unwrap();
        entry.source_id().to_owned()
    };
    let submitter = SubmitServiceClient::new(Authorized::new(channel.clone(), Bearer(None)));
    let (mut stream, leaf) = SubmitStream::start(submitter, "stream").await;
    assert_eq!(source(leaf).await, "runners");

    // Another source. Each try submits another event: one that is on record keeps its source.
    set_access(&guarded.data, &rules().replace("\"runners\"", "\"old-runners\""));
    super::eventually(async || {
        let leaf = guarded
            .submit(Some(&runner), &format!("probe-{}", fastrand::u64(..)))
            .await;
        (source(leaf.unwrap()).await == "old-runners").then_some(())
    })
    .await;
    let leaf = stream.submit().await.unwrap();
    assert_eq!(source(leaf).await, "old-runners");

    // None.
    set_access(
        &guarded.data,
        &rules().replace(RUNNER, "spiffe://example.com/ci/other"),
    );
    super::eventually(async || guarded.submit(Some(&runner), "b").await.err()).await;
    assert_denied(
        stream.submit().await,
        Code::PermissionDenied,
        "no rule of this server is for its names",
    );
}
