//! Laws, at sizes chosen at random.

use std::convert::Infallible;

use counterfoil_merkle::{
    CompactRange, Digest, Frontier, NodeId, ProofError, Suite, TreeSize, consistency_proof, inclusion_proof,
    root_at, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::reference;
use crate::support::{LARGE, Tree, flip, leaf, size};

fn suites() -> impl Strategy<Value = Suite> {
    prop::sample::select(Suite::ALL.as_slice())
}

/// Half of them next to where tiles fill.
fn sizes() -> impl Strategy<Value = u64> {
    let near_edges = (1..=LARGE / 256, 0..=2_u64).prop_map(|(tiles, offset)| tiles * 256 + offset - 1);
    prop_oneof![1..=LARGE, near_edges]
}

/// A tree of any size whose leaves are all the same: its perfect subtrees differ by level alone.
struct Uniform {
    suite: Suite,
    by_level: Vec<Digest>,
}

impl Uniform {
    fn new(suite: Suite) -> Self {
        let leaf = suite.leaf_hash(b"the same");
        let by_level = std::iter::successors(Some(leaf), |node| Some(suite.node_hash(node, node)))
            .take(63)
            .collect();
        Self { suite, by_level }
    }

    fn read(&self, size: TreeSize) -> impl Fn(NodeId) -> Result<Digest, Infallible> {
        move |NodeId { level, index }| {
            let end = (u128::from(index) + 1) << level;
            assert!(
                end <= u128::from(size.get()),
                "node {level}, {index} is not complete at {size}"
            );
            Ok(self.by_level[usize::from(level)])
        }
    }

    fn root(&self, size: TreeSize) -> Digest {
        let peaks = (0..63)
            .rev()
            .filter(|level| size.get() >> level & 1 == 1)
            .map(|level| self.by_level[level]);
        CompactRange::from_parts(self.suite, size, peaks.collect())
            .unwrap()
            .root()
    }
}

/// Any size up to the largest, as likely small as huge.
fn any_sizes() -> impl Strategy<Value = u64> {
    let max = TreeSize::MAX.get();
    prop_oneof![
        (0..63_u32, any::<u64>()).prop_map(move |(shift, bits)| ((bits & max) >> shift).max(1)),
        (0..63_u32, 0..=2_u64)
            .prop_map(move |(power, offset)| ((1 << power) + offset).saturating_sub(1).clamp(1, max)),
        (0..100_u64).prop_map(move |offset| max - offset),
    ]
}

proptest! {
    #[test]
    fn what_was_appended_is_included_at_every_later_size(suite in suites(), n in sizes(), at in any::<Index>()) {
        let tree = Tree::large(suite);
        let index = at.index(n as usize);
        let root = reference::root(suite, &tree.leaf_hashes[..n as usize]);
        let proof = inclusion_proof(suite, leaf(index as u64), size(n), |node| tree.read(node)).unwrap();
        prop_assert_eq!(root_at(suite, size(n), |node| tree.read(node)).unwrap(), root);
        verify_inclusion(suite, tree.leaf_hashes[index], leaf(index as u64), size(n), &proof, root).unwrap();
    }

    #[test]
    fn a_tree_is_consistent_with_each_prefix(suite in suites(), n in sizes(), at in any::<Index>()) {
        let tree = Tree::large(suite);
        let m = at.index(n as usize) as u64 + 1;
        let [first_root, second_root] = [m, n].map(|n| reference::root(suite, &tree.leaf_hashes[..n as usize]));
        let proof = consistency_proof(suite, size(m), size(n), |node| tree.read(node)).unwrap();
        verify_consistency(suite, size(m), first_root, size(n), second_root, &proof).unwrap();
    }

    #[test]
    fn no_proof_leads_from_a_tree_to_one_with_another_past(
        suite in suites(), m in 1..600_u64, more in 0..600_u64, at in any::<Index>(),
    ) {
        let (honest, mut forked) = (Tree::grow(suite, m), Tree::grow(suite, 0));
        let changed = at.index(m as usize) as u64;
        for index in 0..m + more {
            let entry = if index == changed { b"rewritten".to_vec() } else { crate::support::entry(index) };
            forked.append(&entry);
        }
        let n = size(m + more);
        let proof = consistency_proof(suite, size(m), n, |node| forked.read(node)).unwrap();
        let verdict = verify_consistency(suite, size(m), honest.frontier.root(), n, forked.frontier.root(), &proof);
        let expected = match (more == 0, m.is_power_of_two()) {
            (true, _) => ProofError::RootMismatch,
            (false, true) => ProofError::SecondRootMismatch,
            (false, false) => ProofError::FirstRootMismatch,
        };
        prop_assert_eq!(verdict, Err(expected));
    }

    #[test]
    fn the_frontier_and_the_compact_range_agree(suite in suites(), entries in prop::collection::vec(any::<Vec<u8>>(), 0..600)) {
        let (mut frontier, mut range) = (Frontier::new(suite), CompactRange::new(suite));
        let hashes: Vec<_> = entries.iter().map(|entry| suite.leaf_hash(entry)).collect();
        for &hash in &hashes {
            frontier.append(hash, &mut |_, _| {});
            range.append(hash);
        }
        prop_assert_eq!(frontier.compact_range(), range.hashes());
        prop_assert_eq!(frontier.root(), reference::root(suite, &hashes));
    }

    #[test]
    fn proofs_hold_up_to_the_largest_tree(
        suite in suites(), n in any_sizes(), at in any::<u64>(), element in any::<Index>(), bit in 0..256_usize,
    ) {
        let tree = Uniform::new(suite);
        let (n, index) = (size(n), leaf(at % n));
        let root = tree.root(n);
        prop_assert_eq!(root_at(suite, n, tree.read(n)).unwrap(), root);

        let proof = inclusion_proof(suite, index, n, tree.read(n)).unwrap();
        let verify = |proof: &[Digest]| verify_inclusion(suite, tree.by_level[0], index, n, proof, root);
        verify(&proof).unwrap();
        if !proof.is_empty() {
            let mut bad = proof.clone();
            let element = element.index(bad.len());
            bad[element] = flip(bad[element], bit);
            prop_assert_eq!(verify(&bad), Err(ProofError::RootMismatch));
        }

        let m = index.size_after();
        let proof = consistency_proof(suite, m, n, tree.read(n)).unwrap();
        let verify = |proof: &[Digest]| verify_consistency(suite, m, tree.root(m), n, root, proof);
        verify(&proof).unwrap();
        if !proof.is_empty() {
            let mut bad = proof.clone();
            let element = element.index(bad.len());
            bad[element] = flip(bad[element], bit);
            prop_assert!(verify(&bad).is_err());
        }
    }

    #[test]
    fn hostile_proofs_are_refused_without_panic(
        suite in suites(), m in any_sizes(), n in any_sizes(), at in any::<u64>(),
        proof in prop::collection::vec(any::<[u8; 32]>().prop_map(Digest::from), 0..130),
    ) {
        let root = suite.empty_root();
        let index = leaf(at % TreeSize::MAX.get());
        prop_assert!(verify_inclusion(suite, suite.leaf_hash(b""), index, size(n), &proof, root).is_err());
        let other = suite.leaf_hash(b"another root");
        prop_assert!(verify_consistency(suite, size(m), root, size(n), other, &proof).is_err());
    }
}
