//! What the client reads from its own disk, and from whoever calls it.

use counterfoil_client::{BearerToken, Server, fuzzing};
use counterfoil_note::UnixMillis;

use super::{event::check_event, text};
use crate::{Target, sample};

pub(super) const OUTBOX: Target = Target {
    name: "outbox",
    about: "the files of an outbox",
    seeds: outbox_seeds,
    words: &["counterfoil outbox 1\n", "queued ", "blake3 ", "\n"],
    max_bytes: 16 << 10,
    run: outbox,
};

fn outbox_seeds() -> Vec<Vec<u8>> {
    let record = |(number, payload)| {
        fuzzing::encode_outbox_record(
            &sample::event(number, payload),
            UnixMillis::new(1_795_300_000_000),
        )
    };
    [(0, ""), (1, "{}"), (2, "a longer payload that is no JSON")]
        .map(record)
        .to_vec()
}

/// A record has one spelling, and the event in it can be recorded. No mutation finds the hash of what it changed, so that is put in
/// as well.
fn outbox(input: &[u8]) {
    check_record(input);
    if let Some(sealed) = sealed(input) {
        check_record(&sealed);
    }
}

/// The same lines, with the hash that fits them.
fn sealed(input: &[u8]) -> Option<Vec<u8>> {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let (magic, queued, _hash, body) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let queued = [queued, b"\n"].concat();
    let hash = blake3::Hasher::new().update(&queued).update(body).finalize();
    let hash = format!("blake3 {hash}\n");
    Some([magic, b"\n", &queued, hash.as_bytes(), body].concat())
}

fn check_record(input: &[u8]) {
    let Some((event, queued)) = fuzzing::decode_outbox_record(input) else {
        return;
    };
    check_event(&event);
    assert_eq!(fuzzing::encode_outbox_record(&event, queued), input);
}

pub(super) const ARGUMENTS: Target = Target {
    name: "arguments",
    about: "addresses of servers, and bearer tokens",
    seeds: arguments_seeds,
    words: &[
        "http://",
        "https://",
        "[::1]",
        ":7480",
        "@",
        "?",
        "#",
        "localhost",
    ],
    max_bytes: 1 << 10,
    run: arguments,
};

fn arguments_seeds() -> Vec<Vec<u8>> {
    [
        "http://127.0.0.1:7480",
        "https://log.example",
        "https://[::1]:443/",
        "http://user@host",
        "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// An address reads back as it is shown, and a token is never shown.
fn arguments(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Ok(server) = text.parse::<Server>() {
        assert_eq!(server.to_string().parse(), Ok(server));
        assert!(!text.contains(['@', '?', '#']));
    }
    if let Ok(token) = text.parse::<BearerToken>() {
        assert_eq!(format!("{token:?}"), "BearerToken(..)");
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_read_under_its_own_hash() {
        for mut record in outbox_seeds() {
            assert_eq!(sealed(&record).as_ref(), Some(&record));
            // A digit of the time.
            record[32] = b'4';
            assert!(fuzzing::decode_outbox_record(&record).is_none());
            assert!(sealed(&record).is_some_and(|it| fuzzing::decode_outbox_record(&it).is_some()));
        }
    }
}
