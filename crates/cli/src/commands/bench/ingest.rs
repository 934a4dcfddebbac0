//! `counterfoil bench ingest`

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use counterfoil_client::{Client, Error, Refusal, SubmitSender};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time};

use super::{
    Load, Verify,
    events::Events,
    pace::Pace,
    tally::{Counts, Tally, per_second},
};
use crate::{
    failure::{Exit, Failure},
    options::Common,
    output::{Facts, Output},
};

/// How long a worker of a closed loop rests after a refusal that says nothing about it, or a failure.
const REST: Duration = Duration::from_millis(20);

/// Submit unique events as fast as the log takes them, or at a given rate
#[derive(Args, Clone)]
#[command(after_help = "\
Example:
  counterfoil bench ingest --mode batch --batch 256 --connections 2 --in-flight 4 --duration 10 --json

Every event is new: a JSON report of a CI job, which zstd takes to about half. Latency runs from the start of a call,
or with --rate from when it should have started, until its receipts are verified. In a closed loop each connection
keeps --in-flight calls under way (--mode stream: events); with --rate they are the most that may be. The rate is in
events, whatever the mode.")]
pub(crate) struct Arguments {
    /// One event a call, many a call, or a stream
    #[arg(long, value_enum, default_value_t = Mode::Batch)]
    mode: Mode,
    #[command(flatten)]
    load: Load,
    /// Events in a call of --mode batch
    #[arg(long, value_name = "B", default_value = "256")]
    batch: NonZeroUsize,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Unary,
    Batch,
    Stream,
}

impl Arguments {
    /// Events in one call.
    fn per_call(&self) -> usize {
        match self.mode {
            Mode::Batch => self.batch.get(),
            Mode::Unary | Mode::Stream => 1,
        }
    }
}

/// What all workers share.
struct Run {
    client: Client,
    events: Events,
    pace: Pace,
    tally: Tally,
    verify: Verify,
    is_open: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let client = common.client_with(arguments.load.connections).await?;
    let spinner = arguments.load.schedule.spinner();
    let per_call = arguments.per_call();
    let interval = arguments.load.schedule.interval(per_call);
    let run = Arc::new(Run {
        client,
        events: Events::new(arguments.size)?,
        pace: Pace::start(arguments.load.schedule.duration(), interval),
        tally: Tally::new(),
        verify: arguments.load.verify,
        is_open: interval.is_some(),
    });

    let mut workers = JoinSet::new();
    for _ in 0..arguments.load.connections.get() {
        if arguments.mode == Mode::Stream {
            workers.spawn(stream(Arc::clone(&run), arguments.load.in_flight.get()));
            continue;
        }
        for _ in 0..arguments.load.in_flight.get() {
            match arguments.mode {
                Mode::Unary => workers.spawn(unary(Arc::clone(&run))),
                _ => workers.spawn(batch(Arc::clone(&run), per_call)),
            };
        }
    }
    workers.join_all().await;
    spinner.finish_and_clear();

    if let Some(failure) = run.tally.counts().take_fatal() {
        return Err(failure);
    }
    if run.verify == Verify::All {
        run.client.link_heads().await?;
    }
    report(&arguments, &run, output)
}

async fn unary(run: Arc<Run>) {
    while let Some(intended) = run.next().await {
        let event = &run.events.next(1)[0];
        let outcome = match run.verify {
            Verify::All => run
                .client
                .submit(event)
                .await
                .map(|submitted| submitted.duplicate),
            Verify::None => run
                .client
                .unverified()
                .submit(event)
                .await
                .map(|answer| answer.duplicate),
        };
        let rest = {
            let mut counts = run.tally.counts();
            match outcome {
                Ok(duplicate) => {
                    counts.answered(intended, 1);
                    run.record(&mut counts, Ok(duplicate))
                }
                Err(Error::Refused(refusal)) => run.record(&mut counts, Err(&refusal)),
                Err(error) => {
                    counts.failed(error, 1);
                    Some(REST)
                }
            }
        };
        run.rest(rest).await;
    }
}

async fn batch(run: Arc<Run>, size: usize) {
    while let Some(intended) = run.next().await {
        let events = run.events.next(size);
        let outcomes: Result<Vec<Result<bool, Refusal>>, Error> = match run.verify {
            Verify::All => run.client.submit_batch(&events).await.map(|outcomes| {
                outcomes
                    .into_iter()
                    .map(|outcome| outcome.map(|submitted| submitted.duplicate))
                    .collect()
            }),
            Verify::None => run
                .client
                .unverified()
                .submit_batch(&events)
                .await
                .map(|outcomes| {
                    outcomes
                        .into_iter()
                        .map(|outcome| outcome.map(|answer| answer.duplicate))
                        .collect()
                }),
        };
        let mut rest = None;
        {
            let mut counts = run.tally.counts();
            match outcomes {
                Ok(outcomes) => {
                    let before = counts.acknowledged;
                    for outcome in &outcomes {
                        rest = run.record(&mut counts, outcome.as_ref().copied()).max(rest);
                    }
                    let acknowledged = counts.acknowledged - before;
                    counts.answered(intended, acknowledged);
                }
                Err(error) => {
                    counts.failed(error, size as u64);
                    rest = Some(REST);
                }
            }
        }
        run.rest(rest).await;
    }
}

