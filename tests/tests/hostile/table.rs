//! The table in the threat model: each row names a test, and each test that it names is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every source file that may have tests, with what it holds.
fn test_files() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("tests/tests"), &mut found);
    for package in fs::read_dir(root().join("crates")).unwrap() {
        let package = package.unwrap().path();
        walk(&package.join("tests"), &mut found);
        walk(&package.join("src"), &mut found);
    }
    found
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_attack_has_a_test_and_every_test_is_there() {
    let document = fs::read_to_string(root().join("docs/THREAT_MODEL.md")).unwrap();
    let files = test_files();
    let (_, table) = document
        .split_once("| attack | who detects it, with what command |")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows: Vec<_> = table.lines().skip(2).collect();
    assert!(rows.len() > 15);
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(
            code_spans(tests).any(|span| span.ends_with(".rs"))
                && code_spans(tests).any(|span| span.contains('_')),
            "no test is named: {row}"
        );
    }
    for line in document.lines() {
        // A name stands after the files that have it.
        let mut named: Vec<&str> = Vec::new();
        let mut follows_name = false;
        for span in code_spans(line) {
            if span.ends_with(".rs") {
                if follows_name {
                    named.clear();
                }
                let is_there = files.iter().any(|(path, _)| path.ends_with(span));
                assert!(is_there, "{span}, in: {line}");
                named.push(span);
                follows_name = false;
            } else if !named.is_empty() && (span.ends_with('…') || span.matches('_').count() > 2) {
                let name = span.trim_end_matches('…');
                for file in &named {
                    let function = format!("fn {name}");
                    let has_it =
                        |(path, text): &(PathBuf, String)| path.ends_with(file) && text.contains(&function);
                    assert!(files.iter().any(has_it), "{name} in {file}, in: {line}");
                }
                follows_name = true;
            }
        }
    }
}
