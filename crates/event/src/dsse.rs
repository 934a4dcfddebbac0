//! DSSE envelopes, as far as they are a format: <https://github.com/secure-systems-lab/dsse>, protocol and envelope 1.0.
//!
//! An envelope is read once. What is signed, and what is later looked into, is the [`payload`](Envelope::payload) of that
//! reading. `keyid` is passed over: it is not signed, so nothing may rest on it. Who signed is for `counterfoil-dsse` to find out.
//!
//! An envelope that other readers might read differently is none: one in which a member stands twice, or in another case. The same
//! goes for an in-toto statement in it, down to its predicate.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use crate::{
    json_object::{JsonArray, JsonObject, told},
    unambiguous,
};

/// The media type of a payload that is an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The payload type of in-toto statements.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// Longest envelope.
pub const MAX_ENVELOPE_BYTES: usize = 4 << 20;
/// Most signatures of one envelope: each is tried with each key.
pub const MAX_SIGNATURES: usize = 8;
/// Longest signature: that of an RSA key of 8,192 bits.
pub const MAX_SIGNATURE_BYTES: usize = 1024;
/// Longest payload type.
pub const MAX_PAYLOAD_TYPE_BYTES: usize = 256;

/// The specification takes either alphabet. Padding may be there or not; bits that mean nothing have to be zero.
const BASE64: [GeneralPurpose; 2] = {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [
        GeneralPurpose::new(&STANDARD, config),
        GeneralPurpose::new(&URL_SAFE, config),
    ]
};

/// An envelope of which no signature has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than [`MAX_ENVELOPE_BYTES`].
    #[error("a DSSE envelope has at most {MAX_ENVELOPE_BYTES} bytes")]
    TooLong,
    /// Not JSON, or a member is missing, given twice or of another type.
    #[error("this is no DSSE envelope: {0}")]
    Malformed(String),
    /// The payload says that it is an in-toto statement, and is no JSON or has a member twice.
    #[error("the in-toto statement in the DSSE envelope is malformed: {0}")]
    Statement(String),
    /// The payload type is empty or too long.
    #[error("the payload type of a DSSE envelope has 1 to {MAX_PAYLOAD_TYPE_BYTES} bytes")]
    PayloadType,
    /// Not base64, or of two alphabets.
    #[error("{0} of the DSSE envelope is not base64")]
    Base64(&'static str),
    /// No signatures, or too many.
    #[error("a DSSE envelope has 1 to {MAX_SIGNATURES} signatures, and not {0}")]
    SignatureCount(usize),
    /// A signature that is empty or longer than any.
    #[error("a signature of a DSSE envelope has 1 to {MAX_SIGNATURE_BYTES} bytes")]
    SignatureLength,
}

#[derive(Deserialize)]
struct EnvelopeJson<'a> {
    #[serde(rename = "payloadType")]
    payload_type: String,
    #[serde(borrow)]
    payload: std::borrow::Cow<'a, str>,
    signatures: JsonArray<JsonObject<SignatureJson>>,
}

#[derive(Deserialize)]
struct SignatureJson {
    sig: String,
}

