//! Tile paths, tiles and proofs.

use counterfoil_merkle::{
    Digest, FullTile, InclusionVerifier, LeafIndex, NodeId, Suite, Tile, TileId, TilePath, TreeSize,
    verify_consistency, verify_inclusion,
};
use tlog_tiles::Hash;

use super::text;
use crate::{
    Target,
    sample::{HONEST, LEAVES, Sample, at},
};

pub(super) const PATH: Target = Target {
    name: "tile_path",
    about: "paths of tiles and entry bundles",
    seeds: path_seeds,
    words: &["tile/", "entries/", "x001/", ".p/", "/000", "..", "%2f", "//"],
    max_bytes: 256,
    run: path,
};

fn path_seeds() -> Vec<Vec<u8>> {
    [
        "tile/0/000",
        "tile/0/x001/234",
        "tile/63/x018/x446/x744/x073/x709/x551/615.p/255",
        "tile/entries/x001/x234/067.p/8",
        "tile/entries/999",
        "tile/00/000",
        "tile/0/000.p/256",
        "tile/0/x000/001",
    ]
    .map(|path| path.as_bytes().to_vec())
    .to_vec()
}

/// A path has one spelling, and names to others what it names to us.
fn path(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let ours = text.parse::<TilePath>();
    if let Ok(path) = ours {
        assert_eq!(path.to_string(), text);
    }
    let rest = text.strip_prefix("tile/").unwrap_or_default();
    // Theirs panics at levels that nobody has, and at a width of zero.
    let level = rest.split('/').next().unwrap_or_default();
    let width = rest.split_once(".p/").map_or("256", |(_, width)| width);
    let is_level = level == "entries" || level.parse::<u8>().is_ok_and(|level| level <= 63);
    if !is_level || width.parse() == Ok(0_u32) {
        assert!(ours.is_err());
        return;
    }
    let theirs = match rest.strip_prefix("entries/") {
        Some(rest) => tlog_tiles::Tile::from_path(&format!("tile/8/data/{rest}")),
        None => tlog_tiles::Tile::from_path(&format!("tile/8/{rest}")),
    };
    match (ours, theirs) {
        (Ok(path), Ok(tile)) => {
            assert_eq!(u32::from(path.width().get()), tile.width());
            assert_eq!(
                (path.tile().level, path.tile().index),
                (tile.level(), tile.level_index())
            );
        }
        (Err(_), Err(_)) => {}
        // Theirs counts in i64, and may say that a path is too long where ours does not.
        (Ok(path), Err(_)) => assert!(path.tile().index > i64::MAX as u64, "{text}"),
        (Err(_), Ok(tile)) => panic!("we refuse {text}, and they read {}", tile.path()),
    }
}

pub(super) const TILE: Target = Target {
    name: "tile",
    about: "tiles",
    seeds: tile_seeds,
    words: &[],
    max_bytes: 8 << 10,
    run: tile,
};

fn tile_seeds() -> Vec<Vec<u8>> {
    [1, 2, 3, 11, 255, 256, 257]
        .map(|width| (0..=250).cycle().take(width * 32).collect())
        .to_vec()
}

/// A tile is written as it was read, and has a root if it is full, which others compute too.
fn tile(input: &[u8]) {
    for suite in Suite::ALL {
        let Ok(tile) = Tile::from_bytes(suite, input) else {
            assert!(input.is_empty() || !input.len().is_multiple_of(32) || input.len() > 256 * 32);
            continue;
        };
        assert_eq!(tile.hashes_bytes(), input);
        assert_eq!(usize::from(tile.width()), input.len() / 32);
        assert_eq!(tile.is_full(), tile.root().is_some());
        if let Some(root) = tile.root().filter(|_| suite == Suite::Sha256) {
            assert_eq!(*root.as_bytes(), tlog_tiles::Tile::subtree_hash(input).0);
        }
    }
}

pub(super) const FULL_TILE: Target = Target {
    name: "full_tile",
    about: "full tiles as they are stored: hashes, then some of the nodes above them",
    seeds: full_tile_seeds,
    words: &[],
    max_bytes: 9 << 10,
    run: full_tile,
};

fn full_tile_seeds() -> Vec<Vec<u8>> {
    let hashes: Vec<u8> = (0..=250).cycle().take(256 * 32).collect();
    let stored = |suite| {
        let tile = Tile::from_bytes(suite, &hashes).unwrap();
        FullTile::of(&tile).unwrap().bytes().to_vec()
    };
    Suite::ALL.map(stored).to_vec()
}

