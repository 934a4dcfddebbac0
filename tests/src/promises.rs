//! Everything that a log ever promised to anyone, and whether it keeps it.

use std::collections::{HashMap, HashSet};

use counterfoil_event::{Attributes, Event};
use counterfoil_merkle::{Digest, TreeSize, verify_consistency, verify_inclusion};
use counterfoil_note::SignedHead;
use counterfoil_proto::{
    digests,
    v1::{self, leaf_selector::Leaf, submit_result::Outcome},
};
use counterfoil_verify::{Receipt, ReceiptVerifier, VerifiedReceipt};
use fastrand::Rng;

use crate::{
    Acknowledged, Connection, Delivered, Delivery, Hook, Notes, Replica, Server, Shown, TestLog, entry_at,
    head, receipt_of,
};

const BATCH_EVENTS: usize = 64;
/// Of what a round left, so many are asked for one by one; the whole log is recomputed in any case.
const SAMPLE: usize = 48;

/// One entry that was promised.
#[derive(Debug, Clone)]
struct Promise {
    index: u64,
    leaf_hash: Digest,
    size: TreeSize,
    root: Digest,
    /// What names the event. Webhooks are named by their delivery.
    source: String,
    id: String,
}

/// Every promise of one log, and the log as it was last read.
#[derive(Clone)]
pub struct Promises {
    replica: Replica,
    promises: Vec<Promise>,
    heads: Vec<(TreeSize, Digest)>,
    newest_head: Option<SignedHead>,
}

impl Promises {
    /// Of a log that promised nothing yet.
    pub fn new(log: &TestLog) -> Self {
        Self {
            replica: Replica::new(log),
            promises: Vec::new(),
            heads: Vec::new(),
            newest_head: None,
        }
    }

    /// Entries promised so far.
    pub fn entries(&self) -> usize {
        self.promises.len()
    }

    /// Published heads seen so far.
    pub fn heads(&self) -> usize {
        self.heads.len()
    }

    /// Checks a restarted server against everything that was promised, then settles what the round left open: what was not
    /// answered may be in the log or not, and sent again it is acknowledged, once.
    ///
    /// # Panics
    /// If a promise is broken.
    pub async fn check(
        &mut self,
        server: &Server,
        log: &TestLog,
        hook: &Hook,
        notes: Notes,
        random: &mut Rng,
    ) {
        let mut new = Vec::new();
        let mut last_head = None;
        for Acknowledged { event, receipt, .. } in &notes.acknowledged {
            let verified = verify(receipt, log, &mut last_head);
            verified
                .commits_to(&Event::try_from(event.clone()).unwrap())
                .unwrap();
            new.push(Promise {
                index: verified.index().get(),
                leaf_hash: verified.leaf_hash(),
                size: verified.head().size(),
                root: verified.head().root(),
                source: event.source.clone(),
                id: event.id.clone(),
            });
        }
        new.extend(notes.delivered.iter().map(promised_by));
        for Shown { head, .. } in &notes.heads {
            let shown = log.key().verify_head(&head.checkpoint).unwrap();
            self.heads.push((shown.size(), shown.root()));
            let at = |head: &SignedHead| (head.size(), head.time());
            if self
                .newest_head
                .as_ref()
                .is_none_or(|newest| at(newest) < at(&shown))
            {
                self.newest_head = Some(shown);
            }
        }

        let mut reader = server.reader();
        // What it shows of itself, before anything newer is asked for.
        if self.newest_head.is_some() {
            self.assert_grown_to(&head(&mut reader, log, 0).await);
        }
        // A head that has yet to be cosigned is shown a little later.
        let sizes = new.iter().map(|promise| promise.size.get());
        let known = sizes.chain(self.heads.iter().map(|(size, _)| size.get())).max();
        let now = self.replica.catch_up(&mut reader, log, known.unwrap_or(0)).await;
        self.assert_grown_to(&now);
        for (size, root) in &self.heads {
            self.replica.assert_head(*size, *root);
        }
        for promise in &new {
            self.replica.assert_head(promise.size, promise.root);
            assert_eq!(
                self.replica.leaf_hash(promise.index),
                Some(promise.leaf_hash),
                "{promise:?}"
            );
        }
        let mut indices = HashSet::new();
        for promise in &new {
            let is_new = indices.insert(promise.index);
            assert!(is_new, "two events were given entry {}", promise.index);
        }
        self.promises.append(&mut new);
        self.check_old(server, log, &now, random).await;
        check_known(server, log, &notes, random).await;
        let size = settle(server, hook, notes).await;
        let settled = self.replica.catch_up(&mut reader, log, size).await;
        self.heads.push((settled.size(), settled.root()));
        self.newest_head = Some(settled);
    }

