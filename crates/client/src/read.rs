//! Reading: heads, proofs and receipts, each checked against a signed head that is linked to all others.

use std::sync::Arc;

use counterfoil_merkle::{
    Digest, LeafIndex, ProofError, TreeSize, root_of_range, verify_consistency, verify_inclusion,
};
use counterfoil_note::SignedHead;
use counterfoil_proto::v1::{self, leaf_selector};
use counterfoil_verify::{Receipt, ReceiptVerifier, VerifiedReceipt};
use tonic::Streaming;

use crate::{Client, Error, InvalidAnswer, Misbehaviour, limits::within, submit::check_receipt};

/// A leaf by any of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// Its place.
    Index(LeafIndex),
    /// Its hash.
    Hash(Digest),
    /// The source and id of its event.
    Event {
        /// The event's source.
        source: String,
        /// The event's id.
        id: String,
    },
}

/// A proof that a leaf is in the tree of some size, and that this tree is the beginning of the one under `head`.
#[derive(Debug, Clone)]
pub struct InclusionProof {
    /// The leaf's place.
    pub leaf_index: LeafIndex,
    /// The leaf's hash.
    pub leaf_hash: Digest,
    /// The size of the tree.
    pub tree_size: TreeSize,
    /// The root of that tree.
    pub root_hash: Digest,
    /// Sibling hashes from the leaf up.
    pub hashes: Vec<Digest>,
    /// The signed head that vouches for it all.
    pub head: SignedHead,
}

/// A proof that one tree is the beginning of another, and that other of the one under `head`.
#[derive(Debug, Clone)]
pub struct ConsistencyProof {
    /// The size of the smaller tree.
    pub first_tree_size: TreeSize,
    /// The root of the smaller tree.
    pub first_root_hash: Digest,
    /// The size of the larger tree.
    pub second_tree_size: TreeSize,
    /// The root of the larger tree.
    pub second_root_hash: Digest,
    /// The proof.
    pub hashes: Vec<Digest>,
    /// The signed head that vouches for it all.
    pub head: SignedHead,
}

impl Client {
    /// The newest published head: signed, not behind any head known before, linked to all of them, and cosigned by a
    /// quorum if the policy asks for one.
    pub async fn head(&self) -> Result<SignedHead, Error> {
        self.head_covering(0).await
    }

    /// As [`head`](Self::head), and at least `least` leaves large, if the log is.
    pub(crate) async fn head_covering(&self, least: u64) -> Result<SignedHead, Error> {
        let known = self.heads().largest();
        let known_size = known.as_ref().map_or(0, |head| head.size().get());
        let request = v1::GetTreeHeadRequest {
            log: self.log(),
            known_tree_size: known_size.max(least),
        };
        let answer = self.answer(self.reads().get_tree_head(request)).await?;
        let head = self.accept_head(answer.tree_head, known.as_deref()).await?;
        self.heads().check_quorum(&head)?;
        Ok(head)
    }

    /// The newest published head, then each one that follows, every one checked as [`head`](Self::head) does.
    pub async fn watch_heads(&self) -> Result<HeadStream, Error> {
        let known = self.heads().largest();
        let known_tree_size = known.as_ref().map_or(0, |head| head.size().get());
        let request = v1::WatchTreeHeadsRequest {
            log: self.log(),
            known_tree_size,
        };
        let heads = self.answer(self.reads().watch_tree_heads(request)).await?;
        Ok(HeadStream {
            client: self.clone(),
            heads,
            known,
        })
    }

    /// Checks all but the witnesses of a published head.
    async fn accept_head(
        &self,
        head: Option<v1::TreeHead>,
        known: Option<&SignedHead>,
    ) -> Result<SignedHead, Error> {
        let head = head.ok_or_else(|| InvalidAnswer::new("it has no tree head"))?;
        let presented = self.heads().verify(&head.checkpoint)?;
        if let Some(known) = known.filter(|known| known.size() > presented.size()) {
            // What is published waits for its witnesses. A head that they have not cosigned, such as a receipt's, may
            // never have been published: then the log is behind, and has not gone back.
            if self.policy().requires_cosignatures() {
                self.link_heads().await?;
                self.heads().check_quorum(known)?;
            }
            let presented = SignedHead::clone(&presented);
            return Err(Misbehaviour::Rollback {
                known: known.clone(),
                presented,
            }
            .into());
        }
        self.link_heads().await?;
        Ok(SignedHead::clone(&presented))
    }

    /// Takes in a head that came another way, such as in a receipt from a file: its signature is checked now, and the
    /// next [`link_heads`](Self::link_heads) has the log prove it consistent with the others.
    pub fn take_in_head(&self, checkpoint: &[u8]) -> Result<SignedHead, Error> {
        Ok(SignedHead::clone(&*self.heads().verify(checkpoint)?))
    }

