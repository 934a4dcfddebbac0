//! Fuzz targets: for every byte that comes from outside, a function that reads it and checks what must hold whatever it
//! is. That nothing panics and nothing takes more memory than its input pays for, they all check; each adds laws of its own.
//!
//! The same targets run in three ways: `tests/targets.rs` replays seeds, regressions and some seconds of blind mutation with
//! every `cargo test`; `examples/libfuzzer.rs` hands them to libFuzzer, with coverage, for `cargo xtask strength fuzz`;
//! and an input that broke one once stays in `regressions/` for ever.
//!
//! Seeds are made from the golden vectors of the other crates, and from small logs that are grown here.
// For the largest of the bodies that adapters start from, which is one `json!`.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a target says that a law is broken"
)]

mod mutate;
mod sample;
mod targets;
mod vectors;

use peak_alloc::PeakAlloc;

pub use mutate::Mutator;
pub use targets::TARGETS;

/// Counts what each input makes the code allocate.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What any input may take of memory, however short: tables, and what is made once.
const HEAP_BASE_BYTES: usize = 8 << 20;
/// What each byte of input may take beside that.
const HEAP_BYTES_PER_INPUT_BYTE: usize = 64;

/// A function that reads what comes from outside.
pub struct Target {
    /// Its name, and that of its directory under `regressions/`.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Inputs to start from: some of each kind that the code tells apart.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What the format is made of, for mutations.
    pub words: &'static [&'static str],
    /// Longest input worth trying, in bytes.
    pub max_bytes: usize,
    run: fn(&[u8]),
}

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// A target that only tests of targets know.
    #[doc(hidden)]
    pub const fn sample(name: &'static str, run: fn(&[u8])) -> Self {
        Self {
            name,
            about: "",
            seeds: Vec::new,
            words: &[],
            max_bytes: 1 << 10,
            run,
        }
    }

    /// Runs it on one input.
    ///
    /// # Panics
    /// If a law is broken, or the input costs more memory than it may. The caller sees to it that nothing else allocates
    /// meanwhile.
    pub fn check(&self, input: &[u8]) {
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        (self.run)(input);
        let used = HEAP.peak_usage().saturating_sub(before);
        let limit = HEAP_BASE_BYTES + HEAP_BYTES_PER_INPUT_BYTE * input.len();
        assert!(
            used <= limit,
            "{} bytes of input took {used} bytes of memory, more than {limit}",
            input.len()
        );
    }
}
