//! What to enter at a provider, in the words of its own pages.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
};

use counterfoil_event::SourceId;
use counterfoil_hooks::{Fingerprint, Provider, Secret};
use counterfoil_note::VerifierKey;
use zeroize::Zeroizing;

use super::target::Target;

/// The secret to enter.
pub(super) enum Key {
    /// Made now, and shown this once. Those before it count too.
    New {
        secret: Secret,
        before: Vec<Fingerprint>,
    },
    /// Made before.
    There {
        fingerprint: Fingerprint,
        /// Whether it is a signing key, and no token.
        signs: bool,
    },
}

/// All that there is to enter.
pub(super) struct Form {
    pub(super) provider: Provider,
    /// Where the provider runs.
    pub(super) host: String,
    pub(super) target: Target,
    /// Where the server is reached.
    pub(super) server: String,
    /// Where deliveries go.
    pub(super) url: String,
    /// What verifies the log's heads.
    pub(super) log_key: VerifierKey,
    pub(super) key: Key,
    pub(super) id: SourceId,
    /// The source's file.
    pub(super) file: PathBuf,
}

/// An event: its label on GitHub's page, its name in the API.
type Event = (&'static str, &'static str);

/// In the order of the page.
const GITHUB_EVENTS: [Event; 17] = [
    ("Branch protection rules", "branch_protection_rule"),
    ("Check runs", "check_run"),
    ("Check suites", "check_suite"),
    ("Collaborator add, remove, or changed", "member"),
    ("Deploy keys", "deploy_key"),
    ("Deployment statuses", "deployment_status"),
    ("Deployments", "deployment"),
    ("Pull request reviews", "pull_request_review"),
    ("Pull requests", "pull_request"),
    ("Pushes", "push"),
    ("Registry packages", "registry_package"),
    ("Releases", "release"),
    ("Repositories", "repository"),
    ("Repository rulesets", "repository_ruleset"),
    ("Secret scanning alerts", "secret_scanning_alert"),
    ("Workflow jobs", "workflow_job"),
    ("Workflow runs", "workflow_run"),
];
/// What organizations have beside these.
const GITHUB_ORGANIZATION_EVENTS: [Event; 2] = [("Memberships", "membership"), ("Teams", "team")];
/// What repositories have beside these.
const GITHUB_REPOSITORY_EVENTS: [Event; 1] = [("Team adds", "team_add")];

const GITLAB_EVENTS: [Event; 7] = [
    ("Push events", "push_events"),
    ("Tag push events", "tag_push_events"),
    ("Merge request events", "merge_requests_events"),
    ("Job events", "job_events"),
    ("Pipeline events", "pipeline_events"),
    ("Deployment events", "deployment_events"),
    ("Releases events", "releases_events"),
];
/// What groups have beside these.
const GITLAB_GROUP_EVENTS: [Event; 3] = [
    ("Member events", "member_events"),
    ("Project events", "project_events"),
    ("Subgroup events", "subgroup_events"),
];

