//! `counterfoil receipt`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use counterfoil_client::{Action, Client, Error, Leaf};
use counterfoil_merkle::LeafIndex;
use counterfoil_verify::{Receipt, VerifiedReceipt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    commands::select::leaf_index,
    failure::Failure,
    files,
    options::Common,
    output::{self, Facts, Output},
};

/// How long the log has to come up with a head over the entry that the witnesses cosigned.
const WITNESSES_WAIT: Duration = Duration::from_secs(15);
/// How often it is asked meanwhile.
const WITNESSES_POLL: Duration = Duration::from_millis(500);

/// Fetch a fresh receipt for an entry already recorded, cosigned if the policy asks for witnesses
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil receipt 42 --output run-42.tlog-proof --policy trust.policy
  counterfoil verify run-42.tlog-proof --policy trust.policy

A receipt from `submit` bears the log's signature alone: no witness has seen its head yet. This one waits for them.
Its salt is compared with the entry's, if the log serves the payload.")]
pub(crate) struct Arguments {
    /// The entry's place in the log, from 0
    #[arg(value_parser = leaf_index)]
    index: LeafIndex,
    /// Where to write the receipt [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let client = common.client().await?;
    let (receipt, verified) = fetch(&client, arguments.index).await?;
    let unchecked_salt = compare_salt(&client, &receipt).await?;
    let head = verified.head();
    let witnessed = output::witnessed_head(client.policy(), head);
    let text = receipt
        .to_text(head.suite())
        .map_err(|error| Failure::untrusted(error.to_string()))?;
    let mut json = output::receipt(&receipt, head);
    json["cosignatures"] = json!(witnessed);
    json["salt_verified"] = unchecked_salt.is_none().into();
    let Some(path) = &arguments.output else {
        if let Some(why) = unchecked_salt
            && !output.is_json()
        {
            let why = output::printable(&why);
            output::say(format_args!("warning: the salt is not checked: {why}"));
        }
        if !output.is_json() {
            files::check_lines(&text)?;
        }
        output.print(json, text);
        return Ok(());
    };
    files::write_receipt(path, &text)?;
    let mut facts = Facts::default();
    facts
        .add("leaf", receipt.index)
        .add("leaf hash", verified.leaf_hash())
        .add("head", output::head_line(head));
    if let Some(why) = unchecked_salt {
        facts.add("salt", format!("not checked: {why}"));
    }
    for witnessed in witnessed {
        facts.add("cosigned", witnessed);
    }
    facts.add("receipt", path.display());
    output.print(json, facts);
    Ok(())
}

/// Compares the salt with the one that opens the entry's commitments. No signature covers it, and a receipt with another
/// salt shows nobody what was recorded. Returns why it can't be compared, if so: it takes the payload.
async fn compare_salt(client: &Client, receipt: &Receipt) -> Result<Option<String>, Failure> {
    let payload = match client.entry(&Leaf::Index(receipt.index), true).await {
        Ok((entry, _)) => entry.payload,
        Err(error) if error.action() == Action::Alert => return Err(error.into()),
        // The receipt holds all the same: it may be kept by whoever may not read payloads, or while witnesses are away.
        Err(error) => return Ok(Some(error.to_string())),
    };
    match payload {
        Some(payload) if payload.salt == receipt.salt => Ok(None),
        Some(_) => Err(Failure::untrusted("the salt in the receipt is not the entry's")
            .hint("nobody could show by this receipt what was recorded: do not trust the log")),
        None => Ok(Some("the payload is not served".to_owned())),
    }
}

/// Fetches the receipt, once the log has a head that covers the entry and that the policy's witnesses cosigned.
async fn fetch(client: &Client, index: LeafIndex) -> Result<(Receipt, VerifiedReceipt), Failure> {
    let deadline = Instant::now() + WITNESSES_WAIT;
    loop {
        match client.receipt(index).await {
            Err(Error::NotCosigned(_)) if Instant::now() < deadline => sleep(WITNESSES_POLL).await,
            Err(error @ Error::NotCosigned(_)) => {
                let seconds = WITNESSES_WAIT.as_secs();
                let fact = format!("no cosigned receipt for leaf {index} within {seconds} s");
                return Err(Failure::from(error).after(&fact));
            }
            fetched => return Ok(fetched?),
        }
    }
}
