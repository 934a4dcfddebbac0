//! The other side of tlog-witness: a log asks a witness to cosign its head.
//!
//! Nothing that a witness answers is believed but a signature by its key. It can refuse, lie about what it has seen and
//! waste the time that it is given; what it sends is limited in size, and none of it reaches a note unverified, or a
//! message other than as printable ASCII.

use std::{error::Error as _, fmt, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::{
    Cosignature, CosignatureError, CosignerKey, MAX_NOTE_BYTES, NoteError, NoteSignature, Origin, SignedHead,
    parse_signature_lines,
};
use reqwest::{Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::request;

/// Requests about one head. The first can come too early or too late, and the second tells where the witness stands.
const MAX_ATTEMPTS: usize = 3;
/// Longest body read where a checkpoint or cosignatures are expected, in bytes.
const MAX_ANSWER_BYTES: usize = MAX_NOTE_BYTES;
/// What is read of any other body, in bytes: a size, or the first line of an explanation.
const MAX_EXPLANATION_BYTES: usize = 1024;
/// What a message repeats of a text from outside, in characters.
const MAX_QUOTED_CHARS: usize = 160;
/// How long a connection that nothing uses stays open: longer than the pauses between heads signed anew.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// What the requests to all witnesses share: connections that stay open, and how long a witness may take.
#[derive(Debug, Clone)]
pub struct HttpClient {
    http: reqwest::Client,
    timeout: Duration,
}

/// A witness, as one log asks it. Each log has its own, for each has another size there.
#[derive(Debug, Clone)]
pub struct WitnessClient {
    http: HttpClient,
    prefix: Url,
    key: CosignerKey,
    /// The largest size of the log that the witness has cosigned, as far as is known. Only ever a hint.
    cosigned: TreeSize,
}

/// A witness's word on a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The line for the note.
    pub line: NoteSignature,
    /// The same, verified.
    pub cosignature: Cosignature,
}

/// Why a text is not the URL of a witness.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{url:?} is no submission prefix: it takes http:// or https://, a host and perhaps a path, and nothing after that"
)]
pub struct WitnessUrlError {
    url: String,
}

/// An HTTP status that is no success, with the first line of what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: u16,
    explanation: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.code)?;
        match self.explanation.as_str() {
            "" => Ok(()),
            explanation => write!(f, ", \"{explanation}\""),
        }
    }
}

/// Why there is no cosignature. Texts from outside are cut and made printable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// No answer: the connection, TLS, or HTTP failed.
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    /// No whole answer in the time that it has.
    #[error("it did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The answer is longer than any that is right.
    #[error("its answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// 400: it takes the request for malformed.
    #[error("it calls the request malformed ({0})")]
    Malformed(Status),
    /// 403: it trusts none of the keys that signed the head.
    #[error("it does not trust the log's keys ({0})")]
    Untrusted(Status),
    /// 404: it does not know the log, or the URL is not a witness's.
    #[error("it does not know the log ({0})")]
    UnknownLog(Status),
    /// 422: it says that the head does not follow from what it cosigned before.
    #[error("it says that the head is not consistent with what it cosigned before ({0})")]
    Inconsistent(Status),
    /// Any other status, redirects among them: these are not followed.
    #[error("it answered with {0}")]
    Status(Status),
    /// 409 with something other than a size.
    #[error("its status 409 comes without the size that it cosigned last")]
    NoSize,
    /// 409 with a size beyond the head's. Nothing proves it: a witness can claim any.
    #[error("it says that it has cosigned a tree of size {witness}, and the head is of size {head}")]
    Ahead {
        /// The size that it names.
        witness: TreeSize,
        /// The size of the head.
        head: TreeSize,
    },
    /// 409 again and again, with sizes that it does not stand by.
    #[error("it went on naming other sizes (status 409, {MAX_ATTEMPTS} times)")]
    Unsettled,
    /// The proof that it needs can't be made.
    #[error("the log can't prove the head consistent with size {from}: {problem}")]
    NoProof {
        /// The size that it has cosigned.
        from: TreeSize,
        /// What is in the way.
        problem: String,
    },
    /// What it sent are not signature lines.
    #[error("its answer is malformed: {0}")]
    Lines(#[from] NoteError),
    /// There is no line by its key.
    #[error("its answer has no cosignature by the key {0}")]
    OtherKey(String),
    /// There is a line by its key, and it is not on this head.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
}

