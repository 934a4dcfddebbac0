//! What one hash, one append, one proof and one check cost, in each suite.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use counterfoil_merkle::{
    Digest, Frontier, LeafIndex, NodeId, Suite, Tile, TileId, TreeSize, consistency_proof, inclusion_proof,
    verify_consistency, verify_inclusion,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// A typical entry; docs/PROTOCOL.md bounds it at 65,535.
const ENTRY_BYTES: usize = 300;
const LEAVES: u64 = 1_000_000;
const BATCH: u64 = 256;

/// A log's nodes as a server holds them: full tiles cached, the right edge in the frontier.
struct Tree {
    frontier: Frontier,
    tiles: HashMap<TileId, Arc<Tile>>,
}

impl Tree {
    fn grow(suite: Suite, leaves: u64) -> Self {
        let mut tree = Self {
            frontier: Frontier::new(suite),
            tiles: HashMap::new(),
        };
        for leaf in 0..leaves {
            let Self { frontier, tiles } = &mut tree;
            frontier.append(suite.leaf_hash(&leaf.to_le_bytes()), &mut |id, tile| {
                tiles.insert(id, tile);
            });
        }
        tree
    }

    fn read(&self, node: NodeId) -> Result<Digest, Infallible> {
        let cached = || self.tiles.get(&TileId::containing(node))?.lookup(node);
        Ok(self.frontier.node(node).or_else(cached).unwrap())
    }
}

fn hashes(c: &mut Criterion) {
    let entry = [7; ENTRY_BYTES];
    for suite in Suite::ALL {
        let (left, right) = (suite.leaf_hash(b"left"), suite.leaf_hash(b"right"));
        c.bench_function(&format!("node_hash/{suite}"), |b| {
            b.iter(|| suite.node_hash(black_box(&left), black_box(&right)));
        });
        c.bench_function(&format!("leaf_hash/{suite}/{ENTRY_BYTES}_bytes"), |b| {
            b.iter(|| suite.leaf_hash(black_box(&entry)));
        });
    }
}

fn appends(c: &mut Criterion) {
    let entry = [7; ENTRY_BYTES];
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(BATCH));
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        // As a log does it: hash the leaves, append, take the root, while a published snapshot shares the tiles.
        group.bench_function(format!("{suite}/{BATCH}_entries"), |b| {
            b.iter_batched(
                || tree.frontier.clone(),
                |mut frontier| {
                    for _ in 0..BATCH {
                        frontier.append(suite.leaf_hash(black_box(&entry)), &mut |_, tile| {
                            drop(black_box(tile))
                        });
                    }
                    (frontier.root(), frontier)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn proofs(c: &mut Criterion) {
    for suite in Suite::ALL {
        let tree = Tree::grow(suite, LEAVES);
        let (size, root) = (tree.frontier.size(), tree.frontier.root());
        let index = LeafIndex::new(123_456).unwrap();
        let leaf_hash = suite.leaf_hash(&index.get().to_le_bytes());
        let read = |node| tree.read(node);

        c.bench_function(&format!("inclusion_proof/{suite}/{LEAVES}_leaves"), |b| {
            b.iter(|| inclusion_proof(suite, black_box(index), size, read).unwrap());
        });
        let last = size.last().unwrap();
        c.bench_function(&format!("inclusion_proof_of_last/{suite}/{LEAVES}_leaves"), |b| {
            b.iter(|| inclusion_proof(suite, black_box(last), size, read).unwrap());
        });
        let proof = inclusion_proof(suite, index, size, read).unwrap();
        c.bench_function(&format!("verify_inclusion/{suite}/{LEAVES}_leaves"), |b| {
            b.iter(|| verify_inclusion(suite, leaf_hash, index, size, black_box(&proof), root).unwrap());
        });

        let first = TreeSize::new(654_321).unwrap();
        let first_root = counterfoil_merkle::root_at(suite, first, read).unwrap();
        let proof = consistency_proof(suite, first, size, read).unwrap();
        c.bench_function(&format!("consistency_proof/{suite}/{LEAVES}_leaves"), |b| {
            b.iter(|| consistency_proof(suite, black_box(first), size, read).unwrap());
        });
        c.bench_function(&format!("verify_consistency/{suite}/{LEAVES}_leaves"), |b| {
            b.iter(|| verify_consistency(suite, first, first_root, size, root, black_box(&proof)).unwrap());
        });
    }
}

criterion_group!(benches, hashes, appends, proofs);
criterion_main!(benches);
