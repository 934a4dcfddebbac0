//! Damage of every kind, done to a log's rows behind its back, and where the check finds it.
//!
//! The rows are written with RocksDB itself, so that its checksums fit. That is why these tests are here and not with the
//! check: no other crate may use RocksDB.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path, time::Duration};

use counterfoil_event::{Event, EventParts, IndexAttribute, IndexKey, Submitter};
use counterfoil_log::{
    DataDirectory, Finding, FsckDepth, FsckError, FsckReport, Log, LogName, LogOptions, Outcome,
    RebuildReport, SubmitError, create_log, fsck, rebuild_search_index,
};
use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{LogSigner, SignerKey, UnixMillis};
use counterfoil_store::StoreError;
use rocksdb::{ColumnFamily, DB, IteratorMode, Options};

/// Entries 0 to 599: two full tiles of level 0, and 88 leaves on the right edge.
const SIZE: u64 = 600;

/// A log of [`SIZE`] entries, closed. Its heads are for sizes 1 and 600.
struct SoundLog {
    root: tempfile::TempDir,
}

impl SoundLog {
    async fn new(suite: Suite) -> Self {
        Self::of(suite, event).await
    }

    async fn of(suite: Suite, event: impl Fn(u64) -> Event) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(root.path());
        create_log(&data, &name(), &"log.example/test".parse().unwrap(), suite).unwrap();
        let options = LogOptions {
            publish_interval: Duration::from_secs(3600),
            ..LogOptions::default()
        };
        let log = Log::open(&data, &name(), options).unwrap();
        let events = (1..SIZE)
            .map(|id| log.prepare(event(id), &Submitter::anonymous()))
            .collect();
        log.submit(events).await.unwrap();
        drop(log);
        let sound = Self { root };
        let report = check(sound.root.path()).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.heads, report.tiles, report.payloads), (2, 2, SIZE));
        assert_eq!(report.tree_size.get(), SIZE);
        sound
    }

    /// What the check finds in a copy with this damage: the places.
    fn places(&self, damage: impl FnOnce(&Rows)) -> Vec<String> {
        let findings = self.findings(damage);
        findings
            .iter()
            .map(|finding| format!("{} {}", finding.family, finding.place))
            .collect()
    }

    fn findings(&self, damage: impl FnOnce(&Rows)) -> Vec<Finding> {
        let report = self.check_damaged(damage).unwrap();
        assert_eq!(report.finding_count, report.findings.len() as u64);
        report.findings
    }

    fn check_damaged(&self, damage: impl FnOnce(&Rows)) -> Result<FsckReport, FsckError> {
        let copied = tempfile::tempdir().unwrap();
        copy(self.root.path(), copied.path());
        let rows = Rows::open(copied.path());
        damage(&rows);
        drop(rows);
        check(copied.path())
    }

    fn signer(&self) -> LogSigner {
        let keys = fs::read_to_string(DataDirectory::new(self.root.path()).log(&name()).keys()).unwrap();
        let keys = keys.lines().map(|line| line.parse::<SignerKey>().unwrap());
        LogSigner::new(keys.collect()).unwrap()
    }
}

/// The rows of a log's database, without the store.
struct Rows {
    db: DB,
}

impl Rows {
    fn open(data: &Path) -> Self {
        let path = DataDirectory::new(data).log(&name()).database();
        let options = Options::default();
        let families = DB::list_cf(&options, &path).unwrap();
        Self {
            db: DB::open_cf(&options, &path, families).unwrap(),
        }
    }

    fn family(&self, family: &str) -> &ColumnFamily {
        self.db.cf_handle(family).unwrap()
    }

    fn get(&self, family: &str, key: impl AsRef<[u8]>) -> Vec<u8> {
        self.db.get_cf(self.family(family), key).unwrap().unwrap()
    }

    fn put(&self, family: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.db.put_cf(self.family(family), key, value).unwrap();
    }

    fn delete(&self, family: &str, key: impl AsRef<[u8]>) {
        self.get(family, &key);
        self.db.delete_cf(self.family(family), key).unwrap();
    }

