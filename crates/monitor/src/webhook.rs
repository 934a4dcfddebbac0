//! Webhooks, signed as the Standard Webhooks specification has it: HMAC-SHA256 over `<id>.<timestamp>.<body>`.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use sha2::Sha256;
use tracing::{error, warn};
use zeroize::Zeroizing;

use crate::{
    StateError,
    http::Http,
    outbox::{Message, Outbox},
    source::SourceError,
};

/// What a secret's text begins with.
const SECRET_PREFIX: &str = "whsec_";
/// How long a secret may be, in bytes, before base64.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Longest secret file.
const MAX_SECRET_FILE_BYTES: u64 = 1024;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// The key that messages to one webhook are signed with. Never printed; wiped from memory when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It can't be read.
    #[error("can't read the webhook's secret: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("a webhook's secret is {SECRET_PREFIX} and the base64 of 24 to 64 random bytes")]
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
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Form)?;
        let key = BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::Form)?;
        let key = Zeroizing::new(key);
        match SECRET_BYTES.contains(&key.len()) {
            true => Ok(Self(key)),
            false => Err(SecretError::Form),
        }
    }

    /// The value of `webhook-signature`.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One receiver, and what waits for it.
pub(crate) struct Webhook {
    pub(crate) url: Url,
    pub(crate) secret: Secret,
    pub(crate) http: Http,
    pub(crate) outbox: Arc<Outbox>,
}

impl Webhook {
    /// Delivers for ever, in order; a message that is not taken holds up those after it.
    pub(crate) async fn run(&self) {
        let mut delays = delays();
        loop {
            match self.deliver_first().await {
                Ok(true) => delays = self::delays(),
                Ok(false) => self.outbox.filled().await,
                Err(problem) => {
                    // The URL may hold a secret; its host does not.
                    let host = self.url.host_str().unwrap_or_default();
                    warn!(host, %problem, "a webhook was not delivered; trying again");
                    tokio::time::sleep(delays.next().unwrap_or(LONGEST_DELAY)).await;
                }
            }
        }
    }

    /// Delivers until nothing waits; the first failure that lasts ends it.
    pub(crate) async fn drain(&self) {
        let mut delays = delays();
        loop {
            match self.deliver_first().await {
                Ok(true) => delays = self::delays(),
                Ok(false) => return,
                Err(_) => tokio::time::sleep(delays.next().unwrap_or(LONGEST_DELAY)).await,
            }
        }
    }

    /// Whether there was a message to deliver.
    async fn deliver_first(&self) -> Result<bool, SourceError> {
        let message = match self.outbox.first() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(false),
            Err(problem) => return Err(local(&problem)),
        };
        let timestamp = crate::clock::unix_millis() / 1000;
        let headers = self.headers(&message, timestamp);
        self.http
            .post(self.url.clone(), headers, message.body.clone())
            .await?;
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

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
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
