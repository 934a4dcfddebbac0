//! The root of a tree from some of its consecutive leaves and the inclusion proofs of the first and the last.

use std::{collections::HashMap, ops::Range};

use crate::{Digest, LeafIndex, ProofError, Suite, TreeSize};

/// Recomputes the root of the tree of `size` whose leaves from `first` on are `leaves`.
///
/// `first_proof` and `last_proof` are inclusion proofs (RFC 9162 section 2.1.3) of the first and the last of them. Of
/// these only the siblings that cover other leaves are used; all else comes from the leaves. So if the result is the
/// root of a signed head, every leaf is where it claims to be.
///
/// # Errors
/// If the tree does not have all of these leaves, or there is none; or if a proof is of another length.
pub fn root_of_range(
    suite: Suite,
    first: LeafIndex,
    leaves: &[Digest],
    size: TreeSize,
    first_proof: &[Digest],
    last_proof: &[Digest],
) -> Result<Digest, ProofError> {
    let no_such_leaves = ProofError::IndexOutOfRange { index: first, size };
    let first = first.get();
    let beyond = first.checked_add(leaves.len() as u64);
    let last = beyond.filter(|beyond| *beyond > first).ok_or(no_such_leaves)? - 1;
    let mut outside = HashMap::new();
    for (leaf, proof) in [(first, first_proof), (last, last_proof)] {
        let places = siblings(leaf, size)?;
        if places.len() != proof.len() {
            return Err(ProofError::WrongLength {
                expected: places.len(),
                got: proof.len(),
            });
        }
        outside.extend(
            places
                .into_iter()
                .map(|place| (place.start, place.end))
                .zip(proof.iter().copied()),
        );
    }
    let tree = Tree {
        suite,
        first,
        leaves,
        outside,
    };
    Ok(tree.root(0..size.get()))
}

/// What the siblings on the way from a leaf to the root cover, from the leaf up.
fn siblings(leaf: u64, size: TreeSize) -> Result<Vec<Range<u64>>, ProofError> {
    let out_of_range = || ProofError::IndexOutOfRange {
        index: LeafIndex::new(leaf).unwrap_or(LeafIndex::MAX),
        size,
    };
    let mut tree = 0..size.get();
    if !tree.contains(&leaf) {
        return Err(out_of_range());
    }
    let mut siblings = Vec::new();
    while tree.end - tree.start > 1 {
        let middle = split(&tree);
        let (left, right) = (tree.start..middle, middle..tree.end);
        let is_left = leaf < middle;
        let (next, sibling) = if is_left { (left, right) } else { (right, left) };
        siblings.push(sibling);
        tree = next;
    }
    siblings.reverse();
    Ok(siblings)
}

/// Where a tree of more than one leaf splits: at the largest power of two below its size (RFC 9162 section 2.1.1).
fn split(tree: &Range<u64>) -> u64 {
    let size = tree.end - tree.start;
    tree.start + (1 << (size - 1).ilog2())
}

struct Tree<'a> {
    suite: Suite,
    first: u64,
    leaves: &'a [Digest],
    outside: HashMap<(u64, u64), Digest>,
}

impl Tree<'_> {
    /// The root over `range`. Where a subtree holds none of the leaves it is a sibling of one of the two paths, since
    /// the recursion enters only what holds some.
    fn root(&self, range: Range<u64>) -> Digest {
        let end = self.first + self.leaves.len() as u64;
        if range.end <= self.first || range.start >= end {
            return self.outside[&(range.start, range.end)];
        }
        if range.end - range.start == 1 {
            let place = usize::try_from(range.start - self.first).expect("less than the number of leaves");
            return self.leaves[place];
        }
        let middle = split(&range);
        self.suite
            .node_hash(&self.root(range.start..middle), &self.root(middle..range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frontier, inclusion_proof, range_root};

    /// Every range of every tree of up to 20 leaves, in both suites; and each with one leaf or hash changed.
    #[test]
    fn ranges_lead_to_the_root_and_tampered_ones_do_not() {
        for suite in Suite::ALL {
            let leaves: Vec<Digest> = (0..20u8).map(|i| suite.leaf_hash(&[i])).collect();
            for size in 1..=20u64 {
                all_ranges(suite, &leaves[..usize::try_from(size).unwrap()]);
            }
        }
    }

    fn all_ranges(suite: Suite, leaves: &[Digest]) {
        let mut frontier = Frontier::new(suite);
        for &leaf in leaves {
            frontier.append(leaf, &mut |_, _| {});
        }
        let size = frontier.size();
        let read = |node| frontier.node(node).ok_or("below the frontier");
        let proof =
            |leaf: usize| inclusion_proof(suite, LeafIndex::new(leaf as u64).unwrap(), size, read).unwrap();
        let whole = range_root(suite, LeafIndex::ZERO, size, read).unwrap();
        assert_eq!(whole, frontier.root());
        for start in 0..leaves.len() {
            for end in start + 1..=leaves.len() {
                let first = LeafIndex::new(start as u64).unwrap();
                let (mut low, mut high) = (proof(start), proof(end - 1));
                let mut range = leaves[start..end].to_vec();
                let root = |range: &[Digest], low: &[Digest], high: &[Digest]| {
                    root_of_range(suite, first, range, size, low, high)
                };
                assert_eq!(root(&range, &low, &high).unwrap(), frontier.root());

                for place in 0..range.len() {
                    let honest = std::mem::replace(&mut range[place], suite.leaf_hash(b"other"));
                    assert_ne!(root(&range, &low, &high).unwrap(), frontier.root());
                    range[place] = honest;
                }
                low.push(frontier.root());
                assert!(matches!(
                    root(&range, &low, &high),
                    Err(ProofError::WrongLength { .. })
                ));
                low.pop();
                if high.pop().is_some() {
                    assert!(matches!(
                        root(&range, &low, &high),
                        Err(ProofError::WrongLength { .. })
                    ));
                }
            }
        }
    }

    #[test]
    fn a_range_beyond_the_tree_is_refused() {
        let suite = Suite::Blake3;
        let leaf = suite.leaf_hash(b"leaf");
        let size = TreeSize::new(1).unwrap();
        for leaves in [&[leaf, leaf][..], &[]] {
            let refused = root_of_range(suite, LeafIndex::ZERO, leaves, size, &[], &[]);
            assert!(matches!(refused, Err(ProofError::IndexOutOfRange { .. })));
        }
    }
}
