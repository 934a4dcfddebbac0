use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{TestLog, counterfoil};

/// The command line's program with `--json`, against a server. What it remembers of the log is kept in `state`.
pub fn client_of(server: SocketAddr, log: &TestLog, state: &Path, arguments: &[&str]) -> Command {
    let mut command = counterfoil();
    command
        .args(arguments)
        .args(["--json", "--server", &format!("http://{server}")])
        .args(["--log-key", &log.key().to_string(), "--state-dir"])
        .arg(state);
    command
}

/// Runs a program to its end. Returns what it printed, if it ended well.
pub fn output_of(mut command: Command) -> Result<Vec<u8>> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {shown}"))?;
    ensure!(
        output.status.success(),
        "{shown} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// The same for a program that prints JSON.
pub fn json_of(command: Command) -> Result<Value> {
    let shown = format!("{command:?}");
    serde_json::from_slice(&output_of(command)?).with_context(|| format!("reading the JSON of {shown}"))
}

/// Asserts that a program ended with this code. Returns the JSON that it printed last: of its result, or of its failure.
#[track_caller]
pub fn json_with(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = if code == 0 { &output.stdout } else { &output.stderr };
    let text = str::from_utf8(text).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|_| panic!("{output:?}"))
}

/// What the files under a directory hold.
pub fn bytes_under(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_under(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

/// Writes the configuration of a monitor that follows a server's log `main` by gRPC, in a new directory. A `policy` says whose
/// signatures count.
pub fn configure_monitor(directory: &Path, policy: &str, server: SocketAddr) -> io::Result<PathBuf> {
    fs::create_dir(directory)?;
    fs::write(directory.join("policy"), policy)?;
    let config = format!(
        "state_dir = \"state\"\ninterval_seconds = 1\n[[log]]\nname = \"main\"\npolicy = \"policy\"\n\
         max_head_age_seconds = 3600\nsources = [{{ grpc = \"http://{server}\", log = \"main\" }}]\n"
    );
    let path = directory.join("monitor.toml");
    fs::write(&path, config)?;
    Ok(path)
}
