//! Tiles, the frontier of tiles, and resuming from what was stored.

use std::collections::HashMap;

use counterfoil_merkle::{
    CompactRange, Frontier, FrontierError, FullTile, LeafIndex, NodeId, OutOfRange, Suite, Tile, TileError,
    TileId, TreeSize, inclusion_proofs, verify_inclusion,
};

use crate::reference;
use crate::support::{LARGE, Tree, entry, leaf, size};

#[test]
fn a_tile_knows_every_complete_node_over_its_hashes() {
    for suite in Suite::ALL {
        let hashes: Vec<_> = (0..256).map(|index| suite.leaf_hash(&entry(index))).collect();
        let mut tile = Tile::new();
        for width in 0..=256_u16 {
            assert_eq!(tile.width(), width);
            assert_eq!(tile.is_full(), width == 256);
            assert_eq!(tile.hashes(), &hashes[..usize::from(width)]);
            for height in 0..=8_u8 {
                for index in 0..=256 >> height {
                    let span = usize::from(index) << height..(usize::from(index) + 1) << height;
                    let complete = span.end <= usize::from(width);
                    let expected = complete.then(|| reference::root(suite, &hashes[span]));
                    assert_eq!(
                        tile.node(height, index),
                        expected,
                        "width {width}, height {height}, {index}"
                    );
                }
            }
            assert_eq!(tile.root(), tile.node(8, 0));
            assert_eq!(Tile::from_bytes(suite, &tile.hashes_bytes()).unwrap(), tile);
            if width < 256 {
                tile.push(suite, hashes[usize::from(width)]);
            }
        }
        assert_eq!(tile.node(9, 0), None);
        // Shifted by 16, the end of this one would be 0.
        assert_eq!(tile.node(16, u16::MAX), None);
        assert_eq!(tile.node(u8::MAX, u16::MAX), None);
    }
}

#[test]
fn a_full_tile_makes_the_same_nodes_from_what_is_kept() {
    for suite in Suite::ALL {
        let hashes: Vec<_> = (0..256).map(|index| suite.leaf_hash(&entry(index))).collect();
        let tile = Tile::from_hashes(suite, &hashes).unwrap();
        let kept = FullTile::from_bytes(FullTile::of(&tile).unwrap().bytes()).unwrap();
        assert_eq!(kept.hashes_bytes(), tile.hashes_bytes());
        // The second tile of the second level: nodes are looked up by where they are in the tree.
        for height in 0..8_u8 {
            for index in 0..256_u16 >> height {
                let node = NodeId {
                    level: 8 + height,
                    index: (256 >> height) + u64::from(index),
                };
                let expected = tile.node(height, index).unwrap();
                assert_eq!(kept.node(suite, node), expected, "{node:?}");
            }
        }
        let partial = Tile::from_hashes(suite, &hashes[..255]).unwrap();
        assert_eq!(FullTile::of(&partial), None);
    }
}

#[test]
fn bytes_that_are_no_tile_are_refused() {
    let suite = Suite::Blake3;
    for len in [
        0,
        8192,
        FullTile::BYTES - 1,
        FullTile::BYTES + 1,
        FullTile::BYTES + 32,
    ] {
        assert_eq!(
            FullTile::from_bytes(&vec![0; len]),
            Err(TileError::NotFull { got: len })
        );
    }
    for len in [1, 31, 33, 8191, 8193] {
        assert_eq!(
            Tile::from_bytes(suite, &vec![0; len]),
            Err(TileError::Ragged { got: len })
        );
    }
    assert_eq!(
        Tile::from_bytes(suite, &[0; 8192 + 32]),
        Err(TileError::TooWide { got: 257 })
    );
    let hashes = vec![suite.empty_root(); 257];
    assert_eq!(
        Tile::from_hashes(suite, &hashes),
        Err(TileError::TooWide { got: 257 })
    );
}

#[test]
#[should_panic(expected = "256 hashes")]
fn a_full_tile_takes_no_more() {
    let suite = Suite::Blake3;
    let mut tile = Tile::from_bytes(suite, &[0; 8192]).unwrap();
    tile.push(suite, suite.empty_root());
}

