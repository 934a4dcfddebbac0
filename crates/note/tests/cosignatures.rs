//! What holds for every cosignature, and cosignatures that others published.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{
    CosignatureError, CosignerKey, CosignerSigner, HeadError, KeyError, KeyKind, LogSigner, MAX_SIGNATURES,
    Note, NoteError, Origin, Policy, SignedHead, SignerKey, UnixMillis, UnixSeconds, VerifierKey,
    parse_signature_lines,
};
use proptest::prelude::*;

fn origin(name: &str) -> Origin {
    name.parse().unwrap()
}

fn log_signer(suite: Suite) -> LogSigner {
    let keys = KeyKind::of_log(suite).iter().zip(1..);
    let key =
        |(&kind, seed): (&KeyKind, u8)| SignerKey::generate(origin("example.com/log"), kind, [seed; 32]);
    LogSigner::new(keys.map(key).collect()).unwrap()
}

fn head(suite: Suite, size: u64) -> SignedHead {
    let signer = log_signer(suite);
    let note = signer.sign_head(
        TreeSize::new(size).unwrap(),
        Digest::from([9; 32]),
        UnixMillis::new(5),
    );
    signer.keys()[0].verifier_key().verify_head(&note).unwrap()
}

fn witness(number: u8) -> CosignerSigner {
    CosignerSigner::generate(origin(&format!("witness.example/w{number}")), [100 + number; 32])
}

fn seconds(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

proptest! {
    #[test]
    fn every_key_reads_back_from_its_text(name in "[a-z0-9./äß漢_-]{1,60}", seed: [u8; 32]) {
        let signer = CosignerSigner::generate(origin(&name), seed);
        let vkey = signer.verifier_key().to_string();
        prop_assert_eq!(&vkey.parse::<CosignerKey>().unwrap(), signer.verifier_key());
        let read: CosignerSigner = signer.to_secret_text().parse().unwrap();
        prop_assert_eq!(read.verifier_key(), signer.verifier_key());
        prop_assert_eq!(read.to_secret_text(), signer.to_secret_text());
    }

    #[test]
    fn what_a_witness_cosigns_verifies_for_that_head_alone(
        size in 1..1_000_000_u64, time in 1..=UnixSeconds::MAX.get(), blake3: bool,
    ) {
        let suite = if blake3 { Suite::Blake3 } else { Suite::Sha256 };
        let (head, other) = (head(suite, size), head(suite, size + 1));
        let line = witness(1).cosign(&head, seconds(time));
        let cosigned = head.with_signatures([line.clone()]).unwrap();
        let cosignature = witness(1).verifier_key().verify_cosignature(&cosigned).unwrap().unwrap();
        prop_assert_eq!(cosignature.time().get(), time);
        prop_assert!(cosignature.key() == witness(1).verifier_key());
        prop_assert_eq!(witness(2).verifier_key().verify_cosignature(&cosigned), Ok(None));
        prop_assert_eq!(witness(1).verifier_key().verify_cosignature(&head), Ok(None));

        let moved = other.with_signatures([line]).unwrap();
        let refused = witness(1).verifier_key().verify_cosignature(&moved);
        let is_refused = matches!(refused, Err(CosignatureError::BadSignature { .. }));
        prop_assert!(is_refused, "{:?}", refused);
    }

    #[test]
    fn signature_lines_re_encode_to_themselves(bytes in "(— [ab] [A-Za-z]{7}=\n){0,3}") {
        if let Ok(lines) = parse_signature_lines(bytes.as_bytes()) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            prop_assert!(text == bytes || lines.len() < bytes.lines().count());
        }
    }
}

