//! A log in memory that answers honestly, but for one lie. Slow and simple: everything is recomputed from the leaves.

use std::{
    future,
    num::NonZeroU64,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use counterfoil_event::{Annotations, Event, EventParts, Salt, Submitter, UnstampedEntry};
use counterfoil_merkle::{
    Digest, LeafIndex, NodeId, Suite, TreeSize, consistency_proof, inclusion_proof, root_at,
};
use counterfoil_note::{CosignerSigner, KeyKind, LogSigner, SignerKey, UnixMillis, UnixSeconds, VerifierKey};
use counterfoil_proto::{
    digest_field, proof_field,
    v1::{
        self,
        leaf_selector::Leaf,
        read_service_server::{ReadService, ReadServiceServer},
        submit_result::Outcome,
        submit_service_server::{SubmitService, SubmitServiceServer},
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport};
use tonic_types::StatusExt as _;

/// What the log does that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    /// Signs heads with a key that is not its own.
    OtherKey,
    /// Breaks the signature of heads.
    BrokenSignature,
    /// Adds lines to heads that nobody knows the keys of.
    Strangers,
    /// Streams its first head before the witnesses cosigned it.
    LateWitnesses,
    /// Breaks the signature of the last witness.
    BrokenCosignature,
    /// Shows the head of a smaller tree than asked for.
    OldHead(u64),
    /// Gives consistency proofs with a changed hash.
    ConsistencyBit,
    /// Gives consistency proofs with one hash too many.
    ConsistencyLength,
    /// Refuses consistency proofs.
    ConsistencyRefused,
    /// Changes a hash of inclusion proofs, in receipts and elsewhere.
    InclusionBit,
    /// Leaves out a hash of inclusion proofs.
    InclusionLength,
    /// Cuts a hash of inclusion proofs to 31 bytes.
    ShortHash,
    /// Records another payload than was sent.
    OtherPayload,
    /// Records other attributes than were sent.
    OtherAttributes,
    /// Records another type than was sent.
    OtherType,
    /// Hands out a salt that the entry was not made with.
    OtherSalt,
    /// Records an entry with a field that nobody knows.
    UnknownField,
    /// Records an entry of a later format version.
    LaterVersion,
    /// Records an entry with an authentication that there may be one day.
    LaterAuthentication,
    /// Says of every entry that there is none.
    Withheld,
    /// Serves another leaf than asked for, with a proof that holds.
    OtherLeaf,
    /// Serves another entry than asked for, in whole and in truth.
    OtherEntry,
    /// Serves a payload that was not recorded.
    ServedPayload,
    /// Serves attributes that were not recorded.
    ServedAttributes,
    /// Serves attributes of 3 MiB that were not recorded, and ends a range early.
    LargeAttributes,
    /// Serves entries without their payloads.
    NoPayload,
    /// Serves something that the log did not add when it recorded the entry.
    ServedAnnotations,
    /// Serves an entry with a changed byte.
    ServedEntry,
    /// Leaves an entry out of a range.
    SkippedEntry,
    /// Ends a range early.
    ShortRange,
    /// Leaves out the last result of a batch.
    MissingResult,
    /// Swaps the first two results.
    SwappedResults,
    /// Gives results another sequence number.
    OtherSequence,
    /// Points results to a head that is not there.
    NoHead,
    /// Gives a head that no result points to.
    SpareHead,
    /// Gives results for events that were not sent.
    SpareResults,
    /// Ends a stream before the last result.
    ShortStream,
    /// Finds an entry that is about something else.
    FoundOther,
    /// Finds an entry twice.
    FoundTwice,
    /// Says that it searched more entries than it signed.
    FoundUnsigned,
    /// Finds thousands of entries that are not there.
    FoundMany,
    /// Finds nothing, and says that there is more.
    FoundNothing,
    /// Refuses each event of a batch or stream: the number of the reason, and in how many milliseconds to come back.
    Refusing(i32, u64),
    /// Never answers.
    Silent,
    /// Never answers who asks for a proof.
    SilentProofs,
}

struct Stored {
    entry: Vec<u8>,
    salt: Salt,
    event: Event,
}

struct State {
    leaves: Vec<Stored>,
    lie: Lie,
    time_unix_ms: u64,
    /// The witnesses that cosign each head, by number.
    witnesses: Vec<u8>,
    /// Events that are not taken one by one, by id, and what is said of them. Without an id, all.
    refused: Option<(Option<String>, Status)>,
    /// The `authorization` of the last submission.
    authorization: Option<String>,
}

/// The log; clones share it.
#[derive(Clone)]
pub(crate) struct FakeLog {
    suite: Suite,
    signer: Arc<LogSigner>,
    liar: Arc<LogSigner>,
    state: Arc<Mutex<State>>,
}

fn signer(suite: Suite, seed: u8) -> LogSigner {
    let keys = KeyKind::of_log(suite)
        .iter()
        .zip(seed..)
        .map(|(&kind, seed)| SignerKey::generate("log.example/main".parse().unwrap(), kind, [seed; 32]));
    LogSigner::new(keys.collect()).unwrap()
}

pub(crate) fn witness(number: u8) -> CosignerSigner {
    let name = format!("witness.example/w{number}").parse().unwrap();
    CosignerSigner::generate(name, [200 + number; 32])
}

pub(crate) fn event(number: u64) -> Event {
    Event::try_from(EventParts {
        id: format!("run-{number}"),
        source: "https://ci.example/acme".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data: format!("payload {number}").into(),
        ..EventParts::default()
    })
    .unwrap()
}

/// The commit that a build of [`event`] was of: there are two.
pub(crate) fn commit_of(event: &Event) -> &'static str {
    if event.id().ends_with(['0', '2', '4', '6', '8']) {
        "c0ffee"
    } else {
        "decade"
    }
}

