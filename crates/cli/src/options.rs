//! The options of every command that talks to a log.

use std::{
    env, fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use counterfoil_client::{Client, Error, Options, Server, StateDir, Timeouts};
use counterfoil_files::FileError;
use counterfoil_note::{MAX_POLICY_BYTES, Policy, VerifierKey};

use crate::{credentials::Credentials, failure::Failure, files};

const DEFAULT_SERVER: &str = "http://127.0.0.1:7480";
const SERVER_VARIABLE: &str = "COUNTERFOIL_SERVER";

// Which log, and whom to believe. No documentation: it would take the place of the command's own.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct Common {
    /// Where the log is served [env: COUNTERFOIL_SERVER] [default: http://127.0.0.1:7480]
    // Read by hand: `verify` goes to the network only for an option that was really typed.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<Server>,
    /// The log's public key as `counterfoild init` printed it, or @FILE to read it from a file
    #[arg(long, value_name = "VKEY", env = "COUNTERFOIL_LOG_KEY", hide_env_values = true, value_parser = log_key)]
    pub(crate) log_key: Option<VerifierKey>,
    /// Whom to trust: a tlog-policy file that lists logs, witnesses and a quorum; instead of --log-key
    #[arg(long, value_name = "FILE", env = "COUNTERFOIL_POLICY", hide_env_values = true)]
    pub(crate) policy: Option<PathBuf>,
    /// The log's name on the server
    #[arg(long, value_name = "NAME", env = "COUNTERFOIL_LOG", default_value = "main")]
    pub(crate) log: String,
    /// Where the largest verified head is kept [default: $XDG_STATE_HOME/counterfoil or ~/.local/state/counterfoil]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Certificates in PEM to trust for https, instead of the machine's own
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[command(flatten)]
    credentials: Credentials,
}

impl Common {
    /// Without this, nothing can be believed.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        match (&self.log_key, &self.policy) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "--log-key and --policy both say whom to trust: give one of them",
            )
            .hint("the variables COUNTERFOIL_LOG_KEY and COUNTERFOIL_POLICY count as given")),
            (Some(key), None) => Ok(Policy::for_log(key.clone())),
            (None, Some(path)) => read_policy(path),
            (None, None) => Err(Failure::usage("nothing can be verified without the log's key")
                .hint("give --log-key VKEY or set COUNTERFOIL_LOG_KEY; `counterfoild init` printed it")
                .hint("or give --policy FILE, which can ask for witnesses too")),
        }
    }

    /// A connected client.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        self.client_with(NonZeroUsize::MIN).await
    }

    /// A client with several connections.
    pub(crate) async fn client_with(&self, connections: NonZeroUsize) -> Result<Client, Failure> {
        let mut options = self.client_options().await?;
        options.connections = connections;
        Ok(Client::connect(options).await?)
    }

    /// A client that waits so long for each answer.
    pub(crate) async fn client_within(&self, call: Duration) -> Result<Client, Failure> {
        let mut options = self.client_options().await?;
        options.timeouts = Timeouts {
            call,
            ..options.timeouts
        };
        Ok(Client::connect(options).await?)
    }

    async fn client_options(&self) -> Result<Options, Failure> {
        let mut options = Options::new(self.server()?, self.policy()?);
        options.log.clone_from(&self.log);
        options.state = Some(self.state()?);
        if let Some(path) = &self.tls_ca {
            options.tls_ca = Some(fs::read(path).map_err(FileError::at("read", path))?);
        }
        options.client_certificate = self.credentials.certificate()?;
        options.token = self.credentials.token().await?;
        Ok(options)
    }

    pub(crate) fn server(&self) -> Result<Server, Failure> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        let text = env::var(SERVER_VARIABLE).ok().filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        text.parse()
            .map_err(|error| Failure::usage(format!("{SERVER_VARIABLE}: {error}")))
    }

    /// Makes the state directory, unless it is there, and checks that a head can be saved in it.
    pub(crate) fn prepare_state(&self) -> Result<(), Failure> {
        files::prepare_directory(self.state()?.path()).map_err(|error| Error::State(error.into()).into())
    }

    pub(crate) fn state(&self) -> Result<StateDir, Failure> {
        match &self.state_dir {
            Some(path) => Ok(StateDir::new(path)),
            None => StateDir::of_user().ok_or_else(|| {
                Failure::usage("there is no home directory to keep the largest verified head in")
                    .hint("give --state-dir DIR")
            }),
        }
    }
}

/// Reads a policy by which something can be verified: one that lists a log.
pub(crate) fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let bytes = files::read(path, MAX_POLICY_BYTES)?;
    let policy =
        Policy::parse(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    if policy.logs().is_empty() {
        let problem = format!(
            "{}: the policy lists no log, so it accepts nothing",
            path.display()
        );
        return Err(
            Failure::usage(problem).hint("add a line `log <vkey>`; `counterfoild init` printed the vkey")
        );
    }
    Ok(policy)
}

/// Reads a vkey, or `@` and a file of which the first line is one.
fn log_key(given: &str) -> Result<VerifierKey, String> {
    let text = match given.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?,
        None => given.to_owned(),
    };
    // A sha256 log has two keys, the second for other software.
    let key = text.lines().next().unwrap_or_default().trim().parse();
    key.map_err(|error| {
        if Path::new(given).is_file() {
            format!("{error}. To read it from a file, write @{given}")
        } else {
            format!("{error}")
        }
    })
}
