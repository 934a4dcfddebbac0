//! `counterfoil find`

use std::{
    fmt::{self, Display},
    ops::Range,
};

use clap::Args;
use counterfoil_client::{Client, VerifiedEntry};
use counterfoil_event::{Attributes, Entry, IndexAttribute};
use counterfoil_merkle::{Digest, LeafIndex};
use counterfoil_note::SignedHead;
use serde_json::{Value, json};

use crate::{
    commands::select::leaf_index,
    failure::{Exit, Failure},
    options::Common,
    output::{self, Output},
};

/// Entries that one call asks for. Few: they are in memory together, and each may have 25 MiB.
const PAGE: u32 = 8;

/// Find entries by what they are about, and verify each
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil find --artifact sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  counterfoil find --commit 6dcb09b5b57875f334f61aebed695e2e4193db5e --json

What is found is proved to be in the log. What is not found may be there all the same: no signature covers the
search index. With --scan the program reads every entry instead and sees for itself.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    term: Term,
    /// Pass over entries before this one
    #[arg(long, value_name = "INDEX", default_value = "0", value_parser = leaf_index)]
    from: LeafIndex,
    /// Stop after so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Read and verify every entry instead of asking the search index
    #[arg(long)]
    scan: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Term {
    /// What was built, by its digest: sha256:…
    #[arg(long, value_name = "DIGEST")]
    artifact: Option<String>,
    /// A commit, by its whole hash in hex
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,
    /// A repository, by its full name or the provider's id of it
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// A run of a workflow or pipeline, by the provider's id of it
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Who did it, by login or the provider's id
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Where it was deployed to
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

impl Term {
    fn attribute_and_value(self) -> Result<(IndexAttribute, String), Failure> {
        let terms = [
            (IndexAttribute::Artifact, self.artifact),
            (IndexAttribute::Commit, self.commit),
            (IndexAttribute::Repository, self.repository),
            (IndexAttribute::Run, self.run),
            (IndexAttribute::Actor, self.actor),
            (IndexAttribute::Environment, self.environment),
        ];
        terms
            .into_iter()
            .find_map(|(attribute, value)| Some((attribute, value?)))
            .ok_or_else(|| Failure::usage("nothing is named to look for"))
    }
}

/// What there is, as far as it was looked for.
struct Findings {
    term: String,
    entries: Vec<Hit>,
    unreadable: Unreadable,
    head: SignedHead,
    more: bool,
    /// The leaves that a scan read.
    read: Option<Range<u64>>,
}

/// What is shown of an entry. Its payload, of up to 25 MiB, is not.
struct Hit {
    leaf_index: LeafIndex,
    leaf_hash: Digest,
    fields: Entry,
    attributes: Attributes,
}

impl Hit {
    /// None if the payload is not served.
    fn of(entry: VerifiedEntry) -> Option<Self> {
        Some(Self {
            leaf_index: entry.leaf_index,
            leaf_hash: entry.leaf_hash,
            attributes: entry.payload?.attributes,
            fields: entry.entry,
        })
    }
}

/// Entries whose payload is not served: nothing shows what they are about, whatever the search index says.
#[derive(Default)]
struct Unreadable {
    number: u64,
    /// At most as many as were asked for.
    first: Vec<LeafIndex>,
}

impl Unreadable {
    fn add(&mut self, index: LeafIndex, limit: u32) {
        self.number += 1;
        if self.first.len() < limit as usize {
            self.first.push(index);
        }
    }
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    let Arguments {
        term,
        from,
        limit,
        scan,
    } = arguments;
    let (attribute, value) = term.attribute_and_value()?;
    let client = common.client().await?;
    let findings = if scan {
        read_every_entry(&client, attribute, &value, from, limit).await?
    } else {
        ask_the_index(&client, attribute, &value, from, limit).await?
    };
    if findings.entries.is_empty() {
        let failure = Failure::new(
            Exit::NotFound,
            format!("no entry with the {} was found", findings.term),
        )
        .detail("search", findings.json());
        let hints = unusual(attribute, &value)
            .into_iter()
            .chain(findings.unreadable())
            .chain([findings.reach()]);
        return Err(hints.fold(failure, |failure, hint| failure.hint(hint)));
    }
    output.print(findings.json(), &findings);
    Ok(())
}

/// What to try instead of a value that looks cut short. A log may hold any value, so it is looked for all the same.
fn unusual(attribute: IndexAttribute, value: &str) -> Option<String> {
    let is_hash = matches!(value.len(), 40 | 64) && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hint = match attribute {
        IndexAttribute::Artifact if !value.contains(':') => {
            "a digest begins with its algorithm: --artifact sha256:…"
        }
        IndexAttribute::Commit if !is_hash => "a commit is found by its whole hash, of 40 or 64 hex digits",
        _ => return None,
    };
    Some(hint.to_owned())
}

async fn ask_the_index(
    client: &Client,
    attribute: IndexAttribute,
    value: &str,
    from: LeafIndex,
    limit: u32,
) -> Result<Findings, Failure> {
    let (mut entries, mut unreadable) = (Vec::new(), Unreadable::default());
    let (mut first, mut left) = (from, limit as usize);
    loop {
        let most = u32::try_from(left).map_or(PAGE, |left| left.min(PAGE));
        let page = client.find(attribute, value, first, most).await?;
        left = left.saturating_sub(page.entries.len() + page.unreadable.len());
        entries.extend(page.entries.into_iter().filter_map(Hit::of));
        for index in page.unreadable {
            unreadable.add(index, limit);
        }
        match page.next {
            Some(next) if left > 0 => first = next,
            next => {
                return Ok(Findings {
                    term: format!("{attribute} {value}"),
                    entries,
                    unreadable,
                    head: page.head,
                    more: next.is_some(),
                    read: None,
                });
            }
        }
    }
}

async fn read_every_entry(
    client: &Client,
    attribute: IndexAttribute,
    value: &str,
    from: LeafIndex,
    limit: u32,
) -> Result<Findings, Failure> {
    let mut range = client.entries(from, 0, true).await?;
    let head = range.head().clone();
    let (mut entries, mut unreadable, mut more) = (Vec::new(), Unreadable::default(), false);
    let mut read = from.get()..from.get();
    'pages: loop {
        let page = range.next_page().await?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            let index = entry.leaf_index;
            match entry.is_about(attribute, value) {
                Some(true) if entries.len() == limit as usize => {
                    more = true;
                    break 'pages;
                }
                Some(true) => entries.extend(Hit::of(entry)),
                Some(false) => {}
                None => unreadable.add(index, limit),
            }
            read.end = index.size_after().get();
        }
    }
    Ok(Findings {
        term: format!("{attribute} {value}"),
        entries,
        unreadable,
        head,
        more,
        read: Some(read),
    })
}

