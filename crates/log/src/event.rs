//! Events on their way into the tree: all the work that needs neither their place nor their time.

use counterfoil_event::{Authentication, Event, EventKey, Salt, UnstampedEntry};
use counterfoil_merkle::Suite;
use counterfoil_store::encode_payload;

/// How an event came to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// The log's own name for it: the entry's `source_id`.
    source_id: &'static str,
    authentication: Authentication,
}

impl Channel {
    /// A gRPC call by somebody who was not asked for a name.
    pub const API: Self = Self {
        source_id: "api",
        authentication: Authentication::None,
    };
    /// The log writing about itself.
    pub(crate) const LOG: Self = Self {
        source_id: "log",
        authentication: Authentication::Log,
    };
}

/// The only retention class there is: kept for ever.
const RETENTION_CLASS: &str = "default";

/// An event ready for its place and time.
pub struct PreparedEvent {
    pub(crate) event: Event,
    pub(crate) key: EventKey,
    pub(crate) salt: Salt,
    pub(crate) entry: UnstampedEntry,
    /// What the store keeps beside the entry.
    pub(crate) record: Vec<u8>,
}

impl PreparedEvent {
    /// Computes the commitments, encodes the entry but for its time, and compresses the payload: some microseconds of
    /// work for each KiB.
    pub fn new(suite: Suite, event: Event, salt: Salt, channel: Channel) -> Self {
        let attributes = event.attributes().encode();
        let entry = UnstampedEntry::new(
            suite,
            &event,
            &salt,
            channel.source_id,
            channel.authentication,
            RETENTION_CLASS,
        )
        .expect("the names of channels and retention classes are valid labels");
        let record = encode_payload(&salt, &attributes, event.data());
        Self {
            key: event.key(),
            event,
            salt,
            entry,
            record,
        }
    }

    /// Memory that it holds on to, about.
    pub(crate) fn size_bytes(&self) -> usize {
        self.event.data().len() + self.record.len() + 1024
    }
}
