//! A list of entries, and everything about its trees recomputed from it.

use std::convert::Infallible;

use counterfoil_event::{
    Annotations, Event, EventParts, Protocol, Salt, Submitter, UnstampedEntry,
    adapter::{Adapter, named_by},
};
use counterfoil_merkle::{
    Digest, LeafIndex, NodeId, Suite, TreeSize, consistency_proof, inclusion_proof, root_at,
};

#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) entry: Vec<u8>,
    pub(super) salt: Salt,
    pub(super) event: Event,
    pub(super) annotations: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct History {
    pub(super) suite: Suite,
    pub(super) leaves: Vec<Leaf>,
}

/// The nanosecond at which a leaf is recorded, unless a test wants another.
fn time(index: usize) -> u64 {
    1_795_000_000_000_000_000 + index as u64
}

fn event(number: u64) -> Event {
    Event::try_from(EventParts {
        id: format!("run-{number}"),
        source: "https://ci.example/acme".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data: format!("payload {number}").into(),
        ..EventParts::default()
    })
    .unwrap()
}

impl History {
    pub(super) fn new(suite: Suite) -> Self {
        let leaves = Vec::new();
        Self { suite, leaves }
    }

    fn leaf(&self, event: Event, time_unix_ns: u64) -> Leaf {
        let salt = Salt::from([7; 32]);
        let submitter = Submitter::anonymous();
        let annotations = Annotations::new(&event, &submitter).encode();
        let entry =
            UnstampedEntry::new(self.suite, &event, &salt, &submitter, &annotations, "default").unwrap();
        Leaf {
            entry: entry.stamp(time_unix_ns.try_into().unwrap()),
            salt,
            event,
            annotations,
        }
    }

    /// Records an event; returns its index.
    pub(super) fn record(&mut self, event: Event) -> usize {
        let index = self.leaves.len();
        self.leaves.push(self.leaf(event, time(index)));
        index
    }

    pub(super) fn grow(&mut self, count: usize) {
        for _ in 0..count {
            self.record(event(self.leaves.len() as u64));
        }
    }

    /// Puts another entry in a place.
    pub(super) fn rewrite(&mut self, place: usize) {
        self.leaves[place] = self.leaf(event(1_000_000 + place as u64), time(place));
    }

    pub(super) fn record_at_an_earlier_time(&mut self) {
        let index = self.leaves.len();
        self.leaves
            .push(self.leaf(event(index as u64), time(index) - 1_000));
    }

    /// A delivery of a webhook as an honest log records it; then the same with somebody else as the one who did it.
    pub(super) fn record_false_form(&mut self) {
        for (id, login) in [("1", "octocat"), ("2", "mallory")] {
            let body = r#"{"ref":"refs/heads/main","sender":{"login":"octocat","id":1}}"#;
            let sender = "github".parse().unwrap();
            let parts = EventParts {
                id: id.to_owned(),
                event_type: "github.push".to_owned(),
                data: body.into(),
                extensions: vec![("nativeevent".to_owned(), "push".to_owned())],
                ..EventParts::default()
            };
            let event = Event::received(Protocol::Webhook, &sender, parts);
            let event = named_by(Adapter::GitHub, event.unwrap());
            let (adapter, form) = event.normal_form().unwrap();
            let form = str::from_utf8(form).unwrap().replace("octocat", login);
            let event = event.clone().with_normal_form(adapter, form.into_bytes());
            self.record(event.unwrap());
        }
    }

    pub(super) fn record_no_entry(&mut self) {
        self.grow(1);
        // A field that nobody knows.
        self.leaves.last_mut().unwrap().entry.extend([0x78, 1]);
    }

    pub(super) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    pub(super) fn leaf_hash(&self, index: usize) -> Digest {
        self.suite.leaf_hash(&self.leaves[index].entry)
    }

    pub(super) fn node(&self, node: NodeId) -> Digest {
        if node.level == 0 {
            return self.leaf_hash(usize::try_from(node.index).unwrap());
        }
        let child = |side| {
            self.node(NodeId {
                level: node.level - 1,
                index: 2 * node.index + side,
            })
        };
        self.suite.node_hash(&child(0), &child(1))
    }

    fn read(&self, node: NodeId) -> Result<Digest, Infallible> {
        Ok(self.node(node))
    }

    pub(super) fn root(&self, size: u64) -> Digest {
        root_at(self.suite, TreeSize::new(size).unwrap(), |node| self.read(node)).unwrap()
    }

    /// None where the history has no such tree.
    pub(super) fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        let (index, tree) = (LeafIndex::new(index).ok()?, TreeSize::new(size).ok()?);
        let known = size <= self.size();
        known
            .then(|| inclusion_proof(self.suite, index, tree, |node| self.read(node)).ok())
            .flatten()
    }

    /// None where the history has no such trees.
    pub(super) fn consistency(&self, first: u64, second: u64) -> Option<Vec<Digest>> {
        let (from, to) = (TreeSize::new(first).ok()?, TreeSize::new(second).ok()?);
        let known = second <= self.size();
        known
            .then(|| consistency_proof(self.suite, from, to, |node| self.read(node)).ok())
            .flatten()
    }
}
