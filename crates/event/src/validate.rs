//! The rules for an event's fields. All violations are found at once, so a submitter fixes them in one go.

use std::{collections::BTreeSet, fmt};

use crate::{event::EventParts, limits::*, protocol};

/// The source of the events that a log writes itself.
pub(crate) const OWN_SOURCE: &str = "log";
/// How the types of those events begin.
const OWN_TYPE_PREFIX: &str = "log.";

/// Names that an extension may not take: each is an attribute or a member of CloudEvents' JSON form. `dataschema` is
/// not among them, because events here have no field of their own for it.
const RESERVED_EXTENSION_NAMES: [&str; 8] = [
    "data",
    "datacontenttype",
    "id",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// An event that breaks rules, with all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEvent {
    /// At least one; in the order of the fields.
    pub violations: Vec<FieldViolation>,
}

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct FieldViolation {
    /// The field's name in the `Event` message, such as `id` or `extensions[2].value`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Empty, though required.
    #[error("is missing")]
    Missing,
    /// Over its limit.
    #[error("is {actual_bytes} bytes long, more than {limit_bytes}")]
    TooLong {
        /// How long it may be.
        limit_bytes: usize,
        /// How long it is.
        actual_bytes: usize,
    },
    /// More elements than allowed.
    #[error("has {actual} elements, more than {limit}")]
    TooMany {
        /// How many there may be.
        limit: usize,
        /// How many there are.
        actual: usize,
    },
    /// A character that the field may not hold.
    #[error("has a character that is not allowed, at byte {at_byte}")]
    ForbiddenCharacter {
        /// Where it starts, counted from 0.
        at_byte: usize,
    },
    /// A number past its limit.
    #[error("is more than 2^53")]
    TooLarge,
    /// Not a date and time in RFC 3339.
    #[error("is not a time in RFC 3339, such as 2026-11-22T09:30:00Z")]
    NotATime,
    /// Not a media type.
    #[error("is not a media type, such as application/json")]
    NotAMediaType,
    /// A value that is the log's own, or an extension's name that is an attribute of CloudEvents.
    #[error("is reserved")]
    Reserved,
    /// An extension's name that an earlier extension has.
    #[error("repeats an earlier name")]
    Repeated,
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid event: ")?;
        for (place, violation) in self.violations.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidEvent {}

/// What is wrong with an event that a submitter sent.
pub(crate) fn submitted(parts: &EventParts) -> Vec<FieldViolation> {
    let mut violations = form(parts);
    // A submitter who could write these might pass for the log or for a sender that it knows, or take the id of a record to come.
    if parts.source == OWN_SOURCE || protocol::sender(&parts.source).is_some() {
        violations.push(FieldViolation {
            field: "source".to_owned(),
            problem: Problem::Reserved,
        });
    }
    violations.extend(reserved_type(parts));
    violations
}

/// What is wrong with an event that the log made of a request by another protocol, to whose source it is entitled.
pub(crate) fn received(parts: &EventParts) -> Vec<FieldViolation> {
    let mut violations = form(parts);
    violations.extend(reserved_type(parts));
    violations
}

fn reserved_type(parts: &EventParts) -> Option<FieldViolation> {
    parts
        .event_type
        .starts_with(OWN_TYPE_PREFIX)
        .then(|| FieldViolation {
            field: "type".to_owned(),
            problem: Problem::Reserved,
        })
}

/// What is wrong with an event, whoever wrote it.
pub(crate) fn form(parts: &EventParts) -> Vec<FieldViolation> {
    let checks = [
        (
            "id",
            required(&parts.id).and_then(|()| text(&parts.id, MAX_ID_BYTES)),
        ),
        (
            "source",
            required(&parts.source).and_then(|()| text(&parts.source, MAX_SOURCE_BYTES)),
        ),
        ("type", event_type(&parts.event_type)),
        ("subject", text(&parts.subject, MAX_SUBJECT_BYTES)),
        ("time", optional(&parts.time, time)),
        (
            "data_content_type",
            optional(&parts.data_content_type, media_type),
        ),
        ("data", length(parts.data.len(), MAX_DATA_BYTES)),
    ];
    let mut violations: Vec<_> = checks
        .into_iter()
        .filter_map(|(field, check)| {
            Some(FieldViolation {
                field: field.to_owned(),
                problem: check.err()?,
            })
        })
        .collect();
    extensions(&parts.extensions, &mut violations);
    violations
}

fn extensions(extensions: &[(String, String)], violations: &mut Vec<FieldViolation>) {
    if extensions.len() > MAX_EXTENSIONS {
        let problem = Problem::TooMany {
            limit: MAX_EXTENSIONS,
            actual: extensions.len(),
        };
        violations.push(FieldViolation {
            field: "extensions".to_owned(),
            problem,
        });
        return;
    }
    let mut names = BTreeSet::new();
    for (place, (name, value)) in extensions.iter().enumerate() {
        let repeated = if names.insert(name) {
            Ok(())
        } else {
            Err(Problem::Repeated)
        };
        if let Err(problem) = extension_name(name).and(repeated) {
            violations.push(FieldViolation {
                field: format!("extensions[{place}].name"),
                problem,
            });
        }
        if let Err(problem) = text(value, MAX_EXTENSION_VALUE_BYTES) {
            violations.push(FieldViolation {
                field: format!("extensions[{place}].value"),
                problem,
            });
        }
    }
}

fn extension_name(name: &str) -> Result<(), Problem> {
    required(name)?;
    length(name.len(), MAX_EXTENSION_NAME_BYTES)?;
    only(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit())?;
    if RESERVED_EXTENSION_NAMES.contains(&name) {
        Err(Problem::Reserved)
    } else {
        Ok(())
    }
}

pub(crate) fn event_type(value: &str) -> Result<(), Problem> {
    required(value)?;
    length(value.len(), MAX_TYPE_BYTES)?;
    only(value, |c| c.is_ascii_graphic())
}

/// A source id or a retention class.
pub(crate) fn label(value: &str) -> Result<(), Problem> {
    required(value)?;
    length(value.len(), MAX_LABEL_BYTES)?;
    only(value, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
    })
}

