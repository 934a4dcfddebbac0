//! A monitor of transparency logs: C2SP tlog-tiles and Counterfoil's gRPC, under tlog-policy.
//!
//! It asks each log, its mirrors and its witnesses for the newest head, again and again; verifies what they sign;
//! compares what they show; and reads every entry into a tree of its own that must have the signed root. What it finds
//! is a [`Finding`] of a closed list: it opens once, and resolves once if it can. Misbehaviour that can be proved to
//! others is written as an evidence file.
//!
//! It trusts the log's policy and its own state directory. It does not look into payloads, and it repairs nothing.
//!
//! ```no_run
//! use counterfoil_monitor::{Config, Monitor};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load("monitor.toml".as_ref())?;
//! let mut monitor = Monitor::open(config, |event| println!("{event}"))?;
//! for round in monitor.run_round().await {
//!     println!("{}: {} entries verified", round.log, round.verified_entries);
//! }
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod clock;
mod config;
mod desk;
mod finding;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod heads;
mod http;
mod kind;
mod ledger;
mod link;
mod log;
mod metrics;
mod monitor;
mod outbox;
mod prove;
mod source;
mod state;
mod tiles;
mod timeouts;
mod webhook;

pub use config::{
    BaseUrl, Config, ConfigError, InvalidUrl, LogConfig, MAX_CONFIG_BYTES, MAX_LOGS, MAX_SOURCES,
    MAX_WEBHOOKS, SourceAddress, SourceConfig, WebhookConfig,
};
pub use finding::{Change, Event, Finding, Head};
pub use kind::{FindingKind, Severity, UnknownFinding};
pub use log::LogRound;
pub use monitor::{Monitor, MonitorError};
pub use state::StateError;
pub use timeouts::Timeouts;
pub use webhook::{Secret, SecretError};
