//! Commands that a reader can type as they are printed: each one is the line that a shell is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server may take to start, and to stop.
const SERVER_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A directory to work in and what is exported there.
pub(crate) struct Shell {
    directory: PathBuf,
    /// What another shell has to be told to be like this one; each command is preceded by it.
    setup: Vec<String>,
}

impl Shell {
    pub(crate) fn open(directory: PathBuf) -> Self {
        let change_directory = format!("cd {}", quoted(&directory));
        println!("$ {change_directory}");
        Self {
            directory,
            setup: vec![change_directory],
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn setup(&self) -> &[String] {
        &self.setup
    }

    /// Exports a variable, or changes it. The shell expands the value.
    pub(crate) fn export(&mut self, name: &str, value: &str) {
        self.forget(name);
        let line = format!("export {name}={value}");
        println!("$ {line}");
        self.setup.push(line);
    }

    /// Takes back an export.
    pub(crate) fn unset(&mut self, name: &str) {
        self.forget(name);
        println!("$ unset {name}");
    }

    fn forget(&mut self, name: &str) {
        self.setup
            .retain(|line| !line.starts_with(&format!("export {name}=")));
    }

    /// Runs a command that has to succeed.
    pub(crate) fn run(&self, line: &str) -> Result<()> {
        println!("$ {line}");
        let status = self
            .command(line)
            .status()
            .with_context(|| format!("starting `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed ({status})");
        }
        Ok(())
    }

    /// Runs a command that has to end with exit code 1 and to say all of `findings`.
    pub(crate) fn run_expecting_refusal(&self, line: &str, findings: &[&str]) -> Result<()> {
        println!("$ {line}");
        let output = self
            .command(line)
            .output()
            .with_context(|| format!("starting `{line}`"))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        print!("{said}");
        if output.status.code() != Some(1) {
            bail!("`{line}` should have ended with exit code 1 ({})", output.status);
        }
        if let Some(unsaid) = findings.iter().find(|finding| !said.contains(**finding)) {
            bail!("`{line}` ended with exit code 1 as it should, but did not mention {unsaid:?}");
        }
        println!("(exit code 1)");
        Ok(())
    }

    /// Starts a server in the background, its output in the file `log_file`, and waits until it listens.
    pub(crate) fn start_server(&self, line: &str, log_file: &str) -> Result<Server> {
        println!("$ {line} > {log_file} 2>&1 &");
        // `exec`: the child is the server itself, not a shell that would outlive a signal meant for it.
        let child = self
            .command(&format!("exec {line} > {log_file} 2>&1"))
            .spawn()
            .with_context(|| format!("starting `{line}`"))?;
        let mut server = Server {
            child,
            address: String::new(),
        };
        let log_path = self.directory.join(log_file);
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            let output = fs::read_to_string(&log_path).unwrap_or_default();
            if let Some(address) = listening_address(&output) {
                println!("listening on {address}");
                server.address = address.to_owned();
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait().context("waiting for the server")? {
                bail!("`{line}` stopped ({status}):\n{output}");
            }
            if Instant::now() > deadline {
                bail!(
                    "`{line}` does not listen after {} s:\n{output}",
                    SERVER_TIMEOUT.as_secs()
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asks a server to stop and waits until it has.
    pub(crate) fn stop_server(&self, mut server: Server) -> Result<()> {
        self.run(&format!("kill {}", server.child.id()))?;
        let deadline = Instant::now() + SERVER_TIMEOUT;
        while Instant::now() < deadline {
            match server.child.try_wait().context("waiting for the server")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server did not stop cleanly ({status})"),
                None => thread::sleep(POLL_INTERVAL),
            }
        }
        bail!("the server did not stop within {} s", SERVER_TIMEOUT.as_secs())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &format!("{}\n{line}", self.setup.join("\n"))]);
        command
    }
}

/// A path as one word of a shell's line.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    if path.chars().all(is_plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// A running server. It ends with this value, however a demo ends.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server is gone already.
        let _: Result<(), _> = self.child.kill();
        let _: Result<ExitStatus, _> = self.child.wait();
    }
}

/// The address in the line `listening on ADDR`, once that line is complete.
fn listening_address(output: &str) -> Option<&str> {
    let (complete_lines, _) = output.rsplit_once('\n')?;
    complete_lines
        .lines()
        .find_map(|line| line.strip_prefix("listening on "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::env;

    use super::*;

    fn shell() -> Shell {
        Shell::open(env::temp_dir())
    }

    #[test]
    fn an_address_counts_once_its_line_is_complete() {
        assert_eq!(listening_address("log main\nlistening on 127.0.0.1:74"), None);
        assert_eq!(
            listening_address("log main\nlistening on 127.0.0.1:7480\n"),
            Some("127.0.0.1:7480")
        );
    }

    #[test]
    fn only_exit_code_1_with_its_findings_is_a_refusal() {
        assert!(
            shell()
                .run_expecting_refusal("echo leaf 7; exit 1", &["leaf 7"])
                .is_ok()
        );
        assert!(
            shell()
                .run_expecting_refusal("echo leaf 7 >&2; exit 1", &["leaf 7"])
                .is_ok()
        );
        assert!(
            shell()
                .run_expecting_refusal("echo leaf 7; exit 1", &["leaf 8"])
                .is_err()
        );
        assert!(
            shell()
                .run_expecting_refusal("echo leaf 7; exit 0", &["leaf 7"])
                .is_err()
        );
        assert!(
            shell()
                .run_expecting_refusal("echo leaf 7; exit 2", &["leaf 7"])
                .is_err()
        );
    }

    #[test]
    fn what_was_exported_last_is_what_commands_see() {
        let mut shell = shell();
        shell.export("COUNTERFOIL_DEMO", "first");
        shell.export("COUNTERFOIL_DEMO", "second:$HOME");
        assert!(shell.run(r#"test "$COUNTERFOIL_DEMO" = "second:$HOME""#).is_ok());
        assert_eq!(shell.setup().len(), 2);
    }

    #[test]
    fn a_quoted_path_is_one_word() {
        assert_eq!(quoted(Path::new("/usr/lib")), "/usr/lib");
        for path in ["/a b", "/it's", "/$HOME"] {
            let line = format!(
                "test \"$(printf %s {})\" = \"$EXPECTED\"",
                quoted(Path::new(path))
            );
            assert!(
                Command::new("sh")
                    .args(["-c", &line])
                    .env("EXPECTED", path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }

    #[test]
    fn a_command_that_fails_is_an_error() {
        assert!(shell().run("true").is_ok());
        assert!(shell().run("false").is_err());
    }

    #[test]
    fn a_server_that_stops_before_it_listens_is_an_error_with_its_output() {
        let log_file = format!("counterfoil-xtask-{}.log", std::process::id());
        let error = shell()
            .start_server("sh -c 'expr 40 + 2; exit 3'", &log_file)
            .err()
            .unwrap();
        assert!(error.to_string().contains("42"));
        fs::remove_file(shell().directory().join(log_file)).unwrap();
    }
}
