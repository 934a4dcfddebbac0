//! Splunk's HTTP Event Collector under `/services/collector`, for senders that know no other: GitHub Enterprise's audit-log
//! streaming among them.
//!
//! Answers have Splunk's shapes, texts and numbers, which senders act upon. A request is taken as a whole or not at all.

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use counterfoil_event::{
    Event,
    hec::{HecError, HecEvent, Metadata, parse_events, parse_raw},
};
use serde::Serialize;

use super::{
    Intake, NEVER,
    answer::Problem,
    body::{Accepts, BodyError, MAX_BODY_BYTES},
};
use crate::{
    access::Caller,
    intake::{self, Load, work},
    logs::find_log,
    metrics::{IntakeOutcome, IntakePath},
    refusal::Refusal,
};

/// A batch, compressed or not.
const ACCEPTS: Accepts = Accepts {
    max_bytes: MAX_BODY_BYTES,
    gzip: true,
};
/// As other paths have it.
const INVALID_EVENT: &str = "INVALID_EVENT";

/// The paths of the collector.
pub(super) fn collector(intake: Intake) -> Router {
    let event = post(submit_events).fallback(only_post);
    let raw = post(submit_raw).fallback(only_post);
    let health = get(health);
    let mut router = Router::new().route("/services/collector/ack", post(ack).fallback(only_post));
    for path in ["", "/1.0", "/event", "/event/1.0"] {
        router = router.route(&format!("/services/collector{path}"), event.clone());
    }
    for version in ["", "/1.0"] {
        router = router
            .route(&format!("/services/collector/raw{version}"), raw.clone())
            .route(&format!("/services/collector/health{version}"), health.clone());
    }
    router.with_state(intake)
}

/// An answer by Splunk's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Success,
    TokenRequired,
    InvalidToken,
    NoData,
    InvalidFormat { event: usize },
    InternalError,
    Busy,
    MissingEvent { event: usize },
    BlankEvent { event: usize },
    AckDisabled,
    Fields { event: usize },
    Healthy,
    Unhealthy,
    Stopping,
    TooLarge,
    NotFound,
    NotAllowed,
}

#[derive(Serialize)]
struct AnswerJson {
    text: &'static str,
    code: u16,
    #[serde(rename = "invalid-event-number", skip_serializing_if = "Option::is_none")]
    invalid_event: Option<usize>,
}

