//! Answers in JSON to those who submit over HTTP.

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use counterfoil_event::cloudevents::CloudEventError;
use counterfoil_proto::v1::Reason;
use serde::Serialize;

use super::{NEVER, body::BodyError};
use crate::{grpc::Refusal, intake::Placed};

/// What became of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Recorded { leaf_index: u64, duplicate: bool },
    Refused { error: Problem },
}

impl From<Result<Placed, Refusal>> for Outcome {
    fn from(result: Result<Placed, Refusal>) -> Self {
        match result {
            Ok(Placed { index, duplicate }) => Self::Recorded {
                leaf_index: index.get(),
                duplicate,
            },
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
    pub(super) status: StatusCode,
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
            retry_after_ms: None,
        }
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
            | Reason::Stopping
            | Reason::IdentityUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let name = refusal.reason.as_str_name();
        let fields = refusal.fields.into_iter();
        Self {
            status,
            reason: name.strip_prefix("REASON_").unwrap_or(name),
            message: refusal.message,
            fields: fields.map(|(field, problem)| Field { field, problem }).collect(),
            existing_leaf_index: refusal.existing.map(|index| index.get()),
            retry_after_ms: refusal.retry_after_ms,
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, reason, retry_after_ms) = match error {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", None),
            BodyError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "BUSY", Some(1_000)),
            BodyError::TooSlow | BodyError::Broken => (StatusCode::BAD_REQUEST, "INCOMPLETE", None),
            BodyError::NotGzip => (StatusCode::BAD_REQUEST, "INVALID_REQUEST", None),
            BodyError::UnknownEncoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_REQUEST", None),
        };
        Self {
            retry_after_ms,
            ..Self::new(status, reason, error)
        }
    }
}

/// A request that is none as a whole.
impl From<CloudEventError> for Problem {
    fn from(error: CloudEventError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let retry_after_s = self.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        // Whoever sends again at once finds the queue as full as before.
        let retry_after_s = retry_after_s.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(1));
        let mut response = json(status, &Outcome::Refused { error: self });
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1, asks for it.
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = retry_after_s {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(CACHE_CONTROL, NEVER)], Json(body)).into_response()
}
