use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use counterfoil_note::VerifierKey;
use counterfoil_proto::v1;
use tempfile::TempDir;

use crate::counterfoild;

/// A data directory with one log or more, and room beside it.
pub struct Data {
    path: PathBuf,
    beside: TempDir,
}

/// A certificate that signs itself, in files as a server takes them.
pub struct Identity {
    /// What clients have to trust.
    pub certificate: rcgen::Certificate,
    /// The files of the certificate and of its key.
    pub files: [String; 2],
}

/// A log in a data directory.
pub struct TestLog {
    /// What the server calls it.
    pub name: String,
    /// What verifies its heads; the first is the one that clients use.
    pub keys: Vec<VerifierKey>,
}

impl TestLog {
    /// The key that clients use.
    pub fn key(&self) -> &VerifierKey {
        &self.keys[0]
    }
}

impl Identity {
    /// Makes one for these names, in place of one that is there.
    pub fn in_directory(directory: &Path, names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let files =
            ["certificate.pem", "key.pem"].map(|name| directory.join(name).to_str().unwrap().to_owned());
        fs::write(&files[0], made.cert.pem()).unwrap();
        fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
        Self {
            certificate: made.cert,
            files,
        }
    }

    /// What turns TLS on with it.
    pub fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.files[0], "--tls-key", &self.files[1]]
    }
}

impl Data {
    /// A directory that is not there yet.
    pub fn temporary() -> Self {
        let beside = TempDir::with_prefix("counterfoil-").unwrap();
        Self {
            path: beside.path().join("data"),
            beside,
        }
    }

    /// A directory with the log `main`, in the suite `blake3`.
    pub fn with_main_log() -> (Self, TestLog) {
        let data = Self::temporary();
        let log = data.init("main", "blake3");
        (data, log)
    }

    /// A directory on another disk.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            beside: TempDir::with_prefix("counterfoil-").unwrap(),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path for something else, removed with the test.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.beside.path().join(name)
    }

    /// Makes a certificate for a server of these names, in files beside the directory.
    pub fn identity(&self, names: &[&str]) -> Identity {
        Identity::in_directory(self.beside.path(), names)
    }

    /// Makes a token as an operator would.
    pub fn token(&self, options: &[&str]) -> String {
        let output = counterfoild()
            .args(["token", "create", "--data"])
            .arg(&self.path)
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Makes a log.
    pub fn init(&self, name: &str, suite: &str) -> TestLog {
        let origin = format!("test.example/{name}");
        let output = counterfoild()
            .arg("init")
            .arg("--data")
            .arg(&self.path)
            .args(["--origin", &origin, "--suite", suite, "--log", name])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let keys = String::from_utf8(output.stdout).unwrap();
        TestLog {
            name: name.to_owned(),
            keys: keys.lines().map(|key| key.parse().unwrap()).collect(),
        }
    }

    /// Runs `fsck` and asserts that it finds nothing.
    pub fn assert_sound(&self) {
        let output = counterfoild()
            .arg("fsck")
            .arg("--data")
            .arg(&self.path)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "fsck: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Copies it to `target`, which must not exist.
    pub fn copy_to(&self, target: &Path) {
        copy_directory(&self.path, target);
    }

    /// Puts the copy at `source` in its place.
    pub fn restore_from(&self, source: &Path) {
        fs::remove_dir_all(&self.path).unwrap();
        copy_directory(source, &self.path);
    }
}

fn copy_directory(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    for file in fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        let target = target.join(file.file_name());
        let kind = file.file_type().unwrap();
        if kind.is_dir() {
            copy_directory(&file.path(), &target);
        } else if !kind.is_socket() {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// An event that differs from all with another id.
pub fn event(id: impl Into<String>, data: impl Into<Bytes>) -> v1::Event {
    let id = id.into();
    v1::Event {
        source: "https://ci.test.example/runners/7".to_owned(),
        r#type: "build.finished".to_owned(),
        subject: format!("build {id}"),
        id,
        time: "2026-11-22T09:30:00Z".to_owned(),
        data_content_type: "application/octet-stream".to_owned(),
        data: data.into(),
        extensions: vec![v1::Extension {
            name: "attempt".to_owned(),
            value: "1".to_owned(),
        }],
    }
}
