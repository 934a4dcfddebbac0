//! How `get` and `prove inclusion` name an entry.

use clap::Args;
use counterfoil_client::Leaf;
use counterfoil_merkle::{Digest, LeafIndex};

use crate::failure::Failure;

/// An entry by its index, its leaf hash, or its event's source and id.
#[derive(Args)]
pub(crate) struct Selection {
    /// The entry's place in the log, from 0
    #[arg(value_name = "INDEX", value_parser = leaf_index, conflicts_with_all = ["hash", "source", "id"])]
    index: Option<LeafIndex>,
    /// The entry's leaf hash, in hex
    #[arg(long, value_name = "HEX", conflicts_with_all = ["source", "id"])]
    hash: Option<Digest>,
    /// The event's source; goes with --id
    #[arg(long, requires = "id")]
    source: Option<String>,
    /// The event's id; goes with --source
    #[arg(long, requires = "source")]
    id: Option<String>,
}

impl Selection {
    pub(crate) fn leaf(self) -> Result<Leaf, Failure> {
        match self {
            Self {
                index: Some(index), ..
            } => Ok(Leaf::Index(index)),
            Self { hash: Some(hash), .. } => Ok(Leaf::Hash(hash)),
            Self {
                source: Some(source),
                id: Some(id),
                ..
            } => Ok(Leaf::Event { source, id }),
            _ => {
                Err(Failure::usage("no entry is named").hint("give INDEX, --hash HEX, or --source S --id I"))
            }
        }
    }
}

pub(crate) fn leaf_index(text: &str) -> Result<LeafIndex, String> {
    let number = text
        .parse()
        .map_err(|_| "an index is a number from 0".to_owned())?;
    LeafIndex::new(number).map_err(|error| error.to_string())
}
