//! Refusing: one account of what is wrong, told as a status or as the result of one item.

use counterfoil_event::{
    InvalidEvent, cloudevents::CloudEventError, dsse::EnvelopeError, normal::InvalidNormalEvent,
};
use counterfoil_log::{ReadError, SubmitError};
use counterfoil_merkle::LeafIndex;
use counterfoil_proto::{InvalidField, v1};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{access::Denied, turns::Unfinished};

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "counterfoil";
/// Problems of one event that are told. An event of nothing but mistakes is small, and an answer that named them all would not be.
const MAX_PROBLEMS: usize = 16;
/// When to come back to a full queue: some batches later.
const QUEUE_RETRY_MS: u64 = 100;
/// When to come back where there were too many connections.
const CONNECTION_RETRY_MS: u64 = 1_000;
/// When to come back to a full disk.
const SPACE_RETRY_MS: u64 = 10_000;
/// When to come back for a head that lacks cosignatures: witnesses that are down seldom return sooner.
const PUBLISH_RETRY_MS: u64 = 10_000;
/// When to come back after a read that failed for a cause that may pass, such as a want of files or memory.
const READ_RETRY_MS: u64 = 1_000;
/// When to come back for the keys of an issuer that does not answer.
const IDENTITY_RETRY_MS: u64 = 30_000;

/// Why something was refused, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    code: Code,
    pub(crate) reason: v1::Reason,
    pub(crate) message: String,
    /// Name and problem of each field that is wrong.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) existing: Option<LeafIndex>,
    pub(crate) retry_after_ms: Option<u64>,
}

impl Refusal {
    fn new(code: Code, reason: v1::Reason, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: message.to_string(),
            fields: Vec::new(),
            existing: None,
            retry_after_ms: None,
        }
    }

    /// The reason as answers and metrics have it: a word in capitals, such as `QUEUE_FULL`.
    pub(crate) fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("REASON_").unwrap_or(name)
    }

    pub(crate) fn unknown_log(name: &str) -> Self {
        let shown: String = name.chars().take(80).collect();
        Self::new(
            Code::NotFound,
            v1::Reason::UnknownLog,
            format!("there is no log {shown:?}"),
        )
    }

    /// Others send so much that there is no room for more.
    pub(crate) fn crowded() -> Self {
        Self {
            retry_after_ms: Some(QUEUE_RETRY_MS),
            ..Self::new(
                Code::ResourceExhausted,
                v1::Reason::QueueFull,
                "too many long messages are on their way",
            )
        }
    }

    /// There is an answer, perhaps to events that are on record now, and no memory to keep it until it is read.
    pub(crate) fn no_room_for_answer() -> Self {
        Self {
            retry_after_ms: Some(QUEUE_RETRY_MS),
            ..Self::new(
                Code::ResourceExhausted,
                v1::Reason::QueueFull,
                "there is no memory for this answer while so many others are not read; ask again. What was submitted may be on record, and \
                 may be submitted again",
            )
        }
    }

    /// There are more connections than are served.
    pub(crate) fn too_many_connections() -> Self {
        Self {
            retry_after_ms: Some(CONNECTION_RETRY_MS),
            ..Self::new(
                Code::ResourceExhausted,
                v1::Reason::QueueFull,
                "too many connections are open",
            )
        }
    }

    /// The caller must not be shown an older head instead: it would look like a rollback.
    pub(crate) fn not_published() -> Self {
        let message = "the newest head is not published yet: too few witnesses cosigned it so far, or it can't be stored";
        Self {
            retry_after_ms: Some(PUBLISH_RETRY_MS),
            ..Self::new(Code::Unavailable, v1::Reason::NotPublished, message)
        }
    }

    /// A field of a request that reads, or of a request's envelope.
    pub(crate) fn invalid_request(field: &str, problem: impl ToString) -> Self {
        Self::invalid(
            v1::Reason::InvalidRequest,
            vec![(field.to_owned(), problem.to_string())],
        )
    }

    pub(crate) fn missing_event() -> Self {
        Self::invalid(
            v1::Reason::InvalidEvent,
            vec![("event".to_owned(), "is missing".to_owned())],
        )
    }

    pub(crate) fn conflict(existing: LeafIndex) -> Self {
        let message = format!(
            "entry {existing} has the same source and id with other bytes; this attempt was recorded. An event's id must not be used again"
        );
        Self {
            existing: Some(existing),
            ..Self::new(Code::AlreadyExists, v1::Reason::EventConflict, message)
        }
    }

    fn invalid(reason: v1::Reason, mut fields: Vec<(String, String)>) -> Self {
        let unsaid = fields.len().saturating_sub(MAX_PROBLEMS);
        fields.truncate(MAX_PROBLEMS);
        let mut message = fields
            .iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect::<Vec<_>>()
            .join("; ");
        if unsaid > 0 {
            message.push_str(&format!("; and {unsaid} more"));
        }
        Self {
            fields,
            ..Self::new(Code::InvalidArgument, reason, message)
        }
    }
}

impl From<InvalidEvent> for Refusal {
    fn from(error: InvalidEvent) -> Self {
        let fields = error
            .violations
            .iter()
            .map(|violation| {
                (
                    format!("event.{}", violation.field),
                    violation.problem.to_string(),
                )
            })
            .collect();
        Self::invalid(v1::Reason::InvalidEvent, fields)
    }
}