impl Form {
    /// Prints it on standard output.
    pub(super) fn print(&self) -> io::Result<()> {
        // As one piece, which is wiped.
        let text = self.text();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn text(&self) -> Zeroizing<String> {
        // Room for all of it: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
        self.write(&mut text).expect("a String takes all that is written");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let title = self.provider.title();
        writeln!(text, "At {title}, as an administrator of {}, open\n", self.target)?;
        match &self.key {
            Key::New { before, .. } if !before.is_empty() => self.write_change(text)?,
            _ => self.write_webhook(text)?,
        }
        match &self.key {
            Key::New { before, .. } => {
                let file = self.file.display();
                writeln!(
                    text,
                    "\nThe secret is shown this once. It stays in {file}, which only its owner can read."
                )?;
                let data = self.file.ancestors().nth(2).unwrap_or(&self.file).display();
                for old in before {
                    writeln!(
                        text,
                        "Once {title} has it, retire the one before: counterfoild source retire {} {old} --data {data}",
                        self.id
                    )?;
                }
            }
            Key::There { .. } => writeln!(
                text,
                "\nThe source `{}` was there before, and its secret is not shown again. For a new one add --rotate; for another repository\nchoose another name with --source.",
                self.id
            )?,
        }
        text.push('\n');
        Ok(())
    }

    /// A webhook that is to be made, or looked up.
    fn write_webhook(&self, text: &mut String) -> std::fmt::Result {
        let (new, button) = match self.provider {
            Provider::GitHub => ("/new", "Add webhook"),
            Provider::GitLab => ("", "Add webhook"),
            Provider::Gitea => ("/gitea/new", "Add Webhook"),
        };
        writeln!(text, "  {}{new}\n\nand enter\n", self.webhooks())?;
        for (label, value) in self.fields() {
            writeln!(text, "  {label:<19}  {}", *value)?;
        }
        self.write_events(text)?;
        writeln!(text, "\nthen press {button}.")?;
        self.write_command(text)
    }

    /// A webhook that is there, and gets another secret.
    fn write_change(&self, text: &mut String) -> std::fmt::Result {
        let (label, button) = match self.provider {
            Provider::GitHub => ("Secret", "Update webhook"),
            Provider::GitLab => (self.gitlab_secret().0, "Save changes"),
            Provider::Gitea => ("Secret", "Update Webhook"),
        };
        writeln!(
            text,
            "  {}\n\nedit the webhook of {}, enter\n",
            self.webhooks(),
            self.url
        )?;
        for (label, value) in self.fields().iter().filter(|(other, _)| *other == label) {
            writeln!(text, "  {label:<19}  {}", **value)?;
        }
        writeln!(text, "\nand press {button}.")
    }

    /// The page of the target's webhooks.
    fn webhooks(&self) -> String {
        let (host, target) = (&self.host, &self.target);
        match (self.provider, target) {
            (Provider::GitHub, Target::Many(_)) => {
                format!("https://{host}/organizations/{target}/settings/hooks")
            }
            (Provider::GitLab, Target::Many(_)) => format!("https://{host}/groups/{target}/-/hooks"),
            (Provider::GitLab, Target::One(_)) => format!("https://{host}/{target}/-/hooks"),
            (Provider::Gitea, Target::Many(_)) => format!("https://{host}/org/{target}/settings/hooks"),
            (Provider::GitHub | Provider::Gitea, Target::One(_)) => {
                format!("https://{host}/{target}/settings/hooks")
            }
        }
    }

    fn fields(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let secret = match &self.key {
            Key::New { secret, .. } => text(secret.reveal()),
            Key::There { fingerprint, .. } => {
                Zeroizing::new(format!("the one that was shown when it was made ({fingerprint})"))
            }
        };
        match self.provider {
            Provider::GitHub => vec![
                ("Payload URL", text(&self.url)),
                ("Content type", text("application/json")),
                ("Secret", secret),
                ("SSL verification", text("Enable SSL verification")),
            ],
            Provider::GitLab => vec![
                ("URL", text(&self.url)),
                (self.gitlab_secret().0, secret),
                ("SSL verification", text("Enable SSL verification")),
            ],
            Provider::Gitea => vec![
                ("Target URL", text(&self.url)),
                ("HTTP Method", text("POST")),
                ("POST Content Type", text("application/json")),
                ("Secret", secret),
                ("Trigger On", text("All Events")),
                ("Active", text("yes")),
            ],
        }
    }

    /// The field for the secret, in the form and in the API.
    fn gitlab_secret(&self) -> Event {
        let signs = match &self.key {
            Key::New { secret, .. } => secret.is_signing_key(),
            Key::There { signs, .. } => *signs,
        };
        if signs {
            ("Signing token", "signing_token")
        } else {
            ("Secret token", "token")
        }
    }

    fn events(&self) -> Vec<Event> {
        let (common, more): (&[Event], &[Event]) = match (self.provider, &self.target) {
            (Provider::GitHub, Target::Many(_)) => (&GITHUB_EVENTS, &GITHUB_ORGANIZATION_EVENTS),
            (Provider::GitHub, Target::One(_)) => (&GITHUB_EVENTS, &GITHUB_REPOSITORY_EVENTS),
            (Provider::GitLab, Target::Many(_)) => (&GITLAB_EVENTS, &GITLAB_GROUP_EVENTS),
            (Provider::GitLab, Target::One(_)) => (&GITLAB_EVENTS, &[]),
            (Provider::Gitea, _) => (&[], &[]),
        };
        let mut events = [common, more].concat();
        if self.provider == Provider::GitHub {
            events.sort_unstable();
        }
        events
    }

    fn write_events(&self, text: &mut String) -> std::fmt::Result {
        match self.provider {
            Provider::GitHub => {
                writeln!(text, "  Which events would you like to trigger this webhook?")?;
                writeln!(text, "{:23}Let me select individual events.", "")?;
            }
            Provider::GitLab => writeln!(text, "  {:<19}  check these:", "Trigger")?,
            Provider::Gitea => {}
        }
        for (label, _) in self.events() {
            writeln!(text, "{:25}{label}", "")?;
        }
        match self.provider {
            Provider::GitHub => writeln!(
                text,
                "{:23}(Or \"Send me everything.\": whatever comes is recorded.)\n  {:<19}  yes",
                "", "Active"
            ),
            Provider::GitLab | Provider::Gitea => Ok(()),
        }
    }

    /// The same as a command line. The secret comes by standard input: a command's arguments are seen by all on the machine.
    fn write_command(&self, text: &mut String) -> std::fmt::Result {
        let (tool, command) = match self.provider {
            Provider::GitHub => ("GitHub's command line", self.gh()),
            Provider::GitLab => ("GitLab's command line", self.glab()),
            Provider::Gitea => ("its API and a token that may write hooks", self.curl()),
        };
        writeln!(
            text,
            "\nOr, with {tool}:\n\n  read -rs SECRET    # paste the secret and press Enter"
        )?;
        text.push_str(&command);
        Ok(())
    }

    fn gh(&self) -> String {
        let hooks = match &self.target {
            Target::Many(name) => format!("orgs/{name}/hooks"),
            Target::One(name) => format!("repos/{name}/hooks"),
        };
        let host = match self.provider.default_host() {
            Some(host) if host == self.host => String::new(),
            _ => format!(" --hostname '{}'", self.host),
        };
        let mut command = format!(
            "  printf %s \"$SECRET\" | gh api{host} --method POST '{hooks}' -f name=web -F active=true \\\n    -f 'config[url]={}' -f 'config[content_type]=json' -F 'config[secret]=@-'",
            self.url
        );
        for (_, name) in self.events() {
            command += &format!(" \\\n    -f 'events[]={name}'");
        }
        command + "\n"
    }

    fn glab(&self) -> String {
        let hooks = match &self.target {
            Target::Many(name) => format!("groups/{}/hooks", name.replace('/', "%2F")),
            Target::One(name) => format!("projects/{}/hooks", name.replace('/', "%2F")),
        };
        let host = match self.provider.default_host() {
            Some(host) if host == self.host => String::new(),
            _ => format!(" --hostname '{}'", self.host),
        };
        let mut command = format!(
            "  printf %s \"$SECRET\" | glab api{host} --method POST '{hooks}' \\\n    -f 'url={}' -F enable_ssl_verification=true -F '{}=@-'",
            self.url,
            self.gitlab_secret().1
        );
        for (_, name) in self.events() {
            command += &format!(" \\\n    -F {name}=true");
        }
        command + "\n"
    }

    fn curl(&self) -> String {
        let hooks = match &self.target {
            Target::Many(name) => format!("orgs/{name}/hooks"),
            Target::One(name) => format!("repos/{name}/hooks"),
        };
        let events = [
            "create",
            "delete",
            "push",
            "pull_request",
            "pull_request_review_approved",
            "pull_request_review_rejected",
            "release",
            "repository",
            "package",
            "workflow_run",
            "workflow_job",
        ];
        format!(
            "  printf '{{\"type\":\"gitea\",\"active\":true,\"events\":[\"{}\"],\"config\":{{\"url\":\"{}\",\"content_type\":\"json\",\"secret\":\"%s\"}}}}' \\\n    \"$SECRET\" | curl --fail -H 'content-type: application/json' -H \"authorization: token $GITEA_TOKEN\" --data-binary @- \\\n    'https://{}/api/v1/{hooks}'\n",
            events.join("\",\""),
            self.url,
            self.host
        )
    }

    /// How to have the provider deliver something, and what it shows of that.
    pub(super) fn how_to_test(&self) -> &'static str {
        match self.provider {
            Provider::GitHub => {
                "GitHub sends a ping when the webhook is made; the webhook's page has it under Recent Deliveries, where Redeliver sends it again"
            }
            Provider::GitLab => {
                "GitLab sends something with Test, Push events, beside the webhook; Edit shows what was answered, under Recent events"
            }
            Provider::Gitea => {
                "Gitea sends something with Test Delivery, at the foot of the webhook's page, and shows there what was answered"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(provider: Provider, target: Target, key: Key) -> Form {
        Form {
            provider,
            host: provider.default_host().unwrap_or("git.example.com").to_owned(),
            target,
            server: "https://log.example.com".to_owned(),
            url: "https://log.example.com/hooks/ci".to_owned(),
            log_key:
                "log.example.com/builds+db96ec8e+/2NvdW50ZXJmb2lsL3RpbWVzdGFtcGVkLWhlYWQvdjEvYmxha2UzM9cHQf3bMKGZWwTUX27FiJJB+XCLO85JANB7gMcJf0M="
                    .parse()
                    .unwrap(),
            key,
            id: "ci".parse().unwrap(),
            file: "data/sources/ci.toml".into(),
        }
    }

    fn new_key(provider: Provider) -> Key {
        let secret = Secret::generate(provider).unwrap();
        Key::New {
            secret,
            before: Vec::new(),
        }
    }

    fn repository() -> Target {
        Target::One("acme/widgets".to_owned())
    }

    #[test]
    fn a_secret_is_shown_once_and_in_no_command() {
        for provider in [Provider::GitHub, Provider::GitLab, Provider::Gitea] {
            let Key::New { secret, before } = new_key(provider) else {
                unreachable!()
            };
            let shown = secret.clone();
            let text = form(provider, repository(), Key::New { secret, before }).text();
            assert_eq!(text.matches(shown.reveal()).count(), 1, "{}", *text);
            let fingerprint = shown.fingerprint();
            let text = form(
                provider,
                repository(),
                Key::There {
                    fingerprint,
                    signs: false,
                },
            )
            .text();
            assert!(!text.contains(shown.reveal()));
            assert!(text.contains(&fingerprint.to_string()));
        }
    }

    #[test]
    fn another_secret_is_for_the_webhook_that_is_there() {
        for (provider, page, button) in [
            (
                Provider::GitHub,
                "https://github.com/acme/widgets/settings/hooks\n",
                "Update webhook",
            ),
            (
                Provider::GitLab,
                "https://gitlab.com/acme/widgets/-/hooks\n",
                "Save changes",
            ),
            (
                Provider::Gitea,
                "https://git.example.com/acme/widgets/settings/hooks\n",
                "Update Webhook",
            ),
        ] {
            let [old, secret] = [(); 2].map(|()| Secret::generate(provider).unwrap());
            let shown = secret.clone();
            let before = vec![old.fingerprint()];
            let text = form(provider, repository(), Key::New { secret, before }).text();
            for part in [page, button, shown.reveal(), "https://log.example.com/hooks/ci"] {
                assert_eq!(text.matches(part).count(), 1, "{part}: {}", *text);
            }
            assert!(!text.contains("POST") && !text.contains("Add "), "{}", *text);
            assert!(
                text.contains(&format!("source retire ci {}", old.fingerprint())),
                "{}",
                *text
            );
        }
    }

    #[test]
    fn each_kind_of_target_has_its_page_its_path_and_its_events() {
        let text = |provider, target| form(provider, target, new_key(provider)).text().to_string();
        let organization = || Target::Many("acme".to_owned());
        let of_repository = text(Provider::GitHub, repository());
        for part in [
            "https://github.com/acme/widgets/settings/hooks/new",
            "Payload URL          https://log.example.com/hooks/ci\n",
            "Content type         application/json\n",
            "gh api --method POST 'repos/acme/widgets/hooks'",
            "Team adds\n",
            "-f 'events[]=team_add'",
        ] {
            assert!(of_repository.contains(part), "{part}: {of_repository}");
        }
        let of_organization = text(Provider::GitHub, organization());
        for part in [
            "https://github.com/organizations/acme/settings/hooks/new",
            "gh api --method POST 'orgs/acme/hooks'",
            "Memberships\n",
            "Teams\n",
        ] {
            assert!(of_organization.contains(part), "{part}: {of_organization}");
        }
        // What is on the page is in the command.
        let events = of_organization.matches("events[]=").count();
        assert_eq!(events, GITHUB_EVENTS.len() + GITHUB_ORGANIZATION_EVENTS.len());

        let group = text(Provider::GitLab, Target::Many("acme/tools".to_owned()));
        for part in [
            "https://gitlab.com/groups/acme/tools/-/hooks",
            "groups/acme%2Ftools/hooks",
            "Signing token        whsec_",
            "Member events",
            "signing_token=@-",
        ] {
            assert!(group.contains(part), "{part}: {group}");
        }
        let token = Key::New {
            secret: Secret::generate_token().unwrap(),
            before: Vec::new(),
        };
        let plain = form(Provider::GitLab, repository(), token).text();
        assert!(
            plain.contains("Secret token ") && plain.contains(" -F 'token=@-'"),
            "{}",
            *plain
        );
        let gitea = text(Provider::Gitea, organization());
        assert!(
            gitea.contains("https://git.example.com/org/acme/settings/hooks/gitea/new")
                && gitea.contains("/api/v1/orgs/acme/hooks"),
            "{gitea}"
        );
    }
}
