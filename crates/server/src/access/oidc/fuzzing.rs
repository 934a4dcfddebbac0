//! For the fuzz targets: see [`crate::fuzzing`].

use bytes::Bytes;

use super::{
    claims::{Claims, UnverifiedToken},
    issuer,
    keys::KeySet,
    replay,
};
use crate::access::config::Reuse;

/// Whom a job's token is for, if one of the keys, a JWK Set, signed it and it is good at that time, in seconds since 1970.
pub fn verified_audience(token: &str, keys: &[u8], now: i64) -> Option<String> {
    let keys = KeySet::parse("https://issuer.example", Bytes::copy_from_slice(keys)).ok();
    let token = UnverifiedToken::parse(token).ok()?;
    let claims = token.verify(keys?.get(&token.key_id)?).ok()?;
    claims.check_times(Reuse::Never, now).ok()?;
    Some(claims.audience().to_owned())
}

/// Whom a job's token with these claims is for, if it is good at that time: for one use, or, if it `is_reused`, until it expires.
/// Whether it is signed is another question.
pub fn believed_audience(claims: &[u8], is_reused: bool, now: i64) -> Option<String> {
    let claims = Claims::new(serde_json::from_slice(claims).ok()?).ok()?;
    let reuse = if is_reused {
        Reuse::UntilExpiry
    } else {
        Reuse::Never
    };
    claims.check_times(reuse, now).ok()?;
    Some(claims.audience().to_owned())
}

/// Where the keys of an issuer are by its discovery document, if it is to be believed.
pub fn keys_url(issuer: &str, discovery: &[u8]) -> Option<String> {
    Some(issuer::keys_url(issuer, discovery).ok()?.to_string())
}

/// Reads the file of the job tokens that were used, and writes it.
pub fn rewrite_spent_tokens(text: &str) -> Option<String> {
    let spent = replay::parse(text).ok()?;
    Some(
        spent
            .iter()
            .map(|(until, name)| replay::line(*until, name))
            .collect(),
    )
}
