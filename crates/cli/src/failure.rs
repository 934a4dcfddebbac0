//! How commands fail: an exit code for scripts, a sentence for people, and what to do next.

use std::{path::Path, process::ExitCode};

use counterfoil_client::{Action, Denied, Error, Misbehaviour, NotCosigned, Reason, Refusal, StateError};
use counterfoil_event::Event;
use counterfoil_files::FileError;
use counterfoil_note::{NoQuorum, PolicyName, SignedHead};
use counterfoil_verify::Fact;
use serde_json::{Map, Value, json};

use crate::output::{self, TreeHead, printable, say};

/// The table of exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, and everything verified
  1  verification failed, or the log misbehaved: do not trust it
  2  the command line or a local file is wrong, or an entry is of a later version
  3  the server is unreachable or overloaded, or witnesses are missing yet: try again
  4  the log refused the request: change it
  5  the log says that it has no such entry";

/// What to do about an entry that is not known here, and may be in a later version.
pub(crate) const LATER_VERSION: &str = "a newer counterfoil may know it: this is nothing against the log";

/// What the process returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Verification failed, or the log misbehaved.
    Untrusted = 1,
    /// The command line or a local file is wrong.
    Usage = 2,
    /// Try again.
    Unavailable = 3,
    /// The log refused the request.
    Refused = 4,
    /// No such entry.
    NotFound = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    hints: Vec<String>,
    /// What programs get beside the message.
    details: Map<String, Value>,
    /// Signed notes that show what a log did.
    evidence: Vec<String>,
    /// What others can be shown.
    fact: Option<Box<Fact>>,
    may_be_on_record: bool,
    /// The log refuses the event for good.
    is_final: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let kind = match exit {
            Exit::Untrusted => "unverified",
            Exit::Usage => "usage",
            Exit::Unavailable => "unavailable",
            Exit::Refused => "refused",
            Exit::NotFound => "not_found",
        };
        let failure = Self {
            exit,
            message: message.into(),
            hints: vec![],
            details: Map::new(),
            evidence: vec![],
            fact: None,
            may_be_on_record: false,
            is_final: false,
        };
        failure.detail("kind", kind)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn untrusted(message: impl Into<String>) -> Self {
        Self::new(Exit::Untrusted, message)
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether the log would refuse the event whenever it came: what it says of itself, or of who sent it, may change.
    pub(crate) fn is_final(&self) -> bool {
        // The refusal of something else than the event, which was sent already, is nothing against it.
        self.is_final && !self.may_be_on_record
    }

    /// Says which event the log may have recorded although this failed, so that it can be sent again as the same.
    pub(crate) fn naming(self, event: &Event) -> Self {
        let failure = Self {
            may_be_on_record: true,
            ..self
        };
        failure.detail("source", event.source()).detail("id", event.id())
    }

    /// Whether the log may have recorded an event although this failed.
    pub(crate) fn may_be_on_record(&self) -> bool {
        self.may_be_on_record
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What was met that evidence can be made of.
    pub(crate) fn fact(&self) -> Option<&Fact> {
        self.fact.as_deref()
    }

    /// Says where the evidence is.
    pub(crate) fn with_evidence(self, path: &Path) -> Self {
        let path = path.display().to_string();
        self.hint(format!("the evidence is in {path}"))
            .hint(format!(
                "anyone can check it: counterfoil verify --evidence {path}"
            ))
            .detail("evidence_file", path)
    }

    /// Puts what went well before into the message.
    pub(crate) fn after(mut self, fact: &str) -> Self {
        self.message = format!("{fact}: {}", self.message);
        self
    }

    /// Prints it to standard error.
    pub(crate) fn report(&self, json: bool) {
        if json {
            let mut error = self.details.clone();
            error.insert("message".into(), self.message.as_str().into());
            error.insert("hints".into(), self.hints.clone().into());
            error.insert("exit_code".into(), (self.exit as u8).into());
            say(output::json_line(&json!({ "error": error })));
            return;
        }
        say(format_args!("error: {}", printable_lines(&self.message)));
        for hint in &self.hints {
            say(format_args!("  {}", printable_lines(hint)));
        }
        for note in &self.evidence {
            say(format_args!(
                "\nsigned by the log:\n{}",
                printable_lines(note.trim_end())
            ));
        }
    }

    /// Adds what programs get beside the message.
    pub(crate) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }

    fn misbehaviour(misbehaviour: &Misbehaviour) -> Self {
        let heads = misbehaviour.heads();
        let mut failure = Self::untrusted(misbehaviour.to_string())
            .detail("kind", "misbehaviour")
            .detail("misbehaviour", misbehaviour.name())
            .detail(
                "evidence",
                heads
                    .iter()
                    .map(|head| json!(TreeHead::from(*head)))
                    .collect::<Vec<_>>(),
            );
        failure.evidence = heads.iter().map(|head| output::note_text(head)).collect();
        failure.fact = misbehaviour.fact().map(Box::new);
        failure.hints = heads.iter().map(|head| seen(head)).collect();
        match misbehaviour {
            Misbehaviour::UnverifiedHead { .. } => failure.hint(
                "either --log-key (or --policy) or --server is not this log's, or someone stands between: do not go on",
            ),
            _ => failure.hint("do not trust the log; keep the signed notes below and show them to others"),
        }
    }

    /// Too few witnesses cosigned a head.
    pub(crate) fn no_quorum(exit: Exit, message: String, problem: &NoQuorum) -> Self {
        let names = |names: &[PolicyName]| names.iter().map(PolicyName::to_string).collect::<Vec<_>>();
        Self::new(exit, message)
            .detail("kind", "no_quorum")
            .detail("quorum", problem.quorum.as_str())
            .detail("cosigned", names(&problem.cosigned))
            .detail("missing", names(&problem.missing))
    }

    fn not_cosigned(error: &NotCosigned) -> Self {
        Self::no_quorum(Exit::Unavailable, error.to_string(), &error.problem)
            .detail("tree_head", json!(TreeHead::from(&error.head)))
            .hint("the witnesses may be slow or down: try again; if it stays, ask the log's operator and the witnesses")
    }

    fn refusal(refusal: &Refusal) -> Self {
        let (exit, hint) = match (refusal.reason, refusal.action()) {
            (Reason::NotFound, _) => (Exit::NotFound, None),
            (Reason::DataLoss, _) => (
                Exit::Untrusted,
                Some("the log's operator has to run `counterfoild fsck`"),
            ),
            (_, Action::Retry) => (Exit::Unavailable, Some("try again")),
            (_, Action::Alert) => (
                Exit::Unavailable,
                Some("the log's operator has to look; then try again"),
            ),
            (Reason::EventConflict, _) => (
                Exit::Refused,
                Some("an event is recorded once: give a new one another --id; the attempt was recorded"),
            ),
            (Reason::UnknownLog, _) => (Exit::Refused, Some("give the log's name with --log")),
            (_, Action::Fix) => (Exit::Refused, None),
        };
        let fields: Vec<Value> = refusal
            .fields
            .iter()
            .map(|field| json!({"field": field.name, "problem": field.problem}))
            .collect();
        let kind = match exit {
            Exit::NotFound => "not_found",
            _ => "refused",
        };
        let mut failure = Self::new(exit, format!("the log refused: {refusal}"))
            .detail("kind", kind)
            .detail("reason", refusal.reason_name())
            .detail("fields", fields);
        if let Some(index) = refusal.existing_leaf_index {
            failure = failure.detail("existing_leaf_index", index.get());
        }
        if let Some(hint) = hint {
            failure = failure.hint(hint);
        }
        failure.is_final = refusal.is_final();
        failure.with_retry(refusal.retry_after)
    }

    fn denied(denied: &Denied) -> Self {
        let failure = Self::new(Exit::Refused, denied.to_string()).detail("kind", "denied");
        match denied {
            Denied::Unauthenticated(_) => failure
                .detail("reason", "UNAUTHENTICATED")
                .hint("give a token that has not expired, with --token-file or COUNTERFOIL_TOKEN")
                .hint("in GitHub Actions --oidc-audience, in GitLab COUNTERFOIL_ID_TOKEN; or a client certificate"),
            Denied::Forbidden(_) => failure
                .detail("reason", "PERMISSION_DENIED")
                .hint("ask the log's administrator for a credential with the right to do this, or use another"),
        }
    }

    fn with_retry(self, after: Option<std::time::Duration>) -> Self {
        match after {
            Some(after) => self
                .detail(
                    "retry_after_ms",
                    u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                )
                .hint(format!("the server asks to wait {after:?} first")),
            None => self,
        }
    }
}

