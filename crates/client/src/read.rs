//! Reading: heads, proofs, entries and receipts, each checked against a signed head that is linked to all others.

use std::sync::Arc;

use bytes::Bytes;
use counterfoil_event::{Attributes, CommitmentError, Entry, Salt};
use counterfoil_merkle::{Digest, LeafIndex, ProofError, TreeSize, verify_consistency, verify_inclusion};
use counterfoil_note::SignedHead;
use counterfoil_proto::v1::{self, leaf_selector};
use counterfoil_verify::{Receipt, ReceiptVerifier, VerifiedReceipt};
use tonic::Streaming;

use crate::{Client, Error, InvalidAnswer, Misbehaviour, range::root_of_range, submit::check_receipt};

/// Most entries that are gathered before they are checked together.
const MAX_PAGE_ENTRIES: usize = 1024;
/// Payload bytes after which a page is closed.
const MAX_PAGE_BYTES: usize = 8 << 20;

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

/// An entry whose place under a signed head is proved.
#[derive(Debug, Clone)]
pub struct VerifiedEntry {
    /// Its place.
    pub leaf_index: LeafIndex,
    /// The hash of `bytes`.
    pub leaf_hash: Digest,
    /// The entry as it was hashed.
    pub bytes: Bytes,
    /// The entry, decoded.
    pub entry: Entry,
    /// What the entry commits to. None if it was not asked for, or was erased.
    pub payload: Option<EntryPayload>,
}

/// What an entry commits to; both commitments are checked.
#[derive(Debug, Clone)]
pub struct EntryPayload {
    /// The salt of the commitments.
    pub salt: Salt,
    /// The event's attributes.
    pub attributes: Attributes,
    /// The event's payload.
    pub data: Bytes,
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
    /// The newest published head: signed, not behind any head known before, and linked to all of them.
    pub async fn head(&self) -> Result<SignedHead, Error> {
        self.head_covering(0).await
    }

    /// As [`head`](Self::head), and at least `least` leaves large, if the log is.
    async fn head_covering(&self, least: u64) -> Result<SignedHead, Error> {
        let known = self.heads().largest();
        let known_size = known.as_ref().map_or(0, |head| head.size().get());
        let request = v1::GetTreeHeadRequest {
            log: self.log(),
            known_tree_size: known_size.max(least),
        };
        let answer = self.reads().get_tree_head(request).await?.into_inner();
        self.accept_head(answer.tree_head, known.as_deref()).await
    }

    /// The newest published head, then each one that follows, every one checked as [`head`](Self::head) does.
    pub async fn watch_heads(&self) -> Result<HeadStream, Error> {
        let known = self.heads().largest();
        let known_tree_size = known.as_ref().map_or(0, |head| head.size().get());
        let request = v1::WatchTreeHeadsRequest {
            log: self.log(),
            known_tree_size,
        };
        let heads = self.reads().watch_tree_heads(request).await?.into_inner();
        Ok(HeadStream {
            client: self.clone(),
            heads,
            known,
        })
    }

