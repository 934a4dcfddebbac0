//! For the fuzz targets: see [`crate::fuzzing`].

use std::path::Path;

use super::{Certificate, EnrolledKey, Token, TokenRecord, config::Config};

pub use super::oidc::fuzzing::{believed_audience, keys_url, rewrite_spent_tokens, verified_audience};

/// Reads an API token, and writes it.
pub fn rewrite_token(text: &str) -> Option<String> {
    let token: Token = text.parse().ok()?;
    Some(token.reveal().to_string())
}

/// Reads what the server keeps of a token, and writes it.
pub fn rewrite_token_record(text: &str) -> Option<String> {
    Some(TokenRecord::from_toml(text).ok()?.to_toml())
}

/// Reads the file of a key that signs DSSE envelopes, and writes it.
pub fn rewrite_dsse_key(text: &str) -> Option<String> {
    Some(EnrolledKey::from_toml(text).ok()?.to_toml())
}

/// Whether a text is an `access.toml`.
pub fn is_access_config(text: &str) -> bool {
    Config::parse(text, Path::new("/data")).is_ok()
}

/// Whether bytes are a client certificate that can be used.
pub fn is_certificate(der: &[u8]) -> bool {
    Certificate::from_der(der, Path::new("/data/ca.pem").into()).is_ok()
}
