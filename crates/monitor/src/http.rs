//! Bounded HTTP: every answer has a limit and a time, no redirect is followed, nothing is allocated on the server's word.

use bytes::{Bytes, BytesMut};
use counterfoil_client::{BearerToken, is_this_machine};
use reqwest::{Client, StatusCode, Url, redirect};

use crate::{Timeouts, source::SourceError};

/// What identifies the monitor to operators.
pub(crate) const USER_AGENT: &str = concat!("counterfoil-monitor/", env!("CARGO_PKG_VERSION"));

/// A client whose clones share connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    /// For servers on this machine. A proxy between would see the tokens that are sent to them in the clear.
    unproxied: Client,
    timeouts: Timeouts,
}

impl Http {
    /// # Errors
    /// If TLS can't be set up on this machine.
    pub(crate) fn new(timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .user_agent(USER_AGENT)
                .connect_timeout(timeouts.connect)
                .read_timeout(timeouts.silence)
                .timeout(timeouts.answer)
                // A log that moves is a new source: where its data comes from is the configuration's to say.
                .redirect(redirect::Policy::none())
        };
        Ok(Self {
            client: builder().build()?,
            unproxied: builder().no_proxy().build()?,
            timeouts,
        })
    }

    fn client(&self, url: &Url) -> &Client {
        match is_this_machine(url.host_str().unwrap_or_default()) {
            true => &self.unproxied,
            false => &self.client,
        }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The body at `url`, decompressed; at most `limit` bytes of it. The token goes along as it is: that it may be sent to that
    /// server was checked with the configuration.
    pub(crate) async fn get(
        &self,
        url: Url,
        token: Option<&BearerToken>,
        limit: usize,
    ) -> Result<Bytes, SourceError> {
        let mut request = self.client(&url).get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        let mut answer = request.send().await.map_err(SourceError::from)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(SourceError::NotServed(format!(
                    "{} is not there",
                    path(answer.url())
                )));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(SourceError::Unreachable(format!(
                    "{} answers {status}",
                    path(answer.url())
                )));
            }
            status => {
                return Err(SourceError::Invalid(format!(
                    "{} answers {status}",
                    path(answer.url())
                )));
            }
        }
        let too_long =
            |url: &Url| SourceError::Invalid(format!("{} is longer than {limit} bytes", path(url)));
        if answer
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_long(answer.url()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(SourceError::from)? {
            // Chunks come out of the decompressor a few KiB at a time, so a bomb ends here.
            if chunk.len() > limit - body.len() {
                return Err(too_long(answer.url()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Posts a webhook's message. Returns what it is answered with.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: reqwest::header::HeaderMap,
        body: String,
    ) -> Result<StatusCode, SourceError> {
        let sent = self
            .client(&url)
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await;
        Ok(sent.map_err(SourceError::from)?.status())
    }
}

fn path(url: &Url) -> &str {
    url.path()
}

impl From<reqwest::Error> for SourceError {
    fn from(error: reqwest::Error) -> Self {
        // The URL is known to whoever reads this, and a webhook's may hold a secret.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            text.push_str(&format!(": {next}"));
            cause = next.source();
        }
        match error.is_decode() && !error.is_timeout() {
            true => Self::Invalid(text),
            false => Self::Unreachable(text),
        }
    }
}
