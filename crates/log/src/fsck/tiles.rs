//! Full tiles: each is what the entries make it, and there are no others.

use std::{iter::Peekable, mem};

use counterfoil_merkle::{Digest, FullTile, Tile, TileId};
use counterfoil_store::{Disk, Store, StoreError};

use super::Check;

type Rows<'a> = Peekable<Box<dyn Iterator<Item = Result<(TileId, Box<[u8]>), StoreError>> + 'a>>;

/// For each level, level 0 first, its stored tiles that are still to be compared, in order: as entries fill them. Looking each
/// one up would be a read at random.
#[derive(Default)]
pub(super) struct TileRows<'a>(Vec<Rows<'a>>);

impl<'a> TileRows<'a> {
    /// The rows of a level, from the one that is next. A level begins when its first tile is filled, one after the other.
    fn of_level(&mut self, store: &'a Store, level: u8) -> &mut Rows<'a> {
        let level = usize::from(level);
        while self.0.len() <= level {
            let first = TileId {
                level: u8::try_from(self.0.len()).expect("a tree has eight levels of tiles"),
                index: 0,
            };
            self.0.push(from(store, first));
        }
        &mut self.0[level]
    }
}

fn from(store: &Store, first: TileId) -> Rows<'_> {
    (Box::new(store.tiles(first)) as Box<dyn Iterator<Item = _>>).peekable()
}

impl Check<'_> {
    /// Compares a tile that was just filled with the stored one.
    pub(super) fn check_tile(&mut self, id: TileId, tile: &Tile) {
        self.report.tiles += 1;
        match self.stored_tile(id) {
            Ok(Some(stored)) => {
                let expected = FullTile::of(tile).expect("it was told as full");
                if let Some(problem) = difference(id, &stored, expected.bytes()) {
                    self.find("tiles", place(id), problem);
                }
            }
            Ok(None) => self.find("tiles", place(id), "is missing"),
            Err(problem) => self.find("tiles", place(id), problem),
        }
    }

    fn stored_tile(&mut self, id: TileId) -> Result<Option<Box<[u8]>>, StoreError> {
        let store = self.store;
        let rows = self.tiles.of_level(store, id.level);
        let unreadable = rows.next_if(Result::is_err);
        let next = rows.next_if(|row| row.as_ref().is_ok_and(|(at, _)| *at == id));
        if let Some(Err(problem)) = unreadable {
            self.find("tiles", "scan", problem);
        }
        if let Some(Ok((_, stored))) = next {
            return Ok(Some(stored));
        }
        let stored = store.tile(id, Disk::Allowed);
        if !matches!(stored, Ok(None)) {
            // Damage on the disk ends a scan; go on behind it.
            let behind = TileId {
                index: id.index + 1,
                ..id
            };
            *self.tiles.of_level(store, id.level) = from(store, behind);
        }
        Ok(stored?.map(|bytes| bytes.into()))
    }

    /// Finds tiles that no entries make. Those that they make were compared on the way.
    pub(super) fn find_stray_tiles(&mut self) {
        self.tiles.of_level(self.store, 0);
        let TileRows(levels) = mem::take(&mut self.tiles);
        let last = levels.len() - 1;
        for (level, rows) in levels.into_iter().enumerate() {
            // Rows go on where the next level begins, which has its own; after the last, they are all that is left.
            let is_left = |id: &TileId| level == last || usize::from(id.level) <= level;
            for row in rows.take_while(|row| row.as_ref().map_or(true, |(id, _)| is_left(id))) {
                match row {
                    Ok((id, _)) if id.width_at(self.state.size) == TileId::FULL_WIDTH => {}
                    Ok((id, _)) => self.find("tiles", place(id), "the tree has no such full tile"),
                    Err(problem) => self.find("tiles", "scan", problem),
                }
            }
        }
    }
}

fn place(id: TileId) -> String {
    format!("level {}, tile {}", id.level, id.index)
}

/// How a stored tile differs from what it must be, if it does.
fn difference(tile: TileId, stored: &[u8], expected: &[u8]) -> Option<String> {
    let mut pairs = stored.chunks(Digest::LEN).zip(expected.chunks(Digest::LEN));
    if let Some(hash) = pairs.position(|(stored, expected)| stored != expected) {
        let full = usize::from(TileId::FULL_WIDTH);
        return Some(if hash < full {
            let node = tile.index * u64::from(TileId::FULL_WIDTH) + hash as u64;
            format!("hash {hash} (node {node} of its level) is not what the entries make")
        } else {
            format!(
                "node {} four levels above its hashes is not what the entries make",
                hash - full
            )
        });
    }
    (stored.len() != expected.len())
        .then(|| format!("is {} bytes long instead of {}", stored.len(), expected.len()))
}
