//! Entries and ranges of them, each proved to be under a signed head, and payloads checked against their entries.

use bytes::Bytes;
use counterfoil_event::{Annotations, Attributes, CommitmentError, Entry, EntryError, Salt};
use counterfoil_merkle::{Digest, LeafIndex, ProofError, root_of_range, verify_inclusion};
use counterfoil_note::SignedHead;
use counterfoil_proto::v1;
use counterfoil_verify::{EntryProof, LeafProof, is_invalid_in_every_version};
use prost::Message as _;
use tonic::Streaming;

use crate::{Client, Error, InvalidAnswer, Leaf, Misbehaviour, Unavailable, limits::within, read::unproven};

/// Most entries that are gathered before they are checked together.
const MAX_PAGE_ENTRIES: usize = 1024;
/// Bytes of entries, with all that came with them, after which a page is closed.
const MAX_PAGE_BYTES: usize = 8 << 20;

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
    /// What the entry commits to. None if it was not asked for, or the log does not serve it: erased or withheld, nobody
    /// can tell.
    pub payload: Option<EntryPayload>,
}

/// What an entry commits to; its commitments are checked.
#[derive(Debug, Clone)]
pub struct EntryPayload {
    /// The salt of the commitments.
    pub salt: Salt,
    /// The event's attributes.
    pub attributes: Attributes,
    /// What the log added to the event. All empty if it added nothing.
    pub annotations: Annotations,
    /// The event's payload.
    pub data: Bytes,
}

impl Client {
    /// An entry, and the head that covers it. For [`Leaf::Event`] the payload is always fetched: nothing else shows
    /// that the entry is for that event, so one without it is refused.
    pub async fn entry(&self, leaf: &Leaf, with_payload: bool) -> Result<(VerifiedEntry, SignedHead), Error> {
        let with_payload = with_payload || matches!(leaf, Leaf::Event { .. });
        let request = v1::GetEntryRequest {
            log: self.log(),
            leaf: Some(leaf.into()),
            with_payload,
        };
        let answer = self
            .answer_about(leaf, None, self.reads().get_entry(request))
            .await?;
        let answer = copied(&answer);
        let index = counterfoil_proto::leaf_index("leaf_index", answer.leaf_index)?;
        let leaf_hash = self.suite().leaf_hash(&answer.entry);

        let head = self.head_covering(index.size_after().get()).await?;
        let proof = self.fetch_inclusion(&Leaf::Index(index), head.size()).await?;
        let included = |leaf_hash| {
            let (size, root) = (head.size(), head.root());
            verify_inclusion(head.suite(), leaf_hash, index, size, &proof.hashes, root)
        };
        if let Err(problem) = included(leaf_hash) {
            // The log may prove that it has another leaf there than the one it served.
            return Err(match included(proof.leaf_hash) {
                Ok(()) => Misbehaviour::EntryMismatch {
                    leaf_index: index,
                    served: answer.entry.to_vec(),
                    leaf: LeafProof {
                        head: head.note_bytes().to_vec(),
                        leaf_hash: proof.leaf_hash,
                        inclusion_proof: proof.hashes,
                    },
                    head,
                },
                Err(_) => unproven(&head, index, problem),
            }
            .into());
        }
        let entry = check_entry(answer, index, leaf_hash, &head, &proof.hashes)?;
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
            Some(
                self.answer_about(&Leaf::Index(first), None, self.reads().read_entries(request))
                    .await?,
            )
        };
        Ok(EntryRange {
            client: self.clone(),
            head,
            stream,
            received: Vec::new().into_iter(),
            page: Vec::new(),
            page_bytes: 0,
            next: first.get(),
            end: first.get().saturating_add(remaining),
        })
    }
}

/// A range of entries, fetched as one stream and checked page by page; made by [`Client::entries`].
pub struct EntryRange {
    client: Client,
    head: SignedHead,
    stream: Option<Streaming<v1::ReadEntriesResponse>>,
    /// What is left of the last message.
    received: std::vec::IntoIter<v1::GetEntryResponse>,
    /// What was received and is not proved yet.
    page: Vec<(LeafIndex, Digest, v1::GetEntryResponse)>,
    page_bytes: usize,
    next: u64,
    end: u64,
}

impl EntryRange {
    /// The head that covers all entries of the range.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The next entries in order of index, 1 to 1024 of them. Empty at the end of the range. After an error the same are next.
    pub async fn next_page(&mut self) -> Result<Vec<VerifiedEntry>, Error> {
        self.receive_page().await?;
        let (Some((first, ..)), Some((last, ..))) = (self.page.first(), self.page.last()) else {
            return Ok(Vec::new());
        };
        let (first, last) = (*first, *last);

        let size = self.head.size();
        let first_proof = self.client.fetch_inclusion(&Leaf::Index(first), size).await?;
        let last_proof = self.client.fetch_inclusion(&Leaf::Index(last), size).await?;
        let leaves: Vec<Digest> = self.page.iter().map(|(_, leaf_hash, _)| *leaf_hash).collect();
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
        let mut entries = Vec::with_capacity(self.page.len());
        for (index, leaf_hash, answer) in &self.page {
            // The clone is of the same bytes.
            match check_entry(answer.clone(), *index, *leaf_hash, &self.head, &[]) {
                Ok(entry) => entries.push(entry),
                Err(error) => return Err(Box::pin(self.with_proof(error)).await),
            }
        }
        self.page.clear();
        self.page_bytes = 0;
        Ok(entries)
    }

