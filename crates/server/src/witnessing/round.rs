//! One candidate and who has cosigned it: when to show it, and when to let go of it. No I/O and no clock.

use std::time::{Duration, Instant};

use counterfoil_log::WithoutQuorum;
use counterfoil_note::{NoteSignature, Policy};
use counterfoil_witness::client::Cosigned;

/// How long a head that has its quorum waits for the witnesses that are usually there: their cosignatures are worth having,
/// and not worth much of a delay.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    No,
    WithoutQuorum,
    WithQuorum,
}

/// What the witnesses said of one candidate.
pub(super) struct Tally {
    /// By place of the witness in the policy.
    cosigned: Vec<Option<Cosigned>>,
    /// Likewise: whether it has seen a larger tree, and so never cosigns this one.
    passed_over: Vec<bool>,
    /// When no more is waited for, quorum or not.
    deadline: Instant,
    /// When a quorum was first there.
    quorum_since: Option<Instant>,
    shown: Shown,
}

impl Tally {
    pub(super) fn new(witnesses: usize, policy: &Policy, now: Instant, timeout: Duration) -> Self {
        let mut tally = Self {
            cosigned: vec![None; witnesses],
            passed_over: vec![false; witnesses],
            deadline: now + timeout,
            quorum_since: None,
            shown: Shown::No,
        };
        // `quorum none` is met from the start.
        tally.look_for_quorum(policy, now);
        tally
    }

    /// Counts a cosignature of this candidate.
    pub(super) fn count(&mut self, witness: usize, cosigned: Cosigned, policy: &Policy, now: Instant) {
        self.cosigned[witness] = Some(cosigned);
        self.look_for_quorum(policy, now);
    }

    /// Waits no more for a witness that has seen a larger tree.
    pub(super) fn pass_over(&mut self, witness: usize) {
        self.passed_over[witness] = true;
    }

