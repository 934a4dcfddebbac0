//! `counterfoil`: submit events to a transparency log, and check what it says.
//!
//! Every command that talks to a log verifies the answers under the key given by `--log-key`, or under the
//! policy of `--policy`, before it prints them.
//! One file for each command is in [`commands`]; what they share is the options ([`options`]), who they say they are ([`credentials`]), how events get on
//! record ([`recording`]), what they print
//! ([`output`]) and how they fail ([`failure`]). The program never reads a log's data directory and builds without
//! RocksDB.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod commands;
mod credentials;
mod environment;
mod failure;
mod files;
mod options;
mod output;
mod recording;

use std::process::ExitCode;

use clap::Parser;

use crate::{commands::Command, options::Common, output::Output};

/// Submit events to a transparency log, and check what it says.
#[derive(Parser)]
#[command(name = "counterfoil", version, after_help = failure::EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let output = Output::new(common.json);
    match command.run(&common, &output).await {
        Ok(code) => code,
        Err(failure) => {
            let failure = commands::evidence::keep(failure, &common);
            failure.report(common.json);
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
