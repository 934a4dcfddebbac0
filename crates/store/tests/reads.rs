//! What lookups cost, as RocksDB counts it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use counterfoil_event::{EventKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_store::{Disk, Store, StoreError, StoreOptions, encode_payload};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

const ENTRIES: u64 = 200_000;

/// A database of which most does not fit into so much memory.
fn large(directory: &Path, memory_bytes: usize) -> Store {
    let store = Store::create(directory, &StoreOptions::default()).unwrap();
    let record = encode_payload(&Salt::from([0; 32]), b"", b"", b"");
    for first in (0..ENTRIES).step_by(10_000) {
        let mut batch = store.batch();
        for number in first..first + 10_000 {
            batch.put_leaf(
                index(number),
                b"",
                &record[..],
                &leaf_hash(number),
                &event(number),
            );
        }
        batch.write().unwrap();
        // What was merged from several tables is not kept in memory for being new.
        store.flush().unwrap();
    }
    drop(store);
    let options = StoreOptions {
        memory_bytes,
        ..StoreOptions::default()
    };
    Store::open(directory, &options).unwrap()
}

fn index(number: u64) -> LeafIndex {
    LeafIndex::new(number).unwrap()
}

/// Spread as hashes are.
fn leaf_hash(number: u64) -> Digest {
    let mut hash = [0; 32];
    fastrand::Rng::with_seed(number).fill(&mut hash);
    Digest::from(hash)
}

fn event(number: u64) -> EventKey {
    EventKey::new("source", &number.to_string())
}

/// In a table of random keys a lookup reads the few kilobytes that it needs, also where the table's filter and index do not fit
/// into memory. Read whole, they cost twenty times as much here, and more in a larger log.
#[test]
fn a_lookup_reads_little_where_the_filter_does_not_fit_into_memory() {
    const LOOKUPS: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let store = large(directory.path(), 64 << 10);
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    counts.reset();
    for number in ENTRIES..ENTRIES + LOOKUPS {
        assert_eq!(store.index_of_event(&event(number), Disk::Allowed).unwrap(), None);
    }
    let bytes = counts.metric(PerfMetric::BlockReadByte) / LOOKUPS;
    assert!(bytes < 32 << 10, "{bytes} bytes were read for a lookup");
}

/// Each event that is new asks the filters of all tables, and each that errs costs reads in vain. Some are of what was flushed, some of
/// what was merged.
#[test]
fn a_filter_seldom_errs() {
    const LOOKUPS: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let store = large(directory.path(), 64 << 20);
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    counts.reset();
    for number in ENTRIES..ENTRIES + LOOKUPS {
        assert_eq!(store.index_of_event(&event(number), Disk::Allowed).unwrap(), None);
    }
    let erred = counts.metric(PerfMetric::BloomSstHitCount);
    let asked = erred + counts.metric(PerfMetric::BloomSstMissCount);
    assert!(asked >= LOOKUPS, "{asked} filters were asked");
    assert!(erred * 300 < asked, "{erred} of {asked} filters erred");
}

/// Where only a part of a table is in memory, a lookup without the disk never takes what is there for missing.
#[test]
fn without_the_disk_nothing_that_is_there_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let store = large(directory.path(), 4 << 20);
    let (mut at_once, mut not) = (0, 0);
    for number in (0..ENTRIES).step_by(41) {
        // The parts that one lookup reads are there for some of the next.
        if number % 2 == 0 {
            store.index_of_event(&event(number), Disk::Allowed).unwrap();
            store.index_of_leaf(&leaf_hash(number), Disk::Allowed).unwrap();
        }
        for found in [
            store.index_of_event(&event(number), Disk::Forbidden),
            store.index_of_leaf(&leaf_hash(number), Disk::Forbidden),
        ] {
            match found {
                Ok(found) => {
                    assert_eq!(found, Some(index(number)));
                    at_once += 1;
                }
                Err(StoreError::NotInMemory) => not += 1,
                Err(problem) => panic!("{problem}"),
            }
        }
    }
    assert!(at_once > 0 && not > 0, "{at_once} were in memory, {not} were not");
}
