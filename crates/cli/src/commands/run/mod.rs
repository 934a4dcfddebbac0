//! `counterfoil run`

mod artifacts;
mod job;
mod process;

use std::{ffi::OsString, fmt::Display, path::PathBuf, process::ExitCode};

use clap::Args;
use counterfoil_event::Event;
use jiff::Timestamp;

use self::{
    job::Job,
    process::{EndSignals, Ended, Ending},
};
use super::evidence;
use crate::{
    environment::Environment,
    failure::{Exit, Failure},
    options::Common,
    output::{self, Output, say},
    recording::{Keep, Recorded, Recorder, RecordingOptions},
};

/// Run a command, and record its start and its end: outcome, duration, exit code, artifacts
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil run --type ci.job --artifact dist/widgets.tar.gz -- make dist
  counterfoil run --type deploy --environment production --name rollout -- ./deploy.sh

Repository, commit, ref, run and actor come from the variables of GitHub Actions, GitLab CI, Jenkins, CircleCI, Buildkite and
Azure Pipelines. The command's arguments and output are not recorded: they may hold secrets. Two events are recorded,
TYPE.started and TYPE.finished; for `deploy`, deploy.started and deploy.succeeded or deploy.failed.

The exit code is the command's: 128 and the signal's number if a signal ended it, 127 if there is no such command, 126 if it
can't be run. A log that is away, denies the credential or misbehaves does not change it: the events are queued, and standard
error says so. With --require-receipt the command is run only once its start is on record, and if only its end can't be
recorded, the exit code is that of `counterfoil submit`.")]
pub(crate) struct Arguments {
    /// What kind of thing the command does: ci.job, ci.run, ci.check, deploy or a type of your own
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// Who says so, by convention a URI [default: the pipeline, where its CI system tells]
    #[arg(long)]
    source: Option<String>,
    /// What it happens to [default: the repository, where the CI system tells]
    #[arg(long)]
    subject: Option<String>,
    /// What to call the command on record [default: its program's name]
    #[arg(long)]
    name: Option<String>,
    /// Where a deployment goes, such as production
    #[arg(long)]
    environment: Option<String>,
    /// A file of which to record the SHA-256 digest once the command has ended; may be given again
    #[arg(long = "artifact", value_name = "PATH")]
    artifacts: Vec<PathBuf>,
    /// Where to keep the receipt of the end
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Where to keep the payload of the end, byte for byte: `counterfoil verify --payload` checks it by the receipt
    #[arg(long, value_name = "FILE", requires = "receipt")]
    payload_to: Option<PathBuf>,
    #[command(flatten)]
    recording: RecordingOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Arguments {
    /// What to keep of the end.
    fn keep(&self) -> Result<Option<Keep<'_>>, Failure> {
        let Some(receipt) = self.receipt.as_deref() else {
            return Ok(None);
        };
        let payload = self.payload_to.as_deref();
        if payload == Some(receipt) {
            return Err(Failure::usage("--receipt and --payload-to name the same file"));
        }
        Ok(Some(Keep { receipt, payload }))
    }
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<ExitCode, Failure> {
    // What is wrong with the command line is told before anything runs. Nothing after this fails for the log's sake.
    common.policy()?;
    let recorder = Recorder::new(&arguments.recording, common)?;
    let job = Job::new(&arguments, Environment::of_process())?;
    let signals = EndSignals::catch();
    let mut signals = signals.map_err(|error| Failure::usage(format!("can't wait for signals: {error}")))?;
    let keep = arguments.keep()?;
    // Both events are new, so what is there is of another.
    keep.map_or(Ok(()), Keep::remove_old)?;

    let start = job.started(Timestamp::now())?;
    let is_required = arguments.recording.require_receipt;
    let recording = Recording {
        recorder: &recorder,
        common,
        output,
        is_required,
    };
    let (ended, is_stopped) = if is_required {
        tokio::select! {
            // Even if the start is on record by now: what somebody wants ended is not begun.
            biased;
            signal = signals.next() => {
                say("counterfoil: a signal ended the wait for the log; the command is not run, though its start may be on record");
                return Ok(ExitCode::from(Ending::by(signal).exit_code()));
            }
            recorded = recording.require(&start, None) => recorded?,
        }
        (process::run(&arguments.command, &mut signals).await, false)
    } else {
        recording.run(&arguments.command, &start, &mut signals).await
    };
    let now = Timestamp::now();
    let code = ended.ending.exit_code();
    tell_trouble(&ended.ending, arguments.command[0].display());
    let found = artifacts::read(&arguments.artifacts, ended.cancelled || is_stopped, &mut signals).await;
    for missing in &found.missing {
        say(format_args!(
            "warning: no artifact {}",
            output::printable(missing)
        ));
    }
    let is_stopped = is_stopped || found.is_stopped;
    let recorded = match job.ended(&ended, found.artifacts, now) {
        Ok(end) if is_stopped => recording.queue_end(&end, keep).await,
        Ok(end) => recording.end(&end, keep, ended.cancelled, &mut signals).await,
        Err(failure) => Err(failure),
    };
    match recorded {
        Ok(()) => Ok(ExitCode::from(code)),
        Err(failure) if code == 0 && is_required => Err(failure),
        Err(failure) => {
            failure.report(output.is_json());
            Ok(ExitCode::from(code))
        }
    }
}

/// Says what went wrong with the command itself, if anything did.
fn tell_trouble(ending: &Ending, program: impl Display) {
    match ending {
        Ending::Exited(_) | Ending::Killed(_) => {}
        Ending::NotStarted(error) => say(format_args!("error: can't run {program}: {error}")),
        Ending::Unknown(error) => say(format_args!("error: can't tell how {program} ended: {error}")),
    }
}

/// How the two events get on record, or at least onto the disk.
struct Recording<'a> {
    recorder: &'a Recorder<'a>,
    common: &'a Common,
    output: &'a Output,
    /// That what is not on record is a failure.
    is_required: bool,
}

