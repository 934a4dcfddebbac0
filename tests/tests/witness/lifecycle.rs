//! Making, starting, changing the list of logs, stopping.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use counterfoil_merkle::Suite;
use counterfoil_note::{KeyKind, SignerKey};
use counterfoil_tests::{Identity, MemoryLog, Refused, Witness, WitnessData, counterfoil};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

use super::{NAME, connect, log, until, witness};

#[test]
fn logs_are_added_and_removed_while_it_runs_and_never_forgotten() {
    let (first, second) = (
        log(Suite::Blake3),
        MemoryLog::new("log.example/second", Suite::Sha256, 30),
    );
    let (data, witness) = witness(&[&first]);
    let mut connection = connect(&witness);
    assert_eq!(connection.add_checkpoint(first.request(0, 8)).status, 200);
    assert_eq!(connection.add_checkpoint(second.request(0, 5)).status, 404);

    // Added: seen without a signal.
    data.set_logs(&[first.keys().next().unwrap(), second.keys().next().unwrap()]);
    until(|| connection.add_checkpoint(second.request(0, 5)).status == 200);

    // Broken: nothing changes, and the journal says where.
    data.replace_logs_file(format!("log {}\nlog nonsense\n", second.keys().next().unwrap()));
    witness.signal(Signal::HUP);
    until(|| witness.errors().contains("the logs file is wrong"));
    assert!(witness.errors().contains("line 2: the key is not of the form"));
    assert_eq!(connection.add_checkpoint(first.request(8, 9)).status, 200);

    // Removed: unknown, but what was cosigned can still be read.
    data.set_logs(&[second.keys().next().unwrap()]);
    witness.signal(Signal::HUP);
    until(|| connection.add_checkpoint(first.request(8, 10)).status == 404);
    let path = format!("/{}/checkpoint", super::cosigning::origin_hash(first.origin()));
    assert!(connection.send("GET", &path, "").body.starts_with(&first.head(9)));

    // Back under another key: the state is that of the log, whatever its key.
    let rekeyed = MemoryLog::new(first.origin(), Suite::Blake3, 99);
    data.set_logs(&[rekeyed.keys().next().unwrap()]);
    witness.signal(Signal::HUP);
    until(|| connection.add_checkpoint(rekeyed.request(0, 10)).status == 409);
    assert_eq!(connection.add_checkpoint(rekeyed.request(0, 10)).body, "9\n");
    assert_eq!(connection.add_checkpoint(first.request(9, 10)).status, 403);
    assert_eq!(connection.add_checkpoint(rekeyed.request(9, 10)).status, 200);

    // And all of it across a restart.
    witness.stop();
    let witness = Witness::start(&data);
    let mut connection = connect(&witness);
    assert_eq!(connection.add_checkpoint(rekeyed.request(0, 11)).body, "10\n");
    witness.stop();
}

fn refusal(data: &WitnessData, logs: &Path) -> String {
    let Err(Refused { code, errors, .. }) = Witness::try_start(data, logs) else {
        panic!("it started");
    };
    assert_eq!(code, Some(2), "{errors}");
    errors
}

