//! Who may do what: API tokens, job tokens (OpenID Connect), client certificates. `docs/ACCESS.md` is for those who set it up.
//!
//! One layer lies around all that the port serves. It finds out what the path needs ([`table`]) and who calls, refuses
//! credentials that are wrong (or lets paths do that whose answers have a shape of their own), and hands a [`Caller`] on; each call
//! then has it checked on the log that it is about, and over gRPC before its message comes, whether that can be any. A credential that
//! is wrong is never taken for none.

mod caller;
mod config;
mod denied;
mod dsse;
pub(crate) mod fuzzing;
mod granted;
mod mtls;
mod oidc;
mod rights;
mod table;
mod token;
mod tokens;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
};
use counterfoil_log::LogName;
use counterfoil_note::Origin;
use jiff::Timestamp;
use tokio::{sync::watch, task};
use tracing::warn;
use zeroize::Zeroizing;

pub(crate) use self::{
    caller::Caller,
    denied::Denied,
    dsse::{EnrolledKey, MAX_KEYS as MAX_DSSE_KEYS, Submitting, dsse_keys_directory},
    mtls::{Certificate, CertificateError, PeerCertificate},
    rights::{Grant, Role},
    table::{HEALTH, HOLD_NO_SEAT},
    token::{MAX_NOTE_BYTES, Token, TokenId, TokenRecord},
};
use self::{
    caller::Credential, config::Config, dsse::Signers, granted::Granted, mtls::Certified, oidc::Oidc,
    rights::Right, table::Needs, tokens::Tokens,
};
use crate::{deliveries::Deliveries, http, logs::Logs, metrics::Metrics, watched::Watched};

/// The file in a data directory that says what [`Config`] holds.
const CONFIG_FILE: &str = "access.toml";
/// The same, without `.toml`.
const CONFIG_NAME: &str = "access";
/// The file in a data directory that has the job tokens that were used and have not expired.
const SPENT_FILE: &str = "spent-tokens";

/// Where a data directory has its API tokens.
pub(crate) fn tokens_directory(data: &Path) -> PathBuf {
    data.join("tokens")
}

/// Where a data directory says who may do what.
pub(crate) fn config_path(data: &Path) -> PathBuf {
    data.join(CONFIG_FILE)
}

/// `access.toml`, as it is now.
pub(crate) struct Settings {
    watched: Watched<Config>,
    /// As it was last. A file that goes away, or that nobody understands, must not open the port to everyone.
    current: watch::Receiver<Arc<Config>>,
}

impl Settings {
    /// Follows the file of a data directory. Has to be called within a runtime.
    ///
    /// # Errors
    /// If it is there and broken.
    pub(crate) fn start(data: &Path) -> anyhow::Result<Self> {
        let directory = data.to_owned();
        let watched = Watched::start(&config_path(data), move |file| {
            Config::parse(file.text, &directory)
        })?;
        let given = watched.get(CONFIG_NAME);
        let decided = given.is_some();
        let (sender, current) = watch::channel(given.unwrap_or_else(|| Arc::new(Config::open())));
        task::spawn(follow(watched.clone(), sender, decided, config_path(data)));
        Ok(Self { watched, current })
    }

    /// Whether there is a file, and so someone who decided.
    pub(crate) fn are_given(&self) -> bool {
        self.watched.get(CONFIG_NAME).is_some()
    }

    /// What tells the file of the authorities whose client certificates are believed, as it is when it is asked.
    pub(crate) fn client_authorities(&self) -> impl Fn() -> Option<PathBuf> + Send + use<> {
        let current = self.current.clone();
        move || current.borrow().mtls.as_ref().map(|mtls| mtls.ca.clone())
    }

    fn current(&self) -> Arc<Config> {
        self.current.borrow().clone()
    }
}

/// Hands on what the file says, and nothing when it is gone. Until it was understood once, which is `decided`, one that is there
/// shuts everyone out.
async fn follow(
    mut watched: Watched<Config>,
    sender: watch::Sender<Arc<Config>>,
    mut decided: bool,
    path: PathBuf,
) {
    while watched.changed().await {
        match watched.get(CONFIG_NAME) {
            Some(config) => {
                decided = true;
                sender.send_replace(config);
            }
            None if !watched.is_meaningless(CONFIG_NAME) => warn!(
                path = %path.display(),
                "the file is gone: what it said stays in force until the server stops. One that is started without it lets everyone do everything"
            ),
            None if decided => {}
            None => {
                sender.send_replace(Arc::new(Config::closed()));
                warn!(path = %path.display(), "until the file is understood, only API tokens let anybody in");
            }
        }
    }
}

/// Finds out who calls.
pub(crate) struct Access {
    settings: Arc<Settings>,
    tokens: Tokens,
    oidc: Arc<Oidc>,
    signers: Signers,
}

