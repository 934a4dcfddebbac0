//! The one encoding of an entry, read and written in place. Whoever follows a log reads each leaf, and a decoder that takes any encoding
//! has to encode what it read again to tell whether it was that one: three times the work. A log writes each leaf, from parts
//! that an encoder would first have copied.

use std::str;

use super::FORMAT_VERSION;

/// The fields of `proto/counterfoil/v1/entry.proto`, as they stand in the bytes of a leaf. Nothing is judged yet but that
/// there is no other way to write them.
pub(super) struct Fields<'a> {
    pub(super) time_unix_ns: u64,
    pub(super) source_id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) media_type: &'a str,
    pub(super) payload_length: u64,
    pub(super) payload_commitment: &'a [u8],
    pub(super) attributes_commitment: &'a [u8],
    pub(super) authentication: i32,
    pub(super) retention_class: &'a str,
    pub(super) annotations_commitment: &'a [u8],
}

/// `None` unless the bytes are an entry of the known version, in its one encoding.
pub(super) fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut message = Message(bytes);
    if message.varint(1)? != u64::from(FORMAT_VERSION) {
        return None;
    }
    let fields = Fields {
        time_unix_ns: message.fixed64(2)?,
        source_id: message.string(3)?,
        event_type: message.string(4)?,
        media_type: message.string(5)?,
        payload_length: message.varint(6)?,
        payload_commitment: message.bytes(7)?,
        attributes_commitment: message.bytes(8)?,
        // An int32 below zero is written as if it had 64 bits.
        authentication: i32::try_from(message.varint(9)?.cast_signed()).ok()?,
        retention_class: message.string(10)?,
        annotations_commitment: message.bytes(11)?,
    };
    // What is left is unknown, repeated, or out of order.
    message.0.is_empty().then_some(fields)
}

/// Bytes of all that stands in an entry beside texts and commitments, and more.
const ROOM_FOR_NUMBERS: usize = 64;

impl Fields<'_> {
    /// The bytes of the leaf.
    pub(super) fn encode(&self) -> Vec<u8> {
        let texts = [
            self.source_id,
            self.event_type,
            self.media_type,
            self.retention_class,
        ];
        let commitments = [
            self.payload_commitment,
            self.attributes_commitment,
            self.annotations_commitment,
        ];
        let parts = texts
            .map(str::len)
            .into_iter()
            .chain(commitments.map(<[u8]>::len));
        let mut message = Writer(Vec::with_capacity(ROOM_FOR_NUMBERS + parts.sum::<usize>()));
        message.varint(1, u64::from(FORMAT_VERSION));
        message.fixed64(2, self.time_unix_ns);
        message.bytes(3, self.source_id.as_bytes());
        message.bytes(4, self.event_type.as_bytes());
        message.bytes(5, self.media_type.as_bytes());
        message.varint(6, self.payload_length);
        message.bytes(7, self.payload_commitment);
        message.bytes(8, self.attributes_commitment);
        message.varint(9, i64::from(self.authentication).cast_unsigned());
        message.bytes(10, self.retention_class.as_bytes());
        message.bytes(11, self.annotations_commitment);
        message.0
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;

/// What is left of a message whose fields are asked for in ascending order. A field that is not there has its default value,
/// and one that is there must not. Each is `None` where that or the encoding itself is broken.
///
/// The wire format: <https://protobuf.dev/programming-guides/encoding/>.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn varint(&mut self, number: u8) -> Option<u64> {
        if !self.take_tag(number, VARINT) {
            return Some(0);
        }
        self.take_varint().filter(|&value| value != 0)
    }

    fn fixed64(&mut self, number: u8) -> Option<u64> {
        if !self.take_tag(number, FIXED64) {
            return Some(0);
        }
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value)).filter(|&value| value != 0)
    }

    fn string(&mut self, number: u8) -> Option<&'a str> {
        str::from_utf8(self.bytes(number)?).ok()
    }

    fn bytes(&mut self, number: u8) -> Option<&'a [u8]> {
        if !self.take_tag(number, LENGTH_DELIMITED) {
            return Some(&[]);
        }
        let length = usize::try_from(self.take_varint()?).ok()?;
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        (!value.is_empty()).then_some(value)
    }

    /// Whether the tag of a field is next, and past it if so. Numbers up to 15 have tags of one byte.
    fn take_tag(&mut self, number: u8, wire_type: u8) -> bool {
        match self.0.split_first() {
            Some((&tag, rest)) if tag == number << 3 | wire_type => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// A number in as few bytes as it takes, 7 bits each, the lowest first.
    fn take_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }
}

