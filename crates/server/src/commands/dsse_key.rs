//! `counterfoild dsse-key`: whose signatures on DSSE envelopes are believed. A running server follows within some seconds.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use counterfoil_dsse::{MAX_PEM_BYTES, PublicKey};
use counterfoil_event::SourceId;
use counterfoil_files::{self as files, create_directory, create_secret, read_secret};
use counterfoil_log::LogName;

use crate::{
    access::{EnrolledKey, MAX_DSSE_KEYS, dsse_keys_directory},
    logs::ensure_logs,
    owner::ensure_owner,
    print::print_line,
    watched,
};

/// The longest file of a key.
const MAX_FILE_BYTES: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Enrol a public key. Entries with envelopes that it signed say so from then on
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild dsse-key add release --data ./data --key cosign.pub
  counterfoild dsse-key add builder --data ./data --key builder.pem --log builds

Each log that it counts in records the key first, as an entry of the type log.dsse_key.")]
pub(crate) struct Add {
    /// What to call it: 1 to 64 of a-z, 0-9, `.`, `_` and `-`. Entries bear it
    #[arg(value_name = "NAME")]
    name: SourceId,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The public key in PEM: Ed25519, ECDSA on P-256 or P-384, RSA of at least 2,048 bits
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A log that it counts in; may be given again [default: all]
    #[arg(long = "log", value_name = "NAME")]
    logs: Vec<LogName>,
}

/// List the keys that are enrolled
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild dsse-key list --data ./data")]
pub(crate) struct List {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Believe a key no more. What it vouched for stays as it is on record
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild dsse-key remove release --data ./data")]
pub(crate) struct Remove {
    /// What it is called
    #[arg(value_name = "NAME")]
    name: SourceId,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add(arguments) => add(arguments)?,
        Command::List(arguments) => list(arguments)?,
        Command::Remove(arguments) => remove(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(arguments: &Add) -> anyhow::Result<()> {
    let Add {
        name,
        data,
        key,
        logs,
    } = arguments;
    ensure_owner(data)?;
    ensure_logs(data, logs)?;
    let length = fs::metadata(key)
        .with_context(|| format!("can't read {}", key.display()))?
        .len();
    ensure!(
        length <= MAX_PEM_BYTES as u64,
        "{} is too long for a key",
        key.display()
    );
    let pem = fs::read_to_string(key).with_context(|| format!("can't read {}", key.display()))?;
    let public_key = PublicKey::from_pem(&pem).with_context(|| key.display().to_string())?;
    let others = enrolled(data)?;
    ensure!(
        others.len() < MAX_DSSE_KEYS,
        "{MAX_DSSE_KEYS} keys are enrolled, which is the most"
    );
    if let Some((other, _)) = others
        .iter()
        .find(|(_, other)| other.key.fingerprint() == public_key.fingerprint())
    {
        bail!("the key is enrolled already, as `{other}`");
    }
    ensure!(
        others.iter().all(|(other, _)| other != name),
        "there is a key `{name}` already"
    );
    let enrolled = EnrolledKey {
        key: public_key,
        logs: (!logs.is_empty()).then(|| logs.iter().cloned().collect()),
    };
    let directory = dsse_keys_directory(data);
    create_directory(&directory)?;
    create_secret(&file(data, name), enrolled.to_toml().as_bytes())?;
    print_line(describe(name, &enrolled)).context("the key is enrolled, which can't be printed")
}

fn list(arguments: &List) -> anyhow::Result<()> {
    for (name, key) in enrolled(&arguments.data)? {
        print_line(describe(&name, &key)).context("the keys can't be printed")?;
    }
    Ok(())
}

fn remove(arguments: &Remove) -> anyhow::Result<()> {
    ensure_owner(&arguments.data)?;
    match files::remove(&file(&arguments.data, &arguments.name)) {
        Err(problem) if problem.source.kind() == ErrorKind::NotFound => bail!(
            "there is no key `{}` in {}",
            arguments.name,
            arguments.data.display()
        ),
        removed => removed?,
    }
    eprintln!(
        "a running server believes `{}` no more within a second",
        arguments.name
    );
    Ok(())
}

fn describe(name: &SourceId, enrolled: &EnrolledKey) -> String {
    let logs = enrolled.logs.as_ref().map_or("all logs".to_owned(), |logs| {
        logs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    });
    let key = &enrolled.key;
    format!("{name}  {}  {} in {logs}", key.fingerprint(), key.algorithm())
}

/// The keys that are there, in order of name.
fn enrolled(data: &Path) -> anyhow::Result<Vec<(SourceId, EnrolledKey)>> {
    let directory = dsse_keys_directory(data);
    let names = watched::names::<SourceId>(&directory)
        .with_context(|| format!("can't list {}", directory.display()))?;
    let mut keys = Vec::new();
    for name in names {
        let path = file(data, &name);
        let text = read_secret(&path, MAX_FILE_BYTES)?;
        let key = EnrolledKey::from_toml(&text).with_context(|| path.display().to_string())?;
        keys.push((name, key));
    }
    Ok(keys)
}

fn file(data: &Path, name: &SourceId) -> PathBuf {
    dsse_keys_directory(data).join(format!("{name}.toml"))
}
