//! `event/1`: payloads that are normalised events already. The form is what their submitter says, in the log's own spelling.

use super::Native;
use crate::{
    normal::{InvalidNormalEvent, NormalEvent, NormalViolation, Time},
    validate::Problem,
};

/// Reads a payload that says that it is a normalised event. Its id and type, where it has them, are those of the event that it
/// is in; when it was received is not the submitter's to say.
pub(super) fn read(native: &Native<'_>) -> Result<NormalEvent, InvalidNormalEvent> {
    let mut form = NormalEvent::parse_in(native.data, native.id, native.event_type)?;
    let mut violations = Vec::new();
    let mut violation = |path: &str, problem: &dyn ToString| {
        violations.push(NormalViolation {
            path: path.to_owned(),
            problem: problem.to_string(),
        });
    };
    if &*form.id != native.id {
        violation("id", &"is not the event's id");
    }
    if form.event_type.as_str() != native.event_type {
        violation("type", &"is not the event's type");
    }
    if form.received_at.is_some() {
        violation("received_at", &Problem::Reserved);
    }
    if !violations.is_empty() {
        return Err(InvalidNormalEvent { violations });
    }
    form.occurred_at = form.occurred_at.or_else(|| Time::try_from(native.time).ok());
    Ok(form)
}
