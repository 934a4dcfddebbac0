//! What a tree that a log signed looked like when it was smaller, proved.

use std::time::{Duration, Instant};

use counterfoil_merkle::{Digest, TreeSize, consistency_from_inclusion, consistency_roots};
use counterfoil_note::SignedHead;

use crate::source::{Source, SourceError, within};

/// The beginning of a signed tree, and the hashes that prove it.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// Its root.
    pub(crate) root: Digest,
    /// The root of its last perfect subtree.
    pub(crate) seed: Digest,
    /// That subtree's siblings in the signed tree, from there up.
    pub(crate) siblings: Vec<Digest>,
}

/// The sources of a log as they prove things in one round. Each has a time of its own for all of it, so that one that drips
/// its proofs puts off the others by that and no more.
pub(crate) struct Provers<'a> {
    sources: &'a [Source],
    /// What each has left of its time.
    left: Vec<Duration>,
}

impl<'a> Provers<'a> {
    pub(crate) fn new(sources: &'a [Source]) -> Self {
        Self {
            sources,
            left: sources.iter().map(Source::proof_time).collect(),
        }
    }

    pub(crate) fn source(&self, place: usize) -> &'a Source {
        &self.sources[place]
    }

    /// The places of all sources.
    pub(crate) fn places(&self) -> std::ops::Range<usize> {
        0..self.sources.len()
    }

    /// As [`beginning`], by the source at a place.
    pub(crate) async fn beginning(
        &mut self,
        place: usize,
        size: TreeSize,
        head: &SignedHead,
    ) -> Result<Beginning, Unproved> {
        let left = &mut self.left[place];
        if left.is_zero() {
            let problem = "it has used up its time for the proofs of a round".to_owned();
            return Err(SourceError::Unreachable(problem).into());
        }
        let started = Instant::now();
        let answer = within(*left, beginning(&self.sources[place], size, head)).await;
        *left = left.saturating_sub(started.elapsed());
        answer
    }
}

/// Why nothing is proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproved {
    /// There is no proof to check.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The hashes do not lead to the signed root.
    #[error("the proof that it gives does not lead to the root of size {0}")]
    Wrong(TreeSize),
}

/// Has `source` prove what the first `size` leaves of the tree under `head` are: `size` is above 0 and below the head's.
///
/// The answer depends on `head` alone. Whether it is what the log signed, or what was read, is for the caller to compare.
pub(crate) async fn beginning(
    source: &Source,
    size: TreeSize,
    head: &SignedHead,
) -> Result<Beginning, Unproved> {
    let suite = head.suite();
    let wrong = || Unproved::Wrong(head.size());
    let (seed, siblings) = if size.get().is_power_of_two() {
        // A consistency proof leaves the seed out here.
        let last = size.last().ok_or_else(wrong)?;
        let (leaf_hash, proof) = source.inclusion(suite, last, head.size()).await?;
        let (seed, siblings) =
            consistency_from_inclusion(suite, size, leaf_hash, &proof).ok_or_else(wrong)?;
        (seed, siblings.to_vec())
    } else {
        let proof = source.consistency(suite, size, head.size()).await?;
        let (seed, siblings) = proof.split_first().ok_or_else(wrong)?;
        (*seed, siblings.to_vec())
    };
    match consistency_roots(suite, size, head.size(), seed, &siblings) {
        Ok((root, whole)) if whole == head.root() => Ok(Beginning { root, seed, siblings }),
        _ => Err(wrong()),
    }
}
