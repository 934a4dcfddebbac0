//! A durable queue of events on the client's own disk, for when the log is away, slow or full.
//!
//! What [`Outbox::enqueue`] has returned for is on disk, whatever happens to the process or the machine, until the log
//! has it on record or refuses it for good. Delivery goes in the order of queueing and never past an event whose fate is
//! open. An event may be sent more than once (who is killed between an answer and the removal of the file sends again),
//! and is recorded once: a log takes the same source and id as the same event.
//!
//! One directory for each server and log, one file for each event:
//!
//! ```text
//! <root>/<readable>-<16 hex digits>/
//!   target                                   the server and the log, for people
//!   lock                                     held while an event is added, set aside or queued again
//!   delivery                                 held while events are delivered
//!   .new-…                                   what is being written; without meaning after a crash
//!   000000000042-<key, 64 hex digits>.event  an event that waits
//!   set-aside/000000000042-….event           one that the log refused for good, or that is damaged
//!   set-aside/000000000042-….reason          why
//! ```
//!
//! The outbox decides neither when to deliver nor what may be queued: events whose credentials are refused, or that a log
//! mistreats, are the caller's to judge. It is private to its user (mode 0700), and encrypts nothing.

mod deliver;
pub(crate) mod record;
mod spool;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::ParseIntError,
    path::{Path, PathBuf},
    str::FromStr,
};

use counterfoil_event::Event;
use counterfoil_files::FileError;
use counterfoil_note::UnixMillis;

use crate::{Server, lock::LOCK_TIME, state::file_name};
pub use deliver::{DeliverError, Delivered, Delivery, Fate};
pub use spool::DeliveryLock;
use spool::{Limits, Spool};

/// Most events in one outbox, those set aside among them.
pub const MAX_QUEUED_EVENTS: usize = 10_000;
/// Most bytes of files in one outbox, those set aside among them: a few hundred webhooks of the largest size.
pub const MAX_QUEUED_BYTES: u64 = 512 << 20;

/// The events that wait on this machine for one log. Several processes may use it at once.
#[derive(Debug, Clone)]
pub struct Outbox {
    spool: Spool,
}

/// Where an event stands in an outbox: events are delivered by number. A number is given again only once no event has
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemNumber(pub(crate) u64);

/// An event on the local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub number: ItemNumber,
    /// How many events wait, this one included.
    pub waiting: usize,
    /// The same event was there before, and was left as it was.
    pub already: bool,
}

/// An event of an outbox, read back.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its number.
    pub number: ItemNumber,
    /// When it was queued, by this machine's clock.
    pub queued: UnixMillis,
    /// The event.
    pub event: Event,
}

/// An event that does not wait any more, and is not on record either.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// Its number.
    pub number: ItemNumber,
    /// Why it is not delivered. Empty if the process was killed before it was written.
    pub reason: String,
    /// The event; none if its file is damaged.
    pub item: Option<Item>,
}

/// Everything in an outbox.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// What waits, in the order of delivery.
    pub waiting: Vec<Item>,
    /// What waits by name and can't be read: it is set aside at the next delivery.
    pub damaged: Vec<SetAside>,
    /// What was set aside.
    pub set_aside: Vec<SetAside>,
}

/// Why an outbox can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// One more event would be beyond [`MAX_QUEUED_EVENTS`] or [`MAX_QUEUED_BYTES`]. Nothing was written.
    #[error("the outbox {} is full: {events} events, {bytes} bytes", path.display())]
    Full {
        /// Its directory.
        path: PathBuf,
        /// How many events are there, those set aside among them.
        events: usize,
        /// How many bytes they have.
        bytes: u64,
    },
    /// No event of that number is set aside.
    #[error("no event {number} is set aside in {}", path.display())]
    NotSetAside {
        /// The number.
        number: ItemNumber,
        /// The outbox's directory.
        path: PathBuf,
    },
}

impl Outbox {
    /// The outbox for a log of a server, under a directory that may serve many. Nothing is read or written yet.
    pub fn new(root: &Path, server: &Server, log: &str) -> Self {
        let target = format!("{server}\n{log}\n");
        let shown = format!("{server}-{log}");
        let shown = shown.trim_start_matches("https://").trim_start_matches("http://");
        Self {
            spool: Spool {
                directory: root.join(file_name(shown, &target)),
                target,
                limits: Limits {
                    events: MAX_QUEUED_EVENTS,
                    bytes: MAX_QUEUED_BYTES,
                    lock_time: LOCK_TIME,
                },
            },
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.spool.directory
    }

    /// How many events wait.
    pub fn waiting(&self) -> Result<usize, OutboxError> {
        Ok(self.spool.waiting()?.len())
    }

    /// Adds an event behind all others. When this returns, it is on disk. Blocks, for half a minute at most where another process
    /// holds the lock.
    ///
    /// An event that waits already, told by its source and id, is not added again if it is the same but for its time.
    pub fn enqueue(&self, event: &Event, now: UnixMillis) -> Result<Queued, OutboxError> {
        self.spool.add(event, now)
    }

    /// Everything that is there.
    pub fn list(&self) -> Result<Listing, OutboxError> {
        let mut listing = Listing::default();
        for stored in self.spool.waiting()? {
            let number = stored.number;
            match self.spool.read(&stored) {
                Ok(item) => listing.waiting.push(item),
                Err(spool::ReadError::Gone) => {}
                Err(spool::ReadError::Io(error)) => return Err(error),
                Err(spool::ReadError::Damaged(reason)) => listing.damaged.push(SetAside {
                    number,
                    reason: reason.to_string(),
                    item: None,
                }),
            }
        }
        listing.set_aside = self.spool.set_aside()?;
        Ok(listing)
    }

    /// Keeps an event that a log refuses for good where nothing delivers it, with the reason. When this returns, it is on
    /// disk. Blocks as [`enqueue`](Self::enqueue) does. One that was set aside before stays as it is, if it is the same but
    /// for its time.
    pub fn keep_aside(
        &self,
        event: &Event,
        now: UnixMillis,
        reason: &str,
    ) -> Result<ItemNumber, OutboxError> {
        self.spool.add_aside(event, now, reason)
    }

    /// Queues an event again that was set aside: behind all that wait, under the number that is returned. Blocks as
    /// [`enqueue`](Self::enqueue) does.
    pub fn retry(&self, number: ItemNumber) -> Result<ItemNumber, OutboxError> {
        self.spool.retry(number)
    }

    /// Removes an event that was set aside, for good.
    pub fn drop_set_aside(&self, number: ItemNumber) -> Result<(), OutboxError> {
        self.spool.drop_set_aside(number)
    }
}

impl fmt::Display for ItemNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ItemNumber {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl ItemNumber {
    /// As a number.
    pub fn get(self) -> u64 {
        self.0
    }
}
