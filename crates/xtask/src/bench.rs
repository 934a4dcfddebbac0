//! `cargo xtask bench`: how fast, how large.

use anyhow::Result;

use crate::cargo::Workspace;

/// The program that measures parses the options, so that this one goes on depending on next to nothing.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    Workspace::prepare()?.run_example("bench", options)
}
