//! The heads that the client has seen: each signature checked once, and each head linked to the others in the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use counterfoil_merkle::{Digest, LeafIndex, TreeSize, root_before};
use counterfoil_note::{Cosignature, HeadError, Policy, SignedHead, UnixMillis};

use crate::{Error, Misbehaviour, NotCosigned};

/// How many verified heads are remembered by their bytes, so that the receipts that share one check it once.
const MAX_CACHED_HEADS: usize = 1024;
/// Longer notes are verified each time: those of a log and its witnesses are shorter.
const MAX_CACHED_NOTE_BYTES: usize = 8 << 10;
/// How many heads may wait to be linked. With more, whoever sees one waits until they are.
const MAX_UNLINKED_HEADS: usize = 16 << 10;
/// How many bytes their notes may have together: one by itself may be padded to 64 KiB.
const MAX_UNLINKED_BYTES: usize = 16 << 20;
/// With so many, or so many bytes, one call links them while the others go on.
const MANY_UNLINKED_HEADS: usize = MAX_UNLINKED_HEADS / 16;
const MANY_UNLINKED_BYTES: usize = MAX_UNLINKED_BYTES / 16;

/// Verified heads. *Linked* ones are proved consistent with the largest linked head, the anchor.
pub(crate) struct Heads {
    policy: Policy,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Keyed by the note; bounded, first in first out.
    verified: HashMap<Bytes, Arc<SignedHead>>,
    order: VecDeque<Bytes>,
    /// Signed, but not yet proved consistent with the anchor.
    unlinked: BTreeMap<TreeSize, Known>,
    /// Of the notes of the unlinked heads.
    unlinked_bytes: usize,
    anchor: Option<Known>,
}

#[derive(Clone)]
struct Known {
    head: Arc<SignedHead>,
    worth: Worth,
    /// A tree that this one is proved to begin with.
    beginning: Option<Beginning>,
}

#[derive(Clone, Copy)]
struct Beginning {
    size: TreeSize,
    root: Digest,
}

/// Which of the heads of one tree to keep. Only verified cosignatures count: anyone can add lines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    has_quorum: bool,
    cosignatures: usize,
    /// No larger tree may bear an earlier time, so the later of two holds the log to more.
    time: Option<UnixMillis>,
}

impl Known {
    fn new(policy: &Policy, head: Arc<SignedHead>) -> Self {
        // With a false line none counts here. `cosignatures` says what that is.
        let cosignatures = policy.cosignatures(&head).unwrap_or_default();
        let worth = Worth {
            has_quorum: policy.is_quorum(&cosignatures),
            cosignatures: cosignatures.len(),
            time: head.time(),
        };
        Self {
            head,
            worth,
            beginning: None,
        }
    }

    fn note_len(&self) -> usize {
        self.head.note_bytes().len()
    }
}

