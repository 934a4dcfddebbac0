//! How events get on record: at once where the log allows it, else by way of the outbox.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    panic,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use counterfoil_client::{
    Client, DeliverError, Delivered, DeliveryLock, Error, Fate, ItemNumber, Outbox, OutboxError, Queued,
    Reason, Submitted,
};
use counterfoil_event::{Event, EventParts};
use counterfoil_files::{FileError, Readers, replace};
use counterfoil_note::UnixMillis;
use jiff::Timestamp;
use tokio::{
    task,
    time::{Instant, timeout_at},
};

use crate::{
    failure::{Exit, Failure},
    files,
    options::Common,
    output,
};

/// How long the log may take before an event is queued.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long, where nothing is queued.
const PATIENT_DEADLINE: Duration = Duration::from_secs(60);

/// Where events wait for the log.
#[derive(Args)]
pub(crate) struct OutboxOptions {
    /// Where events wait while the log is away [default: outbox in the state directory]
    #[arg(long, value_name = "DIR", env = "COUNTERFOIL_OUTBOX", hide_env_values = true)]
    outbox: Option<PathBuf>,
}

/// What to do when the log is away.
#[derive(Args)]
pub(crate) struct RecordingOptions {
    #[command(flatten)]
    pub(crate) outbox: OutboxOptions,
    /// Fail if the log is away, slow or full, instead of queueing the event
    #[arg(long)]
    pub(crate) require_receipt: bool,
    /// How long the log may take before the event is queued or, with --require-receipt, the command fails [default: 10,
    /// or 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    deadline: Option<u32>,
}

impl OutboxOptions {
    /// The outbox for the log.
    pub(crate) fn open(&self, common: &Common) -> Result<Outbox, Failure> {
        let root = match &self.outbox {
            Some(root) => root.clone(),
            None => common.state()?.path().join("outbox"),
        };
        Ok(Outbox::new(&root, &common.server()?, &common.log))
    }
}

/// What became of an event.
pub(crate) enum Recorded {
    /// It is on record; the receipt is verified.
    OnRecord(Box<OnRecord>),
    /// It waits on this machine.
    Queued { queued: Queued, why: String },
}

/// What to keep of an event once it is on record.
#[derive(Clone, Copy)]
pub(crate) struct Keep<'a> {
    /// The file for its receipt.
    pub(crate) receipt: &'a Path,
    /// The file for its payload: a receipt alone does not show what the event says.
    pub(crate) payload: Option<&'a Path>,
}

impl Keep<'_> {
    /// Removes what was kept of an earlier event, which would pass for that of the next.
    pub(crate) fn remove_old(self) -> Result<(), Failure> {
        remove_file(self.receipt)?;
        self.payload.map_or(Ok(()), remove_file)
    }
}

pub(crate) struct OnRecord {
    pub(crate) client: Client,
    pub(crate) submitted: Submitted,
}

