//! Messages that a webhook has not taken yet: files, so that a restart does not lose them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::{Event, StateError};
use counterfoil_files::{FileError, Readers, create_directory, replace};

/// Most messages that wait for one webhook. With more, the oldest is dropped.
pub(crate) const MAX_WAITING: usize = 1000;
const EXTENSION: &str = "json";

/// The messages that wait for one webhook, oldest first.
pub(crate) struct Outbox {
    directory: PathBuf,
    /// Held while files come or go.
    files: Mutex<()>,
    filled: Notify,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The same at each attempt, so that the receiver can tell a repetition.
    pub(crate) id: String,
    pub(crate) body: String,
    path: PathBuf,
}

impl Outbox {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, StateError> {
        create_directory(&directory)?;
        Ok(Self {
            directory,
            files: Mutex::new(()),
            filled: Notify::new(),
        })
    }

    /// Keeps an event until it is delivered; at once if it is there already. Returns how many were dropped for it.
    pub(crate) fn put(&self, event: &Event) -> Result<u64, StateError> {
        let _held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.waiting()?;
        let id = event.id();
        if waiting.iter().any(|path| id_of(path) == Some(&id)) {
            return Ok(0);
        }
        let mut dropped = 0;
        for oldest in waiting
            .iter()
            .take((waiting.len() + 1).saturating_sub(MAX_WAITING))
        {
            fs::remove_file(oldest).map_err(FileError::at("remove", oldest))?;
            dropped += 1;
        }
        let next = waiting.last().and_then(|path| number_of(path)).unwrap_or(0) + 1;
        let path = self.directory.join(format!("{next:020}_{id}.{EXTENSION}"));
        replace(&path, event.to_json().to_string().as_bytes(), Readers::Umask)?;
        self.filled.notify_one();
        Ok(dropped)
    }

    /// The oldest message, if one waits.
    pub(crate) fn first(&self) -> Result<Option<Message>, StateError> {
        let _held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self.waiting()?.into_iter().next() else {
            return Ok(None);
        };
        let body = fs::read_to_string(&path).map_err(FileError::at("read", &path))?;
        let id = id_of(&path).unwrap_or_default().to_owned();
        Ok(Some(Message { id, body, path }))
    }

    /// Forgets a message that was delivered.
    pub(crate) fn remove(&self, message: &Message) -> Result<(), StateError> {
        let _held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_file(&message.path) {
            // Dropped meanwhile, as the oldest.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.map_err(FileError::at("remove", &message.path))?),
        }
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> Result<usize, StateError> {
        Ok(self.waiting()?.len())
    }

    /// Waits until a message was put.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The files, oldest first. A file that was not finished has another name.
    fn waiting(&self) -> Result<Vec<PathBuf>, StateError> {
        let entries = fs::read_dir(&self.directory).map_err(FileError::at("read", &self.directory))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(FileError::at("read", &self.directory))?.path();
            if number_of(&path).is_some() {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn number_of(path: &Path) -> Option<u64> {
    let (number, _) = split_name(path)?;
    number.parse().ok()
}

fn id_of(path: &Path) -> Option<&str> {
    Some(split_name(path)?.1)
}

fn split_name(path: &Path) -> Option<(&str, &str)> {
    let is_message = path.extension().is_some_and(|extension| extension == EXTENSION);
    is_message.then(|| path.file_stem()?.to_str()?.split_once('_'))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Finding, FindingKind};

    fn event(occurrence: u64) -> Event {
        Event {
            change: Change::Opened,
            finding: Finding {
                kind: FindingKind::Unreachable,
                log: "main".to_owned(),
                origin: "log.example/main".to_owned(),
                source: None,
                detail: String::new(),
                heads: vec![],
                evidence: None,
                unproven: None,
                epoch: None,
                occurrence,
                opened_unix_ms: 1,
                resolved_unix_ms: None,
            },
        }
    }

    #[test]
    fn messages_outlive_a_restart_in_order_and_an_event_waits_once() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(directory.path().join("a")).unwrap();
        for occurrence in [1, 2, 1, 3] {
            outbox.put(&event(occurrence)).unwrap();
        }
        drop(outbox);
        let outbox = Outbox::open(directory.path().join("a")).unwrap();
        for occurrence in 1..=3 {
            let message = outbox.first().unwrap().unwrap();
            assert_eq!(message.id, event(occurrence).id());
            assert_eq!(message.body, event(occurrence).to_json().to_string());
            outbox.remove(&message).unwrap();
        }
        assert_eq!(outbox.first().unwrap(), None);
    }

    #[test]
    fn a_full_box_drops_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(directory.path().to_owned()).unwrap();
        // Files as `put` makes them, without its syncs.
        for number in 1..=MAX_WAITING {
            std::fs::write(
                directory.path().join(format!("{number:020}_x{number}.json")),
                "{}",
            )
            .unwrap();
        }
        assert_eq!(outbox.put(&event(1)).unwrap(), 1);
        assert_eq!(outbox.len().unwrap(), MAX_WAITING);
        assert_eq!(outbox.first().unwrap().unwrap().id, "x2");
    }
}
