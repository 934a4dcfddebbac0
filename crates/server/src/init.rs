//! `counterfoild init`.

use std::process::ExitCode;

use anyhow::Context as _;
use counterfoil_log::{DataDirectory, create_log};

use crate::cli::Init;

pub(crate) fn run(arguments: &Init) -> anyhow::Result<ExitCode> {
    let data = DataDirectory::new(&arguments.data);
    let keys = create_log(&data, &arguments.log, &arguments.origin, arguments.suite)
        .with_context(|| format!("can't make a log in {}", arguments.data.display()))?;
    for key in keys {
        println!("{key}");
    }
    Ok(ExitCode::SUCCESS)
}
