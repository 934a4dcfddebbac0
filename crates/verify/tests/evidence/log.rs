//! A log of a few leaves in memory, and a second one under the same keys with another past.

use std::num::NonZeroU64;

use counterfoil_event::{Event, EventParts, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::{
    Digest, Frontier, LeafIndex, NodeId, Suite, TreeSize, consistency_proof, inclusion_proof, root_at,
};
use counterfoil_note::{KeyKind, LogSigner, SignedHead, SignerKey, UnixMillis, VerifierKey};
use counterfoil_verify::{EntryProof, Evidence, Fact, LeafProof};

/// When heads of size 0 are signed; each leaf takes a second.
const START_MS: u64 = 1_795_340_000_000;

pub(crate) struct Log {
    pub(crate) signer: LogSigner,
    frontier: Frontier,
    pub(crate) leaves: Vec<Vec<u8>>,
}

pub(crate) fn index(number: usize) -> LeafIndex {
    LeafIndex::new(number as u64).unwrap()
}

pub(crate) fn size(number: usize) -> TreeSize {
    TreeSize::new(number as u64).unwrap()
}

pub(crate) fn at(milliseconds: u64) -> UnixMillis {
    UnixMillis::new(START_MS + milliseconds)
}

/// An entry as a log of that suite writes it.
pub(crate) fn leaf(suite: Suite, number: usize, time_unix_ns: u64) -> Vec<u8> {
    let event = Event::try_from(EventParts {
        id: number.to_string(),
        source: "s".into(),
        event_type: "t".into(),
        data: format!("payload {number}").into(),
        ..EventParts::default()
    });
    let salt = Salt::from([3; 32]);
    let entry = UnstampedEntry::new(
        suite,
        &event.unwrap(),
        &salt,
        &Submitter::anonymous(),
        &[],
        "default",
    );
    entry.unwrap().stamp(NonZeroU64::new(time_unix_ns).unwrap())
}

impl Log {
    pub(crate) fn new(suite: Suite, leaves: Vec<Vec<u8>>) -> Self {
        Self::named("log.example/main", suite, leaves)
    }

    pub(crate) fn named(origin: &str, suite: Suite, leaves: Vec<Vec<u8>>) -> Self {
        let kinds = KeyKind::of_log(suite).iter().zip(1..);
        let key =
            |(&kind, seed): (&KeyKind, u8)| SignerKey::generate(origin.parse().unwrap(), kind, [seed; 32]);
        let mut frontier = Frontier::new(suite);
        for leaf in &leaves {
            frontier.append(suite.leaf_hash(leaf), &mut |_, _| {});
        }
        Self {
            signer: LogSigner::new(kinds.map(key).collect()).unwrap(),
            frontier,
            leaves,
        }
    }

    /// Entries 0 to `count`, a nanosecond apart.
    pub(crate) fn of_entries(suite: Suite, count: usize) -> Self {
        Self::new(suite, (0..count).map(|n| leaf(suite, n, n as u64 + 1)).collect())
    }

    /// The same with another entry at one place.
    pub(crate) fn rewritten(&self, place: usize) -> Self {
        let mut leaves = self.leaves.clone();
        leaves[place] = leaf(self.suite(), 1_000 + place, place as u64 + 1);
        Self::new(self.suite(), leaves)
    }

    pub(crate) fn suite(&self) -> Suite {
        self.frontier.suite()
    }

    /// The keys, that for timestamped heads first.
    pub(crate) fn keys(&self) -> Vec<VerifierKey> {
        self.signer
            .keys()
            .iter()
            .map(|key| key.verifier_key().clone())
            .collect()
    }

    fn read(&self, node: NodeId) -> Result<Digest, &'static str> {
        self.frontier.node(node).ok_or("a node that is not held")
    }

    pub(crate) fn root(&self, leaves: usize) -> Digest {
        root_at(self.suite(), size(leaves), |node| self.read(node)).unwrap()
    }

    /// A head of that many leaves, signed when the last of them came, as an honest log does.
    pub(crate) fn note(&self, leaves: usize) -> Vec<u8> {
        self.note_at(leaves, at(1_000 * leaves as u64))
    }

    pub(crate) fn note_at(&self, leaves: usize, time: UnixMillis) -> Vec<u8> {
        self.signer.sign_head(size(leaves), self.root(leaves), time)
    }

    pub(crate) fn head(&self, leaves: usize) -> SignedHead {
        self.keys()[0].verify_head(&self.note(leaves)).unwrap()
    }

    pub(crate) fn inclusion(&self, leaf: usize, leaves: usize) -> Vec<Digest> {
        inclusion_proof(self.suite(), index(leaf), size(leaves), |node| self.read(node)).unwrap()
    }

    pub(crate) fn consistency(&self, first: usize, second: usize) -> Vec<Digest> {
        consistency_proof(self.suite(), size(first), size(second), |node| self.read(node)).unwrap()
    }

    pub(crate) fn leaf_hash(&self, leaf: usize) -> Digest {
        self.suite().leaf_hash(&self.leaves[leaf])
    }

    pub(crate) fn leaf_proof(&self, leaf: usize, leaves: usize) -> LeafProof {
        LeafProof {
            head: self.note(leaves),
            leaf_hash: self.leaf_hash(leaf),
            inclusion_proof: self.inclusion(leaf, leaves),
        }
    }

    pub(crate) fn entry_proof(&self, leaf: usize, leaves: usize) -> EntryProof {
        EntryProof {
            index: index(leaf),
            entry: self.leaves[leaf].clone(),
            inclusion_proof: self.inclusion(leaf, leaves),
        }
    }
}

pub(crate) fn evidence(fact: Fact) -> Evidence {
    Evidence {
        observed: at(3_600_000),
        fact,
    }
}
