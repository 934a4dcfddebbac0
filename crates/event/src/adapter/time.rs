//! Times as providers write them.

use crate::normal::Time;

/// RFC 3339, kept as it is; or a date and a time with a space between, and `UTC` or an offset without colon behind: Ruby's way,
/// and GitLab's. None for the year 1, which stands for no time in Go's.
pub(super) fn read(text: &str) -> Option<Time> {
    if text.starts_with("0001-") {
        return None;
    }
    Time::try_from(text).ok().or_else(|| spaced(text))
}

fn spaced(text: &str) -> Option<Time> {
    let (date, rest) = text.split_once(' ')?;
    let (time, zone) = rest.split_once(' ')?;
    let zone = match zone {
        "UTC" => "Z".to_owned(),
        _ if zone.len() == 5 && zone.is_ascii() => format!("{}:{}", &zone[..3], &zone[3..]),
        _ => return None,
    };
    Time::try_from(format!("{date}T{time}{zone}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_time_is_read() {
        for (written, expected) in [
            ("2021-08-19T12:16:32.000-04:00", "2021-08-19T12:16:32.000-04:00"),
            ("2017-12-10 17:08:07 UTC", "2017-12-10T17:08:07Z"),
            ("2016-08-12 15:23:28 +0200", "2016-08-12T15:23:28+02:00"),
        ] {
            assert_eq!(read(written).unwrap().as_str(), expected);
        }
        for bad in [
            "",
            "now",
            "2017-12-10",
            "2017-12-10 17:08:07",
            "2017-12-10 17:08:07 é00",
            "0001-01-01T00:00:00Z",
            "2017-13-10 17:08:07 UTC",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
