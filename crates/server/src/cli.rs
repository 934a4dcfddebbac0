//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{dsse_key, export, fsck, init, serve, setup, source, token};

/// The command could not do what it was asked; standard error says why.
pub(crate) const EXIT_FAILED: u8 = 3;
/// `fsck` found a place that is not what it must be.
pub(crate) const EXIT_FINDINGS: u8 = 1;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  fsck: the log is not what it must be
  2  wrong usage
  3  failed; standard error says why";

/// A transparency log for CI/CD events: the server and its tools.
#[derive(Debug, Parser)]
#[command(name = "counterfoild", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new log
    Init(init::Arguments),
    /// Serve the logs of a data directory
    Serve(serve::Arguments),
    /// Check logs offline: every leaf, payload commitment, tile, head and index row
    Fsck(fsck::Arguments),
    /// Write logs as static files for any web server: the same tree that `serve` serves over HTTP
    Export(export::Arguments),
    /// Set up the webhooks of a provider, from the form to fill in to the first delivery's receipt
    #[command(subcommand)]
    Setup(setup::Command),
    /// Manage the sources of webhooks and their secrets
    #[command(subcommand)]
    Source(source::Command),
    /// Make, list and revoke API tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Manage the keys whose signatures on DSSE envelopes count
    #[command(subcommand)]
    DsseKey(dsse_key::Command),
}
