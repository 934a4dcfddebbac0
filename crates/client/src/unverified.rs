//! The same calls with no check: to measure a server alone, or for who verifies by other means. Nothing learnt here may
//! be relied on.

use counterfoil_event::Event;
use counterfoil_merkle::{LeafIndex, TreeSize};
use counterfoil_proto::v1::{self, submit_result::Outcome};

use crate::{
    Client, Error, InvalidAnswer, Leaf, Refusal, SubmitSender, stream::Incoming, submit::batch_request,
};

/// A [`Client`] that believes everything; made by [`Client::unverified`].
#[derive(Clone)]
pub struct Unverified {
    client: Client,
}

/// What a log says of an event that it says it recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The index claimed.
    pub leaf_index: u64,
    /// Whether the event was on record before.
    pub duplicate: bool,
}

impl Unverified {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one event.
    pub async fn submit(&self, event: &Event) -> Result<Acknowledged, Error> {
        let request = v1::SubmitRequest {
            log: self.client.log(),
            event: Some(event.into()),
        };
        let answer = self.client.answer(self.client.submits().submit(request)).await?;
        let receipt = answer
            .receipt
            .ok_or_else(|| InvalidAnswer::new("it has no receipt"))?;
        Ok(Acknowledged {
            leaf_index: receipt.leaf_index,
            duplicate: answer.duplicate,
        })
    }

    /// Sends many events in one call; see [`Client::submit_batch`].
    pub async fn submit_batch(&self, events: &[Event]) -> Result<Vec<Result<Acknowledged, Refusal>>, Error> {
        let request = batch_request(&self.client, events)?;
        let answer = self
            .client
            .answer(self.client.submits().submit_batch(request))
            .await?;
        answer.results.into_iter().map(acknowledged).collect()
    }

    /// Opens a stream; see [`Client::submit_stream`].
    pub fn submit_stream(&self, in_flight: usize) -> (SubmitSender, UnverifiedResults) {
        let (sender, incoming) = self.client.open_stream(in_flight);
        (sender, UnverifiedResults { incoming })
    }

    /// Asks for an inclusion proof by index.
    pub async fn prove_inclusion(&self, index: LeafIndex, tree_size: TreeSize) -> Result<(), Error> {
        let request = v1::GetInclusionProofRequest {
            log: self.client.log(),
            leaf: Some((&Leaf::Index(index)).into()),
            tree_size: Some(tree_size.get()),
        };
        self.client
            .answer(self.client.reads().get_inclusion_proof(request))
            .await?;
        Ok(())
    }
}

/// The results of a stream, in the order in which the events were sent.
pub struct UnverifiedResults {
    incoming: Incoming,
}

impl UnverifiedResults {
    /// The next event and what the log says of it. None after the last one, once the sender is gone.
    pub async fn next(&mut self) -> Result<Option<(Event, Result<Acknowledged, Refusal>)>, Error> {
        match self.incoming.next().await? {
            Some((event, result, _)) => Ok(Some((event, acknowledged(result)?))),
            None => Ok(None),
        }
    }
}

fn acknowledged(result: v1::SubmitResult) -> Result<Result<Acknowledged, Refusal>, Error> {
    match result.outcome {
        Some(Outcome::Accepted(accepted)) => Ok(Ok(Acknowledged {
            leaf_index: accepted.leaf_index,
            duplicate: accepted.duplicate,
        })),
        Some(Outcome::Refused(refused)) => Ok(Err(refused.into())),
        None => Err(InvalidAnswer::new("a result is neither accepted nor refused").into()),
    }
}
