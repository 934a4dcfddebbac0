//! The engine on a simulated machine: one seed decides the clock, the scheduler, what chance does to the disk, what clients do,
//! and when it crashes.
//!
//! The sources are those of `counterfoil-log`, `-store` and `-files`, compiled a second time in `engine/` with stand-ins
//! for RocksDB, threads, clocks, random bytes and files. docs/RELIABILITY.md says what is simulated, and what is not.

mod history;
mod promises;
mod scheduler;
mod witnesses;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
};

use counterfoil_simulated_machine::Machine;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

pub use history::Told;
pub use promises::Tally;
use scheduler::Chance;

/// How many lives a history has.
const LIVES: u64 = 12;
/// A history that takes more steps than this hangs. The longest seen took some 200,000.
const MAX_STEPS: usize = 5_000_000;
/// Deep enough for signatures and compression.
const STACK_BYTES: usize = 512 * 1024;

/// Runs the history that a seed decides.
///
/// # Errors
/// Which promise was broken, or how the engine failed otherwise.
///
/// # Panics
/// Never by itself: the message of a panic in the history is the error.
pub fn simulate(seed: u64) -> Result<Told, String> {
    let told = Arc::new(Mutex::new(None));
    let result = told.clone();
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.failure_persistence = FailurePersistence::None;
    let run = AssertUnwindSafe(|| {
        Machine::install(seed);
        Runner::new(Chance::new(seed), config).run(move || {
            *result.lock().expect("nobody else has it") = Some(history::run(LIVES));
        });
    });
    panic::catch_unwind(run).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a panic without a text".to_owned())
    })?;
    let told = told.lock().expect("nobody else has it").take();
    Ok(told.expect("a history that ends says what it came to"))
}
