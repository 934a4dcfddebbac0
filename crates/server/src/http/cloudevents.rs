//! `POST /logs/<name>/events`: CloudEvents 1.0 over HTTP in binary, structured and batched mode.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use counterfoil_event::{
    Event,
    cloudevents::{self, BATCH_MEDIA_TYPE, MEDIA_TYPE_PREFIX, STRUCTURED_MEDIA_TYPE},
};
use serde_json::json;

use super::{
    Intake,
    answer::{Outcome, Problem, json},
    body::{Accepts, MAX_BODY_BYTES},
    load, media_type, not_allowed,
};
use crate::{
    access::Caller,
    intake::{Load, work},
    logs::find_log,
    metrics::IntakePath,
    refusal::Refusal,
};

/// A payload of the largest size in base64, or a batch.
const ACCEPTS: Accepts = Accepts {
    max_bytes: MAX_BODY_BYTES,
    gzip: false,
};

/// What answers `POST /logs/{*path}`.
pub(super) fn sink(intake: Intake) -> MethodRouter {
    post(submit).with_state(intake)
}

/// The events of a request.
enum Events {
    One(Box<Event>),
    Batch(Vec<Result<Event, Refusal>>),
}

impl Events {
    fn load(&self, search_bytes: impl Fn(&Event) -> usize) -> Load {
        match self {
            Self::One(event) => Load::of(event, search_bytes(event)),
            Self::Batch(events) => load(events, search_bytes),
        }
    }
}

async fn submit(State(intake): State<Intake>, request: Request) -> Response {
    let Some(name) = log_of(request.uri().path()).map(ToOwned::to_owned) else {
        return not_allowed(request.uri().clone()).await;
    };
    let result = intake.cloudevents(&name, request).await;
    intake.answer(IntakePath::CloudEvents, result)
}

/// The name of the log in `/logs/<name>/events`.
pub(super) fn log_of(path: &str) -> Option<&str> {
    let (name, rest) = path.strip_prefix("/logs/")?.split_once('/')?;
    (rest == "events").then_some(name)
}

impl Intake {
    async fn cloudevents(&self, name: &str, request: Request) -> Result<Response, Problem> {
        let (head, body) = request.into_parts();
        let caller = Caller::of(&head.extensions);
        let log = find_log(&self.logs, name, &caller)?;
        let received = self.bodies.read(&head.headers, body, ACCEPTS).await?;
        let events = work(received.bytes.len(), || read(&head.headers, &received.bytes)).await?;
        let load =
            events.load(|event| caller.search_bytes(log.name(), event.data_content_type(), event.data()));
        load.admit(&log)?;
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        const PATH: IntakePath = IntakePath::CloudEvents;
        match events {
            Events::One(event) => {
                let recorded = self.record_one(PATH, &log, &submitter, *event).await?;
                Ok(recorded.into_response())
            }
            Events::Batch(events) => {
                let results = self.record_all(PATH, &log, &submitter, events).await?;
                let all_well = results.iter().all(Result::is_ok);
                let status = if all_well {
                    StatusCode::OK
                } else {
                    StatusCode::MULTI_STATUS
                };
                let results: Vec<Outcome> = results.into_iter().map(Outcome::from).collect();
                Ok(json(status, &json!({ "results": results })))
            }
        }
    }
}

/// Which mode it is in, the content type says.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Events, Problem> {
    let content_type = match headers.get(CONTENT_TYPE) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| unsupported("it is not ASCII"))?),
    };
    match media_type(content_type.unwrap_or_default()).as_str() {
        STRUCTURED_MEDIA_TYPE => Ok(Events::One(Box::new(cloudevents::from_json(body)?))),
        BATCH_MEDIA_TYPE => {
            let events = cloudevents::batch_from_json(body)?.into_iter();
            Ok(Events::Batch(events.map(|event| Ok(event?)).collect()))
        }
        other if other.starts_with(MEDIA_TYPE_PREFIX) => {
            Err(unsupported("of CloudEvents' formats only JSON is read"))
        }
        _ => {
            if !headers.contains_key("ce-specversion") {
                let problem = format!(
                    "this is no CloudEvent: it has neither headers ce-… nor the content type {STRUCTURED_MEDIA_TYPE} or {BATCH_MEDIA_TYPE}"
                );
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "WRONG_MEDIA_TYPE",
                    problem,
                ));
            }
            let all = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()));
            // A copy: the buffer that it came in may be much larger.
            let body = Bytes::copy_from_slice(body);
            let event = cloudevents::from_headers(all, content_type, body)?;
            Ok(Events::One(Box::new(event)))
        }
    }
}

fn unsupported(problem: &str) -> Problem {
    let message = format!("the content type is not supported: {problem}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "WRONG_MEDIA_TYPE", message)
}
