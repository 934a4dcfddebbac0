//! What there is to import from a local repository, and in which order.
//!
//! Nothing in the repository is believed or run: its configuration is read in isolation, replacements and grafts are
//! ignored, and every object is hashed before it is used.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    path::Path,
};

use counterfoil_event::{Event, limits::MAX_DATA_BYTES};
use gix::{ObjectId, Repository, objs::Kind};

use super::object::{self, Object};
use crate::failure::Failure;

/// Bytes in front of an object's content when it is hashed: kind, length, a zero byte.
const MAX_OBJECT_HEADER_BYTES: usize = 32;
/// Most tags that point to tags, in a row.
const MAX_TAG_DEPTH: usize = 16;

/// The commits and tags of a repository.
pub(super) struct History {
    repository: Repository,
    /// The source of all events.
    pub(super) source: String,
    /// Commits, parents before children, then tags.
    pub(super) items: Vec<Item>,
    /// What could not be read, one sentence each.
    pub(super) skipped: Vec<String>,
}

/// One thing to record.
pub(super) enum Item {
    Commit(ObjectId),
    Tag(ObjectId),
    /// A name for an object that is not a tag.
    LightweightTag {
        name: Vec<u8>,
        target: ObjectId,
    },
}

impl History {
    /// Reads all ids. Objects are read again when they become events, so memory stays small.
    pub(super) fn read(path: &Path, source: Option<String>) -> Result<Self, Failure> {
        let options = gix::open::Options::isolated();
        let mut repository = gix::open_opts(path, options).map_err(|error| {
            Failure::usage(format!(
                "can't open {} as a git repository: {error}",
                path.display()
            ))
        })?;
        repository.objects.ignore_replacements = true;

        let mut walk = Walk::new(&repository)?;
        walk.references()?;
        walk.commits();
        // More than one name may lead to it.
        let mut told = HashSet::new();
        walk.skipped.retain(|problem| told.insert(problem.clone()));
        let source = match source {
            Some(source) => source,
            None => format!("git:{}", walk.root_commit()?),
        };
        let mut items: Vec<Item> = walk.oldest_first().into_iter().map(Item::Commit).collect();
        items.append(&mut walk.tags);
        let skipped = walk.skipped;
        Ok(Self {
            repository,
            source,
            items,
            skipped,
        })
    }

    /// The event for an item; or why there is none.
    pub(super) fn event(&self, item: &Item) -> Result<Event, String> {
        let event = match item {
            Item::Commit(id) => object::event(
                *id,
                Kind::Commit,
                &load(&self.repository, *id, Kind::Commit)?,
                &self.source,
            ),
            Item::Tag(id) => object::event(
                *id,
                Kind::Tag,
                &load(&self.repository, *id, Kind::Tag)?,
                &self.source,
            ),
            Item::LightweightTag { name, target } => object::lightweight_tag(name, *target, &self.source),
        };
        event.map_err(|error| error.to_string())
    }
}

/// Reads an object of a known kind; refuses one that a log does not take, and bytes with another hash.
fn load(repository: &Repository, id: ObjectId, expected: Kind) -> Result<Vec<u8>, String> {
    let kind = kind_within_limit(repository, id)?;
    if kind != expected {
        return Err(format!("{id} is a {kind} where a {expected} should be"));
    }
    let object = repository
        .find_object(id)
        .map_err(|error| format!("{kind} {id} can't be read: {error}"))?;
    let hash = gix::objs::compute_hash(id.kind(), object.kind, &object.data)
        .map_err(|error| format!("{kind} {id} can't be hashed: {error}"))?;
    if hash != id || object.kind != kind {
        return Err(format!("{kind} {id} is damaged: its bytes have the hash {hash}"));
    }
    Ok(object.detach().data)
}

