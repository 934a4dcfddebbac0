//! What the end-to-end tests share: data directories, servers as processes of their own, and checks of what they answer.
//!
//! Nothing here reaches into a server. It is started, asked, stopped and killed as an operator and a client would.
#![allow(clippy::unwrap_used)]

mod audit;
mod command;
mod connection;
pub mod crash;
pub mod cut_short;
mod data;
mod disk;
pub mod frames;
mod held;
mod hook;
mod hostile;
mod http;
mod issuer;
mod load;
mod memory_log;
mod overload;
pub mod power;
mod process;
mod promises;
mod server;
pub mod soak;
mod witness;

pub use audit::{Replica, entry_at, head, receipt_of, submit, verified};
pub use command::{bytes_under, client_of, configure_monitor, json_of, json_with, output_of};
pub use connection::{Answer, Connection, own_port};
pub use data::{Data, Identity, TestLog, event};
pub use disk::{Ballast, SmallDisk};
pub use held::Held;
pub use hook::{Hook, recorded};
pub use hostile::{Attack, HostileLog};
pub use http::{HttpResponse, http_get, http_over, http_post, http_request};
pub use issuer::{Document, Issuer, JwtKey, hs256_token, now_unix_s, signed};
pub use load::{Acknowledged, Delivered, Delivery, Load, Notes, Shown};
pub use memory_log::{MemoryLog, add_checkpoint};
pub use overload::{Crowd, Health, Overload, Phase};
pub use process::{Refused, counterfoil, counterfoild, ended, example, insist, programs, ready};
pub use promises::Promises;
pub use server::Server;
pub use witness::{Witness, WitnessData};

use std::env;

use counterfoil_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Says that a test does nothing here, for what the machine lacks. Under CI that is a failure: nobody reads what a test says that
/// passes.
#[track_caller]
pub fn skip(lacking: &str) {
    assert!(env::var_os("CI").is_none(), "{lacking}");
    eprintln!("SKIPPED: {lacking}");
}

/// What a client can read off a refusal without reading its prose.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The reason of `google.rpc.ErrorInfo`; empty if there is none.
    pub reason: String,
    /// The first field of `google.rpc.BadRequest`; empty if there is none.
    pub field: String,
}

impl Refusal {
    /// As a test writes what it expects.
    pub fn new(code: Code, reason: &str, field: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            field: field.to_owned(),
        }
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            assert_eq!(info.domain, "counterfoil");
        }
        Self {
            code: status.code(),
            reason: details
                .error_info()
                .map_or(String::new(), |info| info.reason.clone()),
            field: details
                .bad_request()
                .and_then(|bad| bad.field_violations.first())
                .map_or(String::new(), |violation| violation.field.clone()),
        }
    }
}

/// Asserts that a submission is pushed back for `reason`, with the time to come back.
pub fn assert_pushed_back(status: &Status, reason: &str) {
    assert_eq!(
        Refusal::from(status),
        Refusal::new(Code::ResourceExhausted, reason, ""),
        "{status:?}"
    );
    let retry = status
        .get_error_details()
        .retry_info()
        .and_then(|retry| retry.retry_delay);
    assert!(
        retry.is_some_and(|delay| !delay.is_zero()),
        "no RetryInfo: {status:?}"
    );
}

/// A request to submit `event` to the log `main`.
pub fn submission(event: v1::Event) -> v1::SubmitRequest {
    v1::SubmitRequest {
        log: String::new(),
        event: Some(event),
    }
}
