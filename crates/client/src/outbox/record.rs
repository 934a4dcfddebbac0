//! The file of one event: three lines of text, then the event as the API encodes it.
//!
//! ```text
//! counterfoil outbox 1
//! queued 1795300000000
//! blake3 <64 hex digits: the hash of the line before and of all that follows this line>
//! <counterfoil.v1.Event>
//! ```

use counterfoil_event::{
    Event,
    limits::{MAX_ATTRIBUTES_BYTES, MAX_DATA_BYTES},
};
use counterfoil_note::UnixMillis;
use counterfoil_proto::v1;
use prost::Message;

const MAGIC: &[u8] = b"counterfoil outbox 1\n";
/// Room for the lines of text, and for the numbers and lengths of the event's fields.
const MAX_OVERHEAD_BYTES: usize = 4 << 10;
/// Longest file. Longer ones are damaged, and are not read.
pub(super) const MAX_RECORD_BYTES: usize = MAX_DATA_BYTES + MAX_ATTRIBUTES_BYTES + MAX_OVERHEAD_BYTES;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the file is longer than any event")]
    TooLong,
    #[error("the file does not begin as an event of an outbox does")]
    Header,
    #[error("the file's content does not have the hash that it states")]
    Hash,
    #[error("the file holds no valid event")]
    Event,
}

pub(crate) fn encode(event: &Event, queued: UnixMillis) -> Vec<u8> {
    let message = v1::Event::from(event);
    let queued = format!("queued {}\n", queued.get());
    let body = message.encode_to_vec();
    let hash = hash(queued.as_bytes(), &body).to_hex();
    [
        MAGIC,
        queued.as_bytes(),
        format!("blake3 {hash}\n").as_bytes(),
        &body,
    ]
    .concat()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(Event, UnixMillis), Damage> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Damage::TooLong);
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Header)?;
    let (queued_line, rest) = line(rest)?;
    let queued = field(queued_line, b"queued ")?;
    let millis: u64 = queued.parse().map_err(|_| Damage::Header)?;
    let (hash_line, body) = line(rest)?;
    let stated = blake3::Hash::from_hex(field(hash_line, b"blake3 ")?).map_err(|_| Damage::Header)?;
    if hash(queued_line, body) != stated {
        return Err(Damage::Hash);
    }
    let message = v1::Event::decode(body).map_err(|_| Damage::Event)?;
    let event = Event::try_from(message).map_err(|_| Damage::Event)?;
    let queued = UnixMillis::new(millis);
    // One file for one event: no second spelling of a number, no field that is unknown here.
    if encode(&event, queued) != bytes {
        return Err(Damage::Event);
    }
    Ok((event, queued))
}

/// A line with its end, and what comes after it.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    let end = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or(Damage::Header)?;
    Ok(bytes.split_at(end + 1))
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Result<&'a str, Damage> {
    let value = line.strip_prefix(name).and_then(|line| line.strip_suffix(b"\n"));
    value
        .and_then(|value| str::from_utf8(value).ok())
        .ok_or(Damage::Header)
}

fn hash(queued_line: &[u8], body: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(queued_line).update(body).finalize()
}

#[cfg(test)]
pub(super) mod tests {
    use counterfoil_event::EventParts;

    use super::*;

    pub(in crate::outbox) fn event(id: &str) -> Event {
        Event::try_from(EventParts {
            id: id.to_owned(),
            source: "https://ci.test.example/runners/7".to_owned(),
            event_type: "build.finished".to_owned(),
            time: "2026-11-22T09:30:00Z".to_owned(),
            data: id.as_bytes().to_vec().into(),
            extensions: vec![("attempt".to_owned(), "1".to_owned())],
            ..EventParts::default()
        })
        .unwrap()
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let now = UnixMillis::new(1_795_300_000_000);
        let bytes = encode(&event("a"), now);
        assert_eq!(decode(&bytes), Ok((event("a"), now)));
        assert!(bytes.starts_with(b"counterfoil outbox 1\nqueued 1795300000000\nblake3 "));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let bytes = encode(&event("a"), UnixMillis::new(7));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut after {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at} was changed");
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), Err(Damage::Hash));
        assert_eq!(decode(&vec![0; MAX_RECORD_BYTES + 1]), Err(Damage::TooLong));
    }

    #[test]
    fn one_event_has_one_spelling() {
        let body = v1::Event::from(&event("a")).encode_to_vec();
        let file = |queued: &str, body: &[u8]| {
            let hash = hash(queued.as_bytes(), body).to_hex();
            [
                MAGIC,
                queued.as_bytes(),
                format!("blake3 {hash}\n").as_bytes(),
                body,
            ]
            .concat()
        };
        assert!(decode(&file("queued 7\n", &body)).is_ok());
        assert_eq!(decode(&file("queued 07\n", &body)), Err(Damage::Event));
        assert_eq!(decode(&file("queued +7\n", &body)), Err(Damage::Event));
        // Field 15, which no event has.
        let unknown = [&body[..], &[0x78, 1]].concat();
        assert_eq!(decode(&file("queued 7\n", &unknown)), Err(Damage::Event));
        assert_eq!(decode(&file("queued 7\n", b"")), Err(Damage::Event));
    }
}
