//! A client of Counterfoil logs that trusts nothing but its policy: the log's key and, where the policy asks for them,
//! witnesses.
//!
//! Every answer is checked before it is returned: heads by their signature and against the largest head known so far,
//! receipts by inclusion under a signed head and by the entry's commitments to what was sent, proofs by recomputing
//! roots, entries by inclusion. What does not hold is a [`Misbehaviour`]: a fact, with the signed heads that show it.
//!
//! The largest head that was ever verified outlives the process in a [`StateDir`], so a log that goes back, or that
//! shows two histories, is caught by whoever asks it next. What the first contact shows is taken on trust: nothing is
//! there to compare with.
//!
//! Under a policy with a quorum, heads that the log presents as published, and all that is proved under them, must be
//! cosigned; else the answer is [`Error::NotCosigned`]. A receipt straight from a submission is under a head that no
//! witness can have seen: the log's signature alone vouches for it until [`Client::receipt`] fetches a later one.
//!
//! The client does not decide what to submit and never retries by itself; [`Error::action`] says whether a retry can
//! help. Who can't wait for a log that is away puts events into an [`Outbox`], which delivers them later, in order.
//!
//! ```no_run
//! use counterfoil_client::{Client, Options};
//! use counterfoil_event::{Event, EventParts};
//! use counterfoil_note::Policy;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::for_log(std::env::var("COUNTERFOIL_LOG_KEY")?.parse()?);
//! let options = Options::new("http://127.0.0.1:7480".parse()?, policy);
//! let client = Client::connect(options).await?;
//! let event = Event::try_from(EventParts {
//!     id: "run-42".into(),
//!     source: "https://ci.example/acme/widgets".into(),
//!     event_type: "ci.run.finished".into(),
//!     ..EventParts::default()
//! })?;
//! let submitted = client.submit(&event).await?;
//! client.link_heads().await?;
//! println!("recorded as leaf {}", submitted.receipt.index);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod channel;
mod client;
mod credential;
mod entries;
mod error;
mod find;
#[doc(hidden)]
pub mod fuzzing;
mod heads;
mod limits;
mod lock;
mod misbehaviour;
mod options;
mod outbox;
mod read;
mod state;
mod stream;
mod submit;
mod unverified;
mod unverified_reads;

pub use client::Client;
pub use counterfoil_proto::v1::Reason;
pub use credential::{BearerToken, ClientCertificate, InvalidToken, MAX_TOKEN_BYTES};
pub use entries::{EntryPayload, EntryRange, VerifiedEntry};
pub use error::{Action, Denied, Error, Field, InvalidAnswer, NotCosigned, Refusal, Unavailable};
pub use find::Found;
pub use limits::Timeouts;
pub use misbehaviour::{Misbehaviour, UnprovenConsistency};
pub use options::{InvalidServer, Options, Server, is_this_machine};
pub use outbox::{
    DeliverError, Delivered, Delivery, DeliveryLock, Fate, Item, ItemNumber, Listing, MAX_QUEUED_BYTES,
    MAX_QUEUED_EVENTS, Outbox, OutboxError, Queued, SetAside,
};
pub use read::{ConsistencyProof, HeadStream, InclusionProof, Leaf};
pub use state::{StateDir, StateError};
pub use stream::{SubmitResults, SubmitSender};
pub use submit::{Outcome, Submitted};
pub use unverified::{Acknowledged, Unverified, UnverifiedResults};
pub use unverified_reads::UnverifiedEntries;
