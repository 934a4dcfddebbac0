//! Standard output, which may be a file on a full disk or a pipe that nobody reads.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Prints a line. Where it can't be written, `println!` would panic.
pub(crate) fn print_line(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
