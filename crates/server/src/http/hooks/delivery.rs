//! What the headers of a delivery say, and what the log keeps of it as evidence.
//!
//! Only Standard Webhooks signs any of them: in all other schemes a signature is over the body alone.

use axum::http::HeaderMap;
use counterfoil_event::SourceId;
use counterfoil_hooks::{Provider, Source};
use serde::Serialize;

use super::{invalid::InvalidDelivery, signature::Proof};

/// The longest id of a delivery.
pub(super) const MAX_ID_BYTES: usize = 128;
/// The longest id of a hook, and the longest name of an event.
const MAX_NAME_BYTES: usize = 64;

/// What names a delivery.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The source that it came to.
    pub(super) source: SourceId,
    /// Where the provider runs.
    pub(super) host: String,
    /// The provider's name for what happened.
    pub(super) event: String,
    /// The provider's id for the delivery: the same when GitHub or GitLab send it again, another when Gitea does.
    pub(super) id: String,
    /// The provider's id for the webhook. Empty if it has none.
    pub(super) hook_id: String,
}

/// The value of a header that is there once, in plain ASCII. It may be empty.
pub(super) fn once<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    limit: usize,
) -> Result<&'a str, InvalidDelivery> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(InvalidDelivery::BadHeader(name));
    };
    let value = value.to_str().map_err(|_| InvalidDelivery::BadHeader(name))?;
    let fits = value.len() <= limit && !value.contains('\t');
    fits.then_some(value).ok_or(InvalidDelivery::BadHeader(name))
}

/// The value of a header that is there once and says something, in plain ASCII.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    limit: usize,
) -> Result<&'a str, InvalidDelivery> {
    let value = once(headers, name, limit)?;
    let says = !value.is_empty();
    says.then_some(value).ok_or(InvalidDelivery::BadHeader(name))
}

/// The value of the first of the headers that is there. If none is, the first is said to be missing.
fn first<'a>(
    headers: &'a HeaderMap,
    names: &[&'static str],
    limit: usize,
) -> Result<&'a str, InvalidDelivery> {
    text(headers, present(headers, names), limit)
}

/// The first of the headers that is there. If none is, the first.
fn present(headers: &HeaderMap, names: &[&'static str]) -> &'static str {
    let mut all = names.iter().copied();
    all.find(|name| headers.contains_key(*name)).unwrap_or(names[0])
}

/// What Gitea and Forgejo call what happened. Some events have no name there, such as Forgejo's `package`: their header is empty, and
/// another has the type that the webhook was set up for.
fn gitea_event(headers: &HeaderMap) -> Result<&str, InvalidDelivery> {
    let name = present(headers, &["x-gitea-event", "x-forgejo-event"]);
    let event = once(headers, name, MAX_NAME_BYTES)?;
    if event.is_empty() {
        let types = ["x-gitea-event-type", "x-forgejo-event-type"];
        return first(headers, &types, MAX_NAME_BYTES);
    }
    Ok(event)
}

fn optional<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, InvalidDelivery> {
    if headers.contains_key(name) {
        return text(headers, name, MAX_NAME_BYTES);
    }
    Ok("")
}

/// Reads what names the delivery.
pub(super) fn read(
    id: &SourceId,
    source: &Source,
    headers: &HeaderMap,
    proof: &Proof,
) -> Result<Delivery, InvalidDelivery> {
    let (event, delivery, hook_id) = match source.provider {
        Provider::GitHub => (
            text(headers, "x-github-event", MAX_NAME_BYTES)?,
            text(headers, "x-github-delivery", MAX_ID_BYTES)?,
            optional(headers, "x-github-hook-id")?,
        ),
        Provider::Gitea => (
            gitea_event(headers)?,
            first(headers, &["x-gitea-delivery", "x-forgejo-delivery"], MAX_ID_BYTES)?,
            "",
        ),
        Provider::GitLab => (
            text(headers, "x-gitlab-event", MAX_NAME_BYTES)?,
            match &proof.signed {
                // The only one that nobody on the way can have changed.
                Some((id, _)) => id,
                None => first(headers, &["idempotency-key", "x-gitlab-event-uuid"], MAX_ID_BYTES)?,
            },
            optional(headers, "x-gitlab-webhook-uuid")?,
        ),
    };
    Ok(Delivery {
        source: id.clone(),
        host: source.host.clone(),
        event: event.to_owned(),
        id: delivery.to_owned(),
        hook_id: hook_id.to_owned(),
    })
}

/// The JSON that entries keep. Not the signature: most are over the body alone, which readers of the entry have, and who has both can
/// send them under another id. Who has the secret makes it again from the body, and from what else was signed.
#[derive(Serialize)]
struct Evidence<'a> {
    provider: &'static str,
    scheme: &'static str,
    header: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_timestamp: Option<&'a str>,
    secret_fingerprint: String,
    event: &'a str,
    delivery_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hook_id: &'a str,
}

/// What a source showed to be let in.
pub(super) fn evidence(source: &Source, delivery: &Delivery, proof: &Proof) -> String {
    let signed = proof.signed.as_ref();
    let evidence = Evidence {
        provider: source.provider.as_str(),
        scheme: proof.scheme,
        header: proof.header,
        signed_id: signed.map(|(id, _)| id.as_str()),
        signed_timestamp: signed.map(|(_, timestamp)| timestamp.as_str()),
        secret_fingerprint: proof.secret.to_string(),
        event: &delivery.event,
        delivery_id: &delivery.id,
        hook_id: &delivery.hook_id,
    };
    serde_json::to_string(&evidence).expect("strings serialise")
}
