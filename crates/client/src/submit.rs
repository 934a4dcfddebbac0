//! Submitting: what comes back is checked against what was sent.

use std::sync::Arc;

use counterfoil_event::Event;
use counterfoil_proto::v1::{self, submit_result::Outcome as WireOutcome};
use counterfoil_verify::{EntryProof, Receipt, ReceiptError, ReceiptVerifier, VerifiedReceipt};
use prost::Message as _;

use crate::{Client, Error, InvalidAnswer, Misbehaviour, NotCosigned, Refusal, entries::unreadable};

/// Events that a log takes in one call, at most.
const MAX_BATCH_EVENTS: usize = 4_096;
/// The longest message with them that a log takes.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// An event on record.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What to keep: proves offline that the log recorded the event.
    pub receipt: Receipt,
    /// What was checked of it: inclusion under a signed head, and that the entry stands for the event sent.
    pub verified: VerifiedReceipt,
    /// The event was on record before; the receipt is for that entry.
    pub duplicate: bool,
}

/// What became of one event among many.
pub type Outcome = Result<Submitted, Refusal>;

impl Client {
    /// Records one event. When this returns, it is on the log's disk and its receipt is verified.
    ///
    /// The receipt's head is not yet linked to the largest known one: see [`link_heads`](Self::link_heads). Nor has a
    /// witness cosigned it, whatever the policy asks for: see [`receipt`](Self::receipt).
    pub async fn submit(&self, event: &Event) -> Result<Submitted, Error> {
        let request = v1::SubmitRequest {
            log: self.log(),
            event: Some(event.into()),
        };
        let answer = self.answer(self.submits().submit(request)).await?;
        let receipt = answer
            .receipt
            .ok_or_else(|| InvalidAnswer::new("it has no receipt"))?;
        let receipt = Receipt::try_from(receipt)?;
        let head = self.heads().verify_fresh(&receipt.checkpoint)?;
        let submitted = check(receipt, &mut ReceiptVerifier::new(head), event, answer.duplicate)?;
        self.learn_from(&submitted);
        self.link_if_many().await?;
        Ok(submitted)
    }

    /// Records many events in one call; returns what became of each, in their order.
    ///
    /// One that is refused does not fail its neighbours. A receipt that does not hold fails the call. More than a log takes in one
    /// call, 4,096 events and 32 MiB as they are sent, is not sent: [`Error::Options`].
    pub async fn submit_batch(&self, events: &[Event]) -> Result<Vec<Outcome>, Error> {
        let request = batch_request(self, events)?;
        let answer = self.answer(self.submits().submit_batch(request)).await?;
        if answer.results.len() != events.len() {
            let problem = format!("{} results for {} events", answer.results.len(), events.len());
            return Err(InvalidAnswer::new(problem).into());
        }
        check_head_count(&answer.tree_heads, answer.results.len())?;
        let mut heads = MessageHeads::verify(self, answer.tree_heads)?;
        let mut outcomes = Vec::with_capacity(events.len());
        for ((place, event), result) in (0..).zip(events).zip(answer.results) {
            if result.sequence != place {
                return Err(InvalidAnswer::new("its results are not in the order of the events").into());
            }
            outcomes.push(heads.check(result, event)?);
        }
        for submitted in outcomes.iter().flatten() {
            self.learn_from(submitted);
        }
        self.link_if_many().await?;
        Ok(outcomes)
    }

    /// Takes note of the tree that a verified receipt shows before its leaf.
    pub(crate) fn learn_from(&self, submitted: &Submitted) {
        // What was there before says nothing of where a batch began.
        if submitted.duplicate {
            return;
        }
        let receipt = &submitted.receipt;
        let size = submitted.verified.head().size();
        self.heads()
            .learn_beginning(size, receipt.index, &receipt.inclusion_proof);
    }
}

