//! Messages to and from bytes, of memory in proportion to their bytes.
//!
//! An event, a result or an extension of nothing takes two bytes of a message, and a hundred times that once it is decoded: 32 MiB
//! of them would become gigabytes. They are counted before anything is made of them.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// A message has at most so many parts: messages within it, and repeated strings and byte strings, at whatever depth. A batch of
/// 4,096 events with 64 extensions each has about as many, and so has an answer with proofs of 63 hashes.
const MAX_PARTS: usize = 4_096 * (2 + 64);

/// The same for a message that is no list of others. An event has at most 64 extensions, a receipt 63 hashes.
const MAX_PARTS_OF_ONE: usize = 2 + 64;

/// Room that a message begins with: enough for an event with a payload of 1 KiB, or its receipt. A call has two such buffers at each
/// end; with tonic's 8 KiB a small one takes a twentieth more time.
const BUFFER_BYTES: usize = 2 * 1024;
/// A stream's messages are sent on once there are so many bytes of them: tonic's own figure.
const YIELD_BYTES: usize = 32 * 1024;

/// The fields of a message that are parts, by number, and the parts of each.
pub struct Parts(&'static [(u32, Self)]);

/// A message whose parts are known.
pub trait BoundedMessage: prost::Message + Default {
    /// What of it counts.
    const PARTS: Parts;
    /// How many it may have.
    const MAX_PARTS: usize;
}

include!(concat!(env!("OUT_DIR"), "/parts.rs"));

impl Parts {
    /// Counts the parts of a message, up to one more than any may have. `None` if it is malformed.
    pub(crate) fn count(&self, mut message: &[u8], counted: &mut usize) -> Option<()> {
        while !message.is_empty() && *counted <= MAX_PARTS {
            let (number, wire_type) = decode_key(&mut message).ok()?;
            let known = self.0.iter().find(|(part, _)| *part == number);
            if let (Some((_, parts)), WireType::LengthDelimited) = (known, wire_type) {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let part = message.split_off(..length)?;
                *counted += 1;
                // What has no parts may be no message at all.
                if !parts.0.is_empty() {
                    parts.count(part, counted)?;
                }
            } else {
                skip_field(wire_type, number, &mut message, DecodeContext::default()).ok()?;
            }
        }
        Some(())
    }
}

/// Protocol Buffers as tonic has them, but with buffers of the messages' size, and without messages of too many parts.
pub(crate) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: BoundedMessage + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Encodes messages into room of their size. A buffer that grows under a batch copies it several times.
pub(crate) struct ExactEncoder<T>(PhantomData<T>);

impl<T: prost::Message> Encoder for ExactEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).expect("there is room for it");
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

/// Decodes messages with no more parts than they may have.
pub(crate) struct BoundedDecoder<U>(PhantomData<U>);

impl<U: BoundedMessage> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(buffer.copy_to_bytes(buffer.remaining())).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

