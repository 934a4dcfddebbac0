//! What a witness reads, and what a log reads of a witness.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_witness::{AddCheckpoint, LogList, MAX_PROOF_HASHES, fuzzing};

use super::text;
use crate::{
    Target,
    sample::{self, HONEST},
};

pub(super) const ADD_CHECKPOINT: Target = Target {
    name: "add_checkpoint",
    about: "bodies of add-checkpoint requests",
    seeds: add_checkpoint_seeds,
    words: &[
        "old ",
        "\n\n",
        "old 0\n\n",
        "old 9223372036854775807\n",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    ],
    max_bytes: 70 << 10,
    run: add_checkpoint,
};

fn add_checkpoint_seeds() -> Vec<Vec<u8>> {
    let requests = HONEST.iter().flat_map(|log| {
        [(0, 0), (0, 3), (3, 3), (3, 11), (7, 8), (8, 11)].map(|(old, new)| {
            let proof = if old == 0 {
                Vec::new()
            } else {
                log.consistency(old, new)
            };
            request(old, &proof, &log.note(new))
        })
    });
    requests.collect()
}

fn request(old: u64, proof: &[counterfoil_merkle::Digest], checkpoint: &[u8]) -> Vec<u8> {
    let hashes = proof
        .iter()
        .map(|hash| BASE64_STANDARD.encode(hash.as_bytes()) + "\n");
    let head = format!("old {old}\n{}\n", hashes.collect::<String>());
    [head.as_bytes(), checkpoint].concat()
}

/// A request has one spelling.
fn add_checkpoint(input: &[u8]) {
    let Ok(read) = AddCheckpoint::parse(input) else {
        return;
    };
    assert!(read.proof.len() <= MAX_PROOF_HASHES);
    assert_eq!(request(read.old.get(), &read.proof, read.checkpoint), input);
    for log in HONEST.iter() {
        if let Ok(head) = log.keys[0].verify_head(read.checkpoint) {
            assert_eq!(head.root(), log.root(head.size().get()));
        }
    }
}

pub(super) const ANSWER: Target = Target {
    name: "witness_answer",
    about: "what a witness answers",
    seeds: answer_seeds,
    words: &["— witness.example/w1 ", "\n", "0\n"],
    max_bytes: 66 << 10,
    run: answer,
};

/// The size of the head that was asked about.
const ASKED: u64 = 5;

fn answer_seeds() -> Vec<Vec<u8>> {
    let lines = HONEST.iter().map(|log| {
        let note = String::from_utf8(log.cosigned[5].clone()).unwrap();
        let lines = note.lines().filter(|line| line.contains("witness.example/w1 "));
        lines
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .into_bytes()
    });
    let sizes = ["0\n", "907\n", "007\n", "9223372036854775808\n"].map(|size| size.as_bytes().to_vec());
    lines.chain(sizes).collect()
}

/// A cosignature is of the head that was asked about, whatever came; a size has one spelling.
fn answer(input: &[u8]) {
    let key = &*sample::WITNESS_KEY;
    for log in HONEST.iter() {
        let head = log.head(ASKED);
        if let Ok(cosigned) = fuzzing::cosignature(key, &head, input) {
            assert_eq!(cosigned.cosignature.key(), key);
            let line = cosigned.line.to_string();
            assert!(
                String::from_utf8_lossy(&log.cosigned[sample::at(ASKED)]).contains(&line),
                "{line}"
            );
        }
    }
    if let Some(size) = fuzzing::conflicting_size(input) {
        assert_eq!(format!("{size}\n").as_bytes(), input);
    }
    if let Some(text) = text(input).filter(|text| fuzzing::is_origin_hash(text)) {
        assert!(text.len() == 64 && hex::decode(text).is_ok());
    }
}

pub(super) const LOGS: Target = Target {
    name: "witness_logs",
    about: "the file of the logs that a witness cosigns",
    seeds: logs_seeds,
    words: &["log ", "#", "\n", " https://", "\t"],
    max_bytes: 16 << 10,
    run: logs,
};

fn logs_seeds() -> Vec<Vec<u8>> {
    let lines = HONEST.iter().flat_map(|log| {
        let keys = log.keys.iter();
        keys.map(|key| format!("log {key}\nlog {key} https://log.example\n# a comment\n\n"))
    });
    let lines: Vec<String> = lines.collect();
    let own = format!("log {}\n", *sample::WITNESS_KEY);
    [lines.concat(), own]
        .into_iter()
        .chain(lines)
        .map(String::into_bytes)
        .collect()
}

/// Each log that is listed has a key.
fn logs(input: &[u8]) {
    match LogList::parse(input, &sample::WITNESS_KEY) {
        Ok(list) => {
            for log in HONEST.iter() {
                let own = &log.keys;
                assert!(
                    list.keys(own[0].name())
                        .iter()
                        .all(|key| key.suite() == log.suite() || !own.contains(key))
                );
            }
            assert!(list.len() <= input.len());
        }
        Err(problem) => assert!(problem.line >= 1 && !problem.to_string().is_empty()),
    }
}