impl Heads {
    pub(crate) fn new(policy: Policy, anchor: Option<SignedHead>) -> Self {
        let seen = Seen {
            anchor: anchor.map(|head| Known::new(&policy, Arc::new(head))),
            ..Seen::default()
        };
        Self {
            policy,
            seen: Mutex::new(seen),
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Checks the log's signature of a head, and that no other head of its size is known. Says nothing of witnesses: a false line
    /// must not keep the head from being compared with others.
    pub(crate) fn verify(&self, note: &[u8]) -> Result<Arc<SignedHead>, Error> {
        if let Some(head) = self.seen().verified.get(note) {
            return Ok(Arc::clone(head));
        }
        // Not under the lock: others may check other heads meanwhile.
        let head = self
            .policy
            .verify_head(note)
            .map_err(|error| Misbehaviour::UnverifiedHead {
                error,
                note: note.to_owned(),
            })?;
        let head = Arc::new(head);
        let known = Known::new(&self.policy, Arc::clone(&head));
        self.seen().remember(known)?;
        Ok(head)
    }

    /// The same for the head of a receipt that is just made. No witness has to have seen it, but whoever knows a witness
    /// refuses a receipt with a false line by it: nobody is told that such a one holds.
    pub(crate) fn verify_fresh(&self, note: &[u8]) -> Result<Arc<SignedHead>, Error> {
        let head = self.verify(note)?;
        self.cosignatures(&head)?;
        Ok(head)
    }

    /// Checks that the policy's witnesses cosigned a head that the log presents as published.
    pub(crate) fn check_quorum(&self, head: &SignedHead) -> Result<(), Error> {
        let cosignatures = self.cosignatures(head)?;
        self.policy.check_quorum(&cosignatures).map_err(|problem| {
            let head = head.clone();
            NotCosigned { head, problem }.into()
        })
    }

    /// The cosignatures of a head by the policy's witnesses, unless a line is falsely by one of them.
    fn cosignatures(&self, head: &SignedHead) -> Result<Vec<Cosignature>, Error> {
        self.policy.cosignatures(head).map_err(|error| {
            let note = head.note_bytes().to_owned();
            let error = HeadError::Cosignature(error);
            Misbehaviour::UnverifiedHead { error, note }.into()
        })
    }

    /// The largest head, linked or not.
    pub(crate) fn largest(&self) -> Option<Arc<SignedHead>> {
        let seen = self.seen();
        let unlinked = seen.unlinked.last_key_value().map(|(_, known)| known);
        unlinked
            .into_iter()
            .chain(&seen.anchor)
            .map(|known| &known.head)
            .max_by_key(|head| head.size())
            .cloned()
    }

    pub(crate) fn anchor(&self) -> Option<Arc<SignedHead>> {
        self.seen().anchor.as_ref().map(|known| Arc::clone(&known.head))
    }

    pub(crate) fn unlinked(&self) -> Vec<Arc<SignedHead>> {
        self.seen()
            .unlinked
            .values()
            .map(|known| Arc::clone(&known.head))
            .collect()
    }

    pub(crate) fn has_many_unlinked(&self) -> bool {
        self.seen().has_unlinked(MANY_UNLINKED_HEADS, MANY_UNLINKED_BYTES)
    }

    pub(crate) fn must_link(&self) -> bool {
        self.seen().has_unlinked(MAX_UNLINKED_HEADS, MAX_UNLINKED_BYTES)
    }

    /// Takes note of what the inclusion proof of a verified receipt shows besides: with what the tree of `size` begins before
    /// the receipt's leaf. If that is the tree of the head before, as it is for the first leaf of a batch, no proof of
    /// consistency need be asked for.
    pub(crate) fn learn_beginning(&self, size: TreeSize, leaf: LeafIndex, inclusion_proof: &[Digest]) {
        let mut seen = self.seen();
        let Some(known) = seen.unlinked.get_mut(&size) else {
            return;
        };
        // A batch has several receipts, and the earliest leaf is where it began.
        let before = leaf.size_before();
        if known.beginning.is_none_or(|beginning| before < beginning.size)
            && let Some(root) = root_before(known.head.suite(), leaf, size, inclusion_proof)
        {
            known.beginning = Some(Beginning { size: before, root });
        }
    }

    /// Whether the tree of `newer` is known to begin with that of `older`.
    pub(crate) fn is_beginning(&self, older: &SignedHead, newer: &SignedHead) -> bool {
        self.seen()
            .of_size(newer.size())
            .and_then(|known| known.beginning)
            .is_some_and(|beginning| beginning.size == older.size() && beginning.root == older.root())
    }

    /// Takes note of a head that another process saved: it has to be linked like the others.
    pub(crate) fn add(&self, head: &Arc<SignedHead>) -> Result<(), Error> {
        let known = Known::new(&self.policy, Arc::clone(head));
        self.seen().expect_link(known)
    }

    /// Records that `heads`, in order of size and the anchor among them, are consistent with each other. The largest is
    /// the anchor from now on. If a smaller one was signed after a larger one, that is a rollback, which is found again each time.
    pub(crate) fn linked(&self, heads: &[Arc<SignedHead>]) -> Result<(), Error> {
        let mut seen = self.seen();
        // As they are by now: one of the same tree, signed later, may have come meanwhile.
        let mut linked: Vec<Known> = heads
            .iter()
            .filter_map(|head| seen.of_size(head.size()).cloned())
            .collect();
        expect_order(&linked)?;
        for known in &linked {
            seen.forget_unlinked(known.head.size());
        }
        if let Some(largest) = linked.pop() {
            seen.anchor = Some(largest);
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nothing panics while it holds the lock")
    }
}

impl Seen {
    fn remember(&mut self, known: Known) -> Result<(), Error> {
        let head = Arc::clone(&known.head);
        self.expect_link(known)?;
        if head.note_bytes().len() > MAX_CACHED_NOTE_BYTES {
            return Ok(());
        }
        let note = Bytes::copy_from_slice(head.note_bytes());
        if self.verified.insert(note.clone(), head).is_none() {
            self.order.push_back(note);
        }
        if self.order.len() > MAX_CACHED_HEADS
            && let Some(oldest) = self.order.pop_front()
        {
            self.verified.remove(&oldest);
        }
        Ok(())
    }

    fn expect_link(&mut self, new: Known) -> Result<(), Error> {
        let size = new.head.size();
        // Every tree begins with the empty one.
        if size == TreeSize::ZERO {
            return Ok(());
        }
        match self.of_size(size) {
            Some(known) if known.head.root() != new.head.root() => {
                let (known, presented) = (SignedHead::clone(&known.head), SignedHead::clone(&new.head));
                return Err(Misbehaviour::Fork { known, presented }.into());
            }
            Some(known) if known.worth >= new.worth => {}
            _ => self.keep(new),
        }
        Ok(())
    }

    fn of_size(&self, size: TreeSize) -> Option<&Known> {
        let anchor = self.anchor.as_ref().filter(|anchor| anchor.head.size() == size);
        anchor.or_else(|| self.unlinked.get(&size))
    }

    fn has_unlinked(&self, heads: usize, bytes: usize) -> bool {
        self.unlinked.len() >= heads || self.unlinked_bytes >= bytes
    }

    fn keep(&mut self, mut new: Known) {
        let size = new.head.size();
        new.beginning = self.of_size(size).and_then(|known| known.beginning);
        match &mut self.anchor {
            Some(anchor) if anchor.head.size() == size => *anchor = new,
            _ => {
                self.forget_unlinked(size);
                self.unlinked_bytes += new.note_len();
                self.unlinked.insert(size, new);
            }
        }
    }

    fn forget_unlinked(&mut self, size: TreeSize) {
        if let Some(known) = self.unlinked.remove(&size) {
            self.unlinked_bytes -= known.note_len();
        }
    }
}

/// Of two heads the larger never bears the earlier time (`docs/PROTOCOL.md`, section 8), whichever of them came first.
fn expect_order(heads: &[Known]) -> Result<(), Error> {
    let timed: Vec<_> = heads.iter().filter(|known| known.worth.time.is_some()).collect();
    match timed
        .windows(2)
        .find(|pair| pair[0].worth.time > pair[1].worth.time)
    {
        Some(pair) => {
            let [presented, known] = [&pair[0].head, &pair[1].head].map(|head| SignedHead::clone(head));
            Err(Misbehaviour::Rollback { known, presented }.into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_merkle::{Digest, Frontier, Suite};
    use counterfoil_note::{CosignerSigner, KeyKind, LogSigner, MAX_NOTE_BYTES, SignerKey, UnixSeconds};

    use super::*;

    fn signer() -> LogSigner {
        let name = "log.example/main".parse().unwrap();
        let key = SignerKey::generate(name, KeyKind::TimestampedHead(Suite::Blake3), [1; 32]);
        LogSigner::new(vec![key]).unwrap()
    }

    fn heads(signer: &LogSigner) -> Heads {
        Heads::new(Policy::for_log(signer.keys()[0].verifier_key().clone()), None)
    }

    fn note(signer: &LogSigner, size: u64, time: u64) -> Vec<u8> {
        let root = Digest::from([7; 32]);
        signer.sign_head(TreeSize::new(size).unwrap(), root, UnixMillis::new(time))
    }

    /// The note with a stranger's line that makes it as long as can be.
    fn padded(note: &[u8]) -> Vec<u8> {
        let mut note = note.to_vec();
        let rest = " AAAAAAA=\n";
        let name = MAX_NOTE_BYTES - note.len() - "— ".len() - rest.len();
        note.extend_from_slice(format!("— {}{rest}", "x".repeat(name)).as_bytes());
        note
    }

    #[test]
    fn padded_heads_are_linked_before_they_fill_the_memory() {
        let signer = signer();
        let heads = heads(&signer);
        let most = (MAX_UNLINKED_BYTES / MAX_NOTE_BYTES) as u64;
        for size in 1..=most {
            assert!(!heads.must_link(), "{size}");
            // Of one tree a single head waits: the one signed later.
            heads.verify(&note(&signer, size, 1)).unwrap();
            heads.verify(&padded(&note(&signer, size, 2))).unwrap();
        }
        assert!(heads.must_link());
        heads.linked(&heads.unlinked()).unwrap();
        assert!(!heads.must_link());
        assert_eq!(heads.seen().unlinked_bytes, 0);
        for size in 1..=most {
            heads.verify(&note(&signer, most + size, 3)).unwrap();
        }
        assert!(!heads.must_link());
    }

    /// Whoever passes a head on can add a line.
    #[test]
    fn a_line_that_no_witness_wrote_is_refused_and_hides_no_fork() {
        let signer = signer();
        let log = signer.keys()[0].verifier_key();
        let witness = CosignerSigner::generate("witness.example/w1".parse().unwrap(), [2; 32]);
        let policy = format!("log {log}\nwitness w1 {}\nquorum none\n", witness.verifier_key());
        let heads = Heads::new(Policy::parse(policy.as_bytes()).unwrap(), None);

        let five = note(&signer, 5, 1);
        let line = witness.cosign(&log.verify_head(&five).unwrap(), UnixSeconds::new(1).unwrap());
        let with_line = |note: &[u8]| [note, format!("{line}\n").as_bytes()].concat();
        heads.verify_fresh(&with_line(&five)).unwrap();
        let refused = |note: &[u8]| match heads.verify_fresh(&with_line(note)) {
            Err(Error::Misbehaviour(fact)) => fact.name(),
            other => panic!("{other:?}"),
        };
        // Also when it comes again.
        for _ in 0..2 {
            assert_eq!(refused(&note(&signer, 6, 1)), "unverified_head");
        }
        let other_root = Digest::from([8; 32]);
        let other = signer.sign_head(TreeSize::new(5).unwrap(), other_root, UnixMillis::new(1));
        assert_eq!(refused(&other), "fork");
    }

    #[test]
    fn receipts_show_that_a_tree_grew_from_the_one_before() {
        let signer = signer();
        let tree = |size: u64| {
            let mut tree = Frontier::new(Suite::Blake3);
            for leaf in 0..size {
                tree.append(Suite::Blake3.leaf_hash(&leaf.to_be_bytes()), &mut |_, _| {});
            }
            tree
        };
        let note = |size, time| signer.sign_head(tree(size).size(), tree(size).root(), UnixMillis::new(time));
        let leaf = |index| LeafIndex::new(index).unwrap();
        // Of the fourth leaf in the tree of seven: the third, the first two, and what comes after the fourth.
        let [first_two, third] = <[Digest; 2]>::try_from(tree(3).compact_range()).unwrap();
        let fourth = [third, first_two, Digest::from([1; 32])];

        let heads = heads(&signer);
        let [three, seven, nine] = [3, 7, 9].map(|size| heads.verify(&note(size, 1)).unwrap());
        let other = [third, third, third];
        heads.learn_beginning(nine.size(), leaf(3), &other);
        // A later leaf of the same batch says less.
        heads.learn_beginning(seven.size(), leaf(6), &other[..2]);
        for newer in [&seven, &nine] {
            assert!(!heads.is_beginning(&three, newer));
        }
        heads.learn_beginning(seven.size(), leaf(3), &fourth);
        heads.learn_beginning(seven.size(), leaf(6), &other[..2]);
        assert!(heads.is_beginning(&three, &seven));
        assert!(!heads.is_beginning(&three, &nine));
        assert!(!heads.is_beginning(&seven, &three));
        // The same tree, signed again.
        heads.verify(&note(7, 2)).unwrap();
        assert!(heads.is_beginning(&three, &seven));
    }

    #[test]
    fn of_two_heads_the_larger_is_not_signed_first() {
        let signer = signer();
        for (ten, twelve, in_order) in [(90, 100, true), (100, 100, true), (100, 90, false)] {
            let heads = heads(&signer);
            for (size, time) in [(10, ten), (12, twelve), (15, 120)] {
                heads.verify(&note(&signer, size, time)).unwrap();
            }
            let waiting = heads.unlinked();
            assert_eq!(waiting.len(), 3);
            // It stays so.
            for _ in 0..2 {
                assert_eq!(heads.linked(&waiting).is_ok(), in_order, "{ten} {twelve}");
            }
            assert_eq!(heads.anchor().is_some(), in_order);
        }
    }
}
