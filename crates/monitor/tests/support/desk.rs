//! A monitor's configuration and state, and what its rounds find.

use std::{fs, path::Path, time::Duration};

use counterfoil_monitor::{Change, Config, Finding, FindingKind, LogRound, Monitor, Timeouts};
use counterfoil_note::{CosignerSigner, VerifierKey};
use counterfoil_verify::Evidence;
use serde_json::Value;
use tempfile::TempDir;

use super::{FakeLog, FakeServer};

/// A configuration and the state that a monitor keeps under it.
pub struct Desk {
    directory: TempDir,
    log: FakeLog,
}

impl Desk {
    pub fn new(log: &FakeLog, sources: &[&FakeServer]) -> Self {
        let desk = Self {
            directory: TempDir::with_prefix("counterfoil-monitor-").unwrap(),
            log: log.clone(),
        };
        fs::write(desk.path("policy"), log.policy()).unwrap();
        desk.configure(sources, &[]);
        desk
    }

    pub fn configure(&self, sources: &[&FakeServer], observers: &[&FakeServer]) {
        let tiles: Vec<String> = sources
            .iter()
            .map(|server| format!("{{ tiles = {:?} }}", server.url()))
            .collect();
        let observers: Vec<String> = observers
            .iter()
            .map(|server| format!("{:?}", server.url()))
            .collect();
        let config = format!(
            "state_dir = \"state\"\n[[log]]\nname = \"main\"\npolicy = \"policy\"\nmax_head_age_seconds = 60\n\
             sources = [{}]\nobservers = [{}]\n",
            tiles.join(", "),
            observers.join(", ")
        );
        fs::write(self.path("monitor.toml"), config).unwrap();
    }

    /// Heads may be so old, and no older.
    pub fn limit_age(&self, seconds: u64) {
        let config = fs::read_to_string(self.path("monitor.toml")).unwrap();
        let age = format!("max_head_age_seconds = {seconds}");
        fs::write(
            self.path("monitor.toml"),
            config.replace("max_head_age_seconds = 60", &age),
        )
        .unwrap();
    }

    /// Heads of one source may be so old.
    pub fn limit_age_of(&self, source: &FakeServer, seconds: u64) {
        let config = fs::read_to_string(self.path("monitor.toml")).unwrap();
        let own = format!("{:?}, max_head_age_seconds = {seconds} }}", source.url());
        let config = config.replace(&format!("{:?} }}", source.url()), &own);
        fs::write(self.path("monitor.toml"), config).unwrap();
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn monitor(&self) -> Monitor {
        Monitor::open(Config::load(&self.path("monitor.toml")).unwrap(), |_| {}).unwrap()
    }

    /// One that soon loses patience.
    pub fn impatient_monitor(&self) -> Monitor {
        let mut config = Config::load(&self.path("monitor.toml")).unwrap();
        config.timeouts = Timeouts {
            connect: Duration::from_secs(5),
            silence: Duration::from_millis(150),
            answer: Duration::from_millis(300),
            proofs: Duration::from_millis(200),
        };
        Monitor::open(config, |_| {}).unwrap()
    }

    /// Has the policy believe the log's key that signs no times.
    pub fn trust_the_plain_key(&self) {
        let key = self.log.signer.keys()[1].verifier_key();
        fs::write(self.path("policy"), format!("log {key}\nquorum none\n")).unwrap();
    }

    /// Has the policy ask for the cosignatures of two of these three witnesses.
    pub fn ask_two_of_three(&self) -> [CosignerSigner; 3] {
        let witnesses = [0_u8, 1, 2].map(|number| {
            let name = format!("witness.example/w{number}").parse().unwrap();
            CosignerSigner::generate(name, [100 + number; 32])
        });
        let mut policy = format!("log {}\n", self.log.signer.keys()[0].verifier_key());
        for (number, witness) in witnesses.iter().enumerate() {
            policy += &format!("witness w{number} {}\n", witness.verifier_key());
        }
        policy += "group two 2 w0 w1 w2\nquorum two\n";
        fs::write(self.path("policy"), policy).unwrap();
        witnesses
    }

    /// Changes what the monitor keeps of the log.
    pub fn edit_state(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.path("state/logs/main.json");
        let mut state = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut state);
        fs::write(path, state.to_string()).unwrap();
    }

    pub fn keys(&self) -> Vec<VerifierKey> {
        self.log
            .signer
            .keys()
            .iter()
            .map(|key| key.verifier_key().clone())
            .collect()
    }

    /// Asserts that a finding's evidence holds before who has the log's key only.
    pub fn assert_evidence(&self, finding: &Finding, name: &str) {
        let path = finding
            .evidence
            .as_ref()
            .unwrap_or_else(|| panic!("no evidence: {finding:?}"));
        let evidence = Evidence::from_text(&fs::read_to_string(Path::new(path)).unwrap()).unwrap();
        assert_eq!(evidence.fact.name(), name);
        evidence.check(&self.keys()).unwrap();
    }
}

pub async fn round(monitor: &mut Monitor) -> LogRound {
    let mut rounds = monitor.run_round().await;
    assert_eq!(rounds.len(), 1);
    let round = rounds.remove(0);
    assert_eq!(round.error, None);
    round
}

pub fn opened(round: &LogRound) -> Vec<FindingKind> {
    let opened = round.events.iter().filter(|event| event.change == Change::Opened);
    opened.map(|event| event.finding.kind).collect()
}

pub fn resolved(round: &LogRound) -> Vec<FindingKind> {
    let resolved = round
        .events
        .iter()
        .filter(|event| event.change == Change::Resolved);
    resolved.map(|event| event.finding.kind).collect()
}
