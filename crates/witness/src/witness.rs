//! What a witness does with a request. No I/O but the state's, no clock.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use counterfoil_merkle::{ProofError, TreeSize, verify_consistency};
use counterfoil_note::{
    Checkpoint, CheckpointError, CosignerKey, CosignerSigner, HeadError, Note, NoteSignature, OriginError,
    SignedHead, UnixSeconds, VerifierKey,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::{
    committer::Update,
    logs::LogList,
    merge::{later_lines, note_of},
    refusal::Refusal,
    request::AddCheckpoint,
    state::{Cosigned, OriginHash, State, StateError},
};

/// Updates that may wait for the disk. Past it, requests are told to come back.
pub(crate) const MAX_WAITING: usize = 512;

/// Whoever brings again what is on record gets the cosignature on record while that is younger, in seconds: without a key
/// of the log nobody can keep the disk busy.
pub(crate) const REPEAT_SECONDS: u64 = 10;

/// A witness: verifies that checkpoints continue what it cosigned before, and cosigns them.
pub(crate) struct Witness {
    signer: CosignerSigner,
    state: Arc<State>,
    logs: RwLock<Arc<LogList>>,
    updates: mpsc::Sender<Update>,
    /// Logs whose fork was written to the journal. Anyone may repeat the request that shows it.
    forks: Mutex<HashSet<OriginHash>>,
}

/// A checkpoint that continues the newest one, by the state as it was a moment ago.
pub(crate) struct Examined {
    log: OriginHash,
    old: TreeSize,
    /// The cosignature of that size.
    over: Option<NoteSignature>,
    /// The note for the reading endpoint; none if it has nothing that is not on record.
    note: Option<Note>,
    cosignature: NoteSignature,
}

impl Witness {
    /// A witness, and the updates that a [committer](crate::committer::run) has to take from it.
    pub(crate) fn new(
        signer: CosignerSigner,
        state: Arc<State>,
        logs: LogList,
    ) -> (Self, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(MAX_WAITING);
        let witness = Self {
            signer,
            state,
            logs: RwLock::new(Arc::new(logs)),
            updates,
            forks: Mutex::default(),
        };
        (witness, receiver)
    }

    /// The public key.
    pub(crate) fn key(&self) -> &CosignerKey {
        self.signer.verifier_key()
    }

    /// Knows these logs from now on. What was cosigned for others stays on record.
    pub(crate) fn set_logs(&self, logs: LogList) {
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(logs);
    }

    /// The newest cosigned checkpoint of a log, known now or once.
    pub(crate) fn newest(&self, log: OriginHash) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.state.newest(log)?.map(|cosigned| cosigned.note.to_bytes()))
    }

    /// Cosigns a checkpoint; returns once that is on disk.
    /// `clock` tells the time of the cosignature; none if it was never set.
    ///
    /// # Errors
    /// The first of the specification's checks, in its order, that the request does not pass.
    pub(crate) async fn add_checkpoint(
        &self,
        body: &[u8],
        clock: impl FnOnce() -> Option<UnixSeconds>,
    ) -> Result<NoteSignature, Refusal> {
        self.commit(self.examine(body, clock)?).await
    }

    /// Everything that takes processor time. The order is that of tlog-witness: the form (400), the log (404), its
    /// signatures (403), the old size against the checkpoint's (400) and against the state's (409), the roots and
    /// the proof (422). That there is room for the cosignature (400) is our own, and the last.
    pub(crate) fn examine(
        &self,
        body: &[u8],
        clock: impl FnOnce() -> Option<UnixSeconds>,
    ) -> Result<Examined, Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let note = Note::parse(request.checkpoint)?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(refuse_checkpoint)?;
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = logs.keys(checkpoint.origin());
        if keys.is_empty() {
            return Err(Refusal::UnknownLog);
        }
        let verified = verify_signatures(keys, request.checkpoint)?;
        // Lines that were not verified are left behind: nobody stores anything here but the log and the witness.
        let lines: Vec<NoteSignature> = verified
            .keys
            .iter()
            .filter_map(|key| note.signature_by(key.name().as_str(), key.id()))
            .cloned()
            .collect();

        let log = OriginHash::of(checkpoint.origin().as_str());
        let newest = self.state.newest(log);
        // Whatever else is wrong with the request.
        if let (Ok(Some(newest)), Some(head)) = (&newest, &verified.head)
            && newest.size == head.size()
            && newest.root != head.root()
        {
            self.report_fork(log, newest, head, &note_of(note.text(), &lines));
        }
        if request.old > checkpoint.size() {
            let (old, size) = (request.old, checkpoint.size());
            return Err(Refusal::OldSizeTooLarge { old, size });
        }
        let newest = newest.map_err(|error| refuse_state(log, &error))?;
        let newest_size = newest.as_ref().map_or(TreeSize::ZERO, |newest| newest.size);
        if request.old != newest_size {
            return Err(Refusal::Conflict { newest: newest_size });
        }
        let head = verified.head.ok_or(Refusal::EmptyTreeRoot)?;
        check_consistency(&request, newest.as_ref(), &head)?;

        // A cosignature says that no larger tree was seen at its time. Read before the state was, the clock could show a time
        // at which a smaller one was cosigned meanwhile.
        let now = clock().ok_or_else(|| {
            error!("the clock was never set: no cosignature");
            Refusal::ClockNotSet
        })?;
        let over = newest.as_ref().and_then(|newest| newest.own_line().cloned());
        let examined = |note, cosignature| Examined {
            log,
            old: request.old,
            over,
            note,
            cosignature,
        };
        if let Some(cosignature) = newest.and_then(|newest| self.repeated(&newest, note.text(), &lines, now))
        {
            return Ok(examined(None, cosignature));
        }
        let cosignature = self.signer.cosign(&head, now);
        let stored = note_of(note.text(), lines.iter().chain([&cosignature]));
        // What was read and checked can only have become too long.
        let stored = Note::parse(&stored).map_err(|_| Refusal::NoRoom { bytes: stored.len() })?;
        Ok(examined(Some(stored), cosignature))
    }

    /// The cosignature on record, if it is young and all that was brought is on record with it.
    fn repeated(
        &self,
        newest: &Cosigned,
        text: &str,
        lines: &[NoteSignature],
        now: UnixSeconds,
    ) -> Option<NoteSignature> {
        let on_record = newest.note.signatures();
        if newest.note.text() != text || later_lines(on_record, lines) != on_record {
            return None;
        }
        let own = newest
            .note
            .signature_by(self.key().name().as_str(), self.key().id())?;
        // The payload of a cosignature begins with its time.
        let time = u64::from_be_bytes(*own.payload().first_chunk()?);
        // None if the clock was set back.
        let age = now.get().checked_sub(time)?;
        (age < REPEAT_SECONDS).then(|| own.clone())
    }

    /// Puts the checkpoint on record, if the state is still what it was proved consistent with.
    pub(crate) async fn commit(&self, examined: Examined) -> Result<NoteSignature, Refusal> {
        let Some(note) = examined.note else {
            return Ok(examined.cosignature);
        };
        let (reply, answer) = oneshot::channel();
        let update = Update {
            log: examined.log,
            old: examined.old,
            over: examined.over,
            note,
            reply,
        };
        self.updates.try_send(update).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::QueueFull,
            mpsc::error::TrySendError::Closed(_) => Refusal::State,
        })?;
        answer.await.unwrap_or(Err(Refusal::State))?;
        Ok(examined.cosignature)
    }

    /// Two signed trees of one size convict the log: whoever keeps the witness's journal has them. `refused` is the note
    /// without what strangers added to it.
    fn report_fork(&self, log: OriginHash, newest: &Cosigned, head: &SignedHead, refused: &[u8]) {
        let is_new = self
            .forks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(log);
        if is_new {
            warn!(
                origin = %head.origin(),
                size = %head.size(),
                cosigned = %String::from_utf8_lossy(&newest.note.to_bytes()),
                refused = %String::from_utf8_lossy(refused),
                "the log signed two trees of one size"
            );
        }
    }
}

