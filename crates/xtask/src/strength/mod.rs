//! `cargo xtask strength`: what the log withstands, measured and repeatable. Most kinds of strain are examples
//! of the tests, run by name.
//!
//! A kind takes a seed and a budget, shows progress on a terminal and ends with a table. Its options are parsed by the
//! program that it runs, so that this one goes on depending on next to nothing.

pub(crate) mod fuzz;
mod simulate;

use anyhow::{Result, bail};

use crate::cargo::Workspace;

/// One kind of strain.
struct Kind {
    name: &'static str,
    /// What the help says of it.
    about: &'static str,
    /// Runs it with the options that follow its name.
    run: fn(&[&str]) -> Result<()>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "simulate",
        about: "Run the engine on a simulated machine that crashes, loses writes and fails calls",
        run: simulate::run,
    },
    Kind {
        name: "overload",
        about: "Give a server ten times what it can take, with floods, silence and churn",
        run: |options| run_example("overload", options),
    },
    Kind {
        name: "crash",
        about: "Kill real servers, take their power away, fail their system calls, and check every promise",
        run: |options| run_example("crash", options),
    },
    Kind {
        name: "soak",
        about: "Load a server for an hour, with restarts, and see whether anything grows that must not",
        run: |options| run_example("soak", options),
    },
    Kind {
        name: "fuzz",
        about: "Feed every parser what comes from outside, and worse, under libFuzzer",
        run: fuzz::run,
    },
];

/// Runs the kind that the first argument names.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => bail!("a kind of strain is missing\n\n{}", help()),
        ["help" | "-h" | "--help"] => {
            print!("{}", help());
            Ok(())
        }
        [name, options @ ..] => match KINDS.iter().find(|kind| kind.name == *name) {
            Some(kind) => (kind.run)(options),
            None => bail!("no such kind of strain: {name}\n\n{}", help()),
        },
    }
}

fn run_example(name: &str, options: &[&str]) -> Result<()> {
    Workspace::prepare()?.run_example(name, options)
}

fn help() -> String {
    let mut help = "\
Strains the log and says what it withstood. `cargo xtask strength KIND --help` has the options of a kind.

Usage: cargo xtask strength <KIND> [OPTIONS]

Kinds:
"
    .to_owned();
    for kind in KINDS {
        help.push_str(&format!("  {:<15} {}\n", kind.name, kind.about));
    }
    help
}
