//! Receipts and evidence as files: good, forged, and under the wrong trust.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_note::{CosignerSigner, UnixMillis, UnixSeconds};
use counterfoil_tests::{Data, counterfoil};
use counterfoil_verify::{Evidence, Fact};

use crate::{
    desk::{Desk, Live, accepts, altered, expect, refuses, words},
    entries::{entry_of, receipt_of, signer},
};

fn receipts(suite: &str) {
    let live = Live::start(suite);
    live.submit();
    let (desk, key) = (&live.desk, live.trust_key());
    let receipt = desk.path("receipt");
    let receipt = receipt.as_path();
    let policy = desk.path("log.policy");
    let payload = desk.path("payload");
    accepts(
        words!["receipt", receipt, "--key", &key],
        &["leaf      1", "ci.done"],
    );
    accepts(
        words!["receipt", receipt, "--policy", &policy, "--payload", &payload],
        &["is what was recorded"],
    );
    for key in &live.log.keys {
        accepts(words!["receipt", receipt, "--key", key.to_string()], &[suite]);
    }

    let other = desk.file("other", "outcome: failure\n");
    refuses(
        words!["receipt", receipt, "--key", &key, "--payload", other],
        "does not commit to this payload",
    );
    let other = desk.file("other", "outcome: success\n\n");
    refuses(
        words!["receipt", receipt, "--key", &key, "--payload", other],
        "has 18 bytes; recorded were 17",
    );
    let text = desk.read("receipt");
    let moved = desk.file("moved", altered(&text, "\nindex 1\n", "\nindex 0\n"));
    refuses(
        words!["receipt", moved, "--key", &key],
        "does not lead from the leaf at index 0",
    );
    let shrunk = desk.file(
        "shrunk",
        altered(&text, "test.example/main\n2\n", "test.example/main\n3\n"),
    );
    refuses(words!["receipt", shrunk, "--key", &key], "does not verify");
    let cut = desk.file("cut", &text[..text.len() - 1]);
    refuses(words!["receipt", cut, "--key", &key], "does not end in a newline");
    let header = if suite == "sha256" {
        "c2sp.org"
    } else {
        "counterfoil"
    };
    let unknown = desk.file("unknown", altered(&text, header, "example.com"));
    refuses(words!["receipt", unknown, "--key", &key], "unknown header");
    trust_in_others(&live, receipt);
}

/// A true receipt, and verifiers who trust somebody else, more people, or nobody.
fn trust_in_others(live: &Live, receipt: &Path) {
    let desk = &live.desk;
    let stranger = Data::temporary().init("main", &live.suite);
    let policy = desk.file("stranger", format!("log {}\nquorum none\n", stranger.key()));
    refuses(
        words!["receipt", receipt, "--policy", policy],
        "not signed by a key",
    );
    let elsewhere = Data::temporary().init("elsewhere", &live.suite);
    let policy = desk.file("elsewhere", format!("log {}\nquorum none\n", elsewhere.key()));
    refuses(
        words!["receipt", receipt, "--policy", policy],
        "no log that you trust",
    );

    let witness = CosignerSigner::generate("witness.example/w".parse().unwrap(), [5; 32]);
    let witnessed = format!(
        "log {}\nwitness W {}\nquorum W\n",
        live.key,
        witness.verifier_key()
    );
    let policy = desk.file("witnessed", witnessed);
    refuses(words!["receipt", receipt, "--policy", &policy], "no quorum");
    let text = desk.read("receipt");
    let (_, checkpoint) = text.split_once("\n\n").unwrap();
    let head = live.log.key().verify_head(checkpoint.as_bytes()).unwrap();
    let cosignature = witness.cosign(&head, UnixSeconds::new(1_795_000_001).unwrap());
    let cosigned = desk.file("cosigned", format!("{text}{cosignature}\n"));
    accepts(
        words!["receipt", &cosigned, "--policy", &policy],
        &["cosigned  by witness.example/w"],
    );
    let later = desk.file(
        "later",
        altered(
            &desk.read("cosigned"),
            "\n— witness.example/w ",
            "\n— witness.example/v ",
        ),
    );
    refuses(words!["receipt", later, "--policy", policy], "no quorum");

    // What can't be judged with is another thing than what does not hold.
    let policy = desk.file("broken", "quorum W\n");
    expect(2, words!["receipt", receipt, "--policy", policy], &["line 1"]);
    let policy = desk.file("nobody", "quorum none\n");
    expect(
        2,
        words!["receipt", receipt, "--policy", policy],
        &["names no log"],
    );
    expect(2, words!["receipt", receipt], &["--policy"]);
    expect(2, words!["receipt", receipt, "--policy", ""], &["can't read"]);
    let no_payload = words!["receipt", receipt, "--key", live.trust_key(), "--payload", ""];
    expect(2, no_payload, &["can't read"]);
    expect(2, words!["receipt", receipt, "--key", "nonsense"], &["vkey"]);
    expect(
        2,
        words!["receipt", desk.path("nothing"), "--key", &live.key],
        &["can't read"],
    );
}