fn kind_within_limit(repository: &Repository, id: ObjectId) -> Result<Kind, String> {
    let header = repository
        .try_find_header(id)
        .map_err(|error| format!("object {id} can't be read: {error}"))?
        .ok_or_else(|| format!("object {id} is missing"))?;
    let limit = (MAX_DATA_BYTES - MAX_OBJECT_HEADER_BYTES) as u64;
    let is_data = matches!(header.kind(), Kind::Commit | Kind::Tag);
    if is_data && header.size() > limit {
        return Err(format!(
            "{} {id} is {} bytes long, more than {limit}",
            header.kind(),
            header.size()
        ));
    }
    Ok(header.kind())
}

struct Node {
    id: ObjectId,
    committed_unix_s: i64,
    parents: Vec<ObjectId>,
}

struct Walk<'a> {
    repository: &'a Repository,
    /// Commits whose parents a shallow clone does not have.
    shallow: HashSet<ObjectId>,
    /// What `HEAD` leads to. None if that is nothing, or can't be read.
    head: Option<ObjectId>,
    tips: Vec<ObjectId>,
    tags: Vec<Item>,
    skipped: Vec<String>,
    nodes: Vec<Node>,
    /// Where each commit is in `nodes`.
    places: HashMap<ObjectId, usize>,
}

impl<'a> Walk<'a> {
    fn new(repository: &'a Repository) -> Result<Self, Failure> {
        let shallow = repository
            .shallow_commits()
            .map_err(|error| Failure::usage(format!("can't read where the shallow clone ends: {error}")))?;
        // The library would find none, and call that no error.
        let storage = repository.config_snapshot().string("extensions.refStorage");
        if let Some(storage) = storage.filter(|storage| storage != "files") {
            return Err(Failure::usage(format!(
                "the references are kept as {storage}, which is not known here"
            ))
            .hint("import a clone that has them as files: git clone --mirror --ref-format=files REPOSITORY CLONE"));
        }
        let mut skipped = Vec::new();
        let head = match repository.head() {
            // What is no commit, or is missing, is told when it is read as one.
            Ok(mut head) => head.try_peel_to_id().unwrap_or_else(|_| head.id()),
            Err(error) => {
                skipped.push(format!("HEAD can't be read: {error}"));
                None
            }
        };
        let head = head.map(|id| id.detach());
        Ok(Self {
            repository,
            shallow: shallow
                .map(|commits| commits.iter().copied().collect())
                .unwrap_or_default(),
            head,
            tips: head.into_iter().collect(),
            tags: Vec::new(),
            skipped,
            nodes: Vec::new(),
            places: HashMap::new(),
        })
    }

    /// Finds the commits and tags that references name.
    fn references(&mut self) -> Result<(), Failure> {
        let unreadable = |error: gix::Error| Failure::usage(format!("can't read the references: {error}"));
        let platform = self.repository.references().map_err(unreadable)?;
        let mut seen = HashSet::new();
        // Stashes and notes are nobody's business.
        for references in [
            platform.local_branches(),
            platform.remote_branches(),
            platform.tags(),
        ] {
            for reference in references.map_err(unreadable)? {
                match reference {
                    // One that names another reference has nothing of its own.
                    Ok(reference) => {
                        if let Some(target) = reference.try_id() {
                            self.reference(reference.name().as_bstr(), target.detach(), &mut seen);
                        }
                    }
                    Err(error) => self.skipped.push(format!("a reference can't be read: {error}")),
                }
            }
        }
        Ok(())
    }

    fn reference(&mut self, name: &[u8], target: ObjectId, seen: &mut HashSet<ObjectId>) {
        let mut id = target;
        for depth in 0..=MAX_TAG_DEPTH {
            let kind = match kind_within_limit(self.repository, id) {
                Ok(kind) => kind,
                Err(problem) => return self.skipped.push(problem),
            };
            if depth == 0 && kind != Kind::Tag && name.starts_with(b"refs/tags/") {
                self.tags.push(Item::LightweightTag {
                    name: name.to_owned(),
                    target,
                });
            }
            if kind == Kind::Commit {
                self.tips.push(id);
            }
            // Trees and blobs are not recorded, and an annotated tag once.
            if kind != Kind::Tag || !seen.insert(id) {
                return;
            }
            let content = match load(self.repository, id, Kind::Tag) {
                Ok(content) => content,
                Err(problem) => return self.skipped.push(problem),
            };
            self.tags.push(Item::Tag(id));
            match Object::parse(&content).ids("object").next() {
                Some(next) => id = next,
                None => return self.skipped.push(format!("tag {id} names no object")),
            }
        }
        self.skipped.push(format!(
            "tag {target} is the first of more than {MAX_TAG_DEPTH} in a row"
        ));
    }

