//! What is put in comes back: by key, in order, after opening again.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_event::{EventKey, IndexAttribute, IndexKey, Salt};
use counterfoil_merkle::{Digest, LeafIndex, TileId, TreeSize};
use counterfoil_store::{Disk, Store, StoreError, StoreOptions, TreeState, encode_payload};

fn index(index: u64) -> LeafIndex {
    LeafIndex::new(index).unwrap()
}

fn size(size: u64) -> TreeSize {
    TreeSize::new(size).unwrap()
}

fn digest(number: u64) -> Digest {
    let mut bytes = [0x5A; 32];
    // The low byte first, so that digests are not in the order of numbers.
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Digest::from(bytes)
}

fn event(number: u64) -> EventKey {
    EventKey::new("source", &number.to_string())
}

/// Around the places where one byte of a big-endian key runs over into the next, and the largest index.
const INDICES: [u64; 9] = [0, 1, 255, 256, 257, 65_535, 65_536, 1 << 40, (1 << 63) - 2];

fn fill(store: &Store) -> TreeState {
    let state = TreeState {
        size: size(7),
        last_time_unix_ns: u64::MAX,
        compact_range: vec![digest(1), digest(2), digest(3)],
    };
    let mut batch = store.batch();
    // Backwards: what is read in order need not be written so.
    for number in INDICES.into_iter().rev() {
        let record = encode_payload(
            &Salt::from([number.to_le_bytes()[0]; 32]),
            &number.to_be_bytes(),
            &[9; 40],
            &vec![7; (number % 3_000) as usize],
        );
        batch.put_leaf(
            index(number),
            &number.to_le_bytes(),
            record,
            &digest(number),
            &event(number),
        );
        for level in [0, 1, 7] {
            batch.put_tile(TileId { level, index: number }, &[level; 8192]);
        }
    }
    batch.put_tree_state(&state);
    batch.write().unwrap();
    for number in [300, 2, 1 << 33] {
        store.put_head(size(number), &number.to_be_bytes()).unwrap();
    }
    store.put_published_head(size(2), b"signed anew").unwrap();
    state
}

fn check(store: &Store, state: &TreeState) {
    assert_eq!(store.tree_state().unwrap().as_ref(), Some(state));
    for number in INDICES {
        assert_eq!(
            store.entry(index(number), Disk::Allowed).unwrap().unwrap(),
            number.to_le_bytes()
        );
        let payload = store.payload(index(number)).unwrap().unwrap();
        assert_eq!(payload.salt.as_bytes(), &[number.to_le_bytes()[0]; 32]);
        assert_eq!(payload.attributes, number.to_be_bytes());
        assert_eq!(payload.annotations, [9; 40]);
        assert_eq!(payload.data, vec![7; (number % 3_000) as usize]);
        assert_eq!(
            store.index_of_leaf(&digest(number), Disk::Allowed).unwrap(),
            Some(index(number))
        );
        assert_eq!(
            store.index_of_event(&event(number), Disk::Allowed).unwrap(),
            Some(index(number))
        );
        let tile = TileId {
            level: 7,
            index: number,
        };
        assert_eq!(store.tile(tile, Disk::Allowed).unwrap().unwrap(), [7; 8192]);
    }
    let entries: Vec<_> = store
        .entries(LeafIndex::ZERO)
        .map(|row| row.unwrap().0.get())
        .collect();
    assert_eq!(entries, INDICES);
    let from: Vec<_> = store
        .payloads(index(256))
        .map(|row| row.unwrap().0.get())
        .collect();
    assert_eq!(from, INDICES[3..]);
    let between: Vec<_> = store
        .entries(index(258))
        .map(|row| row.unwrap().0.get())
        .collect();
    assert_eq!(between, INDICES[5..]);
    let first = TileId { level: 0, index: 0 };
    let tiles: Vec<_> = store.tiles(first).map(|row| row.unwrap().0).collect();
    assert!(tiles.is_sorted());
    assert_eq!(tiles.len(), 3 * INDICES.len());
    for (place, &first) in tiles.iter().enumerate() {
        let from: Vec<_> = store.tiles(first).map(|row| row.unwrap().0).collect();
        assert_eq!(from, tiles[place..]);
    }
    for rows in [
        store.leaf_hashes().map(Result::unwrap).collect::<Vec<_>>(),
        store.event_ids().map(Result::unwrap).collect(),
    ] {
        assert!(rows.is_sorted());
        assert_eq!(rows.len(), INDICES.len());
    }
    let heads: Vec<_> = store.heads().map(Result::unwrap).collect();
    assert_eq!(
        heads.iter().map(|(size, _)| size.get()).collect::<Vec<_>>(),
        [2, 300, 1 << 33]
    );
    assert_eq!(*heads[0].1, *b"signed anew");
    let newest = store.newest_head().unwrap().unwrap();
    assert_eq!(newest, (size(1 << 33), (1u64 << 33).to_be_bytes().to_vec()));

    // Not the largest, but the one that was published.
    let published = store.published_head().unwrap().unwrap();
    assert_eq!(published, (size(2), b"signed anew".to_vec()));

    // What is not there.
    assert_eq!(store.entry(index(2), Disk::Allowed).unwrap(), None);
    assert_eq!(store.payload(index(2)).unwrap(), None);
    assert_eq!(
        store.tile(TileId { level: 2, index: 0 }, Disk::Allowed).unwrap(),
        None
    );
    assert_eq!(store.index_of_leaf(&digest(9), Disk::Allowed).unwrap(), None);
    let known = store
        .indices_of_events(&[event(256), event(3), event(0), event(256)])
        .unwrap();
    assert_eq!(known, [Some(index(256)), None, Some(index(0)), Some(index(256))]);
}

