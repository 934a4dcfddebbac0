//! Fetching an issuer's keys: OpenID Connect Discovery 1.0, then the JWK Set that it leads to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::{sync::OwnedMutexGuard, task};
use tracing::{info, warn};

use super::{super::Denied, keys::KeySet};

/// How long one document may take as a whole.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document. The log records the keys, so this is also the longest such record.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Keys older than this are asked for again, so that one that was withdrawn goes.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// Keys older than this are no longer believed, if the issuer was away for all that time.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Attempts to fetch within [`ATTEMPTS_PERIOD`]. Anyone can send tokens that name unknown keys.
const MAX_ATTEMPTS: usize = 4;
const ATTEMPTS_PERIOD: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("counterfoild/", env!("CARGO_PKG_VERSION"));

/// An issuer, and its keys as they were fetched last.
pub(super) struct IssuerKeys {
    url: String,
    client: Client,
    cache: Mutex<Cache>,
    /// Held while fetching: one at a time.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Cache {
    keys: Option<(Arc<KeySet>, Instant)>,
    attempts: VecDeque<Instant>,
}

/// What a cache has for a token.
enum Found {
    Fresh(Arc<KeySet>),
    /// Good for now, but to be asked for again.
    Stale(Arc<KeySet>),
    Nothing,
}

impl Cache {
    fn find(&self, key_id: &str, now: Instant) -> Found {
        let Some((keys, fetched)) = &self.keys else {
            return Found::Nothing;
        };
        let age = now.saturating_duration_since(*fetched);
        if age > MAX_AGE || keys.get(key_id).is_none() {
            return Found::Nothing;
        }
        if age > FRESH {
            return Found::Stale(keys.clone());
        }
        Found::Fresh(keys.clone())
    }

    /// Whether the issuer may be asked now; if so, that counts.
    fn attempt(&mut self, now: Instant) -> bool {
        while let Some(first) = self.attempts.front()
            && now.saturating_duration_since(*first) > ATTEMPTS_PERIOD
        {
            self.attempts.pop_front();
        }
        let may = self.attempts.len() < MAX_ATTEMPTS;
        if may {
            self.attempts.push_back(now);
        }
        may
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let on_loopback = url.starts_with("http://");
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(TIMEOUT)
            .https_only(!on_loopback)
            // Who the issuer is stands in the configuration, and it names where its keys are.
            .redirect(redirect::Policy::none());
        if on_loopback {
            client = client.no_proxy();
        }
        Ok(Self {
            url: url.to_owned(),
            client: client.build()?,
            cache: Mutex::default(),
            fetching: Arc::default(),
        })
    }

    /// Keys that hold one of this id. Fetches them where that may help.
    pub(super) async fn keys(self: &Arc<Self>, key_id: &str) -> Result<Arc<KeySet>, Denied> {
        match self.find(key_id) {
            Found::Fresh(keys) => return Ok(keys),
            Found::Stale(keys) => {
                // Others go on with what there is in the meantime.
                if let Ok(turn) = self.fetching.clone().try_lock_owned() {
                    self.refresh(turn).await;
                    return match self.find(key_id) {
                        Found::Fresh(keys) => Ok(keys),
                        Found::Stale(_) => Ok(keys),
                        Found::Nothing => Err(unknown_key(key_id)),
                    };
                }
                return Ok(keys);
            }
            Found::Nothing => {}
        }
        let turn = self.fetching.clone().lock_owned().await;
        // Someone before us may have fetched them.
        if let Found::Fresh(keys) | Found::Stale(keys) = self.find(key_id) {
            return Ok(keys);
        }
        let answered = self.refresh(turn).await;
        match self.find(key_id) {
            Found::Fresh(keys) | Found::Stale(keys) => Ok(keys),
            Found::Nothing if answered => Err(unknown_key(key_id)),
            Found::Nothing => Err(Denied::Undecided(format!(
                "the keys of {} can't be had now; try again later",
                self.url
            ))),
        }
    }

    /// Refuses a key that is not among those that were fetched last. Fetches nothing.
    pub(super) fn require(&self, key_id: &str) -> Result<(), Denied> {
        match &self.cache().keys {
            Some((keys, _)) if keys.get(key_id).is_none() => Err(unknown_key(key_id)),
            _ => Ok(()),
        }
    }

