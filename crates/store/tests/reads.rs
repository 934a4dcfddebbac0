//! What lookups cost, as RocksDB counts it.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_event::{EventKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_store::{Disk, Store, StoreOptions, encode_payload};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

/// In a table of random keys a lookup reads the few kilobytes that it needs, also where the table's filter and index do not fit
/// into memory. Read whole, they cost twenty times as much here, and more in a larger log.
#[test]
fn a_lookup_reads_little_where_the_filter_does_not_fit_into_memory() {
    const ENTRIES: u64 = 200_000;
    const LOOKUPS: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(directory.path(), &StoreOptions::default()).unwrap();
    let record = encode_payload(&Salt::from([0; 32]), b"", b"", b"");
    for first in (0..ENTRIES).step_by(10_000) {
        let mut batch = store.batch();
        for number in first..first + 10_000 {
            // Spread as hashes are.
            let mut hash = [0; 32];
            fastrand::Rng::with_seed(number).fill(&mut hash);
            let event = EventKey::new("source", &number.to_string());
            let index = LeafIndex::new(number).unwrap();
            batch.put_leaf(index, b"", &record, &Digest::from(hash), &event);
        }
        batch.write().unwrap();
        // What was merged from several tables is not kept in memory for being new.
        store.flush().unwrap();
    }
    drop(store);

    let store = Store::open(
        directory.path(),
        &StoreOptions {
            memory_bytes: 64 << 10,
        },
    )
    .unwrap();
    let new = (ENTRIES..ENTRIES + LOOKUPS).map(|number| EventKey::new("source", &number.to_string()));
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    counts.reset();
    for event in new {
        assert_eq!(store.index_of_event(&event, Disk::Allowed).unwrap(), None);
    }
    let bytes = counts.metric(PerfMetric::BlockReadByte) / LOOKUPS;
    assert!(bytes < 32 << 10, "{bytes} bytes were read for a lookup");
}