/// What the trusted keys say of a checkpoint.
struct Verified<'a> {
    /// The keys that signed it: at least one.
    keys: Vec<&'a VerifierKey>,
    /// None if it was signed but is of an empty tree with a root that such a tree does not have.
    head: Option<SignedHead>,
}

fn verify_signatures<'a>(keys: &'a [VerifierKey], checkpoint: &[u8]) -> Result<Verified<'a>, Refusal> {
    let mut verified = Verified {
        keys: vec![],
        head: None,
    };
    for key in keys {
        match key.verify_head(checkpoint) {
            Ok(head) => verified.head = Some(head),
            Err(HeadError::EmptyTreeRoot) => {}
            Err(HeadError::NotSignedByKey { .. }) => continue,
            Err(HeadError::BadSignature { .. } | HeadError::Cosignature(_)) => {
                return Err(Refusal::BadSignature);
            }
            Err(HeadError::Note(error)) => return Err(error.into()),
            Err(HeadError::Checkpoint(error)) => return Err(Refusal::Checkpoint(error)),
            Err(HeadError::OtherOrigin { .. } | HeadError::UnlistedLog { .. }) => {
                return Err(Refusal::UnknownLog);
            }
        }
        verified.keys.push(key);
    }
    if verified.keys.is_empty() {
        return Err(Refusal::NotSigned);
    }
    Ok(verified)
}

fn check_consistency(
    request: &AddCheckpoint<'_>,
    newest: Option<&Cosigned>,
    head: &SignedHead,
) -> Result<(), Refusal> {
    let Some(newest) = newest.filter(|newest| newest.size > TreeSize::ZERO) else {
        // Every tree continues the empty one, and an empty tree's root was checked with the signatures.
        return if request.proof.is_empty() {
            Ok(())
        } else {
            Err(Refusal::ProofFromZero)
        };
    };
    let (first, second) = ((newest.size, newest.root), (head.size(), head.root()));
    verify_consistency(head.suite(), first.0, first.1, second.0, second.1, &request.proof).map_err(|error| {
        match error {
            ProofError::RootMismatch => Refusal::Fork,
            other => Refusal::Proof(other),
        }
    })
}

/// An origin that no log of ours can have is unknown; only an empty one makes the checkpoint malformed.
fn refuse_checkpoint(error: CheckpointError) -> Refusal {
    match error {
        CheckpointError::Origin(
            OriginError::TooLong { .. }
            | OriginError::ForbiddenCharacter { .. }
            | OriginError::ReservedPrefix { .. },
        ) => Refusal::UnknownLog,
        other => Refusal::Checkpoint(other),
    }
}

fn refuse_state(log: OriginHash, error: &StateError) -> Refusal {
    error!(%log, %error, "the state can't be read");
    Refusal::State
}
