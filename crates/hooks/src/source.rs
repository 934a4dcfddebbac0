//! What is known of a source.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Fingerprint, Provider, Secret, SecretError};

/// The most secrets of one source. Rotating takes two.
const MAX_SECRETS: usize = 8;
/// The longest host name (RFC 1035), and a port.
const MAX_HOST_BYTES: usize = 253 + 6;

/// A source of webhooks, as its file describes it:
///
/// ```toml
/// provider = "github"
/// log = "main"
/// host = "github.com"
/// secrets = ["0123…"]
/// ```
///
/// `log` is `main` if it is left out, `host` where the provider's cloud is.
#[derive(Debug, Clone)]
pub struct Source {
    /// Whose webhooks it takes.
    pub provider: Provider,
    /// The server's name of the log that they go to. Whether there is such a log is for the server to say.
    pub log: String,
    /// Where the provider runs, for the events' normal form. Empty if nobody said.
    pub host: String,
    secrets: Vec<Secret>,
}

/// Why text does not describe a source. Secrets are not repeated here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not TOML, or a key is missing, unknown or of another type.
    #[error("{0}")]
    Malformed(String),
    /// A secret that can't be one.
    #[error("secret number {place}: {problem}")]
    Secret {
        /// Its place in the list, the first of which is 1.
        place: usize,
        /// What is wrong with it.
        problem: SecretError,
    },
    /// No secret, or too many.
    #[error("a source has 1 to {MAX_SECRETS} secrets, and not {0}")]
    SecretCount(usize),
    /// A secret that is there already.
    #[error("the source has the secret {0} already")]
    SecretTwice(Fingerprint),
    /// A secret that is not there.
    #[error("the source has no secret {0}")]
    NoSuchSecret(Fingerprint),
    /// Not a host name, with or without a port.
    #[error("the host is a name such as git.example.com, with a port where there is one")]
    Host,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceToml {
    provider: Provider,
    #[serde(default = "default_log")]
    log: String,
    host: Option<String>,
    secrets: Vec<String>,
}

