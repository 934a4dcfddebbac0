//! One log: a round asks everyone for heads, compares them, follows the entries, and only then saves how far it came.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use counterfoil_note::{SignedHead, UnixMillis, VerifierKey};
use counterfoil_verify::Evidence;
use tokio::task;
use tracing::error;

use crate::{
    Event, Finding, FindingKind, StateError,
    checks::{Checks, Fact},
    config::LogConfig,
    desk::Desk,
    finding::printable,
    follow::{Chunk, Follower, Problem, Stopped, prove},
    heads::{self, Now, Observer, Shown},
    http::Http,
    link::{Linked, link},
    prove::Unproved,
    source::{Source, SourceError, within},
    state::{Cursor, Mismatch, State, StateFile, Unread},
};

/// How long a round follows entries from one source. What is left is for the next round, which starts at once.
const MAX_FOLLOWING: Duration = Duration::from_secs(60);

/// What a round of one log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRound {
    /// The log's name in the configuration.
    pub log: String,
    /// Findings that opened or resolved in this round.
    pub events: Vec<Event>,
    /// Findings that are open after it.
    pub open: Vec<Finding>,
    /// How many entries are verified, from the first on.
    pub verified_entries: u64,
    /// How many entries the largest head has that is proved consistent with those before it; none before the first.
    pub tree_size: Option<u64>,
    /// How many entries this round verified.
    pub new_entries: u64,
    /// Why nothing could be saved, if so. The next round does the work again.
    pub error: Option<String>,
}

impl LogRound {
    /// Whether entries are left that the next round will go on with.
    pub fn is_behind(&self) -> bool {
        self.tree_size.is_some_and(|size| self.verified_entries < size)
    }
}

/// A log that is followed.
pub(crate) struct FollowedLog {
    config: LogConfig,
    sources: Arc<[Source]>,
    observers: Vec<Observer>,
    /// Every key of the log in the policy, to check evidence with.
    keys: Vec<VerifierKey>,
    state: State,
    file: StateFile,
    linked: Linked,
    /// Misbehaviour that was found and is not on disk yet. Nothing is followed further before it is.
    unrecorded: Checks,
    desk: Arc<Desk>,
}

impl FollowedLog {
    pub(crate) fn open(
        config: LogConfig,
        http: &Http,
        file: StateFile,
        desk: Arc<Desk>,
    ) -> Result<Self, StateError> {
        let state = file.load(&config.policy)?;
        let own = config
            .policy
            .logs()
            .iter()
            .filter(|log| log.key.name() == &config.origin);
        let keys: Vec<VerifierKey> = own.map(|log| log.key.clone()).collect();
        let sources = config
            .sources
            .iter()
            .map(|source| Source::new(source, &keys[0], http));
        let observers = config
            .observers
            .iter()
            .map(|url| Observer::new(url, &config, http));
        let mut linked = Linked::default();
        let proved = |(label, _): &(&String, &SignedHead)| state.linked.contains(*label);
        for (_, head) in state.shown.iter().filter(proved) {
            linked.insert(head);
        }
        let followed = Self {
            sources: sources.collect(),
            observers: observers.collect(),
            keys,
            state,
            file,
            linked,
            unrecorded: Checks::default(),
            desk,
            config,
        };
        followed.measure();
        Ok(followed)
    }

    pub(crate) fn open_findings(&self) -> impl Iterator<Item = &Finding> {
        self.state.ledger.open()
    }

    /// One round. Dropping it midway loses what was not saved, and nothing else.
    pub(crate) async fn round(&mut self, now_unix_ms: u64) -> LogRound {
        let before = self.state.cursor.size().get();
        let mut events = Vec::new();
        let worked = Box::pin(self.work(now_unix_ms, &mut events)).await;
        self.measure();
        // A round whose outcome is not on disk is none: alerts watch for that.
        if worked.is_ok() {
            self.desk.metrics.round_ended(&self.config.name);
        }
        LogRound {
            log: self.config.name.clone(),
            events,
            open: self.state.ledger.open().cloned().collect(),
            verified_entries: self.state.cursor.size().get(),
            tree_size: self.state.anchor.as_ref().map(|anchor| anchor.size().get()),
            new_entries: self.state.cursor.size().get() - before,
            error: worked.err().map(|error| error.to_string()),
        }
    }

