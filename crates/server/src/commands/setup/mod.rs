//! `counterfoild setup`: from nothing to the first webhook on record. It writes the source, says what to enter at the provider, and
//! waits until the running server has a delivery on record.

mod ask;
mod form;
mod target;
mod wait;

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Args, CommandFactory as _, Subcommand, error::ErrorKind};
use counterfoil_event::SourceId;
use counterfoil_hooks::{DirectoryError, Provider, Secret, Source, SourcesDirectory};
use counterfoil_log::{DataDirectory, LogName, verifier_keys};
use jiff::SignedDuration;

use self::{
    ask::{Asker, may_ask},
    form::{Form, Key},
    target::{PublicUrl, Target},
};
use crate::{cli::Arguments, owner::ensure_owner};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Github(GitHub),
    Gitlab(GitLab),
    Gitea(Gitea),
}

/// Set up GitHub's webhooks, of an organization or of a repository
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  counterfoild setup github --data ./data
  counterfoild setup github --data ./data --url https://log.example.com --org acme
  counterfoild setup github --data ./data --url https://log.example.com --repo acme/widgets --source widgets
  counterfoild setup github --data ./data --url https://log.example.com --org acme --rotate

It writes DATA/sources/NAME.toml, prints what to enter at GitHub, and waits for the ping that GitHub sends. What is not given it
asks for, on a terminal. Run again, it makes nothing new and waits again. The server may run meanwhile or be started then.")]
pub(crate) struct GitHub {
    /// The organization, such as acme
    #[arg(long, value_name = "NAME", conflicts_with = "repo")]
    org: Option<String>,
    /// The repository, such as acme/widgets
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Set up GitLab's webhooks, of a group or of a project
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  counterfoild setup gitlab --data ./data --url https://log.example.com --project acme/tools/widgets
  counterfoild setup gitlab --data ./data --url https://log.example.com --group acme --host gitlab.example.com --secret-token

It writes DATA/sources/NAME.toml, prints what to enter at GitLab, and waits for the first delivery, such as a test. What is not
given it asks for, on a terminal.")]
pub(crate) struct GitLab {
    /// The group, such as acme or acme/tools. GitLab has webhooks of groups in its paid tiers
    #[arg(long, value_name = "PATH", conflicts_with = "project")]
    group: Option<String>,
    /// The project, such as acme/widgets
    #[arg(long, value_name = "PATH")]
    project: Option<String>,
    /// Make a secret token, which GitLab sends as it is, instead of a signing token: for a GitLab whose form has no signing token
    #[arg(long)]
    secret_token: bool,
    #[command(flatten)]
    common: Common,
}

/// Set up the webhooks of Gitea or Forgejo, of an organization or of a repository
#[derive(Debug, Args)]
#[command(
    visible_alias = "forgejo",
    after_help = "\
Example:
  counterfoild setup gitea --data ./data --host git.example.com --url https://log.example.com --repo acme/widgets

It writes DATA/sources/NAME.toml, prints what to enter there, and waits for the first delivery, such as a test. What is not given
it asks for, on a terminal."
)]
pub(crate) struct Gitea {
    /// The organization, such as acme
    #[arg(long, value_name = "NAME", conflicts_with = "repo")]
    org: Option<String>,
    /// The repository, such as acme/widgets
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the provider reaches this server, such as `https://log.example.com`
    #[arg(long, value_name = "URL")]
    url: Option<PublicUrl>,
    /// The source's name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`. Entries bear it, for ever [default: the provider's name]
    #[arg(long, value_name = "NAME")]
    source: Option<SourceId>,
    /// The log that deliveries go to [default: the only one]
    #[arg(long, value_name = "NAME")]
    log: Option<LogName>,
    /// Where the provider runs, such as git.example.com [default: the provider's cloud]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Make another secret for a source that is there. The one before goes on counting until it is retired
    #[arg(long)]
    rotate: bool,
    /// How long to wait for the first delivery; 0s for not at all
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    wait: SignedDuration,
}

/// One provider's command, as it was given.
struct Request<'a> {
    provider: Provider,
    target: Option<String>,
    /// Whether the target is a group or an organization.
    of_many: bool,
    secret_token: bool,
    common: &'a Common,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let request = match command {
        Command::Github(GitHub { org, repo, common }) => {
            Request::new(Provider::GitHub, org.as_ref(), repo.as_ref(), common)
        }
        Command::Gitlab(GitLab {
            group,
            project,
            secret_token,
            common,
        }) => Request {
            secret_token: *secret_token,
            ..Request::new(Provider::GitLab, group.as_ref(), project.as_ref(), common)
        },
        Command::Gitea(Gitea { org, repo, common }) => {
            Request::new(Provider::Gitea, org.as_ref(), repo.as_ref(), common)
        }
    };
    request.run()
}

impl<'a> Request<'a> {
    fn new(provider: Provider, many: Option<&String>, one: Option<&String>, common: &'a Common) -> Self {
        Self {
            provider,
            target: many.or(one).cloned(),
            of_many: many.is_some(),
            secret_token: false,
            common,
        }
    }

