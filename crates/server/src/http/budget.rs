//! Memory for bodies on their way in: bounded for all of them together, and taken as their bytes come. Who says how long a body
//! will be has not sent it yet.
//!
//! A body that needs more than there is waits, and keeps what it has. That they do not all wait for each other, there is one
//! place aside in which the longest has room: one after the other, they get through.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

/// There is no memory, and there was none for as long as a body waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// How much longer a body waits for memory, all its waits together.
#[derive(Debug)]
pub(super) struct Patience(pub(super) Duration);

/// Memory for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct BodyBudget {
    parts: Arc<Semaphore>,
    /// The place for the longest. Whoever has it needs nothing more.
    whole: Arc<Semaphore>,
    /// How many wait.
    waiting: watch::Sender<usize>,
}

/// A share of the memory, until it is dropped.
pub(super) enum Share {
    Part(OwnedSemaphorePermit),
    /// The place for the longest.
    Whole(OwnedSemaphorePermit),
}

impl BodyBudget {
    /// Memory of `bytes` for bodies none of which is longer than `longest_bytes`.
    pub(super) fn new(bytes: usize, longest_bytes: usize) -> Self {
        Self {
            parts: Arc::new(Semaphore::new(bytes - longest_bytes)),
            whole: Arc::new(Semaphore::new(1)),
            waiting: watch::Sender::new(0),
        }
    }

    /// The same memory, beside another place for the longest: for a second step, which bodies come to with what they hold of
    /// the first.
    pub(super) fn with_second_whole_place(&self) -> Self {
        Self {
            whole: Arc::new(Semaphore::new(1)),
            ..self.clone()
        }
    }

    /// Takes `bytes`, or, where there are not so many, the place for the longest.
    pub(super) async fn take(&self, bytes: usize, patience: &mut Patience) -> Result<Share, Full> {
        if let Some(part) = self.part(bytes) {
            return Ok(part);
        }
        let _waiting = Waiting::among(&self.waiting);
        let began = Instant::now();
        let (parts, whole) = (self.parts.clone(), self.whole.clone());
        let share = async {
            tokio::select! {
                biased;
                permit = parts.acquire_many_owned(permits(bytes)) => permit.map(Share::Part),
                permit = whole.acquire_owned() => permit.map(Share::Whole),
            }
        };
        let share = timeout(patience.0, share).await;
        patience.0 = patience.0.saturating_sub(began.elapsed());
        Ok(share.map_err(|_| Full)?.expect("the semaphores are never closed"))
    }

    /// A part, if there is one at once.
    fn part(&self, bytes: usize) -> Option<Share> {
        let permit = self.parts.clone().try_acquire_many_owned(permits(bytes));
        permit.ok().map(Share::Part)
    }

    /// Gives up what a share has beyond `bytes`.
    pub(super) fn keep(&self, share: Share, bytes: usize) -> Share {
        match share {
            Share::Part(mut permit) => Share::Part(permit.split(bytes).unwrap_or(permit)),
            // Others may wait for the place.
            Share::Whole(permit) => self.part(bytes).unwrap_or(Share::Whole(permit)),
        }
    }

    /// Ends when somebody waits for memory.
    pub(super) async fn is_wanted(&self) {
        // The sender is here, so it is not gone.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("bodies are far shorter")
}

/// One that waits, until it is dropped.
struct Waiting<'r>(&'r watch::Sender<usize>);

