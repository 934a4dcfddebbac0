//! The JSON event format: one event, or a batch of them.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{AttributeProblem, CloudEventError, MAX_ATTRIBUTES, MAX_BATCH_EVENTS, event};
use crate::{
    Event, EventParts,
    json_object::{structure, told},
};

const JSON_MEDIA_TYPE: &str = "application/json";
/// Longest name of a member: that of any attribute is far shorter.
const MAX_NAME_BYTES: usize = 64;

/// Reads one event in structured mode.
pub fn from_json(body: &[u8]) -> Result<Event, CloudEventError> {
    let members: Members<'_> = parse(body)?;
    members.into_event()
}

/// Reads a batch. An event that is wrong does not spoil its neighbours, but a batch that is not an array of objects is
/// no batch.
pub fn batch_from_json(body: &[u8]) -> Result<Vec<Result<Event, CloudEventError>>, CloudEventError> {
    let batch: Batch<'_> = parse(body)?;
    if batch.0.len() > MAX_BATCH_EVENTS {
        return Err(CloudEventError::TooManyEvents);
    }
    let events = batch.0.into_iter();
    Ok(events.map(|event| from_json(event.get().as_bytes())).collect())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, CloudEventError> {
    serde_json::from_slice(body).map_err(|problem| CloudEventError::Json(told(problem)))
}

/// The events of a batch as they are written: one more than allowed at most, so that a long one costs no more.
struct Batch<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Events;

        impl<'de> Visitor<'de> for Events {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = array.next_element()? {
                    if events.len() <= MAX_BATCH_EVENTS {
                        events.push(event);
                    }
                }
                Ok(Batch(events))
            }
        }

        structure(deserializer, Events)
    }
}

/// The members of an object as they are written, in order; none twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event, which is an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    // The payload is a member too, and so is the version.
                    if members.len() > MAX_ATTRIBUTES + 2 {
                        return Err(A::Error::custom("more members than an event has"));
                    }
                    let shown = || name.chars().take(40).collect::<String>();
                    if name.len() > MAX_NAME_BYTES {
                        return Err(A::Error::custom(format_args!(
                            "the name of the member {:?}… is longer than any attribute's",
                            shown()
                        )));
                    }
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format_args!(
                            "the member {:?} appears twice",
                            shown()
                        )));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        structure(deserializer, Object)
    }
}

impl Members<'_> {
    fn into_event(self) -> Result<Event, CloudEventError> {
        let mut parts = EventParts::default();
        let mut spec_version = None;
        let (mut data, mut data_base64) = (None, None);
        for (name, value) in &self.0 {
            // A member that is null is as good as none.
            if value.get() == "null" {
                if name == "data" {
                    data = Some(*value);
                }
                continue;
            }
            match name.as_str() {
                "specversion" => spec_version = Some(string(name, value)?),
                "id" => parts.id = string(name, value)?,
                "source" => parts.source = string(name, value)?,
                "type" => parts.event_type = string(name, value)?,
                "subject" => parts.subject = string(name, value)?,
                "time" => parts.time = string(name, value)?,
                "datacontenttype" => parts.data_content_type = string(name, value)?,
                "data" => data = Some(*value),
                "data_base64" => data_base64 = Some(string(name, value)?),
                _ => parts.extensions.push((name.clone(), scalar(name, value)?)),
            }
        }
        match (data, data_base64) {
            (None, None) => {}
            (Some(_), Some(_)) => {
                return Err(CloudEventError::attribute(
                    "data_base64",
                    AttributeProblem::TwoPayloads,
                ));
            }
            (None, Some(text)) => {
                let bytes = BASE64_STANDARD.decode(text);
                let bad = |_| CloudEventError::attribute("data_base64", AttributeProblem::NotBase64);
                parts.data = bytes.map_err(bad)?.into();
            }
            (Some(value), None) => payload(value, &mut parts)?,
        }
        event(spec_version.as_deref(), parts)
    }
}

/// The payload of a member `data`: its text where that is JSON, what the string says where it is not.
fn payload(value: &RawValue, parts: &mut EventParts) -> Result<(), CloudEventError> {
    if parts.data_content_type.is_empty() {
        parts.data_content_type = JSON_MEDIA_TYPE.to_owned();
    }
    parts.data = if is_json(&parts.data_content_type) {
        Bytes::copy_from_slice(value.get().as_bytes())
    } else {
        string("data", value)?.into()
    };
    Ok(())
}

/// `*/json` and `*/*+json`, whatever the parameters.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim_end();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

fn string(name: &str, value: &RawValue) -> Result<String, CloudEventError> {
    serde_json::from_str(value.get())
        .map_err(|_| CloudEventError::attribute(name, AttributeProblem::NotAString))
}

/// An extension's value as CloudEvents writes its types in text.
fn scalar(name: &str, value: &RawValue) -> Result<String, CloudEventError> {
    let text = value.get();
    let is_canonical = text == "true" || text == "false" || text.parse::<i32>().is_ok();
    if is_canonical {
        return Ok(text.to_owned());
    }
    serde_json::from_str(text).map_err(|_| CloudEventError::attribute(name, AttributeProblem::NotAScalar))
}