/// Records events, in order with those that wait already.
pub(crate) struct Recorder<'a> {
    common: &'a Common,
    pub(crate) outbox: Outbox,
    deadline: Duration,
    require_receipt: bool,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(options: &RecordingOptions, common: &'a Common) -> Result<Self, Failure> {
        let default = if options.require_receipt {
            PATIENT_DEADLINE
        } else {
            DEADLINE
        };
        Ok(Self {
            common,
            outbox: options.outbox.open(common)?,
            deadline: options
                .deadline
                .map_or(default, |seconds| Duration::from_secs(seconds.into())),
            require_receipt: options.require_receipt,
        })
    }

    /// Submits an event behind all that wait; queues it if the log is away, slow or full.
    ///
    /// Denied credentials, a refused event and a log that misbehaves are failures, and queue nothing. A failure names the
    /// event if it may be on record all the same.
    pub(crate) async fn record(&self, event: &Event, keep: Option<Keep<'_>>) -> Result<Recorded, Failure> {
        match self.submit(event, keep, Turn::BehindWaiting).await {
            Err(failure) if failure.exit == Exit::Unavailable && !self.require_receipt => {
                self.queue(event, failure.may_be_on_record(), &failure).await
            }
            recorded => recorded,
        }
    }

    /// Submits an event past all that may wait, for who can't queue it.
    pub(crate) async fn record_at_once(
        &self,
        event: &Event,
        keep: Option<Keep<'_>>,
    ) -> Result<Recorded, Failure> {
        self.submit(event, keep, Turn::AtOnce).await.map_err(not_queued)
    }

    async fn submit(&self, event: &Event, keep: Option<Keep<'_>>, turn: Turn) -> Result<Recorded, Failure> {
        let mut sent = false;
        match self.try_submit(event, keep, turn, &mut sent).await {
            Ok(on_record) => Ok(Recorded::OnRecord(Box::new(on_record))),
            Err(failure) if sent => Err(failure.naming(event)),
            Err(failure) => Err(failure),
        }
    }

    /// `sent` tells whether the log may have recorded the event although this fails.
    async fn try_submit(
        &self,
        event: &Event,
        keep: Option<Keep<'_>>,
        turn: Turn,
        sent: &mut bool,
    ) -> Result<OnRecord, Failure> {
        let deadline = Instant::now() + self.deadline;
        let connect = || self.within(deadline, self.common.client_within(self.deadline));
        let mut client = connect().await?;
        // Nothing is put on record of which the head can't be saved.
        self.common.prepare_state()?;
        // Held until the event is on record: it comes after those that wait, and before those that come.
        let mut _delivering = None;
        if turn == Turn::BehindWaiting && self.outbox.waiting()? > 0 {
            _delivering = Some(self.deliver_waiting(&client, deadline).await?);
            // An ID token may be good for one call, and delivering was one.
            client = connect().await?;
        }
        *sent = true;
        let submission = async {
            let submitted = client.submit(event).await;
            Ok(submitted.inspect_err(|error| *sent = may_be_on_record(error))?)
        };
        let submitted = self.within(deadline, submission).await?;
        let index = submitted.receipt.index;
        let on_record = |failure: Failure| {
            let fact = format!("the event is on record as leaf {index}");
            failure.after(&fact).detail("leaf_index", index.get())
        };
        // Before more is asked of the log: should the head not fit to what is known of it, the receipt is evidence.
        let unlinked = keep.and_then(|keep| keep_unlinked(keep.receipt, &submitted));
        let linking = async { Ok(client.link_heads().await?) };
        let linked = self.within(deadline, linking).await.map_err(on_record);
        linked.map_err(|failure| match &unlinked {
            Some(place) => failure.hint(format!("its receipt is in {}", place.display())),
            None => failure,
        })?;
        if let Some(keep) = keep {
            // Before the receipt, so that none is there without it.
            if let Some(path) = keep.payload {
                files::write(path, event.data()).map_err(on_record)?;
            }
            write_receipt(keep.receipt, &submitted).map_err(on_record)?;
        }
        if let Some(place) = unlinked {
            let _ = fs::remove_file(place);
        }
        Ok(OnRecord { client, submitted })
    }

    async fn deliver_waiting(&self, client: &Client, deadline: Instant) -> Result<DeliveryLock, Failure> {
        let path = self.outbox.path().display();
        let Some(lock) = self.outbox.lock_delivery(Some(deadline)).await? else {
            let problem = format!("another process delivers what waits in {path}");
            return Err(Failure::new(Exit::Unavailable, problem));
        };
        let delivery = self
            .outbox
            .deliver(&lock, client, Some(deadline), |delivered| {
                warn_if_set_aside(&delivered)
            })
            .await?;
        if delivery.left > 0 {
            let problem = format!(
                "{} before it in {path} could not be delivered in time",
                delivery.left
            );
            return Err(Failure::new(Exit::Unavailable, problem));
        }
        Ok(lock)
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        // In a box: each future around a future holds it again.
        timeout_at(deadline, Box::pin(work)).await.unwrap_or_else(|_| {
            let problem = format!("the log did not get on within {:?}", self.deadline);
            Err(Failure::new(Exit::Unavailable, problem)
                .hint("try again, or give it more time with --deadline"))
        })
    }

    /// Puts an event into the outbox because of a failure. `sent`: the log may have it all the same.
    pub(crate) async fn queue(
        &self,
        event: &Event,
        sent: bool,
        because: &Failure,
    ) -> Result<Recorded, Failure> {
        let now = Timestamp::now();
        // What the log may have must stay as it was sent: it would conflict with itself.
        let timed = (!sent).then(|| with_time(event, now)).flatten();
        let kept = timed.unwrap_or_else(|| event.clone());
        let queued = self.on_disk(move |outbox| outbox.enqueue(&kept, millis(now)));
        let queued = queued.await.map_err(|failure| {
            let failure = failure.hint(format!("it had to be queued because: {}", because.message()));
            not_queued(if sent { failure.naming(event) } else { failure })
        })?;
        Ok(Recorded::Queued {
            queued,
            why: because.message().to_owned(),
        })
    }

    /// Keeps an event that the log refuses for good where nothing delivers it: the log may know better later.
    pub(crate) async fn set_aside(&self, event: &Event, because: &Failure) -> Result<ItemNumber, Failure> {
        let (kept, reason) = (event.clone(), because.message().to_owned());
        let now = millis(Timestamp::now());
        let kept = self.on_disk(move |outbox| outbox.keep_aside(&kept, now, &reason));
        kept.await
            .map_err(|failure| failure.after("the event is neither on record nor set aside"))
    }

    /// Changes the outbox. Others may be adding, and the disk may be slow: signals come meanwhile.
    async fn on_disk<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, Failure> {
        let outbox = self.outbox.clone();
        let changed = task::spawn_blocking(move || change(&outbox)).await;
        let changed = changed.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        changed.map_err(|error| match error {
            // As a full outbox: nothing is wrong with the event or the command line.
            OutboxError::Io(error) => Failure::new(Exit::Unavailable, error.to_string()),
            error => Failure::from(error),
        })
    }
}

