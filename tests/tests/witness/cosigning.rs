//! What a witness gives, checked by others' software and by hand.

use std::time::{SystemTime, UNIX_EPOCH};

use counterfoil_merkle::{Suite, TreeSize};
use counterfoil_note::{
    CosignerKey, KeyKind, LogSigner, Origin, SignerKey, UnixMillis, UnixSeconds, parse_signature_lines,
};
use counterfoil_tests::{Connection, MemoryLog, add_checkpoint};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};

use super::{connect, log, witness};

pub(crate) fn origin_hash(origin: &str) -> String {
    hex::encode(Sha256::digest(origin))
}

fn newest(connection: &mut Connection, log: &MemoryLog) -> String {
    let answer = connection.send("GET", &format!("/{}/checkpoint", origin_hash(log.origin())), "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    answer.body
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// tlog-cosignature by hand, from the vkey's text.
struct HandVerifier {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl HandVerifier {
    fn new(key: &CosignerKey) -> Self {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let vkey = key.to_string();
        let mut parts = vkey.splitn(3, '+');
        let (name, id, data) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let data = BASE64_STANDARD.decode(data).unwrap();
        assert_eq!(data[0], 4);
        let digest = Sha256::digest([name.as_bytes(), b"\n", &data].concat());
        assert_eq!(hex::encode(&digest[..4]), id);
        Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(digest[..4].try_into().unwrap()),
            key: VerifyingKey::from_bytes(data[1..].try_into().unwrap()).unwrap(),
        }
    }
}

impl Verifier for HandVerifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], payload: &[u8]) -> bool {
        let (time, signature) = payload.split_at(8);
        let time = u64::from_be_bytes(time.try_into().unwrap());
        let message = [format!("cosignature/v1\ntime {time}\n").as_bytes(), text].concat();
        let signature = Signature::from_slice(signature).unwrap();
        let now = unix_seconds();
        (now - 60..=now).contains(&time) && self.key.verify_strict(&message, &signature).is_ok()
    }
}

#[test]
fn a_growing_log_is_cosigned_at_each_step_and_the_newest_head_can_be_read() {
    for suite in Suite::ALL {
        let log = log(suite);
        let (data, witness) = witness(&[&log]);
        let mut connection = connect(&witness);
        let mut old = 0;
        let mut before = unix_seconds();
        for new in [0, 1, 1, 2, 3, 7, 8, 8, 21, 32, 33, 63, 64] {
            // A head that was cosigned a moment ago gets the same cosignature.
            if new > old {
                before = unix_seconds();
            }
            // Lines by others come along; they are neither read nor kept.
            let others = "— someone.example/else AAAAAAAA\n";
            let answer = connection.add_checkpoint(log.request(old, new) + others);
            assert_eq!(answer.status, 200, "{suite} {old} {new} {answer:?}");
            old = new;

            let lines = parse_signature_lines(answer.body.as_bytes()).unwrap();
            assert_eq!(lines.len(), 1);
            let read = newest(&mut connection, &log);
            assert_eq!(
                read,
                log.head(new) + &answer.body,
                "the log's lines and the witness's"
            );
            for key in log.keys() {
                let head = key.verify_head(read.as_bytes()).unwrap();
                assert_eq!((head.size().get(), head.root()), (new, log.root(new)));
                let cosignature = data.key().verify_cosignature(&head).unwrap().unwrap();
                let now = UnixSeconds::new(unix_seconds()).unwrap();
                assert!((UnixSeconds::new(before).unwrap()..=now).contains(&cosignature.time()));
            }
        }
    }
}

