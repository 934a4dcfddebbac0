use std::sync::Arc;

use crate::compact::join;
use crate::{Digest, LeafIndex, NodeId, Suite, Tile, TileId, TreeSize};

/// The right edge of a growing tree: the last, partial tile of each tile level. Together with the full tiles that it
/// hands out it is every node of the tree.
///
/// Cloning takes a snapshot for the price of at most 8 reference counts; a tile that a snapshot shares is copied when
/// the next leaf changes it.
#[derive(Clone, Debug)]
pub struct Frontier {
    suite: Suite,
    size: TreeSize,
    /// By tile level; as wide as [`TileId::right_edge`] says.
    partials: Vec<Arc<Tile>>,
}

impl Frontier {
    /// The empty tree.
    pub const fn new(suite: Suite) -> Self {
        Self {
            suite,
            size: TreeSize::ZERO,
            partials: Vec::new(),
        }
    }

    /// Resumes from the tiles that [`TileId::right_edge`] names, level 0 first, those of width 0 included. Whether
    /// they are true shows in the root alone: compare it with a signed head.
    ///
    /// # Errors
    /// If the number of tiles or the width of one does not fit the size.
    pub fn from_tiles(suite: Suite, size: TreeSize, partials: Vec<Tile>) -> Result<Self, FrontierError> {
        let expected_levels = TileId::right_edge(size).count();
        if partials.len() != expected_levels {
            return Err(FrontierError::Levels {
                size,
                expected: expected_levels,
                got: partials.len(),
            });
        }
        for ((TileId { level, .. }, expected), tile) in TileId::right_edge(size).zip(&partials) {
            if tile.width() != expected {
                return Err(FrontierError::Width {
                    size,
                    level,
                    expected,
                    got: tile.width(),
                });
            }
        }
        Ok(Self {
            suite,
            size,
            partials: partials.into_iter().map(Arc::new).collect(),
        })
    }

    /// Adds a leaf and returns its index. `filled` is called for each tile that the leaf fills, level 0 first;
    /// the frontier then forgets that tile.
    ///
    /// # Panics
    /// If the tree has 2^63 − 1 leaves.
    pub fn append(&mut self, leaf_hash: Digest, filled: &mut impl FnMut(TileId, Arc<Tile>)) -> LeafIndex {
        let leaf = LeafIndex::new(self.size.get()).expect("a tree has at most 2^63 - 1 leaves");
        let mut node = NodeId::leaf(leaf);
        let mut hash = leaf_hash;
        loop {
            let id = TileId::containing(node);
            let level = usize::from(id.level);
            if level == self.partials.len() {
                self.partials.push(Arc::default());
            }
            let tile = Arc::make_mut(&mut self.partials[level]);
            tile.push(self.suite, hash);
            let Some(root) = tile.root() else { break };
            filled(id, std::mem::take(&mut self.partials[level]));
            // The root of a full tile is the next hash of the level above.
            node = NodeId {
                level: node.level + TileId::HEIGHT,
                index: id.index,
            };
            hash = root;
        }
        self.size = leaf.size_after();
        leaf
    }

    /// The suite that hashes this tree.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The number of leaves appended.
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// The root of the tree. At most 62 node hashes.
    pub fn root(&self) -> Digest {
        join(self.suite, self.peaks()).unwrap_or_else(|| self.suite.empty_root())
    }

    /// The perfect subtrees' roots, the largest first: one for each one bit of the size, as
    /// [`CompactRange::from_parts`](crate::CompactRange::from_parts) takes them.
    pub fn compact_range(&self) -> Vec<Digest> {
        self.peaks().collect()
    }

    /// The partial tile of each tile level, level 0 first, as [`Self::from_tiles`] takes them.
    pub fn tiles(&self) -> impl Iterator<Item = (TileId, &Arc<Tile>)> {
        TileId::right_edge(self.size)
            .map(|(id, _)| id)
            .zip(&self.partials)
    }

    /// A node, if it lies in a partial tile and is complete. Other complete nodes are in the full tiles.
    pub fn node(&self, node: NodeId) -> Option<Digest> {
        let id = TileId::containing(node);
        let tile = self.partials.get(usize::from(id.level))?;
        // The partial tile comes after all full ones of its level.
        let nodes = self.size.get() >> (id.level * TileId::HEIGHT);
        (id.index == nodes >> TileId::HEIGHT).then(|| tile.lookup(node))?
    }

    fn peaks(&self) -> impl DoubleEndedIterator<Item = Digest> {
        self.partials.iter().rev().flat_map(|tile| tile.peaks())
    }
}

/// Tiles that are not the right edge of a tree of the size given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Not one tile for each tile level.
    #[error("a tree of {size} leaves has {expected} tile levels, not {got}")]
    Levels {
        /// The tree size given.
        size: TreeSize,
        /// The tile levels of a tree of that size.
        expected: usize,
        /// The tiles given.
        got: usize,
    },
    /// A tile has another width than the right edge at its level.
    #[error("in a tree of {size} leaves the last tile of level {level} has {expected} hashes, not {got}")]
    Width {
        /// The tree size given.
        size: TreeSize,
        /// The tile level.
        level: u8,
        /// The width that the size implies.
        expected: u16,
        /// The width of the tile given.
        got: u16,
    },
}
