//! Comparing heads: all that a log ever signed are of one history, whoever shows them.

use std::collections::HashSet;

use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::SignedHead;
use counterfoil_verify::{Fact as Proof, Inconsistency};

use crate::{
    FindingKind,
    checks::{Checks, Fact},
    heads::{Now, Shown},
    prove::{Provers, Unproved},
    source::{Source, SourceError},
    state::State,
};

/// How many heads are remembered as linked, so that they are proved once.
const MAX_REMEMBERED: usize = 4096;
/// How many heads of one source or observer wait for a proof: the oldest, and in the last place the newest, for which the one before
/// it is let go.
const MAX_UNLINKED: usize = 4;

/// Heads that are proved consistent with the anchor.
#[derive(Default)]
pub(crate) struct Linked(HashSet<(TreeSize, Digest)>);

impl Linked {
    pub(crate) fn contains(&self, head: &SignedHead) -> bool {
        head.size() == TreeSize::ZERO || self.0.contains(&(head.size(), head.root()))
    }

    pub(crate) fn insert(&mut self, head: &SignedHead) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert((head.size(), head.root()));
    }
}

/// A head to compare.
struct Candidate {
    /// Who showed it, now or before.
    label: String,
    /// The place of that among the sources, if it is one.
    source: Option<usize>,
    head: SignedHead,
}

impl Candidate {
    fn is(&self, label: &str, head: &SignedHead) -> bool {
        self.label == label && (self.head.size(), self.head.root()) == (head.size(), head.root())
    }
}

/// What comparing a head with the anchor came to.
enum Compared {
    /// Both are of one history.
    Linked,
    /// They are not, and that is found.
    Contradicts,
    /// Nobody proves either.
    Unproven,
}

/// Proves each head consistent with the anchor, which moves on to each larger one. The first head ever is taken on
/// trust: there is nothing to compare with. What nobody proves is kept and compared again in each round, also when who
/// showed it has long shown others.
pub(crate) async fn link(
    shown: &[Shown],
    sources: &[Source],
    state: &mut State,
    linked: &mut Linked,
    now: Now,
    checks: &mut Checks,
) {
    let mut provers = Provers::new(sources);
    let candidates = candidates(shown, sources, state);
    let mut unproven = Vec::new();
    for (place, one) in candidates.iter().enumerate() {
        if linked.contains(&one.head) {
            forget(state, one);
            continue;
        }
        let Some(anchor) = state.anchor.clone() else {
            linked.insert(&one.head);
            move_anchor(state, &one.head, now.unix_ms);
            continue;
        };
        match compare(one, &anchor, shown, &mut provers, state, now, checks).await {
            Compared::Linked => {
                forget(state, one);
                linked.insert(&anchor);
                linked.insert(&one.head);
                if one.head.size() > anchor.size() {
                    move_anchor(state, &one.head, now.unix_ms);
                }
            }
            Compared::Contradicts => forget(state, one),
            Compared::Unproven => {
                unproven.push(one);
                // What is not shown waits already, unless a newer one took its place.
                if place < shown.len() {
                    keep(state, one);
                }
            }
        }
    }
    for one in &unproven {
        check_fork(one, &unproven, &candidates, state, checks);
    }
    for one in &candidates {
        if !state.unlinked.iter().any(|(label, _)| *label == one.label) {
            checks.pass(FindingKind::UnprovenConsistency, &one.label);
        }
    }
}

/// What is shown, and then what still waits for a proof: a head that is linked now may bring it.
fn candidates(shown: &[Shown], sources: &[Source], state: &State) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = shown
        .iter()
        .map(|one| Candidate {
            label: one.label.clone(),
            source: one.source,
            head: one.head.clone(),
        })
        .collect();
    for (label, head) in &state.unlinked {
        if !candidates.iter().any(|one| one.is(label, head)) {
            candidates.push(Candidate {
                label: label.clone(),
                source: sources.iter().position(|source| source.label() == label),
                head: head.clone(),
            });
        }
    }
    candidates
}

/// Has a head wait for a proof.
fn keep(state: &mut State, one: &Candidate) {
    if state.unlinked.iter().any(|(label, head)| one.is(label, head)) {
        return;
    }
    let is_own = |(label, _): &(String, SignedHead)| *label == one.label;
    if state.unlinked.iter().filter(|waiting| is_own(waiting)).count() == MAX_UNLINKED
        && let Some(last) = state.unlinked.iter().rposition(is_own)
    {
        state.unlinked.remove(last);
    }
    state.unlinked.push((one.label.clone(), one.head.clone()));
}

/// Forgets a head that waited: what it is, is known.
fn forget(state: &mut State, one: &Candidate) {
    state.unlinked.retain(|(label, head)| !one.is(label, head));
}

fn move_anchor(state: &mut State, head: &SignedHead, now_unix_ms: u64) {
    state.anchor = Some(head.clone());
    state.anchor_seen_unix_ms = now_unix_ms;
}

