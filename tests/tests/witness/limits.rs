//! Bodies that are too long, too slow or broken, notes without room, and connections in plenty.

use std::{fs, io::Write as _, net::TcpStream, sync::Barrier, thread};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::Suite;
use counterfoil_note::MAX_NOTE_BYTES;
use counterfoil_tests::{MemoryLog, add_checkpoint};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{connect, log, witness};

/// 63 lines of proof and the longest note, as `counterfoil-witness` counts them.
const MAX_REQUEST_BYTES: usize = 24 + 63 * 45 + 1 + 64 * 1024;

#[test]
fn a_body_is_read_up_to_its_limit_and_not_past_it() {
    let (_data, witness) = witness(&[]);
    let fill = |bytes: usize| "old 0\n\n".to_owned() + &"x".repeat(bytes - 7);
    // At the limit it is read, and is no note; past it nobody reads it.
    assert_eq!(
        connect(&witness).add_checkpoint(fill(MAX_REQUEST_BYTES)).status,
        400
    );
    assert_eq!(
        connect(&witness)
            .add_checkpoint(fill(MAX_REQUEST_BYTES + 1))
            .status,
        413
    );

    // The length alone is enough: nothing of the body is waited for.
    let mut connection = connect(&witness);
    connection
        .write(b"POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n")
        .unwrap();
    assert_eq!(connection.answer().unwrap().status, 413);
    assert!(connection.is_closed());

    // Without a length the bytes are counted.
    let mut connection = connect(&witness);
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    connection
        .write(b"POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    for _ in 0..=MAX_REQUEST_BYTES / 0x1000 {
        connection.write(chunk.as_bytes()).unwrap();
    }
    assert_eq!(connection.answer().unwrap().status, 413);
    assert!(connection.is_closed());
}

/// A head of a sha256 log that [`log`] makes, in a note of so many bytes: an extension line fills it. Only the plain key,
/// made from the seed 2, signs.
fn filled(log: &MemoryLog, size: u64, bytes: usize) -> String {
    let key = log.keys().nth(1).unwrap();
    let line = |text: &str| {
        let id = hex::decode(key.id().to_string()).unwrap();
        let signature = SigningKey::from_bytes(&[2; 32]).sign(text.as_bytes()).to_bytes();
        let data = BASE64_STANDARD.encode([&id[..], &signature].concat());
        format!("\u{2014} {} {data}\n", key.name())
    };
    let head = log.head(size);
    let text = head.split("\n\n").next().unwrap();
    let fill = "x".repeat(bytes - text.len() - line("").len() - 3);
    let text = format!("{text}\n{fill}\n");
    let note = format!("{text}\n{}", line(&text));
    assert_eq!(note.len(), bytes);
    note
}

/// What could not be read again is not stored, and harms nobody.
#[test]
fn a_note_with_room_for_the_cosignature_is_stored_and_one_without_is_refused() {
    let (log, other) = (
        log(Suite::Sha256),
        MemoryLog::new("log.example/other", Suite::Blake3, 50),
    );
    let (_data, witness) = witness(&[&log, &other]);
    let mut connection = connect(&witness);
    let room = connection.add_checkpoint(log.request(0, 4)).body.len();
    let request = |old, new, bytes| add_checkpoint(old, &log.proof(old, new), &filled(&log, new, bytes));

    // Several at once, which would share a batch.
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for bytes in [1, 1, room, room].map(|over| MAX_NOTE_BYTES - room + over) {
            let (start, body, mut connection) = (&start, request(4, 8, bytes), connect(&witness));
            scope.spawn(move || {
                start.wait();
                let answer = connection.add_checkpoint(body);
                assert_eq!(answer.status, 400, "{bytes}");
                assert!(answer.body.contains("with the cosignature the note has"));
            });
        }
    });
    assert_eq!(connection.add_checkpoint(other.request(0, 8)).status, 200);

    let answer = connection.add_checkpoint(request(4, 8, MAX_NOTE_BYTES - room));
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = format!("/{}/checkpoint", super::cosigning::origin_hash(log.origin()));
    assert_eq!(connection.send("GET", &path, "").body.len(), MAX_NOTE_BYTES);
    assert_eq!(connection.add_checkpoint(log.request(8, 9)).status, 200);
}

#[test]
fn a_body_that_does_not_come_or_breaks_off_holds_nobody_up() {
    let log = log(Suite::Blake3);
    let (_data, witness) = witness(&[&log]);
    let request = log.request(0, 8);
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        request.len()
    );
    let mut slow = connect(&witness);
    slow.write(format!("{head}{}", &request[..20]).as_bytes())
        .unwrap();
    let mut broken = TcpStream::connect(witness.address()).unwrap();
    broken
        .write_all(format!("{head}{}", &request[..20]).as_bytes())
        .unwrap();
    drop(broken);
    // Others are answered meanwhile.
    assert_eq!(connect(&witness).add_checkpoint(&request).status, 200);
    assert_eq!(slow.answer().unwrap().status, 408);
    assert!(slow.is_closed());
}

#[test]
fn what_is_no_http_is_dropped() {
    let log = log(Suite::Blake3);
    let (_data, witness) = witness(&[&log]);
    let mut connection = connect(&witness);
    connection.write(b"old 0\n\n\n").unwrap();
    assert_eq!(connection.answer().unwrap().status, 400);
    let mut connection = connect(&witness);
    let _ = connection.write(&[b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 200_000]].concat());
    assert!(connection.answer().is_ok_and(|answer| answer.status == 431) || connection.is_closed());
    assert_eq!(connect(&witness).add_checkpoint(log.request(0, 8)).status, 200);
}

/// Whoever takes all connections and stays silent on them keeps no log out.
#[test]
fn past_the_limit_of_connections_the_longest_silent_makes_room() {
    const MAX_CONNECTIONS: usize = 768;
    let log = log(Suite::Blake3);
    let (_data, witness) = witness(&[&log]);
    let mut silent: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect(&witness)).collect();
    // All are served: the last too has its place. And the first has been heard of since.
    for place in [MAX_CONNECTIONS - 1, 0] {
        assert_eq!(silent[place].add_checkpoint("").status, 400);
    }
    // Half of a request is as good as none.
    silent[1]
        .write(b"POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nold")
        .unwrap();
    let mut others = Vec::new();
    for (place, silent) in silent[..100].iter_mut().enumerate().skip(1) {
        let mut other = connect(&witness);
        let size = if place == 1 { 0 } else { 8 };
        assert_eq!(other.add_checkpoint(log.request(size, 8)).status, 200);
        assert!(silent.is_closed(), "{place}");
        others.push(other);
    }
    assert_eq!(silent[0].add_checkpoint("").status, 400);
    assert_eq!(silent[100].add_checkpoint("").status, 400);
    let open = fs::read_dir(format!("/proc/{}/fd", witness.pid())).unwrap();
    assert!(open.count() < MAX_CONNECTIONS + 50);
}
