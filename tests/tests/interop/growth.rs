//! Whole logs over HTTP, while they grow, and as static files that somebody tampered with.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_tests::counterfoild;
use tempfile::TempDir;

use crate::desk::{Live, accepts, expect, refuses, words};

async fn growth(suite: &str) {
    let live = Live::start(suite);
    let (desk, key) = (&live.desk, live.trust_key());
    let url = live.url();
    let first = live.grow(3, "first").await;
    accepts(
        words!["head", desk.path("first"), "--key", &key],
        &[&format!("size 3, root {}", first.root())],
    );
    accepts(words!["log", &url, "--key", &key], &["3 entries and 1 tiles"]);
    live.grow(300, "second").await;
    let policy = desk.path("log.policy");
    let (first, second) = (desk.path("first"), desk.path("second"));
    accepts(
        words!["log", &url, "--policy", policy, "--since", &first],
        &["300 entries and 3 tiles", "continues size 3"],
    );
    let proof = live.prove_consistency(3, 300).await;
    let consistency =
        |old: &Path, new: &Path| words!["consistency", old, new, "--key", &key, "--proof", &proof];
    accepts(consistency(&first, &second), &["continues size 3"]);
    refuses(consistency(&second, &first), "shrank from 300 to 3");
    let hex: Vec<_> = fs::read_to_string(&proof)
        .unwrap()
        .lines()
        .map(|line| hex::encode(BASE64_STANDARD.decode(line).unwrap()) + "\n")
        .collect();
    fs::write(&proof, hex.concat()).unwrap();
    accepts(consistency(&first, &second), &["continues size 3"]);
    let proof_of_less = live.prove_consistency(2, 300).await;
    refuses(consistency(&first, &second), "consistency proof");
    fs::remove_file(proof_of_less).unwrap();
    accepts(
        words!["consistency", &first, &first, "--key", &key],
        &["continues size 3"],
    );
    refuses(words!["consistency", &first, &second, "--key", &key], "empty");

    // A head that the log signed for somebody else, as large as the first: this log does not continue it.
    let fork = desk.file("fork", live.forge(3, 0, 1));
    refuses(
        words!["log", &url, "--key", &key, "--since", &fork],
        "first 3 entries do not hash",
    );
    refuses(
        words!["consistency", &fork, &first, "--key", &key],
        "two different trees of size 3",
    );
    let ahead = desk.file("ahead", live.forge(301, 0, 1));
    refuses(
        words!["log", &url, "--key", &key, "--since", &ahead],
        "shrank from 301 to 300",
    );
    let late = desk.file("late", live.forge(3, 0, u64::MAX));
    refuses(
        words!["log", &url, "--key", &key, "--since", &late],
        "earlier time",
    );
    let no_head = words!["log", &url, "--key", &key, "--since", ""];
    expect(2, no_head, &["can't read"]);
    expect(2, words!["log", format!("{url}2"), "--key", &key], &["no log"]);
    live.server.kill();
    expect(2, words!["log", &url, "--key", &key], &["can't read"]);
}

#[tokio::test]
async fn growth_of_a_blake3_log() {
    growth("blake3").await;
}

#[tokio::test]
async fn growth_of_a_sha256_log() {
    growth("sha256").await;
}

/// A log exported as static files, on a web server that knows nothing of logs.
struct Site {
    directory: TempDir,
    address: SocketAddr,
}

impl Site {
    fn export(live: &Live) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = counterfoild()
            .arg("export")
            .arg("--data")
            .arg(live.data.path())
            .arg("--to")
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let root = directory.path().to_owned();
        // Ends with the process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                serve_file(&root, connection.unwrap());
            }
        });
        Self { directory, address }
    }

    fn url(&self) -> String {
        format!("http://{}/main", self.address)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("main").join(name)
    }

    /// Changes a file, has the log refused for it, and puts the file back.
    #[track_caller]
    fn refused_with(&self, key: &str, name: &str, change: impl FnOnce(&mut Vec<u8>), says: &str) {
        let good = fs::read(self.path(name)).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(self.path(name), bad).unwrap();
        refuses(words!["log", self.url(), "--key", key], says);
        fs::write(self.path(name), good).unwrap();
    }
}

fn serve_file(root: &Path, mut connection: TcpStream) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
    let (status, body) = match fs::read(root.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", vec![]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), &body].concat()).unwrap();
}

#[tokio::test]
async fn tampered_files_are_found_out() {
    let live = Live::start("sha256");
    live.grow(260, "head").await;
    let site = Site::export(&live);
    let key = live.key.as_str();
    accepts(
        words!["log", site.url(), "--key", key],
        &["260 entries and 3 tiles"],
    );

    let flip = |file: &mut Vec<u8>| *file.last_mut().unwrap() ^= 1;
    let cut = |file: &mut Vec<u8>| file.truncate(file.len() - 1);
    let extend = |file: &mut Vec<u8>| file.push(0);
    let rotate = |bundle: &mut Vec<u8>| {
        let first = 2 + usize::from(u16::from_be_bytes([bundle[0], bundle[1]]));
        bundle.rotate_left(first);
    };
    site.refused_with(key, "checkpoint", cut, "does not end in a newline");
    // Of so many tiles there is no list.
    let claim = |file: &mut Vec<u8>| *file = live.forge(1 << 62, 0, 1);
    site.refused_with(key, "checkpoint", claim, "withholds");
    site.refused_with(key, "tile/0/000", flip, "tile 0 of level 0 is not of the tree");
    site.refused_with(
        key,
        "tile/0/001.p/4",
        flip,
        "tile 1 of level 0 is not of the tree",
    );
    site.refused_with(
        key,
        "tile/1/000.p/1",
        flip,
        "tile 0 of level 1 is not of the tree",
    );
    site.refused_with(key, "tile/0/001.p/4", cut, "tile 1 of level 0 is not of the tree");
    site.refused_with(key, "tile/0/001.p/4", extend, "longer than the 128 bytes");
    // The last byte of an entry is that of its retention class: another class, and still an entry.
    site.refused_with(key, "tile/entries/000", flip, "do not hash to the root");
    site.refused_with(key, "tile/entries/001.p/4", flip, "do not hash to the root");
    site.refused_with(key, "tile/entries/001.p/4", cut, "ends early");
    site.refused_with(key, "tile/entries/001.p/4", extend, "after its last entry");
    site.refused_with(key, "tile/entries/001.p/4", rotate, "do not hash to the root");
    site.refused_with(key, "tile/entries/000", rotate, "entry 0 is no genesis");

    for name in ["tile/1/000.p/1", "tile/0/000", "tile/entries/000"] {
        let aside = site.path("aside");
        fs::rename(site.path(name), &aside).unwrap();
        refuses(words!["log", site.url(), "--key", key], "withholds");
        fs::rename(aside, site.path(name)).unwrap();
    }
    // A partial tile may go once there is the full one, which begins with it.
    for (name, rest) in [
        ("tile/0/001", vec![7; 252 * 32]),
        ("tile/entries/001", vec![0; 252 * 2]),
    ] {
        let partial = site.path(&format!("{name}.p/4"));
        let full = [fs::read(&partial).unwrap(), rest].concat();
        fs::write(site.path(name), full).unwrap();
        fs::remove_file(partial).unwrap();
    }
    accepts(
        words!["log", site.url(), "--key", key],
        &["260 entries and 3 tiles"],
    );
}
