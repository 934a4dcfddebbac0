//! Leaves that a log signed although they may be no entries. A tree of one leaf, its head and its proof hold for any bytes:
//! what is left to judge is the entry's form.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::Suite;
use counterfoil_tests::MemoryLog;
use fastrand::Rng;
use serde_json::Value;

use crate::{agreement::Cases, mutation::mutate};

/// Of each receipt made here.
const SALT: [u8; 32] = [0; 32];

const ENTRIES: &str = include_str!("../../../crates/event/tests/vectors/entries.json");

/// The log that signs any leaf.
pub(crate) fn signer() -> MemoryLog {
    MemoryLog::new("log.example/main", Suite::Sha256, 1)
}

/// A receipt for the leaf, with [`SALT`].
pub(crate) fn receipt_of(leaf: &[u8]) -> String {
    let log = signer();
    let head = log.sign(1, log.suite().leaf_hash(leaf));
    let extra = BASE64_STANDARD.encode([&[1], &SALT[..], leaf].concat());
    format!("c2sp.org/tlog-proof@v1\nextra {extra}\nindex 0\n\n{head}")
}

/// Adds a receipt for the leaf, and evidence that it is no entry: at most one of the two holds, and neither may where the
/// leaf could be an entry of a later version.
fn add(cases: &mut Cases, what: &str, leaf: &[u8]) {
    let log = signer();
    let key = log.keys().next().unwrap().clone();
    cases.add_receipt(what, &key, receipt_of(leaf).as_bytes());
    let head = BASE64_STANDARD.encode(log.sign(1, log.suite().leaf_hash(leaf)));
    let leaf = BASE64_STANDARD.encode(leaf);
    let fields = format!("fact invalid_entry\nobserved 0\nhead {head}\nindex 0\nentry {leaf}\n");
    cases.add_evidence(
        what,
        &[key],
        format!("counterfoil/evidence@v1\n{fields}").as_bytes(),
    );
}

#[test]
fn on_damaged_entries() {
    let (mut rng, mut cases) = (Rng::with_seed(4), Cases::default());
    let vectors: Vec<Value> = serde_json::from_str(ENTRIES).unwrap();
    for vector in &vectors {
        let entry = hex::decode(vector["entry_hex"].as_str().unwrap()).unwrap();
        add(&mut cases, "as it is", &entry);
        for _ in 0..40 {
            add(&mut cases, "damaged", &mutate(&mut rng, &entry));
        }
    }
    assert!(cases.accepted("receipt") > vectors.len());
    assert!(cases.accepted("evidence") > 100);
    cases.assert_agreed();
}

/// The fields of a small entry by their keys, in order.
fn fields() -> Vec<(u8, Vec<u8>)> {
    let bytes = |content: &[u8]| [&[u8::try_from(content.len()).unwrap()], content].concat();
    vec![
        (0x08, vec![1]),
        (0x11, vec![9, 0, 0, 0, 0, 0, 0, 0]),
        (0x1a, bytes(b"api")),
        (0x22, bytes(b"ci.done")),
        (0x2a, bytes(b"text/plain")),
        (0x30, vec![5]),
        (0x3a, bytes(&[7; 32])),
        (0x42, bytes(&[8; 32])),
        (0x48, vec![1]),
        (0x52, bytes(b"default")),
    ]
}

fn encode(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let encoded = fields
        .iter()
        .map(|(key, content)| [&[*key], &content[..]].concat());
    encoded.collect::<Vec<_>>().concat()
}

/// An entry with this payload, type and number for how its submitter was authenticated.
pub(crate) fn entry_of(payload: &[u8], event_type: &str, authentication: u8) -> Vec<u8> {
    let mut fields = fields();
    for (key, content) in &mut fields {
        match *key {
            0x22 => *content = [varint(event_type.len() as u64), event_type.into()].concat(),
            0x30 => *content = varint(payload.len() as u64),
            0x3a => content[1..].copy_from_slice(Suite::Sha256.commitment(&SALT, payload).as_bytes()),
            0x48 => *content = vec![authentication],
            _ => {}
        }
    }
    encode(&fields)
}

/// The entry with another content of one field.
fn with(key: u8, content: &[u8]) -> Vec<u8> {
    let mut fields = fields();
    fields.iter_mut().find(|field| field.0 == key).unwrap().1 = content.to_vec();
    encode(&fields)
}