impl HttpClient {
    /// `timeout` is what each witness has for an answer, time to connect and all retries included.
    ///
    /// # Errors
    /// If TLS can't be set up: the system has no root certificates, for one.
    pub fn new(timeout: Duration) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("counterfoil/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            // A witness is configured by its URL; it can't send us elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_idle_timeout(KEEP_ALIVE)
            .build()
            .map_err(unreachable)?;
        Ok(Self { http, timeout })
    }
}

impl WitnessClient {
    /// The witness whose submission prefix is `url` and whose cosignatures `key` verifies.
    ///
    /// # Errors
    /// If `url` is not an HTTP URL, or has a query or fragment.
    pub fn new(http: HttpClient, url: &str, key: CosignerKey) -> Result<Self, WitnessUrlError> {
        let prefix = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none())
            .ok_or_else(|| WitnessUrlError { url: printable(url) })?;
        Ok(Self {
            http,
            prefix,
            key,
            cosigned: TreeSize::ZERO,
        })
    }

    /// Asks for a cosignature of a head, which must not be smaller than one that was cosigned before.
    ///
    /// `prove` makes the consistency proof from a smaller size, not zero, to the head's. It is asked again if the witness
    /// says that it has cosigned another size than was thought.
    ///
    /// # Errors
    /// Any [`ClientError`]. Whether the witness recorded the head all the same is not known then.
    pub async fn cosign<P, E>(
        &mut self,
        head: &SignedHead,
        prove: impl Fn(TreeSize) -> P,
    ) -> Result<Cosigned, ClientError>
    where
        P: Future<Output = Result<Vec<Digest>, E>>,
        E: fmt::Display,
    {
        let timeout = self.http.timeout;
        tokio::time::timeout(timeout, self.settle(head, prove))
            .await
            .unwrap_or(Err(ClientError::TimedOut(timeout)))
    }

    async fn settle<P, E>(
        &mut self,
        head: &SignedHead,
        prove: impl Fn(TreeSize) -> P,
    ) -> Result<Cosigned, ClientError>
    where
        P: Future<Output = Result<Vec<Digest>, E>>,
        E: fmt::Display,
    {
        for _ in 0..MAX_ATTEMPTS {
            let old = self.cosigned.min(head.size());
            let proof = if old == TreeSize::ZERO || old == head.size() {
                Vec::new()
            } else {
                prove(old).await.map_err(|problem| ClientError::NoProof {
                    from: old,
                    problem: problem.to_string(),
                })?
            };
            let response = self.post(request_body(old, &proof, head)).await?;
            match response.status() {
                StatusCode::OK => {
                    let cosigned = verify(&self.key, head, &whole_body(response).await?)?;
                    self.cosigned = head.size();
                    return Ok(cosigned);
                }
                StatusCode::CONFLICT => {
                    let witness = parse_size(&explanation(response).await?).ok_or(ClientError::NoSize)?;
                    if witness > head.size() {
                        // The head after this one may be as large, and then needs no second request.
                        self.cosigned = witness;
                        let head = head.size();
                        return Err(ClientError::Ahead { witness, head });
                    }
                    self.cosigned = witness;
                }
                _ => return Err(refused(response).await?),
            }
        }
        Err(ClientError::Unsettled)
    }

    /// The newest head of a log that the witness serves, a note that nobody has verified. `None` if it says that there is
    /// none.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn newest(&self, origin: &Origin) -> Result<Option<Vec<u8>>, ClientError> {
        let timeout = self.http.timeout;
        let origin_hash = hex::encode(Sha256::digest(origin.as_str()));
        let get = async {
            let response = self
                .http
                .http
                .get(self.url(&[&origin_hash, "checkpoint"]))
                .send()
                .await
                .map_err(unreachable)?;
            match response.status() {
                StatusCode::OK => whole_body(response).await.map(Some),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(refused(response).await?),
            }
        };
        tokio::time::timeout(timeout, get)
            .await
            .unwrap_or(Err(ClientError::TimedOut(timeout)))
    }

    async fn post(&self, body: Vec<u8>) -> Result<Response, ClientError> {
        let request = self.http.http.post(self.url(&["add-checkpoint"])).body(body);
        request.send().await.map_err(unreachable)
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.prefix.clone();
        url.path_segments_mut()
            .expect("an HTTP URL has a path")
            .pop_if_empty()
            .extend(path);
        url
    }
}