    fn run(&self) -> anyhow::Result<ExitCode> {
        let Common { data, .. } = self.common;
        let asker = may_ask();
        let log = self.log(asker.as_ref())?;
        ensure_owner(data)?;
        let url = match &self.common.url {
            Some(url) => url.clone(),
            None => asker
                .as_ref()
                .ok_or_else(|| missing("--url"))?
                .url(self.provider)?,
        };
        let host = match self.common.host.as_deref().or(self.provider.default_host()) {
            Some(host) => host.to_owned(),
            None => asker
                .as_ref()
                .ok_or_else(|| missing("--host"))?
                .host(self.provider)?,
        };
        let target = match &self.target {
            Some(text) => Target::new(self.provider, text, self.of_many)?,
            None => self.ask_target(asker.as_ref())?,
        };
        let default = || self.provider.as_str().parse();
        let id = self.common.source.clone().map_or_else(default, Ok);
        let id = id.expect("a provider's name is a source's");
        let sources = SourcesDirectory::of(data);
        let log_key = verifier_keys(&DataDirectory::new(data), &log)?.swap_remove(0);
        let key = self.key(&sources, &id, &log, &host)?;
        let form = Form {
            provider: self.provider,
            host,
            target,
            server: url.to_string(),
            url: url.payload(&id),
            log_key,
            key,
            file: sources.file(&id),
            id,
        };
        form.print().context(
            "what to enter can't be printed. If a secret was made, run it again with --rotate for another",
        )?;
        for warning in url.warnings(self.provider, &form.host) {
            eprintln!("warning: {warning}");
        }
        if self.common.wait.is_zero() {
            return Ok(ExitCode::SUCCESS);
        }
        wait::for_delivery(&form, data, self.common.wait)
    }

    fn ask_target(&self, asker: Option<&Asker>) -> anyhow::Result<Target> {
        let flags = match self.provider {
            Provider::GitLab => "--group or --project",
            Provider::GitHub | Provider::Gitea => "--org or --repo",
        };
        asker.ok_or_else(|| missing(flags))?.target(self.provider)
    }

    /// The log that deliveries go to.
    fn log(&self, asker: Option<&Asker>) -> anyhow::Result<LogName> {
        let data = &self.common.data;
        let logs = match DataDirectory::new(data).logs() {
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Vec::new(),
            logs => logs.with_context(|| format!("can't list the logs of {}", data.display()))?,
        };
        let none = || {
            format!(
                "{} holds no logs. Make one: counterfoild init --data {0} --origin log.example.com/builds",
                data.display()
            )
        };
        let first = logs.first().with_context(none)?;
        match &self.common.log {
            Some(log) => {
                ensure!(logs.contains(log), "{} has no log `{log}`", data.display());
                Ok(log.clone())
            }
            None if logs.len() == 1 => Ok(first.clone()),
            None => asker.ok_or_else(|| missing("--log"))?.log(&logs),
        }
    }

    /// The secret to enter: that of the source, which is made if it is not there.
    fn key(
        &self,
        sources: &SourcesDirectory,
        id: &SourceId,
        log: &LogName,
        host: &str,
    ) -> anyhow::Result<Key> {
        let mut there = match sources.read(id) {
            Ok(source) => source,
            Err(DirectoryError::Missing(_)) => {
                ensure!(
                    !self.common.rotate,
                    "there is no source `{id}` whose secret could be rotated"
                );
                let secret = self.new_secret(None)?;
                let host = Some(host.to_owned());
                let source = Source::new(self.provider, log.to_string(), host, secret.clone())?;
                sources.create(id, &source)?;
                return Ok(Key::New {
                    secret,
                    before: Vec::new(),
                });
            }
            Err(problem) => return Err(problem.into()),
        };
        let asked = (self.provider, log.as_str(), host);
        ensure!(
            (there.provider, there.log.as_str(), there.host.as_str()) == asked,
            "there is a source `{id}` already, for {} at {:?} and the log `{}`. Choose another name with --source",
            there.provider.title(),
            there.host,
            there.log
        );
        let before: Vec<_> = there.secrets().iter().map(Secret::fingerprint).collect();
        if !self.common.rotate {
            let newest = there.secrets().last().expect("a source has a secret");
            return Ok(Key::There {
                fingerprint: newest.fingerprint(),
                signs: newest.is_signing_key(),
            });
        }
        let secret = self.new_secret(Some(&there))?;
        there.add_secret(secret.clone())?;
        sources.replace(id, &there)?;
        Ok(Key::New { secret, before })
    }

    /// Another secret for the source that is there, or one for a new source.
    fn new_secret(&self, there: Option<&Source>) -> anyhow::Result<Secret> {
        let secret = match there {
            _ if self.secret_token => Secret::generate_token(),
            Some(source) => source.generate_secret(),
            None => Secret::generate(self.provider),
        };
        secret.context("the system gives no random numbers")
    }
}

/// Ends the program as clap does when an argument is missing.
fn missing(flags: &str) -> anyhow::Error {
    let message = format!("{flags} is needed where nobody can be asked, on a terminal\n");
    Arguments::command()
        .error(ErrorKind::MissingRequiredArgument, message)
        .exit()
}