fn with_text(key: u8, text: &str) -> Vec<u8> {
    let mut content = varint(text.len() as u64);
    content.extend(text.as_bytes());
    with(key, &content)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

#[test]
fn on_entries_at_the_edge_of_each_rule() {
    let mut cases = Cases::default();
    for skipped in 0..fields().len() {
        let mut fields = fields();
        let (key, _) = fields.remove(skipped);
        add(&mut cases, &format!("no field {:#x}", key), &encode(&fields));
        fields.insert(0, (key, self::fields()[skipped].1.clone()));
        add(&mut cases, &format!("field {:#x} first", key), &encode(&fields));
        fields.push(fields[0].clone());
        add(&mut cases, &format!("field {:#x} twice", key), &encode(&fields));
    }
    // Shortest, longer, and longer than a varint can be; 32 and 64 bits and their signs.
    let varints: Vec<Vec<u8>> = [
        0,
        1,
        2,
        3,
        127,
        128,
        1 << 31,
        (1 << 31) - 1,
        1 << 32,
        (1 << 32) + 1,
    ]
    .into_iter()
    .chain([
        u64::MAX,
        u64::MAX - 1,
        1 << 63,
        u64::MAX << 31,
        (u64::MAX << 31) - 1,
    ])
    .map(varint)
    .chain(
        [
            "8100",
            "8200",
            "8000",
            "818000",
            "81808080808080808000",
            "82808080808080808001",
        ]
        .map(|hex| hex::decode(hex).unwrap()),
    )
    .chain(
        [
            "82808080808080808002",
            "8080808080808080808001",
            "ffffffffffffffffff02",
            "80",
            "ff",
        ]
        .map(|hex| hex::decode(hex).unwrap()),
    )
    .collect();
    for key in [0x08, 0x30, 0x48] {
        for content in &varints {
            add(
                &mut cases,
                &format!("{key:#x} of {content:?}"),
                &with(key, content),
            );
        }
    }
    for key in [0x1a, 0x22, 0x2a, 0x3a, 0x52] {
        for text in TEXTS {
            add(
                &mut cases,
                &format!("{key:#x} of {text:?}"),
                &with_text(key, text),
            );
        }
        for length in [63, 64, 65, 127, 128, 129] {
            let text = "a/".to_owned() + &"b".repeat(length - 2);
            add(&mut cases, "of a length", &with_text(key, &text));
            add(
                &mut cases,
                "of a length",
                &with_text(key, &text.replace('/', "b")),
            );
        }
    }
    add(&mut cases, "invalid UTF-8", &with(0x1a, b"\x02\xc3\x28"));
    add(&mut cases, "time 0", &with(0x11, &[0; 8]));
    add(&mut cases, "the last time", &with(0x11, &[0xff; 8]));
    for (what, tail) in [
        ("a later field", "5801"),
        ("a group", "5b5c"),
        ("a fixed32", "5d00000000"),
        ("tag 0", "0001"),
    ] {
        let leaf = [encode(&fields()), hex::decode(tail).unwrap()].concat();
        add(&mut cases, what, &leaf);
    }
    add(&mut cases, "nothing", b"");
    add(&mut cases, "a version and nothing else", b"\x08\x01");
    add(&mut cases, "a later version and noise", b"\x08\x02noise");
    assert!(cases.accepted("receipt") > 20);
    assert!(cases.accepted("evidence") > 100);
    cases.assert_agreed();
}

/// Held against every text field: labels, types, media types.
const TEXTS: &[&str] = &[
    "",
    "a",
    "A",
    "a b",
    " ",
    "a\n",
    "a\u{7f}",
    "é",
    "log",
    "log.created",
    "a_b-c.9",
    "a/b",
    "a/b/c",
    "/b",
    "a/",
    "a/b ",
    "a/b;",
    "a/b ;",
    "a/b  ; c=d",
    "a/b;;",
    "a/b; \u{7f}",
    "a/b;é",
    "a/b;\t",
    "a b/c",
    "a/b c",
    "a/b,",
    "a/b+c",
    "a/(b)",
    "*/*",
    "a/b@c",
    "!#$%&'*+-.^_`|~/x",
];
