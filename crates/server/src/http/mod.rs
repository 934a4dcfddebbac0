//! What the port serves beside gRPC: each log as tiles and as a sink of CloudEvents under `/logs/<name>/`, webhooks under
//! `/hooks/<source>`, Splunk's event collector under `/services/collector`, and `/health`.
//!
//! Whatever takes events in reads bodies by [`body`], hands events to a log by [`intake`](crate::intake), and refuses by a
//! [`answer::Problem`], which the collector puts into its own protocol's words.

mod answer;
mod body;
mod budget;
mod cloudevents;
mod hec;
pub(crate) mod hooks;
mod tiles;

use std::{iter, path::Path};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode, Uri, Version,
        header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use counterfoil_event::Event;
use counterfoil_log::Log;
use tonic::Status;

use crate::{
    access::{HEALTH, Submitting},
    deliveries::Deliveries,
    intake::{Group, Load, Placed, Results},
    logs::Logs,
    metrics::{IntakeOutcome, IntakePath, Metrics},
    refusal::Refusal,
};
use answer::{Problem, Recorded};
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

impl Intake {
    /// Records an event.
    ///
    /// # Errors
    /// Counted with the [`answer`](Self::answer), and not here.
    async fn record_one(
        &self,
        path: IntakePath,
        log: &Log,
        submitter: &Submitting,
        event: Event,
    ) -> Result<Recorded, Refusal> {
        let search_bytes = submitter.search_bytes(log.name(), event.data_content_type(), event.data());
        let load = Load::of(&event, search_bytes);
        let group = Group::new(log, submitter, load, iter::once(Ok(event))).await;
        let (head, mut results) = group.settled().await;
        let placed = results.pop().expect("one event has one result")?;
        self.metrics.count_intake(path, outcome(&Ok(&placed)));
        Ok(Recorded::new(log, &*head?, &placed))
    }

    /// Records events side by side, in order.
    ///
    /// # Errors
    /// If the log took none. Counted with the [`answer`](Self::answer).
    async fn record_all(
        &self,
        path: IntakePath,
        log: &Log,
        submitter: &Submitting,
        events: Vec<Result<Event, Refusal>>,
    ) -> Result<Results, Refusal> {
        let load = load(&events, |event| {
            submitter.search_bytes(log.name(), event.data_content_type(), event.data())
        });
        let (head, results) = Group::new(log, submitter, load, events.into_iter())
            .await
            .settled()
            .await;
        head?;
        for result in &results {
            self.metrics.count_intake(path, outcome(&result.as_ref()));
        }
        Ok(results)
    }

    /// Answers a request, and counts it if it was refused as a whole.
    fn answer(&self, path: IntakePath, result: Result<Response, Problem>) -> Response {
        result.unwrap_or_else(|problem| {
            self.metrics
                .count_intake(path, IntakeOutcome::Refused(problem.reason()));
            problem.into_response()
        })
    }
}

/// That of events, of which some were refused before.
fn load(events: &[Result<Event, Refusal>], search_bytes: impl Fn(&Event) -> usize) -> Load {
    let each = events.iter().map(|event| match event {
        Ok(event) => Load::of(event, search_bytes(event)),
        Err(_) => Load::REFUSED,
    });
    each.sum()
}

fn outcome(result: &Result<&Placed, &Refusal>) -> IntakeOutcome {
    match result {
        Ok(placed) if placed.duplicate => IntakeOutcome::Duplicate,
        Ok(_) => IntakeOutcome::Recorded,
        Err(refusal) => IntakeOutcome::Refused(refusal.reason_name()),
    }
}

/// What a content type names, without its parameters.
fn media_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Adds the paths to those of gRPC. Has to be called within a runtime: the sources of webhooks in `data` are followed. What is
/// answered to their deliveries is noted in `deliveries`.
///
/// # Errors
/// If a source's file is broken.
pub(crate) fn add_to(
    grpc: Router,
    data: &Path,
    logs: Logs,
    metrics: Metrics,
    deliveries: Deliveries,
) -> anyhow::Result<Router> {
    let intake = Intake {
        logs: logs.clone(),
        metrics,
        bodies: Bodies::new(),
    };
    let of_logs = tiles::reader(logs)
        .merge(cloudevents::sink(intake.clone()))
        .fallback(not_allowed);
    let router = grpc
        .route("/logs/{*path}", of_logs)
        .merge(hooks::receiver(data, intake.clone(), deliveries)?)
        .merge(hec::collector(intake))
        .merge(health())
        .fallback(async |request: Request| nothing_here(&request));
    Ok(router)
}

/// Whether the process serves, for whoever restarts it if it does not.
pub(crate) fn health() -> Router {
    let answer = get(async || ([(CACHE_CONTROL, NEVER)], "ok\n"));
    Router::new().route("/health", answer.fallback(not_allowed))
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

/// Whether an answer has to be in gRPC, whose calls are by POST. A refusal in it is a 200 to HTTP: whoever is on the way may keep that
/// for all who get the same path.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.method() == Method::POST
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Whoever calls a service that is not there is told so in gRPC.
pub(crate) fn nothing_here(request: &Request) -> Response {
    if is_grpc(request) {
        return Status::unimplemented("").into_http::<Body>();
    }
    tiles::NoAnswer::NotFound.into_response()
}

/// A refusal in the protocol of the request: a gRPC status, or problem details.
pub(crate) fn refuse(refusal: Refusal, in_grpc: bool) -> Response {
    if in_grpc {
        return Status::from(refusal).into_http::<Body>();
    }
    Problem::from(refusal).into_response()
}

/// On a connection beyond those that are served, all is put off but the question whether the server is well: whoever
/// restarted it for an answer that does not come would make things worse.
pub(crate) async fn put_off(request: Request, next: Next) -> Response {
    let version = request.version();
    let mut response = if HEALTH.contains(&request.uri().path()) {
        next.run(request).await
    } else {
        refuse(Refusal::too_many_connections(), is_grpc(&request))
    };
    if version < Version::HTTP_2 {
        // The next request may find a connection that is served.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
