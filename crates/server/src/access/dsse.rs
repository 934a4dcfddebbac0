//! Keys that sign DSSE envelopes, and whose they are: files that the operator enrols.
//!
//! An entry whose payload is an envelope that one of them signed says so, whoever sent it. A key counts in a log once the log has
//! it on record, so that what it vouched for can be checked after the file is gone.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::ensure;
use counterfoil_dsse::{Fingerprint, PublicKey, Signed};
use counterfoil_event::{
    Authentication, Event, SourceId, Submitter, dsse,
    dsse::{Envelope, EnvelopeError},
    dsse_key_event, is_media_type,
};
use counterfoil_log::{Log, LogName};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::{sync::watch, task, time::sleep};
use tracing::{info, warn};

use crate::{
    logs::Logs,
    watched::{File, Set, Watched},
};

/// The most keys: each signature of an envelope is tried with each.
pub(crate) const MAX_KEYS: usize = 64;
/// Bytes that take about as long to make ready as a signature takes to be tried with a key, but for the hashing of the envelope: 160 µs,
/// at 5 µs for each KiB that is compressed (docs/DESIGN.md). Ed25519 takes a quarter of it. RSA, which is tried twice, takes longer where
/// a key has more than 4,096 bits.
const TRY_BYTES: usize = 32 * 1024;
/// How long until a key is put on record that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Where a data directory has the keys that sign DSSE envelopes.
pub(crate) fn dsse_keys_directory(data: &Path) -> PathBuf {
    data.join("dsse-keys")
}

/// A key as its file describes it.
#[derive(Debug, Clone)]
pub(crate) struct EnrolledKey {
    pub(crate) key: PublicKey,
    /// `None` for all logs.
    pub(crate) logs: Option<BTreeSet<LogName>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyToml {
    public_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<String>>,
}

impl EnrolledKey {
    /// Reads the file of a key.
    pub(crate) fn from_toml(text: &str) -> anyhow::Result<Self> {
        let file: KeyToml = toml::from_str(text)?;
        let logs = file.logs.map(|logs| {
            ensure!(
                !logs.is_empty(),
                "the list of logs is empty: leave it out for all logs"
            );
            let logs = logs.iter().map(|log| Ok(log.parse::<LogName>()?));
            logs.collect::<anyhow::Result<_>>()
        });
        Ok(Self {
            key: PublicKey::from_pem(&file.public_key)?,
            logs: logs.transpose()?,
        })
    }

    /// What [`from_toml`](Self::from_toml) reads.
    pub(crate) fn to_toml(&self) -> String {
        let file = KeyToml {
            public_key: self.key.pem().to_owned(),
            logs: self
                .logs
                .as_ref()
                .map(|logs| logs.iter().map(ToString::to_string).collect()),
        };
        toml::to_string(&file).expect("strings serialise")
    }

    fn reaches(&self, log: &LogName) -> bool {
        self.logs.as_ref().is_none_or(|logs| logs.contains(log))
    }
}

/// A key that counts.
struct Signer {
    /// What the operator calls it.
    name: String,
    key: PublicKey,
    /// Those that have it on record.
    logs: BTreeSet<LogName>,
}

/// The keys that count now.
#[derive(Clone)]
pub(crate) struct Signers(watch::Receiver<Arc<Vec<Signer>>>);

impl Signers {
    /// Follows `<data>/dsse-keys`, which need not be there, and puts each key on record. Has to be called within a runtime.
    ///
    /// # Errors
    /// If the file of a key is broken.
    pub(crate) async fn start(data: &Path, logs: &Logs) -> anyhow::Result<Self> {
        let watched = Watched::start(&dsse_keys_directory(data), parse)?;
        let mut enrolment = Enrolment {
            logs: logs.clone(),
            recorded: BTreeSet::new(),
        };
        let (signers, all_recorded) = enrolment.signers(&watched.current()).await;
        let (sender, receiver) = watch::channel(Arc::new(signers));
        task::spawn(follow(enrolment, watched, all_recorded, sender));
        Ok(Self(receiver))
    }

    /// Bytes that take about as long to make ready as the search for who signed an event.
    pub(super) fn search_bytes(&self, log: &LogName, media_type: &str, data: &[u8]) -> usize {
        if !is_media_type(media_type, dsse::MEDIA_TYPE) || data.len() > dsse::MAX_ENVELOPE_BYTES {
            return 0;
        }
        let keys = self
            .0
            .borrow()
            .iter()
            .filter(|signer| signer.logs.contains(log))
            .count();
        if keys == 0 {
            return 0;
        }
        // The envelope and each signature in it are an object. JSON can't spell the brace of one in another way.
        let objects = data.iter().filter(|byte| **byte == b'{').count();
        let signatures = objects.saturating_sub(1).min(dsse::MAX_SIGNATURES);
        signatures * keys * (TRY_BYTES + data.len())
    }

