//! The files of an outbox. What a crash leaves behind at each point stands beside the step.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use counterfoil_event::Event;
use counterfoil_files::{FileError, Readers, create_private_directory, read_up_to, replace, sync_directory};
use counterfoil_note::UnixMillis;
use tokio::time::{Instant, sleep};

use super::{
    Item, ItemNumber, OutboxError, Queued, SetAside,
    record::{self, Damage, MAX_RECORD_BYTES},
};
use crate::lock;

const LOCK_FILE_MODE: u32 = 0o600;
/// The fewest digits of a number in a file's name: names sort as numbers do.
const NUMBER_DIGITS: usize = 12;
const KEY_DIGITS: usize = 64;
const SUFFIX: &str = ".event";
/// How the names begin of files that were being written when a process was killed.
const UNFINISHED_PREFIX: &str = ".new-";
/// Longest reason that is read back.
const MAX_REASON_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) events: usize,
    pub(super) bytes: u64,
    /// How long others may hold the lock.
    pub(super) lock_time: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Spool {
    pub(super) directory: PathBuf,
    /// What `target` says.
    pub(super) target: String,
    pub(super) limits: Limits,
}

/// A file of an event, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored {
    pub(super) number: ItemNumber,
    /// The event's key in hex, so that an event that waits is found without reading all files.
    key: String,
    bytes: u64,
}

/// Why a file gives no event.
#[derive(Debug)]
pub(super) enum ReadError {
    /// Another process has just delivered or removed it.
    Gone,
    Damaged(Damage),
    Io(OutboxError),
}