    fn change(&self, family: &str, key: impl AsRef<[u8]>, change: impl FnOnce(&mut Vec<u8>)) {
        let mut value = self.get(family, &key);
        change(&mut value);
        self.put(family, key, value);
    }

    /// The key of the row that leads to an entry.
    fn key_to(&self, family: &str, index: u64) -> Vec<u8> {
        self.db
            .iterator_cf(self.family(family), IteratorMode::Start)
            .map(Result::unwrap)
            .find(|(_, value)| **value == row(index))
            .unwrap()
            .0
            .into_vec()
    }
}

fn name() -> LogName {
    LogName::default()
}

fn event(id: u64) -> Event {
    Event::try_from(EventParts {
        id: format!("run-{id}"),
        source: "https://ci.example/acme".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: format!("{{\"run\":{id}}}").into(),
        ..EventParts::default()
    })
    .unwrap()
}

fn check(data: &Path) -> Result<FsckReport, FsckError> {
    let mut last = 0;
    let report = fsck(
        &DataDirectory::new(data),
        &name(),
        FsckDepth::Payloads,
        |progress| {
            assert!(last <= progress.checked && progress.checked <= progress.entries);
            last = progress.checked;
        },
    );
    // It changes nothing, so it finds the same again.
    if let Ok(report) = &report {
        let again = fsck(&DataDirectory::new(data), &name(), FsckDepth::Payloads, |_| {}).unwrap();
        assert_eq!(again.findings, report.findings);
        // Without the payloads, all that is not about them is found all the same.
        let tree = fsck(&DataDirectory::new(data), &name(), FsckDepth::Tree, |_| {}).unwrap();
        let about_the_tree = |findings: &[Finding]| {
            let families = ["leaf_hashes", "tiles", "heads", "meta"];
            let mut findings = findings.to_vec();
            findings.retain(|finding| families.contains(&finding.family));
            findings
        };
        assert_eq!(about_the_tree(&tree.findings), about_the_tree(&report.findings));
        assert!(
            tree.findings
                .iter()
                .all(|finding| report.findings.contains(finding))
        );
    }
    report
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

fn row(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn tile(level: u8, index: u64) -> Vec<u8> {
    [&[level][..], &index.to_be_bytes()].concat()
}

fn hex(key: &[u8]) -> String {
    Digest::try_from(key).unwrap().to_string()
}

const SUITES: [Suite; 2] = [Suite::Blake3, Suite::Sha256];

#[tokio::test]
async fn a_changed_entry() {
    for suite in SUITES {
        let sound = SoundLog::new(suite).await;
        // In a full tile, and on the right edge. The entry stays well-formed, and what it commits to the same.
        for (index, in_tile) in [(17, Some("tiles level 0, tile 0")), (599, None)] {
            let mut old_hash = String::new();
            let places = sound.places(|rows| {
                old_hash = hex(&rows.key_to("leaf_hashes", index));
                rows.change("entries", row(index), |entry| {
                    let at = entry.windows(3).position(|bytes| bytes == b"api").unwrap();
                    entry[at + 2] = b'j';
                });
            });
            let mut expected: Vec<_> = in_tile.map(str::to_owned).into_iter().collect();
            expected.extend([
                "heads size 600".to_owned(),
                "heads beside the database".to_owned(),
                "meta tree".to_owned(),
                format!("leaf_hashes index {index}"),
                format!("leaf_hashes row {old_hash}"),
            ]);
            assert_eq!(places, expected);
        }
    }
}

#[tokio::test]
async fn an_entry_that_is_none_any_more() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let places = sound.places(|rows| rows.put("entries", row(300), b"garbage"));
    assert_eq!(places[0], "entries index 300");
    assert!(places.contains(&"leaf_hashes index 300".into()), "{places:?}");

    // Its type is not that of the attributes to which it commits.
    let places = sound.places(|rows| {
        rows.change("entries", row(300), |entry| {
            let at = entry.windows(6).position(|bytes| bytes == b"ci.run").unwrap();
            entry[at] = b'x';
        });
    });
    assert_eq!(places[0], "entries index 300");
    assert!(places.contains(&"leaf_hashes index 300".into()), "{places:?}");

    // Two entries in each other's place.
    let places = sound.places(|rows| {
        let (one, other) = (rows.get("entries", row(300)), rows.get("entries", row(301)));
        rows.put("entries", row(300), other);
        rows.put("entries", row(301), one);
    });
    for place in [
        "leaf_hashes index 300",
        "payloads index 301",
        "tiles level 0, tile 1",
        "heads size 600",
    ] {
        assert!(
            places.iter().any(|found| found == place),
            "{place} is not in {places:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_or_stray_entry() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let findings = sound.findings(|rows| rows.delete("entries", row(300)));
    assert_eq!(
        (findings[0].family, findings[0].place.as_str()),
        ("entries", "index 300")
    );
    assert!(findings[0].problem.contains("missing"));
    assert!(
        findings.len() <= 2,
        "what follows is not reported over and over: {findings:?}"
    );

    let places = sound.places(|rows| {
        let entry = rows.get("entries", row(3));
        rows.put("entries", row(SIZE), entry);
    });
    assert_eq!(places, ["entries index 600"]);
    let places = sound.places(|rows| rows.put("entries", b"\xff\xff", b""));
    assert_eq!(places, ["entries scan"]);
}

/// In a payload record: format, salt, and the big-endian lengths of attributes, annotations and data.
const LOW_BYTE_OF_ANNOTATIONS_LENGTH: usize = 1 + 32 + 4 + 3;
const LOW_BYTE_OF_DATA_LENGTH: usize = 1 + 32 + 8 + 3;

#[tokio::test]
async fn changed_payloads() {
    for suite in SUITES {
        let sound = SoundLog::new(suite).await;
        let damaged =
            |change: fn(&mut Vec<u8>)| sound.findings(|rows| rows.change("payloads", row(17), change));
        let problems = |findings: Vec<Finding>| -> Vec<String> {
            for finding in &findings {
                assert_eq!((finding.family, finding.place.as_str()), ("payloads", "index 17"));
            }
            findings.into_iter().map(|finding| finding.problem).collect()
        };
        // A byte of the payload, one more, something that the log did not add, a bit of the salt, another format, nothing at all.
        let changed = problems(damaged(|record| *record.last_mut().unwrap() ^= 1));
        assert_eq!(changed, ["the entry does not commit to this payload"]);
        let longer = problems(damaged(|record| {
            record.push(b' ');
            record[LOW_BYTE_OF_DATA_LENGTH] += 1;
        }));
        assert_eq!(longer, ["the payload is 11 bytes long, and the entry is for 10"]);
        let annotated = problems(damaged(|record| {
            let data = record.split_off(record.len() - 10);
            record.extend_from_slice(b"\x1a\x01x");
            record.extend_from_slice(&data);
            record[LOW_BYTE_OF_ANNOTATIONS_LENGTH] += 3;
        }));
        assert_eq!(annotated, ["the entry does not commit to these annotations"]);
        let salt = problems(damaged(|record| record[1] ^= 1));
        assert_eq!(
            salt,
            [
                "the entry does not commit to this payload",
                "the entry does not commit to these attributes"
            ]
        );
        for malformed in [damaged(|record| record[0] = 9), damaged(Vec::clear)] {
            let malformed = problems(malformed);
            assert_eq!(malformed, ["a row of the column family `payloads` is malformed"]);
        }
        let missing = problems(sound.findings(|rows| rows.delete("payloads", row(17))));
        assert_eq!(missing, ["is missing"]);
    }
}

#[tokio::test]
async fn changed_attributes() {
    let sound = SoundLog::new(Suite::Blake3).await;
    // Another id: the entry does not commit to it, and nothing leads to it.
    let mut key = String::new();
    let places = sound.places(|rows| {
        key = hex(&rows.key_to("event_ids", 17));
        rows.change("payloads", row(17), |record| {
            let at = record.windows(6).position(|bytes| bytes == b"run-17").unwrap();
            record[at] = b'R';
        });
    });
    assert_eq!(
        places,
        [
            "payloads index 17".to_owned(),
            "event_ids index 17".to_owned(),
            format!("event_ids row {key}")
        ]
    );
}

#[tokio::test]
async fn a_stray_payload() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let places = sound.places(|rows| {
        let record = rows.get("payloads", row(3));
        rows.put("payloads", row(5_000), record);
    });
    assert_eq!(places, ["payloads index 5000"]);
    let places = sound.places(|rows| rows.put("payloads", [0, 0, 0, 0, 0, 0, 0, 9, 1], b""));
    assert_eq!(places, ["payloads scan"]);
}

#[tokio::test]
async fn changed_tiles() {
    for suite in SUITES {
        let sound = SoundLog::new(suite).await;
        let findings = sound.findings(|rows| rows.change("tiles", tile(0, 1), |hashes| hashes[5 * 32] ^= 1));
        let [finding] = findings.as_slice() else {
            panic!("{findings:?}");
        };
        assert_eq!(
            (finding.family, finding.place.as_str()),
            ("tiles", "level 0, tile 1")
        );
        assert!(
            finding.problem.starts_with("hash 5 (node 261 of its level)"),
            "{finding}"
        );

        let above =
            sound.findings(|rows| rows.change("tiles", tile(0, 1), |tile| tile[(256 + 15) * 32 + 31] ^= 1));
        let [finding] = above.as_slice() else {
            panic!("{above:?}");
        };
        assert_eq!(finding.place, "level 0, tile 1");
        assert!(
            finding.problem.starts_with("node 15 four levels above"),
            "{finding}"
        );

        for length in [0, 8_000, 8_192] {
            let places = sound.places(|rows| rows.change("tiles", tile(0, 0), |tile| tile.truncate(length)));
            assert_eq!(places, ["tiles level 0, tile 0"]);
        }
        let places = sound.places(|rows| rows.delete("tiles", tile(0, 0)));
        assert_eq!(places, ["tiles level 0, tile 0"]);
        for (level, index) in [(0, 2), (1, 0), (200, 0), (0, u64::MAX)] {
            let places = sound.places(|rows| rows.put("tiles", tile(level, index), [7; 8192]));
            assert_eq!(places, [format!("tiles level {level}, tile {index}")]);
        }
        // No tile's key: before all others, between two of them, and behind.
        for key in [vec![0], [tile(0, 0), vec![0]].concat(), vec![0xff; 9 + 1]] {
            let places = sound.places(|rows| rows.put("tiles", &key, [7; 8192]));
            assert_eq!(places, ["tiles scan"], "{key:02x?}");
        }
        // One is missing and another has no sound key.
        let places = sound.places(|rows| {
            rows.delete("tiles", tile(0, 0));
            rows.put("tiles", [tile(0, 0), vec![0]].concat(), [7; 8192]);
        });
        assert_eq!(places, ["tiles scan", "tiles level 0, tile 0"]);
    }
}

#[tokio::test]
async fn changed_indexes() {
    let sound = SoundLog::new(Suite::Blake3).await;
    for family in ["leaf_hashes", "event_ids"] {
        let mut key = Vec::new();
        // Missing.
        let places = sound.places(|rows| rows.delete(family, rows.key_to(family, 17)));
        assert_eq!(places, [format!("{family} index 17")]);
        // Leading elsewhere.
        let places = sound.places(|rows| {
            key = rows.key_to(family, 17);
            rows.put(family, &key, row(18));
        });
        assert_eq!(
            places,
            [
                format!("{family} index 17"),
                format!("{family} row {}", hex(&key))
            ]
        );
        // One too many, within the log and past it.
        for index in [17, 5_000] {
            let places = sound.places(|rows| rows.put(family, [7; 32], row(index)));
            assert_eq!(places, [format!("{family} row {}", hex(&[7; 32]))]);
        }
        // One missing, and another in its stead.
        let places = sound.places(|rows| {
            rows.delete(family, rows.key_to(family, 17));
            rows.put(family, [7; 32], row(17));
        });
        assert_eq!(
            places,
            [
                format!("{family} index 17"),
                format!("{family} row {}", hex(&[7; 32]))
            ]
        );
        // Malformed.
        let places = sound.places(|rows| rows.put(family, rows.key_to(family, 17), b"17"));
        assert_eq!(places, [format!("{family} scan"), format!("{family} index 17")]);
    }
}

/// An event with a run of its own, and a commit that all share.
fn build(id: u64) -> Event {
    let normalised =
        format!(r#"{{"id":"{id}","type":"ci.run.finished","run":{{"id":{id}}},"commit":"c0ffee"}}"#);
    event(id)
        .with_normal_form("native/1", normalised.into_bytes())
        .unwrap()
}

/// Where the check finds a row of the search index that should not be there.
fn search_place(row: &[u8]) -> String {
    let key: String = row[..17].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("attributes row {key}")
}

fn search_row(attribute: IndexAttribute, value: &str, index: u64) -> Vec<u8> {
    let key = IndexKey::new(attribute, value);
    [key.as_bytes().as_slice(), &row(index)].concat()
}

#[tokio::test]
async fn a_changed_search_index() {
    let sound = SoundLog::of(Suite::Blake3, build).await;
    let run = |index: u64| search_row(IndexAttribute::Run, &index.to_string(), index);
    let commit = |index| search_row(IndexAttribute::Commit, "c0ffee", index);
    let stray = search_row(IndexAttribute::Commit, "facade", 17);
    let stray_place = search_place(&stray);

    let places = sound.places(|rows| rows.delete("attributes", commit(17)));
    assert_eq!(places, ["attributes index 17"]);
    let places = sound.places(|rows| rows.put("attributes", &stray, b""));
    assert_eq!(places, std::slice::from_ref(&stray_place));
    // Past the log's end, and one in another's stead.
    let places = sound.places(|rows| rows.put("attributes", commit(5_000), b""));
    assert_eq!(places, [search_place(&commit(0))]);
    let places = sound.places(|rows| {
        rows.delete("attributes", run(17));
        rows.put("attributes", &stray, b"");
    });
    assert_eq!(places, ["attributes index 17".to_owned(), stray_place]);
    let places = sound.places(|rows| rows.put("attributes", b"short", b""));
    assert_eq!(places, ["attributes scan"]);
}

#[tokio::test]
async fn a_search_index_is_mended_from_the_entries() {
    let sound = SoundLog::of(Suite::Sha256, build).await;
    let data = DataDirectory::new(sound.root.path());
    let rebuild = || rebuild_search_index(&data, &name(), |_| {}).unwrap();
    let report = |added, removed| RebuildReport {
        rows: 2 * (SIZE - 1),
        added,
        removed,
    };
    assert_eq!(rebuild(), report(0, 0));

    let rows = Rows::open(sound.root.path());
    for index in 1..300 {
        rows.delete("attributes", search_row(IndexAttribute::Commit, "c0ffee", index));
    }
    for index in 0..700 {
        rows.put(
            "attributes",
            search_row(IndexAttribute::Actor, "nobody", index),
            b"",
        );
    }
    drop(rows);
    assert_eq!(check(sound.root.path()).unwrap().finding_count, 299 + 700);
    assert_eq!(rebuild(), report(299, 700));
    assert_eq!(check(sound.root.path()).unwrap().findings, []);
    assert_eq!(rebuild(), report(0, 0));

    // All of it lost.
    let mut rows = Rows::open(sound.root.path());
    rows.db.drop_cf("attributes").unwrap();
    drop(rows);
    assert_eq!(rebuild(), report(2 * (SIZE - 1), 0));
    assert_eq!(check(sound.root.path()).unwrap().findings, []);
}

#[tokio::test]
async fn changed_heads() {
    for suite in SUITES {
        let sound = SoundLog::new(suite).await;
        let signer = sound.signer();
        let size = |size| TreeSize::new(size).unwrap();
        let forged = |at, root| signer.sign_head(size(at), root, UnixMillis::new(1));

        // A byte of the text, and of the last signature: each key's has to hold.
        let places = sound.places(|rows| rows.change("heads", row(SIZE), |note| note[0] ^= 1));
        assert_eq!(places, ["heads size 600"]);
        let places = sound.places(|rows| {
            rows.change("heads", row(SIZE), |note| {
                let at = note.len() - 12;
                note[at] = if note[at] == b'A' { b'B' } else { b'A' };
            });
        });
        assert_eq!(places, ["heads size 600"]);
        // Under the key of another size.
        let places = sound.places(|rows| {
            let note = rows.get("heads", row(SIZE));
            rows.put("heads", row(400), note);
        });
        assert_eq!(places, ["heads size 400"]);
        // Signed by the log: for a tree that it does not have, and for a size that it has not reached.
        let places = sound.places(|rows| rows.put("heads", row(300), forged(300, Digest::from([7; 32]))));
        assert_eq!(places, ["heads size 300"]);
        let findings = sound.findings(|rows| rows.put("heads", row(601), forged(601, Digest::from([7; 32]))));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].problem.contains("rolled back"), "{}", findings[0]);
    }
}

#[tokio::test]
async fn a_head_beside_the_database_that_it_does_not_have() {
    let sound = SoundLog::new(Suite::Sha256).await;
    let signer = sound.signer();
    let beside = DataDirectory::new(sound.root.path()).log(&name()).newest_head();
    for (size, root, problem) in [
        (601, 7, "rolled back"),
        (600, 7, "the signed root is"),
        (300, 7, ""),
    ] {
        let note = signer.sign_head(
            TreeSize::new(size).unwrap(),
            Digest::from([root; 32]),
            UnixMillis::new(1),
        );
        fs::write(&beside, note).unwrap();
        let report = check(sound.root.path()).unwrap();
        assert!(report.finding_count > 0);
        assert!(
            report.findings[0].problem.contains(problem),
            "{:?}",
            report.findings
        );
        assert_eq!(report.findings[0].family, "heads");
    }
    fs::write(&beside, b"garbage").unwrap();
    assert_eq!(
        check(sound.root.path()).unwrap().findings[0].place,
        "beside the database"
    );
}

/// Whoever has the disk can make up a key file and sign all heads anew.
#[tokio::test]
async fn a_key_file_and_heads_of_somebody_else() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let own = sound.signer();
    let keys: Vec<_> = (1..)
        .zip(own.keys())
        .map(|(seed, key)| {
            let key = key.verifier_key();
            SignerKey::generate(key.name().clone(), key.kind(), [seed; 32])
        })
        .collect();
    let lines: String = keys
        .iter()
        .map(|key| format!("{}\n", key.to_secret_text().as_str()))
        .collect();
    let forged = LogSigner::new(keys).unwrap();
    let directory = DataDirectory::new(sound.root.path()).log(&name());
    let note_of = |size| {
        let stored = own.keys()[0]
            .verifier_key()
            .verify_head(&Rows::open(sound.root.path()).get("heads", row(size)));
        let head = stored.unwrap();
        forged.sign_head(head.size(), head.root(), head.time().unwrap())
    };
    let (first, last) = (note_of(1), note_of(SIZE));
    fs::write(directory.keys(), lines).unwrap();
    fs::write(directory.newest_head(), &last).unwrap();
    let places = sound.places(|rows| {
        rows.put("heads", row(1), first);
        rows.put("heads", row(SIZE), last);
    });
    assert_eq!(places, ["entries index 0"]);
}

