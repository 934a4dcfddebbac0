use crate::{Digest, LeafIndex, NodeId, Suite, TreeSize};

/// Checks that a leaf is in the tree of the given size and root (RFC 9162, section 2.1.3.2).
///
/// A root does not commit to its size: take both from one signed head, never from whoever brought the proof.
///
/// # Errors
/// The first rule that the proof breaks.
pub fn verify_inclusion(
    suite: Suite,
    leaf_hash: Digest,
    index: LeafIndex,
    size: TreeSize,
    proof: &[Digest],
    root: Digest,
) -> Result<(), ProofError> {
    let path = Path::of_proof(index, size, proof)?;
    let computed = path
        .siblings()
        .zip(proof)
        .fold(leaf_hash, |node, (id, sibling)| above(suite, &node, id, sibling));
    if computed != root {
        Err(ProofError::RootMismatch)
    } else {
        Ok(())
    }
}

/// Checks that the first tree is a prefix of the second (RFC 9162, section 2.1.4.2): both roots are recomputed.
///
/// An empty first tree is refused: a verifier that has seen nothing yet has nothing to compare with.
///
/// # Errors
/// The first rule that the proof breaks.
pub fn verify_consistency(
    suite: Suite,
    first: TreeSize,
    first_root: Digest,
    second: TreeSize,
    second_root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if first > second {
        return Err(ProofError::SizesReversed { first, second });
    }
    let Some(last) = first.last() else {
        return Err(ProofError::FirstTreeEmpty);
    };
    if first == second {
        return verify_same(first_root, second_root, proof);
    }
    // Where the first size is a power of two its root is the last perfect subtree, and the proof leaves it out.
    let first_is_peak = first.get().is_power_of_two();
    let expected = Path::of_last_peak(last, second).len() + usize::from(!first_is_peak);
    check_length(proof, expected)?;
    let (seed, siblings) = match proof.split_first() {
        Some((seed, rest)) if !first_is_peak => (*seed, rest),
        _ => (first_root, proof),
    };
    let (in_first, in_second) = consistency_roots(suite, first, second, seed, siblings)?;
    if in_first != first_root {
        return Err(ProofError::FirstRootMismatch);
    }
    if in_second != second_root {
        return Err(ProofError::SecondRootMismatch);
    }
    Ok(())
}

/// Where the hashes of a consistency proof lead: the roots of the first and of the second tree (RFC 9162, section
/// 2.1.4.2). `seed` is the root of the last perfect subtree of the first tree, the rest its siblings from there up.
///
/// If the second is the root of a tree of that size, then the first is that of its beginning: whoever finds other
/// hashes that lead there has found a collision.
///
/// # Errors
/// If the first tree is empty or not smaller than the second, or the number of siblings is not what it takes.
pub fn consistency_roots(
    suite: Suite,
    first: TreeSize,
    second: TreeSize,
    seed: Digest,
    siblings: &[Digest],
) -> Result<(Digest, Digest), ProofError> {
    let last = first.last().ok_or(ProofError::FirstTreeEmpty)?;
    if first >= second {
        return Err(ProofError::SizesReversed { first, second });
    }
    let path = Path::of_last_peak(last, second);
    check_length(siblings, path.len())?;
    let (mut in_first, mut in_second) = (seed, seed);
    for (id, sibling) in path.siblings().zip(siblings) {
        if is_left(id) {
            in_first = suite.node_hash(sibling, &in_first);
            in_second = suite.node_hash(sibling, &in_second);
        } else {
            // To the right of the path lies only what the first tree did not have.
            in_second = suite.node_hash(&in_second, sibling);
        }
    }
    Ok((in_first, in_second))
}

fn verify_same(first_root: Digest, second_root: Digest, proof: &[Digest]) -> Result<(), ProofError> {
    check_length(proof, 0)?;
    if first_root != second_root {
        Err(ProofError::RootMismatch)
    } else {
        Ok(())
    }
}

/// Refuses a proof with more or fewer hashes than its place takes.
fn check_length(proof: &[Digest], expected: usize) -> Result<(), ProofError> {
    match proof.len() {
        got if got == expected => Ok(()),
        got => Err(ProofError::WrongLength { expected, got }),
    }
}

/// The way from a node up to the root: what provers and verifiers must agree on.
///
/// Below the level where it meets the tree's right edge every node has a sibling (`inner`); from there up only those
/// that are right children have one, as a lone right node is promoted (`border`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) start: NodeId,
    /// The tree level at which the path has met the right edge.
    meets: u8,
}

impl Path {
    /// From a leaf; none if the tree does not have it.
    pub(crate) fn of_leaf(leaf: LeafIndex, size: TreeSize) -> Option<Self> {
        size.contains(leaf)
            .then(|| Self::new(NodeId::leaf(leaf), leaf, size))
    }

    /// From a leaf, by a proof that is as long as it has to be.
    pub(crate) fn of_proof(index: LeafIndex, size: TreeSize, proof: &[Digest]) -> Result<Self, ProofError> {
        let path = Self::of_leaf(index, size).ok_or(ProofError::IndexOutOfRange { index, size })?;
        check_length(proof, path.len())?;
        Ok(path)
    }

