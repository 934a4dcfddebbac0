//! For the fuzz targets: see [`crate::fuzzing`].

use axum::http::HeaderMap;
use bytes::Bytes;
use counterfoil_event::{Event, SourceId, Submitter};
use counterfoil_hooks::Source;

use super::{accept_media_type, read, signature::Signatures};

/// The event of a delivery, and who is taken to have sent it. None if it is refused.
pub(crate) fn delivered(
    id: &SourceId,
    source: &Source,
    headers: &HeaderMap,
    body: Bytes,
    now_unix_s: u64,
) -> Option<(Event, Submitter)> {
    accept_media_type(headers).ok()?;
    let signatures = Signatures::find(source, headers).ok()?;
    read(id, source, headers, &signatures, body, now_unix_s).ok()
}
