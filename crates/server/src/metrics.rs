//! Metrics, on a port of their own. Every label's values come from the configuration or from a closed list, so nobody
//! outside can add series.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, atomic::AtomicU64},
};

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    routing::get,
};
use counterfoil_event::SourceId;
use counterfoil_log::LogName;
use counterfoil_tls::Tls;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};

use crate::{http, logs::Logs};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum IntakePath {
    /// `POST /hooks/<source>`.
    Hooks,
    /// `POST /logs/<name>/events`.
    CloudEvents,
    /// `POST /services/collector`.
    Hec,
}

/// What became of an event that came in, or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum IntakeOutcome {
    Recorded,
    /// It was on record before.
    Duplicate,
    /// Why it was not taken: a word in capitals from a closed list.
    Refused(&'static str),
}

impl EncodeLabelValue for IntakeOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Recorded => encoder.write_str("recorded"),
            Self::Duplicate => encoder.write_str("duplicate"),
            Self::Refused(reason) => encoder.write_str(&reason.to_ascii_lowercase()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IntakeLabels {
    path: IntakePath,
    outcome: IntakeOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabel {
    token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogLabel {
    log: String,
}

type UnsignedGauge = Gauge<u64, AtomicU64>;

/// What the server counts. Clones share the counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    intake: Family<IntakeLabels, Counter>,
    source_recorded: Family<SourceLabel, UnsignedGauge>,
    source_refused: Family<SourceLabel, Counter>,
    token_refused: Family<TokenLabel, Counter>,
    entries: Family<LogLabel, UnsignedGauge>,
    published_entries: Family<LogLabel, UnsignedGauge>,
    published_time: Family<LogLabel, UnsignedGauge>,
    writing: Family<LogLabel, UnsignedGauge>,
    /// None where there is no TLS.
    certificate_expires: Family<[(&'static str, &'static str); 0], Gauge>,
    connections_put_off: Counter,
    answers_given_up: Counter,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("counterfoil");
        Self {
            intake: registered(
                &mut registry,
                "intake",
                "Events and requests that came in, by path and by what became of them",
            ),
            source_recorded: registered_in_seconds(
                &mut registry,
                "source_last_recorded",
                "When a delivery of the source was last recorded or found on record, since 1970",
            ),
            source_refused: registered(
                &mut registry,
                "source_refused",
                "Deliveries to the source that were refused",
            ),
            token_refused: registered(
                &mut registry,
                "token_refused",
                "Calls with the API token that were refused because it is expired or revoked",
            ),
            entries: registered(&mut registry, "log_entries", "Entries on record"),
            published_entries: registered(
                &mut registry,
                "log_published_entries",
                "Entries under the newest published head",
            ),
            published_time: registered_in_seconds(
                &mut registry,
                "log_published_time",
                "When the newest published head was signed, since 1970",
            ),
            writing: registered(
                &mut registry,
                "log_writing",
                "1 if the log takes events, 0 if its disk is full or it has stopped",
            ),
            certificate_expires: registered_in_seconds(
                &mut registry,
                "tls_certificate_expires",
                "When the server's own certificate expires, since 1970",
            ),
            connections_put_off: registered(
                &mut registry,
                "connections_put_off",
                "Connections that came when all were taken, and were told health at most",
            ),
            answers_given_up: registered(
                &mut registry,
                "answers_given_up",
                "Answers that their readers did not take when others needed the memory",
            ),
            registry: Arc::new(registry),
        }
    }

    /// Counts one event that came in, or one request that was refused as a whole.
    pub(crate) fn count_intake(&self, path: IntakePath, outcome: IntakeOutcome) {
        self.intake.get_or_create(&IntakeLabels { path, outcome }).inc();
    }

    /// Notes that a configured source had an event recorded, or one that was on record already.
    pub(crate) fn source_recorded(&self, source: &SourceId, at_unix_s: u64) {
        self.source_recorded
            .get_or_create(&source_label(source.as_str()))
            .set(at_unix_s);
    }

    /// Counts a request to a configured source that was refused.
    pub(crate) fn source_refused(&self, source: &SourceId) {
        self.source_refused
            .get_or_create(&source_label(source.as_str()))
            .inc();
    }

    /// Has a source's count begin at zero: one that began with the first refusal would show no increase by it.
    pub(crate) fn know_source(&self, source: &str) {
        drop(self.source_refused.get_or_create(&source_label(source)));
    }

    /// Forgets a source that was removed: it would be taken for one that is silent.
    pub(crate) fn forget_source(&self, source: &str) {
        let label = source_label(source);
        self.source_recorded.remove(&label);
        self.source_refused.remove(&label);
    }

    /// Counts a call with an API token that is expired or revoked.
    pub(crate) fn token_refused(&self, token: &str) {
        self.token_refused.get_or_create(&token_label(token)).inc();
    }

    /// Has a token's count begin at zero, for the same reason.
    pub(crate) fn know_token(&self, token: &str) {
        drop(self.token_refused.get_or_create(&token_label(token)));
    }

    /// Forgets a token whose file is gone.
    pub(crate) fn forget_token(&self, token: &str) {
        self.token_refused.remove(&token_label(token));
    }

    /// Counts a connection that came when all were taken.
    pub(crate) fn count_put_off(&self) {
        self.connections_put_off.inc();
    }

    /// Counts an answer that was given up because its reader did not take it.
    pub(crate) fn count_given_up(&self) {
        self.answers_given_up.inc();
    }

    fn observe(&self, name: &LogName, log: &counterfoil_log::Log) {
        let label = LogLabel {
            log: name.to_string(),
        };
        self.entries
            .get_or_create(&label)
            .set(log.commit_head().size.get());
        self.writing
            .get_or_create(&label)
            .set(u64::from(log.takes_events()));
        if let Some(head) = log.published_head() {
            self.published_entries.get_or_create(&label).set(head.size.get());
            self.published_time
                .get_or_create(&label)
                .set(head.time.get() / 1000);
        }
    }

    /// `GET /metrics`, and `GET /health` for who would not ask where the world does.
    pub(crate) fn router(&self, logs: Logs, tls: Option<Tls>) -> Router {
        let metrics = self.clone();
        let answer = async move || {
            for (name, log) in logs.iter() {
                metrics.observe(name, log);
            }
            if let Some(expires) = tls.as_ref().and_then(Tls::expires_unix_s) {
                metrics.certificate_expires.get_or_create(&[]).set(expires);
            }
            let mut text = String::new();
            encode(&mut text, &metrics.registry).expect("a String takes all that is written");
            ([(CONTENT_TYPE, OPENMETRICS), (CACHE_CONTROL, "no-store")], text)
        };
        http::health().route("/metrics", get(answer))
    }
}

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

fn source_label(source: &str) -> SourceLabel {
    SourceLabel {
        source: source.to_owned(),
    }
}

fn token_label(token: &str) -> TokenLabel {
    TokenLabel {
        token: token.to_owned(),
    }
}
