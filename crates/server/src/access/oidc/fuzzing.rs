//! For the fuzz targets: see [`crate::fuzzing`].

use bytes::Bytes;

use super::{claims::UnverifiedToken, keys::KeySet};
use crate::access::config::Reuse;

/// Whom a job's token is for, if one of the keys signed it and it is good at that time, in seconds since 1970.
pub(crate) fn verified_audience(token: &str, keys: &[u8], now: i64) -> Option<String> {
    let keys = KeySet::parse("https://issuer.example", Bytes::copy_from_slice(keys)).ok();
    let token = UnverifiedToken::parse(token).ok()?;
    let claims = token.verify(keys?.get(&token.key_id)?).ok()?;
    claims.check_times(Reuse::Never, now).ok()?;
    Some(claims.audience().to_owned())
}
