//! Events on their way from a request into a log, whatever they came by.

use std::{
    future, iter,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, LazyLock},
    thread,
};

use counterfoil_event::{Event, adapter, cloudevents, hec};
use counterfoil_log::{Log, MAX_CALL_EVENTS, Outcome, ProvenLeaf, SubmitError, Submitted, TreeHead};
use tokio::{sync::Semaphore, task};

use crate::{access::Submitting, refusal::Refusal};

/// What comes by HTTP is one call of the log's, whatever the request holds.
const _: () = assert!(hec::MAX_EVENTS <= MAX_CALL_EVENTS && cloudevents::MAX_BATCH_EVENTS <= MAX_CALL_EVENTS);

/// Hashing and compressing more than this holds up an async worker for too long.
const INLINE_BYTES: usize = 384 * 1024;

/// Whose turn it is to do long work: one for each core. More at a time would finish no sooner, and leave the async workers a
/// share of the cores so small that nobody is answered.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(thread::available_parallelism().map_or(1, NonZeroUsize::get)));

/// Bytes of events that wait for their turn or have it, of all calls, and of what takes as long. What comes beyond them is put off,
/// as where the queue is full.
const WAITING_BYTES: usize = 128 << 20;
static WAITING: Semaphore = Semaphore::const_new(WAITING_BYTES);

/// The most of [`WAITING_BYTES`] that the search of one call takes, so that others find room beside it.
const SEARCH_SHARE_BYTES: usize = WAITING_BYTES / 4;
/// The longest search of a call of several events: some ten seconds of a core. What arrives together in a stream goes in parts
/// where it would take longer.
const MAX_SEARCH_BYTES: usize = 2 << 30;

/// Does work that takes time for each of `bytes`: if that is long, in its turn, and on a thread whose other tasks move
/// elsewhere.
pub(crate) async fn work<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes <= INLINE_BYTES {
        return work();
    }
    let _turn = TURNS.acquire().await.expect("the semaphore is never closed");
    task::block_in_place(work)
}

/// What it takes to make events ready.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) events: usize,
    /// Memory, about.
    pub(crate) bytes: usize,
    /// Bytes that take as long as the search for who signed the events.
    pub(crate) search_bytes: usize,
}

impl Load {
    /// That of an event that was refused before.
    pub(crate) const REFUSED: Self = Self {
        events: 1,
        bytes: 0,
        search_bytes: 0,
    };

    /// That of an event.
    pub(crate) fn of(event: &Event, search_bytes: usize) -> Self {
        Self {
            events: 1,
            bytes: event.data().len(),
            search_bytes,
        }
    }

    /// How many of the first of `each` one call may have, one at least, and their sum.
    pub(crate) fn of_first(each: &[Self]) -> (usize, Self) {
        let mut sum = Self::default();
        for (count, load) in each.iter().enumerate() {
            let longer = sum.plus(*load);
            if longer.check_search().is_err() {
                return (count, sum);
            }
            sum = longer;
        }
        (each.len(), sum)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
            search_bytes: self.search_bytes.saturating_add(other.search_bytes),
        }
    }

    /// Whether [`Group::new`] would find room now. Whatever can be used once only is used after this was asked.
    pub(crate) fn admit(self, log: &Log) -> Result<(), Refusal> {
        self.check_search()?;
        if WAITING.available_permits() < self.waiting_bytes() {
            return Err(SubmitError::QueueFull.into());
        }
        Ok(self.admit_to_queue(log)?)
    }

    /// Nothing ends a search that has begun.
    fn check_search(self) -> Result<(), Refusal> {
        if self.events > 1 && self.search_bytes > MAX_SEARCH_BYTES {
            let problem = "have more signatures than are tried for one call; send fewer at a time";
            return Err(Refusal::invalid_request("events", problem));
        }
        Ok(())
    }

    fn admit_to_queue(self, log: &Log) -> Result<(), SubmitError> {
        match self.events {
            0 => Ok(()),
            events => log.admit(events, self.bytes),
        }
    }

    fn work_bytes(self) -> usize {
        self.bytes.saturating_add(self.search_bytes)
    }

    /// Its share of [`WAITING`]. Short work does not wait, and is not kept out by what does.
    fn waiting_bytes(self) -> usize {
        match self.work_bytes() {
            ..=INLINE_BYTES => 0,
            long => long.min(SEARCH_SHARE_BYTES).max(self.bytes),
        }
    }
}

