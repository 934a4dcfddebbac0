//! Why a delivery is turned away before the log sees it.

use axum::http::StatusCode;

use crate::http::answer::Problem;

/// Why a delivery is no delivery of its source's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidDelivery {
    #[error("there is no such source")]
    UnknownSource,
    #[error("deliveries come by POST")]
    WrongMethod,
    #[error("only application/json is taken: choose it as the webhook's content type")]
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
    BadHeader(&'static str),
}

impl From<InvalidDelivery> for Problem {
    fn from(invalid: InvalidDelivery) -> Self {
        let (status, reason) = match invalid {
            InvalidDelivery::UnknownSource => (StatusCode::NOT_FOUND, "UNKNOWN_SOURCE"),
            InvalidDelivery::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "WRONG_METHOD"),
            InvalidDelivery::WrongMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "WRONG_MEDIA_TYPE"),
            InvalidDelivery::WrongProvider(_) => (StatusCode::BAD_REQUEST, "WRONG_PROVIDER"),
            InvalidDelivery::MissingSignature(_) => (StatusCode::UNAUTHORIZED, "MISSING_SIGNATURE"),
            InvalidDelivery::WrongSignature => (StatusCode::UNAUTHORIZED, "WRONG_SIGNATURE"),
            InvalidDelivery::StaleSignature => (StatusCode::UNAUTHORIZED, "STALE_SIGNATURE"),
            InvalidDelivery::BadHeader(_) => (StatusCode::BAD_REQUEST, "BAD_HEADER"),
        };
        Self::new(status, reason, invalid)
    }
}
