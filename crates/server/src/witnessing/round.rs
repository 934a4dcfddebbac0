//! One candidate and who has cosigned it: when to show it, and when to let go of it. No I/O and no clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use counterfoil_log::{Candidate, WithoutQuorum};
use counterfoil_note::{NoteSignature, Policy, SignedHead};
use counterfoil_witness::client::Cosigned;

/// How long a head that has its quorum waits for the witnesses that are usually there: their cosignatures are worth having,
/// and not worth much of a delay.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// A candidate that all witnesses are asked about.
pub(super) struct Round {
    /// Counted from 1, to tell late answers from others.
    pub(super) number: u64,
    pub(super) candidate: Candidate,
    /// The same, verified.
    pub(super) head: SignedHead,
}

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    No,
    WithoutQuorum,
    WithQuorum,
}

/// What the witnesses said of one candidate.
pub(super) struct Tally {
    round: Arc<Round>,
    /// By place of the witness in the policy.
    cosigned: Vec<Option<Cosigned>>,
    /// When no more is waited for, quorum or not.
    deadline: Instant,
    /// When a quorum was first there.
    quorum_since: Option<Instant>,
    shown: Shown,
}

impl Tally {
    pub(super) fn new(
        round: Arc<Round>,
        witnesses: usize,
        policy: &Policy,
        now: Instant,
        timeout: Duration,
    ) -> Self {
        let mut tally = Self {
            round,
            cosigned: vec![None; witnesses],
            deadline: now + timeout,
            quorum_since: None,
            shown: Shown::No,
        };
        // `quorum none` is met from the start.
        tally.look_for_quorum(policy, now);
        tally
    }

    pub(super) fn round(&self) -> &Arc<Round> {
        &self.round
    }

    /// Counts a cosignature of this candidate.
    pub(super) fn count(&mut self, witness: usize, cosigned: Cosigned, policy: &Policy, now: Instant) {
        self.cosigned[witness] = Some(cosigned);
        self.look_for_quorum(policy, now);
    }

    fn look_for_quorum(&mut self, policy: &Policy, now: Instant) {
        let cosignatures: Vec<_> = self
            .cosigned
            .iter()
            .flatten()
            .map(|cosigned| cosigned.cosignature.clone())
            .collect();
        if self.quorum_since.is_none() && policy.is_quorum(&cosignatures) {
            self.quorum_since = Some(now);
        }
    }

    pub(super) fn has_quorum(&self) -> bool {
        self.quorum_since.is_some()
    }

    /// The lines to put under the head.
    pub(super) fn lines(&self) -> Vec<NoteSignature> {
        let cosigned = self.cosigned.iter().flatten();
        cosigned.map(|cosigned| cosigned.line.clone()).collect()
    }

    /// What to show now, if that is more than was shown before. `is_up` says which witnesses answered when last asked.
    pub(super) fn due(&self, is_up: &[bool], without_quorum: WithoutQuorum, now: Instant) -> Option<Shown> {
        let next = match self.quorum_since {
            Some(since) if now >= since + GRACE || self.all_answered(is_up) => Shown::WithQuorum,
            None if without_quorum == WithoutQuorum::Publish && self.is_settled(is_up, now) => {
                Shown::WithoutQuorum
            }
            _ => return None,
        };
        (next > self.shown).then_some(next)
    }

    pub(super) fn set_shown(&mut self, shown: Shown) {
        self.shown = shown;
    }

    /// Whether a newer candidate may take the place of this one: it is done, or what it lacks does not come in time. Without the
    /// second, a witness slower than the interval between heads would never see one through.
    pub(super) fn may_go(&self, is_up: &[bool], now: Instant) -> bool {
        match self.quorum_since {
            Some(_) => self.shown == Shown::WithQuorum,
            None => self.is_settled(is_up, now),
        }
    }

    /// When time alone changes what is due.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let at = match self.quorum_since {
            Some(since) => since + GRACE,
            None => self.deadline,
        };
        (at > now).then_some(at)
    }

    /// No quorum so far, and nothing to wait for.
    pub(super) fn is_settled(&self, is_up: &[bool], now: Instant) -> bool {
        now >= self.deadline || self.all_answered(is_up)
    }

    fn all_answered(&self, is_up: &[bool]) -> bool {
        self.cosigned
            .iter()
            .zip(is_up)
            .all(|(cosigned, is_up)| cosigned.is_some() || !is_up)
    }
}
