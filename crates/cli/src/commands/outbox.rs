//! `counterfoil outbox`

use clap::{Args, Subcommand};
use counterfoil_client::{Delivered, Fate, Item, ItemNumber, Listing, SetAside};
use serde_json::{Value, json};

use super::OfLog;
use crate::{
    failure::{Exit, Failure},
    options::Common,
    output::{self, Output},
    recording::{OutboxOptions, set_aside_line},
};

/// Look after events that wait on this machine because the log was away
#[derive(Subcommand)]
#[command(after_help = "\
Example:
  counterfoil outbox list
  counterfoil outbox flush

There is one outbox for each server and log, and --server and --log say which. docs/CI.md tells when events are queued.")]
pub(crate) enum Outbox {
    Flush(OfLog<Flush>),
    List(OfLog<List>),
    Retry(OfLog<Retry>),
    Drop(OfLog<Drop>),
}

/// Deliver what waits, in order, and say where it stands in the log
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil outbox flush --token-file ci.token

An event that the log refuses for good is set aside and named, and the exit code is 4 once all others are delivered. What is
left waits on: if the log is away, with exit code 3, if the credential is denied, with 4, and if the log misbehaves, with 1.")]
pub(crate) struct Flush {
    #[command(flatten)]
    outbox: OutboxOptions,
}

/// Show what waits, and what the log refused for good
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil outbox list
  counterfoil outbox list --json | jq '.set_aside[].reason'")]
pub(crate) struct List {
    #[command(flatten)]
    outbox: OutboxOptions,
}

/// Queue an event again that was set aside, behind all that wait
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil outbox retry 7
  counterfoil outbox flush

It gets a new number. What the log refuses, or what is damaged, is set aside again when it is delivered. `outbox list` has the
numbers of events, and why they were set aside.")]
pub(crate) struct Retry {
    /// The event's number
    #[arg(value_name = "NUMBER")]
    number: ItemNumber,
    #[command(flatten)]
    outbox: OutboxOptions,
}

/// Remove an event that was set aside, for good
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil outbox drop 7

Only an event that the log refused for good, or whose file is damaged, can be dropped; `outbox list` has its number.")]
pub(crate) struct Drop {
    /// The event's number
    #[arg(value_name = "NUMBER")]
    number: ItemNumber,
    #[command(flatten)]
    outbox: OutboxOptions,
}

pub(crate) async fn run(outbox: Outbox, output: &Output) -> Result<(), Failure> {
    match outbox {
        Outbox::Flush(command) => command.run(flush, output).await,
        Outbox::List(command) => command.run(list, output).await,
        Outbox::Retry(command) => command.run(retry, output).await,
        Outbox::Drop(command) => command.run(drop_one, output).await,
    }
}

async fn flush(arguments: Flush, common: &Common, output: &Output) -> Result<(), Failure> {
    let outbox = arguments.outbox.open(common)?;
    if outbox.waiting()? == 0 {
        output.print_if_read(json!({ "recorded": 0, "set_aside": 0 }), "nothing waits");
        return Ok(());
    }
    let lock = outbox.lock_delivery(None).await?;
    let lock = lock.expect("without a deadline, waiting for a lock ends with the lock");
    // Only now: an ID token lives for minutes, and another delivery may take longer.
    let client = common.client().await?;
    let delivered = |delivered: Delivered| match &delivered.fate {
        Fate::Recorded(submitted) => {
            let index = submitted.receipt.index;
            let event = delivered.event.as_ref().map(|event| (event.source(), event.id()));
            let (source, id) = event.unwrap_or_default();
            let line = format!(
                "leaf {index}  {} of {}",
                output::printable(id),
                output::printable(source)
            );
            let json = json!({
                "number": delivered.number.get(),
                "leaf_index": index.get(),
                "duplicate": submitted.duplicate,
                "source": source,
                "id": id,
            });
            output.print_if_read(json, line);
        }
        Fate::Refused(_) | Fate::Damaged(_) => {
            if let Some(line) = set_aside_line(&delivered) {
                let json = json!({ "number": delivered.number.get(), "set_aside": line });
                output.print_if_read(json, output::printable(&line));
            }
        }
    };
    let delivery = match outbox.deliver(&lock, &client, None, delivered).await {
        Ok(delivery) => delivery,
        Err(error) => {
            let left = outbox.waiting()?;
            return Err(
                Failure::from(error).hint(format!("{left} still wait in {}", outbox.path().display()))
            );
        }
    };
    output.print_if_read(
        json!({ "recorded": delivery.recorded, "set_aside": delivery.set_aside }),
        format!("{} recorded, nothing waits", delivery.recorded),
    );
    if delivery.set_aside > 0 {
        let message = format!("{} refused for good and set aside", delivery.set_aside);
        return Err(Failure::new(Exit::Refused, message)
            .hint("`counterfoil outbox list` says why")
            .hint("`counterfoil outbox retry NUMBER` queues one again, `counterfoil outbox drop NUMBER` removes it"));
    }
    Ok(())
}

async fn list(arguments: List, common: &Common, output: &Output) -> Result<(), Failure> {
    let outbox = arguments.outbox.open(common)?;
    let Listing {
        waiting,
        damaged,
        mut set_aside,
    } = outbox.list()?;
    set_aside.extend(damaged);
    set_aside.sort_by_key(|aside| aside.number);
    let mut lines = vec![format!(
        "{} waiting, {} set aside in {}",
        waiting.len(),
        set_aside.len(),
        outbox.path().display()
    )];
    lines.extend(
        waiting
            .iter()
            .map(|item| format!("{:>6}  {}", item.number, line(item))),
    );
    for SetAside { number, reason, item } in &set_aside {
        let event = item.as_ref().map_or_else(|| "damaged".to_owned(), line);
        lines.push(format!(
            "{number:>6}  {event}: set aside: {}",
            output::printable(reason)
        ));
    }
    let waiting: Vec<Value> = waiting.iter().map(value).collect();
    let set_aside: Vec<Value> = set_aside
        .iter()
        .map(|aside| {
            let mut json = aside.item.as_ref().map_or_else(|| json!({}), value);
            json["number"] = aside.number.get().into();
            json["reason"] = aside.reason.as_str().into();
            json
        })
        .collect();
    let json = json!({
        "outbox": outbox.path().display().to_string(),
        "waiting": waiting,
        "set_aside": set_aside,
    });
    output.print(json, lines.join("\n"));
    Ok(())
}

fn line(item: &Item) -> String {
    let event = &item.event;
    output::printable(&format!(
        "{}  {}  {} of {}",
        output::millis(item.queued.get()),
        event.event_type(),
        event.id(),
        event.source()
    ))
}

fn value(item: &Item) -> Value {
    json!({
        "number": item.number.get(),
        "queued_unix_ms": item.queued.get(),
        "attributes": output::attributes(item.event.attributes()),
        "payload_length": item.event.data().len(),
    })
}

async fn retry(arguments: Retry, common: &Common, output: &Output) -> Result<(), Failure> {
    let outbox = arguments.outbox.open(common)?;
    let (old, new) = (arguments.number, outbox.retry(arguments.number)?);
    output.print(
        json!({ "retried": old.get(), "number": new.get() }),
        format!("event {old} waits as number {new}"),
    );
    Ok(())
}

async fn drop_one(arguments: Drop, common: &Common, output: &Output) -> Result<(), Failure> {
    let outbox = arguments.outbox.open(common)?;
    let number = arguments.number;
    outbox.drop_set_aside(number)?;
    output.print(
        json!({ "dropped": number.get() }),
        format!("event {number} is gone"),
    );
    Ok(())
}