/// Scripts go by the exit code, whichever of the two they call.
#[test]
fn both_programs_end_in_the_same_way() {
    let desk = Desk::new();
    desk.file(
        "log.policy",
        format!("log {}\nquorum none\n", signer().keys().next().unwrap()),
    );
    desk.file("nobody.policy", "quorum none\n");
    // A byte more than an event may have, and a file that begins in the same way.
    let begun = vec![7; 26_214_401];
    desk.file("begun", &begun);
    desk.file("longer", [&begun[..], b"and more"].concat());
    desk.file("payload", "recorded");
    desk.file("other", "recordee");
    desk.file("good", receipt_of(&entry_of(b"recorded", "ci.done", 1)));
    desk.file("later", receipt_of(&entry_of(b"recorded", "ci.done", 8)));
    desk.file("huge", receipt_of(&entry_of(&begun, "ci.done", 1)));
    desk.file("long", desk.read("good") + &"x".repeat(131_072));

    for (code, receipt, policy, payload) in [
        (0, "good", "log.policy", Some("payload")),
        (0, "good", "log.policy", None),
        (1, "good", "log.policy", Some("other")),
        (2, "good", "log.policy", Some("longer")),
        (2, "good", "log.policy", Some("")),
        (2, "good", "nobody.policy", None),
        (2, "later", "log.policy", None),
        (2, "long", "log.policy", None),
        (2, "huge", "log.policy", Some("begun")),
        (2, "huge", "log.policy", Some("longer")),
    ] {
        let mut arguments = words![desk.path(receipt), "--policy", desk.path(policy)].to_vec();
        if let Some(payload) = payload {
            let path = match payload {
                "" => PathBuf::new(),
                name => desk.path(name),
            };
            arguments.extend(words!["--payload", path]);
        }
        expect(
            code,
            [words!["receipt"].to_vec(), arguments.clone()].concat(),
            &[],
        );
        let ours = counterfoil().arg("verify").args(&arguments).output().unwrap();
        assert_eq!(ours.status.code(), Some(code), "{arguments:?}: {ours:?}");
    }
}

/// An event's type is its submitter's word, and the first line of a file that of whoever wrote it.
#[test]
fn no_runner_takes_what_it_prints_for_a_command() {
    let desk = Desk::new();
    let key = signer().keys().next().unwrap().to_string();
    let entry = entry_of(b"recorded", "##vso[task.prependpath]/tmp", 1);
    let receipt = desk.file("receipt", receipt_of(&entry));
    accepts(
        words!["receipt", receipt, "--key", &key],
        &[r"\x23#vso[task.prependpath]/tmp"],
    );
    let file = desk.file("file", "##[set-env]x\na\nb\n\nc\n");
    refuses(words!["receipt", file, "--key", &key], r"\x23#[set-env]x");
}

