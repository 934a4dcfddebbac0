//! Who signed a payload that is a DSSE envelope.

use std::path::Path;

use counterfoil_dsse::{MAX_PEM_BYTES, PublicKey, Signed};
use counterfoil_event::dsse::Envelope;

use crate::{failure::Failure, files};

/// The key of a file, if it signed the envelope.
pub(super) fn signed_by(key: &Path, payload: &[u8]) -> Result<PublicKey, Failure> {
    let wrong_key = |problem: &dyn std::fmt::Display| Failure::usage(format!("{}: {problem}", key.display()));
    let pem = String::from_utf8(files::read(key, MAX_PEM_BYTES)?);
    let pem = pem.map_err(|_| wrong_key(&"it is not text"))?;
    let key = PublicKey::from_pem(&pem).map_err(|error| wrong_key(&error))?;
    let envelope =
        Envelope::parse(payload).map_err(|error| Failure::untrusted(format!("the payload: {error}")))?;
    if !Signed::new(&envelope).is_by(&key) {
        return Err(Failure::untrusted(format!(
            "none of the envelope's signatures is by the {} key {}",
            key.algorithm(),
            key.fingerprint()
        )));
    }
    Ok(key)
}