    /// Whether a witness has seen a larger tree.
    pub(super) fn is_overtaken(&self) -> bool {
        self.passed_over.contains(&true)
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
        let mut answers = self.cosigned.iter().zip(&self.passed_over).zip(is_up);
        answers.all(|((cosigned, passed_over), is_up)| cosigned.is_some() || *passed_over || !is_up)
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_merkle::{Digest, Suite, TreeSize};
    use counterfoil_note::{CosignerSigner, KeyKind, SignedHead, SignerKey, UnixMillis, UnixSeconds};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const ALL_UP: [bool; 3] = [true; 3];

    fn head() -> SignedHead {
        let kind = KeyKind::TimestampedHead(Suite::Blake3);
        let key = SignerKey::generate("log.example/test".parse().unwrap(), kind, [7; 32]);
        let signer = counterfoil_note::LogSigner::new(vec![key]).unwrap();
        let note = signer.sign_head(
            TreeSize::new(5).unwrap(),
            Digest::from([1; 32]),
            UnixMillis::new(1_800_000_000_000),
        );
        signer.keys()[0].verifier_key().verify_head(&note).unwrap()
    }

    fn signer(number: u8) -> CosignerSigner {
        let name = format!("witness.example/w{number}").parse().unwrap();
        CosignerSigner::generate(name, [number + 1; 32])
    }

    fn cosigned(number: u8) -> Cosigned {
        let (signer, head) = (signer(number), head());
        let line = signer.cosign(&head, UnixSeconds::new(1_800_000_000).unwrap());
        let with_line = head.with_signatures([line.clone()]).unwrap();
        let cosignature = signer
            .verifier_key()
            .verify_cosignature(&with_line)
            .unwrap()
            .unwrap();
        Cosigned { line, cosignature }
    }

    fn policy(quorum: &str) -> Policy {
        let lines: String = (0..3)
            .map(|number| format!("witness w{number} {}\n", signer(number).verifier_key()))
            .collect();
        Policy::parse(format!("{lines}group two 2 w0 w1 w2\nquorum {quorum}\n").as_bytes()).unwrap()
    }

    struct Case {
        policy: Policy,
        start: Instant,
        tally: Tally,
    }

    impl Case {
        fn new(quorum: &str) -> Self {
            let (policy, start) = (policy(quorum), Instant::now());
            let tally = Tally::new(3, &policy, start, TIMEOUT);
            Self { policy, start, tally }
        }

        fn count(&mut self, number: u8, after: Duration) {
            let now = self.start + after;
            self.tally
                .count(number.into(), cosigned(number), &self.policy, now);
        }

        fn due(&self, is_up: [bool; 3], without_quorum: WithoutQuorum, after: Duration) -> Option<Shown> {
            self.tally.due(&is_up, without_quorum, self.start + after)
        }
    }

    #[test]
    fn a_quorum_is_shown_after_the_grace_or_once_nobody_is_missing() {
        let (soon, later) = (Duration::from_millis(10), Duration::from_millis(300));
        let mut case = Case::new("two");
        case.count(0, soon);
        assert_eq!(case.due(ALL_UP, WithoutQuorum::Hold, later), None);
        case.count(1, soon);
        assert_eq!(case.due(ALL_UP, WithoutQuorum::Hold, soon), None);
        let wakes_at = case.tally.wakes_at(case.start + soon);
        assert_eq!(wakes_at, Some(case.start + soon + GRACE));
        assert_eq!(
            case.due(ALL_UP, WithoutQuorum::Hold, soon + GRACE),
            Some(Shown::WithQuorum)
        );
        // The third is known to be down: nobody waits for it.
        assert_eq!(
            case.due([true, true, false], WithoutQuorum::Hold, soon),
            Some(Shown::WithQuorum)
        );
        // A newer candidate waits until this one is shown.
        assert!(!case.tally.may_go(&ALL_UP, case.start + 2 * TIMEOUT));
        case.count(2, soon);
        assert_eq!(
            case.due(ALL_UP, WithoutQuorum::Publish, soon),
            Some(Shown::WithQuorum)
        );
        case.tally.set_shown(Shown::WithQuorum);
        assert_eq!(case.due(ALL_UP, WithoutQuorum::Publish, later), None, "once");
        assert!(case.tally.may_go(&ALL_UP, case.start + soon));
        assert_eq!(case.tally.lines().len(), 3);
    }

    #[test]
    fn without_a_quorum_it_is_held_or_shown_when_there_is_nothing_to_wait_for() {
        for (is_up, after) in [
            (ALL_UP, TIMEOUT),
            ([true, false, false], Duration::from_millis(1)),
        ] {
            let mut case = Case::new("two");
            case.count(0, Duration::ZERO);
            let just_before = TIMEOUT - Duration::from_millis(1);
            assert_eq!(case.due(ALL_UP, WithoutQuorum::Publish, just_before), None);
            assert!(!case.tally.may_go(&ALL_UP, case.start + just_before));
            assert_eq!(case.due(is_up, WithoutQuorum::Hold, after), None);
            assert!(case.tally.may_go(&is_up, case.start + after));
            assert_eq!(
                case.due(is_up, WithoutQuorum::Publish, after),
                Some(Shown::WithoutQuorum)
            );
            case.tally.set_shown(Shown::WithoutQuorum);
            assert_eq!(case.due(is_up, WithoutQuorum::Publish, after), None);
            // The quorum comes after all: shown again, with more lines.
            case.count(2, TIMEOUT);
            assert_eq!(
                case.due(ALL_UP, WithoutQuorum::Publish, TIMEOUT + GRACE),
                Some(Shown::WithQuorum)
            );
        }
    }

    #[test]
    fn a_witness_that_saw_a_larger_tree_is_waited_for_no_more() {
        let soon = Duration::from_millis(10);
        let mut case = Case::new("two");
        case.tally.pass_over(0);
        assert!(case.tally.is_overtaken());
        case.count(1, soon);
        assert!(
            !case.tally.may_go(&ALL_UP, case.start + soon),
            "the third may answer"
        );
        case.tally.pass_over(2);
        assert!(case.tally.may_go(&ALL_UP, case.start + soon));
        assert_eq!(case.due(ALL_UP, WithoutQuorum::Hold, soon), None);

        let mut case = Case::new("two");
        case.tally.pass_over(0);
        case.count(1, soon);
        case.count(2, soon);
        assert_eq!(
            case.due(ALL_UP, WithoutQuorum::Hold, soon),
            Some(Shown::WithQuorum)
        );
    }

    #[test]
    fn a_quorum_of_none_waits_the_grace_for_who_answers() {
        let case = Case::new("none");
        assert_eq!(case.due(ALL_UP, WithoutQuorum::Hold, Duration::ZERO), None);
        for (is_up, after) in [(ALL_UP, GRACE), ([false; 3], Duration::ZERO)] {
            assert_eq!(
                case.due(is_up, WithoutQuorum::Hold, after),
                Some(Shown::WithQuorum)
            );
        }
    }
}
