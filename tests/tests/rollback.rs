//! An older directory put back, and each kind of row changed or removed: who notices, and how. `docs/RELIABILITY.md` has the table
//! that this makes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use counterfoil_event::{EventKey, IndexAttribute, IndexKey};
use counterfoil_proto::v1;
use counterfoil_tests::{Data, Hook, Server, TestLog, counterfoil, counterfoild, event, head, programs};
use serde_json::{Value, json};

/// Entries 0 to 599: two full tiles of level 0, and 88 leaves on the right edge.
const SIZE: u64 = 600;
/// An entry in a full tile, with rows in every index.
const OLD: u64 = 300;
/// An entry of the right edge.
const NEW: u64 = 599;

/// A log that was followed while it was sound.
struct Sound {
    data: Data,
    log: TestLog,
    /// Its directory when it had 400 entries.
    older: PathBuf,
    anchor: PathBuf,
}

/// Rows of a database at rest.
struct Rows(PathBuf);

impl Rows {
    fn of(data: &Data) -> Self {
        Self(data.path().join("logs/main/db"))
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut row = std::process::Command::new(programs().join("examples/row"));
        let output = row.arg(&self.0).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn get(&self, family: &str, key: &str) -> Vec<u8> {
        hex::decode(self.run(&["get", family, key])).unwrap()
    }

    fn change(&self, family: &str, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut value = self.get(family, key);
        change(&mut value);
        self.run(&["put", family, key, &hex::encode(value)]);
    }

    fn copy(&self, family: &str, from: &str, to: &str) {
        let value = hex::encode(self.get(family, from));
        self.run(&["put", family, to, &value]);
    }

    fn delete(&self, family: &str, key: &str) {
        self.get(family, key);
        self.run(&["delete", family, key]);
    }

    /// The key of the row of an index that leads to an entry.
    fn key_to(&self, family: &str, index: u64) -> String {
        let rows = self.run(&["list", family]);
        let (key, _) = rows
            .lines()
            .map(|row| row.split_once(' ').unwrap())
            .find(|(_, value)| *value == row(index))
            .unwrap();
        key.to_owned()
    }
}

/// The key of an entry.
fn row(index: u64) -> String {
    hex::encode(index.to_be_bytes())
}

fn name(name: &str) -> String {
    hex::encode(name)
}

/// The key of a tile of level 0.
fn tile(index: u64) -> String {
    format!("00{}", row(index))
}

/// The key of the row of the search index by which the commit leads to an entry.
fn commit_row(index: u64) -> String {
    hex::encode(IndexKey::new(IndexAttribute::Commit, COMMIT).as_bytes()) + &row(index)
}

/// The leaf hash of no entry.
fn no_hash() -> String {
    "ab".repeat(32)
}

/// One damage.
struct Damage {
    what: &'static str,
    to: fn(&Rows),
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "`entries`: an old one changed",
        to: |rows| rows.change("entries", &row(OLD), |entry| backdate(entry)),
    },
    Damage {
        what: "`entries`: one of the newest 255 changed",
        to: |rows| rows.change("entries", &row(NEW), |entry| backdate(entry)),
    },
    Damage {
        what: "`entries`: an old one removed",
        to: |rows| rows.delete("entries", &row(OLD)),
    },
    Damage {
        what: "`entries`: one of the newest 255 removed",
        to: |rows| rows.delete("entries", &row(NEW)),
    },
    Damage {
        what: "`entries`: one added behind the last",
        to: |rows| rows.copy("entries", &row(NEW), &row(SIZE)),
    },
    Damage {
        what: "`payloads`: one changed",
        to: |rows| rows.change("payloads", &row(OLD), |record| *record.last_mut().unwrap() ^= 1),
    },
    Damage {
        what: "`payloads`: a salt changed",
        // It follows the byte that tells the format.
        to: |rows| rows.change("payloads", &row(OLD), |record| record[1] ^= 1),
    },
    Damage {
        what: "`payloads`: one removed",
        to: |rows| rows.delete("payloads", &row(OLD)),
    },
    Damage {
        what: "`payloads`: one added behind the last",
        to: |rows| rows.copy("payloads", &row(NEW), &row(SIZE)),
    },
    Damage {
        what: "`tiles`: one changed",
        to: |rows| rows.change("tiles", &tile(1), |hashes| hashes[44 * 32] ^= 1),
    },
    Damage {
        what: "`tiles`: a node beside its hashes changed",
        // Of leaves 304 to 319: a proof for the old entry, which is the 45th of its tile, needs it.
        to: |rows| rows.change("tiles", &tile(1), |tile| tile[(256 + 3) * 32] ^= 1),
    },
    Damage {
        what: "`tiles`: one removed",
        to: |rows| rows.delete("tiles", &tile(1)),
    },
    Damage {
        what: "`tiles`: one added behind the last",
        to: |rows| rows.copy("tiles", &tile(1), &tile(2)),
    },
    Damage {
        what: "`heads`: the newest changed",
        to: |rows| rows.change("heads", &row(SIZE), |note| note[0] ^= 1),
    },
    Damage {
        what: "`heads`: the newest removed",
        to: |rows| rows.delete("heads", &row(SIZE)),
    },
    Damage {
        what: "`heads`: one added behind the newest",
        to: |rows| rows.copy("heads", &row(SIZE), &row(SIZE + 1)),
    },
    Damage {
        what: "`heads`: an old one changed",
        to: |rows| rows.change("heads", &row(1), |note| note[0] ^= 1),
    },
    Damage {
        what: "`heads`: an old one removed",
        to: |rows| rows.delete("heads", &row(1)),
    },
    Damage {
        what: "`event_ids`: one leads elsewhere",
        to: |rows| {
            let key = rows.key_to("event_ids", OLD);
            rows.run(&["put", "event_ids", &key, &row(OLD + 1)]);
        },
    },
    Damage {
        what: "`event_ids`: one removed",
        to: |rows| rows.delete("event_ids", &rows.key_to("event_ids", OLD)),
    },
    Damage {
        what: "`event_ids`: one added",
        to: |rows| {
            let key = hex::encode(EventKey::new(NO_EVENT, NO_EVENT).as_bytes());
            rows.run(&["put", "event_ids", &key, &row(OLD)]);
        },
    },
    Damage {
        what: "`leaf_hashes`: one leads elsewhere",
        to: |rows| {
            let key = rows.key_to("leaf_hashes", OLD);
            rows.run(&["put", "leaf_hashes", &key, &row(OLD + 1)]);
        },
    },
    Damage {
        what: "`leaf_hashes`: one removed",
        to: |rows| rows.delete("leaf_hashes", &rows.key_to("leaf_hashes", OLD)),
    },
    Damage {
        what: "`leaf_hashes`: one added",
        to: |rows| {
            rows.run(&["put", "leaf_hashes", &no_hash(), &row(OLD)]);
        },
    },
    Damage {
        what: "`attributes`: one leads elsewhere",
        to: |rows| {
            rows.copy("attributes", &commit_row(OLD), &commit_row(OLD + 1));
            rows.delete("attributes", &commit_row(OLD));
        },
    },
    Damage {
        what: "`attributes`: one removed",
        to: |rows| rows.delete("attributes", &commit_row(OLD)),
    },
    Damage {
        what: "`attributes`: one added",
        to: |rows| rows.copy("attributes", &commit_row(OLD), &commit_row(OLD + 1)),
    },
    Damage {
        what: "`meta`: the tree made smaller",
        to: |rows| {
            rows.change("meta", &name("tree"), |state| {
                state[..8].copy_from_slice(&NEW.to_be_bytes())
            })
        },
    },
    Damage {
        what: "`meta`: a hash of the tree changed",
        to: |rows| rows.change("meta", &name("tree"), |state| state[20] ^= 1),
    },
    Damage {
        what: "`meta`: the tree removed",
        to: |rows| rows.delete("meta", &name("tree")),
    },
    Damage {
        what: "`meta`: the head shown last leads elsewhere",
        to: |rows| {
            rows.run(&["put", "meta", &name("published"), &row(NEW)]);
        },
    },
    Damage {
        what: "`meta`: the head shown last removed",
        to: |rows| rows.delete("meta", &name("published")),
    },
    Damage {
        what: "`meta`: the format removed",
        to: |rows| rows.delete("meta", &name("format")),
    },
];

