//! RocksDB's write-ahead log, read once before RocksDB does: is the damage that it has that of a crash?
//!
//! RocksDB tells two ways to end a log with a record that is not whole. Where the file is too short for it, the record
//! counts as never written. Where the file is long enough and its bytes are wrong, RocksDB has to be told what to do: refuse
//! (`TolerateCorruptedTailRecords`, its name notwithstanding) or drop all that follows, acknowledged or not
//! (`PointInTimeRecovery`). A machine that loses power leaves both: a file system may write the pages of the last write in
//! any order, and the length before them.
//!
//! Each write is synced before the next begins. So a damaged record with any record of a later write behind it had been
//! acknowledged; one with none is the write that was under way. Only then may it be dropped.
//!
//! The format: <https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format>.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rocksdb::DBRecoveryMode;

const BLOCK_BYTES: usize = 32 * 1024;
/// Checksum, length and type.
const HEADER_BYTES: usize = 4 + 2 + 1;
/// What a batch starts with: its first sequence number, and how many it takes.
const BATCH_HEADER_BYTES: usize = 8 + 4;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// How RocksDB is to read the logs of a database. It has to refuse where damage may be another than a crash's.
pub(crate) fn recovery_mode(database: &Path) -> DBRecoveryMode {
    match end_of_logs(database) {
        // A record for which the file is too short is passed over.
        Ok(End::Whole) => DBRecoveryMode::TolerateCorruptedTailRecords,
        Ok(End::Torn) => DBRecoveryMode::PointInTime,
        Ok(End::Damaged) => DBRecoveryMode::AbsoluteConsistency,
        // What can't be read here, RocksDB can't either, and says why.
        Err(_) => DBRecoveryMode::TolerateCorruptedTailRecords,
    }
}

/// How all logs together end.
fn end_of_logs(database: &Path) -> io::Result<End> {
    let mut end = End::Whole;
    // The sequence number of the next batch, once there was one.
    let mut next = None;
    for path in logs(database)? {
        let log = Log::read(&path, next)?;
        // A start after the crash that tore a log begins the next one where the torn write began. A gap is a loss.
        let is_gap = end == End::Torn && log.first.is_some() && log.first != next;
        if is_gap || log.end == End::Damaged {
            return Ok(End::Damaged);
        }
        if log.end == End::Torn {
            end = End::Torn;
        }
        next = log.next;
    }
    Ok(end)
}

/// The logs, oldest first.
fn logs(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for file in fs::read_dir(database)? {
        let path = file?.path();
        logs.extend(number(&path).map(|number| (number, path)));
    }
    logs.sort_unstable();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// The number of a log. It has six digits or more.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// The last write is not whole.
    Torn,
    /// A write is not whole, and there is one after it.
    Damaged,
}

struct Log {
    /// The first sequence number of its first batch.
    first: Option<u64>,
    /// That of the batch after its last whole one.
    next: Option<u64>,
    end: End,
}

impl Log {
    fn read(path: &Path, mut next: Option<u64>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut first = None;
        // The batch that a fragment began.
        let mut begun: Option<Vec<u8>> = None;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            let mut rest = &block[..];
            while rest.len() >= HEADER_BYTES {
                let Some(record) = Record::parse(rest).filter(|record| record.follows(begun.is_some()))
                else {
                    // Nothing of the log is known from here on.
                    let mut unknown = rest.to_vec();
                    // Behind a block that is not full there was nothing. What is there now was written since.
                    if block.len() == BLOCK_BYTES {
                        file.read_to_end(&mut unknown)?;
                    }
                    let end = match () {
                        () if unknown.iter().all(|byte| *byte == 0) && begun.is_none() => End::Whole,
                        () if has_batch_after(&unknown, block.len() - rest.len(), next) => End::Damaged,
                        () => End::Torn,
                    };
                    return Ok(Self { first, next, end });
                };
                let batch = begun.get_or_insert_default();
                // All that is needed of it.
                let missing = BATCH_HEADER_BYTES.saturating_sub(batch.len());
                batch.extend(record.payload.iter().take(missing));
                if let FULL | LAST = record.kind
                    && let Some(batch) = begun.take()
                    && let Some((sequence, count)) = batch_header(&batch)
                {
                    first = first.or(Some(sequence));
                    next = Some(sequence.saturating_add(count));
                }
                rest = &rest[HEADER_BYTES + record.payload.len()..];
            }
            if block.len() < BLOCK_BYTES {
                let is_whole = rest.is_empty() && begun.is_none();
                let end = if is_whole { End::Whole } else { End::Torn };
                return Ok(Self { first, next, end });
            }
        }
    }
}

/// A record, or a fragment of one: a record does not cross a block.
struct Record<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the start of the rest of a block. `None` if its bytes are not those that were written.
    fn parse(block: &'a [u8]) -> Option<Self> {
        let (header, rest) = block.split_first_chunk::<HEADER_BYTES>()?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        let is_known = (FULL..=LAST).contains(&kind);
        (is_known && masked(checksum) == u32::from_le_bytes([c0, c1, c2, c3]))
            .then_some(Self { kind, payload })
    }

    /// Whether it can come here: within a batch that was begun, or not.
    fn follows(&self, within: bool) -> bool {
        matches!(self.kind, MIDDLE | LAST) == within
    }
}

/// As RocksDB stores a checksum, so that one over bytes that hold checksums is no worse.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn batch_header(batch: &[u8]) -> Option<(u64, u64)> {
    let (sequence, rest) = batch.split_first_chunk::<8>()?;
    let (count, _) = rest.split_first_chunk::<4>()?;
    Some((
        u64::from_le_bytes(*sequence),
        u64::from(u32::from_le_bytes(*count)),
    ))
}

/// Whether a batch begins anywhere behind the first byte of `unknown`, which starts at `offset` in its block. Lengths can't be
/// trusted any more, so every byte may be the first of a record.
fn has_batch_after(unknown: &[u8], offset: usize, next: Option<u64>) -> bool {
    (1..unknown.len()).any(|at| {
        let room = BLOCK_BYTES - (offset + at) % BLOCK_BYTES;
        let rest = &unknown[at..unknown.len().min(at + room)];
        let starts_batch = || {
            let (sequence, _) = batch_header(rest.get(HEADER_BYTES..)?)?;
            // Cheap, and rules out nearly all that only looks like one. Each change takes a byte at least.
            let least = next.unwrap_or(0);
            (least..=least.saturating_add(unknown.len() as u64))
                .contains(&sequence)
                .then_some(())
        };
        matches!(rest.get(HEADER_BYTES - 1), Some(&(FULL | FIRST)))
            && (next.is_none() || starts_batch().is_some())
            && Record::parse(rest).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read_in_the_order_of_their_numbers() {
        let database = tempfile::tempdir().unwrap();
        for name in [
            "1000000.log",
            "999999.log",
            "000012.log",
            "LOG",
            "old.log",
            "000013.sst",
        ] {
            fs::write(database.path().join(name), "").unwrap();
        }
        let names: Vec<_> = logs(database.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["000012.log", "999999.log", "1000000.log"]);
    }
}