    fn find(&self, key_id: &str) -> Found {
        self.cache().find(key_id, Instant::now())
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Nothing panics while it changes.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the issuer, if it was not asked too often. Whether its keys are now known as they are.
    async fn refresh(self: &Arc<Self>, turn: OwnedMutexGuard<()>) -> bool {
        // It may have a new key since it was asked last.
        if !self.cache().attempt(Instant::now()) {
            return false;
        }
        // To its end, since it counts: whoever asked may go away, and strangers would do so each time.
        let issuer = self.clone();
        let fetched = task::spawn(async move {
            let is_known = issuer.fetch_and_keep().await;
            drop(turn);
            is_known
        });
        fetched.await.unwrap_or(false)
    }

    async fn fetch_and_keep(&self) -> bool {
        match self.fetch().await {
            Ok(keys) => {
                info!(
                    issuer = self.url,
                    record = keys.event.id(),
                    "fetched the issuer's keys"
                );
                self.cache().keys = Some((Arc::new(keys), Instant::now()));
                true
            }
            Err(problem) => {
                warn!(issuer = self.url, problem = %format!("{problem:#}"), "can't fetch the issuer's keys");
                false
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<KeySet> {
        let discovery = format!(
            "{}/.well-known/openid-configuration",
            self.url.strip_suffix('/').unwrap_or(&self.url)
        );
        let discovery = self.get(discovery.parse()?).await?;
        let url = keys_url(&self.url, &discovery)?;
        Ok(KeySet::parse(&self.url, self.get(url).await?)?)
    }

    async fn get(&self, url: Url) -> anyhow::Result<Bytes> {
        let mut answer = self.client.get(url.clone()).send().await?;
        anyhow::ensure!(
            answer.status() == StatusCode::OK,
            "{url} answers {}",
            answer.status()
        );
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await? {
            anyhow::ensure!(
                chunk.len() <= MAX_DOCUMENT_BYTES - body.len(),
                "{url} is longer than {MAX_DOCUMENT_BYTES} bytes"
            );
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// Where the issuer says that its keys are, in its discovery document. That has to be on the same host and port: whoever speaks for
/// an issuer must not have this server ask others, least of all those that it can reach and they can't.
pub(super) fn keys_url(issuer: &str, discovery: &[u8]) -> anyhow::Result<Url> {
    let discovery: Discovery = serde_json::from_slice(discovery)?;
    anyhow::ensure!(
        discovery.issuer == issuer,
        "it calls itself {:?}",
        discovery.issuer
    );
    let url: Url = discovery.jwks_uri.parse()?;
    anyhow::ensure!(
        url.origin() == issuer.parse::<Url>()?.origin(),
        "its keys are at {url}, which is another host or port"
    );
    Ok(url)
}

fn unknown_key(key_id: &str) -> Denied {
    Denied::Unauthenticated(format!("the token's issuer has no key {key_id:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"RSA","kid":"a","n":"u1SU1LfVLPHCozMx","e":"AQAB"}]}"#;

    #[test]
    fn keys_are_fresh_for_an_hour_and_believed_for_a_day() {
        let fetched = Instant::now();
        let keys = Arc::new(KeySet::parse("https://issuer.example.org", Bytes::from(KEYS)).unwrap());
        let cache = Cache {
            keys: Some((keys, fetched)),
            ..Cache::default()
        };
        assert!(matches!(cache.find("a", fetched + FRESH), Found::Fresh(_)));
        assert!(matches!(cache.find("b", fetched), Found::Nothing));
        let second = Duration::from_secs(1);
        assert!(matches!(
            cache.find("a", fetched + FRESH + second),
            Found::Stale(_)
        ));
        assert!(matches!(cache.find("a", fetched + MAX_AGE), Found::Stale(_)));
        assert!(matches!(
            cache.find("a", fetched + MAX_AGE + second),
            Found::Nothing
        ));
    }

    #[test]
    fn an_issuer_has_its_keys_where_it_is() {
        let keys_url = |issuer: &str, keys: &str| {
            let discovery = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#);
            keys_url(issuer, discovery.as_bytes())
        };
        let issuer = "https://issuer.example.org/tenant";
        for good in [
            "https://issuer.example.org/keys",
            "https://issuer.example.org:443/tenant/keys?version=1",
        ] {
            assert!(keys_url(issuer, good).is_ok(), "{good}");
        }
        for bad in [
            "http://issuer.example.org/keys",
            "https://issuer.example.org:8443/keys",
            "https://keys.issuer.example.org/",
            "https://issuer.example.org.evil.example/",
            "https://issuer.example.org@evil.example/",
            "https://127.0.0.1/keys",
            "https://[::1]/keys",
            "https://10.0.0.1/keys",
            "http://169.254.169.254/latest/meta-data/",
            "https://localhost/keys",
            "file:///etc/passwd",
            "data:application/json,{}",
            "/keys",
            "",
        ] {
            assert!(keys_url(issuer, bad).is_err(), "{bad}");
        }
        let local = "http://127.0.0.1:8080";
        assert!(keys_url(local, "http://127.0.0.1:8080/keys").is_ok());
        assert!(keys_url(local, "http://127.0.0.1:8081/keys").is_err());
    }

    #[test]
    fn an_issuer_is_asked_a_few_times_a_minute() {
        let mut cache = Cache::default();
        let start = Instant::now();
        let allowed = |cache: &mut Cache, at| (0..100).filter(|_| cache.attempt(start + at)).count();
        assert_eq!(allowed(&mut cache, Duration::ZERO), MAX_ATTEMPTS);
        assert_eq!(allowed(&mut cache, ATTEMPTS_PERIOD), 0);
        assert_eq!(
            allowed(&mut cache, ATTEMPTS_PERIOD + Duration::from_millis(1)),
            MAX_ATTEMPTS
        );
        assert!(cache.attempts.len() <= MAX_ATTEMPTS);
    }
}
