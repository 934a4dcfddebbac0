//! Why calls fail, by what the caller can do about it.

use std::{error::Error as StdError, fmt, time::Duration};

use counterfoil_event::EntryError;
use counterfoil_merkle::LeafIndex;
use counterfoil_note::{NoQuorum, SignedHead};
use counterfoil_proto::{InvalidField, v1::Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{Misbehaviour, StateError};

/// The domain of the reasons that a log gives (google.rpc.ErrorInfo).
const ERROR_DOMAIN: &str = "counterfoil";
/// How rustls begins what it says of an alert that the other end sent.
const ALERT: &str = "received fatal alert: ";
/// The alerts by which a server refuses a client's certificate, or the lack of one. It has no other to speak of.
const CERTIFICATE_ALERTS: [&str; 8] = [
    "AccessDenied",
    "BadCertificate",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateRevoked",
    "CertificateUnknown",
    "UnknownCA",
    "UnsupportedCertificate",
];
/// The member of ErrorInfo's metadata that names the entry in conflict.
const EXISTING_LEAF_INDEX: &str = "existing_leaf_index";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or none now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The log said no, and why.
    #[error(transparent)]
    Refused(Refusal),
    /// The server does not let this caller do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The log did what an honest log never does.
    #[error(transparent)]
    Misbehaviour(#[from] Box<Misbehaviour>),
    /// An answer that makes no sense: a faulty server, or one of another kind.
    #[error(transparent)]
    InvalidAnswer(#[from] InvalidAnswer),
    /// A leaf that is proved to be in the log, and that only a later version of this client may be able to read. Nothing
    /// against the log.
    #[error("leaf {leaf_index} of the log is of a form that is not known here: {problem}")]
    UnknownEntry {
        /// The leaf.
        leaf_index: LeafIndex,
        /// What is unknown.
        problem: EntryError,
    },
    /// A published head lacks witnesses that the policy asks for. The log may just be slow to gather them.
    #[error(transparent)]
    NotCosigned(#[from] Box<NotCosigned>),
    /// The saved head can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The client's own options are wrong, or it was given more to send than a log takes in one call.
    #[error("{0}")]
    Options(String),
}

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The same call may succeed later. Submitting again is safe: an event is recorded once.
    Retry,
    /// The same call will fail again. Change the request, the options, the program or the machine.
    Fix,
    /// Someone has to look at the log.
    Alert,
}

impl Error {
    /// Retry, fix, or page someone?
    pub fn action(&self) -> Action {
        match self {
            Self::Unavailable(_) | Self::NotCosigned(_) => Action::Retry,
            Self::Refused(refusal) => refusal.action(),
            Self::Misbehaviour(_) | Self::InvalidAnswer(_) => Action::Alert,
            Self::Denied(_) | Self::UnknownEntry { .. } | Self::State(_) | Self::Options(_) => Action::Fix,
        }
    }
}

impl From<Refusal> for Error {
    /// A stream that goes on asks for rights again: one event's refusal may be about its sender.
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Unauthenticated => Denied::Unauthenticated(refusal.message).into(),
            Reason::PermissionDenied => Denied::Forbidden(refusal.message).into(),
            _ => Self::Refused(refusal),
        }
    }
}

impl From<Misbehaviour> for Error {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self::Misbehaviour(Box::new(misbehaviour))
    }
}

impl From<NotCosigned> for Error {
    fn from(error: NotCosigned) -> Self {
        Self::NotCosigned(Box::new(error))
    }
}

impl From<InvalidField> for Error {
    fn from(field: InvalidField) -> Self {
        Self::InvalidAnswer(InvalidAnswer::new(field.to_string()))
    }
}

/// The server can't be reached, or has no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unavailable {
    /// What happened.
    pub message: String,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry_after: None,
        }
    }
}

/// A credential that is not good, or not good enough. The event or the question may be fine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The server does not know the caller: there is no credential, or a wrong or expired one.
    #[error("the server does not accept the credential: {0}")]
    Unauthenticated(String),
    /// The server knows the caller, who has no right to this.
    #[error("the credential does not permit this: {0}")]
    Forbidden(String),
}

/// An answer that no server of this protocol gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is invalid: {problem}")]
pub struct InvalidAnswer {
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidAnswer {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}

/// A head that the log signed and linked to all others, and that too few of the policy's witnesses cosigned.
///
/// No misbehaviour by itself: witnesses may be down, or the log slow to ask them. A log that shows a head to some only
/// looks the same, so nothing under such a head is believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (tree size {})", head.size())]
pub struct NotCosigned {
    /// The head.
    pub head: SignedHead,
    /// Which witnesses are missing.
    pub problem: NoQuorum,
}

/// A log's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs. One that is not known here is [`Reason::Unspecified`].
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// The fields of the request that are wrong.
    pub fields: Vec<Field>,
    /// The entry that holds the event's source and id, where that is the reason.
    pub existing_leaf_index: Option<LeafIndex>,
    /// When to ask again, where that helps.
    pub retry_after: Option<Duration>,
}