    /// Asks for the proof of a leaf that is no entry: the range was proved as a whole.
    async fn with_proof(&self, mut error: Error) -> Error {
        if let Error::Misbehaviour(fact) = &mut error
            && let Misbehaviour::InvalidEntry { leaf, .. } = &mut **fact
        {
            let index = Leaf::Index(leaf.index);
            // Without it the fact stays one, but for others to believe.
            if let Ok(proof) = self.client.fetch_inclusion(&index, self.head.size()).await {
                leaf.inclusion_proof = proof.hashes;
            }
        }
        error
    }

    /// Receives what is missing of a page.
    async fn receive_page(&mut self) -> Result<(), Error> {
        let timeout = self.client.timeouts().call;
        while self.next < self.end && self.page.len() < MAX_PAGE_ENTRIES && self.page_bytes < MAX_PAGE_BYTES {
            let answer = within(timeout, "entry", self.receive()).await?;
            if answer.leaf_index != self.next {
                let problem = format!("leaf {} where leaf {} was due", answer.leaf_index, self.next);
                return Err(InvalidAnswer::new(problem).into());
            }
            let index = counterfoil_proto::leaf_index("leaf_index", answer.leaf_index)?;
            let answer = copied(&answer);
            self.page_bytes += answer.encoded_len();
            let leaf_hash = self.head.suite().leaf_hash(&answer.entry);
            self.page.push((index, leaf_hash, answer));
            self.next += 1;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<v1::GetEntryResponse, Error> {
        loop {
            if let Some(entry) = self.received.next() {
                return Ok(entry);
            }
            let Some(stream) = &mut self.stream else {
                return Err(Unavailable::new("the range broke off").into());
            };
            let message = stream.message().await.inspect_err(|_| self.stream = None)?;
            let message = message
                .ok_or_else(|| InvalidAnswer::new(format!("the range ends before leaf {}", self.next)))?;
            self.received = message.entries.into_iter();
        }
    }
}

/// An answer in memory of its own. A part of a message keeps all of it, up to 64 MiB of whatever the server put beside the part.
fn copied(answer: &v1::GetEntryResponse) -> v1::GetEntryResponse {
    let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    v1::GetEntryResponse {
        leaf_index: answer.leaf_index,
        entry: copied(&answer.entry),
        payload: answer.payload.as_ref().map(|payload| v1::Payload {
            salt: copied(&payload.salt),
            attributes: copied(&payload.attributes),
            data: copied(&payload.data),
            annotations: copied(&payload.annotations),
        }),
    }
}

/// Decodes an entry whose place is proved, and checks its payload against it.
fn check_entry(
    answer: v1::GetEntryResponse,
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    head: &SignedHead,
    inclusion_proof: &[Digest],
) -> Result<VerifiedEntry, Error> {
    let entry = Entry::decode(&answer.entry).map_err(|problem| {
        let leaf = EntryProof {
            index: leaf_index,
            entry: answer.entry.to_vec(),
            inclusion_proof: inclusion_proof.to_vec(),
        };
        unreadable(head, leaf, problem)
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

/// Why a leaf that is proved to be under a head can't be read: it is no entry, or this client is behind the times.
pub(crate) fn unreadable(head: &SignedHead, leaf: EntryProof, problem: EntryError) -> Error {
    if !is_invalid_in_every_version(&leaf.entry, problem) {
        let leaf_index = leaf.index;
        return Error::UnknownEntry { leaf_index, problem };
    }
    let head = head.clone();
    Misbehaviour::InvalidEntry { head, leaf, problem }.into()
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
    entry
        .commits_to_annotations(head.suite(), &salt, &payload.annotations)
        .map_err(other)?;
    let annotations = Annotations::decode_canonical(&payload.annotations)
        .map_err(|problem| InvalidAnswer::new(format!("leaf {leaf_index}: {problem}")))?;
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
        annotations,
        data: payload.data,
    })
}

/// Checks that an entry is the one that was asked for.
fn expect_leaf(leaf: &Leaf, entry: &VerifiedEntry) -> Result<(), Error> {
    let is_asked_for = match leaf {
        Leaf::Index(index) => *index == entry.leaf_index,
        Leaf::Hash(hash) => *hash == entry.leaf_hash,
        Leaf::Event { source, id } => {
            let EntryPayload { attributes, .. } = entry.payload.as_ref().ok_or_else(|| {
                InvalidAnswer::new(format!(
                    "nothing shows that leaf {} is that event, for its payload is not served; ask by index",
                    entry.leaf_index
                ))
            })?;
            attributes.source == *source && attributes.id == *id
        }
    };
    if is_asked_for {
        Ok(())
    } else {
        Err(InvalidAnswer::new("it is about another entry than the one asked for").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_message_does_not_hold_the_rest() {
        let message = Bytes::from(vec![7; 1000]);
        let answer = v1::GetEntryResponse {
            leaf_index: 3,
            entry: message.slice(..10),
            payload: Some(v1::Payload {
                salt: message.slice(10..42),
                attributes: message.slice(50..60),
                data: message.slice(60..70),
                annotations: message.slice(70..80),
            }),
        };
        let kept = copied(&answer);
        assert_eq!(kept, answer);
        drop(answer);
        assert!(message.is_unique());
    }
}
