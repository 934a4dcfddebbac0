//! Checking evidence: everything is recomputed from the verifier's own keys.

use std::num::NonZeroU64;

use counterfoil_event::{Entry, EntryError};
use counterfoil_merkle::{Digest, LeafIndex, ProofError, TreeSize, consistency_roots, verify_inclusion};
use counterfoil_note::{Checkpoint, HeadError, Note, Origin, SignedHead, VerifierKey};

use super::{Basis, EntryProof, Evidence, Fact, Inconsistency, LeafProof, Verdict};

/// How every entry begins, whatever its version: the tag of its first field, a varint.
const VERSION_TAG: u8 = 0x08;
/// The version that is known here.
const KNOWN_VERSION: u64 = 1;

/// Why evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// It is about a log of which no key was given.
    #[error("the evidence is about the log {origin}, and no key of that log was given")]
    UnknownLog {
        /// The log that a head names.
        origin: Origin,
    },
    /// A head is not one that the log signed.
    #[error("a head in the evidence is refused: {0}")]
    Head(#[source] HeadError),
    /// The heads are of different logs, or of keys for different hash suites.
    #[error("the heads are not of one log and one hash suite")]
    OtherLog,
    /// The heads of a fork are of trees of different sizes.
    #[error("the heads are of size {} and {}: that is no fork", sizes[0], sizes[1])]
    OtherSize {
        /// The two sizes.
        sizes: [TreeSize; 2],
    },
    /// Both heads are of the same tree.
    #[error("both heads are of the same tree")]
    SameTree,
    /// A first tree that is empty or not smaller than the second.
    #[error("the first head is of size {first}, which is 0 or not below the second's {second}")]
    NotOlder {
        /// The size of the first tree.
        first: TreeSize,
        /// The size of the second tree.
        second: TreeSize,
    },
    /// A proof with more or fewer hashes than it takes.
    #[error("the consistency proof is refused: {0}")]
    Consistency(#[source] ProofError),
    /// The hashes do not lead to the newer root: they say nothing of either tree.
    #[error("the hashes do not lead to the root of the larger tree: they are no part of it")]
    ProvesNothing,
    /// The hashes lead to both roots: the trees are consistent.
    #[error("the larger tree begins with the smaller one, as it must")]
    Consistent,
    /// A head without a signed time.
    #[error(
        "a head has no signed time under the key given: give the log's key for timestamped heads, the one that \
         `counterfoild init` prints first"
    )]
    NoTime,
    /// The smaller tree was not signed after the larger.
    #[error("the smaller tree was not signed after the larger one")]
    NoRollback,
    /// A leaf that is not where it is said to be.
    #[error("the inclusion proof of leaf {index} is refused: {problem}")]
    Inclusion {
        /// The place.
        index: LeafIndex,
        /// The rule that the proof breaks.
        problem: ProofError,
    },
    /// The two leaves are one.
    #[error("both leaves are the same")]
    SameLeaf,
    /// The leaf is an entry as it must be.
    #[error("leaf {index} is a valid entry")]
    ValidEntry {
        /// The place.
        index: LeafIndex,
    },
    /// The leaf may be an entry of a version that is not known here.
    #[error("leaf {index} is of a form that is not known here: {problem}")]
    UnknownForm {
        /// The place.
        index: LeafIndex,
        /// What is unknown.
        problem: EntryError,
    },
    /// Entries that are to show a decreasing time do not.
    #[error("the entries' times do not decrease")]
    NoDecrease,
}

impl Evidence {
    /// Checks the evidence under the log's keys, and says what it proves. Keys of other logs are not looked at; more
    /// than one key of a log may be given.
    ///
    /// # Errors
    /// Any [`EvidenceError`]: the file then proves nothing, about any log.
    pub fn check(&self, keys: &[VerifierKey]) -> Result<Verdict, EvidenceError> {
        let (heads, mut proved, mut not_proved) = match &self.fact {
            Fact::Fork {
                heads: [first, second],
            } => fork(heads(keys, first, second)?)?,
            Fact::Inconsistency(fact) => inconsistency(heads(keys, &fact.older, &fact.newer)?, fact)?,
            Fact::Rollback { larger, smaller } => rollback(heads(keys, larger, smaller)?)?,
            Fact::RewrittenEntry {
                index,
                leaves: [first, second],
            } => {
                let heads = heads(keys, &first.head, &second.head)?;
                rewritten_entry(heads, *index, [first, second])?
            }
            Fact::InvalidEntry { head, leaf } => invalid_entry(self::head(keys, head)?, leaf)?,
            Fact::DecreasingTime { head, earlier, later } => {
                decreasing_time(self::head(keys, head)?, earlier, later)?
            }
            Fact::EntryMismatch { index, served, leaf } => {
                entry_mismatch(self::head(keys, &leaf.head)?, *index, served, leaf)?
            }
        };
        let basis = self.fact.basis();
        proved.push(match basis {
            Basis::LogSignatures => "no honest log signs this: whoever held the log's key did".to_owned(),
            Basis::ObserversWord => "those bytes are not what the log has at that place".to_owned(),
        });
        not_proved.push("when it was observed: that is the observer's word");
        not_proved.push("why: an attack, a stolen key and an operator's mistake look alike");
        Ok(Verdict {
            heads,
            basis,
            proved,
            not_proved,
        })
    }
}

