//! Receipts as text: C2SP tlog-proof files (`.tlog-proof`).

use base64::{Engine, prelude::BASE64_STANDARD};
use counterfoil_event::{Salt, limits::MAX_ENTRY_BYTES};
use counterfoil_merkle::{Digest, LeafIndex, Suite};
use counterfoil_note::Policy;

use crate::Receipt;

/// Longest receipt as text.
pub const MAX_RECEIPT_TEXT_BYTES: usize = 128 << 10;
/// Most hashes of an inclusion proof: the depth of the largest tree, 2^63 − 1 leaves.
pub const MAX_PROOF_HASHES: usize = 63;

/// What the `extra` line holds starts with this byte; then the salt, then the entry.
const EXTRA_FORMAT: u8 = 1;

/// Why text is not a receipt, or why a receipt has no such text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptTextError {
    /// Longer than [`MAX_RECEIPT_TEXT_BYTES`].
    #[error("the receipt is {actual_bytes} bytes long, more than {MAX_RECEIPT_TEXT_BYTES}")]
    TooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// The first line is no header of a receipt.
    #[error("the file is not a receipt: its first line is neither of the headers that receipts have")]
    NotAReceipt,
    /// A receipt of a log with another hash suite than the one asked for.
    #[error("the receipt is for the hash suite {found}, and the log's key is for {expected}")]
    OtherSuite {
        /// The suite asked for.
        expected: Suite,
        /// The suite that the header stands for.
        found: Suite,
    },
    /// A line that is not what it must be at its place.
    #[error("line {line} of the receipt is malformed")]
    Malformed {
        /// Its number, counted from 1.
        line: usize,
    },
    /// The empty line before the checkpoint is missing.
    #[error("the receipt ends before its checkpoint")]
    NoCheckpoint,
    /// The `extra` line has a format that is not known here.
    #[error("the receipt's extra line is of the unknown format {found}")]
    UnknownExtraFormat {
        /// Its first byte.
        found: u8,
    },
    /// An entry longer than [`MAX_ENTRY_BYTES`].
    #[error("the receipt's entry is {actual_bytes} bytes long, more than {MAX_ENTRY_BYTES}")]
    EntryTooLong {
        /// How long.
        actual_bytes: usize,
    },
    /// More than [`MAX_PROOF_HASHES`] hashes.
    #[error("the receipt's inclusion proof has more than {MAX_PROOF_HASHES} hashes")]
    ProofTooLong,
    /// A checkpoint that is not UTF-8, which no signed note is.
    #[error("the receipt's checkpoint is not UTF-8")]
    CheckpointNotUtf8,
}

