//! Turns to read. Nothing takes back a read that waits for the disk, so it keeps its turn until it ends, whoever went away.

use tokio::{sync::OwnedSemaphorePermit, task};

/// Nothing came of a read: it panicked, or the server is on its way out.
#[derive(Debug)]
pub(crate) struct Unfinished;

/// Reads to the end, though the caller may give up before, and keeps the turn for as long. Returns both.
pub(crate) async fn read_to_end<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    read: impl Future<Output = T> + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Unfinished> {
    let reading = task::spawn(async move { (read.await, turn) });
    reading.await.map_err(|_| Unfinished)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    #[tokio::test]
    async fn a_read_that_is_given_up_keeps_its_turn_until_it_ends() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = || turns.clone().acquire_owned();
        let (end, ended) = oneshot::channel();
        let given_up = read_to_end(turn().await.unwrap(), ended);
        assert!(given_up.now_or_never().is_none());
        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        let next = turn().await.unwrap();

        // And whoever waited has it until he is done with what was read.
        let (read, turn) = read_to_end(next, async { 7 }).await.unwrap();
        assert_eq!((read, turns.available_permits()), (7, 0));
        drop(turn);
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_read_that_fails_gives_its_turn_back() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = turns.clone().acquire_owned().await.unwrap();
        let failed = read_to_end::<()>(turn, async { panic!("nothing to read") });
        assert!(failed.await.is_err());
        assert_eq!(turns.available_permits(), 1);
    }
}
