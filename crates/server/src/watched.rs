//! Configuration in small files that an operator may change while the server runs: a directory of `*.toml`, or one file.
//!
//! The files are looked at once a second, and read again where one appeared, changed or went away. A file that is broken
//! keeps the meaning that it had before, and counts for nothing if it had none; no other file waits for it: a mistake in one
//! neither lets anybody in nor keeps what was taken away elsewhere. One that can't be read now is tried again each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};
use zeroize::Zeroizing;

/// How often the files are looked at, and so how long a change waits at most.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest file.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The most files of a directory: all of them are looked at each time.
pub(crate) const MAX_FILES: usize = 10_000;
/// What a file has to be called in a directory, and not begin with a dot. Others are passed over: editors and atomic writers
/// leave some for a moment.
const EXTENSION: &str = "toml";

/// A file as it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    /// Its name without `.toml`.
    pub(crate) name: &'a str,
    /// What is in it.
    pub(crate) text: &'a str,
    /// Whether others than its owner may read or write it.
    pub(crate) exposed: bool,
}

/// What is understood of each file, by its name without `.toml`.
pub(crate) type Set<T> = Arc<BTreeMap<String, Arc<T>>>;

/// Files as they are understood now.
#[derive(Debug)]
pub(crate) struct Watched<T>(watch::Receiver<Found<T>>);

/// What there is.
#[derive(Debug)]
struct Found<T> {
    understood: Set<T>,
    /// The names of files that are there and were never understood.
    meaningless: BTreeSet<String>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the `*.toml` of a directory, or a file that is called so, and goes on doing so for as long as the runtime
    /// lives. What is not there is no error: it may appear. `parse` gets each file that is new or changed.
    ///
    /// Has to be called within a runtime.
    ///
    /// # Errors
    /// If a file is broken now, or can't be read, when there is nothing before it to keep to; or if the files can't be listed.
    pub(crate) fn start<P>(path: &Path, parse: P) -> anyhow::Result<Self>
    where
        P: Fn(File<'_>) -> anyhow::Result<T> + Send + Sync + 'static,
    {
        let mut files = Files::new(path, parse);
        let mut broken = files.refresh()?;
        if let Some((path, problem)) = broken.pop() {
            return Err(problem.context(format!("{} can't be used", path.display())));
        }
        let (sender, receiver) = watch::channel(files.found());
        task::spawn(follow(files, sender));
        Ok(Self(receiver))
    }

    /// Tells `known` the name of each file that is understood, those of now before this returns, and `gone` that of one that is there
    /// no more.
    ///
    /// Has to be called within a runtime.
    pub(crate) fn tell_names<K, G>(&self, known: K, gone: G)
    where
        K: Fn(&str) + Send + 'static,
        G: Fn(&str) + Send + 'static,
    {
        let mut watched = self.clone();
        let mut before = watched.current();
        for name in before.keys() {
            known(name);
        }
        task::spawn(async move {
            while watched.changed().await {
                let now = watched.current();
                for name in now.keys().filter(|name| !before.contains_key(*name)) {
                    known(name);
                }
                for name in before.keys().filter(|name| !now.contains_key(*name)) {
                    gone(name);
                }
                before = now;
            }
        });
    }
}

impl<T> Watched<T> {
    /// What is understood now.
    pub(crate) fn current(&self) -> Set<T> {
        self.0.borrow().understood.clone()
    }

    /// Waits until something else is understood, or another file can't be. False if nothing ever will be.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// What is understood now of the file of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.0.borrow().understood.get(name).cloned()
    }

    /// Whether there is a file of that name that was never understood.
    pub(crate) fn is_meaningless(&self, name: &str) -> bool {
        self.0.borrow().meaningless.contains(name)
    }
}

