//! Reads with no check, for who verifies by other means: the monitor, which takes the same bytes over HTTP too.

use std::time::Duration;

use bytes::Bytes;
use counterfoil_merkle::{Digest, LeafIndex, TreeSize};
use counterfoil_proto::v1;
use tonic::Streaming;

use crate::{Error, InvalidAnswer, Leaf, Unverified, limits::within};

/// Largest message of entries to accept. A log sends about 1 MiB at a time.
const MAX_ENTRIES_MESSAGE_BYTES: usize = 4 << 20;
/// Largest head or proof to accept: a note is at most 64 KiB.
const MAX_SMALL_MESSAGE_BYTES: usize = 256 << 10;

impl Unverified {
    /// What the log serves as its newest published head: a note, as it came.
    pub async fn head_note(&self) -> Result<Bytes, Error> {
        let request = v1::GetTreeHeadRequest {
            log: self.client().log(),
            known_tree_size: 0,
        };
        let mut reads = self
            .client()
            .reads()
            .max_decoding_message_size(MAX_SMALL_MESSAGE_BYTES);
        let answer = Box::pin(self.client().answer(reads.get_tree_head(request))).await?;
        let head = answer
            .tree_head
            .ok_or_else(|| InvalidAnswer::new("it has no tree head"))?;
        Ok(head.checkpoint)
    }

    /// What the log gives as the consistency proof between two sizes.
    pub async fn consistency_proof(&self, first: TreeSize, second: TreeSize) -> Result<Vec<Digest>, Error> {
        self.client().fetch_consistency(first, second).await
    }

    /// What the log gives as the hash of a leaf, and as its inclusion proof.
    pub async fn inclusion_proof(
        &self,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), Error> {
        let proof = self.client().fetch_inclusion(&Leaf::Index(index), size).await?;
        Ok((proof.leaf_hash, proof.hashes))
    }

    /// The entries `[first, end)` as the log gives them, without payloads.
    pub async fn entries(&self, first: LeafIndex, end: TreeSize) -> Result<UnverifiedEntries, Error> {
        let limit = end.get().saturating_sub(first.get());
        let mut entries = UnverifiedEntries {
            stream: None,
            timeout: self.client().timeouts().call,
            next: first.get(),
            end: end.get(),
        };
        // No limit means all.
        if limit > 0 {
            let request = v1::ReadEntriesRequest {
                log: self.client().log(),
                first_leaf_index: first.get(),
                limit,
                with_payload: false,
            };
            let mut reads = self
                .client()
                .reads()
                .max_decoding_message_size(MAX_ENTRIES_MESSAGE_BYTES);
            let answer = Box::pin(self.client().answer(reads.read_entries(request)));
            entries.stream = Some(answer.await?);
        }
        Ok(entries)
    }
}

/// A range of entries as a log streams it; made by [`Unverified::entries`].
pub struct UnverifiedEntries {
    stream: Option<Streaming<v1::ReadEntriesResponse>>,
    /// How long to wait for a message.
    timeout: Duration,
    next: u64,
    end: u64,
}

impl UnverifiedEntries {
    /// The next entries in order of index, as many as one message holds. Empty at the end of the range.
    pub async fn next(&mut self) -> Result<Vec<Bytes>, Error> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.next < self.end) else {
            return Ok(Vec::new());
        };
        let message = within(self.timeout, "entry", async { Ok(stream.message().await?) }).await?;
        let ends = || InvalidAnswer::new(format!("the range ends before leaf {}", self.next));
        let answers = message.ok_or_else(ends)?.entries;
        let mut entries = Vec::with_capacity(answers.len());
        for answer in answers {
            if answer.leaf_index != self.next || self.next >= self.end {
                let problem = format!("leaf {} where leaf {} was due", answer.leaf_index, self.next);
                return Err(InvalidAnswer::new(problem).into());
            }
            entries.push(answer.entry);
            self.next += 1;
        }
        if entries.is_empty() {
            return Err(InvalidAnswer::new("a message of a range has no entry").into());
        }
        Ok(entries)
    }
}