/// Heads, what is proved and what is not.
type Findings = (Vec<SignedHead>, Vec<String>, Vec<&'static str>);

fn fork([first, second]: [SignedHead; 2]) -> Result<Findings, EvidenceError> {
    if first.size() != second.size() {
        let sizes = [first.size(), second.size()];
        return Err(EvidenceError::OtherSize { sizes });
    }
    if first.root() == second.root() {
        return Err(EvidenceError::SameTree);
    }
    let proved = format!(
        "the log signed two different trees of size {}: root {} and root {}",
        first.size(),
        first.root(),
        second.root()
    );
    Ok((
        vec![first, second],
        vec![proved],
        vec!["which of the two histories is the true one"],
    ))
}

/// Sound because the newer root fixes every node of its tree. If an honest tree of n leaves had this root, hashes of
/// this shape that lead to it would be its own nodes, or else a collision was found; and then the first root computed
/// from them is the root of its first m leaves, which is the only root of size m that its log signs. A proof that
/// does not lead to the newer root fixes nothing, and anyone can make one.
fn inconsistency([older, newer]: [SignedHead; 2], fact: &Inconsistency) -> Result<Findings, EvidenceError> {
    let (first, second) = (older.size(), newer.size());
    if first == TreeSize::ZERO || first >= second {
        return Err(EvidenceError::NotOlder { first, second });
    }
    let (in_first, in_second) = consistency_roots(newer.suite(), first, second, fact.seed, &fact.siblings)
        .map_err(EvidenceError::Consistency)?;
    if in_second != newer.root() {
        return Err(EvidenceError::ProvesNothing);
    }
    if in_first == older.root() {
        return Err(EvidenceError::Consistent);
    }
    let proved = vec![
        format!(
            "the log signed a tree of size {first} with root {} and one of size {second} with root {}",
            older.root(),
            newer.root()
        ),
        format!(
            "the first {first} leaves of the larger tree have the root {in_first}: it does not continue the smaller"
        ),
    ];
    Ok((
        vec![older, newer],
        proved,
        vec!["which of the two histories is the true one"],
    ))
}

fn rollback([larger, smaller]: [SignedHead; 2]) -> Result<Findings, EvidenceError> {
    let (Some(first), Some(then)) = (larger.time(), smaller.time()) else {
        return Err(EvidenceError::NoTime);
    };
    if larger.size() <= smaller.size() || then <= first {
        return Err(EvidenceError::NoRollback);
    }
    let proved = format!(
        "the log signed a tree of size {} at {first} ms and, at {then} ms by its own clock, one of size {} only",
        larger.size(),
        smaller.size()
    );
    Ok((
        vec![larger, smaller],
        vec![proved],
        vec!["that the log's clock was right: only the order of its times counts here"],
    ))
}

fn rewritten_entry(
    heads: [SignedHead; 2],
    index: LeafIndex,
    leaves: [&LeafProof; 2],
) -> Result<Findings, EvidenceError> {
    for (head, leaf) in heads.iter().zip(leaves) {
        check_leaf(head, index, leaf.leaf_hash, &leaf.inclusion_proof)?;
    }
    if leaves[0].leaf_hash == leaves[1].leaf_hash {
        return Err(EvidenceError::SameLeaf);
    }
    let proved = heads.iter().zip(leaves).map(|(head, leaf)| {
        format!(
            "in the tree of size {} that the log signed, leaf {index} has the hash {}",
            head.size(),
            leaf.leaf_hash
        )
    });
    let proved = proved.collect();
    Ok((
        heads.into(),
        proved,
        vec!["which of the two leaves is the true one"],
    ))
}

fn invalid_entry(head: SignedHead, leaf: &EntryProof) -> Result<Findings, EvidenceError> {
    let index = leaf.index;
    check_entry(&head, leaf)?;
    let problem = match Entry::decode(&leaf.entry) {
        Ok(_) => return Err(EvidenceError::ValidEntry { index }),
        Err(problem) if is_invalid_in_every_version(&leaf.entry, problem) => problem,
        Err(problem) => return Err(EvidenceError::UnknownForm { index, problem }),
    };
    let proved = format!(
        "leaf {index} of the tree of size {} that the log signed is no entry: {problem}",
        head.size()
    );
    Ok((vec![head], vec![proved], vec![]))
}

fn decreasing_time(
    head: SignedHead,
    earlier: &EntryProof,
    later: &EntryProof,
) -> Result<Findings, EvidenceError> {
    check_entry(&head, earlier)?;
    check_entry(&head, later)?;
    let (first, second) = (time(earlier)?, time(later)?);
    if earlier.index >= later.index || first <= second {
        return Err(EvidenceError::NoDecrease);
    }
    let proved = format!(
        "in the tree of size {} that the log signed, entry {} bears the time {first} ns and entry {} after it {second} ns",
        head.size(),
        earlier.index,
        later.index
    );
    Ok((vec![head], vec![proved], vec!["which of the two times is wrong"]))
}

fn entry_mismatch(
    head: SignedHead,
    index: LeafIndex,
    served: &[u8],
    leaf: &LeafProof,
) -> Result<Findings, EvidenceError> {
    check_leaf(&head, index, leaf.leaf_hash, &leaf.inclusion_proof)?;
    let served = head.suite().leaf_hash(served);
    if served == leaf.leaf_hash {
        return Err(EvidenceError::SameLeaf);
    }
    let proved = format!(
        "leaf {index} of the tree of size {} that the log signed has the hash {}; the bytes in the evidence have {served}",
        head.size(),
        leaf.leaf_hash
    );
    Ok((
        vec![head],
        vec![proved],
        vec!["that the log, or anyone else, ever served those bytes: anyone can write such a file"],
    ))
}

fn check_entry(head: &SignedHead, leaf: &EntryProof) -> Result<(), EvidenceError> {
    let leaf_hash = head.suite().leaf_hash(&leaf.entry);
    check_leaf(head, leaf.index, leaf_hash, &leaf.inclusion_proof)
}

fn check_leaf(
    head: &SignedHead,
    index: LeafIndex,
    leaf_hash: Digest,
    proof: &[Digest],
) -> Result<(), EvidenceError> {
    verify_inclusion(head.suite(), leaf_hash, index, head.size(), proof, head.root())
        .map_err(|problem| EvidenceError::Inclusion { index, problem })
}

fn time(leaf: &EntryProof) -> Result<NonZeroU64, EvidenceError> {
    let index = leaf.index;
    let entry =
        Entry::decode(&leaf.entry).map_err(|problem| EvidenceError::UnknownForm { index, problem })?;
    Ok(entry.time_unix_ns())
}

/// Whether bytes that this version can't read are no entry of a later one either. A verifier that is behind the times
/// must not convict a log that is not.
pub fn is_invalid_in_every_version(entry: &[u8], problem: EntryError) -> bool {
    match problem {
        // The one field that grows by new values.
        EntryError::UnknownAuthentication { .. } => false,
        // A limit of tlog-tiles, not of a version.
        EntryError::TooLong { .. } => true,
        _ => entry.split_first().is_none_or(|(&tag, rest)| {
            tag != VERSION_TAG || leading_varint(rest).is_none_or(|version| version <= KNOWN_VERSION)
        }),
    }
}

/// None if the bytes do not begin with a varint of at most 64 bits.
fn leading_varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (shift, byte) in (0..64).step_by(7).zip(bytes) {
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn heads(keys: &[VerifierKey], first: &[u8], second: &[u8]) -> Result<[SignedHead; 2], EvidenceError> {
    let [first, second] = [head(keys, first)?, head(keys, second)?];
    // One origin under keys of two suites would be two logs: their roots can't be compared.
    if first.origin() != second.origin() || first.suite() != second.suite() {
        return Err(EvidenceError::OtherLog);
    }
    Ok([first, second])
}

/// Verifies a head under all keys of its log that signed it. The time is that of the first key that signs one.
fn head(keys: &[VerifierKey], note: &[u8]) -> Result<SignedHead, EvidenceError> {
    let checkpoint = Note::parse(note)
        .map_err(HeadError::from)
        .and_then(|parsed| Ok(Checkpoint::parse(parsed.text())?))
        .map_err(EvidenceError::Head)?;
    let origin = checkpoint.origin();
    let mut verified: Option<SignedHead> = None;
    let mut unsigned = EvidenceError::UnknownLog {
        origin: origin.clone(),
    };
    for key in keys.iter().filter(|key| key.name() == origin) {
        match key.verify_head(note) {
            Ok(head) => match &verified {
                // One origin under keys of two suites would be two logs, and the root says nothing of which.
                Some(other) if other.suite() != head.suite() => return Err(EvidenceError::OtherLog),
                Some(other) if other.time().is_some() => {}
                Some(_) if head.time().is_none() => {}
                _ => verified = Some(head),
            },
            // What convicts is a line that holds: the log, or whoever passed the note on, may have put a false one beside it.
            Err(error @ (HeadError::NotSignedByKey { .. } | HeadError::BadSignature { .. })) => {
                unsigned = EvidenceError::Head(error);
            }
            Err(error) => return Err(EvidenceError::Head(error)),
        }
    }
    verified.ok_or(unsigned)
}
