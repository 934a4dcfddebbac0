//! Callers with OpenID Connect tokens of the platform that their job runs on.

mod claims;
pub(super) mod fuzzing;
mod issuer;
mod keys;
mod replay;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use counterfoil_event::{Event, Submitter};
use counterfoil_log::{Log, LogName};
use counterfoil_note::Origin;
use jiff::Timestamp;
use serde_json::json;
use tokio::{sync::OnceCell, task};

use self::{
    claims::{BadToken, Claims, LEEWAY_S, UnverifiedToken},
    issuer::IssuerKeys,
    keys::KeySet,
    replay::{Spent, SpentNames, TokenName, token_name},
};
use super::{
    Denied, Grant, Right, Settings,
    config::{Config, Issuer, Reuse},
    granted::Granted,
};

/// What a server knows about job tokens beside its configuration.
pub(super) struct Oidc {
    /// Each log's name, by its name in checkpoints.
    logs: BTreeMap<Origin, LogName>,
    issuers: Mutex<BTreeMap<String, Arc<IssuerKeys>>>,
    /// Whoever has its turn waits for the disk. Those who wait for theirs hold no thread: jobs begin by the hundred at a full hour.
    spent: tokio::sync::Mutex<Spent>,
    /// What is spent, for whoever asks meanwhile.
    spent_names: SpentNames,
    /// The record of keys that each log made last, for each issuer.
    recorded: Mutex<BTreeMap<(LogName, String), String>>,
}

impl From<BadToken> for Denied {
    fn from(problem: BadToken) -> Self {
        Self::Unauthenticated(problem.to_string())
    }
}

impl Oidc {
    /// `spent` is the file that knows which tokens were used.
    ///
    /// # Errors
    /// If that can't be read.
    pub(super) fn open(logs: BTreeMap<Origin, LogName>, spent: PathBuf) -> anyhow::Result<Self> {
        let spent = Spent::open(spent)?;
        Ok(Self {
            logs,
            issuers: Mutex::default(),
            spent_names: spent.names().clone(),
            spent: tokio::sync::Mutex::new(spent),
            recorded: Mutex::default(),
        })
    }

    /// Whoever shows this JSON Web Token after `Bearer`.
    pub(super) async fn job(
        self: &Arc<Self>,
        text: &str,
        settings: &Arc<Settings>,
        now: Timestamp,
    ) -> Result<JobIdentity, Denied> {
        let token = UnverifiedToken::parse(text)?;
        let config = settings.current();
        let issuer = believed(&config, &token.issuer)?;
        let known = self.keys_of(&issuer.url)?;
        let keys = known.keys(&token.key_id).await?;
        let key = keys
            .get(&token.key_id)
            .expect("it was asked for keys with this one");
        let claims = token.verify(key)?;
        claims.check_times(issuer.reuse, now.as_second())?;
        if issuer.reuse == Reuse::Never && claims.id.is_none() {
            return Err(BadToken::Claim("jti").into());
        }
        let name = claims.id.as_deref().map(|id| token_name(&issuer.url, id));
        let job = JobIdentity {
            oidc: self.clone(),
            granted: Granted::new(settings),
            claims,
            issuer: issuer.url.clone(),
            reuse: issuer.reuse,
            keys: keys.clone(),
            evidence: evidence(text, &token.key_id, &keys.event, issuer.reuse),
            key_id: token.key_id,
            known,
            name,
            spent: OnceCell::new(),
        };
        job.grant(now)?;
        Ok(job)
    }

    fn keys_of(&self, url: &str) -> Result<Arc<IssuerKeys>, Denied> {
        let mut issuers = lock(&self.issuers);
        if let Some(keys) = issuers.get(url) {
            return Ok(keys.clone());
        }
        let keys = IssuerKeys::new(url).map_err(|problem| {
            tracing::error!(issuer = url, problem = %format!("{problem:#}"), "can't make a client for the issuer");
            Denied::Undecided("the keys of the token's issuer can't be had now; try again later".to_owned())
        })?;
        let keys = Arc::new(keys);
        issuers.insert(url.to_owned(), keys.clone());
        Ok(keys)
    }

    /// Spends a token that nobody can use from `until` on. A caller that goes away while it waits for its turn has spent nothing.
    async fn spend(&self, name: TokenName, until: i64) -> Result<(), Denied> {
        let mut spent = self.spent.lock().await;
        let now = Timestamp::now().as_second();
        task::block_in_place(|| spent.spend(name, until, now))
    }

    /// What the token is good for: its audience has to be ours, and a rule has to match.
    fn grant(&self, issuer: &Issuer, claims: &Claims) -> Result<Arc<Grant>, Denied> {
        let log = match &issuer.audience {
            Some(audience) => (claims.audience() == audience).then_some(None),
            None => claims
                .audience()
                .parse::<Origin>()
                .ok()
                .and_then(|origin| self.logs.get(&origin))
                .map(Some),
        };
        let log = log.ok_or_else(|| {
            let wanted = issuer.audience.as_deref().unwrap_or("the log's origin");
            Denied::Unauthenticated(format!(
                "the token is for {:?}, and has to be for {wanted}",
                claims.audience()
            ))
        })?;
        let rule = issuer.rules.iter().find(|rule| claims.have(&rule.claims));
        let grant = rule.map(|rule| rule.grant.clone()).ok_or_else(|| {
            Denied::Forbidden("the token is right, and no rule of this server is for its claims".to_owned())
        })?;
        Ok(match log {
            Some(log) => Arc::new(Grant::clone(&grant).within(log)),
            None => grant,
        })
    }
}

