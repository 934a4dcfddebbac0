//! The encoding of entries and attributes: as the .proto file says, one encoding each, and commitments that hold.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use counterfoil_event::{
    Annotations, AnnotationsError, Attributes, AttributesError, Authentication, CommitmentError, Entry,
    EntryError, Event, EventParts, Problem, Salt, Submitter, UnstampedEntry, limits::*,
};
use counterfoil_merkle::Suite;
use proptest::prelude::*;
use protox::prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value, prost::Message};

const SUITES: [Suite; 2] = [Suite::Blake3, Suite::Sha256];

fn event() -> Event {
    Event::try_from(EventParts {
        id: "run-42".into(),
        source: "https://ci.example/acme/widgets".into(),
        event_type: "ci.run.finished".into(),
        subject: "widgets".into(),
        time: "2026-11-22T09:30:00Z".into(),
        data_content_type: "application/json".into(),
        data: r#"{"outcome":"success"}"#.into(),
        extensions: vec![("run".into(), "42".into()), ("attempt".into(), String::new())],
    })
    .unwrap()
}

fn submitter(source_id: &str) -> Submitter {
    Submitter::new(
        source_id.parse().unwrap(),
        Authentication::Oidc,
        "e".repeat(MAX_EVIDENCE_BYTES),
    )
    .unwrap()
}

fn time(unix_ns: u64) -> NonZeroU64 {
    NonZeroU64::new(unix_ns).unwrap()
}

fn leaf(suite: Suite, event: &Event, salt: &Salt, unix_ns: u64) -> Vec<u8> {
    let unstamped = UnstampedEntry::new(suite, event, salt, &Submitter::anonymous(), &[], "default").unwrap();
    unstamped.stamp(time(unix_ns))
}