/// Whether an event of so many bytes would find room now, in one of these logs at least. Where they differ in why it would not, it is
/// for whoever knows which log it is for to say.
pub(crate) fn admit_somewhere<'a>(
    logs: impl IntoIterator<Item = &'a Arc<Log>>,
    bytes: usize,
) -> Result<(), Refusal> {
    let load = Load {
        events: 1,
        bytes,
        search_bytes: 0,
    };
    let mut agreed: Option<Refusal> = None;
    for log in logs {
        let Err(refusal) = load.admit(log) else {
            return Ok(());
        };
        if agreed.is_some_and(|agreed| agreed.reason != refusal.reason) {
            return Ok(());
        }
        agreed = Some(refusal);
    }
    agreed.map_or(Ok(()), Err)
}

impl iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Self::plus)
    }
}

/// An event on record.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) leaf: ProvenLeaf,
    /// It was there before.
    pub(crate) duplicate: bool,
}

/// What became of each event, in order.
pub(crate) type Results = Vec<Result<Placed, Refusal>>;

type Submission = Pin<Box<dyn Future<Output = Result<Submitted, Refusal>> + Send>>;

/// Events that entered a log side by side. They did so when it was made: groups made one after the other keep their order.
pub(crate) struct Group {
    /// Whether each event reached the log.
    events: Vec<Result<(), Refusal>>,
    /// The fate of those that did.
    submission: Submission,
}

impl Group {
    /// Makes events ready, as many as `load` says, and hands them to the log. Those that were refused before stay so, and do not
    /// fail their neighbours.
    pub(crate) async fn new(
        log: &Log,
        submitter: &Submitting,
        load: Load,
        events: impl Iterator<Item = Result<Event, Refusal>>,
    ) -> Self {
        if let Err(refusal) = load.check_search() {
            return Self::refused(load.events, refusal);
        }
        let waits = u32::try_from(load.waiting_bytes()).unwrap_or(u32::MAX);
        let Ok(_waiting) = WAITING.try_acquire_many(waits) else {
            return Self::refused(load.events, SubmitError::QueueFull.into());
        };
        let ready = work(load.work_bytes(), || {
            load.admit_to_queue(log).map_err(Refusal::from)?;
            let mut taken = Vec::with_capacity(load.events);
            let events = events
                .map(|event| {
                    let event = adapter::submitted(event?)?;
                    let submitter = submitter.of(log.name(), &event)?;
                    taken.push((event, submitter));
                    Ok(())
                })
                .collect();
            Ok((events, log.prepare_all(taken.into_iter())))
        })
        .await;
        let (events, prepared) = match ready {
            Ok(ready) => ready,
            Err(refusal) => return Self::refused(load.events, refusal),
        };
        let submission: Submission = if prepared.is_empty() {
            let head = log.commit_head();
            Box::pin(async {
                Ok(Submitted {
                    head,
                    outcomes: Vec::new(),
                })
            })
        } else {
            let submitted = log.submit(prepared);
            Box::pin(async { Ok(submitted.await?) })
        };
        Self { events, submission }
    }

    /// So many events that the log did not take.
    fn refused(count: usize, refusal: Refusal) -> Self {
        Self {
            events: vec![Ok(()); count],
            submission: Box::pin(future::ready(Err(refusal))),
        }
    }

    /// Waits until the events are on disk and under a signed head, which is that of all the proofs. If the log took none,
    /// there is no head, and each of them was refused.
    pub(crate) async fn settled(self) -> (Result<Arc<TreeHead>, Refusal>, Results) {
        match self.submission.await {
            Ok(Submitted { head, outcomes }) => {
                let mut outcomes = outcomes.into_iter();
                let results = self.events.into_iter().map(|event| {
                    event?;
                    placed(outcomes.next().expect("the log answers for each event"))
                });
                let results = results.collect();
                (Ok(head), results)
            }
            Err(refusal) => {
                let results = self.events.into_iter().map(|event| {
                    event?;
                    Err(refusal.clone())
                });
                let results = results.collect();
                (Err(refusal), results)
            }
        }
    }
}

