//! `counterfoil import`

mod git;
mod history;
mod object;

use clap::Subcommand;

use crate::{failure::Failure, options::Common, output::Output};

/// Record what another system already knows
#[derive(Subcommand)]
pub(crate) enum Import {
    Git(git::Arguments),
}

pub(crate) async fn run(import: Import, common: &Common, output: &Output) -> Result<(), Failure> {
    match import {
        Import::Git(arguments) => git::run(arguments, common, output).await,
    }
}
