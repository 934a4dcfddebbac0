//! Signed heads: each is the log's, and its root is that of the entries at its size.
//!
//! A log signs a head a second for years, so they are read along with the entries, and none is kept.

use std::{io, iter::Peekable};

use counterfoil_merkle::{Digest, TreeSize};
use counterfoil_note::{HeadError, SignedHead};
use counterfoil_store::{Store, StoreError};

use super::Check;

const BESIDE: &str = "beside the database";

type Rows<'a> = Peekable<Box<dyn Iterator<Item = Result<(TreeSize, Box<[u8]>), StoreError>> + 'a>>;

/// The heads that the pass over the entries has yet to reach.
pub(super) struct Heads<'a> {
    /// Those in the database, in order of size.
    rows: Rows<'a>,
    /// Size and root of the one beside it.
    beside: Option<(TreeSize, Digest)>,
}

impl<'a> Heads<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self {
            rows: (Box::new(store.heads()) as Box<dyn Iterator<Item = _>>).peekable(),
            beside: None,
        }
    }
}

impl Check<'_> {
    /// Takes in the head beside the database, and checks what names the head that was published last.
    pub(super) fn begin_heads(&mut self, beside: io::Result<Vec<u8>>) {
        if let Err(problem) = self.store.published_head() {
            self.find("meta", "published", problem);
        }
        let note = match beside {
            Ok(note) => note,
            // There is none before the log was opened for the first time.
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return,
            Err(problem) => return self.find("heads", BESIDE, problem),
        };
        match self.verify_head(&note) {
            Ok(head) if head.size() <= self.state.size => {
                self.heads.beside = Some((head.size(), head.root()))
            }
            Ok(head) => self.find_rolled_back(BESIDE, head.size()),
            Err(problem) => self.find("heads", BESIDE, problem),
        }
    }

    /// Checks the heads of trees up to the one that the entries have made so far.
    pub(super) fn check_heads(&mut self) {
        let size = self.frontier.size();
        self.check_stored_heads(size);
        if let Some((_, signed)) = self.heads.beside.take_if(|(of, _)| *of == size) {
            self.compare_root(BESIDE, signed);
        }
    }

    /// Checks those that no entries were found for.
    pub(super) fn end_heads(&mut self) {
        self.check_stored_heads(TreeSize::MAX);
    }

    fn check_stored_heads(&mut self, up_to: TreeSize) {
        let is_later = |row: &Result<(TreeSize, Box<[u8]>), StoreError>| {
            row.as_ref().is_ok_and(|(size, _)| *size > up_to)
        };
        while let Some(row) = self.heads.rows.next_if(|row| !is_later(row)) {
            match row {
                Ok((size, note)) => self.check_stored_head(size, &note),
                Err(problem) => self.find("heads", "scan", problem),
            }
        }
    }

    fn check_stored_head(&mut self, stored_under: TreeSize, note: &[u8]) {
        self.report.heads += 1;
        let place = format!("size {stored_under}");
        let head = match self.verify_head(note) {
            Ok(head) => head,
            Err(problem) => return self.find("heads", place, problem),
        };
        let size = head.size();
        if size != stored_under {
            self.find("heads", place, format_args!("the head is for size {size}"));
        } else if size > self.state.size {
            self.find_rolled_back(&place, size);
        } else if size == self.frontier.size() {
            self.compare_root(&place, head.root());
        }
    }

    fn compare_root(&mut self, place: &str, signed: Digest) {
        let root = self.frontier.root();
        if root != signed {
            let problem = format_args!("the signed root is {signed}, the entries make {root}");
            self.find("heads", place, problem);
        }
    }

    fn find_rolled_back(&mut self, place: &str, signed: TreeSize) {
        let problem = format!(
            "the head was signed for size {signed}, and the log has {} entries: it was rolled back",
            self.state.size
        );
        self.find("heads", place, problem);
    }

    /// Every key of the log signed it.
    fn verify_head(&self, note: &[u8]) -> Result<SignedHead, HeadError> {
        let [first, others @ ..] = self.report.keys.as_slice() else {
            unreachable!("a log has a key");
        };
        for key in others {
            key.verify_head(note)?;
        }
        first.verify_head(note)
    }
}