/// The note still reads as a head of its log, and the log's lines come first and unchanged.
#[test]
fn a_head_keeps_its_own_lines_when_others_are_added() {
    let head = head(Suite::Sha256, 12);
    let lines = [1, 2].map(|number| witness(number).cosign(&head, seconds(7)));
    let cosigned = head.with_signatures(lines.clone()).unwrap();
    let text = |lines: &[_]| {
        lines
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let own = String::from_utf8(head.note_bytes().to_vec()).unwrap();
    assert_eq!(
        str::from_utf8(cosigned.note_bytes()).unwrap(),
        format!("{own}{}\n", text(&lines))
    );
    for key in log_signer(Suite::Sha256).keys() {
        let read = key.verifier_key().verify_head(cosigned.note_bytes()).unwrap();
        assert_eq!(read.signatures(), cosigned.signatures());
    }

    // Cosigned again later: the new line takes the old one's place.
    let later = witness(1).cosign(&head, seconds(8));
    let again = cosigned.with_signatures([later.clone()]).unwrap();
    assert_eq!(again.signatures()[2..], [later, lines[1].clone()]);

    // Nobody takes away what the log signed, whatever line they send.
    let log_line = Note::parse(head.note_bytes()).unwrap().signatures()[0].clone();
    let forged = log_line.to_string().replace("AAAA", "AAAB");
    let forged = parse_signature_lines(format!("{forged}\n").as_bytes()).unwrap();
    assert_ne!(forged, [log_line]);
    assert_eq!(head.with_signatures(forged).unwrap(), head);
}

#[test]
fn a_head_takes_as_many_lines_as_readers_do() {
    let head = head(Suite::Blake3, 12);
    let lines = |count: usize| {
        (0..count)
            .map(|n| format!("— w{n} AAAAAAA=\n"))
            .collect::<String>()
    };
    let parsed = |count| parse_signature_lines(lines(count).as_bytes());
    let full = head.with_signatures(parsed(MAX_SIGNATURES - 1).unwrap()).unwrap();
    Note::parse(full.note_bytes()).unwrap();
    let past = head.with_signatures(parsed(MAX_SIGNATURES).unwrap());
    assert_eq!(past, Err(NoteError::TooManySignatures));
    assert_eq!(parsed(MAX_SIGNATURES + 1), Err(NoteError::TooManySignatures));

    let long = format!("— w {}\n", "A".repeat(60_000));
    let long = parse_signature_lines(long.as_bytes()).unwrap();
    let other = parse_signature_lines(format!("— v {}\n", "A".repeat(60_000)).as_bytes()).unwrap();
    let refused = head.with_signatures(long.into_iter().chain(other));
    assert!(matches!(refused, Err(NoteError::TooLong { .. })), "{refused:?}");
}

#[test]
fn lines_of_another_form_are_refused() {
    let refusal = |text: &str| parse_signature_lines(text.as_bytes()).unwrap_err();
    let malformed = |line| NoteError::MalformedSignature { line };
    assert_eq!(refusal(""), NoteError::NoFinalNewline);
    assert_eq!(refusal("\n"), malformed(1));
    assert_eq!(refusal("— a AAAAAAA="), NoteError::NoFinalNewline);
    assert_eq!(refusal("— a AAAAAAA=\n\n"), malformed(2));
    assert_eq!(refusal("\n— a AAAAAAA=\n"), malformed(1));
    assert_eq!(refusal("- a AAAAAAA=\n"), malformed(1));
    assert_eq!(
        refusal("— a AAAAAAA=\r\n"),
        NoteError::ControlCharacter { byte: 0x0d, at: 14 }
    );
}

/// Any bit of text, time or signature changed, or the line cut short or continued: refused, not passed over.
#[test]
fn a_changed_cosignature_is_refused() {
    let head = head(Suite::Blake3, 12);
    let line = witness(1).cosign(&head, seconds(1_795_340_000));
    let key = witness(1).verifier_key().clone();
    let with_payload = |payload: &[u8]| {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let id = u32::from_str_radix(&line.id().to_string(), 16)
            .unwrap()
            .to_be_bytes();
        let data = BASE64_STANDARD.encode([&id, payload].concat());
        let changed = parse_signature_lines(format!("— {} {data}\n", line.name()).as_bytes()).unwrap();
        key.verify_cosignature(&head.with_signatures(changed).unwrap())
    };
    assert_eq!(line.payload().len(), 72);
    with_payload(line.payload()).unwrap().unwrap();
    for bit in 0..72 * 8 {
        let mut payload = line.payload().to_vec();
        payload[bit / 8] ^= 1 << (bit % 8);
        with_payload(&payload).unwrap_err();
    }
    for length in 1..72 {
        with_payload(&line.payload()[..length]).unwrap_err();
    }
    with_payload(&[line.payload(), &[0]].concat()).unwrap_err();
}

#[test]
fn times_are_from_1_to_2_to_the_63_less_1() {
    let is_time = |seconds| UnixSeconds::new(seconds).is_ok();
    assert!(!is_time(0) && is_time(1) && is_time((1 << 63) - 1) && !is_time(1 << 63) && !is_time(u64::MAX));

    // The message of such a time can be signed all the same, by other software.
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use ed25519_dalek::{Signer as _, SigningKey};
    let head = head(Suite::Blake3, 12);
    let text = Note::parse(head.note_bytes()).unwrap().text().to_owned();
    let key = witness(1).verifier_key().clone();
    let secret = SigningKey::from_bytes(&[101; 32]);
    let cosign = |time: u64| {
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        let signature = secret.sign(message.as_bytes()).to_bytes();
        let id = u32::from_str_radix(&key.id().to_string(), 16)
            .unwrap()
            .to_be_bytes();
        let data = BASE64_STANDARD.encode([&id[..], &time.to_be_bytes(), &signature].concat());
        let lines = parse_signature_lines(format!("— {} {data}\n", key.name()).as_bytes()).unwrap();
        key.verify_cosignature(&head.with_signatures(lines).unwrap())
    };
    for time in [1, 1_795_340_000, (1 << 63) - 1] {
        assert_eq!(cosign(time).unwrap().unwrap().time().get(), time);
    }
    for time in [0, 1 << 63, u64::MAX] {
        let refused = cosign(time);
        assert!(
            matches!(refused, Err(CosignatureError::Time { .. })),
            "{refused:?}"
        );
    }
}

/// The same seed under another name or in another role is another key id, and no line of one passes for the other's.
#[test]
fn keys_of_one_role_are_not_taken_for_the_other() {
    let seed = [7; 32];
    let cosigner = CosignerSigner::generate(origin("example.com/log"), seed);
    for kind in [
        KeyKind::Ed25519,
        KeyKind::TimestampedHead(Suite::Blake3),
        KeyKind::TimestampedHead(Suite::Sha256),
    ] {
        let log = SignerKey::generate(origin("example.com/log"), kind, seed);
        assert_ne!(log.verifier_key().id(), cosigner.verifier_key().id());
        let vkey = log.verifier_key().to_string();
        assert_eq!(vkey.parse::<CosignerKey>(), Err(KeyError::LogKey));
        assert!(matches!(
            log.to_secret_text().parse::<CosignerSigner>(),
            Err(KeyError::LogKey)
        ));
    }
    let vkey = cosigner.verifier_key().to_string();
    assert_eq!(vkey.parse::<VerifierKey>(), Err(KeyError::WitnessKey));
    assert!(matches!(
        cosigner.to_secret_text().parse::<SignerKey>(),
        Err(KeyError::WitnessKey)
    ));
    assert_eq!(
        cosigner.to_secret_text().parse::<CosignerKey>(),
        Err(KeyError::Secret)
    );
    assert!(!format!("{cosigner:?}").contains(&cosigner.to_secret_text()[12..]));
}

#[test]
fn a_bad_witness_key_is_refused() {
    let key = witness(1).verifier_key().to_string();
    for bit in 0..key.len() * 8 {
        let mut bytes = key.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(text) = String::from_utf8(bytes) {
            text.parse::<CosignerKey>().unwrap_err();
        }
    }
    // y = 1, the neutral element.
    let weak = "witness.example/w1+b2d4a1ec+BAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(weak.parse::<CosignerKey>(), Err(KeyError::Weak));
    let ml_dsa_44 = format!("witness.example/w1+00000000+Bg{}", "A".repeat(1750));
    assert_eq!(ml_dsa_44.parse::<CosignerKey>(), Err(KeyError::MlDsa44));
    assert_eq!(ml_dsa_44.parse::<VerifierKey>(), Err(KeyError::WitnessKey));
}

/// A head of a public log as public witnesses cosigned it in May 2026, and the vkeys that their operators publish.
const PUBLISHED: &str = "arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";

#[test]
fn published_cosignatures_verify() {
    let policy = "\
        log arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f\n\
        witness remora remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2\n\
        witness smartit witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO\n\
        group both all remora smartit\n\
        quorum both\n";
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let cosigned = policy.verify_cosigned(PUBLISHED.as_bytes()).unwrap();
    assert_eq!(cosigned.head().size().get(), 1_432_088_532);
    let times: Vec<_> = cosigned.cosignatures().iter().map(|by| by.time().get()).collect();
    assert_eq!(times, [1_779_573_024; 2]);

    let other_size = PUBLISHED.replace("1432088532", "1432088533");
    let refused = policy.verify_head(other_size.as_bytes());
    assert!(
        matches!(refused, Err(HeadError::BadSignature { .. })),
        "{refused:?}"
    );
}
