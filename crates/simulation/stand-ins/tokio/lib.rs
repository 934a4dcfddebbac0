//! Tokio's channels as they are. What would block a worker runs at once: others get their turn at each call of the machine.
#![allow(missing_docs)]

pub use tokio::sync;

pub mod task {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
    };

    pub fn spawn_blocking<T>(work: impl FnOnce() -> T) -> Ready<Result<T, Infallible>> {
        ready(Ok(work()))
    }
}
