//! `counterfoil get`

mod cdevent;
mod renormalise;

use std::path::{Path, PathBuf};

use clap::Args;
use counterfoil_client::{EntryPayload, VerifiedEntry};
use counterfoil_event::normal::NormalEvent;
use counterfoil_note::SignedHead;
use serde_json::{Value, json};

use crate::{
    commands::select::Selection,
    failure::Failure,
    files,
    options::Common,
    output::{self, Facts, Output},
};

/// Show an entry, once it is proved to be in the log
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil get 42 --payload-to run.json
  counterfoil get 42 --renormalise
  counterfoil get 42 --cdevent
  counterfoil get --source https://ci.example/acme/widgets --id run-42 --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Write the payload to a file or, for -, to standard output and nothing else
    #[arg(long, value_name = "FILE")]
    payload_to: Option<PathBuf>,
    /// Run the adapter that the entry names over the payload again, and compare: exit code 1 if the log's normal form is another
    #[arg(long)]
    renormalise: bool,
    /// Print a CloudEvent with the CDEvent that says what the entry says, as JSON and nothing else
    #[arg(long, conflicts_with_all = ["renormalise", "payload_to"])]
    cdevent: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let Arguments {
        selection,
        payload_to,
        renormalise,
        cdevent,
    } = arguments;
    let leaf = selection.leaf()?;
    let (entry, head) = common.client().await?.entry(&leaf, true).await?;
    if cdevent {
        let cdevent = cdevent::of(&entry)?;
        output.print(&cdevent, format_args!("{cdevent:#}"));
        return Ok(());
    }
    let renormalised = renormalise
        .then(|| renormalise::renormalise(&entry))
        .transpose()?;
    if let Some(path) = &payload_to {
        let payload = entry.payload.as_ref().ok_or_else(|| {
            Failure::usage(format!("the payload of leaf {} is not served", entry.leaf_index))
        })?;
        files::write(path, &payload.data)?;
        if path.as_os_str() == "-" {
            return Ok(());
        }
    }
    let with_data = payload_to.is_none();
    let mut json = json(&entry, &head, with_data);
    let mut facts = facts(&entry, &head, payload_to.as_deref());
    if let Some(renormalised) = renormalised {
        json["renormalised"] = renormalised.json();
        facts.add("normal form", renormalised.sentence());
    }
    output.print(json, facts);
    Ok(())
}

fn json(entry: &VerifiedEntry, head: &SignedHead, with_data: bool) -> Value {
    let payload = entry.payload.as_ref().map(|payload| {
        let mut json = json!({
            "salt": hex::encode(payload.salt.as_bytes()),
            "attributes": output::attributes(&payload.attributes),
            "annotations": output::annotations(&payload.annotations),
        });
        if with_data {
            json["data"] = output::base64(&payload.data).into();
        }
        json
    });
    json!({
        "leaf_index": entry.leaf_index.get(),
        "leaf_hash": entry.leaf_hash.to_string(),
        "entry": output::base64(&entry.bytes),
        "entry_fields": output::entry(&entry.entry),
        "payload": payload,
        "tree_size": head.size().get(),
        "root_hash": head.root().to_string(),
    })
}

fn facts(entry: &VerifiedEntry, head: &SignedHead, payload_to: Option<&Path>) -> Facts {
    let fields = &entry.entry;
    let mut facts = Facts::default();
    facts
        .add("leaf", entry.leaf_index)
        .add("leaf hash", entry.leaf_hash)
        .add("recorded", output::nanos(fields.time_unix_ns().get()))
        .add("channel", fields.source_id())
        .add("submitter", fields.authentication().as_str())
        .add("type", fields.event_type());
    if let Some(EntryPayload {
        attributes,
        annotations,
        ..
    }) = &entry.payload
    {
        facts.add("source", &attributes.source).add("id", &attributes.id);
        for (name, value) in [("subject", &attributes.subject), ("time", &attributes.time)] {
            if !value.is_empty() {
                facts.add(name, value);
            }
        }
        for (name, value) in &attributes.extensions {
            facts.add("extension", format_args!("{name}={value}"));
        }
        normal_form(&annotations.normalised, &mut facts);
        for (name, value) in [
            ("adapter", &annotations.adapter),
            ("evidence", &annotations.evidence),
        ] {
            if !value.is_empty() {
                facts.add(name, value);
            }
        }
    }
    let size = format!("{} bytes, {}", fields.payload_length(), fields.media_type());
    let payload = match (&entry.payload, payload_to) {
        (None, _) => format!("{size}; not served"),
        (Some(_), Some(path)) => format!("{size}; written to {}", path.display()),
        (Some(_), None) => format!("{size}; --payload-to FILE writes it"),
    };
    facts
        .add("payload", payload)
        .add("proved in", output::head_line(head));
    facts
}

/// The first that anybody asks of an event.
fn normal_form(json: &[u8], facts: &mut Facts) {
    let Ok(form) = NormalEvent::parse(json) else {
        return;
    };
    let facts_of = [
        ("actor", &form.actor.login),
        ("repository", &form.repo.full_name),
        ("commit", &form.commit),
        ("run", &form.run.id),
        ("environment", &form.deployment.environment),
    ];
    facts.add("outcome", form.outcome);
    for (name, value) in facts_of {
        if let Some(value) = value {
            facts.add(name, value);
        }
    }
    for artifact in &form.artifacts {
        if let Some(digest) = &artifact.digest {
            let name = artifact.name.as_deref().unwrap_or_default();
            facts.add("artifact", format_args!("{digest} {name}"));
        }
    }
}
