//! The paths of tiles: one spelling each, the same as another implementation's.

use std::panic::catch_unwind;

use counterfoil_merkle::{TileId, TilePath, TileWidth, TreeSize};
use proptest::prelude::*;
use tlog_tiles::Tile as OracleTile;

use crate::support::size;

fn path(level: u8, index: u64, width: u16) -> TilePath {
    let width = TileWidth::new(width).unwrap();
    let tile = TileId { level, index };
    TilePath::Tile { tile, width }
}

fn entries(bundle: u64, width: u16) -> TilePath {
    let width = TileWidth::new(width).unwrap();
    TilePath::Entries { bundle, width }
}

/// The path that the oracle writes. Its scheme also names the height, always 8, and says `data` for `entries`.
fn oracle_path(path: TilePath) -> String {
    let TileId { level, index } = path.tile();
    let is_data = matches!(path, TilePath::Entries { .. });
    let path = OracleTile::new(8, level, index, path.width().get().into(), is_data).path();
    path.replacen("tile/8/", "tile/", 1)
        .replacen("tile/data/", "tile/entries/", 1)
}

/// Whether the oracle takes the path. It panics on some that it does not.
fn oracle_takes(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("tile/") else {
        return false;
    };
    let path = match rest.strip_prefix("entries/") {
        Some(rest) => format!("tile/8/data/{rest}"),
        None if rest.starts_with("data/") => return false,
        None => format!("tile/8/{rest}"),
    };
    catch_unwind(|| OracleTile::from_path(&path).is_ok()).unwrap_or(false)
}

fn any_path() -> impl Strategy<Value = TilePath> {
    // Indices of all lengths.
    let index = (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift);
    let width = prop_oneof![1..=256_u16, Just(256)];
    (any::<bool>(), 0..64_u8, index, width).prop_map(|(bundle, level, index, width)| {
        if bundle {
            entries(index, width)
        } else {
            path(level, index, width)
        }
    })
}

proptest! {
    #[test]
    fn a_path_is_read_as_it_was_written(path in any_path()) {
        let text = path.to_string();
        prop_assert_eq!(text.parse(), Ok(path));
        prop_assert_eq!(&text, &oracle_path(path));
        prop_assert!(oracle_takes(&text));
    }

    /// Of all texts near a path, those are taken that would be written, and the oracle agrees.
    #[test]
    fn what_is_read_would_be_written_so(
        path in any_path(), place in any::<prop::sample::Index>(), cut in 0..3_usize, with in "[0-9xp./+% a-]{0,2}",
    ) {
        let mut text = path.to_string();
        let start = place.index(text.len());
        let end = (start + cut).min(text.len());
        text.replace_range(start..end, &with);
        let parsed = text.parse::<TilePath>();
        if let Ok(parsed) = parsed {
            prop_assert_eq!(parsed.to_string(), text.clone());
        }
        prop_assert_eq!(parsed.is_ok(), oracle_takes(&text), "{}", text);
    }

    /// The oracle lists what a tree that grows from nothing has to publish: all full tiles and the partial ones.
    #[test]
    fn the_partial_tiles_of_a_size_are_the_oracles(leaves in 0..200_000_u64) {
        let mut expected: Vec<_> = OracleTile::new_tiles(8, 0, leaves)
            .into_iter()
            .filter(|tile| tile.width() < 256)
            .map(|tile| path(tile.level(), tile.level_index(), tile.width() as u16))
            .collect();
        if let Some(first) = expected.first().filter(|first| first.tile().level == 0) {
            expected.push(entries(first.tile().index, first.width().get()));
        }
        prop_assert_eq!(TilePath::partials_at(size(leaves)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn examples() {
    let cases = [
        (path(0, 0, 256), "tile/0/000"),
        (path(0, 0, 1), "tile/0/000.p/1"),
        (path(7, 999, 255), "tile/7/999.p/255"),
        (path(63, 1000, 256), "tile/63/x001/000"),
        (path(1, 1_234_067, 256), "tile/1/x001/x234/067"),
        (entries(0, 256), "tile/entries/000"),
        (entries(1_000_000, 10), "tile/entries/x001/x000/000.p/10"),
        (
            entries(u64::MAX, 256),
            "tile/entries/x018/x446/x744/x073/x709/x551/615",
        ),
    ];
    for (path, text) in cases {
        assert_eq!(path.to_string(), text);
        assert_eq!(text.parse(), Ok(path));
    }
}

#[test]
fn other_spellings_are_refused() {
    let others = [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/000/",
        "tile/0//000",
        "tile//0/000",
        "/tile/0/000",
        " tile/0/000",
        "tile/0/000 ",
        "Tile/0/000",
        "tile/00/000",
        "tile/01/000",
        "tile/+1/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/256/000",
        "tile/0x0/000",
        "tile/data/000",
        "tile/Entries/000",
        "tile/entries",
        "tile/entries/",
        "tile/0/x000/000",
        "tile/0/x000/x001/000",
        "tile/0/X001/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x001/x000",
        "tile/0/x0001/000",
        "tile/0/x01/000",
        "tile/0/xx001/000",
        "tile/0/+01",
        "tile/0/ 01",
        "tile/0/٠٠٠",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/65537",
        "tile/0/000.p/+1",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000.P/1",
        "tile/0/000p/1",
        "tile/0/x001.p/000",
        "tile/0/000?a=b",
        "tile/0/%30%30%30",
        "tile/0/../0/000",
        "tile/0/./000",
        "tile/0/000\n",
        "tile/0/000\0",
        // 2^64, and numbers with as many groups and more.
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x001/x000/x000/x000/x000/x000/x000/000",
    ];
    for text in others {
        assert!(text.parse::<TilePath>().is_err(), "{text:?}");
    }
    assert!(
        format!("tile/0/{}000", "x999/".repeat(100_000))
            .parse::<TilePath>()
            .is_err()
    );
}

#[test]
fn what_a_size_has() {
    let partials = |leaves| TilePath::partials_at(size(leaves)).collect::<Vec<_>>();
    assert_eq!(partials(0), []);
    assert_eq!(partials(1), [path(0, 0, 1), entries(0, 1)]);
    assert_eq!(partials(256), [path(1, 0, 1)]);
    assert_eq!(
        partials(70_000),
        [
            path(0, 273, 112),
            path(1, 1, 17),
            path(2, 0, 1),
            entries(273, 112)
        ]
    );
    for (path, exists) in [
        (path(0, 272, 256), true),
        (path(0, 272, 3), true),
        (path(0, 273, 112), true),
        (path(0, 273, 113), false),
        (path(0, 273, 256), false),
        (path(0, 274, 1), false),
        (path(2, 0, 1), true),
        (path(3, 0, 1), false),
        (path(63, 0, 1), false),
        (entries(273, 112), true),
        (entries(273, 256), false),
        (entries(u64::MAX, 1), false),
        (path(63, u64::MAX, 256), false),
    ] {
        assert_eq!(path.exists_at(size(70_000)), exists, "{path}");
    }
    assert_eq!(TilePath::partials_at(TreeSize::MAX).count(), 9);
    assert_eq!([0, 257, u16::MAX].map(TileWidth::new), [None; 3]);
}
