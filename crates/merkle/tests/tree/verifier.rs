//! The verifier that remembers says what the one that forgets says.

use counterfoil_merkle::{Digest, InclusionVerifier, Suite, inclusion_proof, verify_inclusion};

use crate::support::{Tree, entry, flip, leaf, size};

/// Every order of two leaves in every tree up to 40: the second with its proof, and with each hash of it changed.
#[test]
fn it_agrees_after_any_other_leaf() {
    for suite in Suite::ALL {
        for n in 1..=40 {
            agree_on_pairs(suite, n);
        }
    }
}

fn agree_on_pairs(suite: Suite, n: u64) {
    let tree = Tree::grow(suite, n);
    let root = tree.frontier.root();
    let proofs: Vec<Vec<Digest>> = (0..n)
        .map(|index| inclusion_proof(suite, leaf(index), size(n), |node| tree.read(node)).unwrap())
        .collect();
    let hashes: Vec<Digest> = (0..n).map(|index| suite.leaf_hash(&entry(index))).collect();
    for first in 0..n as usize {
        let mut fresh = InclusionVerifier::new(suite, size(n), root);
        fresh
            .verify(hashes[first], leaf(first as u64), &proofs[first])
            .unwrap();
        for second in 0..n as usize {
            let check = |hash: Digest, proof: &[Digest]| {
                let index = leaf(second as u64);
                let mut verifier = fresh.clone();
                let said = verifier.verify(hash, index, proof);
                assert_eq!(said, verify_inclusion(suite, hash, index, size(n), proof, root));
                // Whatever it was told, it goes on as before.
                for again in [first, second] {
                    verifier
                        .verify(hashes[again], leaf(again as u64), &proofs[again])
                        .unwrap();
                }
            };
            let proof = &proofs[second];
            check(hashes[second], proof);
            check(hashes[first], proof);
            // The first leaf passes for the second, with a proof that holds at the first one's place.
            check(hashes[first], &proofs[first]);
            check(flip(hashes[second], 7), proof);
            for place in 0..proof.len() {
                let mut changed = proof.clone();
                changed[place] = flip(changed[place], 100);
                check(hashes[second], &changed);
            }
            check(hashes[second], &[&proof[..], &[root]].concat());
            check(hashes[second], &proof[..proof.len().saturating_sub(1)]);
        }
    }
}

#[test]
fn it_goes_through_a_whole_tree() {
    let tree = Tree::grow(Suite::Blake3, 1000);
    let mut verifier = InclusionVerifier::new(Suite::Blake3, size(1000), tree.frontier.root());
    for index in (0..1000)
        .chain((0..1000).rev())
        .chain((0..1000).map(|index| index * 617 % 1000))
    {
        let proof = inclusion_proof(Suite::Blake3, leaf(index), size(1000), |node| tree.read(node)).unwrap();
        let hash = Suite::Blake3.leaf_hash(&entry(index));
        verifier.verify(hash, leaf(index), &proof).unwrap();
        assert!(verifier.verify(flip(hash, 0), leaf(index), &proof).is_err());
    }
    assert!(verifier.verify(tree.frontier.root(), leaf(1000), &[]).is_err());
}
