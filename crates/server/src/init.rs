//! `counterfoild init`.

use std::process::ExitCode;

use anyhow::Context as _;
use counterfoil_log::{CreateError, DataDirectory, create_log, verifier_keys};

use crate::{cli::Init, owner::ensure_owner, print::print_line};

pub(crate) fn run(arguments: &Init) -> anyhow::Result<ExitCode> {
    ensure_owner(&arguments.data)?;
    let data = DataDirectory::new(&arguments.data);
    let others = data.logs().is_ok_and(|logs| !logs.is_empty());
    let made = create_log(&data, &arguments.log, &arguments.origin, arguments.suite);
    // `init > log.vkey` has emptied the file that had them.
    if let Err(CreateError::Exists(log)) = &made
        && let Ok(keys) = verifier_keys(&data, log)
    {
        eprintln!("the log `{log}` that is there has these verifier keys:");
        for key in keys {
            eprintln!("{key}");
        }
    }
    // As text: the error says its cause already, and would be followed by it once more.
    let keys = made
        .map_err(|problem| anyhow::anyhow!("can't make a log in {}: {problem}", arguments.data.display()))?;
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    // With the error, if nowhere else: the log is made.
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
