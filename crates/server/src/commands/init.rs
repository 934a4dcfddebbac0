//! `counterfoild init`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use counterfoil_log::{CreateError, DataDirectory, LogName, create_log, verifier_keys};
use counterfoil_merkle::Suite;
use counterfoil_note::Origin;

use crate::{owner::ensure_owner, print::print_line};

/// Makes a log with new keys, and prints on standard output what verifies it: one verifier key a line, the first for
/// Counterfoil's own clients.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild init --data ./data --origin log.example.com/builds

The keys are in DATA/logs/NAME/keys. Whoever holds them can sign heads in the log's name; back them up apart. A server that
runs serves the log when it is started again.")]
pub(crate) struct Arguments {
    /// The data directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The log's name for the world, for ever: a host and path of yours, without a scheme
    #[arg(long, value_name = "ORIGIN", value_parser = Origin::for_new)]
    origin: Origin,
    /// The hash suite, for ever: others' witnesses, mirrors and tools (C2SP) read `sha256`; only Counterfoil's read `blake3`
    #[arg(long, value_name = "blake3|sha256", default_value_t = Suite::Blake3)]
    suite: Suite,
    /// The log's name in this server
    #[arg(long, value_name = "NAME", default_value = LogName::DEFAULT)]
    log: LogName,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
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
