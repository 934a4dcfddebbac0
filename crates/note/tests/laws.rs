//! What holds for every key, note and head; and the limits, at them and past them.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{
    Checkpoint, CheckpointError, HeadError, KeyError, KeyKind, LogSigner, LogSignerError, MAX_KEY_TEXT_BYTES,
    MAX_NOTE_BYTES, MAX_ORIGIN_BYTES, MAX_SIGNATURES, Note, NoteError, Origin, OriginError, SignerKey,
    UnixMillis, VerifierKey,
};
use proptest::prelude::*;

const KINDS: [KeyKind; 3] = [
    KeyKind::Ed25519,
    KeyKind::TimestampedHead(Suite::Blake3),
    KeyKind::TimestampedHead(Suite::Sha256),
];

fn origin(name: &str) -> Origin {
    name.parse().unwrap()
}

fn log_signer(origin: &Origin, suite: Suite, seed: [u8; 32]) -> LogSigner {
    let seeds = (0..).map(|number| {
        let mut seed = seed;
        seed[0] ^= number;
        seed
    });
    let keys = KeyKind::of_log(suite).iter().zip(seeds);
    LogSigner::new(
        keys.map(|(&kind, seed)| SignerKey::generate(origin.clone(), kind, seed))
            .collect(),
    )
    .unwrap()
}

/// A head at a fixed time, under `example.com/log`.
fn signed_head(suite: Suite) -> (LogSigner, Vec<u8>) {
    let signer = log_signer(&origin("example.com/log"), suite, [3; 32]);
    let note = signer.sign_head(
        TreeSize::new(1000).unwrap(),
        Digest::from([9; 32]),
        UnixMillis::new(1_767_225_600_000),
    );
    (signer, note)
}

fn any_origin() -> impl Strategy<Value = Origin> {
    "[a-z0-9./äß漢_-]{1,60}".prop_map(|name| origin(&name))
}

fn any_suite() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::Blake3), Just(Suite::Sha256)]
}

fn any_size() -> impl Strategy<Value = TreeSize> {
    prop_oneof![1..1000_u64, 1..=TreeSize::MAX.get()].prop_map(|size| TreeSize::new(size).unwrap())
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from)
}

proptest! {
    #[test]
    fn every_key_reads_back_from_its_text(name in any_origin(), seed: [u8; 32]) {
        for kind in KINDS {
            let key = SignerKey::generate(name.clone(), kind, seed);
            prop_assert_eq!(&key.verifier_key().to_string().parse::<VerifierKey>().unwrap(), key.verifier_key());
            let read: SignerKey = key.to_secret_text().parse().unwrap();
            prop_assert_eq!(read.verifier_key(), key.verifier_key());
            prop_assert_eq!(read.to_secret_text(), key.to_secret_text());
        }
    }

    #[test]
    fn every_checkpoint_reads_back_from_its_text(
        name in any_origin(), size in any_size(), root in any_digest(),
        extensions in prop::collection::vec("[^\\x00-\\x1f]{1,20}", 0..3),
    ) {
        let mut text = Checkpoint::new(name.clone(), size, root).to_text();
        for extension in &extensions {
            text.push_str(&format!("{extension}\n"));
        }
        let checkpoint = Checkpoint::parse(&text).unwrap();
        prop_assert_eq!(checkpoint.origin(), &name);
        prop_assert_eq!((checkpoint.size(), checkpoint.root()), (size, root));
        prop_assert_eq!(checkpoint.extensions(), extensions);
        prop_assert_eq!(checkpoint.to_text(), text);
    }

    #[test]
    fn what_a_log_signs_each_of_its_keys_verifies(
        name in any_origin(), suite in any_suite(), seed: [u8; 32], size in any_size(), root in any_digest(), time: u64,
    ) {
        let signer = log_signer(&name, suite, seed);
        let note = signer.sign_head(size, root, UnixMillis::new(time));
        prop_assert_eq!(Note::parse(&note).unwrap().to_bytes(), &*note);
        for key in signer.keys() {
            let head = key.verifier_key().verify_head(&note).unwrap();
            prop_assert_eq!((head.origin(), head.suite()), (&name, suite));
            prop_assert_eq!((head.size(), head.root()), (size, root));
            let signs_time = key.verifier_key().kind() != KeyKind::Ed25519;
            prop_assert_eq!(head.time(), signs_time.then_some(UnixMillis::new(time)));
            prop_assert_eq!(head.note_bytes(), note.as_slice());
        }
    }

    /// Dropping repeats apart, there is one spelling of a note.
    #[test]
    fn what_parses_re_encodes_to_itself(mut note in Just(signed_head(Suite::Sha256).1), edits in edits()) {
        apply(&mut note, edits);
        if let Ok(parsed) = Note::parse(&note) {
            prop_assert_eq!(parsed.to_bytes(), note);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text: String) {
        let (signer, _) = signed_head(Suite::Blake3);
        prop_assert!(signer.keys()[0].verifier_key().verify_head(&bytes).is_err());
        prop_assert!(Checkpoint::parse(&text).is_err());
        prop_assert!(text.parse::<VerifierKey>().is_err());
        prop_assert!(text.parse::<SignerKey>().is_err());
    }
}

/// Where to change a note, and to what; bytes that mean something to the format come often.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![prop::sample::select(b"\n =+/0A\xe2-".as_slice()), any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 1..3)
}

