//! `cargo xtask`: prepares the machine, then tests, checks, strains or demonstrates the project.
//!
//! It depends on next to nothing, so that it runs within seconds on a machine that has only Rust and a linker.

mod cargo;
mod demo;
mod machine;
mod shell;
mod strength;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::Workspace;

const HELP: &str = "\
Prepares the machine, then does one of the following with the whole project.

Usage: cargo xtask <COMMAND>

Commands:
  demo            Run a log, put real events into it, check every proof, then tamper with a copy and get caught
  test [ARGS]...  Run every test; ARGS go to `cargo test`
  ci              What a change has to pass: formatting, clippy, documentation, licences, tests
  bench           Measure ingest, latency, proofs, memory, disk: one table, one JSON; `bench --help` has the options
  strength KIND   Strain the log and measure what it withstands; without KIND, the list

Example: cargo xtask test -- receipt
";

fn main() -> ExitCode {
    if let Some(compiled) = strength::fuzz::compile_as_wrapper() {
        return compiled;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["demo"] => demo::run(&Workspace::prepare()?),
        ["test", for_cargo @ ..] => Workspace::prepare()?.test(for_cargo),
        ["ci"] => Workspace::prepare()?.ci(),
        ["bench", options @ ..] => Workspace::prepare()?.run_example("bench", options),
        ["strength", arguments @ ..] => strength::run(arguments),
        ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        [] => bail!("a command is missing\n\n{HELP}"),
        _ => bail!("no such command: {}\n\n{HELP}", arguments.join(" ")),
    }
}