/// A field of a request that a log refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name in the request message, such as `event.id`.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Refusal {
    /// Retry, fix, or page someone?
    pub fn action(&self) -> Action {
        match self.reason {
            // Not known here: of a later server, which means that it may help to come back if it says when.
            Reason::Unspecified if self.retry_after.is_some() => Action::Retry,
            Reason::QueueFull
            | Reason::OutOfSpace
            | Reason::Stopping
            | Reason::ReadFailed
            | Reason::NotPublished
            | Reason::IdentityUnavailable => Action::Retry,
            Reason::WriteFailed | Reason::DataLoss => Action::Alert,
            Reason::Unspecified
            | Reason::InvalidEvent
            | Reason::EventConflict
            | Reason::UnknownLog
            | Reason::NotFound
            | Reason::OutOfRange
            | Reason::InvalidRequest
            | Reason::Unauthenticated
            | Reason::PermissionDenied => Action::Fix,
        }
    }

    /// Whether the log would say the same to this event for ever. What it says of itself, or of the caller, may change.
    pub fn is_final(&self) -> bool {
        matches!(
            self.reason,
            Reason::InvalidEvent | Reason::EventConflict | Reason::InvalidRequest
        )
    }

    /// The reason as a word: `QUEUE_FULL`.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("REASON_").unwrap_or(name)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for Field { name, problem } in &self.fields {
            // Servers often repeat the field in the message.
            if !self.message.contains(problem.as_str()) {
                write!(f, "; {name} {problem}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Refusal {}

impl From<counterfoil_proto::v1::Refused> for Refusal {
    fn from(refused: counterfoil_proto::v1::Refused) -> Self {
        let reason = refused.reason();
        Self {
            reason,
            fields: if refused.field.is_empty() {
                vec![]
            } else {
                vec![Field {
                    name: refused.field,
                    problem: refused.message.clone(),
                }]
            },
            message: refused.message,
            existing_leaf_index: (reason == Reason::EventConflict)
                .then(|| LeafIndex::new(refused.existing_leaf_index).ok())
                .flatten(),
            retry_after: (refused.retry_after_ms > 0).then(|| Duration::from_millis(refused.retry_after_ms)),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => return Denied::Unauthenticated(status.message().to_owned()).into(),
            Code::PermissionDenied => return Denied::Forbidden(status.message().to_owned()).into(),
            _ => {}
        }
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let stated = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN)
            .and_then(|info| Some((Reason::from_str_name(&format!("REASON_{}", info.reason))?, info)));
        let (reason, existing_leaf_index) = match stated {
            Some((reason, info)) => {
                let existing = info
                    .metadata
                    .get(EXISTING_LEAF_INDEX)
                    .and_then(|index| index.parse().ok());
                (reason, existing.and_then(|index| LeafIndex::new(index).ok()))
            }
            None => match without_reason(&status, retry_after) {
                Ok(reason) => (reason, None),
                Err(error) => return error,
            },
        };
        let fields = details
            .bad_request()
            .map_or(&[][..], |request| &request.field_violations);
        Self::Refused(Refusal {
            reason,
            message: status.message().to_owned(),
            fields: fields
                .iter()
                .map(|field| Field {
                    name: field.field.clone(),
                    problem: field.description.clone(),
                })
                .collect(),
            existing_leaf_index,
            retry_after,
        })
    }
}

/// What to make of a status that something between us and the log made, or the transport itself.
fn without_reason(status: &Status, retry_after: Option<Duration>) -> Result<Reason, Error> {
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => Ok(Reason::InvalidRequest),
        Code::NotFound => Ok(Reason::NotFound),
        Code::AlreadyExists | Code::PermissionDenied | Code::Unauthenticated => Ok(Reason::Unspecified),
        // No log says this of what all logs know.
        Code::Unimplemented => {
            Err(Unavailable::new("the server does not know this call; is it a Counterfoil server?").into())
        }
        // What has a cause was made here: what is at the other end does not speak HTTP/2. No log said it.
        Code::Internal if status.source().is_some() => Err(unavailable(status, retry_after)),
        // Out of range is also what the decoder says of a message longer than allowed.
        Code::Internal | Code::DataLoss | Code::OutOfRange | Code::Ok => {
            Err(InvalidAnswer::new(status.message()).into())
        }
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Cancelled
        | Code::Unknown => Err(unavailable(status, retry_after)),
    }
}

fn unavailable(status: &Status, retry_after: Option<Duration>) -> Error {
    let message = match status.source() {
        Some(cause) => {
            if let Some(denied) = certificate_refused(cause) {
                return denied.into();
            }
            with_causes(cause)
        }
        None => status.message().to_owned(),
    };
    Unavailable { message, retry_after }.into()
}

/// Whether the server ended the TLS handshake over the client's certificate. With TLS 1.3 that may come out at the first call
/// only, and as text: no type of rustls gets through HTTP/2.
pub(crate) fn certificate_refused(error: &dyn StdError) -> Option<Denied> {
    let text = with_causes(error);
    let (_, alert) = text.split_once(ALERT)?;
    let name = CERTIFICATE_ALERTS.iter().find(|name| alert.starts_with(**name))?;
    Some(Denied::Unauthenticated(format!(
        "the server refused the client certificate: {ALERT}{name}"
    )))
}

/// An error's message with those of its causes that it does not repeat.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    fn of_transport(text: &str) -> Error {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::other(text.to_owned())));
        status.into()
    }

    #[test]
    fn a_certificate_that_the_server_refuses_is_denied() {
        for alert in CERTIFICATE_ALERTS {
            let error = of_transport(&format!("connection error: {ALERT}{alert}"));
            assert!(
                matches!(&error, Error::Denied(Denied::Unauthenticated(message)) if message.contains(alert)),
                "{error:?}"
            );
        }
        for other in ["received fatal alert: InternalError", "connection reset"] {
            assert!(matches!(of_transport(other), Error::Unavailable(_)), "{other}");
        }
        // What a server says is no alert.
        let said = Status::unavailable("received fatal alert: CertificateExpired");
        assert!(matches!(Error::from(said), Error::Unavailable(_)));
    }
}
