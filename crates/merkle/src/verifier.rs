use crate::verify::{Path, above};
use crate::{Digest, LeafIndex, ProofError, Suite, TreeSize};

/// Checks inclusion proofs in one tree, and says what [`verify_inclusion`](crate::verify_inclusion) says of each.
///
/// Leaves of one batch lie next to each other, so their paths soon meet. Where a path meets that of the leaf proved
/// before, in the same node, and all siblings above are the same, nothing is left to hash: on average two nodes a leaf
/// instead of one a level.
#[derive(Clone, Debug)]
pub struct InclusionVerifier {
    suite: Suite,
    size: TreeSize,
    root: Digest,
    last: Option<Proved>,
}

/// A leaf whose proof led to the root.
#[derive(Clone, Debug)]
struct Proved {
    index: LeafIndex,
    /// From the leaf up, each node that has a sibling.
    nodes: Vec<Digest>,
    /// Those siblings.
    proof: Vec<Digest>,
}

impl InclusionVerifier {
    /// For the tree of this size and root. Take both from one signed head.
    pub const fn new(suite: Suite, size: TreeSize, root: Digest) -> Self {
        Self {
            suite,
            size,
            root,
            last: None,
        }
    }

    /// Checks that a leaf is in the tree.
    ///
    /// # Errors
    /// The first rule that the proof breaks.
    pub fn verify(
        &mut self,
        leaf_hash: Digest,
        index: LeafIndex,
        proof: &[Digest],
    ) -> Result<(), ProofError> {
        let path = Path::of_proof(index, self.size, proof)?;
        let mut nodes = Vec::with_capacity(proof.len());
        let mut node = leaf_hash;
        for (step, (id, sibling)) in path.siblings().zip(proof).enumerate() {
            if let Some(last) = &mut self.last
                && last.has_met(index, id.level)
                && last.continues(node, &proof[step..])
            {
                last.replace(index, nodes, proof);
                return Ok(());
            }
            nodes.push(node);
            node = above(self.suite, &node, id, sibling);
        }
        if node != self.root {
            return Err(ProofError::RootMismatch);
        }
        self.last = Some(Proved {
            index,
            nodes,
            proof: proof.to_vec(),
        });
        Ok(())
    }
}

impl Proved {
    /// Whether the paths of this leaf and another are in the same node at a level, and so at all levels above.
    fn has_met(&self, other: LeafIndex, level: u8) -> bool {
        (self.index.get() ^ other.get())
            .checked_shr(level.into())
            .unwrap_or(0)
            == 0
    }

    /// Whether this leaf's path goes through `node` and from there on along `siblings`, where paths have met: as many
    /// steps remain on either.
    fn continues(&self, node: Digest, siblings: &[Digest]) -> bool {
        let Some(met) = self.proof.len().checked_sub(siblings.len()) else {
            return false;
        };
        self.nodes.get(met) == Some(&node) && self.proof[met..] == *siblings
    }

    /// Puts another leaf in the place of this one: below where the paths meet its own `nodes`, above all as it was.
    fn replace(&mut self, index: LeafIndex, nodes: Vec<Digest>, proof: &[Digest]) {
        let (below, above) = proof.split_at(nodes.len());
        let met = self.proof.len() - above.len();
        self.index = index;
        self.nodes.splice(..met, nodes);
        self.proof.splice(..met, below.iter().copied());
    }
}
