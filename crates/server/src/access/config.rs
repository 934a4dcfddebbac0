//! `access.toml`: what callers without a credential may do, and whose job tokens and client certificates are believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use serde::Deserialize;

use super::{Grant, Role, token::grant};

/// Issuers whose tokens anyone in the world can have, each with claims of which a rule has to name one: ids that are given
/// once and never again.
const PUBLIC_ISSUERS: [(&str, &[&str]); 2] = [
    (
        "https://token.actions.githubusercontent.com",
        &["repository_id", "repository_owner_id", "enterprise_id"],
    ),
    ("https://gitlab.com", &["project_id", "namespace_id"]),
];

/// The file, understood.
#[derive(Debug)]
pub(crate) struct Config {
    /// What callers without a credential may do.
    pub(super) anonymous: Arc<Grant>,
    /// By the URL that tokens bear as `iss`.
    pub(super) issuers: BTreeMap<String, Issuer>,
    pub(super) mtls: Option<Mtls>,
}

/// An issuer of OpenID Connect tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    pub(super) url: String,
    /// What tokens have to bear as `aud`. `None`: the origin of a log, which they are then good for alone.
    pub(super) audience: Option<String>,
    pub(super) reuse: Reuse,
    /// The first that matches counts.
    pub(super) rules: Vec<OidcRule>,
}

/// How often a token may submit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reuse {
    /// In one call.
    #[default]
    Never,
    /// As often as its holder likes: for platforms that give a job one token for all its life.
    UntilExpiry,
}

/// What tokens with these claims are good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OidcRule {
    /// All of these, each as text.
    pub(super) claims: BTreeMap<String, String>,
    pub(super) grant: Arc<Grant>,
}

/// Client certificates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mtls {
    /// Certificates (PEM) of the authorities that are believed. Relative to the data directory.
    pub(crate) ca: PathBuf,
    /// The first that matches counts.
    pub(super) rules: Vec<MtlsRule>,
}

