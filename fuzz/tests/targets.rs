//! Every target on its seeds, on what once broke it, and for some seconds on blind mutations of the seeds.
//!
//! `COUNTERFOIL_FUZZ_MILLIS` is how long each target is tried, 1500 by default; `COUNTERFOIL_FUZZ_SEED` another start. An input
//! that breaks a target is written to the temporary directory: it goes into `regressions/<target>/` with the fix.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    env, fs,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use counterfoil_fuzz::{Mutator, TARGETS, Target};

/// Targets count what they allocate, so one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn check(target: &Target, input: &[u8]) {
    if let Err(broken) = catch_unwind(AssertUnwindSafe(|| target.check(input))) {
        let path = env::temp_dir().join(format!("counterfoil-fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        eprintln!("{}: the input is in {}", target.name, path.display());
        resume_unwind(broken);
    }
}

/// Directories of inputs for a target: ours, and whatever the machine has beside the checkout.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).unwrap())
        .collect()
}

fn run(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = Target::find(name).unwrap();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| check(target, seed));
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(name);
    files(&regressions).iter().for_each(|input| check(target, input));

    let budget = Duration::from_millis(number("COUNTERFOIL_FUZZ_MILLIS", 1_500));
    let mut mutator = Mutator::new(target, number("COUNTERFOIL_FUZZ_SEED", 1));
    let start = Instant::now();
    let mut inputs = 0_u64;
    while start.elapsed() < budget {
        check(target, &mutator.next_input());
        inputs += 1;
    }
    println!("{name}: {} seeds, {inputs} mutations", seeds.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        /// A target that is not in the list above would never run here.
        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, tested);
        }
    };
}

targets! {
    delivery bearer access certificate oidc_discovery spent_tokens arriving cloudevents cloudevents_headers hec github gitlab gitea
    github_audit event git cdevents in_toto normal cdevents_out dsse dsse_key messages message_parts entry genesis note vkey policy
    tile_path proof tile full_tile receipt evidence
    add_checkpoint witness_answer witness_logs hook_source outbox arguments bundle monitor_config monitor_state
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let target = &TARGETS[0];
    let inputs = |seed| {
        let mut mutator = Mutator::new(target, seed);
        (0..100).map(|_| mutator.next_input()).collect::<Vec<_>>()
    };
    assert_eq!(inputs(7), inputs(7));
    assert_ne!(inputs(7), inputs(8));
}

#[test]
fn memory_out_of_proportion_is_noticed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let greedy = Target::sample("greedy", |_| drop(black_box(vec![1_u8; 9 << 20])));
    assert!(catch_unwind(|| greedy.check(b"x")).is_err());
    let modest = Target::sample("modest", |_| drop(black_box(vec![1_u8; 1 << 20])));
    modest.check(b"x");
}