/// Changes an entry so that it stays well-formed, and what it commits to the same.
fn backdate(entry: &mut [u8]) {
    let at = entry.windows(3).position(|bytes| bytes == b"api").unwrap_or(0);
    if at > 0 {
        entry[at + 2] = b'j';
    } else {
        *entry.last_mut().unwrap() ^= 1;
    }
}

impl Sound {
    async fn new() -> Self {
        let (data, log) = Data::with_main_log();
        let hook = Hook::add(&data, "github", "github", &[]);
        let anchor = data.beside("anchor");
        fs::create_dir(&anchor).unwrap();
        let older = data.beside("older");
        let mut next = 1;
        for size in [400, SIZE] {
            let server = Server::start(&data, &["--anchor", anchor.to_str().unwrap()]);
            while next < size {
                // One is a webhook, which the search index knows by its commit.
                if next == OLD {
                    let answer = hook.deliver(server.address(), "push", "d1", push().to_string().as_bytes());
                    assert_eq!(answer.status, 201, "{answer:?}");
                    next += 1;
                    continue;
                }
                let end = if next < OLD { size.min(OLD) } else { size };
                let request = v1::SubmitBatchRequest {
                    log: String::new(),
                    events: (next..end)
                        .map(|number| event(format!("event-{number}"), "data"))
                        .collect(),
                };
                server.submitter().submit_batch(request).await.unwrap();
                next = end;
            }
            head(&mut server.reader(), &log, size).await;
            server.stop();
            if size < SIZE {
                data.copy_to(&older);
            }
        }
        data.assert_sound();
        Self {
            data,
            log,
            older,
            anchor,
        }
    }

