//! Roles, the rights that they grant, and on what.

use std::{collections::BTreeSet, fmt};

use clap::ValueEnum;
use counterfoil_event::SourceId;
use counterfoil_log::LogName;
use serde::{Deserialize, Serialize};

/// What calls may need; [`table`](super::table) says which does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Handing events to a log.
    Submit,
    /// Heads and proofs between them: what a submitter needs to check its receipts, and no more.
    Check,
    /// All of the tree: entries without what they commit to, tiles, proofs for any leaf.
    Read,
    /// Payloads, attributes, evidence and salts, and finding entries by them.
    Audit,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submit => "submit",
            Self::Check => "check",
            Self::Read => "read",
            Self::Audit => "audit",
        })
    }
}

impl Right {
    fn as_verb(self) -> &'static str {
        match self {
            Self::Submit => "submit to",
            Self::Check => "check heads of",
            Self::Read => "read",
            Self::Audit => "audit",
        }
    }
}

/// What a credential is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Submit events as one source, and check the receipts
    Submit,
    /// Read heads, proofs, entries and tiles, but no payloads
    Read,
    /// Read payloads, attributes and evidence too, and search
    Audit,
    /// All of it
    Admin,
}

impl Role {
    fn grants(self, right: Right) -> bool {
        match self {
            Self::Submit => matches!(right, Right::Submit | Right::Check),
            Self::Read => matches!(right, Right::Check | Right::Read),
            Self::Audit => matches!(right, Right::Check | Right::Read | Right::Audit),
            Self::Admin => true,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Audit => "audit",
            Self::Admin => "admin",
        })
    }
}

/// What whoever shows a credential may do, as what source, and in which logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    roles: BTreeSet<Role>,
    source: Option<SourceId>,
    /// `None` for all logs.
    logs: Option<BTreeSet<LogName>>,
}

/// Why there is no such grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidGrant {
    #[error("it has no role: name one or more of submit, read, audit, admin")]
    NoRole,
    #[error("the role submit needs a source: the name that entries will bear")]
    NoSource,
    #[error("a source is for the roles submit and admin only: the others submit nothing")]
    NeedlessSource,
    #[error("the list of logs is empty: leave it out for all logs")]
    NoLog,
}

