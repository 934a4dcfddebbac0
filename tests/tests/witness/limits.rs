//! Bodies that are too long, too slow or broken, and connections in plenty.

use std::{fs, io::Write as _, net::TcpStream};

use counterfoil_merkle::Suite;

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