/// Text of which a server may have chosen some of the words. A line that begins with `::`, be it behind spaces, is a command
/// to GitHub's runner: it gets a mark in front. Those of other forms [`say`] marks.
fn printable_lines(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = printable(line);
        if line.trim_start().starts_with("::") {
            format!("| {line}")
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn seen(head: &SignedHead) -> String {
    let signed = head
        .time()
        .map(|time| format!(", signed {}", output::millis(time.get())));
    format!(
        "size {}, root {}{}",
        head.size(),
        head.root(),
        signed.unwrap_or_default()
    )
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unavailable(unavailable) => {
                let failure = Self::new(Exit::Unavailable, error.to_string())
                    .hint("check --server (is it http, or https?), or try again");
                // Only a hint: what libraries say of TLS has no type that gets here.
                let failure = if unavailable.message.contains("invalid peer certificate") {
                    failure.hint(
                        "if only its authority is not known to this machine, name that with --tls-ca FILE",
                    )
                } else {
                    failure
                };
                failure.with_retry(unavailable.retry_after)
            }
            Error::Refused(refusal) => Self::refusal(refusal),
            Error::Denied(denied) => Self::denied(denied),
            Error::Misbehaviour(misbehaviour) => Self::misbehaviour(misbehaviour),
            Error::InvalidAnswer(_) => Self::untrusted(error.to_string())
                .detail("kind", "invalid_answer")
                .hint("check --server; if it is the right one, its operator has to look"),
            Error::UnknownEntry { .. } => Self::usage(error.to_string())
                .detail("kind", "unknown_entry")
                .hint(LATER_VERSION),
            Error::NotCosigned(error) => Self::not_cosigned(error),
            Error::State(problem) => {
                let failure = Self::usage(error.to_string()).detail("kind", "state");
                match problem {
                    StateError::Foreign { .. } => failure.hint(
                        "if --log-key or --policy is not the one that this machine used before, correct that first",
                    ),
                    StateError::Io(_) | StateError::Evidence(_) => failure,
                }
            }
            Error::Options(_) => Self::usage(error.to_string()).detail("kind", "options"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_no_commands_to_a_runner() {
        assert_eq!(
            printable_lines("no\n::stop-commands::x\n \u{2003}::set-output name=a::b\r\n  a::b\n\u{1b}[2J"),
            "no\n| ::stop-commands::x\n|  \u{2003}::set-output name=a::b\n  a::b\n\u{fffd}[2J"
        );
    }
}
