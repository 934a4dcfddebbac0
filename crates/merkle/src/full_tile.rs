use crate::{Digest, NodeId, Suite, Tile, TileError, TileId};

/// Height of the nodes that are kept beside the hashes: halfway up.
const MIDDLE: u8 = TileId::HEIGHT / 2;
const HASHES_BYTES: usize = TileId::FULL_WIDTH as usize * Digest::LEN;

/// A full tile as it is stored and kept in memory: its 256 hashes, then the 16 nodes four levels above them. With these, a node
/// is at most 15 hashes away instead of 255, and what is read can be used at once.
///
/// It is not verified: whether hashes and nodes are of one tree, a proof made from them shows, or whoever makes the tile anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile(Box<[[u8; Digest::LEN]]>);

impl FullTile {
    /// Bytes of a tile: 256 and 16 hashes.
    pub const BYTES: usize = HASHES_BYTES + (HASHES_BYTES >> MIDDLE);

    /// What to keep of a tile. `None` if it is not full.
    pub fn of(tile: &Tile) -> Option<Self> {
        let middle = (0..TileId::FULL_WIDTH >> MIDDLE).map(|index| tile.node(MIDDLE, index));
        let middle: Option<Vec<_>> = middle.collect();
        let hashes = tile
            .hashes()
            .iter()
            .chain(&middle?)
            .map(|hash| *hash.as_bytes())
            .collect();
        Some(Self(hashes))
    }

    /// The tile with these [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// If there are not [`BYTES`](Self::BYTES) of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TileError> {
        match bytes.as_chunks::<{ Digest::LEN }>() {
            (hashes, []) if bytes.len() == Self::BYTES => Ok(Self(hashes.into())),
            _ => Err(TileError::NotFull { got: bytes.len() }),
        }
    }

    /// All bytes, 32 a hash: the form that is stored.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }

    /// The bytes of the 256 hashes: the form that is served.
    pub fn hashes_bytes(&self) -> &[u8] {
        &self.bytes()[..HASHES_BYTES]
    }

    /// Makes a node that lies in this tile, whose tree has this suite. The caller chose the tile by [`TileId::containing`].
    pub fn node(&self, suite: Suite, node: NodeId) -> Digest {
        self.node_at(suite, node.height_in_tile(), usize::from(node.index_in_tile()))
    }

    fn node_at(&self, suite: Suite, height: u8, index: usize) -> Digest {
        match height {
            0 => Digest::from(self.0[index]),
            MIDDLE => Digest::from(self.0[usize::from(TileId::FULL_WIDTH) + index]),
            _ => {
                let child = |child| self.node_at(suite, height - 1, child);
                suite.node_hash(&child(2 * index), &child(2 * index + 1))
            }
        }
    }
}