    /// A copy of its directory.
    fn copy(&self, to: &str) -> Data {
        let path = self.data.beside(to);
        self.data.copy_to(&path);
        Data::at(path)
    }
}

const COMMIT: &str = "cccccccccccccccccccccccccccccccccccccccc";
/// The source of no event, and its id.
const NO_EVENT: &str = "nobody";

fn push() -> Value {
    json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": COMMIT,
        "repository": {"id": 5, "full_name": "Acme/Widgets"},
        "sender": {"id": 7, "login": "octocat", "type": "User"},
    })
}

/// Whoever saw the log while it was sound: a client with its state and a receipt, and the log's key.
struct Observer<'a> {
    log: &'a TestLog,
    directory: PathBuf,
    /// What names the old entry.
    source: String,
    id: String,
    hash: String,
}

impl Observer<'_> {
    fn run(&self, server: &Server, arguments: &[&str]) -> Output {
        counterfoil()
            .args(arguments)
            .args(["--json", "--server", &format!("http://{}", server.address())])
            .args(["--log-key", &self.log.key().to_string(), "--state-dir"])
            .arg(self.directory.join("state"))
            .output()
            .unwrap()
    }

    /// What a command says is wrong, in a word. `None` if it is content.
    fn asked(&self, server: &Server, arguments: &[&str]) -> Option<String> {
        let output = self.run(server, arguments);
        if output.status.success() {
            return None;
        }
        let errors = String::from_utf8(output.stderr).unwrap();
        let error: Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
        let error = &error["error"];
        let name = error["misbehaviour"].as_str().or(error["kind"].as_str()).unwrap();
        Some(name.to_owned())
    }

    /// Everything that a client can ask for about the damaged entries, and for what was never there.
    fn client(&self, server: &Server) -> BTreeSet<String> {
        let receipt = self.directory.join(format!("{OLD}.tlog-proof"));
        let (old, new, no_hash) = (OLD.to_string(), NEW.to_string(), no_hash());
        let there: [(&str, &[&str]); 10] = [
            ("head", &["head"]),
            ("verify", &["verify", receipt.to_str().unwrap()]),
            ("get", &["get", &old]),
            ("get", &["get", &new]),
            ("get --id", &["get", "--source", &self.source, "--id", &self.id]),
            ("get --hash", &["get", "--hash", &self.hash]),
            ("receipt", &["receipt", &old]),
            ("prove --hash", &["prove", "inclusion", "--hash", &self.hash]),
            ("find", &["find", "--commit", COMMIT]),
            ("find --scan", &["find", "--scan", "--commit", COMMIT]),
        ];
        let nowhere: [(&str, &[&str]); 2] = [
            ("get --id", &["get", "--source", NO_EVENT, "--id", NO_EVENT]),
            ("get --hash", &["get", "--hash", &no_hash]),
        ];
        let there = there
            .into_iter()
            .filter_map(|(label, arguments)| Some((label, self.asked(server, arguments)?)));
        let nowhere = nowhere.into_iter().map(|(label, arguments)| {
            let found = || "found what is not there".to_owned();
            (label, self.asked(server, arguments).unwrap_or_else(found))
        });
        there
            .chain(nowhere.filter(|(_, said)| said != "not_found"))
            .map(|(label, said)| format!("`{label}`: `{said}`"))
            .collect()
    }

    /// What a monitor finds that reads the log from its start.
    fn monitor(&self, server: &Server, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (kind, source) in [
            (
                "tiles",
                format!("{{ tiles = \"http://{}/logs/main/\" }}", server.address()),
            ),
            ("grpc", format!("{{ grpc = \"http://{}\" }}", server.address())),
        ] {
            let directory = self.directory.join(format!("{name}-{kind}"));
            fs::create_dir(&directory).unwrap();
            let policy = format!("log {}\nquorum none\n", self.log.key());
            fs::write(directory.join("policy"), policy).unwrap();
            let config = format!(
                "state_dir = \"state\"\n[[log]]\nname = \"main\"\npolicy = \"policy\"\nsources = [{source}]\n"
            );
            fs::write(directory.join("monitor.toml"), config).unwrap();
            let output = counterfoil()
                .args(["monitor", "--once", "--json", "--config"])
                .arg(directory.join("monitor.toml"))
                .output()
                .unwrap();
            for line in str::from_utf8(&output.stdout).unwrap().lines() {
                let event: Value = serde_json::from_str(line).unwrap();
                found.insert(format!("`{}`", event["finding"].as_str().unwrap()));
            }
        }
        found
    }
}

