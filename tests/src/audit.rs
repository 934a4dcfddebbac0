use counterfoil_event::Event;
use counterfoil_merkle::{CompactRange, Digest, LeafIndex, TreeSize};
use counterfoil_note::{SignedHead, VerifierKey};
use counterfoil_proto::v1::{
    self, leaf_selector::Leaf, read_service_client::ReadServiceClient,
    submit_service_client::SubmitServiceClient,
};
use counterfoil_verify::{Receipt, VerifiedReceipt};
use tonic::{Status, transport::Channel};

use crate::{TestLog, submission};

/// Submits to `main`, checks the receipt in full, and returns it with whether the event was there before.
pub async fn submit(
    client: &mut SubmitServiceClient<Channel>,
    log: &TestLog,
    event: v1::Event,
) -> Result<(VerifiedReceipt, bool), Status> {
    let mut request = submission(event.clone());
    request.log = log.name.clone();
    let response = client.submit(request).await?.into_inner();
    let receipt = response.receipt.unwrap().try_into().unwrap();
    Ok((verified(&receipt, log.key(), event), response.duplicate))
}

/// Checks a receipt, and that it is for this event.
pub fn verified(receipt: &Receipt, key: &VerifierKey, event: v1::Event) -> VerifiedReceipt {
    let verified = receipt.verify(key).unwrap();
    verified.commits_to(&Event::try_from(event).unwrap()).unwrap();
    verified
}

/// The newest published head that covers `known` leaves, its signature checked.
pub async fn head(client: &mut ReadServiceClient<Channel>, log: &TestLog, known: u64) -> SignedHead {
    let request = v1::GetTreeHeadRequest {
        log: log.name.clone(),
        known_tree_size: known,
    };
    let head = client
        .get_tree_head(request)
        .await
        .unwrap()
        .into_inner()
        .tree_head
        .unwrap();
    let signed = log.key().verify_head(&head.checkpoint).unwrap();
    assert_eq!(
        head,
        v1::TreeHead::from(&signed),
        "the fields beside the checkpoint differ from it"
    );
    assert!(signed.size().get() >= known);
    signed
}

/// A fresh receipt for a leaf, checked.
pub async fn receipt_of(
    client: &mut ReadServiceClient<Channel>,
    log: &TestLog,
    leaf: Leaf,
) -> Result<VerifiedReceipt, Status> {
    let request = v1::GetReceiptRequest {
        log: log.name.clone(),
        leaf: Some(v1::LeafSelector { leaf: Some(leaf) }),
    };
    let response = client.get_receipt(request).await?.into_inner();
    let receipt = Receipt::try_from(response.receipt.unwrap()).unwrap();
    Ok(receipt.verify(log.key()).unwrap())
}

/// An entry with its payload.
pub async fn entry_at(
    client: &mut ReadServiceClient<Channel>,
    log: &TestLog,
    index: u64,
) -> Result<v1::GetEntryResponse, Status> {
    let request = v1::GetEntryRequest {
        log: log.name.clone(),
        leaf: Some(v1::LeafSelector {
            leaf: Some(Leaf::LeafIndex(index)),
        }),
        with_payload: true,
    };
    Ok(client.get_entry(request).await?.into_inner())
}

/// The whole tree of a log, recomputed from its entries: an oracle for every head and receipt that it ever gives.
#[derive(Clone)]
pub struct Replica {
    tree: CompactRange,
    /// The hash of each leaf.
    leaves: Vec<Digest>,
    /// The root at each size, from 0.
    roots: Vec<Digest>,
}

impl Replica {
    /// Of a log from which nothing was read yet.
    pub fn new(log: &TestLog) -> Self {
        let tree = CompactRange::new(log.key().suite());
        Self {
            roots: vec![tree.root()],
            tree,
            leaves: Vec::new(),
        }
    }

    /// Leaves read so far.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Reads on to the newest published head that covers `known` leaves. Asserts that it is the head of the leaves that were
    /// there before followed by those that came.
    pub async fn catch_up(
        &mut self,
        client: &mut ReadServiceClient<Channel>,
        log: &TestLog,
        known: u64,
    ) -> SignedHead {
        let head = head(client, log, known.max(self.size())).await;
        let request = v1::ReadEntriesRequest {
            log: log.name.clone(),
            first_leaf_index: self.size(),
            limit: head.size().get() - self.size(),
            with_payload: false,
        };
        // No limit means all.
        if request.limit > 0 {
            let mut chunks = client.read_entries(request).await.unwrap().into_inner();
            while let Some(chunk) = chunks.message().await.unwrap() {
                for entry in chunk.entries {
                    assert_eq!(entry.leaf_index, self.size());
                    let leaf = log.key().suite().leaf_hash(&entry.entry);
                    self.tree.append(leaf);
                    self.leaves.push(leaf);
                    self.roots.push(self.tree.root());
                }
            }
        }
        self.assert_head(head.size(), head.root());
        head
    }

    /// Asserts that a head was of a prefix of this tree.
    pub fn assert_head(&self, size: TreeSize, root: Digest) {
        let place = usize::try_from(size.get()).unwrap();
        assert!(
            place < self.roots.len(),
            "the log shrank below {size}, which was signed"
        );
        assert_eq!(root, self.roots[place], "the log's tree of size {size} changed");
    }

    /// Asserts that a leaf is where its receipt said, and that the receipt's head is of a prefix of this tree.
    pub fn assert_receipt(&self, receipt: &VerifiedReceipt) {
        let head = receipt.head();
        self.assert_head(head.size(), head.root());
        assert_eq!(
            Some(&receipt.leaf_hash()),
            self.leaf(receipt.index()),
            "entry {}",
            receipt.index()
        );
    }

    /// The hash of a leaf that was read.
    pub fn leaf_hash(&self, index: u64) -> Option<Digest> {
        self.leaves.get(usize::try_from(index).unwrap()).copied()
    }

    fn leaf(&self, index: LeafIndex) -> Option<&Digest> {
        self.leaves.get(usize::try_from(index.get()).unwrap())
    }
}