#[tokio::test]
async fn a_changed_state() {
    for suite in SUITES {
        let sound = SoundLog::new(suite).await;
        // The time, and a hash of the compact range.
        for at in [15, 16, 40] {
            let places = sound.places(|rows| rows.change("meta", b"tree", |state| state[at] ^= 1));
            assert_eq!(places, ["meta tree"]);
        }
        // One entry fewer than there are, and one more.
        let places =
            sound.places(|rows| rows.change("meta", b"tree", |state| state[..8].copy_from_slice(&row(599))));
        assert_eq!(
            places,
            [
                "heads beside the database",
                "entries index 599",
                "payloads index 599",
                "heads size 600",
                "meta tree"
            ]
        );
        let places =
            sound.places(|rows| rows.change("meta", b"tree", |state| state[..8].copy_from_slice(&row(601))));
        assert_eq!(places, ["entries index 600"]);

        let malformed = sound.check_damaged(|rows| rows.change("meta", b"tree", |state| state.truncate(20)));
        assert!(
            matches!(
                malformed,
                Err(FsckError::Store(StoreError::Malformed { family: "meta" }))
            ),
            "{malformed:?}"
        );
        let missing = sound.check_damaged(|rows| rows.delete("meta", b"tree"));
        assert!(matches!(missing, Err(FsckError::Empty)), "{missing:?}");
        let unknown = sound.check_damaged(|rows| rows.put("meta", b"format", 4u32.to_be_bytes()));
        assert!(
            matches!(
                unknown,
                Err(FsckError::Store(StoreError::UnknownFormat { found: 4 }))
            ),
            "{unknown:?}"
        );
    }
}

