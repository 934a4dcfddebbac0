//! Opening: a log that is not what was signed before stays shut, and says why.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Barrier, thread};

use counterfoil_event::{Entry, EventKey};
use counterfoil_files::SecretError;
use counterfoil_log::{
    CreateError, DataDirectory, FsckDepth, FsckError, KeyFileError, Log, LogOptions, OpenError, create_log,
    fsck,
};
use counterfoil_merkle::{Suite, TileId};
use counterfoil_store::{Disk, Store, StoreError, StoreOptions, TreeState};

use crate::support::*;

/// A log of `size` entries, closed.
async fn log_of(suite: Suite, size: usize) -> Place {
    let place = Place::new(suite);
    let log = place.open();
    record(&log, &events(0..size - 1)).await;
    drop(log);
    place
}

fn store(place: &Place) -> Store {
    Store::open(&place.directory().database(), &StoreOptions::default()).unwrap()
}

fn refusal(place: &Place) -> OpenError {
    let heads = || -> Vec<_> {
        let store = Store::open_read_only(&place.directory().database(), &StoreOptions::default()).unwrap();
        store.heads().map(Result::unwrap).collect()
    };
    let before = heads();
    let refused = place.open_with(options()).err().expect("the log was opened");
    assert_eq!(before, heads(), "a refused opening signed something");
    refused
}

#[tokio::test]
async fn a_log_is_open_once() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    let second = place.open_with(options()).err();
    assert!(
        matches!(second, Some(OpenError::Store(StoreError::Locked { .. }))),
        "{second:?}"
    );
    drop(log);
    place.open();
}

#[tokio::test]
async fn a_log_that_is_not_there_is_missing() {
    let place = Place::new(Suite::Blake3);
    fs::remove_dir_all(place.directory().database()).unwrap();
    let refused = place.open_with(options()).err();
    assert!(
        matches!(refused, Some(OpenError::Store(StoreError::Missing { .. }))),
        "{refused:?}"
    );
    assert!(!place.directory().database().join("CURRENT").exists());
}

#[tokio::test]
async fn a_log_is_made_once() {
    let place = Place::new(Suite::Blake3);
    let keys = fs::read(place.directory().keys()).unwrap();
    let again = create_log(
        &place.data(),
        &name(),
        &"log.example/test".parse().unwrap(),
        Suite::Blake3,
    );
    assert!(matches!(again, Err(CreateError::Exists(_))), "{again:?}");
    assert_eq!(fs::read(place.directory().keys()).unwrap(), keys);
    let mode = fs::metadata(place.directory().keys())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(place.data().logs().unwrap(), [name()]);
}

