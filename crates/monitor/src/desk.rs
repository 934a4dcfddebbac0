//! Where findings go: reported, queued for webhooks, counted; and evidence kept.

use std::{path::PathBuf, sync::Arc};

use tokio::task;

use crate::{Event, StateError, metrics::Metrics, outbox::Outbox};
use counterfoil_files::{Readers, replace};

/// What all logs of a monitor share.
pub(crate) struct Desk {
    evidence: PathBuf,
    outboxes: Vec<Arc<Outbox>>,
    report: Box<dyn Fn(&Event) + Send + Sync>,
    pub(crate) metrics: Metrics,
}

impl Desk {
    pub(crate) fn new(
        evidence: PathBuf,
        outboxes: Vec<Arc<Outbox>>,
        report: impl Fn(&Event) + Send + Sync + 'static,
        metrics: Metrics,
    ) -> Self {
        Self {
            evidence,
            outboxes,
            report: Box::new(report),
            metrics,
        }
    }

    /// Queues an event for each webhook, on disk, and reports it.
    pub(crate) async fn report(&self, event: &Event) -> Result<(), StateError> {
        for outbox in &self.outboxes {
            let (outbox, event) = (Arc::clone(outbox), event.clone());
            let dropped = task::spawn_blocking(move || outbox.put(&event)).await;
            let dropped = dropped.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            self.metrics.add_dropped(dropped);
        }
        self.metrics.count(event);
        (self.report)(event);
        Ok(())
    }

    /// Writes an evidence file, and returns its path.
    pub(crate) fn keep_evidence(&self, name: &str, text: &str) -> Result<String, StateError> {
        let path = self.evidence.join(format!("{name}.evidence"));
        replace(&path, text.as_bytes(), Readers::Umask).map_err(StateError::from)?;
        Ok(path.display().to_string())
    }
}
