//! `counterfoild`: makes, serves, checks and exports transparency logs. All of the program but its allocator; a library for
//! the sake of the fuzz targets alone.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod cli;
mod commands;
mod connections;
mod deliveries;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod intake;
mod local;
mod logs;
mod metrics;
mod open_files;
mod owner;
mod print;
mod refusal;
mod turns;
mod unread;
mod watched;
mod witnessing;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::{dsse_key, export, fsck, init, serve, setup, source, token};

/// The program.
pub fn main() -> ExitCode {
    let result = match cli::Arguments::parse().command {
        cli::Command::Init(arguments) => init::run(&arguments),
        cli::Command::Serve(arguments) => serve::run(&arguments),
        cli::Command::Fsck(arguments) => fsck::run(&arguments),
        cli::Command::Export(arguments) => export::run(&arguments),
        cli::Command::Source(command) => source::run(&command),
        cli::Command::Setup(command) => setup::run(&command),
        cli::Command::Token(command) => token::run(&command),
        cli::Command::DsseKey(command) => dsse_key::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("counterfoild: {error:#}");
        ExitCode::from(cli::EXIT_FAILED)
    })
}