/// What a start says, in the words that it uses.
fn refusal(errors: &str) -> String {
    const WORDS: [&str; 10] = [
        "was rolled back",
        "was rewritten",
        "do not make the tree",
        "is stored past the log's size",
        "does not describe this log",
        "holds no log",
        "does not verify",
        "has the format 0",
        "is malformed",
        "is missing",
    ];
    let words = WORDS.iter().find(|words| errors.contains(**words));
    format!("“{}”", words.unwrap_or_else(|| panic!("{errors}")))
}

/// The families in which the check finds something, or why it can't be made.
fn fsck(data: &Data) -> String {
    let output = counterfoild()
        .args(["fsck", "--json", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    if output.status.success() {
        return String::new();
    }
    let Ok(Value::Array(reports)) = serde_json::from_slice(&output.stdout) else {
        return refusal(str::from_utf8(&output.stderr).unwrap());
    };
    let findings = reports[0]["findings"].as_array().unwrap().iter();
    cell(
        findings
            .map(|finding| format!("`{}`", finding["family"].as_str().unwrap()))
            .collect(),
    )
}

fn cell(found: BTreeSet<String>) -> String {
    Vec::from_iter(found).join(", ")
}

/// A row of the table: who notices, and how.
fn watched(observer: &Observer<'_>, data: &Data, what: &str, number: usize, options: &[&str]) -> String {
    let checked = fsck(data);
    let (start, client, monitor) = match Server::try_start(data, options) {
        Err(refused) => {
            assert_eq!(refused.code, Some(3), "{refused:?}");
            (refusal(&refused.errors), String::new(), String::new())
        }
        Ok(server) => {
            let client = cell(observer.client(&server));
            let monitor = cell(observer.monitor(&server, &format!("monitor-{number}")));
            server.stop();
            ("starts".to_owned(), client, monitor)
        }
    };
    let cells =
        [start, checked, client, monitor].map(|cell| if cell.is_empty() { "–".to_owned() } else { cell });
    format!("| {what} | {} |", cells.join(" | "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_says_who_notices_what() {
    let sound = Sound::new().await;
    // What an observer keeps from when the log was sound.
    let directory = sound.data.beside("observer");
    fs::create_dir(&directory).unwrap();
    let mut observer = Observer {
        log: &sound.log,
        directory: directory.clone(),
        source: String::new(),
        id: String::new(),
        hash: String::new(),
    };
    let copy = sound.copy("sound");
    let server = Server::start(&copy, &[]);
    let entry = observer.run(&server, &["get", &OLD.to_string()]);
    let entry: Value = serde_json::from_slice(&entry.stdout).unwrap();
    let text = |pointer: &str| entry.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    observer.source = text("/payload/attributes/source");
    observer.id = text("/payload/attributes/id");
    observer.hash = text("/leaf_hash");
    let receipt = observer.run(&server, &["receipt", &OLD.to_string()]);
    assert!(receipt.status.success(), "{receipt:?}");
    let receipt = observer.run(
        &server,
        &[
            "receipt",
            &OLD.to_string(),
            "--output",
            directory.join(format!("{OLD}.tlog-proof")).to_str().unwrap(),
        ],
    );
    assert!(receipt.status.success(), "{receipt:?}");
    assert_eq!(observer.client(&server), BTreeSet::new());
    assert_eq!(observer.monitor(&server, "sound"), BTreeSet::new());
    server.stop();

    let mut table = Vec::new();
    for (number, Damage { what, to }) in DAMAGES.iter().enumerate() {
        let data = sound.copy(&format!("damaged-{number}"));
        to(&Rows::of(&data));
        table.push(watched(&observer, &data, what, number, &[]));
        fs::remove_dir_all(data.path()).unwrap();
    }
    let number = DAMAGES.len();
    let data = sound.copy("older-database");
    replace(
        &sound.older.join("logs/main/db"),
        &data.path().join("logs/main/db"),
    );
    table.push(watched(
        &observer,
        &data,
        "an older copy of the database",
        number,
        &[],
    ));
    let data = sound.copy("older-directory");
    replace(&sound.older, data.path());
    table.push(watched(
        &observer,
        &data,
        "an older copy of the whole directory",
        number + 1,
        &[],
    ));
    let data = sound.copy("older-anchored");
    replace(&sound.older, data.path());
    let options = ["--anchor", sound.anchor.to_str().unwrap()];
    table.push(watched(
        &observer,
        &data,
        "the same, where there is an anchor",
        number + 2,
        &options,
    ));
    let data = sound.copy("older-received");
    replace(&sound.older, data.path());
    // As docs/OPERATIONS.md has it: all that follows the first empty line of a receipt.
    let receipt = fs::read_to_string(directory.join(format!("{OLD}.tlog-proof"))).unwrap();
    let (_, checkpoint) = receipt.split_once("\n\n").unwrap();
    let anchor = sound.data.beside("received");
    fs::create_dir(&anchor).unwrap();
    fs::write(anchor.join("main.checkpoint"), checkpoint).unwrap();
    let options = ["--anchor", anchor.to_str().unwrap()];
    table.push(watched(
        &observer,
        &data,
        "the same, where a receipt's head was made the anchor",
        number + 3,
        &options,
    ));

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/RELIABILITY.md");
    let document = fs::read_to_string(document).unwrap();
    let table = table.join("\n");
    assert!(
        document.contains(&format!("| --- | --- | --- | --- | --- |\n{table}\n\n")),
        "docs/RELIABILITY.md says something else:\n{table}"
    );
}

fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    Data::at(from.to_owned()).copy_to(to);
}