#[test]
fn others_software_takes_what_a_witness_says_of_a_sha256_log() {
    let log = log(Suite::Sha256);
    let (data, witness) = witness(&[&log]);
    let mut connection = connect(&witness);
    let mut old = 0;
    for new in [5, 13, 64] {
        assert_eq!(connection.add_checkpoint(log.request(old, new)).status, 200);
        let read = newest(&mut connection, &log);
        let note = Note::from_bytes(read.as_bytes()).unwrap();
        let plain = log.keys().nth(1).unwrap().to_string();
        let verifiers = VerifierList::new(vec![
            Box::new(StandardVerifier::new(&plain).unwrap()),
            Box::new(HandVerifier::new(data.key())),
        ]);
        let (verified, unknown) = note.verify(&verifiers).unwrap();
        // The third line is the log's own timestamped one.
        assert_eq!((verified.len(), unknown.len()), (2, 1));
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!(
            (checkpoint.size(), checkpoint.hash().0),
            (new, *log.root(new).as_bytes())
        );
        if old > 0 {
            let hash = |size| tlog_tiles::Hash(*log.root(size).as_bytes());
            let proof: Vec<_> = log
                .proof(old, new)
                .iter()
                .map(|hash| tlog_tiles::Hash(*hash.as_bytes()))
                .collect();
            tlog_tiles::check_tree(&proof, new, hash(new), old, hash(old)).unwrap();
        }
        old = new;
    }
}

#[test]
fn logs_do_not_disturb_each_other() {
    let logs: Vec<_> = (0..20_u8)
        .map(|number| {
            let suite = Suite::ALL[usize::from(number % 2)];
            MemoryLog::new(&format!("log.example/{number}"), suite, 2 * number)
        })
        .collect();
    let (_data, witness) = witness(&logs.iter().collect::<Vec<_>>());
    let mut connection = connect(&witness);
    for (old, new) in [(0, 3), (3, 9)] {
        for (log, extra) in logs.iter().zip(0..) {
            let (old, new) = (if old == 0 { 0 } else { old + extra }, new + extra);
            assert_eq!(connection.add_checkpoint(log.request(old, new)).status, 200);
        }
    }
    for (log, extra) in logs.iter().zip(0..) {
        assert!(newest(&mut connection, log).starts_with(&log.head(9 + extra)));
    }
}

/// A head of size 8 of a sha256 log that [`log`] makes, signed at another time.
fn signed_at(log: &MemoryLog, unix_ms: u64) -> String {
    let origin: Origin = log.origin().parse().unwrap();
    let keys = KeyKind::of_log(Suite::Sha256)
        .iter()
        .zip(1_u8..)
        .map(|(kind, seed)| SignerKey::generate(origin.clone(), *kind, [seed; 32]))
        .collect();
    let note = LogSigner::new(keys).unwrap().sign_head(
        TreeSize::new(8).unwrap(),
        log.root(8),
        UnixMillis::new(unix_ms),
    );
    String::from_utf8(note).unwrap()
}

/// A note with one of its signature lines alone.
fn only(note: &str, line: usize) -> String {
    let (text, lines) = note.split_once("\n\n").unwrap();
    format!("{text}\n\n{}\n", lines.lines().nth(line).unwrap())
}

/// Anyone can bring a public checkpoint again with what they like of it.
#[test]
fn nobody_takes_the_logs_lines_off_or_brings_older_ones_back() {
    const TIME: u64 = 1_795_000_000_000;
    let log = log(Suite::Sha256);
    let (data, witness) = witness(&[&log]);
    let mut connection = connect(&witness);
    let [older, first, newer] = [TIME - 1, TIME, TIME + 1].map(|time| signed_at(&log, time));
    assert_eq!(log.head(8), first);
    assert_eq!(connection.add_checkpoint(log.request(0, 8)).status, 200);
    for (brought, kept) in [
        (only(&first, 0), &first),
        (only(&first, 1), &first),
        (older.clone(), &first),
        (only(&newer, 0), &newer),
        (first.clone(), &newer),
        (only(&older, 0), &newer),
    ] {
        let answer = connection.add_checkpoint(add_checkpoint(8, &[], &brought));
        assert_eq!(answer.status, 200, "{brought}");
        let read = newest(&mut connection, &log);
        assert_eq!(read, format!("{kept}{}", answer.body), "{brought}");
        for key in log.keys() {
            let head = key.verify_head(read.as_bytes()).unwrap();
            data.key().verify_cosignature(&head).unwrap().unwrap();
        }
    }
}
