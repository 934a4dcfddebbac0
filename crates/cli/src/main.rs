//! `counterfoil`: submit events to a transparency log, and check what it says.
//!
//! Every command that talks to a log verifies the answers under the key given by `--log-key`, or under the
//! policy of `--policy`, before it prints them.
//! One file for each command is in [`commands`]; what they share is the options of a log ([`options`]), who they say they
//! are ([`credentials`]), how events get on record ([`recording`]), what they print ([`output`]), how they fail
//! ([`failure`]) and how they run until they are told to stop ([`service`]). The program never reads a log's data
//! directory and builds without RocksDB.
#![cfg_attr(test, allow(clippy::unwrap_used))]
// They panic where nobody reads: see `output`.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod commands;
mod credentials;
mod environment;
mod failure;
mod files;
mod options;
mod output;
mod recording;
mod service;

use std::{
    env,
    process::{self, ExitCode},
    time::Duration,
};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tokio::runtime::Runtime;

use crate::{
    commands::Command,
    failure::{Exit, Failure},
    output::Output,
};

/// How long what nobody waits for any more has to end by itself. A file that is being written does; a token that does not come
/// out of its pipe, or a name that nobody resolves, may not.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// Submit events to a transparency log, and check what it says.
#[derive(Parser)]
#[command(name = "counterfoil", version, after_help = failure::EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// Print JSON: names as in the API, 32-byte values in hex, other bytes in base64, times as numbers
    // Behind the command's own options, before --help.
    #[arg(long, global = true, display_order = 998)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What the other program of the two does.
const SERVER_COMMANDS: [&str; 8] = [
    "init", "serve", "fsck", "export", "setup", "source", "token", "dsse-key",
];

impl Cli {
    /// The command line, or the end of the process.
    fn from_command_line() -> Self {
        let matches = without_empty_variables(Self::command()).try_get_matches();
        let parsed = matches.and_then(|matches| Self::from_arg_matches(&matches));
        parsed.unwrap_or_else(|error| {
            let error = without_secrets(in_the_right_program(error));
            // Help and versions are no failures, and what stands behind `--` is another program's.
            let mut options = env::args_os().take_while(|argument| argument != "--");
            if error.use_stderr() && options.any(|option| option == "--json") {
                let text = error.to_string();
                let mut paragraphs = text.trim_end().split("\n\n");
                let message = paragraphs.next().unwrap_or_default();
                let failure = Failure::usage(message.strip_prefix("error: ").unwrap_or(message));
                paragraphs
                    .fold(failure, |failure, hint| failure.hint(hint.trim()))
                    .report(true);
                process::exit(error.exit_code());
            }
            error.exit()
        })
    }
}

/// Takes an empty variable for one that is not set. CI systems set one to nothing where its value is absent.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let value = argument.get_env().and_then(env::var_os);
            if value.is_some_and(|value| value.is_empty()) {
                argument.env(None::<&'static str>)
            } else {
                argument
            }
        })
        .mut_subcommands(without_empty_variables)
}

/// Names `counterfoild` to whoever typed one of its commands.
fn in_the_right_program(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand)
        && SERVER_COMMANDS.contains(&command.as_str())
    {
        let tip = format!("the server's program has it: `counterfoild {command}`");
        // What it looks like is none of it.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Leaves out a value of `--log-key` that is no key: it may be the log's secret one, or a token, in the log of a CI job.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::ValueValidation
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && argument.starts_with("--log-key ")
        && let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && !value.starts_with('@')
    {
        error.insert(ContextKind::InvalidValue, ContextValue::String("***".to_owned()));
    }
    error
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::from_command_line();
    let output = Output::new(json);
    let runtime = Runtime::new().map_err(|error| Failure::usage(format!("can't start threads: {error}")));
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(command.run(&output));
        // To drop it would wait for as long as it takes. What has to be on disk was waited for.
        runtime.shutdown_timeout(TIME_TO_END);
        done
    });
    match done {
        Ok(_) if output.has_failed() => Exit::Usage.into(),
        Ok(code) => code,
        Err(failure) => {
            failure.report(json);
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_command_of_the_server_is_told_from_one_that_nobody_has() {
        for (command, tip) in [("serve", "counterfoild serve"), ("serv", "")] {
            let error = super::Cli::try_parse_from(["counterfoil", command])
                .err()
                .unwrap();
            let text = super::in_the_right_program(error).to_string();
            assert!(text.contains(tip), "{text}");
            assert_eq!(text.contains("counterfoild"), !tip.is_empty(), "{text}");
            assert!(tip.is_empty() || !text.contains("prove"), "{text}");
        }
    }
}
