//! Every wrong request, its status, and that it changes nothing.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, Suite};
use counterfoil_tests::{MemoryLog, add_checkpoint};

use super::{connect, log, witness};

/// A note with one signature line more, or another.
fn with_line(note: &str, line: &str) -> String {
    format!("{note}{line}\n")
}

/// Changes the last byte of the signature on line `line` of a note.
fn spoil(note: &str, line: usize) -> String {
    let mut lines: Vec<String> = note.lines().map(str::to_owned).collect();
    let (head, data) = lines[line].rsplit_once(' ').unwrap();
    let mut bytes = BASE64_STANDARD.decode(data).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    lines[line] = format!("{head} {}", BASE64_STANDARD.encode(bytes));
    lines.join("\n") + "\n"
}

fn signature_line(note: &str, line: usize) -> String {
    note.lines().nth(line).unwrap().to_owned()
}

/// Wrong at any state of the log.
fn always_wrong(log: &MemoryLog) -> Vec<(u16, &'static str, String)> {
    let other = MemoryLog::new("log.example/other", log.suite(), 50);
    // Keys of its own under the same name: an impostor.
    let impostor = MemoryLog::new("log.example/main", log.suite(), 60);
    let head = log.head(8);
    let good = log.request(4, 8);
    let zeros = Digest::from([0; 32]);
    vec![
        (400, "nothing", String::new()),
        (400, "no old size", head.clone()),
        (400, "a leading zero", good.replacen("old 4", "old 04", 1)),
        (
            400,
            "a size beyond 2^63 - 1",
            good.replacen("old 4", "old 9223372036854775808", 1),
        ),
        (400, "no empty line", good.replacen("\n\n", "\n", 1)),
        (400, "64 hashes", add_checkpoint(4, &[zeros; 64], &head)),
        (
            400,
            "a hash of 31 bytes",
            format!("old 4\n{}\n\n{head}", BASE64_STANDARD.encode([0; 31])),
        ),
        (400, "carriage returns", good.replace('\n', "\r\n")),
        (400, "no checkpoint", "old 4\n\n".to_owned()),
        (
            400,
            "a checkpoint without signatures",
            add_checkpoint(4, &[], head.split("\n\n").next().unwrap()),
        ),
        (
            400,
            "a note that is no checkpoint",
            add_checkpoint(4, &[], &head.replacen("\n8\n", "\neight\n", 1)),
        ),
        (
            400,
            "a size with a leading zero",
            add_checkpoint(4, &[], &head.replacen("\n8\n", "\n08\n", 1)),
        ),
        (400, "no final newline", good.trim_end().to_owned()),
        (
            400,
            "an empty origin",
            add_checkpoint(4, &[], &head.replacen("log.example/main\n", "\n", 1)),
        ),
        (
            400,
            "an old size beyond the checkpoint's",
            add_checkpoint(9, &[], &head),
        ),
        (404, "another log", other.request(0, 8)),
        (
            404,
            "a name that no key can have",
            add_checkpoint(0, &[], &head.replacen("main\n", "ma in\n", 1)),
        ),
        (
            404,
            "another log, although its old size is too large",
            add_checkpoint(9, &[], &other.head(8)),
        ),
        (
            403,
            "an impostor's signature",
            add_checkpoint(4, &log.proof(4, 8), &impostor.head(8)),
        ),
        (
            403,
            "an impostor's, although the old size is too large",
            add_checkpoint(9, &[], &impostor.head(8)),
        ),
        (
            403,
            "a spoilt signature",
            add_checkpoint(4, &log.proof(4, 8), &spoil(&head, 4)),
        ),
        (
            403,
            "a spoilt signature before the true one",
            add_checkpoint(4, &log.proof(4, 8), &{
                let spoilt = signature_line(&spoil(&head, 4), 4);
                head.replacen("\n\n", &format!("\n\n{spoilt}\n"), 1)
            }),
        ),
        (
            403,
            "a true signature of another head",
            add_checkpoint(4, &log.proof(4, 8), &{
                with_line(
                    &format!("{}\n\n", head.split("\n\n").next().unwrap()),
                    &signature_line(&log.head(9), 4),
                )
            }),
        ),
    ]
}

