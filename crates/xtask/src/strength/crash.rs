//! Real servers that are killed, lose power, and meet calls that fail.

use anyhow::Result;

use crate::cargo::Workspace;

pub(super) fn run(options: &[&str]) -> Result<()> {
    Workspace::prepare()?.run_example("crash", options)
}
