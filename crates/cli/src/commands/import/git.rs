//! `counterfoil import git`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use counterfoil_client::{Action, Client, Error, Refusal, SubmitSender};
use counterfoil_event::Event;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::{sync::mpsc, task, time};

use super::history::History;
use crate::{
    failure::{Exit, Failure},
    options::Common,
    output::{self, Output},
};

/// Events that wait between the repository and the connection. Few: each may have 25 MiB.
const READ_AHEAD: usize = 4;
/// How often an event is sent again that the log has no room for, and how long to wait first if it does not say.
const MAX_ATTEMPTS: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// A server may ask for more patience; it does not get it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Record the commits, merges and tags of a local git repository
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil import git ~/src/widgets

Reads what HEAD, branches, remote branches and tags lead to, oldest first. An event's payload is the git object as
git hashes it, so its hash is the object id; its type is scm.commit, scm.merge or scm.tag. What is on record already
stays as it is: a second run adds only what is new.")]
pub(crate) struct Arguments {
    /// The repository, bare or not
    path: PathBuf,
    /// The source of the events [default: git: and the id of the history's first commit]
    #[arg(long)]
    source: Option<String>,
    /// Most events under way at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,
}

/// What came of an import.
#[derive(Serialize)]
struct Summary {
    source: String,
    new: u64,
    already_on_record: u64,
    refused: Vec<String>,
    /// What to end with because of `refused`.
    #[serde(skip)]
    refused_exit: Option<Exit>,
    skipped: Vec<String>,
    tree_size: u64,
    root_hash: String,
}

impl Summary {
    fn refuse(&mut self, event: &Event, refusal: Refusal) {
        self.refused.push(format!("{}: {refusal}", event.id()));
        // To try again helps none that has to be changed.
        if matches!(self.refused_exit, None | Some(Exit::Unavailable)) {
            self.refused_exit = Some(Failure::from(refusal).exit);
        }
    }
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    // What is wrong with the command line is told before anything is read.
    common.server()?;
    common.policy()?;
    let history = {
        let (path, source) = (arguments.path, arguments.source);
        task::spawn_blocking(move || History::read(&path, source))
            .await
            .expect("reading does not panic")?
    };
    // Only now: an ID token lives for minutes, and reading may take longer.
    let client = common.client().await?;
    let bar = progress(history.items.len());
    let mut summary = Summary {
        source: history.source.clone(),
        new: 0,
        already_on_record: 0,
        refused: Vec::new(),
        refused_exit: None,
        skipped: history.skipped.clone(),
        tree_size: 0,
        root_hash: String::new(),
    };
    let in_flight = arguments.in_flight as usize;
    import(common, &client, history, in_flight, &bar, &mut summary).await?;
    bar.finish_and_clear();

    let head = match client.link_heads().await? {
        // The receipts are under it or a smaller one. A published head may have to wait for witnesses.
        Some(head) => head,
        None => client.head().await?,
    };
    summary.tree_size = head.size().get();
    summary.root_hash = head.root().to_string();
    let human = format!(
        "{} new, {} already on record\nsource  {}\nhead    {}",
        summary.new,
        summary.already_on_record,
        output::printable(&summary.source),
        output::head_line(&head)
    );
    output.print_if_read(&summary, human);
    verdict(&summary)
}

/// Reads, sends and receives at the same time.
async fn import(
    common: &Common,
    client: &Client,
    history: History,
    in_flight: usize,
    bar: &ProgressBar,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let (sender, mut results) = client.submit_stream(in_flight);
    let (events, unsent) = mpsc::channel(READ_AHEAD);
    let reading = task::spawn_blocking(move || read(&history, &events));
    // Ends by itself when the stream breaks; the results say why.
    let sending = tokio::spawn(send(sender, unsent));

    while let Some((event, outcome)) = results.next().await? {
        match settle(common, &event, outcome.map(|submitted| submitted.duplicate)).await? {
            Ok(false) => summary.new += 1,
            Ok(true) => summary.already_on_record += 1,
            // It is about the log, so the others would meet it too.
            Err(refusal) if refusal.action() == Action::Alert => {
                let ended = format!("the import ended at {}", event.id());
                return Err(Failure::from(refusal).after(&ended));
            }
            Err(refusal) => summary.refuse(&event, refusal),
        }
        bar.inc(1);
    }
    sending.await.expect("sending does not panic");
    summary
        .skipped
        .append(&mut reading.await.expect("reading does not panic"));
    Ok(())
}

