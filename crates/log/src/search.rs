//! The search index: rows that lead from a value, such as a commit, to the entries whose normal form has it.
//!
//! It is derived from what entries commit to, but nothing signs it: it finds entries, and proves nothing by finding none.

use counterfoil_event::{Annotations, IndexKey};
use counterfoil_merkle::{LeafIndex, TreeSize};
use counterfoil_store::{Store, StoreError, StoreOptions};

use crate::{DataDirectory, FsckError, FsckProgress, LogName};

/// Rows that are added or removed together while the index is mended.
const REBUILD_ROWS: usize = 4_096;

/// What the search index has for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Entries, in order.
    pub indices: Vec<LeafIndex>,
    /// How large the log was: entries that came later were not looked for.
    pub size: TreeSize,
    /// There are more behind the last of these.
    pub more: bool,
}

/// What mending the search index of a log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildReport {
    /// Rows that the entries make.
    pub rows: u64,
    /// Rows that were missing.
    pub added: u64,
    /// Rows that led to entries which are not theirs.
    pub removed: u64,
}

/// What an entry with these annotations is filed under.
pub(crate) fn keys_of(annotations: &Annotations) -> Vec<IndexKey> {
    IndexKey::of_normal_form(&annotations.normalised)
}

/// Whether a row leads to an entry that is not filed there. Of an entry that can't be read it is not known: no.
pub(crate) fn is_stray(store: &Store, key: &IndexKey, index: LeafIndex) -> bool {
    match store.payload(index) {
        Ok(Some(payload)) => Annotations::decode_canonical(&payload.annotations)
            .is_ok_and(|annotations| !keys_of(&annotations).contains(key)),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Entries under `key` from `first` on, below `size`, at most `limit`.
pub(crate) fn find(
    store: &Store,
    key: &IndexKey,
    first: LeafIndex,
    size: TreeSize,
    limit: usize,
) -> Result<Found, StoreError> {
    // A row of a batch that is written but not yet signed finds nothing: it is not in any tree.
    let mut rows = store
        .indices_under(key, first)
        .take_while(|row| row.as_ref().map_or(true, |index| size.contains(*index)));
    let indices = rows.by_ref().take(limit).collect::<Result<_, _>>()?;
    Ok(Found {
        indices,
        size,
        more: rows.next().transpose()?.is_some(),
    })
}

/// Makes the search index of a log what its entries say. The server must not be running.
///
/// Rows that are missing are added before any is removed, so if it is cut short the index has no less than before.
/// `progress` is called now and then.
pub fn rebuild_search_index(
    data: &DataDirectory,
    name: &LogName,
    mut progress: impl FnMut(FsckProgress),
) -> Result<RebuildReport, FsckError> {
    let store = Store::open(&data.log(name).database(), &StoreOptions::default())?;
    let entries = store.tree_state()?.ok_or(FsckError::Empty)?.size.get();
    let mut report = RebuildReport {
        rows: 0,
        added: 0,
        removed: 0,
    };

    let mut missing = Vec::new();
    for row in store.payloads(LeafIndex::ZERO) {
        let (index, payload) = row?;
        if index.get() % 4_096 == 0 {
            progress(FsckProgress {
                checked: index.get(),
                entries,
            });
        }
        // What is no annotations has no terms; the check says so of it.
        let Ok(annotations) = Annotations::decode_canonical(&payload.annotations) else {
            continue;
        };
        for key in keys_of(&annotations) {
            report.rows += 1;
            if !store.has_index_row(&key, index)? {
                report.added += 1;
                missing.push((key, index));
            }
        }
        if missing.len() >= REBUILD_ROWS {
            store.add_index_rows(&missing)?;
            missing.clear();
        }
    }
    store.add_index_rows(&missing)?;

    let rows = store
        .index_rows()
        .try_fold(0, |count, row| row.map(|_| count + 1))?;
    if rows != report.rows {
        report.removed = remove_strays(&store)?;
    }
    store.flush()?;
    Ok(report)
}

fn remove_strays(store: &Store) -> Result<u64, StoreError> {
    let mut removed = 0;
    let mut strays = Vec::new();
    // The rows are those of the moment when the walk began, whatever is removed on the way.
    for row in store.index_rows() {
        let (key, index) = row?;
        if is_stray(store, &key, index) {
            strays.push((key, index));
            removed += 1;
        }
        if strays.len() >= REBUILD_ROWS {
            store.remove_index_rows(&strays)?;
            strays.clear();
        }
    }
    store.remove_index_rows(&strays)?;
    Ok(removed)
}
