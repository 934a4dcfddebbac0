//! The logs that a witness knows: the `log` lines of a C2SP tlog-policy file.

use std::collections::{HashMap, HashSet};

use counterfoil_note::{CosignerKey, KeyError, Origin, VerifierKey};
use thiserror::Error;

/// Longest logs file that is read, in bytes: room for a hundred thousand logs.
pub const MAX_LOGS_FILE_BYTES: usize = 32 * 1024 * 1024;

/// Most keys of one log. Each costs a signature check in every request for it.
pub const MAX_KEYS_OF_A_LOG: usize = 8;

/// The logs that a witness knows and the keys that it trusts for each.
#[derive(Debug, Default)]
pub struct LogList {
    /// None is empty, and no log's keys differ in their hash suite.
    keys: HashMap<Origin, Vec<VerifierKey>>,
}

/// Which line of a logs file is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct LogListError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: LogListProblem,
}

/// What can be wrong with a line of a logs file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogListProblem {
    /// The file is longer than [`MAX_LOGS_FILE_BYTES`]. Reported for the last line.
    #[error("the file is longer than {MAX_LOGS_FILE_BYTES} bytes")]
    TooLong,
    /// The last line has no newline: the file may be cut off.
    #[error("the last line has no newline at its end; the file may be cut off")]
    NoFinalNewline,
    /// A control character that is neither a tab nor a newline.
    #[error("it holds the control character {0:#04x}")]
    ControlCharacter(u8),
    /// Not of the form `log <vkey> [<url>]`.
    #[error("it is not of the form `log <vkey> [<url>]`")]
    Form,
    /// The key is not one of a log.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The public key stands on an earlier line.
    #[error("the same public key stands on an earlier line")]
    DuplicateKey,
    /// The public key is the witness's own.
    #[error("this is the witness's own key: what it signs as a witness could be tried as the log's word")]
    OwnKey,
    /// The keys of one log are of different hash suites.
    #[error(
        "the log {0} has keys of another hash suite on an earlier line; the suite of a log never changes"
    )]
    OtherSuite(Origin),
    /// The log has more than [`MAX_KEYS_OF_A_LOG`].
    #[error("the log {0} has more than {MAX_KEYS_OF_A_LOG} keys")]
    TooManyKeys(Origin),
}

impl LogList {
    /// Reads a logs file. A log may have several lines, one for each of its keys.
    ///
    /// # Errors
    /// The first line that is wrong. Nothing is then known of the others.
    pub fn parse(file: &[u8], witness: &CosignerKey) -> Result<Self, LogListError> {
        let mut list = Self::default();
        let mut public_keys = HashSet::from([*witness.public_key_bytes()]);
        let mut lines: Vec<&[u8]> = file.split(|&byte| byte == b'\n').collect();
        let last = lines.pop().unwrap_or_default();
        let at_end = |problem| LogListError {
            line: lines.len() + 1,
            problem,
        };
        if file.len() > MAX_LOGS_FILE_BYTES {
            return Err(at_end(LogListProblem::TooLong));
        }
        if !last.is_empty() {
            return Err(at_end(LogListProblem::NoFinalNewline));
        }
        for (line, number) in lines.into_iter().zip(1..) {
            let at = |problem| LogListError {
                line: number,
                problem,
            };
            let Some(key) = parse_line(line).map_err(at)? else {
                continue;
            };
            if key.public_key_bytes() == witness.public_key_bytes() {
                return Err(at(LogListProblem::OwnKey));
            }
            if !public_keys.insert(*key.public_key_bytes()) {
                return Err(at(LogListProblem::DuplicateKey));
            }
            list.insert(key).map_err(at)?;
        }
        Ok(list)
    }

    fn insert(&mut self, key: VerifierKey) -> Result<(), LogListProblem> {
        let origin = key.name().clone();
        let keys = self.keys.entry(origin.clone()).or_default();
        if keys.first().is_some_and(|first| first.suite() != key.suite()) {
            return Err(LogListProblem::OtherSuite(origin));
        }
        if keys.len() == MAX_KEYS_OF_A_LOG {
            return Err(LogListProblem::TooManyKeys(origin));
        }
        keys.push(key);
        Ok(())
    }

