//! What the port serves beside gRPC: each log as tiles and as a sink of CloudEvents under `/logs/<name>/`, Splunk's event
//! collector under `/services/collector`, and `/health`.

mod answer;
mod body;
mod cloudevents;
mod hec;
mod tiles;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use tonic::Status;

use crate::{grpc::Logs, metrics::Metrics};
use body::Bodies;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// What is not there may be there in a moment.
const NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// What takes events in.
#[derive(Clone)]
struct Intake {
    logs: Logs,
    metrics: Metrics,
    bodies: Bodies,
}

/// Adds the paths to those of gRPC.
pub(crate) fn add_to(grpc: Router, logs: Logs, metrics: Metrics) -> Router {
    let intake = Intake {
        logs: logs.clone(),
        metrics,
        bodies: Bodies::default(),
    };
    let of_logs = tiles::reader(logs)
        .merge(cloudevents::sink(intake.clone()))
        .fallback(not_allowed);
    grpc.route("/logs/{*path}", of_logs)
        .merge(hec::collector(intake))
        .route(
            "/health",
            get(async || ([(CACHE_CONTROL, NEVER)], "ok\n")).fallback(not_allowed),
        )
        .fallback(async |headers: HeaderMap| nothing_here(&headers))
}

async fn not_allowed(uri: Uri) -> Response {
    let allowed = if cloudevents::log_of(uri.path()).is_some() {
        "POST"
    } else {
        "GET,HEAD"
    };
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [
            (ALLOW, HeaderValue::from_static(allowed)),
            (CONTENT_TYPE, TEXT),
            (CACHE_CONTROL, NEVER),
        ],
        "this method is not allowed here\n",
    )
        .into_response()
}

/// Whoever calls a service that is not there is told so in gRPC.
pub(crate) fn nothing_here(headers: &HeaderMap) -> Response {
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented("").into_http::<Body>();
    }
    tiles::Refusal::NotFound.into_response()
}
