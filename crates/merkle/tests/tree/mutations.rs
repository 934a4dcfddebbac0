//! A proof that was changed in any way proves nothing, in every tree of up to 130 leaves.

use counterfoil_merkle::{
    Digest, ProofError, ProveError, Suite, TreeSize, consistency_proof, inclusion_proof, verify_consistency,
    verify_inclusion,
};

use crate::exhaustive::LEAVES;
use crate::reference;
use crate::support::{Tree, flip, leaf, size};

const DIGEST_BITS: usize = 8 * Digest::LEN;

/// Small trees, and those around the powers of two, have every bit flipped; the others one bit of each element, another
/// one for each place in the tree.
fn bits(n: u64, place: usize) -> impl Iterator<Item = usize> {
    let every = n <= 33 || [64, 65, 128, 129, 130].contains(&n);
    let step = if every { 1 } else { DIGEST_BITS };
    (if every { 0 } else { place * 37 % DIGEST_BITS }..DIGEST_BITS).step_by(step)
}

/// Each way to make the proof one element longer or shorter, and each shorter beginning of it.
fn lengths(proof: &[Digest]) -> impl Iterator<Item = Vec<Digest>> {
    let beginnings = (0..proof.len()).map(|len| proof[..len].to_vec());
    let without = (0..proof.len()).map(|at| [&proof[..at], &proof[at + 1..]].concat());
    let extra = proof.last().copied().unwrap_or(Digest::from([0; 32]));
    let with = (0..=proof.len()).map(move |at| [&proof[..at], &[extra], &proof[at..]].concat());
    beginnings.chain(without).chain(with)
}

fn bit_flips(proof: &[Digest], n: u64, place: usize) -> impl Iterator<Item = Vec<Digest>> {
    (0..proof.len()).flat_map(move |element| {
        bits(n, place + element).map(move |bit| {
            let mut bad = proof.to_vec();
            bad[element] = flip(bad[element], bit);
            bad
        })
    })
}

fn inclusion(suite: Suite) {
    let tree = Tree::grow(suite, LEAVES);
    for n in 1..=LEAVES {
        let leaves = &tree.leaf_hashes[..n as usize];
        let root = reference::root(suite, leaves);
        for (place, &hash) in leaves.iter().enumerate() {
            let index = leaf(place as u64);
            let proof = inclusion_proof(suite, index, size(n), |node| tree.read(node)).unwrap();
            let verify =
                |hash, proof: &[Digest], root| verify_inclusion(suite, hash, index, size(n), proof, root);

            for bad in bit_flips(&proof, n, place) {
                assert_eq!(verify(hash, &bad, root), Err(ProofError::RootMismatch));
            }
            for bit in bits(n, place) {
                assert_eq!(
                    verify(flip(hash, bit), &proof, root),
                    Err(ProofError::RootMismatch)
                );
                assert_eq!(
                    verify(hash, &proof, flip(root, bit)),
                    Err(ProofError::RootMismatch)
                );
            }
            for bad in lengths(&proof) {
                let expected = ProofError::WrongLength {
                    expected: proof.len(),
                    got: bad.len(),
                };
                assert_eq!(verify(hash, &bad, root), Err(expected));
            }
            for other in (0..n).filter(|&other| other != place as u64) {
                verify_inclusion(suite, hash, leaf(other), size(n), &proof, root).unwrap_err();
            }
            let expected = ProofError::IndexOutOfRange {
                index,
                size: size(index.get()),
            };
            let in_smaller = verify_inclusion(suite, hash, index, size(index.get()), &proof, root);
            assert_eq!(in_smaller, Err(expected));
        }
    }
}

fn consistency(suite: Suite) {
    let tree = Tree::grow(suite, LEAVES);
    let roots: Vec<_> = (0..=LEAVES as usize)
        .map(|n| reference::root(suite, &tree.leaf_hashes[..n]))
        .collect();
    for n in 1..=LEAVES {
        for m in 1..=n {
            let (first_root, second_root) = (roots[m as usize], roots[n as usize]);
            let proof = consistency_proof(suite, size(m), size(n), |node| tree.read(node)).unwrap();
            let verify = |first_root, second_root, proof: &[Digest]| {
                verify_consistency(suite, size(m), first_root, size(n), second_root, proof)
            };

            for bad in bit_flips(&proof, n, m as usize) {
                let error = verify(first_root, second_root, &bad).unwrap_err();
                assert!(matches!(
                    error,
                    ProofError::FirstRootMismatch | ProofError::SecondRootMismatch
                ));
            }
            for bit in bits(n, m as usize) {
                // Where the first root is the start of the path, a wrong one can only show in the second.
                let error = verify(flip(first_root, bit), second_root, &proof).unwrap_err();
                let expected = match (m == n, m.is_power_of_two()) {
                    (true, _) => ProofError::RootMismatch,
                    (false, true) => ProofError::SecondRootMismatch,
                    (false, false) => ProofError::FirstRootMismatch,
                };
                assert_eq!(error, expected);
                let error = verify(first_root, flip(second_root, bit), &proof).unwrap_err();
                let expected = if m == n {
                    ProofError::RootMismatch
                } else {
                    ProofError::SecondRootMismatch
                };
                assert_eq!(error, expected);
            }
            for bad in lengths(&proof) {
                let expected = ProofError::WrongLength {
                    expected: proof.len(),
                    got: bad.len(),
                };
                assert_eq!(verify(first_root, second_root, &bad), Err(expected));
            }
            if m < n {
                verify(second_root, first_root, &proof).unwrap_err();
                let expected = ProofError::SizesReversed {
                    first: size(n),
                    second: size(m),
                };
                let reversed = verify_consistency(suite, size(n), second_root, size(m), first_root, &proof);
                assert_eq!(reversed, Err(expected));
            }
        }
    }
}

