//! What the rows that are derived from entries must be: each entry has its own, and no row leads to another entry.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
};

use counterfoil_event::{Annotations, Attributes, EventKey, IndexKey};
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_store::{Disk, StoreError};

use super::Check;
use crate::search;

/// Rows of one index, added up whatever their order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct RowSum {
    count: u64,
    sum: u64,
}

impl RowSum {
    fn add(&mut self, hash_key: &RandomState, row: &[u8], index: LeafIndex) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash_key.hash_one((row, index.get())));
    }
}

/// What the entries make of the indexes. Looking each row up would be a read at random; an index is walked once instead, and
/// only where its sum is another one are rows looked up to say which is wrong.
///
/// Nobody knows the key, which is of this run: two sets of rows have the same sum by chance alone, one in 2^64.
#[derive(Default)]
pub(super) struct RowSums {
    hash_key: RandomState,
    leaf_hashes: RowSum,
    event_ids: RowSum,
    attributes: RowSum,
}

impl RowSums {
    pub(super) fn add_leaf_hash(&mut self, index: LeafIndex, leaf_hash: &Digest) {
        self.leaf_hashes.add(&self.hash_key, leaf_hash.as_ref(), index);
    }

    pub(super) fn add_event_id(&mut self, index: LeafIndex, attributes: &Attributes) {
        let key = event_key(attributes);
        self.event_ids.add(&self.hash_key, key.as_bytes(), index);
    }

    pub(super) fn add_annotations(&mut self, index: LeafIndex, annotations: &Annotations) {
        for key in search::keys_of(annotations) {
            self.attributes.add(&self.hash_key, key.as_bytes(), index);
        }
    }
}

fn event_key(attributes: &Attributes) -> EventKey {
    EventKey::new(&attributes.source, &attributes.id)
}

