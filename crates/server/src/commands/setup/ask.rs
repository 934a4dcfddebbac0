//! Asking a person for what the command line does not say.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::ensure;
use counterfoil_hooks::Provider;
use counterfoil_log::LogName;

use super::target::{PublicUrl, Target};

/// Somebody at a terminal.
pub(super) struct Asker(());

/// `None` where nobody would answer.
pub(super) fn may_ask() -> Option<Asker> {
    (io::stdin().is_terminal() && io::stderr().is_terminal()).then_some(Asker(()))
}

impl Asker {
    pub(super) fn log(&self, logs: &[LogName]) -> anyhow::Result<LogName> {
        let names: Vec<_> = logs.iter().map(LogName::as_str).collect();
        let question = format!("Which log? One of {}", names.join(", "));
        ask(&question, |answer| {
            let log = logs.iter().find(|log| log.as_str() == answer);
            log.cloned().ok_or("there is no such log")
        })
    }

    pub(super) fn url(&self, provider: Provider) -> anyhow::Result<PublicUrl> {
        let question = format!(
            "Where does {} reach this server? A URL, such as https://log.example.com",
            provider.title()
        );
        ask(&question, |answer| answer.parse::<PublicUrl>())
    }

    pub(super) fn host(&self, provider: Provider) -> anyhow::Result<String> {
        let question = format!(
            "Where does {} run? A host, such as git.example.com",
            provider.title()
        );
        ask(&question, |answer| {
            // Whether it is one, the source will say.
            if answer.is_empty() {
                Err("a host has a name")
            } else {
                Ok(answer.to_owned())
            }
        })
    }

    pub(super) fn target(&self, provider: Provider) -> anyhow::Result<Target> {
        let question = match provider {
            Provider::GitLab => {
                "Which project, such as acme/widgets? Or group, with a slash behind it, such as acme/"
            }
            Provider::GitHub | Provider::Gitea => {
                "Which repository, such as acme/widgets, or organization, such as acme?"
            }
        };
        ask(question, |answer| Target::parse(provider, answer))
    }
}

/// Asks until there is an answer that can be one.
fn ask<T, E: Display>(question: &str, parse: impl Fn(&str) -> Result<T, E>) -> anyhow::Result<T> {
    loop {
        eprint!("{question}\n> ");
        io::stderr().flush()?;
        let mut answer = String::new();
        ensure!(io::stdin().read_line(&mut answer)? > 0, "nobody answered");
        match parse(answer.trim()) {
            Ok(answer) => return Ok(answer),
            Err(problem) => eprintln!("{problem}"),
        }
    }
}
