//! Reading normalised events that others wrote, with every member that is wrong named by its path.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use super::{MAX_INTEGER, NormalEvent};
use crate::{json_object::told, limits::MAX_NORMALISED_BYTES, validate::Problem};

/// Longest payload that is read as a normalised event: less than what may be written, so that what is added fits.
pub const MAX_INPUT_BYTES: usize = MAX_NORMALISED_BYTES - 1024;
/// Most members that are named; a file with more is no event anyway.
const MAX_VIOLATIONS: usize = 32;

/// JSON that is no normalised event, with all that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidNormalEvent {
    /// At least one.
    pub violations: Vec<NormalViolation>,
}

/// One member that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalViolation {
    /// Where it is, such as `actor.login` or `artifacts[2].digest`. Empty for the event as a whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for InvalidNormalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no normalised event: ")?;
        for (place, NormalViolation { path, problem }) in self.violations.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{path}{colon}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidNormalEvent {}

impl NormalEvent {
    /// Reads JSON of at most [`MAX_INPUT_BYTES`]. Numbers have to be integers up to ±2^53, and no member may be there twice,
    /// also where the member is not known: so nothing is lost when the event is written again.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidNormalEvent> {
        Self::parse_within(json, MAX_INPUT_BYTES)
    }

    /// Reads what [`into_json`](Self::into_json) wrote, of at most [`MAX_NORMALISED_BYTES`].
    pub fn parse_written(json: &[u8]) -> Result<Self, InvalidNormalEvent> {
        Self::parse_within(json, MAX_NORMALISED_BYTES)
    }

    fn parse_within(json: &[u8], limit_bytes: usize) -> Result<Self, InvalidNormalEvent> {
        let mut value = plain(json, limit_bytes)?;
        let mut violations = Vec::new();
        if let Value::Object(members) = &mut value {
            for name in ["id", "type"] {
                members.entry(name).or_insert_with(|| {
                    violations.push(NormalViolation::new(name, Problem::Missing));
                    "missing".into()
                });
            }
        }
        check(value, violations)
    }

    /// The same as [`parse`](Self::parse) for the payload of an event, whose id and type stand in for those that it may lack.
    pub(crate) fn parse_in(json: &[u8], id: &str, event_type: &str) -> Result<Self, InvalidNormalEvent> {
        let mut value = plain(json, MAX_INPUT_BYTES)?;
        if let Value::Object(members) = &mut value {
            members.entry("id").or_insert_with(|| id.into());
            members.entry("type").or_insert_with(|| event_type.into());
        }
        check(value, Vec::new())
    }
}

fn check(mut value: Value, mut violations: Vec<NormalViolation>) -> Result<NormalEvent, InvalidNormalEvent> {
    // What is wrong is noted and taken out, until the rest is an event.
    loop {
        let error = match serde_path_to_error::deserialize::<_, NormalEvent>(&value) {
            Ok(event) if violations.is_empty() => return Ok(event),
            Ok(_) => return Err(InvalidNormalEvent { violations }),
            Err(error) => error,
        };
        let path = error.path().clone();
        let violation = NormalViolation::new(written(&path), error.into_inner());
        // A stand-in that does not suit its place says nothing new.
        if violations.last().is_none_or(|last| last.path != violation.path) {
            violations.push(violation);
        }
        if violations.len() >= MAX_VIOLATIONS || !remove(&mut value, &path) {
            return Err(InvalidNormalEvent { violations });
        }
    }
}

impl InvalidNormalEvent {
    fn one(path: &str, problem: impl fmt::Display) -> Self {
        Self {
            violations: vec![NormalViolation::new(path, problem)],
        }
    }
}

impl NormalViolation {
    /// Both may repeat what was sent: a batch has hundreds of events, each of which may be nothing but mistakes.
    fn new(path: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            path: told(path),
            problem: told(problem),
        }
    }
}

fn plain(json: &[u8], limit_bytes: usize) -> Result<Value, InvalidNormalEvent> {
    if json.len() > limit_bytes {
        let problem = Problem::TooLong {
            limit_bytes,
            actual_bytes: json.len(),
        };
        return Err(InvalidNormalEvent::one("", problem));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let plain: Result<Plain, _> = serde_path_to_error::deserialize(&mut deserializer);
    match plain {
        Ok(Plain(value)) if value.is_object() => match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(InvalidNormalEvent::one("", error)),
        },
        Ok(_) => Err(InvalidNormalEvent::one("", "is no JSON object")),
        Err(error) => {
            let path = written(error.path());
            Err(InvalidNormalEvent::one(&path, error.into_inner()))
        }
    }
}

/// A path without the `.` that stands for the whole.
fn written(path: &Path) -> String {
    path.iter().next().map_or_else(String::new, |_| path.to_string())
}

/// Takes out what is at `path`; an id and a type are replaced, because there has to be one. False if there is nothing.
fn remove(value: &mut Value, path: &Path) -> bool {
    let mut segments: Vec<&Segment> = path.iter().collect();
    let Some(last) = segments.pop() else {
        return false;
    };
    let mut place = value;
    for segment in segments {
        let next = match segment {
            Segment::Map { key } => place.get_mut(key),
            Segment::Seq { index } => place.get_mut(index),
            _ => None,
        };
        match next {
            Some(next) => place = next,
            None => return false,
        }
    }
    match (place, last) {
        (Value::Object(members), Segment::Map { key }) => {
            let stand_in = match key.as_str() {
                "id" | "type" | "path" => Value::from("missing"),
                "count" => 0.into(),
                _ => return members.remove(key).is_some(),
            };
            members
                .insert(key.clone(), stand_in.clone())
                .is_some_and(|before| before != stand_in)
        }
        // The others keep their places. An item is an object or a text.
        (Value::Array(items), Segment::Seq { index }) if *index < items.len() => {
            let stand_in = match &items[*index] {
                Value::Object(members) if members.is_empty() => Value::from("missing"),
                _ => Value::Object(Map::new()),
            };
            std::mem::replace(&mut items[*index], stand_in) != "missing"
        }
        _ => false,
    }
}

/// JSON without what would be lost or changed if it were written again.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        if number > MAX_INTEGER {
            return Err(E::custom(Problem::TooLarge));
        }
        Ok(number.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        if number.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom(Problem::TooLarge));
        }
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Err(E::custom(format_args!(
            "is {number}, which is no integer up to 2^53"
        )))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Plain(item)) = array.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let Plain(value) = object.next_value()?;
            if members.insert(name.clone(), value).is_some() {
                let shown: String = name.chars().take(40).collect();
                return Err(de::Error::custom(format_args!("has the member {shown:?} twice")));
            }
        }
        Ok(members.into())
    }
}
