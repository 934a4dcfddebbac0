//! `counterfoild source`: who may post webhooks. A running server follows within some seconds.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use counterfoil_event::SourceId;
use counterfoil_hooks::{Fingerprint, Provider, Secret, Source, SourcesDirectory};
use counterfoil_log::{DataDirectory, LogName};
use zeroize::Zeroizing;

use crate::{owner::ensure_owner, print::print_line};

/// More than any secret has.
const MAX_SECRET_FILE_BYTES: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(Add),
    List(List),
    Rotate(Rotate),
    Retire(Retire),
    Remove(Remove),
}

/// Make a source of webhooks, with the path /hooks/ID of its own. Prints its new secret, for the provider's form, on standard
/// output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  counterfoild source add github --data ./data --provider github
  counterfoild source add forge --data ./data --provider gitea --host git.example.com --log builds
  counterfoild source add gitlab --data ./data --provider gitlab --secret-file ./secret

A secret that is made here is shown once; it stays in DATA/sources/ID.toml, which only its owner can read. `counterfoild setup`
does the same, says what to enter at the provider, and waits for the first delivery.")]
pub(crate) struct Add {
    #[command(flatten)]
    place: Place,
    /// Whose webhooks it takes: `github`, `gitlab`, `gitea`, which `forgejo` means too
    #[arg(long, value_name = "PROVIDER")]
    provider: Provider,
    /// The log that they go to
    #[arg(long, value_name = "NAME", default_value = LogName::DEFAULT)]
    log: LogName,
    /// Where the provider runs, such as git.example.com [default: the provider's cloud]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    secret: SecretFile,
}