/// The right to deliver what is in an outbox, which one process has at a time. Ends with this value or the process.
#[derive(Debug)]
pub struct DeliveryLock(#[expect(dead_code, reason = "held for its lock")] File);

impl Spool {
    /// What waits, by number. Empty if there is no directory.
    pub(super) fn waiting(&self) -> Result<Vec<Stored>, OutboxError> {
        stored(&self.directory)
    }

    pub(super) fn add(&self, event: &Event, now: UnixMillis) -> Result<Queued, OutboxError> {
        self.create()?;
        let _lock = self.lock()?;
        remove_unfinished(&self.directory)?;
        let waiting = self.waiting()?;
        let aside = stored(&self.aside())?;

        if let Some(same) = find_same(&self.directory, &waiting, event) {
            // Whoever added it may have been cut short before its name was on disk.
            sync_directory(&self.directory)?;
            return Ok(Queued {
                number: same.number,
                waiting: waiting.len(),
                already: true,
            });
        }
        let record = record::encode(event, now);
        let new = self.behind_all(&waiting, &aside, event, &record)?;
        // A crash in here leaves the old state or the new one, and an unfinished file that the next one to add removes.
        replace(&self.directory.join(new.name()), &record, Readers::Owner)?;
        Ok(Queued {
            number: new.number,
            waiting: waiting.len() + 1,
            already: false,
        })
    }

    /// Adds an event to those that were set aside.
    pub(super) fn add_aside(
        &self,
        event: &Event,
        now: UnixMillis,
        reason: &str,
    ) -> Result<ItemNumber, OutboxError> {
        self.create()?;
        let _lock = self.lock()?;
        let directory = self.aside();
        create_private_directory(&directory)?;
        remove_unfinished(&directory)?;
        let (waiting, aside) = (self.waiting()?, stored(&directory)?);
        if let Some(same) = find_same(&directory, &aside, event) {
            // As in `add`.
            sync_directory(&directory)?;
            return Ok(same.number);
        }
        let record = record::encode(event, now);
        let new = self.behind_all(&waiting, &aside, event, &record)?;
        replace(&directory.join(new.name()), &record, Readers::Owner)?;
        // A crash here leaves the event without the reason.
        replace(
            &directory.join(new.reason_name()),
            reason.as_bytes(),
            Readers::Owner,
        )?;
        Ok(new.number)
    }

    /// The file of a new event, if there is room for it.
    fn behind_all(
        &self,
        waiting: &[Stored],
        aside: &[Stored],
        event: &Event,
        record: &[u8],
    ) -> Result<Stored, OutboxError> {
        let (events, new) = (waiting.len() + aside.len(), record.len() as u64);
        let bytes: u64 = waiting.iter().chain(aside).map(|stored| stored.bytes).sum();
        if events >= self.limits.events || bytes + new > self.limits.bytes {
            return Err(OutboxError::Full {
                path: self.directory.clone(),
                events,
                bytes,
            });
        }
        Ok(Stored {
            number: next_number(waiting, aside),
            key: key(event),
            bytes: new,
        })
    }

    pub(super) fn read(&self, stored: &Stored) -> Result<Item, ReadError> {
        read(&self.directory, stored)
    }

    /// Removes what is on record. Not synced: a file that comes back after a crash is delivered again, and recorded once.
    pub(super) fn remove(&self, stored: &Stored) -> Result<(), OutboxError> {
        remove(&self.directory.join(stored.name()))
    }

    /// Moves an event out of the way of those behind it, and says why.
    pub(super) fn put_aside(&self, stored: &Stored, reason: &str) -> Result<(), OutboxError> {
        let _lock = self.lock()?;
        let aside = self.aside();
        create_private_directory(&aside)?;
        remove_unfinished(&aside)?;
        replace(
            &aside.join(stored.reason_name()),
            reason.as_bytes(),
            Readers::Owner,
        )?;
        // A crash here leaves a reason for nothing; the next attempt replaces it.
        let path = self.directory.join(stored.name());
        fs::rename(&path, aside.join(stored.name())).map_err(FileError::at("set aside", &path))?;
        // A crash here leaves the event in the one directory or in the other.
        sync_directory(&aside)?;
        Ok(sync_directory(&self.directory)?)
    }

    pub(super) fn set_aside(&self) -> Result<Vec<SetAside>, OutboxError> {
        let directory = self.aside();
        let mut all = Vec::new();
        for stored in stored(&directory)? {
            let item = match read(&directory, &stored) {
                Ok(item) => Some(item),
                Err(ReadError::Gone) => continue,
                Err(ReadError::Damaged(_)) => None,
                Err(ReadError::Io(error)) => return Err(error),
            };
            let path = directory.join(stored.reason_name());
            let reason = match read_up_to(&path, MAX_REASON_BYTES) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                read => read.map_err(FileError::at("read", &path))?,
            };
            all.push(SetAside {
                number: stored.number,
                reason: String::from_utf8_lossy(&reason).into_owned(),
                item,
            });
        }
        Ok(all)
    }

    /// Moves an event that was set aside behind all that wait.
    pub(super) fn retry(&self, number: ItemNumber) -> Result<ItemNumber, OutboxError> {
        // Before the lock too: without such an event there may be no directory that it could be in.
        self.find_aside(number)?;
        let _lock = self.lock()?;
        let old = self.find_aside(number)?;
        let directory = self.aside();
        let new = Stored {
            number: next_number(&self.waiting()?, &stored(&directory)?),
            ..old.clone()
        };
        let path = directory.join(old.name());
        fs::rename(&path, self.directory.join(new.name())).map_err(FileError::at("queue again", &path))?;
        // A crash here leaves the event in the one directory or in the other.
        sync_directory(&self.directory)?;
        sync_directory(&directory)?;
        // A crash here leaves a reason for nothing.
        remove(&directory.join(old.reason_name()))?;
        Ok(new.number)
    }

    pub(super) fn drop_set_aside(&self, number: ItemNumber) -> Result<(), OutboxError> {
        let aside = self.aside();
        let stored = self.find_aside(number)?;
        remove(&aside.join(stored.name()))?;
        remove(&aside.join(stored.reason_name()))
    }

    fn find_aside(&self, number: ItemNumber) -> Result<Stored, OutboxError> {
        let mut aside = stored(&self.aside())?.into_iter();
        aside
            .find(|stored| stored.number == number)
            .ok_or_else(|| OutboxError::NotSetAside {
                number,
                path: self.directory.clone(),
            })
    }

    /// Waits for the right to deliver until `deadline`, or without end. None if another process still has it. The directory has to
    /// be there.
    pub(super) async fn lock_delivery(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<DeliveryLock>, OutboxError> {
        let path = self.directory.join("delivery");
        let file = lock::open(&path, LOCK_FILE_MODE)?;
        while !lock::try_take(&file, &path)? {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            sleep(lock::LOCK_POLL).await;
        }
        Ok(Some(DeliveryLock(file)))
    }

    /// Held for as long as a file takes to write.
    fn lock(&self) -> Result<File, OutboxError> {
        let path = self.directory.join("lock");
        Ok(lock::take(&path, LOCK_FILE_MODE, self.limits.lock_time)?)
    }

    /// Makes the directory, unless it is there.
    pub(super) fn create(&self) -> Result<(), OutboxError> {
        let target = self.directory.join("target");
        if target.is_file() {
            return Ok(());
        }
        // Events and what they say are their user's own.
        create_private_directory(&self.directory)?;
        // Last: it says that all of the above is done.
        let _lock = self.lock()?;
        Ok(replace(&target, self.target.as_bytes(), Readers::Owner)?)
    }

    fn aside(&self) -> PathBuf {
        self.directory.join("set-aside")
    }
}

impl Stored {
    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let (number, key) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let stored = Self {
            number: ItemNumber(number.parse().ok()?),
            key: key.to_owned(),
            bytes,
        };
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_key = key.len() == KEY_DIGITS && key.bytes().all(hex);
        // A number has one spelling, by which the file is found again.
        (is_key && stored.name() == name).then_some(stored)
    }

    fn name(&self) -> String {
        format!("{:0NUMBER_DIGITS$}-{}{SUFFIX}", self.number.0, self.key)
    }

    fn reason_name(&self) -> String {
        format!("{:0NUMBER_DIGITS$}-{}.reason", self.number.0, self.key)
    }
}

