//! `counterfoil verify`

use std::path::{Path, PathBuf};

use clap::Args;
use counterfoil_client::{Error, Leaf};
use counterfoil_dsse::PublicKey;
use counterfoil_event::limits::MAX_DATA_BYTES;
use counterfoil_note::{Policy, SignedHead, VerifierKey};
use counterfoil_verify::{
    MAX_RECEIPT_TEXT_BYTES, Receipt, ReceiptError, VerifiedReceipt, WitnessedReceipt,
    is_invalid_in_every_version,
};
use serde_json::json;

use crate::{
    commands::{dsse::signed_by, evidence},
    failure::{Exit, Failure, LATER_VERSION},
    files,
    options::Common,
    output::{self, Facts, Output, TreeHead, Witnessed, indented},
};

/// Check a receipt, or evidence, offline; with --server, also that the log still says what the receipt says
#[derive(Args)]
#[command(after_help = "\
Example:
  counterfoil verify run-42.tlog-proof --payload run.json --policy trust.policy
  counterfoil verify run-42.tlog-proof --payload run.json --log-key @log.vkey
  counterfoil verify built.tlog-proof --payload provenance.json --dsse-key release.pem --log-key @log.vkey
  counterfoil verify run-42.tlog-proof --server http://127.0.0.1:7480
  counterfoil verify --evidence fork.evidence --log-key @log.vkey

Nothing is sent anywhere unless --server is typed: the variable COUNTERFOIL_SERVER does not count here.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    /// What was recorded, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "evidence")]
    payload: Option<PathBuf>,
    /// A public key in PEM that has to have signed the payload, a DSSE envelope
    #[arg(long, value_name = "FILE", requires = "payload")]
    dsse_key: Option<PathBuf>,
}

/// What to check.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The receipt (.tlog-proof)
    receipt: Option<PathBuf>,
    /// Evidence that a log misbehaved (.evidence) instead of a receipt
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// What the live log added to an offline check.
struct Live {
    head: SignedHead,
    source: Option<String>,
    id: Option<String>,
    /// Whether the log lets the caller read what the entry only commits to.
    may_audit: bool,
}

pub(crate) async fn run(arguments: Arguments, common: &Common, output: &Output) -> Result<(), Failure> {
    if let Some(path) = &arguments.what.evidence {
        return evidence::run(path, common, output);
    }
    let path = arguments.what.receipt.as_ref();
    let path = path.expect("the command line has a receipt or evidence");
    let policy = common.policy()?;
    let receipt = read(path, &policy)?;
    let witnessed = receipt
        .verify_by(&policy)
        .map_err(|error| refused(path, &receipt, &error))?;
    let verified = witnessed.receipt();
    let mut payload = None;
    if let Some(path) = &arguments.payload {
        let payload = payload.insert(files::read(path, MAX_DATA_BYTES)?);
        verified.commits_to_payload(payload).map_err(|error| {
            Failure::untrusted(format!("{} is not what was recorded: {error}", path.display())).hint(format!(
                "leaf {} is in the log; but this payload, or the salt in the receipt, is not what it was made with",
                receipt.index
            ))
        })?;
    }
    let signer = match (&payload, &arguments.dsse_key) {
        (Some(payload), Some(key)) => Some(signed_by(key, payload)?),
        _ => None,
    };
    let live = match &common.server {
        Some(_) => Some(ask(verified, &receipt, common).await.map_err(|failure| {
            let what_of_the_log = match failure.exit {
                Exit::Untrusted | Exit::NotFound => ", but the log now says otherwise",
                Exit::Usage | Exit::Unavailable | Exit::Refused => "; the log could not be asked",
            };
            failure.after(&format!(
                "the receipt is genuine (leaf {} under a signed tree of size {}){what_of_the_log}",
                receipt.index,
                verified.head().size()
            ))
        })?),
        None => None,
    };
    let proved = Proved {
        policy: &policy,
        witnessed: &witnessed,
        signer: signer.as_ref(),
        live: live.as_ref(),
    };
    report(&arguments, &proved, output);
    Ok(())
}

fn read(path: &Path, policy: &Policy) -> Result<Receipt, Failure> {
    let bytes = files::read(path, MAX_RECEIPT_TEXT_BYTES)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::untrusted(format!("{} is not a receipt: it is not text", path.display())))?;
    Receipt::from_text_by(text, policy)
        .map_err(|error| Failure::untrusted(format!("{}: {error}", path.display())))
}

fn refused(path: &Path, receipt: &Receipt, error: &ReceiptError) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error {
        ReceiptError::NoQuorum(problem) => {
            Failure::no_quorum(Exit::Untrusted, message, problem).hint(format!(
                "a receipt straight from `submit` is not cosigned yet: `counterfoil receipt {}` fetches one that is",
                receipt.index
            ))
        }
        ReceiptError::Entry(problem) if !is_invalid_in_every_version(&receipt.entry, *problem) => {
            Failure::usage(message)
                .detail("kind", "unknown_entry")
                .hint(LATER_VERSION)
        }
        _ => Failure::untrusted(message),
    }
}