/// Turns the history into events; returns what could not be one.
fn read(history: &History, events: &mpsc::Sender<Event>) -> Vec<String> {
    let mut skipped = Vec::new();
    for item in &history.items {
        match history.event(item) {
            // Nobody takes events any more: the stream is broken.
            Ok(event) => {
                if events.blocking_send(event).is_err() {
                    break;
                }
            }
            Err(problem) => skipped.push(problem),
        }
    }
    skipped
}

async fn send(mut sender: SubmitSender, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

/// Sends an event again that the log had no room for. No other result is taken meanwhile, so the stream slows down.
async fn settle(
    common: &Common,
    event: &Event,
    first: Result<bool, Refusal>,
) -> Result<Result<bool, Refusal>, Failure> {
    let mut outcome = first;
    for _ in 0..MAX_ATTEMPTS {
        match &outcome {
            Err(refusal) if refusal.action() == Action::Retry => {
                time::sleep(refusal.retry_after.unwrap_or(RETRY_AFTER).min(MAX_RETRY_AFTER)).await;
            }
            _ => break,
        }
        // In a box: each future around a future holds it again.
        outcome = Box::pin(submit_anew(common, event)).await?;
    }
    Ok(outcome)
}

/// Submits an event with a credential of its own: an ID token may be good for one call, and the stream was one.
async fn submit_anew(common: &Common, event: &Event) -> Result<Result<bool, Refusal>, Failure> {
    let client = common.client().await?;
    match client.submit(event).await {
        Ok(submitted) => {
            client.link_heads().await?;
            Ok(Ok(submitted.duplicate))
        }
        Err(Error::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error.into()),
    }
}

/// Drawn on a terminal only.
fn progress(events: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} events, {per_sec}, {eta} left")
            .expect("the template is well-formed");
    ProgressBar::new(events as u64).with_style(style)
}

fn verdict(summary: &Summary) -> Result<(), Failure> {
    let missing = [&summary.refused[..], &summary.skipped[..]].concat();
    if missing.is_empty() {
        return Ok(());
    }
    let exit = summary.refused_exit.unwrap_or(Exit::Usage);
    let mut failure = Failure::new(exit, format!("{} objects were not recorded", missing.len()));
    if exit == Exit::Unavailable {
        failure = failure.hint("try again: what is on record stays as it is");
    }
    Err(missing.iter().take(20).fold(failure, |failure, problem| {
        failure.hint(output::printable(problem))
    }))
}

#[cfg(test)]
mod tests {
    use counterfoil_client::Reason;
    use counterfoil_event::EventParts;

    use super::*;

    #[test]
    fn one_that_has_to_be_changed_decides_how_an_import_ends() {
        let event = Event::try_from(EventParts {
            id: "1".to_owned(),
            source: "git:x".to_owned(),
            event_type: "scm.commit".to_owned(),
            data: "d".into(),
            ..EventParts::default()
        })
        .unwrap();
        for (reasons, expected) in [
            (&[Reason::QueueFull, Reason::OutOfSpace][..], Exit::Unavailable),
            (&[Reason::QueueFull, Reason::EventConflict], Exit::Refused),
            (&[Reason::EventConflict, Reason::QueueFull], Exit::Refused),
        ] {
            let mut summary = Summary {
                source: String::new(),
                new: 0,
                already_on_record: 0,
                refused: vec![],
                refused_exit: None,
                skipped: vec!["an object".to_owned()],
                tree_size: 0,
                root_hash: String::new(),
            };
            assert_eq!(verdict(&summary).unwrap_err().exit, Exit::Usage);
            for &reason in reasons {
                let refusal = Refusal {
                    reason,
                    message: "no".to_owned(),
                    fields: vec![],
                    existing_leaf_index: None,
                    retry_after: None,
                };
                summary.refuse(&event, refusal);
            }
            assert_eq!(verdict(&summary).unwrap_err().exit, expected, "{reasons:?}");
        }
    }
}
