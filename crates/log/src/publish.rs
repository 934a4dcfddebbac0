//! Published heads: the newest commit head, on an interval.
//!
//! A head for each batch would be too many to witness; published heads are few, stable and stored. When nothing grows,
//! the head is signed anew now and then, so that silence can be told from death.
//!
//! Without witnesses a head is stored and shown. With witnesses it is stored and *offered*; it comes back with their
//! cosignatures, is stored again with these, and only then shown.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use counterfoil_merkle::{Frontier, TreeSize};
use counterfoil_note::{LogSigner, NoteSignature, UnixMillis};
use counterfoil_store::Store;
use tokio::sync::oneshot;
use tracing::error;

use crate::{
    Candidate, OpenError, PublishError, TreeHead, WithoutQuorum, Witnessing,
    anchor::Anchors,
    commit::look_for_room,
    open::check_signed,
    shared::{Shared, sign},
};

/// How often it is seen whether the disk has room. The commit path looks only when there is something to write.
const ROOM_POLL: Duration = Duration::from_secs(1);
/// A head that is asked for before its time comes no sooner than so long after the one before.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What the publisher is asked for.
pub(crate) enum Request {
    /// To show a head with these cosignatures.
    Publish {
        candidate: Candidate,
        cosignatures: Vec<NoteSignature>,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    /// To bring out the newest head before its time.
    Hasten,
    /// To publish once more and end.
    Stop,
}

/// Stores and shows heads; nobody else does.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    anchors: Anchors,
    /// What was published or offered last.
    newest: Arc<TreeHead>,
    /// When that was, whatever the system's clock says meanwhile.
    since: Instant,
    /// The size of a head that is on disk as published, or may be, though it is perhaps not shown: one from before the start, or one whose
    /// storing failed.
    uncertain: Option<TreeSize>,
}

impl Publisher {
    /// Publishes or offers the head of a log that was just opened.
    pub(crate) fn start(shared: Arc<Shared>, anchors: Anchors) -> Result<Self, OpenError> {
        let newest = shared.commit().head.clone();
        // Whether it may be shown or not: its cosignatures are not to be lost for a policy that asks for others.
        let published = shared.store.published_head()?.map(|(size, _)| size);
        let mut publisher = Self {
            shared,
            anchors,
            newest: newest.clone(),
            since: Instant::now(),
            uncertain: published,
        };
        publisher.bring_out(newest)?;
        publisher.since = Instant::now();
        Ok(publisher)
    }

