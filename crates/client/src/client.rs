//! The client itself: connections, and the link between all heads that it has seen.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use counterfoil_merkle::{Digest, Suite, TreeSize, verify_consistency};
use counterfoil_note::{Origin, Policy, SignedHead, UnixMillis};
use counterfoil_proto::v1::{
    self, Reason, read_service_client::ReadServiceClient, submit_service_client::SubmitServiceClient,
};
use counterfoil_verify::{Evidence, Fact, Inconsistency};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::{self, JoinSet},
};
use tonic::{Response, Status};

use crate::{
    Error, InvalidAnswer, Leaf, Misbehaviour, Options, StateDir, Timeouts, Unavailable, Unverified,
    channel::connect,
    credential::{Authorization, Connection},
    error::{certificate_refused, with_causes},
    heads::Heads,
    limits,
    misbehaviour::UnprovenConsistency,
    state::Saved,
};

/// Largest message to accept: a payload of 25 MiB and its attributes, or a good many smaller ones.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How many consistency proofs to ask for at a time.
const MAX_LINKS_IN_FLIGHT: usize = 64;

/// A verifying client of one log. Clones share connections and what is known of the log.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    connections: Vec<Connection>,
    next_connection: AtomicUsize,
    log: String,
    timeouts: Timeouts,
    origin: Origin,
    suite: Suite,
    heads: Heads,
    state: Option<StateDir>,
    /// The head that the state directory is known to hold. Locked while heads are linked: one at a time.
    saved: Mutex<Option<Arc<SignedHead>>>,
}

