//! CDEvents out of normal forms: <https://github.com/cdevents/spec>, version 0.4.1.
//!
//! CDEvents have no actor, commit or reviewer, and no place for most of what a form says. So the whole form goes with each, as
//! `customData`. What has no CDEvent is none: nothing is made to look like something else.

use serde_json::{Map, Value, json};

use crate::normal::{Artifact, EventType, NormalEvent, Outcome, Text, Word};

/// The version of the specification.
const SPEC_VERSION: &str = "0.4.1";

/// The CloudEvent, in the JSON format, that carries the CDEvent of a normal form.
///
/// `source` is the event's own, `time` is when it is said to have happened, in RFC 3339. `None` if no CDEvent says what the form
/// says, or the form lacks what that CDEvent has to have.
pub fn from_normal(form: &NormalEvent, source: &str, time: &str) -> Option<Value> {
    let EventType::Word(word) = form.event_type else {
        return None;
    };
    let Subject {
        kind,
        version,
        id,
        content,
    } = subject(word, form, source)?;
    let event_type = format!("dev.cdevents.{kind}.{version}");
    let data = json!({
        "context": {
            "version": SPEC_VERSION,
            "id": form.id,
            "source": source,
            "type": event_type,
            "timestamp": time,
        },
        "subject": {
            "id": id,
            "source": source,
            "type": subject_type(kind),
            "content": content,
        },
        "customData": form,
        "customDataContentType": "application/json",
    });
    Some(envelope(&form.id, source, &event_type, time, &data))
}

/// The CloudEvent that carries a CDEvent which is there already.
pub fn envelope(id: &str, source: &str, event_type: &str, time: &str, cdevent: &Value) -> Value {
    let mut event = json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": event_type,
        "datacontenttype": "application/json",
        "data": cdevent,
    });
    if !time.is_empty() {
        event["time"] = time.into();
    }
    event
}

struct Subject {
    /// Subject and predicate, as the event's type has them.
    kind: &'static str,
    /// Of the event's schema.
    version: &'static str,
    id: Text,
    content: Members,
}

/// The members of a subject's content.
type Members = Map<String, Value>;

fn subject(word: Word, form: &NormalEvent, source: &str) -> Option<Subject> {
    let (run, job) = (form.run.id.clone(), form.job.id.clone());
    let (kind, version, id, content) = match word {
        Word::RunQueued => ("pipelinerun.queued", "0.2.0", run?, pipeline(form)),
        Word::RunStarted => ("pipelinerun.started", "0.2.0", run?, started(form, source)?),
        Word::RunFinished => (
            "pipelinerun.finished",
            "0.2.0",
            run?,
            finished(form, pipeline(form)),
        ),
        Word::JobStarted => ("taskrun.started", "0.2.0", job?, task(form)),
        Word::JobFinished => ("taskrun.finished", "0.2.0", job?, finished(form, task(form))),
        Word::ChangeOpened => ("change.created", "0.3.0", change(form)?, of_repository(form)),
        Word::ChangeUpdated => ("change.updated", "0.2.0", change(form)?, of_repository(form)),
        Word::ReviewSubmitted => ("change.reviewed", "0.2.0", change(form)?, of_repository(form)),
        Word::ChangeMerged => ("change.merged", "0.2.0", change(form)?, of_repository(form)),
        Word::ChangeClosed => ("change.abandoned", "0.2.0", change(form)?, of_repository(form)),
        Word::ArtifactPublished => ("artifact.published", "0.2.0", package(form)?, Members::new()),
        Word::DeploySucceeded => ("service.deployed", "0.2.0", service(form)?, deployment(form)?),
        Word::DeployRolledback => ("service.rolledback", "0.2.0", service(form)?, deployment(form)?),
        _ => return None,
    };
    Some(Subject {
        kind,
        version,
        id,
        content,
    })
}

fn subject_type(kind: &str) -> &'static str {
    match kind.split('.').next().unwrap_or_default() {
        "pipelinerun" => "pipelineRun",
        "taskrun" => "taskRun",
        "change" => "change",
        "artifact" => "artifact",
        _ => "service",
    }
}

/// Adds a member that is known.
fn add(members: &mut Members, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}

fn text(text: Option<&Text>) -> Option<String> {
    text.map(ToString::to_string)
}

fn pipeline(form: &NormalEvent) -> Members {
    let mut content = Members::new();
    add(&mut content, "pipelineName", text(form.run.path.as_ref()));
    content
}

/// The one that has to say where to look.
fn started(form: &NormalEvent, source: &str) -> Option<Members> {
    form.run.path.as_ref()?;
    let mut content = pipeline(form);
    content.insert(
        "url".to_owned(),
        run_url(form).unwrap_or_else(|| source.to_owned()).into(),
    );
    Some(content)
}

/// Where the providers show a run.
fn run_url(form: &NormalEvent) -> Option<String> {
    let (host, repository, run) = (
        form.source.host.as_ref()?,
        form.repo.full_name.as_ref()?,
        form.run.id.as_ref()?,
    );
    let path = match form.source.provider.as_deref()? {
        "github" => "actions/runs",
        "gitlab" => "-/pipelines",
        _ => return None,
    };
    Some(format!("https://{host}/{repository}/{path}/{run}"))
}

fn task(form: &NormalEvent) -> Members {
    let mut content = Members::new();
    add(&mut content, "taskName", text(form.job.name.as_ref()));
    add(
        &mut content,
        "pipelineRun",
        form.run.id.as_ref().map(|id| json!({ "id": id })),
    );
    content
}

/// The specification has three words for how something ended.
fn finished(form: &NormalEvent, mut content: Members) -> Members {
    let outcome = match form.outcome {
        Outcome::Success => Some("success"),
        Outcome::Failure => Some("failure"),
        Outcome::Error | Outcome::Cancelled => Some("error"),
        Outcome::Skipped | Outcome::Denied | Outcome::Unknown => None,
    };
    add(&mut content, "outcome", outcome);
    content
}

/// A change is called by its number, or else by its commit.
fn change(form: &NormalEvent) -> Option<Text> {
    let number = form.change.number.map(|number| number.get().to_string());
    number
        .and_then(|number| Text::cut(&number))
        .or_else(|| form.change.head_sha.clone())
}

fn of_repository(form: &NormalEvent) -> Members {
    let mut content = Members::new();
    let repository = form.repo.full_name.as_ref().or(form.repo.id.as_ref());
    add(
        &mut content,
        "repository",
        repository.map(|id| json!({ "id": id })),
    );
    content
}

/// A package URL, which CDEvents call artifacts by.
fn purl(artifact: &Artifact) -> Option<Text> {
    artifact.purl.clone()
}

fn package(form: &NormalEvent) -> Option<Text> {
    form.artifacts.iter().find_map(purl)
}

fn service(form: &NormalEvent) -> Option<Text> {
    form.repo.full_name.clone().or_else(|| form.deployment.id.clone())
}

fn deployment(form: &NormalEvent) -> Option<Members> {
    let mut content = Members::new();
    let environment = form.deployment.environment.as_ref()?;
    content.insert("environment".to_owned(), json!({ "id": environment }));
    // The specification wants one.
    let artifact = package(form).or_else(|| {
        let (name, commit) = (form.repo.full_name.as_ref()?, form.commit.as_ref()?);
        Text::cut(&format!("pkg:generic/{name}@{commit}"))
    });
    add(&mut content, "artifactId", Some(artifact?.to_string()));
    Some(content)
}
