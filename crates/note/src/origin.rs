//! What a log is called: the first line of its checkpoints and the name of its keys.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest origin, or name of a key that is read from its text, in bytes of UTF-8.
pub const MAX_ORIGIN_BYTES: usize = 255;

/// How a message begins that a key signs in place of a note's text. An origin that began so would let one pass for
/// the other.
const RESERVED_PREFIXES: [&str; 2] = ["cosignature/v1", "counterfoil/timestamped-head/v1"];

/// The name of a log, such as `example.com/builds`: unique to it for ever.
///
/// 1 to [`MAX_ORIGIN_BYTES`] bytes; no Unicode white space, no control character, no `+`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// Why a text can't be an origin or the name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// There is no text.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`MAX_ORIGIN_BYTES`].
    #[error("the name has {bytes} bytes; {MAX_ORIGIN_BYTES} is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// White space, a control character or `+`, none of which the formats can carry in a name.
    #[error("the name holds {character:?}; white space, control characters and `+` are not allowed")]
    ForbiddenCharacter {
        /// The first such character.
        character: char,
    },
    /// It is an address: see [`Origin::for_new`].
    #[error("the name has a scheme; write it from the host on, without `{scheme}://`")]
    HasScheme {
        /// What stands before `://`.
        scheme: &'static str,
    },
    /// It begins like a message that keys sign.
    #[error("the name begins with {prefix:?}, which is reserved")]
    ReservedPrefix {
        /// The reserved beginning.
        prefix: &'static str,
    },
}

/// Schemes that people copy along with a name.
const SCHEMES: [&str; 2] = ["https", "http"];

impl Origin {
    /// A name for a log or witness that is to be made, which should have no scheme (C2SP tlog-checkpoint, note text). Those of
    /// others are taken as they are.
    ///
    /// # Errors
    /// If it is no name, or has a scheme.
    pub fn for_new(text: &str) -> Result<Self, OriginError> {
        let start = text.split_once("://").map_or("", |(start, _)| start);
        match SCHEMES
            .into_iter()
            .find(|scheme| start.eq_ignore_ascii_case(scheme))
        {
            Some(scheme) => Err(OriginError::HasScheme { scheme }),
            None => text.parse(),
        }
    }

    /// The name as it is written in checkpoints and keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        check_name(text)?;
        match RESERVED_PREFIXES
            .into_iter()
            .find(|prefix| text.starts_with(prefix))
        {
            Some(prefix) => Err(OriginError::ReservedPrefix { prefix }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn check_name(name: &str) -> Result<(), OriginError> {
    if name.is_empty() {
        return Err(OriginError::Empty);
    }
    if name.len() > MAX_ORIGIN_BYTES {
        return Err(OriginError::TooLong { bytes: name.len() });
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    match name.chars().find(|&c| forbidden(c)) {
        Some(character) => Err(OriginError::ForbiddenCharacter { character }),
        None => Ok(()),
    }
}
