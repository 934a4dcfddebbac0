//! Small logs, grown here: what is true of them is known, so that whatever a verifier accepts can be compared.

use std::{convert::Infallible, num::NonZeroU64, sync::LazyLock};

use counterfoil_event::{Event, EventParts, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::{
    Digest, LeafIndex, NodeId, Suite, TreeSize, consistency_proof, inclusion_proof, root_at,
};
use counterfoil_note::{
    CosignerKey, CosignerSigner, KeyKind, LogSigner, Policy, SignedHead, SignerKey, UnixMillis, UnixSeconds,
    VerifierKey,
};
use counterfoil_verify::Receipt;

/// Leaves of each.
pub(crate) const LEAVES: u64 = 11;
/// When the first head is signed, in milliseconds since 1970.
const START_MS: u64 = 1_795_340_000_000;
/// After all heads.
pub(crate) const END_MS: u64 = START_MS + 3_600_000;

/// A log of [`LEAVES`] leaves that signed a head at each size. What most inputs are compared with is made once.
pub(crate) struct Sample {
    signer: LogSigner,
    /// Its keys, that for timestamped heads first.
    pub(crate) keys: Vec<VerifierKey>,
    /// The policy that believes this log, and asks for the witness.
    pub(crate) policy: Policy,
    pub(crate) entries: Vec<Vec<u8>>,
    /// By size.
    pub(crate) roots: Vec<Digest>,
    /// Notes that the witness cosigned too, by size.
    pub(crate) cosigned: Vec<Vec<u8>>,
}

/// One log for each suite. They never lied.
pub(crate) static HONEST: LazyLock<[Sample; 2]> =
    LazyLock::new(|| Suite::ALL.map(|suite| Sample::grow(suite, "log.example/honest", 1, b'h')));
/// Under the same keys, what an honest log would not have: other leaves from the fifth on.
static REWRITTEN: LazyLock<[Sample; 2]> =
    LazyLock::new(|| Suite::ALL.map(|suite| Sample::grow(suite, "log.example/liar", 31, b'r')));
/// The log that lied, as it was first.
static LIAR: LazyLock<[Sample; 2]> =
    LazyLock::new(|| Suite::ALL.map(|suite| Sample::grow(suite, "log.example/liar", 31, b'h')));

/// A log that showed two histories: each suite's, before and after.
pub(crate) fn liars() -> impl Iterator<Item = (&'static Sample, &'static Sample)> {
    LIAR.iter().zip(REWRITTEN.iter())
}

/// An event with something in every field.
pub(crate) fn event(number: u64, payload: &str) -> Event {
    Event::try_from(EventParts {
        id: format!("run-{number}"),
        source: "https://ci.example/acme/widgets".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        subject: "refs/heads/main".to_owned(),
        time: "2026-11-22T09:30:00.25+01:00".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: payload.to_owned().into(),
        extensions: vec![
            ("attempt".to_owned(), "2".to_owned()),
            ("zero".to_owned(), String::new()),
        ],
    })
    .unwrap()
}

pub(crate) fn salt() -> Salt {
    Salt::from([9; 32])
}

/// The key of the witness that cosigns for every sample.
pub(crate) static WITNESS_KEY: LazyLock<CosignerKey> = LazyLock::new(|| witness().verifier_key().clone());

fn witness() -> CosignerSigner {
    CosignerSigner::generate("witness.example/w1".parse().unwrap(), [77; 32])
}

/// A place in what a sample has.
pub(crate) fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}

