//! `counterfoil receipt`

use std::path::PathBuf;

use clap::Args;
use counterfoil_merkle::LeafIndex;

use crate::{
    commands::select::leaf_index,
    failure::Failure,
    files,
    options::Common,
    output::{self, Facts, Output},
};

/// Fetch a fresh receipt for an entry already recorded
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil receipt 42 --output run-42.tlog-proof
  counterfoil verify run-42.tlog-proof")]
pub(crate) struct Arguments {
    /// The entry's place in the log, from 0
    #[arg(value_parser = leaf_index)]
    index: LeafIndex,
    /// Where to write the receipt [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let (receipt, verified) = common.client().await?.receipt(arguments.index).await?;
    let head = verified.head();
    let text = receipt
        .to_text(head.suite())
        .map_err(|error| Failure::untrusted(error.to_string()))?;
    let json = output::receipt(&receipt, head);
    let Some(path) = &arguments.output else {
        output.print(json, text);
        return Ok(());
    };
    files::write(path, text.as_bytes())?;
    let mut facts = Facts::default();
    facts
        .add("leaf", receipt.index)
        .add("leaf hash", verified.leaf_hash())
        .add("head", output::head_line(head))
        .add("receipt", path.display());
    output.print(json, facts);
    Ok(())
}