    async fn accept_head(
        &self,
        head: Option<v1::TreeHead>,
        known: Option<&SignedHead>,
    ) -> Result<SignedHead, Error> {
        let head = head.ok_or_else(|| InvalidAnswer::new("it has no tree head"))?;
        let presented = self.heads().verify(&head.checkpoint)?;
        if let Some(known) = known.filter(|known| known.size() > presented.size()) {
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

    /// An entry, and the head that covers it. For [`Leaf::Event`] the payload is always fetched: nothing else shows
    /// that the entry is for that event, so an erased one is returned on the log's word.
    pub async fn entry(&self, leaf: &Leaf, with_payload: bool) -> Result<(VerifiedEntry, SignedHead), Error> {
        let with_payload = with_payload || matches!(leaf, Leaf::Event { .. });
        let request = v1::GetEntryRequest {
            log: self.log(),
            leaf: Some(leaf.into()),
            with_payload,
        };
        let answer = self.reads().get_entry(request).await?.into_inner();
        let index = counterfoil_proto::leaf_index("leaf_index", answer.leaf_index)?;
        let leaf_hash = self.key().suite().leaf_hash(&answer.entry);

        let head = self.head_covering(index.size_after().get()).await?;
        let proof = self.fetch_inclusion(&Leaf::Index(index), head.size()).await?;
        verify_inclusion(
            head.suite(),
            leaf_hash,
            index,
            head.size(),
            &proof.hashes,
            head.root(),
        )
        .map_err(|problem| unproven(&head, index, problem))?;

        let entry = check_entry(answer, index, leaf_hash, &head)?;
        expect_leaf(leaf, &entry)?;
        Ok((entry, head))
    }

    /// At most `limit` entries from `first` on, or all that the newest head covers if `limit` is 0.
    pub async fn entries(
        &self,
        first: LeafIndex,
        limit: u64,
        with_payload: bool,
    ) -> Result<EntryRange, Error> {
        let head = self.head().await?;
        let available = head.size().get().saturating_sub(first.get());
        let remaining = if limit == 0 {
            available
        } else {
            available.min(limit)
        };
        let stream = if remaining == 0 {
            None
        } else {
            let request = v1::ReadEntriesRequest {
                log: self.log(),
                first_leaf_index: first.get(),
                limit: remaining,
                with_payload,
            };
            Some(self.reads().read_entries(request).await?.into_inner())
        };
        Ok(EntryRange {
            client: self.clone(),
            head,
            stream,
            received: Vec::new().into_iter(),
            next: first.get(),
            end: first.get().saturating_add(remaining),
        })
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

    /// A receipt for the entry at `index`, under a head that the log published.
    pub async fn receipt(&self, index: LeafIndex) -> Result<(Receipt, VerifiedReceipt), Error> {
        let leaf = Leaf::Index(index);
        let request = v1::GetReceiptRequest {
            log: self.log(),
            leaf: Some((&leaf).into()),
        };
        let answer = self.reads().get_receipt(request).await?.into_inner();
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
        Ok((receipt, verified))
    }

    async fn fetch_inclusion(&self, leaf: &Leaf, tree_size: TreeSize) -> Result<FetchedInclusion, Error> {
        let request = v1::GetInclusionProofRequest {
            log: self.log(),
            leaf: Some(leaf.into()),
            tree_size: Some(tree_size.get()),
        };
        let answer = self.reads().get_inclusion_proof(request).await?.into_inner();
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

struct FetchedInclusion {
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    tree_size: TreeSize,
    hashes: Vec<Digest>,
}

/// The heads of a log as they are published; made by [`Client::watch_heads`].
pub struct HeadStream {
    client: Client,
    heads: Streaming<v1::WatchTreeHeadsResponse>,
    /// No head of this stream may be smaller.
    known: Option<Arc<SignedHead>>,
}

impl HeadStream {
    /// The next head. None when the server ends the stream.
    pub async fn next(&mut self) -> Result<Option<SignedHead>, Error> {
        let Some(message) = self.heads.message().await? else {
            return Ok(None);
        };
        let head = self
            .client
            .accept_head(message.tree_head, self.known.as_deref())
            .await?;
        self.known = Some(Arc::new(head.clone()));
        Ok(Some(head))
    }
}

/// A range of entries, fetched as one stream and checked page by page; made by [`Client::entries`].
pub struct EntryRange {
    client: Client,
    head: SignedHead,
    stream: Option<Streaming<v1::ReadEntriesResponse>>,
    /// What is left of the last message.
    received: std::vec::IntoIter<v1::GetEntryResponse>,
    next: u64,
    end: u64,
}

impl EntryRange {
    /// The head that covers all entries of the range.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The next entries in order of index, 1 to 1024 of them. Empty at the end of the range.
    pub async fn next_page(&mut self) -> Result<Vec<VerifiedEntry>, Error> {
        let page = self.receive_page().await?;
        let (Some((first, ..)), Some((last, ..))) = (page.first(), page.last()) else {
            return Ok(Vec::new());
        };
        let (first, last) = (*first, *last);

        let size = self.head.size();
        let first_proof = self.client.fetch_inclusion(&Leaf::Index(first), size).await?;
        let last_proof = self.client.fetch_inclusion(&Leaf::Index(last), size).await?;
        let leaves: Vec<Digest> = page.iter().map(|(_, leaf_hash, _)| *leaf_hash).collect();
        let root = root_of_range(
            self.head.suite(),
            first,
            &leaves,
            size,
            &first_proof.hashes,
            &last_proof.hashes,
        )
        .map_err(|problem| unproven(&self.head, first, problem))?;
        if root != self.head.root() {
            return Err(unproven(&self.head, first, ProofError::RootMismatch).into());
        }
        page.into_iter()
            .map(|(index, leaf_hash, answer)| check_entry(answer, index, leaf_hash, &self.head))
            .collect()
    }

    async fn receive_page(&mut self) -> Result<Vec<(LeafIndex, Digest, v1::GetEntryResponse)>, Error> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while self.next < self.end && page.len() < MAX_PAGE_ENTRIES && bytes < MAX_PAGE_BYTES {
            let answer = self.receive().await?;
            if answer.leaf_index != self.next {
                let problem = format!("leaf {} where leaf {} was due", answer.leaf_index, self.next);
                return Err(InvalidAnswer::new(problem).into());
            }
            let index = counterfoil_proto::leaf_index("leaf_index", answer.leaf_index)?;
            bytes += answer.entry.len() + answer.payload.as_ref().map_or(0, |payload| payload.data.len());
            page.push((index, self.head.suite().leaf_hash(&answer.entry), answer));
            self.next += 1;
        }
        Ok(page)
    }

    async fn receive(&mut self) -> Result<v1::GetEntryResponse, Error> {
        loop {
            if let Some(entry) = self.received.next() {
                return Ok(entry);
            }
            let message = match &mut self.stream {
                Some(stream) => stream.message().await?,
                None => None,
            };
            let message = message
                .ok_or_else(|| InvalidAnswer::new(format!("the range ends before leaf {}", self.next)))?;
            self.received = message.entries.into_iter();
        }
    }
}

/// Decodes an entry whose place is proved, and checks its payload against it.
fn check_entry(
    answer: v1::GetEntryResponse,
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    head: &SignedHead,
) -> Result<VerifiedEntry, Error> {
    let entry = Entry::decode(&answer.entry).map_err(|problem| Misbehaviour::InvalidEntry {
        head: head.clone(),
        leaf_index,
        problem,
    })?;
    let payload = match answer.payload {
        Some(payload) => Some(check_payload(payload, &entry, leaf_index, head)?),
        None => None,
    };
    Ok(VerifiedEntry {
        leaf_index,
        leaf_hash,
        bytes: answer.entry,
        entry,
        payload,
    })
}

fn check_payload(
    payload: v1::Payload,
    entry: &Entry,
    leaf_index: LeafIndex,
    head: &SignedHead,
) -> Result<EntryPayload, Error> {
    let other = |problem| Misbehaviour::OtherContent {
        head: head.clone(),
        leaf_index,
        problem,
    };
    let salt = counterfoil_proto::salt("salt", &payload.salt)?;
    entry
        .commits_to_payload(head.suite(), &salt, &payload.data)
        .map_err(other)?;
    entry
        .commits_to_attributes(head.suite(), &salt, &payload.attributes)
        .map_err(other)?;
    let attributes = Attributes::decode_canonical(&payload.attributes)
        .map_err(|problem| InvalidAnswer::new(format!("leaf {leaf_index}: {problem}")))?;
    if attributes.event_type != entry.event_type() {
        return Err(other(CommitmentError::EventType).into());
    }
    if attributes.data_content_type != entry.media_type() {
        return Err(other(CommitmentError::MediaType).into());
    }
    Ok(EntryPayload {
        salt,
        attributes,
        data: payload.data,
    })
}

/// Checks that an entry is the one that was asked for.
fn expect_leaf(leaf: &Leaf, entry: &VerifiedEntry) -> Result<(), Error> {
    let is_asked_for = match leaf {
        Leaf::Index(index) => *index == entry.leaf_index,
        Leaf::Hash(hash) => *hash == entry.leaf_hash,
        Leaf::Event { source, id } => entry
            .payload
            .as_ref()
            .is_none_or(|payload| payload.attributes.source == *source && payload.attributes.id == *id),
    };
    if is_asked_for {
        Ok(())
    } else {
        Err(InvalidAnswer::new("it is about another entry than the one asked for").into())
    }
}

fn unproven(head: &SignedHead, leaf_index: LeafIndex, problem: ProofError) -> Misbehaviour {
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
