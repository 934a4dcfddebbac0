use crate::{Digest, NodeId, Suite, TileId};

/// Up to 256 neighbouring hashes of one tree level, with the interior nodes over them, so that any sibling within
/// eight levels is a lookup. A full tile holds 511 digests.
///
/// A tile of width `w` is the first `w` hashes of the full one; pushing never changes what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tile {
    bottom: Vec<Digest>,
    /// Interior nodes in the order in which they became complete: by last hash beneath, then by height.
    interior: Vec<Digest>,
}

impl Tile {
    /// An empty tile.
    pub const fn new() -> Self {
        Self {
            bottom: Vec::new(),
            interior: Vec::new(),
        }
    }

    /// The tile with this bottom row.
    ///
    /// # Errors
    /// If there are more than 256 hashes.
    pub fn from_hashes(suite: Suite, hashes: &[Digest]) -> Result<Self, TileError> {
        if hashes.len() > usize::from(TileId::FULL_WIDTH) {
            return Err(TileError::TooWide { got: hashes.len() });
        }
        let mut tile = Self {
            bottom: Vec::with_capacity(hashes.len()),
            interior: Vec::with_capacity(hashes.len()),
        };
        for &hash in hashes {
            tile.push(suite, hash);
        }
        Ok(tile)
    }

    /// The tile whose bottom row has these bytes, 32 a hash: the form that is stored and served.
    ///
    /// # Errors
    /// If the length is not a multiple of 32, or above 8192.
    pub fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<{ Digest::LEN }>();
        if !rest.is_empty() {
            return Err(TileError::Ragged { got: bytes.len() });
        }
        if hashes.len() > usize::from(TileId::FULL_WIDTH) {
            return Err(TileError::TooWide { got: hashes.len() });
        }
        let hashes: Vec<_> = hashes.iter().copied().map(Digest::from).collect();
        Self::from_hashes(suite, &hashes)
    }

    /// The bottom row's bytes, 32 a hash.
    pub fn hashes_bytes(&self) -> Vec<u8> {
        self.bottom.iter().flat_map(Digest::as_bytes).copied().collect()
    }

    /// Adds a hash to the bottom row, and the interior nodes that it completes.
    ///
    /// # Panics
    /// If the tile is full.
    pub fn push(&mut self, suite: Suite, hash: Digest) {
        assert!(!self.is_full(), "a tile holds 256 hashes");
        self.bottom.push(hash);
        let width = self.width();
        let mut node = hash;
        // The new hash completes one node for each trailing zero of the width: each the right child of the next.
        for height in 1..=width.trailing_zeros() {
            let left = self.node_at(height - 1, (width >> (height - 1)) - 2);
            node = suite.node_hash(&left, &node);
            self.interior.push(node);
        }
    }

    /// Hashes in the bottom row, 0 to 256.
    pub fn width(&self) -> u16 {
        u16::try_from(self.bottom.len()).expect("a tile holds at most 256 hashes")
    }

    /// Whether the bottom row has all its 256 hashes.
    pub fn is_full(&self) -> bool {
        self.bottom.len() == usize::from(TileId::FULL_WIDTH)
    }

    /// The bottom row, from the left. In a tile of level 0 these are leaf hashes.
    pub fn hashes(&self) -> &[Digest] {
        &self.bottom
    }

    /// The node at a height above the bottom row (0 to 8), from the left; none if it is not complete.
    pub fn node(&self, height: u8, index: u16) -> Option<Digest> {
        if height > TileId::HEIGHT {
            return None;
        }
        let end = (u32::from(index) + 1) << height;
        (end <= u32::from(self.width())).then(|| self.node_at(u32::from(height), index))
    }

    /// Looks up a node that lies in this tile. The caller chose the tile by [`TileId::containing`].
    pub fn lookup(&self, node: NodeId) -> Option<Digest> {
        self.node(node.height_in_tile(), node.index_in_tile())
    }

    /// The node over all 256 hashes; none until the tile is full.
    pub fn root(&self) -> Option<Digest> {
        self.node(TileId::HEIGHT, 0)
    }

    /// The perfect subtrees that the bottom row falls into, the largest (leftmost) first. Empty if the tile is.
    pub(crate) fn peaks(&self) -> impl DoubleEndedIterator<Item = Digest> {
        let width = self.width();
        (0..=u32::from(TileId::HEIGHT))
            .rev()
            .filter(move |height| width >> height & 1 == 1)
            .map(move |height| self.node_at(height, (width >> height) - 1))
    }

    /// The node is complete.
    fn node_at(&self, height: u32, index: u16) -> Digest {
        if height == 0 {
            return self.bottom[usize::from(index)];
        }
        // The hash that completes the node comes after `before` others, which completed `before − popcount` nodes.
        let before = ((usize::from(index) + 1) << height) - 1;
        self.interior[before - before.count_ones() as usize + height as usize - 1]
    }
}

/// Bytes or hashes that are no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// More than 256 hashes.
    #[error("a tile holds at most 256 hashes, not {got}")]
    TooWide {
        /// The hashes found.
        got: usize,
    },
    /// The bytes are not those of a full tile as it is stored.
    #[error("a full tile has {} bytes, not {got}", crate::FullTile::BYTES)]
    NotFull {
        /// The bytes found.
        got: usize,
    },
    /// The bytes end within a hash.
    #[error("a tile's bytes are a multiple of 32, not {got}")]
    Ragged {
        /// The bytes found.
        got: usize,
    },
}