    /// From the smallest perfect subtree of the tree that ends with leaf `last`, within a larger tree.
    pub(crate) fn of_last_peak(last: LeafIndex, size: TreeSize) -> Self {
        let level = bits(last.size_after().get().trailing_zeros());
        Self::new(
            NodeId {
                level,
                index: last.get() >> level,
            },
            last,
            size,
        )
    }

    fn new(start: NodeId, leaf: LeafIndex, size: TreeSize) -> Self {
        let rightmost = size.get() - 1;
        Self {
            start,
            meets: bits(u64::BITS - (leaf.get() ^ rightmost).leading_zeros()),
        }
    }

    /// How many siblings there are: inner ones, then a border one for each one bit; counted without walking.
    pub(crate) const fn len(self) -> usize {
        let inner = self.meets - self.start.level;
        inner as usize + (self.start.index >> inner).count_ones() as usize
    }

    /// The siblings, from the bottom up.
    pub(crate) fn siblings(self) -> impl Iterator<Item = NodeId> {
        let top = self
            .meets
            .max(self.start.level + bits(u64::BITS - self.start.index.leading_zeros()));
        (self.start.level..top).filter_map(move |level| {
            let index = self.start.index >> (level - self.start.level);
            let has_sibling = level < self.meets || index & 1 == 1;
            has_sibling.then_some(NodeId {
                level,
                index: index ^ 1,
            })
        })
    }
}

/// Whether a sibling lies to the left of the path.
const fn is_left(sibling: NodeId) -> bool {
    sibling.index & 1 == 0
}

/// The node of the path above this one, which has this sibling.
pub(crate) fn above(suite: Suite, node: &Digest, id: NodeId, sibling: &Digest) -> Digest {
    if is_left(id) {
        suite.node_hash(sibling, node)
    } else {
        suite.node_hash(node, sibling)
    }
}

/// Narrows a count of bits.
fn bits(count: u32) -> u8 {
    u8::try_from(count).expect("a u64 has at most 64 bits")
}

/// Seed and siblings for [`consistency_roots`], from the inclusion proof, in the larger tree, of the last leaf that the first tree has:
/// what of the first tree lies on that leaf's path lies to the left, so the one proof has all that both roots take. None if it is
/// too short, or the first tree is empty.
pub fn consistency_from_inclusion(
    suite: Suite,
    first: TreeSize,
    leaf_hash: Digest,
    proof: &[Digest],
) -> Option<(Digest, &[Digest])> {
    first.last()?;
    // Those within the last perfect subtree of the first tree.
    let levels = first.get().trailing_zeros() as usize;
    let (within, siblings) = proof.split_at_checked(levels)?;
    let seed = within
        .iter()
        .fold(leaf_hash, |node, sibling| suite.node_hash(sibling, &node));
    Some((seed, siblings))
}

/// The root of the tree that ends before a leaf, from the leaf's inclusion proof in a larger tree: what lies to the left of the
/// leaf's path are the perfect subtrees of which the smaller tree consists.
///
/// If the proof holds, then the larger tree begins with this one, as with [`consistency_roots`]. None if there is nothing before
/// the leaf, the tree does not have it, or the proof has more or fewer hashes than its place takes.
pub fn root_before(suite: Suite, index: LeafIndex, size: TreeSize, proof: &[Digest]) -> Option<Digest> {
    let path = Path::of_leaf(index, size).filter(|path| path.len() == proof.len())?;
    path.siblings()
        .zip(proof)
        .filter(|(id, _)| is_left(*id))
        .map(|(_, peak)| *peak)
        .reduce(|smaller, larger| suite.node_hash(&larger, &smaller))
}

/// The rule that a proof breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProofError {
    /// The tree does not have the leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexOutOfRange {
        /// The leaf claimed.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// Elements are missing or extra.
    #[error("the proof has {got} hashes where its place in the tree takes {expected}")]
    WrongLength {
        /// The elements that the place in the tree takes.
        expected: usize,
        /// The elements found.
        got: usize,
    },
    /// The leaf and its proof lead to another root; or two trees of the same size have different roots, a fork.
    #[error("the proof leads to another root")]
    RootMismatch,
    /// The consistency proof leads to another first root: the second tree does not extend the first.
    #[error("the proof leads to another root for the first tree")]
    FirstRootMismatch,
    /// The consistency proof leads to another second root.
    #[error("the proof leads to another root for the second tree")]
    SecondRootMismatch,
    /// The first tree is larger than the second: a rollback, if the second was signed later.
    #[error("the first tree has {first} leaves, more than the second with {second}")]
    SizesReversed {
        /// The size of the first tree.
        first: TreeSize,
        /// The size of the second tree.
        second: TreeSize,
    },
    /// The first tree is empty: that is a state, "nothing seen yet", and proves nothing.
    #[error("a consistency proof starts from at least one leaf")]
    FirstTreeEmpty,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_path_is_known_without_walking_it() {
        for size in (1..=130)
            .map(|size| TreeSize::new(size).unwrap())
            .chain([TreeSize::MAX])
        {
            for index in (0..130).chain([1 << 62, LeafIndex::MAX.get()]) {
                let leaf = LeafIndex::new(index).unwrap();
                let Some(path) = Path::of_leaf(leaf, size) else {
                    continue;
                };
                assert_eq!(path.len(), path.siblings().count());
                if leaf.size_after() < size {
                    let path = Path::of_last_peak(leaf, size);
                    assert_eq!(path.len(), path.siblings().count());
                }
            }
        }
    }
}
