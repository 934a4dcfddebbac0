use std::convert::Infallible;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, NodeId, Suite, TreeSize, consistency_proof, root_at};
use counterfoil_note::{KeyKind, LogSigner, Origin, SignerKey, UnixMillis, VerifierKey};

/// A log in memory, honest up to where it forks, and what it would ask of a witness.
pub struct MemoryLog {
    signer: LogSigner,
    leaves: Vec<Digest>,
}

impl MemoryLog {
    /// A log of 64 leaves with keys made from `seed`.
    pub fn new(origin: &str, suite: Suite, seed: u8) -> Self {
        let origin: Origin = origin.parse().unwrap();
        let keys = KeyKind::of_log(suite)
            .iter()
            .zip(seed..)
            .map(|(kind, seed)| SignerKey::generate(origin.clone(), *kind, [seed; 32]))
            .collect();
        Self {
            signer: LogSigner::new(keys).unwrap(),
            leaves: (0..64_u8).map(|leaf| suite.leaf_hash(&[leaf])).collect(),
        }
    }

    /// The same log as it shows itself to others: different from leaf `at` on.
    pub fn forked(origin: &str, suite: Suite, seed: u8, at: usize) -> Self {
        let mut log = Self::new(origin, suite, seed);
        for (leaf, index) in log.leaves[at..].iter_mut().zip(0_u8..) {
            *leaf = suite.leaf_hash(&[b'f', index]);
        }
        log
    }

    /// Its origin.
    pub fn origin(&self) -> &str {
        self.signer.origin().as_str()
    }

    /// Its hash suite.
    pub fn suite(&self) -> Suite {
        self.signer.suite()
    }

    /// What verifies its heads; the first is the one that clients use.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.signer.keys().iter().map(SignerKey::verifier_key)
    }

    fn node(&self, node: NodeId) -> Digest {
        if node.level == 0 {
            return self.leaves[usize::try_from(node.index).unwrap()];
        }
        let child = |side| {
            self.node(NodeId {
                level: node.level - 1,
                index: 2 * node.index + side,
            })
        };
        self.suite().node_hash(&child(0), &child(1))
    }

    /// The root of the tree of a size.
    pub fn root(&self, size: u64) -> Digest {
        root_at(self.suite(), TreeSize::new(size).unwrap(), |node| {
            Ok::<_, Infallible>(self.node(node))
        })
        .unwrap()
    }

    /// A signed head.
    pub fn head(&self, size: u64) -> String {
        self.sign(size, self.root(size))
    }

    /// A head with any root.
    pub fn sign(&self, size: u64, root: Digest) -> String {
        let time = UnixMillis::new(1_795_000_000_000);
        String::from_utf8(self.signer.sign_head(TreeSize::new(size).unwrap(), root, time)).unwrap()
    }

    /// The consistency proof from one size to another; empty from size zero.
    pub fn proof(&self, old: u64, new: u64) -> Vec<Digest> {
        if old == 0 {
            return vec![];
        }
        let (old, new) = (TreeSize::new(old).unwrap(), TreeSize::new(new).unwrap());
        consistency_proof(self.suite(), old, new, |node| {
            Ok::<_, Infallible>(self.node(node))
        })
        .unwrap()
    }

    /// The body of the request to cosign the head of size `new`.
    pub fn request(&self, old: u64, new: u64) -> String {
        add_checkpoint(old, &self.proof(old, new), &self.head(new))
    }
}

/// The body of an `add-checkpoint` request.
pub fn add_checkpoint(old: u64, proof: &[Digest], checkpoint: &str) -> String {
    let proof: String = proof
        .iter()
        .map(|hash| BASE64_STANDARD.encode(hash.as_bytes()) + "\n")
        .collect();
    format!("old {old}\n{proof}\n{checkpoint}")
}