impl Envelope {
    /// Reads an envelope. Members that the specification does not have are passed over.
    ///
    /// # Errors
    /// If it is none, or beyond a limit.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        let malformed = |problem: serde_json::Error| EnvelopeError::Malformed(told(problem));
        unambiguous::check(json).map_err(malformed)?;
        let JsonObject(envelope): JsonObject<EnvelopeJson<'_>> =
            serde_json::from_slice(json).map_err(malformed)?;
        if !(1..=MAX_PAYLOAD_TYPE_BYTES).contains(&envelope.payload_type.len()) {
            return Err(EnvelopeError::PayloadType);
        }
        let JsonArray(given) = envelope.signatures;
        let count = given.len();
        if !(1..=MAX_SIGNATURES).contains(&count) {
            return Err(EnvelopeError::SignatureCount(count));
        }
        let mut signatures = Vec::with_capacity(count);
        for JsonObject(SignatureJson { sig }) in given {
            let signature = decode(&sig).ok_or(EnvelopeError::Base64("a signature"))?;
            if !(1..=MAX_SIGNATURE_BYTES).contains(&signature.len()) {
                return Err(EnvelopeError::SignatureLength);
            }
            signatures.push(signature);
        }
        let payload = decode(&envelope.payload).ok_or(EnvelopeError::Base64("the payload"))?;
        if envelope.payload_type == STATEMENT_TYPE {
            unambiguous::check(&payload).map_err(|problem| EnvelopeError::Statement(told(problem)))?;
        }
        Ok(Self {
            payload,
            payload_type: envelope.payload_type,
            signatures,
        })
    }

    /// What kind of thing the payload is.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// What is signed, together with its type.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signatures, in the envelope's order. None is checked.
    pub fn signatures(&self) -> &[Vec<u8>] {
        &self.signatures
    }

    /// The bytes that signatures are over: PAE(type, payload).
    pub fn signed_bytes(&self) -> Vec<u8> {
        let (kind, body) = (self.payload_type.as_bytes(), &self.payload);
        let mut bytes = format!("DSSEv1 {} ", kind.len()).into_bytes();
        bytes.reserve(kind.len() + body.len() + 24);
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(format!(" {} ", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.iter().find_map(|alphabet| alphabet.decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Envelope, EnvelopeError> {
        Envelope::parse(json.as_bytes())
    }

    /// The example of the specification's protocol.
    #[test]
    fn what_is_signed_is_what_the_specification_says() {
        let envelope = parse(
            r#"{"payloadType":"http://example.com/HelloWorld","payload":"aGVsbG8gd29ybGQ=","signatures":[{"sig":"AA=="}]}"#,
        );
        assert_eq!(
            envelope.unwrap().signed_bytes(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        let empty = parse(r#"{"payloadType":"x","payload":"","signatures":[{"sig":"AA"}]}"#);
        assert_eq!(empty.unwrap().signed_bytes(), b"DSSEv1 1 x 0 ");
    }

    #[test]
    fn both_alphabets_are_read_and_nothing_is_guessed() {
        let payload = |text: &str| {
            parse(&format!(
                r#"{{"payloadType":"x","payload":"{text}","signatures":[{{"keyid":"anything","sig":"AA=="}}]}}"#
            ))
            .map(|envelope| envelope.payload().to_vec())
        };
        for good in ["-_8=", "+/8=", "-_8", "+/8"] {
            assert_eq!(payload(good).unwrap(), [0xfb, 0xff], "{good}");
        }
        for bad in ["-/8=", "+/9=", "+/8 ", "+/8==", "!", "\\u00e9"] {
            assert_eq!(payload(bad), Err(EnvelopeError::Base64("the payload")), "{bad}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let signature = r#"{"sig":"AA=="}"#;
        let with =
            |signatures: &str| format!(r#"{{"payloadType":"x","payload":"","signatures":[{signatures}]}}"#);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"payloadType":"x","payload":""}"#,
            // Which of two would have been signed?
            r#"{"payloadType":"x","payload":"","payload":"AA==","signatures":[{"sig":"AA=="}]}"#,
            r#"{"payloadType":"x","payload":"","signatures":[{"sig":"AA==","sig":"AQ=="}]}"#,
            r#"{"payloadType":"x","payload":"","Payload":"AA==","signatures":[{"sig":"AA=="}]}"#,
            r#"{"payloadType":"x","payload":"","signatures":[{"keyid":"a","sig":"AA==","keyid":"b"}]}"#,
            r#"{"payloadType":"x","payload":"","signatures":[{"sig":"AA=="}],"more":{"a":[{"b":1,"b":1}]}}"#,
            r#"{"payloadType":5,"payload":"","signatures":[{"sig":"AA=="}]}"#,
            r#"{"payloadType":"x","payload":"","signatures":["AA=="]}"#,
            // Members by their places, which serde would take.
            r#"["x","",[{"sig":"AA=="}]]"#,
            r#"{"payloadType":"x","payload":"","signatures":[["AA=="]]}"#,
        ] {
            assert!(matches!(parse(bad), Err(EnvelopeError::Malformed(_))), "{bad}");
        }
        assert_eq!(parse(&with("")), Err(EnvelopeError::SignatureCount(0)));
        let most = [signature; MAX_SIGNATURES].join(",");
        assert_eq!(parse(&with(&most)).unwrap().signatures().len(), MAX_SIGNATURES);
        assert_eq!(
            parse(&with(&format!("{most},{signature}"))),
            Err(EnvelopeError::SignatureCount(MAX_SIGNATURES + 1))
        );
        assert_eq!(parse(&with(r#"{"sig":""}"#)), Err(EnvelopeError::SignatureLength));
        assert_eq!(
            parse(r#"{"payloadType":"","payload":"","signatures":[{"sig":"AA=="}]}"#),
            Err(EnvelopeError::PayloadType)
        );
        let long = vec![b' '; MAX_ENVELOPE_BYTES + 1];
        assert_eq!(Envelope::parse(&long), Err(EnvelopeError::TooLong));
    }

    #[test]
    fn what_is_wrong_is_not_repeated() {
        let long = "\u{7f}".repeat(10_000);
        for bad in [
            format!(r#""{long}""#),
            format!(r#"{{"payloadType":"x","payload":"","signatures":"{long}"}}"#),
            format!(r#"{{"payloadType":"x","payload":"","signatures":["{long}"]}}"#),
            format!(r#"{{"{long}":1,"{long}":2}}"#),
        ] {
            let told = parse(&bad).unwrap_err().to_string();
            assert!(told.len() < 400, "{told}");
        }
    }

    #[test]
    fn a_statement_says_one_thing_to_all_who_read_it() {
        let with = |payload_type: &str, payload: &str| {
            let payload = BASE64[0].encode(payload);
            parse(&format!(
                r#"{{"payloadType":"{payload_type}","payload":"{payload}","signatures":[{{"sig":"AA=="}}]}}"#
            ))
        };
        for bad in [
            "",
            "{",
            r#"{"subject":[],"subject":[]}"#,
            r#"{"subject":[],"Subject":[]}"#,
            r#"{"subject":[{"digest":{"sha256":"a","sha256":"b"}}]}"#,
            r#"{"predicate":{"builder":{"id":"a"},"builder":{"id":"b"}}}"#,
            r#"{"predicate":{"runDetails":{"metadata":{"invocationId":"a","invocationId":"b"}}}}"#,
        ] {
            let refused = with(STATEMENT_TYPE, bad);
            assert!(matches!(refused, Err(EnvelopeError::Statement(_))), "{bad}");
            // What nobody here looks into may be anything.
            assert!(with("text/plain", bad).is_ok(), "{bad}");
        }
        let environment =
            r#"{"predicate":{"invocation":{"environment":{"http_proxy":"a","HTTP_PROXY":"b"}}}}"#;
        assert!(with(STATEMENT_TYPE, environment).is_ok());
        assert_eq!(
            with(STATEMENT_TYPE, r#"{"subject":[],"subject":[]}"#)
                .unwrap_err()
                .to_string(),
            "the in-toto statement in the DSSE envelope is malformed: it has the member \"subject\" twice at line 1 column 23"
        );
    }
}
