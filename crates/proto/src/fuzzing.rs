//! For the fuzz targets: what they read has no other public entrance. No part of the crate's interface.

use bytes::Bytes;

use crate::codec;
pub use crate::codec::{BoundedMessage, Parts};

/// How many parts are counted in a message, up to where it is malformed, and what both ends of a call decode of it. None if they
/// refuse it.
pub fn decode<U: BoundedMessage>(message: Bytes) -> (usize, Option<U>) {
    let mut counted = 0;
    U::PARTS.count(&message, &mut counted);
    (counted, codec::decode(message).ok())
}
