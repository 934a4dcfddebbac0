//! The record kept beside an entry: `format[1] ‖ salt[32] ‖ u32be length of attributes ‖ u32be length of annotations ‖
//! u32be length of data ‖ body`.
//!
//! The body is attributes ‖ annotations ‖ data: as they are in format 1, as one zstd frame in format 2. Together they
//! compress better than the data alone, because much of an event's normal form stands in its payload too. Short bodies stay
//! in format 1: RocksDB compresses their records with their neighbours, block by block.

use std::cell::RefCell;

use counterfoil_event::{
    Salt,
    limits::{MAX_ANNOTATIONS_BYTES, MAX_ATTRIBUTES_BYTES, MAX_DATA_BYTES},
};
use zstd::bulk::{Compressor, Decompressor};

const PLAIN: u8 = 1;
const ZSTD: u8 = 2;

/// A shorter body is kept as it came. At 1 KiB a frame of its own takes three times as long as its share of a block, most of it for
/// tables that a block's records have in common, and ends up twice as large.
pub(crate) const MIN_COMPRESSED_BYTES: usize = 4096;

/// The fastest level: a submitter waits for it, and flushes share the cores with submitters.
pub(crate) const ZSTD_LEVEL: i32 = 1;

pub(crate) const HEADER_BYTES: usize = 1 + 32 + 3 * 4;
const MAX_BODY_BYTES: usize = MAX_ATTRIBUTES_BYTES + MAX_ANNOTATIONS_BYTES + MAX_DATA_BYTES;

/// The longest record: a body that does not compress.
pub const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;

/// What an entry commits to, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload {
    /// The salt of the commitments.
    pub salt: Salt,
    /// The encoded attributes.
    pub attributes: Vec<u8>,
    /// The encoded annotations; empty if the log added none.
    pub annotations: Vec<u8>,
    /// The payload as it was received.
    pub data: Vec<u8>,
}

thread_local! {
    // A context takes longer to make than a small payload takes to compress.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(ZSTD_LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// Encodes the record of an entry, compressing its body where that makes it smaller.
pub fn encode_payload(salt: &Salt, attributes: &[u8], annotations: &[u8], data: &[u8]) -> Vec<u8> {
    let parts = [attributes, annotations, data];
    let body_bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut record = Vec::with_capacity(HEADER_BYTES + body_bytes);
    record.push(PLAIN);
    record.extend_from_slice(salt.as_bytes());
    for part in parts {
        let length = u32::try_from(part.len()).expect("events are limited to far less than 4 GiB");
        record.extend_from_slice(&length.to_be_bytes());
    }
    for part in parts {
        record.extend_from_slice(part);
    }
    if body_bytes >= MIN_COMPRESSED_BYTES
        && let Some(frame) = compress(&record[HEADER_BYTES..])
    {
        record[0] = ZSTD;
        record.truncate(HEADER_BYTES);
        record.extend_from_slice(&frame);
    }
    record
}

/// The salt alone, whatever follows it.
pub(crate) fn decode_salt(record: &[u8]) -> Option<Salt> {
    split_salt(record).map(|(_, salt, _)| salt)
}

fn split_salt(record: &[u8]) -> Option<(u8, Salt, &[u8])> {
    let (&format, rest) = record.split_first()?;
    let (salt, rest) = rest.split_first_chunk::<32>()?;
    matches!(format, PLAIN | ZSTD).then_some((format, Salt::from(*salt), rest))
}

pub(crate) fn decode(record: &[u8]) -> Option<StoredPayload> {
    let (format, salt, rest) = split_salt(record)?;
    let (attributes_bytes, rest) = split_length(rest)?;
    let (annotations_bytes, rest) = split_length(rest)?;
    let (data_bytes, body) = split_length(rest)?;
    let body_bytes = attributes_bytes
        .checked_add(annotations_bytes)?
        .checked_add(data_bytes)?;
    let mut data = match format {
        ZSTD => decompress(body, body_bytes)?,
        _ => body.to_vec(),
    };
    if data.len() != body_bytes {
        return None;
    }
    let annotations_end = attributes_bytes + annotations_bytes;
    let attributes = data[..attributes_bytes].to_vec();
    let annotations = data[attributes_bytes..annotations_end].to_vec();
    // The longest part stays where it is: a payload of megabytes is not to be held twice.
    data.drain(..annotations_end);
    Some(StoredPayload {
        salt,
        attributes,
        annotations,
        data,
    })
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_be_bytes(*length)).ok()?, rest))
}

