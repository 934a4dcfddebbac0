//! A log that lies, and who catches it: each attack against the client, the command line, a witness and a monitor.
//! `docs/THREAT_MODEL.md` has the table.
#![allow(clippy::unwrap_used)]

mod cli;
mod client;
mod monitor;
mod table;
mod witness;

use std::{
    path::Path,
    process::{Command, Output},
};

use counterfoil_merkle::Suite;
use counterfoil_tests::{HostileLog, counterfoil};
use serde_json::Value;

/// What a program ended with.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Ended {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Has an evidence file checked by `counterfoil verify --evidence`, under the log's key alone; returns what it rests on.
fn confirmed(log: &HostileLog, path: &Path, fact: &str) -> String {
    let key = log.key().to_string();
    let ended = run(counterfoil()
        .args(["verify", "--json", "--log-key", &key, "--evidence"])
        .arg(path));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let verdict: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(verdict["fact"], fact);
    assert_eq!(verdict["holds"], true);

    // Another log's key confirms nothing.
    let stranger = "log.example/blake3+87ce5594+/2NvdW50ZXJmb2lsL3RpbWVzdGFtcGVkLWhlYWQvdjEvYmxha2Uziojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
    let ended = run(counterfoil()
        .args(["verify", "--log-key", stranger, "--evidence"])
        .arg(path));
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    verdict["basis"].as_str().unwrap().to_owned()
}

/// Both suites by turns: attacks do not differ by suite, and processes take time.
fn suite_of(turn: usize) -> Suite {
    Suite::ALL[turn % 2]
}
