//! The engine on a simulated machine, where one seed decides everything.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::Workspace;

pub(super) fn run(options: &[&str]) -> Result<()> {
    let workspace = Workspace::prepare()?;
    workspace.cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin=counterfoil-simulation",
        // So that shared dependencies keep the features they were built with.
        "--example=tamper",
    ])?;
    let status = Command::new(workspace.release_directory().join("counterfoil-simulation"))
        .args(options)
        .status()
        .context("starting the simulation")?;
    anyhow::ensure!(status.success(), "a promise is broken");
    Ok(())
}
