//! The heads of a round: fetched from everyone at once, each judged by itself.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_note::{Cosignature, HeadError, KeyKind, Note, NoteSignature, Policy, SignedHead};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};

use crate::{
    FindingKind,
    checks::{Checks, Fact},
    config::{BaseUrl, LogConfig},
    http::Http,
    source::{Source, SourceError, retry},
    state::State,
};

/// What a line of a log's bears at most: a time and an Ed25519 signature.
const MAX_SIGNATURE_BYTES: usize = 8 + 64;

/// A head that a source or observer showed as its newest, and that the log signed.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Who showed it.
    pub(crate) label: String,
    /// Its place among the log's sources; none if it is a witness's.
    pub(crate) source: Option<usize>,
    pub(crate) head: SignedHead,
    /// When it was signed, or cosigned by as many as count where that is later; none if nobody signed a time.
    pub(crate) time_unix_ms: Option<u64>,
    /// How old the newest head may be here.
    max_age: Duration,
    /// How long the answers took. It may have been signed meanwhile.
    waited: Duration,
}

/// When a round takes place, and how old a head may be then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) unix_ms: u64,
    pub(crate) max_age: Duration,
}

impl Now {
    /// Whether a time is longer ago than a head may be old.
    pub(crate) fn is_old(self, unix_ms: u64) -> bool {
        Duration::from_millis(self.unix_ms.saturating_sub(unix_ms)) > self.max_age
    }

    /// Whether a head was signed so long ago that everyone should have it; as far as it says.
    pub(crate) fn is_past(self, head: &SignedHead) -> bool {
        head.time().is_none_or(|time| self.is_old(time.get()))
    }
}

/// A witness's reading endpoint for one log.
pub(crate) struct Observer {
    label: String,
    url: reqwest::Url,
    http: Http,
}

