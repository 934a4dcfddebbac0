//! Logs in temporary directories, and the audit: everything a log says, derived anew from the entries that it stores.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use counterfoil_event::{Attributes, Entry, Event, EventKey, EventParts, Genesis, Submitter};
use counterfoil_log::{
    DataDirectory, LeafName, Log, LogDirectory, LogName, LogOptions, OpenError, Outcome, ProvenLeaf,
    SubmitError, Submitted, TreeHead, create_log,
};
use counterfoil_merkle::{
    CompactRange, Digest, LeafIndex, Suite, TreeSize, verify_consistency, verify_inclusion,
};
use counterfoil_verify::{Receipt, VerifiedReceipt};

pub(crate) const SUITES: [Suite; 2] = [Suite::Blake3, Suite::Sha256];

/// A log's directory for the length of a test.
pub(crate) struct Place {
    root: tempfile::TempDir,
    pub(crate) suite: Suite,
}

impl Place {
    pub(crate) fn new(suite: Suite) -> Self {
        let place = Self {
            root: tempfile::tempdir().unwrap(),
            suite,
        };
        create_log(
            &place.data(),
            &name(),
            &"log.example/test".parse().unwrap(),
            suite,
        )
        .unwrap();
        place
    }

    pub(crate) fn data(&self) -> DataDirectory {
        DataDirectory::new(self.root.path())
    }

    pub(crate) fn directory(&self) -> LogDirectory {
        self.data().log(&name())
    }

    pub(crate) fn open(&self) -> Log {
        self.open_with(options()).unwrap()
    }

    pub(crate) fn open_with(&self, options: LogOptions) -> Result<Log, OpenError> {
        Log::open(&self.data(), &name(), options)
    }

    /// A directory beside the data.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Copies the log's directory to `to`.
    pub(crate) fn back_up(&self, to: &Path) {
        copy(self.directory().path(), to);
    }