/// Looks again and again, until nobody wants to know.
async fn follow<T, P>(mut files: Files<T, P>, sender: watch::Sender<Found<T>>)
where
    T: Send + Sync + 'static,
    P: Fn(File<'_>) -> anyhow::Result<T> + Send + Sync + 'static,
{
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listing_failed = false;
    let path = files.path.clone();
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = sender.closed() => return,
        }
        let looked = task::spawn_blocking(move || {
            let refreshed = files.refresh();
            (files, refreshed)
        })
        .await;
        let (looked_at, refreshed) = match looked {
            Ok(looked) => looked,
            Err(ended) => {
                // Else the runtime is on its way out.
                if ended.is_panic() {
                    error!(path = %path.display(), "reading changed files panicked: they are followed no more until a restart");
                }
                return;
            }
        };
        files = looked_at;
        match refreshed {
            Ok(broken) => {
                listing_failed = false;
                for (path, problem) in broken {
                    let problem = format!("{problem:#}");
                    if files.is_understood(&path) {
                        error!(path = %path.display(), %problem, "a changed file is broken: what it said before stays in force");
                    } else {
                        error!(path = %path.display(), %problem, "a new file is broken and counts for nothing");
                    }
                }
            }
            Err(problem) if !listing_failed => {
                listing_failed = true;
                error!(problem = %format!("{problem:#}"), "can't look for changed files: what they said before stays in force");
            }
            Err(_) => {}
        }
        let found = files.found();
        sender.send_if_modified(|current| {
            let read = !same(&current.understood, &found.understood);
            if read {
                info!(path = %path.display(), files = found.understood.len(), "read changed files");
            }
            let changed = read || current.meaningless != found.meaningless;
            if changed {
                *current = found;
            }
            changed
        });
    }
}

fn same<T>(one: &Set<T>, other: &Set<T>) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other.iter())
            .all(|(one, other)| one.0 == other.0 && Arc::ptr_eq(one.1, other.1))
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    // A file that is renamed into place may have the time and length of the one before.
    inode: u64,
    mode: u32,
}

impl From<Metadata> for Stamp {
    fn from(metadata: Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
            mode: metadata.mode() & 0o777,
        }
    }
}

/// Why there is no new meaning.
#[derive(Debug)]
enum Failure {
    /// It is the file's own, and stays until the file changes.
    Broken(anyhow::Error),
    /// It may pass by itself: a want of file descriptors, a disk that fails, a right that is missing.
    Unreadable(io::Error),
}

/// What there is to know of a file.
struct Known<T> {
    /// As it was when it was last read. `None` if it never was.
    stamp: Option<Stamp>,
    /// `None` if the file was never understood.
    meaning: Option<Arc<T>>,
    /// Why it can't be read now, which was said.
    unreadable: Option<String>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            stamp: None,
            meaning: None,
            unreadable: None,
        }
    }
}

impl<T> Known<T> {
    /// Reads the file if it changed since it last was. Returns what is wrong with it, unless that was said before.
    fn look(
        &mut self,
        stamp: io::Result<Stamp>,
        read: impl FnOnce(Stamp) -> Result<T, Failure>,
    ) -> Option<anyhow::Error> {
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(problem) => return self.is_unreadable(problem),
        };
        if self.stamp == Some(stamp) {
            self.unreadable = None;
            return None;
        }
        let problem = match read(stamp) {
            Ok(meaning) => {
                self.meaning = Some(Arc::new(meaning));
                None
            }
            Err(Failure::Broken(problem)) => Some(problem),
            // The stamp stays the old one, so that it is tried again.
            Err(Failure::Unreadable(problem)) => return self.is_unreadable(problem),
        };
        self.stamp = Some(stamp);
        self.unreadable = None;
        problem
    }

    fn is_unreadable(&mut self, problem: io::Error) -> Option<anyhow::Error> {
        let text = problem.to_string();
        if self.unreadable.as_ref() == Some(&text) {
            return None;
        }
        self.unreadable = Some(text);
        Some(anyhow::Error::new(problem).context("it can't be read, which is tried again and again"))
    }
}

struct Files<T, P> {
    path: PathBuf,
    parse: P,
    known: BTreeMap<String, Known<T>>,
}

