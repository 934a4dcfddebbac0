//! `POST /hooks/<source>`: deliveries of webhooks. Each source has a file that binds its path to one provider, one log and
//! the secrets that sign.
//!
//! The order of work: what the headers alone refuse; the body, within its limits; the signature over its bytes; only then
//! does anything look into it. A delivery is on disk and under a signed head before it is answered.

mod delivery;
mod event;
pub(crate) mod fuzzing;
mod invalid;
mod signature;

use std::{
    path::Path,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{self, Request, State, rejection::PathRejection},
    http::{HeaderMap, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use counterfoil_event::{Authentication, Event, SourceId, Submitter, limits::MAX_DATA_BYTES};
use counterfoil_hooks::{Source, SourcesDirectory};
use counterfoil_log::{Log, LogName};
use counterfoil_proto::v1::Reason;
use tokio::time::{self, Instant};
use tracing::debug;

use super::{
    Intake,
    answer::{Problem, Recorded},
    body::Accepts,
    media_type,
};
use crate::{
    access::Submitting,
    deliveries::{self, Deliveries, To},
    intake::work,
    logs::Logs,
    metrics::IntakePath,
    refusal::Refusal,
    watched::{File, Watched},
};
use invalid::InvalidDelivery;
use signature::Signatures;

/// GitHub's reach 25 MB. Compressed bytes are not those signed.
const ACCEPTS: Accepts = Accepts {
    max_bytes: MAX_DATA_BYTES,
    gzip: false,
};

/// How long a delivery waits for room in a full queue. GitHub and Gitea never send again by themselves, and GitHub waits 10 s for an
/// answer, some of which the body may have taken.
const QUEUE_PATIENCE: Duration = Duration::from_secs(3);
/// How often it tries meanwhile.
const QUEUE_PERIOD: Duration = Duration::from_millis(100);

/// A source that the server knows.
struct KnownSource {
    id: SourceId,
    source: Source,
    log: Arc<Log>,
}

/// What answers deliveries. Clones share everything.
#[derive(Clone)]
struct Hooks {
    sources: Watched<KnownSource>,
    intake: Intake,
}

/// The path of webhooks. Reads the sources of a data directory, and follows their changes. What is answered is noted in
/// `deliveries`.
///
/// # Errors
/// If a source's file is broken, others than its owner can read it, or it names a log that is not here.
pub(super) fn receiver(data: &Path, intake: Intake, deliveries: Deliveries) -> anyhow::Result<Router> {
    let logs = intake.logs.clone();
    let directory = SourcesDirectory::of(data);
    let sources = Watched::start(directory.path(), move |file| known_source(file, &logs))?;
    let [known, gone] = [intake.metrics.clone(), intake.metrics.clone()];
    sources.tell_names(
        move |name| known.know_source(name),
        move |name| gone.forget_source(name),
    );
    let hooks = Hooks { sources, intake };
    let route = post(receive).fallback(only_post).with_state(hooks);
    let route = route.layer(middleware::from_fn_with_state(deliveries, deliveries::observe));
    Ok(Router::new().route("/hooks/{source}", route))
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

/// What a path has for a source's name, if it is text.
type Named = Result<extract::Path<String>, PathRejection>;

impl Hooks {
    fn source(&self, named: Named) -> Option<Arc<KnownSource>> {
        let extract::Path(id) = named.ok()?;
        self.sources.get(&id)
    }
}

async fn receive(State(hooks): State<Hooks>, named: Named, request: Request) -> Response {
    let intake = &hooks.intake;
    let Some(source) = hooks.source(named) else {
        return intake.answer(IntakePath::Hooks, Err(InvalidDelivery::UnknownSource.into()));
    };
    let result = intake.delivery(&source, request).await;
    if let Err(problem) = &result {
        debug!(source = %source.id, reason = problem.reason(), ?problem, "refused a delivery");
    }
    // One that was removed meanwhile is forgotten.
    if hooks.sources.get(source.id.as_str()).is_some() {
        match &result {
            Ok(_) => intake.metrics.source_recorded(&source.id, now_unix_s()),
            Err(_) => intake.metrics.source_refused(&source.id),
        }
    }
    let mut answer = intake.answer(IntakePath::Hooks, result.map(Recorded::into_response));
    answer.extensions_mut().insert(To(source.id.clone()));
    answer
}

async fn only_post(State(hooks): State<Hooks>, named: Named) -> Response {
    let refused = Err(InvalidDelivery::WrongMethod.into());
    let mut answer = hooks.intake.answer(IntakePath::Hooks, refused);
    if let Some(source) = hooks.source(named) {
        answer.extensions_mut().insert(To(source.id.clone()));
    }
    answer
}

impl Intake {
    async fn delivery(&self, source: &KnownSource, request: Request) -> Result<Recorded, Problem> {
        let (head, body) = request.into_parts();
        accept_media_type(&head.headers)?;
        let signatures = Signatures::find(&source.source, &head.headers)?;
        let body = self.bodies.read(&head.headers, body, ACCEPTS).await?;
        let (event, submitter) = work(body.bytes.len(), || {
            let KnownSource { id, source, .. } = source;
            read(
                id,
                source,
                &head.headers,
                &signatures,
                body.bytes.clone(),
                now_unix_s(),
            )
        })
        .await?;
        let submitter = Submitting::sender(submitter);
        let record = || self.record_one(IntakePath::Hooks, &source.log, &submitter, event.clone());
        Ok(while_full(record).await?)
    }
}

/// Tries again, for a while, where the log's queue is full: the next batch makes room.
async fn while_full<T, F>(record: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let deadline = Instant::now() + QUEUE_PATIENCE;
    loop {
        match record().await {
            Err(refusal) if refusal.reason == Reason::QueueFull && Instant::now() < deadline => {
                time::sleep(QUEUE_PERIOD).await;
            }
            result => return result,
        }
    }
}

/// JSON as it is, and nothing else: forms carry the body in another encoding.
fn accept_media_type(headers: &HeaderMap) -> Result<(), InvalidDelivery> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|value| media_type(value) == "application/json");
    is_json.then_some(()).ok_or(InvalidDelivery::WrongMediaType)
}

/// Checks the signature over the body, and then makes an event of it.
fn read(
    id: &SourceId,
    source: &Source,
    headers: &HeaderMap,
    signatures: &Signatures,
    body: Bytes,
    now_unix_s: u64,
) -> Result<(Event, Submitter), Problem> {
    let proof = signatures.verify(source, &body, now_unix_s)?;
    let delivery = delivery::read(id, source, headers, &proof)?;
    let evidence = delivery::evidence(source, &delivery, &proof);
    let submitter = Submitter::new(id.clone(), Authentication::Hmac, evidence)
        .expect("its parts are limited to less than evidence may be");
    Ok((event::of(source.provider, &delivery, body)?, submitter))
}

fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future};

    use counterfoil_log::SubmitError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_waited_for_and_nothing_else_is() {
        // What comes of a delivery that meets so many refusals.
        let record = async |refusals: u32, error: SubmitError| {
            let left = Cell::new(refusals);
            let attempt = || {
                let result = match left.get() {
                    0 => Ok(()),
                    _ => Err(Refusal::from(error.clone())),
                };
                left.set(left.get().saturating_sub(1));
                future::ready(result)
            };
            while_full(attempt).await.map_err(|refusal| refusal.reason)
        };
        assert_eq!(record(20, SubmitError::QueueFull).await, Ok(()));
        assert_eq!(
            record(1_000, SubmitError::QueueFull).await,
            Err(Reason::QueueFull)
        );
        assert_eq!(record(1, SubmitError::OutOfSpace).await, Err(Reason::OutOfSpace));
    }
}