impl Answer {
    fn parts(self) -> (StatusCode, u16, &'static str, Option<usize>) {
        match self {
            Self::Success => (StatusCode::OK, 0, "Success", None),
            Self::TokenRequired => (StatusCode::UNAUTHORIZED, 2, "Token is required", None),
            Self::InvalidToken => (StatusCode::FORBIDDEN, 4, "Invalid token", None),
            Self::NoData => (StatusCode::BAD_REQUEST, 5, "No data", None),
            Self::InvalidFormat { event } => (StatusCode::BAD_REQUEST, 6, "Invalid data format", Some(event)),
            Self::InternalError => (
                StatusCode::INTERNAL_SERVER_ERROR,
                8,
                "Internal server error",
                None,
            ),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, 9, "Server is busy", None),
            Self::MissingEvent { event } => (
                StatusCode::BAD_REQUEST,
                12,
                "Event field is required",
                Some(event),
            ),
            Self::BlankEvent { event } => (
                StatusCode::BAD_REQUEST,
                13,
                "Event field cannot be blank",
                Some(event),
            ),
            Self::AckDisabled => (StatusCode::BAD_REQUEST, 14, "ACK is disabled", None),
            Self::Fields { event } => (
                StatusCode::BAD_REQUEST,
                15,
                "Error in handling indexed fields",
                Some(event),
            ),
            Self::Healthy => (StatusCode::OK, 17, "HEC is healthy", None),
            Self::Unhealthy => (
                StatusCode::SERVICE_UNAVAILABLE,
                18,
                "HEC is unhealthy, queues are full",
                None,
            ),
            Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                23,
                "Server is shutting down",
                None,
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                27,
                "Request entity too large",
                None,
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, 404, "Not Found", None),
            Self::NotAllowed => (StatusCode::METHOD_NOT_ALLOWED, 405, "Method Not Allowed", None),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (status, code, text, invalid_event) = self.parts();
        let body = AnswerJson {
            text,
            code,
            invalid_event,
        };
        let mut response = (status, [(CACHE_CONTROL, NEVER)], Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Why a request was refused: what metrics have it as, and what the sender is told.
struct Refused {
    reason: &'static str,
    answer: Answer,
}

impl Refused {
    /// No event can be made of what stands in this place.
    fn invalid(event: usize) -> Self {
        Self {
            reason: INVALID_EVENT,
            answer: Answer::InvalidFormat { event },
        }
    }
}

impl From<HecError> for Refused {
    fn from(error: HecError) -> Self {
        let (reason, answer) = match error {
            HecError::NoData => (INVALID_EVENT, Answer::NoData),
            HecError::Malformed { event, .. } => (INVALID_EVENT, Answer::InvalidFormat { event }),
            HecError::MissingEvent { event } => (INVALID_EVENT, Answer::MissingEvent { event }),
            HecError::BlankEvent { event } => (INVALID_EVENT, Answer::BlankEvent { event }),
            HecError::Fields { event } => (INVALID_EVENT, Answer::Fields { event }),
            HecError::TooManyEvents => ("TOO_LARGE", Answer::TooLarge),
            HecError::MetadataTooLong => (INVALID_EVENT, Answer::InvalidFormat { event: 0 }),
        };
        Self { reason, answer }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let problem = Problem::from(refusal);
        let reason = problem.reason();
        let answer = match (reason, problem.status()) {
            ("STOPPING", _) => Answer::Stopping,
            (_, StatusCode::UNAUTHORIZED) => Answer::TokenRequired,
            (_, StatusCode::FORBIDDEN) => Answer::InvalidToken,
            (_, StatusCode::NOT_FOUND) => Answer::NotFound,
            (_, StatusCode::INTERNAL_SERVER_ERROR) => Answer::InternalError,
            // The sender has to keep what it has and come back.
            (_, StatusCode::SERVICE_UNAVAILABLE) => Answer::Busy,
            _ => Answer::InvalidFormat { event: 0 },
        };
        Self { reason, answer }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        let answer = match error {
            BodyError::TooLarge { .. } => Answer::TooLarge,
            // Nothing that there was of it is on record, and nothing was wrong with it. To senders, 400 and code 6 mean that it never
            // will be taken, and they drop it.
            BodyError::Busy | BodyError::TooSlow | BodyError::BrokeOff => Answer::Busy,
            BodyError::Length | BodyError::Encoding | BodyError::NotGzip => {
                Answer::InvalidFormat { event: 0 }
            }
        };
        Self {
            reason: Problem::from(error).reason(),
            answer,
        }
    }
}

type Parse = fn(&[u8], &Metadata) -> Result<Vec<HecEvent>, HecError>;
/// What a path's query says, if it can be read.
type Asked = Result<Query<Metadata>, QueryRejection>;

async fn submit_events(State(intake): State<Intake>, asked: Asked, request: Request) -> Answer {
    intake.collect(parse_events, asked, request).await
}

async fn submit_raw(State(intake): State<Intake>, asked: Asked, request: Request) -> Answer {
    intake.collect(parse_raw, asked, request).await
}

async fn ack() -> Answer {
    Answer::AckDisabled
}

async fn only_post() -> Answer {
    Answer::NotAllowed
}

/// Healthy as long as every log takes events.
async fn health(State(intake): State<Intake>) -> Answer {
    if intake.logs.values().all(|log| log.takes_events()) {
        Answer::Healthy
    } else {
        Answer::Unhealthy
    }
}

impl Intake {
    async fn collect(&self, parse: Parse, asked: Asked, request: Request) -> Answer {
        let is_anonymous = Caller::of(request.extensions()).is_anonymous();
        let Err(Refused { reason, answer }) = self.collected(parse, asked, request).await else {
            return Answer::Success;
        };
        self.metrics
            .count_intake(IntakePath::Hec, IntakeOutcome::Refused(reason));
        match answer {
            // One was sent.
            Answer::TokenRequired if !is_anonymous => Answer::InvalidToken,
            answer => answer,
        }
    }

    async fn collected(&self, parse: Parse, asked: Asked, request: Request) -> Result<(), Refused> {
        let (head, body) = request.into_parts();
        let caller = Caller::of(&head.extensions);
        // The protocol has no place for a log's name.
        let name = caller.only_log().unwrap_or_default();
        let log = find_log(&self.logs, name.as_str(), &caller)?;
        let Query(metadata) = asked.map_err(|_| Refused::invalid(0))?;
        let received = self.bodies.read(&head.headers, body, ACCEPTS).await?;
        let source = caller.source(log.name()).map_err(Refusal::from)?;
        // What finds no room now is not worth reading.
        let least = Load {
            events: 1,
            bytes: received.bytes.len(),
            search_bytes: 0,
        };
        least.admit(&log)?;
        let events = work(received.bytes.len(), || {
            let sent = parse(&received.bytes, &metadata)?;
            let events = sent.into_iter().enumerate().map(|(event, sent)| {
                let read = sent.into_event(&source, intake::random_id);
                read.map(Ok).map_err(|_| Refused::invalid(event))
            });
            events.collect::<Result<Vec<Result<Event, Refusal>>, Refused>>()
        })
        .await?;
        // None of them is an envelope that somebody else could have signed.
        let load = Load {
            events: events.len(),
            bytes: received.bytes.len(),
            search_bytes: 0,
        };
        load.admit(&log)?;
        let submitter = caller.submitter(&log).await.map_err(Refusal::from)?;
        if *submitter.source_id() != source {
            // The rules changed meanwhile. Sent again, they bear the source that is the sender's now.
            return Err(BodyError::Busy.into());
        }
        // A conflict is on record as such. To the sender it is a success: nothing that it could send again would differ.
        self.record_all(IntakePath::Hec, &log, &submitter, events).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_taken_another_time_is_never_called_wrong() {
        let answer = |error: BodyError| Refused::from(error).answer;
        for come_back in [BodyError::Busy, BodyError::TooSlow, BodyError::BrokeOff] {
            assert_eq!(answer(come_back), Answer::Busy, "{come_back}");
        }
        let response = Answer::Busy.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");

        for wrong in [BodyError::Length, BodyError::Encoding, BodyError::NotGzip] {
            assert_eq!(answer(wrong), Answer::InvalidFormat { event: 0 }, "{wrong}");
        }
        assert_eq!(answer(BodyError::TooLarge { max_bytes: 1 }), Answer::TooLarge);
    }
}
