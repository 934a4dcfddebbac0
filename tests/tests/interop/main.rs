//! The second verifier, `tests/interop/verify.py`: written in another language from docs/PROTOCOL.md, sharing no code with
//! the product. Here it meets golden vectors, live servers, forgeries, and the product's own verdicts.
#![allow(clippy::unwrap_used)]

mod agreement;
mod desk;
mod entries;
mod growth;
mod mutation;
mod receipts;
mod signed_texts;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// A file beside the verifier.
fn interop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

/// Runs a Python program. Returns its exit code and what it printed, standard error last.
fn python(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> (i32, String) {
    let output = Command::new("python3")
        // No compiled copies beside the sources.
        .arg("-B")
        .arg(interop(program))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("these tests need python3 (3.9 or later) in the PATH: {error}"));
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

#[test]
fn every_golden_vector_comes_out_as_it_must() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let (code, printed) = python("verify.py", ["selftest".as_ref(), vectors.as_os_str()]);
    assert_eq!(code, 0, "{printed}");
    // A directory without them is no success.
    let empty = tempfile::tempdir().unwrap();
    let (code, printed) = python("verify.py", ["selftest".as_ref(), empty.path().as_os_str()]);
    assert_eq!(code, 2, "{printed}");
}
