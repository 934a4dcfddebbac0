//! DSSE envelopes, and the keys that sign them.

use std::{fmt, sync::LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_dsse::{PublicKey, Signed};
use counterfoil_event::{
    dsse::{Envelope, MAX_SIGNATURES, STATEMENT_TYPE},
    dsse_key_event,
};
use counterfoil_server::fuzzing;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::text;
use crate::Target;

/// Envelopes that OpenSSL signed, each with its key.
const VECTORS: &str = include_str!("../../../crates/dsse/tests/signed/envelopes.json");
const STATEMENT: &str = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"5a"}}],"predicateType":"x"}"#;

/// A key, and all that it signed.
struct Signatory {
    key: PublicKey,
    signed: Vec<(String, Vec<u8>)>,
    envelopes: Vec<String>,
}

static SIGNATORIES: LazyLock<Vec<Signatory>> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let others = vectors["envelopes"].as_array().unwrap().iter().map(|vector| {
        let text = vector["envelope"].as_str().unwrap();
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        Signatory {
            key: PublicKey::from_pem(vector["key"].as_str().unwrap()).unwrap(),
            signed: vec![(envelope.payload_type().to_owned(), envelope.payload().to_vec())],
            envelopes: vec![text.to_owned()],
        }
    });
    others.chain([ours()]).collect()
});

/// A key that signs here, and what could be taken for something else: what is signed has lengths and spaces in it too.
fn ours() -> Signatory {
    let signer = SigningKey::from_bytes(&[7; 32]);
    let signed = [
        (STATEMENT_TYPE, STATEMENT),
        ("text/plain", "hello"),
        ("text/plain 5 hello", ""),
        ("x", "DSSEv1 10 text/plain 5 hello"),
    ];
    let envelopes = signed.iter().map(|(payload_type, payload)| {
        let pae = format!(
            "DSSEv1 {} {payload_type} {} {payload}",
            payload_type.len(),
            payload.len()
        );
        let signature = signer.sign(pae.as_bytes()).to_bytes();
        write(payload_type, payload.as_bytes(), &[signature.to_vec()])
    });
    Signatory {
        key: PublicKey::from_pem(&ed25519_pem(signer.verifying_key().as_bytes())).unwrap(),
        envelopes: envelopes.collect(),
        signed: signed
            .map(|(payload_type, payload)| (payload_type.to_owned(), payload.as_bytes().to_vec()))
            .to_vec(),
    }
}

/// RFC 8410, section 4.
fn ed25519_pem(key: &[u8; 32]) -> String {
    let der = [
        &[
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
        ][..],
        key,
    ]
    .concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    )
}

fn write(payload_type: &str, payload: &[u8], signatures: &[Vec<u8>]) -> String {
    let signatures: Vec<_> = signatures
        .iter()
        .map(|it| json!({"sig": BASE64_STANDARD.encode(it)}))
        .collect();
    json!({"payloadType": payload_type, "payload": BASE64_STANDARD.encode(payload), "signatures": signatures})
        .to_string()
}

pub(super) const ENVELOPE: Target = Target {
    name: "dsse",
    about: "DSSE envelopes",
    seeds: envelope_seeds,
    words: &[
        "\"payloadType\":\"application/vnd.in-toto+json\"",
        "\"payload\":\"",
        "\"signatures\":[{\"sig\":\"",
        "\"keyid\":\"a\"",
        "\"Payload\":\"",
        "\"SIG\":",
        "\\u0070ayload",
        "\\u017fignatures",
        "eyJzdWJqZWN0IjpbXX0=",
        "-_8",
        "==",
        "null",
        ",",
        "{",
        "}",
        "[",
        "]",
    ],
    max_bytes: 16 << 10,
    run: envelope,
};

