//! What a CI system tells a job about itself: repository, commit, run and actor, from the variables that its documentation
//! promises.
//!
//! Whatever a job can set it can also forge: these are claims by the job, recorded as such. Who submitted them is what the
//! log's own record of the credential says.

mod providers;
#[cfg(test)]
mod tests;

use std::env;

/// Longest value that is taken over; a longer one is no name, number or URL.
const MAX_VALUE_BYTES: usize = 1024;

/// A CI system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    GitHub,
    /// Forgejo too.
    Gitea,
    GitLab,
    Jenkins,
    CircleCi,
    Buildkite,
    Azure,
}

/// What is known of the job at hand. Nothing is made up: what a system does not say is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Environment {
    pub(crate) provider: Option<Provider>,
    /// The host name of the code host or, without one, of the CI system.
    pub(crate) host: Option<String>,
    /// The pipeline as a URI: the `source` of its events.
    pub(crate) source: Option<String>,
    /// What triggered the run, in the provider's word.
    pub(crate) trigger: Option<String>,
    pub(crate) repository_id: Option<String>,
    /// Such as `acme/widgets`.
    pub(crate) repository: Option<String>,
    /// The full name, such as `refs/heads/main`; as given where the kind is not known.
    pub(crate) reference: Option<String>,
    pub(crate) reference_protected: Option<bool>,
    pub(crate) commit: Option<String>,
    /// The number of the pull or merge request.
    pub(crate) change: Option<u64>,
    pub(crate) run_id: Option<String>,
    pub(crate) run_number: Option<u64>,
    /// From 1.
    pub(crate) run_attempt: Option<u64>,
    pub(crate) workflow_id: Option<String>,
    /// The workflow's file, or the pipeline's name.
    pub(crate) workflow: Option<String>,
    pub(crate) job_id: Option<String>,
    /// What the pipeline calls the job.
    pub(crate) job: Option<String>,
    pub(crate) runner: Option<String>,
    pub(crate) actor_id: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) triggering_actor: Option<String>,
    /// Where a deployment job deploys to.
    pub(crate) deployment_environment: Option<String>,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// The environment that the variables tell of; empty outside of a known CI system.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variables = Variables(&variable);
        Provider::ALL
            .into_iter()
            .find(|provider| provider.is_there(&variables))
            .map_or_else(Self::default, |provider| provider.read(&variables))
    }
}

/// The variables of a process, as far as they say something.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// A value, if there is one, of a sensible length and without control characters.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| {
            !value.is_empty() && value.len() <= MAX_VALUE_BYTES && !value.chars().any(char::is_control)
        })
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match &*self.text(name)?.to_ascii_lowercase() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A URL without what may be a password in it, and without query.
    fn url(&self, name: &str) -> Option<String> {
        let url = self.text(name)?;
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit('@').next().unwrap_or_default();
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Some(format!("{scheme}://{host}{}", path.trim_end_matches('/')))
    }
}

/// The host of a URL, without user and port.
fn host(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    Some(host.to_owned()).filter(|host| !host.is_empty())
}

/// Host and path of a repository, from the address that it is cloned by: a URL, or `user@host:path`. User names,
/// passwords and tokens in it are left out.
fn repository(address: &str) -> Option<(String, String)> {
    let (host, path) = if address.contains("://") {
        let path = address.split_once("://")?.1.split_once('/')?.1;
        (self::host(address)?, path)
    } else {
        let (login, path) = address.split_once(':')?;
        (login.rsplit('@').next()?.to_owned(), path)
    };
    let path = path.split(['?', '#']).next()?.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (!host.is_empty() && !path.is_empty()).then(|| (host, path.to_owned()))
}

/// The full name of a branch or a tag.
fn branch_or_tag(branch: Option<String>, tag: Option<String>) -> Option<String> {
    match (tag, branch) {
        (Some(tag), _) => Some(format!("refs/tags/{tag}")),
        (None, Some(branch)) => Some(format!("refs/heads/{branch}")),
        (None, None) => None,
    }
}