/// Whether anyone showed another tree of the same size. That convicts the log without a proof, also where it is not known which of
/// the two is of the anchor's history. Of two that nobody proves, the same one is found to differ in every round.
fn check_fork(
    one: &Candidate,
    unproven: &[&Candidate],
    candidates: &[Candidate],
    state: &State,
    checks: &mut Checks,
) {
    let (size, root) = (one.head.size(), one.head.root());
    let differs = |known: &&SignedHead| known.size() == size && known.root() != root;
    let finds_this = |known: &SignedHead| {
        known.root() > root && unproven.iter().any(|other| other.head.root() == known.root())
    };
    let mut known = candidates
        .iter()
        .map(|other| &other.head)
        .chain(state.shown.values())
        .filter(differs);
    if let Some(known) = known.find(|known| !finds_this(known)) {
        found_fork(one, known, checks);
    }
}

/// Whether the head is of the anchor's history. If not, or if nobody proves it, that is found.
async fn compare(
    one: &Candidate,
    anchor: &SignedHead,
    shown: &[Shown],
    provers: &mut Provers<'_>,
    state: &State,
    now: Now,
    checks: &mut Checks,
) -> Compared {
    if one.head.size() == anchor.size() {
        if one.head.root() == anchor.root() {
            return Compared::Linked;
        }
        found_fork(one, anchor, checks);
        return Compared::Contradicts;
    }
    let (older, newer) = match one.head.size() < anchor.size() {
        true => (&one.head, anchor),
        false => (anchor, &one.head),
    };
    // Who knows the newer tree: who showed this head first of all, then whoever showed one as large.
    let knows = |place: &usize| {
        shown
            .iter()
            .any(|other| other.source == Some(*place) && other.head.size() >= newer.size())
    };
    let mut places: Vec<usize> = provers.places().filter(knows).collect();
    places.sort_by_key(|&place| Some(place) != one.source);

    // A head that waits counts from when it was shown first: it may be signed anew again and again, for one witness alone. One that
    // does not says nothing yet, for witnesses cosign a head before it is published.
    let first_shown = match one.head.size() < anchor.size() {
        true => Some(anchor),
        false => {
            let waits = state.unlinked.iter().find(|(label, head)| one.is(label, head));
            waits.map(|(_, head)| head)
        }
    };
    if places.is_empty() && first_shown.is_some_and(|head| now.is_past(head)) {
        let detail = format!(
            "No source shows a tree as large as size {}: entries may be hidden from those who ask the log.",
            newer.size()
        );
        checks.fail_with(
            FindingKind::UnprovenConsistency,
            &one.label,
            detail,
            &[older, newer],
        );
        return Compared::Unproven;
    }
    let mut problem = None;
    for place in places {
        match provers.beginning(place, older.size(), newer).await {
            Ok(beginning) if beginning.root == older.root() => return Compared::Linked,
            Ok(beginning) => {
                let proof = Proof::Inconsistency(Inconsistency {
                    older: older.note_bytes().to_vec(),
                    newer: newer.note_bytes().to_vec(),
                    seed: beginning.seed,
                    siblings: beginning.siblings,
                });
                found_inconsistency(one, older, newer, beginning.root, proof, checks);
                return Compared::Contradicts;
            }
            Err(Unproved::Source(SourceError::Unreachable(why))) => {
                let label = provers.source(place).label();
                checks.fail(
                    FindingKind::Unreachable,
                    label,
                    format!("Asked for a proof: {why}."),
                );
                // At first that is nothing to hold against the heads. An answer that proves nothing says more than none.
                if problem.is_none() && state.is_silent(label, now) {
                    problem = Some(Unproved::Source(SourceError::Unreachable(why)));
                }
            }
            Err(unproved) => problem = Some(unproved),
        }
    }
    if let Some(problem) = problem {
        let detail = format!("From size {} to size {}: {problem}.", older.size(), newer.size());
        checks.fail_with(
            FindingKind::UnprovenConsistency,
            &one.label,
            detail,
            &[older, newer],
        );
    }
    Compared::Unproven
}

fn found_fork(one: &Candidate, known: &SignedHead, checks: &mut Checks) {
    checks.add(Fact {
        kind: FindingKind::Fork,
        subject: Some(one.label.clone()),
        detail: format!(
            "Of size {} it shows the root {}, and elsewhere or before the root was {}.",
            known.size(),
            one.head.root(),
            known.root()
        ),
        heads: vec![known.clone(), one.head.clone()],
        proof: Some(Ok(Proof::Fork {
            heads: [known.note_bytes().to_vec(), one.head.note_bytes().to_vec()],
        })),
    });
}

fn found_inconsistency(
    one: &Candidate,
    older: &SignedHead,
    newer: &SignedHead,
    beginning: Digest,
    proof: Proof,
    checks: &mut Checks,
) {
    checks.add(Fact {
        kind: FindingKind::Inconsistency,
        subject: Some(one.label.clone()),
        detail: format!(
            "The first {} leaves of the tree of size {} have the root {beginning}, and the log signed {} for that size.",
            older.size(),
            newer.size(),
            older.root()
        ),
        heads: vec![older.clone(), newer.clone()],
        proof: Some(Ok(proof)),
    });
}
