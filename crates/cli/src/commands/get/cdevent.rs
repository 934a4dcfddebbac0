//! An entry as a CDEvent.

use counterfoil_client::{EntryPayload, VerifiedEntry};
use counterfoil_event::{adapter::Adapter, cdevents, normal::NormalEvent};
use serde_json::Value;

use crate::{failure::Failure, output};

/// The CloudEvent with the CDEvent that came, or else with the one that the normal form makes.
pub(super) fn of(entry: &VerifiedEntry) -> Result<Value, Failure> {
    let index = entry.leaf_index;
    let Some(payload) = &entry.payload else {
        return Err(Failure::usage(format!(
            "the payload of leaf {index} is not served"
        )));
    };
    let EntryPayload {
        attributes,
        annotations,
        data,
        ..
    } = payload;
    if annotations.adapter == Adapter::CdEvents.name()
        && let Ok(cdevent) = serde_json::from_slice(data)
    {
        let (id, source, time) = (&attributes.id, &attributes.source, &attributes.time);
        return Ok(cdevents::envelope(
            id,
            source,
            &attributes.event_type,
            time,
            &cdevent,
        ));
    }
    let none = || Failure::usage(format!("there is no CDEvent that says what leaf {index} says"));
    let form = NormalEvent::parse_written(&annotations.normalised).map_err(|_| none())?;
    let recorded = output::nanos(entry.entry.time_unix_ns().get());
    let time = match (&form.occurred_at, attributes.time.as_str()) {
        (Some(time), _) => time.as_str(),
        (None, "") => &recorded,
        (None, time) => time,
    };
    cdevents::from_normal(&form, &attributes.source, time).ok_or_else(none)
}
