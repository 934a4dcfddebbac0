//! Each log as C2SP tlog-tiles under `/logs/<name>/`.
//!
//! A path has one spelling. Whatever is spelled in another way, or is not there, is not found.

use std::{convert::Infallible, str::FromStr as _, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER,
            VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use counterfoil_log::{Log, LogName, ReadError};
use counterfoil_merkle::TilePath;
use tokio::{sync::Semaphore, time::timeout};
use tower_http::{CompressionLevel, compression::CompressionLayer};
use tracing::error;

use super::{NEVER, TEXT};
use crate::{
    access::{Caller, Denied},
    logs::Logs,
    turns::{Unfinished, read_to_end},
};

/// Reads at a time, each of which may hold up a thread for as long as the disk takes.
const MAX_READS: usize = 32;
/// How long a request waits for its turn to read.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// When to come back, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// A checkpoint is as new as the publishing interval, which is a second; for so long it may answer others too.
const BRIEFLY: Caching = Caching {
    by_all: HeaderValue::from_static("public, max-age=1"),
    by_caller: HeaderValue::from_static("private, max-age=1"),
};
/// What lies at the path of a tile never changes.
const FOR_EVER: Caching = Caching {
    by_all: HeaderValue::from_static("public, max-age=604800, immutable"),
    by_caller: HeaderValue::from_static("private, max-age=604800, immutable"),
};

/// What answers `GET /logs/{*path}`.
pub(super) fn reader(logs: Logs) -> MethodRouter {
    let reader = Reader {
        logs,
        turns: Arc::new(Semaphore::new(MAX_READS)),
    };
    let compression = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(
            |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
                extensions.get::<Compressible>().is_some()
            },
        );
    get(read)
        .layer::<_, Infallible>(compression)
        .layer(middleware::map_response(compressed))
        .with_state(reader)
}

/// Compresses to the end at once: an encoder at work, and what it has yet to read, would be counted nowhere while nobody takes the
/// answer.
async fn compressed(response: Response) -> Response {
    if !response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (head, body) = response.into_parts();
    // It was in memory whole: a bundle.
    match to_bytes(body, usize::MAX).await {
        Ok(bytes) => Response::from_parts(head, Body::from(bytes)),
        Err(_) => NoAnswer::Failed.into_response(),
    }
}

/// For how long an answer may be kept.
struct Caching {
    /// By whoever is on the way, for others who ask.
    by_all: HeaderValue,
    by_caller: HeaderValue,
}

impl Caching {
    /// What a credential was needed for, or may have been, must not reach others from a shared cache.
    fn value(self, caller: &Caller) -> HeaderValue {
        if caller.is_anonymous() {
            self.by_all
        } else {
            self.by_caller
        }
    }
}

#[derive(Clone)]
struct Reader {
    logs: Logs,
    turns: Arc<Semaphore>,
}

/// Marks an answer worth compressing: entries are, hashes are not.
#[derive(Clone, Copy)]
struct Compressible;

/// Why there is no answer, or none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    Denied(Denied),
    NotFound,
    NotPublished,
    Busy,
    Failed,
    Damaged,
}

impl From<Denied> for NoAnswer {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Unfinished> for NoAnswer {
    fn from(_: Unfinished) -> Self {
        Self::Failed
    }
}

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Denied(denied) => return denied.into_response(),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is nothing at this path\n"),
            Self::NotPublished => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the log has published no head yet\n",
            ),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many reads are waiting\n"),
            Self::Failed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the log could not read it; try again\n",
            ),
            Self::Damaged => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "stored data is damaged or missing; the operator has to run fsck\n",
            ),
        };
        let mut response = (status, [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, NEVER)], text).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// What a path under a log's prefix names.
enum Resource {
    Checkpoint,
    Tile(TilePath),
}

async fn read(
    State(reader): State<Reader>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, NoAnswer> {
    // The body, if there is one, is dropped unread.
    let (log, resource) = reader.find(request.uri(), &caller)?;
    let (body, content_type, caching) = match resource {
        Resource::Checkpoint => {
            let head = log.published_head().ok_or(NoAnswer::NotPublished)?;
            (head.note.clone(), TEXT, BRIEFLY)
        }
        Resource::Tile(path) => (reader.read(log, path).await?, BYTES, FOR_EVER),
    };
    // The tag of a bundle stands for it with or without compression, so it is a weak one.
    let compressible = matches!(resource, Resource::Tile(TilePath::Entries { .. }));
    let tag = entity_tag(&body, compressible);
    let mut response = if names(request.headers(), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = ([(CONTENT_TYPE, content_type)], body).into_response();
        if compressible {
            response.extensions_mut().insert(Compressible);
        }
        response
    };
    if compressible {
        response.headers_mut().insert(VARY, ACCEPT_ENCODING.into());
    }
    response.headers_mut().extend::<[(HeaderName, HeaderValue); 3]>([
        (ETAG, tag),
        (CACHE_CONTROL, caching.value(&caller)),
        // Who submits chooses some of the bytes.
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]);
    Ok(response)
}

impl Reader {
    /// What a path names, if the caller may have it. Whoever may not does not learn whether it is there.
    fn find(&self, uri: &Uri, caller: &Caller) -> Result<(&Arc<Log>, Resource), NoAnswer> {
        let (log, resource) = parse(uri).ok_or(NoAnswer::NotFound)?;
        caller.require(&log)?;
        let log = self.logs.get(&log).ok_or(NoAnswer::NotFound)?;
        Ok((log, resource))
    }

    async fn read(&self, log: &Arc<Log>, path: TilePath) -> Result<Vec<u8>, NoAnswer> {
        let turn = timeout(READ_PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(NoAnswer::Busy);
        };
        let read = {
            let log = log.clone();
            async move { log.tile_or_bundle(path).await }
        };
        let (bytes, _turn) = read_to_end(turn, read).await?;
        bytes.map_err(|problem| match problem {
            ReadError::NotFound => NoAnswer::NotFound,
            // What the operator needs to know is no business of the reader's.
            problem => {
                error!(log = %log.name(), %path, %problem, "a read failed");
                match problem {
                    ReadError::Store(_) => NoAnswer::Failed,
                    _ => NoAnswer::Damaged,
                }
            }
        })
    }
}

/// The path is taken as it came: nothing in it is decoded, and a query belongs to no path that there is.
fn parse(uri: &Uri) -> Option<(LogName, Resource)> {
    let (log, path) = uri.path().strip_prefix("/logs/")?.split_once('/')?;
    let log = LogName::from_str(log).ok()?;
    let resource = match path {
        "checkpoint" => Resource::Checkpoint,
        _ => Resource::Tile(path.parse().ok()?),
    };
    uri.query().is_none().then_some((log, resource))
}

fn entity_tag(body: &[u8], weak: bool) -> HeaderValue {
    let digest = hex::encode(&blake3::hash(body).as_bytes()[..16]);
    let tag = format!("{}\"{digest}\"", if weak { "W/" } else { "" });
    HeaderValue::try_from(tag).expect("a tag is printable ASCII")
}

/// Whether the client says that it has what bears the tag (RFC 9110, section 13.1.2).
fn names(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let tag = opaque(tag.as_bytes());
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|tags| tags.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|other| other == b"*" || opaque(other) == tag)
}