    /// Proof that a leaf is in the tree of `tree_size`, or of the newest head.
    pub async fn prove_inclusion(
        &self,
        leaf: &Leaf,
        tree_size: Option<TreeSize>,
    ) -> Result<InclusionProof, Error> {
        let by_index;
        let (leaf, expected) = match leaf {
            // Only the event's attributes tell which leaf is its.
            Leaf::Event { .. } => {
                let (entry, _) = self.entry(leaf, true).await?;
                by_index = Leaf::Index(entry.leaf_index);
                (&by_index, Some(entry.leaf_hash))
            }
            Leaf::Hash(hash) => (leaf, Some(*hash)),
            Leaf::Index(_) => (leaf, None),
        };
        let least = match leaf {
            Leaf::Index(index) => index.size_after().get(),
            _ => 1,
        };
        let head = self.head_covering(tree_size.map_or(least, TreeSize::get)).await?;
        let proof = self
            .fetch_inclusion(leaf, tree_size.unwrap_or(head.size()))
            .await?;
        if expected.is_some_and(|expected| expected != proof.leaf_hash) {
            return Err(InvalidAnswer::new("it is about another leaf than the one asked for").into());
        }
        let root_hash = self.root_under(&head, &proof).await?;
        Ok(InclusionProof {
            leaf_index: proof.leaf_index,
            leaf_hash: proof.leaf_hash,
            tree_size: proof.tree_size,
            root_hash,
            hashes: proof.hashes,
            head,
        })
    }

    /// Proof that the leaf at `index` is in the tree of `head`, which was verified before. One call to the log.
    pub async fn prove_inclusion_under(
        &self,
        head: &SignedHead,
        index: LeafIndex,
    ) -> Result<InclusionProof, Error> {
        let proof = self.fetch_inclusion(&Leaf::Index(index), head.size()).await?;
        verify_inclusion(
            head.suite(),
            proof.leaf_hash,
            index,
            head.size(),
            &proof.hashes,
            head.root(),
        )
        .map_err(|problem| unproven(head, index, problem))?;
        Ok(InclusionProof {
            leaf_index: index,
            leaf_hash: proof.leaf_hash,
            tree_size: proof.tree_size,
            root_hash: head.root(),
            hashes: proof.hashes,
            head: head.clone(),
        })
    }

    /// Proof that the tree of size `first` is the beginning of the tree of size `second`, or of the newest head's.
    ///
    /// Compare the roots in it with those that you know: that is what the proof is for.
    pub async fn prove_consistency(
        &self,
        first: TreeSize,
        second: Option<TreeSize>,
    ) -> Result<ConsistencyProof, Error> {
        let head = self
            .head_covering(second.map_or(first, |second| second.max(first)).get())
            .await?;
        let second = second.unwrap_or(head.size());
        let hashes = self.fetch_consistency(first, second).await?;
        let first_root_hash = self.root_at(&head, first).await?;
        let second_root_hash = self.root_at(&head, second).await?;
        verify_consistency(
            head.suite(),
            first,
            first_root_hash,
            second,
            second_root_hash,
            &hashes,
        )
        .map_err(|problem| InvalidAnswer::new(format!("its consistency proof does not hold: {problem}")))?;
        Ok(ConsistencyProof {
            first_tree_size: first,
            first_root_hash,
            second_tree_size: second,
            second_root_hash,
            hashes,
            head,
        })
    }

    /// A receipt for the entry at `index`, under a head that the log published, and cosigned if the policy asks for it.
    ///
    /// For an entry that is just recorded there may be no such head yet: [`Error::NotCosigned`].
    pub async fn receipt(&self, index: LeafIndex) -> Result<(Receipt, VerifiedReceipt), Error> {
        let leaf = Leaf::Index(index);
        let request = v1::GetReceiptRequest {
            log: self.log(),
            leaf: Some((&leaf).into()),
        };
        let answer = self
            .answer_about(&leaf, None, self.reads().get_receipt(request))
            .await?;
        let receipt = answer
            .receipt
            .ok_or_else(|| InvalidAnswer::new("it has no receipt"))?;
        let receipt = Receipt::try_from(receipt)?;
        if receipt.index != index {
            return Err(InvalidAnswer::new("its receipt is for another leaf").into());
        }
        let head = self.heads().verify(&receipt.checkpoint)?;
        let verified = check_receipt(&receipt, &mut ReceiptVerifier::new(head))?;
        self.link_heads().await?;
        self.heads().check_quorum(verified.head())?;
        Ok((receipt, verified))
    }

