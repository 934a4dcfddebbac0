//! Open findings: each opens once, and resolves once if it can.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Change, Event, Finding, FindingKind, Severity,
    checks::{Checks, Fact, Subject},
    finding::Head,
};

/// The findings of one log, kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// What tells these findings from those of a state that was removed; none in a state that older versions made.
    epoch: Option<String>,
    open: BTreeMap<(FindingKind, Subject), Finding>,
    /// How often each was opened. It outlives the finding, so that each occurrence has a name of its own.
    opened: BTreeMap<(FindingKind, Subject), u64>,
    /// What is saved and may not be told yet, in order.
    pub(crate) untold: Vec<Event>,
}

/// The ledger as it is saved.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SavedLedger {
    #[serde(default)]
    epoch: Option<String>,
    open: Vec<Finding>,
    opened: Vec<(FindingKind, Subject, u64)>,
    #[serde(default)]
    untold: Vec<(Change, Finding)>,
}

impl Ledger {
    /// One that has found nothing, under a name of its own: 16 random bytes in hex.
    pub(crate) fn new() -> Self {
        Self {
            epoch: Some(format!("{:032x}", fastrand::u128(..))),
            ..Self::default()
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values()
    }

    pub(crate) fn is_open(&self, kind: FindingKind, subject: Option<&str>) -> bool {
        self.opened_unix_ms(kind, subject).is_some()
    }

    /// Since when a finding is open; none if it is not.
    pub(crate) fn opened_unix_ms(&self, kind: FindingKind, subject: Option<&str>) -> Option<u64> {
        let finding = self.open.get(&(kind, subject.map(str::to_owned)))?;
        Some(finding.opened_unix_ms)
    }

    /// Has trouble that opened at a time that is yet to come open now.
    pub(crate) fn not_after(&mut self, now_unix_ms: u64) {
        let findings = self.open.values_mut();
        for finding in findings.filter(|finding| finding.severity() == Severity::Trouble) {
            finding.opened_unix_ms = finding.opened_unix_ms.min(now_unix_ms);
        }
    }

    /// Takes in a round: what is new, with its fact where it opened, in the order in which it was found.
    pub(crate) fn apply(
        &mut self,
        checks: Checks,
        log: &str,
        origin: &str,
        now_unix_ms: u64,
    ) -> Vec<(Event, Option<Fact>)> {
        let (found, passed) = checks.into_parts();
        let mut events = Vec::new();
        for fact in found {
            let key = (fact.kind, fact.subject.clone());
            if self.open.contains_key(&key) {
                continue;
            }
            let occurrence = self.opened.entry(key.clone()).or_default();
            let finding = Finding {
                kind: fact.kind,
                log: log.to_owned(),
                origin: origin.to_owned(),
                source: fact.subject.clone(),
                detail: fact.detail.clone(),
                heads: fact.heads.iter().map(Head::from).collect(),
                evidence: None,
                unproven: None,
                epoch: self.epoch.clone(),
                occurrence: *occurrence,
                opened_unix_ms: now_unix_ms,
                resolved_unix_ms: None,
            };
            *occurrence += 1;
            self.open.insert(key, finding.clone());
            let change = Change::Opened;
            events.push((Event { change, finding }, Some(fact)));
        }
        let resolved = self.resolve(&passed, now_unix_ms);
        events.extend(resolved.into_iter().map(|event| (event, None)));
        events
    }

    /// Notes what the finding of an event became when its evidence was written.
    pub(crate) fn replace(&mut self, finding: &Finding) {
        let key = (finding.kind, finding.source.clone());
        if let Some(open) = self.open.get_mut(&key) {
            open.clone_from(finding);
        }
    }

    fn resolve(&mut self, passed: &BTreeSet<(FindingKind, Subject)>, now_unix_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for key in passed {
            // What the log signed is not undone by its doing better afterwards.
            if key.0.severity() == Severity::Misbehaviour {
                continue;
            }
            if let Some(mut finding) = self.open.remove(key) {
                finding.resolved_unix_ms = Some(now_unix_ms);
                let change = Change::Resolved;
                events.push(Event { change, finding });
            }
        }
        events
    }

    pub(crate) fn to_saved(&self) -> SavedLedger {
        let opened = self.opened.iter();
        SavedLedger {
            epoch: self.epoch.clone(),
            open: self.open.values().cloned().collect(),
            opened: opened
                .map(|((kind, subject), count)| (*kind, subject.clone(), *count))
                .collect(),
            untold: self
                .untold
                .iter()
                .map(|event| (event.change, event.finding.clone()))
                .collect(),
        }
    }

    pub(crate) fn from_saved(saved: SavedLedger) -> Self {
        let open = saved.open.into_iter();
        let opened = saved.opened.into_iter();
        Self {
            epoch: saved.epoch,
            open: open
                .map(|finding| ((finding.kind, finding.source.clone()), finding))
                .collect(),
            opened: opened
                .map(|(kind, subject, count)| ((kind, subject), count))
                .collect(),
            untold: saved
                .untold
                .into_iter()
                .map(|(change, finding)| Event { change, finding })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(ledger: &mut Ledger, now: u64, fill: impl FnOnce(&mut Checks)) -> Vec<Event> {
        let mut checks = Checks::default();
        fill(&mut checks);
        let events = ledger.apply(checks, "main", "log.example/main", now);
        events.into_iter().map(|(event, _)| event).collect()
    }

    fn restarted(ledger: &Ledger) -> Ledger {
        let saved = serde_json::to_string(&ledger.to_saved()).unwrap();
        Ledger::from_saved(serde_json::from_str(&saved).unwrap())
    }

    #[test]
    fn a_finding_opens_once_resolves_once_and_has_another_name_the_next_time() {
        let mut ledger = Ledger::default();
        let fail = |checks: &mut Checks| checks.fail(FindingKind::Unreachable, "a", "gone");
        let pass = |checks: &mut Checks| checks.pass(FindingKind::Unreachable, "a");

        let first = round(&mut ledger, 1000, fail);
        assert_eq!(first.len(), 1);
        assert_eq!(round(&mut ledger, 2000, fail), []);
        let mut ledger = restarted(&ledger);
        assert_eq!(round(&mut ledger, 3000, fail), []);
        // Neither failed nor passed: nothing is known.
        assert_eq!(round(&mut ledger, 4000, |_| {}), []);

        let over = round(&mut ledger, 5000, pass);
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].change, Change::Resolved);
        assert_eq!(over[0].finding.id(), first[0].finding.id());
        assert_eq!(over[0].to_json()["lasted_ms"], 4000);
        assert_eq!(round(&mut ledger, 6000, pass), []);

        let again = round(&mut restarted(&ledger), 7000, fail);
        assert_ne!(again[0].finding.id(), first[0].finding.id());
    }

    #[test]
    fn trouble_that_opened_later_than_now_opened_now() {
        let mut ledger = Ledger::default();
        round(&mut ledger, 5000, |checks| {
            checks.fail(FindingKind::Fork, "a", "two trees");
            checks.fail(FindingKind::Unreachable, "a", "gone");
        });
        let opened = |ledger: &Ledger, kind| ledger.opened_unix_ms(kind, Some("a"));
        for (now, unreachable) in [(6000, 5000), (2000, 2000), (3000, 2000)] {
            ledger.not_after(now);
            assert_eq!(opened(&ledger, FindingKind::Unreachable), Some(unreachable));
            assert_eq!(opened(&ledger, FindingKind::Fork), Some(5000));
        }
    }

    #[test]
    fn misbehaviour_stays_and_a_check_that_failed_did_not_pass() {
        let mut ledger = Ledger::default();
        round(&mut ledger, 1, |checks| {
            checks.fail(FindingKind::Fork, "a", "two trees")
        });
        assert_eq!(
            round(&mut ledger, 2, |checks| checks.pass(FindingKind::Fork, "a")),
            []
        );
        assert!(ledger.is_open(FindingKind::Fork, Some("a")));

        let both = round(&mut ledger, 3, |checks| {
            checks.pass(FindingKind::Unreachable, "a");
            checks.fail(FindingKind::Unreachable, "a", "later in the round");
        });
        assert_eq!(both.len(), 1);
        assert!(ledger.is_open(FindingKind::Unreachable, Some("a")));
    }
}