    /// Reads every commit that the tips lead to.
    fn commits(&mut self) {
        let mut seen: HashSet<ObjectId> = self.tips.iter().copied().collect();
        let mut waiting = self.tips.clone();
        while let Some(id) = waiting.pop() {
            if self.places.contains_key(&id) {
                continue;
            }
            let content = match load(self.repository, id, Kind::Commit) {
                Ok(content) => content,
                Err(problem) => {
                    self.skipped.push(problem);
                    continue;
                }
            };
            let object = Object::parse(&content);
            let parents: Vec<ObjectId> = if self.shallow.contains(&id) {
                vec![]
            } else {
                object.ids("parent").collect()
            };
            waiting.extend(parents.iter().filter(|parent| seen.insert(**parent)));
            self.places.insert(id, self.nodes.len());
            self.nodes.push(Node {
                id,
                committed_unix_s: object.committed_unix_s(),
                parents,
            });
        }
    }

    /// The first commit of the line that `HEAD` is on: the one name of a repository that no clone changes. Another
    /// branch may begin elsewhere, so none stands in for it.
    fn root_commit(&self) -> Result<ObjectId, Failure> {
        let unknown = |why: String| {
            Failure::usage(format!(
                "the history's first commit, which names its source, is not known: {why}"
            ))
            .hint("give --source NAME")
        };
        let mut id = self.head.ok_or_else(|| {
            unknown("HEAD leads to no commit that can be read".to_owned())
                .hint("or let HEAD name a branch: git symbolic-ref HEAD refs/heads/NAME")
        })?;
        loop {
            if self.shallow.contains(&id) {
                return Err(unknown("this is a shallow clone".to_owned())
                    .hint("or fetch all history: git fetch --unshallow"));
            }
            let place = self
                .places
                .get(&id)
                .ok_or_else(|| unknown(format!("commit {id} can't be read")))?;
            match self.nodes[*place].parents.first() {
                Some(parent) => id = *parent,
                None => return Ok(id),
            }
        }
    }

