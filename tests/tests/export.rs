//! Exported files are what the port serves, whole after every crash, and never of another history.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use counterfoil_event::EventKey;
use counterfoil_merkle::{LeafIndex, Suite, TileId, TilePath, TileWidth, TreeSize};
use counterfoil_note::SignedHead;
use counterfoil_proto::v1;
use counterfoil_store::{Store, StoreOptions};
use counterfoil_tests::{Data, Server, TestLog, counterfoild, event, head, http_get};

/// Submits until the log has so many entries, and waits until a head that covers them is published.
async fn fill(server: &Server, log: &TestLog, leaves: u64, kind: &str) {
    let mut size = head(&mut server.reader(), log, 0).await.size().get();
    while size < leaves {
        let end = leaves.min(size + 4096);
        let request = v1::SubmitBatchRequest {
            log: log.name.clone(),
            events: (size..end)
                .map(|number| event(format!("{kind} {number}"), ""))
                .collect(),
        };
        server.submitter().submit_batch(request).await.unwrap();
        size = end;
    }
    head(&mut server.reader(), log, leaves).await;
}

fn export(data: &Path, to: &Path) -> Output {
    let mut command = counterfoild();
    command.arg("export").arg("--data").arg(data).arg("--to").arg(to);
    command.output().unwrap()
}

#[track_caller]
fn assert_exported(data: &Data, to: &Path) -> String {
    let output = export(data.path(), to);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_refused(data: &Path, to: &Path, says: &str) {
    let before = files(to);
    let output = export(data, to);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains(says), "{says:?} is not in {errors}");
    let checkpoint = |files: &BTreeMap<String, Vec<u8>>| files.get("main/checkpoint").cloned();
    assert_eq!(checkpoint(&files(to)), checkpoint(&before));
}