async fn evidence(suite: &str) {
    let live = Live::start(suite);
    let head = live.grow(4, "head").await;
    let (desk, key) = (&live.desk, live.trust_key());
    let write = |name: &str, other: Vec<u8>| {
        let fact = Fact::Fork {
            heads: [head.note_bytes().to_vec(), other],
        };
        let evidence = Evidence {
            observed: UnixMillis::new(1),
            fact,
        };
        desk.file(name, evidence.to_text().unwrap())
    };
    let fork = write("fork", live.forge(4, 1, 1));
    accepts(
        words!["evidence", &fork, "--key", &key],
        &["fact      fork", "own signatures"],
    );
    accepts(
        words!["evidence", &fork, "--policy", desk.path("log.policy")],
        &["test.example/main"],
    );
    // A line that holds convicts, whatever stands beside it; where none does, nothing is proved.
    let keys = live
        .log
        .keys
        .iter()
        .flat_map(|key| ["--key".into(), key.to_string().into()]);
    let keys: Vec<OsString> = keys.collect();
    let mut other = live.forge(4, 1, 1);
    let lines = live.log.keys.len();
    for broken in 1..=lines {
        let ends = other.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = ends.map(|(place, _)| place).nth_back(broken - 1).unwrap();
        // Within the signature, before what its last character has to be.
        other[end - 5] = if other[end - 5] == b'A' { b'B' } else { b'A' };
        let file = write("broken", other.clone());
        let arguments = [words!["evidence", file].to_vec(), keys.clone()].concat();
        expect(i32::from(broken == lines), arguments, &[]);
    }
    refuses(
        words![
            "evidence",
            write("same", head.note_bytes().to_vec()),
            "--key",
            &key
        ],
        "same tree",
    );
    refuses(
        words!["evidence", write("size", live.forge(5, 1, 1)), "--key", &key],
        "different sizes",
    );
    let policy = desk.file("nobody", "quorum none\n");
    expect(
        2,
        words!["evidence", &fork, "--policy", policy],
        &["names no log"],
    );
    let unknown = desk.file("unknown", altered(&desk.read("fork"), "fact fork", "fact spoon"));
    refuses(words!["evidence", unknown, "--key", &key], "'spoon' is not known");
}

#[test]
fn receipts_of_a_blake3_log() {
    receipts("blake3");
}

#[test]
fn receipts_of_a_sha256_log() {
    receipts("sha256");
}

/// The policy asks for the witness: what it cosigned is accepted, and what only the log signed is not.
async fn cosigned(suite: &str) {
    let (live, witness) = Live::start_witnessed(suite);
    live.grow(3, "head").await;
    live.submit();
    let desk = &live.desk;
    let policy = desk.path("witnessed.policy");
    let says = "cosigned  by witness.example/w";
    accepts(words!["head", desk.path("head"), "--policy", &policy], &[says]);
    accepts(words!["log", live.url(), "--policy", &policy], &[says]);
    let later = live.fetch_receipt(3, "witnessed.policy", "later");
    let payload = desk.path("payload");
    accepts(
        words!["receipt", &later, "--policy", &policy, "--payload", payload],
        &[says],
    );
    refuses(
        words!["receipt", desk.path("receipt"), "--policy", &policy],
        "no quorum",
    );

    let text = desk.read("head");
    let (head, line) = text.trim_end().rsplit_once('\n').unwrap();
    let alone = desk.file("alone", format!("{head}\n"));
    accepts(words!["head", &alone, "--key", live.trust_key()], &[suite]);
    refuses(words!["head", alone, "--policy", &policy], "no quorum");
    let (name, signature) = line.rsplit_once(' ').unwrap();
    let mut signature = BASE64_STANDARD.decode(signature).unwrap();
    // The last byte of the time, which stands between the key's id and the signature.
    signature[11] ^= 1;
    let line = format!("{name} {}", BASE64_STANDARD.encode(signature));
    let forged = desk.file("forged", format!("{head}\n{line}\n"));
    refuses(
        words!["head", forged, "--policy", policy],
        "cosignature by witness.example/w",
    );
    drop(witness);
}

#[tokio::test]
async fn cosigned_heads_of_both_suites() {
    cosigned("blake3").await;
    cosigned("sha256").await;
}

#[tokio::test]
async fn evidence_of_both_suites() {
    evidence("blake3").await;
    evidence("sha256").await;
}
