//! Texts that a log signed although they are no heads, or have something about them. The signature holds: what is left to
//! judge is the form.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::Suite;
use counterfoil_note::{KeyKind, MAX_NOTE_BYTES, SignerKey, VerifierKey};
use ed25519_dalek::{Signer as _, SigningKey};
use fastrand::Rng;

use crate::{agreement::Cases, mutation::mutate};

const ORIGIN: &str = "log.example/main";
const SEED: [u8; 32] = [3; 32];
const TEXT: &str = "log.example/main\n7\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n";

/// A key of a kind, and the line by which it signs a message in place of the one that it ought to.
struct Pen {
    key: VerifierKey,
}

impl Pen {
    fn new(kind: KeyKind) -> Self {
        let signer = SignerKey::generate(ORIGIN.parse().unwrap(), kind, SEED);
        Self {
            key: signer.verifier_key().clone(),
        }
    }

    fn line(&self, payload: &[u8]) -> String {
        let id = hex::decode(self.key.id().to_string()).unwrap();
        let payload = [&id, payload].concat();
        format!("\u{2014} {ORIGIN} {}\n", BASE64_STANDARD.encode(payload))
    }

    /// The payload of a signature line over `text`, as the kind has it.
    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signer = SigningKey::from_bytes(&SEED);
        match self.key.kind() {
            KeyKind::Ed25519 => signer.sign(text).to_bytes().to_vec(),
            KeyKind::TimestampedHead(suite) => {
                let message = format!("counterfoil/timestamped-head/v1\nsuite {suite}\ntime 9\n");
                let signature = signer.sign(&[message.as_bytes(), text].concat());
                [&9_u64.to_be_bytes()[..], &signature.to_bytes()].concat()
            }
        }
    }

    fn note(&self, text: &[u8]) -> Vec<u8> {
        let line = self.line(&self.sign(text));
        [text, b"\n", line.as_bytes()].concat()
    }
}

fn pens() -> [Pen; 3] {
    [
        KeyKind::Ed25519,
        KeyKind::TimestampedHead(Suite::Blake3),
        KeyKind::TimestampedHead(Suite::Sha256),
    ]
    .map(Pen::new)
}

fn add(cases: &mut Cases, what: &str, pen: &Pen, note: &[u8]) {
    let policy = format!("log {}\nquorum none\n", pen.key);
    cases.add_head(what, policy.as_bytes(), note);
}

#[test]
fn on_damaged_texts() {
    let (mut rng, mut cases) = (Rng::with_seed(5), Cases::default());
    for pen in pens() {
        add(&mut cases, "as it is", &pen, &pen.note(TEXT.as_bytes()));
        let extended = format!("{TEXT}an extension\nand another\n");
        for _ in 0..60 {
            let text = mutate(&mut rng, extended.as_bytes());
            add(&mut cases, "damaged", &pen, &pen.note(&text));
        }
    }
    assert!(cases.accepted("head") > 10);
    cases.assert_agreed();
}

#[test]
fn on_texts_at_the_edge_of_each_rule() {
    let mut cases = Cases::default();
    let [pen, ..] = pens();
    for extension in [
        "\t",
        "\r",
        "\u{1}",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "\u{2014} a b",
    ] {
        let text = format!("{TEXT}an {extension} extension\n");
        add(&mut cases, extension, &pen, &pen.note(text.as_bytes()));
    }
    add(
        &mut cases,
        "not UTF-8",
        &pen,
        &pen.note(&[TEXT.as_bytes(), b"\xc3\x28\n"].concat()),
    );
    for size in [
        "0",
        "00",
        "1",
        "01",
        "+1",
        "9223372036854775807",
        "9223372036854775808",
        "\u{661}",
        "1_0",
        " 1",
        "1 ",
    ] {
        let text = TEXT.replace("\n7\n", &format!("\n{size}\n"));
        add(&mut cases, size, &pen, &pen.note(text.as_bytes()));
    }
    let fixed = pen.note(TEXT.as_bytes()).len() + 1;
    for length in [MAX_NOTE_BYTES, MAX_NOTE_BYTES + 1] {
        let text = format!("{TEXT}{}\n", "x".repeat(length - fixed));
        let note = pen.note(text.as_bytes());
        assert_eq!(note.len(), length);
        add(&mut cases, "at the limit of a note", &pen, &note);
    }
    assert!(cases.accepted("head") > 5);
    cases.assert_agreed();
}

#[test]
fn on_signature_lines_at_the_edge_of_each_rule() {
    let mut cases = Cases::default();
    for pen in pens() {
        let payload = pen.sign(TEXT.as_bytes());
        let good = format!("{TEXT}\n{}", pen.line(&payload));
        for length in [0, 1, 8, 63, 64, 71] {
            let note = format!("{TEXT}\n{}", pen.line(&payload[..length.min(payload.len())]));
            add(&mut cases, "a shorter payload", &pen, note.as_bytes());
        }
        let note = format!("{TEXT}\n{}", pen.line(&[&payload[..], &[0]].concat()));
        add(&mut cases, "a longer payload", &pen, note.as_bytes());
        let stranger = |number: usize| format!("\u{2014} stranger.example/{number} AAAAAAA=\n");
        for count in [63, 64] {
            let lines: String = (0..count).map(stranger).collect();
            add(
                &mut cases,
                "many signatures",
                &pen,
                format!("{good}{lines}").as_bytes(),
            );
        }
        for name in [
            "a+b",
            "a b",
            "a\u{a0}b",
            "a\u{2003}b",
            "a\u{85}b",
            "a\u{7f}b",
            "a\u{9b}b",
            "a\u{200b}b",
            "cosignature/v1",
            "\u{e9}",
            "",
        ] {
            let line = format!("\u{2014} {name} AAAAAAA=\n");
            add(&mut cases, name, &pen, format!("{good}{line}").as_bytes());
        }
        for length in [255, 256, 30_000] {
            let line = format!("\u{2014} {} AAAAAAA=\n", "n".repeat(length));
            add(
                &mut cases,
                "a long name",
                &pen,
                format!("{good}{line}").as_bytes(),
            );
        }
        for base64 in [
            "",
            "AAAA",
            "AAAAAA==",
            "AAAAAAA=",
            "AAAAAAB=",
            "AAAAAAA",
            "AAAAAAA==",
            "AAAA AAA=",
            "AAAA____",
            "AAAAAAA=\u{a0}",
        ] {
            let line = format!("\u{2014} stranger.example {base64}\n");
            add(&mut cases, base64, &pen, format!("{good}{line}").as_bytes());
        }
    }
    assert!(cases.accepted("head") > 15);
    cases.assert_agreed();
}
