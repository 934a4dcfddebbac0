//! Running an adapter again over what is stored, and comparing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Adapter, Native, UnknownAdapter};
use crate::{Annotations, Attributes};

/// One member in which a normal form is not what its adapter makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where it is, such as `actor.login`. Empty for the form as a whole; `attributes.…` for an attribute of the event.
    pub path: String,
    /// What is on record, as JSON. None if it is not there.
    pub recorded: Option<String>,
    /// What the adapter makes, as JSON. None if it makes none.
    pub made: Option<String>,
}

/// Runs the adapter that the annotations name, and tells where they differ from what it makes: nowhere, if the log was honest.
/// What an adapter says of an event's type, subject and time is compared too, if it is for the adapter to say.
///
/// # Errors
/// If this program does not have the adapter in that version.
pub fn differences(
    annotations: &Annotations,
    attributes: &Attributes,
    data: &[u8],
) -> Result<Vec<Difference>, UnknownAdapter> {
    let adapter: Adapter = annotations.adapter.parse()?;
    let Some(form) = adapter.read(&Native::stored(attributes, data)) else {
        return Ok(vec![Difference {
            path: String::new(),
            recorded: Some(String::from_utf8_lossy(&annotations.normalised).into_owned()),
            made: None,
        }]);
    };
    let mut differences = Vec::new();
    if adapter.names_events() {
        let named = [
            (
                "attributes.type",
                attributes.event_type.as_str(),
                form.event_type.as_str(),
            ),
            ("attributes.subject", &attributes.subject, form.subject()),
        ];
        let time = form
            .occurred_at
            .as_ref()
            .map(|time| ("attributes.time", attributes.time.as_str(), time.as_str()));
        for (path, recorded, made) in named.into_iter().chain(time) {
            if recorded != made {
                differences.push(Difference {
                    path: path.to_owned(),
                    recorded: Some(Value::from(recorded).to_string()),
                    made: Some(Value::from(made).to_string()),
                });
            }
        }
    }
    let made = form.into_json();
    if made != annotations.normalised {
        compare_json(&annotations.normalised, &made, &mut differences);
    }
    Ok(differences)
}

/// Members that differ. Bytes that differ without that are a difference as a whole.
fn compare_json(recorded: &[u8], made: &[u8], differences: &mut Vec<Difference>) {
    let before = differences.len();
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    if let (Some(recorded), Some(made)) = (read(recorded), read(made)) {
        compare("", Some(&recorded), Some(&made), differences);
    }
    if differences.len() == before {
        let text = |json: &[u8]| Some(String::from_utf8_lossy(json).into_owned());
        differences.push(Difference {
            path: String::new(),
            recorded: text(recorded),
            made: text(made),
        });
    }
}

fn compare(path: &str, recorded: Option<&Value>, made: Option<&Value>, differences: &mut Vec<Difference>) {
    match (recorded, made) {
        (Some(Value::Object(recorded)), Some(Value::Object(made))) => {
            let names: BTreeSet<&String> = recorded.keys().chain(made.keys()).collect();
            for name in names {
                let dot = if path.is_empty() { "" } else { "." };
                compare(
                    &format!("{path}{dot}{name}"),
                    recorded.get(name),
                    made.get(name),
                    differences,
                );
            }
        }
        (Some(Value::Array(recorded)), Some(Value::Array(made))) => {
            for place in 0..recorded.len().max(made.len()) {
                compare(
                    &format!("{path}[{place}]"),
                    recorded.get(place),
                    made.get(place),
                    differences,
                );
            }
        }
        (recorded, made) if recorded == made => {}
        (recorded, made) => differences.push(Difference {
            path: path.to_owned(),
            recorded: recorded.map(Value::to_string),
            made: made.map(Value::to_string),
        }),
    }
}
