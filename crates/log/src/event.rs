//! Events on their way into the tree: all the work that needs neither their place nor their time.

use counterfoil_event::{Annotations, Event, EventKey, IndexKey, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::Suite;
use counterfoil_store::encode_payload;

use crate::search;

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
    /// What the search index has it under.
    pub(crate) index_keys: Vec<IndexKey>,
}

impl PreparedEvent {
    /// Computes the commitments, encodes the entry but for its time, and compresses the payload if it is long: some
    /// microseconds of work for each KiB.
    pub fn new(suite: Suite, event: Event, salt: Salt, submitter: &Submitter) -> Self {
        let annotations = Annotations::new(&event, submitter);
        let index_keys = search::keys_of(&annotations);
        let annotations = annotations.encode();
        let entry = UnstampedEntry::new(suite, &event, &salt, submitter, &annotations, RETENTION_CLASS)
            .expect("the name of the retention class is a valid label");
        let record = encode_payload(&salt, entry.attributes(), &annotations, event.data());
        Self {
            key: event.key(),
            event,
            salt,
            entry,
            record,
            index_keys,
        }
    }

    /// Memory that it holds on to, about.
    pub(crate) fn size_bytes(&self) -> usize {
        let normalised = self.event.normal_form().map_or(0, |(_, json)| json.len());
        // Encoded, and decoded in the event.
        let attributes = 2 * self.entry.attributes().len();
        self.event.data().len() + normalised + attributes + self.record.len() + 1024
    }
}
