//! Entries by what they are about. The search index is the server's word; what it leads to is verified like any entry.

use counterfoil_event::{IndexAttribute, IndexKey};
use counterfoil_merkle::LeafIndex;
use counterfoil_note::SignedHead;
use counterfoil_proto::v1;

use crate::{Client, Error, InvalidAnswer, Leaf, VerifiedEntry};

/// Largest answer of a search to accept: 1,000 indices of up to 10 bytes.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Entries in order of index, each proved to be in the log, and to have the value that was searched for in its normal form.
    pub entries: Vec<VerifiedEntry>,
    /// Leaves that the index names too, in order. They are in the log, and nothing shows that they are about the value: their
    /// payloads are not served, be they erased or withheld.
    pub unreadable: Vec<LeafIndex>,
    /// The log when it was searched, or somewhat later: later entries were not looked for.
    pub head: SignedHead,
    /// There are more behind these: from where to search on.
    pub next: Option<LeafIndex>,
}

impl Client {
    /// Entries whose normal form has `value`, from `first` on, at most `limit` of them (1,000 at most), those that can't be read
    /// among them.
    ///
    /// That an entry is **not** among them proves nothing: no signature covers the index. To be sure, read
    /// [every entry](Client::entries) and look at [its normal form](VerifiedEntry::is_about).
    pub async fn find(
        &self,
        attribute: IndexAttribute,
        value: &str,
        first: LeafIndex,
        limit: u32,
    ) -> Result<Found, Error> {
        let request = v1::FindEntriesRequest {
            log: self.log(),
            attribute: attribute.number().into(),
            value: value.to_owned(),
            first_leaf_index: first.get(),
            limit,
        };
        let mut reads = self.reads().max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = self.answer(reads.find_entries(request)).await?;
        let size = counterfoil_proto::tree_size("tree_size", answer.tree_size)?;
        let indices = indices(&answer, first, limit)?;
        let next = match indices.last() {
            _ if !answer.more => None,
            Some(last) => {
                let next = last.size_after().get();
                Some(counterfoil_proto::leaf_index("leaf_indices", next)?)
            }
            // Whoever searched on would never come to an end.
            None => return Err(InvalidAnswer::new("it found nothing, and says that there is more").into()),
        };

        let head = self.head_covering(size.get()).await?;
        if head.size() < size {
            let problem = format!(
                "it searched {size} entries, and its signed head has {}",
                head.size()
            );
            return Err(InvalidAnswer::new(problem).into());
        }
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for index in indices {
            let (entry, _) = self.entry(&Leaf::Index(index), true).await?;
            match entry.is_about(attribute, value) {
                Some(true) => entries.push(entry),
                Some(false) => {
                    let problem = format!(
                        "its search index leads to leaf {index}, which does not have the {attribute} {value:?}"
                    );
                    return Err(InvalidAnswer::new(problem).into());
                }
                None => unreadable.push(index),
            }
        }
        Ok(Found {
            entries,
            unreadable,
            head,
            next,
        })
    }
}

fn indices(
    answer: &v1::FindEntriesResponse,
    first: LeafIndex,
    limit: u32,
) -> Result<Vec<LeafIndex>, InvalidAnswer> {
    let found = &answer.leaf_indices;
    let in_order = found.is_sorted_by(|a, b| a < b)
        && found
            .iter()
            .all(|index| (first.get()..answer.tree_size).contains(index));
    if !in_order || found.len() as u64 > u64::from(limit) {
        return Err(InvalidAnswer::new("what it found is not what was asked for"));
    }
    found
        .iter()
        .map(|index| LeafIndex::new(*index).map_err(|problem| InvalidAnswer::new(problem.to_string())))
        .collect()
}

impl VerifiedEntry {
    /// Whether the entry's normal form has `value`. `None` if it can't be told: the payload was not asked for, or is not served.
    pub fn is_about(&self, attribute: IndexAttribute, value: &str) -> Option<bool> {
        let payload = self.payload.as_ref()?;
        let keys = IndexKey::of_normal_form(&payload.annotations.normalised);
        Some(keys.contains(&IndexKey::new(attribute, value)))
    }
}