fn envelope_seeds() -> Vec<Vec<u8>> {
    let signed = SIGNATORIES
        .iter()
        .flat_map(|signatory| signatory.envelopes.clone());
    let more = [
        // Of several signers, one is known.
        {
            let known = Envelope::parse(SIGNATORIES[0].envelopes[0].as_bytes()).unwrap();
            let signatures = [vec![0; 64], known.signatures()[0].clone(), vec![1; 256]];
            write(known.payload_type(), known.payload(), &signatures)
        },
        write(STATEMENT_TYPE, br#"{"subject":[],"subject":[1]}"#, &[vec![0; 64]]),
        write("text/plain", b"", &vec![vec![0; 64]; MAX_SIGNATURES]),
        r#"{"payloadType":"x","payload":"-_8","signatures":[{"keyid":null,"sig":"AA"}],"more":{"a":{"b":{"c":1,"C":2}}}}"#.to_owned(),
        r#"{"payloadType":"x","payload":"","Payload":"AA==","signatures":[{"sig":"AA=="}]}"#.to_owned(),
    ];
    signed.chain(more).map(String::into_bytes).collect()
}

/// Whoever signed an envelope signed just what is read in it. It says the same to a reader that takes the first of two members, to one
/// that takes the last, and to one that does not mind case.
fn envelope(input: &[u8]) {
    let Ok(envelope) = Envelope::parse(input) else {
        return;
    };
    let signed = Signed::new(&envelope);
    for signatory in SIGNATORIES.iter() {
        if signed.is_by(&signatory.key) {
            let is = |(payload_type, payload): &(String, Vec<u8>)| {
                payload_type == envelope.payload_type() && payload == envelope.payload()
            };
            assert!(
                signatory.signed.iter().any(is),
                "{:?} never signed it",
                signatory.key
            );
        }
    }
    let written = write(envelope.payload_type(), envelope.payload(), envelope.signatures());
    assert_eq!(Envelope::parse(written.as_bytes()).unwrap(), envelope);

    let last: Value = serde_json::from_slice(input).unwrap();
    assert_eq!(first_members(input).unwrap(), last);
    assert_eq!(last["payloadType"], envelope.payload_type());
    for known in ["payloadType", "payload", "signatures"] {
        let alike = members(&last).filter(|(name, _)| name.eq_ignore_ascii_case(known));
        assert_eq!(alike.count(), 1, "{known}");
    }
    if envelope.payload_type() == STATEMENT_TYPE {
        let last: Value = serde_json::from_slice(envelope.payload()).unwrap();
        assert_eq!(first_members(envelope.payload()).unwrap(), last);
    }
}

/// JSON as somebody reads it who takes the first of two members with one name.
pub(super) fn first_members(json: &[u8]) -> serde_json::Result<Value> {
    let First(value) = serde_json::from_slice(json)?;
    Ok(value)
}

/// The members of an object.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

struct First(Value);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FirstVisitor).map(Self)
    }
}

struct FirstVisitor;

impl<'de> Visitor<'de> for FirstVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(First(item)) = array.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, First(value))) = object.next_entry::<String, First>()? {
            members.entry(name).or_insert(value);
        }
        Ok(members.into())
    }
}

pub(super) const KEY: Target = Target {
    name: "dsse_key",
    about: "keys that sign envelopes, in PEM, and the files that enrol them",
    seeds: key_seeds,
    words: &[
        "-----BEGIN PUBLIC KEY-----\n",
        "-----END PUBLIC KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n",
        "MCowBQYDK2VwAyEA",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA",
        "public_key = '''",
        "'''\n",
        "logs = [\"main\"]\n",
        "\r\n",
        "AAAA",
    ],
    max_bytes: 9 << 10,
    run: key,
};

fn key_seeds() -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let refused = members(&vectors["refused_keys"]).map(|(_, pem)| pem.as_str().unwrap().to_owned());
    let keys = SIGNATORIES.iter().map(|signatory| signatory.key.pem().to_owned());
    let files = SIGNATORIES.iter().flat_map(|signatory| {
        let pem = signatory.key.pem();
        [
            format!("public_key = '''\n{pem}'''\n"),
            format!("public_key = \"\"\"\n{pem}\"\"\"\nlogs = [\"main\", \"other\"]\n"),
        ]
    });
    let neutral = ed25519_pem(&[
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    keys.chain(refused)
        .chain(files)
        .chain([neutral])
        .map(String::into_bytes)
        .collect()
}

/// A key has one text and one fingerprint, and its record leads back to it; nothing else than the key that signed an envelope verifies it.
fn key(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Ok(key) = PublicKey::from_pem(text) {
        let again = PublicKey::from_pem(key.pem()).unwrap();
        assert_eq!((again.pem(), again.fingerprint()), (key.pem(), key.fingerprint()));
        let fingerprint = key.fingerprint().to_string();
        let record = dsse_key_event(&fingerprint, key.pem());
        assert_eq!(record.id(), format!("dsse-key-{fingerprint}"));
        let recorded = PublicKey::from_pem(str::from_utf8(record.data()).unwrap()).unwrap();
        assert_eq!(recorded.fingerprint(), key.fingerprint());
        for signatory in SIGNATORIES.iter() {
            let envelope = Envelope::parse(signatory.envelopes[0].as_bytes()).unwrap();
            if Signed::new(&envelope).is_by(&key) {
                assert_eq!(key.fingerprint(), signatory.key.fingerprint());
            }
        }
    }
    if let Some(written) = fuzzing::rewrite_dsse_key(text) {
        assert_eq!(fuzzing::rewrite_dsse_key(&written), Some(written));
    }
}
