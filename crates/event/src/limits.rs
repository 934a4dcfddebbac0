//! How long each part of an event and an entry may be. Strings are measured in bytes of UTF-8.

/// Longest event id.
pub const MAX_ID_BYTES: usize = 256;
/// Longest source.
pub const MAX_SOURCE_BYTES: usize = 1024;
/// Longest event type.
pub const MAX_TYPE_BYTES: usize = 128;
/// Longest subject.
pub const MAX_SUBJECT_BYTES: usize = 1024;
/// Longest time, as text.
pub const MAX_TIME_BYTES: usize = 64;
/// Longest media type.
pub const MAX_MEDIA_TYPE_BYTES: usize = 128;
/// Most extensions of one event.
pub const MAX_EXTENSIONS: usize = 64;
/// Longest extension name: what CloudEvents advises producers to stay within.
pub const MAX_EXTENSION_NAME_BYTES: usize = 20;
/// Longest extension value.
pub const MAX_EXTENSION_VALUE_BYTES: usize = 1024;
/// Largest payload: GitHub's webhook bodies reach 25 MB.
pub const MAX_DATA_BYTES: usize = 25 << 20;
/// Longest source id or retention class of an entry.
pub const MAX_LABEL_BYTES: usize = 64;
/// Longest encoded [`Attributes`](crate::Attributes).
pub const MAX_ATTRIBUTES_BYTES: usize = 72 << 10;
/// Longest normal form of an event, as JSON.
pub const MAX_NORMALISED_BYTES: usize = 64 << 10;
/// Longest name and version of an adapter.
pub const MAX_ADAPTER_BYTES: usize = 32;
/// Longest evidence of a submitter's identity, as JSON: tokens of a job's platform have a few KiB, certificates too.
pub const MAX_EVIDENCE_BYTES: usize = 16 << 10;
/// Longest encoded [`Annotations`](crate::Annotations).
pub const MAX_ANNOTATIONS_BYTES: usize = 81 << 10;
/// Longest encoded [`Entry`](crate::Entry): tlog-tiles bundles carry lengths of 16 bits.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// Most that a field number and a length cost in front of a field or message shorter than 2^21 bytes.
const FIELD_OVERHEAD_BYTES: usize = 4;

// Whatever keeps the limits of its parts keeps the limit of the whole, so encoding can't fail.
const _: () = {
    let extension = MAX_EXTENSION_NAME_BYTES + MAX_EXTENSION_VALUE_BYTES + 3 * FIELD_OVERHEAD_BYTES;
    let strings = MAX_ID_BYTES
        + MAX_SOURCE_BYTES
        + MAX_TYPE_BYTES
        + MAX_SUBJECT_BYTES
        + MAX_TIME_BYTES
        + MAX_MEDIA_TYPE_BYTES;
    assert!(strings + 6 * FIELD_OVERHEAD_BYTES + MAX_EXTENSIONS * extension <= MAX_ATTRIBUTES_BYTES);

    let annotations = MAX_NORMALISED_BYTES + MAX_ADAPTER_BYTES + MAX_EVIDENCE_BYTES;
    assert!(annotations + 3 * FIELD_OVERHEAD_BYTES <= MAX_ANNOTATIONS_BYTES);

    let numbers = 4 * 10;
    let labels = 2 * MAX_LABEL_BYTES + MAX_TYPE_BYTES + MAX_MEDIA_TYPE_BYTES;
    assert!(numbers + labels + 3 * 32 + 11 * FIELD_OVERHEAD_BYTES <= MAX_ENTRY_BYTES);
};