/// Which source.
#[derive(Debug, Args)]
struct Place {
    /// The source's name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`. Entries bear it, for ever
    #[arg(value_name = "ID", value_parser = source_id)]
    id: SourceId,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Where a secret comes from.
#[derive(Debug, Args)]
struct SecretFile {
    /// Take the secret from a file, or from standard input for `-`, instead of making one
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// List the sources, with the fingerprints of their secrets
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild source list --data ./data")]
pub(crate) struct List {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Let a source sign with another secret too, and print it on standard output if it is new. Those before it go on counting
/// until they are retired
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild source rotate github --data ./data
  counterfoild source retire github 1f2e3d4c --data ./data")]
pub(crate) struct Rotate {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    secret: SecretFile,
}

/// Take back a secret, named by its fingerprint. `source list` shows them, the newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild source retire github 1f2e3d4c --data ./data")]
pub(crate) struct Retire {
    #[command(flatten)]
    place: Place,
    /// The secret's fingerprint
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: Fingerprint,
}

/// Remove a source and its secrets. What it had recorded stays
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild source remove github --data ./data")]
pub(crate) struct Remove {
    #[command(flatten)]
    place: Place,
}

fn source_id(text: &str) -> Result<SourceId, String> {
    text.parse().map_err(|problem| format!("it {problem}"))
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add(arguments) => add(arguments),
        Command::List(arguments) => list(&arguments.data),
        Command::Rotate(arguments) => rotate(arguments),
        Command::Retire(arguments) => retire(arguments),
        Command::Remove(arguments) => remove(arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(arguments: &Add) -> anyhow::Result<()> {
    let Place { id, data } = &arguments.place;
    ensure_owner(data)?;
    let logs = match DataDirectory::new(data).logs() {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Vec::new(),
        logs => logs.with_context(|| format!("can't list the logs of {}", data.display()))?,
    };
    anyhow::ensure!(
        logs.contains(&arguments.log),
        "{} has no log `{}`. Make one with `counterfoild init`",
        data.display(),
        arguments.log
    );
    let secret = arguments
        .secret
        .read_or_make(|| Secret::generate(arguments.provider))?;
    let source = Source::new(
        arguments.provider,
        arguments.log.to_string(),
        arguments.host.clone(),
        secret.clone(),
    )?;
    let directory = SourcesDirectory::of(data);
    directory.create(id, &source)?;
    if let Err(problem) = arguments.secret.show_new(&secret) {
        directory.remove(id)?;
        return Err(problem);
    }
    eprintln!(
        "{} may post to /hooks/{id}, with the secret {}, into the log `{}`",
        arguments.provider.title(),
        secret.fingerprint(),
        arguments.log
    );
    Ok(())
}

fn list(data: &Path) -> anyhow::Result<()> {
    ensure!(data.is_dir(), "there is no directory {}", data.display());
    let directory = SourcesDirectory::of(data);
    for id in directory.list()? {
        // One that is broken should not hide the others.
        let said = match directory.read(&id) {
            Ok(source) => describe(&source),
            Err(problem) => format!("broken: {problem}"),
        };
        print_line(format_args!("{id}\t{said}")).context("the sources can't be printed")?;
    }
    Ok(())
}

fn describe(source: &Source) -> String {
    let fingerprints: Vec<_> = source
        .secrets()
        .iter()
        .map(|secret| secret.fingerprint().to_string())
        .collect();
    let host = if source.host.is_empty() { "-" } else { &source.host };
    format!(
        "{}\t{host}\tlog {}\tsecrets {}",
        source.provider,
        source.log,
        fingerprints.join(" ")
    )
}

fn rotate(arguments: &Rotate) -> anyhow::Result<()> {
    let Place { id, data } = &arguments.place;
    ensure_owner(data)?;
    let directory = SourcesDirectory::of(data);
    let mut source = directory.read(id)?;
    let secret = arguments.secret.read_or_make(|| source.generate_secret())?;
    source.add_secret(secret.clone())?;
    directory.replace(id, &source)?;
    if let Err(problem) = arguments.secret.show_new(&secret) {
        source.retire_secret(secret.fingerprint())?;
        directory.replace(id, &source)?;
        return Err(problem);
    }
    eprintln!("`{id}` may sign with the secret {} too", secret.fingerprint());
    for old in source.secrets().iter().rev().skip(1) {
        let old = old.fingerprint();
        eprintln!(
            "once it does: counterfoild source retire {id} {old} --data {}",
            data.display()
        );
    }
    Ok(())
}

fn retire(arguments: &Retire) -> anyhow::Result<()> {
    let Place { id, data } = &arguments.place;
    ensure_owner(data)?;
    let directory = SourcesDirectory::of(data);
    let mut source = directory.read(id)?;
    source
        .retire_secret(arguments.fingerprint)
        .with_context(|| format!("can't retire {} of `{id}`", arguments.fingerprint))?;
    Ok(directory.replace(id, &source)?)
}

fn remove(arguments: &Remove) -> anyhow::Result<()> {
    let Place { id, data } = &arguments.place;
    ensure_owner(data)?;
    Ok(SourcesDirectory::of(data).remove(id)?)
}

impl SecretFile {
    fn read_or_make(
        &self,
        make: impl FnOnce() -> Result<Secret, getrandom::Error>,
    ) -> anyhow::Result<Secret> {
        let Some(path) = &self.secret_file else {
            return make().context("the system gives no random numbers");
        };
        let text = read(path).with_context(|| format!("can't read {}", path.display()))?;
        // An editor ends it with a line break.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        text.parse::<Secret>()
            .with_context(|| format!("what is in {} can't be the secret", path.display()))
    }

    /// Prints a secret that was made here.
    ///
    /// # Errors
    /// If it can't be printed: nobody has it then, and it should not be left.
    fn show_new(&self, secret: &Secret) -> anyhow::Result<()> {
        if self.secret_file.is_some() {
            return Ok(());
        }
        print_line(secret.reveal()).context("the new secret can't be printed, and was taken back")
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_SECRET_FILE_BYTES)
            .read_to_string(&mut text)?;
    } else {
        File::open(path)?
            .take(MAX_SECRET_FILE_BYTES)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}