#[test]
fn nodes_lie_where_tlog_tiles_puts_them() {
    let cases = [
        // (level, index), (tile level, tile index), (height, index in tile)
        ((0, 0), (0, 0), (0, 0)),
        ((0, 255), (0, 0), (0, 255)),
        ((0, 256), (0, 1), (0, 0)),
        ((1, 127), (0, 0), (1, 127)),
        ((1, 128), (0, 1), (1, 0)),
        ((7, 1), (0, 0), (7, 1)),
        ((7, 2), (0, 1), (7, 0)),
        ((8, 0), (1, 0), (0, 0)),
        ((8, 257), (1, 1), (0, 1)),
        ((15, 5), (1, 2), (7, 1)),
        ((62, 0), (7, 0), (6, 0)),
    ];
    for ((level, index), (tile_level, tile_index), (height, index_in_tile)) in cases {
        let node = NodeId { level, index };
        assert_eq!(
            TileId::containing(node),
            TileId {
                level: tile_level,
                index: tile_index
            },
            "{node:?}"
        );
        assert_eq!(
            (node.height_in_tile(), node.index_in_tile()),
            (height, index_in_tile),
            "{node:?}"
        );
    }
}

#[test]
fn widths_on_the_right_edge() {
    let edge = |n| {
        TileId::right_edge(size(n))
            .map(|(id, width)| (id.level, id.index, width))
            .collect::<Vec<_>>()
    };
    assert_eq!(edge(0), []);
    assert_eq!(edge(1), [(0, 0, 1)]);
    assert_eq!(edge(256), [(0, 1, 0), (1, 0, 1)]);
    assert_eq!(edge(70_000), [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    assert_eq!(TileId::right_edge(TreeSize::MAX).count(), 8);
    assert!(
        TileId::right_edge(TreeSize::MAX)
            .take(7)
            .all(|(_, width)| width == 255)
    );
    assert_eq!(TileId { level: 7, index: 0 }.width_at(TreeSize::MAX), 127);
    for level in [8, 63, u8::MAX] {
        assert_eq!(
            TileId { level, index: 0 }.width_at(TreeSize::MAX),
            0,
            "there is no such level"
        );
    }
}

#[test]
fn full_tiles_and_the_frontier_are_every_node_of_the_tree() {
    for suite in Suite::ALL {
        let tree = Tree::large(suite);
        for level in 0..=17_u8 {
            let nodes = LARGE >> level;
            // All of the higher levels, and the ends of the long ones.
            for index in (0..nodes.min(300)).chain(nodes.saturating_sub(300)..nodes) {
                let span = (index << level) as usize..((index + 1) << level) as usize;
                let node = NodeId { level, index };
                if span.len() <= 256 {
                    assert_eq!(
                        tree.read(node).unwrap(),
                        reference::root(suite, &tree.leaf_hashes[span])
                    );
                } else {
                    let children = [2 * index, 2 * index + 1].map(|index| NodeId {
                        level: level - 1,
                        index,
                    });
                    let [left, right] = children.map(|child| tree.read(child).unwrap());
                    assert_eq!(tree.read(node).unwrap(), suite.node_hash(&left, &right));
                }
            }
            assert!(
                tree.read(NodeId { level, index: nodes }).is_err(),
                "an incomplete node was read"
            );
        }
    }
}

/// Also where the last leaf of a tile of the next level is among them.
#[test]
fn the_frontier_and_the_tiles_that_leaves_fill_prove_these_leaves() {
    let suite = Suite::Blake3;
    let leaf_hash = |index: u64| suite.leaf_hash(&entry(index));
    for (before, after) in [(0, 1), (255, 257), (250, 850), (65_000, 65_536), (65_535, 65_793)] {
        let mut frontier = Frontier::new(suite);
        for index in 0..before {
            frontier.append(leaf_hash(index), &mut |_, _| {});
        }
        let mut filled = HashMap::new();
        for index in before..after {
            frontier.append(leaf_hash(index), &mut |id, tile| {
                filled.insert(id, tile);
            });
        }
        let read = |node| {
            let tile = filled.get(&TileId::containing(node));
            frontier.node(node).or_else(|| tile?.lookup(node)).ok_or(node)
        };
        let proofs = inclusion_proofs(suite, (before..after).map(leaf), size(after), read).unwrap();
        for (index, proof) in (before..after).zip(&proofs) {
            verify_inclusion(
                suite,
                leaf_hash(index),
                leaf(index),
                size(after),
                proof,
                frontier.root(),
            )
            .unwrap();
        }
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let suite = Suite::Blake3;
    let mut tree = Tree::grow(suite, 300);
    let (snapshot, root) = (tree.frontier.clone(), tree.frontier.root());
    (300..1000).for_each(|index| tree.append(&entry(index)));
    assert_eq!((snapshot.size(), snapshot.root()), (size(300), root));
    assert_eq!(
        snapshot.node(NodeId { level: 0, index: 299 }),
        Some(tree.leaf_hashes[299])
    );
    assert_eq!(snapshot.node(NodeId { level: 0, index: 300 }), None);
}

#[test]
fn a_resumed_tree_grows_as_if_it_had_never_stopped() {
    for suite in Suite::ALL {
        for stop in [0, 1, 255, 256, 257, 1000, 65_535, 65_536, LARGE] {
            let mut range = CompactRange::new(suite);
            let mut frontier = Frontier::new(suite);
            for hash in &Tree::large(suite).leaf_hashes[..stop as usize] {
                range.append(*hash);
                frontier.append(*hash, &mut |_, _| {});
            }
            let tiles = frontier
                .tiles()
                .map(|(_, tile)| Tile::from_bytes(suite, &tile.hashes_bytes()).unwrap())
                .collect();
            let mut resumed = Frontier::from_tiles(suite, frontier.size(), tiles).unwrap();
            let mut resumed_range =
                CompactRange::from_parts(suite, size(stop), frontier.compact_range()).unwrap();
            assert_eq!(
                (resumed.root(), resumed_range.root()),
                (frontier.root(), range.root())
            );
            for index in stop..stop + 300 {
                let hash = suite.leaf_hash(&entry(index));
                let (mut filled, mut filled_resumed) = (Vec::new(), Vec::new());
                frontier.append(hash, &mut |id, tile| filled.push((id, tile)));
                resumed.append(hash, &mut |id, tile| filled_resumed.push((id, tile)));
                range.append(hash);
                resumed_range.append(hash);
                assert_eq!(filled, filled_resumed);
            }
            assert_eq!(
                (resumed.root(), resumed_range.root()),
                (frontier.root(), range.root())
            );
            assert_eq!(frontier.root(), range.root());
        }
    }
}

#[test]
fn what_does_not_fit_the_size_is_refused() {
    let suite = Suite::Sha256;
    let tiles: Vec<Tile> = Tree::grow(suite, 300)
        .frontier
        .tiles()
        .map(|(_, tile)| tile.as_ref().clone())
        .collect();
    let levels = Frontier::from_tiles(suite, size(300), tiles[..1].to_vec()).unwrap_err();
    assert_eq!(
        levels,
        FrontierError::Levels {
            size: size(300),
            expected: 2,
            got: 1
        }
    );
    let width = Frontier::from_tiles(suite, size(301), tiles.clone()).unwrap_err();
    assert_eq!(
        width,
        FrontierError::Width {
            size: size(301),
            level: 0,
            expected: 45,
            got: 44
        }
    );
    let width = Frontier::from_tiles(suite, size(300 + 256), tiles).unwrap_err();
    assert_eq!(
        width,
        FrontierError::Width {
            size: size(556),
            level: 1,
            expected: 2,
            got: 1
        }
    );
    for (leaves, hashes) in [(0, 1), (1, 0), (4, 2), (7, 2)] {
        CompactRange::from_parts(suite, size(leaves), vec![suite.empty_root(); hashes]).unwrap_err();
    }
}

#[test]
fn sizes_and_indexes_end_at_their_limits() {
    let max = i64::MAX as u64;
    assert_eq!(TreeSize::new(max), Ok(TreeSize::MAX));
    assert_eq!(TreeSize::new(max + 1), Err(OutOfRange { value: max + 1, max }));
    assert_eq!(LeafIndex::new(max - 1), Ok(LeafIndex::MAX));
    assert_eq!(
        LeafIndex::new(max),
        Err(OutOfRange {
            value: max,
            max: max - 1
        })
    );
    assert_eq!(LeafIndex::MAX.size_after(), TreeSize::MAX);
    assert_eq!(TreeSize::MAX.last(), Some(LeafIndex::MAX));
    assert_eq!(TreeSize::ZERO.last(), None);
    assert!(size(5).contains(leaf(4)) && !size(5).contains(leaf(5)));
}
