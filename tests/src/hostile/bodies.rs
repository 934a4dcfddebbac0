//! Attacks on the answers as bytes, whatever they are about.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio_stream::{self as stream, StreamExt as _};

use super::{Attack, HostileLog};

/// What a gRPC message claims to be long: more than anyone would take.
const CLAIMED_BYTES: u32 = 1 << 30;
const CHUNK_BYTES: usize = 64 << 10;
/// Between one byte of an answer and the next. Before a keep-alive or a time-out for silence notices.
const DRIP: Duration = Duration::from_millis(50);

/// Replaces the bodies of answers while an attack on them is on.
pub(super) async fn spoil(State(log): State<HostileLog>, request: Request, next: Next) -> Response {
    let is_http = request.uri().path().starts_with("/logs/");
    let answer = next.run(request).await;
    match log.current() {
        Attack::Huge => {
            let claim = if is_http {
                vec![]
            } else {
                [&[0][..], &CLAIMED_BYTES.to_be_bytes()].concat()
            };
            let zeros = stream::iter(std::iter::repeat_with(|| vec![0; CHUNK_BYTES]));
            endless(answer, claim, zeros)
        }
        // A message of which the claimed length never comes, though bytes do.
        Attack::Slow => {
            let drops = stream::iter(std::iter::repeat_with(|| vec![b'\n'])).throttle(DRIP);
            endless(answer, vec![0, 0, 0, 16, 0], drops)
        }
        Attack::Garbage => {
            let kind = answer.headers().get(CONTENT_TYPE).cloned();
            let mut garbage = Body::from(&b"\0\0\0\0\x05\xff\xfe<!doctype html>"[..]).into_response();
            garbage
                .headers_mut()
                .extend(kind.map(|kind| (CONTENT_TYPE, kind)));
            garbage
        }
        Attack::NotModified if is_http => StatusCode::NOT_MODIFIED.into_response(),
        _ => answer,
    }
}

fn endless(
    answer: Response,
    first: Vec<u8>,
    rest: impl stream::Stream<Item = Vec<u8>> + Send + 'static,
) -> Response {
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove("content-length");
    let body = stream::once(first).chain(rest);
    let body = body.map(|bytes| Ok::<_, std::convert::Infallible>(Bytes::from(bytes)));
    Response::from_parts(parts, Body::from_stream(body))
}