    /// The keys that are trusted for a log: at least one, unless the log is unknown.
    pub fn keys(&self, origin: &Origin) -> &[VerifierKey] {
        self.keys.get(origin).map_or(&[], Vec::as_slice)
    }

    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none. The witness then answers every request with 404.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The key on a line; none if it is empty or a comment.
fn parse_line(line: &[u8]) -> Result<Option<VerifierKey>, LogListProblem> {
    if let Some(&byte) = line
        .iter()
        .find(|&&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
    {
        return Err(LogListProblem::ControlCharacter(byte));
    }
    let mut fields = line
        .split(|&byte| byte == b' ' || byte == b'\t')
        .filter(|field| !field.is_empty());
    match fields.next() {
        None => return Ok(None),
        Some(field) if field.starts_with(b"#") => return Ok(None),
        Some(b"log") => {}
        Some(_) => return Err(LogListProblem::Form),
    }
    // The URL, which is the log's and not needed here, may hold any bytes.
    let (Some(vkey), _url, None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(LogListProblem::Form);
    };
    let vkey = str::from_utf8(vkey).map_err(|_| LogListProblem::Form)?;
    Ok(Some(vkey.parse()?))
}

#[cfg(test)]
mod tests {
    use counterfoil_merkle::Suite;
    use counterfoil_note::{CosignerSigner, KeyKind, SignerKey};

    use super::*;

    fn vkey(name: &str, kind: KeyKind, seed: u8) -> String {
        SignerKey::generate(name.parse().unwrap(), kind, [seed; 32])
            .verifier_key()
            .to_string()
    }

    fn blake3(name: &str, seed: u8) -> String {
        vkey(name, KeyKind::TimestampedHead(Suite::Blake3), seed)
    }

    fn parse(file: impl AsRef<[u8]>) -> Result<LogList, LogListError> {
        let witness = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
        LogList::parse(file.as_ref(), witness.verifier_key())
    }

    #[test]
    fn lines_comments_and_white_space_read_as_in_a_policy() {
        let (a, plain, stamped) = (
            blake3("a.example", 1),
            vkey("b.example", KeyKind::Ed25519, 2),
            vkey("b.example", KeyKind::TimestampedHead(Suite::Sha256), 3),
        );
        let file = format!(
            "# logs\n\n \t \nlog {a}\n\tlog\t{plain}  https://b.example/\u{e9} \n  # log nonsense\nlog {stamped} x\n"
        );
        let list = parse(file).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list.keys(&"a.example".parse().unwrap()), [a.parse().unwrap()]);
        assert_eq!(
            list.keys(&"b.example".parse().unwrap()),
            [plain.parse().unwrap(), stamped.parse().unwrap()]
        );
        assert!(list.keys(&"c.example".parse().unwrap()).is_empty());
        assert!(parse("").unwrap().is_empty());
        assert!(parse(b"log \xff\n# \xff\n").is_err());
        assert!(parse(b"# \xff\n").unwrap().is_empty());
    }

    #[test]
    fn each_wrong_line_is_named_with_its_fault() {
        let key = blake3("a.example", 1);
        let own = vkey("w.example", KeyKind::Ed25519, 200);
        let many: String = (0..=u8::try_from(MAX_KEYS_OF_A_LOG).unwrap())
            .map(|seed| format!("log {}\n", vkey("a.example", KeyKind::Ed25519, seed)))
            .collect();
        let origin = || "a.example".parse().unwrap();
        for (file, line, problem) in [
            (format!("log {key}"), 1, LogListProblem::NoFinalNewline),
            (format!("log {key}\nlog"), 2, LogListProblem::NoFinalNewline),
            (
                format!("\nlog {key}\r\n"),
                2,
                LogListProblem::ControlCharacter(b'\r'),
            ),
            ("log\n".to_owned(), 1, LogListProblem::Form),
            (format!("log {key} url more\n"), 1, LogListProblem::Form),
            (format!("logs {key}\n"), 1, LogListProblem::Form),
            (format!("{key}\n"), 1, LogListProblem::Form),
            ("quorum none\n".to_owned(), 1, LogListProblem::Form),
            (
                "log nonsense\n".to_owned(),
                1,
                LogListProblem::Key(KeyError::Format),
            ),
            (format!("log {key}\nlog {key}\n"), 2, LogListProblem::DuplicateKey),
            // The same public key under another name and kind.
            (
                format!("log {key}\nlog {}\n", vkey("b.example", KeyKind::Ed25519, 1)),
                2,
                LogListProblem::DuplicateKey,
            ),
            (format!("log {own}\n"), 1, LogListProblem::OwnKey),
            (
                format!("log {key}\nlog {}\n", vkey("a.example", KeyKind::Ed25519, 2)),
                2,
                LogListProblem::OtherSuite(origin()),
            ),
            (many, MAX_KEYS_OF_A_LOG + 1, LogListProblem::TooManyKeys(origin())),
        ] {
            assert_eq!(
                parse(&file).unwrap_err(),
                LogListError { line, problem },
                "{file}"
            );
        }
        let long = "#".repeat(MAX_LOGS_FILE_BYTES + 1);
        assert_eq!(parse(long).unwrap_err().problem, LogListProblem::TooLong);
    }
}
