//! The server as a process: starting, refusing to start, stopping, listening.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use counterfoil_note::HeadError;
use counterfoil_proto::v1::{self, leaf_selector::Leaf};
use counterfoil_tests::{
    Data, Hook, Refusal, Server, counterfoil, counterfoild, event, head, http_get, receipt_of, submission,
    submit,
};
use counterfoil_verify::{Receipt, ReceiptError};
use futures_util::StreamExt as _;
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[track_caller]
fn assert_refuses(data: &Data, options: &[&str], says: &[&str]) {
    let refused = Server::try_start(data, options)
        .err()
        .expect("the server started");
    assert_eq!(refused.code, Some(3), "{refused:?}");
    for words in says {
        assert!(
            refused.errors.contains(words),
            "{words:?} is not in {}",
            refused.errors
        );
    }
}

/// A server with other streams than those that tests read. Killed when dropped.
struct Bare(Child);

impl Bare {
    fn start(data: &Data, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let mut command = counterfoild();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        Self(command.spawn().unwrap())
    }

    /// Sends a signal, and asserts that it ended well.
    #[track_caller]
    fn end_by(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn eventually<T>(attempt: impl Fn() -> Option<T>) -> T {
    let done = async {
        loop {
            match attempt() {
                Some(done) => return done,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_secs(60), done)
        .await
        .expect("it does not come to pass")
}

#[test]
fn a_directory_has_one_server() {
    let (data, _log) = Data::with_main_log();
    let first = Server::start(&data, &[]);
    assert_refuses(&data, &[], &["another process has the database", "logs/main/db"]);
    // The first does not notice, and the lock goes with it, however it ends.
    first.kill();
    Server::start(&data, &[]).stop();
    data.assert_sound();
}

#[test]
fn a_directory_without_logs_is_refused() {
    let data = Data::temporary();
    assert_refuses(&data, &[], &["counterfoild init"]);
    fs::create_dir_all(data.path().join("logs")).unwrap();
    assert_refuses(&data, &[], &["holds no logs", "counterfoild init"]);
}

#[test]
fn a_log_is_made_once() {
    let (data, log) = Data::with_main_log();
    let keys = fs::read(data.path().join("logs/main/keys")).unwrap();
    let again = counterfoild()
        .arg("init")
        .arg("--data")
        .arg(data.path())
        .args(["--origin", "test.example/other"])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    assert_eq!(again.stdout, b"");
    // Who took them for those of a new log has them still.
    let errors = str::from_utf8(&again.stderr).unwrap();
    assert!(
        errors.contains(&log.key().to_string()) && errors.contains("exists already"),
        "{errors}"
    );
    assert_eq!(fs::read(data.path().join("logs/main/keys")).unwrap(), keys);
    Server::start(&data, &[]).stop();
}

#[test]
fn a_log_that_can_t_be_made_says_why_once() {
    let refused = counterfoild()
        .args(["init", "--origin", "test.example/main", "--data", "/proc/x"])
        .output()
        .unwrap();
    let errors = str::from_utf8(&refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{errors}");
    assert!(errors.contains("can't make a log in /proc/x"), "{errors}");
    assert_eq!(errors.matches("os error").count(), 1, "{errors}");
}

#[test]
fn a_copy_beside_its_log_is_refused() {
    let (data, _log) = Data::with_main_log();
    data.init("other", "sha256");
    let logs = data.path().join("logs");
    let copied = Command::new("cp")
        .arg("-a")
        .args([logs.join("main"), logs.join("main-old")])
        .status()
        .unwrap();
    assert!(copied.success());
    assert_refuses(
        &data,
        &[],
        &[
            "`main` and `main-old` both sign as",
            "test.example/main",
            "out of logs/",
        ],
    );
    fs::rename(logs.join("main-old"), data.beside("main-old")).unwrap();
    Server::start(&data, &[]).stop();
    data.assert_sound();
}

/// What is under way when the server is told to stop is answered; what comes later is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains() {
    let (data, log) = Data::with_main_log();
    let mut server = Server::start(&data, &[]);
    let mut heads = server
        .reader()
        .watch_tree_heads(v1::WatchTreeHeadsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(heads.message().await.unwrap().is_some());
    let request = HealthCheckRequest::default();
    let mut health = HealthClient::new(server.connection())
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    assert!(health.message().await.unwrap().is_some());
    let (open, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = server
        .submitter()
        .submit_stream(requests)
        .await
        .unwrap()
        .into_inner();
    let first = v1::SubmitStreamRequest {
        event: Some(event("streamed", "")),
        ..v1::SubmitStreamRequest::default()
    };
    open.send(first).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);

    let mut workers = JoinSet::new();
    for worker in 0..8 {
        let mut client = server.submitter();
        workers.spawn(async move {
            let mut receipts = Vec::new();
            for number in 0.. {
                match client
                    .submit(submission(event(format!("{worker}-{number}"), "")))
                    .await
                {
                    Ok(response) => receipts.push(response.into_inner().receipt.unwrap()),
                    Err(status) => {
                        // Too late a call is turned away by the transport, in several ways; by the service, never.
                        assert_eq!(Refusal::from(&status).reason, "", "{status:?}");
                        break;
                    }
                }
            }
            receipts
        });
    }
    sleep(Duration::from_millis(200)).await;
    server.terminate();
    // Streams that would go on for ever end, although their clients hold on to them.
    let ends = async {
        while heads.message().await.unwrap().is_some() {}
        while health.message().await.is_ok_and(|status| status.is_some()) {}
        assert_eq!(answers.message().await.unwrap(), None);
    };
    timeout(Duration::from_secs(8), ends)
        .await
        .expect("a stream outlives the server");
    drop(open);
    let receipts: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    let status = tokio::task::block_in_place(|| server.wait());
    assert_eq!(status.code(), Some(0), "{}", server.errors());
    assert!(!server.errors().contains("cut off"), "{}", server.errors());
    drop(server);

    let server = Server::start(&data, &[]);
    // All that was acknowledged, and nothing that was not: each worker had one call under way, and it was answered.
    let size = head(&mut server.reader(), &log, 0).await.size().get();
    assert_eq!(
        size,
        receipts.len() as u64 + 2,
        "calls under way were not answered"
    );
    for receipt in receipts.into_iter().step_by(50) {
        let index = receipt.leaf_index;
        let again = receipt_of(&mut server.reader(), &log, Leaf::LeafIndex(index))
            .await
            .unwrap();
        let receipt = Receipt::try_from(receipt).unwrap().verify(log.key()).unwrap();
        assert_eq!(again.leaf_hash(), receipt.leaf_hash());
    }
    server.stop();
}

/// Other services read their files again at it, and systemd would take an end by it for one that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_changes_nothing() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    for number in 1..=2 {
        server.signal(Signal::HUP);
        let is_told = || server.errors().matches("SIGHUP changes nothing").count() == number;
        eventually(|| is_told().then_some(())).await;
    }
    let (receipt, _) = submit(&mut server.submitter(), &log, event("after", ""))
        .await
        .unwrap();
    assert_eq!(receipt.index().get(), 1);
    server.stop();
}

/// And with it goes whatever would be told there.
#[test]
fn a_terminal_that_goes_away_is_a_stop_in_order() {
    let (data, _log) = Data::with_main_log();
    let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&pty).unwrap();
    unlockpt(&pty).unwrap();
    let name = ptsname(&pty, Vec::new()).unwrap();
    let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut server = Bare::start(&data, Stdio::piped(), terminal);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    drop(pty);
    server.end_by(Signal::HUP);
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_not_say_where_it_listens_serves_all_the_same() {
    let (data, _log) = Data::with_main_log();
    let errors = data.beside("errors");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut server = Bare::start(&data, full, File::create(&errors).unwrap());
    let address: SocketAddr = eventually(|| {
        let errors = fs::read_to_string(&errors).unwrap();
        let (_, address) = errors.split_once("said on standard output address=")?;
        // Half of it may be there.
        let (address, _) = address.split_once(' ')?;
        Some(address.parse().unwrap())
    })
    .await;
    assert_eq!(http_get(address, "/health").status, 200);
    server.end_by(Signal::TERM);
}

#[test]
fn a_report_that_can_not_be_printed_is_an_error() {
    let (data, _log) = Data::with_main_log();
    data.init("other", "blake3");
    // An export needs a published head.
    Server::start(&data, &[]).stop();
    Hook::add(&data, "github", "github", &[]);
    let to = data.beside("export");
    for (arguments, says) in [
        (
            vec!["fsck"],
            "the log `main` has 0 findings, and the report can't be printed",
        ),
        (vec!["fsck", "--json"], "the report can't be printed"),
        (
            vec!["export", "--to", to.to_str().unwrap()],
            "the log `other` is exported, and the report can't be printed",
        ),
        (vec!["source", "list"], "the sources can't be printed"),
    ] {
        let output = counterfoild()
            .args(&arguments)
            .arg("--data")
            .arg(data.path())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
    // What was to be reported is done, for all logs.
    for log in ["main", "other"] {
        assert!(to.join(log).join("checkpoint").exists(), "{log}");
    }
}

/// A directory restored from a backup agrees with itself. What was kept elsewhere shows that it is old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_remembers_what_a_backup_forgot() {
    let (data, log) = Data::with_main_log();
    let anchor = data.beside("anchor");
    std::fs::create_dir(&anchor).unwrap();
    let options = ["--anchor", anchor.to_str().unwrap()];
    let backup = data.beside("backup");
    for events in [3, 4] {
        let server = Server::start(&data, &options);
        for number in 0..events {
            submit(
                &mut server.submitter(),
                &log,
                event(format!("{events}-{number}"), ""),
            )
            .await
            .unwrap();
        }
        server.stop();
        if !backup.exists() {
            data.copy_to(&backup);
        }
    }
    let newest = data.beside("newest");
    data.copy_to(&newest);
    data.restore_from(&backup);
    assert_refuses(
        &data,
        &options,
        &[
            "rolled back",
            "a tree of size 8 was signed",
            "holds 4 entries",
            "anchor",
        ],
    );
    // It did not sign or store anything: the newest copy is still what it was.
    data.assert_sound();
    data.restore_from(&newest);
    let server = Server::start(&data, &options);
    assert_eq!(head(&mut server.reader(), &log, 8).await.size().get(), 8);
    server.stop();
}

#[test]
fn beyond_this_machine_only_with_tls_or_on_demand() {
    let (data, _log) = Data::with_main_log();
    for address in ["0.0.0.0:0", "[::]:0"] {
        assert_refuses(
            &data,
            &["--listen", address],
            &["no TLS", "--tls-cert", "--insecure-plaintext-on-network"],
        );
    }
    let server = Server::start(
        &data,
        &["--listen", "0.0.0.0:0", "--insecure-plaintext-on-network"],
    );
    assert!(server.address().ip().is_unspecified() && server.address().port() > 0);
    server.stop();
    let server = Server::start(&data, &[]);
    assert!(server.address().ip().is_loopback() && server.address().port() > 0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls() {
    let (data, log) = Data::with_main_log();
    let identity = data.identity(&["log.test.example"]);
    let [certificate, key] = &identity.files;
    assert_refuses(
        &data,
        &["--tls-cert", certificate, "--tls-key", certificate],
        &["TLS"],
    );
    assert_refuses(
        &data,
        &["--tls-cert", "/does/not/exist", "--tls-key", key],
        &["/does/not/exist"],
    );

    let server = Server::start(
        &data,
        &[
            &["--listen", "0.0.0.0:0", "--metrics-listen", "127.0.0.1:0"][..],
            &identity.options(),
        ]
        .concat(),
    );
    let metrics = http_get(server.metrics_address(), "/metrics").body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("\ncounterfoil_tls_certificate_expires_seconds{} "),
        "{metrics}"
    );
    let endpoint =
        || Endpoint::from_shared(format!("https://127.0.0.1:{}", server.address().port())).unwrap();
    let trusting = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(identity.certificate.pem()))
        .domain_name("log.test.example");
    let channel = endpoint().tls_config(trusting).unwrap().connect().await.unwrap();
    let (receipt, _) = submit(&mut client(channel.clone()), &log, event("over tls", ""))
        .await
        .unwrap();
    assert_eq!(receipt.index().get(), 1);

    let stranger = rcgen::generate_simple_self_signed(["log.test.example".to_owned()]).unwrap();
    let distrusting = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(stranger.cert.pem()))
        .domain_name("log.test.example");
    assert!(
        endpoint()
            .tls_config(distrusting)
            .unwrap()
            .connect()
            .await
            .is_err()
    );
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.address().port())).unwrap();
    assert!(
        submit(&mut client(plain.connect_lazy()), &log, event("in the clear", ""))
            .await
            .is_err()
    );
    let (receipt, _) = submit(&mut client(channel.clone()), &log, event("again", ""))
        .await
        .unwrap();
    assert_eq!(receipt.index().get(), 2, "what came in the clear was stored");

