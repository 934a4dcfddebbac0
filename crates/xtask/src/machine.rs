//! What a build and the tests need of the machine, beside Rust.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

struct Tool {
    /// What it is, as one would search for it.
    name: &'static str,
    debian_package: &'static str,
    is_present: fn() -> bool,
}

const BUILD_TOOLS: [Tool; 3] = [
    Tool {
        name: "a C++ compiler, which RocksDB is compiled with",
        debian_package: "g++",
        is_present: || env::var_os("CXX").is_some() || find_program("c++").is_some(),
    },
    Tool {
        name: "libclang with its headers, which RocksDB's bindings are made with",
        debian_package: "libclang-dev",
        is_present: || env::var_os("LIBCLANG_PATH").is_some() || has_libclang(),
    },
    Tool {
        name: "git",
        debian_package: "git",
        is_present: || find_program("git").is_some(),
    },
];

const TEST_TOOLS: [Tool; 3] = [
    Tool {
        name: "python3, which logs are verified in a second time",
        debian_package: "python3",
        is_present: || find_program("python3").is_some(),
    },
    Tool {
        name: "strace, which takes the power away from servers and fails their system calls",
        debian_package: "strace",
        is_present: || find_program("strace").is_some(),
    },
    Tool {
        name: "faketime, which sets the clocks of servers back",
        debian_package: "faketime",
        is_present: || find_program("faketime").is_some(),
    },
];

/// Where distributions keep compilers' names that lead to ccache.
const CCACHE_DIRECTORIES: [&str; 3] = ["/usr/lib/ccache", "/usr/lib64/ccache", "/usr/lib/ccache/bin"];

/// Installs what is missing where that can be done without a question (root, apt); elsewhere fails with the
/// command to type.
pub(crate) fn require_build_tools() -> Result<()> {
    // With ccache, a build in another directory takes RocksDB from its cache.
    require(&BUILD_TOOLS, &["ccache"])
}

/// The same for what the tests need beside it.
pub(crate) fn require_test_tools() -> Result<()> {
    require(&TEST_TOOLS, &[])
}

fn require(tools: &[Tool], welcome_packages: &[&str]) -> Result<()> {
    let missing = missing_of(tools);
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        println!("Missing: {}.", tool.name);
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.debian_package).collect();
    if find_program("apt-get").is_none() {
        bail!("install what is missing with your system's package manager, then run this command again");
    }
    if !is_root()? {
        bail!(
            "the machine lacks what is named above. Type this, then run the same command again:\n\n    sudo apt-get install {}\n",
            packages.join(" ")
        );
    }
    install(&[&packages[..], welcome_packages].concat())?;
    if let Some(tool) = missing_of(tools).first() {
        bail!(
            "apt-get installed {}, yet this is still missing: {}",
            packages.join(" "),
            tool.name
        );
    }
    Ok(())
}

/// `PATH`, led by ccache's directory where there is one and the user named no compiler.
///
/// Setting `CC` and `CXX` to ccache would do the same, but cargo rebuilds RocksDB whenever they change: once for
/// `cargo xtask` and again for a plain `cargo build`.
pub(crate) fn path_with_compiler_cache() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let compiler_is_chosen = ["CC", "CXX"].iter().any(|name| env::var_os(name).is_some());
    let ccache = CCACHE_DIRECTORIES
        .iter()
        .find(|directory| Path::new(directory).join("c++").exists());
    match ccache {
        Some(directory) if !compiler_is_chosen => {
            let directories = [PathBuf::from(directory)]
                .into_iter()
                .chain(env::split_paths(&path));
            env::join_paths(directories).context("putting ccache on the PATH")
        }
        _ => Ok(path),
    }
}

fn missing_of(tools: &[Tool]) -> Vec<&Tool> {
    tools.iter().filter(|tool| !(tool.is_present)()).collect()
}

fn install(packages: &[&str]) -> Result<()> {
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    for arguments in [&["update"][..], &install] {
        println!("$ apt-get {}", arguments.join(" "));
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("starting apt-get")?;
        if !status.success() {
            bail!("`apt-get {}` failed ({status})", arguments.join(" "));
        }
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("starting `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// The name without a version comes with the development package, which has clang's own headers too: the
/// bindings need both.
fn has_libclang() -> bool {
    // Elsewhere it comes with the compiler, under names that only clang-sys knows.
    cfg!(not(target_os = "linux"))
        || libclang_directories()
            .iter()
            .any(|directory| directory.join("libclang.so").exists())
}

/// Where `clang-sys`, which loads it, looks on Linux.
fn libclang_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"]
        .map(PathBuf::from)
        .to_vec();
    directories.extend(env::split_paths(
        &env::var_os("LD_LIBRARY_PATH").unwrap_or_default(),
    ));
    if let Ok(output) = Command::new("llvm-config").arg("--libdir").output() {
        directories.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    // /usr/lib/x86_64-linux-gnu, /usr/lib/llvm-14/lib
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        directories.push(entry.path());
        directories.push(entry.path().join("lib"));
    }
    directories
}