#[test]
fn changed_inclusion_proofs_are_refused_blake3() {
    inclusion(Suite::Blake3);
}

#[test]
fn changed_inclusion_proofs_are_refused_sha256() {
    inclusion(Suite::Sha256);
}

#[test]
fn changed_consistency_proofs_are_refused_blake3() {
    consistency(Suite::Blake3);
}

#[test]
fn changed_consistency_proofs_are_refused_sha256() {
    consistency(Suite::Sha256);
}

#[test]
fn the_other_suite_refuses_every_proof() {
    for (suite, other) in [(Suite::Blake3, Suite::Sha256), (Suite::Sha256, Suite::Blake3)] {
        let tree = Tree::grow(suite, 5);
        let (at, n, root) = (leaf(3), tree.frontier.size(), tree.frontier.root());
        let proof = inclusion_proof(suite, at, n, |node| tree.read(node)).unwrap();
        let verdict = verify_inclusion(other, tree.leaf_hashes[3], at, n, &proof, root);
        assert_eq!(verdict, Err(ProofError::RootMismatch));
        let first_root = reference::root(suite, &tree.leaf_hashes[..3]);
        let proof = consistency_proof(suite, size(3), n, |node| tree.read(node)).unwrap();
        let verdict = verify_consistency(other, size(3), first_root, n, root, &proof);
        assert_eq!(verdict, Err(ProofError::FirstRootMismatch));
    }
}

#[test]
fn an_empty_first_tree_proves_nothing() {
    let suite = Suite::Blake3;
    let tree = Tree::grow(suite, 2);
    let (empty, root) = (suite.empty_root(), tree.frontier.root());
    for (second, second_root) in [(TreeSize::ZERO, empty), (size(2), root)] {
        let verdict = verify_consistency(suite, TreeSize::ZERO, empty, second, second_root, &[]);
        assert_eq!(verdict, Err(ProofError::FirstTreeEmpty));
        let made = consistency_proof(suite, TreeSize::ZERO, second, |node| tree.read(node));
        assert_eq!(made, Err(ProveError::FirstTreeEmpty));
    }
}

#[test]
fn provers_refuse_what_is_not_in_the_tree_and_pass_on_failed_reads() {
    let suite = Suite::Sha256;
    let tree = Tree::grow(suite, 5);
    let read = |node| tree.read(node);
    let outside = inclusion_proof(suite, leaf(5), size(5), read);
    assert_eq!(
        outside,
        Err(ProveError::IndexOutOfRange {
            index: leaf(5),
            size: size(5)
        })
    );
    let reversed = consistency_proof(suite, size(5), size(4), read);
    assert_eq!(
        reversed,
        Err(ProveError::SizesReversed {
            first: size(5),
            second: size(4)
        })
    );
    let range = counterfoil_merkle::range_root(suite, leaf(3), size(2), read);
    assert_eq!(
        range,
        Err(ProveError::RangeReversed {
            start: leaf(3),
            end: size(2)
        })
    );
    // The tree has no seventh leaf to read.
    assert!(matches!(
        inclusion_proof(suite, leaf(0), size(7), read),
        Err(ProveError::Read(_))
    ));
}

/// Why sizes come from the signed head alone.
#[test]
fn a_root_does_not_commit_to_its_size() {
    let suite = Suite::Blake3;
    let tree = Tree::grow(suite, 3);
    let proof = inclusion_proof(suite, leaf(0), size(3), |node| tree.read(node)).unwrap();
    for claimed in [3, 4] {
        verify_inclusion(
            suite,
            tree.leaf_hashes[0],
            leaf(0),
            size(claimed),
            &proof,
            tree.frontier.root(),
        )
        .unwrap();
    }
}