/// What the log adds to an event: its normal form.
fn annotations(event: &Event) -> Vec<u8> {
    let normalised = format!(
        r#"{{"id":"x","type":"ci.run.finished","commit":"{}"}}"#,
        commit_of(event)
    );
    let event = event
        .clone()
        .with_normal_form("native/1", normalised.into_bytes())
        .unwrap();
    Annotations::new(&event, &Submitter::anonymous()).encode()
}

impl FakeLog {
    pub(crate) fn new(suite: Suite) -> Self {
        let state = State {
            leaves: vec![],
            lie: Lie::Nothing,
            time_unix_ms: 1_700_000_000_000,
            witnesses: vec![],
            refused: None,
            authorization: None,
        };
        Self {
            suite,
            signer: Arc::new(signer(suite, 1)),
            liar: Arc::new(signer(suite, 101)),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn key(&self) -> VerifierKey {
        self.signer.keys()[0].verifier_key().clone()
    }

    /// Serves it; returns the address.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = transport::Server::builder()
            .add_service(SubmitServiceServer::new(self.clone()))
            .add_service(ReadServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    pub(crate) fn lie(&self, lie: Lie) {
        self.state().lie = lie;
    }

    /// Has these witnesses cosign each head from now on.
    pub(crate) fn cosigned_by(&self, witnesses: &[u8]) {
        self.state().witnesses = witnesses.to_vec();
    }

    /// Answers submissions with `status` from now on: those of the event `id`, or all.
    pub(crate) fn refuse(&self, id: Option<&str>, status: Status) {
        self.state().refused = Some((id.map(str::to_owned), status));
    }

    /// Refuses nothing any more.
    pub(crate) fn relent(&self) {
        self.state().refused = None;
    }

    /// The `authorization` of the last submission.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.state().authorization.clone()
    }

    /// The ids on record, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let state = self.state();
        state
            .leaves
            .iter()
            .map(|stored| stored.event.id().to_owned())
            .collect()
    }

    /// Records events without telling anyone.
    pub(crate) fn record(&self, numbers: std::ops::Range<u64>) {
        let mut state = self.state();
        for number in numbers {
            self.append(&mut state, event(number), number);
        }
    }

    /// Forgets all entries from `size` on.
    pub(crate) fn forget(&self, size: usize) {
        self.state().leaves.truncate(size);
    }

    /// Sets the clock by which heads are signed back by a second.
    pub(crate) fn set_back(&self) {
        self.state().time_unix_ms -= 1000;
    }

    pub(crate) fn size(&self) -> u64 {
        self.state().leaves.len() as u64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until the log wants to answer.
    async fn willing(&self) {
        let silent = self.state().lie == Lie::Silent;
        if silent {
            future::pending::<()>().await;
        }
    }

    /// Waits until the log wants to prove something.
    async fn willing_to_prove(&self) {
        let silent = self.state().lie == Lie::SilentProofs;
        if silent {
            future::pending::<()>().await;
        }
    }

    /// Records an event, or what the log makes of it; returns its index. The same source and id stay one event.
    fn append(&self, state: &mut State, event: Event, salt: u64) -> (usize, bool) {
        if let Some(found) = state
            .leaves
            .iter()
            .position(|stored| stored.event.key() == event.key())
        {
            return (found, true);
        }
        let salt = Salt::from([u8::try_from(salt % 251).unwrap(); 32]);
        let mut parts = EventParts {
            id: event.id().to_owned(),
            source: event.source().to_owned(),
            event_type: event.event_type().to_owned(),
            data: event.data().clone(),
            ..EventParts::default()
        };
        match state.lie {
            Lie::OtherPayload => parts.data = "payloae".into(),
            Lie::OtherAttributes => parts.subject = "forged".into(),
            Lie::OtherType => parts.event_type = "ci.run.started".into(),
            _ => {}
        }
        let recorded = Event::try_from(parts).unwrap();
        let unstamped = UnstampedEntry::new(
            self.suite,
            &recorded,
            &salt,
            &Submitter::anonymous(),
            &annotations(&recorded),
            "default",
        )
        .unwrap();
        let mut entry = unstamped.stamp(NonZeroU64::new(1 + state.leaves.len() as u64).unwrap());
        match state.lie {
            Lie::UnknownField => entry.extend_from_slice(&[0x78, 1]),
            Lie::LaterVersion => entry[1] = 2,
            Lie::LaterAuthentication => {
                // Its tag and value, and the tag of what follows.
                let field = entry.windows(3).rposition(|bytes| bytes == [0x48, 1, 0x52]);
                entry[field.unwrap() + 1] = 99;
            }
            _ => {}
        }
        state.leaves.push(Stored { entry, salt, event });
        (state.leaves.len() - 1, false)
    }

    fn hashes(&self, state: &State) -> Vec<Digest> {
        state
            .leaves
            .iter()
            .map(|stored| self.suite.leaf_hash(&stored.entry))
            .collect()
    }

    fn head(&self, state: &mut State, size: u64) -> v1::TreeHead {
        state.time_unix_ms += 1;
        let hashes = self.hashes(state);
        let tree_size = TreeSize::new(size).unwrap();
        let root = root_at(self.suite, tree_size, |node| self.node(&hashes, node)).unwrap();
        let signer = if state.lie == Lie::OtherKey {
            &self.liar
        } else {
            &self.signer
        };
        let mut note = signer.sign_head(tree_size, root, UnixMillis::new(state.time_unix_ms));
        if state.lie == Lie::BrokenSignature {
            // The last character but the padding and the newline: it stays base64.
            let place = note.len() - 6;
            note[place] = if note[place] == b'A' { b'B' } else { b'A' };
        }
        if state.lie == Lie::Strangers {
            let lines = (0..60).map(|number| format!("— stranger-{number} AAAAAAA=\n"));
            note.extend_from_slice(lines.collect::<String>().as_bytes());
        }
        if !state.witnesses.is_empty() {
            let head = signer.keys()[0].verifier_key().verify_head(&note).unwrap();
            let time = UnixSeconds::new(state.time_unix_ms / 1000).unwrap();
            let lines = state
                .witnesses
                .iter()
                .map(|&number| witness(number).cosign(&head, time));
            note = head.with_signatures(lines).unwrap().note_bytes().to_vec();
        }
        if state.lie == Lie::BrokenCosignature {
            // The same place in the last line.
            let place = note.len() - 6;
            note[place] = if note[place] == b'A' { b'B' } else { b'A' };
        }
        v1::TreeHead {
            checkpoint: note.into(),
            tree_size: size,
            ..v1::TreeHead::default()
        }
    }

    fn node(&self, hashes: &[Digest], node: NodeId) -> Result<Digest, ()> {
        if node.level == 0 {
            return hashes
                .get(usize::try_from(node.index).unwrap())
                .copied()
                .ok_or(());
        }
        let child = |index| {
            self.node(
                hashes,
                NodeId {
                    level: node.level - 1,
                    index,
                },
            )
        };
        Ok(self
            .suite
            .node_hash(&child(2 * node.index)?, &child(2 * node.index + 1)?))
    }

    fn inclusion(&self, state: &State, index: usize, size: u64) -> Result<Vec<Bytes>, Status> {
        let hashes = self.hashes(state);
        let index = LeafIndex::new(index as u64).unwrap();
        let proof = inclusion_proof(self.suite, index, TreeSize::new(size).unwrap(), |node| {
            self.node(&hashes, node)
        })
        .map_err(|_| Status::out_of_range("no such tree"))?;
        let mut proof = proof_field(&proof);
        match state.lie {
            Lie::InclusionBit => flip(&mut proof),
            Lie::InclusionLength => drop(proof.pop()),
            Lie::ShortHash => proof[0] = proof[0].slice(1..),
            _ => {}
        }
        Ok(proof)
    }

    fn accept(&self, message: v1::Event, state: &mut State) -> Result<v1::Accepted, Status> {
        let event = Event::try_from(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let salt = state.leaves.len() as u64;
        let (index, duplicate) = self.append(state, event, salt);
        let size = state.leaves.len() as u64;
        let stored = &state.leaves[index];
        let salt = if state.lie == Lie::OtherSalt {
            [0xee; 32]
        } else {
            *stored.salt.as_bytes()
        };
        Ok(v1::Accepted {
            leaf_index: index as u64,
            entry: stored.entry.clone().into(),
            salt: Bytes::copy_from_slice(&salt),
            inclusion_proof: self.inclusion(state, index, size)?,
            tree_head_place: 0,
            duplicate,
        })
    }

    /// Each result with a head of its own, then the lies about results.
    fn results(&self, events: Vec<(u64, v1::Event)>) -> Result<v1::SubmitBatchResponse, Status> {
        let mut state = self.state();
        let mut answer = v1::SubmitBatchResponse::default();
        for (place, (sequence, event)) in events.into_iter().enumerate() {
            let outcome = if let Lie::Refusing(reason, retry_after_ms) = state.lie {
                Outcome::Refused(v1::Refused {
                    reason,
                    message: "not now".to_owned(),
                    retry_after_ms,
                    ..v1::Refused::default()
                })
            } else {
                let mut accepted = self.accept(event, &mut state)?;
                accepted.tree_head_place =
                    u32::try_from(place).unwrap() + u32::from(state.lie == Lie::NoHead) * 99;
                Outcome::Accepted(accepted)
            };
            let sequence = sequence + u64::from(state.lie == Lie::OtherSequence);
            answer.results.push(v1::SubmitResult {
                sequence,
                outcome: Some(outcome),
            });
            let size = state.leaves.len() as u64;
            let head = self.head(&mut state, size);
            answer.tree_heads.push(head);
        }
        match state.lie {
            Lie::MissingResult => drop(answer.results.pop()),
            Lie::SwappedResults => answer.results.swap(0, 1),
            Lie::SpareHead => {
                let head = answer.tree_heads[0].clone();
                answer.tree_heads.push(head);
            }
            Lie::SpareResults => {
                let last = answer.results.last().unwrap().clone();
                answer.results.extend((1..100).map(|ahead| v1::SubmitResult {
                    sequence: last.sequence + ahead,
                    ..last.clone()
                }));
            }
            _ => {}
        }
        Ok(answer)
    }

    fn find(&self, state: &State, leaf: Option<v1::LeafSelector>) -> Result<usize, Status> {
        if state.lie == Lie::Withheld {
            return Err(Status::not_found("the log has no such entry"));
        }
        let hashes = self.hashes(state);
        let place = match leaf.unwrap().leaf.unwrap() {
            Leaf::LeafIndex(index) => Some(usize::try_from(index).unwrap()),
            Leaf::LeafHash(hash) => hashes.iter().position(|leaf| digest_field(leaf) == hash),
            Leaf::Event(name) => state
                .leaves
                .iter()
                .position(|stored| stored.event.id() == name.id && stored.event.source() == name.source),
        };
        let place = place.filter(|place| *place < hashes.len());
        let place = place.ok_or_else(|| Status::not_found("the log has no such entry"))?;
        Ok(if state.lie == Lie::OtherLeaf {
            (place + 1) % hashes.len()
        } else {
            place
        })
    }

    fn entry(&self, state: &State, index: usize, with_payload: bool) -> v1::GetEntryResponse {
        let stored = &state.leaves[index];
        let mut entry = stored.entry.clone();
        let mut attributes = stored.event.attributes().clone();
        let mut data = stored.event.data().clone();
        let mut annotations = Bytes::from(annotations(&stored.event));
        match state.lie {
            // The highest byte of the time: the entry stays well-formed.
            Lie::ServedEntry => entry[10] ^= 1,
            Lie::ServedPayload => data = "payload ?".into(),
            Lie::ServedAnnotations => annotations = Bytes::from_static(b"\x1a\x01x"),
            Lie::ServedAttributes => attributes.subject = "forged".into(),
            Lie::LargeAttributes => attributes.subject = "x".repeat(3 << 20),
            _ => {}
        }
        let with_payload = with_payload && state.lie != Lie::NoPayload;
        v1::GetEntryResponse {
            leaf_index: index as u64,
            entry: entry.into(),
            payload: with_payload.then(|| v1::Payload {
                salt: Bytes::copy_from_slice(stored.salt.as_bytes()),
                attributes: attributes.encode().into(),
                data,
                annotations,
            }),
        }
    }
}

impl State {
    /// What is said of an event instead of recording it.
    fn refusal(&self, id: &str) -> Option<Status> {
        let (refused, status) = self.refused.as_ref()?;
        let meant = refused.as_ref().is_none_or(|refused| refused == id);
        meant.then(|| status.clone())
    }
}

/// A refusal with a reason is of one event; another ends the stream.
fn in_stream(status: Status, sequence: u64) -> Result<v1::SubmitStreamResponse, Status> {
    let reason = status.get_details_error_info().and_then(|info| {
        let reason = format!("REASON_{}", info.reason);
        v1::Reason::from_str_name(&reason)
    });
    let Some(reason) = reason else { return Err(status) };
    let refused = v1::Refused {
        reason: reason.into(),
        message: status.message().to_owned(),
        ..v1::Refused::default()
    };
    Ok(v1::SubmitStreamResponse {
        results: vec![v1::SubmitResult {
            sequence,
            outcome: Some(Outcome::Refused(refused)),
        }],
        ..v1::SubmitStreamResponse::default()
    })
}

fn flip(proof: &mut [Bytes]) {
    if let Some(hash) = proof.first_mut() {
        let mut bytes = hash.to_vec();
        bytes[31] ^= 1;
        *hash = bytes.into();
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SubmitService for FakeLog {
    type SubmitStreamStream = Answers<v1::SubmitStreamResponse>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut state = self.state();
        let authorization = request.metadata().get("authorization");
        state.authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let event = request.into_inner().event.unwrap();
        if let Some(status) = state.refusal(&event.id) {
            return Err(status);
        }
        let accepted = self.accept(event, &mut state)?;
        let size = state.leaves.len() as u64;
        Ok(Response::new(v1::SubmitResponse {
            duplicate: accepted.duplicate,
            receipt: Some(v1::Receipt {
                leaf_index: accepted.leaf_index,
                entry: accepted.entry,
                salt: accepted.salt,
                inclusion_proof: accepted.inclusion_proof,
                tree_head: Some(self.head(&mut state, size)),
            }),
        }))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        Ok(Response::new(
            self.results((0..).zip(request.into_inner().events).collect())?,
        ))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.willing().await;
        let mut requests = request.into_inner();
        let log = self.clone();
        let (answers, outgoing) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let refusal = log.state().refusal(&request.event.as_ref().unwrap().id);
                if let Some(status) = refusal {
                    let answer = in_stream(status, request.sequence);
                    if answer.is_err() | answers.send(answer).await.is_err() {
                        return;
                    }
                    continue;
                }
                let answer = log
                    .results(vec![(request.sequence, request.event.unwrap())])
                    .unwrap();
                let message = v1::SubmitStreamResponse {
                    tree_heads: answer.tree_heads,
                    results: answer.results,
                };
                if log.state().lie == Lie::ShortStream || answers.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

#[tonic::async_trait]
impl ReadService for FakeLog {
    type WatchTreeHeadsStream = Answers<v1::WatchTreeHeadsResponse>;
    type ReadEntriesStream = Answers<v1::ReadEntriesResponse>;

    async fn get_tree_head(
        &self,
        _: Request<v1::GetTreeHeadRequest>,
    ) -> Result<Response<v1::GetTreeHeadResponse>, Status> {
        self.willing().await;
        let mut state = self.state();
        let size = match state.lie {
            Lie::OldHead(size) => size,
            _ => state.leaves.len() as u64,
        };
        let tree_head = Some(self.head(&mut state, size));
        Ok(Response::new(v1::GetTreeHeadResponse { tree_head }))
    }

    /// Two heads: the newest, then the newest after another entry.
    async fn watch_tree_heads(
        &self,
        _: Request<v1::WatchTreeHeadsRequest>,
    ) -> Result<Response<Self::WatchTreeHeadsStream>, Status> {
        let log = self.clone();
        let heads = (0..2).map(move |turn| {
            let mut state = log.state();
            if turn == 1 && state.lie == Lie::Nothing {
                let number = 1000 + state.leaves.len() as u64;
                log.append(&mut state, event(number), number);
            }
            let size = match state.lie {
                Lie::OldHead(size) if turn == 1 => size,
                _ => state.leaves.len() as u64,
            };
            let witnesses = state.witnesses.clone();
            if turn == 0 && state.lie == Lie::LateWitnesses {
                state.witnesses.clear();
            }
            let tree_head = Some(log.head(&mut state, size));
            state.witnesses = witnesses;
            Ok(v1::WatchTreeHeadsResponse { tree_head })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(heads))))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        self.willing_to_prove().await;
        let state = self.state();
        let request = request.into_inner();
        let index = self.find(&state, request.leaf)?;
        let size = request.tree_size.unwrap();
        Ok(Response::new(v1::GetInclusionProofResponse {
            leaf_index: index as u64,
            leaf_hash: digest_field(&self.hashes(&state)[index]),
            tree_size: size,
            hashes: self.inclusion(&state, index, size)?,
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        self.willing_to_prove().await;
        let state = self.state();
        if state.lie == Lie::ConsistencyRefused {
            return Err(Status::not_found("no such tree"));
        }
        let request = request.into_inner();
        let (first, second) = (
            TreeSize::new(request.first_tree_size).unwrap(),
            TreeSize::new(request.second_tree_size).unwrap(),
        );
        let hashes = self.hashes(&state);
        let proof = consistency_proof(self.suite, first, second, |node| self.node(&hashes, node))
            .map_err(|_| Status::out_of_range("no such tree"))?;
        let mut hashes = proof_field(&proof);
        match state.lie {
            Lie::ConsistencyBit => flip(&mut hashes),
            Lie::ConsistencyLength => hashes.push(digest_field(&self.suite.empty_root())),
            _ => {}
        }
        Ok(Response::new(v1::GetConsistencyProofResponse { hashes }))
    }

    async fn get_entry(
        &self,
        request: Request<v1::GetEntryRequest>,
    ) -> Result<Response<v1::GetEntryResponse>, Status> {
        let state = self.state();
        let request = request.into_inner();
        let mut index = self.find(&state, request.leaf)?;
        if state.lie == Lie::OtherEntry {
            index += 1;
        }
        Ok(Response::new(self.entry(&state, index, request.with_payload)))
    }

    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let state = self.state();
        let request = request.into_inner();
        let first = usize::try_from(request.first_leaf_index).unwrap();
        let end = first + usize::try_from(request.limit).unwrap();
        let mut entries: Vec<_> = (first..end)
            .map(|index| self.entry(&state, index, request.with_payload))
            .collect();
        match state.lie {
            // As many as asked for, so that only their numbers tell.
            Lie::SkippedEntry => {
                entries.remove(1);
                entries.push(self.entry(&state, end, request.with_payload));
            }
            Lie::ShortRange | Lie::LargeAttributes => drop(entries.pop()),
            Lie::Withheld => return Err(Status::not_found("the log has no such entries")),
            Lie::Silent => return Ok(Response::new(Box::pin(tokio_stream::pending()))),
            _ => {}
        }
        // Three at a time, so that pages do not end where messages do.
        let messages: Vec<_> = entries
            .chunks(3)
            .map(|entries| {
                Ok(v1::ReadEntriesResponse {
                    entries: entries.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    /// By commit alone.
    async fn find_entries(
        &self,
        request: Request<v1::FindEntriesRequest>,
    ) -> Result<Response<v1::FindEntriesResponse>, Status> {
        let state = self.state();
        let request = request.into_inner();
        let leaves = (0..).zip(&state.leaves);
        let mut leaf_indices: Vec<u64> = leaves
            .skip(usize::try_from(request.first_leaf_index).unwrap())
            .filter(|(_, stored)| commit_of(&stored.event) == request.value)
            .map(|(index, _)| index)
            .collect();
        let mut more = leaf_indices.len() > request.limit as usize;
        leaf_indices.truncate(request.limit as usize);
        let mut tree_size = state.leaves.len() as u64;
        match state.lie {
            Lie::FoundOther => leaf_indices[0] += 1,
            Lie::FoundTwice => leaf_indices.push(leaf_indices[0]),
            Lie::FoundUnsigned => tree_size += 1,
            Lie::FoundMany => {
                tree_size = 20_000;
                leaf_indices = (0..tree_size).collect();
            }
            Lie::FoundNothing => {
                leaf_indices.clear();
                more = true;
            }
            _ => {}
        }
        Ok(Response::new(v1::FindEntriesResponse {
            leaf_indices,
            tree_size,
            more,
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let mut state = self.state();
        let index = self.find(&state, request.into_inner().leaf)?;
        let size = state.leaves.len() as u64;
        let receipt = v1::Receipt {
            leaf_index: index as u64,
            entry: state.leaves[index].entry.clone().into(),
            salt: Bytes::copy_from_slice(state.leaves[index].salt.as_bytes()),
            inclusion_proof: self.inclusion(&state, index, size)?,
            tree_head: Some(self.head(&mut state, size)),
        };
        Ok(Response::new(v1::GetReceiptResponse {
            receipt: Some(receipt),
        }))
    }
}
