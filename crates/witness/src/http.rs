//! Requests and answers over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use counterfoil_seats::Seat;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;
use tracing::{debug, error};

use crate::{clock, refusal::Refusal, request::MAX_REQUEST_BYTES, state::OriginHash, witness::Witness};

/// How long a body may take to arrive.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(5);
/// When to come back after a 503, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const TREE_SIZE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");

pub(crate) fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(checkpoint))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "there is nothing here\n") })
        .method_not_allowed_fallback(|| async {
            text(
                StatusCode::METHOD_NOT_ALLOWED,
                "this method is not for this path\n",
            )
        })
        .with_state(witness)
}

async fn add_checkpoint(
    State(witness): State<Arc<Witness>>,
    Extension(seat): Extension<Seat>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = read_body(request).await?;
    let _serving = seat.serve();
    let cosignature = witness.add_checkpoint(&body, clock::unix_seconds).await?;
    Ok(text(StatusCode::OK, format!("{cosignature}\n")))
}

async fn read_body(request: Request) -> Result<Bytes, Refusal> {
    if content_length(request.headers()).is_some_and(|length| length > MAX_REQUEST_BYTES as u64) {
        return Err(Refusal::BodyTooLong);
    }
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES);
    match timeout(BODY_TIME, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLong),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyTooSlow),
    }
}

async fn checkpoint(State(witness): State<Arc<Witness>>, Path(hash): Path<String>) -> Response {
    let newest = OriginHash::from_hex(&hash).map_or(Ok(None), |log| witness.newest(log));
    match newest {
        Ok(Some(note)) => {
            let mut response = text(StatusCode::OK, note);
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Ok(None) => text(
            StatusCode::NOT_FOUND,
            "this witness never cosigned a checkpoint of the log\n",
        ),
        Err(error) => {
            error!(%error, "the state can't be read");
            Refusal::State.into_response()
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        debug!(status = self.status(), reason = %self, "refused");
        let status = StatusCode::from_u16(self.status()).expect("each refusal has a valid status");
        let mut response = text(status, format!("{self}\n"));
        let headers = response.headers_mut();
        match self {
            Self::Conflict { .. } => {
                headers.insert(header::CONTENT_TYPE, TREE_SIZE);
            }
            Self::QueueFull | Self::ClockNotSet => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            // The rest of the body is still on its way, and is not read.
            Self::BodyTooLong | Self::BodyTooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], body.into()).into_response()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use counterfoil_merkle::TreeSize;

    use super::*;

    /// What no test over the network can bring about at will; the others are tested there.
    #[test]
    fn refusals_that_are_the_witnesss_own_fault_say_when_to_come_back() {
        for (refusal, status, retry) in [
            (Refusal::QueueFull, 503, true),
            (Refusal::ClockNotSet, 503, true),
            (Refusal::State, 500, false),
            (Refusal::BodyBroken, 400, false),
            (
                Refusal::Conflict {
                    newest: TreeSize::ZERO,
                },
                409,
                false,
            ),
        ] {
            let response = refusal.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry);
        }
    }
}
