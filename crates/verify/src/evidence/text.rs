//! Evidence as text (`.evidence`): one line for each field, in one order, in one spelling.

use std::{iter::Peekable, str::Split};

use base64::{Engine, prelude::BASE64_STANDARD};
use counterfoil_event::limits::MAX_ENTRY_BYTES;
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_note::{MAX_NOTE_BYTES, UnixMillis};

use super::{EntryProof, Evidence, Fact, Inconsistency, LeafProof};
use crate::MAX_PROOF_HASHES;

/// Longest evidence as text: two heads and two entries of the largest kind, and their proofs, fit. So do a head and the
/// longest leaf that is no entry.
pub const MAX_EVIDENCE_TEXT_BYTES: usize = 512 << 10;

/// Longest leaf that evidence of an invalid entry can carry: one that is too long for an entry convicts as well.
pub const MAX_INVALID_ENTRY_BYTES: usize = 256 << 10;

const HEADER: &str = "counterfoil/evidence@v1";

/// Why text is not evidence, or why evidence has no such text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceTextError {
    /// Longer than [`MAX_EVIDENCE_TEXT_BYTES`].
    #[error("the evidence is {actual_bytes} bytes long, more than {MAX_EVIDENCE_TEXT_BYTES}")]
    TooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// The first line is another.
    #[error("the file is not evidence: its first line is not {HEADER}")]
    NotEvidence,
    /// A fact that is not known here.
    #[error("the evidence is of a fact that is not known here")]
    UnknownFact,
    /// A line that is not what it must be at its place.
    #[error("line {line} of the evidence is not `{expected}` and a value in its one form")]
    Malformed {
        /// Its number, counted from 1.
        line: usize,
        /// The field that belongs there.
        expected: &'static str,
    },
    /// A field that is longer than it can be.
    #[error("the {field} in the evidence is {actual_bytes} bytes long, more than {limit_bytes}")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// How long.
        actual_bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
    /// More than [`MAX_PROOF_HASHES`] hashes in one proof.
    #[error("a proof in the evidence has more than {MAX_PROOF_HASHES} hashes")]
    ProofTooLong,
    /// There is something after the last field.
    #[error("the evidence goes on in line {line}, after its last field")]
    TrailingLine {
        /// Its number, counted from 1.
        line: usize,
    },
}

impl Evidence {
    /// Writes the evidence as text. Fails if [`from_text`](Self::from_text) would refuse the result for a limit.
    pub fn to_text(&self) -> Result<String, EvidenceTextError> {
        let mut text = Writer(format!(
            "{HEADER}\nfact {}\nobserved {}\n",
            self.fact.name(),
            self.observed
        ));
        match &self.fact {
            Fact::Fork { heads } => heads.iter().try_for_each(|head| text.head(head))?,
            Fact::Inconsistency(fact) => {
                text.head(&fact.older)?;
                text.head(&fact.newer)?;
                text.bytes("seed", fact.seed.as_bytes());
                text.proof(&fact.siblings)?;
            }
            Fact::Rollback { larger, smaller } => {
                text.head(larger)?;
                text.head(smaller)?;
            }
            Fact::RewrittenEntry { index, leaves } => {
                text.number("index", index.get());
                leaves.iter().try_for_each(|leaf| text.leaf(leaf))?;
            }
            Fact::InvalidEntry { head, leaf } => {
                text.head(head)?;
                text.entry(leaf, MAX_INVALID_ENTRY_BYTES)?;
            }
            Fact::DecreasingTime { head, earlier, later } => {
                text.head(head)?;
                text.entry(earlier, MAX_ENTRY_BYTES)?;
                text.entry(later, MAX_ENTRY_BYTES)?;
            }
            Fact::EntryMismatch { index, served, leaf } => {
                text.number("index", index.get());
                text.limited("entry", served, MAX_ENTRY_BYTES)?;
                text.leaf(leaf)?;
            }
        }
        check_length(&text.0)?;
        Ok(text.0)
    }

    /// Reads what [`to_text`](Self::to_text) writes, and nothing else. The result is not checked: see
    /// [`check`](Self::check).
    pub fn from_text(text: &str) -> Result<Self, EvidenceTextError> {
        check_length(text)?;
        let body = text
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or(EvidenceTextError::NotEvidence)?;
        let mut fields = Reader {
            lines: body.split('\n').peekable(),
            line: 1,
        };
        let name = fields.field("fact")?;
        let observed = UnixMillis::new(fields.number("observed")?);
        let fact = fields.fact(name)?;
        fields.end()?;
        Ok(Self { observed, fact })
    }
}

fn check_length(text: &str) -> Result<(), EvidenceTextError> {
    if text.len() > MAX_EVIDENCE_TEXT_BYTES {
        return Err(EvidenceTextError::TooLong {
            actual_bytes: text.len(),
        });
    }
    Ok(())
}

fn check_field(field: &'static str, bytes: &[u8], limit_bytes: usize) -> Result<(), EvidenceTextError> {
    if bytes.len() > limit_bytes {
        return Err(EvidenceTextError::FieldTooLong {
            field,
            actual_bytes: bytes.len(),
            limit_bytes,
        });
    }
    Ok(())
}

struct Writer(String);

impl Writer {
    fn number(&mut self, name: &str, value: u64) {
        self.0.push_str(&format!("{name} {value}\n"));
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.push_str(name);
        self.0.push(' ');
        BASE64_STANDARD.encode_string(value, &mut self.0);
        self.0.push('\n');
    }

    fn limited(&mut self, name: &'static str, value: &[u8], limit: usize) -> Result<(), EvidenceTextError> {
        check_field(name, value, limit)?;
        self.bytes(name, value);
        Ok(())
    }

