//! What of a text may be shown to people, and times as they read them.

use jiff::Timestamp;

/// Whether a character makes a terminal act, turns the direction of text around it, or is not seen at all: with it, one name
/// can look like another, and a line can say what it does not.
///
/// Events may hold such characters, but for controls: they are recorded as they were sent.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            // Zero width, marks of direction, lines and paragraphs, embeddings and overrides, isolates
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Musical format controls; tags and variation selectors
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text that others wrote, with nothing in it that a terminal would act upon, or that looks like something else.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_deceptive(c) { '\u{fffd}' } else { c })
        .collect()
}

/// A time in UTC, from milliseconds since 1970.
pub fn utc_millis(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{unix_ms} ms after 1970"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_replaced_and_the_rest_stays() {
        assert_eq!(
            printable("é\u{1b}[2J\nb\u{202e}c"),
            "é\u{fffd}[2J\u{fffd}b\u{fffd}c"
        );
    }

    #[test]
    fn times_have_milliseconds_and_those_beyond_the_calendar_are_shown_too() {
        assert_eq!(utc_millis(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert_eq!(utc_millis(u64::MAX), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn what_is_seen_may_be_shown() {
        for shown in "az09 é日本語 – ✓ \u{301}שלום".chars() {
            assert!(!is_deceptive(shown), "{shown:?}");
        }
        for hidden in
            "\0\n\u{1b}\u{7f}\u{85}\u{ad}\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}".chars()
        {
            assert!(is_deceptive(hidden), "{hidden:?}");
        }
    }
}
