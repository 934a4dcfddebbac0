//! The closed list of facts, what each means and what to do about it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A named fact. The names are stable: they are metric labels, and members of what webhooks receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The log signed two trees of one size with different roots.
    Fork,
    /// The log signed two trees of which a proof shows that the larger does not begin with the smaller.
    Inconsistency,
    /// The log signed a smaller tree after a larger one.
    Rollback,
    /// A leaf under a signed head is no entry.
    InvalidEntry,
    /// An entry bears an earlier time than one before it.
    DecreasingTime,
    /// Entries that a source serves do not hash to the head that the log signed.
    EntryMismatch,
    /// A leaf under a signed head is of a form that this version does not know.
    UnknownEntry,
    /// A source serves, as newest, a head that the log's key did not sign.
    BadSignature,
    /// The newest head lacks the cosignatures that the policy asks for.
    NoQuorum,
    /// Between two signed heads no source gives a proof that holds.
    UnprovenConsistency,
    /// A source shows a smaller tree than it showed before, and no time says that the log signed it later.
    ReplayedHead,
    /// The newest head of a source was signed too long ago.
    StaleHead,
    /// A head is signed with a time that is yet to come.
    FutureHead,
    /// What a witness cosigned last was signed too long ago.
    WitnessBehind,
    /// Entries under a signed head are not served.
    Withheld,
    /// A source answers with what can't be an answer.
    InvalidAnswer,
    /// A source can't be reached.
    Unreachable,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// An honest log never signs this, whoever serves it. The finding stays open: no later answer makes it undone.
    Misbehaviour,
    /// Verification could not go on as it should. The finding resolves when it can.
    Trouble,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Fork,
        Self::Inconsistency,
        Self::Rollback,
        Self::InvalidEntry,
        Self::DecreasingTime,
        Self::EntryMismatch,
        Self::UnknownEntry,
        Self::BadSignature,
        Self::NoQuorum,
        Self::UnprovenConsistency,
        Self::ReplayedHead,
        Self::StaleHead,
        Self::FutureHead,
        Self::WitnessBehind,
        Self::Withheld,
        Self::InvalidAnswer,
        Self::Unreachable,
    ];

    /// The stable name: `fork`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Inconsistency => "inconsistency",
            Self::Rollback => "rollback",
            Self::InvalidEntry => "invalid_entry",
            Self::DecreasingTime => "decreasing_time",
            Self::EntryMismatch => "entry_mismatch",
            Self::UnknownEntry => "unknown_entry",
            Self::BadSignature => "bad_signature",
            Self::NoQuorum => "no_quorum",
            Self::UnprovenConsistency => "unproven_consistency",
            Self::ReplayedHead => "replayed_head",
            Self::StaleHead => "stale_head",
            Self::FutureHead => "future_head",
            Self::WitnessBehind => "witness_behind",
            Self::Withheld => "withheld",
            Self::InvalidAnswer => "invalid_answer",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether an honest log, its mirrors or caches could ever cause it.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Fork | Self::Inconsistency | Self::Rollback | Self::InvalidEntry | Self::DecreasingTime => {
                Severity::Misbehaviour
            }
            Self::EntryMismatch
            | Self::UnknownEntry
            | Self::BadSignature
            | Self::NoQuorum
            | Self::UnprovenConsistency
            | Self::ReplayedHead
            | Self::StaleHead
            | Self::FutureHead
            | Self::WitnessBehind
            | Self::Withheld
            | Self::InvalidAnswer
            | Self::Unreachable => Severity::Trouble,
        }
    }

    /// What the fact means, in one sentence.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Fork => {
                "The log signed two different trees of the same size: it shows different histories."
            }
            Self::Inconsistency => {
                "The log signed two trees, and the larger one does not begin with the smaller: history was rewritten."
            }
            Self::Rollback => {
                "The log signed a smaller tree than it had signed before: entries were dropped."
            }
            Self::InvalidEntry => "The log signed a leaf that is no valid entry.",
            Self::DecreasingTime => {
                "The log recorded an entry with an earlier time than the entry before it."
            }
            Self::EntryMismatch => "Entries that the source serves are not those that the log signed.",
            Self::UnknownEntry => {
                "The log signed an entry of a form that this version of the monitor does not know."
            }
            Self::BadSignature => {
                "What is served as the newest head is not signed by the log, or a cosignature on it is false."
            }
            Self::NoQuorum => {
                "The newest head is signed by the log but lacks the cosignatures that the policy asks for."
            }
            Self::UnprovenConsistency => {
                "The log signed two trees, and nobody gives a proof that one begins with the other."
            }
            Self::ReplayedHead => "The source shows a smaller tree than it showed before.",
            Self::StaleHead => {
                "The newest head was signed too long ago: the log stopped, or news of it is held back."
            }
            Self::FutureHead => {
                "The head is signed with a time that is yet to come, so its age says nothing."
            }
            Self::WitnessBehind => "The newest head that the witness shows was signed too long ago.",
            Self::Withheld => "Entries that a signed head covers are not served, so nobody can check them.",
            Self::InvalidAnswer => "The source answers with something that can't be an answer.",
            Self::Unreachable => "The source can't be reached.",
        }
    }

    /// What to do about it, in one or two sentences.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Fork | Self::Inconsistency | Self::Rollback => {
                "Stop relying on the log. Keep the evidence, show it to its operator, witnesses and users."
            }
            Self::InvalidEntry | Self::DecreasingTime => {
                "The log's software or operator did what the protocol forbids. Ask the operator; read the entry with care."
            }
            Self::EntryMismatch => {
                "Compare with other sources. If all agree, the log altered its entries: stop relying on it. If one differs, stop using that one."
            }
            Self::UnknownEntry => "Update the monitor. It then reads the entries again, from this one on.",
            Self::BadSignature => {
                "Check that URL and policy belong together. If they do, someone stands between, or the source is not the log."
            }
            Self::NoQuorum => {
                "Ask which witnesses are down, and check that the policy names the witnesses that the log uses."
            }
            Self::UnprovenConsistency => {
                "Treat the larger head as unverified. If it lasts, treat it as a fork and show both heads to others."
            }
            Self::ReplayedHead => {
                "Look for a cache or a restored backup in front of the source; compare with other sources."
            }
            Self::StaleHead => {
                "Ask whether the log runs; compare with its mirrors and witnesses, which may know more."
            }
            Self::FutureHead => "Compare this machine's clock and the log's with a reliable one.",
            Self::WitnessBehind => "Ask whether the witness runs and whether the log still sends it heads.",
            Self::Withheld => "Ask the operator for the entries; add a mirror as a source.",
            Self::InvalidAnswer => {
                "Check that the URL is that of the log and, if the answer is 401 or 403 or speaks of a credential, the source's `token_file`, which is read at the start. Then its operator has to look."
            }
            Self::Unreachable => "Check the network and the URL; add a second source.",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FindingKind {
    type Err = UnknownFinding;

    fn from_str(name: &str) -> Result<Self, UnknownFinding> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or(UnknownFinding(()))
    }
}

/// A name that is no finding's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no finding of that name")]
pub struct UnknownFinding(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        for kind in FindingKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!("nothing".parse::<FindingKind>(), Err(UnknownFinding(())));
    }
}
