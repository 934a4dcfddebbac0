//! `counterfoil find`

use std::fmt::{self, Display};

use clap::Args;
use counterfoil_client::{Client, VerifiedEntry};
use counterfoil_event::IndexAttribute;
use counterfoil_merkle::LeafIndex;
use counterfoil_note::SignedHead;
use serde_json::{Value, json};

use crate::{
    commands::select::leaf_index,
    failure::{Exit, Failure},
    options::Common,
    output::{self, Output},
};

/// Entries that one call asks for.
const PAGE: u32 = 100;

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
    /// What was built, by its digest
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
    entries: Vec<VerifiedEntry>,
    head: SignedHead,
    more: bool,
    /// Every entry was read.
    scanned: bool,
    /// Entries whose payload was erased: a scan can't tell what they were about.
    unreadable: u64,
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
        );
        return Err(failure.hint(findings.reach()));
    }
    output.print(findings.json(), &findings);
    Ok(())
}

async fn ask_the_index(
    client: &Client,
    attribute: IndexAttribute,
    value: &str,
    from: LeafIndex,
    limit: u32,
) -> Result<Findings, Failure> {
    let mut entries = Vec::new();
    let mut first = from;
    loop {
        let most = (limit as usize - entries.len()).min(PAGE as usize);
        let most = u32::try_from(most).unwrap_or(PAGE);
        let page = client.find(attribute, value, first, most).await?;
        entries.extend(page.entries);
        let next = entries
            .last()
            .and_then(|last| LeafIndex::new(last.leaf_index.get() + 1).ok());
        match next {
            Some(next) if page.more && entries.len() < limit as usize => first = next,
            _ => {
                return Ok(Findings {
                    term: format!("{attribute} {value}"),
                    entries,
                    head: page.head,
                    more: page.more,
                    scanned: false,
                    unreadable: 0,
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
    let mut findings = Findings {
        term: format!("{attribute} {value}"),
        entries: Vec::new(),
        head: range.head().clone(),
        more: false,
        scanned: true,
        unreadable: 0,
    };
    loop {
        let page = range.next_page().await?;
        if page.is_empty() {
            return Ok(findings);
        }
        for entry in page {
            match entry.is_about(attribute, value) {
                Some(true) if findings.entries.len() == limit as usize => {
                    findings.more = true;
                    return Ok(findings);
                }
                Some(true) => findings.entries.push(entry),
                Some(false) => {}
                None => findings.unreadable += 1,
            }
        }
    }
}

impl Findings {
    /// How far the search reached: what it means that an entry is not there.
    fn reach(&self) -> String {
        let size = self.head.size();
        let erased = match self.unreadable {
            0 => String::new(),
            number => format!("; {number} of them were erased, and may have been about anything"),
        };
        let looked = if self.scanned {
            format!("all entries of the log's {size} were read and verified{erased}")
        } else {
            format!(
                "the server's search index was asked, at size {size}; no signature covers it, so it may leave entries out: --scan reads every entry"
            )
        };
        format!(
            "{looked}. Events that were never submitted, or that no adapter could read, are not found by this"
        )
    }

    fn json(&self) -> Value {
        let entries = self.entries.iter().map(|entry| {
            let attributes = entry.payload.as_ref().map(|payload| &payload.attributes);
            json!({
                "leaf_index": entry.leaf_index.get(),
                "leaf_hash": entry.leaf_hash.to_string(),
                "entry_fields": output::entry(&entry.entry),
                "attributes": attributes.map(output::attributes),
            })
        });
        json!({
            "entries": entries.collect::<Vec<_>>(),
            "more": self.more,
            "tree_size": self.head.size().get(),
            "root_hash": self.head.root().to_string(),
            "every_entry_read": self.scanned && !self.more,
            "unreadable": self.unreadable,
        })
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            let fields = &entry.entry;
            let about = entry.payload.as_ref().map_or("(erased)", |payload| {
                Some(payload.attributes.subject.as_str())
                    .filter(|subject| !subject.is_empty())
                    .unwrap_or(&payload.attributes.source)
            });
            writeln!(
                f,
                "{:>8}  {}  {:<24} {:<6} {}",
                entry.leaf_index,
                output::nanos(fields.time_unix_ns().get()),
                fields.event_type(),
                fields.authentication().as_str(),
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
        writeln!(f, "proved in {}", output::head_line(&self.head))?;
        write!(f, "note: {}", self.reach())
    }
}