impl Check<'_> {
    /// Compares the index of leaf hashes with the entries.
    pub(super) fn check_leaf_hashes(&mut self) {
        let (store, suite) = (self.store, self.suite);
        let expected = self.rows.leaf_hashes;
        let Some(rows) = self.differing("leaf_hashes", expected, || store.leaf_hashes()) else {
            return;
        };
        self.each_entry(|check, index, entry| check.find_leaf_hash_row(index, suite.leaf_hash(entry)));
        self.find_strays("leaf_hashes", rows, |key, index| {
            match store.entry(index, Disk::Allowed) {
                Ok(Some(entry)) => suite.leaf_hash(&entry) != *key,
                Ok(None) => true,
                Err(_) => false,
            }
        });
    }

    /// Compares the index of sources and event ids with the payloads.
    pub(super) fn check_event_ids(&mut self) {
        let store = self.store;
        let expected = self.rows.event_ids;
        let Some(rows) = self.differing("event_ids", expected, || store.event_ids()) else {
            return;
        };
        self.each_entry(|check, index, _| {
            if let Ok(Some(payload)) = store.payload(index)
                && let Ok(attributes) = Attributes::decode_canonical(&payload.attributes)
            {
                check.find_event_id_row(index, &attributes);
            }
        });
        self.find_strays("event_ids", rows, |key, index| match store.payload(index) {
            Ok(Some(payload)) => Attributes::decode_canonical(&payload.attributes)
                .is_ok_and(|attributes| event_key(&attributes).as_bytes() != key.as_bytes()),
            Ok(None) => store
                .entry(index, Disk::Allowed)
                .is_ok_and(|entry| entry.is_none()),
            Err(_) => false,
        });
    }

    /// Compares the search index with the payloads.
    pub(super) fn check_search_index(&mut self) {
        let store = self.store;
        let expected = self.rows.attributes;
        let rows = || {
            store
                .index_rows()
                .map(|row| row.map(|(key, index)| (RowKey(key), index)))
        };
        let Some(rows) = self.differing("attributes", expected, rows) else {
            return;
        };
        self.each_entry(|check, index, _| {
            if let Ok(Some(payload)) = store.payload(index)
                && let Ok(annotations) = Annotations::decode_canonical(&payload.annotations)
            {
                check.find_search_rows(index, &annotations);
            }
        });
        for (key, index) in rows().filter_map(Result::ok) {
            if search::is_stray(store, &key.0, index) {
                let problem = format_args!("leads to entry {index}, which does not have it; {REBUILD}");
                self.find("attributes", key, problem);
            }
        }
    }

    /// The rows, if they are not what was expected, or can't all be read.
    fn differing<K: AsRef<[u8]>, R: Iterator<Item = Result<(K, LeafIndex), StoreError>>, F: Fn() -> R>(
        &mut self,
        family: &'static str,
        expected: RowSum,
        rows: F,
    ) -> Option<F> {
        let mut found = RowSum::default();
        for row in rows() {
            match row {
                Ok((key, index)) => found.add(&self.rows.hash_key, key.as_ref(), index),
                Err(problem) => {
                    self.find(family, "scan", problem);
                    return Some(rows);
                }
            }
        }
        (found != expected).then_some(rows)
    }

    /// Goes through the entries again, as far as they were checked.
    fn each_entry(&mut self, mut look: impl FnMut(&mut Self, LeafIndex, &[u8])) {
        let rows = self.store.entries(LeafIndex::ZERO);
        for (expected, row) in (0..self.frontier.size().get()).zip(rows) {
            match row {
                Ok((index, entry)) if index.get() == expected => look(self, index, &entry),
                _ => return,
            }
        }
    }

    fn find_leaf_hash_row(&mut self, index: LeafIndex, leaf_hash: Digest) {
        let place = format!("index {index}");
        match self.store.index_of_leaf(&leaf_hash, Disk::Allowed) {
            Ok(Some(found)) if found == index => {}
            Ok(Some(found)) => self.find(
                "leaf_hashes",
                place,
                format_args!("its hash leads to entry {found}"),
            ),
            Ok(None) => self.find(
                "leaf_hashes",
                place,
                format_args!("its hash {leaf_hash} is not in the index: the entry or the row was changed"),
            ),
            Err(problem) => self.find("leaf_hashes", place, problem),
        }
    }

    fn find_event_id_row(&mut self, index: LeafIndex, attributes: &Attributes) {
        let place = format!("index {index}");
        match self.store.index_of_event(&event_key(attributes), Disk::Allowed) {
            Ok(Some(found)) if found == index => {}
            Ok(Some(found)) => self.find(
                "event_ids",
                place,
                format_args!("its source and id lead to entry {found}"),
            ),
            Ok(None) => self.find("event_ids", place, "its source and id lead nowhere"),
            Err(problem) => self.find("event_ids", place, problem),
        }
    }

    fn find_search_rows(&mut self, index: LeafIndex, annotations: &Annotations) {
        for key in search::keys_of(annotations) {
            match self.store.has_index_row(&key, index) {
                Ok(true) => {}
                Ok(false) => {
                    let problem = format_args!("{} does not lead to it; {REBUILD}", RowKey(key));
                    self.find("attributes", format_args!("index {index}"), problem);
                }
                Err(problem) => self.find("attributes", format_args!("index {index}"), problem),
            }
        }
    }

    /// Finds rows that lead to an entry which is not theirs. `is_stray` may pass over rows that lead to what can't be read:
    /// that was found before.
    fn find_strays<R: Iterator<Item = Result<(Digest, LeafIndex), StoreError>>>(
        &mut self,
        family: &'static str,
        rows: impl Fn() -> R,
        is_stray: impl Fn(&Digest, LeafIndex) -> bool,
    ) {
        for (key, index) in rows().filter_map(Result::ok) {
            if is_stray(&key, index) {
                self.find(
                    family,
                    format_args!("row {key}"),
                    format_args!("leads to entry {index}, which is not its own"),
                );
            }
        }
    }
}

/// What mends the search index.
const REBUILD: &str = "`counterfoild fsck --rebuild-index` mends that";

/// A row by its key, in hex: the value is not there to be read.
struct RowKey(IndexKey);

impl AsRef<[u8]> for RowKey {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("row ")?;
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
