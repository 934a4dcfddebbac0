//! The body of `add-checkpoint`, read strictly: each request has one spelling.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::MAX_NOTE_BYTES;
use thiserror::Error;

/// Most hashes in a consistency proof: one for each level of the largest tree.
pub const MAX_PROOF_HASHES: usize = 63;

/// Longest body that is read, in bytes: the old size line, a full proof, the empty line and the longest note.
pub const MAX_REQUEST_BYTES: usize =
    OLD_SIZE_LINE_BYTES + MAX_PROOF_HASHES * HASH_LINE_BYTES + 1 + MAX_NOTE_BYTES;

/// `old `, the 19 digits of 2^63 − 1, a newline.
const OLD_SIZE_LINE_BYTES: usize = 4 + 19 + 1;
/// The base64 of 32 bytes and a newline.
const HASH_LINE_BYTES: usize = 44 + 1;

/// A request to cosign a checkpoint. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint<'a> {
    /// The size of the newest checkpoint that the client knows this witness to have cosigned; zero if none.
    pub old: TreeSize,
    /// The consistency proof from the old size to the checkpoint's.
    pub proof: Vec<Digest>,
    /// The checkpoint: the rest of the body, a signed note or not.
    pub checkpoint: &'a [u8],
}

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The body ends before the empty line.
    #[error("the body ends before the empty line that precedes the checkpoint")]
    Truncated,
    /// The first line is not `old ` and a decimal number up to 2^63 − 1 without a leading zero.
    #[error("the first line is not `old <size>`, the size in decimal, at most 2^63 - 1")]
    OldSize,
    /// A line is not the base64 of 32 bytes.
    #[error("line {line} of the proof is not the base64 of 32 bytes")]
    Hash {
        /// Which of the proof's lines, from 1.
        line: usize,
    },
    /// More than [`MAX_PROOF_HASHES`].
    #[error("the proof has more than {MAX_PROOF_HASHES} lines")]
    TooManyHashes,
}

impl<'a> AddCheckpoint<'a> {
    /// Reads a body of at most [`MAX_REQUEST_BYTES`]; the caller has limited it already.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let (first, mut rest) = split_line(body)?;
        let old = first
            .strip_prefix(b"old ")
            .and_then(parse_size)
            .ok_or(RequestError::OldSize)?;
        let mut proof = Vec::new();
        loop {
            let (line, after) = split_line(rest)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if proof.len() == MAX_PROOF_HASHES {
                return Err(RequestError::TooManyHashes);
            }
            let number = proof.len() + 1;
            proof.push(parse_hash(line).ok_or(RequestError::Hash { line: number })?);
        }
        Ok(Self {
            old,
            proof,
            checkpoint: rest,
        })
    }
}

fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), RequestError> {
    let end = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or(RequestError::Truncated)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

/// A size in decimal without a leading zero.
pub(crate) fn parse_size(digits: &[u8]) -> Option<TreeSize> {
    let digits = str::from_utf8(digits).ok()?;
    let size = TreeSize::new(digits.parse().ok()?).ok()?;
    // Number parsers take "+5" and "007".
    (size.to_string() == digits).then_some(size)
}

fn parse_hash(line: &[u8]) -> Option<Digest> {
    // This decoder refuses missing padding and stray trailing bits.
    let bytes = BASE64_STANDARD.decode(line).ok()?;
    Digest::try_from(bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn error(body: &str) -> RequestError {
        AddCheckpoint::parse(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let body = format!("old 20852014\n{HASH}\n{HASH}\n\nexample.com/log\n\n— and so on");
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        assert_eq!(request.old.get(), 20_852_014);
        assert_eq!(request.proof.len(), 2);
        assert_eq!(BASE64_STANDARD.encode(request.proof[1].as_bytes()), HASH);
        assert_eq!(request.checkpoint, "example.com/log\n\n— and so on".as_bytes());

        let empty = AddCheckpoint::parse(b"old 0\n\n").unwrap();
        assert_eq!(
            (empty.old, empty.proof.len(), empty.checkpoint.len()),
            (TreeSize::ZERO, 0, 0)
        );
    }

    #[test]
    fn the_old_size_has_one_spelling_and_a_limit() {
        let max = TreeSize::MAX.get();
        assert_eq!(
            AddCheckpoint::parse(format!("old {max}\n\n").as_bytes())
                .unwrap()
                .old
                .get(),
            max
        );
        let beyond = max + 1;
        for bad in [
            "old",
            "old ",
            "old  5",
            "old 5 ",
            "old +5",
            "old -1",
            "old 05",
            "old 00",
            "old 0x5",
            "old 5\r",
            "Old 5",
            " old 5",
            "old\t5",
            "size 5",
            "",
            "old ٥",
            &format!("old {beyond}"),
            "old 99999999999999999999999",
        ] {
            assert_eq!(error(&format!("{bad}\n\n")), RequestError::OldSize, "{bad:?}");
        }
    }

    #[test]
    fn hashes_are_exact_base64_of_32_bytes_and_at_most_63() {
        let full = format!("old 5\n{}\n", format!("{HASH}\n").repeat(MAX_PROOF_HASHES));
        assert_eq!(
            AddCheckpoint::parse(full.as_bytes()).unwrap().proof.len(),
            MAX_PROOF_HASHES
        );
        let over = format!("old 5\n{}\n", format!("{HASH}\n").repeat(MAX_PROOF_HASHES + 1));
        assert_eq!(error(&over), RequestError::TooManyHashes);

        for bad in [
            &HASH[..43],                 // no padding
            &HASH.replace("2I=", "2J="), // stray trailing bits
            &format!("{HASH} "),
            &format!(" {HASH}"),
            &format!("{HASH}\r"),
            &HASH.replace('/', "_"),
            "AAAA",
            &format!("AAAA{HASH}"),
            "— example.com/log AAAA",
        ] {
            let body = format!("old 5\n{HASH}\n{bad}\n\ncheckpoint");
            assert_eq!(error(&body), RequestError::Hash { line: 2 }, "{bad:?}");
        }
    }

    #[test]
    fn whatever_is_cut_off_is_refused() {
        let body = format!("old 5\n{HASH}\n\n");
        for length in 0..body.len() {
            assert!(
                AddCheckpoint::parse(&body.as_bytes()[..length]).is_err(),
                "{length}"
            );
        }
        assert_eq!(error("old 5"), RequestError::Truncated);
    }
}
