//! Every tree of up to 130 leaves, every leaf of it, every pair of sizes.

use counterfoil_merkle::{
    CompactRange, Suite, consistency_from_inclusion, consistency_proof, consistency_roots, inclusion_proof,
    inclusion_proofs, range_root, root_at, root_before, verify_consistency, verify_inclusion,
};

use crate::reference;
use crate::support::{Tree, entry, leaf, size};

pub(crate) const LEAVES: u64 = 130;

#[test]
fn roots_while_growing() {
    for suite in Suite::ALL {
        let mut tree = Tree::grow(suite, 0);
        let mut range = CompactRange::new(suite);
        for n in 0..=LEAVES {
            let expected = reference::root(suite, &tree.leaf_hashes);
            assert_eq!(tree.frontier.size(), size(n));
            assert_eq!(tree.frontier.root(), expected, "{suite}, {n} leaves");
            assert_eq!(range.size(), size(n));
            assert_eq!(range.root(), expected, "{suite}, {n} leaves");
            assert_eq!(range.hashes(), tree.frontier.compact_range());
            tree.append(&entry(n));
            range.append(*tree.leaf_hashes.last().unwrap());
        }
    }
}

#[test]
fn roots_of_every_size_and_range_from_the_newest_tree() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        for end in 0..=LEAVES {
            let leaves = &tree.leaf_hashes[..end as usize];
            let root = root_at(suite, size(end), |node| tree.read(node)).unwrap();
            assert_eq!(root, reference::root(suite, leaves));
            for start in 0..=end {
                let root = range_root(suite, leaf(start), size(end), |node| tree.read(node)).unwrap();
                assert_eq!(
                    root,
                    reference::root(suite, &leaves[start as usize..]),
                    "{suite}, {start}..{end}"
                );
            }
        }
    }
}

#[test]
fn what_lies_before_a_leaf_is_in_its_inclusion_proof() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        for n in 1..=LEAVES {
            for index in 0..n {
                let proof = inclusion_proof(suite, leaf(index), size(n), |node| tree.read(node)).unwrap();
                let before = (index > 0).then(|| reference::root(suite, &tree.leaf_hashes[..index as usize]));
                let root = |proof| root_before(suite, leaf(index), size(n), proof);
                assert_eq!(root(&proof), before, "{suite}, {index} in {n}");
                let too_long = [&proof[..], &tree.leaf_hashes[..1]].concat();
                assert_eq!(root(&too_long), None, "{suite}, {index} in {n}");
            }
            assert_eq!(root_before(suite, leaf(n), size(n), &[]), None);
        }
    }
}

#[test]
fn inclusion_of_every_leaf_in_every_tree() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        for n in 1..=LEAVES {
            let leaves = &tree.leaf_hashes[..n as usize];
            let root = reference::root(suite, leaves);
            for (index, &leaf_hash) in leaves.iter().enumerate() {
                let at = leaf(index as u64);
                let proof = inclusion_proof(suite, at, size(n), |node| tree.read(node)).unwrap();
                assert_eq!(
                    proof,
                    reference::path(suite, index, leaves),
                    "{suite}, leaf {index} of {n}"
                );
                verify_inclusion(suite, leaf_hash, at, size(n), &proof, root).unwrap();
            }
        }
    }
}

/// In order, in reverse, and in an order that has neighbours far apart.
#[test]
fn proofs_made_together_are_those_made_one_by_one() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        for n in 1..=LEAVES {
            let indices = (0..n)
                .chain((0..n).rev())
                .chain((0..n).map(|index| index * 7 % n));
            let indices: Vec<_> = indices.map(leaf).collect();
            let together = inclusion_proofs(suite, indices.iter().copied(), size(n), |node| tree.read(node));
            let alone = indices
                .iter()
                .map(|&index| inclusion_proof(suite, index, size(n), |node| tree.read(node)));
            assert_eq!(together, alone.collect(), "{suite}, {n} leaves");
        }
    }
}

/// The right half of this tree lacks one leaf: seven reads, and a sibling of every leaf of the left half.
#[test]
fn what_neighbours_have_in_common_is_read_once() {
    let tree = Tree::grow(Suite::Blake3, 255);
    let mut reads = 0;
    let read = |node| {
        reads += 1;
        tree.read(node)
    };
    inclusion_proofs(Suite::Blake3, (0..128).map(leaf), size(255), read).unwrap();
    assert_eq!(reads, 128 * 7 + 7);
}

#[test]
fn consistency_of_every_pair_of_trees() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        for n in 1..=LEAVES {
            let leaves = &tree.leaf_hashes[..n as usize];
            let second_root = reference::root(suite, leaves);
            for m in 1..=n {
                let first_root = reference::root(suite, &leaves[..m as usize]);
                let proof = consistency_proof(suite, size(m), size(n), |node| tree.read(node)).unwrap();
                assert_eq!(
                    proof,
                    reference::consistency(suite, m as usize, leaves),
                    "{suite}, {m} to {n}"
                );
                verify_consistency(suite, size(m), first_root, size(n), second_root, &proof).unwrap();
            }
        }
    }
}

/// One proof, of the first tree's last leaf in the second, has all that the roots of both take.
#[test]
fn consistency_of_every_pair_of_sizes_from_an_inclusion_proof() {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        let root = |n: u64| reference::root(suite, &tree.leaf_hashes[..n as usize]);
        for second in 2..=LEAVES {
            for first in 1..second {
                let last = leaf(first - 1);
                let proof = inclusion_proof(suite, last, size(second), |node| tree.read(node)).unwrap();
                let leaf_hash = tree.leaf_hashes[first as usize - 1];
                let (seed, siblings) =
                    consistency_from_inclusion(suite, size(first), leaf_hash, &proof).unwrap();
                assert_eq!(
                    consistency_roots(suite, size(first), size(second), seed, siblings).unwrap(),
                    (root(first), root(second)),
                    "{suite}, {first} in {second}"
                );
            }
        }
        let too_short =
            consistency_from_inclusion(suite, size(4), tree.leaf_hashes[3], &tree.leaf_hashes[..1]);
        assert_eq!(too_short, None);
        // 64 is how many levels a tree of size 0 would seem to have.
        for hashes in [0, 63, 64, 65] {
            assert_eq!(
                consistency_from_inclusion(suite, size(0), tree.leaf_hashes[0], &tree.leaf_hashes[..hashes]),
                None,
                "{suite}, {hashes} hashes"
            );
        }
    }
}