    fn head(&mut self, note: &[u8]) -> Result<(), EvidenceTextError> {
        self.limited("head", note, MAX_NOTE_BYTES)
    }

    fn proof(&mut self, hashes: &[Digest]) -> Result<(), EvidenceTextError> {
        if hashes.len() > MAX_PROOF_HASHES {
            return Err(EvidenceTextError::ProofTooLong);
        }
        hashes.iter().for_each(|hash| self.bytes("hash", hash.as_bytes()));
        Ok(())
    }

    fn leaf(&mut self, leaf: &LeafProof) -> Result<(), EvidenceTextError> {
        self.head(&leaf.head)?;
        self.bytes("leaf", leaf.leaf_hash.as_bytes());
        self.proof(&leaf.inclusion_proof)
    }

    fn entry(&mut self, leaf: &EntryProof, limit: usize) -> Result<(), EvidenceTextError> {
        self.number("index", leaf.index.get());
        self.limited("entry", &leaf.entry, limit)?;
        self.proof(&leaf.inclusion_proof)
    }
}

struct Reader<'a> {
    lines: Peekable<Split<'a, char>>,
    /// The line read last, counted from 1.
    line: usize,
}

impl<'a> Reader<'a> {
    fn fact(&mut self, name: &str) -> Result<Fact, EvidenceTextError> {
        Ok(match name {
            "fork" => Fact::Fork {
                heads: [self.head()?, self.head()?],
            },
            "inconsistency" => Fact::Inconsistency(Inconsistency {
                older: self.head()?,
                newer: self.head()?,
                seed: self.digest("seed")?,
                siblings: self.proof()?,
            }),
            "rollback" => Fact::Rollback {
                larger: self.head()?,
                smaller: self.head()?,
            },
            "rewritten_entry" => Fact::RewrittenEntry {
                index: self.index()?,
                leaves: [self.leaf()?, self.leaf()?],
            },
            "invalid_entry" => Fact::InvalidEntry {
                head: self.head()?,
                leaf: self.entry(MAX_INVALID_ENTRY_BYTES)?,
            },
            "decreasing_time" => Fact::DecreasingTime {
                head: self.head()?,
                earlier: self.entry(MAX_ENTRY_BYTES)?,
                later: self.entry(MAX_ENTRY_BYTES)?,
            },
            "entry_mismatch" => Fact::EntryMismatch {
                index: self.index()?,
                served: self.bytes("entry", MAX_ENTRY_BYTES)?,
                leaf: self.leaf()?,
            },
            _ => return Err(EvidenceTextError::UnknownFact),
        })
    }

    fn malformed(&self, expected: &'static str) -> EvidenceTextError {
        EvidenceTextError::Malformed {
            line: self.line,
            expected,
        }
    }

    fn field(&mut self, name: &'static str) -> Result<&'a str, EvidenceTextError> {
        self.line += 1;
        self.lines
            .next()
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .ok_or(self.malformed(name))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, EvidenceTextError> {
        let digits = self.field(name)?;
        digits
            .parse()
            .ok()
            // `parse` also takes a plus sign and leading zeros.
            .filter(|number: &u64| number.to_string() == digits)
            .ok_or(self.malformed(name))
    }

    fn index(&mut self) -> Result<LeafIndex, EvidenceTextError> {
        let number = self.number("index")?;
        LeafIndex::new(number).map_err(|_| self.malformed("index"))
    }

    fn decoded(&mut self, name: &'static str) -> Result<Vec<u8>, EvidenceTextError> {
        let encoded = self.field(name)?;
        // The decoder takes the one spelling only: padded, with no bits to spare.
        BASE64_STANDARD.decode(encoded).map_err(|_| self.malformed(name))
    }

    fn bytes(&mut self, name: &'static str, limit: usize) -> Result<Vec<u8>, EvidenceTextError> {
        let bytes = self.decoded(name)?;
        check_field(name, &bytes, limit)?;
        Ok(bytes)
    }

    fn head(&mut self) -> Result<Vec<u8>, EvidenceTextError> {
        self.bytes("head", MAX_NOTE_BYTES)
    }

    fn digest(&mut self, name: &'static str) -> Result<Digest, EvidenceTextError> {
        let bytes = self.decoded(name)?;
        Digest::try_from(&bytes[..]).map_err(|_| self.malformed(name))
    }

    fn proof(&mut self) -> Result<Vec<Digest>, EvidenceTextError> {
        let mut hashes = Vec::new();
        while self.lines.peek().is_some_and(|line| line.starts_with("hash ")) {
            if hashes.len() == MAX_PROOF_HASHES {
                return Err(EvidenceTextError::ProofTooLong);
            }
            hashes.push(self.digest("hash")?);
        }
        Ok(hashes)
    }

    fn leaf(&mut self) -> Result<LeafProof, EvidenceTextError> {
        Ok(LeafProof {
            head: self.head()?,
            leaf_hash: self.digest("leaf")?,
            inclusion_proof: self.proof()?,
        })
    }

    fn entry(&mut self, limit: usize) -> Result<EntryProof, EvidenceTextError> {
        Ok(EntryProof {
            index: self.index()?,
            entry: self.bytes("entry", limit)?,
            inclusion_proof: self.proof()?,
        })
    }

    /// The text ends with the newline of its last field.
    fn end(mut self) -> Result<(), EvidenceTextError> {
        let is_end = self.lines.next() == Some("") && self.lines.next().is_none();
        if is_end {
            Ok(())
        } else {
            Err(EvidenceTextError::TrailingLine { line: self.line + 1 })
        }
    }
}
