//! The two events of a command, as normalised events: what they say is in `docs/CI.md`.

use std::path::{Path, PathBuf};

use counterfoil_event::{Event, EventParts};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Arguments,
    artifacts::{self, Artifact},
    process::{Ended, Ending},
};
use crate::{
    commands::submit::random_id,
    environment::{Environment, Provider},
    failure::Failure,
    output::printable,
    recording::claim,
};

/// The payload is the normalised event itself.
const MEDIA_TYPE: &str = "application/vnd.counterfoil.event+json";
/// The type whose end is named by its outcome.
const DEPLOY: &str = "deploy";

/// What both events have in common.
pub(super) struct Job {
    event_type: String,
    source: String,
    subject: String,
    name: String,
    deployment_environment: Option<String>,
    /// Random: it names the pair.
    id: String,
    environment: Environment,
}

/// How it went, in the vocabulary of the normalised event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    /// It could not be run, or a signal ended it that nobody sent by way of us.
    Error,
    Cancelled,
}

impl Job {
    pub(super) fn new(arguments: &Arguments, environment: Environment) -> Result<Self, Failure> {
        artifacts::check(&arguments.artifacts)?;
        let source = arguments.source.clone().or_else(|| environment.source.clone());
        let source = source.ok_or_else(|| {
            Failure::usage("no CI system says who records this").hint("give --source, by custom a URI")
        })?;
        let program = Path::new(&arguments.command[0]).file_name();
        let program = program.map(|name| name.to_string_lossy().into_owned());
        let subject = arguments
            .subject
            .clone()
            .or_else(|| environment.repository.clone());
        let deployed_to = arguments.environment.clone();
        Ok(Self {
            event_type: arguments.event_type.clone(),
            source,
            subject: subject.unwrap_or_default(),
            name: arguments.name.clone().or(program).unwrap_or_default(),
            deployment_environment: deployed_to.or_else(|| environment.deployment_environment.clone()),
            id: random_id()?,
            environment,
        })
    }

    pub(super) fn started(&self, now: Timestamp) -> Result<Event, Failure> {
        self.event(
            "started",
            None,
            now,
            &[],
            json!({ "id": self.id, "name": self.name }),
        )
    }

    pub(super) fn ended(&self, ended: &Ended, paths: &[PathBuf], now: Timestamp) -> Result<Event, Failure> {
        let outcome = Outcome::of(ended);
        let phase = match (&*self.event_type, outcome) {
            (DEPLOY, Outcome::Success) => "succeeded",
            (DEPLOY, _) => "failed",
            _ => "finished",
        };
        let (artifacts, missing) = artifacts::read(paths);
        for missing in missing {
            eprintln!("warning: no artifact {}", printable(&missing));
        }
        let mut process = json!({
            "id": self.id,
            "name": self.name,
            "duration_ms": u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
        });
        match ended.ending {
            Ending::Exited(code) => process["exit_code"] = code.into(),
            Ending::Killed(signal) => process["signal"] = signal.into(),
            Ending::NotStarted(_) => process["started"] = false.into(),
        }
        self.event(phase, Some(outcome), now, &artifacts, process)
    }

    fn event(
        &self,
        phase: &str,
        outcome: Option<Outcome>,
        now: Timestamp,
        artifacts: &[Artifact],
        process: Value,
    ) -> Result<Event, Failure> {
        let event_type = format!("{}.{phase}", self.event_type);
        let id = format!("{}/{phase}", self.id);
        let time = claim(now);
        let mut members = Members(Map::new());
        members.add("id", Some(id.as_str()));
        members.add("type", Some(event_type.as_str()));
        members.add("outcome", outcome.map(Outcome::as_str));
        members.add("occurred_at", Some(time.as_str()));
        self.describe(&mut members);
        let artifacts = artifacts
            .iter()
            .map(|artifact| json!({ "name": artifact.name, "digest": artifact.digest }));
        let artifacts: Vec<_> = artifacts.collect();
        members.add(
            "artifacts",
            Some(artifacts).filter(|artifacts| !artifacts.is_empty()),
        );
        members.add("process", Some(process));
        Event::try_from(EventParts {
            id,
            source: self.source.clone(),
            event_type,
            subject: self.subject.clone(),
            time,
            data_content_type: MEDIA_TYPE.to_owned(),
            data: Value::from(members.0).to_string().into(),
            extensions: vec![],
        })
        .map_err(|invalid| Failure::usage(invalid.to_string()))
    }

    /// What the CI system says, under the names of the normalised event.
    fn describe(&self, members: &mut Members) {
        let environment = &self.environment;
        members.group("source", |source| {
            source.add("provider", environment.provider.map(Provider::as_str));
            source.add("host", environment.host.as_deref());
            source.add("native_event", environment.trigger.as_deref());
        });
        members.group("actor", |actor| {
            actor.add("id", environment.actor_id.as_deref());
            actor.add("login", environment.actor.as_deref());
        });
        members.group("triggering_actor", |actor| {
            actor.add("login", environment.triggering_actor.as_deref());
        });
        members.group("repo", |repository| {
            repository.add("id", environment.repository_id.as_deref());
            repository.add("full_name", environment.repository.as_deref());
        });
        members.group("ref", |reference| {
            reference.add("name", environment.reference.as_deref());
            reference.add("protected", environment.reference_protected);
        });
        members.add("commit", environment.commit.as_deref());
        members.group("change", |change| change.add("number", environment.change));
        members.group("run", |run| {
            run.add("id", environment.run_id.as_deref());
            run.add("number", environment.run_number);
            run.add("attempt", environment.run_attempt);
            run.add("workflow_id", environment.workflow_id.as_deref());
            run.add("path", environment.workflow.as_deref());
        });
        members.group("job", |job| {
            job.add("id", environment.job_id.as_deref());
            job.add("name", environment.job.as_deref());
            job.add("runner", environment.runner.as_deref());
        });
        members.group("deployment", |deployment| {
            deployment.add("environment", self.deployment_environment.as_deref());
        });
    }
}

