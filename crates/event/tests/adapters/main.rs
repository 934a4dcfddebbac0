//! Adapters against recorded webhooks, and against what is none.
#![allow(clippy::unwrap_used)]

mod facts;
mod hostile;
mod pinned;
mod recorded;
mod schema;
mod submitted;
mod types;

use std::collections::BTreeMap;

use counterfoil_event::{
    adapter::{Adapter, Native},
    normal::NormalEvent,
};
use serde_json::Value;

/// What an adapter makes of a body that came as `event`.
fn read(adapter: Adapter, event: &str, body: &[u8]) -> Option<NormalEvent> {
    let extensions = [
        ("nativeevent", event),
        ("deliveryid", "d1"),
        ("hookid", "h1"),
        ("host", "forge.example"),
    ];
    let extensions: BTreeMap<String, String> = extensions
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    adapter.read(&Native {
        id: "h1/d1",
        source: "hooks/forge",
        event_type: "",
        time: "",
        media_type: "application/json",
        extensions: &extensions,
        data: body,
    })
}

/// The same as JSON, as a log keeps it.
fn form(adapter: Adapter, event: &str, body: &Value) -> Value {
    let form = read(adapter, event, body.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&form.into_json()).unwrap()
}
