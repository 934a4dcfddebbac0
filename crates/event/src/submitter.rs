//! Who handed an event to the log, as far as the log knows.

use std::{fmt, str::FromStr};

use crate::{
    limits::MAX_EVIDENCE_BYTES,
    validate::{self, OWN_SOURCE, Problem},
};

/// How a log authenticated the submitter of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Not at all: anyone who could reach its port.
    None,
    /// The log itself wrote the entry.
    Log,
    /// By an API token of the log's.
    Token,
    /// By a secret shared with the sender: a signature over the body (HMAC), or the secret itself where that is all a
    /// provider has. It convinces the log's operator, not a third party, who could not tell the two apart.
    Hmac,
    /// By a client certificate of TLS.
    Mtls,
    /// By an OpenID Connect token of a job's platform.
    Oidc,
    /// By a DSSE signature over the payload, which anyone with the key can check again.
    Dsse,
}

/// Each with its number in the `Entry` message and its name.
const AUTHENTICATIONS: [(Authentication, i32, &str); 7] = [
    (Authentication::None, 1, "none"),
    (Authentication::Log, 2, "log"),
    (Authentication::Token, 3, "token"),
    (Authentication::Hmac, 4, "hmac"),
    (Authentication::Mtls, 5, "mtls"),
    (Authentication::Oidc, 6, "oidc"),
    (Authentication::Dsse, 7, "dsse"),
];

impl Authentication {
    /// Its name for people and for JSON, such as `oidc`.
    pub fn as_str(self) -> &'static str {
        self.row().2
    }

    pub(crate) fn number(self) -> i32 {
        self.row().1
    }

    pub(crate) fn from_number(number: i32) -> Option<Self> {
        AUTHENTICATIONS
            .into_iter()
            .find_map(|(authentication, its, _)| (its == number).then_some(authentication))
    }

    fn row(self) -> (Self, i32, &'static str) {
        AUTHENTICATIONS
            .into_iter()
            .find(|(authentication, ..)| *authentication == self)
            .expect("the table has each of them")
    }
}

/// The log's own name for a channel that events come by: 1 to [`MAX_LABEL_BYTES`](crate::limits::MAX_LABEL_BYTES) of `a`–`z`,
/// `0`–`9`, `.`, `_` and `-`, the first a letter or digit, and not `log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(String);

impl SourceId {
    /// As it stands in entries.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceId {
    type Err = Problem;

    fn from_str(name: &str) -> Result<Self, Problem> {
        validate::label(name)?;
        if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(Problem::ForbiddenCharacter { at_byte: 0 });
        }
        if name == OWN_SOURCE {
            return Err(Problem::Reserved);
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whoever handed an event to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitter {
    source_id: SourceId,
    authentication: Authentication,
    evidence: String,
}

/// Evidence longer than an entry's annotations have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the evidence is {actual_bytes} bytes long, more than {MAX_EVIDENCE_BYTES}")]
pub struct EvidenceTooLong {
    /// How long.
    pub actual_bytes: usize,
}

impl Submitter {
    /// A submitter whom the log asked for a name. `evidence` is what was shown, as JSON, without anything that could be
    /// used again.
    pub fn new(
        source_id: SourceId,
        authentication: Authentication,
        evidence: String,
    ) -> Result<Self, EvidenceTooLong> {
        if evidence.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceTooLong {
                actual_bytes: evidence.len(),
            });
        }
        Ok(Self {
            source_id,
            authentication,
            evidence,
        })
    }

    /// Whoever can reach the port of a log that asks nobody for a name. Their source id is `api`.
    pub fn anonymous() -> Self {
        Self::without_evidence("api", Authentication::None)
    }

    /// The log, writing about itself. Its source id is `log`.
    pub fn log() -> Self {
        Self::without_evidence(OWN_SOURCE, Authentication::Log)
    }

    fn without_evidence(source_id: &str, authentication: Authentication) -> Self {
        Self {
            source_id: SourceId(source_id.to_owned()),
            authentication,
            evidence: String::new(),
        }
    }

    /// The channel that the event came by.
    pub fn source_id(&self) -> &SourceId {
        &self.source_id
    }

    /// How the log knows who it is.
    pub fn authentication(&self) -> Authentication {
        self.authentication
    }

    /// What was shown, as JSON. Empty if nothing was asked for.
    pub fn evidence(&self) -> &str {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authentications_have_numbers_and_names_of_their_own() {
        for (place, (authentication, number, name)) in AUTHENTICATIONS.into_iter().enumerate() {
            assert_eq!(Authentication::from_number(number), Some(authentication));
            assert_eq!((authentication.number(), authentication.as_str()), (number, name));
            let others = &AUTHENTICATIONS[..place];
            assert!(
                others
                    .iter()
                    .all(|(_, its, other)| *its != number && *other != name)
            );
        }
        assert_eq!(Authentication::from_number(0), None);
        assert_eq!(Authentication::from_number(8), None);
    }

    #[test]
    fn a_source_id_is_a_plain_file_name_and_not_the_log_s_own() {
        for good in ["a", "github", "0.x_y-z", &"a".repeat(64)] {
            assert_eq!(good.parse::<SourceId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "-x",
            "_x",
            "A",
            "a/b",
            "a b",
            "é",
            "log",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn evidence_has_a_limit() {
        let submitter = |bytes| {
            let source_id = "ci".parse().unwrap();
            Submitter::new(source_id, Authentication::Oidc, "x".repeat(bytes))
        };
        assert!(submitter(MAX_EVIDENCE_BYTES).is_ok());
        assert_eq!(
            submitter(MAX_EVIDENCE_BYTES + 1),
            Err(EvidenceTooLong {
                actual_bytes: MAX_EVIDENCE_BYTES + 1
            })
        );
    }
}
