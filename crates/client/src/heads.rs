//! The heads that the client has seen: each signature checked once, and each head linked to the others in the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use counterfoil_merkle::TreeSize;
use counterfoil_note::{SignedHead, VerifierKey};

use crate::{Error, Misbehaviour};

/// How many verified heads are remembered by their bytes, so that the receipts that share one check it once.
const MAX_CACHED_HEADS: usize = 1024;
/// How many heads may wait to be linked. With more, the next call that sees a head links them first.
pub(crate) const MAX_UNLINKED_HEADS: usize = 16 << 10;

/// Verified heads. *Linked* ones are proved consistent with the largest linked head, the anchor.
pub(crate) struct Heads {
    key: VerifierKey,
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
    pub(crate) fn new(key: VerifierKey, anchor: Option<SignedHead>) -> Self {
        let seen = Seen {
            anchor: anchor.map(Arc::new),
            ..Seen::default()
        };
        Self {
            key,
            seen: Mutex::new(seen),
        }
    }

    pub(crate) fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Checks the signature of a head, and that no other head of its size is known.
    pub(crate) fn verify(&self, note: &[u8]) -> Result<Arc<SignedHead>, Error> {
        if let Some(head) = self.seen().verified.get(note) {
            return Ok(Arc::clone(head));
        }
        // Not under the lock: others may check other heads meanwhile.
        let head = self
            .key
            .verify_head(note)
            .map_err(|error| Misbehaviour::UnverifiedHead {
                error,
                note: note.to_owned(),
            })?;
        let head = Arc::new(head);
        self.seen().remember(&head)?;
        Ok(head)
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
        let anchor = self.anchor.as_ref().filter(|anchor| anchor.size() == head.size());
        if let Some(known) = anchor.or_else(|| self.unlinked.get(&head.size())) {
            return match known.root() == head.root() {
                true => Ok(()),
                false => Err(Misbehaviour::Fork {
                    known: SignedHead::clone(known),
                    presented: SignedHead::clone(head),
                }
                .into()),
            };
        }
        self.unlinked.insert(head.size(), Arc::clone(head));
        Ok(())
    }
}
