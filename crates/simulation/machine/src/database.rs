//! What RocksDB keeps of a database: the rows, and at the end of its log what was not synced.
//!
//! A batch is appended to the log, the log is synced, and only then the rows change: a batch that fails on the way is not
//! seen until the log is replayed. Replaying drops a torn batch at the end, as `TolerateCorruptedTailRecords` does.

use std::{collections::BTreeMap, io};

use crate::Fault;

/// One row of a family.
pub type Row = (Vec<u8>, Vec<u8>);

/// A change to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The column family.
    pub family: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// Its value; `None` removes the row.
    pub value: Option<Vec<u8>>,
}

type Family = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database.
#[derive(Debug, Clone, Default)]
pub struct Database {
    families: BTreeMap<String, Family>,
    /// What takes back the batches whose rows are changed, though the log was not synced after them: oldest first.
    unsynced: Vec<Vec<Write>>,
    /// Batches that are in the log, and whose rows are not changed: on their way, or failed.
    appended: Vec<(u64, Vec<Write>)>,
    next_batch: u64,
    open: bool,
    failure: Option<Failure>,
}

/// Why an open database takes no more batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Until it is opened anew.
    ForGood,
    /// Until this time, when there is room and it has tidied up.
    NoSpace { until_ns: u64 },
}

impl Database {
    /// Whether somebody has it open for writing.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it was ever made.
    pub fn is_made(&self) -> bool {
        !self.families.is_empty()
    }

    /// Opens it, with these families at least, and replays the log. What is replayed is not synced before
    /// [`flush`](Self::flush).
    pub fn open<'a>(&mut self, families: impl Iterator<Item = &'a str>) {
        for family in families {
            self.families.entry(family.to_owned()).or_default();
        }
        self.open = true;
        self.failure = None;
        for (_, batch) in std::mem::take(&mut self.appended) {
            self.change(batch);
        }
    }

    /// Closes it, however that came about.
    pub fn close(&mut self) {
        self.open = false;
        self.failure = None;
    }

    /// The families that there are.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// A row's value.
    pub fn get(&self, family: &str, key: &[u8]) -> Option<&Vec<u8>> {
        self.families.get(family)?.get(key)
    }

    /// The first row whose key is `first` or greater, or greater alone.
    pub fn at_or_after(&self, family: &str, first: &[u8], itself: bool) -> Option<Row> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = if itself { Included(first) } else { Excluded(first) };
        let mut rows = self.families.get(family)?.range::<[u8], _>((from, Unbounded));
        rows.next().map(|(key, value)| (key.clone(), value.clone()))
    }

    /// The row with the greatest key.
    pub fn last(&self, family: &str) -> Option<Row> {
        let rows = self.families.get(family)?;
        rows.last_key_value()
            .map(|(key, value)| (key.clone(), value.clone()))
    }

    /// Whether it takes batches at this time. One that found room again has tidied up: what failed before is gone from
    /// the log.
    pub fn require_writable(&mut self, now_ns: u64) -> io::Result<()> {
        match self.failure {
            Some(Failure::ForGood) => Err(Fault::Io.error()),
            Some(Failure::NoSpace { until_ns }) if now_ns < until_ns => Err(Fault::NoSpace.error()),
            Some(Failure::NoSpace { .. }) => {
                self.failure = None;
                self.appended.clear();
                self.unsynced.clear();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A write failed: it takes no more batches until it is opened anew.
    pub fn fail_for_good(&mut self) {
        self.failure = Some(Failure::ForGood);
    }

    /// A batch that failed, found in the log: dropped, left there for the next open, or in the rows all the same. Who is told
    /// that it failed can't know.
    pub fn abandon(&mut self, number: u64, chance: &mut fastrand::Rng) {
        match chance.u8(..3) {
            0 => self.appended.retain(|(found, _)| *found != number),
            1 => {}
            _ => self.apply(number),
        }
    }

    /// A write failed for lack of room, and there is none until this time.
    pub fn fail_until(&mut self, until_ns: u64) {
        // What failed for good does not mend because another write finds no room.
        if self.failure != Some(Failure::ForGood) {
            self.failure = Some(Failure::NoSpace { until_ns });
        }
    }

    /// Puts a batch into the log, where it may survive.
    pub fn append(&mut self, batch: Vec<Write>) -> u64 {
        self.next_batch += 1;
        self.appended.push((self.next_batch, batch));
        self.next_batch
    }

    /// Has all that is in the log survive, and changes the rows.
    pub fn apply_synced(&mut self, number: u64) {
        self.apply(number);
        self.unsynced.clear();
    }

    /// Changes the rows though the log was not synced.
    pub fn apply(&mut self, number: u64) {
        let place = self.appended.iter().position(|(found, _)| *found == number);
        let (_, batch) = self.appended.remove(place.expect("it was appended"));
        self.change(batch);
    }

    /// Has all that was changed survive, in tables.
    pub fn flush(&mut self) {
        self.unsynced.clear();
    }

    fn change(&mut self, batch: Vec<Write>) {
        let mut before = Vec::with_capacity(batch.len());
        for Write { family, key, value } in batch {
            let rows = self.families.entry(family.clone()).or_default();
            let old = match value {
                Some(value) => rows.insert(key.clone(), value),
                None => rows.remove(&key),
            };
            before.push(Write {
                family,
                key,
                value: old,
            });
        }
        self.unsynced.push(before);
    }

    fn take_back(&mut self) {
        for Write { family, key, value } in self.unsynced.pop().into_iter().flatten().rev() {
            let rows = self.families.entry(family).or_default();
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }

    /// Of what was not synced a beginning survives: the log is one file, and what follows a gap is not replayed.
    pub(crate) fn lose_power(&mut self, chance: &mut fastrand::Rng) {
        let tail = self.unsynced.len() + self.appended.len();
        let kept = chance.usize(..=tail);
        while self.unsynced.len() > kept {
            self.take_back();
        }
        self.appended.truncate(kept.saturating_sub(self.unsynced.len()));
        // What survived is on the disk now.
        let survived = std::mem::take(&mut self.appended);
        for (_, batch) in survived {
            self.change(batch);
        }
        self.unsynced.clear();
    }
}