impl Drop for SourceToml {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

fn default_log() -> String {
    "main".to_owned()
}

impl Source {
    /// A source with one secret. Without a host, or with an empty one, it is the provider's cloud.
    ///
    /// # Errors
    /// [`SourceError::Host`].
    pub fn new(
        provider: Provider,
        log: String,
        host: Option<String>,
        secret: Secret,
    ) -> Result<Self, SourceError> {
        let default = provider.default_host().unwrap_or_default();
        let host = host
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| default.to_owned());
        let is_host = host.len() <= MAX_HOST_BYTES
            && host
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':'));
        if !is_host {
            return Err(SourceError::Host);
        }
        Ok(Self {
            provider,
            log,
            host,
            secrets: vec![secret],
        })
    }

    /// Reads a source's file.
    ///
    /// # Errors
    /// Any [`SourceError`] but those about secrets that are there or not.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        // The parser's own message quotes the line that is wrong, which may hold a secret.
        let file: SourceToml =
            toml::from_str(text).map_err(|error| SourceError::Malformed(error.message().to_owned()))?;
        let secrets = (1..)
            .zip(&file.secrets)
            .map(|(place, secret)| {
                secret
                    .parse()
                    .map_err(|problem| SourceError::Secret { place, problem })
            })
            .collect::<Result<Vec<Secret>, _>>()?;
        let Some((first, others)) = secrets.split_first() else {
            return Err(SourceError::SecretCount(0));
        };
        let mut source = Self::new(file.provider, file.log.clone(), file.host.clone(), first.clone())?;
        for secret in others {
            source.add_secret(secret.clone())?;
        }
        Ok(source)
    }

    /// What [`parse`](Self::parse) reads.
    pub fn to_toml(&self) -> Zeroizing<String> {
        let file = SourceToml {
            provider: self.provider,
            log: self.log.clone(),
            host: Some(self.host.clone()).filter(|host| !host.is_empty()),
            secrets: self
                .secrets
                .iter()
                .map(|secret| secret.reveal().to_owned())
                .collect(),
        };
        Zeroizing::new(toml::to_string(&file).expect("strings serialise"))
    }

    /// Any of them may sign, the newest last.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Makes another secret, of the newest one's kind: a GitLab that has no signing tokens takes no other. It is not added.
    ///
    /// # Errors
    /// If the system has no random bytes to give.
    pub fn generate_secret(&self) -> Result<Secret, getrandom::Error> {
        if self.secrets.last().is_some_and(Secret::is_signing_key) {
            return Secret::generate(self.provider);
        }
        Secret::generate_token()
    }

    /// Lets another secret sign too.
    ///
    /// # Errors
    /// If it is there already, or too many are.
    pub fn add_secret(&mut self, secret: Secret) -> Result<(), SourceError> {
        let fingerprint = secret.fingerprint();
        if self
            .secrets
            .iter()
            .any(|other| other.fingerprint() == fingerprint)
        {
            return Err(SourceError::SecretTwice(fingerprint));
        }
        if self.secrets.len() == MAX_SECRETS {
            return Err(SourceError::SecretCount(MAX_SECRETS + 1));
        }
        self.secrets.push(secret);
        Ok(())
    }

    /// Takes a secret back. The last one stays: a source without any takes nothing, and is removed instead.
    ///
    /// # Errors
    /// If it is not there, or is the last.
    pub fn retire_secret(&mut self, fingerprint: Fingerprint) -> Result<(), SourceError> {
        let place = self
            .secrets
            .iter()
            .position(|secret| secret.fingerprint() == fingerprint)
            .ok_or(SourceError::NoSuchSecret(fingerprint))?;
        if self.secrets.len() == 1 {
            return Err(SourceError::SecretCount(0));
        }
        self.secrets.remove(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0123456789abcdef0123";
    const SECOND: &str = "another-secret-of-some-length";

    #[test]
    fn a_file_says_what_it_said() {
        let text = format!(
            "provider = \"gitea\"\nlog = \"builds\"\nhost = \"git.example:3000\"\nsecrets = [\"{FIRST}\", \"{SECOND}\"]\n"
        );
        let source = Source::parse(&text).unwrap();
        assert_eq!(
            (source.provider, source.log.as_str()),
            (Provider::Gitea, "builds")
        );
        assert_eq!(source.host, "git.example:3000");
        assert_eq!(source.secrets().len(), 2);
        assert_eq!(*source.to_toml(), text);
    }

    #[test]
    fn what_is_left_out_is_the_usual() {
        let source = Source::parse(&format!("provider = \"github\"\nsecrets = [\"{FIRST}\"]")).unwrap();
        assert_eq!(
            (source.log.as_str(), source.host.as_str()),
            ("main", "github.com")
        );
        let empty = format!("provider = \"github\"\nhost = \"\"\nsecrets = [\"{FIRST}\"]");
        assert_eq!(Source::parse(&empty).unwrap().host, "github.com");
        let forgejo = Source::parse(&format!("provider = \"forgejo\"\nsecrets = [\"{FIRST}\"]")).unwrap();
        assert_eq!((forgejo.provider, forgejo.host.as_str()), (Provider::Gitea, ""));
    }

    #[test]
    fn a_wrong_file_is_told_without_its_secrets() {
        for (text, expected) in [
            ("", "missing field `provider`"),
            (
                "provider = \"svn\"\nsecrets = [\"SECRET\"]",
                "unknown variant `svn`",
            ),
            (
                "provider = \"github\"\nsecret = \"SECRET\"",
                "unknown field `secret`",
            ),
            ("provider = \"github\"\nsecrets = []", "1 to 8 secrets, and not 0"),
            (
                "provider = \"github\"\nsecrets = [\"SECRET\"]",
                "secret number 1: a secret has 16",
            ),
            (
                "provider = \"github\"\nhost = \"https://x\"\nsecrets = [\"0123456789abcdef\"]",
                "the host is a name",
            ),
            (
                "provider = \"github\"\nsecrets = [\"0123456789abcdef\", \"0123456789abcdef\"]",
                "already",
            ),
            ("provider = \"github\"\nsecrets = [SECRET]", ""),
        ] {
            let told = Source::parse(text).unwrap_err().to_string();
            assert!(told.contains(expected), "{told:?} lacks {expected:?}");
            assert!(
                !told.contains("SECRET") && !told.contains("0123456789abcdef"),
                "{told}"
            );
        }
    }

    #[test]
    fn rotation_keeps_one_secret_at_least() {
        let mut source = Source::parse(&format!("provider = \"github\"\nsecrets = [\"{FIRST}\"]")).unwrap();
        let first = source.secrets()[0].fingerprint();
        assert_eq!(source.retire_secret(first), Err(SourceError::SecretCount(0)));
        source.add_secret(SECOND.parse().unwrap()).unwrap();
        assert_eq!(
            source.add_secret(FIRST.parse().unwrap()),
            Err(SourceError::SecretTwice(first))
        );
        source.retire_secret(first).unwrap();
        assert_eq!(source.secrets()[0].reveal(), SECOND);
        assert_eq!(source.retire_secret(first), Err(SourceError::NoSuchSecret(first)));
    }
}