impl Client {
    /// Connects, and reads the head saved for the log.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let endpoint = options.endpoint()?;
        let mut connections = Vec::with_capacity(options.connections.get());
        for _ in 0..options.connections.get() {
            let channel = connect(&endpoint)
                .await
                .map_err(|error| match certificate_refused(&error) {
                    Some(denied) => Error::from(denied),
                    None => Unavailable::new(format!(
                        "can't connect to {}: {}",
                        options.server,
                        with_causes(&error)
                    ))
                    .into(),
                })?;
            connections.push(Authorization::connection(channel, options.token.clone()));
        }
        let (policy, origin) =
            choose_log(options.policy, &connections[0], &options.log, options.timeouts).await?;
        let saved = load(options.state.clone(), policy.clone(), origin.clone()).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                connections,
                next_connection: AtomicUsize::new(0),
                log: options.log,
                timeouts: options.timeouts,
                suite: policy.logs()[0].key.suite(),
                origin,
                heads: Heads::new(policy, saved.clone()),
                state: options.state,
                saved: Mutex::new(saved.map(Arc::new)),
            }),
        })
    }

    /// What the client trusts. It lists one log, with one key or several.
    pub fn policy(&self) -> &Policy {
        self.shared.heads.policy()
    }

    /// The log.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The log's hash suite.
    pub fn suite(&self) -> Suite {
        self.shared.suite
    }

    /// The largest head whose signature was checked, be it linked or not.
    pub fn largest_head(&self) -> Option<SignedHead> {
        self.shared.heads.largest().map(Arc::unwrap_or_clone)
    }

    /// The same calls, with no answer checked: to measure a server alone.
    pub fn unverified(&self) -> Unverified {
        Unverified::new(self.clone())
    }

    /// Proves every head seen so far consistent with all others, the saved one among them, and saves the largest. Heads that
    /// other tasks see meanwhile may be left to the next call.
    ///
    /// Receipts come under heads of their own; what a receipt proves is worth something once its head is linked. Call
    /// this before reporting success. Returns the largest linked head, or none if none was seen.
    pub async fn link_heads(&self) -> Result<Option<SignedHead>, Error> {
        self.link_and_save(self.shared.saved.lock().await).await
    }

    async fn link_and_save(
        &self,
        mut saved: MutexGuard<'_, Option<Arc<SignedHead>>>,
    ) -> Result<Option<SignedHead>, Error> {
        loop {
            self.link_unlinked().await?;
            let Some(anchor) = self.heads().anchor() else {
                return Ok(None);
            };
            let is_saved = saved
                .as_ref()
                .is_some_and(|saved| saved.note_bytes() == anchor.note_bytes());
            if is_saved || self.shared.state.is_none() {
                return Ok(Some(SignedHead::clone(&anchor)));
            }
            match self.save(saved.clone(), Arc::clone(&anchor)).await? {
                // What was seen meanwhile is for the next call: with others that go on submitting, this one would not end.
                Saved::Yes => {
                    let linked = SignedHead::clone(&anchor);
                    *saved = Some(anchor);
                    return Ok(Some(linked));
                }
                Saved::Overtaken(found) => {
                    let found = Arc::new(found);
                    self.heads().add(&found)?;
                    *saved = Some(found);
                }
            }
        }
    }

    /// Links each unlinked head to its neighbours in size, so that all form one chain with the anchor; then looks at their
    /// times.
    async fn link_unlinked(&self) -> Result<(), Error> {
        let mut chain = self.heads().unlinked();
        if chain.is_empty() {
            return Ok(());
        }
        chain.extend(self.heads().anchor());
        chain.sort_by_key(|head| head.size());

        let mut links = JoinSet::new();
        let unproved = chain
            .windows(2)
            .filter(|pair| !self.heads().is_beginning(&pair[0], &pair[1]));
        for pair in unproved {
            if links.len() >= MAX_LINKS_IN_FLIGHT
                && let Some(link) = links.join_next().await
            {
                flatten(link)?;
            }
            let (client, older, newer) = (self.clone(), Arc::clone(&pair[0]), Arc::clone(&pair[1]));
            links.spawn(async move { client.link(&older, &newer).await });
        }
        while let Some(link) = links.join_next().await {
            flatten(link)?;
        }
        self.heads().linked(&chain)
    }

    /// Has the log prove that the tree of `newer` begins with that of `older`.
    async fn link(&self, older: &SignedHead, newer: &SignedHead) -> Result<(), Error> {
        let (problem, proof) = match self.fetch_consistency(older.size(), newer.size()).await {
            // The log signed both sizes: that it knows neither now, or can't read them, is its own fault.
            Err(Error::Refused(refusal))
                if matches!(
                    refusal.reason,
                    Reason::OutOfRange | Reason::NotFound | Reason::DataLoss
                ) =>
            {
                (UnprovenConsistency::Refused(refusal), Vec::new())
            }
            fetched => {
                let proof = fetched?;
                let checked = verify_consistency(
                    older.suite(),
                    older.size(),
                    older.root(),
                    newer.size(),
                    newer.root(),
                    &proof,
                );
                match checked {
                    Ok(()) => return Ok(()),
                    Err(problem) => (problem.into(), proof),
                }
            }
        };
        let (older, newer) = (older.clone(), newer.clone());
        Err(match Box::pin(self.inconsistency(&older, &newer, &proof)).await {
            Some(proof) => Misbehaviour::Inconsistency { older, newer, proof },
            // Their times alone convict the log, which need not prove anything to that end.
            None if newer.time().is_some() && older.time() > newer.time() => Misbehaviour::Rollback {
                known: newer,
                presented: older,
            },
            None => Misbehaviour::UnprovenConsistency {
                older,
                newer,
                problem,
            },
        }
        .into())
    }

    /// Tries to make evidence of two heads that the log could not link: from the proof that it gave, or else from an
    /// inclusion proof that it gives now.
    async fn inconsistency(
        &self,
        older: &SignedHead,
        newer: &SignedHead,
        proof: &[Digest],
    ) -> Option<Inconsistency> {
        let given = Inconsistency::from_consistency(older, newer, proof);
        if let Some(given) = given.filter(|given| self.convicts(given)) {
            return Some(given);
        }
        let last = Leaf::Index(older.size().last()?);
        let proof = self.fetch_inclusion(&last, newer.size()).await.ok()?;
        Inconsistency::from_inclusion(older, newer, proof.leaf_hash, &proof.hashes)
            .filter(|asked_for| self.convicts(asked_for))
    }

    fn convicts(&self, proof: &Inconsistency) -> bool {
        let evidence = Evidence {
            observed: UnixMillis::new(0),
            fact: Fact::Inconsistency(proof.clone()),
        };
        let keys: Vec<_> = self.policy().logs().iter().map(|log| log.key.clone()).collect();
        evidence.check(&keys).is_ok()
    }

    async fn save(&self, base: Option<Arc<SignedHead>>, head: Arc<SignedHead>) -> Result<Saved, Error> {
        let Some(state) = self.shared.state.clone() else {
            return Ok(Saved::Yes);
        };
        let policy = self.policy().clone();
        blocking(move || Ok(state.save(&policy, base.as_deref(), &head)?)).await
    }

    /// Links heads once many have gathered. For calls that see heads without linking them: one of them links, and the others
    /// wait for it only when there are too many.
    pub(crate) async fn link_if_many(&self) -> Result<(), Error> {
        if self.heads().must_link() {
            self.link_heads().await?;
        } else if self.heads().has_many_unlinked()
            && let Ok(saved) = self.shared.saved.try_lock()
        {
            self.link_and_save(saved).await?;
        }
        Ok(())
    }

    pub(crate) fn heads(&self) -> &Heads {
        &self.shared.heads
    }

    /// The log's name, as requests carry it.
    pub(crate) fn log(&self) -> String {
        self.shared.log.clone()
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.shared.timeouts
    }

    /// The whole answer to a call.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        limits::answer(self.timeouts().call, call).await
    }

    /// The whole answer to a call about a leaf in the tree of `size`. A log that has signed this tree, or a larger one,
    /// can't deny the leaf.
    pub(crate) async fn answer_about<T>(
        &self,
        leaf: &Leaf,
        size: Option<TreeSize>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        // From before the call: what the log signs later it need not have had when it answered.
        let known = self.heads().largest();
        // In a box: each future around a future holds it again.
        let answer = Box::pin(self.answer(call)).await;
        let (Err(Error::Refused(refusal)), Leaf::Index(index), Some(head)) = (&answer, leaf, known) else {
            return answer;
        };
        let size = size.unwrap_or(index.size_after());
        let denies = matches!(refusal.reason, Reason::NotFound | Reason::OutOfRange);
        if denies && size.contains(*index) && size <= head.size() {
            return Err(Misbehaviour::Withheld {
                head: Arc::unwrap_or_clone(head),
                leaf_index: *index,
                refusal: refusal.clone(),
            }
            .into());
        }
        answer
    }

    pub(crate) fn reads(&self) -> ReadServiceClient<Connection> {
        ReadServiceClient::new(self.connection()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn submits(&self) -> SubmitServiceClient<Connection> {
        SubmitServiceClient::new(self.connection())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES)
    }

    fn connection(&self) -> Connection {
        let turn = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        self.shared.connections[turn % self.shared.connections.len()].clone()
    }

    pub(crate) async fn fetch_consistency(
        &self,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, Error> {
        let request = v1::GetConsistencyProofRequest {
            log: self.log(),
            first_tree_size: first.get(),
            second_tree_size: second.get(),
        };
        let answer = self.answer(self.reads().get_consistency_proof(request)).await?;
        Ok(counterfoil_proto::digests("hashes", &answer.hashes)?)
    }
}

/// Which of the policy's logs to be a client of: the only one, or the one that the server presents. Returns the policy
/// with that log alone, so that heads of another are refused from here on.
async fn choose_log(
    policy: Policy,
    connection: &Connection,
    log: &str,
    timeouts: Timeouts,
) -> Result<(Policy, Origin), Error> {
    let first = policy.logs().first().map(|log| log.key.name().clone());
    let first = first.ok_or_else(|| Error::Options("the policy lists no log".to_owned()))?;
    if policy.logs().iter().all(|log| *log.key.name() == first) {
        return Ok((policy, first));
    }
    let request = v1::GetTreeHeadRequest {
        log: log.to_owned(),
        known_tree_size: 0,
    };
    let mut reads = ReadServiceClient::new(connection.clone());
    let answer = limits::answer(timeouts.call, reads.get_tree_head(request)).await?;
    let head = answer.tree_head;
    let note = head
        .ok_or_else(|| InvalidAnswer::new("it has no tree head"))?
        .checkpoint;
    let head = policy
        .verify_head(&note)
        .map_err(|error| Misbehaviour::UnverifiedHead {
            error,
            note: note.into(),
        })?;
    Ok((policy.for_origin(head.origin()), head.origin().clone()))
}

async fn load(state: Option<StateDir>, policy: Policy, origin: Origin) -> Result<Option<SignedHead>, Error> {
    match state {
        Some(state) => blocking(move || Ok(state.load(&policy, &origin)?)).await,
        None => Ok(None),
    }
}

/// Runs file operations where they may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    flatten(task::spawn_blocking(work).await)
}