impl Recording<'_> {
    /// Runs the command, which does not wait for the log, and records its start meanwhile. Returns also whether a signal ended
    /// the wait for the log once the command had ended.
    async fn run(&self, command: &[OsString], start: &Event, signals: &mut EndSignals) -> (Ended, bool) {
        let mut recording = Box::pin(self.record_or_queue(start, None));
        let mut is_settled = false;
        let ended = {
            let mut running = Box::pin(process::run(command, signals));
            loop {
                tokio::select! {
                    ended = &mut running => break ended,
                    () = &mut recording, if !is_settled => is_settled = true,
                }
            }
        };
        if is_settled {
            return (ended, false);
        }
        let is_stopped = !ended.cancelled
            && tokio::select! {
                () = &mut recording => return (ended, false),
                _ = signals.next() => true,
            };
        // It may be on its way to the log, and is recorded once however often it comes.
        drop(recording);
        self.queue(start, None, &stopped()).await;
        (ended, is_stopped)
    }

    /// Puts the end onto the disk before the log is asked: whoever sent a signal may send SIGKILL next. What stands against
    /// that stands against queueing it later, and is told then. Recording it delivers it from there, and asks once more for the
    /// receipt. Returns whether it is on the disk.
    async fn prepare(&self, event: &Event) -> bool {
        self.recorder.queue(event, false, &stopped()).await.is_ok()
    }

    /// Queues the end of which somebody has asked by a signal not to wait for the log.
    async fn queue_end(&self, end: &Event, keep: Option<Keep<'_>>) -> Result<(), Failure> {
        let stopped = stopped();
        let queued = self.recorder.queue(end, false, &stopped).await;
        self.tell_queued(end, keep, queued);
        if self.is_required { Err(stopped) } else { Ok(()) }
    }

    /// Records the end. Whoever asks for the end of all this by a signal does not wait for the log.
    async fn end(
        &self,
        end: &Event,
        keep: Option<Keep<'_>>,
        is_cancelled: bool,
        signals: &mut EndSignals,
    ) -> Result<(), Failure> {
        let is_prepared = is_cancelled && self.prepare(end).await;
        let recording = async {
            if self.is_required {
                return self.require(end, keep).await;
            }
            self.record_or_queue(end, keep).await;
            Ok(())
        };
        let recorded = tokio::select! {
            recorded = recording => recorded,
            _ = signals.next() => {
                let stopped = stopped();
                self.queue(end, keep, &stopped).await;
                if self.is_required { Err(stopped) } else { Ok(()) }
            }
        };
        recorded.map_err(|failure| {
            if is_prepared {
                let outbox = self.recorder.outbox.path().display();
                failure.hint(format!("what is not on record waits in {outbox}"))
            } else {
                failure
            }
        })
    }

    /// Records an event, or fails.
    async fn require(&self, event: &Event, keep: Option<Keep<'_>>) -> Result<(), Failure> {
        self.tell(event, keep, &self.recorder.record(event, keep).await?);
        Ok(())
    }

    /// Records an event, or queues it whatever stands against it, and says so. What the log refuses for good is set aside:
    /// nobody is there to submit it again, and all that stands against it is the word of whoever answered.
    async fn record_or_queue(&self, event: &Event, keep: Option<Keep<'_>>) {
        let failure = match self.recorder.record(event, keep).await {
            Ok(recorded) => return self.tell(event, keep, &recorded),
            Err(failure) => failure,
        };
        if failure.is_final() {
            return self.set_aside(event, failure).await;
        }
        // Onto the disk before anything is said.
        let sent = failure.may_be_on_record();
        let queued = self.recorder.queue(event, sent, &failure).await;
        // Nothing of the log's stands against it, but something on this machine.
        let is_local = failure.exit == Exit::Usage && !sent;
        self.report(failure);
        match queued {
            Err(unqueued) if is_local => self.record_at_once(event, keep, &unqueued).await,
            queued => self.tell_queued(event, keep, queued),
        }
    }

    /// Keeps an event that the log refuses for good, and says so.
    async fn set_aside(&self, event: &Event, refused: Failure) {
        // Onto the disk before anything is said.
        let number = match self.recorder.set_aside(event, &refused).await {
            Ok(number) => number,
            Err(failure) => {
                self.report(refused);
                return failure.report(self.output.is_json());
            }
        };
        let again = format!("once the log takes it, `counterfoil outbox retry {number}` queues it again");
        self.report(refused.hint(again));
        let (event_type, path) = (event.event_type(), self.recorder.outbox.path().display());
        let line = format!("{event_type} is not recorded: it is set aside as number {number} in {path}");
        say(format_args!("counterfoil: {}", output::printable(&line)));
    }

    /// Records an event of which nobody can tell what waits before it: out of order it is better off than lost.
    async fn record_at_once(&self, event: &Event, keep: Option<Keep<'_>>, unqueued: &Failure) {
        let (event_type, problem) = (event.event_type(), output::printable(unqueued.message()));
        say(format_args!(
            "warning: {event_type} is submitted past all that may wait: {problem}"
        ));
        match self.recorder.record_at_once(event, keep).await {
            Ok(recorded) => self.tell(event, keep, &recorded),
            Err(failure) => self.report(failure),
        }
    }

    fn report(&self, failure: Failure) {
        evidence::keep(failure, self.common).report(self.output.is_json());
    }

    /// Queues an event that `submit` would not queue: here nobody is there to submit it again.
    async fn queue(&self, event: &Event, keep: Option<Keep<'_>>, because: &Failure) {
        let queued = self.recorder.queue(event, true, because).await;
        self.tell_queued(event, keep, queued);
    }

    fn tell_queued(&self, event: &Event, keep: Option<Keep<'_>>, queued: Result<Recorded, Failure>) {
        match queued {
            Ok(queued) => self.tell(event, keep, &queued),
            Err(failure) => failure.report(self.output.is_json()),
        }
    }

    /// Says what became of an event, of which somebody may want the receipt.
    fn tell(&self, event: &Event, keep: Option<Keep<'_>>, recorded: &Recorded) {
        let event_type = event.event_type();
        let line = match recorded {
            Recorded::OnRecord(on_record) => {
                format!("{event_type} is leaf {}", on_record.submitted.receipt.index)
            }
            Recorded::Queued { queued, why } => format!(
                "{event_type} is queued in {} ({} waiting){}: {why}",
                self.recorder.outbox.path().display(),
                queued.waiting,
                keep.map_or("", |_| ", and there is no receipt"),
            ),
        };
        // Standard output is the command's.
        say(format_args!("counterfoil: {}", output::printable(&line)));
    }
}

/// Why an event is queued once somebody asked by a signal for the end of all this.
fn stopped() -> Failure {
    Failure::new(Exit::Unavailable, "a signal ended the wait for the log")
}
