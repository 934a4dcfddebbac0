//! Webhooks, signed as the Standard Webhooks specification has it: HMAC-SHA256 over `<id>.<timestamp>.<body>`.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{
    StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tracing::{error, warn};
use zeroize::Zeroizing;

use crate::{
    StateError,
    http::Http,
    outbox::{Message, Outbox},
    source::SourceError,
};

/// Longest secret file.
const MAX_SECRET_FILE_BYTES: u64 = 1024;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// The key that messages to one webhook are signed with. Never printed; wiped from memory when dropped.
pub struct Secret(counterfoil_hooks::Secret);

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It can't be read.
    #[error("can't read the webhook's secret: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("a webhook's secret is whsec_ and the base64 of 24 to 64 random bytes")]
    Form,
}

impl Secret {
    /// Reads a secret from the first line of a file.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let mut text = Zeroizing::new(String::new());
        fs::File::open(path)?
            .take(MAX_SECRET_FILE_BYTES)
            .read_to_string(&mut text)?;
        Self::parse(text.trim_end())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, SecretError> {
        let secret: counterfoil_hooks::Secret = text.parse().map_err(|_| SecretError::Form)?;
        match secret.is_signing_key() {
            true => Ok(Self(secret)),
            false => Err(SecretError::Form),
        }
    }

    /// The value of `webhook-signature`.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let signature = self
            .0
            .sign_standard(id, &timestamp.to_string(), body.as_bytes())
            .expect("it is a signing key");
        format!("v1,{}", BASE64_STANDARD.encode(signature))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    /// The receiver does not want this one, and may take another.
    #[error("it refuses the message with {0}; others go first")]
    Refused(StatusCode),
    /// It takes none now.
    #[error(transparent)]
    Failed(#[from] SourceError),
}

/// One receiver, and what waits for it.
pub(crate) struct Webhook {
    pub(crate) url: Url,
    pub(crate) secret: Secret,
    pub(crate) http: Http,
    pub(crate) outbox: Arc<Outbox>,
}

impl Webhook {
    /// Delivers for ever, in order; a message that is not taken holds up those after it, unless it is refused.
    pub(crate) async fn run(&self) {
        let mut pauses = Pauses::new();
        loop {
            match self.deliver_first().await {
                Ok(true) => pauses = Pauses::new(),
                Ok(false) => self.outbox.filled().await,
                Err(problem) => {
                    // The URL may hold a secret; its host does not.
                    let host = self.url.host_str().unwrap_or_default();
                    warn!(host, %problem, "a webhook was not delivered; trying again");
                    tokio::time::sleep(pauses.after(&problem, &self.outbox)).await;
                }
            }
        }
    }

    /// Delivers until nothing waits; the first failure that lasts ends it.
    pub(crate) async fn drain(&self) {
        let mut pauses = Pauses::new();
        loop {
            match self.deliver_first().await {
                Ok(true) => pauses = Pauses::new(),
                Ok(false) => return,
                Err(problem) => tokio::time::sleep(pauses.after(&problem, &self.outbox)).await,
            }
        }
    }

    /// Whether there was a message to deliver.
    async fn deliver_first(&self) -> Result<bool, Undelivered> {
        let Some(message) = self.outbox.first().map_err(|problem| local(&problem))? else {
            return Ok(false);
        };
        let timestamp = crate::clock::unix_millis() / 1000;
        let headers = self.headers(&message, timestamp);
        let status = self
            .http
            .post(self.url.clone(), headers, message.body.clone())
            .await?;
        if is_refusal(status) {
            self.outbox
                .postpone(&message)
                .map_err(|problem| local(&problem))?;
            return Err(Undelivered::Refused(status));
        }
        if !status.is_success() {
            return Err(SourceError::Unreachable(format!("it answers {status}")).into());
        }
        // A crash before the file is gone: it is delivered again, under the same id.
        self.outbox.remove(&message).map_err(|problem| local(&problem))?;
        Ok(true)
    }

    fn headers(&self, message: &Message, timestamp: u64) -> HeaderMap {
        let plain = |text: String| HeaderValue::try_from(text).expect("digits, letters and base64");
        let signature = self.secret.sign(&message.id, timestamp, &message.body);
        HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (
                "webhook-id".parse().expect("a header name"),
                plain(message.id.clone()),
            ),
            (
                "webhook-timestamp".parse().expect("a header name"),
                plain(timestamp.to_string()),
            ),
            (
                "webhook-signature".parse().expect("a header name"),
                plain(signature),
            ),
        ])
    }
}

fn local(problem: &StateError) -> SourceError {
    error!(%problem, "the webhook's queue can't be used");
    SourceError::Unreachable(problem.to_string())
}

/// Whether an answer is about the message: too long for the receiver, say. Every other failure is about the receiver.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// How long to wait before the next attempt.
struct Pauses {
    growing: ExponentialBackoff,
    /// How many messages were refused since one was taken, or since all were.
    refused: usize,
}

impl Pauses {
    fn new() -> Self {
        let growing = ExponentialBuilder::default()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(LONGEST_DELAY)
            .with_jitter()
            .without_max_times();
        Self {
            growing: growing.build(),
            refused: 0,
        }
    }

    fn after(&mut self, problem: &Undelivered, outbox: &Outbox) -> Duration {
        if let Undelivered::Refused(_) = problem {
            self.refused += 1;
            // What others wait for must not grow with what is refused.
            if outbox.len().is_ok_and(|waiting| self.refused < waiting) {
                return FIRST_DELAY;
            }
            self.refused = 0;
        }
        self.growing.next().unwrap_or(LONGEST_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_prefix_and_length_and_is_not_shown() {
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        ] {
            assert!(matches!(Secret::parse(bad), Err(SecretError::Form)), "{bad}");
        }
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
