//! Envelopes that OpenSSL signed, and what is made of them by somebody who would like to be believed.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use counterfoil_dsse::{KeyError, MAX_PEM_BYTES, PublicKey, Signed};
use counterfoil_event::dsse::Envelope;
use serde_json::{Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!("signed/envelopes.json")).unwrap()
}

/// Kind, key and envelope of each.
fn signed() -> Vec<(String, PublicKey, Value)> {
    let vectors = vectors();
    let envelopes = vectors["envelopes"].as_array().unwrap().iter();
    let signed: Vec<_> = envelopes
        .map(|vector| {
            let key = PublicKey::from_pem(vector["key"].as_str().unwrap()).unwrap();
            let envelope = serde_json::from_str(vector["envelope"].as_str().unwrap()).unwrap();
            (vector["kind"].as_str().unwrap().to_owned(), key, envelope)
        })
        .collect();
    assert_eq!(signed.len(), 5);
    signed
}

fn is_by(envelope: &Value, key: &PublicKey) -> bool {
    let envelope = Envelope::parse(envelope.to_string().as_bytes()).unwrap();
    Signed::new(&envelope).is_by(key)
}

#[test]
fn an_envelope_is_by_its_key_and_by_no_other() {
    let signed = signed();
    for (kind, key, envelope) in &signed {
        assert!(is_by(envelope, key), "{kind}");
        for (other_kind, other, _) in &signed {
            assert!(
                kind == other_kind || !is_by(envelope, other),
                "{kind} {other_kind}"
            );
        }
    }
}

#[test]
fn a_changed_payload_type_or_signature_is_nobody_s() {
    for (kind, key, envelope) in signed() {
        let mut payload = envelope.clone();
        let bytes = BASE64_STANDARD
            .decode(envelope["payload"].as_str().unwrap())
            .unwrap();
        let text = String::from_utf8(bytes).unwrap().replace("5a5a", "5a5b");
        payload["payload"] = BASE64_STANDARD.encode(text).into();
        assert!(!is_by(&payload, &key), "{kind}: payload");

        let mut other_type = envelope.clone();
        other_type["payloadType"] = "application/vnd.in-toto+json2".into();
        assert!(!is_by(&other_type, &key), "{kind}: type");

        let signature = BASE64_STANDARD
            .decode(envelope["signatures"][0]["sig"].as_str().unwrap())
            .unwrap();
        for place in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[place] ^= 1;
            let mut envelope = envelope.clone();
            envelope["signatures"][0]["sig"] = BASE64_STANDARD.encode(changed).into();
            assert!(!is_by(&envelope, &key), "{kind}: byte {place} of the signature");
        }
    }
}

/// The bytes of a type and a payload are counted in what is signed: none can pass into the other.
#[test]
fn nothing_moves_from_the_type_into_the_payload() {
    let (_, key, envelope) = signed().swap_remove(0);
    let bytes = BASE64_STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let moved = [b"json".as_slice(), &bytes].concat();
    let mut other = envelope;
    other["payloadType"] = "application/vnd.in-toto+".into();
    other["payload"] = BASE64_STANDARD.encode(moved).into();
    assert!(!is_by(&other, &key));
}

