//! Delivery: in order, and gone from the disk only once what the log says of it is proved.

use std::time::Duration;

use counterfoil_event::Event;
use tokio::{
    task,
    time::{Instant, timeout_at},
};

use super::{
    ItemNumber, Outbox, OutboxError,
    spool::{DeliveryLock, ReadError, Spool, Stored},
};
use crate::{Client, Error, InvalidAnswer, Outcome, Refusal, SubmitResults, SubmitSender, Submitted};

/// How many events are recorded before their heads are linked and their files go. A crash sends that many again.
const LINK_EVERY: usize = 64;
/// How long linking may take when the time is over: without it, a slow log would be sent the same events at each delivery.
const LINK_TIME: Duration = Duration::from_secs(2);

/// What became of an event that waited.
#[derive(Debug)]
pub struct Delivered {
    /// Its number in the outbox.
    pub number: ItemNumber,
    /// The event; none if its file was damaged.
    pub event: Option<Event>,
    /// What became of it.
    pub fate: Fate,
}

/// The end of an event's stay in an outbox.
#[derive(Debug)]
pub enum Fate {
    /// It is on record; its receipt is verified, and the receipt's head linked to all others.
    Recorded(Box<Submitted>),
    /// The log refuses it for good: it was set aside.
    Refused(Refusal),
    /// Its file is damaged: it was set aside. What is wrong with it.
    Damaged(String),
}

/// How far a delivery got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// How many events were recorded.
    pub recorded: usize,
    /// How many were set aside.
    pub set_aside: usize,
    /// How many still wait, because the time was over.
    pub left: usize,
}