/// `type/subtype`, both tokens of RFC 9110, and perhaps parameters, of which it is enough that they print.
pub(crate) fn media_type(value: &str) -> Result<(), Problem> {
    length(value.len(), MAX_MEDIA_TYPE_BYTES)?;
    only(value, |c| c.is_ascii_graphic() || c == ' ')?;
    match essence(value).split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(()),
        _ => Err(Problem::NotAMediaType),
    }
}

/// Whether a media type is `known`, which has no parameters: in either case, and whatever its own parameters.
pub fn is_media_type(value: &str, known: &str) -> bool {
    essence(value).eq_ignore_ascii_case(known)
}

/// A media type without its parameters.
fn essence(value: &str) -> &str {
    value
        .split_once(';')
        .map_or(value, |(essence, _)| essence.trim_end_matches(' '))
}

fn is_token(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// The grammar of RFC 3339 section 5.6 by hand, since jiff reads more than that; days and hours that exist by jiff.
pub(crate) fn time(value: &str) -> Result<(), Problem> {
    length(value.len(), MAX_TIME_BYTES)?;
    let shaped = time_shape(value.as_bytes()).is_some();
    if shaped && value.parse::<jiff::Timestamp>().is_ok() {
        Ok(())
    } else {
        Err(Problem::NotATime)
    }
}

fn time_shape(value: &[u8]) -> Option<()> {
    let (date_time, rest) = value.split_at_checked("2026-11-22T09:30:00".len())?;
    follows(b"dddd-dd-ddTdd:dd:dd", date_time)?;
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (digits > 0).then(|| &fraction[digits..])?
        }
        None => rest,
    };
    if matches!(offset, b"Z" | b"z") {
        return Some(());
    }
    follows(b"sdd:dd", offset)?;
    (&offset[1..3] < b"24".as_slice()).then_some(())
}

/// Whether `value` has the shape of `pattern`: `d` is a digit, `T` is that letter in either case, `s` is a sign.
fn follows(pattern: &[u8], value: &[u8]) -> Option<()> {
    let matches = |(shape, byte): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b't'),
        b's' => matches!(byte, b'+' | b'-'),
        literal => byte == literal,
    };
    (pattern.len() == value.len() && pattern.iter().zip(value).all(matches)).then_some(())
}

fn optional(value: &str, check: impl FnOnce(&str) -> Result<(), Problem>) -> Result<(), Problem> {
    if value.is_empty() { Ok(()) } else { check(value) }
}

fn required(value: &str) -> Result<(), Problem> {
    if value.is_empty() {
        Err(Problem::Missing)
    } else {
        Ok(())
    }
}

pub(crate) fn text(value: &str, limit_bytes: usize) -> Result<(), Problem> {
    length(value.len(), limit_bytes)?;
    // As nearly all are. To say where the fault is takes a look at each character.
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    only(value, is_text)
}

/// Whether an event's text may hold it: neither a control character nor a Unicode noncharacter.
pub fn is_text(c: char) -> bool {
    !c.is_control() && !is_noncharacter(c)
}

/// The 66 code points that Unicode sets aside for no use in text.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

fn length(actual_bytes: usize, limit_bytes: usize) -> Result<(), Problem> {
    if actual_bytes > limit_bytes {
        Err(Problem::TooLong {
            limit_bytes,
            actual_bytes,
        })
    } else {
        Ok(())
    }
}

fn only(value: &str, allowed: impl Fn(char) -> bool) -> Result<(), Problem> {
    match value.char_indices().find(|&(_, c)| !allowed(c)) {
        Some((at_byte, _)) => Err(Problem::ForbiddenCharacter { at_byte }),
        None => Ok(()),
    }
}