impl Grant {
    /// A credential that submits has a source; one that can't has none.
    pub(crate) fn new(
        roles: impl IntoIterator<Item = Role>,
        source: Option<SourceId>,
        logs: Option<impl IntoIterator<Item = LogName>>,
    ) -> Result<Self, InvalidGrant> {
        let roles: BTreeSet<_> = roles.into_iter().collect();
        let logs: Option<BTreeSet<_>> = logs.map(|logs| logs.into_iter().collect());
        if roles.is_empty() {
            return Err(InvalidGrant::NoRole);
        }
        if roles.contains(&Role::Submit) && source.is_none() {
            return Err(InvalidGrant::NoSource);
        }
        if source.is_some() && !roles.iter().any(|role| role.grants(Right::Submit)) {
            return Err(InvalidGrant::NeedlessSource);
        }
        if logs.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(InvalidGrant::NoLog);
        }
        Ok(Self { roles, source, logs })
    }

    /// What callers without a credential may do, in all logs.
    pub(crate) fn anonymous(roles: impl IntoIterator<Item = Role>) -> Self {
        Self {
            roles: roles.into_iter().collect(),
            source: counterfoil_event::Submitter::anonymous()
                .source_id()
                .clone()
                .into(),
            logs: None,
        }
    }

    /// The same, in one log at most.
    pub(crate) fn within(mut self, log: &LogName) -> Self {
        let kept = self.reaches(log).then(|| log.clone());
        self.logs = Some(kept.into_iter().collect());
        self
    }

    pub(crate) fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    pub(crate) fn source(&self) -> Option<&SourceId> {
        self.source.as_ref()
    }

    pub(crate) fn logs(&self) -> Option<&BTreeSet<LogName>> {
        self.logs.as_ref()
    }

    fn reaches(&self, log: &LogName) -> bool {
        self.logs.as_ref().is_none_or(|logs| logs.contains(log))
    }

    /// What is missing for `right` on `log`, if anything, to be told to the caller.
    pub(crate) fn lacks(&self, right: Right, log: &LogName) -> Option<String> {
        if !self.reaches(log) {
            return Some(format!("this credential is not for the log {:?}", log.as_str()));
        }
        self.lacks_on(format_args!("the log {:?}", log.as_str()), right)
    }

    /// What is missing for `right` on any log whatever, if anything.
    pub(crate) fn lacks_everywhere(&self, right: Right) -> Option<String> {
        self.lacks_on("a log", right)
    }

    fn lacks_on(&self, what: impl fmt::Display, right: Right) -> Option<String> {
        if !self.roles.iter().any(|role| role.grants(right)) {
            return Some(format!("this needs the right to {} {what}", right.as_verb()));
        }
        (right == Right::Submit && self.source.is_none())
            .then(|| "this credential names no source to submit as".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> LogName {
        name.parse().unwrap()
    }

    fn grant(roles: &[Role], source: Option<&str>, logs: Option<&[&str]>) -> Result<Grant, InvalidGrant> {
        Grant::new(
            roles.iter().copied(),
            source.map(|source| source.parse().unwrap()),
            logs.map(|logs| logs.iter().map(|name| log(name))),
        )
    }

    #[test]
    fn a_role_grants_what_its_row_says() {
        use Right::{Audit, Check, Read, Submit};
        for (role, rights) in [
            (Role::Submit, &[Submit, Check][..]),
            (Role::Read, &[Check, Read]),
            (Role::Audit, &[Check, Read, Audit]),
            (Role::Admin, &[Submit, Check, Read, Audit]),
        ] {
            let source = rights.contains(&Submit).then_some("ci");
            let grant = grant(&[role], source, None).unwrap();
            for right in [Submit, Check, Read, Audit] {
                assert_eq!(
                    grant.lacks(right, &log("main")).is_none(),
                    rights.contains(&right),
                    "{role} {right:?}"
                );
            }
        }
    }

    #[test]
    fn a_grant_reaches_its_logs_only() {
        let all = grant(&[Role::Read], None, None).unwrap();
        let some = grant(&[Role::Read], None, Some(&["main", "b"])).unwrap();
        for (name, reached) in [("main", true), ("b", true), ("c", false)] {
            assert!(all.lacks(Right::Read, &log(name)).is_none());
            assert_eq!(some.lacks(Right::Read, &log(name)).is_none(), reached, "{name}");
        }
        assert!(
            some.clone()
                .within(&log("b"))
                .lacks(Right::Read, &log("main"))
                .is_some()
        );
        assert!(
            some.clone()
                .within(&log("b"))
                .lacks(Right::Read, &log("b"))
                .is_none()
        );
        for name in ["main", "c"] {
            assert!(
                some.clone()
                    .within(&log("c"))
                    .lacks(Right::Read, &log(name))
                    .is_some()
            );
        }
    }

    #[test]
    fn what_is_lacking_everywhere_is_lacking_on_each_log_and_nothing_else_is() {
        use Right::{Audit, Check, Read, Submit};
        for role in [Role::Submit, Role::Read, Role::Audit, Role::Admin] {
            for source in [None, Some("ci")] {
                let Ok(grant) = grant(&[role], source, Some(&["main", "b"])) else {
                    continue;
                };
                for right in [Submit, Check, Read, Audit] {
                    let everywhere = grant.lacks_everywhere(right).is_some();
                    for name in ["main", "b"] {
                        let lacking = grant.lacks(right, &log(name)).is_some();
                        assert_eq!(lacking, everywhere, "{role} {right:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn who_submits_has_a_source_and_nobody_else_has() {
        assert_eq!(grant(&[], None, None), Err(InvalidGrant::NoRole));
        assert_eq!(grant(&[Role::Submit], None, None), Err(InvalidGrant::NoSource));
        assert_eq!(
            grant(&[Role::Audit], Some("ci"), None),
            Err(InvalidGrant::NeedlessSource)
        );
        assert_eq!(grant(&[Role::Read], None, Some(&[])), Err(InvalidGrant::NoLog));
        // An operator's credential need not submit.
        let admin = grant(&[Role::Admin], None, None).unwrap();
        assert!(admin.lacks(Right::Submit, &log("main")).is_some());
        assert!(admin.lacks(Right::Audit, &log("main")).is_none());
    }
}
