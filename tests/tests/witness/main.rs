//! A witness as its own process, asked over plain HTTP: every status of the specification, forks that race, kills.
#![allow(clippy::unwrap_used)]

mod cosigning;
mod lifecycle;
mod limits;
mod races;
mod refusals;

use std::{
    thread,
    time::{Duration, Instant},
};

use counterfoil_merkle::Suite;
use counterfoil_tests::{Connection, MemoryLog, Witness, WitnessData};

const NAME: &str = "witness.example/w1";

/// A running witness that knows `logs` by all their keys.
fn witness(logs: &[&MemoryLog]) -> (WitnessData, Witness) {
    let data = WitnessData::init(NAME);
    data.set_logs(&logs.iter().flat_map(|log| log.keys()).collect::<Vec<_>>());
    let witness = Witness::start(&data);
    (data, witness)
}

fn connect(witness: &Witness) -> Connection {
    Connection::to(witness.address())
}

fn log(suite: Suite) -> MemoryLog {
    MemoryLog::new("log.example/main", suite, 1)
}

/// Waits for something that takes its time, such as the next look at the logs file.
fn until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not happen");
        thread::sleep(Duration::from_millis(10));
    }
}
