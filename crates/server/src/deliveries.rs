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
use counterfoil_event::SourceId;
use serde::{Deserialize, Serialize};

/// More than any answer to a delivery has.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest name of an event that is kept.
const MAX_NAME_BYTES: usize = 64;
/// The longest path that is kept of what came to no source.
const MAX_PATH_BYTES: usize = 128;
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
    /// The newest one to a path where there is no source, with the path.
    pub(crate) stray: Option<(u64, String)>,
}

/// In the extensions of an answer: the source of the configuration that was asked. Whoever answers knows it; a path has many
/// spellings, and anybody can ask for any of them.
#[derive(Debug, Clone)]
pub(crate) struct To(pub(crate) SourceId);

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    count: u64,
    /// Of sources that are or were configured. Nobody outside can fill it.
    sources: BTreeMap<SourceId, Seen>,
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
        let id = source.parse::<SourceId>().ok();
        let seen = id.and_then(|id| newest.sources.get(&id));
        Report {
            taken: seen.and_then(|seen| seen.taken.as_ref()).map(Delivery::from),
            refused: seen.and_then(|seen| seen.refused.as_ref()).map(Delivery::from),
            stray: newest.stray.clone(),
        }
    }

    /// Notes a delivery to a source.
    fn note(&self, To(source): To, event: String, status: StatusCode, answer: Bytes) {
        let mut newest = self.lock();
        newest.count += 1;
        let kept = Some(Kept {
            number: newest.count,
            event,
            status,
            answer,
        });
        let seen = newest.sources.entry(source).or_default();
        if status.is_success() {
            seen.taken = kept;
        } else {
            seen.refused = kept;
        }
    }

    /// Notes a request to a path where there is nothing at all, if it says what happened, as deliveries do: what was entered at the
    /// provider is nearly right.
    pub(crate) fn note_misdirected(&self, request: &Request) {
        let headers = request.headers();
        if EVENT_HEADERS.iter().any(|header| headers.contains_key(*header)) {
            self.note_stray(shown(request.uri().path(), MAX_PATH_BYTES));
        }
    }

    /// Notes a delivery to what is no source.
    fn note_stray(&self, path: String) {
        let mut newest = self.lock();
        newest.count += 1;
        newest.stray = Some((newest.count, path));
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // It changes in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lies around the path of webhooks, and notes what is answered there.
pub(crate) async fn observe(State(deliveries): State<Deliveries>, request: Request, next: Next) -> Response {
    let path = shown(request.uri().path(), MAX_PATH_BYTES);
    let event = event(request.headers());
    let (mut head, body) = next.run(request).await.into_parts();
    let Ok(answer) = to_bytes(body, MAX_ANSWER_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match head.extensions.remove::<To>() {
        Some(to) => deliveries.note(to, event, head.status, answer.clone()),
        None => deliveries.note_stray(path),
    }
    Response::from_parts(head, Body::from(answer))
}

fn event(headers: &HeaderMap) -> String {
    let mut names = EVENT_HEADERS.iter();
    let value = names.find_map(|name| headers.get(*name)?.to_str().ok());
    value
        .map(|value| shown(value, MAX_NAME_BYTES))
        .unwrap_or_default()
}

/// What a stranger says, fit for a terminal.
fn shown(text: &str, max_bytes: usize) -> String {
    let text = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    text.take(max_bytes).collect()
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract, middleware, routing::any};
    use tower::ServiceExt as _;

    use super::*;

    fn note(deliveries: &Deliveries, source: &str, status: StatusCode, answer: &'static str) {
        deliveries.note(
            To(source.parse().unwrap()),
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
        assert_eq!(deliveries.report("no source's name").taken, None);
    }

    /// A router whose only source is `known`, however its name is spelt, and which answers with this status.
    fn router(deliveries: &Deliveries, status: StatusCode) -> Router {
        let answer = async move |extract::Path(id): extract::Path<String>| {
            let mut response = status.into_response();
            if id == "known" {
                response.extensions_mut().insert(To(id.parse().unwrap()));
            }
            response
        };
        let observed = middleware::from_fn_with_state(deliveries.clone(), observe);
        Router::new().route("/hooks/{source}", any(answer).layer(observed))
    }

    async fn ask(deliveries: &Deliveries, path: &str, status: StatusCode) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(deliveries, status).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(
            answer.extensions().get::<To>().is_none(),
            "it is nobody else's business"
        );
    }

    #[tokio::test]
    async fn a_source_is_known_by_its_name_and_not_by_its_spelling() {
        let deliveries = Deliveries::default();
        ask(&deliveries, "/hooks/kn%6fwn", StatusCode::CREATED).await;
        ask(&deliveries, "/hooks/known", StatusCode::NOT_FOUND).await;
        let report = deliveries.report("known");
        assert_eq!(report.taken.unwrap().status, 201);
        assert_eq!(report.refused.unwrap().status, 404);
        assert_eq!((deliveries.report("kn%6fwn").taken, report.stray), (None, None));
    }

    #[tokio::test]
    async fn strangers_fill_nothing_and_write_nothing_to_a_terminal() {
        let deliveries = Deliveries::default();
        for status in [
            StatusCode::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::OK,
        ] {
            for number in 0..100 {
                ask(&deliveries, &format!("/hooks/unknown-{number}"), status).await;
            }
        }
        assert!(deliveries.lock().sources.is_empty());
        let stray = deliveries.report("known").stray;
        assert_eq!(stray, Some((300, "/hooks/unknown-99".to_owned())));

        let long = format!("/hooks/[2J{}", "x".repeat(10_000));
        ask(&deliveries, &long, StatusCode::METHOD_NOT_ALLOWED).await;
        let (_, stray) = deliveries.report("known").stray.unwrap();
        assert_eq!(stray, format!("/hooks/[2J{}", "x".repeat(118)));
        assert_eq!(shown("\u{1b}[2Jé", MAX_NAME_BYTES), "[2J");
    }

    #[test]
    fn what_comes_to_no_path_is_noted_if_it_looks_like_a_delivery() {
        let deliveries = Deliveries::default();
        let note = |header: &str| {
            let request = Request::post("/hooks/known/").header(header, "push");
            deliveries.note_misdirected(&request.body(Body::empty()).unwrap());
            deliveries.report("known").stray
        };
        assert_eq!(note("accept"), None);
        assert_eq!(note("x-github-event"), Some((1, "/hooks/known/".to_owned())));
    }
}
