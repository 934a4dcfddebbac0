//! Metrics. Every label's values come from the configuration or from a closed list, so nobody outside can add series.

use std::sync::atomic::AtomicU64;

use counterfoil_note::SignedHead;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};

use crate::{Change, Event, Finding, FindingKind, clock, state::State};

/// Where metrics are read: plain HTTP, `GET /metrics`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogLabel {
    log: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    log: String,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabel {
    log: String,
    finding: &'static str,
}

type UnsignedGauge = Gauge<u64, AtomicU64>;

fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn registered_in_seconds<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// What a monitor counts.
pub(crate) struct Metrics {
    registry: Registry,
    head_size: Family<LogLabel, UnsignedGauge>,
    head_time: Family<LogLabel, UnsignedGauge>,
    verified: Family<LogLabel, UnsignedGauge>,
    entries: Family<LogLabel, Counter>,
    rounds: Family<LogLabel, UnsignedGauge>,
    answered: Family<SourceLabel, UnsignedGauge>,
    open: Family<FindingLabel, UnsignedGauge>,
    opened: Family<FindingLabel, Counter>,
    dropped: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("counterfoil_monitor");
        let r = &mut registry;
        Self {
            head_size: registered(
                r,
                "head_size",
                "Leaves of the largest head that is proved consistent with those before it",
            ),
            head_time: registered_in_seconds(
                r,
                "head_time",
                "When the log last signed that tree, since 1970; its age is time() minus this",
            ),
            verified: registered(
                r,
                "verified_size",
                "Leaves whose entries are verified: the cursor",
            ),
            entries: registered(
                r,
                "verified_entries",
                "Entries verified since the monitor started",
            ),
            rounds: registered_in_seconds(
                r,
                "last_round",
                "When the last round of the log ended whose outcome is on disk, since 1970",
            ),
            answered: registered_in_seconds(
                r,
                "source_last_success",
                "When the source or observer last showed a head that verified, since 1970",
            ),
            open: registered(r, "findings_open", "Findings that are open"),
            opened: registered(r, "findings", "Findings opened since the monitor started"),
            dropped: registered(
                r,
                "webhook_messages_dropped",
                "Messages dropped because too many waited for a webhook",
            ),
            registry,
        }
    }

    /// The metrics as text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written");
        text
    }

    /// Shows the state of a log.
    pub(crate) fn observe(&self, log: &str, state: &State) {
        let label = LogLabel { log: log.to_owned() };
        if let Some(anchor) = &state.anchor {
            self.head_size.get_or_create(&label).set(anchor.size().get());
            // The anchor stays while the log signs the same tree again and again.
            let same = |head: &&SignedHead| (head.size(), head.root()) == (anchor.size(), anchor.root());
            let heads = state.shown.values().filter(same).chain([anchor]);
            if let Some(time) = heads.filter_map(SignedHead::time).max() {
                self.head_time.get_or_create(&label).set(time.get() / 1000);
            }
        }
        self.verified.get_or_create(&label).set(state.cursor.size().get());
        for kind in FindingKind::ALL {
            let open = state
                .ledger
                .open()
                .filter(|finding: &&Finding| finding.kind == kind)
                .count();
            let label = FindingLabel {
                log: log.to_owned(),
                finding: kind.name(),
            };
            drop(self.opened.get_or_create(&label));
            self.open.get_or_create(&label).set(open as u64);
        }
    }

    /// Counts entries that were verified.
    pub(crate) fn add_entries(&self, log: &str, entries: u64) {
        let label = LogLabel { log: log.to_owned() };
        self.entries.get_or_create(&label).inc_by(entries);
    }

    /// Notes that a source showed a head that verified.
    pub(crate) fn answered(&self, log: &str, source: &str) {
        let label = SourceLabel {
            log: log.to_owned(),
            source: source.to_owned(),
        };
        self.answered
            .get_or_create(&label)
            .set(clock::unix_millis() / 1000);
    }

    /// Notes that a round ended.
    pub(crate) fn round_ended(&self, log: &str) {
        let label = LogLabel { log: log.to_owned() };
        self.rounds.get_or_create(&label).set(clock::unix_millis() / 1000);
    }

    /// Counts a finding that opened.
    pub(crate) fn count(&self, event: &Event) {
        if event.change == Change::Opened {
            let label = FindingLabel {
                log: event.finding.log.clone(),
                finding: event.finding.kind.name(),
            };
            self.opened.get_or_create(&label).inc();
        }
    }

    /// Counts messages that no webhook will get.
    pub(crate) fn add_dropped(&self, messages: u64) {
        self.dropped.inc_by(messages);
    }
}
