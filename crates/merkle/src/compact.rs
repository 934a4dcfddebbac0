use crate::{Digest, Suite, TreeSize};

/// The roots of the perfect subtrees that a tree falls into: all that appending and the root need, in at most 63
/// digests. For verifiers that stream leaves; a log that also serves nodes keeps a [`Frontier`](crate::Frontier).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRange {
    suite: Suite,
    size: TreeSize,
    /// The largest (leftmost) first: one for each one bit of the size.
    hashes: Vec<Digest>,
}

impl CompactRange {
    /// The empty tree.
    pub const fn new(suite: Suite) -> Self {
        Self {
            suite,
            size: TreeSize::ZERO,
            hashes: Vec::new(),
        }
    }

    /// Resumes from what [`size`](Self::size) and [`hashes`](Self::hashes) gave. Whether they are true shows in the
    /// root alone: compare it with a signed head.
    ///
    /// # Errors
    /// If there is not exactly one hash for each one bit of the size.
    pub fn from_parts(suite: Suite, size: TreeSize, hashes: Vec<Digest>) -> Result<Self, CompactRangeError> {
        let expected = size.get().count_ones() as usize;
        if hashes.len() != expected {
            return Err(CompactRangeError {
                size,
                expected,
                got: hashes.len(),
            });
        }
        Ok(Self { suite, size, hashes })
    }

    /// Adds a leaf.
    ///
    /// # Panics
    /// If the tree has 2^63 − 1 leaves.
    pub fn append(&mut self, leaf_hash: Digest) {
        let mut node = leaf_hash;
        // As in binary counting: each trailing one bit is a subtree that the new one merges with.
        for _ in 0..self.size.get().trailing_ones() {
            let left = self.hashes.pop().expect("one hash for each one bit of the size");
            node = self.suite.node_hash(&left, &node);
        }
        self.hashes.push(node);
        self.size = TreeSize::new(self.size.get() + 1).expect("a tree has at most 2^63 - 1 leaves");
    }

    /// The number of leaves appended.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The perfect subtrees' roots, the largest first: one for each one bit of the size.
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        join(self.suite, self.hashes.iter().copied()).unwrap_or_else(|| self.suite.empty_root())
    }
}

/// The root over neighbouring perfect subtrees, given the largest (leftmost) first; none if there are none.
/// RFC 6962's split at the largest power of two makes each the left child of what follows it.
pub(crate) fn join(suite: Suite, peaks: impl DoubleEndedIterator<Item = Digest>) -> Option<Digest> {
    peaks.rev().reduce(|right, left| suite.node_hash(&left, &right))
}

/// The number of hashes does not fit the tree size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a compact range of {size} leaves is {expected} hashes, not {got}")]
pub struct CompactRangeError {
    /// The tree size given.
    pub size: TreeSize,
    /// One for each one bit of the size.
    pub expected: usize,
    /// The hashes given.
    pub got: usize,
}