    /// Parents before children; of those that could be next, the oldest (Kahn's algorithm).
    fn oldest_first(&self) -> Vec<ObjectId> {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut awaited = vec![0usize; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            for parent in node.parents.iter().filter_map(|parent| self.places.get(parent)) {
                children[*parent].push(place);
                awaited[place] += 1;
            }
        }
        let key = |place: usize| Reverse((self.nodes[place].committed_unix_s, self.nodes[place].id, place));
        let mut ready: BinaryHeap<_> = (0..self.nodes.len())
            .filter(|&place| awaited[place] == 0)
            .map(key)
            .collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse((_, id, place))) = ready.pop() {
            order.push(id);
            for &child in &children[place] {
                awaited[child] -= 1;
                if awaited[child] == 0 {
                    ready.push(key(child));
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use counterfoil_event::{adapter, normal::NormalEvent};
    use gix::objs::Write;
    use tempfile::TempDir;

    use super::*;
    use crate::failure::Exit;

    /// A bare repository made of raw objects and files, as hostile as it has to be.
    struct Scratch {
        directory: TempDir,
        repository: Repository,
    }

    impl Scratch {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let repository = gix::init_bare(directory.path()).unwrap();
            let scratch = Self {
                directory,
                repository,
            };
            scratch.set_head("ref: refs/heads/main");
            scratch
        }

        fn write(&self, kind: Kind, content: &[u8]) -> ObjectId {
            self.repository.objects.write_buf(kind, content).unwrap()
        }

        fn commit(&self, time: u32, parents: &[ObjectId]) -> ObjectId {
            let parents: String = parents
                .iter()
                .map(|parent| format!("parent {parent}\n"))
                .collect();
            let content = format!(
                "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n{parents}author A <a> {time} +0000\n\
                 committer A <a> {time} +0000\n\nat {time}\n"
            );
            self.write(Kind::Commit, content.as_bytes())
        }

        fn tag(&self, target: ObjectId, target_kind: Kind, name: &str) -> ObjectId {
            let content =
                format!("object {target}\ntype {target_kind}\ntag {name}\ntagger A <a> 5 +0000\n\n{name}\n");
            self.write(Kind::Tag, content.as_bytes())
        }

        fn reference(&self, name: &str, target: ObjectId) {
            let path = self.directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{target}\n")).unwrap();
        }

        fn set_head(&self, content: &str) {
            fs::write(self.directory.path().join("HEAD"), format!("{content}\n")).unwrap();
        }

        fn object_path(&self, id: ObjectId) -> std::path::PathBuf {
            let hex = id.to_string();
            self.directory
                .path()
                .join("objects")
                .join(&hex[..2])
                .join(&hex[2..])
        }

        fn read(&self, source: Option<&str>) -> Result<History, Failure> {
            History::read(self.directory.path(), source.map(str::to_owned))
        }

        /// The ids of all events, in order.
        fn events(&self) -> Vec<String> {
            let history = self.read(Some("s")).unwrap();
            history
                .items
                .iter()
                .map(|item| history.event(item).unwrap().id().to_owned())
                .collect()
        }
    }

    fn hex(ids: &[ObjectId]) -> Vec<String> {
        ids.iter().map(ObjectId::to_string).collect()
    }

    #[test]
    fn parents_come_before_children_and_older_before_newer() {
        let scratch = Scratch::new();
        let root = scratch.commit(100, &[]);
        // Its clock was wrong: it says that it is older than its parent.
        let early = scratch.commit(1, &[root]);
        let left = scratch.commit(300, &[early]);
        let right = scratch.commit(200, &[root]);
        let merge = scratch.commit(400, &[left, right]);
        let apart = scratch.commit(150, &[]);
        let tag = scratch.tag(merge, Kind::Commit, "v1");
        scratch.reference("refs/heads/main", merge);
        scratch.reference("refs/remotes/origin/apart", apart);
        scratch.reference("refs/tags/v1", tag);
        // Nobody's business.
        let stash = scratch.commit(500, &[merge]);
        scratch.reference("refs/stash", stash);

        assert_eq!(
            scratch.events(),
            hex(&[root, early, apart, right, left, merge, tag])
        );
        let history = scratch.read(None).unwrap();
        assert_eq!(history.source, format!("git:{root}"));
        assert!(history.skipped.is_empty());
        let payload = history.event(&history.items[0]).unwrap().data().clone();
        assert!(payload.starts_with(b"commit ") && payload.ends_with(b"\n\nat 100\n"));
    }

    /// The log reads what is imported: its commits are found by their ids.
    #[test]
    fn what_is_imported_has_a_normal_form() {
        let scratch = Scratch::new();
        let root = scratch.commit(1, &[]);
        let merge = scratch.commit(3, &[root, scratch.commit(2, &[root])]);
        scratch.reference("refs/heads/main", merge);
        scratch.reference("refs/tags/light", root);
        scratch.reference("refs/tags/v1", scratch.tag(merge, Kind::Commit, "v1"));
        let history = scratch.read(None).unwrap();
        assert_eq!(history.items.len(), 5);
        for item in &history.items {
            let event = adapter::submitted(history.event(item).unwrap()).unwrap();
            let (name, form) = event.normal_form().unwrap();
            let form = NormalEvent::parse(form).unwrap();
            assert_eq!((name, form.event_type.as_str()), ("git/1", event.event_type()));
            let expected = match item {
                Item::Commit(id) => Some(*id),
                Item::Tag(_) => Some(merge),
                Item::LightweightTag { .. } => None,
            };
            assert_eq!(
                form.commit.as_deref(),
                expected.map(|id| id.to_string()).as_deref()
            );
            assert_eq!(form.reference.name.is_some(), event.event_type() == "scm.tag");
        }
    }

    #[test]
    fn tags_of_every_kind_are_recorded_once() {
        let scratch = Scratch::new();
        let commit = scratch.commit(1, &[]);
        let blob = scratch.write(Kind::Blob, b"a key");
        let inner = scratch.tag(commit, Kind::Commit, "inner");
        let outer = scratch.tag(inner, Kind::Tag, "outer");
        let of_blob = scratch.tag(blob, Kind::Blob, "key");
        for (name, target) in [
            ("a", outer),
            ("b", outer),
            ("c", of_blob),
            ("d", commit),
            ("e", blob),
        ] {
            scratch.reference(&format!("refs/tags/{name}"), target);
        }
        let events = scratch.events();
        assert_eq!(events[..4], hex(&[commit, outer, inner, of_blob]));
        assert!(events[4..].iter().all(|id| id.starts_with("tag-")), "{events:?}");
        assert_eq!(events.len(), 6);
    }

    #[test]
    fn what_is_missing_or_damaged_is_said_and_the_rest_recorded() {
        let scratch = Scratch::new();
        let gone = scratch.commit(1, &[]);
        let damaged = scratch.commit(2, &[]);
        let other = scratch.commit(3, &[]);
        let child = scratch.commit(4, &[gone, damaged]);
        scratch.reference("refs/heads/main", child);
        scratch.reference("refs/heads/other", other);
        fs::remove_file(scratch.object_path(gone)).unwrap();
        // A well-formed object in the place of another.
        let path = scratch.object_path(damaged);
        fs::remove_file(&path).unwrap();
        fs::copy(scratch.object_path(other), path).unwrap();

        let history = scratch.read(Some("s")).unwrap();
        assert_eq!(history.items.len(), 2);
        let skipped = history.skipped.join("\n");
        assert!(
            skipped.contains(&format!("object {gone} is missing")),
            "{skipped}"
        );
        assert!(
            skipped.contains(&format!("commit {damaged} is damaged")),
            "{skipped}"
        );
        assert!(scratch.read(None).is_err());
    }

    /// As in a job of a CI system, which has no branches.
    #[test]
    fn a_head_that_leads_to_nothing_is_said() {
        let scratch = Scratch::new();
        let other = scratch.commit(1, &[]);
        scratch.reference("refs/heads/other", other);
        let gone = scratch.commit(2, &[]);
        fs::remove_file(scratch.object_path(gone)).unwrap();
        let skipped = || scratch.read(Some("s")).unwrap().skipped;
        scratch.set_head(&gone.to_string());
        assert_eq!(skipped(), [format!("object {gone} is missing")]);
        assert_eq!(scratch.events(), hex(&[other]));
        assert!(scratch.read(None).is_err());
        // Once, whatever leads to it.
        scratch.reference("refs/heads/main", gone);
        scratch.set_head("ref: refs/heads/main");
        assert_eq!(skipped(), [format!("object {gone} is missing")]);

        fs::write(scratch.directory.path().join("refs/heads/main"), "no id").unwrap();
        let skipped = skipped().join("\n");
        assert!(skipped.contains("HEAD can't be read"), "{skipped}");
        assert_eq!(scratch.events(), hex(&[other]));
    }

    /// As `git init --ref-format=reftable` leaves it.
    #[test]
    fn references_that_are_no_files_are_not_taken_for_none() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.directory.path().join(name);
        scratch.set_head("ref: refs/heads/.invalid");
        fs::remove_dir_all(path("refs")).unwrap();
        fs::create_dir(path("refs")).unwrap();
        fs::write(path("refs/heads"), "this repository uses the reftable format\n").unwrap();
        fs::write(
            path("config"),
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\trefstorage = reftable\n",
        )
        .unwrap();
        let failure = scratch.read(Some("s")).err().unwrap();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message().contains("reftable"), "{}", failure.message());
    }