impl Observer {
    pub(crate) fn new(base: &BaseUrl, log: &LogConfig, http: &Http) -> Self {
        let origin = hex::encode(Sha256::digest(log.origin.as_str()));
        Self {
            label: base.to_string(),
            url: base.join(&format!("{origin}/checkpoint")),
            http: http.clone(),
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    async fn head(&self) -> Result<Bytes, SourceError> {
        let limit = counterfoil_note::MAX_NOTE_BYTES;
        retry(|| self.http.get(self.url.clone(), None, limit)).await
    }
}

/// Asks everyone for the newest head, at once. Sources come first, in the order of the configuration.
pub(crate) async fn fetch(
    log: &LogConfig,
    sources: &[Source],
    observers: &[Observer],
    checks: &mut Checks,
) -> Vec<Shown> {
    let asked = Instant::now();
    let from_sources = join_all(sources.iter().map(Source::head));
    let from_observers = join_all(observers.iter().map(Observer::head));
    let (from_sources, from_observers) = tokio::join!(from_sources, from_observers);
    let waited = asked.elapsed();

    let mut shown = Vec::new();
    for (place, (source, note)) in sources.iter().zip(from_sources).enumerate() {
        shown.extend(judge(log, source.label(), Some(place), note, waited, checks));
    }
    for (observer, note) in observers.iter().zip(from_observers) {
        shown.extend(judge(log, observer.label(), None, note, waited, checks));
    }
    shown
}

/// Whether an answer is a head that the log signed.
fn judge(
    log: &LogConfig,
    label: &str,
    source: Option<usize>,
    note: Result<Bytes, SourceError>,
    waited: Duration,
    checks: &mut Checks,
) -> Option<Shown> {
    let note = match note {
        Ok(note) => note,
        Err(SourceError::NotServed(problem)) if source.is_none() => {
            checks.pass(FindingKind::Unreachable, label);
            checks.pass(FindingKind::InvalidAnswer, label);
            let problem = format!("The witness never cosigned a head of this log: {problem}.");
            checks.fail(FindingKind::WitnessBehind, label, problem);
            return None;
        }
        Err(SourceError::Invalid(problem)) => {
            checks.pass(FindingKind::Unreachable, label);
            checks.fail(
                FindingKind::InvalidAnswer,
                label,
                format!("Asked for a head: {problem}."),
            );
            return None;
        }
        Err(SourceError::Unreachable(problem) | SourceError::NotServed(problem)) => {
            checks.fail(
                FindingKind::Unreachable,
                label,
                format!("Asked for a head: {problem}."),
            );
            return None;
        }
    };
    checks.pass(FindingKind::Unreachable, label);
    if source.is_none() {
        // A source gives other answers too; see where they are asked for.
        checks.pass(FindingKind::InvalidAnswer, label);
    }
    let verified = verify(log, &note);
    let (head, cosignatures) = match verified {
        Ok(verified) => verified,
        Err(problem) => {
            checks.fail(FindingKind::BadSignature, label, format!("{problem}."));
            return None;
        }
    };
    checks.pass(FindingKind::BadSignature, label);
    if source.is_some() {
        match log.policy.check_quorum(&cosignatures) {
            Ok(()) => checks.pass(FindingKind::NoQuorum, label),
            Err(problem) => checks.fail_with(FindingKind::NoQuorum, label, format!("{problem}."), &[&head]),
        }
    }
    let signed = head.time().map(|time| time.get());
    let time_unix_ms = match source {
        Some(_) if !log.policy.is_quorum(&[]) => signed.max(cosigned_unix_ms(&log.policy, cosignatures)),
        // Without a quorum anybody's word would do, so none counts where the log has given its own.
        Some(_) => signed.or_else(|| cosigned_unix_ms(&log.policy, cosignatures)),
        // A witness speaks for itself.
        None => {
            let cosigned = cosignatures.iter().map(|by| by.time().get().saturating_mul(1000));
            signed.into_iter().chain(cosigned).max()
        }
    };
    Some(Shown {
        label: label.to_owned(),
        max_age: source.map_or(log.max_head_age, |place| log.sources[place].max_head_age),
        source,
        time_unix_ms,
        head,
        waited,
    })
}

/// The latest time at which or after which a quorum cosigned a head, and nothing of what fewer say: one witness could keep an old head
/// young for ever. Without a quorum rule the latest time of all.
fn cosigned_unix_ms(policy: &Policy, mut cosignatures: Vec<Cosignature>) -> Option<u64> {
    cosignatures.sort_by_key(|by| Reverse(by.time()));
    let last = (0..cosignatures.len()).find(|last| policy.is_quorum(&cosignatures[..=*last]))?;
    Some(cosignatures[last].time().get().saturating_mul(1000))
}

fn verify(log: &LogConfig, note: &[u8]) -> Result<(SignedHead, Vec<Cosignature>), String> {
    let head = log.policy.verify_head(note).map_err(|error| error.to_string())?;
    if *head.origin() != log.origin {
        return Err(format!(
            "the tree head is of the log {}, not of {}",
            head.origin(),
            log.origin
        ));
    }
    let cosignatures = log
        .policy
        .cosignatures(&head)
        .map_err(|error| error.to_string())?;
    let head = without_strangers(&log.policy, &head).map_err(|error| error.to_string())?;
    Ok((head, cosignatures))
}

/// The head without the lines that nobody verified: whoever serves it may add some, and it is kept and sent on.
fn without_strangers(policy: &Policy, head: &SignedHead) -> Result<SignedHead, HeadError> {
    let logs = policy.logs().iter().map(|log| (log.key.name(), log.key.id()));
    let witnesses = policy.witnesses().iter();
    let witnesses = witnesses.map(|witness| (witness.key.name(), witness.key.id()));
    let known: Vec<_> = logs.chain(witnesses).collect();
    let is_known = |line: &&NoteSignature| {
        let mut known = known.iter();
        known.any(|(name, id)| name.as_str() == line.name() && *id == line.id())
    };
    // Others may know the log by a key that the policy does not list.
    let is_own = |line: &&NoteSignature| {
        line.name() == head.origin().as_str() && line.payload().len() <= MAX_SIGNATURE_BYTES
    };
    let mut note = format!("{}\n", Note::parse(head.note_bytes())?.text());
    let lines = head.signatures().iter();
    for line in lines.filter(|line| is_known(line) || is_own(line)) {
        note.push_str(&format!("{line}\n"));
    }
    policy.verify_head(note.as_bytes())
}

/// How old the heads are by this machine's clock.
pub(crate) fn check_age(log: &LogConfig, shown: &Shown, state: &mut State, now: Now, checks: &mut Checks) {
    let (label, head) = (&shown.label, &shown.head);
    let now = Now {
        max_age: shown.max_age,
        ..now
    };
    if let Some(time_unix_ms) = shown.time_unix_ms {
        check_future(shown, time_unix_ms, now, checks);
    }
    let (kind, since_unix_ms) = match shown.source {
        Some(_) => (FindingKind::StaleHead, shown.time_unix_ms),
        None => match state.note_behind(label, head, now) {
            // Where nobody signed a time, the head is at least as old as this machine has known of a larger one.
            Some(since) => (FindingKind::WitnessBehind, shown.time_unix_ms.or(Some(since))),
            // A log that does not grow has nothing new for its witnesses.
            None => return checks.pass(FindingKind::WitnessBehind, label),
        },
    };
    let Some(since_unix_ms) = since_unix_ms else {
        if signs_times(log) {
            let detail = "The newest head bears no time, though the log has a key that signs one.";
            checks.fail_with(kind, label, detail, &[head]);
        }
        return;
    };
    if now.is_old(since_unix_ms) {
        let detail = format!(
            "The newest head, of size {}, is {} s old; {} s is the most.",
            head.size(),
            (now.unix_ms - since_unix_ms) / 1000,
            now.max_age.as_secs()
        );
        checks.fail_with(kind, label, detail, &[head]);
    } else {
        checks.pass(kind, label);
    }
}

/// Whether the policy has a key of the log that signs times. Such a log signs each head with all of its keys, so that a head without a
/// time has lost a line on its way.
fn signs_times(log: &LogConfig) -> bool {
    let keys = log.policy.logs().iter().map(|known| &known.key);
    keys.filter(|key| *key.name() == log.origin)
        .any(|key| matches!(key.kind(), KeyKind::TimestampedHead(_)))
}

fn check_future(shown: &Shown, time_unix_ms: u64, now: Now, checks: &mut Checks) {
    let (label, head) = (&shown.label, &shown.head);
    let ahead = Duration::from_millis(time_unix_ms.saturating_sub(now.unix_ms));
    if ahead.saturating_sub(shown.waited) > now.max_age {
        let detail = format!(
            "Size {} is signed {} s after this machine's now.",
            head.size(),
            ahead.as_secs()
        );
        checks.fail_with(FindingKind::FutureHead, label, detail, &[head]);
    } else {
        checks.pass(FindingKind::FutureHead, label);
    }
}

/// Whether a head goes back behind what was seen: of the same source, or signed before it anywhere; or whether one that was seen
/// goes back behind this. That needs no proof that the heads are of one history: what was shown to a witness alone counts as well.
/// Where no time is signed, a smaller head may be an old one that a cache kept, and convicts nobody.
pub(crate) fn check_rollback(one: &Shown, shown: &[Shown], state: &State, checks: &mut Checks) {
    let (label, head) = (&one.label, &one.head);
    let own = state.shown.get(label).filter(|known| known.size() > head.size());
    let others = || shown.iter().map(|other| &other.head);
    let known = || {
        let unlinked = state.unlinked.iter().map(|(_, head)| head);
        state.anchor.iter().chain(state.shown.values()).chain(unlinked)
    };
    let anywhere = known().chain(others());
    let larger = own
        .into_iter()
        .chain(anywhere)
        .find(|known| goes_back(head, known));
    // Of two that are shown now the smaller one's turn finds it.
    let smaller = match others().any(|other| goes_back(other, head)) {
        true => None,
        false => known().find(|known| goes_back(known, head)),
    };
    let rollback = larger
        .map(|larger| (larger, head))
        .or(smaller.map(|smaller| (head, smaller)));
    if let Some((larger, smaller)) = rollback {
        let proof = counterfoil_verify::Fact::Rollback {
            larger: larger.note_bytes().to_vec(),
            smaller: smaller.note_bytes().to_vec(),
        };
        return checks.add(Fact {
            kind: FindingKind::Rollback,
            subject: Some(label.clone()),
            detail: format!(
                "A tree of size {} was signed, and later by the log's own clock one of size {}.",
                larger.size(),
                smaller.size()
            ),
            heads: vec![larger.clone(), smaller.clone()],
            proof: Some(Ok(proof)),
        });
    }
    let Some(known) = own else {
        return checks.pass(FindingKind::ReplayedHead, label);
    };
    let detail = format!(
        "It showed a tree of size {} and now shows one of size {}.",
        known.size(),
        head.size()
    );
    checks.fail_with(FindingKind::ReplayedHead, label, detail, &[known, head]);
}

/// Whether a head is of a smaller tree than another, and was signed later.
fn goes_back(head: &SignedHead, other: &SignedHead) -> bool {
    head.size() < other.size() && other.time().is_some_and(|time| head.time() > Some(time))
}
