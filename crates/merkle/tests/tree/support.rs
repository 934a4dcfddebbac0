use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use counterfoil_merkle::{Digest, Frontier, LeafIndex, NodeId, Suite, Tile, TileId, TreeSize};

/// Past the first tile of level 2 and into the second partial tile of levels 0 and 1.
pub(crate) const LARGE: u64 = 70_000;

/// A log's nodes as a server holds them: full tiles, and the right edge.
pub(crate) struct Tree {
    pub(crate) frontier: Frontier,
    pub(crate) tiles: HashMap<TileId, Arc<Tile>>,
    pub(crate) leaf_hashes: Vec<Digest>,
}

impl Tree {
    pub(crate) fn grow(suite: Suite, leaves: u64) -> Self {
        let mut tree = Self {
            frontier: Frontier::new(suite),
            tiles: HashMap::new(),
            leaf_hashes: Vec::new(),
        };
        (0..leaves).for_each(|leaf| tree.append(&entry(leaf)));
        tree
    }

    pub(crate) fn append(&mut self, entry: &[u8]) {
        let hash = self.frontier.suite().leaf_hash(entry);
        self.leaf_hashes.push(hash);
        let index = self.frontier.append(hash, &mut |id, tile| {
            assert!(tile.is_full());
            assert!(self.tiles.insert(id, tile).is_none(), "{id:?} filled twice");
        });
        assert_eq!(index.size_after().get(), self.leaf_hashes.len() as u64);
    }

    pub(crate) fn read(&self, node: NodeId) -> Result<Digest, NodeId> {
        let filled = || self.tiles.get(&TileId::containing(node))?.lookup(node);
        self.frontier.node(node).or_else(filled).ok_or(node)
    }

    /// One for each suite, of [`LARGE`] leaves.
    pub(crate) fn large(suite: Suite) -> &'static Self {
        static TREES: LazyLock<[Tree; 2]> =
            LazyLock::new(|| Suite::ALL.map(|suite| Tree::grow(suite, LARGE)));
        TREES.iter().find(|tree| tree.frontier.suite() == suite).unwrap()
    }
}

/// Different at each index.
pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

pub(crate) fn size(leaves: u64) -> TreeSize {
    TreeSize::new(leaves).unwrap()
}

pub(crate) fn leaf(index: u64) -> LeafIndex {
    LeafIndex::new(index).unwrap()
}

pub(crate) fn flip(digest: Digest, bit: usize) -> Digest {
    let mut bytes = *digest.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}