/// Asks to record events, if a log takes so many. A message that is too long a server refuses without a reason, as anything might
/// that is no log.
pub(crate) fn batch_request(client: &Client, events: &[Event]) -> Result<v1::SubmitBatchRequest, Error> {
    let request = v1::SubmitBatchRequest {
        log: client.log(),
        events: events.iter().map(v1::Event::from).collect(),
    };
    let (count, bytes) = (events.len(), request.encoded_len());
    if count <= MAX_BATCH_EVENTS && bytes <= MAX_BATCH_BYTES {
        return Ok(request);
    }
    Err(Error::Options(format!(
        "one call takes {MAX_BATCH_EVENTS} events and {MAX_BATCH_BYTES} bytes, and these are {count} events of \
         together {bytes} bytes: send fewer in each"
    )))
}

/// Checks that a message has no heads that its results have no use for: each costs the check of a signature. One may
/// come with no result at all.
pub(crate) fn check_head_count(heads: &[v1::TreeHead], results: usize) -> Result<(), InvalidAnswer> {
    if heads.len() <= results.max(1) {
        return Ok(());
    }
    let problem = format!("{} heads for {results} results", heads.len());
    Err(InvalidAnswer::new(problem))
}

/// The heads of one message, verified, that its results point to.
#[derive(Default)]
pub(crate) struct MessageHeads {
    wire: Vec<v1::TreeHead>,
    verifiers: Vec<ReceiptVerifier>,
}

impl MessageHeads {
    pub(crate) fn verify(client: &Client, wire: Vec<v1::TreeHead>) -> Result<Self, Error> {
        let verifier = |head: &v1::TreeHead| {
            let head = client.heads().verify_fresh(&head.checkpoint);
            head.map(ReceiptVerifier::new)
        };
        let verifiers = wire.iter().map(verifier).collect::<Result<_, _>>()?;
        Ok(Self { wire, verifiers })
    }

    /// Checks the result for `event`.
    pub(crate) fn check(&mut self, result: v1::SubmitResult, event: &Event) -> Result<Outcome, Error> {
        match result.outcome {
            Some(WireOutcome::Accepted(accepted)) => {
                let (place, duplicate) = (accepted.tree_head_place, accepted.duplicate);
                let receipt = accepted.into_receipt(&self.wire)?;
                let verifier = usize::try_from(place)
                    .ok()
                    .and_then(|place| self.verifiers.get_mut(place));
                let verifier = verifier.ok_or_else(|| InvalidAnswer::new("a result points to no head"))?;
                check(receipt, verifier, event, duplicate).map(Ok)
            }
            Some(WireOutcome::Refused(refused)) => Ok(Err(refused.into())),
            None => Err(InvalidAnswer::new("a result is neither accepted nor refused").into()),
        }
    }
}

/// Checks a receipt under its own head, and that it is for `event`.
fn check(
    receipt: Receipt,
    verifier: &mut ReceiptVerifier,
    event: &Event,
    duplicate: bool,
) -> Result<Submitted, Error> {
    let verified = check_receipt(&receipt, verifier)?;
    verified
        .commits_to(event)
        .map_err(|problem| Misbehaviour::OtherContent {
            head: verified.head().clone(),
            leaf_index: receipt.index,
            problem,
        })?;
    Ok(Submitted {
        receipt,
        verified,
        duplicate,
    })
}

/// Checks a receipt under its own head, which was verified before.
pub(crate) fn check_receipt(
    receipt: &Receipt,
    verifier: &mut ReceiptVerifier,
) -> Result<VerifiedReceipt, Error> {
    let leaf_index = receipt.index;
    let head = Arc::clone(verifier.head());
    verifier.verify(receipt).map_err(|error| {
        let head = Arc::unwrap_or_clone(head);
        match error {
            ReceiptError::Inclusion(problem) => Misbehaviour::UnprovenInclusion {
                head,
                leaf_index,
                problem,
            }
            .into(),
            ReceiptError::Entry(problem) => {
                let leaf = EntryProof {
                    index: leaf_index,
                    entry: receipt.entry.clone(),
                    inclusion_proof: receipt.inclusion_proof.clone(),
                };
                unreadable(&head, leaf, problem)
            }
            ReceiptError::Head(error) => Misbehaviour::UnverifiedHead {
                error,
                note: receipt.checkpoint.clone(),
            }
            .into(),
            ReceiptError::NoQuorum(problem) => NotCosigned { head, problem }.into(),
            ReceiptError::OtherHead => {
                InvalidAnswer::new("a receipt carries another head than it states").into()
            }
        }
    })
}