#[test]
fn one_good_signature_is_enough_wherever_it_stands_and_whatever_its_keyid_says() {
    let signed = signed();
    let (_, key, envelope) = &signed[1];
    let good = envelope["signatures"][0]["sig"].clone();
    let bad = signed[2].2["signatures"][0]["sig"].clone();
    let with = |signatures: Value| {
        let mut envelope = envelope.clone();
        envelope["signatures"] = signatures;
        is_by(&envelope, key)
    };
    assert!(with(json!([{ "sig": bad }, { "sig": good }])));
    assert!(with(json!([{ "keyid": "somebody else's", "sig": good }])));
    let own_name = key.fingerprint().to_string();
    assert!(!with(json!([{ "keyid": own_name, "sig": bad }])));
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    let vectors = vectors();
    for kind in ["p521", "rsa-1024", "x25519"] {
        let pem = vectors["refused_keys"][kind].as_str().unwrap();
        assert_eq!(
            PublicKey::from_pem(pem).unwrap_err(),
            KeyError::Algorithm,
            "{kind}"
        );
    }
    // The neutral element of the curve: every message has a signature.
    let neutral = [
        &[
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 0x01,
        ][..],
        &[0; 31],
    ]
    .concat();
    let pem = |label: &str, der: &[u8]| {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            BASE64_STANDARD.encode(der)
        )
    };
    assert_eq!(
        PublicKey::from_pem(&pem("PUBLIC KEY", &neutral)).unwrap_err(),
        KeyError::Weak
    );

    let good = vectors["envelopes"][0]["key"].as_str().unwrap();
    for (bad, error) in [
        (String::new(), KeyError::NotPem),
        ("not a key".to_owned(), KeyError::NotPem),
        (good.repeat(2), KeyError::NotPem),
        (
            pem("PRIVATE KEY", &neutral),
            KeyError::Label("PRIVATE KEY".to_owned()),
        ),
        (pem("PUBLIC KEY", b"x"), KeyError::Malformed),
        (
            pem("PUBLIC KEY", &[neutral.as_slice(), b"x"].concat()),
            KeyError::Malformed,
        ),
        (" ".repeat(MAX_PEM_BYTES + 1), KeyError::TooLong),
    ] {
        assert_eq!(PublicKey::from_pem(&bad).unwrap_err(), error, "{bad}");
    }
}

/// Each of these would be a second name of a key that has one.
#[test]
fn a_key_has_one_encoding() {
    let vectors = vectors();
    let der = |place: usize| {
        let lines = vectors["envelopes"][place]["key"].as_str().unwrap().lines();
        let base64: String = lines.filter(|line| !line.starts_with('-')).collect();
        BASE64_STANDARD.decode(base64).unwrap()
    };
    let refused = |der: &[u8]| {
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64_STANDARD.encode(der)
        );
        assert_eq!(
            PublicKey::from_pem(&pem).unwrap_err(),
            KeyError::Malformed,
            "{pem}"
        );
    };
    let (ed25519, p256, rsa) = (der(0), der(1), der(3));
    // The length of the whole in two bytes where one is enough.
    refused(&[&[0x30, 0x81], &ed25519[1..]].concat());
    // A string of bytes where the name of an algorithm should be.
    let mut no_name = p256.clone();
    assert_eq!(no_name[4], 0x06);
    no_name[4] = 0x04;
    refused(&no_name);
    // The same point with one coordinate and the sign of the other.
    let (head, point) = p256.split_at(p256.len() - 65);
    assert_eq!((head[1], head[head.len() - 2], point[0]), (0x59, 0x42, 0x04));
    let mut head = head.to_vec();
    head[1] -= 32;
    let length = head.len() - 2;
    head[length] -= 32;
    refused(&[&head[..], &[2 + (point[64] & 1)], &point[1..33]].concat());
    // Parameters that have to be there, and are not: the length of the whole is that much less.
    let null = rsa.windows(2).position(|pair| pair == [0x05, 0x00]).unwrap();
    let mut bare = [&rsa[..null], &rsa[null + 2..]].concat();
    assert_eq!((bare[1], bare[4]), (0x82, 0x30));
    bare[3] -= 2;
    bare[5] -= 2;
    refused(&bare);
}

#[test]
fn a_key_is_one_however_it_is_written() {
    let vectors = vectors();
    for vector in vectors["envelopes"].as_array().unwrap() {
        let text = vector["key"].as_str().unwrap();
        let key = PublicKey::from_pem(text).unwrap();
        assert_eq!(key.pem(), text, "as OpenSSL writes it");
        let again = PublicKey::from_pem(&format!("\n{}\r\n", text.replace('\n', "\r\n"))).unwrap();
        assert_eq!((again.pem(), again.fingerprint()), (key.pem(), key.fingerprint()));
    }
}