#[test]
fn rows_come_back_in_order_and_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let options = StoreOptions::default();
    let store = Store::create(&path, &options).unwrap();
    assert_eq!(store.tree_state().unwrap(), None);
    assert_eq!(store.newest_head().unwrap(), None);
    assert_eq!(store.published_head().unwrap(), None);
    let state = fill(&store);
    check(&store, &state);
    drop(store);

    // From RocksDB's log, and from tables.
    let store = Store::open(&path, &options).unwrap();
    check(&store, &state);
    store.flush().unwrap();
    check(&store, &state);
    drop(store);
    check(&Store::open_read_only(&path, &options).unwrap(), &state);
}

#[test]
fn a_batch_that_is_not_written_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(&directory.path().join("db"), &StoreOptions::default()).unwrap();
    let mut batch = store.batch();
    batch.put_leaf(index(0), b"entry", b"record", &digest(0), &event(0));
    assert_eq!(store.entry(index(0), Disk::Allowed).unwrap(), None);
    drop(batch);
    assert_eq!(store.index_of_event(&event(0), Disk::Allowed).unwrap(), None);
}

#[test]
fn what_can_not_be_opened_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let options = StoreOptions::default();
    for opened in [
        Store::open(&path, &options),
        Store::open_read_only(&path, &options),
    ] {
        let refused = opened.err();
        assert!(matches!(refused, Some(StoreError::Missing { .. })), "{refused:?}");
        assert!(!path.exists(), "something was left where a backup has to go");
    }
    let store = Store::create(&path, &options).unwrap();
    let locked = Store::open(&path, &options).err();
    assert!(matches!(locked, Some(StoreError::Locked { .. })), "{locked:?}");
    drop(store);
    assert!(
        Store::create(&path, &options).is_err(),
        "there is a database already"
    );
    Store::open(&path, &options).unwrap();

    // A file that RocksDB needs.
    let manifest = std::fs::read_dir(&path)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("MANIFEST")
        })
        .unwrap();
    std::fs::remove_file(manifest).unwrap();
    let refused = Store::open(&path, &options).err();
    assert!(matches!(refused, Some(StoreError::Corrupt(_))), "{refused:?}");
}

