//! The two events of a command, as normalised events: what they say is in `docs/CI.md`.

use std::path::Path;

use counterfoil_event::{
    Event, EventParts,
    normal::{self, Actor, Artifact, EventType, Integer, NormalEvent, Outcome, Process, Text, Time},
};
use jiff::Timestamp;

use super::{
    Arguments, artifacts,
    process::{Ended, Ending},
};
use crate::{
    commands::submit::random_id,
    environment::{Environment, Provider},
    failure::Failure,
    recording::claim,
};

/// The type whose end is named by its outcome.
const DEPLOY: &str = "deploy";
const STARTED: &str = "started";

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

impl Job {
    pub(super) fn new(arguments: &Arguments, environment: Environment) -> Result<Self, Failure> {
        artifacts::check(&arguments.artifacts)?;
        // The end's may be wrong where the start's is not, and after the command it is too late to say so.
        let [succeeded, failed] = end_phases(&arguments.event_type);
        for phase in [STARTED, succeeded, failed] {
            typed(&arguments.event_type, phase)?;
        }
        let source = arguments.source.clone().or_else(|| environment.source.clone());
        let source = source.ok_or_else(|| {
            Failure::usage("no CI system says who records this").hint("give --source, by convention a URI")
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
        self.event(STARTED, Outcome::Unknown, now, vec![], self.process())
    }

    pub(super) fn ended(
        &self,
        ended: &Ended,
        artifacts: Vec<Artifact>,
        now: Timestamp,
    ) -> Result<Event, Failure> {
        let outcome = outcome(ended);
        let [succeeded, failed] = end_phases(&self.event_type);
        let phase = match outcome {
            Outcome::Success => succeeded,
            _ => failed,
        };
        let mut process = self.process();
        process.duration_ms = u64::try_from(ended.duration.as_millis())
            .ok()
            .and_then(Integer::new);
        match ended.ending {
            Ending::Exited(code) => process.exit_code = Some(u32::from(code).into()),
            Ending::Killed(signal) => process.signal = Some(u32::from(signal).into()),
            Ending::NotStarted(_) => process.started = Some(false),
            Ending::Unknown(_) => {}
        }
        self.event(phase, outcome, now, artifacts, process)
    }

    fn process(&self) -> Process {
        Process {
            id: Text::cut(&self.id),
            name: Text::cut(&self.name),
            ..Process::default()
        }
    }

    fn event(
        &self,
        phase: &str,
        outcome: Outcome,
        now: Timestamp,
        artifacts: Vec<Artifact>,
        process: Process,
    ) -> Result<Event, Failure> {
        let event_type = typed(&self.event_type, phase)?;
        let id = format!("{}/{phase}", self.id);
        let time = claim(now);
        let mut payload = NormalEvent::new(
            Text::try_from(&*id).expect("hex and a phase are a text"),
            event_type.clone(),
        );
        payload.outcome = outcome;
        payload.occurred_at = Time::try_from(&*time).ok();
        payload.artifacts = artifacts;
        payload.process = process;
        self.describe(&mut payload);
        Event::try_from(EventParts {
            id,
            source: self.source.clone(),
            event_type: event_type.to_string(),
            subject: self.subject.clone(),
            time,
            data_content_type: normal::MEDIA_TYPE.to_owned(),
            data: payload.into_json().into(),
            extensions: vec![],
        })
        .map_err(|invalid| Failure::usage(invalid.to_string()))
    }

    /// What the CI system says.
    fn describe(&self, event: &mut NormalEvent) {
        let environment = &self.environment;
        let text = |value: &Option<String>| value.as_deref().and_then(Text::cut);
        let number = |value: Option<u64>| value.and_then(Integer::new);
        event.source.provider = environment.provider.map(Provider::as_str).and_then(Text::cut);
        event.source.host = text(&environment.host);
        event.source.native_event = text(&environment.trigger);
        event.actor = Actor {
            id: text(&environment.actor_id),
            login: text(&environment.actor),
            ..Actor::default()
        };
        event.triggering_actor.login = text(&environment.triggering_actor);
        event.repo.id = text(&environment.repository_id);
        event.repo.full_name = text(&environment.repository);
        event.reference.name = text(&environment.reference);
        event.reference.protected = environment.reference_protected;
        event.commit = text(&environment.commit);
        event.change.number = number(environment.change);
        event.run.id = text(&environment.run_id);
        event.run.number = number(environment.run_number);
        event.run.attempt = number(environment.run_attempt);
        event.run.workflow_id = text(&environment.workflow_id);
        event.run.path = text(&environment.workflow);
        event.job.id = text(&environment.job_id);
        event.job.name = text(&environment.job);
        event.job.runner = text(&environment.runner);
        event.deployment.environment = text(&self.deployment_environment);
    }
}

/// What the end is called after success, and after anything else.
fn end_phases(event_type: &str) -> [&'static str; 2] {
    match event_type {
        DEPLOY => ["succeeded", "failed"],
        _ => ["finished"; 2],
    }
}

/// The type of one of the two events.
fn typed(event_type: &str, phase: &str) -> Result<EventType, Failure> {
    let event_type = format!("{event_type}.{phase}");
    event_type
        .parse()
        .map_err(|problem| Failure::usage(format!("the type {event_type:?} {problem}")))
}

fn outcome(ended: &Ended) -> Outcome {
    match ended.ending {
        Ending::Exited(0) => Outcome::Success,
        Ending::Exited(_) | Ending::Killed(_) if ended.cancelled => Outcome::Cancelled,
        Ending::Exited(_) => Outcome::Failure,
        // It could not be run, a signal ended it that nobody sent by way of us, or nobody knows.
        Ending::Killed(_) | Ending::NotStarted(_) | Ending::Unknown(_) => Outcome::Error,
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use serde_json::{Value, json};

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
        assert_eq!(event.data_content_type(), normal::MEDIA_TYPE);
        let payload: Value = serde_json::from_slice(event.data()).unwrap();
        let expected = json!({
            "id": "0a1b/started",
            "type": "ci.job.started",
            "outcome": "unknown",
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
                "ci.job",
                Ending::Unknown(io::ErrorKind::Other.into()),
                false,
                "ci.job.finished",
                "error",
                json!({"exit_code": null, "started": null}),
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
                .ended(&ended(ending, cancelled), vec![], now())
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
        assert!(job("ci.jbo").started(now()).is_err());
        job("build").started(now()).unwrap();
    }
}
