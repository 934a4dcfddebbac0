//! `counterfoil head`

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use counterfoil_note::SignedHead;

use crate::{
    failure::{Exit, Failure},
    options::Common,
    output::{self, Facts, Output, TreeHead},
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
    if !arguments.watch {
        let head = client.head().await?;
        output.print(TreeHead::from(&head), facts(&head));
        return Ok(());
    }
    let mut heads = client.watch_heads().await?;
    while let Some(head) = heads.next().await? {
        output.print(
            TreeHead::from(&head),
            format!("{}  {}", output::signed(&head), output::head_line(&head)),
        );
    }
    Err(Failure::new(Exit::Unavailable, "the server ended the stream of heads").hint("try again"))
}

fn facts(head: &SignedHead) -> Facts {
    let mut facts = Facts::default();
    facts
        .add("origin", head.origin())
        .add("size", head.size())
        .add("root", head.root())
        .add("signed", format!("{}{}", output::signed(head), age(head)));
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