    /// Replaces the log's directory by the copy in `from`.
    pub(crate) fn restore(&self, from: &Path) {
        fs::remove_dir_all(self.directory().path()).unwrap();
        copy(from, self.directory().path());
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

pub(crate) fn name() -> LogName {
    LogName::default()
}

/// Little memory, so that reads go to the disk, and no head published unless a test wants one.
pub(crate) fn options() -> LogOptions {
    LogOptions {
        memory_bytes: 16 << 20,
        publish_interval: Duration::from_secs(3600),
        resign_interval: Duration::from_secs(3600),
        min_free_bytes: 0,
        ..LogOptions::default()
    }
}

pub(crate) fn event(id: impl ToString, data: impl AsRef<[u8]>) -> Event {
    Event::try_from(EventParts {
        id: id.to_string(),
        source: "https://ci.example/acme".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: data.as_ref().to_vec().into(),
        ..EventParts::default()
    })
    .unwrap()
}

/// Events with ids of their own, each with its id as payload.
pub(crate) fn events(ids: impl IntoIterator<Item = usize>) -> Vec<Event> {
    ids.into_iter().map(|id| event(id, id.to_string())).collect()
}

/// Hands events over as one call. They have their place in the queue when this returns.
pub(crate) fn submit(
    log: &Log,
    events: &[Event],
) -> impl Future<Output = Result<Submitted, SubmitError>> + Send + use<> {
    let prepared = events
        .iter()
        .map(|event| log.prepare(event.clone(), &Submitter::anonymous()))
        .collect();
    log.submit(prepared)
}

/// Records events in calls of 4,096 and checks every receipt.
pub(crate) async fn record(log: &Log, events: &[Event]) {
    let calls: Vec<_> = events
        .chunks(4_096)
        .map(|call| (call, submit(log, call)))
        .collect();
    for (call, answer) in calls {
        let submitted = answer.await.unwrap();
        for (event, outcome) in call.iter().zip(&submitted.outcomes) {
            assert!(matches!(outcome, Outcome::Recorded(_)), "{outcome:?}");
            check_receipt(log, &submitted.head, outcome, event);
        }
        assert_eq!(call.len(), submitted.outcomes.len());
    }
}

/// What a future answers at once, without waiting for anything.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    // Its answer alone is of interest, not whether the runtime would rather go on with another task.
    match pin!(tokio::task::coop::unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(crate) fn leaf(outcome: &Outcome) -> &ProvenLeaf {
    match outcome {
        Outcome::Recorded(leaf) | Outcome::Duplicate(leaf) => leaf,
        Outcome::Conflict { existing } => panic!("in conflict with {existing}"),
    }
}

/// Verifies the receipt of an outcome under each of the log's keys, as its submitter would.
pub(crate) fn check_receipt(log: &Log, head: &TreeHead, outcome: &Outcome, event: &Event) -> VerifiedReceipt {
    let leaf = leaf(outcome).clone();
    let receipt = Receipt {
        index: leaf.index,
        entry: leaf.entry,
        salt: leaf.salt,
        inclusion_proof: leaf.inclusion_proof,
        checkpoint: head.note.clone(),
    };
    let verified: Vec<_> = log
        .verifier_keys()
        .iter()
        .map(|key| receipt.verify(key).unwrap())
        .collect();
    verified[0].commits_to(event).unwrap();
    assert_eq!(verified[0].head().size(), head.size);
    assert_eq!(verified[0].head().time(), Some(head.time));
    verified.into_iter().next().unwrap()
}

/// What an audit read.
pub(crate) struct Audited {
    pub(crate) entries: Vec<Entry>,
    pub(crate) attributes: Vec<Attributes>,
    /// The root of each size from 0 on.
    pub(crate) roots: Vec<Digest>,
}

impl Audited {
    pub(crate) fn size(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn of_type<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = usize> + 'a {
        (0..self.size()).filter(move |index| self.entries[*index].event_type() == event_type)
    }
}

/// Reads every entry, recomputes the tree from the bytes, and compares with it all that the log says: its heads, every
/// name of each leaf, proofs at this size and at earlier ones.
pub(crate) async fn audit(log: &Log) -> Audited {
    let head = log.commit_head();
    let size = usize::try_from(head.size.get()).unwrap();
    let suite = log.suite();
    let stored = read_all(log).await;
    assert_eq!(stored.len(), size);

    let mut tree = CompactRange::new(suite);
    let mut audited = Audited {
        entries: Vec::new(),
        attributes: Vec::new(),
        roots: vec![tree.root()],
    };
    let (mut last_time, mut keys, mut leaf_hashes) = (0, HashSet::new(), Vec::new());
    for (place, row) in stored.iter().enumerate() {
        assert_eq!(row.index, index(place));
        let entry = Entry::decode(&row.entry).unwrap();
        let payload = row.payload.as_ref().unwrap();
        entry
            .commits_to_payload(suite, &payload.salt, &payload.data)
            .unwrap();
        entry
            .commits_to_attributes(suite, &payload.salt, &payload.attributes)
            .unwrap();
        entry
            .commits_to_annotations(suite, &payload.salt, &payload.annotations)
            .unwrap();
        assert!(
            entry.time_unix_ns().get() >= last_time,
            "time runs backwards at {place}"
        );
        last_time = entry.time_unix_ns().get();

        let attributes = Attributes::decode_canonical(&payload.attributes).unwrap();
        let key = EventKey::new(&attributes.source, &attributes.id);
        assert!(keys.insert(key), "entry {place} records an event twice");
        let leaf_hash = suite.leaf_hash(&row.entry);
        tree.append(leaf_hash);
        leaf_hashes.push(leaf_hash);
        audited.roots.push(tree.root());
        audited.entries.push(entry);
        audited.attributes.push(attributes);
    }
    assert_eq!(
        tree.root(),
        head.root,
        "the entries make another root than the head's"
    );
    let genesis = Genesis::parse(&stored[0].payload.as_ref().unwrap().data).unwrap();
    assert_eq!(
        (genesis.origin.as_str(), genesis.suite),
        (head.origin.as_str(), suite)
    );

    for head in std::iter::once(head).chain(log.published_head()) {
        check_head(log, &head, &audited);
    }
    check_leaves(log, &leaf_hashes, &audited).await;
    check_history(log, &audited).await;
    audited
}

pub(crate) async fn read_all(log: &Log) -> Vec<counterfoil_log::StoredEntry> {
    let mut stored = Vec::new();
    loop {
        let page = log
            .entries(index(stored.len()), 10_000, 1 << 20, true)
            .await
            .unwrap();
        if page.is_empty() {
            return stored;
        }
        stored.extend(page);
    }
}

pub(crate) fn check_head(log: &Log, head: &TreeHead, audited: &Audited) {
    for key in log.verifier_keys() {
        let signed = key.verify_head(&head.note).unwrap();
        assert_eq!((signed.size(), signed.root()), (head.size, head.root));
    }
    assert_eq!(
        head.root,
        audited.roots[usize::try_from(head.size.get()).unwrap()]
    );
}

/// Up to 300 leaves, spread: by each of their names, and with proof at the newest size and at the smallest that has them.
async fn check_leaves(log: &Log, leaf_hashes: &[Digest], audited: &Audited) {
    let size = audited.size();
    for place in (0..size).step_by(size.div_ceil(300)).chain([size - 1]) {
        let attributes = &audited.attributes[place];
        let event = EventKey::new(&attributes.source, &attributes.id);
        for name in [
            LeafName::Index(index(place)),
            LeafName::Hash(leaf_hashes[place]),
            LeafName::Event(event),
        ] {
            assert_eq!(log.find(name).await.unwrap(), index(place));
        }
        for at in [size, place + 1] {
            let (leaf_hash, proof) = log.inclusion_proof(index(place), tree_size(at)).await.unwrap();
            assert_eq!(leaf_hash, leaf_hashes[place]);
            verify_inclusion(
                log.suite(),
                leaf_hash,
                index(place),
                tree_size(at),
                &proof,
                audited.roots[at],
            )
            .unwrap();
        }
        let (head, proven) = log.proven_leaf(index(place)).await.unwrap();
        let root = audited.roots[usize::try_from(head.size.get()).unwrap()];
        verify_inclusion(
            log.suite(),
            leaf_hashes[place],
            index(place),
            head.size,
            &proven.inclusion_proof,
            root,
        )
        .unwrap();
    }
}

/// Each of up to 60 earlier sizes is a prefix of the newest and of some size in between.
async fn check_history(log: &Log, audited: &Audited) {
    let size = audited.size();
    for first in (1..=size).step_by(size.div_ceil(60)) {
        for second in [size, first + (size - first) / 2] {
            let proof = log
                .consistency_proof(tree_size(first), tree_size(second))
                .await
                .unwrap();
            verify_consistency(
                log.suite(),
                tree_size(first),
                audited.roots[first],
                tree_size(second),
                audited.roots[second],
                &proof,
            )
            .unwrap();
        }
    }
}

pub(crate) fn index(place: usize) -> LeafIndex {
    LeafIndex::new(place as u64).unwrap()
}

pub(crate) fn tree_size(size: usize) -> TreeSize {
    TreeSize::new(size as u64).unwrap()
}