#[test]
fn each_wrong_request_gets_its_status_and_changes_nothing() {
    for suite in Suite::ALL {
        let log = log(suite);
        let fork = MemoryLog::forked(log.origin(), suite, 1, 2);
        let (_data, witness) = witness(&[&log]);
        let mut connection = connect(&witness);
        assert_eq!(connection.add_checkpoint(log.request(0, 4)).status, 200);
        let path = format!("/{}/checkpoint", super::cosigning::origin_hash(log.origin()));
        let before = connection.send("GET", &path, "");

        let zeros = Digest::from([0; 32]);
        let mut wrong = always_wrong(&log);
        let short = |old, new| log.proof(old, new)[1..].to_vec();
        wrong.extend([
            (409, "an old size that is smaller", log.request(3, 8)),
            (409, "one that is larger", log.request(5, 8)),
            (409, "zero, to ask for the size", log.request(0, 8)),
            (
                409,
                "an old size of another state, although the proof is wrong",
                add_checkpoint(5, &[zeros], &log.head(8)),
            ),
            (
                409,
                "the same, although the empty root is wrong",
                add_checkpoint(0, &[], &log.sign(0, zeros)),
            ),
            (422, "no proof", add_checkpoint(4, &[], &log.head(8))),
            (422, "a wrong proof", add_checkpoint(4, &[zeros], &log.head(8))),
            (
                422,
                "a hash too many",
                add_checkpoint(4, &[log.proof(4, 8), vec![zeros]].concat(), &log.head(8)),
            ),
            (
                422,
                "a hash too few",
                add_checkpoint(4, &short(4, 7), &log.head(7)),
            ),
            (422, "a history that forked before", fork.request(4, 8)),
            (
                422,
                "another root of the same size",
                with_line(&fork.request(4, 4), "\u{2014} stranger.example AAAAAAA="),
            ),
            (
                422,
                "a proof between equal sizes",
                add_checkpoint(4, &[zeros], &log.head(4)),
            ),
        ]);
        for (status, what, body) in wrong {
            let answer = connection.add_checkpoint(&body);
            assert_eq!(answer.status, status, "{suite}: {what}: {answer:?}");
            let is_one_line = answer.body.ends_with('\n') && answer.body.lines().count() == 1;
            assert!(is_one_line && answer.body.len() < 200, "{answer:?}");
            let content_type = match status {
                409 => {
                    assert_eq!(answer.body, "4\n", "{what}");
                    "text/x.tlog.size"
                }
                _ => "text/plain; charset=utf-8",
            };
            assert_eq!(answer.header("content-type"), Some(content_type));
        }
        assert_eq!(connection.send("GET", &path, ""), before, "{suite}");
        assert_eq!(connection.add_checkpoint(log.request(4, 8)).status, 200);
        // The fork is evidence: both notes are in the journal, once, and nothing that a stranger added.
        let errors = witness.errors();
        assert_eq!(errors.matches("two trees of one size").count(), 1);
        assert!(errors.contains(&signature_line(&fork.head(4), 4)), "{errors}");
        assert!(!errors.contains("stranger.example"), "{errors}");
    }
}

#[test]
fn a_fork_is_reported_whatever_comes_with_it() {
    let log = log(Suite::Blake3);
    let fork = MemoryLog::forked(log.origin(), Suite::Blake3, 1, 2);
    let junk = vec![Digest::from([0; 32])];
    for (status, old, proof) in [(422, 4, junk), (409, 0, vec![]), (400, 9, vec![])] {
        let (_data, witness) = witness(&[&log]);
        let mut connection = connect(&witness);
        assert_eq!(connection.add_checkpoint(log.request(0, 4)).status, 200);
        let answer = connection.add_checkpoint(add_checkpoint(old, &proof, &fork.head(4)));
        assert_eq!(answer.status, status, "{answer:?}");
        let errors = witness.errors();
        assert!(errors.contains("two trees of one size"), "{old}: {errors}");
        assert!(errors.contains(&signature_line(&fork.head(4), 4)), "{errors}");
    }
}

