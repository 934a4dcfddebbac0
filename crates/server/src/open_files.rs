//! How many files may be open, and how many of them are the databases'.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::connections;

/// Files that a database may have open, however few the system allows: with fewer it would open tables all the time.
const MIN_OPEN_FILES: usize = 128;
/// As many tables as a log of 100 million entries has, and as many again.
const MAX_OPEN_FILES: usize = 8_192;

/// Databases and connections take file descriptors, and the limit that a process starts with is often low for the sake of
/// programs from long ago. A database that runs out of them can't write. Returns the limit now.
pub(crate) fn raise_file_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(problem) => {
            warn!(%problem, "can't raise the limit of open files");
            before.current
        }
    };
    // There may be none.
    limit.unwrap_or(u64::MAX)
}

pub(crate) fn warn_of_few_files(limit: u64) {
    if limit / 2 < connections::MAX_FILES {
        warn!(
            limit,
            "the limit of open files is low: connections alone may take {}, and a database that can't open a file stops writing. \
             Raise it (LimitNOFILE, --ulimit nofile)",
            connections::MAX_FILES
        );
    }
}

/// How many files each of so many databases may have open: half of the limit is theirs, the other for connections.
pub(crate) fn open_files(limit: u64, databases: usize) -> usize {
    let share = usize::try_from(limit / 2).unwrap_or(usize::MAX) / databases.max(1);
    share.clamp(MIN_OPEN_FILES, MAX_OPEN_FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_share_half_of_what_may_be_open() {
        assert_eq!(open_files(u64::MAX, 1), MAX_OPEN_FILES);
        assert_eq!(open_files(1 << 19, 100), (1 << 18) / 100);
        assert_eq!(open_files(8_192, 2), 2_048);
        assert_eq!(open_files(1_024, 3), 170);
        assert_eq!(open_files(1_024, 100), MIN_OPEN_FILES);
    }
}
