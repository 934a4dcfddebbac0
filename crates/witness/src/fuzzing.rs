//! For the fuzz targets: what they read has no other public entrance. No part of the crate's interface.

use counterfoil_merkle::TreeSize;
use counterfoil_note::{CosignerKey, SignedHead};

use crate::{
    client::{self, ClientError, Cosigned},
    state::OriginHash,
};

/// The cosignature in a witness's answer of status 200.
///
/// # Errors
/// If it has none of this head by this key.
pub fn cosignature(key: &CosignerKey, head: &SignedHead, body: &[u8]) -> Result<Cosigned, ClientError> {
    client::verify(key, head, body)
}

/// The size in a witness's answer of status 409.
pub fn conflicting_size(body: &[u8]) -> Option<TreeSize> {
    client::parse_size(body)
}

/// Whether a path's segment names an origin.
pub fn is_origin_hash(segment: &str) -> bool {
    OriginHash::from_hex(segment).is_some()
}
