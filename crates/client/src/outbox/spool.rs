//! The files of an outbox. What a crash leaves behind at each point stands beside the step.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use counterfoil_event::{Event, EventKey};
use counterfoil_files::{FileError, Readers, create_private_directory, replace, sync_directory};
use counterfoil_note::UnixMillis;
use tokio::time::{Instant, sleep};

use super::{
    Item, ItemNumber, OutboxError, Queued, SetAside,
    record::{self, Damage, MAX_RECORD_BYTES},
};

const LOCK_FILE_MODE: u32 = 0o600;
/// The digits of a number in a file's name: names sort as numbers do.
const NUMBER_DIGITS: usize = 12;
const KEY_DIGITS: usize = 64;
const SUFFIX: &str = ".event";
/// How the names begin of files that were being written when a process was killed.
const UNFINISHED_PREFIX: &str = ".new-";
/// Longest reason that is read back.
const MAX_REASON_BYTES: u64 = 16 << 10;
/// How often a lock that another process holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

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

        let key = key(event);
        for same in waiting.iter().filter(|stored| stored.key == key) {
            if self
                .read(same)
                .is_ok_and(|item| same_but_for_time(&item.event, event))
            {
                // Whoever added it may have been cut short before its name was on disk.
                sync_directory(&self.directory)?;
                return Ok(Queued {
                    number: same.number,
                    waiting: waiting.len(),
                    already: true,
                });
            }
        }
        let record = record::encode(event, now);
        let events = waiting.len() + aside.len();
        let bytes: u64 = waiting.iter().chain(&aside).map(|stored| stored.bytes).sum();
        if events >= self.limits.events || bytes + record.len() as u64 > self.limits.bytes {
            return Err(OutboxError::Full {
                path: self.directory.clone(),
                events,
                bytes,
            });
        }
        let last = waiting.iter().chain(&aside).map(|stored| stored.number.0).max();
        let stored = Stored {
            number: ItemNumber(last.map_or(1, |last| last + 1)),
            key,
            bytes: record.len() as u64,
        };
        // A crash in here leaves the old state or the new one, and an unfinished file that the next one to add removes.
        replace(&self.directory.join(stored.name()), &record, Readers::Owner)?;
        Ok(Queued {
            number: stored.number,
            waiting: waiting.len() + 1,
            already: false,
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
            let reason = match read_limited(&path, MAX_REASON_BYTES) {
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

    pub(super) fn drop_set_aside(&self, number: ItemNumber) -> Result<(), OutboxError> {
        let aside = self.aside();
        let found = stored(&aside)?.into_iter().find(|stored| stored.number == number);
        let stored = found.ok_or_else(|| OutboxError::NotSetAside {
            number,
            path: self.directory.clone(),
        })?;
        remove(&aside.join(stored.name()))?;
        remove(&aside.join(stored.reason_name()))
    }

    /// Waits for the right to deliver until `deadline`, or without end. None if another process still has it. The directory has to
    /// be there.
    pub(super) async fn lock_delivery(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<DeliveryLock>, OutboxError> {
        let path = self.directory.join("delivery");
        let file = open_lock(&path)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(DeliveryLock(file))),
                Err(TryLockError::Error(error)) => return Err(FileError::at("lock", &path)(error).into()),
                Err(TryLockError::WouldBlock)
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) =>
                {
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) => sleep(LOCK_POLL).await,
            }
        }
    }

    /// Held for as long as a file takes to write. Whoever holds it for much longer was stopped, or its disk hangs.
    fn lock(&self) -> Result<File, OutboxError> {
        let path = self.directory.join("lock");
        let file = open_lock(&path)?;
        let deadline = Instant::now() + self.limits.lock_time;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(FileError::at("lock", &path)(error).into()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let held = io::Error::other("another process does not let go of it");
                    return Err(FileError::at("lock", &path)(held).into());
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            }
        }
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
        let digits = |text: &str, length, digit: fn(&u8) -> bool| {
            text.len() == length && text.as_bytes().iter().all(digit)
        };
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !digits(number, NUMBER_DIGITS, u8::is_ascii_digit) || !digits(key, KEY_DIGITS, hex) {
            return None;
        }
        Some(Self {
            number: ItemNumber(number.parse().ok()?),
            key: key.to_owned(),
            bytes,
        })
    }

    fn name(&self) -> String {
        format!("{:0NUMBER_DIGITS$}-{}{SUFFIX}", self.number.0, self.key)
    }

    fn reason_name(&self) -> String {
        format!("{:0NUMBER_DIGITS$}-{}.reason", self.number.0, self.key)
    }
}

fn key(event: &Event) -> String {
    EventKey::new(event.source(), event.id())
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
    let bytes = read_limited(&path, MAX_RECORD_BYTES as u64).map_err(|error| match error.kind() {
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

/// One byte above the limit, so that a longer file is told from one that just fits.
fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove(path: &Path) -> Result<(), OutboxError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.map_err(FileError::at("remove", path))?),
    }
}

fn open_lock(path: &Path) -> Result<File, OutboxError> {
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(LOCK_FILE_MODE)
        .open(path);
    Ok(opened.map_err(FileError::at("open", path))?)
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
