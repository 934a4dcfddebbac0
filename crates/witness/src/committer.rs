//! The one place where state changes: compare, replace, sync, answer.

use std::{ops::ControlFlow, sync::Arc};

use counterfoil_merkle::TreeSize;
use counterfoil_note::{Note, NoteSignature};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    refusal::Refusal,
    state::{OriginHash, State, StateError},
};

/// Most updates that share one sync.
const MAX_BATCH: usize = 512;

/// A checkpoint that was verified against the state as it was a moment ago.
pub(crate) struct Update {
    pub(crate) log: OriginHash,
    /// The size that it was proved consistent with.
    pub(crate) old: TreeSize,
    /// The cosignature of that size. Where it was given anew since, the time of this one may be the earlier.
    pub(crate) over: Option<NoteSignature>,
    /// Cosigned already, so that it can be stored; its cosignature leaves only when it is.
    pub(crate) note: Note,
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Takes updates until nobody is left to send any, or the state fails. Syncs block the thread.
pub(crate) async fn run(state: Arc<State>, mut updates: mpsc::Receiver<Update>) -> Result<(), StateError> {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    while updates.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        if let ControlFlow::Break(error) = commit(&state, &mut waiting) {
            error!(%error, "the state can't be written: no more cosignatures");
            return Err(error);
        }
    }
    Ok(())
}

/// Applies updates in order, syncs once, and answers. While the sync runs, the next batch gathers.
///
/// A crash before the sync ends leaves the state as it was, and nobody has an answer. After it, the state holds
/// cosignatures that may not have been delivered: the log learns the size from a 409 and asks again.
fn commit(state: &State, waiting: &mut Vec<Update>) -> ControlFlow<StateError> {
    let outcomes = match apply(state, waiting) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // What of the batch is on disk only a restart can tell. None of its cosignatures leaves.
            for update in waiting.drain(..) {
                let _ = update.reply.send(Err(Refusal::State));
            }
            return ControlFlow::Break(error);
        }
    };
    for (update, outcome) in waiting.drain(..).zip(outcomes) {
        // A client that has gone away does not mind.
        let _ = update.reply.send(outcome);
    }
    ControlFlow::Continue(())
}

fn apply(state: &State, updates: &[Update]) -> Result<Vec<Result<(), Refusal>>, StateError> {
    let batch = state.batch()?;
    let outcomes = updates
        .iter()
        .map(|update| {
            let over = update.over.as_ref();
            match batch.replace(update.log, update.old, over, &update.note) {
                Ok(outcome) => Ok(outcome.map_err(|newest| Refusal::Conflict { newest })),
                // One log's record. Those of the others are none the worse.
                Err(error @ StateError::Damaged(_)) => {
                    error!(log = %update.log, %error, "the log's record can't be read");
                    Ok(Err(Refusal::State))
                }
                Err(error) => Err(error),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Sizes in refusals are of this batch too, so they too wait for it.
    batch.commit()?;
    Ok(outcomes)
}