/// `None` if it would not be smaller.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let frame = compressor.as_mut()?.compress(body).ok()?;
        (frame.len() < body.len()).then_some(frame)
    })
}

/// `None` if the frame is damaged or says that it holds more than a body may.
fn decompress(frame: &[u8], body_bytes: usize) -> Option<Vec<u8>> {
    if body_bytes > MAX_BODY_BYTES {
        return None;
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(frame, body_bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_returns_what_went_in() {
        let salt = Salt::from([7; 32]);
        let noise: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for data in [vec![], b"short".to_vec(), vec![b'a'; 100_000], noise] {
            for annotations in [&b""[..], b"annotations", &[b'n'; 3000]] {
                let record = encode_payload(&salt, b"attributes", annotations, &data);
                assert!(
                    record.len() <= HEADER_BYTES + 10 + annotations.len() + data.len(),
                    "a record is never much longer than what it holds"
                );
                let stored = StoredPayload {
                    salt,
                    attributes: b"attributes".to_vec(),
                    annotations: annotations.to_vec(),
                    data: data.clone(),
                };
                assert_eq!(decode(&record), Some(stored));
                assert_eq!(decode_salt(&record), Some(salt));
            }
        }
    }

    #[test]
    fn a_payload_is_in_memory_once() {
        let noise: Vec<u8> = (0..1 << 20).map(|_| fastrand::u8(..)).collect();
        for data in [noise, vec![b'a'; 1 << 20]] {
            let record = encode_payload(&Salt::from([7; 32]), b"attributes", b"annotations", &data);
            let stored = decode(&record).unwrap();
            let beside = stored.attributes.capacity() + stored.annotations.capacity();
            assert!(beside < 1024, "{beside} bytes for attributes and annotations");
        }
    }

    #[test]
    fn a_body_is_compressed_alone_from_4_kib_on() {
        let salt = Salt::from([7; 32]);
        for (data_bytes, format) in [(0, PLAIN), (4_095, PLAIN), (4_096, ZSTD), (100_000, ZSTD)] {
            let record = encode_payload(&salt, b"", b"", &vec![b'a'; data_bytes]);
            assert_eq!(record[0], format, "{data_bytes} bytes");
        }
    }

    /// As logs have it that were written when bodies were compressed alone from 512 bytes on: the frame is of the `zstd` command.
    #[test]
    fn a_short_body_that_was_compressed_alone_is_read() {
        let mut record = vec![ZSTD];
        record.extend([7; 32]);
        for length in [10_u32, 0, 600] {
            record.extend(length.to_be_bytes());
        }
        record.extend(hex::decode("28b52ffd6062019d000060617474726962757465736162010053aa5c12").unwrap());
        let stored = decode(&record).unwrap();
        assert_eq!(stored.salt, Salt::from([7; 32]));
        assert_eq!(stored.attributes, b"attributes");
        assert_eq!(stored.annotations, b"");
        assert_eq!(stored.data, b"ab".repeat(300));
    }

    #[test]
    fn damaged_records_are_refused() {
        let salt = Salt::from([7; 32]);
        let long = encode_payload(&salt, b"attributes", b"annotations", &[b'a'; 10_000]);
        let short = encode_payload(&salt, b"attributes", b"annotations", b"data");
        assert_eq!((long[0], short[0]), (ZSTD, PLAIN));
        for record in [&long, &short] {
            for length in 0..record.len() {
                assert_eq!(decode(&record[..length]), None, "cut at {length}");
            }
            let mut bomb = record.clone();
            bomb[41..45].copy_from_slice(&u32::MAX.to_be_bytes());
            assert_eq!(
                decode(&bomb),
                None,
                "a length past the limit is refused before anything is allocated"
            );
            let mut unknown = record.clone();
            unknown[0] = 3;
            assert_eq!(decode(&unknown), None);
            assert_eq!(decode_salt(&unknown), None);
        }
    }
}
