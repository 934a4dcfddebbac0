//! A disk that loses power, under a real process.
//!
//! `strace` writes down every call that changes a file, with its bytes. Played back up to any one of them, that says what the
//! process had written and what of it was synced. A disk without power keeps the synced, and of the rest what it likes: nothing,
//! all, a part, some pages of it and zeros between, or, where synced bytes were written over, what was there before. A name is
//! synced with its directory and not with its file; names of one directory get lost from the newest back, as a journal keeps their
//! order.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _},
    path::{Component, Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use fastrand::Rng;

use crate::skip;

/// Calls that change a file or make changes durable. None that the server makes may be missing: what was played back is compared
/// with what is there.
const CALLS: &str = "trace=open,openat,creat,write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,rename,renameat,\
     renameat2,unlink,unlinkat,ftruncate,truncate,fallocate,mkdir,mkdirat,rmdir,link,linkat";
/// No call writes more at once.
const MAX_WRITE_BYTES: usize = 64 * 1024 * 1024;
const PAGE_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether there is an `strace` that may trace. Says so where there is none; under CI there has to be.
pub fn can_trace() -> bool {
    let works = Command::new("strace")
        .args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        skip("this needs strace 5.3 or later, allowed to trace");
    }
    works
}

/// What a command is put behind, so that its calls are recorded in a file.
pub fn recorder(file: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-ttt",
        "-e",
        CALLS,
        "-s",
    ]
    .map(OsString::from)
    .into();
    words.extend([MAX_WRITE_BYTES.to_string().into(), "-o".into(), file.into()]);
    words
}

/// One call.
#[derive(Debug)]
struct Call {
    began: SystemTime,
    what: What,
}