impl From<InvalidNormalEvent> for Refusal {
    fn from(error: InvalidNormalEvent) -> Self {
        let fields = error.violations.into_iter().map(|violation| {
            let dot = if violation.path.is_empty() { "" } else { "." };
            (format!("event.data{dot}{}", violation.path), violation.problem)
        });
        Self::invalid(v1::Reason::InvalidEvent, fields.collect())
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        let fields = vec![("event.data".to_owned(), error.to_string())];
        Self::invalid(v1::Reason::InvalidEvent, fields)
    }
}

impl From<CloudEventError> for Refusal {
    fn from(error: CloudEventError) -> Self {
        let fields = error.fields();
        if fields.is_empty() {
            return Self::new(Code::InvalidArgument, v1::Reason::InvalidEvent, error);
        }
        Self::invalid(v1::Reason::InvalidEvent, fields)
    }
}

impl From<InvalidField> for Refusal {
    fn from(error: InvalidField) -> Self {
        Self::invalid_request(error.field, error.problem)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let (code, reason, retry_after_ms) = match &denied {
            Denied::Unauthenticated(_) => (Code::Unauthenticated, v1::Reason::Unauthenticated, None),
            Denied::Forbidden(_) => (Code::PermissionDenied, v1::Reason::PermissionDenied, None),
            Denied::Undecided(_) => (
                Code::Unavailable,
                v1::Reason::IdentityUnavailable,
                Some(IDENTITY_RETRY_MS),
            ),
            Denied::Log(error) => {
                let of_log = Self::from(error.clone());
                (of_log.code, of_log.reason, of_log.retry_after_ms)
            }
        };
        Self {
            retry_after_ms,
            ..Self::new(code, reason, denied)
        }
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let (code, reason, retry_after_ms) = match error {
            SubmitError::QueueFull => (
                Code::ResourceExhausted,
                v1::Reason::QueueFull,
                Some(QUEUE_RETRY_MS),
            ),
            SubmitError::OutOfSpace => (
                Code::ResourceExhausted,
                v1::Reason::OutOfSpace,
                Some(SPACE_RETRY_MS),
            ),
            SubmitError::WriteFailed => (Code::Unavailable, v1::Reason::WriteFailed, None),
            SubmitError::DataLoss => (Code::DataLoss, v1::Reason::DataLoss, None),
            SubmitError::ReadFailed => (Code::Unavailable, v1::Reason::ReadFailed, Some(READ_RETRY_MS)),
            SubmitError::Stopping => (Code::Unavailable, v1::Reason::Stopping, None),
        };
        Self {
            retry_after_ms,
            ..Self::new(code, reason, error)
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let (code, reason) = match &error {
            ReadError::NotFound => (Code::NotFound, v1::Reason::NotFound),
            ReadError::IndexOutOfRange { .. } | ReadError::SizeOutOfRange { .. } => {
                (Code::OutOfRange, v1::Reason::OutOfRange)
            }
            // What the operator needs to know is no business of the caller's.
            ReadError::DataLoss(_) => {
                tracing::error!(%error, "a read failed");
                let told = "stored data is damaged or missing; the operator has to run fsck";
                return Self::new(Code::DataLoss, v1::Reason::DataLoss, told);
            }
            ReadError::Store(_) => {
                tracing::error!(%error, "a read failed");
                return Unfinished.into();
            }
        };
        Self::new(code, reason, error)
    }
}

impl From<Unfinished> for Refusal {
    fn from(_: Unfinished) -> Self {
        Self {
            retry_after_ms: Some(READ_RETRY_MS),
            ..Self::new(
                Code::Unavailable,
                v1::Reason::ReadFailed,
                "the log could not read it; try again",
            )
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = std::collections::HashMap::new();
        if let Some(existing) = refusal.existing {
            metadata.insert("existing_leaf_index".to_owned(), existing.to_string());
        }
        let mut details = ErrorDetails::with_error_info(refusal.reason_name(), DOMAIN, metadata);
        if !refusal.fields.is_empty() {
            let violations: Vec<_> = refusal
                .fields
                .into_iter()
                .map(|(field, problem)| FieldViolation::new(field, problem))
                .collect();
            details.set_bad_request(violations);
        }
        if let Some(retry_after_ms) = refusal.retry_after_ms {
            details.set_retry_info(Some(std::time::Duration::from_millis(retry_after_ms)));
        }
        Self::with_error_details(refusal.code, refusal.message, details)
    }
}

impl From<Refusal> for v1::Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason.into(),
            message: refusal.message,
            field: refusal
                .fields
                .into_iter()
                .next()
                .map(|(field, _)| field)
                .unwrap_or_default(),
            existing_leaf_index: refusal.existing.map_or(0, LeafIndex::get),
            retry_after_ms: refusal.retry_after_ms.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_a_read_that_failed_is_to_come_back() {
        let failed = Refusal::from(SubmitError::ReadFailed);
        assert_eq!(failed.reason_name(), "READ_FAILED");
        assert_eq!(
            (failed.code, failed.retry_after_ms),
            (Code::Unavailable, Some(READ_RETRY_MS))
        );
        let lost = Refusal::from(ReadError::DataLoss("a row".to_owned()));
        assert_eq!((lost.code, lost.retry_after_ms), (Code::DataLoss, None));
        assert!(!lost.message.contains("a row"), "it is the operator's business");
    }

    #[test]
    fn of_endless_mistakes_some_are_told() {
        let fields = (0..128).map(|place| (format!("extensions[{place}].name"), "is missing".to_owned()));
        let refusal = Refusal::invalid(v1::Reason::InvalidEvent, fields.collect());
        assert_eq!(refusal.fields.len(), MAX_PROBLEMS);
        assert!(refusal.message.ends_with("; and 112 more"), "{}", refusal.message);
    }
}
