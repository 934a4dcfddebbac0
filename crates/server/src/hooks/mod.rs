//! `POST /hooks/<source>`: deliveries of webhooks. Each source has a file that binds its path to one provider, one log and
//! the secrets that sign.
//!
//! The order of work: what the headers alone refuse; the body, within its limits; the signature over its bytes; only then
//! does anything look into it. A delivery is on disk and under a signed head before it is answered.

mod answer;
mod body;
mod delivery;
mod event;
mod signature;

use std::{
    path::Path,
    str::FromStr as _,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{self, Request, State},
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use counterfoil_event::{Authentication, SourceId, Submitter};
use counterfoil_hooks::{Source, SourcesDirectory};
use counterfoil_log::{Log, LogName, Outcome, PreparedEvent};
use tokio::task;
use tracing::debug;

use crate::{
    deliveries::{self, Deliveries},
    grpc::Logs,
    metrics::{IntakePath, Metrics},
    watched::{File, Watched},
};
use answer::{Refusal, Taken};
use body::Bodies;
use signature::Signatures;

/// Hashing and reading more than this holds up an async worker for too long.
const INLINE_BYTES: usize = 256 * 1024;

/// A source that the server knows.
struct KnownSource {
    id: SourceId,
    source: Source,
    log: Arc<Log>,
}

/// What answers deliveries. Clones share everything.
#[derive(Clone)]
pub(crate) struct Hooks {
    sources: Watched<KnownSource>,
    bodies: Bodies,
    metrics: Metrics,
}

impl Hooks {
    /// Reads the sources of a data directory, and follows their changes.
    ///
    /// # Errors
    /// If a source's file is broken, others than its owner can read it, or it names a log that is not here.
    pub(crate) fn start(data: &Path, logs: Logs, metrics: Metrics) -> anyhow::Result<Self> {
        let directory = SourcesDirectory::of(data);
        let sources = Watched::start(directory.path(), move |file| known_source(file, &logs))?;
        Ok(Self {
            sources,
            bodies: Bodies::new(),
            metrics,
        })
    }

    /// Adds the path to the others. What is answered there is noted in `deliveries`.
    pub(crate) fn add_to(self, router: Router, deliveries: Deliveries) -> Router {
        let route = post(receive).fallback(only_post).with_state(self);
        let route = route.layer(middleware::from_fn_with_state(deliveries, deliveries::observe));
        router.route("/hooks/{source}", route)
    }

    async fn take(&self, source: &KnownSource, request: Request) -> Result<Taken, Refusal> {
        let (head, body) = request.into_parts();
        let headers = head.headers;
        accept_media_type(&headers)?;
        let signatures = Signatures::find(&source.source, &headers)?;
        let body = self.bodies.read(&headers, body).await?;
        let prepare = || prepare(source, &headers, &signatures, body.bytes.clone());
        let prepared = if body.bytes.len() > INLINE_BYTES {
            task::block_in_place(prepare)
        } else {
            prepare()
        }?;
        let submitted = source.log.submit(vec![prepared]).await?;
        // Until here its memory was in use.
        drop(body);
        let outcome = submitted.outcomes.into_iter().next();
        let (leaf, duplicate) = match outcome.expect("the log answers for each event") {
            Outcome::Recorded(leaf) => (leaf, false),
            Outcome::Duplicate(leaf) => (leaf, true),
            Outcome::Conflict { existing } => return Err(Refusal::Conflict { existing }),
        };
        Ok(Taken::new(&source.log, &submitted.head, &leaf, duplicate))
    }
}

fn known_source(file: File<'_>, logs: &Logs) -> anyhow::Result<KnownSource> {
    anyhow::ensure!(
        !file.exposed,
        "others than its owner may read it, and it holds secrets. Run chmod 600 on it"
    );
    let id = file
        .name
        .parse()
        .map_err(|problem| anyhow::anyhow!("`{}` is no name of a source: it {problem}", file.name))?;
    let source = Source::parse(file.text)?;
    let log = LogName::from_str(&source.log)
        .ok()
        .and_then(|name| logs.get(&name).cloned())
        .with_context(|| format!("there is no log `{}` here", source.log))?;
    Ok(KnownSource { id, source, log })
}

async fn receive(
    State(hooks): State<Hooks>,
    extract::Path(id): extract::Path<String>,
    request: Request,
) -> Response {
    let Some(source) = hooks.sources.get(&id) else {
        hooks
            .metrics
            .count_intake(IntakePath::Hooks, Refusal::UnknownSource.name());
        return Refusal::UnknownSource.into_response();
    };
    match hooks.take(&source, request).await {
        Ok(taken) => {
            hooks.metrics.count_intake(IntakePath::Hooks, taken.name());
            hooks.metrics.source_recorded(&source.id, now_unix_s());
            taken.into_response()
        }
        Err(refusal) => {
            hooks.metrics.count_intake(IntakePath::Hooks, refusal.name());
            hooks.metrics.source_refused(&source.id);
            debug!(source = %source.id, reason = refusal.name(), %refusal, "refused a delivery");
            refusal.into_response()
        }
    }
}

async fn only_post(State(hooks): State<Hooks>) -> Response {
    hooks
        .metrics
        .count_intake(IntakePath::Hooks, Refusal::WrongMethod.name());
    Refusal::WrongMethod.into_response()
}

/// JSON as it is, and nothing else: forms carry the body in another encoding, and compressed bytes are not those signed.
fn accept_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let essence = |value: &str| {
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    };
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| essence(value) == "application/json");
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    (is_json && is_plain).then_some(()).ok_or(Refusal::WrongMediaType)
}

/// Checks the signature over the body, and then makes an event of it.
fn prepare(
    source: &KnownSource,
    headers: &HeaderMap,
    signatures: &Signatures,
    body: Bytes,
) -> Result<PreparedEvent, Refusal> {
    let proof = signatures.verify(&source.source, &body, now_unix_s())?;
    let delivery = delivery::read(&source.id, &source.source, headers, &proof)?;
    let evidence = delivery::evidence(&source.source, &delivery, &proof);
    let submitter = Submitter::new(source.id.clone(), Authentication::Hmac, evidence)
        .expect("its parts are limited to less than evidence may be");
    let event = event::of(source.source.provider, &delivery, body)
        .map_err(|problem| Refusal::InvalidEvent(problem.to_string()))?;
    Ok(source.log.prepare(event, &submitter))
}

fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