/// When an event is submitted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Once all that wait are on record.
    BehindWaiting,
    AtOnce,
}

/// Why an event is not queued either.
fn not_queued(failure: Failure) -> Failure {
    let fact = if failure.may_be_on_record() {
        "the event may be on record, and is not queued"
    } else {
        "the event is neither on record nor queued"
    };
    failure.after(fact)
}

/// Removes a file, or empties it where a symbolic link leads to it. What else is there and is no regular file stays, as
/// [`files::write`] leaves it.
fn remove_file(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let is_file = |found: io::Result<Metadata>| found.is_ok_and(|found| found.is_file());
    if is_file(fs::symlink_metadata(path)) {
        return Ok(fs::remove_file(path).map_err(FileError::at("remove", path))?);
    }
    if is_file(fs::metadata(path)) {
        File::create(path).map_err(FileError::at("empty", path))?;
    }
    Ok(())
}

/// Puts a receipt beside its place while its head is not linked to all others: whoever finds it in its place takes it for more.
/// None for what is no regular file, such as a pipe: it gets the receipt in the end. So it does where there is no room beside it.
fn keep_unlinked(path: &Path, submitted: &Submitted) -> Option<PathBuf> {
    if path == Path::new("-") || fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return None;
    }
    let kept = receipt_text(submitted).and_then(|text| {
        let place = new_unlinked(path)?;
        let written = replace(&place, text.as_bytes(), Readers::Umask);
        if written.is_err() {
            let _ = fs::remove_file(&place);
        }
        written?;
        Ok(place)
    });
    kept.inspect_err(|failure| {
        let problem = output::printable(failure.message());
        output::say(format_args!(
            "warning: the receipt is kept nowhere until its head is linked: {problem}"
        ));
    })
    .ok()
}

/// Makes an empty file beside the place of a receipt, under a name that nothing has: what an earlier one left there may be all
/// that shows what the log signed.
fn new_unlinked(path: &Path) -> Result<PathBuf, Failure> {
    let mut number = 1_u32;
    loop {
        let mut place = path.as_os_str().to_owned();
        place.push(".unlinked");
        if number > 1 {
            place.push(format!("-{number}"));
        }
        let place = PathBuf::from(place);
        match File::create_new(&place) {
            Ok(_) => return Ok(place),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(FileError::at("create", &place)(error).into()),
        }
    }
}

/// Writes a receipt as text.
fn write_receipt(path: &Path, submitted: &Submitted) -> Result<(), Failure> {
    files::write_receipt(path, &receipt_text(submitted)?)
}

fn receipt_text(submitted: &Submitted) -> Result<String, Failure> {
    let text = submitted.receipt.to_text(submitted.verified.head().suite());
    text.map_err(|error| Failure::untrusted(error.to_string()))
}

/// Whether the log may have recorded an event although submitting it failed. Only these reasons are told before anything is
/// written: QUEUE_FULL is also what a log says that has an answer and no memory for it.
fn may_be_on_record(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => !matches!(
            refusal.reason,
            Reason::Stopping
                | Reason::NotPublished
                | Reason::IdentityUnavailable
                | Reason::InvalidEvent
                | Reason::EventConflict
                | Reason::InvalidRequest
                | Reason::UnknownLog
        ),
        Error::Denied(_) => false,
        _ => true,
    }
}