impl<T, P: Fn(File<'_>) -> anyhow::Result<T>> Files<T, P> {
    fn new(path: &Path, parse: P) -> Self {
        Self {
            path: path.to_owned(),
            parse,
            known: BTreeMap::new(),
        }
    }

    fn found(&self) -> Found<T> {
        let mut understood = BTreeMap::new();
        let mut meaningless = BTreeSet::new();
        for (name, known) in &self.known {
            if let Some(meaning) = &known.meaning {
                understood.insert(name.clone(), meaning.clone());
            } else {
                meaningless.insert(name.clone());
            }
        }
        Found {
            understood: Arc::new(understood),
            meaningless,
        }
    }

    /// Whether a file was understood once.
    fn is_understood(&self, path: &Path) -> bool {
        let known = name(path).and_then(|name| self.known.get(name));
        known.is_some_and(|known| known.meaning.is_some())
    }

    /// Reads what changed. Returns the files that changed and are broken, or newly can't be read.
    fn refresh(&mut self) -> anyhow::Result<Vec<(PathBuf, anyhow::Error)>> {
        let there = list(&self.path).with_context(|| format!("can't list {}", self.path.display()))?;
        self.known.retain(|name, _| there.contains_key(name));
        let mut broken = Vec::new();
        for (name, (path, stamp)) in there {
            let mut known = self.known.remove(&name).unwrap_or_default();
            let problem = known.look(stamp, |stamp| self.read(&name, &path, stamp));
            broken.extend(problem.map(|problem| (path, problem)));
            self.known.insert(name, known);
        }
        Ok(broken)
    }

    fn read(&self, name: &str, path: &Path, stamp: Stamp) -> Result<T, Failure> {
        let text = read(path)?;
        // Half of what is being written may mean something else than all of it.
        let after = fs::metadata(path).map_err(Failure::Unreadable)?;
        if Stamp::from(after) != stamp {
            let changed = io::Error::other("it changed while it was read");
            return Err(Failure::Unreadable(changed));
        }
        let file = File {
            name,
            text: &text,
            exposed: stamp.mode & 0o077 != 0,
        };
        (self.parse)(file).map_err(Failure::Broken)
    }
}

/// The files at `path`, by name, each with what tells whether it changed, or why that can't be told.
fn list(path: &Path) -> anyhow::Result<BTreeMap<String, (PathBuf, io::Result<Stamp>)>> {
    let mut files = BTreeMap::new();
    // What is called like a file has to be one. Docker makes a directory of a mount whose file is missing, and a link may lead
    // nowhere: taken for no file, either would open what somebody meant to shut.
    if let Some(name) = name(path) {
        if present(fs::symlink_metadata(path))?.is_some() {
            files.insert(name.to_owned(), (path.to_owned(), stamp_of_file(path)));
        }
        return Ok(files);
    }
    let is_directory = present(fs::metadata(path))?.is_some_and(|there| there.is_dir());
    if !is_directory {
        return Ok(files);
    }
    for (count, file) in named_in(path)?.enumerate() {
        anyhow::ensure!(
            count < MAX_FILES,
            "it holds more than {MAX_FILES} files *.{EXTENSION}, which is the most that a server follows"
        );
        let path = file?;
        let Some(name) = name(&path).map(str::to_owned) else {
            continue;
        };
        match present(fs::metadata(&path)) {
            Ok(Some(metadata)) if metadata.is_file() => {
                files.insert(name, (path, Ok(metadata.into())));
            }
            Ok(_) => {}
            Err(problem) => {
                files.insert(name, (path, Err(problem)));
            }
        }
    }
    Ok(files)
}

/// The stamp of what has to be a file.
fn stamp_of_file(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other(
            "it is no file: mounting one that is not there makes a directory",
        ));
    }
    Ok(metadata.into())
}

/// How many files of a directory count towards [`MAX_FILES`]: none if it is not there.
pub(crate) fn count(directory: &Path) -> io::Result<usize> {
    Ok(present(named_in(directory))?.map_or(0, Iterator::count))
}

/// The names of the files of a directory that are of this kind, in order: none if it is not there.
pub(crate) fn names<T: FromStr + Ord>(directory: &Path) -> io::Result<Vec<T>> {
    let mut names = Vec::new();
    for path in present(named_in(directory))?.into_iter().flatten() {
        names.extend(name(&path?).and_then(|name| name.parse::<T>().ok()));
    }
    names.sort();
    Ok(names)
}

