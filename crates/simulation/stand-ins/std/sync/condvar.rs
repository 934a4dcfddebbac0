use std::{
    future::poll_fn,
    sync::LockResult,
    task::{Poll, Waker},
};

use shuttle::future::block_on;

use super::MutexGuard;

/// Wakes all who wait, whoever is to be woken: that is allowed.
///
/// Shuttle's own can't bear to be woken by anybody else, and the end of the last thread of a scope wakes the one that
/// opened it, wherever that one waits.
#[derive(Debug, Default)]
pub struct Condvar(std::sync::Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    notified: u64,
    wakers: Vec<Waker>,
}

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let before = self.waiting().notified;
        let mutex = guard.unlock();
        block_on(poll_fn(|context| {
            let mut waiting = self.waiting();
            if waiting.notified != before {
                return Poll::Ready(());
            }
            waiting.wakers.push(context.waker().clone());
            Poll::Pending
        }));
        mutex.lock()
    }

    pub fn notify_one(&self) {
        self.notify_all();
    }

    pub fn notify_all(&self) {
        shuttle::thread::yield_now();
        let mut waiting = self.waiting();
        waiting.notified += 1;
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().expect("nobody panics with it")
    }
}
