//! Events on their way from a request into a log, whatever they came by.

use counterfoil_event::{Event, Submitter};
use counterfoil_log::{Log, Outcome, PreparedEvent, Submitted};
use counterfoil_merkle::LeafIndex;
use tokio::task;

use crate::grpc::Refusal;

/// Hashing and compressing more than this holds up an async worker for too long.
pub(crate) const INLINE_BYTES: usize = 256 * 1024;

/// Where an event is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) index: LeafIndex,
    /// It was there before.
    pub(crate) duplicate: bool,
}

/// Makes an event ready for the log: what the log adds to it, commitments, compression.
pub(crate) fn prepare(log: &Log, event: Event, submitter: &Submitter) -> Result<PreparedEvent, Refusal> {
    Ok(log.prepare(event, submitter))
}

/// Records events side by side, in order. Those that were refused before stay so, and do not fail their neighbours.
///
/// # Errors
/// If the log took none.
pub(crate) async fn submit(
    log: &Log,
    submitter: &Submitter,
    events: Vec<Result<Event, Refusal>>,
) -> Result<Vec<Result<Placed, Refusal>>, Refusal> {
    let bytes: usize = events.iter().flatten().map(|event| event.data().len()).sum();
    let prepare_all = || -> Vec<_> {
        let events = events.into_iter();
        events.map(|event| prepare(log, event?, submitter)).collect()
    };
    let prepared = if bytes > INLINE_BYTES {
        task::block_in_place(prepare_all)
    } else {
        prepare_all()
    };
    let mut places = Vec::with_capacity(prepared.len());
    let mut accepted = Vec::with_capacity(prepared.len());
    for event in prepared {
        places.push(event.map(|event| accepted.push(event)));
    }
    let mut outcomes = Vec::new();
    if !accepted.is_empty() {
        let submitted: Submitted = log.submit(accepted).await?;
        outcomes = submitted.outcomes;
    }
    let mut outcomes = outcomes.into_iter();
    let results = places.into_iter().map(|place| {
        place?;
        placed(outcomes.next().expect("the log answers for each event"))
    });
    Ok(results.collect())
}

fn placed(outcome: Outcome) -> Result<Placed, Refusal> {
    match outcome {
        Outcome::Recorded(leaf) => Ok(Placed {
            index: leaf.index,
            duplicate: false,
        }),
        Outcome::Duplicate(leaf) => Ok(Placed {
            index: leaf.index,
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