    async fn work(&mut self, now_unix_ms: u64, events: &mut Vec<Event>) -> Result<(), StateError> {
        let mut checks = Checks::default();
        let now = Now {
            unix_ms: now_unix_ms,
            max_age: self.config.max_head_age,
        };
        self.state.not_after(now_unix_ms);
        self.record_proved(&mut checks, now, events).await?;
        let shown = heads::fetch(&self.config, &self.sources, &self.observers, &mut checks).await;
        link(
            &shown,
            &self.sources,
            &mut self.state,
            &mut self.linked,
            now,
            &mut checks,
        )
        .await;
        for one in &shown {
            self.desk.metrics.answered(&self.config.name, &one.label);
            heads::check_rollback(one, &shown, &self.state, &mut checks);
            heads::check_age(&self.config, one, &mut self.state, now, &mut checks);
        }
        self.remember(&shown, &mut checks);
        // Entries may take minutes, and a source that drips them must not put off what its heads gave away.
        self.record_proved(&mut checks, now, events).await?;
        self.follow(&shown, &mut checks, now, events).await?;
        self.check_withheld(now, &mut checks);
        self.check_unread(&mut checks);
        self.record_proved(&mut checks, now, events).await?;
        events.extend(self.record(checks, now).await?);
        Ok(())
    }