    /// A head that was seen stays a prefix of what is seen later, and time does not go back.
    fn assert_grown_to(&self, now: &SignedHead) {
        let Some(before) = &self.newest_head else { return };
        assert!(
            before.size() <= now.size(),
            "a head of {} was published, and now one of {}",
            before.size(),
            now.size()
        );
        assert!(before.time() <= now.time(), "the time of heads went back");
    }

    /// Asks the server itself about some of what was promised at any time.
    async fn check_old(&self, server: &Server, log: &TestLog, now: &SignedHead, random: &mut Rng) {
        let suite = log.key().suite();
        let mut reader = server.reader();
        for _ in 0..SAMPLE.min(self.promises.len()) {
            let promise = &self.promises[random.usize(..self.promises.len())];
            let request = v1::GetInclusionProofRequest {
                log: String::new(),
                leaf: Some(v1::LeafSelector {
                    leaf: Some(Leaf::LeafHash(promise.leaf_hash.as_bytes().to_vec().into())),
                }),
                tree_size: Some(now.size().get()),
            };
            let proof = reader.get_inclusion_proof(request).await.unwrap().into_inner();
            assert_eq!(proof.leaf_index, promise.index);
            let hashes = digests("hashes", &proof.hashes).unwrap();
            let index = proof.leaf_index.try_into().unwrap();
            verify_inclusion(suite, promise.leaf_hash, index, now.size(), &hashes, now.root()).unwrap();
            if !promise.source.is_empty() {
                let name = v1::EventName {
                    source: promise.source.clone(),
                    id: promise.id.clone(),
                };
                let found = receipt_of(&mut reader, log, Leaf::Event(name)).await.unwrap();
                assert_eq!(found.index().get(), promise.index);
            }
        }
        for _ in 0..2.min(self.heads.len()) {
            let (size, root) = self.heads[random.usize(..self.heads.len())];
            let request = v1::GetConsistencyProofRequest {
                log: String::new(),
                first_tree_size: size.get(),
                second_tree_size: now.size().get(),
            };
            let proof = reader.get_consistency_proof(request).await.unwrap().into_inner();
            let hashes = digests("hashes", &proof.hashes).unwrap();
            verify_consistency(suite, size, root, now.size(), now.root(), &hashes).unwrap();
        }
    }

    /// Reads the whole log and asserts that no event has two entries, and each promised one its own. Returns the entries.
    pub async fn assert_each_event_once(&self, server: &Server) -> usize {
        let request = v1::ReadEntriesRequest {
            with_payload: true,
            ..v1::ReadEntriesRequest::default()
        };
        let mut chunks = server.reader().read_entries(request).await.unwrap().into_inner();
        let mut names = HashMap::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            for entry in chunk.entries {
                let attributes = Attributes::decode_canonical(&entry.payload.unwrap().attributes).unwrap();
                let before = names.insert((attributes.source, attributes.id), entry.leaf_index);
                assert_eq!(before, None, "entry {} repeats an event", entry.leaf_index);
            }
        }
        for promise in self.promises.iter().filter(|promise| !promise.source.is_empty()) {
            let name = (promise.source.clone(), promise.id.clone());
            assert_eq!(names.get(&name), Some(&promise.index), "{name:?}");
        }
        for promise in &self.promises {
            self.replica.assert_head(promise.size, promise.root);
            assert_eq!(self.replica.leaf_hash(promise.index), Some(promise.leaf_hash));
        }
        for (size, root) in &self.heads {
            self.replica.assert_head(*size, *root);
        }
        names.len()
    }
}