/// A full tile is written as it was read. Nodes below those that are stored are of its hashes, and so are all others if those are.
fn full_tile(input: &[u8]) {
    let Ok(full) = FullTile::from_bytes(input) else {
        assert_ne!(input.len(), FullTile::BYTES);
        return;
    };
    assert_eq!(full.bytes(), input);
    assert!(input.starts_with(full.hashes_bytes()));
    for suite in Suite::ALL {
        let tile = Tile::from_bytes(suite, full.hashes_bytes()).unwrap();
        let is_whole = FullTile::of(&tile).unwrap() == full;
        let heights = if is_whole { TileId::HEIGHT } else { STORED_HEIGHT };
        for level in 0..heights {
            for index in 0..u64::from(TileId::FULL_WIDTH >> level) {
                let node = NodeId { level, index };
                assert_eq!(Some(full.node(suite, node)), tile.lookup(node));
            }
        }
    }
}

/// How high above the hashes the nodes are that are stored with them.
const STORED_HEIGHT: u8 = 4;

pub(super) const PROOF: Target = Target {
    name: "proof",
    about: "proofs: a suite's byte, three numbers of eight bytes, then hashes",
    seeds: proof_seeds,
    words: &["\0\0\0\0\0\0\0\x01", "\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f"],
    max_bytes: 3 << 10,
    run: proof,
};

/// Three numbers, which stand for what they do in either kind of proof: an index or smaller size, a size, and unused.
fn proof_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, log) in (0_u8..).zip(HONEST.iter()) {
        for size in 1..=LEAVES {
            for first in 0..=size {
                let hashes =
                    |proof: Vec<Digest>| proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>();
                let seed = |proof| {
                    [
                        &[number][..],
                        &first.to_be_bytes(),
                        &size.to_be_bytes(),
                        &hashes(proof),
                    ]
                    .concat()
                };
                if first < size {
                    let mut proof = vec![log.leaf_hash(first)];
                    proof.extend(log.inclusion(first, size));
                    seeds.push(seed(proof));
                }
                if first > 0 {
                    let mut proof = vec![log.root(first)];
                    proof.extend(log.consistency(first, size));
                    seeds.push(seed(proof));
                }
            }
        }
    }
    seeds
}

/// What is proved is true; both of our verifiers say the same, and so does another's.
fn proof(input: &[u8]) {
    let Some((&[suite], rest)) = input.split_first_chunk() else {
        return;
    };
    let Some((first, rest)) = rest.split_first_chunk() else {
        return;
    };
    let Some((size, rest)) = rest.split_first_chunk() else {
        return;
    };
    let (first, size) = (u64::from_be_bytes(*first), u64::from_be_bytes(*size));
    let hashes: Vec<Digest> = rest.as_chunks().0.iter().copied().map(Digest::from).collect();
    let Some((claimed, proof)) = hashes.split_first() else {
        return;
    };
    let log = &HONEST[usize::from(suite & 1)];
    inclusion(log, first, size, *claimed, proof);
    consistency(log, first, size, *claimed, proof);
}

fn inclusion(log: &Sample, index: u64, size: u64, leaf_hash: Digest, proof: &[Digest]) {
    let (Ok(index), Ok(tree)) = (LeafIndex::new(index), TreeSize::new(size)) else {
        return;
    };
    // A size that the log never had is tried with a root that it had.
    let root = log.roots[at(size % (LEAVES + 1))];
    let ours = verify_inclusion(log.suite(), leaf_hash, index, tree, proof, root);
    let again = InclusionVerifier::new(log.suite(), tree, root).verify(leaf_hash, index, proof);
    assert_eq!(ours, again);
    if ours.is_ok() && size <= LEAVES {
        assert_eq!(leaf_hash, log.leaf_hash(index.get()));
    }
    if log.suite() == Suite::Sha256 && size > 0 {
        let proof = proof.iter().map(|hash| Hash(*hash.as_bytes())).collect();
        let theirs = tlog_tiles::check_record(&proof, size, hash(root), index.get(), hash(leaf_hash));
        assert_eq!(ours.is_ok(), theirs.is_ok());
    }
}

fn consistency(log: &Sample, first: u64, size: u64, first_root: Digest, proof: &[Digest]) {
    let (Ok(old), Ok(new)) = (TreeSize::new(first), TreeSize::new(size)) else {
        return;
    };
    let root = log.roots[at(size % (LEAVES + 1))];
    let ours = verify_consistency(log.suite(), old, first_root, new, root, proof);
    if ours.is_ok() {
        assert!(0 < first && first <= size);
        if size <= LEAVES {
            assert_eq!(first_root, log.root(first));
        }
    }
    if log.suite() == Suite::Sha256 && size > 0 && first > 0 {
        let proof = proof.iter().map(|hash| Hash(*hash.as_bytes())).collect();
        let theirs = tlog_tiles::check_tree(&proof, size, hash(root), first, hash(first_root));
        assert_eq!(ours.is_ok(), theirs.is_ok());
    }
}

fn hash(digest: Digest) -> Hash {
    Hash(*digest.as_bytes())
}
