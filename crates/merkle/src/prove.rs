use crate::verify::Path;
use crate::{Digest, LeafIndex, NodeId, Suite, TreeSize};

/// Makes the inclusion proof of a leaf in the tree of the given size: sibling hashes from the leaf up (RFC 6962,
/// section 2.1.1). Any size above the index will do, not only the newest.
///
/// `read` is asked for perfect subtrees that are complete at `size`; at most one element of the proof takes more than
/// one read, and the whole proof takes at most 125.
///
/// # Errors
/// If the tree does not have the leaf, or a read fails.
pub fn inclusion_proof<E>(
    suite: Suite,
    index: LeafIndex,
    size: TreeSize,
    mut read: impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Vec<Digest>, ProveError<E>> {
    proof_of_leaf(suite, index, size, &mut read, &mut None)
}

/// Makes the inclusion proofs of many leaves in the tree of the given size, each as [`inclusion_proof`] makes it.
///
/// The subtree that the size cuts short is an element of the proof of each leaf before it. For neighbours it is computed once.
///
/// # Errors
/// If the tree lacks one of the leaves, or a read fails.
pub fn inclusion_proofs<E>(
    suite: Suite,
    indices: impl IntoIterator<Item = LeafIndex>,
    size: TreeSize,
    mut read: impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Vec<Vec<Digest>>, ProveError<E>> {
    let mut cut_short = None;
    indices
        .into_iter()
        .map(|index| proof_of_leaf(suite, index, size, &mut read, &mut cut_short))
        .collect()
}

/// The subtree that a tree's size cuts short, as seen from some leaf: where it starts, and its hash.
type CutShort = Option<(u64, Digest)>;

fn proof_of_leaf<E>(
    suite: Suite,
    index: LeafIndex,
    size: TreeSize,
    read: &mut impl FnMut(NodeId) -> Result<Digest, E>,
    cut_short: &mut CutShort,
) -> Result<Vec<Digest>, ProveError<E>> {
    let path = Path::of_leaf(index, size).ok_or(ProveError::IndexOutOfRange { index, size })?;
    let mut proof = Vec::with_capacity(path.len());
    siblings(suite, path, size, read, cut_short, &mut proof)?;
    Ok(proof)
}

/// Makes the consistency proof between the trees of two sizes (RFC 6962, section 2.1.2). Empty if they are equal.
///
/// # Errors
/// If the first tree is empty or larger than the second, or a read fails.
pub fn consistency_proof<E>(
    suite: Suite,
    first: TreeSize,
    second: TreeSize,
    mut read: impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Vec<Digest>, ProveError<E>> {
    if first > second {
        return Err(ProveError::SizesReversed { first, second });
    }
    let Some(last) = first.last() else {
        return Err(ProveError::FirstTreeEmpty);
    };
    if first == second {
        return Ok(Vec::new());
    }
    let path = Path::of_last_peak(last, second);
    let mut proof = Vec::with_capacity(path.len() + 1);
    if !first.get().is_power_of_two() {
        proof.push(read(path.start).map_err(ProveError::Read)?);
    }
    siblings(suite, path, second, &mut read, &mut None, &mut proof)?;
    Ok(proof)
}

/// The root that the tree had, or has, at the given size. At most 63 reads.
///
/// # Errors
/// If a read fails.
pub fn root_at<E>(
    suite: Suite,
    size: TreeSize,
    mut read: impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Digest, E> {
    subtree_root(suite, 0, size.get(), &mut read)
}

/// The root that the leaves `[start, end)` would have as a tree of their own (RFC 6962's MTH over that range).
///
/// Where `start` is a multiple of the smallest power of two that holds the range, this takes at most 63 reads.
/// Otherwise the range's own tree shares few nodes with the log's, and it takes up to one read for each leaf.
///
/// # Errors
/// If the range is reversed, or a read fails.
pub fn range_root<E>(
    suite: Suite,
    start: LeafIndex,
    end: TreeSize,
    mut read: impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Digest, ProveError<E>> {
    if start.get() > end.get() {
        return Err(ProveError::RangeReversed { start, end });
    }
    subtree_root(suite, start.get(), end.get(), &mut read).map_err(ProveError::Read)
}

/// Adds the siblings along a path, from the bottom up.
fn siblings<E>(
    suite: Suite,
    path: Path,
    size: TreeSize,
    read: &mut impl FnMut(NodeId) -> Result<Digest, E>,
    cut_short: &mut CutShort,
    proof: &mut Vec<Digest>,
) -> Result<(), ProveError<E>> {
    for node in path.siblings() {
        let start = node.index << node.level;
        // Only the sibling that has the tree's last leaf can be cut short by the size.
        let hash = if start + (1 << node.level) <= size.get() {
            read(node).map_err(ProveError::Read)?
        } else if let Some((_, hash)) = cut_short.filter(|(first, _)| *first == start) {
            hash
        } else {
            let hash = subtree_root(suite, start, size.get(), read).map_err(ProveError::Read)?;
            *cut_short = Some((start, hash));
            hash
        };
        proof.push(hash);
    }
    Ok(())
}

/// RFC 6962, section 2.1: a range splits at the largest power of two below its length. The recursion is at most 63 deep.
fn subtree_root<E>(
    suite: Suite,
    start: u64,
    end: u64,
    read: &mut impl FnMut(NodeId) -> Result<Digest, E>,
) -> Result<Digest, E> {
    let leaves = end - start;
    if leaves == 0 {
        return Ok(suite.empty_root());
    }
    let level = leaves.ilog2();
    if leaves.is_power_of_two() && start.is_multiple_of(leaves) {
        let level = u8::try_from(level).expect("the logarithm of a u64 is below 64");
        return read(NodeId {
            level,
            index: start >> level,
        });
    }
    let middle = start + (1 << (leaves - 1).ilog2());
    let left = subtree_root(suite, start, middle, read)?;
    let right = subtree_root(suite, middle, end, read)?;
    Ok(suite.node_hash(&left, &right))
}

/// Why a proof or a root could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The tree does not have the leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexOutOfRange {
        /// The leaf asked for.
        index: LeafIndex,
        /// The tree size asked for.
        size: TreeSize,
    },
    /// The first tree of a consistency proof is larger than the second.
    #[error("a tree of {first} leaves is no prefix of one of {second}")]
    SizesReversed {
        /// The size of the first tree.
        first: TreeSize,
        /// The size of the second tree.
        second: TreeSize,
    },
    /// Nothing can be proved about the empty tree: every tree extends it.
    #[error("a consistency proof starts from at least one leaf")]
    FirstTreeEmpty,
    /// A range starts after its end.
    #[error("the range of leaves from {start} to {end} is reversed")]
    RangeReversed {
        /// The first leaf asked for.
        start: LeafIndex,
        /// The end asked for, exclusive.
        end: TreeSize,
    },
    /// A node could not be read.
    #[error(transparent)]
    Read(E),
}
