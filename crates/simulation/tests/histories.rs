//! The short form of `cargo xtask strength simulate`.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_simulated_machine::Fault;
use counterfoil_simulation::{Told, simulate};

/// Seeds that are run with every test.
const SEEDS: u64 = 60;

#[test]
fn whatever_crashes_no_promise_is_broken() {
    let mut all = Told::default();
    for seed in 0..SEEDS {
        let told = simulate(seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        all.add(&told);
    }
    // Nobody was kept from using it.
    assert!(all.crashes() > 5 * SEEDS, "{all:?}");
    assert!(all.tally.acknowledged > 10 * SEEDS, "{all:?}");
    assert!(all.rollbacks > 0, "{all:?}");
    // And whatever else is tried was.
    let failed = |fault: Fault| all.counts.faults.keys().any(|(_, failed)| *failed == fault);
    assert!(failed(Fault::Io) && failed(Fault::NoSpace), "{all:?}");
    let tally = &all.tally;
    for tried in [
        all.killed,
        all.power_lost,
        all.refused_opens,
        all.counts.clock_steps,
        tally.cosigned,
        tally.found,
        tally.fscks,
        tally.exported_files,
        tally.long_payloads,
    ] {
        assert!(tried > 0, "{all:?}");
    }
}

#[test]
fn a_seed_decides_all_that_happens() {
    for seed in [1, 2, 3, 4] {
        let [first, second] = [simulate(seed).unwrap(), simulate(seed).unwrap()];
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.counts.calls, second.counts.calls);
    }
    assert_ne!(simulate(1).unwrap().trace, simulate(2).unwrap().trace);
}
