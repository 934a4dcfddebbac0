//! Where tiles and entry bundles are found under a log's prefix: the paths of C2SP tlog-tiles.

use std::{fmt, str::FromStr};

use crate::{TileId, TreeSize};

/// The highest level that a path can name. No tree has tiles above level 7.
const MAX_LEVEL: u8 = 63;
/// A tile's index is written in groups of three digits, so that no directory has many files.
const GROUP: u64 = 1000;
/// Groups in the largest index, 2^64 − 1.
const MAX_GROUPS: u32 = 7;

/// How many hashes a tile has, or entries a bundle: 1 to 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileWidth(u16);

impl TileWidth {
    /// A full tile: 256.
    pub const FULL: Self = Self(TileId::FULL_WIDTH);

    /// A width; none if it is 0 or above 256.
    pub const fn new(width: u16) -> Option<Self> {
        match width {
            1..=TileId::FULL_WIDTH => Some(Self(width)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether it is 256. The paths of full tiles do not name a width.
    pub const fn is_full(self) -> bool {
        self.0 == TileId::FULL_WIDTH
    }
}

/// What lies at one path under a log's prefix.
///
/// Written by `Display` and read by `FromStr`, inverses of each other: `tile/<L>/<N>[.p/<W>]` or
/// `tile/entries/<N>[.p/<W>]`. There is one spelling of each path; every other is refused.
///
/// ```
/// use counterfoil_merkle::{TileId, TilePath, TileWidth};
///
/// let path: TilePath = "tile/1/x001/x234/067.p/8".parse()?;
/// let tile = TileId { level: 1, index: 1_234_067 };
/// assert_eq!(path, TilePath::Tile { tile, width: TileWidth::new(8).ok_or("no width")? });
/// assert_eq!(path.to_string(), "tile/1/x001/x234/067.p/8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TilePath {
    /// The first `width` hashes of a tile.
    Tile {
        /// The tile; its level is at most 63.
        tile: TileId,
        /// Hashes.
        width: TileWidth,
    },
    /// The first `width` of the 256 entries under one tile of level 0.
    Entries {
        /// The index of that tile.
        bundle: u64,
        /// Entries.
        width: TileWidth,
    },
}

impl TilePath {
    /// The tile, or the tile of level 0 that the entries lie under.
    pub const fn tile(self) -> TileId {
        match self {
            Self::Tile { tile, .. } => tile,
            Self::Entries { bundle, .. } => TileId {
                level: 0,
                index: bundle,
            },
        }
    }

    /// Hashes or entries.
    pub const fn width(self) -> TileWidth {
        match self {
            Self::Tile { width, .. } | Self::Entries { width, .. } => width,
        }
    }

    /// Whether a tree of this size has so much of it. A partial tile goes on existing when the tile has filled.
    pub const fn exists_at(self, size: TreeSize) -> bool {
        self.tile().width_at(size) >= self.width().0
    }

    /// The partial tiles on the right edge of a tree of this size, level 0 first, and the partial bundle, last. Everything
    /// else that the tree has is full.
    pub fn partials_at(size: TreeSize) -> impl Iterator<Item = Self> {
        let partial = |(tile, width)| Some((tile, TileWidth::new(width)?));
        let tiles = TileId::right_edge(size).filter_map(partial);
        let bundle = TileId::right_edge(size).take(1).filter_map(partial);
        tiles
            .map(|(tile, width)| Self::Tile { tile, width })
            .chain(bundle.map(|(tile, width)| Self::Entries {
                bundle: tile.index,
                width,
            }))
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile { tile, .. } => write!(f, "tile/{}/", tile.level)?,
            Self::Entries { .. } => f.write_str("tile/entries/")?,
        }
        let index = self.tile().index;
        let higher = (1..MAX_GROUPS).rev().map(|group| index / GROUP.pow(group));
        for group in higher.filter(|&group| group > 0) {
            write!(f, "x{:03}/", group % GROUP)?;
        }
        write!(f, "{:03}", index % GROUP)?;
        if self.width().is_full() {
            return Ok(());
        }
        write!(f, ".p/{}", self.width().0)
    }
}

/// A path that names no tile, or spells one in another way than the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no path of a tile or an entry bundle")]
pub struct InvalidTilePath;

impl FromStr for TilePath {
    type Err = InvalidTilePath;

    fn from_str(path: &str) -> Result<Self, InvalidTilePath> {
        parse(path).ok_or(InvalidTilePath)
    }
}

fn parse(path: &str) -> Option<TilePath> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, parse_short(width, u16::from(u8::MAX))?),
        None => (rest, TileId::FULL_WIDTH),
    };
    let (index, width) = (parse_index(index)?, TileWidth::new(width)?);
    if level == "entries" {
        return Some(TilePath::Entries { bundle: index, width });
    }
    let level = u8::try_from(parse_short(level, MAX_LEVEL.into())?).ok()?;
    let tile = TileId { level, index };
    Some(TilePath::Tile { tile, width })
}

/// A number in three-digit groups, all but the last with an `x` in front.
fn parse_index(text: &str) -> Option<u64> {
    let (higher, last) = match text.rsplit_once('/') {
        Some((higher, last)) => (Some(higher), last),
        None => (None, text),
    };
    let mut index = 0_u64;
    for group in higher.into_iter().flat_map(|higher| higher.split('/')) {
        let group = parse_group(group.strip_prefix('x')?)?;
        index = index.checked_mul(GROUP)?.checked_add(group)?;
        // The first of several groups is not zero, or the number would be written without it.
        if index == 0 {
            return None;
        }
    }
    index.checked_mul(GROUP)?.checked_add(parse_group(last)?)
}

fn parse_group(text: &str) -> Option<u64> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A number of at most three digits without a leading zero.
fn parse_short(text: &str, max: u16) -> Option<u16> {
    let canonical = (1..=3).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    canonical
        .then(|| text.parse().ok())?
        .filter(|&number| number <= max)
}
