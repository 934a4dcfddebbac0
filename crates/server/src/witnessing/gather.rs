//! Collects cosignatures for the heads of one log and hands them back to it.
//!
//! Each witness has a task that asks it about the newest round, one request at a time; so a slow or broken witness keeps
//! nobody waiting but itself. One task more counts what they bring and decides when a head is shown.

use std::{
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use counterfoil_log::{Candidate, Log, PublishError, WithoutQuorum};
use counterfoil_note::{SignedHead, VerifierKey};
use counterfoil_witness::client::{ClientError, Cosigned, WitnessClient};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::{Witnesses, round::Tally};

/// A witness that failed is left alone for so long, then ever longer, each time with as much again of random delay at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause, before what is random.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// When a head that could not be stored is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// A candidate that all witnesses are asked about.
struct Round {
    /// Counted from 1, to tell late answers from others.
    number: u64,
    candidate: Candidate,
    /// The same, verified.
    head: SignedHead,
}

/// The round that answers are counted for.
struct Current {
    round: Arc<Round>,
    tally: Tally,
    /// It could not be stored, and is tried again then.
    try_again_at: Option<Instant>,
}

/// What a witness said.
struct Answer {
    /// Its place in the policy.
    witness: usize,
    /// Of which round.
    round: u64,
    said: Result<Cosigned, NotCosigned>,
}

/// Why a witness did not cosign a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotCosigned {
    /// It has seen a larger tree of this log: it will cosign a later head, and never this one.
    Overtaken,
    /// It failed, and is not to be waited for until it answers again.
    Failed,
}

/// Collects cosignatures for the heads of `log` for as long as the runtime lives, which needs time and network.
///
/// A crash at any await in here costs at most the cosignatures of one candidate. Witnesses may have recorded it; the log has
/// stored it, so the next start offers a head that follows from it, and a witness that is ahead of what is known here says so.
pub(crate) async fn gather(log: Arc<Log>, witnesses: Arc<Witnesses>) {
    let (rounds, _) = watch::channel(None);
    let (answer, answers) = mpsc::channel(witnesses.clients.len());
    let mut tasks = JoinSet::new();
    for (place, (name, client)) in witnesses.clients.iter().cloned().enumerate() {
        let asker = Asker {
            log: log.clone(),
            place,
            health: Health {
                witness: name,
                last: None,
            },
            client,
        };
        tasks.spawn(asker.run(rounds.subscribe(), answer.clone()));
    }
    let mut candidates = log.candidates();
    // One was offered when the log was opened.
    candidates.mark_changed();
    let counter = Counter {
        candidates,
        key: log.verifier_keys().into_iter().next().expect("a log has a key"),
        is_up: vec![true; witnesses.clients.len()],
        lacking_since: None,
        lacks_quorum: false,
        log,
        witnesses,
        rounds,
        answers,
    };
    counter.run().await;
}

/// Counts answers and decides.
struct Counter {
    log: Arc<Log>,
    key: VerifierKey,
    witnesses: Arc<Witnesses>,
    candidates: watch::Receiver<Option<Candidate>>,
    rounds: watch::Sender<Option<Arc<Round>>>,
    answers: mpsc::Receiver<Answer>,
    /// Which witnesses answered when last asked.
    is_up: Vec<bool>,
    /// When a candidate first got no quorum, after those that did.
    lacking_since: Option<Instant>,
    /// Whether that is what was said last.
    lacks_quorum: bool,
}

impl Counter {
    async fn run(mut self) {
        let mut current: Option<Current> = None;
        loop {
            let now = Instant::now();
            if let Some(current) = &mut current {
                self.tell_of_quorum(current, now);
                self.show_what_is_due(current, now).await;
            }
            let tally = current.as_ref().map(|current| &current.tally);
            let may_start = tally.is_none_or(|tally| tally.may_go(&self.is_up, now));
            let wakes_at = tally.and_then(|tally| tally.wakes_at(now));
            let try_again_at = current.as_ref().and_then(|current| current.try_again_at);
            let wakes_at = wakes_at.into_iter().chain(try_again_at).min();
            tokio::select! {
                Some(answer) = self.answers.recv() => self.take(answer, current.as_mut()),
                () = until(wakes_at) => {}
                offered = self.candidates.changed(), if may_start => match offered {
                    Ok(()) => current = self.start_round().or(current),
                    Err(_) => return,
                },
            }
        }
    }

    fn start_round(&mut self) -> Option<Current> {
        let candidate = self.candidates.borrow_and_update().clone()?;
        let head = self
            .key
            .verify_head(&candidate.head().note)
            .expect("the log signed its candidate");
        let number = self.rounds.borrow().as_ref().map_or(0, |round| round.number) + 1;
        let round = Arc::new(Round {
            number,
            candidate,
            head,
        });
        self.rounds.send_replace(Some(round.clone()));
        let Witnesses { policy, timeout, .. } = &*self.witnesses;
        let tally = Tally::new(self.is_up.len(), policy, Instant::now(), *timeout);
        Some(Current {
            round,
            tally,
            try_again_at: None,
        })
    }

