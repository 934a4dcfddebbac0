//! Answers in JSON to those who submit over HTTP: where an event is on record, or why it is not.

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use counterfoil_event::{InvalidEvent, cloudevents::CloudEventError};
use counterfoil_log::{Log, TreeHead};
use counterfoil_proto::v1::Reason;
use serde::Serialize;

use super::{NEVER, body::BodyError};
use crate::{intake::Placed, refusal::Refusal};

/// The reason that a credential would change.
const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// When to come back where nobody knows better, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Where an event is on record.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    leaf_index: u64,
    duplicate: bool,
}

impl From<&Placed> for Place {
    fn from(placed: &Placed) -> Self {
        Self {
            leaf_index: placed.leaf.index.get(),
            duplicate: placed.duplicate,
        }
    }
}

/// The answer for a single event. Providers keep it beside the delivery and show it to whoever set the webhook up, so it
/// says all that it takes to find the event again.
#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    log: String,
    origin: String,
    #[serde(flatten)]
    place: Place,
    leaf_hash: String,
    tree_size: u64,
    root_hash: String,
    /// The command that fetches it.
    receipt: String,
}

impl Recorded {
    pub(super) fn new(log: &Log, head: &TreeHead, placed: &Placed) -> Self {
        let place = Place::from(placed);
        Self {
            log: log.name().to_string(),
            origin: head.origin.to_string(),
            leaf_hash: log.suite().leaf_hash(&placed.leaf.entry).to_string(),
            tree_size: head.size.get(),
            root_hash: head.root.to_string(),
            receipt: format!("counterfoil receipt {} --log {}", place.leaf_index, log.name()),
            place,
        }
    }
}

impl IntoResponse for Recorded {
    fn into_response(self) -> Response {
        let status = if self.place.duplicate {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        json(status, &self)
    }
}

/// What became of an event of a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Recorded(Place),
    Refused { error: Problem },
}

impl From<Result<Placed, Refusal>> for Outcome {
    fn from(result: Result<Placed, Refusal>) -> Self {
        match result {
            Ok(placed) => Self::Recorded(Place::from(&placed)),
            Err(refusal) => Self::Refused {
                error: refusal.into(),
            },
        }
    }
}

/// Why something was refused: names as in gRPC, where there is one there.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_leaf_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Field {
    field: String,
    problem: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl ToString) -> Self {
        Self {
            status,
            reason,
            message: message.to_string(),
            fields: Vec::new(),
            existing_leaf_index: None,
            // Whoever sends again at once finds the queue as full as before.
            retry_after_ms: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_MS),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// One of a closed list of words in capitals.
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.reason {
            Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
            Reason::PermissionDenied => StatusCode::FORBIDDEN,
            Reason::EventConflict => StatusCode::CONFLICT,
            Reason::UnknownLog | Reason::NotFound => StatusCode::NOT_FOUND,
            Reason::QueueFull
            | Reason::OutOfSpace
            | Reason::WriteFailed
            | Reason::ReadFailed
            | Reason::Stopping
            | Reason::IdentityUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let reason = refusal.reason_name();
        // There is no message here that an event is in.
        let fields = refusal.fields.into_iter().map(|(field, problem)| Field {
            field: field.strip_prefix("event.").map_or(field.clone(), str::to_owned),
            problem,
        });
        let problem = Self::new(status, reason, refusal.message);
        Self {
            fields: fields.collect(),
            existing_leaf_index: refusal.existing.map(|index| index.get()),
            retry_after_ms: refusal.retry_after_ms.or(problem.retry_after_ms),
            ..problem
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, reason) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
            BodyError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "TOO_SLOW"),
            BodyError::BrokeOff => (StatusCode::BAD_REQUEST, "BROKE_OFF"),
            BodyError::Length => (StatusCode::BAD_REQUEST, "BAD_HEADER"),
            BodyError::Encoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "WRONG_ENCODING"),
            BodyError::NotGzip => (StatusCode::BAD_REQUEST, "WRONG_ENCODING"),
        };
        Self::new(status, reason, error)
    }
}

/// A request that is none as a whole.
impl From<CloudEventError> for Problem {
    fn from(error: CloudEventError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<InvalidEvent> for Problem {
    fn from(error: InvalidEvent) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, reason) = (self.status, self.reason);
        let retry_after_s = self.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let mut response = json(status, &Outcome::Refused { error: self });
        let headers = response.headers_mut();
        // RFC 9110, sections 11.6.1 and 15.5.6, ask for them.
        if reason == UNAUTHENTICATED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(CACHE_CONTROL, NEVER)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_is_told_when() {
        let answer = |error: BodyError| Problem::from(error).into_response();
        let busy = answer(BodyError::Busy);
        assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[RETRY_AFTER], "1");
        let slow = answer(BodyError::TooSlow);
        assert_eq!(slow.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(slow.headers().get(RETRY_AFTER), None);
    }
}