#[test]
fn of_those_who_make_a_log_at_once_one_does_and_the_others_leave_no_keys() {
    let root = tempfile::tempdir().unwrap();
    let data = DataDirectory::new(root.path());
    let origin = "log.example/test".parse().unwrap();
    let ready = Barrier::new(4);
    let made = thread::scope(|scope| {
        let makers = [(); 4].map(|()| {
            scope.spawn(|| {
                ready.wait();
                create_log(&data, &name(), &origin, Suite::Blake3)
            })
        });
        makers.map(|maker| maker.join().unwrap())
    });
    let refused = made
        .iter()
        .filter(|made| matches!(made, Err(CreateError::Exists(_))));
    assert_eq!(refused.count(), 3, "{made:?}");
    assert!(made.iter().any(Result::is_ok));
    let left = fs::read_dir(root.path().join("logs")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, [name().as_str()]);
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let place = Place::new(Suite::Blake3);
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(place.directory().keys(), fs::Permissions::from_mode(mode)).unwrap();
        match place.open_with(options()).err() {
            Some(OpenError::Keys {
                problem: KeyFileError::Secret(SecretError::Exposed { mode: found }),
                ..
            }) => assert_eq!(found, mode),
            other => panic!("{other:?}"),
        }
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(place.directory().keys(), fs::Permissions::from_mode(mode)).unwrap();
        place.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_log_are_refused() {
    for suite in SUITES {
        for other in SUITES {
            let (ours, theirs) = (log_of(suite, 5).await, Place::new(other));
            fs::copy(theirs.directory().keys(), ours.directory().keys()).unwrap();
            let refused = refusal(&ours);
            assert!(matches!(refused, OpenError::Genesis(_)), "{refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_older_than_the_anchor() {
    let place = log_of(Suite::Blake3, 10).await;
    let (anchor, backup) = (place.beside("anchor"), place.beside("backup"));
    let anchored = || LogOptions {
        anchor: Some(anchor.clone()),
        ..options()
    };
    place.back_up(&backup);
    let log = place.open_with(anchored()).unwrap();
    record(&log, &events(100..105)).await;
    drop(log);
    place.open_with(anchored()).unwrap();

    place.restore(&backup);
    match place.open_with(anchored()).err() {
        Some(refused @ OpenError::RolledBack { .. }) => {
            let text = refused.to_string();
            for part in ["size 15 ", "holds 10 entries", "entries 10 to 14 are lost"] {
                assert!(text.contains(part), "{text}");
            }
        }
        other => panic!("{other:?}"),
    }
    let by_one = OpenError::RolledBack {
        signed: tree_size(11),
        recovered: tree_size(10),
        witness: "the anchor".into(),
    };
    assert!(by_one.to_string().contains("entry 10 is lost"), "{by_one}");

    // Grown past the anchor with other entries, it is another history.
    let log = place.open();
    record(&log, &events(200..220)).await;
    drop(log);
    match place.open_with(anchored()).err() {
        Some(OpenError::Rewritten { size, witness, .. }) => {
            assert_eq!((size, &*witness), (tree_size(15), "the anchor"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_anchor_is_refused_and_stays() {
    let place = log_of(Suite::Blake3, 3).await;
    let anchor = place.beside("anchor");
    let anchored = LogOptions {
        anchor: Some(anchor.clone()),
        ..options()
    };
    place.open_with(anchored.clone()).unwrap();
    let file = anchor.join(format!("{}.checkpoint", name()));
    let mut note = fs::read(&file).unwrap();
    note[0] ^= 1;
    fs::write(&file, &note).unwrap();
    let refused = place.open_with(anchored.clone()).err();
    assert!(matches!(refused, Some(OpenError::Head { .. })), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), note);

    fs::remove_dir_all(&anchor).unwrap();
    let refused = place.open_with(anchored).err();
    assert!(matches!(refused, Some(OpenError::Anchor { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_behind_its_newest_head_is_refused() {
    let place = log_of(Suite::Sha256, 10).await;
    let backup = place.beside("backup");
    place.back_up(&backup);
    let log = place.open();
    record(&log, &events(100..105)).await;
    drop(log);
    let (size, note) = store(&place).newest_head().unwrap().unwrap();

    // The database alone is old: the head beside it is not.
    fs::remove_dir_all(place.directory().database()).unwrap();
    copy(&backup.join("db"), &place.directory().database());
    rolled_back(refusal(&place), "the newest head beside the database");

    // The whole directory is old, but for one row.
    place.restore(&backup);
    store(&place).put_head(size, &note).unwrap();
    rolled_back(refusal(&place), "the newest stored head");

    place.restore(&backup);
    place.open();
}

fn rolled_back(refused: OpenError, by: &str) {
    match refused {
        OpenError::RolledBack {
            signed,
            recovered,
            witness,
        } => assert_eq!((signed, recovered, &*witness), (tree_size(15), tree_size(10), by)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_head_is_refused() {
    let place = log_of(Suite::Blake3, 10).await;
    let (size, mut note) = store(&place).newest_head().unwrap().unwrap();
    let last = note.len() - 10;
    note[last] ^= 1;
    store(&place).put_head(size, &note).unwrap();
    let refused = refusal(&place);
    assert!(matches!(refused, OpenError::Head { .. }), "{refused:?}");
}

/// Writes entry `at` anew under its old names, with another byte where `change` says.
fn rewrite(place: &Place, at: usize, change: impl Fn(&mut Vec<u8>)) {
    let store = store(place);
    let mut entry = store.entry(index(at), Disk::Allowed).unwrap().unwrap();
    let leaf_hash = place.suite.leaf_hash(&entry);
    change(&mut entry);
    let mut batch = store.batch();
    // Opening reads neither the payload nor the index of events.
    batch.put_leaf(index(at), &entry, b"", &leaf_hash, &EventKey::new("s", "i"));
    batch.write().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_of_the_right_edge_is_refused() {
    for (size, at) in [(10, 5), (300, 256), (300, 299)] {
        let place = log_of(Suite::Blake3, size).await;
        rewrite(&place, at, |entry| entry[5] ^= 1);
        match refusal(&place) {
            OpenError::StateMismatch { size: recorded } => assert_eq!(recorded, tree_size(size)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_tile_is_refused() {
    for suite in SUITES {
        let place = log_of(suite, 600).await;
        let store = store(&place);
        let tile = TileId { level: 0, index: 1 };
        let mut hashes = store.tile(tile, Disk::Allowed).unwrap().unwrap();
        hashes[4_000] ^= 1;
        let mut batch = store.batch();
        batch.put_tile(tile, &hashes);
        batch.write().unwrap();
        drop(store);
        let refused = refusal(&place);
        assert!(matches!(refused, OpenError::StateMismatch { .. }), "{refused:?}");

        let store = self::store(&place);
        let mut batch = store.batch();
        batch.put_tile(tile, &hashes[..100]);
        batch.write().unwrap();
        drop(store);
        let refused = refusal(&place);
        assert!(matches!(refused, OpenError::DataLoss(_)), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_entry_is_refused() {
    for (size, stray) in [(10, 10), (256, 256), (10, 4_000)] {
        let place = log_of(Suite::Blake3, size).await;
        let store = store(&place);
        let entry = store.entry(index(3), Disk::Allowed).unwrap().unwrap();
        let mut batch = store.batch();
        batch.put_leaf(
            index(stray),
            &entry,
            b"",
            &place.suite.leaf_hash(&entry),
            &EventKey::new("s", "i"),
        );
        batch.write().unwrap();
        drop(store);
        match refusal(&place) {
            OpenError::StrayEntry { index: found } => assert_eq!(found, index(stray)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_state_is_refused() {
    let changes: [fn(&mut TreeState); 4] = [
        |state| state.size = tree_size(299),
        |state| state.size = tree_size(301),
        |state| state.size = tree_size(512),
        |state| state.compact_range.swap(0, 1),
    ];
    for change in changes {
        let place = log_of(Suite::Blake3, 300).await;
        let store = store(&place);
        let mut state = store.tree_state().unwrap().unwrap();
        change(&mut state);
        let mut batch = store.batch();
        batch.put_tree_state(&state);
        batch.write().unwrap();
        drop(store);
        let refused = refusal(&place);
        assert!(
            matches!(refused, OpenError::StateMismatch { .. } | OpenError::DataLoss(_)),
            "{refused:?}"
        );
    }
}

/// A rewriting that the database agrees with, down to the state: the signed head alone knows better.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_log_contradicts_its_newest_head() {
    let place = log_of(Suite::Blake3, 10).await;
    rewrite(&place, 9, |entry| entry[5] ^= 1);
    let store = store(&place);
    let mut tree = counterfoil_merkle::CompactRange::new(place.suite);
    for row in store.entries(index(0)) {
        tree.append(place.suite.leaf_hash(&row.unwrap().1));
    }
    let mut state = store.tree_state().unwrap().unwrap();
    state.compact_range = tree.hashes().to_vec();
    let mut batch = store.batch();
    batch.put_tree_state(&state);
    batch.write().unwrap();
    drop(store);
    match refusal(&place) {
        OpenError::Rewritten { size, recovered, .. } => {
            assert_eq!((size, recovered), (tree_size(10), tree.root()));
        }
        other => panic!("{other:?}"),
    }
}

/// The clock may be set back while the log is closed; the log's own time does not follow.
#[tokio::test(flavor = "multi_thread")]
async fn time_goes_on_from_the_newest_entry() {
    let place = log_of(Suite::Blake3, 2).await;
    let future = {
        let store = store(&place);
        let mut state = store.tree_state().unwrap().unwrap();
        state.last_time_unix_ns += 3_600_000_000_000;
        let mut batch = store.batch();
        batch.put_tree_state(&state);
        batch.write().unwrap();
        state.last_time_unix_ns
    };
    let log: Log = place.open();
    record(&log, &events(5..8)).await;
    for at in 2..5 {
        let entry = log.entry(index(at), false).await.unwrap().entry;
        assert_eq!(Entry::decode(&entry).unwrap().time_unix_ns().get(), future);
    }
}

/// A backup had better not have them, and an auditor must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_checked_without_its_secret_keys() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place.open();
        record(&log, &events(0..3)).await;
        let keys = log.verifier_keys();
        drop(log);
        let check = || fsck(&place.data(), &name(), FsckDepth::Payloads, |_| {});
        let with_keys = check().unwrap();
        assert_eq!((with_keys.has_key_file, &with_keys.keys), (true, &keys));

        fs::remove_file(place.directory().keys()).unwrap();
        let without = check().unwrap();
        assert_eq!((without.has_key_file, &without.keys), (false, &keys));
        assert!(without.heads > 0);
        assert_eq!(without.findings, []);

        fs::write(place.directory().keys(), "no keys").unwrap();
        fs::set_permissions(place.directory().keys(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(check(), Err(FsckError::Keys { .. })));
    }
}