    fn submitter<'s>(
        &self,
        log: &LogName,
        sender: &'s Submitter,
        event: &Event,
    ) -> Result<Cow<'s, Submitter>, EnvelopeError> {
        if !is_media_type(event.data_content_type(), dsse::MEDIA_TYPE) {
            return Ok(Cow::Borrowed(sender));
        }
        let envelope = Envelope::parse(event.data())?;
        let signers = self.0.borrow().clone();
        let mut counted = signers
            .iter()
            .filter(|signer| signer.logs.contains(log))
            .peekable();
        if counted.peek().is_none() {
            return Ok(Cow::Borrowed(sender));
        }
        let signed = Signed::new(&envelope);
        let names: BTreeMap<String, &str> = counted
            .filter(|signer| signed.is_by(&signer.key))
            .map(|signer| (signer.key.fingerprint().to_string(), signer.name.as_str()))
            .collect();
        Ok(match names.is_empty() {
            true => Cow::Borrowed(sender),
            false => Cow::Owned(signed_submitter(sender, &names)),
        })
    }
}

/// In whose name the events of a call are recorded.
pub(crate) struct Submitting {
    sender: Submitter,
    /// `None` where events come by a way that says enough about whose they are.
    signers: Option<Signers>,
}

impl Submitting {
    /// Always the sender's.
    pub(crate) fn sender(sender: Submitter) -> Self {
        Self {
            sender,
            signers: None,
        }
    }

    /// The sender's, unless somebody whose key is enrolled signed.
    pub(super) fn sender_or_signer(sender: Submitter, signers: Signers) -> Self {
        Self {
            sender,
            signers: Some(signers),
        }
    }

    /// The channel that the events come by.
    pub(crate) fn source_id(&self) -> &SourceId {
        self.sender.source_id()
    }

    /// As whose the events that come from now on are recorded.
    pub(super) fn sender_mut(&mut self) -> &mut Submitter {
        &mut self.sender
    }

    /// Bytes that take about as long to make ready as what [`of`](Self::of) does for an event that has this media type and data.
    pub(crate) fn search_bytes(&self, log: &LogName, media_type: &str, data: &[u8]) -> usize {
        let signers = self.signers.as_ref();
        signers.map_or(0, |signers| signers.search_bytes(log, media_type, data))
    }

    /// In whose name an event is recorded.
    ///
    /// # Errors
    /// If its media type says that it is an envelope and it is none.
    pub(crate) fn of(&self, log: &LogName, event: &Event) -> Result<Cow<'_, Submitter>, EnvelopeError> {
        match &self.signers {
            Some(signers) => signers.submitter(log, &self.sender, event),
            None => Ok(Cow::Borrowed(&self.sender)),
        }
    }
}

fn parse(file: File<'_>) -> anyhow::Result<EnrolledKey> {
    file.name.parse::<SourceId>()?;
    ensure!(
        !file.exposed,
        "others than its owner can read it or change it: chmod 600"
    );
    EnrolledKey::from_toml(file.text)
}

/// The keys that signed, and how their envelope came.
fn signed_submitter(sender: &Submitter, keys: &BTreeMap<String, &str>) -> Submitter {
    let mut evidence = json!({
        "dsse_keys": keys,
        "sent_by": sender.authentication().as_str(),
    });
    let with = |evidence: &serde_json::Value| {
        let evidence = evidence.to_string();
        Submitter::new(sender.source_id().clone(), Authentication::Dsse, evidence)
    };
    let bare = with(&evidence).expect("64 names and fingerprints are shorter than evidence may be");
    if let Ok(shown) = serde_json::from_str::<&RawValue>(sender.evidence()) {
        evidence["sender"] = json!(shown);
    }
    // What a sender showed may be as long as all evidence together. The signature is the stronger of the two.
    with(&evidence).unwrap_or(bare)
}

/// Puts keys on record.
struct Enrolment {
    logs: Logs,
    recorded: BTreeSet<(LogName, Fingerprint)>,
}

impl Enrolment {
    /// Those of the keys that count, and whether that is all of them.
    async fn signers(&mut self, keys: &Set<EnrolledKey>) -> (Vec<Signer>, bool) {
        if keys.len() > MAX_KEYS {
            warn!(
                keys = keys.len(),
                "more than {MAX_KEYS} DSSE keys are enrolled: the others do not count"
            );
        }
        let mut signers = Vec::new();
        let mut all_recorded = true;
        for (name, enrolled) in keys.iter().take(MAX_KEYS) {
            let mut logs = BTreeSet::new();
            for (log_name, log) in self.logs.clone().iter() {
                if !enrolled.reaches(log_name) {
                    continue;
                }
                if self.record(name, log, &enrolled.key).await {
                    logs.insert(log_name.clone());
                } else {
                    all_recorded = false;
                }
            }
            signers.push(Signer {
                name: name.clone(),
                key: enrolled.key.clone(),
                logs,
            });
        }
        (signers, all_recorded)
    }