    fn take(&mut self, answer: Answer, current: Option<&mut Current>) {
        let Answer { witness, round, said } = answer;
        self.is_up[witness] = !matches!(said, Err(NotCosigned::Failed));
        let Some(Current { tally, .. }) = current.filter(|current| current.round.number == round) else {
            return;
        };
        match said {
            Ok(cosigned) => tally.count(witness, cosigned, &self.witnesses.policy, Instant::now()),
            Err(NotCosigned::Overtaken) => tally.pass_over(witness),
            Err(NotCosigned::Failed) => {}
        }
    }

    async fn show_what_is_due(&self, current: &mut Current, now: Instant) {
        let Current {
            round,
            tally,
            try_again_at,
        } = current;
        if try_again_at.is_some_and(|at| at > now) {
            return;
        }
        *try_again_at = None;
        let Some(due) = tally.due(&self.is_up, self.witnesses.without_quorum, now) else {
            return;
        };
        let published = self.log.publish(round.candidate.clone(), tally.lines()).await;
        if let Err(problem) = &published
            && !matches!(problem, PublishError::Stopping)
        {
            error!(log = %self.log.name(), %problem, "can't publish a head; readers keep the one before");
        }
        match published {
            // Unless it is shown, nothing new might come for as long as the log does not grow.
            Err(PublishError::Store(_)) => *try_again_at = Some(now + STORE_PAUSE),
            _ => tally.set_shown(due),
        }
    }

    /// Says when a quorum comes and goes, not how each round ended.
    fn tell_of_quorum(&mut self, Current { round, tally, .. }: &Current, now: Instant) {
        let is_lacking = !tally.has_quorum();
        if !is_lacking {
            self.lacking_since = None;
        } else if !tally.is_settled(&self.is_up, now) {
            return;
        } else {
            let since = *self.lacking_since.get_or_insert(now);
            // Anybody can overtake a head. The next ones have a quorum, or it is worth a word.
            if tally.is_overtaken() && now < since + self.witnesses.timeout {
                return;
            }
        }
        if is_lacking == self.lacks_quorum {
            return;
        }
        self.lacks_quorum = is_lacking;
        let (log, size) = (self.log.name(), round.head.size());
        match (is_lacking, self.witnesses.without_quorum) {
            (false, _) => info!(%log, %size, "a quorum of witnesses cosigns again"),
            (true, WithoutQuorum::Hold) => {
                warn!(%log, %size, "no quorum of witnesses: readers keep the head before, until there is one")
            }
            (true, WithoutQuorum::Publish) => {
                warn!(%log, %size, "no quorum of witnesses: heads are published without, until there is one")
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Asks one witness.
struct Asker {
    log: Arc<Log>,
    place: usize,
    client: WitnessClient,
    health: Health,
}

impl Asker {
    async fn run(mut self, mut rounds: watch::Receiver<Option<Arc<Round>>>, answers: mpsc::Sender<Answer>) {
        let mut pauses = pauses();
        while rounds.changed().await.is_ok() {
            loop {
                // The newest: those that passed while it was busy are of no use to anybody.
                let Some(round) = rounds.borrow_and_update().clone() else {
                    break;
                };
                let size = round.head.size();
                let prove = |old| {
                    let log = self.log.clone();
                    async move { log.consistency_proof(old, size).await }
                };
                let outcome = self.client.cosign(&round.head, prove).await;
                // Whoever submits has the head of the commit in a receipt, and may be at the witness with it before the candidate. The
                // witness is well then, and what it lacks is a newer candidate.
                let is_overtaken = matches!(
                    &outcome,
                    Err(ClientError::Ahead { witness, .. }) if *witness <= self.log.commit_head().size
                );
                if !is_overtaken {
                    self.health.note(&outcome, &self.log);
                }
                let said = outcome.map_err(|_| match is_overtaken {
                    true => NotCosigned::Overtaken,
                    false => NotCosigned::Failed,
                });
                let has_failed = matches!(said, Err(NotCosigned::Failed));
                let answer = Answer {
                    witness: self.place,
                    round: round.number,
                    said,
                };
                if answers.send(answer).await.is_err() {
                    return;
                }
                if is_overtaken {
                    self.log.hasten();
                }
                if !has_failed {
                    pauses = self::pauses();
                    break;
                }
                sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
            }
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Says when a witness comes, goes, or fails in another way; not each time that it does as before.
struct Health {
    witness: String,
    /// `None` before the first answer.
    last: Option<Result<(), Discriminant<ClientError>>>,
}

impl Health {
    fn note(&mut self, outcome: &Result<Cosigned, ClientError>, log: &Log) {
        let now = outcome.as_ref().map(drop).map_err(discriminant);
        if self.last.replace(now) == Some(now) {
            return;
        }
        let (witness, log_size, log) = (&self.witness, log.commit_head().size, log.name());
        match outcome {
            Ok(_) => info!(%log, witness, "the witness cosigns"),
            // Nobody's signature is on it, so a witness can't stop the log with it. But it is what a rollback looks like.
            Err(problem @ ClientError::Ahead { witness: there, .. }) if *there > log_size => error!(
                %log, witness, %problem, %log_size,
                "a witness knows a larger log than this. If the data directory may be an old copy, stop the server now; if not, \
                 the witness is wrong"
            ),
            Err(problem) => {
                warn!(%log, witness, %problem, "the witness does not cosign; it is asked again, ever more seldom")
            }
        }
    }
}