#[test]
fn the_search_index_leads_to_entries_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let store = Store::create(&path, &StoreOptions::default()).unwrap();
    let key = |value: &str| IndexKey::new(IndexAttribute::Commit, value);
    // Keys that are neighbours, so that a search which runs on past its own would show.
    let mut keys: Vec<_> = (0..50).map(|number| key(&number.to_string())).collect();
    keys.sort();
    let mut batch = store.batch();
    for number in INDICES.into_iter().rev() {
        batch.put_index_rows(index(number), &keys);
    }
    batch.put_index_rows(index(3), &keys[10..11]);
    batch.write().unwrap();

    let under = |key: &IndexKey, first: u64| -> Vec<u64> {
        let indices = store.indices_under(key, index(first));
        indices.map(|index| index.unwrap().get()).collect()
    };
    for (place, key) in keys.iter().enumerate() {
        let mut expected = INDICES.to_vec();
        if place == 10 {
            expected.insert(2, 3);
        }
        assert_eq!(under(key, 0), expected);
        assert_eq!(under(key, 257), INDICES[4..]);
    }
    assert_eq!(under(&key("other"), 0), [0; 0]);
    assert!(store.has_index_row(&keys[10], index(3)).unwrap());
    assert!(!store.has_index_row(&keys[11], index(3)).unwrap());
    assert_eq!(store.index_rows().count(), 50 * INDICES.len() + 1);

    store
        .remove_index_rows(&[(keys[10], index(3)), (keys[0], index(0))])
        .unwrap();
    store.add_index_rows(&[(keys[0], index(2))]).unwrap();
    assert_eq!(under(&keys[10], 0), INDICES);
    assert_eq!(under(&keys[0], 0)[..2], [1, 2]);
}

#[test]
fn a_database_from_before_the_search_index_gets_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let options = StoreOptions::default();
    let state = fill(&Store::create(&path, &options).unwrap());
    let rocks = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&rocks, &path).unwrap();
    let mut older = rocksdb::DB::open_cf(&rocks, &path, families).unwrap();
    older.drop_cf("attributes").unwrap();
    drop(older);

    // Reading it makes nothing.
    let key = IndexKey::new(IndexAttribute::Run, "42");
    for _ in 0..2 {
        let read = Store::open_read_only(&path, &options).unwrap();
        check(&read, &state);
        assert_eq!(read.index_rows().count(), 0);
        assert_eq!(read.indices_under(&key, index(0)).count(), 0);
        assert!(!read.has_index_row(&key, index(0)).unwrap());
    }
    let store = Store::open(&path, &options).unwrap();
    check(&store, &state);
    store.add_index_rows(&[(key, index(5))]).unwrap();
    drop(store);
    let read = Store::open_read_only(&path, &options).unwrap();
    assert!(read.has_index_row(&key, index(5)).unwrap());
}

/// Every lookup that can be told to leave the disk alone, as text; the tile's is the last.
fn look_up(store: &Store, number: u64, disk: Disk) -> [Result<String, StoreError>; 5] {
    let tile = TileId {
        level: 7,
        index: number,
    };
    [
        store.entry(index(number), disk).map(|found| format!("{found:?}")),
        store
            .salt(index(number), disk)
            .map(|found| format!("{:?}", found.map(|salt| *salt.as_bytes()))),
        store
            .index_of_leaf(&digest(number), disk)
            .map(|found| format!("{found:?}")),
        store
            .index_of_event(&event(number), disk)
            .map(|found| format!("{found:?}")),
        store.tile(tile, disk).map(|found| format!("{found:?}")),
    ]
}

#[test]
fn without_the_disk_a_lookup_finds_what_is_in_memory_and_says_so_of_all_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create(directory.path(), &StoreOptions::default()).unwrap();
    fill(&store);
    let missing = 9;
    for number in INDICES.into_iter().chain([missing]) {
        for (there, at_once) in
            look_up(&store, number, Disk::Allowed)
                .into_iter()
                .zip(look_up(&store, number, Disk::Forbidden))
        {
            assert_eq!(at_once.unwrap(), there.unwrap(), "just written, it is in memory");
        }
    }
    store.flush().unwrap();
    drop(store);

    let store = Store::open(directory.path(), &StoreOptions::default()).unwrap();
    for at_once in look_up(&store, INDICES[0], Disk::Forbidden) {
        assert!(matches!(at_once, Err(StoreError::NotInMemory)), "{at_once:?}");
    }
    for number in INDICES {
        let [there @ .., _] = look_up(&store, number, Disk::Allowed).map(Result::unwrap);
        let [at_once @ .., tile] = look_up(&store, number, Disk::Forbidden);
        assert_eq!(at_once.map(Result::unwrap), there, "once read, it is in memory");
        assert!(
            matches!(tile, Err(StoreError::NotInMemory)),
            "tiles pass by: {tile:?}"
        );
    }
}
