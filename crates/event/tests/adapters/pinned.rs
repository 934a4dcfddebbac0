//! What a version of an adapter makes is the same bytes for ever: `pinned.json` has the BLAKE3 hash of each recorded
//! body's form.

use std::collections::BTreeMap;

use crate::{read, recorded};

const PINNED: &str = include_str!("pinned.json");

#[test]
fn what_an_adapter_makes_never_changes() {
    let pinned: BTreeMap<String, String> = serde_json::from_str(PINNED).unwrap();
    let mut found = BTreeMap::new();
    for recorded in recorded::all() {
        let form = read(recorded.adapter, &recorded.event, &recorded.body)
            .unwrap()
            .into_json();
        let path = recorded.name();
        let (_, path) = path.split_once("data/").unwrap();
        found.insert(path.to_owned(), blake3::hash(&form).to_string());
    }
    if found.is_empty() {
        return;
    }
    let changed: Vec<_> = found
        .iter()
        .filter(|(path, hash)| pinned.get(*path) != Some(hash))
        .collect();
    assert!(
        changed.is_empty(),
        "these forms are others than before, which takes a new version of the adapter: {}",
        serde_json::to_string_pretty(&found).unwrap()
    );
    assert_eq!(found.len(), pinned.len(), "bodies are gone");
}