    /// Records what there is a proof of, or should be, at once. What can't be recorded is kept for the next attempt.
    async fn record_proved(
        &mut self,
        checks: &mut Checks,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<(), StateError> {
        self.unrecorded.take_proved_of(checks);
        if self.unrecorded.found().is_empty() {
            return Ok(());
        }
        match self.record(self.unrecorded.clone(), now).await {
            Ok(recorded) => events.extend(recorded),
            Err(problem) => {
                for fact in self.unrecorded.found() {
                    let (log, source) = (&self.config.name, fact.subject.as_deref());
                    let (finding, detail) = (fact.kind.name(), &fact.detail);
                    error!(log, finding, source, detail, "found, and not recorded");
                }
                return Err(problem);
            }
        }
        self.unrecorded = Checks::default();
        Ok(())
    }

    /// Keeps the largest head of each that showed one. Who is configured no longer is forgotten, and its troubles are over.
    fn remember(&mut self, shown: &[Shown], checks: &mut Checks) {
        for one in shown {
            let known = self.state.shown.get(&one.label);
            let is_newer =
                known.is_none_or(|known| (known.size(), known.time()) < (one.head.size(), one.head.time()));
            if is_newer {
                self.state.shown.insert(one.label.clone(), one.head.clone());
            }
        }
        let configured = |label: &String| {
            let mut labels = self
                .sources
                .iter()
                .map(Source::label)
                .chain(self.observers.iter().map(Observer::label));
            labels.any(|known| known == label)
        };
        self.state.shown.retain(|label, _| configured(label));
        self.state.behind.retain(|label, _| configured(label));
        let shown = self.state.shown.iter();
        let linked = shown.filter(|(_, head)| self.linked.contains(head));
        self.state.linked = linked.map(|(label, _)| label.clone()).collect();
        for finding in self.state.ledger.open() {
            let Some(label) = &finding.source else { continue };
            // Its heads that wait for a proof are compared all the same.
            let waits = finding.kind == FindingKind::UnprovenConsistency
                && self.state.unlinked.iter().any(|(waiting, _)| waiting == label);
            if !configured(label) && !waits {
                checks.pass(finding.kind, label);
            }
        }
    }

    /// Follows the entries, from the first source on; where one fails the next goes on.
    async fn follow(
        &mut self,
        shown: &[Shown],
        checks: &mut Checks,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<(), StateError> {
        for one in shown {
            let Some(place) = one.source else { continue };
            // A head that is not of this history leads somewhere else.
            if !self.linked.contains(&one.head) && self.state.anchor.as_ref() != Some(&one.head) {
                continue;
            }
            if !self.mended(place, one, checks, now).await {
                continue;
            }
            if one.head.size() <= self.state.cursor.size() {
                self.probe(place, one, checks).await;
                continue;
            }
            match self.follow_source(place, &one.head, checks, now, events).await? {
                Ok(()) => {
                    // Of a mismatch that an older version found nobody knows where it was.
                    for kind in [
                        FindingKind::Withheld,
                        FindingKind::InvalidAnswer,
                        FindingKind::EntryMismatch,
                    ] {
                        checks.pass(kind, &one.label);
                    }
                }
                Err(stopped) => {
                    if let Stopped::Mismatch { end, .. } = stopped {
                        let from = self.state.cursor.clone();
                        let mismatch = Mismatch { from, end };
                        self.state.mismatched.insert(one.label.clone(), mismatch);
                    }
                    let is_silent = self.state.is_silent(&one.label, now);
                    report(stopped, &one.label, &one.head, is_silent, checks);
                }
            }
        }
        Ok(())
    }

    /// Whether a source can be read from: it never served wrong entries, or has served the right ones there since, and that it did is
    /// on disk.
    async fn mended(&mut self, place: usize, one: &Shown, checks: &mut Checks, now: Now) -> bool {
        let Some(mismatch) = self.state.mismatched.get(&one.label) else {
            return true;
        };
        if one.head.size() < mismatch.end {
            return false;
        }
        if let Err(stopped) = read_again(&self.sources[place], &one.head, mismatch).await {
            let is_silent = self.state.is_silent(&one.label, now);
            report(stopped, &one.label, &one.head, is_silent, checks);
            return false;
        }
        let is_open = self
            .state
            .ledger
            .is_open(FindingKind::EntryMismatch, Some(&one.label));
        if is_open {
            checks.pass(FindingKind::EntryMismatch, &one.label);
        } else {
            self.state.mismatched.remove(&one.label);
        }
        !is_open
    }

    /// Where nothing is left to read, whether a source that failed serves entries again.
    async fn probe(&self, place: usize, one: &Shown, checks: &mut Checks) {
        let kinds = [FindingKind::Withheld, FindingKind::InvalidAnswer];
        let is_open = |kind: &FindingKind| self.state.ledger.is_open(*kind, Some(&one.label));
        if !kinds.iter().any(is_open) {
            return;
        }
        let serves = match one.head.size().last() {
            Some(last) => self.sources[place].entry(last, one.head.size()).await.is_ok(),
            None => true,
        };
        if serves {
            kinds.into_iter().for_each(|kind| checks.pass(kind, &one.label));
        }
    }

    async fn follow_source(
        &mut self,
        place: usize,
        head: &SignedHead,
        checks: &mut Checks,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Result<(), Stopped>, StateError> {
        let deadline = Instant::now() + MAX_FOLLOWING;
        let sources = self.sources.clone();
        let source = &sources[place];
        let mut follower = match Follower::new(source, head, &self.state.cursor).await {
            Ok(follower) => follower,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut outcome = Ok(());
        while self.state.cursor.size() < head.size() && Instant::now() < deadline {
            match follower.chunk(&self.state.cursor, deadline).await {
                Ok(Chunk { cursor, problems }) => {
                    self.desk.metrics.add_entries(
                        &self.config.name,
                        cursor.size().get() - self.state.cursor.size().get(),
                    );
                    let from = std::mem::replace(&mut self.state.cursor, cursor);
                    for problem in &problems {
                        self.found_problem(place, head, problem, &from, checks).await;
                    }
                    // The cursor is on disk no sooner than what was found before it.
                    self.record_proved(checks, now, events).await?;
                    self.save(&self.state).await?;
                    self.measure();
                }
                Err(stopped) => {
                    outcome = Err(stopped);
                    break;
                }
            }
        }
        Ok(outcome)
    }

    /// Takes in what is wrong with an entry. `from` is the tree before those that were read with it.
    async fn found_problem(
        &mut self,
        place: usize,
        head: &SignedHead,
        problem: &Problem,
        from: &Cursor,
        checks: &mut Checks,
    ) {
        let is_open = |kind| self.state.ledger.is_open(kind, None);
        let (kind, detail) = match problem {
            Problem::Unknown { index, problem } => {
                let problem = printable(&format!("Leaf {index}: {problem}."));
                let from = from.clone();
                self.state.unread.get_or_insert(Unread { from, problem });
                return;
            }
            Problem::Invalid { .. } if is_open(FindingKind::InvalidEntry) => return,
            Problem::Decreasing { .. } if is_open(FindingKind::DecreasingTime) => return,
            Problem::Invalid { index, problem, .. } => {
                (FindingKind::InvalidEntry, format!("Leaf {index}: {problem}."))
            }
            Problem::Decreasing { before, entry } => (
                FindingKind::DecreasingTime,
                format!(
                    "Entry {} bears the time {} ns, and entry {} before it {} ns.",
                    entry.index, entry.time_unix_ns, before.index, before.time_unix_ns
                ),
            ),
        };
        let proof = self.prove(place, head, problem).await;
        checks.add(Fact {
            kind,
            subject: None,
            detail: printable(&detail),
            heads: vec![head.clone()],
            proof: Some(proof),
        });
    }

    /// The proof of what is wrong with an entry, from the source at a place or else from another: whoever serves the entry may keep to
    /// itself what convicts the log of it.
    async fn prove(
        &self,
        place: usize,
        head: &SignedHead,
        problem: &Problem,
    ) -> Result<counterfoil_verify::Fact, String> {
        let mut refused = None;
        let others = (0..self.sources.len()).filter(|&other| other != place);
        for place in [place].into_iter().chain(others) {
            let source = &self.sources[place];
            let fact = within(source.proof_time(), prove(source, head, problem)).await;
            let checked = fact.map_err(|error| error.to_string()).and_then(|fact| {
                let evidence = Evidence {
                    observed: UnixMillis::new(0),
                    fact,
                };
                match evidence.check(&self.keys) {
                    Ok(_) => Ok(evidence.fact),
                    Err(error) => Err(error.to_string()),
                }
            });
            match checked {
                Ok(fact) => return Ok(fact),
                // Who served the entry is asked first, and its answer says most.
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_default())
    }

    /// Whether there are entries that another version may know. The state says so, for it is on disk with the cursor.
    fn check_unread(&self, checks: &mut Checks) {
        let Some(unread) = &self.state.unread else {
            if self.has_read_all() {
                checks.pass_log(FindingKind::UnknownEntry);
            }
            return;
        };
        checks.add(Fact {
            kind: FindingKind::UnknownEntry,
            subject: None,
            detail: unread.problem.clone(),
            heads: vec![],
            proof: None,
        });
    }

    /// Whether nothing is left to read under the largest head.
    fn has_read_all(&self) -> bool {
        let anchor = self.state.anchor.as_ref();
        anchor.is_none_or(|anchor| self.state.cursor.size() >= anchor.size())
    }

    /// Whether a signed head has been without its entries for too long, whoever showed it.
    fn check_withheld(&self, now: Now, checks: &mut Checks) {
        let Some(anchor) = &self.state.anchor else { return };
        if self.state.cursor.size() >= anchor.size() {
            return checks.pass_log(FindingKind::Withheld);
        }
        let served = self.state.shown.iter().any(|(label, head)| {
            head.size() > self.state.cursor.size()
                && self.sources.iter().any(|source| source.label() == label)
        });
        // A source that shows so large a head answers for itself.
        if served || !now.is_old(self.state.anchor_seen_unix_ms) {
            return;
        }
        checks.add(Fact {
            kind: FindingKind::Withheld,
            subject: None,
            detail: format!(
                "The log signed a tree of size {}, and for {} s no source showed more than {} entries.",
                anchor.size(),
                (now.unix_ms - self.state.anchor_seen_unix_ms) / 1000,
                self.state.cursor.size()
            ),
            heads: vec![anchor.clone()],
            proof: None,
        });
    }

    /// Writes evidence, saves what changed, and tells it.
    async fn record(&mut self, checks: Checks, now: Now) -> Result<Vec<Event>, StateError> {
        let mut ledger = self.state.ledger.clone();
        let origin = self.config.origin.as_str();
        let changes = ledger.apply(checks, &self.config.name, &printable(origin), now.unix_ms);
        for (mut event, fact) in changes {
            if let Some(proof) = fact.and_then(|fact| fact.proof) {
                match self.write_evidence(&event.finding, proof, now.unix_ms)? {
                    Ok(path) => event.finding.evidence = Some(path),
                    Err(why) => event.finding.unproven = Some(printable(&why)),
                }
                ledger.replace(&event.finding);
            }
            ledger.untold.push(event);
        }
        let state = State {
            ledger,
            ..self.state.clone()
        };
        self.save(&state).await?;
        self.state = state;
        self.tell().await
    }

    /// Queues and reports what was saved, and then saves that it did: after a crash in between it is told again, under the same id.
    async fn tell(&mut self) -> Result<Vec<Event>, StateError> {
        let mut told = Vec::new();
        while let Some(event) = self.state.ledger.untold.first().cloned() {
            self.desk.report(&event).await?;
            self.state.ledger.untold.remove(0);
            told.push(event);
        }
        if !told.is_empty() {
            self.save(&self.state).await?;
        }
        Ok(told)
    }

    /// Writes evidence that holds. What does not is never handed out.
    fn write_evidence(
        &self,
        finding: &Finding,
        proof: Result<counterfoil_verify::Fact, String>,
        now_unix_ms: u64,
    ) -> Result<Result<String, String>, StateError> {
        let fact = match proof {
            Ok(fact) => fact,
            Err(why) => return Ok(Err(why)),
        };
        let evidence = Evidence {
            observed: UnixMillis::new(now_unix_ms),
            fact,
        };
        if let Err(error) = evidence.check(&self.keys) {
            return Ok(Err(error.to_string()));
        }
        match evidence.to_text() {
            Ok(text) => self.desk.keep_evidence(&finding.id(), &evidence, &text).map(Ok),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    async fn save(&self, state: &State) -> Result<(), StateError> {
        let (file, state) = (self.file.clone(), state.clone());
        // If this is dropped the write goes on to its end, and is as good as one before.
        task::spawn_blocking(move || file.save(&state))
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn measure(&self) {
        self.desk.metrics.observe(&self.config.name, &self.state);
    }
}

/// Reads entries once more that a source served wrong. That they are right now is all that it tells.
async fn read_again(source: &Source, head: &SignedHead, mismatch: &Mismatch) -> Result<(), Stopped> {
    let deadline = Instant::now() + MAX_FOLLOWING;
    let mut cursor = mismatch.from.clone();
    let mut follower = Follower::new(source, head, &cursor).await?;
    while cursor.size() < mismatch.end {
        if Instant::now() >= deadline {
            let problem = format!("no answer within {MAX_FOLLOWING:?}");
            return Err(SourceError::Unreachable(problem).into());
        }
        cursor = follower.chunk(&cursor, deadline).await?.cursor;
    }
    Ok(())
}

fn report(stopped: Stopped, label: &str, head: &SignedHead, is_silent: bool, checks: &mut Checks) {
    let unproved = match stopped {
        Stopped::Mismatch { detail, proof, .. } => {
            return checks.add(Fact {
                kind: FindingKind::EntryMismatch,
                subject: Some(label.to_owned()),
                detail,
                heads: vec![head.clone()],
                proof: Some(proof),
            });
        }
        Stopped::Unproved(unproved) => unproved,
    };
    let kind = match &unproved {
        Unproved::Source(SourceError::Unreachable(_)) => FindingKind::Unreachable,
        Unproved::Source(SourceError::NotServed(_)) => FindingKind::Withheld,
        Unproved::Source(SourceError::Invalid(_)) | Unproved::Wrong(_) => FindingKind::InvalidAnswer,
    };
    let detail = format!(
        "Asked for entries under the head of size {}: {unproved}.",
        head.size()
    );
    if kind == FindingKind::Unreachable && is_silent {
        checks.fail_with(FindingKind::Withheld, label, &detail, &[head]);
    }
    checks.fail_with(kind, label, detail, &[head]);
}
