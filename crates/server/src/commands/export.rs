//! `counterfoild export`.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use counterfoil_log::{DataDirectory, ExportReport, LogName, export};

use crate::{
    cli::EXIT_FAILED,
    logs::log_names,
    open_files::raise_file_limit,
    print::{print_line, progress_bar},
};

/// Writes each log at its newest published head as static files, DIR/NAME/checkpoint and DIR/NAME/tile/..., as C2SP
/// tlog-tiles has them. A server may be running. What is there already is kept; the checkpoint is replaced last, so that
/// whoever reads it finds its tiles.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild export --data ./data --to /var/www/logs

Run it again, from a timer, to bring the files up to date. It verifies what it writes, and refuses a directory that holds
another log, or more of this one than the data directory.")]
pub(crate) struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to write, a directory for each log; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only this log; all of them otherwise
    #[arg(long, value_name = "NAME")]
    log: Option<LogName>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // All tables are open, so that a server may take them away.
    raise_file_limit();
    let data = DataDirectory::new(&arguments.data);
    let mut code = ExitCode::SUCCESS;
    for name in log_names(&arguments.data, arguments.log.as_ref())? {
        let bar = progress_bar(format!("exporting {name}"));
        let report = export(&data, &name, &arguments.to, |progress| {
            bar.set_length(progress.entries);
            bar.set_position(progress.exported);
        })
        .with_context(|| format!("can't export the log `{name}`"))?;
        bar.finish_and_clear();
        // The log is exported all the same, and so are the next.
        if let Err(problem) = print_report(&name, &report) {
            eprintln!("the log `{name}` is exported, and the report can't be printed: {problem}");
            code = ExitCode::from(EXIT_FAILED);
        }
    }
    Ok(code)
}

fn print_report(name: &LogName, report: &ExportReport) -> io::Result<()> {
    print_line(format_args!("log {name}: {} ({})", report.origin, report.suite))?;
    print_line(format_args!(
        "  {} entries, root {}, {} of them hashed",
        report.size, report.root, report.hashed
    ))?;
    print_line(format_args!(
        "  {} files written ({} bytes), {} found to be right, {} partial ones removed",
        report.written, report.written_bytes, report.kept, report.removed
    ))
}
