//! The record kept beside an entry: `format[1] ‖ salt[32] ‖ u32be length of attributes ‖ attributes ‖ data`.
//!
//! Format 1 holds the data as it came. Format 2 holds `u32be length of data ‖ zstd frame`.

use std::cell::RefCell;

use counterfoil_event::{Salt, limits::MAX_DATA_BYTES};
use zstd::bulk::{Compressor, Decompressor};

const PLAIN: u8 = 1;
const ZSTD: u8 = 2;

/// Shorter data is kept as it came: a frame would save little.
const MIN_COMPRESSED_BYTES: usize = 512;

/// The fastest level: a submitter waits for it.
const ZSTD_LEVEL: i32 = 1;

/// The longest record: data that does not compress, with the longest attributes.
pub const MAX_RECORD_BYTES: usize = MAX_DATA_BYTES + 128 * 1024;

/// What an entry commits to, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload {
    /// The salt of both commitments.
    pub salt: Salt,
    /// The encoded attributes.
    pub attributes: Vec<u8>,
    /// The payload as it was received.
    pub data: Vec<u8>,
}

thread_local! {
    // A context takes longer to make than a small payload takes to compress.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(ZSTD_LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// Encodes the record of an entry, compressing `data` where that makes it smaller.
pub fn encode_payload(salt: &Salt, attributes: &[u8], data: &[u8]) -> Vec<u8> {
    let compressed = if data.len() >= MIN_COMPRESSED_BYTES {
        compress(data)
    } else {
        None
    };
    let (format, body) = match &compressed {
        Some(frame) => (ZSTD, frame.as_slice()),
        None => (PLAIN, data),
    };
    let mut record = Vec::with_capacity(1 + 32 + 4 + attributes.len() + 4 + body.len());
    record.push(format);
    record.extend_from_slice(salt.as_bytes());
    record.extend_from_slice(&length(attributes).to_be_bytes());
    record.extend_from_slice(attributes);
    if format == ZSTD {
        record.extend_from_slice(&length(data).to_be_bytes());
    }
    record.extend_from_slice(body);
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
    let (attributes_length, rest) = rest.split_first_chunk::<4>()?;
    let (attributes, body) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*attributes_length)).ok()?)?;
    let data = match format {
        PLAIN => body.to_vec(),
        ZSTD => {
            let (data_length, frame) = body.split_first_chunk::<4>()?;
            decompress(frame, usize::try_from(u32::from_be_bytes(*data_length)).ok()?)?
        }
        _ => return None,
    };
    Some(StoredPayload {
        salt,
        attributes: attributes.to_vec(),
        data,
    })
}

/// `None` if it would not be smaller.
fn compress(data: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let frame = compressor.as_mut()?.compress(data).ok()?;
        (frame.len() + 4 < data.len()).then_some(frame)
    })
}

/// `None` if the frame is damaged or does not hold `data_length` bytes.
fn decompress(frame: &[u8], data_length: usize) -> Option<Vec<u8>> {
    if data_length > MAX_DATA_BYTES {
        return None;
    }
    let data = DECOMPRESSOR
        .with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(frame, data_length).ok())?;
    (data.len() == data_length).then_some(data)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("events are limited to far less than 4 GiB")
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
            let record = encode_payload(&salt, b"attributes", &data);
            assert!(
                record.len() <= data.len() + 47 + 4,
                "a record is never much longer than its data"
            );
            let stored = decode(&record).unwrap();
            assert_eq!(
                (stored.salt, stored.attributes.as_slice(), stored.data),
                (salt, &b"attributes"[..], data)
            );
            assert_eq!(decode_salt(&record), Some(salt));
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let record = encode_payload(&Salt::from([7; 32]), b"attributes", &[b'a'; 10_000]);
        assert_eq!(record[0], ZSTD);
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "cut at {length}");
        }
        let mut bomb = record.clone();
        bomb[47..51].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            decode(&bomb),
            None,
            "a length past the limit is refused before anything is allocated"
        );
        let mut unknown = record;
        unknown[0] = 3;
        assert_eq!(decode(&unknown), None);
        assert_eq!(decode_salt(&unknown), None);
    }
}
