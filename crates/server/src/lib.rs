//! `counterfoild`: makes, serves, checks and exports transparency logs. All of the program but its allocator; a library for
//! the sake of the fuzz targets alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod cli;
mod connections;
mod deliveries;
mod dsse_key;
mod export;
mod fsck;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod init;
mod intake;
mod local;
mod logs;
mod metrics;
mod owner;
mod print;
mod refusal;
mod serve;
mod setup;
mod source;
mod token;
mod turns;
mod unread;
mod watched;
mod witnessing;

use std::process::ExitCode;

use clap::Parser as _;

/// The program.
pub fn main() -> ExitCode {
    let result = match cli::Arguments::parse().command {
        cli::Command::Init(arguments) => init::run(&arguments),
        cli::Command::Serve(arguments) => serve::run(&arguments),
        cli::Command::Fsck(arguments) => fsck::run(&arguments),
        cli::Command::Export(arguments) => export::run(&arguments),
        cli::Command::Source(command) => source::run(&command),
        cli::Command::Setup(arguments) => setup::run(&arguments),
        cli::Command::Token(arguments) => token::run(&arguments),
        cli::Command::DsseKey(command) => dsse_key::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("counterfoild: {error:#}");
        ExitCode::from(cli::EXIT_FAILED)
    })
}
