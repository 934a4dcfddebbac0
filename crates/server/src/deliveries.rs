//! What became of the newest deliveries of webhooks: for whoever sets a source up and waits for the first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The path of webhooks, before the source's name.
const PREFIX: &str = "/hooks/";
/// More than any answer to a delivery has.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest name of an event, or of a source that is none, that is kept.
const MAX_NAME_BYTES: usize = 64;
/// Where providers say what happened. Gitea and Forgejo send GitHub's header too, for software that knows no better.
const EVENT_HEADERS: [&str; 4] = [
    "x-gitea-event",
    "x-forgejo-event",
    "x-gitlab-event",
    "x-github-event",
];

/// A delivery and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Its place among all deliveries since the server started, from 1.
    pub(crate) number: u64,
    /// The provider's name for what happened, as the delivery has it. Empty if that is no name.
    pub(crate) event: String,
    /// The HTTP status of the answer.
    pub(crate) status: u16,
    /// The answer's JSON, as it was sent.
    pub(crate) answer: String,
}

/// What there is to tell about a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The newest delivery that is on record.
    pub(crate) taken: Option<Delivery>,
    /// The newest one that was refused.
    pub(crate) refused: Option<Delivery>,
    /// The newest one to a source that there is not, with the name in its path.
    pub(crate) stray: Option<(u64, String)>,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    count: u64,
    /// By source. Those that are in no configuration are not here, so that nobody outside can fill it.
    sources: BTreeMap<String, Seen>,
    stray: Option<(u64, String)>,
}

#[derive(Debug, Default)]
struct Seen {
    taken: Option<Kept>,
    refused: Option<Kept>,
}

/// A delivery, as it costs little to keep.
#[derive(Debug, Clone)]
struct Kept {
    number: u64,
    event: String,
    status: StatusCode,
    answer: Bytes,
}

impl From<&Kept> for Delivery {
    fn from(kept: &Kept) -> Self {
        Self {
            number: kept.number,
            event: kept.event.clone(),
            status: kept.status.as_u16(),
            answer: String::from_utf8_lossy(&kept.answer).into_owned(),
        }
    }
}

impl Deliveries {
    /// What there is to tell about a source.
    pub(crate) fn report(&self, source: &str) -> Report {
        let newest = self.lock();
        let seen = newest.sources.get(source);
        Report {
            taken: seen.and_then(|seen| seen.taken.as_ref()).map(Delivery::from),
            refused: seen.and_then(|seen| seen.refused.as_ref()).map(Delivery::from),
            stray: newest.stray.clone(),
        }
    }

    fn note(&self, source: &str, event: String, status: StatusCode, answer: Bytes) {
        let mut newest = self.lock();
        newest.count += 1;
        let number = newest.count;
        if status == StatusCode::NOT_FOUND {
            newest.stray = Some((number, name(source)));
            return;
        }
        let kept = Some(Kept {
            number,
            event,
            status,
            answer,
        });
        // No new name for each delivery of a source that is known.
        let seen = match newest.sources.get_mut(source) {
            Some(seen) => seen,
            None => newest.sources.entry(source.to_owned()).or_default(),
        };
        if status.is_success() {
            seen.taken = kept;
        } else {
            seen.refused = kept;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // It changes in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lies around the path of webhooks, and notes what is answered there.
pub(crate) async fn observe(State(deliveries): State<Deliveries>, request: Request, next: Next) -> Response {
    let source = request
        .uri()
        .path()
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .to_owned();
    let event = event(request.headers());
    let (head, body) = next.run(request).await.into_parts();
    let Ok(answer) = to_bytes(body, MAX_ANSWER_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    deliveries.note(&source, event, head.status, answer.clone());
    Response::from_parts(head, Body::from(answer))
}

fn event(headers: &HeaderMap) -> String {
    let mut names = EVENT_HEADERS.iter();
    let value = names.find_map(|name| headers.get(*name)?.to_str().ok());
    value.map(name).unwrap_or_default()
}

/// A word of a stranger's, fit for a terminal.
fn name(text: &str) -> String {
    let text = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    text.take(MAX_NAME_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(deliveries: &Deliveries, source: &str, status: StatusCode, answer: &'static str) {
        deliveries.note(
            source,
            "ping".to_owned(),
            status,
            Bytes::from_static(answer.as_bytes()),
        );
    }

    #[test]
    fn the_newest_of_each_kind_is_kept() {
        let deliveries = Deliveries::default();
        assert_eq!(deliveries.report("a"), Report::default());
        note(&deliveries, "a", StatusCode::CREATED, "1");
        note(&deliveries, "a", StatusCode::UNAUTHORIZED, "2");
        note(&deliveries, "b", StatusCode::OK, "3");
        note(&deliveries, "a", StatusCode::OK, "4");
        let report = deliveries.report("a");
        let (taken, refused) = (report.taken.unwrap(), report.refused.unwrap());
        assert_eq!((taken.number, taken.status, taken.answer.as_str()), (4, 200, "4"));
        assert_eq!(
            (refused.number, refused.status, refused.answer.as_str()),
            (2, 401, "2")
        );
        assert_eq!(taken.event, "ping");
        assert_eq!(deliveries.report("b").refused, None);
    }

    #[test]
    fn strangers_fill_nothing_and_write_nothing_to_a_terminal() {
        let deliveries = Deliveries::default();
        for number in 0..1_000 {
            note(
                &deliveries,
                &format!("unknown-{number}"),
                StatusCode::NOT_FOUND,
                "",
            );
        }
        assert!(deliveries.lock().sources.is_empty());
        let stray = deliveries.report("a").stray;
        assert_eq!(stray, Some((1_000, "unknown-999".to_owned())));
        let long = format!("\u{1b}[2Jé{}", "x".repeat(100));
        note(&deliveries, &long, StatusCode::NOT_FOUND, "");
        let (_, stray) = deliveries.report("a").stray.unwrap();
        assert_eq!(stray, format!("[2J{}", "x".repeat(61)));
    }
}