impl Access {
    /// For the logs of a data directory. Has to be called within a runtime.
    ///
    /// # Errors
    /// If the file of a token or key is broken, or the one with the job tokens that were used.
    pub(crate) async fn start(
        settings: Settings,
        data: &Path,
        logs: &Logs,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let origins: BTreeMap<Origin, LogName> = logs
            .iter()
            .map(|(name, log)| (log.commit_head().origin.clone(), name.clone()))
            .collect();
        Ok(Self {
            settings: Arc::new(settings),
            tokens: Tokens::start(&tokens_directory(data), metrics)?,
            oidc: Arc::new(Oidc::open(origins, data.join(SPENT_FILE))?),
            signers: Signers::start(data, logs).await?,
        })
    }

    /// Puts the layer around everything that `router` has. What looks like a delivery of a webhook and comes to no path is noted in
    /// `deliveries`.
    pub(crate) fn guard(self, router: Router, deliveries: Deliveries) -> Router {
        let state = (Arc::new(self), deliveries);
        router.layer(middleware::from_fn_with_state(state, identify))
    }

    async fn credential(&self, request: &mut Request) -> Result<Credential, Denied> {
        let now = Timestamp::now();
        Ok(match credential_text(request.headers_mut())? {
            Some(text) if text.starts_with(token::PREFIX) => {
                Credential::Token(self.tokens.holder(&text, now)?)
            }
            Some(text) => Credential::Job(self.oidc.job(&text, &self.settings, now).await?),
            None => match request.extensions().get() {
                Some(PeerCertificate(Some(certificate))) => {
                    Credential::Certificate(Certified::new(certificate, &self.settings, now)?)
                }
                _ => Credential::None(Granted::new(&self.settings)),
            },
        })
    }
}

/// Puts the [`Caller`] into the request's extensions, or turns it away.
async fn identify(
    State((access, deliveries)): State<(Arc<Access>, Deliveries)>,
    mut request: Request,
    next: Next,
) -> Response {
    let needs = match table::needs(request.uri().path()) {
        // Whatever the router has there, nobody thought about who may have it.
        None => {
            deliveries.note_misdirected(&request);
            return http::nothing_here(&request);
        }
        // The senders of webhooks sign what they send, and an `authorization` of theirs would be none of ours. And whether the
        // server is well can be asked with a credential that is not.
        Some(Needs::Nothing | Needs::Signature) => return next.run(request).await,
        Some(needs @ (Needs::Right(_) | Needs::RightOrPrivate(..))) => needs,
    };
    let credential = match access.credential(&mut request).await {
        Ok(credential) => credential,
        // Whatever takes events in over HTTP refuses in a shape of its own, and counts it: it finds that this caller may do nothing.
        Err(denied) if needs == Needs::Right(Right::Submit) && !http::is_grpc(&request) => {
            Credential::Wrong(denied)
        }
        Err(denied) => return denied.answer(&request),
    };
    let caller = Caller::new(credential, needs, access.signers.clone());
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Turns away whoever may make such a call on no log at all, before anything of it is read. Services over gRPC have a call's message
/// whole before they know its log, and strangers would fill the memory for what arrives. Others ask before they read, but for
/// webhooks, whose signature is over what is sent.
pub(crate) async fn turn_away(request: Request, next: Next) -> Response {
    match Caller::of(request.extensions()).require_somewhere() {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.answer(&request),
    }
}

/// The token in the header `authorization`, which is removed: nothing behind has any use for it. `Splunk` is what senders
/// to an HTTP Event Collector say for `Bearer`.
fn credential_text(headers: &mut HeaderMap) -> Result<Option<Zeroizing<String>>, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            let known = ["bearer", "splunk"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known));
            known.then(|| Zeroizing::new(token.trim_start_matches(' ').to_owned()))
        }),
        _ => None,
    };
    headers.remove(AUTHORIZATION);
    text.map(Some).ok_or_else(|| {
        Denied::Unauthenticated(
            "one `authorization: Bearer TOKEN` is understood, and nothing else".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_understood_and_removed() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            let text = credential_text(&mut headers);
            assert!(!headers.contains_key(AUTHORIZATION));
            text.map(|text| text.map(|text| text.to_string()))
        };
        assert_eq!(read(&[]), Ok(None));
        for good in ["Bearer x.y-z", "bearer x.y-z", "Splunk x.y-z", "Bearer  x.y-z"] {
            assert_eq!(read(&[good]), Ok(Some("x.y-z".to_owned())), "{good}");
        }
        for bad in [
            &["x.y-z"][..],
            &["Basic x"],
            &[""],
            &["Bearer"],
            &["Bearer a", "Bearer a"],
        ] {
            assert!(matches!(read(bad), Err(Denied::Unauthenticated(_))), "{bad:?}");
        }
    }
}
