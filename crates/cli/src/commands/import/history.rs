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
        Ok(Self {
            repository,
            shallow: shallow
                .map(|commits| commits.iter().copied().collect())
                .unwrap_or_default(),
            tips: repository.head_id().map(|id| id.detach()).into_iter().collect(),
            tags: Vec::new(),
            skipped: Vec::new(),
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

    /// The first commit of the line that `HEAD` is on: the one name of a repository that no clone changes.
    fn root_commit(&self) -> Result<ObjectId, Failure> {
        let unknown = |why: String| {
            Failure::usage(format!(
                "the history's first commit, which names its source, is not known: {why}"
            ))
            .hint("give --source NAME")
        };
        let mut id = *self
            .tips
            .first()
            .ok_or_else(|| unknown("there is no commit".to_owned()))?;
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