impl<'r> Waiting<'r> {
    fn among(waiting: &'r watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// A body as far as it has come.
pub(super) struct Buffer<'r> {
    budget: &'r BodyBudget,
    /// The longest that it may become: no more than the longest of the budget.
    limit: usize,
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl<'r> Buffer<'r> {
    pub(super) fn new(budget: &'r BodyBudget, limit: usize) -> Self {
        Self {
            budget,
            limit,
            bytes: Vec::new(),
            share: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes in what came, which has to be within the limit.
    pub(super) async fn extend(&mut self, more: &[u8], patience: &mut Patience) -> Result<(), Full> {
        let length = self.bytes.len() + more.len();
        debug_assert!(length <= self.limit);
        if length > self.bytes.capacity() {
            // Twice as much each time: it is copied seldom, and holds little more than came.
            let capacity = length.next_power_of_two().min(self.limit);
            let share = self.budget.take(capacity, patience).await?;
            let capacity = match share {
                Share::Part(_) => capacity,
                Share::Whole(_) => self.limit,
            };
            let mut larger = Vec::with_capacity(capacity);
            larger.extend_from_slice(&self.bytes);
            // While there are two, there is memory for both.
            drop(mem::replace(&mut self.bytes, larger));
            self.share = Some(share);
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// All of it, with its share of the memory. What is empty has none.
    pub(super) fn finish(self) -> (Vec<u8>, Option<Share>) {
        (self.bytes, self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Duration = Duration::from_millis(10);

    async fn take(budget: &BodyBudget, bytes: usize) -> Result<Share, Full> {
        budget.take(bytes, &mut Patience(BRIEF)).await
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_so_much_and_no_more() {
        let budget = BodyBudget::new(10, 4);
        let part = take(&budget, 6).await.unwrap();
        let whole = take(&budget, 1).await.unwrap();
        assert!(matches!((&part, &whole), (Share::Part(_), Share::Whole(_))));
        assert_eq!(take(&budget, 1).await.err(), Some(Full));
        drop(whole);
        assert!(matches!(take(&budget, 4).await, Ok(Share::Whole(_))));

        // What is not needed goes back, and so does the place for the longest as soon as there is another.
        let part = budget.keep(part, 1);
        let whole = take(&budget, 6).await.unwrap();
        assert!(matches!(budget.keep(whole, 3), Share::Part(permit) if permit.num_permits() == 3));
        let whole = take(&budget, 6).await.unwrap();
        let _rest = take(&budget, 5).await.unwrap();
        assert!(matches!(budget.keep(whole, 3), Share::Whole(_)));
        drop(part);
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_a_place_of_the_first_step_gets_on_to_the_second() {
        let first = BodyBudget::new(10, 4);
        let second = first.with_second_whole_place();
        let _parts = take(&first, 6).await.unwrap();
        let _whole = take(&first, 4).await.unwrap();
        assert_eq!(take(&first, 1).await.err(), Some(Full));
        let _other = take(&second, 4).await.unwrap();
        assert_eq!(take(&second, 1).await.err(), Some(Full));
    }

    #[tokio::test(start_paused = true)]
    async fn all_waits_together_have_an_end() {
        let budget = BodyBudget::new(10, 4);
        let mut held = (take(&budget, 6).await.unwrap(), take(&budget, 4).await.unwrap());
        let began = Instant::now();
        let mut patience = Patience(BRIEF);
        for _ in 0..4 {
            let waits = budget.take(1, &mut patience);
            let lets_go = async {
                tokio::time::sleep(BRIEF / 5).await;
                drop(held.1);
            };
            held.1 = tokio::join!(waits, lets_go).0.unwrap();
        }
        assert_eq!(budget.take(1, &mut patience).await.err(), Some(Full));
        assert_eq!(began.elapsed(), BRIEF);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_wanted_while_somebody_waits() {
        let budget = BodyBudget::new(10, 4);
        let is_wanted = async || timeout(BRIEF / 10, budget.is_wanted()).await.is_ok();
        let _held = (take(&budget, 6).await.unwrap(), take(&budget, 4).await.unwrap());
        assert!(!is_wanted().await);
        let while_one_waits = tokio::select! {
            biased;
            _ = take(&budget, 1) => false,
            wanted = is_wanted() => wanted,
        };
        assert!(while_one_waits && !is_wanted().await);
    }

    /// However bodies grow, finish and are refused.
    #[tokio::test(start_paused = true)]
    async fn buffers_never_have_more_than_there_is() {
        const BYTES: usize = 1_000;
        const LONGEST: usize = 200;
        let budget = BodyBudget::new(BYTES, LONGEST);
        let new = || Buffer::new(&budget, LONGEST);
        let mut buffers: Vec<_> = (0..12).map(|_| new()).collect();
        let (mut finished, mut refused) = (0, 0);
        for step in 0..20_000_usize {
            let buffer = &mut buffers[step * step % 11 + step % 2];
            let more = (step * 31 % 17 + 1).min(LONGEST - buffer.len());
            match buffer.extend(&vec![7; more], &mut Patience(Duration::ZERO)).await {
                Ok(()) if buffer.len() < LONGEST => {}
                Ok(()) => {
                    let (bytes, _) = mem::replace(buffer, new()).finish();
                    assert_eq!(bytes, [7; LONGEST]);
                    finished += 1;
                }
                Err(Full) => {
                    *buffer = new();
                    refused += 1;
                }
            }
            let held: usize = buffers.iter().map(|buffer| buffer.bytes.capacity()).sum();
            assert!(held <= BYTES, "step {step}: {held}");
        }
        assert!(finished > 100 && refused > 100, "{finished}, {refused}");
        drop(buffers);
        let whole = budget.whole.available_permits();
        assert_eq!((budget.parts.available_permits(), whole), (BYTES - LONGEST, 1));
        assert_eq!(*budget.waiting.borrow(), 0);
    }
}
