//! Locks that let other threads run.

mod condvar;
pub mod mpsc;
mod mutex;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use std::sync::*;