/// Has the log prove that its history still begins with the receipt's, and that the entry is what it was.
async fn ask(verified: &VerifiedReceipt, receipt: &Receipt, common: &Common) -> Result<Live, Failure> {
    let client = common.client().await?;
    client.take_in_head(&receipt.checkpoint)?;
    let head = client.head().await?;
    let leaf = Leaf::Index(receipt.index);
    // Whoever may not read payloads may have this proved all the same.
    let (entry, may_audit) = match client.entry(&leaf, true).await {
        Err(Error::Denied(_)) => (client.entry(&leaf, false).await?.0, false),
        found => (found?.0, true),
    };
    if entry.leaf_hash != verified.leaf_hash() {
        return Err(Failure::untrusted(format!(
            "leaf {} has another hash than in the receipt",
            receipt.index
        )));
    }
    let attributes = entry.payload.map(|payload| payload.attributes);
    let (source, id) = attributes
        .map(|attributes| (attributes.source, attributes.id))
        .unzip();
    Ok(Live {
        head,
        source,
        id,
        may_audit,
    })
}

/// What was learnt, and under whom.
struct Proved<'a> {
    policy: &'a Policy,
    witnessed: &'a WitnessedReceipt,
    signer: Option<&'a PublicKey>,
    live: Option<&'a Live>,
}

/// What the receipt proves, to be read.
fn proved(arguments: &Arguments, learnt: &Proved<'_>, cosigned: &[Witnessed]) -> Facts {
    let verified = learnt.witnessed.receipt();
    let (entry, head) = (verified.entry(), verified.head());
    let mut proved = Facts::default();
    proved
        .add("log", log(learnt.policy, head))
        .add(
            "leaf",
            format!("{}, hash {}", verified.index(), verified.leaf_hash()),
        )
        .add(
            "in tree",
            format!("{}, signed {}", output::head_line(head), output::signed(head)),
        )
        .add(
            "recorded",
            format!(
                "{}, by the log's clock",
                output::nanos(entry.time_unix_ns().get())
            ),
        )
        .add("type", entry.event_type())
        .add("channel", entry.source_id())
        .add("submitter", entry.authentication().as_str())
        .add(
            "payload",
            match &arguments.payload {
                Some(path) => format!("{} is what was recorded", path.display()),
                None => format!("{} bytes, {}", entry.payload_length(), entry.media_type()),
            },
        );
    if let Some(key) = learnt.signer {
        proved.add(
            "signed",
            format!("by the {} key {}", key.algorithm(), key.fingerprint()),
        );
    }
    for cosigned in cosigned {
        proved.add("cosigned", cosigned);
    }
    if learnt.policy.requires_cosignatures() {
        proved.add("quorum", learnt.policy.quorum());
    }
    if let Some(live) = learnt.live {
        proved.add(
            "log now",
            format!("{}, which continues the receipt's", output::head_line(&live.head)),
        );
        if let (Some(source), Some(id)) = (&live.source, &live.id) {
            proved.add("source", source).add("id", id);
        }
    }
    proved
}

/// What it may be taken to prove, and does not.
fn not_proved(arguments: &Arguments, learnt: &Proved<'_>, cosigned: &[Witnessed]) -> Vec<&'static str> {
    let mut open = Vec::new();
    open.push(match cosigned.is_empty() {
        true => {
            "that everyone is shown the same history: no witness vouches for it; --policy FILE can ask for some"
        }
        false => "that the witnesses are independent of the log and of each other: whoever wrote the policy says so",
    });
    if arguments.payload.is_none() {
        open.push("what the payload is: compare it with --payload FILE");
    }
    match learnt.live {
        Some(live) if live.source.is_some() && live.id.is_some() => {}
        Some(live) if live.may_audit => {
            open.push("the event's source, id and other attributes: the log does not serve them");
        }
        Some(_) => {
            open.push("the event's source, id and other attributes: the log shows them to auditors alone");
        }
        None => {
            open.push("that the log still has this history: ask it with --server URL");
            open.push("the event's source, id and other attributes: the receipt commits to them without naming them");
        }
    }
    open.push("that what the event says is true: the log records claims");
    open
}

fn report(arguments: &Arguments, learnt: &Proved<'_>, output: &Output) {
    let (verified, live) = (learnt.witnessed.receipt(), learnt.live);
    let cosigned = output::witnessed(learnt.policy, learnt.witnessed.cosignatures());
    let proved = indented(&proved(arguments, learnt, &cosigned).to_string());
    let open = not_proved(arguments, learnt, &cosigned);
    let not_proved = indented(&open.join("\n"));
    let json = json!({
        "verified": true,
        "leaf_index": verified.index().get(),
        "leaf_hash": verified.leaf_hash().to_string(),
        "tree_head": TreeHead::from(verified.head()),
        "entry_fields": output::entry(verified.entry()),
        "cosignatures": cosigned,
        "quorum": learnt.policy.quorum().to_string(),
        "payload_verified": arguments.payload.is_some(),
        "dsse_key": learnt.signer.map(|key| key.fingerprint().to_string()),
        "live_tree_head": live.map(|live| TreeHead::from(&live.head)),
        "source": live.and_then(|live| live.source.as_deref()),
        "id": live.and_then(|live| live.id.as_deref()),
        "not_proved": open,
    });
    output.print(
        json,
        format!("The receipt holds. It proves:\n{proved}It does not prove:\n{not_proved}"),
    );
}

/// The log, and which keys of it signed the head.
fn log(policy: &Policy, head: &SignedHead) -> String {
    let signed = |key: &&VerifierKey| {
        head.signatures()
            .iter()
            .any(|line| line.id() == key.id() && line.name() == key.name().as_str())
    };
    // Lines by other logs were not verified.
    let keys = policy.logs().iter().map(|log| &log.key);
    let keys = keys.filter(|key| key.name() == head.origin()).filter(signed);
    let keys: Vec<_> = keys.map(|key| key.id().to_string()).collect();
    format!("{}, key {}", head.origin(), keys.join(", "))
}
