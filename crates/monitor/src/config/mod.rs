//! The configuration file: TOML, strict. An unknown key is an error that names its line; a limit broken names its key.

mod file;

use std::{
    collections::HashSet,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use counterfoil_client::{BearerToken, InvalidToken, MAX_TOKEN_BYTES, Server, is_this_machine};
use counterfoil_files::read_up_to;
use counterfoil_note::{Origin, Policy, PolicyError};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::{
    Timeouts,
    webhook::{Secret, SecretError},
};

/// Longest configuration file, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Most logs that one monitor follows.
pub const MAX_LOGS: usize = 256;
/// Most sources, and most observers, of one log.
pub const MAX_SOURCES: usize = 16;
/// Most webhooks.
pub const MAX_WEBHOOKS: usize = 8;
/// The log signs a head each minute even if it does not grow.
const DEFAULT_MAX_HEAD_AGE: Duration = Duration::from_secs(300);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// What a monitor is to do; read by [`Config::load`].
#[derive(Debug)]
pub struct Config {
    /// Where cursors, open findings, evidence and undelivered webhook messages are kept.
    pub state_dir: PathBuf,
    /// From the beginning of one round of a log to that of the next.
    pub interval: Duration,
    /// Where metrics are served; nowhere if none.
    pub metrics_listen: Option<SocketAddr>,
    /// How long those who are asked may take. No key of the file changes it.
    pub timeouts: Timeouts,
    /// The logs to follow; their names differ.
    pub logs: Vec<LogConfig>,
    /// Who is told of findings.
    pub webhooks: Vec<WebhookConfig>,
}

/// One log.
#[derive(Debug)]
pub struct LogConfig {
    /// Its name here: in metrics, findings and file names.
    pub name: String,
    /// The origin that its heads bear.
    pub origin: Origin,
    /// Whose signatures count.
    pub policy: Policy,
    /// A newest head that was signed longer ago is a finding; sources may have another limit.
    pub max_head_age: Duration,
    /// Where heads, proofs and entries come from, in order of preference.
    pub sources: Vec<SourceConfig>,
    /// Witnesses' reading endpoints: where heads come from to compare with.
    pub observers: Vec<BaseUrl>,
}

/// A log, or a mirror of it.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Where it is served.
    pub address: SourceAddress,
    /// What it asks for before it shows anything.
    pub token: Option<BearerToken>,
    /// A newest head that was signed longer ago is a finding.
    pub max_head_age: Duration,
}

/// Where a log, or a mirror of it, is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAddress {
    /// Tiles over HTTP, under this URL.
    Tiles(BaseUrl),
    /// By gRPC, under a name.
    Grpc {
        /// The server.
        server: Server,
        /// The log's name there.
        log: String,
    },
}

impl SourceAddress {
    /// Whether nobody reads along on the way to it.
    fn is_private(&self) -> bool {
        let url = match self {
            Self::Tiles(BaseUrl(url)) => url,
            Self::Grpc { server, .. } => return server.is_private(),
        };
        url.scheme() == "https" || is_this_machine(url.host_str().unwrap_or_default())
    }
}

/// What names the source in findings and metrics.
impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tiles(url) => url.fmt(f),
            Self::Grpc { server, log } => write!(f, "grpc+{server}/{log}"),
        }
    }
}

/// An `http` or `https` URL to which paths are appended: it ends in a slash, and has no user, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// The URL of a path beneath, such as `checkpoint`.
    pub(crate) fn join(&self, path: &str) -> Url {
        self.0
            .join(path)
            .expect("a relative path of plain characters joins any http URL")
    }
}

/// Text that is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a URL here is http://HOST/PATH/ or https://HOST/PATH/, with no user, query or fragment")]
pub struct InvalidUrl(());

impl FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let mut url: Url = text.parse().map_err(|_| InvalidUrl(()))?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(InvalidUrl(()));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One receiver of findings.
#[derive(Debug)]
pub struct WebhookConfig {
    /// Where messages are posted.
    pub url: Url,
    /// What signs them.
    pub secret: Secret,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than its limit.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Not the TOML that is expected. The message names line, column and key.
    #[error("{}: {source}", path.display())]
    Toml {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A key has a value that can't be used.
    #[error("{}: {key}: {problem}", path.display())]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// The key, such as `log.builds.policy`.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A trust policy is malformed.
    #[error("{}: {source}", path.display())]
    Policy {
        /// The policy file.
        path: PathBuf,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// A source's token can't be used.
    #[error("{}: {source}", path.display())]
    Token {
        /// The token's file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidToken,
    },
    /// A webhook's secret can't be used.
    #[error("{}: {source}", path.display())]
    Secret {
        /// The secret's file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
}

impl Config {
    /// Reads a configuration and the policies and secrets that it names. Relative paths in it start from its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read(path, MAX_CONFIG_BYTES)?;
        let toml = |source| ConfigError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Value {
            path: path.to_owned(),
            key: "the file".to_owned(),
            problem: "it is not UTF-8".to_owned(),
        })?;
        let file: file::Config = toml::from_str(&text).map_err(toml)?;
        Reader {
            path,
            directory: path.parent().unwrap_or(Path::new("")),
        }
        .config(file)
    }
}

/// Whether a text has the form of a configuration. The files that it names are not read.
pub(crate) fn is_well_formed(text: &str) -> bool {
    toml::from_str::<file::Config>(text).is_ok()
}

struct Reader<'a> {
    path: &'a Path,
    directory: &'a Path,
}

