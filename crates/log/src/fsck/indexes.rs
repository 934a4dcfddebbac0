//! What the rows that are derived from entries must be: each entry has its own, and no row leads to another entry.

use std::fmt;

use counterfoil_event::{Annotations, Attributes, EventKey, IndexKey};
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_store::StoreError;

use super::Check;
use crate::search;

impl Check<'_> {
    pub(super) fn check_leaf_hash_row(&mut self, index: LeafIndex, leaf_hash: Digest) {
        let place = format_args!("index {index}").to_string();
        match self.store.index_of_leaf(&leaf_hash) {
            Ok(Some(found)) if found == index => self.leaf_hash_rows += 1,
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

    pub(super) fn check_event_id_row(&mut self, index: LeafIndex, attributes: &Attributes) {
        let place = format!("index {index}");
        let key = EventKey::new(&attributes.source, &attributes.id);
        match self.store.index_of_event(&key) {
            Ok(Some(found)) if found == index => self.event_id_rows += 1,
            Ok(Some(found)) => self.find(
                "event_ids",
                place,
                format_args!("its source and id lead to entry {found}"),
            ),
            Ok(None) => self.find("event_ids", place, "its source and id lead nowhere"),
            Err(problem) => self.find("event_ids", place, problem),
        }
    }

    pub(super) fn check_search_rows(&mut self, index: LeafIndex, annotations: &Annotations) {
        for key in search::keys_of(annotations) {
            match self.store.has_index_row(&key, index) {
                Ok(true) => self.search_rows += 1,
                Ok(false) => {
                    let problem = format_args!("{} does not lead to it; {REBUILD}", RowKey(key));
                    self.find("attributes", format_args!("index {index}"), problem);
                }
                Err(problem) => self.find("attributes", format_args!("index {index}"), problem),
            }
        }
    }

    /// Finds rows of the indexes that lead to an entry which is not theirs.
    pub(super) fn walk_indexes(&mut self) {
        self.walk_search_index();
        let (store, suite) = (self.store, self.suite);
        self.walk_index(
            "leaf_hashes",
            self.leaf_hash_rows,
            || store.leaf_hashes(),
            |key, index| match store.entry(index) {
                Ok(Some(entry)) => suite.leaf_hash(&entry) != *key,
                Ok(None) => true,
                Err(_) => false,
            },
        );
        self.walk_index(
            "event_ids",
            self.event_id_rows,
            || store.event_ids(),
            |key, index| match store.payload(index) {
                Ok(Some(payload)) => Attributes::decode_canonical(&payload.attributes)
                    .is_ok_and(|event| EventKey::new(&event.source, &event.id).as_bytes() != key.as_bytes()),
                Ok(None) => store.entry(index).is_ok_and(|entry| entry.is_none()),
                Err(_) => false,
            },
        );
    }

    /// The rows of entries were looked up one by one. Only where there are others is each row followed. `is_stray` may
    /// pass over rows that lead to what can't be read: that was found before.
    fn walk_index<R: Iterator<Item = Result<(Digest, LeafIndex), StoreError>>>(
        &mut self,
        family: &'static str,
        rows_of_entries: u64,
        rows: impl Fn() -> R,
        is_stray: impl Fn(&Digest, LeafIndex) -> bool,
    ) {
        match rows().try_fold(0, |count, row| row.map(|_| count + 1)) {
            Ok(count) if count == rows_of_entries => return,
            Ok(_) => {}
            Err(problem) => return self.find(family, "scan", problem),
        }
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
    fn walk_search_index(&mut self) {
        let store = self.store;
        match store
            .index_rows()
            .try_fold(0, |count, row| row.map(|_| count + 1))
        {
            Ok(count) if count == self.search_rows => return,
            Ok(_) => {}
            Err(problem) => return self.find("attributes", "scan", problem),
        }
        for (key, index) in store.index_rows().filter_map(Result::ok) {
            if search::is_stray(store, &key, index) {
                let problem = format_args!("leads to entry {index}, which does not have it; {REBUILD}");
                self.find("attributes", RowKey(key), problem);
            }
        }
    }
}

/// What mends the search index.
const REBUILD: &str = "`counterfoild fsck --rebuild-index` mends that";

/// A row by its key, in hex: the value is not there to be read.
struct RowKey(IndexKey);

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("row ")?;
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
