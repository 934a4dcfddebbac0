//! What a monitor finds: a closed list of named facts, what each means and what to do about it.

use std::{fmt, str::FromStr};

use counterfoil_note::SignedHead;
use serde::{Deserialize, Serialize};

/// A named fact. The names are stable: they are metric labels, and members of what webhooks receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The log signed two trees of one size with different roots.
    Fork,
    /// The log signed two trees of which a proof shows that the larger does not begin with the smaller.
    Inconsistency,
    /// The log signed a smaller tree after a larger one, or shows one that need not be older.
    Rollback,
    /// Entries that a source serves do not hash to the head that the log signed.
    EntryMismatch,
    /// A leaf under a signed head is no entry.
    InvalidEntry,
    /// An entry bears an earlier time than the one before it.
    DecreasingTime,
    /// A source serves, as newest, a head that the log's key did not sign.
    BadSignature,
    /// The newest head lacks the cosignatures that the policy asks for.
    NoQuorum,
    /// Between two signed heads no source gives a proof that holds.
    UnprovenConsistency,
    /// A source shows an older head than it showed before.
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
    /// An honest log never does this. The finding stays open: no later answer makes it undone.
    Misbehaviour,
    /// Verification could not go on as it should. The finding resolves when it can.
    Trouble,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Fork,
        Self::Inconsistency,
        Self::Rollback,
        Self::EntryMismatch,
        Self::InvalidEntry,
        Self::DecreasingTime,
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
            Self::EntryMismatch => "entry_mismatch",
            Self::InvalidEntry => "invalid_entry",
            Self::DecreasingTime => "decreasing_time",
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

    /// Whether an honest log could ever cause it.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Fork
            | Self::Inconsistency
            | Self::Rollback
            | Self::EntryMismatch
            | Self::InvalidEntry
            | Self::DecreasingTime => Severity::Misbehaviour,
            Self::BadSignature
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
            Self::Rollback => "The log presents a smaller tree than it signed before: entries were dropped.",
            Self::EntryMismatch => "Entries that are served are not those that the log signed.",
            Self::InvalidEntry => "The log signed a leaf that is no valid entry.",
            Self::DecreasingTime => {
                "The log recorded an entry with an earlier time than the entry before it."
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
            Self::ReplayedHead => "The source shows an older head than it showed before.",
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
            Self::EntryMismatch => {
                "Compare with other sources. If all agree, the log altered its entries: stop relying on it. If one differs, stop using that one."
            }
            Self::InvalidEntry | Self::DecreasingTime => {
                "The log's software or operator did what the protocol forbids. Ask the operator; read the entry with care."
            }
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
            Self::InvalidAnswer => "Check that the URL is that of the log; then its operator has to look.",
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

/// A finding as it is reported and kept: open until `resolved_unix_ms` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which fact.
    pub kind: FindingKind,
    /// The log's name in the configuration.
    pub log: String,
    /// The log's origin.
    pub origin: String,
    /// The source or observer that it is about; none if it is about the log as a whole.
    pub source: Option<String>,
    /// What was seen, in a sentence. Others may have chosen some of the words; it holds no control characters.
    pub detail: String,
    /// The heads that show it, the one known first before the one that contradicts it.
    pub heads: Vec<Head>,
    /// The evidence file, for misbehaviour that can be proved to others.
    pub evidence: Option<String>,
    /// Where neither heads nor evidence prove it to others, why.
    pub unproven: Option<String>,
    /// How often this was opened before, for this log and source. With them it names this occurrence.
    pub occurrence: u64,
    /// When it was first seen, by this machine's clock.
    pub opened_unix_ms: u64,
    /// When it was over.
    pub resolved_unix_ms: Option<u64>,
}

/// A signed head in a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many leaves.
    pub tree_size: u64,
    /// The root, in hex.
    pub root_hash: String,
    /// When the log signed it; none under a key that signs no time.
    pub time_unix_ms: Option<u64>,
    /// The signed note.
    pub checkpoint: String,
}