fn key(event: &Event) -> String {
    hex::encode(event.key().as_bytes())
}

/// The number of an event that comes behind all others.
fn next_number(waiting: &[Stored], aside: &[Stored]) -> ItemNumber {
    let last = waiting.iter().chain(aside).map(|stored| stored.number.0).max();
    ItemNumber(last.map_or(1, |last| last.saturating_add(1)))
}

/// The event among these of a directory that is the same.
fn find_same<'a>(directory: &Path, among: &'a [Stored], event: &Event) -> Option<&'a Stored> {
    let key = key(event);
    among.iter().find(|stored| {
        stored.key == key && read(directory, stored).is_ok_and(|item| same_but_for_time(&item.event, event))
    })
}

/// Whether two events with one key say the same. Who queues an event may have given it the time.
fn same_but_for_time(one: &Event, other: &Event) -> bool {
    let (mut ones, mut others) = (one.attributes().clone(), other.attributes().clone());
    ones.time.clear();
    others.time.clear();
    ones == others && one.data() == other.data()
}

/// The events of a directory, by number.
fn stored(directory: &Path) -> Result<Vec<Stored>, OutboxError> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(FileError::at("read", directory))?,
    };
    let mut all = Vec::new();
    for file in files {
        let file = file.map_err(FileError::at("read", directory))?;
        let name = file.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(SUFFIX)) else {
            continue;
        };
        match file.metadata() {
            // What else has such a name is no event: a link may lead nowhere, and a pipe never end.
            Ok(metadata) if !metadata.is_file() => {}
            Ok(metadata) => all.extend(Stored::parse(name, metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::at("read", &file.path())(error).into()),
        }
    }
    all.sort();
    Ok(all)
}

fn read(directory: &Path, stored: &Stored) -> Result<Item, ReadError> {
    let path = directory.join(stored.name());
    let bytes = read_up_to(&path, MAX_RECORD_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Gone,
        _ => ReadError::Io(FileError::at("read", &path)(error).into()),
    })?;
    let (event, queued) = record::decode(&bytes).map_err(ReadError::Damaged)?;
    if key(&event) != stored.key {
        return Err(ReadError::Damaged(Damage::Event));
    }
    Ok(Item {
        number: stored.number,
        queued,
        event,
    })
}

fn remove(path: &Path) -> Result<(), OutboxError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(FileError::at("remove", path))?),
    }
}

/// Under the lock nobody writes: whatever is unfinished will never be finished, and must not take room for ever.
fn remove_unfinished(directory: &Path) -> Result<(), OutboxError> {
    for file in fs::read_dir(directory).map_err(FileError::at("read", directory))? {
        let file = file.map_err(FileError::at("read", directory))?;
        if file.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            remove(&file.path())?;
        }
    }
    Ok(())
}