/// One stream: this task takes the results, another sends.
async fn stream(run: Arc<Run>, in_flight: usize) {
    let (starts, mut intended) = mpsc::unbounded_channel();
    let mut results = match run.verify {
        Verify::All => {
            let (sender, results) = run.client.submit_stream(in_flight);
            tokio::spawn(send(Arc::clone(&run), sender, starts));
            Results::Verified(results)
        }
        Verify::None => {
            let (sender, results) = run.client.unverified().submit_stream(in_flight);
            tokio::spawn(send(Arc::clone(&run), sender, starts));
            Results::Unverified(results)
        }
    };
    loop {
        let outcome = match results.next().await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return,
            Err(error) => {
                // The events under way are lost with the stream.
                let mut lost = 1;
                while intended.try_recv().is_ok() {
                    lost += 1;
                }
                return run.tally.counts().failed(error, lost);
            }
        };
        let Some(intended) = intended.recv().await else {
            return;
        };
        let mut counts = run.tally.counts();
        if run.record(&mut counts, outcome.as_ref().copied()).is_none() {
            counts.answered(intended, 1);
        }
    }
}

enum Results {
    Verified(counterfoil_client::SubmitResults),
    Unverified(counterfoil_client::UnverifiedResults),
}

impl Results {
    async fn next(&mut self) -> Result<Option<Result<bool, Refusal>>, Error> {
        Ok(match self {
            Self::Verified(results) => results
                .next()
                .await?
                .map(|(_, outcome)| outcome.map(|submitted| submitted.duplicate)),
            Self::Unverified(results) => results
                .next()
                .await?
                .map(|(_, outcome)| outcome.map(|answer| answer.duplicate)),
        })
    }
}

async fn send(run: Arc<Run>, mut sender: SubmitSender, starts: mpsc::UnboundedSender<Instant>) {
    while let Some(intended) = run.next().await {
        let Some(event) = run.events.next(1).pop() else {
            return;
        };
        // Before the event: its result may come before this task goes on.
        if starts.send(intended).is_err() || sender.send(event).await.is_err() {
            return;
        }
    }
}

impl Run {
    async fn next(&self) -> Option<Instant> {
        if self.tally.is_over() {
            None
        } else {
            self.pace.next().await
        }
    }

    /// Counts an outcome. Returns how long to rest if it was a refusal.
    fn record(&self, counts: &mut Counts, outcome: Result<bool, &Refusal>) -> Option<Duration> {
        match outcome {
            Ok(duplicate) => {
                counts.acknowledged += 1;
                counts.duplicates += u64::from(duplicate);
                counts.verified += u64::from(self.verify == Verify::All);
                None
            }
            Err(refusal) => {
                counts.refused(refusal);
                Some(refusal.retry_after.unwrap_or(REST))
            }
        }
    }

    /// A closed loop does as it is told; an open one goes on by the clock.
    async fn rest(&self, rest: Option<Duration>) {
        if let Some(rest) = rest.filter(|_| !self.is_open) {
            time::sleep(rest).await;
        }
    }
}

fn report(arguments: &Arguments, run: &Run, output: &Output) -> Result<(), Failure> {
    let per_call = arguments.per_call() as u64;
    let mut counts = run.tally.counts();
    counts.end(&run.pace, per_call);
    let elapsed = counts.elapsed(run.pace.started());
    let rate = per_second(counts.acknowledged, elapsed);
    let latency = counts.latency();
    let missed = run.pace.missed() * per_call;

    let mut facts = Facts::default();
    facts
        .add("events/s", rate)
        .add("acknowledged", counts.acknowledged)
        .add("verified", counts.verified)
        .add("refused", counts.refused)
        .add("failed", counts.failed)
        .add("not started", missed)
        .add("latency", latency.line())
        .add("in", format!("{:.2} s", elapsed.as_secs_f64()));
    counts.tell_first_problem(&mut facts);
    let json: Value = json!({
        "mode": arguments.mode,
        "connections": arguments.load.connections,
        "in_flight": arguments.load.in_flight,
        "batch": (arguments.mode == Mode::Batch).then_some(arguments.batch),
        "size_bytes": arguments.size,
        "duration_seconds": arguments.load.schedule.duration,
        "rate": arguments.load.schedule.rate,
        "verify": run.verify,
        "acknowledged": counts.acknowledged,
        "duplicates": counts.duplicates,
        "refused": counts.refused,
        "failed": counts.failed,
        "verified": counts.verified,
        "not_started": missed,
        "elapsed_seconds": elapsed.as_secs_f64(),
        "events_per_second": rate,
        "latency_ms": latency,
        "first_problem": counts.first_problem(),
    });
    output.print(json, facts);
    if counts.acknowledged == 0 {
        return Err(Failure::new(Exit::Unavailable, "no event was acknowledged"));
    }
    Ok(())
}