fn flatten<T>(joined: Result<Result<T, Error>, task::JoinError>) -> Result<T, Error> {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Unavailable::new("the client is stopping").into()),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;

    /// PROTOCOL says how long the answer to a batch gets: of the most events, each with the longest proof and entry that there are,
    /// or refused at the greatest length.
    #[test]
    fn the_longest_answer_to_a_batch_is_as_long_as_documented() {
        let bytes = |length: usize| Bytes::from(vec![7; length]);
        let accepted = v1::Accepted {
            leaf_index: u64::MAX,
            entry: bytes(600),
            salt: bytes(32),
            inclusion_proof: vec![bytes(32); 63],
            tree_head_place: 0,
            duplicate: true,
        };
        let refused = v1::Refused {
            message: "x".repeat(16 * 180),
            ..v1::Refused::default()
        };
        let head = v1::TreeHead {
            checkpoint: bytes(counterfoil_note::MAX_NOTE_BYTES),
            ..v1::TreeHead::default()
        };
        for outcome in [
            v1::submit_result::Outcome::Accepted(accepted),
            v1::submit_result::Outcome::Refused(refused),
        ] {
            let result = |sequence| v1::SubmitResult {
                sequence,
                outcome: Some(outcome.clone()),
            };
            let answer = v1::SubmitBatchResponse {
                tree_heads: vec![head.clone()],
                results: (0..4_096).map(result).collect(),
            };
            assert!(answer.encoded_len() <= 12 << 20);
            assert!(answer.encoded_len() <= MAX_ANSWER_BYTES);
        }
    }
}
