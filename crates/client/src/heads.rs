//! The heads that the client has seen: each signature checked once, and each head linked to the others in the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use counterfoil_merkle::TreeSize;
use counterfoil_note::{HeadError, Policy, SignedHead};

use crate::{Error, Misbehaviour, NotCosigned};

/// How many verified heads are remembered by their bytes, so that the receipts that share one check it once.
const MAX_CACHED_HEADS: usize = 1024;
/// How many heads may wait to be linked. With more, the next call that sees a head links them first.
pub(crate) const MAX_UNLINKED_HEADS: usize = 16 << 10;

/// Verified heads. *Linked* ones are proved consistent with the largest linked head, the anchor.
pub(crate) struct Heads {
    policy: Policy,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Keyed by the note; bounded, first in first out.
    verified: HashMap<Bytes, Arc<SignedHead>>,
    order: VecDeque<Bytes>,
    /// Signed, but not yet proved consistent with the anchor.
    unlinked: BTreeMap<TreeSize, Arc<SignedHead>>,
    anchor: Option<Arc<SignedHead>>,
}

impl Heads {
    pub(crate) fn new(policy: Policy, anchor: Option<SignedHead>) -> Self {
        let seen = Seen {
            anchor: anchor.map(Arc::new),
            ..Seen::default()
        };
        Self {
            policy,
            seen: Mutex::new(seen),
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Checks the log's signature of a head, and that no other head of its size is known. Says nothing of witnesses: no
    /// witness has seen the head of a receipt that is just made.
    pub(crate) fn verify(&self, note: &[u8]) -> Result<Arc<SignedHead>, Error> {
        if let Some(head) = self.seen().verified.get(note) {
            return Ok(Arc::clone(head));
        }
        // Not under the lock: others may check other heads meanwhile.
        let head = self
            .policy
            .verify_head(note)
            .map_err(|error| Misbehaviour::UnverifiedHead {
                error,
                note: note.to_owned(),
            })?;
        let head = Arc::new(head);
        self.seen().remember(&head)?;
        Ok(head)
    }

    /// Checks that the policy's witnesses cosigned a head that the log presents as published.
    pub(crate) fn check_quorum(&self, head: &SignedHead) -> Result<(), Error> {
        let cosignatures = self
            .policy
            .cosignatures(head)
            .map_err(|error| Misbehaviour::UnverifiedHead {
                error: HeadError::Cosignature(error),
                note: head.note_bytes().to_owned(),
            })?;
        self.policy.check_quorum(&cosignatures).map_err(|problem| {
            let head = head.clone();
            NotCosigned { head, problem }.into()
        })
    }

    /// The largest head, linked or not.
    pub(crate) fn largest(&self) -> Option<Arc<SignedHead>> {
        let seen = self.seen();
        let unlinked = seen.unlinked.last_key_value().map(|(_, head)| head);
        unlinked
            .into_iter()
            .chain(&seen.anchor)
            .max_by_key(|head| head.size())
            .cloned()
    }

    pub(crate) fn anchor(&self) -> Option<Arc<SignedHead>> {
        self.seen().anchor.clone()
    }

    pub(crate) fn unlinked(&self) -> Vec<Arc<SignedHead>> {
        self.seen().unlinked.values().cloned().collect()
    }

    pub(crate) fn must_link(&self) -> bool {
        self.seen().unlinked.len() >= MAX_UNLINKED_HEADS
    }

    /// Takes note of a head that another process saved: it has to be linked like the others.
    pub(crate) fn add(&self, head: &Arc<SignedHead>) -> Result<(), Error> {
        self.seen().expect_link(head)
    }

    /// Records that `heads` are consistent with each other and with `anchor`, the largest of them.
    pub(crate) fn linked(&self, heads: &[Arc<SignedHead>], anchor: &Arc<SignedHead>) {
        let mut seen = self.seen();
        for head in heads {
            seen.unlinked.remove(&head.size());
        }
        seen.anchor = Some(Arc::clone(anchor));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nothing panics while it holds the lock")
    }
}

impl Seen {
    fn remember(&mut self, head: &Arc<SignedHead>) -> Result<(), Error> {
        self.expect_link(head)?;
        let note = Bytes::copy_from_slice(head.note_bytes());
        if self.verified.insert(note.clone(), Arc::clone(head)).is_none() {
            self.order.push_back(note);
        }
        if self.order.len() > MAX_CACHED_HEADS
            && let Some(oldest) = self.order.pop_front()
        {
            self.verified.remove(&oldest);
        }
        Ok(())
    }

    fn expect_link(&mut self, head: &Arc<SignedHead>) -> Result<(), Error> {
        // Every tree begins with the empty one.
        if head.size() == TreeSize::ZERO {
            return Ok(());
        }
        let known = match &mut self.anchor {
            Some(anchor) if anchor.size() == head.size() => Some(anchor),
            _ => self.unlinked.get_mut(&head.size()),
        };
        match known {
            None => {
                self.unlinked.insert(head.size(), Arc::clone(head));
            }
            Some(known) if known.root() != head.root() => {
                let (known, presented) = (SignedHead::clone(known), SignedHead::clone(head));
                return Err(Misbehaviour::Fork { known, presented }.into());
            }
            // Witnesses came to it: their word is worth keeping.
            Some(known) if known.signatures().len() < head.signatures().len() => *known = Arc::clone(head),
            Some(_) => {}
        }
        Ok(())
    }
}
