//! The event of a delivery.

use bytes::Bytes;
use counterfoil_event::{
    Event, EventParts, InvalidEvent, Protocol,
    adapter::{self, Adapter},
    normal::{DerivedType, EventType},
};
use counterfoil_hooks::Provider;

use super::delivery::Delivery;

/// The body, verbatim, with the normal form that the provider's adapter makes of it, and named by that. All that the adapter
/// looks at beside the body is kept in extensions. A body that there is no form of has a type made of the provider's name
/// for what happened: `github.push`, `gitlab.merge_request_hook`.
pub(super) fn of(provider: Provider, delivery: &Delivery, body: Bytes) -> Result<Event, InvalidEvent> {
    let Delivery {
        source,
        host,
        event,
        id,
        hook_id,
    } = delivery;
    let extensions = [
        ("nativeevent", event),
        ("deliveryid", id),
        ("hookid", hook_id),
        ("host", host),
    ];
    let parts = EventParts {
        // A delivery that one webhook sends is not that of another.
        id: if hook_id.is_empty() {
            id.clone()
        } else {
            format!("{hook_id}/{id}")
        },
        event_type: EventType::from(DerivedType::new(provider.as_str(), event, "")).to_string(),
        data_content_type: "application/json".to_owned(),
        data: body,
        extensions: extensions
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect(),
        ..EventParts::default()
    };
    let event = Event::received(Protocol::Webhook, source, parts)?;
    let adapter = match provider {
        Provider::GitHub => Adapter::GitHub,
        Provider::GitLab => Adapter::GitLab,
        Provider::Gitea => Adapter::Gitea,
    };
    Ok(adapter::named_by(adapter, event))
}
