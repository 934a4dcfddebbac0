//! Callers with API tokens.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::json;
use tracing::warn;

use super::{
    Denied, Grant,
    token::{Token, TokenId, TokenRecord},
};
use crate::{
    metrics::Metrics,
    watched::{File, Watched},
};

/// After how long it is said again of a token that it is expired or revoked and still used.
const SAID_AGAIN: Duration = Duration::from_secs(60 * 60);

/// The tokens of a data directory, as its files have them now.
pub(super) struct Tokens {
    watched: Watched<KnownToken>,
    metrics: Metrics,
}

/// A token as its file has it.
struct KnownToken {
    record: TokenRecord,
    /// When it was last said that it is expired or revoked and still used.
    said: Mutex<Option<Instant>>,
}

impl Tokens {
    /// Follows `<data>/tokens`, which need not be there. Has to be called within a runtime.
    pub(super) fn start(directory: &Path, metrics: &Metrics) -> anyhow::Result<Self> {
        let watched = Watched::start(directory, known_token)?;
        let [known, gone] = [metrics.clone(), metrics.clone()];
        watched.tell_names(
            move |name| known.know_token(name),
            move |name| gone.forget_token(name),
        );
        Ok(Self {
            watched,
            metrics: metrics.clone(),
        })
    }

    /// Whoever shows this text after `Bearer` or `Splunk`.
    pub(super) fn holder(&self, text: &str, now: Timestamp) -> Result<TokenHolder, Denied> {
        let token: Token = text
            .parse()
            .map_err(|error| Denied::Unauthenticated(format!("{error}")))?;
        let known = self.watched.get(token.id().as_str());
        let known = known.filter(|known| known.record.is_of(&token));
        let known = known.ok_or_else(refused)?;
        if !known.record.is_live(now) {
            // Who shows it has its secret: nobody else can make this be said, or counted.
            self.metrics.token_refused(token.id().as_str());
            if known.is_to_be_said() {
                warn!(token = %token.id(), "a token is still used that is expired or revoked: it lets nobody in");
            }
            return Err(refused());
        }
        Ok(TokenHolder {
            id: token.id().clone(),
            shown: known,
            watched: self.watched.clone(),
        })
    }
}

fn known_token(file: File<'_>) -> anyhow::Result<KnownToken> {
    file.name.parse::<TokenId>()?;
    ensure!(
        !file.exposed,
        "others than its owner can read it or change it: chmod 600"
    );
    Ok(KnownToken {
        record: TokenRecord::from_toml(file.text).context("this is no token's file")?,
        said: Mutex::default(),
    })
}

impl KnownToken {
    /// Whether it is time to say, again, that the token is still used. Whoever asks then says it.
    fn is_to_be_said(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| said.elapsed() >= SAID_AGAIN);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

/// The same for all, so that nothing is told about tokens that one does not hold.
fn refused() -> Denied {
    Denied::Unauthenticated("this token is unknown, revoked or expired".to_owned())
}

/// Who showed a token.
pub(super) struct TokenHolder {
    id: TokenId,
    /// As it was when the secret was compared.
    shown: Arc<KnownToken>,
    watched: Watched<KnownToken>,
}

impl TokenHolder {
    /// What the token is good for now.
    pub(super) fn grant(&self, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        self.watched
            .get(self.id.as_str())
            .filter(|known| known.record.has_secret_of(&self.shown.record) && known.record.is_live(now))
            .map(|known| known.record.grant.clone())
            .ok_or_else(refused)
    }

    /// The id alone: the secret goes on being of use.
    pub(super) fn evidence(&self) -> String {
        json!({ "token": self.id.as_str() }).to_string()
    }
}
