//! What is answered to a delivery: JSON, which providers keep beside the delivery and show to whoever set it up.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use counterfoil_log::{Log, ProvenLeaf, SubmitError, TreeHead};
use counterfoil_merkle::LeafIndex;
use serde::Serialize;
use serde_json::json;

use super::body::MAX_BODY_BYTES;

/// When to come back while there is too much under way, in seconds.
const BUSY_RETRY_S: u16 = 1;
/// When to come back once the operator may have helped, in seconds.
const OPERATOR_RETRY_S: u16 = 30;

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("strings and numbers serialise");
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A delivery that is on record.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    log: String,
    origin: String,
    leaf_index: u64,
    leaf_hash: String,
    tree_size: u64,
    root_hash: String,
    duplicate: bool,
    /// The command that fetches it.
    receipt: String,
}

impl Taken {
    pub(super) fn new(log: &Log, head: &TreeHead, leaf: &ProvenLeaf, duplicate: bool) -> Self {
        let index = leaf.index.get();
        Self {
            log: log.name().to_string(),
            origin: head.origin.to_string(),
            leaf_index: index,
            leaf_hash: log.suite().leaf_hash(&leaf.entry).to_string(),
            tree_size: head.size.get(),
            root_hash: head.root.to_string(),
            duplicate,
            receipt: format!("counterfoil receipt {index} --log {}", log.name()),
        }
    }

    /// As metrics have it.
    pub(super) fn name(&self) -> &'static str {
        if self.duplicate { "duplicate" } else { "recorded" }
    }
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        let status = if self.duplicate {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        answer(status, &self)
    }
}

/// Why a delivery was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such source")]
    UnknownSource,
    #[error("deliveries come by POST")]
    WrongMethod,
    #[error("only application/json is taken, without an encoding: choose it as the webhook's content type")]
    WrongMediaType,
    #[error("these are the headers of {0}, and the source takes another provider's deliveries")]
    WrongProvider(&'static str),
    #[error("the delivery is not signed: {0} is missing. Set the webhook's secret")]
    MissingSignature(&'static str),
    #[error("none of the source's secrets made this signature over this body")]
    WrongSignature,
    #[error(
        "the signature is of another time; the clocks are minutes apart, or somebody repeats an old delivery"
    )]
    StaleSignature,
    #[error("the header {0} is missing, given twice, too long or not plain ASCII")]
    Header(&'static str),
    #[error("a body has {MAX_BODY_BYTES} bytes at most")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokeOff,
    #[error("too many bodies are under way")]
    Busy,
    #[error("it can't be recorded: {0}")]
    InvalidEvent(String),
    #[error("entry {existing} has the same delivery id with other bytes; this attempt was recorded")]
    Conflict { existing: LeafIndex },
    #[error(transparent)]
    Log(#[from] SubmitError),
}

impl Refusal {
    /// As metrics and the answer have it.
    pub(super) fn name(&self) -> &'static str {
        self.facts().1
    }

    /// Status, name, and the seconds after which to try again.
    fn facts(&self) -> (StatusCode, &'static str, Option<u16>) {
        use StatusCode as Status;
        match self {
            Self::UnknownSource => (Status::NOT_FOUND, "unknown_source", None),
            Self::WrongMethod => (Status::METHOD_NOT_ALLOWED, "wrong_method", None),
            Self::WrongMediaType => (Status::UNSUPPORTED_MEDIA_TYPE, "wrong_media_type", None),
            Self::WrongProvider(_) => (Status::BAD_REQUEST, "wrong_provider", None),
            Self::MissingSignature(_) => (Status::UNAUTHORIZED, "missing_signature", None),
            Self::WrongSignature => (Status::UNAUTHORIZED, "wrong_signature", None),
            Self::StaleSignature => (Status::UNAUTHORIZED, "stale_signature", None),
            Self::Header(_) => (Status::BAD_REQUEST, "bad_header", None),
            Self::TooLarge => (Status::PAYLOAD_TOO_LARGE, "too_large", None),
            Self::TooSlow => (Status::REQUEST_TIMEOUT, "too_slow", None),
            Self::BrokeOff => (Status::BAD_REQUEST, "broke_off", None),
            Self::Busy => (Status::SERVICE_UNAVAILABLE, "busy", Some(BUSY_RETRY_S)),
            Self::InvalidEvent(_) => (Status::BAD_REQUEST, "invalid_event", None),
            Self::Conflict { .. } => (Status::CONFLICT, "conflict", None),
            Self::Log(error) => log_facts(error),
        }
    }
}

fn log_facts(error: &SubmitError) -> (StatusCode, &'static str, Option<u16>) {
    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        SubmitError::QueueFull => (UNAVAILABLE, "queue_full", Some(BUSY_RETRY_S)),
        SubmitError::OutOfSpace => (UNAVAILABLE, "out_of_space", Some(OPERATOR_RETRY_S)),
        SubmitError::WriteFailed => (UNAVAILABLE, "write_failed", Some(OPERATOR_RETRY_S)),
        SubmitError::Stopping => (UNAVAILABLE, "stopping", Some(BUSY_RETRY_S)),
        SubmitError::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "data_loss", None),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, retry_after_s) = self.facts();
        let mut body = json!({ "error": name, "message": self.to_string() });
        if let Self::Conflict { existing } = self {
            body["existing_leaf_index"] = existing.get().into();
        }
        let mut response = answer(status, &body);
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}