/// Every file under a directory, by its path.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for file in fs::read_dir(directory).into_iter().flatten() {
            let file = file.unwrap();
            let name = format!("{prefix}{}", file.file_name().to_str().unwrap());
            if file.file_type().unwrap().is_dir() {
                walk(&file.path(), &format!("{name}/"), found);
            } else {
                found.insert(name, fs::read(file.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, "", &mut found);
    found
}

/// What a tree of this size has: all full tiles and bundles, and the partial ones on its edge.
fn paths(size: TreeSize) -> Vec<TilePath> {
    let width = TileWidth::FULL;
    let mut paths: Vec<_> = TilePath::partials_at(size).collect();
    for (edge, _) in TileId::right_edge(size) {
        for index in 0..edge.index {
            let tile = TileId { index, ..edge };
            paths.push(TilePath::Tile { tile, width });
            if edge.level == 0 {
                paths.push(TilePath::Entries { bundle: index, width });
            }
        }
    }
    paths
}

/// The exported head. Asserts that all that it covers is there, and is what the server serves.
fn audit(server: &Server, log: &TestLog, to: &Path) -> Option<SignedHead> {
    let files = files(&to.join(&log.name));
    let head = log.key().verify_head(files.get("checkpoint")?).unwrap();
    for path in paths(head.size()) {
        let served = http_get(server.address(), &format!("/logs/{}/{path}", log.name));
        assert_eq!(served.status, 200, "{path}");
        // Not with what they hold: that would fill the screen.
        assert!(
            files.get(&path.to_string()) == Some(&served.body),
            "{path} is not what is served"
        );
    }
    Some(head)
}

#[test]
fn a_log_that_is_not_there_is_named() {
    let (data, _log) = Data::with_main_log();
    let to = data.beside("export");
    for command in [&["fsck"][..], &["export", "--to", to.to_str().unwrap()]] {
        let mut refused = counterfoild();
        refused
            .args(command)
            .args(["--log", "nope", "--data"])
            .arg(data.path());
        let refused = refused.output().unwrap();
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(3), "{errors}");
        assert!(errors.contains("there is no log `nope` in "), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_what_the_server_serves() {
    let (data, log) = Data::with_main_log();
    let other = data.init("other", "sha256");
    let to = data.beside("export");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 700, "main").await;
    fill(&server, &other, 256, "other").await;

    // Beside the running server; both logs, and nothing that does not belong to their heads.
    let said = assert_exported(&data, &to);
    assert!(
        said.contains("700 entries") && said.contains("256 entries"),
        "{said}"
    );
    for (log, size) in [(&log, 700), (&other, 256)] {
        let head = audit(&server, log, &to).unwrap();
        assert_eq!(head.size().get(), size);
        let mut expected: Vec<_> = paths(head.size()).iter().map(ToString::to_string).collect();
        expected.push("checkpoint".to_owned());
        expected.sort();
        let found: Vec<_> = files(&to.join(&log.name)).into_keys().collect();
        assert_eq!(found, expected);
    }

    // Again, and nothing is written: the files are the same ones.
    let inodes = || {
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        ["tile/0/000", "tile/0/001", "tile/entries/000", "tile/0/002.p/188"]
            .map(|path| inode(to.join("main").join(path)))
    };
    let (before, first_inodes) = (files(&to), inodes());
    let said = assert_exported(&data, &to);
    assert_eq!(said.matches(" 0 files written").count(), 2, "{said}");
    assert!(files(&to) == before);
    assert_eq!(inodes(), first_inodes);

    // The log grows: what was full stays, a partial tile that is full now goes, one that is not stays for slow readers.
    fill(&server, &log, 800, "more").await;
    let said = assert_exported(&data, &to);
    assert_eq!(audit(&server, &log, &to).unwrap().size().get(), 800);
    assert!(
        said.contains("800 entries") && said.contains("288 of them hashed"),
        "{said}"
    );
    let there = |path: &str| to.join("main").join(path).exists();
    assert!(!there("tile/0/002.p") && !there("tile/entries/002.p"));
    assert!(there("tile/1/000.p/2") && there("tile/1/000.p/3") && there("tile/0/003.p/32"));

    // What was lost or cut short is mended.
    fs::remove_file(to.join("main/tile/entries/001")).unwrap();
    fs::write(to.join("main/tile/0/000"), b"short").unwrap();
    let said = assert_exported(&data, &to);
    assert!(said.contains("  2 files written"), "{said}");
    audit(&server, &log, &to).unwrap();
    server.stop();
    // With the server stopped as well.
    assert_exported(&data, &to);
}

/// The server writes tables out and merges them meanwhile, and takes away its log: what an export reads is of one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_beside_a_busy_server_is_whole() {
    let (data, log) = Data::with_main_log();
    let to = data.beside("export");
    let server = Server::start(&data, &["--publish-interval-ms", "20", "--memory-mib", "32"]);
    let mut size = 0;
    for _ in 0..12 {
        let (from, into) = (data.path().to_owned(), to.clone());
        let exporting = tokio::task::spawn_blocking(move || export(&from, &into));
        while !exporting.is_finished() {
            size += 2_000;
            fill(&server, &log, size, "busy").await;
        }
        let output = exporting.await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    audit(&server, &log, &to).unwrap();
    server.stop();
}

/// Killed wherever it has got to, an export leaves a directory in which all that the checkpoint covers is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_export_harms_nothing() {
    let (data, log) = Data::with_main_log();
    let to = data.beside("export");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let mut size = 3_000;
    for round in 0..16 {
        fill(&server, &log, size, "round").await;
        let mut child = counterfoild()
            .arg("export")
            .arg("--data")
            .arg(data.path())
            .arg("--to")
            .arg(&to)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(fastrand::u64(0..250)));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = audit(&server, &log, &to);
        if round % 4 == 3 {
            assert_exported(&data, &to);
            let head = audit(&server, &log, &to).unwrap();
            assert_eq!(head.size().get(), size);
            assert!(before.is_none_or(|before| before.size() <= head.size()));
            assert!(!to.join("main/.incoming").exists());
        }
        size += fastrand::u64(1..2_000);
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_refused() {
    let (data, log) = Data::with_main_log();
    let to = data.beside("export");
    // Made, but never opened: there is no head to export.
    assert_refused(data.path(), &to, "published no head");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 600, "both").await;
    server.stop();
    assert_exported(&data, &to);
    let old = data.beside("old");
    data.copy_to(&old);
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 900, "one").await;
    server.stop();
    assert_exported(&data, &to);

    // An older copy has less than was exported.
    assert_refused(
        &old,
        &to,
        "the exported log has 900 entries, and the published head covers 600",
    );
    // A second history, signed by the same keys.
    let fork = Data::at(old);
    let server = Server::start(&fork, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 1_000, "other").await;
    server.stop();
    assert_refused(fork.path(), &to, "the log was rewritten");
    // Another log of the same name.
    let (stranger, _) = Data::with_main_log();
    Server::start(&stranger, &[]).stop();
    assert_refused(stranger.path(), &to, "holds another log");
    // A directory that another export has.
    let lock = fs::File::open(to.join("main")).unwrap();
    lock.lock().unwrap();
    assert_refused(data.path(), &to, "another process is writing to");
    drop(lock);

    // An entry that was changed in place is not let out.
    let store = Store::open(&data.path().join("logs/main/db"), &StoreOptions::default()).unwrap();
    let mut batch = store.batch();
    let leaf_hash = Suite::Blake3.leaf_hash(b"");
    batch.put_leaf(
        LeafIndex::new(7).unwrap(),
        b"changed",
        b"",
        &leaf_hash,
        &EventKey::new("", ""),
    );
    batch.write().unwrap();
    drop(store);
    let elsewhere = data.beside("elsewhere");
    assert_refused(
        data.path(),
        &elsewhere,
        "tile 0 of level 0 is not that of the stored entries",
    );
    assert_eq!(files(&elsewhere), BTreeMap::new());
}
