//! Documents of GitHub's audit log, as far as it takes to know one.

use serde::Deserialize;

use crate::json_object::JsonObject;

/// What makes a document an event. The adapter reads the rest.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(rename = "_document_id")]
    pub(super) id: String,
    pub(super) action: String,
}

impl Document {
    pub(super) fn parse(json: &str) -> Option<Self> {
        let JsonObject(document) = serde_json::from_str(json).ok()?;
        Some(document)
    }
}
