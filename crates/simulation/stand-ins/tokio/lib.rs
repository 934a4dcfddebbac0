//! Tokio's channels as they are. What would block a worker runs at once: others get their turn at each call of the machine.
#![allow(missing_docs)]

pub use tokio::sync;

pub mod task {
    use std::{
        any::Any,
        future::{Ready, ready},
    };

    pub fn spawn_blocking<T>(work: impl FnOnce() -> T) -> Ready<Result<T, JoinError>> {
        ready(Ok(work()))
    }

    /// Runs while it is awaited.
    pub async fn spawn<T>(work: impl Future<Output = T>) -> Result<T, JoinError> {
        Ok(work.await)
    }

    /// There is none: a panic goes through whoever waits.
    pub enum JoinError {}

    impl JoinError {
        pub fn is_panic(&self) -> bool {
            match *self {}
        }

        pub fn into_panic(self) -> Box<dyn Any + Send> {
            match self {}
        }
    }
}