#[test]
fn it_refuses_to_start_where_it_could_cosign_a_fork_or_leak_its_key() {
    let log = log(Suite::Blake3);
    let (data, witness) = witness(&[&log]);
    assert_eq!(connect(&witness).add_checkpoint(log.request(0, 8)).status, 200);
    let logs = data.logs_path();
    assert!(refusal(&data, &logs).contains("another witness is running on it"));
    witness.stop();

    let key_file = data.path().join("witness.key");
    assert_eq!(
        fs::metadata(&key_file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(data.path()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal(&data, &logs).contains("others than its owner may read it (mode 640)"));
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();

    assert!(refusal(&data, Path::new("absent")).contains("the logs file absent"));
    let secret = fs::read_to_string(&key_file).unwrap();

    // The state of another witness, a damaged one, none at all.
    let state = data.path().join("state.redb");
    let other = WitnessData::init("witness.example/other");
    let kept = fs::read(&state).unwrap();
    fs::copy(other.path().join("state.redb"), &state).unwrap();
    assert!(refusal(&data, &logs).contains("it is the state of the witness witness.example/other+"));
    fs::write(&state, vec![7; kept.len()]).unwrap();
    assert!(refusal(&data, &logs).contains("no older copy may take its place"));
    fs::remove_file(&state).unwrap();
    let errors = refusal(&data, &logs);
    assert!(
        errors.contains("a witness that has forgotten") || errors.contains("A witness that has forgotten"),
        "{errors}"
    );
    assert!(!state.exists(), "nothing was made in its place");
    assert!(!errors.contains(secret.trim_end()));

    fs::write(&state, kept).unwrap();
    let witness = Witness::start(&data);
    assert_eq!(connect(&witness).add_checkpoint(log.request(0, 9)).body, "8\n");
}

/// Stopped in order, and killed: then the database has to be repaired, and has what it was before the newest commit.
#[test]
fn it_refuses_to_start_on_a_note_that_was_changed() {
    let log = log(Suite::Blake3);
    for is_killed in [false, true] {
        let (data, witness) = witness(&[&log]);
        let mut connection = connect(&witness);
        for (old, new) in [(0, 8), (8, 9)] {
            assert_eq!(connection.add_checkpoint(log.request(old, new)).status, 200);
        }
        if is_killed {
            witness.kill();
        } else {
            witness.stop();
        }
        let state = data.path().join("state.redb");
        let mut bytes = fs::read(&state).unwrap();
        let begin = format!("{}\n9\n", log.origin());
        let places: Vec<_> = bytes
            .windows(begin.len())
            .enumerate()
            .filter_map(|(place, text)| (text == begin.as_bytes()).then_some(place))
            .collect();
        assert!(!places.is_empty());
        // It reads as well as before, and is of a smaller tree.
        for place in places {
            bytes[place + begin.len() - 2] = b'7';
        }
        fs::write(&state, bytes).unwrap();
        let errors = refusal(&data, &data.logs_path());
        assert!(errors.contains("no older copy may take its place"), "{errors}");
    }
}

#[test]
fn a_key_is_never_overwritten_and_never_a_logs() {
    let data = WitnessData::init(NAME);
    let key = fs::read(data.path().join("witness.key")).unwrap();
    let again = counterfoil()
        .args(["witness", "init", "--name", NAME, "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(
        String::from_utf8(again.stderr)
            .unwrap()
            .contains("never overwritten")
    );
    assert_eq!(fs::read(data.path().join("witness.key")).unwrap(), key);

    let of_a_log = SignerKey::generate(NAME.parse().unwrap(), KeyKind::Ed25519, [9; 32]).to_secret_text();
    // In place, so that it is readable for as few as before.
    fs::write(data.path().join("witness.key"), format!("{}\n", *of_a_log)).unwrap();
    let errors = refusal(&data, &data.logs_path());
    assert!(errors.contains("log's key"), "{errors}");
    assert!(!errors.contains(of_a_log.as_str()), "{errors}");
}

#[test]
fn a_request_under_way_is_answered_before_it_stops() {
    let log = log(Suite::Blake3);
    let (_data, witness) = witness(&[&log]);
    let (mut idle, mut busy) = (connect(&witness), connect(&witness));
    assert_eq!(idle.send("GET", "/", "").status, 404);
    let request = log.request(0, 8);
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        request.len()
    );
    busy.write(head.as_bytes()).unwrap();
    assert!(busy.is_continued());
    busy.write(&request.as_bytes()[..30]).unwrap();
    witness.signal(Signal::TERM);
    until(|| witness.errors().contains("stopping"));
    assert!(idle.is_closed());
    busy.write(&request.as_bytes()[30..]).unwrap();
    assert_eq!(busy.answer().unwrap().status, 200);
    witness.stop();
}

#[tokio::test]
async fn it_speaks_tls_with_a_certificate() {
    let data = WitnessData::init(NAME);
    let identity = Identity::in_directory(&data.path(), &["localhost"]);
    let witness = Witness::try_start_with(&data, &data.logs_path(), &identity.options()).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(witness.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // Who speaks no TLS gets no HTTP.
    let mut plain = tokio::net::TcpStream::connect(witness.address()).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![];
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
