//! Documents of GitHub's audit log, as far as it takes to know one.

use serde::Deserialize;

/// What makes a document an event. The adapter reads the rest.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(rename = "_document_id")]
    pub(super) id: String,
    pub(super) action: String,
}

impl Document {
    pub(super) fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}