fn believed<'c>(config: &'c Config, issuer: &str) -> Result<&'c Issuer, Denied> {
    config
        .issuers
        .get(issuer)
        .ok_or_else(|| Denied::Unauthenticated("no tokens of this issuer are believed here".to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind them changes in one step each.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What entries say about a token: with the record of the keys, all that it takes to check it again. One that could still be
/// used loses its signature.
fn evidence(token: &str, key_id: &str, keys: &Event, reuse: Reuse) -> String {
    match (reuse, token.rsplit_once('.')) {
        (Reuse::UntilExpiry, Some((signed, _))) => {
            json!({ "jwt_without_signature": signed, "kid": key_id, "keys": keys.id() }).to_string()
        }
        _ => json!({ "jwt": token, "kid": key_id, "keys": keys.id() }).to_string(),
    }
}

/// A job whose token holds.
pub(super) struct JobIdentity {
    oidc: Arc<Oidc>,
    granted: Granted,
    claims: Claims,
    issuer: String,
    /// What the issuer's tokens were held to when the call began.
    reuse: Reuse,
    keys: Arc<KeySet>,
    key_id: String,
    /// The issuer's keys as they are known now, which may be others.
    known: Arc<IssuerKeys>,
    evidence: String,
    /// A token that submits in one call only has one.
    name: Option<TokenName>,
    /// What came of spending it in this call.
    spent: OnceCell<Result<(), Denied>>,
}

impl JobIdentity {
    /// When the token can no longer be used, in seconds since 1970.
    fn until(&self) -> i64 {
        self.claims.expires + LEEWAY_S
    }

    /// What the token is good for by the rules that hold now, unless it has expired since, or its issuer was found to have withdrawn
    /// the key.
    pub(super) fn grant(&self, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        if now.as_second() > self.until() {
            return Err(BadToken::Expired.into());
        }
        self.known.require(&self.key_id)?;
        self.granted.now(|config| {
            let issuer = believed(config, &self.issuer)?;
            // What the token has to have, what is shown of it in entries and whether it is spent all depend on it.
            if issuer.reuse != self.reuse {
                return Err(Denied::Undecided(
                    "how often a token of this issuer may submit has changed; try again".to_owned(),
                ));
            }
            self.oidc.grant(issuer, &self.claims)
        })
    }

    /// Refuses what a token that was spent is no longer good for. Entries show such a token whole, to whoever may audit: with it they
    /// may check heads, as its job does to verify a receipt, and no more.
    pub(super) fn require_unspent(&self, right: Right) -> Result<(), Denied> {
        let concerned = match right {
            Right::Check => false,
            // One that submits once is spent as it does, and may be in a stream since.
            Right::Submit => self.reuse == Reuse::UntilExpiry,
            Right::Read | Right::Audit => true,
        };
        let Some(name) = self.name.filter(|_| concerned) else {
            return Ok(());
        };
        if self.oidc.spent_names.contains(&name) {
            return Err(Denied::Unauthenticated(
                "this token has submitted before, and is good for this no more: ask the job's platform for another"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Uses the token to submit to `log`, which has the keys that vouch for it on record by then. Returns the evidence.
    pub(super) async fn spend(&self, log: &Log) -> Result<String, Denied> {
        // While the token is as good as new: where the log takes nothing, its job may try again.
        self.record_keys(log).await?;
        if let (Some(name), Reuse::Never) = (self.name, self.reuse) {
            let spent = self.spent.get_or_init(|| self.oidc.spend(name, self.until()));
            spent.await.clone()?;
        }
        Ok(self.evidence.clone())
    }

    async fn record_keys(&self, log: &Log) -> Result<(), Denied> {
        let place = (log.name().clone(), self.issuer.clone());
        let event = &self.keys.event;
        if lock(&self.oidc.recorded).get(&place).map(String::as_str) != Some(event.id()) {
            // Keys that are on record from before are found there, and not recorded again.
            let recorded = log
                .submit(vec![log.prepare(event.clone(), &Submitter::log())])
                .await;
            recorded.map_err(Denied::Log)?;
            lock(&self.oidc.recorded).insert(place, event.id().to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::runtime;

    use super::*;

    /// The threads that run tasks are few, and so are those that take their place while they wait for the disk.
    #[test]
    fn whoever_waits_for_its_turn_to_spend_a_token_holds_no_thread() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(2)
            .build()
            .unwrap();
        let oidc = Arc::new(Oidc::open(BTreeMap::new(), directory.path().join("spent")).unwrap());
        let until = Timestamp::now().as_second() + 3_600;
        let names = (0..16).map(|number: u8| token_name("issuer", &number.to_string()));
        let names: Vec<_> = names.collect();

        // As if the disk took so long.
        let turn = runtime.block_on(oidc.spent.lock());
        let (sender, begun) = mpsc::channel();
        let calls = names.iter().map(|name| {
            let (oidc, sender, name) = (oidc.clone(), sender.clone(), *name);
            runtime.spawn(async move {
                sender.send(()).unwrap();
                oidc.spend(name, until).await
            })
        });
        let calls: Vec<_> = calls.collect();
        for _ in &calls {
            let next = begun.recv_timeout(Duration::from_secs(20));
            next.expect("a task runs while others wait");
        }
        assert!(!oidc.spent_names.contains(&names[0]));
        drop(turn);
        for call in calls {
            assert_eq!(runtime.block_on(call).unwrap(), Ok(()));
        }
        assert!(names.iter().all(|name| oidc.spent_names.contains(name)));
    }
}
