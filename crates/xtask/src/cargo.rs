//! The project's builds. All share one profile and one target directory, so that RocksDB is compiled once.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::machine;

/// RocksDB's C++, measured on two cores: 20 minutes.
const ROCKSDB_BUILD_CORE_MINUTES: usize = 40;

/// The checkout, on a machine that can build it.
pub(crate) struct Workspace {
    root: PathBuf,
    /// Where cargo puts what it built with `--release`.
    release_directory: PathBuf,
    /// `PATH` for cargo and what it runs.
    path: OsString,
}

impl Workspace {
    /// Installs what a build needs, or says what to install.
    pub(crate) fn prepare() -> Result<Self> {
        machine::require_build_tools()?;
        let manifest_directory =
            env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`, not by its path")?;
        let root = Path::new(&manifest_directory)
            .ancestors()
            .nth(2)
            .context("crates/xtask has moved: its workspace is not two directories up")?;
        // Cargo put this program there, whatever target directory is configured.
        let executable = env::current_exe().context("finding the running xtask")?;
        let release_directory = executable.parent().context("xtask runs from no directory")?;
        Ok(Self {
            root: root.to_path_buf(),
            release_directory: release_directory.to_path_buf(),
            path: machine::path_with_compiler_cache()?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn release_directory(&self) -> &Path {
        &self.release_directory
    }

    /// Builds the server, the client and the tampering tool.
    pub(crate) fn build_demo(&self) -> Result<()> {
        self.announce_long_build();
        // Asking for packages one by one, or for no example, would give shared dependencies other features than
        // `test` does, and so compile RocksDB a second time.
        self.cargo(&[
            "build",
            "--release",
            "--workspace",
            "--bin=counterfoild",
            "--bin=counterfoil",
            "--example=tamper",
        ])
    }

    /// Builds everything, and runs an example of the tests, which parses its own options.
    pub(crate) fn run_example(&self, name: &str, options: &[&str]) -> Result<()> {
        self.announce_long_build();
        self.cargo(&["build", "--release", "--workspace", "--bins", "--examples"])?;
        let status = Command::new(self.release_directory.join("examples").join(name))
            .args(options)
            .status()
            .with_context(|| format!("starting {name}"))?;
        ensure!(status.success(), "{name} did not end well");
        Ok(())
    }

    pub(crate) fn test(&self, arguments: &[&str]) -> Result<()> {
        self.announce_long_build();
        self.cargo(&[&["test", "--release", "--workspace"], arguments].concat())
    }

    /// What a change has to pass, the quick checks first.
    pub(crate) fn ci(&self) -> Result<()> {
        machine::require_test_tools()?;
        self.cargo(&["fmt", "--all", "--check"])?;
        if self.has_cargo_deny() {
            self.cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"])?;
        } else {
            println!(
                "Licences and sources are not checked here: `cargo install --locked cargo-deny` adds that."
            );
        }
        self.announce_long_build();
        let clippy = [
            "clippy",
            "--locked",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--deny=warnings",
        ];
        self.cargo(&clippy)?;
        // `--examples` for the reason given in `build_demo`.
        let documentation = [
            "--lib",
            "--bins",
            "--examples",
            "--no-deps",
            "--document-private-items",
        ];
        self.cargo_with(
            &[
                &["doc", "--locked", "--release", "--workspace"],
                &documentation[..],
            ]
            .concat(),
            &[("RUSTDOCFLAGS", "--deny=warnings")],
        )?;
        self.test(&[])
    }

    pub(crate) fn cargo(&self, arguments: &[&str]) -> Result<()> {
        self.cargo_with(arguments, &[])
    }

    pub(crate) fn cargo_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        let assignments: String = variables
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        println!("$ {assignments}cargo {}", arguments.join(" "));
        let status = self
            .cargo_command()
            .args(arguments)
            .envs(variables.iter().copied())
            .status()
            .context("starting cargo")?;
        if !status.success() {
            bail!("`cargo {}` failed ({status})", arguments.join(" "));
        }
        Ok(())
    }

    fn has_cargo_deny(&self) -> bool {
        let mut version = self.cargo_command();
        version
            .args(["deny", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    }

    fn cargo_command(&self) -> Command {
        // Cargo names itself to what it runs.
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env("PATH", &self.path);
        command
    }

    fn announce_long_build(&self) {
        if self.has_built_rocksdb() {
            return;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        println!(
            "The first build compiles RocksDB: about {} minutes with {cores} core{}. Later builds reuse it.",
            ROCKSDB_BUILD_CORE_MINUTES.div_ceil(cores),
            if cores == 1 { "" } else { "s" },
        );
    }

    fn has_built_rocksdb(&self) -> bool {
        let Ok(builds) = fs::read_dir(self.release_directory.join("build")) else {
            return false;
        };
        builds.flatten().any(|build| {
            build.file_name().to_string_lossy().starts_with("librocksdb-sys-")
                && build.path().join("out/librocksdb.a").exists()
        })
    }
}