pub(crate) fn decode<U: BoundedMessage>(message: Bytes) -> Result<U, Status> {
    let mut parts = 0;
    let wellformed = U::PARTS.count(&message, &mut parts);
    if parts > U::MAX_PARTS {
        // As tonic refuses a message of too many bytes.
        return Err(Status::out_of_range(format!(
            "such a message has at most {} parts, such as events and their extensions; send fewer in each",
            U::MAX_PARTS
        )));
    }
    // The decoder would find out too, but only after it has gone beyond the end of a part.
    wellformed.ok_or_else(|| Status::internal("the message is malformed"))?;
    // As the specification of gRPC has it.
    U::decode(message).map_err(|problem| Status::internal(problem.to_string()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::v1;

    fn batch(events: usize, extensions: usize) -> v1::SubmitBatchRequest {
        let event = v1::Event {
            extensions: vec![v1::Extension::default(); extensions],
            ..v1::Event::default()
        };
        v1::SubmitBatchRequest {
            log: String::new(),
            events: vec![event; events],
        }
    }

    fn parts<U: BoundedMessage>(message: &U) -> usize {
        let mut parts = 0;
        U::PARTS.count(&message.encode_to_vec(), &mut parts).unwrap();
        parts
    }

    #[test]
    fn parts_are_counted_at_every_depth() {
        assert_eq!(parts(&batch(3, 5)), 3 * 6);
        let accepted = v1::Accepted {
            inclusion_proof: vec![Bytes::from_static(&[7; 32]); 20],
            ..v1::Accepted::default()
        };
        let result = v1::SubmitResult {
            sequence: 7,
            outcome: Some(v1::submit_result::Outcome::Accepted(accepted)),
        };
        let answer = v1::SubmitBatchResponse {
            tree_heads: vec![v1::TreeHead::default(); 2],
            results: vec![result; 10],
        };
        assert_eq!(parts(&answer), 2 + 10 * (1 + 1 + 20));
    }

    #[test]
    fn what_may_be_sent_is_decoded_and_more_is_not() {
        for message in [batch(4_096, 64), batch(MAX_PARTS, 0), batch(0, 0)] {
            let decoded: v1::SubmitBatchRequest = decode(message.encode_to_vec().into()).unwrap();
            assert_eq!(decoded, message);
        }
        for message in [batch(MAX_PARTS + 1, 0), batch(1, MAX_PARTS), batch(4_097, 66)] {
            let refused = decode::<v1::SubmitBatchRequest>(message.encode_to_vec().into()).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
        }
    }

    /// Up to there it is decoded, and no further.
    #[test]
    fn what_comes_before_the_damage_counts() {
        let decoded = |parts: &[&[u8]]| decode::<v1::SubmitBatchRequest>(parts.concat().into());
        let many = batch(MAX_PARTS + 1, 0).encode_to_vec();
        let damage = &[7][..];
        assert_eq!(
            decoded(&[&many, damage]).unwrap_err().code(),
            tonic::Code::OutOfRange
        );
        assert_eq!(
            decoded(&[damage, &many]).unwrap_err().code(),
            tonic::Code::Internal
        );

        let whole = batch(3, 2).encode_to_vec();
        for length in 0..whole.len() {
            let cut = &whole[..length];
            assert_eq!(
                decoded(&[cut]).ok(),
                v1::SubmitBatchRequest::decode(cut).ok(),
                "cut at {length}"
            );
        }
    }

    /// What takes one event, however it comes, takes no more than that.
    #[test]
    fn a_message_of_one_event_has_the_parts_of_one() {
        let request = |extensions| {
            let mut events = batch(1, extensions).events;
            let request = v1::SubmitStreamRequest {
                event: events.pop(),
                ..v1::SubmitStreamRequest::default()
            };
            decode::<v1::SubmitStreamRequest>(request.encode_to_vec().into())
        };
        assert!(
            request(65).is_ok(),
            "one more than an event may have is for others to refuse"
        );
        assert_eq!(request(66).unwrap_err().code(), tonic::Code::OutOfRange);
    }

    /// A part that says that it is longer than the whole.
    #[test]
    fn what_runs_over_its_end_is_not_decoded() {
        let hashes = [0x22, 0].repeat(1_000);
        let accepted = [&[0x12, 0xd0, 0x0f][..], &hashes].concat();
        let answer = [&[0x12, 6][..], &accepted].concat();
        let refused = decode::<v1::SubmitBatchResponse>(answer.into()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Internal);
        // The decoder's own words would say that it went there.
        assert_eq!(refused.message(), "the message is malformed");
    }

    /// Fields that nobody knows, groups among them, hide nothing behind them.
    #[test]
    fn parts_behind_unknown_fields_count() {
        let unknown = [
            0xfb, 0x07, 0x08, 0x01, 0xfc, 0x07, 0xfa, 0x07, 0x02, 1, 2, 0xf8, 0x07, 0xff, 0x01,
        ];
        let many = batch(MAX_PARTS + 1, 0).encode_to_vec();
        let message = [&unknown[..], &many].concat();
        let refused = decode::<v1::SubmitBatchRequest>(message.into()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        let message = [&unknown[..], &batch(2, 1).encode_to_vec()].concat();
        assert_eq!(
            decode::<v1::SubmitBatchRequest>(message.into()).unwrap(),
            batch(2, 1)
        );
    }
}
