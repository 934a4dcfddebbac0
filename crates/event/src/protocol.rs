//! The sources of events that the log makes of other protocols' requests: `hooks/<sender>` and `hec/<sender>`, where the sender is the
//! log's own name for it.
//!
//! Nobody may submit an event with such a source. Whoever could would take the name of a delivery to come, which would then count
//! as a duplicate or a conflict.

use crate::SourceId;

/// A protocol whose requests the log makes events of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Webhooks.
    Webhook,
    /// Splunk's HTTP Event Collector.
    Hec,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Webhook, Self::Hec];

    fn prefix(self) -> &'static str {
        match self {
            Self::Webhook => "hooks/",
            Self::Hec => "hec/",
        }
    }

    /// The source of what `sender` sends.
    pub(crate) fn source(self, sender: &SourceId) -> String {
        format!("{}{sender}", self.prefix())
    }
}

/// The sender in a source that is the log's to give. None if it is anybody's.
pub(crate) fn sender(source: &str) -> Option<&str> {
    Protocol::ALL
        .into_iter()
        .find_map(|protocol| source.strip_prefix(protocol.prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_names_the_sender() {
        let ci: SourceId = "ci".parse().unwrap();
        for (protocol, source) in [(Protocol::Webhook, "hooks/ci"), (Protocol::Hec, "hec/ci")] {
            assert_eq!(protocol.source(&ci), source);
            assert_eq!(sender(source), Some("ci"));
        }
        for source in ["ci", "hooks", "Hooks/ci", "x/hooks/ci"] {
            assert_eq!(sender(source), None, "{source}");
        }
    }
}
