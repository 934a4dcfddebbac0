//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use counterfoil_event::SourceId;
use counterfoil_log::{LogName, WithoutQuorum};
use counterfoil_merkle::Suite;
use counterfoil_note::Origin;

use crate::{
    access::{Role, TokenId},
    dsse_key, setup, source,
    token::Expiry,
};

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
    Init(Init),
    /// Serve the logs of a data directory
    Serve(Serve),
    /// Check logs offline: every leaf, payload commitment, tile, head and index row
    Fsck(Fsck),
    /// Write logs as static files for any web server: the same tree that `serve` serves over HTTP
    Export(Export),
    /// Set up the webhooks of a provider, from the form to fill in to the first delivery's receipt
    #[command(subcommand)]
    Setup(setup::Command),
    /// Say who may post webhooks, and with which secrets
    #[command(subcommand)]
    Source(source::Command),
    /// Make, list and revoke API tokens
    Token(Token),
    /// Say whose signatures on DSSE envelopes are believed
    #[command(subcommand)]
    DsseKey(dsse_key::Command),
}

/// API tokens let programs in: each has roles, a source to submit as, and logs. A running server takes changes within a second.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once
    Create(TokenCreate),
    /// List the tokens, the oldest first
    List(TokenList),
    /// Revoke a token
    Revoke(TokenRevoke),
}

/// Makes a token and prints it on standard output. It is shown this once: the server keeps a hash of it only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  counterfoild token create --data ./data --role submit --source build-farm --expires 90d --note 'the build farm'
  counterfoild token create --data ./data --role audit --log main --expires 2027-06-30

Whoever sends it says `authorization: Bearer TOKEN`. As long as there is no DATA/access.toml, callers without a token may do
as much.")]
pub(crate) struct TokenCreate {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// What it is good for; give it again for more
    #[arg(long = "role", value_name = "submit|read|audit|admin", required = true)]
    pub(crate) roles: Vec<Role>,
    /// What entries will name as their source, if it submits: 1 to 64 of a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<SourceId>,
    /// A log that it is for; give it again for more. All of them otherwise
    #[arg(long = "log", value_name = "NAME")]
    pub(crate) logs: Vec<LogName>,
    /// When it ends: after a time such as `12h`, `90d` or `1y`, or at a date or time such as `2027-06-30` (its beginning in UTC).
    /// Never otherwise
    #[arg(long, value_name = "DURATION|DATE")]
    pub(crate) expires: Option<Expiry>,
    /// What it is for, to be remembered by
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) note: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild token list --data ./data")]
pub(crate) struct TokenList {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// Revokes a token. A running server refuses it within a second, also on connections that are open. What it submitted stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild token revoke --data ./data 1f0c9e5a77d2b384")]
pub(crate) struct TokenRevoke {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Its id: the part between cft_ and the next _
    #[arg(value_name = "ID")]
    pub(crate) id: TokenId,
}

/// Makes a log with new keys, and prints on standard output what verifies it: one verifier key a line, the first for
/// Counterfoil's own clients.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild init --data ./data --origin log.example.com/builds

The keys are in DATA/logs/NAME/keys. Whoever holds them can sign heads in the log's name; back them up apart. A server that
runs serves the log when it is started again.")]
pub(crate) struct Init {
    /// The data directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The log's name for the world, for ever: a host and path of yours, without a scheme
    #[arg(long, value_name = "ORIGIN", value_parser = Origin::for_new)]
    pub(crate) origin: Origin,
    /// The hash suite, for ever: `sha256` for C2SP witnesses and mirrors, `blake3` for speed
    #[arg(long, value_name = "blake3|sha256", default_value_t = Suite::Blake3)]
    pub(crate) suite: Suite,
    /// The log's name in this server
    #[arg(long, value_name = "NAME", default_value = LogName::DEFAULT)]
    pub(crate) log: LogName,
}

/// Serves every log of a data directory on one port: over gRPC, and as C2SP tlog-tiles over HTTP under /logs/NAME/. Prints `listening on ADDR` when it is ready. SIGTERM or SIGINT drains and
/// stops; SIGHUP changes nothing, unless its terminal went away.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild serve --data ./data --anchor /mnt/other-disk/anchors
  counterfoild serve --data ./data --witness-policy ./witnesses.policy

Without DATA/access.toml, whoever can reach the port can submit and read all. docs/ACCESS.md has what to write into it.
RUST_LOG sets what is logged to standard error, such as RUST_LOG=debug.")]
pub(crate) struct Serve {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub(crate) listen: SocketAddr,
    /// Serve GET /metrics at this address, and GET /health, in plain HTTP. Keep it on loopback or a private network
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The server's certificate chain (PEM); turns TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The secret key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: anyone on the way can read and change what is sent
    #[arg(long)]
    pub(crate) insecure_plaintext_on_network: bool,
    /// A directory, best on another disk, for the newest head that each log signed to be published. A start refuses a log older than that
    #[arg(long, value_name = "DIR")]
    pub(crate) anchor: Option<PathBuf>,
    /// Memory for each log's database and tiles, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..))]
    pub(crate) memory_mib: u32,
    /// Refuse submissions when the disk has less free than this and a batch of 32 MiB, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub(crate) min_free_mib: u32,
    /// Publish a head this often if the log grew, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) publish_interval_ms: u32,
    /// A C2SP tlog-policy with the witnesses to ask, each with its URL, and the quorum that a head needs to be published. One
    /// for all logs; if it has `log` lines, all of them must be there
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
    /// How long a witness may take to answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, requires = "witness_policy",
          value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub(crate) witness_timeout_ms: u32,
    /// What to do with a head that no quorum cosigns: `hold` it back, so that readers keep the one before, or `publish` it
    /// with the cosignatures that there are
    #[arg(long, value_name = "hold|publish", default_value = "hold", requires = "witness_policy",
          value_parser = PossibleValuesParser::new(["hold", "publish"]).map(|word| without_quorum(&word)))]
    pub(crate) without_quorum: WithoutQuorum,
}

fn without_quorum(word: &str) -> WithoutQuorum {
    match word {
        "publish" => WithoutQuorum::Publish,
        _ => WithoutQuorum::Hold,
    }
}

/// Recomputes everything that a log stores and compares. Beside a running server it looks at what was there when it began. Exit
/// code 1 if anything is not what it must be, with the exact places.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild fsck --data ./data
  counterfoild fsck --data ./data --rebuild-index")]
pub(crate) struct Fsck {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Only this log; all of them otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) log: Option<LogName>,
    /// Check entries, tiles, heads and leaf hashes, and open no payload: some three times as fast
    #[arg(long, conflicts_with = "rebuild_index")]
    pub(crate) tree_only: bool,
    /// First make the search index what the entries say; all else is only read. The server has to be stopped
    #[arg(long)]
    pub(crate) rebuild_index: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Writes each log at its newest published head as static files, DIR/NAME/checkpoint and DIR/NAME/tile/..., as C2SP
/// tlog-tiles has them. A server may be running. What is there already is kept; the checkpoint is replaced last, so that
/// whoever reads it finds its tiles.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  counterfoild export --data ./data --to /var/www/logs

Run it again, from a timer, to bring the files up to date. It verifies what it writes, and refuses a directory that holds
another log, or more of this one than the data directory.")]
pub(crate) struct Export {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where to write, a directory for each log; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Only this log; all of them otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) log: Option<LogName>,
}
