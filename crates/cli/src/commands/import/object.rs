//! A git object as an event.
//!
//! | object | type | extensions |
//! | --- | --- | --- |
//! | commit with at most one parent | `scm.commit` | `gittree`, `gitparents`, `gitauthor`, `gitcommitter`, `gitsigned` |
//! | commit with more | `scm.merge` | the same |
//! | annotated tag | `scm.tag` | `gittarget`, `gittargettype`, `gittagger`, `gitsigned` |
//! | lightweight tag: a name, not an object | `scm.tag` | `gittarget` |
//!
//! The id of an object's event is the object id, its payload the object as git hashes it: kind, length, a zero byte,
//! content. So the SHA-1 (or SHA-256) of the payload is the object id, and anyone can check it. An extension repeats
//! what the payload says, for reading; one that would be longer than a log takes is left out.
//!
//! What is here decides the bytes of events: after a change, a repository that was imported before conflicts with
//! itself.

use counterfoil_event::{
    Event, EventParts, InvalidEvent,
    adapter::git_time,
    is_text,
    limits::{MAX_EXTENSION_VALUE_BYTES, MAX_SUBJECT_BYTES},
};
use gix::{ObjectId, objs::Kind};
use jiff::Timestamp;

const OBJECT_MEDIA_TYPE: &str = "application/x-git-object";
const REFERENCE_MEDIA_TYPE: &str = "text/plain";
/// 9999-12-31T23:59:59Z less a day for the offset: RFC 3339 has four digits for the year.
const LAST_TIME_UNIX_S: i64 = 253_402_214_400;
/// How the signature of a tag begins, within its message.
const TAG_SIGNATURES: [&str; 4] = [
    "-----BEGIN PGP SIGNATURE-----",
    "-----BEGIN PGP MESSAGE-----",
    "-----BEGIN SSH SIGNATURE-----",
    "-----BEGIN SIGNED MESSAGE-----",
];

/// The event for a commit or an annotated tag.
pub(super) fn event(id: ObjectId, kind: Kind, content: &[u8], source: &str) -> Result<Event, InvalidEvent> {
    let object = Object::parse(content);
    let mut extensions = Vec::new();
    let mut extend = |name: &str, value: Option<String>| {
        let value = value.filter(|value| !value.is_empty() && value.len() <= MAX_EXTENSION_VALUE_BYTES);
        extensions.extend(value.map(|value| (name.to_owned(), value)));
    };
    let event_type = if kind == Kind::Tag {
        extend("gittarget", object.text("object"));
        extend("gittargettype", object.text("type"));
        extend("gittagger", object.person("tagger"));
        "scm.tag"
    } else {
        let parents: Vec<String> = object.all("parent").map(clean).collect();
        extend("gittree", object.text("tree"));
        extend("gitparents", Some(parents.join(" ")));
        extend("gitauthor", object.person("author"));
        extend("gitcommitter", object.person("committer"));
        if parents.len() > 1 {
            "scm.merge"
        } else {
            "scm.commit"
        }
    };
    extend("gitsigned", Some(object.is_signed(kind).to_string()));

    let by = if kind == Kind::Tag { "tagger" } else { "committer" };
    let mut data = format!("{kind} {}\0", content.len()).into_bytes();
    data.extend_from_slice(content);
    Event::try_from(EventParts {
        id: id.to_string(),
        source: source.to_owned(),
        event_type: event_type.to_owned(),
        subject: object
            .text("tag")
            .map(|name| tag_subject(&name))
            .unwrap_or_default(),
        time: object.first(by).and_then(time).unwrap_or_default(),
        data_content_type: OBJECT_MEDIA_TYPE.to_owned(),
        data: data.into(),
        extensions,
    })
}

