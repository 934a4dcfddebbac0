//! RFC 6962, sections 2.1, 2.1.1 and 2.1.2, as written: recursion over the leaves, nothing kept.

use counterfoil_merkle::{Digest, Suite};

fn split(leaves: &[Digest]) -> usize {
    leaves.len().next_power_of_two() / 2
}

pub(crate) fn root(suite: Suite, leaves: &[Digest]) -> Digest {
    match leaves {
        [] => suite.empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves));
            suite.node_hash(&root(suite, left), &root(suite, right))
        }
    }
}

pub(crate) fn path(suite: Suite, index: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = split(leaves);
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if index < k {
        (path(suite, index, left), right)
    } else {
        (path(suite, index - k, right), left)
    };
    proof.push(root(suite, sibling));
    proof
}

pub(crate) fn consistency(suite: Suite, first: usize, leaves: &[Digest]) -> Vec<Digest> {
    subproof(suite, first, leaves, true)
}

fn subproof(suite: Suite, first: usize, leaves: &[Digest], is_first_tree: bool) -> Vec<Digest> {
    if first == leaves.len() {
        return if is_first_tree {
            Vec::new()
        } else {
            vec![root(suite, leaves)]
        };
    }
    let k = split(leaves);
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if first <= k {
        (subproof(suite, first, left, is_first_tree), right)
    } else {
        (subproof(suite, first - k, right, false), left)
    };
    proof.push(root(suite, sibling));
    proof
}
