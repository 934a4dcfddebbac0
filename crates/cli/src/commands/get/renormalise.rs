//! `--renormalise`: whether the log's normal form of an event is what its adapter makes of the payload.

use counterfoil_client::VerifiedEntry;
use counterfoil_event::adapter::{Difference, differences};
use serde_json::{Value, json};

use crate::{failure::Failure, output};

/// Longest part of a value that is shown to people.
const SHOWN_CHARS: usize = 200;

/// What came of it, where nothing stands against the log.
pub(super) enum Renormalised {
    /// The entry commits to what this adapter makes.
    Same { adapter: String },
    /// The entry has no normal form.
    NoForm,
}

impl Renormalised {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Same { adapter } => json!({"adapter": adapter, "same": true}),
            Self::NoForm => json!({"adapter": null, "same": null}),
        }
    }

    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Same { adapter } => format!("what {adapter} makes of the payload"),
            Self::NoForm => "there is none: no adapter of the log read this payload".to_owned(),
        }
    }
}

/// Runs the adapter that a verified entry names over its payload.
pub(super) fn renormalise(entry: &VerifiedEntry) -> Result<Renormalised, Failure> {
    let index = entry.leaf_index;
    let payload = entry
        .payload
        .as_ref()
        .ok_or_else(|| Failure::usage(format!("the payload of leaf {index} is not served")))?;
    let adapter = &payload.annotations.adapter;
    if adapter.is_empty() {
        return Ok(Renormalised::NoForm);
    }
    let found = differences(&payload.annotations, &payload.attributes, &payload.data);
    let found = found.map_err(|unknown| {
        Failure::usage(format!("leaf {index}: {unknown}"))
            .hint("a program of the version that the log had then, or a newer one, may have it")
    })?;
    if found.is_empty() {
        let adapter = adapter.clone();
        return Ok(Renormalised::Same { adapter });
    }
    let failure = Failure::untrusted(format!(
        "the normal form that leaf {index} commits to is not what {adapter} makes of the payload"
    ));
    let failure = failure
        .detail("kind", "normal_form")
        .detail("adapter", adapter.as_str())
        .detail("differences", found.iter().map(json_of).collect::<Vec<_>>());
    Err(found.iter().map(line).fold(failure, Failure::hint))
}

fn json_of(difference: &Difference) -> Value {
    json!({"path": difference.path, "recorded": difference.recorded, "made": difference.made})
}

fn line(difference: &Difference) -> String {
    let shown = |value: &Option<String>| {
        let Some(value) = value else {
            return "nothing".to_owned();
        };
        let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        output::printable(&shown)
    };
    let path = match &*difference.path {
        "" => "the whole",
        path => path,
    };
    format!(
        "{path}: the log has {}, the adapter makes {}",
        shown(&difference.recorded),
        shown(&difference.made)
    )
}
