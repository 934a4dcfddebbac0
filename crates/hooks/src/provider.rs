use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Whose webhooks a source takes. It is bound to the source, and never guessed from a request: Gitea sends GitHub's headers
/// too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// GitHub, in the cloud or Enterprise Server.
    GitHub,
    /// GitLab, in the cloud or self-managed.
    GitLab,
    /// Gitea or Forgejo.
    #[serde(alias = "forgejo")]
    Gitea,
}

/// A word that is no provider's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no provider; there are `github`, `gitlab` and `gitea`, which `forgejo` means too")]
pub struct UnknownProvider(String);

impl Provider {
    /// As files and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
        }
    }

    /// The name that people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
            Self::Gitea => "Gitea",
        }
    }

    /// Where it runs if nobody says otherwise. Gitea runs nowhere in particular.
    pub fn default_host(self) -> Option<&'static str> {
        match self {
            Self::GitHub => Some("github.com"),
            Self::GitLab => Some("gitlab.com"),
            Self::Gitea => None,
        }
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(word: &str) -> Result<Self, UnknownProvider> {
        match word {
            "github" => Ok(Self::GitHub),
            "gitlab" => Ok(Self::GitLab),
            "gitea" | "forgejo" => Ok(Self::Gitea),
            _ => Err(UnknownProvider(word.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
