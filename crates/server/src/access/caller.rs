//! Who calls, and what they may do.

use std::sync::Arc;

use axum::http::Extensions;
use counterfoil_event::{Authentication, SourceId, Submitter};
use counterfoil_log::{Log, LogName};
use jiff::Timestamp;

use super::{
    Denied, Grant, Right,
    dsse::{Signers, Submitting},
    granted::Granted,
    mtls::Certified,
    oidc::JobIdentity,
    table::Needs,
    tokens::TokenHolder,
};

/// Whoever sent a request, and what they need for it. The layer puts one into the extensions of each that needs a right.
#[derive(Clone)]
pub(crate) struct Caller {
    credential: Arc<Credential>,
    needs: Needs,
    /// Whether the call asks for what entries commit to, or finds them by it.
    private: bool,
    signers: Signers,
}

#[expect(clippy::large_enum_variant, reason = "each lies behind an Arc, alone")]
pub(super) enum Credential {
    /// None was sent.
    None(Granted),
    Token(TokenHolder),
    Certificate(Certified),
    Job(JobIdentity),
    /// One was sent that is not good, or not now.
    Wrong(Denied),
}

impl Caller {
    /// For a call whose row of the table has `needs`.
    pub(super) fn new(credential: Credential, needs: Needs, signers: Signers) -> Self {
        Self {
            credential: Arc::new(credential),
            needs,
            private: false,
            signers,
        }
    }

    /// Whoever sent the request with these extensions.
    ///
    /// # Panics
    /// On a path that has no row in the table of what calls need.
    pub(crate) fn of(request: &Extensions) -> Self {
        let caller = request.get().cloned();
        caller.expect("the layer that finds out who calls is around every service, and each method has a row")
    }

    /// The same, for a call that asks for what entries commit to, or finds them by it, if `private`.
    pub(crate) fn asking(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// Checks that the caller may make this call on this log, now: since the call began a token may have been revoked, a certificate
    /// have expired, a rule have gone.
    pub(crate) fn require(&self, log: &LogName) -> Result<(), Denied> {
        self.allowed(log).map(drop)
    }

    /// Checks that the caller may make such a call on some log, now. On which, and whether it asks for what is private, the call's
    /// message says.
    pub(super) fn require_somewhere(&self) -> Result<(), Denied> {
        self.granted(Grant::lacks_everywhere).map(drop)
    }

    /// What lets the caller make this call on this log.
    fn allowed(&self, log: &LogName) -> Result<Arc<Grant>, Denied> {
        self.granted(|grant, right| grant.lacks(right, log))
    }

    /// What the caller may, if nothing is lacking for the right that the call needs.
    fn granted(&self, lacks: impl FnOnce(&Grant, Right) -> Option<String>) -> Result<Arc<Grant>, Denied> {
        let right = self
            .needs
            .right(self.private)
            .ok_or_else(|| Denied::Forbidden("nobody may make this call".to_owned()))?;
        let grant = self.credential.grant(Timestamp::now())?;
        if let Credential::Job(identity) = &*self.credential {
            identity.require_unspent(right)?;
        }
        match lacks(&grant, right) {
            None => Ok(grant),
            // A credential may help, which is what this answer says.
            Some(lacking) if self.is_anonymous() => Err(Denied::Unauthenticated(format!(
                "{lacking}, and no credential was sent"
            ))),
            Some(lacking) => Err(Denied::Forbidden(lacking)),
        }
    }

    /// Whether no credential was sent.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(&*self.credential, Credential::None(_))
    }

    /// The log that the credential is for, if it is for one alone.
    pub(crate) fn only_log(&self) -> Option<LogName> {
        let grant = self.credential.grant(Timestamp::now()).ok()?;
        let mut logs = grant.logs()?.iter();
        logs.next().filter(|_| logs.next().is_none()).cloned()
    }

    /// What [`Submitting::search_bytes`] will say.
    pub(crate) fn search_bytes(&self, log: &LogName, media_type: &str, data: &[u8]) -> usize {
        self.signers.search_bytes(log, media_type, data)
    }

    /// The source that events bear which the caller hands to `log`. Nothing is spent by this.
    pub(crate) fn source(&self, log: &LogName) -> Result<SourceId, Denied> {
        let grant = self.allowed(log)?;
        source(&grant)
    }

    /// Lets the caller hand events to `log` in this one call, and says in whose name they are recorded.
    ///
    /// A job's token is spent by this, and the log has its issuer's keys on record by then: whoever has all events of a call asks
    /// [`Load::admit`](crate::intake::Load::admit) before. A call that goes on for long [renews](Self::renew) it in between.
    pub(crate) async fn submitter(&self, log: &Log) -> Result<Submitting, Denied> {
        self.require(log.name())?;
        let (authentication, evidence) = match &*self.credential {
            Credential::None(_) => (Authentication::None, String::new()),
            Credential::Token(holder) => (Authentication::Token, holder.evidence()),
            Credential::Certificate(certified) => (Authentication::Mtls, certified.evidence()),
            Credential::Job(identity) => (Authentication::Oidc, identity.spend(log).await?),
            Credential::Wrong(denied) => return Err(denied.clone()),
        };
        // Spending may have taken a while.
        let grant = self.allowed(log.name())?;
        let sender = submitter(&grant, authentication, evidence)?;
        Ok(Submitting::sender_or_signer(sender, self.signers.clone()))
    }

    /// Checks that the caller may still hand events to `log`. From now on they bear the source that is the caller's now.
    pub(crate) fn renew(&self, submitting: &mut Submitting, log: &LogName) -> Result<(), Denied> {
        let grant = self.allowed(log)?;
        let sender = submitting.sender_mut();
        if grant.source() != Some(sender.source_id()) {
            *sender = submitter(&grant, sender.authentication(), sender.evidence().to_owned())?;
        }
        Ok(())
    }
}

impl Credential {
    /// What it is good for now.
    fn grant(&self, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        match self {
            Self::None(granted) => granted.now(|config| Ok(config.anonymous.clone())),
            Self::Token(holder) => holder.grant(now),
            Self::Certificate(certified) => certified.grant(now),
            Self::Job(identity) => identity.grant(now),
            Self::Wrong(denied) => Err(denied.clone()),
        }
    }
}

fn source(grant: &Grant) -> Result<SourceId, Denied> {
    let source = grant.source().cloned();
    source.ok_or_else(|| Denied::Forbidden("this credential names no source".to_owned()))
}

fn submitter(grant: &Grant, authentication: Authentication, evidence: String) -> Result<Submitter, Denied> {
    Submitter::new(source(grant)?, authentication, evidence)
        .map_err(|error| Denied::Forbidden(error.to_string()))
}
