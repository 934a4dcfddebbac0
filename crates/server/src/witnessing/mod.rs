//! Witnesses of the logs of this server: whom to ask, and what they remember at the start.
//!
//! One policy serves all logs. `gather` asks while the server runs.

mod gather;
mod round;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use counterfoil_files::read_up_to;
use counterfoil_log::{LogName, RememberedHead, WithoutQuorum, Witnessing};
use counterfoil_note::{MAX_POLICY_BYTES, Origin, Policy, VerifierKey};
use counterfoil_witness::client::{ClientError, HttpClient, WitnessClient};
use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::warn;

use crate::commands::serve;
pub(crate) use gather::gather;

/// How often a start asks a witness that can't be reached.
const START_PAUSE: Duration = Duration::from_millis(200);

/// The witnesses of a policy, ready to be asked.
#[derive(Debug)]
pub(crate) struct Witnesses {
    policy: Arc<Policy>,
    without_quorum: WithoutQuorum,
    /// How long a witness has for an answer.
    timeout: Duration,
    /// In the order of the policy, with the name that it gives them.
    clients: Vec<(String, WitnessClient)>,
}

impl Witnesses {
    /// The witnesses that the command line asks for, if any.
    pub(crate) fn from_arguments(arguments: &serve::Arguments) -> anyhow::Result<Option<Self>> {
        let Some(path) = &arguments.witness_policy else {
            return Ok(None);
        };
        let timeout = Duration::from_millis(arguments.witness_timeout_ms.into());
        let context = || format!("the witness policy {}", path.display());
        let policy = read_policy(path).with_context(context)?;
        let clients = clients(&policy, timeout).with_context(context)?;
        Ok(Some(Self {
            policy: Arc::new(policy),
            without_quorum: arguments.without_quorum,
            timeout,
            clients,
        }))
    }

    /// What the log `name`, verified by `keys`, has to know of its witnesses before it is opened: also what they remember of
    /// it. A witness that does not tell can't keep the log shut.
    ///
    /// # Errors
    /// If the policy lists logs, and this one is not among them: it was written for others.
    pub(crate) async fn witnessing(
        &self,
        name: &LogName,
        keys: &[VerifierKey],
    ) -> anyhow::Result<Witnessing> {
        let listed = self.policy.logs();
        anyhow::ensure!(
            listed.is_empty() || listed.iter().any(|log| keys.contains(&log.key)),
            "the witness policy lists logs, and `{name}` is not among them. Add a line `log {}`, or remove all `log` lines",
            keys[0]
        );
        let asked = self.clients.iter().map(async |(witness, client)| {
            let note = match self.newest(client, keys[0].name()).await {
                Ok(note) => note?,
                Err(problem) => {
                    warn!(log = %name, witness, %problem, "can't compare the log with what this witness remembers");
                    return None;
                }
            };
            let witness = witness.clone();
            Some(RememberedHead { witness, note })
        });
        Ok(Witnessing {
            policy: self.policy.clone(),
            without_quorum: self.without_quorum,
            remembered: join_all(asked).await.into_iter().flatten().collect(),
        })
    }

    /// The newest head that a witness serves of a log. One that can't be reached is asked again for as long as it has for an answer:
    /// just after a boot its name may not resolve yet.
    async fn newest(&self, client: &WitnessClient, origin: &Origin) -> Result<Option<Vec<u8>>, ClientError> {
        let give_up_at = Instant::now() + self.timeout;
        loop {
            let newest = client.newest(origin).await;
            if !matches!(newest, Err(ClientError::Unreachable(_))) || Instant::now() >= give_up_at {
                return newest;
            }
            sleep(START_PAUSE).await;
        }
    }
}

fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    // One that is too long is what the parser refuses.
    Ok(Policy::parse(&read_up_to(path, MAX_POLICY_BYTES)?)?)
}

fn clients(policy: &Policy, timeout: Duration) -> anyhow::Result<Vec<(String, WitnessClient)>> {
    anyhow::ensure!(
        !policy.witnesses().is_empty(),
        "it names no witness. Add lines `witness NAME VKEY URL`"
    );
    let http = HttpClient::new(timeout).context("HTTP can't be set up")?;
    let client = |witness: &counterfoil_note::PolicyWitness| {
        let name = witness.name.to_string();
        let url = witness.url.as_deref().with_context(|| {
            format!("the witness {name} has no URL. The log has to reach it: write `witness {name} VKEY URL`")
        })?;
        let client = WitnessClient::new(http.clone(), url, witness.key.clone())
            .with_context(|| format!("the witness {name}"))?;
        Ok((name, client))
    };
    policy.witnesses().iter().map(client).collect()
}
