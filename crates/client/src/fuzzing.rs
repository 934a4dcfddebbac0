//! For the fuzz targets: what they read has no other public entrance. No part of the crate's interface.

use counterfoil_event::Event;
use counterfoil_note::UnixMillis;

use crate::outbox::record;

/// Reads the file of an event in an outbox. None if it is damaged.
pub fn decode_outbox_record(bytes: &[u8]) -> Option<(Event, UnixMillis)> {
    record::decode(bytes).ok()
}

/// Writes one.
pub fn encode_outbox_record(event: &Event, queued: UnixMillis) -> Vec<u8> {
    record::encode(event, queued)
}
