//! Of one text, what is on record and what is brought, as one note. Anyone may bring a checkpoint again with fewer of the
//! log's lines, or with older ones.

use counterfoil_note::{Note, NoteSignature};

/// The bytes of a note.
pub(crate) fn note_of<'a>(text: &str, lines: impl IntoIterator<Item = &'a NoteSignature>) -> Vec<u8> {
    let mut note = format!("{text}\n");
    for line in lines {
        note.push_str(&format!("{line}\n"));
    }
    note.into_bytes()
}

/// The lines of both, verified ones; of two by one key the later, in the place of the known one.
pub(crate) fn later_lines(known: &[NoteSignature], brought: &[NoteSignature]) -> Vec<NoteSignature> {
    let mut lines = known.to_vec();
    for line in brought {
        let same = |other: &&mut NoteSignature| other.id() == line.id() && other.name() == line.name();
        match lines.iter_mut().find(same) {
            None => lines.push(line.clone()),
            // A payload with a time begins with it, big-endian.
            Some(other) if other.payload() < line.payload() => *other = line.clone(),
            Some(_) => {}
        }
    }
    lines
}

/// What takes the place of the note on record, which has the same text. The last line of each is the witness's own, and
/// the brought one stays: the clock may have been set back.
pub(crate) fn merged(known: &Note, brought: &Note) -> Vec<u8> {
    let (_, known) = split_own(known);
    let (own, lines) = split_own(brought);
    let note = note_of(brought.text(), later_lines(known, lines).iter().chain([own]));
    // Only a log that fills its own note comes here, or one that had dozens of keys.
    if Note::parse(&note).is_err() {
        return brought.to_bytes();
    }
    note
}

fn split_own(note: &Note) -> (&NoteSignature, &[NoteSignature]) {
    note.signatures()
        .split_last()
        .expect("a note has one signature line at least")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(lines: &str) -> Note {
        Note::parse(format!("text\n\n{lines}").as_bytes()).unwrap()
    }

    fn merged_lines(known: &str, brought: &str) -> String {
        let merged = String::from_utf8(merged(&note(known), &note(brought))).unwrap();
        merged.strip_prefix("text\n\n").unwrap().to_owned()
    }

    #[test]
    fn no_line_is_lost_and_of_two_by_one_key_the_later_stays() {
        // Payloads of one byte. The two keys of the name b have other ids.
        let known = "— a AAAAAAU=\n— b AAAAAAU=\n— b AAAAAQU=\n— w AAAAAAU=\n";
        for (brought, expected) in [
            (known, known),
            ("— a AAAAAAU=\n— w AAAAAAU=\n", known),
            ("— a AAAAAAE=\n— b AAAAAAE=\n— w AAAAAAU=\n", known),
            (
                "— b AAAAAQY=\n— w AAAAAAU=\n",
                "— a AAAAAAU=\n— b AAAAAAU=\n— b AAAAAQY=\n— w AAAAAAU=\n",
            ),
            (
                "— c AAAAAAE=\n— w AAAAAAU=\n",
                "— a AAAAAAU=\n— b AAAAAAU=\n— b AAAAAQU=\n— c AAAAAAE=\n— w AAAAAAU=\n",
            ),
            // The witness's own is the new one, whatever its time.
            (
                "— a AAAAAAU=\n— w AAAAAAE=\n",
                "— a AAAAAAU=\n— b AAAAAAU=\n— b AAAAAQU=\n— w AAAAAAE=\n",
            ),
        ] {
            assert_eq!(merged_lines(known, brought), expected, "{brought}");
        }
    }

    #[test]
    fn what_would_make_the_note_unreadable_is_let_go() {
        let long = |name: &str| format!("— {name} {}\n— w AAAAAAU=\n", "A".repeat(40_000));
        assert_eq!(merged_lines(&long("a"), &long("b")), long("b"));
        let many = |name: &str| {
            let lines: String = (0..40).map(|n| format!("— {name}{n} AAAAAAU=\n")).collect();
            lines + "— w AAAAAAU=\n"
        };
        assert_eq!(merged_lines(&many("a"), &many("b")), many("b"));
    }
}
