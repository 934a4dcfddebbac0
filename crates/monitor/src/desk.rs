//! Where findings go: reported, queued for webhooks, counted; and evidence kept.

use std::{fs, io, path::PathBuf, sync::Arc};

use counterfoil_files::{FileError, Readers, replace, sync_directory};
use counterfoil_verify::Evidence;
use tokio::task;

use crate::{Event, StateError, metrics::Metrics, outbox::Outbox};

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

    /// Writes an evidence file, whose text is given, and returns its path. No file that is there is touched: one of the same
    /// fact serves, and beside one of another fact goes a file with a number.
    pub(crate) fn keep_evidence(
        &self,
        name: &str,
        evidence: &Evidence,
        text: &str,
    ) -> Result<String, StateError> {
        let mut path = self.evidence.join(format!("{name}.evidence"));
        for number in 2.. {
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    replace(&path, text.as_bytes(), Readers::Umask)?;
                    break;
                }
                Err(error) => return Err(FileError::at("read", &path)(error).into()),
                Ok(kept) if is_of(&kept, evidence) => {
                    // Whoever wrote it may have been cut short before its name was on disk.
                    sync_directory(&self.evidence)?;
                    break;
                }
                Ok(_) => path = self.evidence.join(format!("{name}-{number}.evidence")),
            }
        }
        Ok(path.display().to_string())
    }
}

/// Whether a file is evidence of the same fact. When it was observed may differ.
fn is_of(file: &[u8], evidence: &Evidence) -> bool {
    let kept = str::from_utf8(file).ok().map(Evidence::from_text);
    matches!(kept, Some(Ok(kept)) if kept.fact == evidence.fact)
}

#[cfg(test)]
mod tests {
    use counterfoil_note::UnixMillis;
    use counterfoil_verify::Fact;

    use super::*;

    #[test]
    fn evidence_that_is_there_is_never_touched() {
        let directory = tempfile::tempdir().unwrap();
        let desk = Desk::new(directory.path().to_owned(), vec![], |_| {}, Metrics::new());
        let keep = |head: &[u8], observed| {
            let evidence = Evidence {
                observed: UnixMillis::new(observed),
                fact: Fact::Fork {
                    heads: [head.to_vec(), b"other".to_vec()],
                },
            };
            let text = evidence.to_text().unwrap();
            let path = desk.keep_evidence("x", &evidence, &text).unwrap();
            (path.clone(), fs::read_to_string(path).unwrap())
        };
        let first = keep(b"one", 1);
        // After a crash it is found again.
        assert_eq!(keep(b"one", 2), first);
        let second = keep(b"two", 3);
        assert_ne!(second.0, first.0);
        assert_ne!(second.1, first.1);
        assert_eq!(keep(b"one", 4), first);
        assert_eq!(keep(b"two", 5), second);
    }
}
