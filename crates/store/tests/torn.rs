//! What a machine that loses power leaves of RocksDB's log, and what it never leaves.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::PathBuf};

use counterfoil_event::{EventKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex, TreeSize};
use counterfoil_store::{Store, StoreError, StoreOptions, TreeState, encode_payload};

/// The last of them is longer than a block of the log.
const PAYLOAD_BYTES: [usize; 4] = [10, 20, 5_000, 50_000];

/// A database with a batch for each payload, as it is when its process is killed; and the bytes of its log after each batch.
struct Killed {
    directory: tempfile::TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Killed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("live");
        let store = Store::create(&path, &StoreOptions::default()).unwrap();
        let log = || {
            let files = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
            let mut logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
            logs.next().unwrap()
        };
        let mut ends = vec![fs::read(log()).unwrap().len()];
        for (index, length) in (0..).zip(PAYLOAD_BYTES) {
            let noise: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at * at % 251).unwrap() | 1)
                .collect();
            let salt = Salt::from([7; 32]);
            let mut record = encode_payload(&salt, b"attributes", b"", b"");
            record.extend(noise);
            let mut batch = store.batch();
            let leaf = LeafIndex::new(index).unwrap();
            let hash = Digest::from([u8::try_from(index).unwrap(); 32]);
            batch.put_leaf(
                leaf,
                b"entry",
                record,
                &hash,
                &EventKey::new("source", &index.to_string()),
            );
            batch.put_tree_state(&TreeState {
                size: TreeSize::new(index + 1).unwrap(),
                last_time_unix_ns: 1,
                compact_range: vec![],
            });
            batch.write().unwrap();
            ends.push(fs::read(log()).unwrap().len());
        }
        let copy = directory.path().join("killed");
        fs::create_dir(&copy).unwrap();
        for file in fs::read_dir(&path).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let log = copy.join(log().file_name().unwrap());
        Self {
            bytes: fs::read(&log).unwrap(),
            log,
            directory,
            ends,
        }
    }

    /// How many batches are there after this damage: by a start, and by a check that changes nothing.
    fn batches(&self, damage: impl FnOnce(&mut Vec<u8>)) -> Result<u64, StoreError> {
        let mut bytes = self.bytes.clone();
        damage(&mut bytes);
        fs::write(&self.log, &bytes).unwrap();
        let damaged = tempfile::tempdir_in(self.directory.path()).unwrap();
        for file in fs::read_dir(self.log.parent().unwrap())
            .unwrap()
            .map(Result::unwrap)
        {
            fs::copy(file.path(), damaged.path().join(file.file_name())).unwrap();
        }
        let size = |store: Store| {
            store
                .tree_state()
                .map(|state| state.map_or(0, |state| state.size.get()))
        };
        let read = Store::open_read_only(damaged.path(), &StoreOptions::default()).and_then(size);
        let opened = Store::open(damaged.path(), &StoreOptions::default()).and_then(size);
        assert_eq!(read.as_ref().ok(), opened.as_ref().ok());
        if opened.is_ok() {
            // Once more: what was passed over does not come back.
            let again = Store::open(damaged.path(), &StoreOptions::default()).and_then(size);
            assert_eq!(again.ok(), opened.as_ref().ok().copied());
        }
        opened
    }
}

/// Each part of the last write may be missing, at whatever place, and the file as long as if it were not.
#[test]
fn a_torn_last_write_is_passed_over() {
    let killed = Killed::new();
    let [.., start, end] = killed.ends[..] else {
        unreachable!()
    };
    assert_eq!(end, killed.bytes.len());
    assert_eq!(killed.batches(|_| {}).unwrap(), 4);
    for from in [start, start + 1, start + 5, start + 100, start + 40_000, end - 1] {
        assert_eq!(
            killed.batches(|bytes| bytes.truncate(from)).unwrap(),
            3,
            "cut at {from}"
        );
        assert_eq!(
            killed.batches(|bytes| bytes[from..].fill(0)).unwrap(),
            3,
            "zeros from {from}"
        );
        let page = from..(from + 4096).min(end);
        assert_eq!(
            killed.batches(|bytes| bytes[page.clone()].fill(0)).unwrap(),
            3,
            "zeros in {page:?}"
        );
    }
    // Only the end of it is there.
    assert_eq!(
        killed
            .batches(|bytes| bytes[start..start + 33_000].fill(0))
            .unwrap(),
        3
    );
}

/// With a later write behind it, it was acknowledged: nothing may be dropped, wherever it is hit.
#[test]
fn damage_before_the_last_write_stops_the_start() {
    let killed = Killed::new();
    for (batch, pair) in killed.ends.windows(2).take(PAYLOAD_BYTES.len() - 1).enumerate() {
        // Its checksum, its length, its type, its content.
        for at in [
            pair[0],
            pair[0] + 4,
            pair[0] + 5,
            pair[0] + 6,
            pair[0] + 30,
            pair[1] - 1,
        ] {
            let refused = killed.batches(|bytes| bytes[at] ^= 0x40);
            assert!(
                matches!(refused, Err(StoreError::Corrupt(_))),
                "batch {batch}, byte {at}: {refused:?}"
            );
        }
        let refused = killed.batches(|bytes| bytes[pair[0]..pair[1]].fill(0));
        assert!(refused.is_err(), "batch {batch} zeroed: {refused:?}");
    }
}