impl Reader<'_> {
    fn config(&self, file: file::Config) -> Result<Config, ConfigError> {
        self.check_count("log", file.log.len(), 1, MAX_LOGS)?;
        self.check_count("webhook", file.webhook.len(), 0, MAX_WEBHOOKS)?;
        let mut names = HashSet::new();
        let mut logs = Vec::with_capacity(file.log.len());
        for log in file.log {
            if !names.insert(log.name.0.clone()) {
                return Err(self.value("log.name", format!("{} is there twice", log.name.0)));
            }
            logs.push(self.log(log)?);
        }
        let mut urls = HashSet::new();
        let mut webhooks = Vec::with_capacity(file.webhook.len());
        for webhook in file.webhook {
            // The URL may hold a secret, and is not repeated.
            if !urls.insert(webhook.url.0.clone()) {
                return Err(self.value("webhook.url", "two webhooks have the same URL"));
            }
            let path = self.directory.join(webhook.secret_file);
            let secret = Secret::load(&path).map_err(|source| ConfigError::Secret { path, source })?;
            webhooks.push(WebhookConfig {
                url: webhook.url.0,
                secret,
            });
        }
        Ok(Config {
            state_dir: self.directory.join(file.state_dir),
            interval: file.interval_seconds.map_or(DEFAULT_INTERVAL, Duration::from),
            metrics_listen: file.metrics_listen,
            timeouts: Timeouts::default(),
            logs,
            webhooks,
        })
    }

    fn log(&self, log: file::Log) -> Result<LogConfig, ConfigError> {
        let name = log.name.0;
        let key = |key: &str| format!("log.{name}.{key}");
        self.check_count(&key("sources"), log.sources.len(), 1, MAX_SOURCES)?;
        self.check_count(&key("observers"), log.observers.len(), 0, MAX_SOURCES)?;
        let mut labels = HashSet::new();
        let observers = log.observers.iter().map(ToString::to_string);
        let addresses = log.sources.iter().map(|source| source.address.to_string());
        for label in addresses.chain(observers) {
            if labels.contains(&label) {
                return Err(self.value(&key("sources"), format!("{label} is there twice")));
            }
            labels.insert(label);
        }
        let max_head_age = log
            .max_head_age_seconds
            .map_or(DEFAULT_MAX_HEAD_AGE, Duration::from);
        let sources = log
            .sources
            .into_iter()
            .map(|source| self.source(source, max_head_age, &key("sources")))
            .collect::<Result<_, _>>()?;
        let path = self.directory.join(&log.policy);
        let bytes = read(&path, counterfoil_note::MAX_POLICY_BYTES)?;
        let policy = Policy::parse(&bytes).map_err(|source| ConfigError::Policy { path, source })?;
        let origin = match log.origin {
            Some(origin) => origin,
            None => self.only_origin(&policy, &key("origin"))?,
        };
        if !policy.logs().iter().any(|log| *log.key.name() == origin) {
            return Err(self.value(&key("origin"), format!("the policy has no log {origin}")));
        }
        Ok(LogConfig {
            name,
            origin,
            policy,
            max_head_age,
            sources,
            observers: log.observers,
        })
    }

    fn source(
        &self,
        source: file::Source,
        max_head_age: Duration,
        key: &str,
    ) -> Result<SourceConfig, ConfigError> {
        let file::Source {
            address,
            token_file,
            max_head_age_seconds,
        } = source;
        let token = token_file
            .map(|path| self.token(&self.directory.join(path)))
            .transpose()?;
        if token.is_some() && !address.is_private() {
            let problem = format!("the token is not sent to {address} in the clear: use https");
            return Err(self.value(key, problem));
        }
        Ok(SourceConfig {
            address,
            token,
            max_head_age: max_head_age_seconds.map_or(max_head_age, Duration::from),
        })
    }

    /// The token in a file, with or without the end of its line.
    fn token(&self, path: &Path) -> Result<BearerToken, ConfigError> {
        let bytes = Zeroizing::new(read(path, MAX_TOKEN_BYTES + 2)?);
        let text = str::from_utf8(&bytes).unwrap_or("\u{fffd}");
        text.trim_end_matches(['\r', '\n'])
            .parse()
            .map_err(|source| ConfigError::Token {
                path: path.to_owned(),
                source,
            })
    }

    /// The origin of the policy's log, if it has one only.
    fn only_origin(&self, policy: &Policy, key: &str) -> Result<Origin, ConfigError> {
        let mut names = policy.logs().iter().map(|log| log.key.name());
        let first = names.next();
        match first {
            Some(first) if names.all(|name| name == first) => Ok(first.clone()),
            Some(_) => Err(self.value(key, "the policy has several logs: say which one")),
            None => Err(self.value(key, "the policy has no log")),
        }
    }

    fn check_count(&self, key: &str, count: usize, least: usize, most: usize) -> Result<(), ConfigError> {
        if (least..=most).contains(&count) {
            return Ok(());
        }
        Err(self.value(key, format!("{count} are given, and {least} to {most} may be")))
    }

    fn value(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, ConfigError> {
    let bytes = read_up_to(path, limit).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() > limit {
        return Err(ConfigError::TooLong {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}
