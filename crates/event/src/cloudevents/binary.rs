//! Binary mode of the HTTP binding: attributes in headers, the payload in the body.

use bytes::Bytes;
use percent_encoding::percent_decode;

use super::{AttributeProblem, CloudEventError, MAX_ATTRIBUTES, event};
use crate::{Event, EventParts};

/// How the headers of attributes begin.
const PREFIX: &str = "ce-";

/// Reads an event in binary mode. `headers` are all of the request's, their names in lower case; those that are not
/// CloudEvents' are passed over. `content_type` is the header of that name.
pub fn from_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    content_type: Option<&str>,
    body: Bytes,
) -> Result<Event, CloudEventError> {
    let mut parts = EventParts {
        data_content_type: content_type.unwrap_or_default().to_owned(),
        data: body,
        ..EventParts::default()
    };
    let mut spec_version = None;
    let mut seen: Vec<&str> = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.strip_prefix(PREFIX) else {
            continue;
        };
        if seen.len() >= MAX_ATTRIBUTES {
            return Err(CloudEventError::TooManyAttributes);
        }
        if seen.contains(&name) {
            return Err(CloudEventError::attribute(name, AttributeProblem::Repeated));
        }
        seen.push(name);
        let value =
            decode(value).ok_or_else(|| CloudEventError::attribute(name, AttributeProblem::BadEncoding))?;
        match name {
            "specversion" => spec_version = Some(value),
            "id" => parts.id = value,
            "source" => parts.source = value,
            "type" => parts.event_type = value,
            "subject" => parts.subject = value,
            "time" => parts.time = value,
            "datacontenttype" => {
                return Err(CloudEventError::attribute(name, AttributeProblem::InContentType));
            }
            _ => parts.extensions.push((name.to_owned(), value)),
        }
    }
    event(spec_version.as_deref(), parts)
}

/// Section 3.1.3.2: what is quoted as in RFC 9110 is unquoted, for the sake of older senders; then percent-decoded once.
fn decode(value: &[u8]) -> Option<String> {
    let unquoted = match value {
        [b'"', rest @ ..] => unquote(rest)?,
        plain => plain.to_vec(),
    };
    let decoded: Vec<u8> = percent_decode(&unquoted).collect();
    String::from_utf8(decoded).ok()
}

/// What stands before the closing quote, which has to be the end.
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(text),
            b'\\' => text.push(*bytes.next()?),
            other => text.push(*other),
        }
    }
}
