//! Where things are in a tree: sizes, leaves, perfect subtrees, and the tiles that hold them.

use std::fmt;

/// A number of leaves, 0 to 2^63 − 1. As the end of a range it is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(u64);

/// The position of a leaf, from 0; at most 2^63 − 2, the last leaf of the largest tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(u64);

impl TreeSize {
    /// The empty tree.
    pub const ZERO: Self = Self(0);
    /// The largest tree: tlog-checkpoint keeps sizes within a signed 64-bit integer.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// # Errors
    /// If `leaves` is above 2^63 − 1.
    pub const fn new(leaves: u64) -> Result<Self, OutOfRange> {
        if leaves > Self::MAX.0 {
            return Err(OutOfRange {
                value: leaves,
                max: Self::MAX.0,
            });
        }
        Ok(Self(leaves))
    }

    /// The number of leaves.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether a tree of this size has the leaf.
    pub const fn contains(self, index: LeafIndex) -> bool {
        index.0 < self.0
    }

    /// The last leaf; none in the empty tree.
    pub const fn last(self) -> Option<LeafIndex> {
        match self.0.checked_sub(1) {
            Some(index) => Some(LeafIndex(index)),
            None => None,
        }
    }
}

impl LeafIndex {
    /// The first leaf: a log's genesis entry.
    pub const ZERO: Self = Self(0);
    /// The last leaf of the largest tree.
    pub const MAX: Self = Self(TreeSize::MAX.0 - 1);

    /// # Errors
    /// If `index` is above 2^63 − 2.
    pub const fn new(index: u64) -> Result<Self, OutOfRange> {
        if index > Self::MAX.0 {
            return Err(OutOfRange {
                value: index,
                max: Self::MAX.0,
            });
        }
        Ok(Self(index))
    }

    /// The position, from 0.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The size of the tree that ends before this leaf.
    pub const fn size_before(self) -> TreeSize {
        TreeSize(self.0)
    }

    /// The size of the smallest tree that has this leaf.
    pub const fn size_after(self) -> TreeSize {
        TreeSize(self.0 + 1)
    }
}

impl TryFrom<u64> for TreeSize {
    type Error = OutOfRange;

    fn try_from(leaves: u64) -> Result<Self, OutOfRange> {
        Self::new(leaves)
    }
}

impl TryFrom<u64> for LeafIndex {
    type Error = OutOfRange;

    fn try_from(index: u64) -> Result<Self, OutOfRange> {
        Self::new(index)
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number is too large to be a tree size or a leaf index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is out of range: at most {max}")]
pub struct OutOfRange {
    /// The number refused.
    pub value: u64,
    /// The largest that would have been accepted.
    pub max: u64,
}

/// The root of a perfect subtree: the leaves `[index << level, (index + 1) << level)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Height above the leaves, 0 to 62.
    pub level: u8,
    /// Position among the nodes of its level, from the left.
    pub index: u64,
}

impl NodeId {
    /// The node that is a leaf.
    pub const fn leaf(index: LeafIndex) -> Self {
        Self {
            level: 0,
            index: index.0,
        }
    }

    /// Height above the bottom row of [the tile](TileId::containing) that holds the node, 0 to 7.
    pub const fn height_in_tile(self) -> u8 {
        self.level % TileId::HEIGHT
    }

    /// Position among the nodes of the same height in the tile that holds the node, 0 to 255.
    pub const fn index_in_tile(self) -> u16 {
        // Masked below 256, so nothing is cut off.
        #[allow(clippy::cast_possible_truncation)]
        let index = (self.index & ((TileId::FULL_WIDTH as u64 >> self.height_in_tile()) - 1)) as u16;
        index
    }
}

/// A tile in tlog-tiles' numbering: tile `index` of level `L` holds up to 256 neighbouring nodes of tree level 8·`L`.
/// Ordered by level, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Tile level, 0 to 7; the leaves are in level 0.
    pub level: u8,
    /// Position among the tiles of its level, from the left.
    pub index: u64,
}

impl TileId {
    /// Tree levels that a tile spans.
    pub const HEIGHT: u8 = 8;
    /// Hashes in the bottom row of a full tile.
    pub const FULL_WIDTH: u16 = 1 << Self::HEIGHT;

    /// The tile that holds a node. A node of level 8·`L` is in the bottom row of a tile of level `L`.
    pub const fn containing(node: NodeId) -> Self {
        Self {
            level: node.level / Self::HEIGHT,
            index: node.index >> (Self::HEIGHT - node.height_in_tile()),
        }
    }

    /// How many hashes the tile has in a tree of this size: 256 if full, 0 if it does not exist.
    pub const fn width_at(self, size: TreeSize) -> u16 {
        let nodes = nodes_at(self.level, size);
        let full_tiles = nodes >> Self::HEIGHT;
        if self.index < full_tiles {
            Self::FULL_WIDTH
        } else if self.index == full_tiles {
            partial_width(nodes)
        } else {
            0
        }
    }

    /// The tile on the right edge at each tile level of a tree of this size, level 0 first, with its width, 0 to 255.
    /// A width of 0 means that the level's last tile has just filled. Empty for the empty tree; at most 8 tiles.
    pub fn right_edge(size: TreeSize) -> impl Iterator<Item = (Self, u16)> {
        (0..)
            .map(move |level| (level, nodes_at(level, size)))
            .take_while(|&(_, nodes)| nodes > 0)
            .map(|(level, nodes)| {
                (
                    Self {
                        level,
                        index: nodes >> Self::HEIGHT,
                    },
                    partial_width(nodes),
                )
            })
    }
}

/// How many perfect subtrees of 256^`tile_level` leaves a tree has.
const fn nodes_at(tile_level: u8, size: TreeSize) -> u64 {
    match size.0.checked_shr(tile_level as u32 * TileId::HEIGHT as u32) {
        Some(nodes) => nodes,
        None => 0,
    }
}

const fn partial_width(nodes: u64) -> u16 {
    // Masked below 256, so nothing is cut off.
    #[allow(clippy::cast_possible_truncation)]
    let width = (nodes & (TileId::FULL_WIDTH as u64 - 1)) as u16;
    width
}
