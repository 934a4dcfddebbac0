//! What a soak's clients do, and what they say of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Latency, Plan, Subject, verdict::median};
use crate::{Held, http_get, json_of};

/// What is sent, and how much of it in a second.
const LOADS: &[(&str, &[&str])] = &[
    (
        "unary",
        &[
            "bench",
            "ingest",
            "--mode",
            "unary",
            "--rate",
            "300",
            "--size",
            "4096",
            "--in-flight",
            "64",
        ],
    ),
    (
        "batch",
        &[
            "bench", "ingest", "--mode", "batch", "--rate", "2000", "--size", "512", "--batch", "100",
        ],
    ),
    (
        "stream",
        &[
            "bench",
            "ingest",
            "--mode",
            "stream",
            "--rate",
            "500",
            "--size",
            "1024",
            "--in-flight",
            "256",
        ],
    ),
    ("prove", &["bench", "prove", "--rate", "200"]),
];
/// The same for recorded webhooks.
const WEBHOOKS: &[&str] = &["bench", "webhooks", "--rate", "20", "--connections", "8"];
/// One who asks each time on a connection of its own.
const VISITOR: &str = "visitor";
const BETWEEN_VISITS: Duration = Duration::from_millis(100);
/// How long a client stays before the next one of its kind comes.
pub(super) const CLIENT_SECONDS: u64 = 30;

/// What came of a time under load.
#[derive(Default)]
pub(super) struct Load {
    pub(super) acknowledged: u64,
    pub(super) problems: Vec<String>,
    /// Of what the timetable had, the share that no client was free for, by kind of load.
    pub(super) not_started: BTreeMap<&'static str, f64>,
    pub(super) latency: BTreeMap<&'static str, Latency>,
    pub(super) looks: Vec<Held>,
    pub(super) seconds: f64,
}

impl Subject {
    /// All kinds of load at once, for a time.
    pub(super) fn load(&self, plan: &Plan, time: Duration) -> Result<Load> {
        let started = Instant::now();
        let address = self.server().address();
        let secret = self.data.beside("secret");
        let webhooks = match &plan.webhooks {
            Some(bodies) => {
                let bodies = bodies.to_str().context("the path of the bodies is not UTF-8")?;
                let more = [
                    "--source",
                    "soak",
                    "--secret-file",
                    secret.to_str().unwrap(),
                    "--bodies",
                    bodies,
                ];
                Some([WEBHOOKS, &more].concat())
            }
            None => None,
        };
        let mut kinds = LOADS.to_vec();
        kinds.extend(webhooks.as_deref().map(|webhooks| ("webhooks", webhooks)));
        let over = AtomicBool::new(false);
        let mut load = Load::default();
        thread::scope(|scope| {
            let visits = scope.spawn(|| visit(address, &over));
            let looks = scope.spawn(|| self.look(&over));
            let clients: Vec<_> = kinds
                .iter()
                .map(|&(kind, arguments)| {
                    (
                        kind,
                        scope.spawn(move || self.clients(kind, arguments, started + time)),
                    )
                })
                .collect();
            let answers: Vec<_> = clients
                .into_iter()
                .map(|(kind, client)| (kind, client.join().expect("clients do not panic")))
                .collect();
            over.store(true, Ordering::Relaxed);
            load.seconds = started.elapsed().as_secs_f64();
            load.looks = looks.join().expect("the server runs");
            load.latency
                .insert(VISITOR, visits.join().expect("the server answers"));
            for (kind, answers) in answers {
                load.take(kind, &answers?)?;
            }
            Ok(load)
        })
    }

    /// One client after another.
    fn clients(&self, kind: &str, arguments: &[&str], deadline: Instant) -> Result<Vec<Value>> {
        let mut answers = Vec::new();
        loop {
            // To the nearest second.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
            let seconds = left.as_secs().min(CLIENT_SECONDS);
            if seconds == 0 {
                return Ok(answers);
            }
            let seconds = seconds.to_string();
            answers.push(json_of(
                self.client(kind, &[arguments, &["--duration", &seconds]].concat()),
            )?);
        }
    }

    fn look(&self, over: &AtomicBool) -> Vec<Held> {
        let mut looks = Vec::new();
        while !over.load(Ordering::Relaxed) {
            looks.push(self.held());
            thread::sleep(Duration::from_secs(1));
        }
        looks
    }
}

impl Load {
    /// Takes in what the clients of a kind said.
    fn take(&mut self, kind: &'static str, answers: &[Value]) -> Result<()> {
        let of = |answer: &Value, name: &str| {
            let number = answer.pointer(name).cloned();
            number.with_context(|| format!("{kind}: no {name} in {answer}"))
        };
        let count = |answer: &Value, name: &str| {
            let number = of(answer, name)?.as_u64();
            number.with_context(|| format!("{kind}: {name} is no count"))
        };
        let ms = |answer: &Value, name: &str| {
            let number = of(answer, name)?.as_f64();
            number.with_context(|| format!("{kind}: {name} is no time"))
        };
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        let (mut done, mut not_started) = (0, 0);
        for answer in answers {
            if kind != "prove" {
                self.acknowledged += count(answer, "/acknowledged")? - count(answer, "/duplicates")?;
            }
            if answer["failed"] != 0 || answer["refused"] != 0 {
                self.problems
                    .push(format!("{kind}: calls failed or were refused: {answer}"));
            }
            done += count(answer, "/acknowledged")?;
            not_started += count(answer, "/not_started")?;
            p50.push(ms(answer, "/latency_ms/p50")?);
            p99.push(ms(answer, "/latency_ms/p99")?);
        }
        // None may be due.
        let share = not_started as f64 / (done + not_started).max(1) as f64;
        self.not_started.insert(kind, share);
        self.latency.insert(
            kind,
            Latency {
                p50: median(p50),
                p99: median(p99),
            },
        );
        Ok(())
    }
}

fn visit(address: SocketAddr, over: &AtomicBool) -> Latency {
    let mut took_ms = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        assert_eq!(http_get(address, "/logs/main/checkpoint").status, 200);
        took_ms.push(started.elapsed().as_secs_f64() * 1e3);
        thread::sleep(BETWEEN_VISITS);
    }
    took_ms.sort_by(f64::total_cmp);
    Latency {
        p50: took_ms[took_ms.len() / 2],
        p99: took_ms[took_ms.len() * 99 / 100],
    }
}
