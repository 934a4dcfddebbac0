//! Tokens that have submitted once, until they expire: in memory, and in a file that outlives the server.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use counterfoil_files::{Readers, SecretError, read_secret, replace};

use super::super::Denied;

/// Tokens remembered at a time, of some 100 bytes each. Only tokens that a rule lets in get here.
const MAX_REMEMBERED: usize = 65_536;
/// The longest line of the file: a time and a name.
const MAX_LINE_BYTES: usize = 20 + 1 + 64 + 1;
/// Lines of the file: those of tokens that are remembered, and as many behind them before it is written anew.
const MAX_LINES: usize = 2 * MAX_REMEMBERED;

/// Names a token among those of all issuers.
pub(super) type TokenName = [u8; 32];

/// The name of an issuer's token with this `jti`.
pub(super) fn token_name(issuer: &str, jti: &str) -> TokenName {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(issuer.len() as u64).to_le_bytes());
    hasher.update(issuer.as_bytes());
    hasher.update(jti.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What was spent. It forgets nothing before its time: when it is full, or its file can't be written, it lets nothing more be
/// spent.
pub(super) struct Spent {
    names: SpentNames,
    /// When each may be forgotten, in seconds since 1970.
    by_time: BTreeSet<(i64, TokenName)>,
    journal: Journal,
}

/// The tokens that are spent, or are being spent, and not forgotten. Clones share them. Whoever asks does not wait for the disk.
#[derive(Clone)]
pub(super) struct SpentNames(Arc<Mutex<HashSet<TokenName>>>);

impl SpentNames {
    /// Whether a token was spent and has not been forgotten.
    pub(super) fn contains(&self, name: &TokenName) -> bool {
        self.lock().contains(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<TokenName>> {
        // It changes in one step each.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines `<when it may be forgotten> <name in hex>`, the newest last.
struct Journal {
    path: PathBuf,
    /// `None` before the first line is written, and after one could not be.
    file: Option<File>,
    lines: usize,
}

impl Spent {
    /// What the file says, if there is one.
    ///
    /// # Errors
    /// If it is damaged, or others can read or write it: nobody could tell what was used.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let mut by_time = BTreeSet::new();
        match read_secret(&path, MAX_LINES * MAX_LINE_BYTES) {
            Ok(text) => {
                let context = || {
                    format!(
                        "{} has the job tokens that were used, and can't be read. All of them have expired in an hour: then remove it",
                        path.display()
                    )
                };
                // What has expired too: the clock of a machine that starts may be hours ahead.
                by_time = parse(&text).with_context(context)?;
            }
            Err(SecretError::Io(problem)) if problem.kind() == ErrorKind::NotFound => {}
            Err(problem) => return Err(problem).with_context(|| path.display().to_string()),
        }
        let names = by_time.iter().map(|(_, name)| *name).collect();
        Ok(Self {
            names: SpentNames(Arc::new(Mutex::new(names))),
            by_time,
            journal: Journal {
                path,
                file: None,
                lines: 0,
            },
        })
    }

    /// What was spent, for those who ask while another is.
    pub(super) fn names(&self) -> &SpentNames {
        &self.names
    }

    /// Spends a token that nobody can use from `until` on. When this returns, that is on disk. It may wait for the disk.
    pub(super) fn spend(&mut self, name: TokenName, until: i64, now: i64) -> Result<(), Denied> {
        let mut names = self.names.lock();
        while let Some((_, past)) = self.by_time.first().copied().filter(|(until, _)| *until < now) {
            self.by_time.pop_first();
            names.remove(&past);
        }
        if names.contains(&name) {
            return Err(Denied::Unauthenticated(
                "this token has submitted before: each is good for one call, so ask the job's platform for another".to_owned(),
            ));
        }
        if names.len() >= MAX_REMEMBERED {
            return Err(Denied::Undecided(
                "too many job tokens are being used; try again later".to_owned(),
            ));
        }
        names.insert(name);
        drop(names);
        self.by_time.insert((until, name));
        // A crash here leaves a token that was not used, or one that was and submitted nothing.
        self.journal.add(until, name, &self.by_time).map_err(|problem| {
            tracing::error!(path = %self.journal.path.display(), problem = %format!("{problem:#}"), "can't record that a job token was used");
            // Nothing was submitted with it, and whoever tries again comes by here again. Its line may be on disk all the same, as
            // if it had been used, until the next token has the file written anew: a restart before that refuses it.
            self.journal.file = None;
            self.names.lock().remove(&name);
            self.by_time.remove(&(until, name));
            Denied::Undecided("the server can't record that this token was used; try again later".to_owned())
        })
    }
}

impl Journal {
    /// Adds a line and waits until it is on disk. `live` is what has to be in the file, this line included.
    fn add(&mut self, until: i64, name: TokenName, live: &BTreeSet<(i64, TokenName)>) -> anyhow::Result<()> {
        match &mut self.file {
            Some(file) if self.lines < MAX_LINES => {
                file.write_all(line(until, &name).as_bytes())?;
                file.sync_data()?;
                self.lines += 1;
            }
            // At the first, so that no unfinished line is in front; later, so that it does not grow for ever.
            _ => {
                let lines: String = live.iter().map(|(until, name)| line(*until, name)).collect();
                replace(&self.path, lines.as_bytes(), Readers::Owner)?;
                self.file = Some(append_to(&self.path)?);
                self.lines = live.len();
            }
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

pub(super) fn line(until: i64, name: &TokenName) -> String {
    format!("{until} {}\n", hex::encode(name))
}

/// A last line that is not whole was being written when the server died or the power went: its token was not used.
pub(super) fn parse(text: &str) -> anyhow::Result<BTreeSet<(i64, TokenName)>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let read = |line: &str| {
        let (until, digits) = line.split_once(' ')?;
        let mut name = [0; 32];
        hex::decode_to_slice(digits, &mut name).ok()?;
        Some((until.parse().ok()?, name))
    };
    let mut lines: Vec<_> = whole.lines().collect();
    // Its pages reach the disk in any order: it may have its end, and zeros in the place of what lies on the page before.
    lines.pop_if(|line| line.starts_with('\0'));
    (1..)
        .zip(lines)
        .map(|(place, line)| read(line).with_context(|| format!("line {place} is malformed")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use tempfile::TempDir;

    use super::*;

    fn opened(directory: &TempDir) -> anyhow::Result<Spent> {
        Spent::open(directory.path().join("spent"))
    }

    fn fresh() -> (TempDir, Spent) {
        let directory = tempfile::tempdir().unwrap();
        let spent = opened(&directory).unwrap();
        (directory, spent)
    }

    #[test]
    fn a_token_is_spent_once_and_forgotten_when_nobody_can_use_it() {
        let (_directory, mut spent) = fresh();
        let (one, other) = (token_name("a", "bc"), token_name("ab", "c"));
        assert_ne!(one, other);
        spent.spend(one, 100, 0).unwrap();
        spent.spend(other, 200, 0).unwrap();
        assert!(matches!(
            spent.spend(one, 100, 100),
            Err(Denied::Unauthenticated(_))
        ));
        spent.spend(token_name("a", "d"), 300, 101).unwrap();
        assert_eq!((spent.names.lock().len(), spent.by_time.len()), (2, 2));
        assert!(spent.spend(other, 200, 101).is_err());
    }

    #[test]
    fn a_token_stays_spent_over_a_restart_and_a_crash_in_the_middle_of_a_line() {
        let (directory, mut spent) = fresh();
        let names = [1, 2, 3].map(|number: u8| token_name("issuer", &number.to_string()));
        spent.spend(names[0], 100, 0).unwrap();
        spent.spend(names[1], 200, 0).unwrap();
        drop(spent);
        let path = directory.path().join("spent");
        let whole = fs::read(&path).unwrap();
        let last = line(300, &names[2]);
        let at_a_page = "\0".repeat(20) + &last[20..];
        for torn in ["", "3", "300 ", &last[..50], at_a_page.as_str()] {
            fs::write(&path, [&whole, torn.as_bytes()].concat()).unwrap();
            // By this machine's clock both have expired long ago. It may be wrong when the server starts.
            let mut spent = opened(&directory).unwrap();
            assert!(spent.spend(names[1], 200, 150).is_err(), "{torn:?}");
            // The first has expired.
            assert_eq!(spent.names.lock().len(), 1);
            spent.spend(names[2], 300, 150).unwrap();
            drop(spent);
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                line(200, &names[1]) + &line(300, &names[2])
            );
            let mut spent = opened(&directory).unwrap();
            assert!(spent.spend(names[2], 300, 150).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let (directory, mut spent) = fresh();
        spent.spend(token_name("issuer", "a"), 100, 0).unwrap();
        let path = directory.path().join("spent");
        let good = fs::read_to_string(&path).unwrap();
        for damaged in [
            good.replace("100", "1x0"),
            good.replace("100 ", "100"),
            good.replace('\n', "0\n"),
            // Another was synced after it.
            "\0".repeat(20) + &good[20..] + &good,
        ] {
            fs::write(&path, &damaged).unwrap();
            assert!(opened(&directory).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn what_can_not_be_recorded_is_not_let_in_and_not_used_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut spent = Spent::open(directory.path().join("none/spent")).unwrap();
        let name = token_name("issuer", "a");
        for _ in 0..2 {
            assert!(matches!(spent.spend(name, 100, 0), Err(Denied::Undecided(_))));
        }
        fs::create_dir(directory.path().join("none")).unwrap();
        spent.spend(name, 100, 0).unwrap();
        assert!(matches!(
            spent.spend(name, 100, 0),
            Err(Denied::Unauthenticated(_))
        ));
    }

    /// Nothing can be written by a file that was opened for reading.
    fn unwritable(directory: &TempDir) -> File {
        File::open(directory.path().join("spent")).unwrap()
    }

    #[test]
    fn a_line_that_could_not_be_written_is_taken_back() {
        let (directory, mut spent) = fresh();
        let [used, failed, next] = ["a", "b", "c"].map(|jti| token_name("issuer", jti));
        spent.spend(used, 100, 0).unwrap();
        spent.journal.file = Some(unwritable(&directory));
        assert!(matches!(spent.spend(failed, 200, 0), Err(Denied::Undecided(_))));
        // As if it had got there before the disk failed.
        let path = directory.path().join("spent");
        fs::write(&path, line(100, &used) + &line(200, &failed)).unwrap();
        assert!(opened(&directory).unwrap().names.contains(&failed));
        spent.spend(next, 300, 0).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            line(100, &used) + &line(300, &next)
        );
        assert!(spent.spend(used, 100, 0).is_err());
        spent.spend(failed, 200, 0).unwrap();
        assert!(spent.spend(failed, 200, 0).is_err());
        let reopened = opened(&directory).unwrap();
        assert_eq!(*reopened.names.lock(), *spent.names.lock());
    }

    #[test]
    fn of_calls_at_the_same_time_one_gets_through_also_where_another_failed() {
        let (directory, mut spent) = fresh();
        spent.spend(token_name("issuer", "a"), 100, 0).unwrap();
        spent.journal.file = Some(unwritable(&directory));
        let (name, spent) = (token_name("issuer", "b"), Mutex::new(spent));
        let answers: Vec<_> = thread::scope(|scope| {
            let calls: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| spent.lock().unwrap().spend(name, 100, 0)))
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let count = |is: fn(&Result<(), Denied>) -> bool| answers.iter().filter(|answer| is(answer)).count();
        assert_eq!(count(|answer| answer.is_ok()), 1, "{answers:?}");
        assert_eq!(count(|answer| matches!(answer, Err(Denied::Undecided(_)))), 1);
    }

    #[test]
    fn when_full_nothing_is_forgotten_and_nothing_more_let_in() {
        let (directory, mut spent) = fresh();
        let name = |number: usize| token_name("issuer", &number.to_string());
        // As if each had been spent: so many syncs would take a minute.
        for number in 0..MAX_REMEMBERED {
            spent.names.lock().insert(name(number));
            spent.by_time.insert((100, name(number)));
        }
        assert!(matches!(
            spent.spend(name(MAX_REMEMBERED), 100, 0),
            Err(Denied::Undecided(_))
        ));
        assert!(matches!(
            spent.spend(name(0), 100, 0),
            Err(Denied::Unauthenticated(_))
        ));
        spent.spend(name(MAX_REMEMBERED), 200, 101).unwrap();
        assert_eq!(opened(&directory).unwrap().names.lock().len(), 1);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let (directory, mut spent) = fresh();
        let name = |number: usize| token_name("issuer", &number.to_string());
        spent.spend(name(0), 100, 0).unwrap();
        spent.journal.lines = MAX_LINES;
        spent.spend(name(1), 300, 200).unwrap();
        let text = fs::read_to_string(directory.path().join("spent")).unwrap();
        assert_eq!(text, line(300, &name(1)));
        assert_eq!(spent.journal.lines, 1);
    }
}
