//! How a normalised event is written, so that it fits beside its entry.

use serde::Serialize;

use super::{Integer, MAX_INPUT_BYTES, MAX_INTEGER, NormalEvent, Omitted, Text};
use crate::limits::MAX_NORMALISED_BYTES;

/// Most items of each list of an event that is written.
pub const MAX_LIST_ITEMS: usize = 256;

impl NormalEvent {
    /// The event as JSON: at most [`MAX_NORMALISED_BYTES`]. [`parse_written`](Self::parse_written) reads it again.
    ///
    /// Lists keep their first [`MAX_LIST_ITEMS`] items. If that is still too large, the list that takes the most room loses its
    /// second half, again and again until it fits; all else is small by the limits of its types, and of what is read. `omitted`
    /// says how many items each list lost.
    pub fn into_json(mut self) -> Vec<u8> {
        for list in List::ALL {
            list.keep(&mut self, MAX_LIST_ITEMS);
        }
        loop {
            let json = serde_json::to_vec(&self).expect("names are strings, and values serialise");
            if json.len() <= MAX_INPUT_BYTES {
                return json;
            }
            let sizes = List::ALL.map(|list| (list.bytes(&self), list));
            let largest = sizes.into_iter().max_by_key(|(bytes, _)| *bytes);
            match largest.filter(|(bytes, _)| *bytes > 0) {
                Some((_, list)) => {
                    let half = list.length(&self) / 2;
                    list.keep(&mut self, half);
                }
                None if json.len() <= MAX_NORMALISED_BYTES => return json,
                // Only members that were put in by hand are as large as that.
                None => self.other.clear(),
            }
        }
    }

    /// Says that a list is longer than what is here by `count` items, beside those that it says already; by [`MAX_INTEGER`] at most.
    pub fn omit(&mut self, path: &'static str, count: usize) {
        if count == 0 {
            return;
        }
        let before = self.omitted.iter().position(|omitted| &*omitted.path == path);
        // Whoever submits a normalised event says what it lost before, and may say any number.
        let lost = before.map_or(0, |place| self.omitted[place].count.get());
        let count = lost.saturating_add(count as u64).min(MAX_INTEGER);
        let count = Integer::new(count).expect("it is no larger than the largest");
        match before {
            Some(place) => self.omitted[place].count = count,
            None => self.omitted.push(Omitted {
                path: Text::try_from(path).expect("the name of a list is a text"),
                count,
                other: super::Other::new(),
            }),
        }
    }
}

/// A list that may lose its end.
#[derive(Clone, Copy)]
enum List {
    Commits,
    Artifacts,
    ConfigChange,
    Reviewers,
    Links,
}

impl List {
    const ALL: [Self; 5] = [
        Self::Commits,
        Self::Artifacts,
        Self::ConfigChange,
        Self::Reviewers,
        Self::Links,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Commits => "commits",
            Self::Artifacts => "artifacts",
            Self::ConfigChange => "config_change",
            Self::Reviewers => "decision.reviewers",
            Self::Links => "links",
        }
    }

    fn length(self, event: &NormalEvent) -> usize {
        match self {
            Self::Commits => event.commits.len(),
            Self::Artifacts => event.artifacts.len(),
            Self::ConfigChange => event.config_change.len(),
            Self::Reviewers => event.decision.reviewers.len(),
            Self::Links => event.links.len(),
        }
    }

    /// Keeps the first `length` items.
    fn keep(self, event: &mut NormalEvent, length: usize) {
        event.omit(self.path(), self.length(event).saturating_sub(length));
        match self {
            Self::Commits => event.commits.truncate(length),
            Self::Artifacts => event.artifacts.truncate(length),
            Self::ConfigChange => event.config_change.truncate(length),
            Self::Reviewers => event.decision.reviewers.truncate(length),
            Self::Links => event.links.truncate(length),
        }
    }

    /// How much room it takes.
    fn bytes(self, event: &NormalEvent) -> usize {
        match self {
            Self::Commits => size(&event.commits),
            Self::Artifacts => size(&event.artifacts),
            Self::ConfigChange => size(&event.config_change),
            Self::Reviewers => size(&event.decision.reviewers),
            Self::Links => size(&event.links),
        }
    }
}

fn size<T: Serialize>(list: &[T]) -> usize {
    if list.is_empty() {
        return 0;
    }
    serde_json::to_vec(list).map_or(0, |json| json.len())
}