fn placed(outcome: Outcome) -> Result<Placed, Refusal> {
    match outcome {
        Outcome::Recorded(leaf) => Ok(Placed {
            leaf,
            duplicate: false,
        }),
        Outcome::Duplicate(leaf) => Ok(Placed {
            leaf,
            duplicate: true,
        }),
        Outcome::Conflict { existing } => Err(Refusal::conflict(existing)),
    }
}

/// A name for an event that came without one: 128 random bits in hex.
///
/// # Panics
/// If the system has no random bytes to give.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("a running system has random bytes");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use counterfoil_log::{DataDirectory, LogName, LogOptions, create_log};
    use counterfoil_merkle::Suite;
    use counterfoil_proto::v1::Reason;

    use super::*;

    #[test]
    fn what_finds_room_in_no_log_is_refused_where_all_say_the_same() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(place.path());
        let open = |name: &str, min_free_bytes| {
            let name: LogName = name.parse().unwrap();
            let origin = format!("log.example/{name}").parse().unwrap();
            create_log(&data, &name, &origin, Suite::Blake3).unwrap();
            let options = LogOptions {
                memory_bytes: 16 << 20,
                min_free_bytes,
                ..LogOptions::default()
            };
            Arc::new(Log::open(&data, &name, options).unwrap())
        };
        let [taking, stopped, full] =
            [("a", 0), ("b", 0), ("c", u64::MAX)].map(|(name, free)| open(name, free));
        stopped.stop();
        let reason = |logs: &[&Arc<Log>]| {
            let admitted = admit_somewhere(logs.iter().copied(), 1 << 20);
            admitted.map_err(|refusal| refusal.reason)
        };
        assert_eq!(reason(&[&taking]), Ok(()));
        assert_eq!(reason(&[&stopped]), Err(Reason::Stopping));
        assert_eq!(reason(&[&full, &full]), Err(Reason::OutOfSpace));
        assert_eq!(reason(&[&full, &taking]), Ok(()));
        assert_eq!(reason(&[&full, &stopped]), Ok(()));
        assert_eq!(reason(&[]), Ok(()));
    }

    #[test]
    fn a_search_for_signers_is_work_that_waits_as_bytes_do() {
        let short = Load {
            events: 1,
            bytes: INLINE_BYTES,
            search_bytes: 0,
        };
        let searched = |search_bytes| Load {
            search_bytes,
            ..short
        };
        assert_eq!(short.waiting_bytes(), 0);
        assert_eq!(searched(1).waiting_bytes(), INLINE_BYTES + 1);
        assert_eq!(searched(usize::MAX).waiting_bytes(), SEARCH_SHARE_BYTES);
        // One event is tried to its end, which its size bounds; several may come in several calls.
        assert!(searched(usize::MAX).check_search().is_ok());
        let several = |search_bytes| Load {
            events: 2,
            ..searched(search_bytes)
        };
        assert!(several(MAX_SEARCH_BYTES).check_search().is_ok());
        assert!(several(MAX_SEARCH_BYTES + 1).check_search().is_err());
        // What is searched for longer than that is the work of several.
        let each = [
            short,
            searched(MAX_SEARCH_BYTES),
            searched(1),
            searched(usize::MAX),
            short,
        ];
        let mut counts = Vec::new();
        let mut rest = each.as_slice();
        while !rest.is_empty() {
            let (count, load) = Load::of_first(rest);
            assert!(load.check_search().is_ok() && load.events == count);
            counts.push(count);
            rest = &rest[count..];
        }
        assert_eq!(counts, [2, 1, 1, 1]);
        // What takes more memory than all that may wait never finds room.
        let large = Load {
            bytes: WAITING_BYTES + 1,
            ..short
        };
        assert_eq!(large.waiting_bytes(), WAITING_BYTES + 1);

        let sum: Load = [searched(5), Load::REFUSED, searched(usize::MAX)]
            .into_iter()
            .sum();
        assert_eq!(
            (sum.events, sum.bytes, sum.search_bytes),
            (3, 2 * INLINE_BYTES, usize::MAX)
        );
    }
}
