//! `counterfoild export`.

use std::process::ExitCode;

use anyhow::Context as _;
use counterfoil_log::{DataDirectory, ExportReport, LogName, export};

use crate::{
    cli::Export,
    fsck::{log_names, progress_bar},
    serve::raise_file_limit,
};

pub(crate) fn run(arguments: &Export) -> anyhow::Result<ExitCode> {
    // All tables are open, so that a server may take them away.
    raise_file_limit();
    let data = DataDirectory::new(&arguments.data);
    for name in log_names(&arguments.data, arguments.log.as_ref())? {
        let bar = progress_bar(format!("exporting {name}"));
        let report = export(&data, &name, &arguments.to, |progress| {
            bar.set_length(progress.entries);
            bar.set_position(progress.exported);
        })
        .with_context(|| format!("can't export the log `{name}`"))?;
        bar.finish_and_clear();
        print_report(&name, &report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(name: &LogName, report: &ExportReport) {
    println!("log {name}: {} ({})", report.origin, report.suite);
    println!(
        "  {} entries, root {}, {} of them hashed",
        report.size, report.root, report.hashed
    );
    println!(
        "  {} files written ({} bytes), {} found to be right, {} partial ones removed",
        report.written, report.written_bytes, report.kept, report.removed
    );
}
