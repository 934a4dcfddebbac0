//! `counterfoild token`: API tokens, as files that a running server follows.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use counterfoil_event::SourceId;
use counterfoil_files::{
    Readers, create_directory, create_secret, read_secret, remove, replace, sync_directory,
};
use counterfoil_log::LogName;
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};

use crate::{
    access::{Grant, MAX_NOTE_BYTES, Role, Token, TokenId, TokenRecord, config_path, tokens_directory},
    cli::EXIT_FAILED,
    logs::ensure_logs,
    owner::ensure_owner,
    print::print_line,
    watched::{self, MAX_FILES},
};

/// The longest file of a token.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// As many tokens may be made at once, each of which sees room for itself.
const SPARE_FILES: usize = 16;

/// API tokens let programs in: each has roles, a source to submit as, and logs. A running server takes changes within a second.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it, this once
    Create(Create),
    /// List the tokens, the oldest first
    List(List),
    /// Revoke a token
    Revoke(Revoke),
}

/// Makes a token and prints it on standard output. It is shown this once: the server keeps a hash of it only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  counterfoild token create --data ./data --role submit --source build-farm --expires 90d --note 'the build farm'
  counterfoild token create --data ./data --role audit --log main --expires 2027-06-30

Whoever sends it says `authorization: Bearer TOKEN`. As long as there is no DATA/access.toml, callers without a token may do
as much.")]
pub(crate) struct Create {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What it is good for; give it again for more
    #[arg(long = "role", value_name = "submit|read|audit|admin", required = true)]
    roles: Vec<Role>,
    /// What entries will name as their source, if it submits: 1 to 64 of a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    source: Option<SourceId>,
    /// A log that it is for; give it again for more. All of them otherwise
    #[arg(long = "log", value_name = "NAME")]
    logs: Vec<LogName>,
    /// When it ends: after a time such as `12h`, `90d` or `1y`, or at a date or time such as `2027-06-30` (its beginning in UTC).
    /// Never otherwise
    #[arg(long, value_name = "DURATION|DATE")]
    expires: Option<Expiry>,
    /// What it is for, to be remembered by
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild token list --data ./data")]
pub(crate) struct List {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Revokes a token. A running server refuses it within a second, also on connections that are open. What it submitted stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild token revoke --data ./data 1f0c9e5a77d2b384")]
pub(crate) struct Revoke {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Its id: the part between cft_ and the next _
    #[arg(value_name = "ID")]
    id: TokenId,
}

/// When a token ends.
#[derive(Debug, Clone)]
enum Expiry {
    After(Span),
    At(Timestamp),
}

/// Text that is neither a duration nor a date.
#[derive(Debug, thiserror::Error)]
#[error(
    "it takes a duration such as 12h or 90d, or a date or time such as 2027-06-30 or 2027-06-30T12:00:00Z"
)]
struct NoExpiry;

impl FromStr for Expiry {
    type Err = NoExpiry;