    pub(crate) async fn fetch_inclusion(
        &self,
        leaf: &Leaf,
        tree_size: TreeSize,
    ) -> Result<FetchedInclusion, Error> {
        let request = v1::GetInclusionProofRequest {
            log: self.log(),
            leaf: Some(leaf.into()),
            tree_size: Some(tree_size.get()),
        };
        let answer = self
            .answer_about(leaf, Some(tree_size), self.reads().get_inclusion_proof(request))
            .await?;
        let leaf_index = counterfoil_proto::leaf_index("leaf_index", answer.leaf_index)?;
        if matches!(leaf, Leaf::Index(index) if *index != leaf_index) {
            return Err(InvalidAnswer::new("it is about another leaf than the one asked for").into());
        }
        if answer.tree_size != tree_size.get() {
            return Err(InvalidAnswer::new("its proof is for another tree size than asked for").into());
        }
        Ok(FetchedInclusion {
            leaf_index,
            leaf_hash: counterfoil_proto::digest("leaf_hash", &answer.leaf_hash)?,
            tree_size,
            hashes: counterfoil_proto::digests("hashes", &answer.hashes)?,
        })
    }

    /// The root that an inclusion proof leads to, once that is the head's, or is proved to be of its beginning.
    async fn root_under(&self, head: &SignedHead, proof: &FetchedInclusion) -> Result<Digest, Error> {
        let root = root_of_range(
            head.suite(),
            proof.leaf_index,
            &[proof.leaf_hash],
            proof.tree_size,
            &proof.hashes,
            &proof.hashes,
        )
        .map_err(|problem| unproven(head, proof.leaf_index, problem))?;
        if proof.tree_size > head.size() {
            let problem = "it proves inclusion in a tree larger than any that it signed";
            return Err(InvalidAnswer::new(problem).into());
        }
        let to_head = if proof.tree_size == head.size() {
            Vec::new()
        } else {
            self.fetch_consistency(proof.tree_size, head.size()).await?
        };
        verify_consistency(
            head.suite(),
            proof.tree_size,
            root,
            head.size(),
            head.root(),
            &to_head,
        )
        .map_err(|problem| unproven(head, proof.leaf_index, problem))?;
        Ok(root)
    }

    /// The root of the tree of `size`: where the last leaf's inclusion proof leads.
    async fn root_at(&self, head: &SignedHead, size: TreeSize) -> Result<Digest, Error> {
        match size.last() {
            _ if size == head.size() => Ok(head.root()),
            None => Ok(head.suite().empty_root()),
            Some(last) => {
                let proof = self.fetch_inclusion(&Leaf::Index(last), size).await?;
                self.root_under(head, &proof).await
            }
        }
    }
}

pub(crate) struct FetchedInclusion {
    pub(crate) leaf_index: LeafIndex,
    pub(crate) leaf_hash: Digest,
    pub(crate) tree_size: TreeSize,
    pub(crate) hashes: Vec<Digest>,
}

/// The heads of a log as they are published; made by [`Client::watch_heads`].
pub struct HeadStream {
    client: Client,
    heads: Streaming<v1::WatchTreeHeadsResponse>,
    /// No head of this stream may be smaller.
    known: Option<Arc<SignedHead>>,
}

impl HeadStream {
    /// The next head. None when the server ends the stream. After [`Error::NotCosigned`] the stream goes on.
    pub async fn next(&mut self) -> Result<Option<SignedHead>, Error> {
        let message = async { Ok(self.heads.message().await?) };
        let Some(message) = within(self.client.timeouts().head, "head", message).await? else {
            return Ok(None);
        };
        let head = self
            .client
            .accept_head(message.tree_head, self.known.as_deref())
            .await?;
        let cosigned = self.client.heads().check_quorum(&head);
        let has_grown = self.known.as_ref().is_none_or(|known| known.size() < head.size());
        // A head without its witnesses does not take the place of one with them.
        if has_grown || cosigned.is_ok() {
            self.known = Some(Arc::new(head.clone()));
        }
        cosigned.map(|()| Some(head))
    }
}

pub(crate) fn unproven(head: &SignedHead, leaf_index: LeafIndex, problem: ProofError) -> Misbehaviour {
    Misbehaviour::UnprovenInclusion {
        head: head.clone(),
        leaf_index,
        problem,
    }
}

impl From<&Leaf> for v1::LeafSelector {
    fn from(leaf: &Leaf) -> Self {
        let leaf = match leaf {
            Leaf::Index(index) => leaf_selector::Leaf::LeafIndex(index.get()),
            Leaf::Hash(hash) => leaf_selector::Leaf::LeafHash(counterfoil_proto::digest_field(hash)),
            Leaf::Event { source, id } => leaf_selector::Leaf::Event(v1::EventName {
                source: source.clone(),
                id: id.clone(),
            }),
        };
        Self { leaf: Some(leaf) }
    }
}
