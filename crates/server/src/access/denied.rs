//! Being turned away: why, and how it is told.

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use counterfoil_log::SubmitError;
use tonic::Status;

use crate::{http, refusal::Refusal};

/// When to come back for keys that could not be fetched, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("30");

/// Why a caller is turned away. The text is for the caller: it says nothing that who holds the credential may not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The credential is not what it claims to be, or there is none where one is needed.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller is known, and may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody can tell now whether the credential is good.
    #[error("{0}")]
    Undecided(String),
    /// The credential is good, and the log does not take what vouches for it.
    #[error("the log can't record the keys of the token's issuer: {0}")]
    Log(SubmitError),
}

impl Denied {
    /// To whoever spoke gRPC in gRPC, and to others as plain text.
    pub(crate) fn answer(self, request: &Request) -> Response {
        if http::is_grpc(request) {
            return Status::from(Refusal::from(self)).into_http::<Body>();
        }
        self.into_response()
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Log(SubmitError::DataLoss) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Undecided(_) | Self::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let headers = [
            (
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            ),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (status, headers, format!("{self}\n")).into_response();
        let more = match self {
            // RFC 9110, section 11.6.1, asks for it.
            Self::Unauthenticated(_) => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::Undecided(_) => Some((RETRY_AFTER, RETRY_AFTER_SECONDS)),
            Self::Forbidden(_) | Self::Log(_) => None,
        };
        response.headers_mut().extend(more);
        response
    }
}