    /// Publishes until told to stop, and once more then. Looks for room on the disk meanwhile.
    pub(crate) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let interval = self.shared.options.publish_interval;
        let mut next = Instant::now() + interval;
        let mut next_look = Instant::now() + ROOM_POLL;
        loop {
            let wait = next.min(next_look).saturating_duration_since(Instant::now());
            match requests.recv_timeout(wait) {
                Ok(Request::Publish {
                    candidate,
                    cosignatures,
                    reply,
                }) => {
                    // Who asked may have gone; the head is published all the same.
                    let _ = reply.send(self.publish_cosigned(&candidate, cosignatures));
                }
                Ok(Request::Hasten) => next = next.min(self.since + SHORTEST_INTERVAL),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if Instant::now() >= next_look {
                        look_for_room(&self.shared);
                        next_look = Instant::now() + ROOM_POLL;
                    }
                    if Instant::now() >= next {
                        self.bring_out_next();
                        next = Instant::now() + interval;
                    }
                }
                Ok(Request::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return self.bring_out_next();
                }
            }
        }
    }

    fn bring_out_next(&mut self) {
        let Some(head) = self.next_head() else { return };
        match self.bring_out(head.clone()) {
            Ok(()) => (self.newest, self.since) = (head, Instant::now()),
            Err(problem) => {
                error!(log = %self.shared.name, %problem, "can't publish a head; trying again");
                // Also where it was an anchor's disk, which may be the database's: on a quiet log nobody else writes there.
                self.shared.queue.interrupt();
            }
        }
    }

    fn next_head(&self) -> Option<Arc<TreeHead>> {
        let commit = self.shared.commit();
        if commit.head.size > self.newest.size {
            return Some(commit.head.clone());
        }
        if self.since.elapsed() < self.shared.options.resign_interval {
            return None;
        }
        // With a batch on its way there is no need: its head is published next.
        let time = self.shared.clock.time_to_sign_anew(commit.head.size)?;
        let head = sign(&self.shared.keys, commit.head.size, commit.head.root, time);
        Some(Arc::new(head))
    }

    /// Stores a head, then shows it, or offers it to witnesses: what anybody saw can always be found again.
    fn bring_out(&self, head: Arc<TreeHead>) -> Result<(), OpenError> {
        let shared = &self.shared;
        // A crash before the head is stored: nobody saw it. After: the next start finds it and has to match it.
        if shared.options.witnessing.is_none() {
            // First: what is stored as published is what an export shows.
            self.anchors.write(&head.note)?;
            shared.store.put_published_head(head.size, &head.note)?;
            shared.published.send_replace(Some(head));
            return Ok(());
        }
        // Of the size that readers are shown, or may be after a crash, the head with its cosignatures stays. It is of the same tree.
        let is_shown = self.shown().is_some_and(|(size, _)| size == head.size);
        if !is_shown && self.uncertain != Some(head.size) {
            shared.store.put_head(head.size, &head.note)?;
        }
        self.anchors.write(&head.note)?;
        // A crash from here on: witnesses may have cosigned it, and the next start finds it in the database or the anchors.
        shared.candidates.send_replace(Some(Candidate(head)));
        Ok(())
    }

    /// Adds cosignatures to a candidate, stores it and shows it. What the log signed stays as it is, and no line gets in that a
    /// witness of the policy did not sign.
    fn publish_cosigned(
        &mut self,
        candidate: &Candidate,
        cosignatures: Vec<NoteSignature>,
    ) -> Result<(), PublishError> {
        let shared = self.shared.clone();
        // Without a policy nobody is a witness.
        let witnessing = shared.options.witnessing.as_ref().ok_or(PublishError::Stranger)?;
        let head = shared.keys.keys()[0]
            .verifier_key()
            .verify_head(&candidate.0.note)?
            .with_signatures(cosignatures)?;
        let cosignatures = witnessing.policy.cosignatures(&head)?;
        if head.signatures().len() != shared.keys.keys().len() + cosignatures.len() {
            return Err(PublishError::Stranger);
        }
        if witnessing.without_quorum == WithoutQuorum::Hold {
            witnessing.policy.check_quorum(&cosignatures)?;
        }
        if self.shown() > Some((candidate.0.size, candidate.0.time)) {
            // Whoever saw the larger head would take this one for a rollback, and one signed earlier for a clock set back.
            return Ok(());
        }
        // A crash before this returns: readers keep the head before, and the next start offers this size or a larger one.
        let stored = shared.store.put_published_head(head.size(), head.note_bytes());
        if let Err(problem) = stored {
            self.uncertain = Some(head.size());
            shared.queue.interrupt();
            return Err(problem.into());
        }
        // A crash here: the next start shows it.
        shared.published.send_replace(Some(Arc::new(TreeHead {
            note: head.note_bytes().to_vec(),
            ..TreeHead::clone(&candidate.0)
        })));
        Ok(())
    }

    /// Size and time of the head that readers are shown.
    fn shown(&self) -> Option<(TreeSize, UnixMillis)> {
        let shown = self.shared.published.borrow();
        shown.as_ref().map(|head| (head.size, head.time))
    }
}

/// What readers of a witnessed log are shown from the start: the head that was published last. Nothing older, for they have
/// seen that one; and nothing if it lacks a quorum that it has to have.
pub(crate) fn shown_at_start(
    store: &Store,
    keys: &LogSigner,
    frontier: &Frontier,
    witnessing: &Witnessing,
) -> Result<Option<Arc<TreeHead>>, OpenError> {
    let Some((_, note)) = store.published_head()? else {
        return Ok(None);
    };
    let head = check_signed(store, keys, frontier, &note, "the head published last")?;
    let policy = &witnessing.policy;
    let may_be_shown = match witnessing.without_quorum {
        WithoutQuorum::Publish => true,
        WithoutQuorum::Hold => policy
            .cosignatures(&head)
            .is_ok_and(|cosignatures| policy.is_quorum(&cosignatures)),
    };
    Ok(may_be_shown.then(|| {
        Arc::new(TreeHead {
            origin: head.origin().clone(),
            size: head.size(),
            root: head.root(),
            time: head.time().expect("the first key of a log signs the time"),
            note,
        })
    }))
}