/// The event for a tag that is only a name. Its payload is a line of `git show-ref`, its id the digest of that: a tag
/// that is moved is another event.
pub(super) fn lightweight_tag(name: &[u8], target: ObjectId, source: &str) -> Result<Event, InvalidEvent> {
    let data = [target.to_string().as_bytes(), b" ", name, b"\n"].concat();
    let name = clean(name);
    Event::try_from(EventParts {
        id: format!("tag-{}", blake3::hash(&data)),
        source: source.to_owned(),
        event_type: "scm.tag".to_owned(),
        subject: tag_subject(name.strip_prefix("refs/tags/").unwrap_or(&name)),
        data_content_type: REFERENCE_MEDIA_TYPE.to_owned(),
        data: data.into(),
        extensions: vec![("gittarget".to_owned(), target.to_string())],
        ..EventParts::default()
    })
}

fn tag_subject(name: &str) -> String {
    Some(format!("refs/tags/{name}"))
        .filter(|subject| subject.len() <= MAX_SUBJECT_BYTES)
        .unwrap_or_default()
}

/// The headers and the message of a commit or tag. Reading never fails: what is not there is absent.
pub(super) struct Object<'a> {
    headers: Vec<(&'a [u8], &'a [u8])>,
    message: &'a [u8],
}

impl<'a> Object<'a> {
    pub(super) fn parse(content: &'a [u8]) -> Self {
        let mut headers = Vec::new();
        let mut rest = content;
        while let Some((line, after)) = split_once(rest, b'\n') {
            rest = after;
            if line.is_empty() {
                break;
            }
            // A line that begins with a space goes on with the header before it, such as a signature.
            if line[0] != b' '
                && let Some(header) = split_once(line, b' ')
            {
                headers.push(header);
            }
        }
        Self {
            headers,
            message: rest,
        }
    }

    /// The parents of a commit, or the target of a tag.
    pub(super) fn ids(&self, name: &str) -> impl Iterator<Item = ObjectId> {
        self.all(name).filter_map(|hex| ObjectId::from_hex(hex).ok())
    }

    /// When a commit says that it was committed, in seconds since 1970.
    pub(super) fn committed_unix_s(&self) -> i64 {
        self.first("committer")
            .and_then(git_time)
            .map_or(0, |(seconds, _)| seconds)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(found, _)| *found == name.as_bytes())
            .map(|(_, value)| *value)
    }

    fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.first(name).map(clean)
    }

    /// Name and address, without the time that follows.
    fn person(&self, name: &str) -> Option<String> {
        let line = self.first(name)?;
        let end = line
            .iter()
            .rposition(|byte| *byte == b'>')
            .map_or(line.len(), |at| at + 1);
        Some(clean(&line[..end]))
    }

    /// Whether it bears a signature. It is not checked.
    fn is_signed(&self, kind: Kind) -> bool {
        if kind == Kind::Commit {
            return self
                .first("gpgsig")
                .or_else(|| self.first("gpgsig-sha256"))
                .is_some();
        }
        let mut lines = self.message.split(|byte| *byte == b'\n');
        lines.any(|line| TAG_SIGNATURES.iter().any(|begin| line == begin.as_bytes()))
    }
}

