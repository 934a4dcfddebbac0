//! `counterfoil bench prove`

use std::sync::Arc;

use clap::Args;
use counterfoil_client::Client;
use counterfoil_merkle::LeafIndex;
use counterfoil_note::SignedHead;
use fastrand::Rng;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Load, Verify,
    pace::Pace,
    tally::{Tally, per_second},
};
use crate::{
    commands::submit::random_id,
    failure::{Exit, Failure},
    options::Common,
    output::{self, Facts, Output},
};

/// Fetch inclusion proofs of random entries under the newest head
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil bench prove --connections 2 --in-flight 32 --duration 10 --json

Latency runs from the start of a call, or with --rate from when it should have started, until its proof is verified.")]
pub(crate) struct Arguments {
    /// Fetch whole receipts instead: each with its entry, and the newest published head
    #[arg(long, conflicts_with = "verify")]
    receipts: bool,
    #[command(flatten)]
    load: Load,
}

struct Run {
    client: Client,
    head: SignedHead,
    pace: Pace,
    tally: Tally,
    verify: Verify,
    receipts: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let load = arguments.load;
    let client = common.client_with(load.connections).await?;
    let head = client.head().await?;
    if head.size().get() == 0 {
        return Err(Failure::new(Exit::NotFound, "the log is empty"));
    }
    let spinner = load.schedule.spinner();
    let interval = load.schedule.interval(1);
    let run = Arc::new(Run {
        client,
        head,
        pace: Pace::start(load.schedule.duration(), interval),
        tally: Tally::new(),
        verify: load.verify,
        receipts: arguments.receipts,
    });
    let seed = u64::from_str_radix(&random_id()?[..16], 16).expect("16 hex digits are 64 bits");
    let workers = (load.connections.get() * load.in_flight.get()) as u64;
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        tasks.spawn(prove(Arc::clone(&run), Rng::with_seed(seed ^ worker << 32)));
    }
    tasks.join_all().await;
    spinner.finish_and_clear();
    if let Some(failure) = run.tally.counts().take_fatal() {
        return Err(failure);
    }
    report(&load, &run, output)
}

async fn prove(run: Arc<Run>, mut random: Rng) {
    let size = run.head.size();
    while !run.tally.is_over() {
        let Some(intended) = run.pace.next().await else {
            return;
        };
        let index = LeafIndex::new(random.u64(..size.get())).expect("below the size of a tree");
        let proved = match run.verify {
            _ if run.receipts => run.client.receipt(index).await.map(|_| ()),
            Verify::All => run
                .client
                .prove_inclusion_under(&run.head, index)
                .await
                .map(|_| ()),
            Verify::None => run.client.unverified().prove_inclusion(index, size).await,
        };
        let mut counts = run.tally.counts();
        match proved {
            Ok(()) => {
                counts.acknowledged += 1;
                counts.verified += u64::from(run.verify == Verify::All);
                counts.answered(intended, 1);
            }
            Err(counterfoil_client::Error::Refused(refusal)) => counts.refused(&refusal),
            Err(error) => counts.failed(error, 1),
        }
    }
}

fn report(load: &Load, run: &Run, output: &Output) -> Result<(), Failure> {
    let mut counts = run.tally.counts();
    counts.end(&run.pace, 1);
    let elapsed = counts.elapsed(run.pace.started());
    let rate = per_second(counts.acknowledged, elapsed);
    let latency = counts.latency();
    let mut facts = Facts::default();
    facts
        .add(if run.receipts { "receipts/s" } else { "proofs/s" }, rate)
        .add("answered", counts.acknowledged)
        .add("verified", counts.verified)
        .add("refused", counts.refused)
        .add("failed", counts.failed)
        .add("not started", run.pace.missed())
        .add("latency", latency.line())
        .add("in", format!("{:.2} s", elapsed.as_secs_f64()))
        .add("head", output::head_line(&run.head));
    counts.tell_first_problem(&mut facts);
    let json = json!({
        "receipts": run.receipts,
        "connections": load.connections,
        "in_flight": load.in_flight,
        "duration_seconds": load.schedule.duration,
        "rate": load.schedule.rate,
        "verify": run.verify,
        "tree_size": run.head.size().get(),
        "acknowledged": counts.acknowledged,
        "refused": counts.refused,
        "failed": counts.failed,
        "verified": counts.verified,
        "not_started": run.pace.missed(),
        "elapsed_seconds": elapsed.as_secs_f64(),
        "proofs_per_second": rate,
        "latency_ms": latency,
        "first_problem": counts.first_problem(),
    });
    output.print(json, facts);
    if counts.acknowledged == 0 {
        return Err(Failure::new(Exit::Unavailable, "no proof was answered"));
    }
    Ok(())
}
