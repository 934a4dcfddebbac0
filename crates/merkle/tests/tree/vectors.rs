//! Golden vectors, in `tests/vectors/trees.json`, made by `generate.py` beside it; and values known from elsewhere.

use counterfoil_merkle::{
    Digest, Suite, UnknownSuite, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion,
};
use serde::Deserialize;

use crate::support::{Tree, leaf, size};

#[derive(Deserialize)]
struct Vectors {
    entries: Vec<String>,
    suites: Vec<SuiteVectors>,
}

#[derive(Deserialize)]
struct SuiteVectors {
    suite: String,
    leaf_hashes: Vec<String>,
    roots: Vec<String>,
    inclusion_proofs: Vec<Inclusion>,
    consistency_proofs: Vec<Consistency>,
    commitments: Vec<Commitment>,
}

#[derive(Deserialize)]
struct Inclusion {
    index: u64,
    size: u64,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct Consistency {
    first: u64,
    second: u64,
    proof: Vec<String>,
}

#[derive(Deserialize)]
struct Commitment {
    salt: String,
    bytes: String,
    commitment: String,
}

fn digests(hex: &[String]) -> Vec<Digest> {
    hex.iter().map(|hex| hex.parse().unwrap()).collect()
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/trees.json")).unwrap()
}

fn tree(suite: Suite, vectors: &Vectors) -> Tree {
    let mut tree = Tree::grow(suite, 0);
    vectors
        .entries
        .iter()
        .for_each(|entry| tree.append(&hex::decode(entry).unwrap()));
    tree
}

#[test]
fn golden_vectors() {
    let vectors = vectors();
    assert_eq!(vectors.suites.len(), Suite::ALL.len());
    for golden in &vectors.suites {
        let suite: Suite = golden.suite.parse().unwrap();
        let tree = tree(suite, &vectors);
        let read = |node| tree.read(node);
        let roots = digests(&golden.roots);

        assert_eq!(tree.leaf_hashes, digests(&golden.leaf_hashes));
        for (n, &root) in roots.iter().enumerate() {
            assert_eq!(
                counterfoil_merkle::root_at(suite, size(n as u64), read),
                Ok(root),
                "{suite}, {n} leaves"
            );
        }
        assert_eq!(golden.inclusion_proofs.len(), 36);
        for Inclusion {
            index,
            size: n,
            proof,
        } in &golden.inclusion_proofs
        {
            let (at, n, proof) = (leaf(*index), size(*n), digests(proof));
            assert_eq!(
                inclusion_proof(suite, at, n, read),
                Ok(proof.clone()),
                "{suite}, leaf {at} of {n}"
            );
            let (leaf_hash, root) = (tree.leaf_hashes[*index as usize], roots[n.get() as usize]);
            verify_inclusion(suite, leaf_hash, at, n, &proof, root).unwrap();
        }
        assert_eq!(golden.consistency_proofs.len(), 36);
        for Consistency { first, second, proof } in &golden.consistency_proofs {
            let (m, n, proof) = (size(*first), size(*second), digests(proof));
            assert_eq!(
                consistency_proof(suite, m, n, read),
                Ok(proof.clone()),
                "{suite}, {m} to {n}"
            );
            let (first_root, second_root) = (roots[*first as usize], roots[*second as usize]);
            verify_consistency(suite, m, first_root, n, second_root, &proof).unwrap();
        }
        assert_eq!(golden.commitments.len(), 16);
        for Commitment {
            salt,
            bytes,
            commitment,
        } in &golden.commitments
        {
            let made = suite.commitment(
                salt.parse::<Digest>().unwrap().as_bytes(),
                &hex::decode(bytes).unwrap(),
            );
            assert_eq!(made.to_string(), *commitment, "{suite}, {salt}, {bytes}");
        }
    }
}

/// The suite takes a shortcut through precomputed context keys; the library's plain function must agree.
#[test]
fn blake3_is_derive_key() {
    let suite = Suite::Blake3;
    let (left, right) = (suite.leaf_hash(b"left"), suite.leaf_hash(b"right"));
    let children = [*left.as_bytes(), *right.as_bytes()].concat();
    assert_eq!(
        *left.as_bytes(),
        blake3::derive_key("counterfoil 2026-11-22 leaf", b"left")
    );
    let node = blake3::derive_key("counterfoil 2026-11-22 node", &children);
    assert_eq!(*suite.node_hash(&left, &right).as_bytes(), node);
    assert_eq!(
        *suite.empty_root().as_bytes(),
        blake3::derive_key("counterfoil 2026-11-22 empty", b"")
    );
    let committed = [&[9; 32][..], &5_u64.to_le_bytes(), b"bytes"].concat();
    let commitment = blake3::derive_key("counterfoil 2026-11-22 commitment", &committed);
    assert_eq!(*suite.commitment(&[9; 32], b"bytes").as_bytes(), commitment);
    // Longer than BLAKE3's chunk of 1024 bytes.
    let long = vec![3; 65_535];
    assert_eq!(
        *suite.leaf_hash(&long).as_bytes(),
        blake3::derive_key("counterfoil 2026-11-22 leaf", &long)
    );
}

/// The roots that Certificate Transparency implementations have always been tested with.
#[test]
fn certificate_transparency_roots() {
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let tree = tree(Suite::Sha256, &vectors());
    for (n, root) in roots.into_iter().enumerate() {
        let made =
            counterfoil_merkle::root_at(Suite::Sha256, size(n as u64), |node| tree.read(node)).unwrap();
        assert_eq!(made.to_string(), root, "{n} leaves");
    }
}

#[test]
fn certificate_transparency_proofs() {
    let tree = tree(Suite::Sha256, &vectors());
    let read = |node| tree.read(node);
    let leaf_5_of_8 = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    let proof = inclusion_proof(Suite::Sha256, leaf(5), size(8), read).unwrap();
    assert_eq!(
        proof.iter().map(ToString::to_string).collect::<Vec<_>>(),
        leaf_5_of_8
    );
    let from_6_to_8 = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    let proof = consistency_proof(Suite::Sha256, size(6), size(8), read).unwrap();
    assert_eq!(
        proof.iter().map(ToString::to_string).collect::<Vec<_>>(),
        from_6_to_8
    );
}

#[test]
fn suites_are_known_by_name_only() {
    for suite in Suite::ALL {
        assert_eq!(suite.to_string().parse(), Ok(suite));
    }
    for bad in ["", "BLAKE3", "sha-256", "blake3 "] {
        assert!(
            matches!(bad.parse::<Suite>(), Err(UnknownSuite { .. })),
            "{bad:?}"
        );
    }
}