impl Receipt {
    /// Writes the receipt as text:
    ///
    /// ```text
    /// counterfoil/tlog-proof@v1
    /// extra <base64 of 0x01, salt[32], entry>
    /// index <decimal>
    /// <base64 hash>            one line for each, from the leaf up; none in a tree of one leaf
    ///
    /// <checkpoint, verbatim>
    /// ```
    ///
    /// The first line is that for `blake3`, and `c2sp.org/tlog-proof@v1` for `sha256`: software that knows SHA-256
    /// alone refuses the other. Fails if [`from_text`](Self::from_text) would refuse the result for a limit.
    pub fn to_text(&self, suite: Suite) -> Result<String, ReceiptTextError> {
        self.check_limits()?;
        let checkpoint =
            std::str::from_utf8(&self.checkpoint).map_err(|_| ReceiptTextError::CheckpointNotUtf8)?;

        let extra = [&[EXTRA_FORMAT][..], self.salt.as_bytes(), &self.entry].concat();
        let mut text = format!(
            "{}\nextra {}\nindex {}\n",
            header(suite),
            BASE64_STANDARD.encode(extra),
            self.index
        );
        for hash in &self.inclusion_proof {
            BASE64_STANDARD.encode_string(hash.as_bytes(), &mut text);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(checkpoint);
        check_length(&text)?;
        Ok(text)
    }

    /// Reads what [`to_text`](Self::to_text) writes, for a log of a known `suite`, and nothing else. The result is not
    /// checked: see [`verify`](Self::verify).
    pub fn from_text(text: &str, suite: Suite) -> Result<Self, ReceiptTextError> {
        check_length(text)?;
        let (first, rest) = text.split_once('\n').ok_or(ReceiptTextError::NotAReceipt)?;
        check_header(first, suite)?;

        // The checkpoint has an empty line of its own; the proof ends at the first.
        let (proof, checkpoint) = rest.split_once("\n\n").ok_or(ReceiptTextError::NoCheckpoint)?;
        let mut lines = (2..).zip(proof.split('\n'));
        let (salt, entry) = extra(lines.next())?;
        let index = index(lines.next())?;
        let inclusion_proof = lines
            .map(|(line, text)| hash(line, text))
            .collect::<Result<Vec<_>, _>>()?;

        let receipt = Self {
            index,
            entry,
            salt,
            inclusion_proof,
            checkpoint: checkpoint.into(),
        };
        receipt.check_limits()?;
        Ok(receipt)
    }

    /// As [`from_text`](Self::from_text), for a log that `policy` lists. The suite is that of its key for the origin that
    /// the checkpoint begins with; a log that is not listed is refused when the receipt is verified.
    pub fn from_text_by(text: &str, policy: &Policy) -> Result<Self, ReceiptTextError> {
        check_length(text)?;
        let checkpoint = text.split_once("\n\n").map_or("", |(_, checkpoint)| checkpoint);
        let origin = checkpoint.lines().next().unwrap_or_default();
        let mut keys = policy.logs().iter().map(|log| &log.key);
        let suite = match keys.find(|key| key.name().as_str() == origin) {
            Some(key) => key.suite(),
            None => suite_of_header(text.lines().next().unwrap_or_default())?,
        };
        Self::from_text(text, suite)
    }

    fn check_limits(&self) -> Result<(), ReceiptTextError> {
        if self.entry.len() > MAX_ENTRY_BYTES {
            return Err(ReceiptTextError::EntryTooLong {
                actual_bytes: self.entry.len(),
            });
        }
        if self.inclusion_proof.len() > MAX_PROOF_HASHES {
            return Err(ReceiptTextError::ProofTooLong);
        }
        Ok(())
    }
}

fn header(suite: Suite) -> &'static str {
    match suite {
        Suite::Blake3 => "counterfoil/tlog-proof@v1",
        Suite::Sha256 => "c2sp.org/tlog-proof@v1",
    }
}

fn check_header(line: &str, expected: Suite) -> Result<(), ReceiptTextError> {
    let found = suite_of_header(line)?;
    if found != expected {
        return Err(ReceiptTextError::OtherSuite { expected, found });
    }
    Ok(())
}

fn suite_of_header(line: &str) -> Result<Suite, ReceiptTextError> {
    Suite::ALL
        .into_iter()
        .find(|&suite| header(suite) == line)
        .ok_or(ReceiptTextError::NotAReceipt)
}

fn check_length(text: &str) -> Result<(), ReceiptTextError> {
    if text.len() > MAX_RECEIPT_TEXT_BYTES {
        return Err(ReceiptTextError::TooLong {
            actual_bytes: text.len(),
        });
    }
    Ok(())
}

fn extra(line: Option<(usize, &str)>) -> Result<(Salt, Vec<u8>), ReceiptTextError> {
    let malformed = ReceiptTextError::Malformed { line: 2 };
    let (_, text) = line.ok_or(malformed)?;
    let encoded = text.strip_prefix("extra ").ok_or(malformed)?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| malformed)?;
    let (&format, rest) = bytes.split_first().ok_or(malformed)?;
    if format != EXTRA_FORMAT {
        return Err(ReceiptTextError::UnknownExtraFormat { found: format });
    }
    let (salt, entry) = rest.split_first_chunk::<32>().ok_or(malformed)?;
    Ok((Salt::from(*salt), entry.to_vec()))
}

fn index(line: Option<(usize, &str)>) -> Result<LeafIndex, ReceiptTextError> {
    let malformed = ReceiptTextError::Malformed { line: 3 };
    let (_, text) = line.ok_or(malformed)?;
    let digits = text.strip_prefix("index ").ok_or(malformed)?;
    let number: u64 = digits.parse().map_err(|_| malformed)?;
    // `parse` also takes a plus sign and leading zeros.
    if number.to_string() != digits {
        return Err(malformed);
    }
    LeafIndex::new(number).map_err(|_| malformed)
}

fn hash(line: usize, text: &str) -> Result<Digest, ReceiptTextError> {
    let malformed = ReceiptTextError::Malformed { line };
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| malformed)?;
    Digest::try_from(&bytes[..]).map_err(|_| malformed)
}