/// What the answer to a webhook promises. Its head is not signed there; it must be true all the same.
fn promised_by(delivered: &Delivered) -> Promise {
    let number = |name: &str| delivered.answer[name].as_u64().unwrap();
    let hash = |name: &str| delivered.answer[name].as_str().unwrap().parse().unwrap();
    assert_eq!(delivered.answer["duplicate"], false);
    Promise {
        index: number("leaf_index"),
        leaf_hash: hash("leaf_hash"),
        size: TreeSize::new(number("tree_size")).unwrap(),
        root: hash("root_hash"),
        source: String::new(),
        id: delivered.delivery.id.clone(),
    }
}

/// Most receipts share their head with the one before, whose signature was checked already.
fn verify(receipt: &Receipt, log: &TestLog, last: &mut Option<SignedHead>) -> VerifiedReceipt {
    if let Some(head) = last
        .as_ref()
        .filter(|head| head.note_bytes() == receipt.checkpoint)
    {
        return ReceiptVerifier::new(head.clone().into()).verify(receipt).unwrap();
    }
    let verified = receipt.verify(log.key()).unwrap();
    *last = Some(verified.head().clone());
    verified
}

/// What was acknowledged, sent again, is known.
async fn check_known(server: &Server, log: &TestLog, notes: &Notes, random: &mut Rng) {
    let samples = random.choose_multiple(notes.acknowledged.iter(), SAMPLE);
    let events = samples.iter().map(|sample| sample.event.clone()).collect();
    for (again, Acknowledged { event, receipt, .. }) in
        submit_again(server, events).await.into_iter().zip(&samples)
    {
        assert!(again.duplicate);
        assert_eq!(
            (again.leaf_index, &again.entry[..]),
            (receipt.index.get(), &receipt.entry[..])
        );
        let stored = entry_at(&mut server.reader(), log, again.leaf_index)
            .await
            .unwrap();
        assert_eq!(stored.payload.unwrap().data, event.data);
    }
}

/// Returns a size that covers all that was settled.
async fn settle(server: &Server, hook: &Hook, notes: Notes) -> u64 {
    let mut size = 0;
    for events in notes.unanswered.chunks(BATCH_EVENTS) {
        let first = submit_again(server, events.to_vec()).await;
        let second = submit_again(server, events.to_vec()).await;
        for (first, second) in first.into_iter().zip(second) {
            assert!(second.duplicate);
            assert_eq!((first.leaf_index, first.entry), (second.leaf_index, second.entry));
            size = size.max(second.leaf_index + 1);
        }
    }
    let known = notes.delivered.into_iter().rev().take(4);
    let known = known.map(|delivered| (delivered.delivery, delivered.answer["leaf_index"].as_u64()));
    let unknown = notes.undelivered.into_iter().map(|delivery| (delivery, None));
    for (delivery, expected) in known.chain(unknown) {
        let first = deliver_again(server, hook, &delivery);
        let second = deliver_again(server, hook, &delivery);
        assert_eq!(first, second);
        assert!(expected.is_none_or(|expected| expected == first));
        size = size.max(first + 1);
    }
    size
}

async fn submit_again(server: &Server, events: Vec<v1::Event>) -> Vec<v1::Accepted> {
    if events.is_empty() {
        return Vec::new();
    }
    let request = v1::SubmitBatchRequest {
        log: String::new(),
        events,
    };
    let response = server
        .submitter()
        .submit_batch(request)
        .await
        .unwrap()
        .into_inner();
    let accepted = |result: v1::SubmitResult| match result.outcome.unwrap() {
        Outcome::Accepted(accepted) => accepted,
        Outcome::Refused(refused) => panic!("{refused:?}"),
    };
    response.results.into_iter().map(accepted).collect()
}

fn deliver_again(server: &Server, hook: &Hook, delivery: &Delivery) -> u64 {
    let answer = hook
        .try_deliver(&mut Connection::to(server.address()), delivery)
        .unwrap();
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    answer["leaf_index"].as_u64().unwrap()
}
