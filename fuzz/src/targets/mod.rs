//! The targets, by the crate whose code they run.

mod adapters;
mod client;
mod dsse;
mod event;
mod hooks;
mod intake;
mod merkle;
mod monitor;
mod normal;
mod note;
mod proto;
mod server;
mod verify;
mod witness;

use crate::Target;

/// All there are.
pub const TARGETS: &[Target] = &[
    server::DELIVERY,
    server::BEARER,
    server::ACCESS,
    server::CERTIFICATE,
    server::DISCOVERY,
    server::SPENT,
    server::ARRIVING,
    intake::CLOUDEVENTS,
    intake::CLOUDEVENTS_HEADERS,
    intake::HEC,
    adapters::GITHUB,
    adapters::GITLAB,
    adapters::GITEA,
    adapters::GITHUB_AUDIT,
    adapters::EVENT,
    adapters::GIT,
    adapters::CDEVENTS,
    adapters::IN_TOTO,
    normal::NORMAL,
    normal::CDEVENTS_OUT,
    dsse::ENVELOPE,
    dsse::KEY,
    proto::MESSAGES,
    proto::PARTS,
    event::ENTRY,
    event::GENESIS,
    note::NOTE,
    note::VKEY,
    note::POLICY,
    merkle::PATH,
    merkle::PROOF,
    merkle::TILE,
    merkle::FULL_TILE,
    verify::RECEIPT,
    verify::EVIDENCE,
    witness::ADD_CHECKPOINT,
    witness::ANSWER,
    witness::LOGS,
    hooks::SOURCE,
    client::OUTBOX,
    client::ARGUMENTS,
    monitor::BUNDLE,
    monitor::CONFIG,
    monitor::STATE,
];

/// A text that an input is, if it is one.
fn text(input: &[u8]) -> Option<&str> {
    str::from_utf8(input).ok()
}

/// What comes before the first empty line, and what comes after it.
fn head_and_body(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[]),
    }
}
