//! What commands print: lines on standard output, which may be a file on a full disk or a pipe that nobody reads, and progress
//! on a terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints a line. Where it can't be written, `println!` would panic.
pub(crate) fn print_line(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// A bar for the work on a log's entries: on standard error if that is a terminal, else nothing.
pub(crate) fn progress_bar(message: String) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template(
        "{msg} {wide_bar} {human_pos}/{human_len} entries, {per_sec}, {eta} left",
    )
    .expect("the template is well-formed");
    bar.with_style(style).with_message(message)
}
