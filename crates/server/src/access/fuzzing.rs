//! For the fuzz targets: see [`crate::fuzzing`].

use std::path::Path;

use super::{Certificate, EnrolledKey, Token, TokenRecord, config::Config};

pub(crate) use super::oidc::fuzzing::{believed_audience, keys_url, rewrite_spent_tokens, verified_audience};

/// An API token as it is written.
pub(crate) fn rewrite_token(text: &str) -> Option<String> {
    let token: Token = text.parse().ok()?;
    Some(token.reveal().to_string())
}

/// The file of a token, as it is written.
pub(crate) fn rewrite_token_record(text: &str) -> Option<String> {
    Some(TokenRecord::from_toml(text).ok()?.to_toml())
}

/// The file of a key, as it is written.
pub(crate) fn rewrite_dsse_key(text: &str) -> Option<String> {
    Some(EnrolledKey::from_toml(text).ok()?.to_toml())
}

pub(crate) fn is_config(text: &str) -> bool {
    Config::parse(text, Path::new("/data")).is_ok()
}

pub(crate) fn is_certificate(der: &[u8]) -> bool {
    Certificate::from_der(der, Path::new("/data/ca.pem").into()).is_ok()
}
