//! Published heads: the newest commit head, on an interval.
//!
//! A head for each batch would be too many to witness; published heads are few, stable and stored. When nothing grows,
//! the head is signed anew now and then, so that silence can be told from death.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tracing::error;

use crate::{OpenError, TreeHead, anchor::Anchors, clock, shared::Shared};

/// Wakes the publisher early when the log stops.
#[derive(Default)]
pub(crate) struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `time` or until it rings, and says whether it rang.
    fn wait(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (rung, _) = self
            .changed
            .wait_timeout_while(rung, time, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung
    }
}

/// Publishes until the alarm rings, and once more then.
pub(crate) fn run(shared: &Shared, anchors: &Anchors) {
    loop {
        let rang = shared.alarm.wait(shared.options.publish_interval);
        if let Some(head) = next_head(shared)
            && let Err(problem) = publish(shared, anchors, head)
        {
            error!(log = %shared.name, %problem, "can't publish a head; trying again");
        }
        if rang {
            return;
        }
    }
}

fn next_head(shared: &Shared) -> Option<Arc<TreeHead>> {
    let commit = shared.commit();
    let published = shared.published.borrow().clone();
    let Some(published) = published.filter(|published| commit.head.size <= published.size) else {
        return Some(commit.head.clone());
    };
    let now = clock::unix_millis();
    // A clock that was set back makes the published head one of the future: it is signed anew too.
    let is_old = now
        .get()
        .checked_sub(published.time.get())
        .is_none_or(|age| Duration::from_millis(age) >= shared.options.resign_interval);
    is_old.then(|| Arc::new(shared.sign(commit.head.size, commit.head.root)))
}

/// Stores a head, then shows it: what was shown can always be found again.
pub(crate) fn publish(shared: &Shared, anchors: &Anchors, head: Arc<TreeHead>) -> Result<(), OpenError> {
    // A crash before the head is stored: nobody saw it. After: the next start finds it and has to match it.
    shared.store.put_published_head(head.size, &head.note)?;
    anchors.write(&head.note)?;
    shared.published.send_replace(Some(head));
    Ok(())
}
