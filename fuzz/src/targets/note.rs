//! Signed notes, keys and policies.

use counterfoil_note::{
    Checkpoint, CosignerKey, KeyKind, MAX_SIGNATURES, Note, Origin, Policy, SignerKey, VerifierKey,
    parse_signature_lines,
};
use signed_note::StandardVerifier;

use super::text;
use crate::{
    Target,
    sample::{HONEST, policy_text},
    vectors::Vectors,
};

pub(super) const NOTE: Target = Target {
    name: "note",
    about: "signed notes, checkpoints, and signature lines that stand alone",
    seeds: note_seeds,
    words: &[
        "— log.example/honest ",
        "\n\n",
        "\n— ",
        "log.example/honest\n",
        "AAAA",
    ],
    max_bytes: 66 << 10,
    run: note,
};

fn note_seeds() -> Vec<Vec<u8>> {
    let ours = HONEST
        .iter()
        .flat_map(|log| [log.note(0), log.note(7), log.cosigned[11].clone()]);
    let lines = HONEST.iter().map(|log| {
        let note = log.cosigned[3].clone();
        let end = note.windows(2).position(|pair| pair == b"\n\n").unwrap();
        note[end + 2..].to_vec()
    });
    let published = Vectors::Notes.all("note");
    let cosigned = Vectors::Cosignatures.all("note");
    ours.chain(lines).chain(published).chain(cosigned).collect()
}

/// A note is written as it was read, but for signatures that repeat. Others read in it what we do. What a key verifies is a
/// head that it signed.
fn note(input: &[u8]) {
    if let Ok(lines) = parse_signature_lines(input) {
        assert!((1..=MAX_SIGNATURES).contains(&lines.len()));
    }
    let Ok(note) = Note::parse(input) else {
        return;
    };
    let written = note.to_bytes();
    assert!(written.len() <= input.len());
    assert_eq!(Note::parse(&written).unwrap(), note);
    let theirs = signed_note::Note::from_bytes(input).unwrap();
    assert_eq!(theirs.text(), note.text().as_bytes());
    if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
        assert_eq!(checkpoint.to_text(), note.text());
        let theirs = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
        assert_eq!(theirs.origin(), checkpoint.origin().as_str());
        assert_eq!(theirs.size(), checkpoint.size().get());
        assert_eq!(theirs.hash().0, *checkpoint.root().as_bytes());
    }
    for log in HONEST.iter() {
        for key in &log.keys {
            let Ok(head) = key.verify_head(input) else {
                continue;
            };
            assert_eq!(head.root(), log.root(head.size().get()));
            assert_eq!(head.note_bytes(), input);
        }
        if let Ok(cosigned) = log.policy.verify_cosigned(input) {
            assert_eq!(cosigned.cosignatures().len(), 1);
        }
    }
}

pub(super) const VKEY: Target = Target {
    name: "vkey",
    about: "keys as text, and names",
    seeds: vkey_seeds,
    words: &[
        "PRIVATE+KEY+",
        "+AQ",
        "+BA",
        "+/2NvdW50ZXJmb2ls",
        "example.com/log",
    ],
    max_bytes: 4 << 10,
    run: vkey,
};

fn vkey_seeds() -> Vec<Vec<u8>> {
    [Vectors::Notes, Vectors::Cosignatures]
        .into_iter()
        .flat_map(|vectors| {
            [
                vectors.all("vkey"),
                vectors.all("secret_text"),
                vectors.all("name"),
            ]
        })
        .flatten()
        .collect()
}

/// A key has one text, and so has a name. Others read our plain keys.
fn vkey(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
        if key.kind() == KeyKind::Ed25519 {
            assert!(StandardVerifier::new(text).is_ok());
        } else {
            assert!(StandardVerifier::new(text).is_err());
        }
    }
    if let Ok(key) = text.parse::<CosignerKey>() {
        assert_eq!(key.to_string(), text);
        assert!(text.parse::<VerifierKey>().is_err());
    }
    if let Ok(key) = text.parse::<SignerKey>() {
        assert_eq!(*key.to_secret_text(), text);
    }
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.as_str(), text);
        assert!(signed_note::is_key_name_valid(text));
    }
}

pub(super) const POLICY: Target = Target {
    name: "policy",
    about: "trust policies",
    seeds: policy_seeds,
    words: &[
        "log ",
        "witness ",
        "group ",
        "quorum ",
        "all",
        "any",
        "none",
        " https://",
        "\n",
    ],
    max_bytes: 32 << 10,
    run: policy,
};

fn policy_seeds() -> Vec<Vec<u8>> {
    let ours = HONEST.iter().map(|log| policy_text(&log.keys[0]).into_bytes());
    ours.chain(Vectors::Cosignatures.all("policy")).collect()
}

/// A policy believes no key twice, and what it believes is signed by a key that it lists.
fn policy(input: &[u8]) {
    let policy = match Policy::parse(input) {
        Ok(policy) => policy,
        Err(problem) => {
            let _told = problem.to_string();
            return;
        }
    };
    let mut keys: Vec<_> = policy
        .logs()
        .iter()
        .map(|log| *log.key.public_key_bytes())
        .collect();
    keys.extend(
        policy
            .witnesses()
            .iter()
            .map(|witness| *witness.key.public_key_bytes()),
    );
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
    for log in HONEST.iter() {
        let note = &log.cosigned[7];
        let listed = policy.logs().iter().any(|listed| log.keys.contains(&listed.key));
        assert_eq!(policy.verify_head(note).is_ok(), listed);
        assert!(listed || policy.verify_cosigned(note).is_err());
    }
}
