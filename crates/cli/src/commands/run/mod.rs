//! `counterfoil run`

mod artifacts;
mod job;
mod process;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use counterfoil_client::Submitted;
use counterfoil_event::Event;
use jiff::Timestamp;

use self::{
    job::Job,
    process::{EndSignals, Ended, Ending},
};
use super::{evidence, submit::write_receipt};
use crate::{
    environment::Environment,
    failure::{Exit, Failure},
    options::Common,
    output::{self, say},
    recording::{Recorded, Recorder, RecordingOptions},
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
    #[command(flatten)]
    recording: RecordingOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn run(arguments: Arguments, common: &Common) -> Result<ExitCode, Failure> {
    // What is wrong with the command line is told before anything runs. Nothing after this fails for the log's sake.
    common.policy()?;
    let recorder = Recorder::new(&arguments.recording, common)?;
    let job = Job::new(&arguments, Environment::of_process())?;
    let signals = EndSignals::catch();
    let mut signals = signals.map_err(|error| Failure::usage(format!("can't wait for signals: {error}")))?;

    let start = job.started(Timestamp::now())?;
    let recording = Recording {
        recorder: &recorder,
        common,
    };
    let is_required = arguments.recording.require_receipt;
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
    let code = ended.ending.exit_code();
    if let Ending::NotStarted(error) = &ended.ending {
        let program = arguments.command[0].display();
        say(format_args!("error: can't run {program}: {error}"));
    }
    let recorded = match job.ended(&ended, &arguments.artifacts, Timestamp::now()) {
        Ok(end) if is_stopped => {
            recording.tell_queued(&end, recorder.queue(&end, false, &stopped()));
            Ok(())
        }
        Ok(end) => {
            if ended.cancelled && !is_required {
                recording.prepare(&end);
            }
            recording.end(&end, &arguments, &mut signals).await
        }
        Err(failure) => Err(failure),
    };
    match recorded {
        Ok(()) => Ok(ExitCode::from(code)),
        Err(failure) if code == 0 && is_required => Err(failure),
        Err(failure) => {
            failure.report(common.json);
            Ok(ExitCode::from(code))
        }
    }
}

/// How the two events get on record, or at least onto the disk.
struct Recording<'a> {
    recorder: &'a Recorder<'a>,
    common: &'a Common,
}

impl Recording<'_> {
    /// Runs the command, which does not wait for the log, and records its start meanwhile. Whether a signal ended the wait
    /// for the log once the command had ended.
    async fn run(&self, command: &[OsString], start: &Event, signals: &mut EndSignals) -> (Ended, bool) {
        let mut recording = Box::pin(self.record_or_keep(start, None));
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
        self.keep(start, &stopped());
        (ended, is_stopped)
    }

    /// Puts the end onto the disk before the log is asked: whoever sent a signal may send SIGKILL next. What stands against
    /// that stands against queueing it later, and is told then. Recording it delivers it from there, and asks once more for the receipt.
    fn prepare(&self, event: &Event) {
        let _ = self.recorder.queue(event, false, &stopped());
    }

    /// Records the end. Whoever asks for the end of all this by a signal does not wait for the log.
    async fn end(
        &self,
        event: &Event,
        arguments: &Arguments,
        signals: &mut EndSignals,
    ) -> Result<(), Failure> {
        let receipt = arguments.receipt.as_deref();
        let is_required = arguments.recording.require_receipt;
        let recording = async {
            if is_required {
                return self.require(event, receipt).await;
            }
            self.record_or_keep(event, receipt).await;
            Ok(())
        };
        tokio::select! {
            recorded = recording => recorded,
            _ = signals.next() => {
                let stopped = stopped();
                self.keep(event, &stopped);
                if is_required { Err(stopped) } else { Ok(()) }
            }
        }
    }

    /// Records an event, or fails.
    async fn require(&self, event: &Event, receipt: Option<&Path>) -> Result<(), Failure> {
        let keep = |submitted: &Submitted| keep_receipt(receipt, submitted);
        self.tell(event, &self.recorder.record(event, keep).await?);
        Ok(())
    }

    /// Records an event, or keeps it for later whatever stands against it, and says so.
    async fn record_or_keep(&self, event: &Event, receipt: Option<&Path>) {
        let keep = |submitted: &Submitted| keep_receipt(receipt, submitted);
        match self.recorder.record(event, keep).await {
            Ok(recorded) => self.tell(event, &recorded),
            Err(failure) => {
                // Onto the disk before anything is said.
                let queued = (!failure.is_final())
                    .then(|| self.recorder.queue(event, failure.may_be_on_record(), &failure));
                evidence::keep(failure, self.common).report(self.common.json);
                match queued {
                    Some(queued) => self.tell_queued(event, queued),
                    None => say(format_args!(
                        "counterfoil: {} is not recorded",
                        event.event_type()
                    )),
                }
            }
        }
    }

    /// Queues an event that `submit` would not queue: here nobody is there to submit it again.
    fn keep(&self, event: &Event, because: &Failure) {
        self.tell_queued(event, self.recorder.queue(event, true, because));
    }

    fn tell_queued(&self, event: &Event, queued: Result<Recorded, Failure>) {
        match queued {
            Ok(queued) => self.tell(event, &queued),
            Err(failure) => failure.report(self.common.json),
        }
    }

    fn tell(&self, event: &Event, recorded: &Recorded) {
        let event_type = event.event_type();
        let line = match recorded {
            Recorded::OnRecord(on_record) => {
                format!("{event_type} is leaf {}", on_record.submitted.receipt.index)
            }
            Recorded::Queued { queued, why } => format!(
                "{event_type} is queued in {} ({} waiting): {why}",
                self.recorder.outbox.path().display(),
                queued.waiting
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

fn keep_receipt(path: Option<&Path>, submitted: &Submitted) -> Result<(), Failure> {
    path.map_or(Ok(()), |path| write_receipt(path, submitted))
}
