//! A log with a server, the files that an auditor has of it, and verdicts of Python on them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    process::Command,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::TreeSize;
use counterfoil_note::{LogSigner, SignedHead, UnixMillis};
use counterfoil_proto::v1;
use counterfoil_tests::{Data, Server, TestLog, Witness, WitnessData, counterfoil, event, head, http_get};
use tempfile::TempDir;

use crate::python;

/// Files for the verifier, and verdicts on them.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// A command line out of words and paths.
macro_rules! words {
    ($($word:expr),+ $(,)?) => { [$(OsString::from($word)),+] };
}

#[track_caller]
pub(crate) fn accepts(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, says: &[&str]) {
    expect(0, arguments, says);
}

#[track_caller]
pub(crate) fn refuses(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, says: &str) {
    expect(1, arguments, &[says]);
}

#[track_caller]
pub(crate) fn expect(code: i32, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, says: &[&str]) {
    let (found, printed) = python("verify.py", arguments);
    assert_eq!(found, code, "{printed}");
    for words in says {
        assert!(printed.contains(words), "{words:?} is not in: {printed}");
    }
}

/// A log of a suite with a server, and the files that an auditor has of it.
pub(crate) struct Live {
    pub(crate) data: Data,
    pub(crate) log: TestLog,
    pub(crate) server: Server,
    pub(crate) desk: Desk,
    pub(crate) suite: String,
    pub(crate) key: String,
}

impl Live {
    /// A log without witnesses, and `log.policy` that asks for none.
    pub(crate) fn start(suite: &str) -> Self {
        let data = Data::temporary();
        let log = data.init("main", suite);
        Self::serve(data, log, suite, &[])
    }

    /// A log whose published heads a witness cosigns, and `witnessed.policy` that asks for it.
    pub(crate) fn start_witnessed(suite: &str) -> (Self, Witness) {
        let data = Data::temporary();
        let log = data.init("main", suite);
        let witness_data = WitnessData::init("witness.example/w");
        witness_data.set_logs(&log.keys.iter().collect::<Vec<_>>());
        let witness = Witness::start(&witness_data);
        let logs: String = log.keys.iter().map(|key| format!("log {key}\n")).collect();
        let (key, address) = (witness_data.key(), witness.address());
        let policy = format!("{logs}witness W {key} http://{address}/\nquorum W\n");
        let file = data.beside("witnessed.policy");
        fs::write(&file, &policy).unwrap();
        let live = Self::serve(data, log, suite, &["--witness-policy", file.to_str().unwrap()]);
        live.desk.file("witnessed.policy", policy);
        (live, witness)
    }

    fn serve(data: Data, log: TestLog, suite: &str, options: &[&str]) -> Self {
        let options = [&["--publish-interval-ms", "20"], options].concat();
        let server = Server::start(&data, &options);
        let (desk, key) = (Desk::new(), log.key().to_string());
        // As `counterfoild init` prints them, the one for clients first.
        let keys: String = log.keys.iter().map(|key| format!("{key}\n")).collect();
        desk.file("log.vkey", keys);
        desk.file("log.policy", format!("log {key}\nquorum none\n"));
        Self {
            data,
            log,
            server,
            desk,
            suite: suite.to_owned(),
            key,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/logs/main", self.server.address())
    }

    /// Submits with the command line, which leaves `payload` and `receipt` on the desk.
    pub(crate) fn submit(&self) {
        let payload = self.desk.file("payload", "outcome: success\n");
        let event = [
            "--type",
            "ci.done",
            "--source",
            "https://ci.example/x",
            "--id",
            "42",
        ];
        let mut command = self.command("submit");
        command.args(event).args(["--log-key", &self.key]);
        command.arg("--data-file").arg(payload);
        run(command.arg("--receipt").arg(self.desk.path("receipt")));
    }

    /// Fetches a receipt with the command line, under a policy on the desk, and leaves it there.
    pub(crate) fn fetch_receipt(&self, index: u64, policy: &str, name: &str) -> PathBuf {
        let mut command = self.command("receipt");
        command.arg(index.to_string());
        command.arg("--policy").arg(self.desk.path(policy));
        run(command.arg("--output").arg(self.desk.path(name)));
        self.desk.path(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = counterfoil();
        command.args([name, "--server", &format!("http://{}", self.server.address())]);
        command.arg("--state-dir").arg(self.desk.path("state"));
        command
    }

    /// Submits events up to a size, and saves the published checkpoint as Python would fetch it.
    pub(crate) async fn grow(&self, size: u64, checkpoint: &str) -> SignedHead {
        let leaves = head(&mut self.server.reader(), &self.log, 0).await.size().get();
        let request = v1::SubmitBatchRequest {
            log: String::new(),
            events: (leaves..size)
                .map(|id| event(id.to_string(), format!("data {id}")))
                .collect(),
        };
        self.server.submitter().submit_batch(request).await.unwrap();
        head(&mut self.server.reader(), &self.log, size).await;
        let response = http_get(self.server.address(), "/logs/main/checkpoint");
        let head = self.log.key().verify_head(&response.body).unwrap();
        assert_eq!(head.size().get(), size);
        self.desk.file(checkpoint, response.body);
        head
    }

    pub(crate) async fn prove_consistency(&self, first: u64, second: u64) -> PathBuf {
        let request = v1::GetConsistencyProofRequest {
            log: String::new(),
            first_tree_size: first,
            second_tree_size: second,
        };
        let hashes = self
            .server
            .reader()
            .get_consistency_proof(request)
            .await
            .unwrap()
            .into_inner()
            .hashes;
        let lines: Vec<_> = hashes
            .iter()
            .map(|hash| BASE64_STANDARD.encode(hash) + "\n")
            .collect();
        self.desk.file("proof", lines.concat())
    }

    /// The log's own signature on any tree: what an operator, or a thief of the keys, could sign.
    pub(crate) fn forge(&self, size: u64, root_of: u8, unix_ms: u64) -> Vec<u8> {
        let keys = fs::read_to_string(self.data.path().join("logs/main/keys")).unwrap();
        let signer = LogSigner::new(keys.lines().map(|key| key.parse().unwrap()).collect()).unwrap();
        let root = signer.suite().leaf_hash(&[root_of]);
        signer.sign_head(TreeSize::new(size).unwrap(), root, UnixMillis::new(unix_ms))
    }

    pub(crate) fn trust_key(&self) -> OsString {
        format!("@{}", self.desk.path("log.vkey").display()).into()
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// `text` with the first occurrence of `old` replaced, which has to be there.
#[track_caller]
pub(crate) fn altered(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old:?} is not in {text}");
    text.replacen(old, new, 1)
}

pub(crate) use words;