/// A log whose every row is wrong is reported in bounded memory.
#[tokio::test]
async fn more_findings_than_are_kept() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let report = sound
        .check_damaged(|rows| {
            for index in 0..SIZE {
                rows.change("payloads", row(index), |record| record[1] ^= 1);
            }
        })
        .unwrap();
    assert_eq!(report.findings.len(), counterfoil_log::MAX_FINDINGS);
    assert_eq!(report.finding_count, 2 * SIZE);
}

/// Who sends an event again is not said to have told two stories where it is the record of the first that was changed.
#[tokio::test]
async fn a_changed_record_accuses_nobody() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let rows = Rows::open(sound.root.path());
    // A bit of the salt.
    rows.change("payloads", row(17), |record| record[1] ^= 1);
    drop(rows);
    let data = DataDirectory::new(sound.root.path());
    let log = Log::open(&data, &name(), LogOptions::default()).unwrap();
    let submit = |id| log.submit(vec![log.prepare(event(id), &Submitter::anonymous())]);
    assert!(matches!(submit(17).await, Err(SubmitError::DataLoss)));
    assert_eq!(log.commit_head().size.get(), SIZE);
    // Of a record that is sound the same is told as ever.
    let submitted = submit(18).await.unwrap();
    assert!(matches!(submitted.outcomes[..], [Outcome::Duplicate(_)]));
}

