//! Who calls, and what they may do.

use std::sync::Arc;

use counterfoil_event::{Authentication, Submitter};
use counterfoil_log::{Log, LogName};
use jiff::Timestamp;

use super::{
    Denied, Grant, Right,
    dsse::{Signers, Submitting},
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

pub(super) enum Credential {
    /// None was sent.
    None(Grant),
    Token(TokenHolder),
    Certificate(Certified),
    Job(JobIdentity),
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

    /// The same, for a call that asks for what entries commit to, or finds them by it, if `private`.
    pub(crate) fn asking(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// Checks that the caller may make this call on this log, now: a token may have been revoked and a certificate have expired
    /// since the call began.
    pub(crate) fn require(&self, log: &LogName) -> Result<(), Denied> {
        let right = self
            .needs
            .right(self.private)
            .ok_or_else(|| Denied::Forbidden("nobody may make this call".to_owned()))?;
        let now = Timestamp::now();
        match &*self.credential {
            // A credential may help, which is what this answer says.
            Credential::None(grant) => match grant.lacks(right, log) {
                Some(lacking) => Err(Denied::Unauthenticated(format!(
                    "{lacking}, and no credential was sent"
                ))),
                None => Ok(()),
            },
            Credential::Token(holder) => allow(&holder.record(now)?.grant, right, log),
            Credential::Certificate(certified) => allow(certified.grant(now)?, right, log),
            Credential::Job(identity) => allow(identity.grant(now)?, right, log),
        }
    }

    /// Whether no credential was sent.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(&*self.credential, Credential::None(_))
    }

    /// The log that the credential is for, if it is for one alone.
    pub(crate) fn only_log(&self) -> Option<LogName> {
        let record;
        let now = Timestamp::now();
        let grant = match &*self.credential {
            Credential::None(grant) => grant,
            Credential::Token(holder) => {
                record = holder.record(now).ok()?;
                &record.grant
            }
            Credential::Certificate(certified) => certified.grant(now).ok()?,
            Credential::Job(identity) => identity.grant(now).ok()?,
        };
        let mut logs = grant.logs()?.iter();
        logs.next().filter(|_| logs.next().is_none()).cloned()
    }

    /// Lets the caller hand events to `log` in this one call, and says in whose name they are recorded.
    ///
    /// A job's token is spent by this, and the log has its issuer's keys on record afterwards. A call that goes on for long
    /// asks [`require`](Self::require) again in between.
    pub(crate) async fn submitter(&self, log: &Log) -> Result<Submitting, Denied> {
        self.require(log.name())?;
        let sender = self.sender(log).await?;
        Ok(Submitting::sender_or_signer(sender, self.signers.clone()))
    }

    async fn sender(&self, log: &Log) -> Result<Submitter, Denied> {
        let (grant, authentication, evidence) = match &*self.credential {
            Credential::None(_) => return Ok(Submitter::anonymous()),
            Credential::Token(holder) => {
                let record = holder.record(Timestamp::now())?;
                return submitter(&record.grant, Authentication::Token, holder.evidence());
            }
            Credential::Certificate(certified) => (
                certified.grant(Timestamp::now())?,
                Authentication::Mtls,
                certified.evidence(),
            ),
            Credential::Job(identity) => {
                let evidence = identity.spend(log).await?;
                (identity.grant(Timestamp::now())?, Authentication::Oidc, evidence)
            }
        };
        submitter(grant, authentication, evidence)
    }
}

fn allow(grant: &Grant, right: Right, log: &LogName) -> Result<(), Denied> {
    grant
        .lacks(right, log)
        .map_or(Ok(()), |lacking| Err(Denied::Forbidden(lacking)))
}

fn submitter(grant: &Grant, authentication: Authentication, evidence: String) -> Result<Submitter, Denied> {
    let source = grant.source().cloned();
    let source = source.ok_or_else(|| Denied::Forbidden("this credential names no source".to_owned()))?;
    Submitter::new(source, authentication, evidence).map_err(|error| Denied::Forbidden(error.to_string()))
}
