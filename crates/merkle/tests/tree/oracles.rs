//! The `sha256` suite against two other implementations.

use counterfoil_merkle::{
    Digest, Suite, TileId, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use tlog_tiles::{Hash, HashReader};

use crate::exhaustive::LEAVES;
use crate::support::{LARGE, Tree, entry, leaf, size};

const SUITE: Suite = Suite::Sha256;

fn digests(bytes: &[u8]) -> Vec<Digest> {
    let (digests, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    digests.iter().copied().map(Digest::from).collect()
}

fn hashes(digests: &[Digest]) -> Vec<Hash> {
    digests.iter().map(|digest| Hash(*digest.as_bytes())).collect()
}

#[test]
fn ct_merkle_has_the_same_roots_and_proofs() {
    let ours = Tree::grow(SUITE, LEAVES);
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for n in 1..=LEAVES {
        theirs.push(entry(n - 1));
        let root = Digest::try_from(theirs.root().as_bytes().as_slice()).unwrap();
        for index in 0..n {
            let proof = inclusion_proof(SUITE, leaf(index), size(n), |node| ours.read(node)).unwrap();
            assert_eq!(
                proof,
                digests(theirs.prove_inclusion(index as usize).as_bytes()),
                "leaf {index} of {n}"
            );
            let leaf_hash = SUITE.leaf_hash(&entry(index));
            verify_inclusion(SUITE, leaf_hash, leaf(index), size(n), &proof, root).unwrap();
        }
        for first in 1..=n {
            let proof = consistency_proof(SUITE, size(first), size(n), |node| ours.read(node)).unwrap();
            let expected = theirs.prove_consistency((n - first) as usize);
            assert_eq!(proof, digests(expected.as_bytes()), "{first} to {n}");
        }
    }
}

/// Every hash of a log, in the order of `tlog_tiles::stored_hash_index`.
#[derive(Default)]
struct StoredHashes(Vec<Hash>);

impl StoredHashes {
    fn grow(leaves: u64) -> Self {
        let mut stored = Self::default();
        for index in 0..leaves {
            let new = tlog_tiles::stored_hashes(index, &entry(index), &stored).unwrap();
            stored.0.extend(new);
        }
        stored
    }
}

impl HashReader for StoredHashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|&index| self.0[index as usize]).collect())
    }
}

/// Sizes about where tiles of each level fill.
const SIZES: [u64; 12] = [
    1, 2, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 65_793, LARGE,
];

#[test]
fn tlog_tiles_has_the_same_tiles_roots_and_proofs() {
    let ours = Tree::large(SUITE);
    let theirs = StoredHashes::grow(LARGE);
    let read = |node| ours.read(node);
    for n in SIZES {
        let root = counterfoil_merkle::root_at(SUITE, size(n), read).unwrap();
        let their_root = tlog_tiles::tree_hash(n, &theirs).unwrap();
        assert_eq!(*root.as_bytes(), their_root.0, "{n} leaves");
        for index in [0, 1, n / 3, n / 2, n.saturating_sub(256), n - 1]
            .into_iter()
            .filter(|&index| index < n)
        {
            let proof = inclusion_proof(SUITE, leaf(index), size(n), read).unwrap();
            assert_eq!(
                hashes(&proof),
                tlog_tiles::prove_record(n, index, &theirs).unwrap(),
                "leaf {index} of {n}"
            );
            let leaf_hash = tlog_tiles::record_hash(&entry(index));
            tlog_tiles::check_record(&hashes(&proof), n, their_root, index, leaf_hash).unwrap();
        }
        for first in SIZES
            .into_iter()
            .chain([n / 3, n / 2, n - 1])
            .filter(|first| (1..=n).contains(first))
        {
            let proof = consistency_proof(SUITE, size(first), size(n), read).unwrap();
            assert_eq!(
                hashes(&proof),
                tlog_tiles::prove_tree(n, first, &theirs).unwrap(),
                "{first} to {n}"
            );
            let first_root = Digest::from(tlog_tiles::tree_hash(first, &theirs).unwrap().0);
            verify_consistency(SUITE, size(first), first_root, size(n), root, &proof).unwrap();
        }
    }
    for tile in tlog_tiles::Tile::new_tiles(8, 0, LARGE) {
        let id = TileId {
            level: tile.level(),
            index: tile.level_index(),
        };
        let our_tile = match ours.tiles.get(&id) {
            Some(full) => full,
            None => ours.frontier.tiles().find(|&(edge, _)| edge == id).unwrap().1,
        };
        assert_eq!(u32::from(id.width_at(size(LARGE))), tile.width(), "{id:?}");
        assert_eq!(
            our_tile.hashes_bytes(),
            tile.read_data(&theirs).unwrap(),
            "{id:?}"
        );
    }
}

#[test]
fn tlog_tiles_names_the_same_tiles() {
    for n in (0..600).chain(SIZES) {
        let theirs = tlog_tiles::Tile::new_tiles(8, 0, n);
        for tile in &theirs {
            let id = TileId {
                level: tile.level(),
                index: tile.level_index(),
            };
            assert_eq!(
                u32::from(id.width_at(size(n))),
                tile.width(),
                "{n} leaves, {id:?}"
            );
        }
        // The index on the right edge counts the full tiles before it.
        let ours = TileId::right_edge(size(n)).map(|(id, width)| id.index + u64::from(width > 0));
        assert_eq!(ours.sum::<u64>(), theirs.len() as u64, "{n} leaves");
    }
}