impl Findings {
    /// How far the search reached: what it means that an entry is not there.
    fn reach(&self) -> String {
        let size = self.head.size();
        let looked = match &self.read {
            None => format!(
                "the server's search index was asked, at size {size}; no signature covers it, so it may leave entries out: --scan reads every entry"
            ),
            Some(_) if self.every_entry_read() => {
                format!("all entries of the log's {size} were read and verified")
            }
            Some(read) if read.is_empty() => format!("none of the log's {size} entries was read"),
            Some(read) => format!(
                "of the log's {size} entries {} to {} were read and verified, and no others",
                read.start,
                read.end - 1
            ),
        };
        format!(
            "{looked}. Events that were never submitted, or that no adapter could read, are not found by this"
        )
    }

    fn every_entry_read(&self) -> bool {
        self.read == Some(0..self.head.size().get())
    }

    /// What may be about it or not, in a line.
    fn unreadable(&self) -> Option<String> {
        let Unreadable { number, first } = &self.unreadable;
        if *number == 0 {
            return None;
        }
        let what = match self.read {
            None => "that the search index names may be about something else",
            Some(_) => "that were read may be about it too",
        };
        let leaves: Vec<_> = first.iter().map(LeafIndex::to_string).collect();
        let more = if *number > first.len() as u64 { ", …" } else { "" };
        Some(format!(
            "{number} {what}, as no payload is served: leaf {}{more}",
            leaves.join(", ")
        ))
    }

    fn json(&self) -> Value {
        let entries = self.entries.iter().map(|hit| {
            json!({
                "leaf_index": hit.leaf_index.get(),
                "leaf_hash": hit.leaf_hash.to_string(),
                "entry_fields": output::entry(&hit.fields),
                "attributes": output::attributes(&hit.attributes),
            })
        });
        let unreadable = self.unreadable.first.iter().map(|index| index.get());
        let read = self
            .read
            .as_ref()
            .map(|read| json!({"first_leaf_index": read.start, "number": read.end - read.start}));
        json!({
            "entries": entries.collect::<Vec<_>>(),
            "more": self.more,
            "tree_size": self.head.size().get(),
            "root_hash": self.head.root().to_string(),
            "entries_read": read,
            "every_entry_read": self.every_entry_read(),
            "unreadable": self.unreadable.number,
            "unreadable_leaf_indices": unreadable.collect::<Vec<_>>(),
        })
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hit in &self.entries {
            let Attributes { subject, source, .. } = &hit.attributes;
            let about = if subject.is_empty() { source } else { subject };
            writeln!(
                f,
                "{:>8}  {}  {:<24} {:<6} {}",
                hit.leaf_index,
                output::nanos(hit.fields.time_unix_ns().get()),
                hit.fields.event_type(),
                hit.fields.authentication().as_str(),
                output::printable(about)
            )?;
        }
        let more = if self.more { " and more" } else { "" };
        writeln!(
            f,
            "{}{more} with the {}",
            self.entries.len(),
            output::printable(&self.term)
        )?;
        if let Some(unreadable) = self.unreadable() {
            writeln!(f, "{unreadable}")?;
        }
        writeln!(f, "proved in {}", output::head_line(&self.head))?;
        write!(f, "note: {}", self.reach())
    }
}
