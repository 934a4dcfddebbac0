//! `counterfoil prove`

use clap::{Args, Subcommand};
use counterfoil_merkle::TreeSize;
use serde_json::json;

use crate::{
    commands::{OfLog, select::Selection},
    failure::Failure,
    options::Common,
    output::{self, Facts, Output, TreeHead},
};

/// Fetch a proof, check it, and print it
#[derive(Subcommand)]
pub(crate) enum Prove {
    Inclusion(OfLog<Inclusion>),
    Consistency(OfLog<Consistency>),
}

/// Prove that an entry is in the log
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil prove inclusion 42
  counterfoil prove inclusion --hash 9f86d081… --tree-size 1000")]
pub(crate) struct Inclusion {
    #[command(flatten)]
    selection: Selection,
    /// In the tree of this size [default: the newest head's]
    #[arg(long, value_name = "SIZE", value_parser = tree_size)]
    tree_size: Option<TreeSize>,
}

/// Prove that the log of one size is the beginning of the log of another
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil prove consistency 1000

Compare the roots printed with those that you noted: the proof says that one tree continues the other.")]
pub(crate) struct Consistency {
    /// The smaller size, at least 1
    #[arg(value_parser = tree_size)]
    first: TreeSize,
    /// The larger size [default: the newest head's]
    #[arg(value_parser = tree_size)]
    second: Option<TreeSize>,
}

pub(crate) async fn run(prove: Prove, output: &Output) -> Result<(), Failure> {
    match prove {
        Prove::Inclusion(command) => command.run(inclusion, output).await,
        Prove::Consistency(command) => command.run(consistency, output).await,
    }
}

async fn inclusion(arguments: Inclusion, common: &Common, output: &Output) -> Result<(), Failure> {
    let leaf = arguments.selection.leaf()?;
    let proof = common
        .client()
        .await?
        .prove_inclusion(&leaf, arguments.tree_size)
        .await?;
    let mut facts = Facts::default();
    facts
        .add("leaf", proof.leaf_index)
        .add("leaf hash", proof.leaf_hash)
        .add(
            "in tree",
            format!("size {}, root {}", proof.tree_size, proof.root_hash),
        )
        .add("under head", output::head_line(&proof.head));
    for hash in &proof.hashes {
        facts.add("hash", hash);
    }
    let json = json!({
        "leaf_index": proof.leaf_index.get(),
        "leaf_hash": proof.leaf_hash.to_string(),
        "tree_size": proof.tree_size.get(),
        "root_hash": proof.root_hash.to_string(),
        "hashes": output::hashes(&proof.hashes),
        "tree_head": TreeHead::from(&proof.head),
    });
    output.print(json, facts);
    Ok(())
}

async fn consistency(arguments: Consistency, common: &Common, output: &Output) -> Result<(), Failure> {
    let proof = common
        .client()
        .await?
        .prove_consistency(arguments.first, arguments.second)
        .await?;
    let mut facts = Facts::default();
    facts
        .add(
            "first tree",
            format!("size {}, root {}", proof.first_tree_size, proof.first_root_hash),
        )
        .add(
            "continued by",
            format!("size {}, root {}", proof.second_tree_size, proof.second_root_hash),
        )
        .add("under head", output::head_line(&proof.head));
    for hash in &proof.hashes {
        facts.add("hash", hash);
    }
    let json = json!({
        "first_tree_size": proof.first_tree_size.get(),
        "first_root_hash": proof.first_root_hash.to_string(),
        "second_tree_size": proof.second_tree_size.get(),
        "second_root_hash": proof.second_root_hash.to_string(),
        "hashes": output::hashes(&proof.hashes),
        "tree_head": TreeHead::from(&proof.head),
    });
    output.print(json, facts);
    Ok(())
}

fn tree_size(text: &str) -> Result<TreeSize, String> {
    let number: u64 = text.parse().map_err(|_| "a size is a number from 1".to_owned())?;
    match TreeSize::new(number) {
        Ok(TreeSize::ZERO) => Err("a size is a number from 1".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}