/// The event with a time of its own, if it has none.
fn with_time(event: &Event, now: Timestamp) -> Option<Event> {
    if event.time().is_some() {
        return None;
    }
    let attributes = event.attributes().clone();
    let parts = EventParts {
        id: attributes.id,
        source: attributes.source,
        event_type: attributes.event_type,
        subject: attributes.subject,
        time: claim(now),
        data_content_type: attributes.data_content_type,
        data: event.data().clone(),
        extensions: attributes.extensions.into_iter().collect(),
    };
    Some(Event::try_from(parts).expect("an event stays valid with a time"))
}

fn millis(time: Timestamp) -> UnixMillis {
    UnixMillis::new(u64::try_from(time.as_millisecond()).unwrap_or_default())
}

/// A moment as the `time` of an event: RFC 3339 in UTC.
pub(crate) fn claim(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Says on standard error what nobody asked for and somebody has to know.
fn warn_if_set_aside(delivered: &Delivered) {
    if let Some(problem) = set_aside_line(delivered) {
        output::say(format_args!("warning: {}", output::printable(&problem)));
    }
}

/// An event that left the queue unrecorded, in a line.
pub(crate) fn set_aside_line(delivered: &Delivered) -> Option<String> {
    let number = delivered.number;
    let event = delivered.event.as_ref().map_or_else(String::new, |event| {
        format!(" ({} of {})", event.id(), event.source())
    });
    match &delivered.fate {
        Fate::Recorded(_) => None,
        Fate::Refused(refusal) => Some(format!(
            "queued event {number}{event} is set aside: the log refuses it: {refusal}"
        )),
        Fate::Damaged(problem) => Some(format!("queued event {number} is set aside: {problem}")),
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let message = error.to_string();
        match error {
            OutboxError::Full { .. } => Self::new(Exit::Unavailable, message)
                .hint("deliver what waits with `counterfoil outbox flush`; look at it with `counterfoil outbox list`"),
            OutboxError::Io(_) | OutboxError::NotSetAside { .. } => Self::usage(message),
        }
    }
}

impl From<DeliverError> for Failure {
    fn from(error: DeliverError) -> Self {
        match error {
            DeliverError::Log(error) => Self::from(*error),
            DeliverError::Outbox(error) => Self::from(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_client::{Denied, Refusal};

    use super::*;

    #[test]
    fn only_what_is_surely_not_on_record_counts_as_not_sent() {
        let refused = |reason| {
            Error::Refused(Refusal {
                reason,
                message: String::new(),
                fields: vec![],
                existing_leaf_index: None,
                retry_after: None,
            })
        };
        for reason in [
            Reason::QueueFull,
            Reason::OutOfSpace,
            Reason::WriteFailed,
            Reason::DataLoss,
            Reason::ReadFailed,
            Reason::Unspecified,
        ] {
            assert!(may_be_on_record(&refused(reason)), "{reason:?}");
        }
        for reason in [
            Reason::Stopping,
            Reason::NotPublished,
            Reason::IdentityUnavailable,
            Reason::InvalidEvent,
            Reason::EventConflict,
        ] {
            assert!(!may_be_on_record(&refused(reason)), "{reason:?}");
        }
        assert!(!may_be_on_record(&Denied::Unauthenticated(String::new()).into()));
        assert!(may_be_on_record(&Error::Options(String::new())));
    }

    #[test]
    fn a_time_is_added_where_there_is_none() {
        let mut parts = EventParts {
            id: "1".to_owned(),
            source: "s".to_owned(),
            event_type: "t".to_owned(),
            data: "d".into(),
            extensions: vec![("a".to_owned(), "b".to_owned())],
            ..EventParts::default()
        };
        let now: Timestamp = "2026-11-22T09:30:00.1239Z".parse().unwrap();
        let timed = with_time(&Event::try_from(parts.clone()).unwrap(), now).unwrap();
        parts.time = "2026-11-22T09:30:00.123Z".to_owned();
        let expected = Event::try_from(parts).unwrap();
        assert_eq!(timed, expected);
        assert!(with_time(&expected, now).is_none());
    }
}
