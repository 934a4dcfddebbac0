//! `counterfoil submit`

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use counterfoil_client::{Outbox, Queued};
use counterfoil_event::{
    Authentication, Event, EventParts,
    adapter::{self, statement_type},
    cloudevents,
    dsse::{self, Envelope},
    limits::MAX_DATA_BYTES,
    normal::Word,
};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    failure::{Exit, Failure},
    files,
    options::Common,
    output::{self, Facts, Output},
    recording::{Keep, OnRecord, Recorded, Recorder, RecordingOptions, claim},
};

/// A payload of the largest size in base64, and what is around it.
const MAX_CLOUDEVENT_BYTES: usize = 36 << 20;

/// Record an event and print where it stands in the log
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil submit --type ci.run.finished --source https://ci.example/acme/widgets --id run-42 \\
    --content-type application/json --data '{\"outcome\":\"success\"}' --receipt run-42.tlog-proof
  counterfoil submit --dsse provenance.json --source https://ci.example/acme/widgets
  counterfoil submit --cloudevent event.json

The same source and id again is the same event: it is recorded once, however often it is sent.

If the log is away, slow or full, the event is queued on this machine, the command says so and succeeds, and the next
`submit` or `outbox flush` delivers it. An event with an id of its own should come with its --time: else it gets the time
at which it was queued, and is another event than the same command makes when the log is there.")]
pub(crate) struct Arguments {
    /// What happened, such as ci.run.finished [default: for a DSSE envelope, what its statement is about]
    #[arg(long = "type", value_name = "TYPE", required_unless_present_any = ["cloudevent", "dsse"])]
    event_type: Option<String>,
    /// Who says so, by convention a URI
    #[arg(long, required_unless_present = "cloudevent")]
    source: Option<String>,
    /// With the source, names the event [default: random]
    #[arg(long)]
    id: Option<String>,
    /// What it happened to
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// When it happened by the source's clock, in RFC 3339 [default: now, for an event with a random id]
    #[arg(long, default_value = "", hide_default_value = true)]
    time: String,
    /// The media type of the payload; search finds what application/vnd.counterfoil.event+json says [default:
    /// application/octet-stream]
    #[arg(
        long,
        value_name = "MEDIA_TYPE",
        default_value = "",
        hide_default_value = true
    )]
    content_type: String,
    /// The payload, as text
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// The payload, from a file or, for -, from standard input
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// The payload, a DSSE envelope, from a file or, for -, from standard input. Its event is named by its digest, so that it is
    /// recorded once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "data_file", "content_type"])]
    dsse: Option<PathBuf>,
    /// The event as a whole, a CloudEvent in JSON, from a file or, for -, from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "event_type", "source", "id", "subject", "time", "content_type", "data", "data_file", "dsse", "extensions",
    ])]
    cloudevent: Option<PathBuf>,
    /// An extension attribute; may be given again
    #[arg(long = "ext", value_name = "NAME=VALUE", value_parser = extension)]
    extensions: Vec<(String, String)>,
    /// Where to keep the receipt
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    recording: RecordingOptions,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let receipt_file = arguments.receipt.clone();
    if let Some(path) = &receipt_file {
        files::check_place(path)?;
    }
    let recorder = Recorder::new(&arguments.recording, common)?;
    let is_signed = arguments.dsse.is_some();
    let is_whole = arguments.cloudevent.is_some();
    let event = event(arguments)?;

    // Whoever got no receipt needs the id, and the time, to send the same event again.
    let again = |failure: Failure| {
        // A CloudEvent brings its own.
        if is_whole || !(failure.exit == Exit::Unavailable || failure.may_be_on_record()) {
            return failure;
        }
        let time = event.time().map(|time| format!(" --time {time}"));
        let time = time.unwrap_or_default();
        failure.hint(format!(
            "to send the same event again, give --id {}{time}",
            event.id()
        ))
    };
    let receipt = receipt_file.as_deref();
    let keep = receipt.map(|receipt| Keep {
        receipt,
        payload: None,
    });
    match recorder.record(&event, keep).await.map_err(again)? {
        Recorded::OnRecord(on_record) => {
            if is_signed {
                warn_unless_signer_is_known(&on_record);
            }
            print_recorded(&on_record, &event, receipt, output).map_err(|failure| {
                let index = on_record.submitted.receipt.index;
                let fact = format!("the event is on record as leaf {index}");
                let failure = failure.after(&fact).detail("leaf_index", index.get());
                again(failure.naming(&event))
            })?;
        }
        Recorded::Queued { queued, why } => {
            let number = queued.number;
            print_queued(&recorder.outbox, queued, &why, &event, output).map_err(|failure| {
                failure
                    .after(&format!("the event is queued as number {number}"))
                    .naming(&event)
                    .hint("the next `counterfoil submit` or `counterfoil outbox flush` delivers it: do not send it again")
            })?;
            if let Some(path) = receipt {
                // The same event may have been on record, so it is for the user to remove.
                if path.is_file() {
                    let path = output::printable(&path.display().to_string());
                    output::say(format_args!("warning: what is in {path} is from before"));
                }
                output::say(
                    "there is no receipt yet: `counterfoil outbox flush` says where the event stands, then `counterfoil receipt`",
                );
            }
        }
    }
    Ok(())
}