    fn from_str(text: &str) -> Result<Self, NoExpiry> {
        if let Ok(date) = text.parse::<Date>() {
            let midnight = date.to_zoned(TimeZone::UTC).map_err(|_| NoExpiry)?;
            // A date is also the beginning of a time.
            if text.len() == date.to_string().len() {
                return Ok(Self::At(midnight.timestamp()));
            }
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        text.parse().map(Self::After).map_err(|_| NoExpiry)
    }
}

impl Expiry {
    fn from(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let time = match self {
            Self::At(time) => *time,
            Self::After(span) => now
                .to_zoned(TimeZone::UTC)
                .checked_add(*span)
                .context("that is beyond the calendar")?
                .timestamp(),
        };
        ensure!(time > now, "that is not in the future");
        Ok(to_the_second(time))
    }
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(arguments) => create(arguments)?,
        Command::List(arguments) => return list(&arguments.data),
        Command::Revoke(arguments) => revoke(&arguments.data, &arguments.id)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(arguments: &Create) -> anyhow::Result<()> {
    ensure_owner(&arguments.data)?;
    ensure_logs(&arguments.data, &arguments.logs)?;
    ensure!(
        arguments.note.len() <= MAX_NOTE_BYTES && !arguments.note.chars().any(char::is_control),
        "--note takes one line of at most {MAX_NOTE_BYTES} bytes"
    );
    let logs = (!arguments.logs.is_empty()).then(|| arguments.logs.clone());
    let grant = Grant::new(arguments.roles.clone(), arguments.source.clone(), logs)?;
    let now = Timestamp::now();
    let expires = arguments.expires.as_ref().map(|expiry| expiry.from(now));
    let expires = expires.transpose().context("--expires")?;
    let directory = tokens_directory(&arguments.data);
    let there = count(&directory)?;
    ensure!(
        there < MAX_FILES - SPARE_FILES,
        "{} holds {there} files, and a server follows {MAX_FILES} at most. {}",
        directory.display(),
        MakeRoom(&arguments.data)
    );
    let token = Token::random().context("the system gives no random bytes")?;
    let record = TokenRecord::new(&token, grant, to_the_second(now), expires, arguments.note.clone());
    create_directory(&directory)?;
    let path = file(&directory, token.id());
    create_secret(&path, record.to_toml().as_bytes())?;
    if let Err(problem) = print_line(&*token.reveal()) {
        remove(&path)?;
        return Err(problem).context("the token can't be printed, and was taken back");
    }
    eprintln!(
        "made the token {}. It is shown this once; to revoke it:",
        token.id()
    );
    eprintln!(
        "  counterfoild token revoke --data {} {}",
        arguments.data.display(),
        token.id()
    );
    let config = config_path(&arguments.data);
    if !config.exists() {
        eprintln!(
            "note: callers without a token may still submit and read all, as there is no {}",
            config.display()
        );
    }
    Ok(())
}

/// Nobody needs to know better.
fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a time to the second is a time")
}

fn list(data: &Path) -> anyhow::Result<ExitCode> {
    ensure!(data.is_dir(), "there is no directory {}", data.display());
    let directory = tokens_directory(data);
    let ids = watched::names::<TokenId>(&directory)
        .with_context(|| format!("can't list {}", directory.display()))?;
    let (mut tokens, mut broken) = (Vec::new(), Vec::new());
    for id in ids {
        match read(&file(&directory, &id)) {
            Ok(record) => tokens.push((record, id)),
            Err(problem) => broken.push(problem),
        }
    }
    tokens.sort_by_key(|(record, _)| record.created);
    let now = Timestamp::now();
    for (record, id) in tokens {
        print_line(format_args!("{id}  {}", describe(&record, now)))?;
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for problem in broken {
        eprintln!("counterfoild: {problem:#}");
    }
    Ok(ExitCode::from(EXIT_FAILED))
}

fn describe(record: &TokenRecord, now: Timestamp) -> String {
    let join = |names: Vec<String>| names.join(",");
    let mut text = join(record.grant.roles().iter().map(ToString::to_string).collect());
    if let Some(source) = record.grant.source() {
        text += &format!(" as {source}");
    }
    text += " in ";
    text += &record.grant.logs().map_or("all logs".to_owned(), |logs| {
        join(logs.iter().map(ToString::to_string).collect())
    });
    text += &format!(", created {}", record.created);
    text += &match (record.revoked, record.expires) {
        (Some(revoked), _) => format!(", REVOKED {revoked}"),
        (None, Some(expires)) if expires <= now => format!(", EXPIRED {expires}"),
        (None, Some(expires)) => format!(", expires {expires}"),
        (None, None) => ", never expires".to_owned(),
    };
    if !record.note.is_empty() {
        text += &format!("  # {}", record.note);
    }
    text
}

/// The file stays, so that entries that name the token can be understood later.
fn revoke(data: &Path, id: &TokenId) -> anyhow::Result<()> {
    ensure_owner(data)?;
    let directory = tokens_directory(data);
    let path = file(&directory, id);
    if !path.exists() {
        bail!("there is no token {id} in {}", data.display());
    }
    let mut record = read(&path)?;
    if let Some(revoked) = record.revoked {
        // Whoever did may have been cut short before it would outlive a loss of power.
        sync_directory(&directory)?;
        ensure_followed(data, &directory)?;
        bail!("the token {id} was revoked before, at {revoked}");
    }
    record.revoked = Some(to_the_second(Timestamp::now()));
    replace(&path, record.to_toml().as_bytes(), Readers::Owner)?;
    ensure_followed(data, &directory)?;
    eprintln!("revoked the token {id}; a running server refuses it within a second");
    Ok(())
}

/// A server that finds too many files goes by those that it knew.
fn ensure_followed(data: &Path, directory: &Path) -> anyhow::Result<()> {
    let there = count(directory)?;
    ensure!(
        there <= MAX_FILES,
        "the token is revoked on disk, but {} holds {there} files, and a server follows {MAX_FILES} at most: one that runs goes on \
         taking the token, and none starts. {}",
        directory.display(),
        MakeRoom(data)
    );
    Ok(())
}

fn count(directory: &Path) -> anyhow::Result<usize> {
    watched::count(directory).with_context(|| format!("can't list {}", directory.display()))
}

/// What to do where there are too many files.
struct MakeRoom<'a>(&'a Path);

impl fmt::Display for MakeRoom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Move away those that `counterfoild token list --data {}` shows as EXPIRED or REVOKED",
            self.0.display()
        )
    }
}

fn file(directory: &Path, id: &TokenId) -> PathBuf {
    directory.join(format!("{id}.toml"))
}

fn read(path: &Path) -> anyhow::Result<TokenRecord> {
    let text = read_secret(path, MAX_FILE_BYTES).with_context(|| path.display().to_string())?;
    TokenRecord::from_toml(&text).with_context(|| format!("{} is no token's file", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_a_date_or_a_time() {
        let now = "2026-11-23T10:20:30Z".parse().unwrap();
        for (text, time) in [
            ("12h", "2026-11-23T22:20:30Z"),
            ("90d", "2027-02-21T10:20:30Z"),
            ("1y", "2027-11-23T10:20:30Z"),
            ("2027-06-30", "2027-06-30T00:00:00Z"),
            ("2027-06-30T12:00:00+02:00", "2027-06-30T10:00:00Z"),
        ] {
            let expiry: Expiry = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expiry.from(now).unwrap(), time.parse().unwrap(), "{text}");
        }
        for text in ["", "soon", "12", "2027-06-31", "2027-06-30x"] {
            assert!(text.parse::<Expiry>().is_err(), "{text}");
        }
        for text in ["2026-11-23", "-1h", "0s", "99999y"] {
            let expiry = text.parse::<Expiry>();
            assert!(expiry.is_err() || expiry.unwrap().from(now).is_err(), "{text}");
        }
    }
}
