//! The envelope: a text, an empty line, and lines that sign the text. C2SP signed-note.

use std::collections::HashSet;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use thiserror::Error;

use crate::key::KeyId;

/// Longest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Most signature lines that are read. The specification asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// Bytes of key id at the head of a signature line's base64.
const KEY_ID_BYTES: usize = 4;

/// A note that is well formed. Nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line: who claims to have signed, and with what bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: KeyId,
    payload: Vec<u8>,
}

/// Why bytes are not a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`].
    #[error("the note has {bytes} bytes; {MAX_NOTE_BYTES} is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The bytes are not UTF-8.
    #[error("the note is not UTF-8")]
    NotUtf8,
    /// A byte below 0x20 that is not a newline.
    #[error("the note holds the control character {byte:#04x} at byte {at}")]
    ControlCharacter {
        /// The first such byte.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// No empty line parts a text from its signatures.
    #[error("the note has no empty line between text and signatures")]
    NoSignatures,
    /// The last line is cut off.
    #[error("the note does not end in a newline")]
    NoFinalNewline,
    /// Not of the form `— <name> <base64(key id ‖ signature)>`.
    #[error("signature line {line} of the note is malformed")]
    MalformedSignature {
        /// Which of the signature lines, from 1.
        line: usize,
    },
    /// More than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

impl Note {
    pub(crate) fn new(text: String, signatures: Vec<NoteSignature>) -> Self {
        Self { text, signatures }
    }

    /// Reads a note. Of several signatures by one name and key id, the first stays and the rest are dropped.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let note = text_of(bytes)?;
        // The last empty line: a text may hold empty lines of its own.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoFinalNewline)?;

        Ok(Self {
            text: format!("{text}\n"),
            signatures: parse_lines(lines)?,
        })
    }

    /// The signed text, its last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in the order of their lines, at most one for each name and key id.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    pub(crate) fn into_signatures(self) -> Vec<NoteSignature> {
        self.signatures
    }

    /// The signature that claims to be by this key.
    pub fn signature_by(&self, name: &str, id: KeyId) -> Option<&NoteSignature> {
        self.signatures
            .iter()
            .find(|signature| signature.id == id && signature.name == name)
    }

    /// The note as it is sent and stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut note = format!("{}\n", self.text);
        for signature in &self.signatures {
            note.push_str(&signature.to_string());
            note.push('\n');
        }
        note.into_bytes()
    }
}

/// Reads signature lines that stand alone, as a witness answers with: one to [`MAX_SIGNATURES`], each ended by a newline.
/// Of several by one name and key id, the first stays and the rest are dropped. Nothing is verified.
///
/// # Errors
/// [`NoteError`].
pub fn parse_signature_lines(bytes: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    let lines = text_of(bytes)?
        .strip_suffix('\n')
        .ok_or(NoteError::NoFinalNewline)?;
    parse_lines(lines)
}

fn text_of(bytes: &[u8]) -> Result<&str, NoteError> {
    if bytes.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong { bytes: bytes.len() });
    }
    let text = str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
    match bytes.iter().position(|&byte| byte < 0x20 && byte != b'\n') {
        Some(at) => Err(NoteError::ControlCharacter { byte: bytes[at], at }),
        None => Ok(text),
    }
}

/// What signed-note asks of the name of anyone's key. A line by a key that nobody here knows is to be passed over, so no
/// more is asked: names of keys that are trusted are [`Origin`](crate::Origin)s.
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// Reads signature lines, the last without its newline.
fn parse_lines(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let mut seen = HashSet::new();
    let mut signatures = Vec::new();
    for (line, number) in lines.split('\n').zip(1..) {
        if number > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let signature = NoteSignature::parse(line).ok_or(NoteError::MalformedSignature { line: number })?;
        if seen.insert((signature.name.clone(), signature.id)) {
            signatures.push(signature);
        }
    }
    Ok(signatures)
}

impl NoteSignature {
    pub(crate) fn new(name: &str, id: KeyId, payload: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            id,
            payload,
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, data) = line.strip_prefix("— ")?.split_once(' ')?;
        if !is_key_name(name) {
            return None;
        }
        // This decoder refuses missing padding and stray trailing bits, so that one signature has one spelling.
        let data = BASE64_STANDARD.decode(data).ok()?;
        let (id, payload) = data.split_first_chunk::<KEY_ID_BYTES>()?;
        if payload.is_empty() {
            return None;
        }
        Some(Self::new(name, KeyId::from_bytes(*id), payload.to_vec()))
    }

    /// The name of the key. That of a stranger may fill a note and hold what a terminal acts upon: never print it as it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What follows the key id: the signature, with whatever the key's kind puts before it. Never empty.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// The signature line, without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = [self.id.to_bytes().as_slice(), &self.payload].concat();
        write!(f, "— {} {}", self.name, BASE64_STANDARD.encode(data))
    }
}

/// The line with escapes: a stranger may have chosen the name.
impl fmt::Debug for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSignature({:?})", self.to_string())
    }
}