/// A message type as the .proto file has it, compiled by another library.
fn descriptor(message: &str) -> MessageDescriptor {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let files = protox::compile(["counterfoil/v1/entry.proto"], [root]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name(&format!("counterfoil.v1.{message}"))
        .unwrap()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn bytes(message: &DynamicMessage, field: &str) -> Vec<u8> {
    message
        .get_field_by_name(field)
        .unwrap()
        .as_bytes()
        .unwrap()
        .to_vec()
}

fn number(message: &DynamicMessage, field: &str) -> u64 {
    message.get_field_by_name(field).unwrap().as_u64().unwrap()
}

fn assert_entry_is_as_the_proto_file_says(entry: &MessageDescriptor, leaf: &[u8]) {
    let message = DynamicMessage::decode(entry.clone(), leaf).unwrap();
    assert_eq!(message.unknown_fields().count(), 0);
    assert_eq!(message.encode_to_vec(), leaf);

    let ours = Entry::decode(leaf).unwrap();
    let version = message
        .get_field_by_name("format_version")
        .unwrap()
        .as_u32()
        .unwrap();
    assert_eq!((version, ours.format_version()), (1, 1));
    assert_eq!(number(&message, "time_unix_ns"), ours.time_unix_ns().get());
    assert_eq!(text(&message, "source_id"), ours.source_id());
    assert_eq!(text(&message, "event_type"), ours.event_type());
    assert_eq!(text(&message, "media_type"), ours.media_type());
    assert_eq!(number(&message, "payload_length"), ours.payload_length());
    assert_eq!(
        bytes(&message, "payload_commitment"),
        ours.payload_commitment().as_bytes()
    );
    assert_eq!(
        bytes(&message, "attributes_commitment"),
        ours.attributes_commitment().as_bytes()
    );
    let authentication = message
        .get_field_by_name("authentication")
        .unwrap()
        .as_enum_number()
        .unwrap();
    let name = entry
        .parent_pool()
        .get_enum_by_name("counterfoil.v1.Authentication")
        .unwrap();
    let name = name.get_value(authentication).unwrap().name().to_lowercase();
    assert_eq!(name, format!("authentication_{}", ours.authentication().as_str()));
    assert_eq!(text(&message, "retention_class"), ours.retention_class());
    assert_eq!(ours.encode(), leaf);
}

fn assert_attributes_are_as_the_proto_file_says(attributes: &MessageDescriptor, ours: &Attributes) {
    let encoded = ours.encode();
    let message = DynamicMessage::decode(attributes.clone(), &encoded[..]).unwrap();
    assert_eq!(message.unknown_fields().count(), 0);
    assert_eq!(message.encode_to_vec(), encoded);
    assert_eq!(text(&message, "id"), ours.id);
    assert_eq!(text(&message, "source"), ours.source);
    assert_eq!(text(&message, "type"), ours.event_type);
    assert_eq!(text(&message, "subject"), ours.subject);
    assert_eq!(text(&message, "time"), ours.time);
    assert_eq!(text(&message, "data_content_type"), ours.data_content_type);
    let extensions = message.get_field_by_name("extensions").unwrap();
    let extensions: Vec<_> = extensions
        .as_list()
        .unwrap()
        .iter()
        .map(Value::as_message)
        .map(|extension| {
            (
                text(extension.unwrap(), "name"),
                text(extension.unwrap(), "value"),
            )
        })
        .collect();
    assert_eq!(
        extensions,
        ours.extensions.clone().into_iter().collect::<Vec<_>>()
    );
    assert_eq!(Attributes::decode_canonical(&encoded).as_ref(), Ok(ours));
}

#[test]
fn the_proto_file_has_no_fields_that_are_not_here() {
    assert_eq!(descriptor("Entry").fields().count(), 11);
    assert_eq!(descriptor("Attributes").fields().count(), 7);
    assert_eq!(descriptor("Annotations").fields().count(), 3);
    assert_eq!(descriptor("Extension").fields().count(), 2);
    let authentication = descriptor("Entry")
        .parent_pool()
        .get_enum_by_name("counterfoil.v1.Authentication");
    assert_eq!(authentication.unwrap().values().count(), 8);
}

prop_compose! {
    fn any_event()(
        id in "\\PC{1,20}",
        source in "\\PC{1,40}",
        event_type in "[a-z]{1,5}\\.[!-~]{1,10}",
        subject in "\\PC{0,20}",
        time in proptest::sample::select(vec!["", "2026-11-22T09:30:00.5+01:00"]),
        data_content_type in proptest::sample::select(vec!["", "application/json", "text/plain; charset=utf-8"]),
        data in proptest::collection::vec(any::<u8>(), 0..300),
        extensions in proptest::collection::btree_map("x[a-z0-9]{0,9}", "\\PC{0,20}", 0..5),
    ) -> Event {
        Event::try_from(EventParts {
            id,
            source: format!("s{source}"),
            event_type: format!("x{event_type}"),
            subject,
            time: time.into(),
            data_content_type: data_content_type.into(),
            data: data.into(),
            extensions: extensions.into_iter().rev().collect(),
        })
        .unwrap()
    }
}

prop_compose! {
    fn any_salt()(bytes in any::<[u8; 32]>()) -> Salt { Salt::from(bytes) }
}

#[test]
fn another_library_reads_the_same_from_our_bytes_and_writes_the_same() {
    let (entry, attributes) = (descriptor("Entry"), descriptor("Attributes"));
    proptest!(|(event in any_event(), salt in any_salt(), unix_ns in 1..=u64::MAX)| {
        for suite in SUITES {
            assert_entry_is_as_the_proto_file_says(&entry, &leaf(suite, &event, &salt, unix_ns));
        }
        assert_attributes_are_as_the_proto_file_says(&attributes, event.attributes());
    });
}

#[test]
fn the_largest_event_has_attributes_and_an_entry_within_their_limits() {
    let event = Event::try_from(EventParts {
        id: "é".repeat(MAX_ID_BYTES / 2),
        source: "s".repeat(MAX_SOURCE_BYTES),
        event_type: "t".repeat(MAX_TYPE_BYTES),
        subject: "s".repeat(MAX_SUBJECT_BYTES),
        time: "2026-11-22T09:30:00.123456789+01:00".into(),
        data_content_type: format!("a/{}", "b".repeat(MAX_MEDIA_TYPE_BYTES - 2)),
        data: vec![0; MAX_DATA_BYTES].into(),
        extensions: (0..MAX_EXTENSIONS)
            .map(|n| {
                (
                    format!("{n:0>MAX_EXTENSION_NAME_BYTES$}"),
                    "v".repeat(MAX_EXTENSION_VALUE_BYTES),
                )
            })
            .collect(),
    })
    .unwrap();
    assert!(event.attributes().encode().len() > MAX_EXTENSIONS * MAX_EXTENSION_VALUE_BYTES);
    assert_attributes_are_as_the_proto_file_says(&descriptor("Attributes"), event.attributes());

    let event = event
        .with_normal_form(&"a".repeat(MAX_ADAPTER_BYTES), vec![b'n'; MAX_NORMALISED_BYTES])
        .unwrap();
    let (salt, label) = (Salt::from([1; 32]), "l".repeat(MAX_LABEL_BYTES));
    let annotations = Annotations::new(&event, &submitter(&label)).encode();
    assert_annotations_are_as_the_proto_file_says(&annotations);
    let unstamped = UnstampedEntry::new(
        Suite::Blake3,
        &event,
        &salt,
        &submitter(&label),
        &annotations,
        &label,
    )
    .unwrap();
    let leaf = unstamped.stamp(NonZeroU64::MAX);
    assert_entry_is_as_the_proto_file_says(&descriptor("Entry"), &leaf);
}

#[test]
fn bytes_past_the_limits_are_refused_unread() {
    let too_long = vec![0xff; MAX_ENTRY_BYTES + 1];
    assert_eq!(
        Entry::decode(&too_long),
        Err(EntryError::TooLong {
            actual_bytes: MAX_ENTRY_BYTES + 1
        })
    );
    assert_eq!(Entry::decode(&too_long[1..]), Err(EntryError::Malformed));

    let too_long = vec![0xff; MAX_ATTRIBUTES_BYTES + 1];
    let error = AttributesError::TooLong {
        actual_bytes: MAX_ATTRIBUTES_BYTES + 1,
    };
    assert_eq!(Attributes::decode_canonical(&too_long), Err(error));
    assert_eq!(
        Attributes::decode_canonical(&too_long[1..]),
        Err(AttributesError::Malformed)
    );
}

#[test]
fn labels_are_short_and_plain() {
    let new = |retention_class: &str| {
        let salt = Salt::from([0; 32]);
        UnstampedEntry::new(
            Suite::Blake3,
            &event(),
            &salt,
            &Submitter::anonymous(),
            &[],
            retention_class,
        )
    };
    let longest = "a".repeat(MAX_LABEL_BYTES);
    assert!(new(&longest).is_ok());
    assert!(new("-a-z_0.9").is_ok());
    let problems = [
        (String::new(), Problem::Missing),
        (
            format!("{longest}a"),
            Problem::TooLong {
                limit_bytes: 64,
                actual_bytes: 65,
            },
        ),
        ("aB".to_owned(), Problem::ForbiddenCharacter { at_byte: 1 }),
        ("a b".to_owned(), Problem::ForbiddenCharacter { at_byte: 1 }),
    ];
    for (label, problem) in problems {
        assert_eq!(
            new(&label),
            Err(EntryError::Field {
                field: "retention_class",
                problem
            })
        );
    }
}

fn assert_annotations_are_as_the_proto_file_says(encoded: &[u8]) {
    let descriptor = descriptor("Annotations");
    let message = DynamicMessage::decode(descriptor, encoded).unwrap();
    assert_eq!(message.unknown_fields().count(), 0);
    assert_eq!(message.encode_to_vec(), encoded);
    let ours = Annotations::decode_canonical(encoded).unwrap();
    assert_eq!(text(&message, "adapter"), ours.adapter);
    assert_eq!(bytes(&message, "normalised"), ours.normalised);
    assert_eq!(text(&message, "evidence"), ours.evidence);
}

#[test]
fn annotations_have_one_encoding_and_a_limit() {
    let least = Annotations::new(&event(), &Submitter::anonymous());
    assert_eq!(least.encode(), b"", "a log that adds nothing says nothing");
    let refused = |bytes: &[u8]| Annotations::decode_canonical(bytes).unwrap_err();
    assert_eq!(refused(b"\x0a\x00"), AnnotationsError::NotCanonical);
    assert_eq!(refused(b"\x1a\x01e\x0a\x01a"), AnnotationsError::NotCanonical);
    assert_eq!(refused(b"\x22\x01x"), AnnotationsError::NotCanonical);
    assert_eq!(refused(b"\x0a\x01\xff"), AnnotationsError::Malformed);
    let too_long = vec![0xff; MAX_ANNOTATIONS_BYTES + 1];
    let actual_bytes = too_long.len();
    assert_eq!(refused(&too_long), AnnotationsError::TooLong { actual_bytes });
    assert_eq!(refused(&too_long[1..]), AnnotationsError::Malformed);

    let with = |adapter: &str, bytes| event().with_normal_form(adapter, vec![b'{'; bytes]);
    assert!(with("github/1", MAX_NORMALISED_BYTES).is_ok());
    for (adapter, bytes) in [
        ("github/1", MAX_NORMALISED_BYTES + 1),
        ("", 1),
        (&*"a".repeat(MAX_ADAPTER_BYTES + 1), 1),
    ] {
        assert!(with(adapter, bytes).is_err(), "{adapter:?} {bytes}");
    }
}

proptest! {
    /// The time lies where it is patched, and nothing else of the entry depends on it.
    #[test]
    fn stamping_is_encoding_with_that_time(event in any_event(), salt in any_salt(), unix_ns in 1..=u64::MAX) {
        let leaf_at = |unix_ns| leaf(Suite::Blake3, &event, &salt, unix_ns);
        for unix_ns in [1, unix_ns, u64::MAX] {
            let entry = Entry::decode(&leaf_at(unix_ns)).unwrap();
            prop_assert_eq!(entry.time_unix_ns().get(), unix_ns);
            prop_assert_eq!(entry.encode(), leaf_at(unix_ns));
        }
        prop_assert_eq!(&leaf_at(1)[11..], &leaf_at(unix_ns)[11..]);
    }
}

/// The fields of a message that holds no submessages: each one's bytes, with its tag.
fn fields(encoded: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = encoded;
    let mut fields = Vec::new();
    while let Some((&tag, after)) = rest.split_first() {
        let value_bytes = match tag & 7 {
            0 => 1 + after.iter().position(|byte| byte & 0x80 == 0).unwrap(),
            1 => 8,
            2 => 1 + usize::from(after[0]),
            other => panic!("wire type {other}"),
        };
        let (field, next) = rest.split_at(1 + value_bytes);
        fields.push(field.to_vec());
        rest = next;
    }
    fields
}

/// Encodings other than the one, each with what it does.
fn other_encodings(encoded: &[u8]) -> Vec<(String, Vec<u8>)> {
    let parts = fields(encoded);
    let mut others = Vec::new();
    for place in 0..=parts.len() {
        let (before, after) = (parts[..place].concat(), parts[place..].concat());
        for unknown in [
            &b"\x78\x01"[..],
            b"\x7a\x00",
            b"\x79AAAAAAAA",
            b"\x7dAAAA",
            b"\x7b\x7c",
            b"\x78\x00",
        ] {
            others.push((
                format!("{unknown:?} before field {place}"),
                [&before, unknown, &after].concat(),
            ));
        }
    }
    for place in 0..parts.len() {
        let mut repeated = parts.clone();
        repeated.insert(place, parts[place].clone());
        others.push((format!("field {place} twice"), repeated.concat()));

        let mut longer_tag = parts.clone();
        longer_tag[place][0] |= 0x80;
        longer_tag[place].insert(1, 0);
        others.push((format!("tag {place} in two bytes"), longer_tag.concat()));

        if matches!(parts[place][0] & 7, 0 | 2) {
            let mut longer = parts.clone();
            let end = 1 + longer[place][1..]
                .iter()
                .position(|byte| byte & 0x80 == 0)
                .unwrap();
            longer[place][end] |= 0x80;
            longer[place].insert(end + 1, 0);
            others.push((format!("number {place} in a byte too many"), longer.concat()));
        }
        for other in place + 1..parts.len() {
            let mut swapped = parts.clone();
            swapped.swap(place, other);
            if swapped[place] != parts[place] {
                others.push((format!("fields {place} and {other} swapped"), swapped.concat()));
            }
        }
    }
    others
}

#[test]
fn an_entry_has_one_encoding() {
    let leaf = leaf(
        Suite::Blake3,
        &event(),
        &Salt::from([1; 32]),
        1_795_340_000_000_000_000,
    );
    let others = other_encodings(&leaf);
    assert!(others.len() > 100);
    // Lest the mutations be refused for being gibberish: most are well-formed for a lenient reader.
    let well_formed = others
        .iter()
        .filter(|(_, bytes)| DynamicMessage::decode(descriptor("Entry"), &bytes[..]).is_ok());
    assert_eq!(well_formed.count(), others.len());
    for (what, bytes) in others {
        assert_eq!(Entry::decode(&bytes), Err(EntryError::NotCanonical), "{what}");
    }
    for end in 0..leaf.len() {
        assert!(Entry::decode(&leaf[..end]).is_err(), "cut at {end}");
    }
    let needless = [&leaf[..2], &[0x30, 0], &leaf[2..]].concat();
    assert_eq!(Entry::decode(&needless), Err(EntryError::NotCanonical));
}

#[test]
fn attributes_have_one_encoding() {
    let attributes = Event::try_from(EventParts {
        id: "1".into(),
        source: "s".into(),
        event_type: "t".into(),
        extensions: vec![("a".into(), "1".into()), ("b".into(), "2".into())],
        ..EventParts::default()
    })
    .unwrap()
    .attributes()
    .encode();
    for (what, bytes) in other_encodings(&attributes) {
        assert_eq!(
            Attributes::decode_canonical(&bytes),
            Err(AttributesError::NotCanonical),
            "{what}"
        );
    }
    // An extension with its fields swapped, one with an empty value spelt out, one with an unknown field.
    for extension in [
        &b"\x3a\x06\x12\x011\x0a\x01c"[..],
        b"\x3a\x05\x0a\x01c\x12\x00",
        b"\x3a\x05\x0a\x01c\x18\x01",
    ] {
        let bytes = [&attributes, extension].concat();
        assert_eq!(
            Attributes::decode_canonical(&bytes),
            Err(AttributesError::NotCanonical)
        );
    }
    let sound = [&attributes[..], b"\x3a\x03\x0a\x01c"].concat();
    assert_eq!(Attributes::decode_canonical(&sound).unwrap().extensions["c"], "");
}

#[test]
fn no_flipped_bit_of_an_entry_goes_unnoticed() {
    let leaf = leaf(
        Suite::Sha256,
        &event(),
        &Salt::from([1; 32]),
        1_795_340_000_000_000_000,
    );
    let entry = Entry::decode(&leaf).unwrap();
    for bit in 0..leaf.len() * 8 {
        let mut bytes = leaf.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Entry::decode(&bytes) {
            assert_ne!(other, entry, "bit {bit}");
            assert_eq!(other.encode(), bytes, "bit {bit}");
        }
    }
}

/// The event's entry with one field replaced by other bytes, or left out.
fn with_field(place: usize, field: &[u8]) -> Vec<u8> {
    let leaf = leaf(Suite::Blake3, &event(), &Salt::from([1; 32]), 1);
    let mut parts = fields(&leaf);
    assert_eq!(parts.len(), 10);
    parts[place] = field.to_vec();
    parts.concat()
}

#[test]
fn what_the_format_does_not_allow_is_told_by_field() {
    let field = |field, problem| EntryError::Field { field, problem };
    let forbidden = |at_byte| Problem::ForbiddenCharacter { at_byte };
    let short = |field| EntryError::CommitmentLength {
        field,
        actual_bytes: 31,
    };
    let commitment = |tag: u8, bytes: u8| [&[tag, bytes][..], &vec![7; bytes.into()]].concat();
    let cases = [
        (with_field(0, b""), EntryError::UnknownVersion { found: 0 }),
        (
            with_field(0, b"\x08\x02"),
            EntryError::UnknownVersion { found: 2 },
        ),
        (with_field(1, b""), field("time_unix_ns", Problem::Missing)),
        (with_field(1, b"\x11\0\0\0\0\0\0\0\0"), EntryError::NotCanonical),
        (with_field(2, b""), field("source_id", Problem::Missing)),
        (with_field(2, b"\x1a\x02a\n"), field("source_id", forbidden(1))),
        (with_field(3, b""), field("event_type", Problem::Missing)),
        (with_field(3, b"\x22\x02a "), field("event_type", forbidden(1))),
        (with_field(4, b""), field("media_type", Problem::NotAMediaType)),
        (with_field(4, b"\x2a\x02a\x1b"), field("media_type", forbidden(1))),
        (
            with_field(6, b""),
            EntryError::CommitmentLength {
                field: "payload_commitment",
                actual_bytes: 0,
            },
        ),
        (with_field(6, &commitment(0x3a, 31)), short("payload_commitment")),
        (
            with_field(7, &commitment(0x42, 31)),
            short("attributes_commitment"),
        ),
        (
            with_field(7, &commitment(0x42, 33)),
            EntryError::CommitmentLength {
                field: "attributes_commitment",
                actual_bytes: 33,
            },
        ),
        (
            with_field(8, b""),
            EntryError::UnknownAuthentication { number: 0 },
        ),
        (
            with_field(8, b"\x48\x08"),
            EntryError::UnknownAuthentication { number: 8 },
        ),
        (with_field(9, b""), field("retention_class", Problem::Missing)),
        (
            [with_field(9, b"\x52\x01a"), commitment(0x5a, 31)].concat(),
            short("annotations_commitment"),
        ),
        (
            [with_field(9, b"\x52\x01a"), b"\x5a\x00".to_vec()].concat(),
            EntryError::NotCanonical,
        ),
        (with_field(2, b"\x1a\x01\xff"), EntryError::Malformed),
    ];
    for (bytes, error) in cases {
        assert_eq!(Entry::decode(&bytes), Err(error), "{bytes:?}");
    }
    let empty_payload = Entry::decode(&with_field(5, b"")).unwrap();
    assert_eq!(empty_payload.payload_length(), 0);
}

#[test]
fn an_entry_commits_to_its_event_and_no_other() {
    let salt = Salt::from([1; 32]);
    let parts = || {
        let event = event();
        EventParts {
            id: event.id().into(),
            source: event.source().into(),
            event_type: event.event_type().into(),
            subject: event.subject().unwrap().into(),
            time: event.time().unwrap().into(),
            data_content_type: event.data_content_type().into(),
            data: event.data().clone(),
            extensions: event.extensions().clone().into_iter().collect(),
        }
    };
    let length = CommitmentError::PayloadLength {
        stated_bytes: 21,
        actual_bytes: 1,
    };
    let others = [
        (
            EventParts {
                id: "run-43".into(),
                ..parts()
            },
            CommitmentError::Attributes,
        ),
        (
            EventParts {
                source: "other".into(),
                ..parts()
            },
            CommitmentError::Attributes,
        ),
        (
            EventParts {
                event_type: "ci.run.started".into(),
                ..parts()
            },
            CommitmentError::EventType,
        ),
        (
            EventParts {
                subject: String::new(),
                ..parts()
            },
            CommitmentError::Attributes,
        ),
        (
            EventParts {
                time: String::new(),
                ..parts()
            },
            CommitmentError::Attributes,
        ),
        (
            EventParts {
                data_content_type: String::new(),
                ..parts()
            },
            CommitmentError::MediaType,
        ),
        (
            EventParts {
                data: r#"{"outcome":"failure"}"#.into(),
                ..parts()
            },
            CommitmentError::Payload,
        ),
        (
            EventParts {
                data: "x".into(),
                ..parts()
            },
            length,
        ),
        (
            EventParts {
                extensions: Vec::new(),
                ..parts()
            },
            CommitmentError::Attributes,
        ),
    ];
    for suite in SUITES {
        let entry = Entry::decode(&leaf(suite, &event(), &salt, 1)).unwrap();
        assert_eq!(entry.commits_to(suite, &salt, &event()), Ok(()));
        for (parts, error) in &others {
            let other = Event::try_from(parts.clone()).unwrap();
            assert_eq!(entry.commits_to(suite, &salt, &other), Err(*error), "{other:?}");
        }

        let wrong_suite = SUITES[usize::from(suite == Suite::Blake3)];
        assert_eq!(
            entry.commits_to(wrong_suite, &salt, &event()),
            Err(CommitmentError::Payload)
        );
        let attributes = event().attributes().encode();
        assert_eq!(entry.commits_to_attributes(suite, &salt, &attributes), Ok(()));
        for byte in 0..32 {
            let mut wrong = *salt.as_bytes();
            wrong[byte] ^= 1;
            let wrong = Salt::from(wrong);
            assert_eq!(
                entry.commits_to_payload(suite, &wrong, event().data()),
                Err(CommitmentError::Payload)
            );
            let error = Err(CommitmentError::Attributes);
            assert_eq!(entry.commits_to_attributes(suite, &wrong, &attributes), error);
        }
    }
}

#[test]
fn a_salt_does_not_show() {
    assert_eq!(format!("{:?}", Salt::from([0x5a; 32])), "Salt(..)");
}
