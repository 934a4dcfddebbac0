//! For the fuzz targets: what they read has no other public entrance.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use counterfoil_event::{Event, SourceId, Submitter};
use counterfoil_hooks::Source;

use crate::http::hooks;
pub use crate::{
    access::fuzzing::{
        believed_audience, is_access_config, is_certificate, keys_url, rewrite_dsse_key,
        rewrite_spent_tokens, rewrite_token, rewrite_token_record, verified_audience,
    },
    grpc::held_after,
};

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
