//! `counterfoild export`.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use counterfoil_log::{DataDirectory, ExportReport, LogName, export};

use crate::{
    cli::{EXIT_FAILED, Export},
    fsck::{log_names, progress_bar},
    print::print_line,
    serve::raise_file_limit,
};

pub(crate) fn run(arguments: &Export) -> anyhow::Result<ExitCode> {
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