/// Why a delivery stopped. Everything from the event at hand on still waits, and those that were reported are done.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The log is away, denies the caller, or misbehaves.
    #[error(transparent)]
    Log(Box<Error>),
    /// The local disk fails.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl Outbox {
    /// Waits until no other process delivers, at most until `deadline`. None if one still does.
    pub async fn lock_delivery(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<DeliveryLock>, OutboxError> {
        self.blocking(Spool::create).await?;
        self.spool.lock_delivery(deadline).await
    }

    /// Delivers what waits, in order, until nothing does or the time is over. Events that are added meanwhile are
    /// delivered too. What is on record when the time is over has two seconds more to be proved.
    ///
    /// `report` hears of each event once its fate is sealed. An event that the log refuses for good is set aside, with
    /// the reason, and does not hold up those behind it. Any other failure stops the delivery.
    pub async fn deliver(
        &self,
        _lock: &DeliveryLock,
        client: &Client,
        deadline: Option<Instant>,
        mut report: impl FnMut(Delivered),
    ) -> Result<Delivery, DeliverError> {
        let mut delivery = Delivery {
            recorded: 0,
            set_aside: 0,
            left: 0,
        };
        let mut stream = Stream::open(client);
        loop {
            let waiting = self.blocking(Spool::waiting).await?;
            delivery.left = waiting.len();
            if waiting.is_empty() {
                return Ok(delivery);
            }
            let mut open = Vec::new();
            let mut stop = Ok(());
            for stored in waiting.into_iter().take(LINK_EVERY) {
                match self.send(&mut stream, stored, deadline).await {
                    Ok(Step::Recorded(recorded)) => open.push(recorded),
                    Ok(Step::SetAside(delivered)) => {
                        delivery.left -= 1;
                        delivery.set_aside += 1;
                        report(delivered);
                    }
                    Ok(Step::Gone) => {}
                    Err(stopped) => {
                        stop = Err(stopped);
                        break;
                    }
                }
            }
            // Whatever stopped the rest: what is on record is settled first.
            match self.settle(client, open, deadline).await? {
                Some(settled) => {
                    for delivered in settled {
                        delivery.left -= 1;
                        delivery.recorded += 1;
                        report(delivered);
                    }
                }
                None => stop = stop.and(Err(Stop::TimeOver)),
            }
            match stop {
                Ok(()) => {}
                Err(Stop::TimeOver) => return Ok(delivery),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    /// Submits one event, and waits for what becomes of it: only so is the order in the log that of the outbox.
    async fn send(
        &self,
        stream: &mut Stream,
        stored: Stored,
        deadline: Option<Instant>,
    ) -> Result<Step, Stop> {
        let read = self.blocking({
            let stored = stored.clone();
            move |spool| Ok(spool.read(&stored))
        });
        let item = match read.await? {
            Ok(item) => item,
            Err(ReadError::Gone) => return Ok(Step::Gone),
            Err(ReadError::Io(error)) => return Err(error.into()),
            Err(ReadError::Damaged(damage)) => {
                let fate = Fate::Damaged(damage.to_string());
                return self.put_aside(stored, None, fate, damage.to_string()).await;
            }
        };
        let submission = stream.submit(item.event.clone());
        let submitted = match deadline {
            Some(deadline) => timeout_at(deadline, submission)
                .await
                .map_err(|_| Stop::TimeOver)?,
            None => submission.await,
        };
        match submitted? {
            Ok(submitted) => Ok(Step::Recorded(Open {
                stored,
                event: item.event,
                submitted: Box::new(submitted),
            })),
            Err(refusal) if refusal.is_final() => {
                let reason = refusal.to_string();
                self.put_aside(stored, Some(item.event), Fate::Refused(refusal), reason)
                    .await
            }
            Err(refusal) => Err(Error::from(refusal).into()),
        }
    }

    async fn put_aside(
        &self,
        stored: Stored,
        event: Option<Event>,
        fate: Fate,
        reason: String,
    ) -> Result<Step, Stop> {
        let number = stored.number;
        self.blocking(move |spool| spool.put_aside(&stored, &reason))
            .await?;
        Ok(Step::SetAside(Delivered { number, event, fate }))
    }

    /// Removes what is on record, once its heads are proved to belong to the log's one history. None if that took too long.
    async fn settle(
        &self,
        client: &Client,
        open: Vec<Open>,
        deadline: Option<Instant>,
    ) -> Result<Option<Vec<Delivered>>, DeliverError> {
        if open.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let linked = client.link_heads();
        match deadline {
            Some(deadline) => {
                let deadline = deadline.max(Instant::now() + LINK_TIME);
                let Ok(linked) = timeout_at(deadline, linked).await else {
                    return Ok(None);
                };
                linked?
            }
            None => linked.await?,
        };
        // A crash here leaves events that are on record: they are sent again, and their receipts come back.
        self.blocking(move |spool| {
            let mut delivered = Vec::with_capacity(open.len());
            for Open {
                stored,
                event,
                submitted,
            } in open
            {
                spool.remove(&stored)?;
                delivered.push(Delivered {
                    number: stored.number,
                    event: Some(event),
                    fate: Fate::Recorded(submitted),
                });
            }
            Ok(Some(delivered))
        })
        .await
        .map_err(DeliverError::from)
    }

    /// Runs file operations where they may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let spool = self.spool.clone();
        match task::spawn_blocking(move || work(&spool)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// One call for all that waits: an ID token of a CI system may be good for one.
struct Stream {
    sender: SubmitSender,
    results: SubmitResults,
}

impl Stream {
    fn open(client: &Client) -> Self {
        let (sender, results) = client.submit_stream(1);
        Self { sender, results }
    }

    async fn submit(&mut self, event: Event) -> Result<Outcome, Error> {
        let sent = self.sender.send(event).await;
        match (self.results.next().await?, sent) {
            (Some((_, outcome)), _) => Ok(outcome),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(InvalidAnswer::new("a result is missing").into()),
        }
    }
}

/// Recorded by the log's word alone.
struct Open {
    stored: Stored,
    event: Event,
    submitted: Box<Submitted>,
}

enum Step {
    Recorded(Open),
    SetAside(Delivered),
    Gone,
}

enum Stop {
    TimeOver,
    Failed(DeliverError),
}

impl From<Error> for DeliverError {
    fn from(error: Error) -> Self {
        Self::Log(Box::new(error))
    }
}

impl<E: Into<DeliverError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
