//! What a round established about a log: facts found, and checks that passed.

use std::collections::BTreeSet;

use counterfoil_note::SignedHead;
use counterfoil_verify::Fact as Proof;

use crate::{FindingKind, finding::printable};

/// What a finding is about: a source or observer by its label, or the log as a whole.
pub(crate) type Subject = Option<String>;

/// A fact, before it is a finding.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) kind: FindingKind,
    pub(crate) subject: Subject,
    pub(crate) detail: String,
    pub(crate) heads: Vec<SignedHead>,
    /// What convicts the log before others, or why there is no such thing. None where nothing is to be proved.
    pub(crate) proof: Option<Result<Proof, String>>,
}

/// The outcome of a round's checks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    found: Vec<Fact>,
    passed: BTreeSet<(FindingKind, Subject)>,
}

impl Checks {
    /// A source failed a check.
    pub(crate) fn fail(&mut self, kind: FindingKind, source: &str, detail: impl AsRef<str>) {
        self.fail_with(kind, source, detail, &[]);
    }

    /// A source failed a check, as these heads show.
    pub(crate) fn fail_with(
        &mut self,
        kind: FindingKind,
        source: &str,
        detail: impl AsRef<str>,
        heads: &[&SignedHead],
    ) {
        self.add(Fact {
            kind,
            subject: Some(source.to_owned()),
            detail: printable(detail.as_ref()),
            heads: heads.iter().map(|&head| head.clone()).collect(),
            proof: None,
        });
    }

    /// Something was found. Of two facts of one kind about one subject the first counts.
    pub(crate) fn add(&mut self, fact: Fact) {
        let is_known = |known: &Fact| known.kind == fact.kind && known.subject == fact.subject;
        if !self.found.iter().any(is_known) {
            self.found.push(fact);
        }
    }

    /// A source passed a check.
    pub(crate) fn pass(&mut self, kind: FindingKind, source: &str) {
        self.passed.insert((kind, Some(source.to_owned())));
    }

    /// The log as a whole passed a check.
    pub(crate) fn pass_log(&mut self, kind: FindingKind) {
        self.passed.insert((kind, None));
    }

    /// Moves the facts out of `other` that there is a proof of to keep, or a reason why not: all that convict the log, and entries
    /// that a source altered.
    pub(crate) fn take_proved_of(&mut self, other: &mut Self) {
        for fact in other.found.extract_if(.., |fact| fact.proof.is_some()) {
            self.add(fact);
        }
    }

    pub(crate) fn found(&self) -> &[Fact] {
        &self.found
    }

    /// What was found, and which checks passed and never failed.
    pub(crate) fn into_parts(mut self) -> (Vec<Fact>, BTreeSet<(FindingKind, Subject)>) {
        for fact in &self.found {
            self.passed.remove(&(fact.kind, fact.subject.clone()));
        }
        (self.found, self.passed)
    }
}
