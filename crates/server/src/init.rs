//! `counterfoild init`.

use std::process::ExitCode;

use anyhow::Context as _;
use counterfoil_log::{DataDirectory, create_log};

use crate::{cli::Init, owner::ensure_owner, print::print_line};

pub(crate) fn run(arguments: &Init) -> anyhow::Result<ExitCode> {
    ensure_owner(&arguments.data)?;
    let data = DataDirectory::new(&arguments.data);
    let others = data.logs().is_ok_and(|logs| !logs.is_empty());
    let keys = create_log(&data, &arguments.log, &arguments.origin, arguments.suite)
        .with_context(|| format!("can't make a log in {}", arguments.data.display()))?;
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    // No command shows them again.
    print_line(keys.join("\n")).with_context(|| {
        format!(
            "the log is made, and its verifier keys {} can't be printed",
            keys.join(" ")
        )
    })?;
    if others {
        eprintln!(
            "a server that runs serves `{}` when it is started again",
            arguments.log
        );
    }
    Ok(ExitCode::SUCCESS)
}
