//! `counterfoil policy`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use counterfoil_note::{self as note, PolicyWitness};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    options::read_policy,
    output::{Facts, Output},
};

/// Look at a trust policy
#[derive(Subcommand)]
pub(crate) enum Policy {
    Check(Check),
}

/// Read a trust policy and print whom it trusts
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil policy check trust.policy

A policy is a text file (C2SP tlog-policy):
  log <vkey> [<url>]
  witness <name> <vkey> [<url>]
  group <name> all|any|<k> <member>...
  quorum <name>|none")]
pub(crate) struct Check {
    /// The policy
    file: PathBuf,
}

pub(crate) fn run(policy: &Policy, output: &Output) -> Result<(), Failure> {
    let Policy::Check(arguments) = policy;
    let policy = read_policy(&arguments.file)?;
    let mut facts = Facts::default();
    for log in policy.logs() {
        let key = &log.key;
        facts.add(
            "log",
            format!("{}, {}, key {}", key.name(), key.suite(), key.id()),
        );
    }
    for PolicyWitness { name, key, .. } in policy.witnesses() {
        facts.add("witness", format!("{name} ({}), key {}", key.name(), key.id()));
    }
    facts.add("quorum", policy.quorum());
    facts.add("meaning", meaning(&policy));
    output.print(json(&policy), facts);
    Ok(())
}

fn meaning(policy: &note::Policy) -> &'static str {
    match policy.requires_cosignatures() {
        true => "a head is accepted if one of these logs signed it and this quorum cosigned it",
        false => {
            "a head is accepted if one of these logs signed it: nobody else is asked whether all see the same history"
        }
    }
}

fn json(policy: &note::Policy) -> Value {
    let logs = policy.logs().iter();
    let logs = logs.map(|log| {
        json!({
            "origin": log.key.name().to_string(),
            "suite": log.key.suite().as_str(),
            "key_id": log.key.id().to_string(),
            "url": log.url,
        })
    });
    let witnesses = policy.witnesses().iter();
    let witnesses = witnesses.map(|witness| {
        json!({
            "witness": witness.name.to_string(),
            "name": witness.key.name().to_string(),
            "key_id": witness.key.id().to_string(),
            "url": witness.url,
        })
    });
    json!({
        "logs": logs.collect::<Vec<_>>(),
        "witnesses": witnesses.collect::<Vec<_>>(),
        "quorum": policy.quorum().to_string(),
        "requires_cosignatures": policy.requires_cosignatures(),
    })
}
