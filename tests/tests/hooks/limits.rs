//! Long bodies, slow bodies, many bodies, full queues and full disks.

use std::{thread, time::Duration};

use bytes::Bytes;
use counterfoil_tests::{Answer, Connection, Data, Hook, Server, SmallDisk, event, submission};
use tokio::task::JoinSet;

use crate::{assert_refused, assert_taken, json, on_record};

const MIB: usize = 1 << 20;
const MAX_BODY_BYTES: usize = 25 * MIB;

/// The head of a delivery, up to its length.
fn head(hook: &Hook, body: &[u8]) -> String {
    let mut head = format!("POST {} HTTP/1.1\r\nhost: test.example\r\n", hook.path());
    for (name, value) in hook.headers("push", "d1", body) {
        head += &format!("{name}: {value}\r\n");
    }
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_body_is_taken_and_a_longer_one_is_not_read() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let longest = vec![b' '; MAX_BODY_BYTES];
    let leaf = assert_taken(&hook.deliver(server.address(), "push", "d1", &longest), false);
    assert_eq!(
        on_record(&server, &log, leaf).await.entry.payload_length(),
        MAX_BODY_BYTES as u64
    );

    // Refused for what it says, before a byte of it came.
    for length in ["26214401", "1099511627776"] {
        let mut connection = Connection::to(server.address());
        let head = format!("{}content-length: {length}\r\n\r\n", head(&hook, b""));
        connection.write(head.as_bytes()).unwrap();
        assert_refused(&connection.answer().unwrap(), 413, "TOO_LARGE");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_say_its_length_ends_at_the_limit() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let chunk = vec![b' '; MIB];
    let chunked = |body: &[u8]| format!("{}transfer-encoding: chunked\r\n\r\n", head(&hook, body));
    let mut connection = Connection::to(server.address());
    connection.write(chunked(b"").as_bytes()).unwrap();
    for _ in 0..=25 {
        connection.write(format!("{MIB:x}\r\n").as_bytes()).unwrap();
        connection.write(&chunk).unwrap();
        if connection.write(b"\r\n").is_err() {
            break;
        }
    }
    assert_refused(&connection.answer().unwrap(), 413, "TOO_LARGE");

    // Within the limit, chunks are as good as a length.
    let body = chunk.repeat(2);
    let mut connection = Connection::to(server.address());
    connection.write(chunked(&body).as_bytes()).unwrap();
    for _ in 0..2 {
        connection.write(format!("{MIB:x}\r\n").as_bytes()).unwrap();
        connection.write(&[&chunk[..], b"\r\n"].concat()).unwrap();
    }
    connection.write(b"0\r\n\r\n").unwrap();
    let leaf = assert_taken(&connection.answer().unwrap(), false);
    assert_eq!(on_record(&server, &log, leaf).await.body, body);
}

/// Senders who know no secret can begin bodies and say that they will be long. Only what they send takes memory, so they keep
/// nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_come_hold_up_nobody() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &[]);
    let begun = |length: usize| {
        let mut connection = Connection::to(server.address());
        let head = format!("{}content-length: {length}\r\n\r\n[", head(&hook, b""));
        connection.write(head.as_bytes()).unwrap();
        connection
    };
    let mut stalled: Vec<_> = (0..80).flat_map(|_| [MIB, 24 * MIB]).map(begun).collect();
    // Time for each of them to be at its body.
    thread::sleep(Duration::from_millis(300));
    let deliver = |id: &str, length: usize| hook.deliver(server.address(), "push", id, &vec![b' '; length]);
    assert_taken(&deliver("short", MIB), false);
    assert_taken(&deliver("long", 24 * MIB), false);
    for connection in &mut stalled {
        assert_refused(&connection.answer().unwrap(), 408, "TOO_SLOW");
    }
}

/// One delivery, or how it was pushed back.
fn pushed_back(answer: &Answer, reason: &str) -> bool {
    if answer.status == 201 {
        return false;
    }
    assert_refused(answer, 503, reason);
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    true
}

/// Whoever can come again is pushed back at once. A delivery waits: most providers never send it again by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_pushes_back() {
    let (data, _log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &["--memory-mib", "32"]);
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(24 * MIB)
        .collect();
    let noise = Bytes::from(noise);
    let body = &noise[..12 * MIB];
    let post = |id: &str| {
        let headers = [
            ("content-type", "application/octet-stream"),
            ("ce-specversion", "1.0"),
            ("ce-type", "test"),
            ("ce-source", "https://flood.example"),
            ("ce-id", id),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Connection::to(server.address()).post("/logs/main/events", &headers, body)
    };
    let mut refused = None;
    // How fast the disk is nobody knows: others flood the queue until an event finds it full.
    for round in 0..20 {
        let mut calls = JoinSet::new();
        for number in 0..16 {
            let (mut client, event) = (
                server.submitter(),
                event(format!("{round}-{number}"), noise.clone()),
            );
            calls.spawn(async move { drop(client.submit(submission(event)).await) });
        }
        let mut number = 0;
        while !calls.is_empty() && refused.is_none() {
            let id = format!("{round}-{number}");
            refused = pushed_back(&post(&id), "QUEUE_FULL").then_some(id);
            number += 1;
            while calls.try_join_next().is_some() {}
        }
        if let Some(id) = &refused {
            // No more come; what is in the queue is on its way to the disk.
            calls.abort_all();
            let answer = hook.deliver(server.address(), "push", id, body);
            assert_taken(&answer, false);
        }
        while calls.join_next().await.is_some() {}
        if refused.is_some() {
            break;
        }
    }
    // Nothing of it was recorded: it is new when it comes again.
    let refused = refused.expect("a flood of 24 MiB events fills a queue of 64 MiB");
    let answer = (0..100)
        .map(|_| post(&refused))
        .find(|answer| answer.status == 201);
    assert_taken(&answer.expect("the queue empties"), false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_pushes_back() {
    let Some(disk) = SmallDisk::mount(192) else { return };
    let data = Data::at(disk.path().join("data"));
    data.init("main", "blake3");
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Server::start(&data, &["--memory-mib", "32", "--min-free-mib", "32"]);
    assert_taken(&hook.deliver(server.address(), "push", "d1", b"{}"), false);
    let ballast = disk.fill_to(8);
    assert!(pushed_back(
        &hook.deliver(server.address(), "push", "d2", b"{}"),
        "OUT_OF_SPACE"
    ));
    drop(ballast);
    // The log looks again in its own time.
    let recorded = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        json(&hook.deliver(server.address(), "push", "d2", b"{}"))["duplicate"] == false
    });
    assert!(recorded, "the disk has room, and the log does not write");
}
