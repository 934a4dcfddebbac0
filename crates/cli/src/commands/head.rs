//! `counterfoil head`

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use counterfoil_client::Error;
use counterfoil_note::{Policy, SignedHead};
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    options::Common,
    output::{self, Facts, Output, TreeHead, Witnessed},
};

/// Show the newest signed tree head, once it is proved to continue every head seen before
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil head
  counterfoil head --watch --json | jq -r .tree_size")]
pub(crate) struct Arguments {
    /// Go on with each head as it is published, one a line
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let client = common.client().await?;
    let json = |head: &SignedHead| CosignedTreeHead {
        head: TreeHead::from(head),
        cosignatures: output::witnessed_head(client.policy(), head),
    };
    if !arguments.watch {
        let head = client.head().await?;
        output.print(json(&head), facts(&head, client.policy()));
        return Ok(());
    }
    let mut heads = client.watch_heads().await?;
    loop {
        let head = match heads.next().await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            // The next one may have its witnesses.
            Err(Error::NotCosigned(error)) => {
                Failure::from(Error::NotCosigned(error)).report(output.is_json());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let json = json(&head);
        let witnesses = match json.cosignatures.len() {
            0 => String::new(),
            count => format!(", {count} cosigned"),
        };
        let line = format!(
            "{}  {}{witnesses}",
            output::signed(&head),
            output::head_line(&head)
        );
        output.print(json, line);
    }
    Err(Failure::new(Exit::Unavailable, "the server ended the stream of heads").hint("try again"))
}

/// A tree head, and who of the policy's witnesses cosigned it.
#[derive(Serialize)]
struct CosignedTreeHead {
    #[serde(flatten)]
    head: TreeHead,
    cosignatures: Vec<Witnessed>,
}

fn facts(head: &SignedHead, policy: &Policy) -> Facts {
    let mut facts = Facts::default();
    facts
        .add("origin", head.origin())
        .add("size", head.size())
        .add("root", head.root())
        .add("signed", format!("{}{}", output::signed(head), age(head)));
    for witnessed in output::witnessed_head(policy, head) {
        facts.add("cosigned", witnessed);
    }
    facts
}

/// How long ago by this machine's clock, for a head that is signed with its time.
fn age(head: &SignedHead) -> String {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis());
    match head
        .time()
        .and_then(|time| now_ms.checked_sub(u128::from(time.get())))
    {
        Some(age_ms) => format!(" ({}.{} s ago)", age_ms / 1000, age_ms % 1000 / 100),
        None => String::new(),
    }
}
