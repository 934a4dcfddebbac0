//! A witness for transparency logs: C2SP [tlog-witness], both hash suites, many logs. It cosigns with Ed25519
//! ([tlog-cosignature], type 0x04). It does not sign subtrees, keeps no entries (it is no mirror), and dials no bastion.
//!
//! A witness promises one thing: of each log it cosigns one history. So the order of things is fixed. A request is
//! verified against the newest checkpoint that was cosigned; one thread then compares again, writes, syncs, and only
//! after that lets the cosignature out. What was cosigned for a log is never forgotten, whatever the configuration says.
//!
//! The module [`client`] is the other side: a log that asks a witness.
//!
//! Paths are `POST /add-checkpoint` and `GET /<hex SHA-256 of the origin>/checkpoint`.
//!
//! [tlog-witness]: https://c2sp.org/tlog-witness
//! [tlog-cosignature]: https://c2sp.org/tlog-cosignature
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
mod clock;
mod committer;
mod directory;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod logs;
mod merge;
mod refusal;
mod request;
mod serve;
mod state;
mod watch;
mod witness;

pub use counterfoil_tls::TlsFiles;
pub use directory::{DataDirectory, DirectoryError, KeyFileError};
pub use logs::{LogList, LogListError, LogListProblem, MAX_KEYS_OF_A_LOG, MAX_LOGS_FILE_BYTES};
pub use refusal::Refusal;
pub use request::{AddCheckpoint, MAX_PROOF_HASHES, MAX_REQUEST_BYTES, RequestError};
pub use serve::{MAX_CONNECTIONS, ServeError, ServeOptions, serve};
pub use state::StateError;
pub use watch::LogsFileError;

#[cfg(test)]
mod model;
