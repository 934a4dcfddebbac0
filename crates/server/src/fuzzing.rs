//! For the fuzz targets: what they read has no other public entrance.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use counterfoil_event::{Event, SourceId, Submitter};
use counterfoil_hooks::Source;

use crate::{access, grpc, http::hooks};

/// Reads an API token, and writes it.
pub fn rewrite_token(text: &str) -> Option<String> {
    access::fuzzing::rewrite_token(text)
}

/// Reads what the server keeps of a token, and writes it.
pub fn rewrite_token_record(text: &str) -> Option<String> {
    access::fuzzing::rewrite_token_record(text)
}

/// Whether a text is an `access.toml`.
pub fn is_access_config(text: &str) -> bool {
    access::fuzzing::is_config(text)
}

/// Whether bytes are a client certificate that can be used.
pub fn is_certificate(der: &[u8]) -> bool {
    access::fuzzing::is_certificate(der)
}

/// Reads the file of a key that signs DSSE envelopes, and writes it.
pub fn rewrite_dsse_key(text: &str) -> Option<String> {
    access::fuzzing::rewrite_dsse_key(text)
}

/// Reads the file of the job tokens that were used, and writes it.
pub fn rewrite_spent_tokens(text: &str) -> Option<String> {
    access::fuzzing::rewrite_spent_tokens(text)
}

/// Where the keys of an issuer are by its discovery document, if it is to be believed.
pub fn keys_url(issuer: &str, discovery: &[u8]) -> Option<String> {
    access::fuzzing::keys_url(issuer, discovery)
}

/// Whom a job's token is for, if one of the keys, a JWK Set, signed it and it is good at that time, in seconds since 1970.
pub fn verified_audience(token: &str, keys: &[u8], now: i64) -> Option<String> {
    access::fuzzing::verified_audience(token, keys, now)
}

/// Whom a job's token with these claims is for, if it is good at that time: for one use, or, if it `is_reused`, until it expires.
/// Whether it is signed is another question.
pub fn believed_audience(claims: &[u8], is_reused: bool, now: i64) -> Option<String> {
    access::fuzzing::believed_audience(claims, is_reused, now)
}

/// How many bytes of a gRPC message that is not complete are held after each of these pieces of a call's body.
pub fn held_after(pieces: &[&[u8]]) -> Vec<usize> {
    grpc::held_after(pieces)
}

/// The event of a webhook's delivery, and who is taken to have sent it. None if it is refused, or a header can't be one.
pub fn delivered(
    source_id: &SourceId,
    source: &Source,
    headers: &[(&[u8], &[u8])],
    body: Bytes,
    now_unix_s: u64,
) -> Option<(Event, Submitter)> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name).ok()?;
        map.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    hooks::fuzzing::delivered(source_id, source, &map, body, now_unix_s)
}