/// What certificates with this name are good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MtlsRule {
    pub(super) name: CertificateName,
    pub(super) grant: Arc<Grant>,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CertificateName {
    /// A URI that begins with `spiffe://`.
    Spiffe(String),
    Dns(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigToml {
    #[serde(default)]
    anonymous: Vec<Role>,
    #[serde(default)]
    oidc: Vec<IssuerToml>,
    mtls: Option<MtlsToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerToml {
    issuer: String,
    audience: Option<String>,
    #[serde(default)]
    reuse: Reuse,
    #[serde(rename = "rule", default)]
    rules: Vec<RuleToml<BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MtlsToml {
    ca: PathBuf,
    #[serde(rename = "rule", default)]
    rules: Vec<RuleToml<NameToml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml<M> {
    #[serde(rename = "match")]
    matches: M,
    roles: Vec<Role>,
    source: Option<String>,
    logs: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameToml {
    spiffe: Option<String>,
    dns: Option<String>,
}

impl Config {
    /// Where there is no file: whoever reaches the port may submit, read and audit.
    pub(super) fn open() -> Self {
        Self {
            anonymous: Arc::new(Grant::anonymous([Role::Submit, Role::Audit])),
            issuers: BTreeMap::new(),
            mtls: None,
        }
    }

    /// As an empty file has it: nobody may do anything without an API token.
    pub(super) fn closed() -> Self {
        Self {
            anonymous: Arc::new(Grant::anonymous([])),
            issuers: BTreeMap::new(),
            mtls: None,
        }
    }

    /// Reads the file of a data directory. The error says which part is wrong.
    pub(super) fn parse(text: &str, data: &Path) -> anyhow::Result<Self> {
        let file: ConfigToml = toml::from_str(text)?;
        ensure!(
            !file.anonymous.contains(&Role::Admin),
            "`anonymous` may not be admin: that takes a credential"
        );
        let mut issuers = BTreeMap::new();
        for toml in file.oidc {
            let url = toml.issuer.clone();
            let issuer = issuer(toml).with_context(|| format!("the issuer {url:?}"))?;
            ensure!(
                issuers.insert(url.clone(), issuer).is_none(),
                "the issuer {url:?} is there twice"
            );
        }
        Ok(Self {
            anonymous: Arc::new(Grant::anonymous(file.anonymous)),
            issuers,
            mtls: file.mtls.map(|toml| mtls(toml, data)).transpose()?,
        })
    }
}

fn issuer(toml: IssuerToml) -> anyhow::Result<Issuer> {
    check_url(&toml.issuer)?;
    ensure!(toml.audience.as_deref() != Some(""), "`audience` is empty");
    ensure!(
        !toml.rules.is_empty(),
        "it has no [[oidc.rule]], so that no token would do"
    );
    let ids = PUBLIC_ISSUERS
        .iter()
        .find_map(|(url, ids)| (*url == toml.issuer).then_some(*ids));
    let mut rules = Vec::with_capacity(toml.rules.len());
    for (place, rule) in (1..).zip(toml.rules) {
        let claims = rule.matches;
        let grant = grant(rule.roles, rule.source, rule.logs).with_context(|| format!("rule {place}"))?;
        ensure!(
            !claims.is_empty(),
            "rule {place}: `match` is empty, so that any token would do"
        );
        if let Some(ids) = ids {
            ensure!(
                ids.iter().any(|id| claims.contains_key(*id)),
                "rule {place}: anyone can have a token of this issuer. `match` has to name one of {}",
                ids.join(", ")
            );
        }
        rules.push(OidcRule {
            claims,
            grant: Arc::new(grant),
        });
    }
    Ok(Issuer {
        url: toml.issuer,
        audience: toml.audience,
        reuse: toml.reuse,
        rules,
    })
}

fn check_url(text: &str) -> anyhow::Result<()> {
    let url = Url::parse(text).context("it is no URL")?;
    ensure!(
        may_fetch(&url),
        "it has to begin with https://, or with http:// on the loopback interface"
    );
    ensure!(
        url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none(),
        "it has more than a host and a path"
    );
    Ok(())
}

/// Whether what is fetched from there comes from whom it says: over TLS, or from this machine.
fn may_fetch(url: &Url) -> bool {
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    }
}

fn mtls(toml: MtlsToml, data: &Path) -> anyhow::Result<Mtls> {
    let mut rules = Vec::with_capacity(toml.rules.len());
    let mut names = BTreeSet::new();
    for (place, rule) in (1..).zip(toml.rules) {
        let at = || format!("[mtls], rule {place}");
        let name = match (rule.matches.spiffe, rule.matches.dns) {
            (Some(uri), None) if uri.starts_with("spiffe://") => CertificateName::Spiffe(uri),
            (Some(uri), None) => bail!("{}: {uri:?} does not begin with spiffe://", at()),
            (None, Some(name)) => CertificateName::Dns(name.to_ascii_lowercase()),
            _ => bail!("{}: `match` takes either `spiffe` or `dns`", at()),
        };
        ensure!(
            names.insert(name.clone()),
            "{}: the same name is in a rule before",
            at()
        );
        let grant = grant(rule.roles, rule.source, rule.logs).with_context(at)?;
        rules.push(MtlsRule {
            name,
            grant: Arc::new(grant),
        });
    }
    ensure!(
        !rules.is_empty(),
        "[mtls] has no [[mtls.rule]], so that no certificate would do"
    );
    Ok(Mtls {
        ca: data.join(toml.ca),
        rules,
    })
}

#[cfg(test)]
mod tests {
    use counterfoil_log::LogName;

    use super::*;
    use crate::access::Right;

    const WHOLE: &str = r#"
        anonymous = ["read"]

        [[oidc]]
        issuer = "https://token.actions.githubusercontent.com"
        [[oidc.rule]]
        match = { repository_id = "12", environment = "production" }
        roles = ["submit", "read"]
        source = "github-production"
        logs = ["main"]

        [[oidc]]
        issuer = "https://gitlab.example.org"
        audience = "https://log.example.org"
        reuse = "until-expiry"
        [[oidc.rule]]
        match = { project_id = "34" }
        roles = ["submit"]
        source = "gitlab"

        [mtls]
        ca = "client-ca.pem"
        [[mtls.rule]]
        match = { spiffe = "spiffe://example.org/runner" }
        roles = ["submit"]
        source = "runners"
        [[mtls.rule]]
        match = { dns = "Audit.Example.org" }
        roles = ["audit"]
    "#;

    fn parse(text: &str) -> anyhow::Result<Config> {
        Config::parse(text, Path::new("/data"))
    }

    #[test]
    fn the_whole_of_it_is_understood() {
        let config = parse(WHOLE).unwrap();
        let main = LogName::default();
        assert!(config.anonymous.lacks(Right::Read, &main).is_none());
        assert!(config.anonymous.lacks(Right::Audit, &main).is_some());
        let github = &config.issuers["https://token.actions.githubusercontent.com"];
        assert_eq!((github.reuse, github.audience.as_deref()), (Reuse::Never, None));
        assert_eq!(github.rules[0].claims["repository_id"], "12");
        let gitlab = &config.issuers["https://gitlab.example.org"];
        assert_eq!(gitlab.reuse, Reuse::UntilExpiry);
        assert_eq!(gitlab.audience.as_deref(), Some("https://log.example.org"));
        let mtls = config.mtls.unwrap();
        assert_eq!(mtls.ca, Path::new("/data/client-ca.pem"));
        assert_eq!(
            mtls.rules[1].name,
            CertificateName::Dns("audit.example.org".to_owned())
        );
    }

    #[test]
    fn what_the_documentation_shows_is_understood() {
        let text = include_str!("../../../../docs/ACCESS.md");
        let (_, example) = text.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let config = parse(example).unwrap();
        assert_eq!(config.issuers.len(), 2);
        assert_eq!(
            config.issuers["https://gitlab.example.com"].reuse,
            Reuse::UntilExpiry
        );
        assert_eq!(config.mtls.unwrap().rules.len(), 2);
    }

    #[test]
    fn an_empty_file_shuts_everyone_out_and_none_lets_everyone_in() {
        let main = LogName::default();
        for right in [Right::Submit, Right::Check, Right::Read, Right::Audit] {
            assert!(parse("").unwrap().anonymous.lacks(right, &main).is_some());
            assert!(Config::closed().anonymous.lacks(right, &main).is_some());
            assert!(Config::open().anonymous.lacks(right, &main).is_none());
        }
    }

    #[test]
    fn what_would_let_in_too_many_is_refused() {
        for (what, with, problem) in [
            (
                "anonymous = [\"read\"]",
                "anonymous = [\"admin\"]",
                "may not be admin",
            ),
            ("anonymous", "anonymus", "unknown field"),
            (
                "repository_id = \"12\", ",
                "",
                "repository_id, repository_owner_id",
            ),
            ("{ project_id = \"34\" }", "{}", "any token would do"),
            (
                "https://gitlab.example.org",
                "http://gitlab.example.org",
                "https://",
            ),
            (
                "https://gitlab.example.org",
                "http://127.0.0.1.example.org",
                "https://",
            ),
            (
                "https://gitlab.example.org",
                "https://gitlab.example.org?x",
                "more than a host",
            ),
            (
                "https://gitlab.example.org",
                "https://token.actions.githubusercontent.com",
                "project_id",
            ),
            ("https://gitlab.example.org", "gitlab", "no URL"),
            ("\"until-expiry\"", "\"always\"", "unknown variant"),
            ("source = \"gitlab\"", "", "needs a source"),
            ("source = \"gitlab\"", "source = \"log\"", "`source`"),
            ("spiffe://example.org", "https://example.org", "spiffe://"),
            ("dns = ", "dns = \"x\", spiffe = ", "either"),
            ("ca = \"client-ca.pem\"", "", "missing field `ca`"),
        ] {
            let text = WHOLE.replace(what, with);
            assert_ne!(text, WHOLE);
            match parse(&text) {
                // Twice the same issuer: there the rule's claims are looked at first.
                Err(error) if what == "https://gitlab.example.org" && problem == "project_id" => drop(error),
                Err(error) => assert!(format!("{error:#}").contains(problem), "{error:#} for {with:?}"),
                Ok(_) => panic!("{with:?} was taken"),
            }
        }
    }

    #[test]
    fn an_issuer_on_loopback_may_do_without_tls() {
        for host in ["127.0.0.1:1", "localhost", "[::1]:80"] {
            let text = WHOLE.replace("https://gitlab.example.org", &format!("http://{host}"));
            assert!(parse(&text).is_ok(), "{host}");
        }
    }
}