/// A message whose fields are given in ascending order. What has its default value is left out.
struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, number: u8, value: u64) {
        if value != 0 {
            self.0.push(number << 3 | VARINT);
            self.put_varint(value);
        }
    }

    fn fixed64(&mut self, number: u8, value: u64) {
        if value != 0 {
            self.0.push(number << 3 | FIXED64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn bytes(&mut self, number: u8, value: &[u8]) {
        if !value.is_empty() {
            self.0.push(number << 3 | LENGTH_DELIMITED);
            self.put_varint(value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::{super::wire, *};

    /// The same by a decoder that takes any encoding.
    fn encoded_as_prost_would(bytes: &[u8]) -> Option<wire::Entry> {
        wire::Entry::decode(bytes)
            .ok()
            .filter(|entry| entry.format_version == FORMAT_VERSION && entry.encode_to_vec() == bytes)
    }

    fn assert_read_as_by_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
        let read = fields(bytes).map(|fields| wire::Entry {
            format_version: FORMAT_VERSION,
            time_unix_ns: fields.time_unix_ns,
            source_id: fields.source_id.to_owned(),
            event_type: fields.event_type.to_owned(),
            media_type: fields.media_type.to_owned(),
            payload_length: fields.payload_length,
            payload_commitment: fields.payload_commitment.to_vec(),
            attributes_commitment: fields.attributes_commitment.to_vec(),
            authentication: fields.authentication,
            retention_class: fields.retention_class.to_owned(),
            annotations_commitment: fields.annotations_commitment.to_vec(),
        });
        prop_assert_eq!(read, encoded_as_prost_would(bytes), "{:02x?}", bytes);
        Ok(())
    }

    prop_compose! {
        fn any_entry()(
            time_unix_ns: u64,
            texts in prop::array::uniform4(".{0,3}|.{120,140}"),
            payload_length in prop_oneof![0..300_u64, any::<u64>()],
            commitments in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..40)),
            authentication in prop_oneof![-2..10_i32, any::<i32>()],
        ) -> wire::Entry {
            let [source_id, event_type, media_type, retention_class] = texts;
            let [payload_commitment, attributes_commitment, annotations_commitment] = commitments;
            wire::Entry {
                format_version: FORMAT_VERSION,
                time_unix_ns,
                source_id,
                event_type,
                media_type,
                payload_length,
                payload_commitment,
                attributes_commitment,
                authentication,
                retention_class,
                annotations_commitment,
            }
        }
    }

    proptest! {
        #[test]
        fn every_message_is_read_and_written_as_prost_does_it(entry in any_entry()) {
            let bytes = entry.encode_to_vec();
            prop_assert_eq!(encoded_as_prost_would(&bytes), Some(entry));
            assert_read_as_by_prost(&bytes)?;
            let written = fields(&bytes).map(|fields| fields.encode());
            prop_assert_eq!(written, Some(bytes));
        }

        #[test]
        fn other_bytes_are_read_if_prost_would_encode_them_so(
            entry in any_entry(),
            at: prop::sample::Index,
            removed in 0..4_usize,
            added in prop::collection::vec(prop_oneof![any::<u8>(), 0..0x60_u8, Just(0x80), Just(0xff)], 0..12),
        ) {
            let mut bytes = entry.encode_to_vec();
            let start = at.index(bytes.len());
            let end = bytes.len().min(start + removed);
            bytes.splice(start..end, added);
            assert_read_as_by_prost(&bytes)?;
        }
    }

    #[test]
    fn each_field_alone_is_read_if_prost_would_encode_it_so() {
        let mut values: Vec<Vec<u8>> = (0..12).map(|length| vec![0; length]).collect();
        values.extend((0..12).map(|length| vec![1; length]));
        // Numbers of each length, with an end that needs its byte, one that does not, and one too large for 64 bits.
        for start in [0x80, 0x81, 0xff] {
            for length in 0..12 {
                values.extend([0, 1, 2, 0x7f].map(|end| [&vec![start; length][..], &[end]].concat()));
            }
        }
        values.extend(
            [
                &b"\x01a"[..],
                b"\x01\xff",
                b"\x02\xc3\xa4",
                b"\x02a",
                b"\x81\x00a",
            ]
            .map(<[u8]>::to_vec),
        );
        for tag in 0..=u8::MAX {
            for value in &values {
                assert_read_as_by_prost(&[&[8, 1, tag], &value[..]].concat()).unwrap();
            }
        }
    }
}
