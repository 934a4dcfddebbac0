//! The crate against definitions and implementations that are not its own.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, missing_docs)]

mod exhaustive;
mod laws;
mod mutations;
mod oracles;
mod paths;
mod reference;
mod support;
mod tiles;
mod vectors;
mod verifier;
