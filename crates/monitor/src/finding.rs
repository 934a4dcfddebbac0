//! Findings: facts about a log or a source, as they are kept and reported.

use std::fmt;

use counterfoil_event::utc_millis;
use counterfoil_note::SignedHead;
use serde::{Deserialize, Serialize};

use crate::{FindingKind, Severity};

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
    /// Random, made with the log's state: after starting over, findings have other names. None in a state that older
    /// versions made.
    #[serde(default)]
    pub epoch: Option<String>,
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
        hasher.update(self.epoch.as_deref().unwrap_or_default().as_bytes());
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
            epoch: _,
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
        let when = utc_millis(at);
        write!(f, "{when} {change} {} log={}", finding.kind, finding.log)?;
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

/// Longest piece of text by others that goes into a finding, in characters.
const MAX_FOREIGN_CHARS: usize = 300;

/// Text that others had a say in, safe to print: bounded, and without anything that a terminal would act upon.
pub(crate) fn printable(text: &str) -> String {
    let cut: String = text.chars().take(MAX_FOREIGN_CHARS).collect();
    counterfoil_event::printable(&cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_cut_and_defused() {
        assert_eq!(
            printable("a\x1b[2J\nb\u{202e}c"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c"
        );
        assert_eq!(printable(&"x".repeat(5000)).len(), MAX_FOREIGN_CHARS);
    }
}
