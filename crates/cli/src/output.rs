//! What commands print: lines for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, Write},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use counterfoil_event::{Annotations, Attributes, Entry};
use counterfoil_merkle::Digest;
use counterfoil_note::{Cosignature, Policy, SignedHead};
use counterfoil_verify::Receipt as VerifyReceipt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use counterfoil_event::{printable, utc_millis as millis};

use crate::failure::{Exit, Failure};

/// Where results go.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    /// A result could not be written.
    failed: Arc<AtomicBool>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            failed: Arc::default(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a result could not be written, which was told then.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Prints a result: as one line of JSON, or as it reads best.
    pub(crate) fn print(&self, json: impl Serialize, human: impl Display) {
        let result = self.write(json, human);
        if result.as_ref().is_err_and(is_gone) {
            process::exit(0);
        }
        if let Err(failure) = written(result) {
            failure.report(self.json);
            process::exit(Exit::Usage as i32);
        }
    }

    /// Prints a result of which there is more to say than that it can't be written.
    pub(crate) fn try_print(&self, json: impl Serialize, human: impl Display) -> Result<(), Failure> {
        written(self.write(json, human))
    }

    /// Prints a result of work that goes on to its end, whether or not anybody reads. What can't be written is told once,
    /// and the program fails in the end.
    pub(crate) fn print_if_read(&self, json: impl Serialize, human: impl Display) {
        if let Err(failure) = self.try_print(json, human)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            failure.report(self.json);
        }
    }

    fn write(&self, json: impl Serialize, human: impl Display) -> io::Result<()> {
        let line = if self.json {
            json_line(&json!(json))
        } else {
            disarmed(&human.to_string(), MARKED)
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", line.trim_end()).and_then(|()| stdout.flush())
    }
}

/// What came of writing to standard output. Whoever reads may have had enough, as `head` does: that is no failure.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if !is_gone(&error) => {
            Err(Failure::usage(format!("can't write standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether nobody reads any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Prints a line to standard error. One that can't be written is passed over: `eprintln!` would panic.
pub(crate) fn say(line: impl Display) {
    let line = disarmed(&format!("{line}\n"), MARKED);
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// JSON in one line, in which programs read what others chose and CI runners find no command.
pub(crate) fn json_line(value: &Value) -> String {
    // A `#` is in strings only.
    disarmed(&value.to_string(), "\\u0023")
}

/// What stands, for people, for the `#` before a command.
const MARKED: &str = "\u{fffd}#";

/// Text of which others may have chosen some of the words. `##[…]` and `##vso[…]`, anywhere in a line of either stream, are
/// commands to the runners of GitHub and Azure: `second` stands for the second `#`.
fn disarmed(text: &str, second: &str) -> String {
    // Runners that compare text by the rules of a language pass over characters that have no look.
    let is_seen = |character: char| character.is_ascii_graphic() || character.is_ascii_whitespace();
    let mut disarmed = String::with_capacity(text.len());
    let mut after_hash = false;
    for (at, character) in text.char_indices() {
        let is_hash = character == '#';
        let next = || text[at + 1..].chars().find(|next| is_seen(*next));
        if is_hash && after_hash && matches!(next(), Some('[' | 'v' | 'V')) {
            disarmed.push_str(second);
        } else {
            disarmed.push(character);
        }
        after_hash = is_hash || (after_hash && !is_seen(character));
    }
    disarmed
}

/// Whether lines that others wrote are text to whoever reads them, terminals and CI runners too, and can go out as they are.
/// `::` at the beginning of a line, be it behind spaces, is a command to GitHub's runner.
pub(crate) fn is_text(lines: &str) -> bool {
    let is_plain = |line: &str| printable(line) == line && !line.trim_start().starts_with("::");
    lines.lines().all(is_plain) && disarmed(lines, MARKED) == lines
}

/// Lines of a name and a value, the values aligned and [`printable`]: others chose the names of logs and witnesses, say.
#[derive(Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(crate) fn add(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.0.push((name, printable(&value.to_string())));
        self
    }
}

impl Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.0 {
            writeln!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}

/// Lines under a heading.
pub(crate) fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

/// A tree head as the API names its fields.
#[derive(Serialize)]
pub(crate) struct TreeHead {
    origin: String,
    tree_size: u64,
    root_hash: String,
    /// None under a key that signs no time.
    time_unix_ms: Option<u64>,
    checkpoint: String,
}

impl From<&SignedHead> for TreeHead {
    fn from(head: &SignedHead) -> Self {
        Self {
            origin: head.origin().to_string(),
            tree_size: head.size().get(),
            root_hash: head.root().to_string(),
            time_unix_ms: head.time().map(|time| time.get()),
            checkpoint: note_text(head),
        }
    }
}

/// A witness's word on a head.
#[derive(Serialize)]
pub(crate) struct Witnessed {
    /// What the policy calls the witness.
    witness: String,
    /// What the witness's key is called.
    name: String,
    key_id: String,
    time_unix_s: u64,
}

/// Who of the policy's witnesses cosigned a head, and when.
pub(crate) fn witnessed(policy: &Policy, cosignatures: &[Cosignature]) -> Vec<Witnessed> {
    let witnessed = cosignatures.iter().filter_map(|cosignature| {
        Some(Witnessed {
            witness: policy.witness(cosignature.key())?.name.to_string(),
            name: cosignature.name().to_string(),
            key_id: cosignature.key().id().to_string(),
            time_unix_s: cosignature.time().get(),
        })
    });
    witnessed.collect()
}

impl Display for Witnessed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { witness, name, .. } = self;
        write!(f, "{witness} ({name}), {}", seconds(self.time_unix_s))
    }
}

