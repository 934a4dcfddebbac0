//! A steady load for an hour, through restarts.

use anyhow::Result;

use crate::cargo::Workspace;

pub(super) fn run(options: &[&str]) -> Result<()> {
    Workspace::prepare()?.run_example("soak", options)
}