    async fn record(&mut self, name: &str, log: &Log, key: &PublicKey) -> bool {
        let place = (log.name().clone(), key.fingerprint());
        if self.recorded.contains(&place) {
            return true;
        }
        let event = dsse_key_event(&key.fingerprint().to_string(), key.pem());
        match log.submit(vec![log.prepare(event, &Submitter::log())]).await {
            Ok(_) => {
                info!(log = %log.name(), name, key = %key.fingerprint(), "a DSSE key is on record and counts");
                self.recorded.insert(place)
            }
            Err(problem) => {
                warn!(log = %log.name(), name, %problem, "a DSSE key can't be put on record, and does not count yet");
                false
            }
        }
    }
}

/// Goes on until nobody wants to know.
async fn follow(
    mut enrolment: Enrolment,
    mut watched: Watched<EnrolledKey>,
    mut all_recorded: bool,
    sender: watch::Sender<Arc<Vec<Signer>>>,
) {
    loop {
        tokio::select! {
            changed = watched.changed() => if !changed { return },
            () = sleep(RETRY), if !all_recorded => {}
            () = sender.closed() => return,
        }
        let (signers, all) = enrolment.signers(&watched.current()).await;
        all_recorded = all;
        sender.send_replace(Arc::new(signers));
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_event::EventParts;

    use super::*;

    /// The key of RFC 8410, section 10.1.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    fn signers(logs: &[&LogName]) -> Signers {
        let signers = logs.iter().map(|log| Signer {
            name: "release".to_owned(),
            key: PublicKey::from_pem(KEY).unwrap(),
            logs: BTreeSet::from([LogName::clone(log)]),
        });
        Signers(watch::channel(Arc::new(signers.collect())).1)
    }

    fn envelope(signatures: usize) -> String {
        let signatures = vec![r#"{"sig":"AA=="}"#; signatures].join(",");
        format!(r#"{{"payloadType":"x","payload":"e30=","signatures":[{signatures}]}}"#)
    }

    #[test]
    fn parameters_and_case_of_the_media_type_do_not_matter() {
        let log = LogName::default();
        let signers = signers(&[&log]);
        for media_type in [
            "application/vnd.dsse.envelope.v1+json; charset=utf-8",
            "Application/vnd.DSSE.envelope.v1+JSON",
        ] {
            let is_taken = |data: &str| {
                let event = Event::try_from(EventParts {
                    id: "1".to_owned(),
                    source: "https://ci.example/acme".to_owned(),
                    event_type: "artifact.built".to_owned(),
                    data_content_type: media_type.to_owned(),
                    data: data.to_owned().into(),
                    ..EventParts::default()
                });
                let sender = Submitter::anonymous();
                signers.submitter(&log, &sender, &event.unwrap()).is_ok()
            };
            assert!(is_taken(&envelope(1)), "{media_type}");
            assert!(!is_taken("no envelope"), "{media_type}");
            let data = envelope(1);
            let bytes = |media_type| signers.search_bytes(&log, media_type, data.as_bytes());
            assert_eq!(bytes(media_type), bytes(dsse::MEDIA_TYPE));
        }
    }

    #[test]
    fn each_signature_counts_with_each_key_of_the_log() {
        let (log, other) = (LogName::default(), "other".parse().unwrap());
        let signers = signers(&[&log, &log, &log, &other]);
        let bytes = |data: &str| signers.search_bytes(&log, dsse::MEDIA_TYPE, data.as_bytes());
        for signatures in [1, 2, dsse::MAX_SIGNATURES] {
            let data = envelope(signatures);
            assert_eq!(bytes(&data), signatures * 3 * (TRY_BYTES + data.len()));
        }
        // More than an envelope may have: it is refused before any is tried.
        let many = envelope(100);
        assert_eq!(bytes(&many), dsse::MAX_SIGNATURES * 3 * (TRY_BYTES + many.len()));
        assert_eq!(bytes(&"{".repeat(dsse::MAX_ENVELOPE_BYTES + 1)), 0);
        assert_eq!(bytes(""), 0);
        let json = signers.search_bytes(&log, "application/json", envelope(1).as_bytes());
        assert_eq!(json, 0);
        let nobody = "nobody".parse().unwrap();
        let data = envelope(8);
        assert_eq!(
            signers.search_bytes(&nobody, dsse::MEDIA_TYPE, data.as_bytes()),
            0
        );
    }
}
