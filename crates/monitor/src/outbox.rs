//! Messages that a webhook has not taken yet: files, so that a restart does not lose them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::{Event, Severity, StateError};
use counterfoil_files::{FileError, Readers, create_directory, replace, sync_directory};

/// Most messages that wait for one webhook. With more, the oldest is dropped, of trouble before any of misbehaviour.
pub(crate) const MAX_WAITING: usize = 1000;
const EXTENSION: &str = "json";
/// The extension of a directory that does not hold its first messages yet.
pub(crate) const UNFINISHED: &str = "new";

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
    /// The outbox in a directory, which need not be there yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            files: Mutex::new(()),
            filled: Notify::new(),
        }
    }

    /// Makes the directory, unless it is there, and puts the messages into it that a new receiver gets first. Returns how many
    /// were dropped.
    pub(crate) fn create(&self, first: impl IntoIterator<Item = Event>) -> Result<u64, StateError> {
        let mut dropped = 0;
        if !self.directory.exists() {
            let unfinished = Self::new(self.directory.with_extension(UNFINISHED));
            let path = &unfinished.directory;
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Whoever filled it was cut short, and what it tells of may no longer be open.
                removed => removed.map_err(FileError::at("remove", path))?,
            }
            create_directory(path)?;
            for event in first {
                dropped += unfinished.put(&event)?;
            }
            // Last: the name says that all of the above is done.
            fs::rename(path, &self.directory).map_err(FileError::at("rename", path))?;
        }
        create_directory(&self.directory)?;
        Ok(dropped)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps an event until it is delivered; at once if it is there already. Returns how many were dropped for it.
    pub(crate) fn put(&self, event: &Event) -> Result<u64, StateError> {
        let _held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.waiting()?;
        let id = event.id();
        if waiting.iter().any(|path| id_of(path) == Some(&id)) {
            // Whoever put it there may have been cut short before its name was on disk.
            sync_directory(&self.directory)?;
            return Ok(0);
        }
        let path = self.after(&waiting, &id);
        let mut dropped = 0;
        while waiting.len() >= MAX_WAITING {
            let place = waiting.iter().position(|path| !is_misbehaviour(path));
            let oldest = waiting.remove(place.unwrap_or(0));
            fs::remove_file(&oldest).map_err(FileError::at("remove", &oldest))?;
            dropped += 1;
        }
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
            // Dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.map_err(FileError::at("remove", &message.path))?),
        }
    }

    /// Puts a message that was refused behind the others, so that it does not hold them up.
    pub(crate) fn postpone(&self, message: &Message) -> Result<(), StateError> {
        let _held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.after(&self.waiting()?, &message.id);
        match fs::rename(&message.path, &path) {
            // Dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => Ok(renamed.map_err(FileError::at("rename", &message.path))?),
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

    /// The path of a message that comes after those that wait.
    fn after(&self, waiting: &[PathBuf], id: &str) -> PathBuf {
        let next = waiting
            .last()
            .and_then(|path| number_of(path))
            .unwrap_or(0)
            .saturating_add(1);
        self.directory.join(format!("{next:020}_{id}.{EXTENSION}"))
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

/// Whether a message tells of misbehaviour. One that can't be read tells of nothing.
fn is_misbehaviour(path: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Told {
        severity: Severity,
    }
    let told = fs::read(path)
        .ok()
        .map(|body| serde_json::from_slice::<Told>(&body));
    matches!(told, Some(Ok(told)) if told.severity == Severity::Misbehaviour)
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
        event_of(FindingKind::Unreachable, occurrence)
    }

    fn event_of(kind: FindingKind, occurrence: u64) -> Event {
        Event {
            change: Change::Opened,
            finding: Finding {
                kind,
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

    fn open(directory: &Path) -> Outbox {
        let outbox = Outbox::new(directory.to_owned());
        outbox.create([]).unwrap();
        outbox
    }

    #[test]
    fn messages_outlive_a_restart_in_order_and_an_event_waits_once() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = open(&directory.path().join("a"));
        for occurrence in [1, 2, 1, 3] {
            outbox.put(&event(occurrence)).unwrap();
        }
        drop(outbox);
        let outbox = open(&directory.path().join("a"));
        for occurrence in 1..=3 {
            let message = outbox.first().unwrap().unwrap();
            assert_eq!(message.id, event(occurrence).id());
            assert_eq!(message.body, event(occurrence).to_json().to_string());
            outbox.remove(&message).unwrap();
        }
        assert_eq!(outbox.first().unwrap(), None);
    }

    #[test]
    fn a_new_box_that_was_cut_short_is_filled_anew() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = directory.path().join("a.new");
        fs::create_dir(&unfinished).unwrap();
        Outbox::new(unfinished.clone()).put(&event(1)).unwrap();

        let outbox = Outbox::new(directory.path().join("a"));
        let first = [event(2), event(3)].into_iter();
        let first = first.inspect(|_| assert!(!outbox.directory().exists(), "it has its name last"));
        assert_eq!(outbox.create(first).unwrap(), 0);
        assert!(!unfinished.exists());
        // One that is there is no new receiver's.
        outbox.create([event(4)]).unwrap();
        assert_eq!(outbox.len().unwrap(), 2);
        assert_eq!(outbox.first().unwrap().unwrap().id, event(2).id());
    }

    #[test]
    fn a_full_box_drops_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = open(directory.path());
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

    #[test]
    fn a_full_box_drops_trouble_before_misbehaviour() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = open(directory.path());
        let fork = event_of(FindingKind::Fork, 0);
        outbox.put(&fork).unwrap();
        for number in 2..=MAX_WAITING as u64 {
            let path = directory.path().join(format!("{number:020}_x{number}.json"));
            fs::write(path, event(number).to_json().to_string()).unwrap();
        }
        for occurrence in [0, 1] {
            let event = event_of(FindingKind::Withheld, occurrence);
            assert_eq!(outbox.put(&event).unwrap(), 1);
        }
        assert_eq!(outbox.len().unwrap(), MAX_WAITING);
        let first = outbox.first().unwrap().unwrap();
        assert_eq!(first.id, fork.id());
        outbox.remove(&first).unwrap();
        assert_eq!(outbox.first().unwrap().unwrap().id, "x4");
    }

    #[test]
    fn a_message_that_is_postponed_comes_last_and_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = open(directory.path());
        for occurrence in 1..=3 {
            outbox.put(&event(occurrence)).unwrap();
        }
        let refused = outbox.first().unwrap().unwrap();
        outbox.postpone(&refused).unwrap();
        for occurrence in [2, 3, 1] {
            let message = outbox.first().unwrap().unwrap();
            assert_eq!(message.id, event(occurrence).id());
            assert_eq!(message.body, event(occurrence).to_json().to_string());
            outbox.remove(&message).unwrap();
        }
        // What is gone is not brought back.
        outbox.postpone(&refused).unwrap();
        assert_eq!(outbox.len().unwrap(), 0);
    }
}