#[test]
fn from_nothing_the_proof_must_be_empty_and_the_empty_root_true() {
    for suite in Suite::ALL {
        let log = log(suite);
        let (_data, witness) = witness(&[&log]);
        let mut connection = connect(&witness);
        let zeros = Digest::from([0; 32]);
        let mut status = |body: String| {
            let answer = connection.add_checkpoint(body);
            (answer.status, answer.body)
        };
        assert_eq!(status(add_checkpoint(0, &[zeros], &log.head(8))).0, 422);
        assert_eq!(status(add_checkpoint(0, &[], &log.sign(0, zeros))).0, 422);
        let other_suite = Suite::ALL.into_iter().find(|other| *other != suite).unwrap();
        assert_eq!(
            status(add_checkpoint(0, &[], &log.sign(0, other_suite.empty_root()))).0,
            422
        );
        assert_eq!(status(log.request(4, 8)), (409, "0\n".to_owned()));
        assert_eq!(status(add_checkpoint(0, &[zeros], &log.head(0))).0, 422);
        assert_eq!(status(log.request(0, 0)).0, 200);
        assert_eq!(status(add_checkpoint(0, &[zeros], &log.head(8))).0, 422);
        assert_eq!(status(log.request(0, 0)).0, 200, "still empty");
        assert_eq!(status(log.request(0, 8)).0, 200);
    }
}

#[test]
fn a_sha256_log_is_known_by_either_key_or_both_and_none_present_may_fail() {
    let log = log(Suite::Sha256);
    let head = log.head(8);
    let (stamped, plain) = (signature_line(&head, 4), signature_line(&head, 5));
    let text = head.split("\n\n").next().unwrap();
    let only = |line: &str| with_line(&format!("{text}\n\n"), line);
    let keys: Vec<_> = log.keys().collect();
    for (trusted, heads) in [
        (
            &keys[..1],
            [
                (&head, 200),
                (&only(&stamped), 200),
                (&only(&plain), 403),
                (&spoil(&head, 4), 403),
                (&spoil(&head, 5), 200),
            ],
        ),
        (
            &keys[1..],
            [
                (&head, 200),
                (&only(&stamped), 403),
                (&only(&plain), 200),
                (&spoil(&head, 4), 200),
                (&spoil(&head, 5), 403),
            ],
        ),
        (
            &keys[..],
            [
                (&head, 200),
                (&only(&stamped), 200),
                (&only(&plain), 200),
                (&spoil(&head, 4), 403),
                (&spoil(&head, 5), 403),
            ],
        ),
    ] {
        let (data, witness) = witness(&[]);
        data.set_logs(trusted);
        witness.signal(rustix::process::Signal::HUP);
        let mut connection = connect(&witness);
        super::until(|| connection.add_checkpoint(log.request(0, 8)).status == 200);
        for (head, status) in heads {
            let answer = connection.add_checkpoint(add_checkpoint(8, &[], head));
            assert_eq!(answer.status, status, "{} keys: {head}{answer:?}", trusted.len());
        }
    }
}

#[test]
fn other_paths_and_methods_are_refused() {
    let log = log(Suite::Blake3);
    let (_data, witness) = witness(&[&log]);
    let mut connection = connect(&witness);
    let hash = super::cosigning::origin_hash(log.origin());
    for (method, path, status) in [
        ("GET", "/add-checkpoint".to_owned(), 405),
        ("PUT", "/add-checkpoint".to_owned(), 405),
        ("POST", format!("/{hash}/checkpoint"), 405),
        ("POST", "/add-checkpoint/".to_owned(), 404),
        ("POST", "/sign-subtree".to_owned(), 404),
        ("GET", "/".to_owned(), 404),
        ("GET", "/checkpoint".to_owned(), 404),
        ("GET", format!("/{hash}/checkpoint"), 404),
    ] {
        assert_eq!(
            connection.send(method, &path, "").status,
            status,
            "{method} {path}"
        );
    }
    assert_eq!(connection.add_checkpoint(log.request(0, 8)).status, 200);
    for (path, status) in [
        (format!("/{hash}/checkpoint"), 200),
        (format!("/{}/checkpoint", hash.to_uppercase()), 404),
        (format!("/{}/checkpoint", &hash[1..]), 404),
        (format!("/{hash}0/checkpoint"), 404),
        (format!("/{hash}/checkpoint/"), 404),
    ] {
        assert_eq!(connection.send("GET", &path, "").status, status, "{path}");
    }
}
