//! Sources of webhooks: the file that describes each, its secrets, and the signatures that are made with them, as GitHub,
//! GitLab, and Gitea and Forgejo document theirs; GitLab's newer ones are those of Standard Webhooks.
//!
//! The server reads the files and answers deliveries; whoever sets a source up writes them. The monitor signs its own webhooks
//! with such secrets. The crate reads no HTTP, knows nothing of events, and never shows a secret but to the one who asked for it
//! to be made.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod directory;
mod provider;
mod secret;
mod source;

pub use directory::{DirectoryError, SourcesDirectory};
pub use provider::{Provider, UnknownProvider};
pub use secret::{Fingerprint, InvalidFingerprint, Secret, SecretError};
pub use source::{Source, SourceError};