    // Whoever renews it writes one file after the other.
    let renewed = data.identity(&["log.test.example"]);
    let connect = async |identity: &rcgen::Certificate| {
        let trusting = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(identity.pem()))
            .domain_name("log.test.example");
        endpoint().tls_config(trusting).unwrap().connect().await
    };
    let new = timeout(Duration::from_secs(20), async {
        loop {
            match connect(&renewed.certificate).await {
                Ok(channel) => return channel,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let new = new.await.expect("the renewed certificate is not served");
    assert!(
        connect(&identity.certificate).await.is_err(),
        "the old one is served too"
    );
    for (channel, id) in [(new, "under the new one"), (channel, "as before")] {
        submit(&mut client(channel), &log, event(id, "")).await.unwrap();
    }
    server.stop();
}

fn client(channel: Channel) -> v1::submit_service_client::SubmitServiceClient<Channel> {
    v1::submit_service_client::SubmitServiceClient::new(channel)
}

/// Logs of one server share nothing: neither indices nor events nor keys nor suites.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_independent() {
    let (data, main) = Data::with_main_log();
    let builds = data.init("builds", "sha256");
    assert_eq!((main.keys.len(), builds.keys.len()), (1, 2));
    let server = Server::start(&data, &["--publish-interval-ms", "5"]);
    let mut client = server.submitter();
    for number in 0..3 {
        submit(&mut client, &main, event(format!("main only {number}"), ""))
            .await
            .unwrap();
    }
    let (in_main, _) = submit(&mut client, &main, event("both", "the same"))
        .await
        .unwrap();
    let (in_builds, duplicate) = submit(&mut client, &builds, event("both", "the same"))
        .await
        .unwrap();
    assert_eq!(
        (in_main.index().get(), in_builds.index().get(), duplicate),
        (4, 1, false)
    );

    let mut reader = server.reader();
    let head_of_builds = head(&mut reader, &builds, 2).await;
    assert_eq!(head_of_builds.origin().as_str(), "test.example/builds");
    assert_eq!(head(&mut reader, &main, 5).await.size().get(), 5);
    // Witnesses of C2SP verify the heads of a sha256 log with its plain Ed25519 key.
    let plain = builds.keys[1].verify_head(head_of_builds.note_bytes()).unwrap();
    assert_eq!(
        (plain.size(), plain.root(), plain.time()),
        (head_of_builds.size(), head_of_builds.root(), None)
    );

    let mut request = submission(event("both", "the same"));
    request.log = "builds".to_owned();
    let receipt = client
        .submit(request)
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    let refused = Receipt::try_from(receipt)
        .unwrap()
        .verify(main.key())
        .unwrap_err();
    assert!(
        matches!(refused, ReceiptError::Head(HeadError::OtherOrigin { .. })),
        "{refused:?}"
    );

    // The same id with other bytes is a conflict in the log that has it, and there only.
    let status = submit(&mut client, &main, event("both", "other"))
        .await
        .unwrap_err();
    assert_eq!(
        Refusal::from(&status),
        Refusal::new(Code::AlreadyExists, "EVENT_CONFLICT", "")
    );
    head(&mut reader, &main, 6).await;
    assert_eq!(head(&mut reader, &builds, 2).await.size().get(), 2);
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection() {
    let (data, _log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let mut health = HealthClient::new(server.connection());
    for service in ["", "counterfoil.v1.SubmitService", "counterfoil.v1.ReadService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest {
        service: "counterfoil.v1.Other".to_owned(),
    };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);

    let ask = |question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("counterfoil.v1.SubmitService.Submit".to_owned()),
        MessageRequest::FileContainingSymbol("counterfoil.v1.Entry".to_owned()),
    ];
    let questions = tokio_stream::iter(questions.map(ask));
    let mut reflection = ServerReflectionClient::new(server.connection());
    let answers = reflection.server_reflection_info(questions);
    let answers: Vec<_> = answers
        .await
        .unwrap()
        .into_inner()
        .map(|answer| answer.unwrap().message_response.unwrap())
        .collect()
        .await;
    let [MessageResponse::ListServicesResponse(list), files @ ..] = &answers[..] else {
        panic!("{answers:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "counterfoil.v1.SubmitService",
        "counterfoil.v1.ReadService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(
            matches!(file, MessageResponse::FileDescriptorResponse(file) if !file.file_descriptor_proto.is_empty())
        );
    }
    server.stop();
}

/// `counterfoil` knows the commands of `counterfoild` by a list of its own.
#[test]
fn who_takes_one_program_for_the_other_is_told() {
    let help = counterfoild().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"serve"), "{help}");
    let help = counterfoil().arg("--help").output().unwrap();
    let ours = String::from_utf8(help.stdout).unwrap();
    for command in commands {
        if ours
            .lines()
            .any(|line| line.starts_with(&format!("  {command} ")))
        {
            continue;
        }
        let refused = counterfoil().arg(command).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command}: {told}");
        assert!(told.contains(&format!("`counterfoild {command}`")), "{told}");
    }
}
