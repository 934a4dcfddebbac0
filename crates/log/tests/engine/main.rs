//! The engine from outside: what it promises to submitters and readers, checked against what is stored.
#![allow(clippy::unwrap_used, missing_docs)]

mod identity;
mod limits;
mod open;
mod publish;
mod search;
mod submit;
mod support;
mod witnessing;