/// Who asks for what can't be read is told so, and nobody else is kept out.
#[tokio::test]
async fn an_index_with_a_damaged_table() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let data = DataDirectory::new(sound.root.path());
    let rows = Rows::open(sound.root.path());
    // Not the log's own.
    let lowest = rows
        .db
        .iterator_cf(rows.family("event_ids"), IteratorMode::Start)
        .map(|found| u64::from_be_bytes((*found.unwrap().1).try_into().unwrap()))
        .find(|index| *index > 0)
        .unwrap();
    // Another has the log's own alone.
    let tables = rows.db.live_files().unwrap();
    let table = tables
        .iter()
        .filter(|table| table.column_family_name == "event_ids")
        .max_by_key(|table| table.num_entries);
    let path = data
        .log(&name())
        .database()
        .join(table.unwrap().name.trim_start_matches('/'));
    drop(rows);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();

    let log = Log::open(&data, &name(), LogOptions::default()).unwrap();
    let submit = |id| log.submit(vec![log.prepare(event(id), &Submitter::anonymous())]);
    for new in SIZE..SIZE + 5 {
        assert!(matches!(submit(lowest).await, Err(SubmitError::ReadFailed)));
        let submitted = submit(new).await.unwrap();
        assert!(matches!(submitted.outcomes[..], [Outcome::Recorded(_)]));
    }
    assert_eq!(log.commit_head().size.get(), SIZE + 5);
}

/// What RocksDB's own checksums find: a byte of a table changed on disk.
#[tokio::test]
async fn a_byte_changed_beneath_rocksdb() {
    let sound = SoundLog::new(Suite::Blake3).await;
    let database = DataDirectory::new(sound.root.path()).log(&name()).database();
    let files = fs::read_dir(&database).unwrap().map(|file| file.unwrap().path());
    let tables: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    assert!(!tables.is_empty());
    for path in tables {
        let sound_bytes = fs::read(&path).unwrap();
        let mut bytes = sound_bytes.clone();
        bytes[10] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = match check(sound.root.path()) {
            Ok(report) => report.finding_count > 0,
            Err(_) => true,
        };
        assert!(found, "{} was changed, and nothing was found", path.display());
        fs::write(&path, sound_bytes).unwrap();
    }
    assert_eq!(check(sound.root.path()).unwrap().findings, []);
}