/// The same for a head that the client verified.
pub(crate) fn witnessed_head(policy: &Policy, head: &SignedHead) -> Vec<Witnessed> {
    // A cosignature that fails has failed the head before.
    witnessed(policy, &policy.cosignatures(head).unwrap_or_default())
}

/// A receipt as the API names its fields.
pub(crate) fn receipt(receipt: &VerifyReceipt, head: &SignedHead) -> Value {
    json!({
        "leaf_index": receipt.index.get(),
        "entry": base64(&receipt.entry),
        "salt": hex::encode(receipt.salt.as_bytes()),
        "inclusion_proof": hashes(&receipt.inclusion_proof),
        "tree_head": TreeHead::from(head),
    })
}

/// A decoded entry as the API names its fields.
pub(crate) fn entry(entry: &Entry) -> Value {
    json!({
        "format_version": entry.format_version(),
        "time_unix_ns": entry.time_unix_ns().get(),
        "source_id": entry.source_id(),
        "event_type": entry.event_type(),
        "media_type": entry.media_type(),
        "payload_length": entry.payload_length(),
        "payload_commitment": entry.payload_commitment().to_string(),
        "attributes_commitment": entry.attributes_commitment().to_string(),
        "authentication": entry.authentication().as_str(),
        "retention_class": entry.retention_class(),
        "annotations_commitment": entry.annotations_commitment().map(|commitment| commitment.to_string()),
    })
}

/// An event's attributes as the API names them; extensions as an object.
pub(crate) fn attributes(attributes: &Attributes) -> Value {
    json!({
        "id": attributes.id,
        "source": attributes.source,
        "type": attributes.event_type,
        "subject": attributes.subject,
        "time": attributes.time,
        "data_content_type": attributes.data_content_type,
        "extensions": attributes.extensions,
    })
}

/// What the log added to an event; the normal form as text. Null if it added nothing.
pub(crate) fn annotations(annotations: &Annotations) -> Value {
    if *annotations == Annotations::default() {
        return Value::Null;
    }
    json!({
        "adapter": annotations.adapter,
        "normalised": String::from_utf8_lossy(&annotations.normalised),
        "evidence": annotations.evidence,
    })
}

pub(crate) fn hashes(hashes: &[Digest]) -> Vec<String> {
    hashes.iter().map(Digest::to_string).collect()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The signed note of a head. Notes are UTF-8, or they don't verify.
pub(crate) fn note_text(head: &SignedHead) -> String {
    String::from_utf8_lossy(head.note_bytes()).into_owned()
}

/// A head in one line.
pub(crate) fn head_line(head: &SignedHead) -> String {
    format!("size {}, root {}", head.size(), head.root())
}

/// When a head was signed.
pub(crate) fn signed(head: &SignedHead) -> String {
    head.time().map_or_else(
        || "at a time that this key does not sign".to_owned(),
        |time| millis(time.get()),
    )
}

/// A time in UTC, from seconds since 1970.
fn seconds(unix_s: u64) -> String {
    let time = i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("{unix_s} s after 1970"), |time| time.to_string())
}

/// A time in UTC, from nanoseconds since 1970.
pub(crate) fn nanos(unix_ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).map_or_else(
        |_| format!("{unix_ns} ns after 1970"),
        |time| format!("{time:.6}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_words_are_commands_to_a_runner() {
        for (words, marked) in [
            ("no##[stop-commands]x", "no#\u{fffd}#[stop-commands]x"),
            (
                "##vso[task.setvariable variable=a]b",
                "#\u{fffd}#vso[task.setvariable variable=a]b",
            ),
            ("###[error]", "##\u{fffd}#[error]"),
            ("#\u{200b}#[error]", "#\u{200b}\u{fffd}#[error]"),
            ("##\u{200b}[error]", "#\u{fffd}#\u{200b}[error]"),
            ("#1, ## a, # #, #\n#[a]", "#1, ## a, # #, #\n#[a]"),
        ] {
            assert_eq!(disarmed(words, MARKED), marked);
            let value = json!({ words: [words] });
            let line = json_line(&value);
            assert!(!line.contains("##[") && !line.contains("##vso"), "{line}");
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
            // As `say` does with it.
            assert_eq!(disarmed(&line, MARKED), line);
        }
    }

    #[test]
    fn a_receipt_is_text_and_commands_are_none() {
        let receipt =
            "c2sp.org/tlog-proof@v1\nindex 0\n\nlog.example/a::b\n1\nyMnK+/8=\n\n— log.example/a::b Jo1d==\n";
        assert!(is_text(receipt));
        for line in [
            "::stop-commands::x",
            " \u{2003}::add-mask::x",
            "— ##[group] AAAAAAA=",
            "##vso[task.complete]",
            "\u{9b}2J",
            "a\u{202e}b",
        ] {
            assert!(!is_text(&format!("{receipt}{line}\n")), "{line:?}");
        }
    }
}