fn apply(note: &mut [u8], edits: Vec<(prop::sample::Index, u8)>) {
    for (index, byte) in edits {
        let at = index.index(note.len());
        note[at] = byte;
    }
}

/// Each bit in turn: every key refuses the head, unless the bit is in the line of another key.
#[test]
fn a_head_with_any_bit_flipped_is_refused() {
    for suite in Suite::ALL {
        let (signer, note) = signed_head(suite);
        let text = str::from_utf8(&note).unwrap();
        let mut start = text.find("—").unwrap();
        for (key, line) in signer.keys().iter().zip(text[start..].split_inclusive('\n')) {
            let own_line = start..start + line.len();
            start = own_line.end;
            let signed = key.verifier_key().verify_head(&note).unwrap();
            for at in 0..note.len() {
                for bit in 0..8 {
                    let mut flipped = note.clone();
                    flipped[at] ^= 1 << bit;
                    let covered = at < text.find("—").unwrap() || own_line.contains(&at);
                    match key.verifier_key().verify_head(&flipped) {
                        Ok(_) if covered => panic!("bit {bit} of byte {at} is not covered"),
                        Ok(head) => assert_eq!(
                            (head.size(), head.root(), head.time()),
                            (signed.size(), signed.root(), signed.time())
                        ),
                        Err(_) => {}
                    }
                }
            }
        }
        assert_eq!(start, note.len());
    }
}

#[test]
fn a_head_cut_short_or_continued_is_refused() {
    let (signer, note) = signed_head(Suite::Blake3);
    let key = signer.keys()[0].verifier_key();
    for length in 0..note.len() {
        key.verify_head(&note[..length]).unwrap_err();
    }
    for byte in 0..=u8::MAX {
        let after = [note.as_slice(), &[byte]].concat();
        let before = [&[byte], note.as_slice()].concat();
        key.verify_head(&after).unwrap_err();
        key.verify_head(&before).unwrap_err();
    }
}

