//! The statement that a log signs: its name, its size, its root. C2SP tlog-checkpoint.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, TreeSize};
use thiserror::Error;

use crate::origin::{Origin, OriginError};

/// The text of a checkpoint. Nothing in it is verified: [`SignedHead`](crate::SignedHead) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: Origin,
    size: TreeSize,
    root: Digest,
    extensions: Vec<String>,
}

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// Fewer than three lines, or the last one has no newline.
    #[error("the checkpoint is cut off")]
    Truncated,
    /// The first line can't name a log.
    #[error("the checkpoint's origin is invalid: {0}")]
    Origin(#[from] OriginError),
    /// The second line is not a decimal number up to 2^63 − 1.
    #[error("the checkpoint's tree size is not a number up to 2^63 - 1")]
    Size,
    /// The third line is not the base64 of 32 bytes.
    #[error("the checkpoint's root hash is not the base64 of 32 bytes")]
    Root,
    /// An extension line is empty or holds a control character.
    #[error("extension line {line} of the checkpoint is empty or holds a control character")]
    Extension {
        /// Which of the extension lines, from 1.
        line: usize,
    },
    /// What it says can be read but has another spelling: a leading zero, a sign.
    #[error("the checkpoint is not in canonical form")]
    NotCanonical,
}

impl Checkpoint {
    /// A checkpoint with no extension lines.
    pub fn new(origin: Origin, size: TreeSize, root: Digest) -> Self {
        Self {
            origin,
            size,
            root,
            extensions: Vec::new(),
        }
    }

    /// Reads the text of a checkpoint: the whole text of a note, its last newline included.
    ///
    /// # Errors
    /// [`CheckpointError`]. Only the spelling that [`to_text`](Self::to_text) has is taken.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text
            .strip_suffix('\n')
            .ok_or(CheckpointError::Truncated)?
            .split('\n');
        let mut line = || lines.next().ok_or(CheckpointError::Truncated);
        let (origin, size, root) = (line()?, line()?, line()?);

        let size = size.parse().map_err(|_| CheckpointError::Size)?;
        let root = BASE64_STANDARD.decode(root).map_err(|_| CheckpointError::Root)?;
        let checkpoint = Self {
            origin: origin.parse()?,
            size: TreeSize::new(size).map_err(|_| CheckpointError::Size)?,
            root: Digest::try_from(root.as_slice()).map_err(|_| CheckpointError::Root)?,
            extensions: lines.map(str::to_owned).collect(),
        };
        let is_bad = |extension: &String| extension.is_empty() || extension.bytes().any(|byte| byte < 0x20);
        if let Some(index) = checkpoint.extensions.iter().position(is_bad) {
            return Err(CheckpointError::Extension { line: index + 1 });
        }
        // Number parsers take "+5" and "007", and other decoders take what ours may one day take.
        if checkpoint.to_text() != text {
            return Err(CheckpointError::NotCanonical);
        }
        Ok(checkpoint)
    }

    /// The name of the log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The root hash of the tree.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Lines after the third, without their newlines; none is empty. Our logs write none.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The text, its last newline included.
    pub fn to_text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root.as_bytes());
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        for extension in &self.extensions {
            text.push_str(extension);
            text.push('\n');
        }
        text
    }
}
