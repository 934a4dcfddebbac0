//! What the log told anybody, and whether it holds.
//!
//! Whoever is told something by a machine that still runs was given a promise. Nothing here is taken from the log's own
//! memory: the tree is built anew from the entries that it stores.

use std::collections::BTreeMap;

use counterfoil_event::{Annotations, Attributes, Entry, Event, EventKey, Submitter, conflict_event};
use counterfoil_log::{Outcome, ProvenLeaf, StoredEntry, Submitted, TreeHead};
use counterfoil_merkle::{CompactRange, Digest, LeafIndex, Suite, TileId, TilePath, TileWidth, TreeSize};
use counterfoil_note::{SignedHead, VerifierKey};
use counterfoil_simulated_machine::machine;
use counterfoil_verify::{Receipt, ReceiptVerifier, VerifiedReceipt};

/// Ends the simulation: the log did what it must not.
macro_rules! broken {
    ($($what:tt)*) => {
        panic!("a promise is broken: {}", format_args!($($what)*))
    };
}
pub(crate) use broken;

/// From here on the store compresses a payload alone.
const COMPRESSED_FROM_BYTES: usize = 4_096;

/// All that one log has promised.
pub(crate) struct Promises {
    pub(crate) suite: Suite,
    pub(crate) keys: Vec<VerifierKey>,
    /// The entries under a head that somebody saw.
    entries: Vec<Vec<u8>>,
    tree: CompactRange,
    /// The root of each size from 0 on.
    roots: Vec<Digest>,
    /// Heads that somebody saw or that lay in an anchor, by size.
    heads: BTreeMap<u64, Seen>,
    /// Notes whose signatures were checked.
    notes: BTreeMap<Vec<u8>, SignedHead>,
    /// Size and time of the newest head that readers were shown.
    shown: Option<(u64, u64)>,
    /// The size of the newest head that was said to be exported.
    pub(crate) exported: u64,
    events: BTreeMap<[u8; 32], Known>,
    newest_answered: Option<LeafIndex>,
    next_number: u64,
    pub(crate) tally: Tally,
}

/// Heads of one size: one root.
struct Seen {
    root: Digest,
    /// The earliest time that one was signed at, and the latest. `None` if all that is known of lies in an anchor.
    times: Option<(u64, u64)>,
}

/// An event by its source and id.
#[derive(Default)]
struct Known {
    /// All that was submitted under them.
    variants: Vec<Event>,
    /// The one of them that is on record, if it is known.
    on_record: Option<Event>,
    /// What the log said of them.
    place: Option<LeafIndex>,
    /// The log said that it is on record, perhaps not where.
    is_recorded: bool,
    /// The log said once that it was new.
    was_new: bool,
}

/// A call that has no answer yet.
pub(crate) struct Call {
    pub(crate) events: Vec<Event>,
    /// Which of them were on record before.
    is_known: Vec<bool>,
    newest_answered: Option<LeafIndex>,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Comparisons of something promised with what there is.
    pub checked: u64,
    /// Events that the log said were new, each with a receipt.
    pub acknowledged: u64,
    /// Different signed heads that somebody saw.
    pub heads: u64,
    /// Heads that were published with lines of witnesses.
    pub cosigned: u64,
    /// Events that were found by one of their names.
    pub found: u64,
    /// Times that the whole log was checked, and sound.
    pub fscks: u64,
    /// Exported files that a checkpoint covers, compared.
    pub exported_files: u64,
    /// Entries whose payloads are long enough to be compressed alone.
    pub long_payloads: u64,
}

impl Tally {
    pub(crate) fn found_sound(&mut self) {
        self.checked += 1;
        self.fscks += 1;
    }

    pub(crate) fn found_event(&mut self) {
        self.checked += 1;
        self.found += 1;
    }

    pub(crate) fn found_exported(&mut self) {
        self.checked += 1;
        self.exported_files += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.acknowledged += other.acknowledged;
        self.heads += other.heads;
        self.cosigned += other.cosigned;
        self.found += other.found;
        self.fscks += other.fscks;
        self.exported_files += other.exported_files;
        self.long_payloads += other.long_payloads;
    }
}

impl Promises {
    pub(crate) fn new(keys: Vec<VerifierKey>) -> Self {
        let suite = keys[0].suite();
        let tree = CompactRange::new(suite);
        Self {
            suite,
            keys,
            entries: Vec::new(),
            roots: vec![tree.root()],
            tree,
            heads: BTreeMap::new(),
            notes: BTreeMap::new(),
            shown: None,
            exported: 0,
            events: BTreeMap::new(),
            newest_answered: None,
            next_number: 0,
            tally: Tally::default(),
        }
    }

