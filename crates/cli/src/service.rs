//! What the commands share that run until they are told to stop.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Has what such a command tells of itself written to standard error, as much as `RUST_LOG` says.
pub(crate) fn log_to_standard_error() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would tell of a standard error that is gone on standard error, and panic.
        .log_internal_errors(false)
        .init();
}

/// Ends at the first SIGTERM or SIGINT after this call; from then on neither kills the process.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let catch =
        |kind| signal(kind).map_err(|error| Failure::usage(format!("can't wait for signals: {error}")));
    let mut terminate = catch(SignalKind::terminate())?;
    let mut interrupt = catch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