/// Who signed counts only where the log knows the key, and an entry says which way it was.
fn warn_unless_signer_is_known(on_record: &OnRecord) {
    let authentication = on_record.submitted.verified.entry().authentication();
    if authentication != Authentication::Dsse {
        output::say(format_args!(
            "warning: no key that the log knows signed the envelope; the entry says how its sender was known: {}",
            authentication.as_str()
        ));
    }
}

fn print_queued(
    outbox: &Outbox,
    queued: Queued,
    why: &str,
    event: &Event,
    output: &Output,
) -> Result<(), Failure> {
    let mut facts = Facts::default();
    facts
        .add(
            if queued.already {
                "already queued"
            } else {
                "queued"
            },
            format!("as number {} in {}", queued.number, outbox.path().display()),
        )
        .add("waiting", queued.waiting)
        .add("source", event.source())
        .add("id", event.id())
        .add("because", why)
        .add(
            "delivery",
            "with the next `counterfoil submit` to the same server and log, or `counterfoil outbox flush` with the same --server and --log",
        );
    let json = json!({
        "queued": true,
        "number": queued.number.get(),
        "waiting": queued.waiting,
        "outbox": outbox.path().display().to_string(),
        "source": event.source(),
        "id": event.id(),
        "because": why,
    });
    output.try_print(json, facts)
}

fn print_recorded(
    on_record: &OnRecord,
    event: &Event,
    receipt_file: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let OnRecord { client, submitted } = on_record;
    let head = submitted.verified.head();
    let mut facts = Facts::default();
    facts
        .add(
            if submitted.duplicate {
                "already leaf"
            } else {
                "leaf"
            },
            submitted.receipt.index,
        )
        .add("leaf hash", submitted.verified.leaf_hash())
        .add("source", event.source())
        .add("id", event.id())
        .add(
            "recorded",
            output::nanos(submitted.verified.entry().time_unix_ns().get()),
        )
        .add("head", output::head_line(head));
    if let Some(path) = receipt_file {
        facts.add("receipt", path.display());
    }
    if client.policy().requires_cosignatures() {
        let index = submitted.receipt.index;
        facts.add(
            "witnesses",
            format!("none yet: `counterfoil receipt {index}` fetches a cosigned receipt"),
        );
    }
    let json = json!({
        "queued": false,
        "leaf_index": submitted.receipt.index.get(),
        "leaf_hash": submitted.verified.leaf_hash().to_string(),
        "duplicate": submitted.duplicate,
        "source": event.source(),
        "id": event.id(),
        "time_unix_ns": submitted.verified.entry().time_unix_ns().get(),
        "tree_size": head.size().get(),
        "root_hash": head.root().to_string(),
        "receipt": output::receipt(&submitted.receipt, head),
    });
    output.try_print(json, facts)
}

fn event(arguments: Arguments) -> Result<Event, Failure> {
    if let Some(path) = &arguments.cloudevent {
        let json = files::read(path, MAX_CLOUDEVENT_BYTES)?;
        return cloudevents::from_json(&json)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
    }
    let parts = match &arguments.dsse {
        Some(path) => envelope(path)?,
        None => payload(&arguments)?,
    };
    let event = Event::try_from(EventParts {
        id: arguments.id.unwrap_or(parts.id),
        source: arguments.source.expect("the command line has a source"),
        event_type: arguments.event_type.unwrap_or(parts.event_type),
        subject: arguments.subject,
        time: if arguments.time.is_empty() {
            parts.time
        } else {
            arguments.time
        },
        extensions: arguments.extensions,
        ..parts
    })
    .map_err(|invalid| Failure::usage(invalid.to_string()))?;
    // The log would refuse it, perhaps long after it was queued.
    adapter::submitted(event.clone())
        .map_err(|invalid| Failure::usage(format!("the payload is {invalid}")))?;
    Ok(event)
}

/// The payload, and what an event has of which nobody says the id.
fn payload(arguments: &Arguments) -> Result<EventParts, Failure> {
    let data = match (&arguments.data, &arguments.data_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) => files::read(path, MAX_DATA_BYTES)?,
        (None, None) => Vec::new(),
    };
    let (id, time) = match arguments.id {
        // The same command again must be the same event, so no time is made up.
        Some(_) => (String::new(), String::new()),
        None => (random_id()?, claim(Timestamp::now())),
    };
    Ok(EventParts {
        id,
        time,
        data_content_type: arguments.content_type.clone(),
        data: Bytes::from(data),
        ..EventParts::default()
    })
}

/// An envelope as a payload. Who signed it is for the log to find out.
fn envelope(path: &Path) -> Result<EventParts, Failure> {
    let data = files::read(path, dsse::MAX_ENVELOPE_BYTES)?;
    let envelope =
        Envelope::parse(&data).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let event_type = statement_type(&envelope).unwrap_or(Word::ArtifactSigned.into());
    Ok(EventParts {
        id: format!("sha256:{}", hex::encode(Sha256::digest(&data))),
        event_type: event_type.to_string(),
        data_content_type: dsse::MEDIA_TYPE.to_owned(),
        data: Bytes::from(data),
        ..EventParts::default()
    })
}

/// 128 random bits in hex.
pub(crate) fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::usage(format!("the system gives no random numbers: {error}")))?;
    Ok(hex::encode(bytes))
}

fn extension(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an extension is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