    /// Somebody saw a signed head, wherever it came from.
    pub(crate) fn see_head(&mut self, note: &[u8]) -> SignedHead {
        self.tally.checked += 1;
        if let Some(head) = self.notes.get(note) {
            return head.clone();
        }
        let head = self.verified(note);
        self.notes.insert(note.to_vec(), head.clone());
        self.tally.heads += 1;
        machine(|machine| machine.note(b"head", note));
        self.count_head(&head);
        head
    }

    /// What lies in an anchor was signed, and nobody may have been told. Its time says nothing: the power may go before its name is on
    /// disk, and a log that never showed it may sign a larger tree at an earlier one.
    pub(crate) fn see_anchor(&mut self, note: &[u8]) -> SignedHead {
        self.tally.checked += 1;
        let head = self.verified(note);
        self.count_root(&head);
        head
    }

    fn verified(&self, note: &[u8]) -> SignedHead {
        let mut verified = self.keys.iter().rev().map(|key| match key.verify_head(note) {
            Ok(head) => head,
            Err(problem) => broken!("a head does not verify: {problem}"),
        });
        // By the first key, whose head has a time.
        verified.by_ref().last().expect("a log has a key")
    }

    /// Holds a head against all others.
    fn count_head(&mut self, head: &SignedHead) {
        self.count_root(head);
        let (size, time) = (head.size().get(), head.time().map_or(0, |time| time.get()));
        let mut smaller = self.heads.range(..size).rev();
        if let Some((smaller, latest)) = smaller.find_map(|(size, seen)| Some((size, seen.times?.1)))
            && latest > time
        {
            broken!("size {smaller} was signed at {latest}, and size {size} at {time}");
        }
        let mut larger = self.heads.range(size + 1..);
        if let Some((larger, earliest)) = larger.find_map(|(size, seen)| Some((size, seen.times?.0)))
            && earliest < time
        {
            broken!("size {larger} was signed at {earliest}, and size {size} at {time}");
        }
        let seen = self.heads.get_mut(&size).expect("its root was counted");
        let (earliest, latest) = seen.times.unwrap_or((time, time));
        seen.times = Some((earliest.min(time), latest.max(time)));
    }

    /// Of each size there is one root.
    fn count_root(&mut self, head: &SignedHead) {
        let (size, root) = (head.size().get(), head.root());
        if let Some(known) = self.roots.get(place(size))
            && *known != root
        {
            broken!("the head of size {size} has the root {root}, and the entries make {known}");
        }
        let seen = self.heads.entry(size).or_insert(Seen { root, times: None });
        if seen.root != root {
            broken!("two heads of size {size} have different roots");
        }
    }

    /// Readers were shown a head: never an older one than before.
    pub(crate) fn see_shown(&mut self, note: &[u8]) -> SignedHead {
        let head = self.see_head(note);
        let now = (head.size().get(), head.time().map_or(0, |time| time.get()));
        if let Some(before) = self.shown
            && before > now
        {
            broken!(
                "after the head of size {} at {} readers were shown that of size {} at {}",
                before.0,
                before.1,
                now.0,
                now.1
            );
        }
        self.shown = Some(now);
        head
    }

    /// The files that a checkpoint of this size covers, as they must be exported. None of a larger tree than was audited.
    pub(crate) fn exported_files(&self, size: TreeSize) -> Vec<(TilePath, Vec<u8>)> {
        let full = usize::from(TileId::FULL_WIDTH);
        let width_of = |count: usize| {
            let width = u16::try_from(count).ok().and_then(TileWidth::new);
            width.expect("a chunk has 1 to 256 of them")
        };
        let entries = self.entries.get(..place(size.get())).unwrap_or_default();
        let mut files = Vec::new();
        for (bundle, entries) in (0..).zip(entries.chunks(full)) {
            let mut bytes = Vec::new();
            for entry in entries {
                let length = u16::try_from(entry.len()).expect("entries are limited to less");
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(entry);
            }
            let width = width_of(entries.len());
            files.push((TilePath::Entries { bundle, width }, bytes));
        }
        let mut hashes: Vec<_> = entries.iter().map(|entry| self.suite.leaf_hash(entry)).collect();
        let mut level = 0;
        while !hashes.is_empty() {
            for (index, hashes) in (0..).zip(hashes.chunks(full)) {
                let tile = TileId { level, index };
                let width = width_of(hashes.len());
                let bytes = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
                files.push((TilePath::Tile { tile, width }, bytes));
            }
            hashes = hashes
                .chunks_exact(full)
                .map(|below| self.root_of(below))
                .collect();
            level += 1;
        }
        files
    }

    fn root_of(&self, hashes: &[Digest]) -> Digest {
        let mut tree = CompactRange::new(self.suite);
        hashes.iter().for_each(|hash| tree.append(*hash));
        tree.root()
    }

