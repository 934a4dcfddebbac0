//! The targets under libFuzzer. `cargo xtask strength fuzz` builds and runs it.
//!
//! `COUNTERFOIL_FUZZ_TARGET` says which. With `COUNTERFOIL_FUZZ_SEEDS` it first writes the seeds into that directory, and with
//! `COUNTERFOIL_FUZZ_WORDS` the words of the format into that file, as libFuzzer wants them.
#![no_main]

use std::{env, fs, path::Path, sync::LazyLock};

use counterfoil_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("COUNTERFOIL_FUZZ_TARGET").expect("COUNTERFOIL_FUZZ_TARGET names a target");
    Target::find(&name).expect("there is a target of that name")
});

fuzz_target!(
    init: prepare(*TARGET),
    |input: &[u8]| TARGET.check(input)
);

fn prepare(target: &Target) {
    if let Some(directory) = env::var_os("COUNTERFOIL_FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&directory).join(format!("seed-{number:04}"));
            fs::write(path, seed).expect("the directory of seeds can be written to");
        }
    }
    if let Some(path) = env::var_os("COUNTERFOIL_FUZZ_WORDS") {
        let words = target.words.iter().map(|word| {
            let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{escaped}\"\n")
        });
        fs::write(path, words.collect::<String>()).expect("the file of words can be written");
    }
}