impl From<&SignedHead> for Head {
    fn from(head: &SignedHead) -> Self {
        Self {
            tree_size: head.size().get(),
            root_hash: head.root().to_string(),
            time_unix_ms: head.time().map(|time| time.get()),
            // Notes are UTF-8, or they don't verify.
            checkpoint: String::from_utf8_lossy(head.note_bytes()).into_owned(),
        }
    }
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.kind.severity()
    }

    /// The same for the same occurrence, also after a crash between finding it and saving it: 32 hex digits.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let source = self.source.as_deref().unwrap_or_default();
        for part in [&self.log, &self.origin, self.kind.name(), source] {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part.as_bytes());
        }
        hasher.update(&self.occurrence.to_le_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// A finding opened or resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Opened,
    /// It is over.
    Resolved,
}

/// What is told once when a finding opens, and once when it resolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which of the two.
    pub change: Change,
    /// The finding, as it is after the change.
    pub finding: Finding,
}

impl Event {
    /// Names this event: of two with the same id, one is a repetition.
    pub fn id(&self) -> String {
        let change = match self.change {
            Change::Opened => "opened",
            Change::Resolved => "resolved",
        };
        format!("{}-{change}", self.finding.id())
    }

    /// The event as JSON, as webhooks and `--json` give it.
    pub fn to_json(&self) -> serde_json::Value {
        let Finding {
            kind,
            log,
            origin,
            source,
            detail,
            heads,
            evidence,
            unproven,
            occurrence,
            opened_unix_ms,
            resolved_unix_ms,
        } = &self.finding;
        serde_json::json!({
            "type": match self.change {
                Change::Opened => "finding.opened",
                Change::Resolved => "finding.resolved",
            },
            "id": self.finding.id(),
            "finding": kind,
            "severity": kind.severity(),
            "log": log,
            "origin": origin,
            "source": source,
            "detail": detail,
            "explanation": kind.explanation(),
            "advice": kind.advice(),
            "heads": heads,
            "evidence": evidence,
            "unproven": unproven,
            "occurrence": occurrence,
            "opened_unix_ms": opened_unix_ms,
            "resolved_unix_ms": resolved_unix_ms,
            "lasted_ms": resolved_unix_ms.map(|resolved| resolved.saturating_sub(*opened_unix_ms)),
        })
    }
}

/// One line for people.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finding = &self.finding;
        let (change, at) = match (self.change, finding.resolved_unix_ms) {
            (Change::Resolved, Some(resolved)) => ("RESOLVED", resolved),
            _ => ("FINDING", finding.opened_unix_ms),
        };
        write!(f, "{} {change} {} log={}", utc(at), finding.kind, finding.log)?;
        if let Some(source) = &finding.source {
            write!(f, " source={source}")?;
        }
        match self.change {
            Change::Opened => {
                write!(f, ": {} {}", finding.detail, finding.kind.advice())?;
                if let Some(evidence) = &finding.evidence {
                    write!(f, " evidence={evidence}")?;
                }
                match &finding.unproven {
                    Some(why) => write!(f, " No proof for others: {why}."),
                    None => Ok(()),
                }
            }
            Change::Resolved => {
                let lasted_s = at.saturating_sub(finding.opened_unix_ms) / 1000;
                write!(f, ": lasted {lasted_s} s")
            }
        }
    }
}

/// A moment in UTC, to the millisecond.
pub(crate) fn utc(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{unix_ms} ms after 1970"), |time| format!("{time:.3}"))
}

/// Longest piece of text by others that goes into a finding, in characters.
const MAX_FOREIGN_CHARS: usize = 300;

/// Text that others had a say in, safe to print: bounded, and without anything that a terminal would act upon.
pub(crate) fn printable(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .take(MAX_FOREIGN_CHARS)
        .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
        .collect()
}

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

    #[test]
    fn what_others_wrote_is_cut_and_defused() {
        assert_eq!(
            printable("a\x1b[2J\nb\u{202e}c"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c"
        );
        assert_eq!(printable(&"x".repeat(5000)).len(), MAX_FOREIGN_CHARS);
    }
}
