//! More load than a server can take.

use anyhow::Result;

use crate::cargo::Workspace;

pub(super) fn run(options: &[&str]) -> Result<()> {
    Workspace::prepare()?.run_example("overload", options)
}