impl Outcome {
    fn of(ended: &Ended) -> Self {
        match ended.ending {
            Ending::Exited(0) => Self::Success,
            Ending::Exited(_) | Ending::Killed(_) if ended.cancelled => Self::Cancelled,
            Ending::Exited(_) => Self::Failure,
            Ending::Killed(_) | Ending::NotStarted(_) => Self::Error,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The members of a JSON object. What is not known is not there.
struct Members(Map<String, Value>);

impl Members {
    fn add(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    fn group(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        let mut group = Self(Map::new());
        fill(&mut group);
        self.add(name, Some(group.0).filter(|members| !members.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    fn job(event_type: &str) -> Job {
        let environment = Environment {
            provider: Some(Provider::GitHub),
            host: Some("github.com".to_owned()),
            repository: Some("acme/widgets".to_owned()),
            run_number: Some(42),
            actor: Some("octo".to_owned()),
            ..Environment::default()
        };
        Job {
            event_type: event_type.to_owned(),
            source: "https://github.com/acme/widgets".to_owned(),
            subject: "acme/widgets".to_owned(),
            name: "make".to_owned(),
            deployment_environment: Some("production".to_owned()),
            id: "0a1b".to_owned(),
            environment,
        }
    }

    fn ended(ending: Ending, cancelled: bool) -> Ended {
        Ended {
            ending,
            duration: Duration::from_millis(1500),
            cancelled,
        }
    }

    fn now() -> Timestamp {
        "2026-11-22T09:30:00.5Z".parse().unwrap()
    }

    #[test]
    fn the_start_says_what_is_known_and_nothing_else() {
        let event = job("ci.job").started(now()).unwrap();
        assert_eq!(
            (event.event_type(), event.id()),
            ("ci.job.started", "0a1b/started")
        );
        assert_eq!(event.subject(), Some("acme/widgets"));
        assert_eq!(event.time(), Some("2026-11-22T09:30:00.500Z"));
        assert_eq!(event.data_content_type(), MEDIA_TYPE);
        let payload: Value = serde_json::from_slice(event.data()).unwrap();
        let expected = json!({
            "id": "0a1b/started",
            "type": "ci.job.started",
            "occurred_at": "2026-11-22T09:30:00.500Z",
            "source": { "provider": "github", "host": "github.com" },
            "actor": { "login": "octo" },
            "repo": { "full_name": "acme/widgets" },
            "run": { "number": 42 },
            "deployment": { "environment": "production" },
            "process": { "id": "0a1b", "name": "make" },
        });
        assert_eq!(payload, expected);
    }

    #[test]
    fn the_end_says_how_it_went() {
        let killed = || Ending::Killed(9);
        let absent = || Ending::NotStarted(io::ErrorKind::NotFound.into());
        for (event_type, ending, cancelled, expected_type, outcome, process) in [
            (
                "ci.job",
                Ending::Exited(0),
                false,
                "ci.job.finished",
                "success",
                json!({"exit_code": 0}),
            ),
            // Asked to stop, it was done.
            (
                "ci.job",
                Ending::Exited(0),
                true,
                "ci.job.finished",
                "success",
                json!({"exit_code": 0}),
            ),
            (
                "ci.job",
                Ending::Exited(3),
                false,
                "ci.job.finished",
                "failure",
                json!({"exit_code": 3}),
            ),
            (
                "ci.job",
                Ending::Exited(3),
                true,
                "ci.job.finished",
                "cancelled",
                json!({"exit_code": 3}),
            ),
            (
                "ci.job",
                killed(),
                false,
                "ci.job.finished",
                "error",
                json!({"signal": 9}),
            ),
            (
                "ci.job",
                killed(),
                true,
                "ci.job.finished",
                "cancelled",
                json!({"signal": 9}),
            ),
            (
                "ci.job",
                absent(),
                false,
                "ci.job.finished",
                "error",
                json!({"started": false}),
            ),
            (
                "deploy",
                Ending::Exited(0),
                false,
                "deploy.succeeded",
                "success",
                json!({"exit_code": 0}),
            ),
            (
                "deploy",
                Ending::Exited(1),
                false,
                "deploy.failed",
                "failure",
                json!({"exit_code": 1}),
            ),
        ] {
            let event = job(event_type)
                .ended(&ended(ending, cancelled), &[], now())
                .unwrap();
            let payload: Value = serde_json::from_slice(event.data()).unwrap();
            assert_eq!(event.event_type(), expected_type);
            assert_eq!(payload["outcome"], outcome);
            assert_eq!(payload["process"]["duration_ms"], 1500);
            for (name, value) in process.as_object().unwrap() {
                assert_eq!(&payload["process"][name], value);
            }
            assert_eq!(payload.get("artifacts"), None);
        }
    }

    #[test]
    fn a_bad_type_is_refused_before_anything_runs() {
        assert!(job("ci job").started(now()).is_err());
        assert!(job("log").started(now()).is_err());
    }
}
