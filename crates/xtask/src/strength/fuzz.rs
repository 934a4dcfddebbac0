//! The fuzz targets under libFuzzer, on a stable toolchain.
//!
//! Coverage is what the compiler's own pass counts; only our crates are compiled with it, by this program standing in for the
//! compiler where cargo asks for a wrapper of workspace members. Dependencies stay as they are, so that RocksDB is not
//! compiled a second time.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::cargo::Workspace;

/// Tells this program to stand in for the compiler.
const WRAPPER: &str = "COUNTERFOIL_COMPILER_WRAPPER";
/// What counts edges and shows libFuzzer comparisons. Checks that release builds leave out are in.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
    "--cfg=fuzzing",
];

pub(super) fn run(options: &[&str]) -> Result<()> {
    let workspace = Workspace::prepare()?;
    let wrapper = env::current_exe().context("finding the running xtask")?;
    let wrapper = wrapper.to_str().context("the path of xtask is not UTF-8")?;
    // An example: dependencies then have the features that tests give them.
    workspace.cargo_with(
        &[
            "build",
            "--release",
            "--workspace",
            "--example=libfuzzer",
            "--features=counterfoil-fuzz/libfuzzer",
        ],
        &[("RUSTC_WORKSPACE_WRAPPER", wrapper), (WRAPPER, "1")],
    )?;
    let built = workspace.release_directory();
    let executable = built.join("examples/libfuzzer");
    let work = built.join("fuzz");
    workspace.cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin=counterfoil-fuzz",
        "--example=tamper",
    ])?;
    let status = Command::new(built.join("counterfoil-fuzz"))
        .args(options)
        .arg("--executable")
        .arg(executable)
        .arg("--work")
        .arg(work)
        .status()
        .context("starting the fuzzer")?;
    anyhow::ensure!(status.success(), "a target broke, or could not run");
    Ok(())
}

/// Compiles in the place of the compiler, if cargo started this program for that.
pub(crate) fn compile_as_wrapper() -> Option<ExitCode> {
    env::var_os(WRAPPER)?;
    let mut arguments = env::args_os().skip(1);
    let compiler = arguments.next()?;
    let arguments: Vec<OsString> = arguments.collect();
    // Build scripts are run, not fuzzed, and have no libFuzzer to count for.
    let is_script = arguments.windows(2).any(|pair| {
        pair[0] == "--crate-name"
            && pair[1]
                .to_str()
                .is_some_and(|name| name.starts_with("build_script_"))
    });
    let names_crate = arguments.iter().any(|argument| argument == "--crate-name");
    let mut command = Command::new(compiler);
    command.args(&arguments);
    if names_crate && !is_script {
        command.args(COVERAGE);
    }
    let succeeded = command.status().is_ok_and(|status| status.success());
    Some(if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