impl Sample {
    fn grow(suite: Suite, origin: &str, seed: u8, kind: u8) -> Self {
        let key =
            |(&kind, seed): (&KeyKind, u8)| SignerKey::generate(origin.parse().unwrap(), kind, [seed; 32]);
        let keys = KeyKind::of_log(suite).iter().zip(seed..).map(key).collect();
        let entry = |number: u64| {
            let differs = kind == b'r' && number >= 5;
            let payload = format!("{{\"number\":{number},\"differs\":{differs}}}");
            let event = event(number, &payload);
            UnstampedEntry::new(suite, &event, &salt(), &Submitter::anonymous(), b"", "default")
                .unwrap()
                .stamp(NonZeroU64::new(number + 1).unwrap())
        };
        let signer = LogSigner::new(keys).unwrap();
        let keys: Vec<_> = signer
            .keys()
            .iter()
            .map(|key| key.verifier_key().clone())
            .collect();
        let mut log = Self {
            policy: Policy::parse(policy_text(&keys[0]).as_bytes()).unwrap(),
            signer,
            keys,
            entries: (0..LEAVES).map(entry).collect(),
            roots: Vec::new(),
            cosigned: Vec::new(),
        };
        for size in 0..=LEAVES {
            let root = root_at(suite, TreeSize::new(size).unwrap(), |node| log.node(node)).unwrap();
            log.roots.push(root);
            let time = UnixSeconds::new(START_MS / 1_000 + size).unwrap();
            let line = witness().cosign(&log.head(size), time);
            let head = log.head(size).with_signatures([line]).unwrap();
            log.cosigned.push(head.note_bytes().to_vec());
        }
        log
    }

    pub(crate) fn suite(&self) -> Suite {
        self.signer.suite()
    }

    pub(crate) fn leaf_hash(&self, leaf: u64) -> Digest {
        self.suite().leaf_hash(&self.entries[at(leaf)])
    }

    fn node(&self, node: NodeId) -> Result<Digest, Infallible> {
        if node.level == 0 {
            return Ok(self.leaf_hash(node.index));
        }
        let child = |side| {
            self.node(NodeId {
                level: node.level - 1,
                index: 2 * node.index + side,
            })
        };
        Ok(self.suite().node_hash(&child(0)?, &child(1)?))
    }

    pub(crate) fn root(&self, size: u64) -> Digest {
        self.roots[at(size)]
    }

    pub(crate) fn inclusion(&self, leaf: u64, size: u64) -> Vec<Digest> {
        let (leaf, size) = (LeafIndex::new(leaf).unwrap(), TreeSize::new(size).unwrap());
        inclusion_proof(self.suite(), leaf, size, |node| self.node(node)).unwrap()
    }

    pub(crate) fn consistency(&self, first: u64, second: u64) -> Vec<Digest> {
        let (first, second) = (TreeSize::new(first).unwrap(), TreeSize::new(second).unwrap());
        consistency_proof(self.suite(), first, second, |node| self.node(node)).unwrap()
    }

    /// A signed note.
    pub(crate) fn note(&self, size: u64) -> Vec<u8> {
        self.note_at(size, START_MS + 1_000 * size)
    }

    /// The same, signed at another time.
    pub(crate) fn note_at(&self, size: u64, unix_ms: u64) -> Vec<u8> {
        let time = UnixMillis::new(unix_ms);
        self.signer
            .sign_head(TreeSize::new(size).unwrap(), self.root(size), time)
    }

    pub(crate) fn head(&self, size: u64) -> SignedHead {
        self.keys[0].verify_head(&self.note(size)).unwrap()
    }

    pub(crate) fn receipt(&self, leaf: u64, size: u64) -> Receipt {
        Receipt {
            index: LeafIndex::new(leaf).unwrap(),
            entry: self.entries[at(leaf)].clone(),
            salt: salt(),
            inclusion_proof: self.inclusion(leaf, size),
            checkpoint: self.cosigned[at(size)].clone(),
        }
    }
}

/// The policy that believes a log's key, and asks for the witness.
pub(crate) fn policy_text(key: &VerifierKey) -> String {
    format!(
        "log {key} https://log.example/\nwitness w1 {}\ngroup all any w1\nquorum all\n",
        *WITNESS_KEY
    )
}
