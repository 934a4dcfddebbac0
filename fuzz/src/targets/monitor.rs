//! What a monitor reads from logs, from its own disk, and from whoever configures it.

use bytes::Bytes;
use counterfoil_merkle::TileWidth;
use counterfoil_monitor::fuzzing;

use super::text;
use crate::{
    Target,
    sample::{HONEST, LEAVES},
};

pub(super) const BUNDLE: Target = Target {
    name: "bundle",
    about: "entry bundles: a byte for the width, less one, then the bundle",
    seeds: bundle_seeds,
    words: &["\0\0", "\0\x01", "\u{7f}"],
    max_bytes: 16 << 10,
    run: bundle,
};

fn bundle_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        [vec![255], vec![0; 512]].concat(),
        [vec![255], vec![0; 514]].concat(),
    ];
    for log in HONEST.iter() {
        let mut bundle = vec![u8::try_from(LEAVES - 1).unwrap()];
        for entry in &log.entries {
            bundle.extend(u16::try_from(entry.len()).unwrap().to_be_bytes());
            bundle.extend(entry);
        }
        seeds.push(bundle);
    }
    seeds
}

/// The entries are there one after another, whole, and nothing lies between them.
fn bundle(input: &[u8]) {
    let Some((&width, bundle)) = input.split_first() else {
        return;
    };
    let width = TileWidth::new(u16::from(width) + 1).unwrap();
    let Some(entries) = fuzzing::split_bundle(&Bytes::copy_from_slice(bundle), width) else {
        return;
    };
    assert_eq!(entries.len(), usize::from(width.get()));
    let mut rest = bundle;
    for entry in &entries {
        let (length, after) = rest.split_first_chunk().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes(*length)), entry.len());
        rest = after.strip_prefix(&entry[..]).unwrap();
    }
}

pub(super) const STATE: Target = Target {
    name: "monitor_state",
    about: "what a monitor keeps of a log",
    seeds: state_seeds,
    words: &[
        "\"version\":1",
        "\"anchor\":null",
        "\"compact_range\":[",
        "\"findings\":{\"open\":[],\"opened\":[]}",
        "\"shown\":{",
    ],
    max_bytes: 16 << 10,
    run: state,
};

fn state_seeds() -> Vec<Vec<u8>> {
    let empty = serde_json::json!({"open": [], "opened": []});
    let seeds = HONEST.iter().flat_map(|log| {
        let note = String::from_utf8(log.note(8)).unwrap();
        let origin = log.keys[0].name().to_string();
        let state = |size: u64, range: Vec<String>, anchor: Option<&str>| {
            serde_json::json!({
                "version": 1, "origin": origin, "tree_size": size, "compact_range": range, "last_time_unix_ns": 9,
                "anchor": anchor, "anchor_seen_unix_ms": 3, "shown": {"tiles": note}, "findings": empty,
            })
            .to_string()
            .into_bytes()
        };
        let root = |size| log.root(size).to_string();
        [
            state(0, vec![], None),
            state(8, vec![root(8)], Some(&note)),
            state(4, vec![root(4)], Some(&note)),
            state(9, vec![root(8), root(1)], Some(&note)),
        ]
    });
    seeds.collect()
}

/// What can be used comes back the same once it is written.
fn state(input: &[u8]) {
    for log in HONEST.iter() {
        let key = &log.keys[0];
        let Ok(written) = fuzzing::rewrite_state(input, key.name(), &log.policy) else {
            continue;
        };
        let again = fuzzing::rewrite_state(&written, key.name(), &log.policy);
        assert_eq!(again.unwrap(), written);
    }
}

pub(super) const CONFIG: Target = Target {
    name: "monitor_config",
    about: "configuration files of monitors, and their webhooks' secrets",
    seeds: config_seeds,
    words: &[
        "state_dir = ",
        "[[log]]\n",
        "[[webhook]]\n",
        "name = ",
        "policy = ",
        "sources = [",
        "tiles = ",
        "grpc = ",
        "https://",
    ],
    max_bytes: 8 << 10,
    run: config,
};

fn config_seeds() -> Vec<Vec<u8>> {
    let whole = r#"
state_dir = "state"
interval_seconds = 30
metrics_listen = "127.0.0.1:9090"
[[log]]
name = "builds"
policy = "builds.policy"
origin = "log.example/builds"
max_head_age_seconds = 300
sources = [{ tiles = "https://log.example/builds" }, { grpc = "http://127.0.0.1:7480", log = "main" }]
observers = ["https://witness.example/"]
[[webhook]]
url = "https://hooks.example/a?b=c"
secret_file = "secret"
"#;
    let least = "state_dir = \"s\"\nlog = []\n";
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    [whole, least, secret]
        .map(|seed| seed.as_bytes().to_vec())
        .to_vec()
}

/// It is read or refused.
fn config(input: &[u8]) {
    let Some(text) = text(input) else { return };
    assert!(!(fuzzing::is_config(text) && fuzzing::is_secret(text)));
}