#[derive(Debug)]
enum What {
    Open {
        path: PathBuf,
        truncates: bool,
    },
    Append {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Write {
        path: PathBuf,
        bytes: Vec<u8>,
        at: usize,
    },
    Resize {
        path: PathBuf,
        length: usize,
    },
    /// The calls before this one will be durable once the sync ends.
    SyncBegins {
        path: PathBuf,
        thread: u32,
    },
    SyncEnds {
        thread: u32,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
}

/// What a process did to the files under one directory.
pub struct Recording {
    calls: Vec<Call>,
    /// How many more were cut off, each of which may have changed something or nothing.
    cut_off: usize,
}

impl Recording {
    /// Runs a command until it ends well, its calls written down in a file.
    pub fn of(command: &Command, file: &Path, root: &Path) -> Self {
        let (recording, ended) = Self::of_any(command, file, root);
        assert!(ended.success(), "{command:?} ended with {ended}");
        recording
    }

    /// The same however it ends.
    pub fn of_any(command: &Command, file: &Path, root: &Path) -> (Self, ExitStatus) {
        let tracer = recorder(file);
        let mut traced = Command::new(&tracer[0])
            .args(&tracer[1..])
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ended = traced.wait().unwrap();
        (Self::read(file, traced.id(), root), ended)
    }

    /// Reads what the recorder wrote, once the process `id` has ended.
    pub fn read(file: &Path, id: u32, root: &Path) -> Self {
        let mut reader = Reader {
            root,
            unfinished: HashMap::new(),
            calls: Vec::new(),
            cut_off: 0,
        };
        for line in trace(file, id).lines() {
            reader.read(line);
        }
        for (_, call) in std::mem::take(&mut reader.unfinished).into_values() {
            reader.cut_off(&call);
        }
        Self {
            calls: reader.calls,
            cut_off: reader.cut_off,
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The places of the calls right after those that appended to a file under this path.
    pub fn after_writes_to(&self, file: impl AsRef<Path>) -> Vec<usize> {
        let is_one = |call: &Call| matches!(&call.what, What::Append { path, .. } if path == file.as_ref());
        (1..)
            .zip(&self.calls)
            .filter_map(|(next, call)| is_one(call).then_some(next))
            .collect()
    }
}

/// What `strace` wrote to a file, to its end: the process `id` has ended, or will soon.
pub(crate) fn trace(file: &Path, id: u32) -> String {
    let started = Instant::now();
    let end = format!("{id} ");
    loop {
        let text = fs::read(file).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(4096)..];
        let tail = String::from_utf8_lossy(tail);
        if tail
            .lines()
            .any(|line| line.trim_start().starts_with(&end) && line.contains("+++"))
        {
            return String::from_utf8(text).unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "strace does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

struct Reader<'a> {
    root: &'a Path,
    /// The arguments of calls that others came between.
    unfinished: HashMap<u32, (SystemTime, String)>,
    calls: Vec<Call>,
    cut_off: usize,
}

impl Reader<'_> {
    fn read(&mut self, line: &str) {
        // Numbers are padded.
        let (thread, rest) = line.trim_start().split_once(' ').unwrap();
        let (began, rest) = rest.trim_start().split_once(' ').unwrap();
        let (thread, began, rest) = (thread.parse().unwrap(), moment(began), rest.trim_start());
        if rest.starts_with("+++") || rest.starts_with("---") {
            return;
        }
        if let Some(call) = rest.strip_suffix("<unfinished ...>") {
            self.begin(thread, began, call);
            self.unfinished.insert(thread, (began, call.to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").unwrap();
            let (began, begin) = self.unfinished.remove(&thread).unwrap();
            self.end(thread, began, &format!("{begin}{end}"));
        } else {
            self.begin(thread, began, rest);
            self.end(thread, began, rest);
        }
    }

    /// A sync covers what was written before it began.
    fn begin(&mut self, thread: u32, began: SystemTime, call: &str) {
        if let Some(arguments) = call.strip_prefix("fsync(").or(call.strip_prefix("fdatasync("))
            && let Some(path) = self.path_of_descriptor(arguments.split([',', ')']).next().unwrap().trim())
        {
            self.push(began, What::SyncBegins { path, thread });
        }
    }

    fn end(&mut self, thread: u32, began: SystemTime, call: &str) {
        let (name, rest) = call.split_once('(').unwrap();
        let (arguments, result) = rest.rsplit_once(" = ").unwrap();
        let arguments = arguments.trim_end().strip_suffix(')').unwrap();
        let arguments: Vec<&str> = arguments.split(", ").map(str::trim).collect();
        if result.starts_with('?') {
            return self.cut_off(call);
        }
        // It failed.
        if result.starts_with('-') {
            return;
        }
        let what = match name {
            "open" | "openat" | "creat" => {
                let flags = arguments
                    .iter()
                    .find(|argument| argument.contains("O_"))
                    .unwrap_or(&"");
                let opened = self.path_of_descriptor(result);
                opened
                    .filter(|_| flags.contains("O_CREAT"))
                    .map(|path| What::Open {
                        path,
                        truncates: flags.contains("O_TRUNC"),
                    })
            }
            "write" | "pwrite64" => self.path_of_descriptor(arguments[0]).map(|path| {
                let mut bytes = quoted(arguments[1]);
                bytes.truncate(result.parse().unwrap());
                match arguments.get(3) {
                    None => What::Append { path, bytes },
                    Some(at) => What::Write {
                        path,
                        bytes,
                        at: at.parse().unwrap(),
                    },
                }
            }),
            "fsync" | "fdatasync" => {
                let path = self.path_of_descriptor(arguments[0]);
                path.map(|_| What::SyncEnds { thread })
            }
            // It promises nothing.
            "sync_file_range" => None,
            "ftruncate" => self.path_of_descriptor(arguments[0]).map(|path| What::Resize {
                path,
                length: arguments[1].parse().unwrap(),
            }),
            "fallocate" if arguments[1].contains("KEEP_SIZE") => None,
            "rename" => self.path(arguments[0]).map(|from| What::Rename {
                from,
                to: self.path(arguments[1]).unwrap(),
            }),
            "renameat" | "renameat2" => self.path(arguments[1]).map(|from| What::Rename {
                from,
                to: self.path(arguments[3]).unwrap(),
            }),
            "link" => self.path(arguments[0]).map(|from| What::Link {
                from,
                to: self.path(arguments[1]).unwrap(),
            }),
            "linkat" => self.path(arguments[1]).map(|from| What::Link {
                from,
                to: self.path(arguments[3]).unwrap(),
            }),
            "unlink" | "rmdir" => self.path(arguments[0]).map(|path| What::Remove { path }),
            "unlinkat" => self.path(arguments[1]).map(|path| What::Remove { path }),
            "mkdir" => self.path(arguments[0]).map(|path| What::MakeDirectory { path }),
            // What else there is must not touch the directory.
            _ => {
                assert!(
                    !arguments.iter().any(|argument| self.is_within(argument)),
                    "the disk does not know this call: {call}"
                );
                None
            }
        };
        if let Some(what) = what {
            self.push(began, what);
        }
    }

    /// Takes down a call that never returned, if it may have changed something. Its end may be missing.
    fn cut_off(&mut self, call: &str) {
        let (name, arguments) = call.split_once('(').unwrap();
        let within = arguments
            .split(", ")
            .any(|argument| self.is_within(argument.trim_matches([' ', ')'])));
        self.cut_off += usize::from(within && !name.contains("sync"));
    }

    /// Whether an argument is a file under the root.
    fn is_within(&self, argument: &str) -> bool {
        self.path(argument).is_some() || self.path_of_descriptor(argument).is_some()
    }

    fn push(&mut self, began: SystemTime, what: What) {
        self.calls.push(Call { began, what });
    }

    /// The path of an argument such as `3</path>`, relative to the root. `None` outside of it, and once the file has no name.
    fn path_of_descriptor(&self, argument: &str) -> Option<PathBuf> {
        let (_, path) = argument.split_once('<')?;
        self.relative(path.strip_suffix('>')?)
    }

    /// The path of an argument in quotes.
    fn path(&self, argument: &str) -> Option<PathBuf> {
        self.relative(argument.strip_prefix('"')?.strip_suffix('"')?)
    }

    fn relative(&self, escaped: &str) -> Option<PathBuf> {
        let path = PathBuf::from(OsString::from_vec(unescaped(escaped)?));
        path.strip_prefix(self.root).ok().map(Path::to_owned)
    }
}

/// A time as `-ttt` prints it: seconds with six decimals.
fn moment(text: &str) -> SystemTime {
    let (seconds, micros) = text.split_once('.').unwrap();
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(seconds.parse().unwrap())
        + Duration::from_micros(micros.parse().unwrap())
}

fn quoted(argument: &str) -> Vec<u8> {
    let inner = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner
        .and_then(unescaped)
        .unwrap_or_else(|| panic!("cut short: {argument:.80}"))
}

/// With `-xx` every byte is `\x` and two digits. `None` for what is not written so: sockets, devices.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix("\\x")
        .map_or(Some(vec![]), |digits| hex::decode(digits.replace("\\x", "")).ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory(usize),
}

/// A file: what was written, and what of it is on the platter.
#[derive(Debug, Default, Clone)]
struct File {
    bytes: Vec<u8>,
    synced: Synced,
}

#[derive(Debug, Clone)]
enum Synced {
    /// The first so many bytes.
    Start(usize),
    /// Something that was changed since.
    Whole(Vec<u8>),
}

impl Default for Synced {
    fn default() -> Self {
        Self::Start(0)
    }
}

impl File {
    /// Before bytes from `at` on change.
    fn keep_synced(&mut self, at: usize) {
        if let Synced::Start(length) = self.synced
            && at < length
        {
            self.synced = Synced::Whole(self.bytes[..length].to_vec());
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        self.keep_synced(at);
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn resize(&mut self, length: usize) {
        self.keep_synced(length);
        self.bytes.resize(length, 0);
    }

    /// What the platter has of it.
    fn left(&self, loss: Loss, random: &mut Rng) -> Vec<u8> {
        let (synced, tail) = match &self.synced {
            Synced::Start(length) => self.bytes.split_at(*length),
            Synced::Whole(synced) if loss == Loss::All => return synced.clone(),
            Synced::Whole(_) if random.u8(..4) == 0 => return self.bytes.clone(),
            Synced::Whole(synced) => return self.mixed_with(synced, random),
        };
        if tail.is_empty() || loss == Loss::All {
            return synced.to_vec();
        }
        let mut left = self.bytes.clone();
        match random.u8(..5) {
            0 => left.truncate(synced.len()),
            1 => {}
            2 => left.truncate(synced.len() + random.usize(..=tail.len())),
            // Pages come in any order, and the file may be as long as the last of them.
            kind => {
                let first_page = synced.len() / PAGE_BYTES;
                for page in first_page..=left.len() / PAGE_BYTES {
                    let begin = (page * PAGE_BYTES).max(synced.len());
                    let end = ((page + 1) * PAGE_BYTES).min(left.len());
                    if random.bool() {
                        left[begin..end].fill(0);
                    }
                }
                if kind == 4 {
                    let pages = random.usize(first_page..=left.len() / PAGE_BYTES);
                    left.truncate((pages * PAGE_BYTES).clamp(synced.len(), left.len()));
                }
            }
        }
        left
    }

    /// Each page as it was synced or as it is, and the length likewise.
    fn mixed_with(&self, synced: &[u8], random: &mut Rng) -> Vec<u8> {
        let length = if random.bool() {
            synced.len()
        } else {
            self.bytes.len()
        };
        let mut left = vec![0; length];
        for (number, page) in left.chunks_mut(PAGE_BYTES).enumerate() {
            let begin = number * PAGE_BYTES;
            // What was cut off can only be as it was. What was added may be missing.
            let is_old = begin >= self.bytes.len() || random.bool();
            let source = if is_old { synced } else { self.bytes.as_slice() };
            let bytes = source.get(begin..).unwrap_or_default();
            let there = bytes.len().min(page.len());
            page[..there].copy_from_slice(&bytes[..there]);
        }
        left
    }
}

/// What happens to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is gone.
    All,
    /// Of each file and directory something else is left.
    Some,
}

#[derive(Debug, Clone)]
enum Change {
    Set(OsString, Entry),
    Unset(OsString),
    Move(OsString, OsString),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Set(name, entry) => drop(names.insert(name.clone(), *entry)),
            Self::Unset(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
        }
    }
}

type Names = BTreeMap<OsString, Entry>;

#[derive(Debug, Default, Clone)]
struct Directory {
    names: Names,
    synced: Names,
    /// Since then, oldest first.
    changes: Vec<Change>,
    /// How many were synced before those.
    durable: usize,
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// How many changes there were ever.
    fn changes(&self) -> usize {
        self.durable + self.changes.len()
    }

    /// Makes the first `changes` of all durable, if another sync has not.
    fn sync(&mut self, changes: usize) {
        let new = changes.saturating_sub(self.durable);
        self.durable += new;
        for change in self.changes.drain(..new) {
            change.apply(&mut self.synced);
        }
    }
}

/// A sync under way, and what it will have made durable.
#[derive(Debug, Clone)]
enum Sync {
    File(usize, Synced),
    Directory(usize, usize),
}

/// The files under a directory, as they are written and as they are on the platter.
#[derive(Clone)]
pub struct Disk {
    files: Vec<File>,
    /// The first is the root.
    directories: Vec<Directory>,
    syncs: HashMap<u32, Sync>,
}

impl Disk {
    /// As a directory is now, all of it synced.
    pub fn load(root: &Path) -> Self {
        let mut disk = Self {
            files: Vec::new(),
            directories: vec![Directory::default()],
            syncs: HashMap::new(),
        };
        disk.load_into(0, root);
        disk
    }

    fn load_into(&mut self, directory: usize, path: &Path) {
        for file in fs::read_dir(path).unwrap().map(Result::unwrap) {
            let kind = file.file_type().unwrap();
            let entry = if kind.is_dir() {
                let entry = self.new_directory();
                self.load_into(self.directories.len() - 1, &file.path());
                entry
            } else if kind.is_file() {
                let bytes = fs::read(file.path()).unwrap();
                self.files.push(File {
                    synced: Synced::Start(bytes.len()),
                    bytes,
                });
                Entry::File(self.files.len() - 1)
            } else {
                continue;
            };
            let directory = &mut self.directories[directory];
            directory.names.insert(file.file_name(), entry);
            directory.synced.insert(file.file_name(), entry);
        }
    }

    fn new_directory(&mut self) -> Entry {
        self.directories.push(Directory::default());
        Entry::Directory(self.directories.len() - 1)
    }

    /// Plays a recording. Before each of the calls at `places`, in order, `crash` is told when it began.
    pub fn play(
        &mut self,
        recording: &Recording,
        places: &[usize],
        mut crash: impl FnMut(&Self, SystemTime),
    ) {
        let mut places = places.iter().peekable();
        for (place, Call { began, what }) in recording.calls.iter().enumerate() {
            while places.next_if_eq(&&place).is_some() {
                crash(self, *began);
            }
            self.apply(what);
        }
    }

    /// Plays the first so many calls of a process that was killed then.
    pub fn play_first(&mut self, calls: usize, recording: &Recording) {
        for call in &recording.calls[..calls] {
            self.apply(&call.what);
        }
        // Nobody knows whether these came to an end.
        self.syncs.clear();
    }

    fn apply(&mut self, what: &What) {
        match what {
            What::Open { path, truncates } => match self.find(path) {
                None => {
                    self.files.push(File::default());
                    let entry = Entry::File(self.files.len() - 1);
                    self.change(path, |name| Change::Set(name, entry));
                }
                Some(Entry::File(file)) if *truncates => self.files[file].resize(0),
                Some(_) => {}
            },
            What::Append { path, bytes } => {
                if let Some(Entry::File(file)) = self.find(path) {
                    let at = self.files[file].bytes.len();
                    self.files[file].write(bytes, at);
                }
            }
            What::Write { path, bytes, at } => {
                if let Some(Entry::File(file)) = self.find(path) {
                    self.files[file].write(bytes, *at);
                }
            }
            What::Resize { path, length } => {
                if let Some(Entry::File(file)) = self.find(path) {
                    self.files[file].resize(*length);
                }
            }
            What::SyncBegins { path, thread } => {
                let sync = match self.find(path) {
                    // The writers of a file do not write while they sync; whatever else is rewritten stays as it was.
                    Some(Entry::File(file)) => Sync::File(file, Synced::Start(self.files[file].bytes.len())),
                    Some(Entry::Directory(directory)) => {
                        Sync::Directory(directory, self.directories[directory].changes())
                    }
                    None => return,
                };
                self.syncs.insert(*thread, sync);
            }
            What::SyncEnds { thread } => match self.syncs.remove(thread) {
                Some(Sync::File(file, synced)) => self.files[file].synced = synced,
                Some(Sync::Directory(directory, changes)) => self.directories[directory].sync(changes),
                None => {}
            },
            What::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "a name moves within its directory");
                let to = to.file_name().unwrap().to_owned();
                self.change(from, |from| Change::Move(from, to));
            }
            What::Link { from, to } => {
                let entry = self.find(from).unwrap();
                self.change(to, |name| Change::Set(name, entry));
            }
            What::Remove { path } => self.change(path, Change::Unset),
            What::MakeDirectory { path } => {
                let entry = self.new_directory();
                self.change(path, |name| Change::Set(name, entry));
            }
        }
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(OsString) -> Change) {
        let above = self.find(path.parent().unwrap());
        let Some(Entry::Directory(directory)) = above else {
            panic!("there is no directory for {}", path.display());
        };
        let name = path.file_name().unwrap().to_owned();
        self.directories[directory].change(change(name));
    }

    fn find(&self, path: &Path) -> Option<Entry> {
        path.components()
            .try_fold(Entry::Directory(0), |entry, component| match (entry, component) {
                (Entry::Directory(directory), Component::Normal(name)) => {
                    self.directories[directory].names.get(name).copied()
                }
                _ => None,
            })
    }

    /// Writes what is left after the power went into `target`, which must not exist.
    pub fn lose_power(&self, target: &Path, loss: Loss, random: &mut Rng) {
        self.write_directory(0, target, &mut |directory| {
            let mut names = directory.synced.clone();
            let kept = match loss {
                Loss::All => 0,
                Loss::Some => random.usize(..=directory.changes.len()),
            };
            for change in &directory.changes[..kept] {
                change.apply(&mut names);
            }
            let mut random = random.fork();
            (names, move |file: &File| file.left(loss, &mut random))
        });
    }

    /// Writes what the running system sees into `target`, which must not exist.
    pub fn write(&self, target: &Path) {
        self.write_directory(0, target, &mut |directory| {
            (directory.names.clone(), |file: &File| file.bytes.clone())
        });
    }

    /// Asserts that all that was written is what is there, but for what calls did that were cut off: none was overlooked.
    pub fn assert_is(&self, recording: &Recording, root: &Path) {
        let scratch = tempfile::tempdir().unwrap();
        let copy = scratch.path().join("copy");
        self.write(&copy);
        let different = different(&copy, root);
        assert!(
            different <= recording.cut_off,
            "{different} files are not what was played back, and {} calls were cut off",
            recording.cut_off
        );
    }

    fn write_directory<F: FnMut(&File) -> Vec<u8>>(
        &self,
        directory: usize,
        target: &Path,
        left: &mut impl FnMut(&Directory) -> (Names, F),
    ) {
        fs::create_dir(target).unwrap();
        let (names, mut bytes) = left(&self.directories[directory]);
        for (name, entry) in names {
            let path = target.join(name);
            match entry {
                Entry::Directory(below) => self.write_directory(below, &path, left),
                Entry::File(file) => {
                    fs::write(&path, bytes(&self.files[file])).unwrap();
                    // Keys that others may read are refused.
                    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
                }
            }
        }
    }
}

/// How many files are not the same. A call that was cut off has added to one at most, or put a new one in its place.
fn different(one: &Path, other: &Path) -> usize {
    let names = |path: &Path| {
        let files = fs::read_dir(path).unwrap().map(Result::unwrap);
        let kept = files.filter(|file| {
            let kind = file.file_type().unwrap();
            kind.is_file() || kind.is_dir()
        });
        let mut names: Vec<_> = kept.map(|file| file.file_name()).collect();
        names.sort();
        names
    };
    let lasting = |names: &[OsString]| -> Vec<_> {
        let is_new = |name: &&OsString| name.as_encoded_bytes().starts_with(b".new-");
        names.iter().filter(|name| !is_new(name)).cloned().collect()
    };
    let (played, found) = (names(one), names(other));
    assert_eq!(lasting(&played), lasting(&found), "in {}", other.display());
    // The kill may have cut off a call that the kernel had done: here that a new file took the place of an old one.
    let was_replaced = played != found;
    let mut files = 0;
    for name in lasting(&played) {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            files += different(&one, &other);
            continue;
        }
        let (played, found) = (fs::read(one).unwrap(), fs::read(&other).unwrap());
        if played != found {
            // Or a write.
            assert!(was_replaced || found.starts_with(&played), "{}", other.display());
            files += 1;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn synced_pages(pages: usize) -> File {
        let bytes = vec![1; pages * PAGE_BYTES];
        let synced = Synced::Start(bytes.len());
        File { bytes, synced }
    }

    #[test]
    fn pages_that_are_written_over_are_left_each_as_it_was_or_as_it_is() {
        let mut random = Rng::with_seed(1);
        let mut file = synced_pages(4);
        file.write(&[2; 5 * PAGE_BYTES], 0);
        assert!(file.left(Loss::All, &mut random) == [1_u8; 4 * PAGE_BYTES]);
        let (mut torn, mut lengths) = (0, BTreeSet::new());
        for _ in 0..100 {
            let left = file.left(Loss::Some, &mut random);
            let pages: Vec<_> = left.chunks(PAGE_BYTES).collect();
            lengths.insert(pages.len());
            for (number, page) in pages.iter().enumerate() {
                let before = u8::from(number < 4);
                assert!(**page == [before; PAGE_BYTES] || **page == [2_u8; PAGE_BYTES]);
            }
            torn += usize::from(left.contains(&1) && left.contains(&2));
        }
        assert!(torn > 0);
        assert_eq!(lengths, BTreeSet::from([4, 5]));
    }

    #[test]
    fn what_is_cut_off_is_left_as_it_was_or_is_gone() {
        let mut random = Rng::with_seed(1);
        let mut file = synced_pages(4);
        file.resize(2 * PAGE_BYTES);
        let lengths: BTreeSet<_> = (0..100)
            .map(|_| {
                let left = file.left(Loss::Some, &mut random);
                assert!(left.iter().all(|byte| *byte == 1));
                left.len()
            })
            .collect();
        assert_eq!(lengths, BTreeSet::from([2 * PAGE_BYTES, 4 * PAGE_BYTES]));
    }
}
