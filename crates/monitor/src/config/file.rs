//! The file as it is written. Each value is read into its type, so that an error points at its line.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use counterfoil_client::Server;
use counterfoil_note::Origin;
use reqwest::Url;
use serde::{Deserialize, Deserializer, de};

use super::{BaseUrl, SourceAddress};

/// Longest interval or age, in seconds: a year.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) state_dir: PathBuf,
    pub(super) interval_seconds: Option<Seconds>,
    pub(super) metrics_listen: Option<SocketAddr>,
    pub(super) log: Vec<Log>,
    #[serde(default)]
    pub(super) webhook: Vec<Webhook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) name: Name,
    pub(super) policy: PathBuf,
    #[serde(default, deserialize_with = "origin")]
    pub(super) origin: Option<Origin>,
    pub(super) max_head_age_seconds: Option<Seconds>,
    pub(super) sources: Vec<Source>,
    #[serde(default)]
    pub(super) observers: Vec<BaseUrl>,
}

fn origin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Origin>, D::Error> {
    from_text(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(try_from = "WrittenSource")]
pub(super) struct Source {
    pub(super) address: SourceAddress,
    pub(super) token_file: Option<PathBuf>,
    pub(super) max_head_age_seconds: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSource {
    tiles: Option<BaseUrl>,
    grpc: Option<GrpcServer>,
    log: Option<Name>,
    token_file: Option<PathBuf>,
    max_head_age_seconds: Option<Seconds>,
}

impl TryFrom<WrittenSource> for Source {
    type Error = &'static str;

    fn try_from(source: WrittenSource) -> Result<Self, &'static str> {
        let address = match (source.tiles, source.grpc, source.log) {
            (Some(url), None, None) => SourceAddress::Tiles(url),
            (None, Some(GrpcServer(server)), log) => SourceAddress::Grpc {
                server,
                log: log.map_or_else(|| "main".to_owned(), |name| name.0),
            },
            _ => {
                return Err(
                    "a source is { tiles = \"URL\" } or { grpc = \"http://HOST:PORT\", log = \"NAME\" }",
                );
            }
        };
        Ok(Self {
            address,
            token_file: source.token_file,
            max_head_age_seconds: source.max_head_age_seconds,
        })
    }
}

struct GrpcServer(Server);

impl<'de> Deserialize<'de> for GrpcServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    pub(super) url: WebhookUrl,
    pub(super) secret_file: PathBuf,
}

/// Where a webhook is posted: it may have a query, which services use to name the receiver.
pub(super) struct WebhookUrl(pub(super) Url);

impl<'de> Deserialize<'de> for WebhookUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let url: Url = from_text(deserializer)?;
        if matches!(url.scheme(), "http" | "https") && url.host().is_some() {
            Ok(Self(url))
        } else {
            Err(de::Error::custom("a webhook's URL is http://… or https://…"))
        }
    }
}

/// A whole number of seconds, 1 to a year.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(super) struct Seconds(pub(super) u64);

impl TryFrom<u64> for Seconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if (1..=MAX_SECONDS).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(format!("{seconds} is not 1 to {MAX_SECONDS} seconds"))
        }
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(seconds.0)
    }
}

/// What logs are called: 1 to 63 of `a`–`z`, `0`–`9` and `-`. It is also a file name and a metric label.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=63).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('-') {
            Ok(Self(name))
        } else {
            Err("a name is 1 to 63 of a-z, 0-9 and -, and does not begin with -")
        }
    }
}

/// Reads what has a text form, so that an error points at its line.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}
