//! `counterfoild`: makes, serves and checks transparency logs.

mod cli;
mod fsck;
mod grpc;
mod init;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let result = match cli::Arguments::parse().command {
        cli::Command::Init(arguments) => init::run(&arguments),
        cli::Command::Serve(arguments) => serve::run(&arguments),
        cli::Command::Fsck(arguments) => fsck::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("counterfoild: {error:#}");
        ExitCode::from(cli::EXIT_FAILED)
    })
}