/// What is in a directory that is not passed over by its name.
fn named_in(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<PathBuf>> + use<>> {
    let files = fs::read_dir(directory)?.map(|file| file.map(|file| file.path()));
    Ok(files.filter(|file| file.as_ref().map_or(true, |path| name(path).is_some())))
}

/// The name of a file without `.toml`. `None` if it is passed over.
fn name(path: &Path) -> Option<&str> {
    let named = path.extension().is_some_and(|extension| extension == EXTENSION);
    let name = path.file_stem()?.to_str()?;
    (named && !name.starts_with('.')).then_some(name)
}

/// `None` for what is not there, or went away since it was listed.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(problem) if problem.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        // It is no text.
        Err(problem) if problem.kind() == ErrorKind::InvalidData => Err(Failure::Broken(problem.into())),
        Err(problem) => Err(Failure::Unreadable(problem)),
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => Err(Failure::Broken(anyhow::anyhow!(
            "it is longer than {MAX_FILE_BYTES} bytes"
        ))),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::sync::mpsc;

    use super::*;

    fn number(file: File<'_>) -> anyhow::Result<u32> {
        Ok(file.text.trim().parse()?)
    }

    fn meanings(files: &Files<u32, impl Fn(File<'_>) -> anyhow::Result<u32>>) -> Vec<(String, u32)> {
        let understood = files.found().understood;
        understood
            .iter()
            .map(|(name, number)| (name.clone(), **number))
            .collect()
    }

    fn pairs(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
        expected
            .iter()
            .map(|(name, number)| ((*name).to_owned(), *number))
            .collect()
    }

    #[test]
    fn follows_what_appears_changes_and_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sources");
        let mut files = Files::new(&path, number);
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), []);
        assert!(names::<String>(&path).unwrap().is_empty());

        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.toml"), "1").unwrap();
        fs::write(path.join("b.toml"), "2").unwrap();
        for unfinished in ["b.toml.partial", ".new-Xk31", ".b.toml"] {
            fs::write(path.join(unfinished), "x").unwrap();
        }
        fs::write(path.join("note.txt"), "x").unwrap();
        fs::create_dir(path.join("c.toml")).unwrap();
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("a", 1), ("b", 2)]));
        assert_eq!(names::<String>(&path).unwrap(), ["a", "b", "c"]);
        assert!(names::<u32>(&path).unwrap().is_empty());

        fs::write(path.join("a.toml"), "10").unwrap();
        fs::remove_file(path.join("b.toml")).unwrap();
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("a", 10)]));
    }

    #[test]
    fn a_file_replaced_by_one_as_long_and_as_old_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_times(time).unwrap();
        };
        let mut files = Files::new(&path, number);
        write(&path, "1");
        files.refresh().unwrap();
        let other = directory.path().join("other");
        write(&other, "2");
        fs::rename(other, &path).unwrap();
        files.refresh().unwrap();
        assert_eq!(meanings(&files), pairs(&[("a", 2)]));
    }

    #[test]
    fn a_broken_file_keeps_what_it_said_and_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut files = Files::new(path, number);
        for name in ["kept", "changed", "removed"] {
            fs::write(path.join(name).with_extension(EXTENSION), "1").unwrap();
        }
        files.refresh().unwrap();

        fs::write(path.join("kept.toml"), "broken").unwrap();
        fs::write(path.join("new.toml"), "broken").unwrap();
        fs::write(path.join("changed.toml"), "22").unwrap();
        fs::remove_file(path.join("removed.toml")).unwrap();
        let broken = files.refresh().unwrap();
        let broken: Vec<_> = broken.iter().map(|(path, _)| path.file_name().unwrap()).collect();
        assert_eq!(broken, ["kept.toml", "new.toml"]);
        assert_eq!(meanings(&files), pairs(&[("changed", 22), ("kept", 1)]));
        // One that never meant anything is told from one that is not there.
        assert_eq!(files.found().meaningless, BTreeSet::from(["new".to_owned()]));
        assert!(files.is_understood(&path.join("kept.toml")));
        assert!(!files.is_understood(&path.join("new.toml")));

        // Said once, not each second.
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("changed", 22), ("kept", 1)]));
    }

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            modified: (1, 0),
            bytes: 1,
            inode,
            mode: 0o600,
        }
    }

    fn unreadable() -> io::Error {
        io::Error::other("too many open files")
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let mut known = Known::default();
        assert!(known.look(Ok(stamp(1)), |_| Ok(1)).is_none());
        for round in 0..3 {
            let problem = known.look(Ok(stamp(2)), |_| Err(Failure::Unreadable(unreadable())));
            // Said once, not each second.
            assert_eq!(problem.is_some(), round == 0);
            assert_eq!(known.meaning.as_deref(), Some(&1));
        }
        assert!(known.look(Ok(stamp(2)), |_| Ok(2)).is_none());
        assert_eq!(known.meaning.as_deref(), Some(&2));

        // The same where even its time can't be had; what did not change is not read again afterwards.
        let not_read = |_| -> Result<i32, Failure> { panic!("it did not change") };
        assert!(known.look(Err(unreadable()), not_read).is_some());
        assert!(known.look(Err(unreadable()), not_read).is_none());
        let problem = known.look(Err(io::Error::other("something else")), not_read);
        assert!(problem.is_some());
        assert!(known.look(Ok(stamp(2)), not_read).is_none());
        assert_eq!(known.meaning.as_deref(), Some(&2));
        assert!(known.look(Err(unreadable()), not_read).is_some());
    }

    /// Not even root can read these.
    #[test]
    fn files_that_can_t_be_read_hold_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut files = Files::new(path, number);
        fs::write(path.join("kept.toml"), "1").unwrap();
        fs::write(path.join("other.toml"), "1").unwrap();
        files.refresh().unwrap();

        // It leads to itself.
        fs::remove_file(path.join("kept.toml")).unwrap();
        symlink("kept.toml", path.join("kept.toml")).unwrap();
        // Nothing of ours is at its first address.
        symlink("/proc/self/mem", path.join("new.toml")).unwrap();
        fs::write(path.join("other.toml"), "22").unwrap();
        let broken = files.refresh().unwrap();
        let broken: Vec<_> = broken.iter().map(|(path, _)| path.file_name().unwrap()).collect();
        assert_eq!(broken, ["kept.toml", "new.toml"]);
        assert_eq!(meanings(&files), pairs(&[("kept", 1), ("other", 22)]));
        assert_eq!(files.known["new"].stamp, None, "it would not be tried again");
        assert!(files.refresh().unwrap().is_empty());

        fs::remove_file(path.join("kept.toml")).unwrap();
        fs::write(path.join("kept.toml"), "333").unwrap();
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("kept", 333), ("other", 22)]));
    }

    #[test]
    fn what_is_being_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let mut files = Files::new(&path, number);
        fs::write(&path, "1").unwrap();
        let before = Stamp::from(fs::metadata(&path).unwrap());
        fs::write(&path, "12").unwrap();
        let read = files.read("a", &path, before);
        assert!(matches!(read, Err(Failure::Unreadable(_))), "{read:?}");
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("a", 12)]));
    }

    /// As Kubernetes mounts a ConfigMap, and changes it.
    #[test]
    fn a_link_through_links_is_followed_to_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        for (version, text) in [("..1", "1"), ("..2", "2")] {
            fs::create_dir(place(version)).unwrap();
            fs::write(place(version).join("rules.toml"), text).unwrap();
        }
        symlink("..1", place("..data")).unwrap();
        symlink("..data/rules.toml", place("mounted")).unwrap();
        symlink(place("mounted"), place("a.toml")).unwrap();
        let mut files = Files::new(&place("a.toml"), number);
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("a", 1)]));
        symlink("..2", place("..new")).unwrap();
        fs::rename(place("..new"), place("..data")).unwrap();
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(meanings(&files), pairs(&[("a", 2)]));
    }

    #[test]
    fn what_is_called_like_a_file_and_is_none_can_t_be_read() {
        let makes: [fn(&Path); 4] = [
            |path| fs::create_dir(path).unwrap(),
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("rules.toml"), "1").unwrap();
            },
            |path| symlink("nowhere", path).unwrap(),
            |path| symlink("/dev/null", path).unwrap(),
        ];
        for make in makes {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.toml");
            let mut files = Files::new(&path, number);
            make(&path);
            let broken = files.refresh().unwrap();
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert_eq!(files.found().meaningless, BTreeSet::from(["a".to_owned()]));

            // Where there was a file, that keeps its meaning.
            let aside = directory.path().join("aside");
            fs::rename(&path, &aside).unwrap();
            fs::write(&path, "1").unwrap();
            assert!(files.refresh().unwrap().is_empty());
            fs::remove_file(&path).unwrap();
            fs::rename(&aside, &path).unwrap();
            assert_eq!(files.refresh().unwrap().len(), 1);
            assert_eq!(meanings(&files), pairs(&[("a", 1)]));
            // Until nothing is there any more.
            fs::rename(&path, &aside).unwrap();
            assert!(files.refresh().unwrap().is_empty());
            assert_eq!(meanings(&files), []);
        }
    }

    #[test]
    fn files_without_end_are_broken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long.toml");
        fs::write(&path, " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap()) + "1").unwrap();
        let broken = Files::new(&path, number).refresh().unwrap();
        assert!(broken[0].1.to_string().contains("longer than"), "{broken:?}");
    }

    #[test]
    fn as_many_files_are_followed_as_are_counted_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        assert_eq!(count(&path).unwrap(), 0);
        fs::create_dir(&path).unwrap();
        for number in 0..MAX_FILES {
            fs::write(path.join(format!("{number}.toml")), "1").unwrap();
        }
        for other in ["note.txt", "a.toml.partial", ".new-Xk31", ".b.toml"] {
            fs::write(path.join(other), "").unwrap();
        }
        assert_eq!(count(&path).unwrap(), MAX_FILES);
        let mut files = Files::new(&path, number);
        assert!(files.refresh().unwrap().is_empty());
        assert_eq!(files.found().understood.len(), MAX_FILES);

        fs::write(path.join("one-more.toml"), "1").unwrap();
        assert_eq!(count(&path).unwrap(), MAX_FILES + 1);
        let refused = files.refresh().unwrap_err();
        assert!(
            format!("{refused:#}").contains("more than 10000 files"),
            "{refused:#}"
        );
        assert_eq!(files.found().understood.len(), MAX_FILES);
    }

    #[tokio::test]
    async fn a_start_refuses_a_broken_file_and_then_follows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        fs::write(&path, "broken").unwrap();
        let refused = Watched::start(directory.path(), number).unwrap_err();
        assert!(
            format!("{refused:#}").contains("a.toml can't be used"),
            "{refused:#}"
        );

        fs::write(&path, "1").unwrap();
        let mut watched = Watched::start(directory.path(), number).unwrap();
        assert_eq!(*watched.get("a").unwrap(), 1);
        fs::write(&path, "22").unwrap();
        watched.0.changed().await.unwrap();
        assert_eq!(*watched.get("a").unwrap(), 22);
    }

    #[tokio::test]
    async fn names_are_told_as_files_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.toml"), "1").unwrap();
        fs::write(path("b.toml"), "1").unwrap();
        let watched = Watched::start(directory.path(), number).unwrap();
        let (sender, mut told) = mpsc::unbounded_channel();
        let gone = sender.clone();
        watched.tell_names(
            move |name| sender.send(format!("+{name}")).unwrap(),
            move |name| gone.send(format!("-{name}")).unwrap(),
        );
        assert_eq!(told.try_recv().unwrap(), "+a");
        assert_eq!(told.try_recv().unwrap(), "+b");
        // One that changes stays what it is.
        fs::write(path("b.toml"), "22").unwrap();
        fs::write(path("c.toml"), "1").unwrap();
        fs::remove_file(path("a.toml")).unwrap();
        let mut changed = [told.recv().await.unwrap(), told.recv().await.unwrap()];
        changed.sort();
        assert_eq!(changed, ["+c", "-a"]);
    }
}