/// The time at the end of a `committer` or `tagger` line, in RFC 3339.
fn time(person: &[u8]) -> Option<String> {
    let (seconds, offset) = git_time(person)?;
    let timestamp = Timestamp::from_second(seconds)
        .ok()
        .filter(|_| (0..LAST_TIME_UNIX_S).contains(&seconds))?;
    Some(timestamp.display_with_offset(offset).to_string())
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

/// Text that an attribute may hold: no control characters, no noncharacters, and a mark for what is not UTF-8.
fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if is_text(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        ObjectId::from_hex(&[b'a'; 40]).unwrap()
    }

    const COMMIT: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
        parent 1111111111111111111111111111111111111111\n\
        author Ann <ann@example> 1700000000 +0130\n\
        committer Bob <bob@example> 1700000001 -0800\n\
        gpgsig -----BEGIN PGP SIGNATURE-----\n parent 2222222222222222222222222222222222222222\n\
        \n\
        parent 3333333333333333333333333333333333333333\n";

    #[test]
    fn a_commit_is_told_by_its_headers_alone() {
        let event = event(id(), Kind::Commit, COMMIT.as_bytes(), "git:x").unwrap();
        assert_eq!(event.event_type(), "scm.commit");
        assert_eq!(event.time(), Some("2023-11-14T14:13:21-08:00"));
        let extensions: Vec<_> = event
            .extensions()
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            extensions,
            [
                ("gitauthor", "Ann <ann@example>"),
                ("gitcommitter", "Bob <bob@example>"),
                ("gitparents", "1111111111111111111111111111111111111111"),
                ("gitsigned", "true"),
                ("gittree", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
            ]
        );
        assert!(
            event
                .data()
                .starts_with(format!("commit {}\0tree ", COMMIT.len()).as_bytes())
        );
    }

    #[test]
    fn many_parents_make_a_merge_and_too_many_are_left_out() {
        let parent = "parent 1111111111111111111111111111111111111111\n";
        let two = event(id(), Kind::Commit, parent.repeat(2).as_bytes(), "git:x").unwrap();
        assert_eq!(two.event_type(), "scm.merge");
        assert_eq!(two.extensions()["gitparents"].len(), 81);
        let hundred = event(id(), Kind::Commit, parent.repeat(100).as_bytes(), "git:x").unwrap();
        assert_eq!(hundred.event_type(), "scm.merge");
        assert!(!hundred.extensions().contains_key("gitparents"));
    }

    #[test]
    fn an_annotated_tag_names_its_target_and_shows_its_signature() {
        let tag = "object 1111111111111111111111111111111111111111\ntype commit\ntag v1\n\
            tagger Ann <ann@example> 1700000000 +0000\n\nfirst\n-----BEGIN SSH SIGNATURE-----\nAAAA\n";
        let event = event(id(), Kind::Tag, tag.as_bytes(), "git:x").unwrap();
        assert_eq!(
            (event.event_type(), event.subject()),
            ("scm.tag", Some("refs/tags/v1"))
        );
        assert_eq!(event.extensions()["gittargettype"], "commit");
        assert_eq!(event.extensions()["gitsigned"], "true");
    }

    /// Whatever is in an object, there is an event for it.
    #[test]
    fn hostile_objects_become_events() {
        let hostile: [&[u8]; 8] = [
            b"",
            b"\n",
            b"tree",
            b"author \xff\xfe <\x1b[31m> 99999999999999999999 +9999\n",
            b"committer A <a> -9223372036854775808 +0000\n\n",
            b"committer A <a> 9223372036854775807 -9959\n\n",
            b"committer > 1 +\xc3\xa9abc\n\n",
            "author \u{fffe}\u{fdd0}\u{10ffff}\u{85} <x> 1 +0000\n".as_bytes(),
        ];
        for content in hostile {
            event(id(), Kind::Commit, content, "git:x").unwrap();
            event(id(), Kind::Tag, content, "git:x").unwrap();
        }
        let long = [
            b"author ".as_slice(),
            &[b'a'; 5000],
            b"\ntag ",
            &[b'b'; 5000],
            b"\n",
        ]
        .concat();
        event(id(), Kind::Tag, &long, "git:x").unwrap();
        lightweight_tag(&long, id(), "git:x").unwrap();
        lightweight_tag(b"refs/tags/\xff\x01", id(), "git:x").unwrap();
    }

    #[test]
    fn a_name_that_moves_to_another_object_is_another_event() {
        let other = ObjectId::from_hex(&[b'b'; 40]).unwrap();
        let first = lightweight_tag(b"refs/tags/v1", id(), "git:x").unwrap();
        let moved = lightweight_tag(b"refs/tags/v1", other, "git:x").unwrap();
        assert_ne!(first.id(), moved.id());
        assert_eq!(first.subject(), Some("refs/tags/v1"));
    }
}