    /// The size of the newest head that readers were shown.
    pub(crate) fn shown_size(&self) -> u64 {
        self.shown.map_or(0, |(size, _)| size)
    }

    /// The size of the newest head that readers were shown, or could take from an export.
    pub(crate) fn told_size(&self) -> u64 {
        self.shown_size().max(self.exported)
    }

    /// The largest size of which somebody saw a head, or an anchor had one.
    pub(crate) fn largest_seen(&self) -> u64 {
        self.heads.keys().next_back().copied().unwrap_or(0)
    }

    /// Any size and root that is known, by chance.
    pub(crate) fn any_head(&self) -> Option<(u64, Digest)> {
        let place = machine(|machine| machine.chance().usize(..self.heads.len().max(1)));
        let (size, seen) = self.heads.iter().nth(place)?;
        Some((*size, seen.root))
    }

    /// A call is on its way. Returns what [`answered`](Self::answered) has to be told.
    pub(crate) fn submitted(&mut self, events: Vec<Event>) -> Call {
        let is_known = events.iter().map(|event| {
            let known = self.events.entry(*event.key().as_bytes()).or_default();
            if !known.variants.contains(event) {
                known.variants.push(event.clone());
            }
            known.place.is_some()
        });
        Call {
            is_known: is_known.collect(),
            newest_answered: self.newest_answered,
            events,
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self, call: &Call, answer: &Submitted) {
        let head = self.see_head(&answer.head.note);
        let mut verifier = ReceiptVerifier::new(head.into());
        if answer.outcomes.len() != call.events.len() {
            broken!(
                "{} events have {} outcomes",
                call.events.len(),
                answer.outcomes.len()
            );
        }
        let mut next = None;
        let events = call.events.iter().zip(&call.is_known);
        for ((event, is_known), outcome) in events.zip(&answer.outcomes) {
            let (leaf, is_new) = match outcome {
                Outcome::Recorded(leaf) => (leaf, true),
                Outcome::Duplicate(leaf) => (leaf, false),
                Outcome::Conflict { existing } => {
                    self.refused(event, *existing);
                    continue;
                }
            };
            let index = leaf.index;
            let verified = verified(&mut verifier, leaf);
            if let Err(problem) = verified.commits_to(event) {
                broken!("the receipt of entry {index} is not of the event: {problem}");
            }
            if is_new {
                if call.newest_answered >= Some(index) {
                    broken!("entry {index} was submitted after a later one was answered");
                }
                if next.is_some_and(|next| next != index.get()) {
                    broken!("the events of a call do not lie side by side at {index}");
                }
                next = Some(index.get() + 1);
                if *is_known || self.known(&event.key()).was_new {
                    broken!("an event on record was recorded again at {index}");
                }
                self.known(&event.key()).was_new = true;
            }
            self.recorded(event, index);
            self.require_entry(index, &leaf.entry);
            self.newest_answered = self.newest_answered.max(Some(index));
            self.tally.acknowledged += u64::from(is_new);
            self.tally.checked += 1;
        }
    }

    /// A reader was given an entry with its proof.
    pub(crate) fn proved(&mut self, head: &TreeHead, leaf: &ProvenLeaf) {
        let head = self.see_head(&head.note);
        verified(&mut ReceiptVerifier::new(head.into()), leaf);
        self.require_entry(leaf.index, &leaf.entry);
        self.tally.checked += 1;
    }

    fn recorded(&mut self, event: &Event, index: LeafIndex) {
        let known = self.known(&event.key());
        if let Some(place) = known.place
            && place != index
        {
            broken!("the event of entry {place} was said to be at {index}");
        }
        known.place = Some(index);
        known.is_recorded = true;
        known.on_record = Some(event.clone());
    }

    /// Other bytes are on record at `existing`, and now this attempt is as well.
    fn refused(&mut self, event: &Event, existing: LeafIndex) {
        let known = self.known(&event.key());
        if known.place.is_some_and(|place| place != existing) {
            broken!("an event is in conflict with entry {existing}, and was recorded elsewhere");
        }
        if known.variants.len() < 2 || known.on_record.as_ref() == Some(event) {
            broken!("an event is in conflict with itself");
        }
        known.place = Some(existing);
        known.is_recorded = true;
        let record = conflict_event(existing, event);
        let known = self.events.entry(*record.key().as_bytes()).or_default();
        known.is_recorded = true;
        self.tally.checked += 1;
    }

    fn known(&mut self, key: &EventKey) -> &mut Known {
        self.events.get_mut(key.as_bytes()).expect("it was submitted")
    }

    fn require_entry(&self, index: LeafIndex, entry: &[u8]) {
        let stored = self.entries.get(place(index.get()));
        if stored.is_some_and(|stored| stored != entry) {
            broken!("entry {index} was changed");
        }
    }

    /// Compares everything that was ever promised with what the log holds now: all its entries, and the head of them.
    pub(crate) fn audit(&mut self, head: &[u8], stored: &[StoredEntry]) {
        let head = self.see_head(head);
        let size = head.size().get();
        if size < self.largest_seen() || size != stored.len() as u64 {
            broken!(
                "a head of size {} was seen; the log's is of {size}, and it has {} entries",
                self.largest_seen(),
                stored.len()
            );
        }
        let known = self.entries.len();
        for (place, row) in stored.iter().enumerate() {
            if row.index.get() != place as u64 {
                broken!("entry {place} is missing");
            }
            if place < known {
                self.require_entry(row.index, &row.entry);
            } else {
                self.tree.append(self.suite.leaf_hash(&row.entry));
                self.roots.push(self.tree.root());
                self.entries.push(row.entry.clone());
            }
            self.audit_event(row, place < known);
            self.tally.checked += 1;
        }
        for (size, seen) in self.heads.range(known as u64..) {
            if self.roots[place(*size)] != seen.root {
                broken!("a head of size {size} was signed that the entries do not make");
            }
        }
        for known in self.events.values() {
            if known.is_recorded && known.place.is_none_or(|place| place.get() >= size) {
                broken!("an event that was acknowledged is not on record");
            }
        }
    }

    /// An entry is of an event that somebody submitted, or of the log itself; and no event has two.
    fn audit_event(&mut self, row: &StoredEntry, seen_before: bool) {
        let index = row.index;
        let Some(payload) = &row.payload else {
            broken!("entry {index} has lost its payload");
        };
        let attributes = Attributes::decode_canonical(&payload.attributes);
        let attributes = attributes.unwrap_or_else(|problem| broken!("entry {index}: {problem}"));
        let key = EventKey::new(&attributes.source, &attributes.id);
        let is_own = attributes.source == "log";
        if is_own {
            self.events.entry(*key.as_bytes()).or_default();
        }
        let Some(known) = self.events.get_mut(key.as_bytes()) else {
            broken!("entry {index} is of an event that nobody submitted");
        };
        if known.place.is_some_and(|place| place != index) {
            broken!("entry {index} records the event of another entry");
        }
        known.place = Some(index);
        known.is_recorded = true;
        if is_own {
            return;
        }
        let Some(event) = known.variants.iter().find(|event| *event.data() == payload.data) else {
            broken!("the payload of entry {index} is not what was submitted");
        };
        if payload.annotations != Annotations::new(event, &Submitter::anonymous()).encode() {
            broken!("entry {index} has lost the normal form of its event, or has another");
        }
        if seen_before {
            return;
        }
        let bytes = payload.attributes.len() + payload.annotations.len() + payload.data.len();
        self.tally.long_payloads += u64::from(bytes >= COMPRESSED_FROM_BYTES);
        let entry = Entry::decode(&row.entry).unwrap_or_else(|problem| broken!("entry {index}: {problem}"));
        if let Err(problem) = entry.commits_to(self.suite, &payload.salt, event) {
            broken!("entry {index} is not of the event that was submitted: {problem}");
        }
        known.on_record = Some(event.clone());
    }

    /// Events on record, with what was submitted under their names: the variants, by chance in any order.
    pub(crate) fn recorded_events(&self) -> Vec<Event> {
        let recorded = self.events.values().filter(|known| known.place.is_some());
        recorded
            .flat_map(|known| known.variants.iter().cloned())
            .collect()
    }

    /// The number of an event that nobody submitted yet.
    pub(crate) fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Any event that was submitted, whatever came of it.
    pub(crate) fn any_event(&self) -> Option<Event> {
        let submitted = || self.events.values().filter(|known| !known.variants.is_empty());
        let count = submitted().count();
        let place = machine(|machine| machine.chance().usize(..count.max(1)));
        let known = submitted().nth(place)?;
        let variant = machine(|machine| machine.chance().usize(..known.variants.len()));
        Some(known.variants[variant].clone())
    }

    /// Where the log said that an event is.
    pub(crate) fn place_of(&self, event: &Event) -> Option<LeafIndex> {
        self.events.get(event.key().as_bytes())?.place
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("logs here are small")
}

fn verified(verifier: &mut ReceiptVerifier, leaf: &ProvenLeaf) -> VerifiedReceipt {
    let receipt = Receipt {
        index: leaf.index,
        entry: leaf.entry.clone(),
        salt: leaf.salt,
        inclusion_proof: leaf.inclusion_proof.clone(),
        checkpoint: verifier.head().note_bytes().to_vec(),
    };
    match verifier.verify(&receipt) {
        Ok(verified) => verified,
        Err(problem) => broken!("the receipt of entry {}: {problem}", leaf.index),
    }
}