/// The vkey is typed and pasted by people; its id covers name, kind and key.
#[test]
fn a_key_text_with_any_bit_flipped_is_refused() {
    for kind in KINDS {
        let key = SignerKey::generate(origin("example.com/log"), kind, [5; 32]);
        for (text, is_secret) in [
            (key.verifier_key().to_string(), false),
            (key.to_secret_text().to_string(), true),
        ] {
            for bit in 0..text.len() * 8 {
                let mut bytes = text.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                let refused = match is_secret {
                    true => text.parse::<SignerKey>().is_err(),
                    false => text.parse::<VerifierKey>().is_err(),
                };
                assert!(refused, "{text}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let (signer, note) = signed_head(Suite::Blake3);
    let mut bad = note.clone();
    bad[0] = 0xff;
    assert_eq!(
        signer.keys()[0].verifier_key().verify_head(&bad),
        Err(HeadError::Note(NoteError::NotUtf8))
    );
}

#[test]
fn the_suite_of_a_key_is_the_suite_of_its_heads() {
    let name = origin("example.com/log");
    let [blake3, sha256] = Suite::ALL.map(|suite| log_signer(&name, suite, [3; 32]));
    let sign =
        |signer: &LogSigner| signer.sign_head(TreeSize::MAX, Digest::from([9; 32]), UnixMillis::new(1));
    for (signer, other) in [(&blake3, &sha256), (&sha256, &blake3)] {
        for key in other.keys() {
            let refusal = key.verifier_key().verify_head(&sign(signer)).unwrap_err();
            assert!(matches!(refusal, HeadError::NotSignedByKey { .. }), "{refusal}");
        }
    }
}

#[test]
fn a_log_signs_with_its_kinds_of_key_and_no_others() {
    let key = |name: &str, kind, seed| SignerKey::generate(origin(name), kind, [seed; 32]);
    let (blake3, sha256) = (
        KeyKind::TimestampedHead(Suite::Blake3),
        KeyKind::TimestampedHead(Suite::Sha256),
    );
    let refusal = |keys| LogSigner::new(keys).err();

    assert_eq!(refusal(vec![key("a", blake3, 1)]), None);
    assert_eq!(
        refusal(vec![key("a", sha256, 1), key("a", KeyKind::Ed25519, 2)]),
        None
    );

    assert_eq!(refusal(vec![]), Some(LogSignerError::Kinds));
    assert_eq!(refusal(vec![key("a", sha256, 1)]), Some(LogSignerError::Kinds));
    assert_eq!(
        refusal(vec![key("a", KeyKind::Ed25519, 1)]),
        Some(LogSignerError::Kinds)
    );
    assert_eq!(
        refusal(vec![key("a", KeyKind::Ed25519, 1), key("a", sha256, 2)]),
        Some(LogSignerError::Kinds)
    );
    assert_eq!(
        refusal(vec![key("a", blake3, 1), key("a", KeyKind::Ed25519, 2)]),
        Some(LogSignerError::Kinds)
    );
    assert_eq!(
        refusal(vec![key("a", blake3, 1), key("a", blake3, 2)]),
        Some(LogSignerError::Kinds)
    );
    assert_eq!(
        refusal(vec![key("a", sha256, 1), key("b", KeyKind::Ed25519, 2)]),
        Some(LogSignerError::Names)
    );
    assert_eq!(
        refusal(vec![key("a", sha256, 1), key("a", KeyKind::Ed25519, 1)]),
        Some(LogSignerError::SharedSeed)
    );
}

#[test]
fn origins_have_their_limits() {
    let refusal = |name: &str| name.parse::<Origin>().err();
    assert_eq!(refusal(&"n".repeat(MAX_ORIGIN_BYTES)), None);
    assert_eq!(
        refusal(&"n".repeat(MAX_ORIGIN_BYTES + 1)),
        Some(OriginError::TooLong { bytes: 256 })
    );
    // 128 characters, but 256 bytes.
    assert_eq!(
        refusal(&"ä".repeat(128)),
        Some(OriginError::TooLong { bytes: 256 })
    );
    assert_eq!(refusal(""), Some(OriginError::Empty));
    for character in [
        ' ', '+', '\n', '\t', '\0', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}',
    ] {
        for name in [
            format!("{character}a"),
            format!("a{character}b"),
            format!("a{character}"),
        ] {
            assert_eq!(
                refusal(&name),
                Some(OriginError::ForbiddenCharacter { character })
            );
        }
    }
    // A new name has no scheme; that of somebody else may.
    for name in ["https://log.example/builds", "HTTP://log.example"] {
        assert!(matches!(
            Origin::for_new(name),
            Err(OriginError::HasScheme { .. })
        ));
        assert_eq!(refusal(name), None);
    }
    for name in ["log.example/builds", "https", "https.example/a://b", "ähttps://x"] {
        assert_eq!(Origin::for_new(name).unwrap().as_str(), name);
    }
    assert_eq!(Origin::for_new("").err(), Some(OriginError::Empty));
    for prefix in ["cosignature/v1", "counterfoil/timestamped-head/v1"] {
        for name in [prefix.to_owned(), format!("{prefix}/x"), format!("{prefix}1")] {
            assert_eq!(refusal(&name), Some(OriginError::ReservedPrefix { prefix }));
        }
    }
    assert_eq!(refusal("example.com/cosignature/v1"), None);
}

#[test]
fn notes_and_keys_have_their_limits() {
    let (_, note) = signed_head(Suite::Blake3);
    let padded = |bytes: usize| [vec![b'x'; bytes - note.len()], note.clone()].concat();
    Note::parse(&padded(MAX_NOTE_BYTES)).unwrap();
    let bytes = MAX_NOTE_BYTES + 1;
    assert_eq!(Note::parse(&padded(bytes)), Err(NoteError::TooLong { bytes }));

    // Repeats count: what is dropped was read all the same.
    for line in [
        |_| "— a AAAAAAA=\n".to_owned(),
        |number| format!("— a{number} AAAAAAA=\n"),
    ] {
        let signed =
            |lines: usize| format!("text\n\n{}", (0..lines).map(line).collect::<String>()).into_bytes();
        Note::parse(&signed(MAX_SIGNATURES)).unwrap();
        assert_eq!(
            Note::parse(&signed(MAX_SIGNATURES + 1)),
            Err(NoteError::TooManySignatures)
        );
    }

    let long = "n".repeat(MAX_KEY_TEXT_BYTES);
    assert_eq!(long.parse::<VerifierKey>(), Err(KeyError::Format));
    let bytes = MAX_KEY_TEXT_BYTES + 1;
    assert_eq!(
        format!("{long}n").parse::<VerifierKey>(),
        Err(KeyError::TooLong { bytes })
    );
    let longest = SignerKey::generate(origin(&"n".repeat(MAX_ORIGIN_BYTES)), KINDS[1], [1; 32]);
    longest.verifier_key().to_string().parse::<VerifierKey>().unwrap();
    longest.to_secret_text().parse::<SignerKey>().unwrap();
}

#[test]
fn control_characters_are_refused_wherever_they_stand() {
    for byte in (0..0x20).filter(|&byte| byte != b'\n') {
        let control = char::from(byte);
        let note = format!("te{control}xt\n\n— a AAAAAAA=\n");
        assert_eq!(
            Note::parse(note.as_bytes()),
            Err(NoteError::ControlCharacter { byte, at: 2 })
        );

        let checkpoint = Checkpoint::new(origin("a"), TreeSize::ZERO, Digest::from([0; 32])).to_text();
        let extended = format!("{checkpoint}fine\nnot{control}fine\n");
        assert_eq!(
            Checkpoint::parse(&extended),
            Err(CheckpointError::Extension { line: 2 })
        );
    }
}

#[test]
fn the_text_of_a_note_may_hold_empty_lines() {
    let note = Note::parse("one\n\ntwo\n\n\n— a AAAAAAA=\n".as_bytes()).unwrap();
    assert_eq!(note.text(), "one\n\ntwo\n\n");
    assert_eq!(note.signatures().len(), 1);
}

#[test]
fn of_signatures_by_one_key_the_first_is_kept() {
    let note = Note::parse("t\n\n— a AAAAAAE=\n— b AAAAAAI=\n— a AAAAAAM=\n".as_bytes()).unwrap();
    let kept: Vec<_> = note
        .signatures()
        .iter()
        .map(|line| (line.name(), line.payload()))
        .collect();
    assert_eq!(kept, [("a", [1].as_slice()), ("b", &[2])]);
}

#[test]
fn secrets_are_not_shown() {
    for kind in KINDS {
        let key = SignerKey::generate(origin("example.com/log"), kind, [0x5a; 32]);
        let secret = key.to_secret_text();
        let shown = format!(
            "{key:?} {:?}",
            secret.replace("PRIVATE+KEY", "").parse::<SignerKey>()
        );
        let last = &secret[secret.len() - 24..];
        assert!(
            !shown.contains(last) && !shown.contains("5a5a") && !shown.contains("90, 90"),
            "{shown}"
        );
        assert!(shown.contains(&key.verifier_key().to_string()));
    }
}

/// signed-note: lines of unknown keys are ignored, whatever their names, as long as they are names.
#[test]
fn a_strangers_name_is_held_to_the_rules_of_the_format_alone() {
    let (signer, note) = signed_head(Suite::Blake3);
    let note = String::from_utf8(note).unwrap();
    let (text, own) = note.split_once("\n\n").unwrap();
    let key = signer.keys()[0].verifier_key();
    let beside = |name: &str| format!("{text}\n\n— {name} AAAAAAA=\n{own}— {name} AAAAAAA=\n");
    for name in ["a\u{7f}b", "\u{80}", "a\u{9b}2Jb", "\u{202e}", "cosignature/v1"] {
        let head = key.verify_head(beside(name).as_bytes()).unwrap();
        assert_eq!(head.signatures()[0].name(), name);
        let shown = format!("{head:?}");
        assert!(!shown.contains(char::is_control), "{shown}");
    }
    for bytes in [MAX_ORIGIN_BYTES, MAX_ORIGIN_BYTES + 1, 300, 30_000] {
        key.verify_head(beside(&"n".repeat(bytes)).as_bytes()).unwrap();
    }
    for name in [
        "",
        "a b",
        "a+b",
        "+",
        "a\u{85}b",
        "a\u{a0}b",
        "a\u{2028}b",
        "a\u{3000}b",
    ] {
        assert_eq!(
            key.verify_head(beside(name).as_bytes()),
            Err(HeadError::Note(NoteError::MalformedSignature { line: 1 })),
            "{name:?}"
        );
    }
}
