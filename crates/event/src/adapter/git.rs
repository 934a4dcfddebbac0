//! `git/1`: commits and tags as `counterfoil import git` records them: the objects as git hashes them, and lines of
//! `git show-ref` for tags that are names only.

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{Native, json::commit_id};
use crate::{
    is_media_type,
    normal::{NormalEvent, Outcome, Text, Time, Word},
};

/// The media type of a git object.
pub(super) const OBJECT_MEDIA_TYPE: &str = "application/x-git-object";

/// None if it is no commit and no tag, is of another type than its event says, or its hash is not the event's id.
pub(super) fn read(native: &Native<'_>) -> Option<NormalEvent> {
    let form = if is_media_type(native.media_type, OBJECT_MEDIA_TYPE) {
        object(native)?
    } else {
        lightweight_tag(native)?
    };
    (form.event_type.as_str() == native.event_type).then_some(form)
}

fn object(native: &Native<'_>) -> Option<NormalEvent> {
    if native.id != hash(native.id.len(), native.data)? {
        return None;
    }
    let (header, content) = split_once(native.data, 0)?;
    let (kind, _) = split_once(header, b' ')?;
    let headers = Headers(content);
    let (word, by) = match kind {
        b"commit" if headers.all("parent").count() > 1 => (Word::ScmMerge, "committer"),
        b"commit" => (Word::ScmCommit, "committer"),
        b"tag" => (Word::ScmTag, "tagger"),
        _ => return None,
    };
    let mut form = native.form("git", word.into());
    form.outcome = Outcome::Success;
    if word == Word::ScmTag {
        form.reference.name = headers
            .text("tag")
            .and_then(|name| Text::cut(&format!("refs/tags/{name}")));
        let target = headers.text("object").and_then(|id| commit_id(&id));
        form.reference.after = Text::cut(native.id);
        form.commit = target.filter(|_| headers.all("type").next() == Some(b"commit"));
        form.actor.login = headers.person("tagger");
    } else {
        form.commit = Text::cut(native.id);
        form.actor.login = headers.person("author");
        form.triggering_actor.login = headers
            .person("committer")
            .filter(|name| form.actor.login.as_ref() != Some(name));
    }
    form.occurred_at = headers.all(by).next().and_then(time);
    Some(form)
}

fn lightweight_tag(native: &Native<'_>) -> Option<NormalEvent> {
    let line = str::from_utf8(native.data).ok()?.strip_suffix('\n')?;
    let (target, name) = line.split_once(' ')?;
    let target = commit_id(target)?;
    name.strip_prefix("refs/tags/")?;
    let mut form = native.form("git", Word::ScmTag.into());
    form.outcome = Outcome::Success;
    form.reference.name = Text::cut(name);
    // It may be any object.
    form.reference.after = Some(target);
    Some(form)
}

/// The object id of that length.
fn hash(hex_digits: usize, object: &[u8]) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match hex_digits {
        40 => Some(hex(&Sha1::digest(object))),
        64 => Some(hex(&Sha256::digest(object))),
        _ => None,
    }
}

/// The headers of a commit or tag: lines to the first empty one. A line that begins with a space goes on with the one before.
struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .split(|byte| *byte == b'\n')
            .take_while(|line| !line.is_empty())
            .filter_map(move |line| line.strip_prefix(name.as_bytes())?.strip_prefix(b" "))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.all(name)
            .next()
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// A name, without the address behind it.
    fn person(&self, name: &str) -> Option<Text> {
        let line = self.text(name)?;
        Text::cut(line.split('<').next().unwrap_or_default().trim())
    }
}

/// The time at the end of a `committer` or `tagger` line.
fn time(person: &[u8]) -> Option<Time> {
    let (seconds, offset) = seconds_and_offset(person)?;
    let zoned = Timestamp::from_second(seconds)
        .ok()?
        .to_zoned(TimeZone::fixed(offset));
    Time::try_from(zoned.timestamp().display_with_offset(offset).to_string()).ok()
}

/// The time at the end of a `committer` or `tagger` line of a git object: seconds since 1970, and the offset from UTC of the clock
/// that said so.
pub fn seconds_and_offset(person: &[u8]) -> Option<(i64, Offset)> {
    let end = person.iter().rposition(|byte| *byte == b'>')?;
    let text = str::from_utf8(&person[end + 1..]).ok()?;
    let mut words = text.split_ascii_whitespace();
    let seconds = words.next()?.parse().ok()?;
    Some((seconds, words.next().and_then(offset).unwrap_or(Offset::UTC)))
}

/// Reads `+0130`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let number: i32 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    let (hours, minutes) = (number / 100, number % 100);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}
