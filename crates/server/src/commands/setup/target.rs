//! What webhooks are of, and where they go. What is printed of either goes into command lines that people paste into a shell: only
//! plain names and plain URLs are taken.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::ensure;
use counterfoil_event::SourceId;
use counterfoil_hooks::Provider;
use reqwest::Url;

/// The longest name of an organization or a repository.
const MAX_NAME_BYTES: usize = 255;

/// Whose webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// All repositories of an organization, or projects of a group.
    Many(String),
    /// A repository or a project, with all that it is in.
    One(String),
}

impl Target {
    pub(super) fn new(provider: Provider, name: &str, of_many: bool) -> anyhow::Result<Self> {
        let segments = name.split('/').count();
        let expected = match (provider, of_many) {
            (Provider::GitLab, true) => 1..=20,
            (Provider::GitLab, false) => 2..=21,
            (_, true) => 1..=1,
            (_, false) => 2..=2,
        };
        let is_plain = name.len() <= MAX_NAME_BYTES
            && name.split('/').all(|segment| {
                !segment.is_empty()
                    && !segment.starts_with(['-', '.'])
                    && segment
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            });
        let example = match (provider, of_many) {
            (Provider::GitLab, true) => "a group is written like acme, or acme/tools",
            (Provider::GitLab, false) => "a project is written like acme/widgets",
            (_, true) => "an organization is written like acme",
            (_, false) => "a repository is written like acme/widgets",
        };
        ensure!(is_plain && expected.contains(&segments), "{name:?}: {example}");
        Ok(if of_many {
            Self::Many(name.to_owned())
        } else {
            Self::One(name.to_owned())
        })
    }

    /// As people write it in one line: GitLab's groups, which look like projects, with a slash behind them.
    pub(super) fn parse(provider: Provider, text: &str) -> anyhow::Result<Self> {
        match provider {
            Provider::GitLab => match text.strip_suffix('/') {
                Some(group) => Self::new(provider, group, true),
                None => Self::new(provider, text, false),
            },
            Provider::GitHub | Provider::Gitea => Self::new(provider, text, !text.contains('/')),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Many(name) | Self::One(name) => f.write_str(name),
        }
    }
}

/// Where a provider reaches the server: scheme, host, port, and a path for a server behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl(Url);

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "it is written like https://log.example.com, with a port or a path if there is one, and nothing else";
        let url: Url = text.parse().map_err(|_| problem)?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(is_plain_host)
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url
                .path()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte));
        is_plain.then_some(Self(url)).ok_or(problem)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl PublicUrl {
    /// Where deliveries of a source go.
    pub(super) fn payload(&self, source: &SourceId) -> String {
        format!("{self}/hooks/{source}")
    }

    /// What will probably go wrong with it.
    pub(super) fn warnings(&self, provider: Provider, host: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        let ours = self.0.host_str().unwrap_or_default();
        if provider.default_host() == Some(host) && !is_public(ours) {
            warnings.push(format!(
                "{} at {host} can't reach {ours}, which is a name of this machine or of its network alone",
                provider.title()
            ));
        }
        if self.0.scheme() == "http" && !is_loopback(ours) {
            warnings.push(
                "over http anyone on the way can read what is delivered. https needs a certificate: --tls-cert and --tls-key, or a proxy"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// A URL's parser lets much through that means something to a shell.
fn is_plain_host(host: &str) -> bool {
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_name || address(host).is_some()
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

fn is_public(host: &str) -> bool {
    match address(host) {
        Some(IpAddr::V4(v4)) => {
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified())
        }
        Some(IpAddr::V6(v6)) => {
            !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified())
        }
        None => {
            host != "localhost"
                && host.contains('.')
                && !host.ends_with(".local")
                && !host.ends_with(".internal")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_of_their_kind() {
        let many = |name: &str| Target::Many(name.to_owned());
        let one = |name: &str| Target::One(name.to_owned());
        for (provider, text, target) in [
            (Provider::GitHub, "acme", many("acme")),
            (Provider::GitHub, "acme/widgets.js", one("acme/widgets.js")),
            (Provider::Gitea, "acme/widgets", one("acme/widgets")),
            (Provider::GitLab, "acme/", many("acme")),
            (Provider::GitLab, "acme/tools/", many("acme/tools")),
            (Provider::GitLab, "acme/tools/widgets", one("acme/tools/widgets")),
        ] {
            assert_eq!(Target::parse(provider, text).unwrap(), target, "{text}");
        }
        for (provider, text) in [
            (Provider::GitHub, ""),
            (Provider::GitHub, "/"),
            (Provider::GitHub, "acme/"),
            (Provider::GitHub, "acme/widgets/x"),
            (Provider::GitHub, "acme/$(touch pwned)"),
            (Provider::GitHub, "acme/'; touch pwned; '"),
            (Provider::GitHub, "acme/.."),
            (Provider::GitHub, "--hostname"),
            (Provider::GitHub, "acme/wídgets"),
            (Provider::GitHub, "acme/widgets\u{202e}"),
            (Provider::GitHub, "acme/wid\ngets"),
            (Provider::GitHub, "https://github.com/acme"),
            (Provider::GitLab, "acme"),
            (Provider::GitLab, "../acme/"),
        ] {
            assert!(Target::parse(provider, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_url_is_a_place_and_nothing_more() {
        let source = "github".parse().unwrap();
        for (url, payload) in [
            ("https://log.example.com", "https://log.example.com/hooks/github"),
            ("https://log.example.com/", "https://log.example.com/hooks/github"),
            ("http://127.0.0.1:7480", "http://127.0.0.1:7480/hooks/github"),
            ("http://[::1]:7480", "http://[::1]:7480/hooks/github"),
            (
                "https://example.com/counter/foil/",
                "https://example.com/counter/foil/hooks/github",
            ),
        ] {
            assert_eq!(url.parse::<PublicUrl>().unwrap().payload(&source), payload);
        }
        for bad in [
            "",
            "log.example.com",
            "log.example.com:443",
            "ftp://log.example.com",
            "https://",
            "https://user:secret@log.example.com",
            "https://log.example.com?x",
            "https://log.example.com#x",
            "https://log.example.com/'; touch pwned",
            "https://log.example.com/$(x)",
            "https://$(x).example.com",
            "https://`x`.example.com",
            "https://log.example.com;x",
            "https://log.example.com&x",
            "https://log.example.com'x",
            "https://log.example.com!x",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_provider_can_not_reach_is_told() {
        let warnings = |url: &str, host: &str| {
            let url: PublicUrl = url.parse().unwrap();
            url.warnings(Provider::GitHub, host).len()
        };
        for public in ["https://log.example.com", "https://203.0.113.7"] {
            assert_eq!(warnings(public, "github.com"), 0, "{public}");
        }
        for private in [
            "https://localhost",
            "http://127.0.0.1:7480",
            "http://[::1]:7480",
            "https://10.1.2.3",
            "https://192.168.0.7",
            "https://build-server",
            "https://log.internal",
        ] {
            assert_eq!(warnings(private, "github.com"), 1, "{private}");
            // A server of one's own may be on the same network.
            assert_eq!(warnings(private, "git.example.com"), 0, "{private}");
        }
        assert_eq!(warnings("http://log.example.com", "github.com"), 1);
    }
}