    #[test]
    fn a_shallow_clone_needs_a_source_and_ends_where_it_says() {
        let scratch = Scratch::new();
        let gone = scratch.commit(1, &[]);
        let boundary = scratch.commit(2, &[gone]);
        let tip = scratch.commit(3, &[boundary]);
        scratch.reference("refs/heads/main", tip);
        fs::remove_file(scratch.object_path(gone)).unwrap();
        fs::write(scratch.directory.path().join("shallow"), format!("{boundary}\n")).unwrap();
        assert_eq!(scratch.events(), hex(&[boundary, tip]));
        assert!(scratch.read(Some("s")).unwrap().skipped.is_empty());
        assert!(scratch.read(None).is_err());
    }

    /// A mirror's `HEAD` may name a branch that is gone.
    #[test]
    fn without_head_no_other_branch_names_the_source() {
        let scratch = Scratch::new();
        let pages = scratch.commit(1, &[]);
        let main = scratch.commit(2, &[]);
        scratch.reference("refs/heads/gh-pages", pages);
        scratch.reference("refs/heads/main", main);
        assert_eq!(scratch.read(None).unwrap().source, format!("git:{main}"));
        scratch.set_head(&main.to_string());
        assert_eq!(scratch.read(None).unwrap().source, format!("git:{main}"));

        scratch.set_head("ref: refs/heads/master");
        let failure = scratch.read(None).err().unwrap();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message().contains("HEAD leads to no commit"));
        assert_eq!(scratch.events(), hex(&[pages, main]));
    }

    #[test]
    fn replacements_do_not_rewrite_history() {
        let scratch = Scratch::new();
        let honest = scratch.commit(1, &[]);
        let forged = scratch.commit(2, &[]);
        scratch.reference("refs/heads/main", honest);
        scratch.reference(&format!("refs/replace/{honest}"), forged);
        let history = scratch.read(None).unwrap();
        assert_eq!(history.items.len(), 1);
        assert!(
            history
                .event(&history.items[0])
                .unwrap()
                .data()
                .ends_with(b"at 1\n")
        );
    }

    #[test]
    fn hostile_repositories_do_no_harm() {
        let scratch = Scratch::new();
        assert!(scratch.read(None).is_err());
        assert!(scratch.events().is_empty());

        let mut tag = scratch.commit(1, &[]);
        let mut kind = Kind::Commit;
        for depth in 0..MAX_TAG_DEPTH + 5 {
            tag = scratch.tag(tag, kind, &depth.to_string());
            kind = Kind::Tag;
        }
        scratch.reference("refs/tags/deep", tag);
        let aimless = scratch.write(Kind::Tag, b"no headers at all");
        scratch.reference("refs/tags/aimless", aimless);
        scratch.reference("refs/heads/absent", ObjectId::from_hex(&[b'e'; 40]).unwrap());
        fs::write(
            scratch.directory.path().join("refs/heads/garbage"),
            b"\xff\x00 not a ref",
        )
        .unwrap();
        let huge = [b"tree x\n\n".as_slice(), &vec![b'a'; MAX_DATA_BYTES]].concat();
        scratch.reference(
            "refs/heads/huge",
            scratch.repository.objects.write_buf(Kind::Commit, &huge).unwrap(),
        );

        let history = scratch.read(Some("s")).unwrap();
        let skipped = history.skipped.join("\n");
        for problem in [
            "in a row",
            "names no object",
            "is missing",
            "more than 26214",
            "reference can't be read",
        ] {
            assert!(skipped.contains(problem), "{problem:?} in {skipped}");
        }
        for item in &history.items {
            history.event(item).unwrap();
        }
        assert!(scratch.read(None).is_err());
    }

    #[test]
    fn reading_again_gives_the_same_events() {
        let scratch = Scratch::new();
        let root = scratch.commit(1, &[]);
        scratch.reference("refs/heads/main", scratch.commit(2, &[root]));
        scratch.reference("refs/tags/light", root);
        let all = |history: History| -> Vec<Event> {
            history
                .items
                .iter()
                .map(|item| history.event(item).unwrap())
                .collect()
        };
        assert_eq!(all(scratch.read(None).unwrap()), all(scratch.read(None).unwrap()));
    }
}
