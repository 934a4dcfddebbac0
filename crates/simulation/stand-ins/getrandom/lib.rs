//! Random bytes of the simulated machine: they come from its seed.
#![allow(missing_docs)]

use std::fmt;

use counterfoil_simulated_machine::machine;

/// There are always random bytes.
#[derive(Debug, Clone, Copy)]
pub enum Error {}

impl fmt::Display for Error {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Error {}

pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    machine(|machine| machine.chance().fill(bytes));
    Ok(())
}