/// Takes the one line by the witness's key out of an answer, if it is a cosignature of this head.
pub(crate) fn verify(key: &CosignerKey, head: &SignedHead, body: &[u8]) -> Result<Cosigned, ClientError> {
    let other_key = || ClientError::OtherKey(key.to_string());
    let line = parse_signature_lines(body)?
        .into_iter()
        .find(|line| line.id() == key.id() && line.name() == key.name().as_str())
        .ok_or_else(other_key)?;
    let cosignature = key
        .verify_cosignature(&head.with_signatures([line.clone()])?)?
        .ok_or_else(other_key)?;
    Ok(Cosigned { line, cosignature })
}

fn request_body(old: TreeSize, proof: &[Digest], head: &SignedHead) -> Vec<u8> {
    let mut body = format!("old {old}\n");
    for hash in proof {
        BASE64_STANDARD.encode_string(hash.as_bytes(), &mut body);
        body.push('\n');
    }
    body.push('\n');
    [body.as_bytes(), head.note_bytes()].concat()
}

async fn refused(response: Response) -> Result<ClientError, ClientError> {
    let status = response.status();
    let explanation = explanation(response).await?;
    let first_line = explanation
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let told = Status {
        code: status.as_u16(),
        explanation: printable(&String::from_utf8_lossy(first_line)),
    };
    Ok(match status {
        StatusCode::BAD_REQUEST => ClientError::Malformed(told),
        StatusCode::FORBIDDEN => ClientError::Untrusted(told),
        StatusCode::NOT_FOUND => ClientError::UnknownLog(told),
        StatusCode::UNPROCESSABLE_ENTITY => ClientError::Inconsistent(told),
        _ => ClientError::Status(told),
    })
}

/// The body where all of it is needed.
async fn whole_body(response: Response) -> Result<Vec<u8>, ClientError> {
    let body = first_bytes(response, MAX_ANSWER_BYTES + 1).await?;
    if body.len() > MAX_ANSWER_BYTES {
        return Err(ClientError::TooLong);
    }
    Ok(body)
}

/// The body where its beginning will do.
async fn explanation(response: Response) -> Result<Vec<u8>, ClientError> {
    first_bytes(response, MAX_EXPLANATION_BYTES).await
}

async fn first_bytes(mut response: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while bytes.len() < limit
        && let Some(chunk) = response.chunk().await.map_err(unreachable)?
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(limit - bytes.len())]);
    }
    Ok(bytes)
}

/// `<size>\n`, in decimal without a leading zero.
pub(crate) fn parse_size(body: &[u8]) -> Option<TreeSize> {
    request::parse_size(body.strip_suffix(b"\n")?)
}

/// The causes matter, and the URL may hold a password.
fn unreachable(error: reqwest::Error) -> ClientError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ClientError::Unreachable(printable(&text))
}

/// What may stand in a message: no line of its own, no control of a terminal, no text that runs backwards, not long.
fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_QUOTED_CHARS)
        .map(|char| match char {
            ' '..='~' => char,
            _ => '?',
        })
        .collect()
}
