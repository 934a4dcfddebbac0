//! `counterfoil import`

mod git;
mod history;
mod object;

use clap::Subcommand;

use super::OfLog;
use crate::{failure::Failure, output::Output};

/// Record what another system already knows
#[derive(Subcommand)]
pub(crate) enum Import {
    Git(OfLog<git::Arguments>),
}

pub(crate) async fn run(import: Import, output: &Output) -> Result<(), Failure> {
    match import {
        Import::Git(command) => command.run(git::run, output).await,
    }
}
